"""Rules of the C sources that a compiler does not know (docs/architecture.md, csrc/README.md)."""
import os
import re
from glob import glob

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCES = sorted(glob(os.path.join(ROOT, "csrc/**/*.[ch]"), recursive=True)
                 + glob(os.path.join(ROOT, "csrc/**/*.inc"), recursive=True))
# Who may include whom: a folder sees those of its own row and of the rows before it.
ROWS = [["base"], ["graph"], ["ops"], ["cpu", "device"], ["data", "synth", "io", "eval"],
        ["plan", "nets", "train"], ["py"]]
LEVEL = {folder: i for i, row in enumerate(ROWS) for folder in row}

pytestmark = pytest.mark.skipif(not SOURCES, reason="the C sources are not here (a wheel)")


def folder(path):
    return os.path.relpath(path, os.path.join(ROOT, "csrc")).split(os.sep)[0]


def code(path):
    """The file without comments and strings."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"',
                  lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: os.path.relpath(p, ROOT))
def test_includes_point_one_way(path):
    here = folder(path)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if here != "py":
        assert "Python.h" not in text and "numpy/" not in text
    if "." in here:  # reidc.h names all public headers
        return
    for name in re.findall(r'#include "(\w+)/[^"]+"', text):
        assert LEVEL[name] <= LEVEL[here], f"{here}/ includes {name}/"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: os.path.relpath(p, ROOT))
def test_words_that_have_no_place(path):
    text = code(path)
    here = os.path.relpath(path, ROOT)
    if here != os.path.join("csrc", "base", "memory.c"):
        found = re.findall(r"\b(malloc|calloc|realloc|free|strdup)\s*\(", text)
        assert not found, "allocate through base/base.h"
    found = re.findall(r"\b(printf|fprintf|puts|exit|abort|longjmp|setjmp|rand|srand)\s*\(", text)
    assert not found, "the core neither prints nor ends the process"
    assert not re.search(r"-ffast-math|#pragma\s+GCC\s+optimize", text)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: os.path.relpath(p, ROOT))
def test_size_and_opening(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert text.startswith("/*"), "opens with what the file does"
    assert text.count("\n") <= 1000
    assert all(len(line) <= 110 for line in text.split("\n"))
