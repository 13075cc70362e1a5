"""Checks of arguments that several modules have in common."""
import operator
import os

import numpy as np

from reidc._core import ArgumentError, ArgumentTypeError, config

MOST_THREADS = 256  # that the core's pool has


def whole(name, value, more=""):
    """A whole number, as an int; `more`: what else an error says would do."""
    try:
        if isinstance(value, bool):  # (NumPy's own is no index by itself)
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ArgumentTypeError(
            f"{name}: expected an integer{more}, got {type(value).__name__}") from None


def integer(name, value, low, high, words=None):
    """A whole number from low to high; `words`: how an error says that range."""
    value = whole(name, value)
    if not low <= value <= high:
        raise ArgumentError(f"{name}: expected {words or f'{low} to {high}'}, got {value}")
    return value


def count(name, value, low=1):
    """A whole number from low on, below 2**63."""
    return integer(name, value, low, (1 << 63) - 1, f"{low} or more")


def number(name, value, more=""):
    """A number of Python's or NumPy's, as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(
            f"{name}: expected a number{more}, got {type(value).__name__}")
    return float(value)


def seed(value, bits=64):
    """A seed. bits: 64, or 63 where a signed number keeps it."""
    return integer("seed", value, 0, (1 << bits) - 1, f"0 to 2**{bits} - 1")


def path(name, value):
    """A path as text, not empty."""
    try:
        text = os.fsdecode(value)
    except TypeError:
        raise ArgumentTypeError(f"{name}: expected a path, got {type(value).__name__}") from None
    if not text or "\0" in text:
        raise ArgumentError(f"{name}: expected a path, got {text!r}")
    return text


def threads(value):
    """Threads to run on; None: all processors there are."""
    if value is None:
        return config()["threads"]
    value = whole("threads", value, " or None")
    if value < 1:
        raise ArgumentError(f"threads: expected 1 or more, got {value}")
    return min(value, MOST_THREADS)


def memory(value):
    """Bytes of pictures to keep, or None, as given."""
    if value is not None and not number("memory", value, " of bytes or None") >= 0:
        raise ArgumentError(f"memory: expected 0 bytes or more, got {value}")
    return value
