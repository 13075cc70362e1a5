"""Convolution of bytes against integers in NumPy, at every level that the machine has: bit for bit,
as sums of integers are exact and the scaling has one order of operations."""
import numpy as np
import pytest

import conv_cases as cases
from reidc import _core

LEVELS = _core._int8_levels()
NETWORKS = [  # layers of the networks, some lines of them: n,h,w,c,k,kh,kw,stride,pad,groups
    (1, 16, 32, 3, 64, 7, 7, 2, 3, 1), (2, 16, 32, 64, 64, 1, 1, 1, 0, 1),
    (1, 16, 32, 64, 64, 3, 3, 1, 1, 1), (1, 40, 32, 64, 256, 1, 1, 1, 0, 1),
    (1, 16, 32, 256, 128, 1, 1, 1, 0, 1), (1, 16, 32, 128, 128, 3, 3, 2, 1, 1),
    (1, 16, 32, 256, 512, 1, 1, 2, 0, 1), (2, 16, 8, 256, 64, 3, 3, 1, 1, 1),
    (1, 8, 8, 512, 128, 3, 3, 1, 1, 1), (1, 16, 8, 512, 2048, 1, 1, 1, 0, 1),
    (3, 24, 8, 64, 64, 3, 3, 1, 1, 1), (1, 12, 4, 512, 64, 3, 3, 1, 1, 1),
    (20, 16, 8, 64, 32, 3, 3, 1, 1, 1), (5, 1, 1, 2048, 256, 1, 1, 1, 0, 1),
    (2, 24, 12, 8, 16, 3, 3, 1, 1, 1), (1, 32, 16, 32, 128, 1, 1, 1, 0, 1),
    (2, 20, 9, 12, 40, 3, 3, 1, 0, 1), (2, 20, 9, 6, 40, 3, 3, 2, 0, 1),
    (1, 9, 7, 5, 33, 5, 5, 2, 2, 1),
    (1, 16, 8, 1024, 512, 1, 1, 1, 0, 1),
]
FILTERED = [  # 3x3, which some levels run by minimal filtering: odd maps, odd channels, many blocks
    (2, 20, 9, 48, 40, 3, 3, 1, 1, 1), (3, 11, 7, 32, 33, 3, 3, 1, 0, 1),
    (1, 24, 17, 64, 47, 3, 3, 1, 2, 1), (7, 8, 5, 80, 95, 3, 3, 1, 1, 1),
    (1, 6, 6, 1792, 32, 3, 3, 1, 1, 1), (19, 8, 6, 32, 48, 3, 3, 1, 1, 1),
    (2, 5, 7, 512, 160, 3, 3, 1, 1, 1), (1, 6, 6, 1792, 33, 3, 3, 1, 0, 1),
    (1, 6, 6, 1808, 32, 3, 3, 1, 1, 1),
]
WIDENED = [  # how rows of a tile share the bytes of their windows: strides, lines, none
    (2, 9, 33, 12, 40, 3, 3, 2, 1, 1), (1, 24, 6, 64, 32, 3, 3, 2, 1, 1),
    (1, 24, 6, 64, 32, 3, 3, 3, 1, 1), (1, 21, 8, 16, 32, 5, 3, 2, 1, 1),
    (1, 13, 30, 20, 32, 1, 3, 4, 1, 1), (1, 5, 13, 36, 70, 1, 1, 2, 0, 1),
]
OPTIONS = [
    {"act": 1}, {"act": 0, "out_zero": 128.0, "zero": 128}, {"act": 1, "residual": True},
    {"act": 2, "slope": 0.1, "out_zero": 128.0, "residual": True, "zero": 7},
    {"act": 0, "float": True}, {"act": 2, "slope": 0.1, "float": True, "residual": True},
    {"act": 1, "out_zero": 30.0, "residual": True}, {"act": 1, "float": True},
    {"act": 1, "huge": True},
]
NETWORKS += FILTERED + WIDENED
SHAPES = NETWORKS + [s for s in cases.ALL if s[-1] == 1]


def guarded_bytes(values):
    """A read-only copy between zones of other bytes, off any 64-byte boundary."""
    buffer = np.full(values.size + 193, 171, np.uint8)
    buffer[65:65 + values.size] = values.ravel().view(np.uint8)
    inner = buffer[65:65 + values.size].view(values.dtype).reshape(values.shape)
    inner.flags.writeable = False
    return inner


def guarded_out(shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.full(size + 128, 171, np.uint8)
    inner = buffer[64:64 + size].view(dtype).reshape(shape)
    return inner, lambda: bool((buffer[:64] == 171).all() and (buffer[64 + size:] == 171).all())


def sums(x, zero, w, shape):
    """Exact sums, the padding standing for `zero`."""
    n, h, wd, c, k, kh, kw, stride, pad, groups = shape
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=zero)
    view = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))
    view = view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
    rows = view.reshape(-1, kh * kw * c).astype(np.float64)  # exact: below 2^53
    flat = rows @ w.transpose(2, 3, 1, 0).reshape(-1, k).astype(np.float64)
    assert np.abs(flat).max(initial=0) < 2**31
    return flat.astype(np.int32).reshape(*view.shape[:3], k)


def fma(a, b, c):
    """a * b + c, rounded once: products of float32 are exact in long double, and their sum is off
    by 2^-64 of itself before it becomes a float32."""
    wide = [np.asarray(v, np.float32).astype(np.longdouble) for v in (a, b, c)]
    return (wide[0] * wide[1] + wide[2]).astype(np.float32)


def finish(total, scale, bias, residual, residual_scale, act, slope, zero, to_float):
    """The epilogue, one float32 operation after the other; zero is part of the bias."""
    t = fma(total, scale, bias)
    zero = np.float32(zero)
    if residual is not None:
        t = fma(residual, residual_scale, t)
    if act:
        t = np.where(t > zero, t, zero if act == 1 else fma(t - zero, slope, zero))
    if to_float:
        return t
    return np.rint(np.clip(t, 0, 255)).astype(np.uint8)


def case(shape, seed):
    rng = np.random.default_rng(seed)
    n, h, w, c, k, kh, kw, stride, pad, groups = shape
    x = rng.integers(0, 256, (n, h, w, c), np.uint8)
    weights = rng.integers(-127, 128, (k, c, kh, kw), np.int8)
    if seed % 3 == 0:  # as far as sums and products of pairs can go
        x[rng.random(x.shape) < 0.7] = 255
        weights[rng.random(weights.shape) < 0.7] = 127 if seed % 2 else -127
    scale = (rng.uniform(0.5, 2, k) / (1 + 6000 * np.sqrt(c * kh * kw)) * 64).astype(np.float32)
    return x, weights, scale, rng.normal(100, 40, k).astype(np.float32), rng


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(f"{k}{o[k]}" for k in o))
def test_every_level_gives_the_integers(options):
    turn = OPTIONS.index(options)
    for number, shape in enumerate(SHAPES):
        turns = 2 if number < len(NETWORKS) else len(OPTIONS)
        if number % turns != turn % turns:
            continue  # layers with three sets of options, tails with one
        x, w, scale, bias, rng = case(shape, number)
        zero, act, slope = options.get("zero", 0), options["act"], options.get("slope", 0.0)
        if "huge" in options:  # beyond what an integer holds, of both signs
            scale, bias = scale * np.float32(1e12), bias - np.float32(1e3)
        total = sums(x, zero, w, shape)
        residual = rng.integers(0, 256, total.shape, np.uint8) if "residual" in options else None
        want = finish(total, scale, bias, residual, 0.75, act, slope, options.get("out_zero", 0),
                      "float" in options)
        factor = np.float32(2) ** rng.integers(-3, 3, shape[4]).astype(np.float32)
        near = w + rng.uniform(-0.49, 0.49, w.shape).astype(np.float32)  # rounds to w
        weights = near / factor[:, None, None, None]
        for level in LEVELS:
            for threads in (1, 3) if number < len(NETWORKS) else (2,):
                out, intact = guarded_out(total.shape, want.dtype)
                _core._int8_conv(
                    level, shape, guarded_bytes(x), zero, weights, factor, scale, bias, out,
                    None if residual is None else guarded_bytes(residual), 0.75, act=act,
                    slope=slope, out_zero=options.get("out_zero", 0.0), threads=threads)
                assert intact(), (level, shape)
                assert (out == want).all(), (level, shape, threads)


@pytest.mark.parametrize("channels", [64, 1792])
@pytest.mark.parametrize("weight", [-127, 127])
def test_the_largest_sums(channels, weight):
    """All bytes 255, all weights the largest: transformed sums pass 32 bits on the way."""
    shape = (1, 6, 6, channels, 32, 3, 3, 1, 1, 1)
    x, one = np.full((1, 6, 6, channels), 255, np.uint8), np.ones(32, np.float32)
    weights = np.full((32, channels, 3, 3), weight, np.float32)
    taps = np.outer([2, 3, 3, 3, 3, 2], [2, 3, 3, 3, 3, 2])[None, :, :, None]
    want = (taps * 255 * weight * channels).astype(np.float32)
    for level in LEVELS:
        out = np.zeros((1, 6, 6, 32), np.float32)
        _core._int8_conv(level, shape, x, 0, weights, one, one, 0 * one, out)
        assert (out == want).all(), level


def test_levels_and_refusals():
    assert LEVELS[-1] == "generic"
    x = np.zeros((1, 1, 1, 2), np.uint8)
    w, one = np.zeros((2, 1, 1, 1), np.float32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="groups"):
        _core._int8_conv("generic", (1, 1, 1, 2, 2, 1, 1, 1, 0, 2), x, 0, w, one, one, one,
                         np.zeros((1, 1, 1, 2), np.uint8))
    with pytest.raises(ValueError, match="not on this machine"):
        _core._int8_conv("neon", (1, 1, 1, 2, 2, 1, 1, 1, 0, 1), x, 0, w, one, one, one,
                         np.zeros((1, 1, 1, 2), np.uint8))
