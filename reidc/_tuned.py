"""The table by which the kernels of convolutions are chosen, found and read at import.

A user's own, which `reidc bench --tune` has written, else the one that is shipped for this CPU,
else the rule of the kernels' lists. REIDC_TUNE names a file, or is 0 for the rule. docs/tuning.md.
"""
import os

from reidc import _core

SHIPPED = os.path.join(os.path.dirname(__file__), "tuned")


def own_place():
    """The user's file for the CPU and level in use; there or not."""
    wish = os.environ.get("REIDC_TUNE", "")
    if wish not in ("", "0"):
        return wish
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # as the specification asks
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "reidc", "tune", _core.config()["cpu_model"] + ".txt")


def read(path):
    """A table's text. ArgumentError: it is none. OSError: it cannot be read."""
    with open(path, "rb") as file:
        text = file.read(1 << 22)
    try:
        text = text.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise _core.ArgumentError(f"{path}: expected a tuning table, it is no text")
    return text


def shipped_text():
    """The table that the package has for this CPU and level, or None."""
    path = os.path.join(SHIPPED, _core.config()["cpu_model"] + ".txt")
    return read(path) if os.path.isfile(path) else None


def put(path, source, version):
    """Puts a file's table in force; what is to be said about it, or None."""
    try:
        ignored, notes = _core._tune_set(read(path), f"{source} {path}", version)
    except OSError as error:
        return f"tuning table {path}: cannot be read: {error.strerror}; not used"
    except _core.ArgumentError as error:
        return f"{error}; not used"
    return f"{path}: {ignored} entries are not used: {notes}" if ignored else None


def load(version):
    """What is found, in force; what is to be said about it, or None."""
    wish = os.environ.get("REIDC_TUNE", "")
    if wish == "0":
        _core._tune_set(None, "a rule (REIDC_TUNE=0)")
        return None
    text = shipped_text()
    _core._tune_set(text, f"shipped table for {_core.config()['cpu_model']}" if text else None)
    own = own_place()
    return put(own, "user table", version) if wish or os.path.isfile(own) else None


def warn(version):
    """`load`, at import."""
    problem = load(version)
    if problem:
        import warnings

        warnings.warn(problem, RuntimeWarning, stacklevel=3)
