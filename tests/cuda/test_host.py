"""What the host run of CUDA kernels (host.h) notices: each mistake of broken.cu, and nothing in the
right forms. These few run by default; the kernels themselves are tests marked cuda_host."""
import ctypes
import os
import re
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import build

LIB = build.library("broken")
if not LIB:
    pytest.skip("no C++ compiler", allow_module_level=True)
LIB.rc_host_error.restype = ctypes.c_char_p
MISTAKES = ("none", "no barrier", "no warp barrier", "outside", "unwritten", "apart",
            "ends early", "half a warp", "global")


@pytest.fixture(autouse=True)
def clean():
    yield
    LIB.rc_host_set_order(0)
    LIB.rc_host_leave_out(-1, -1, -1)
    LIB.rc_host_error()


def at(a):
    return ctypes.c_void_p(a.ctypes.data)


def error():
    return LIB.rc_host_error().decode()


def reverse(which="none", n=130):
    x, y = np.arange(n, dtype=np.float32), np.full(n, np.nan, np.float32)
    LIB.rc_broken_reverse(at(x), at(y), n, MISTAKES.index(which))
    padded = np.zeros(-(-n // 64) * 64, np.float32)
    padded[:n] = x
    return error(), np.array_equal(y, padded.reshape(-1, 64)[:, ::-1].reshape(-1)[:n])


@pytest.mark.parametrize("order", [0, 1, 2, 3, 17])
def test_right_kernels_pass_in_any_order(order):
    LIB.rc_host_set_order(order)
    assert reverse() == ("", True)
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    LIB.rc_broken_turn(at(x), at(y), 0)
    assert error() == ""
    assert np.array_equal(y, np.roll(x, -1) + np.roll(x, -2))


# Without a barrier a value is read too early: before it is there, or beside the one who writes it.
EARLY = "read before anything was written there|without a barrier after"


@pytest.mark.parametrize("which, words", [
    ("no barrier", EARLY), ("outside", r"s\[64\]: outside its 64 elements"),
    ("unwritten", "read before anything was written there"),
    ("apart", EARLY + "|wait for others"), ("ends early", "wait for others")])
def test_mistakes_with_shared_memory(which, words):
    for order in (0, 1, 3):
        LIB.rc_host_set_order(order)
        text, _ = reverse(which)
        assert re.search(words, text), (order, text)


@pytest.mark.parametrize("which, words", [("no warp barrier", EARLY), ("half a warp", "mask")])
def test_mistakes_with_warps(which, words):
    x, y = np.zeros(32, np.float32), np.zeros(32, np.float32)
    LIB.rc_broken_turn(at(x), at(y), MISTAKES.index(which))
    assert re.search(words, error())


def test_a_race_through_global_memory_shows_in_another_order():
    results = {}
    for which in ("none", "global"):
        for order in (0, 1):
            LIB.rc_host_set_order(order)
            y = np.zeros(6, np.float32)
            LIB.rc_broken_sum(at(y), 6, MISTAKES.index(which))
            assert error() == ""
            results[which, order] = y
    assert np.array_equal(results["none", 0], results["none", 1])
    assert not np.array_equal(results["global", 0], results["global", 1])


def test_a_barrier_block_or_thread_left_out():
    LIB.rc_host_leave_out(0, -1, -1)
    assert re.search(EARLY, reverse()[0])
    LIB.rc_host_leave_out(-1, 1, -1)
    assert reverse() == ("", False)
    LIB.rc_host_leave_out(-1, -1, 7)
    assert "wait for others" in reverse()[0]


def test_blocks_that_are_no_whole_warps():
    y = np.zeros(1, np.float32)
    LIB.rc_broken_block(at(y), 48)
    assert "no card takes" in error()


@pytest.mark.parametrize("n", [1, 255, 5000])
def test_total(n):
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    partial, to = np.full(264, np.nan, np.float32), np.full(1, np.nan, np.float32)
    LIB.rc_broken_total(at(x), at(partial), at(to), n)
    assert error() == "" and abs(to[0] - x.astype(np.float64).sum()) < 1e-5 * n ** 0.5 + 1e-6
    for barrier in range(4):  # two of each block sum; every one is needed
        LIB.rc_host_leave_out(barrier, -1, -1)
        LIB.rc_broken_total(at(x), at(partial), at(to), n)
        assert bool(error()) == (barrier < 2)
