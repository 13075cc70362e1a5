"""Commands as a shell would give them, and how they must fail."""
import re

from reidc.__main__ import main

SMALL = ["--recipe", "mbgn-small", "--set", "identities=4", "--set", "images=2", "--set",
         "sampler=once", "--set", "evaluate_every=0"]


def run(capsys, *arguments):
    """(status, stdout, stderr) of a command."""
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def fails(capsys, status, words, *arguments):
    """The command must fail so, in one line without a traceback."""
    got, _, err = run(capsys, *arguments)
    lines = [line for line in err.splitlines() if line.startswith("reidc: error: ")]
    assert got == status, err
    assert len(lines) == 1 and re.search(words, lines[0]), err
    assert "Traceback" not in err
