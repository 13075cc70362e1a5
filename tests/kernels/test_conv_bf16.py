"""Every bf16 convolution kernel of the instruction set in use against NumPy in float64, on inputs
and weights rounded to bf16; and the same at every lower level, each in a process of its own."""
import os
import subprocess
import sys

import numpy as np
import pytest

import conv_cases as cases
import reference as ref
from reidc import _core
from test_conv import PASSES, data, is_winograd, operands

SHAPES = cases.RESNET50[:9] + cases.TAILS[::3] + cases.ODD[::2] + cases.GROUPS[::2]
LEVELS = ["generic", "avx2", "avx512", "avx512_bf16"]
ZONE = 64
HALF_UNIT = 2.0**-8  # 8 significant bits, the last of them to the nearest


def to_bits(x):
    """float64 or float32 to the bits of the nearest bf16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def to_float(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(x):
    return to_float(to_bits(x))


def guarded(values):
    """A copy that is surrounded by NaN; (array, whether what surrounds it is untouched)."""
    fill = 0x7fc1 if values.dtype == np.uint16 else np.nan
    buffer = np.full(values.size + 2 * ZONE, fill, values.dtype)
    before = buffer.tobytes()[:ZONE * buffer.itemsize]
    inner = buffer[ZONE:ZONE + values.size].reshape(values.shape)
    inner[...] = values
    return inner, lambda: (buffer[:ZONE].tobytes() == before
                           and buffer[ZONE + values.size:].tobytes() == before)


def run(kernel, which, shape, a, b, out_shape, start=None, **options):
    """a, b: float32, rounded to bf16 already where the kernel takes that."""
    a, _ = guarded(to_bits(a))
    b, _ = guarded(to_bits(b) if which == "bwd_w" else b)
    if options.get("residual") is not None:
        options["residual"], _ = guarded(to_bits(options["residual"]))
    empty = np.full(out_shape, np.nan, np.float32) if start is None else start
    out, intact = guarded(empty if which == "bwd_w" else to_bits(empty))
    _core._conv_run(kernel, shape, a, b, out, **options)
    assert intact(), "wrote outside its output"
    return out.copy() if which == "bwd_w" else to_float(out)


def bound(kernel, which, shape):
    """Relative L2 error: rounding of the result, sums in float beside it; Winograd's promise."""
    n, h, w, c, k, kh, kw, stride, pad, groups = shape
    length = {"fwd": kh * kw * c, "bwd_x": kh * kw * k, "bwd_w": n * np.prod(ref.out_size(shape))}
    sums = 1e-5 if is_winograd(kernel) else 1e-7 + 2.0**-24 * length[which]**0.5
    return sums + (0 if which == "bwd_w" else HALF_UNIT)


@pytest.mark.parametrize("which", PASSES)
def test_against_float64(which):
    for shape in SHAPES:
        x, w, dy = map(rounded, data(shape, seed=sum(shape)))
        a, b, out_shape, reference = operands(which, x, w, dy)
        want = reference(a, b, shape)
        kernels = _core._conv_kernels(which, shape, True)
        assert kernels, shape
        for kernel in kernels:
            error = ref.relative_error(run(kernel, which, shape, a, b, out_shape), want)
            assert error <= bound(kernel, which, shape), (kernel, shape, error)
        if which != "fwd":
            start = rounded(np.random.default_rng(3).standard_normal(out_shape))
            for kernel in kernels:
                got = run(kernel, which, shape, a, b, out_shape, start=start, add=True)
                error = ref.relative_error(got, want + start)
                assert error <= bound(kernel, which, shape), (kernel, shape, error)


@pytest.mark.parametrize("which", PASSES)
def test_small_integers_are_exact_but_for_the_last_rounding(which):
    for shape in SHAPES:
        x, w, dy = data(shape, seed=1 + sum(shape), exact=True)
        a, b, out_shape, reference = operands(which, x, w, dy)
        want = reference(a, b, shape).astype(np.float32)
        want = want if which == "bwd_w" else rounded(want)
        for kernel in _core._conv_kernels(which, shape, True):
            if not is_winograd(kernel):
                got = run(kernel, which, shape, a, b, out_shape)
                assert (got == want).all(), (kernel, shape)


def test_weights_are_rounded_to_the_nearest():
    shape = (1, 5, 4, 24, 33, 1, 1, 1, 0, 1)
    x, w, dy = data(shape, seed=2)
    for kernel in _core._conv_kernels("fwd", shape, True):
        got = run(kernel, "fwd", shape, rounded(x), w, dy.shape)
        want = ref.conv_fwd(rounded(x), rounded(w), shape)
        assert ref.relative_error(got, want) <= bound(kernel, "fwd", shape)


@pytest.mark.parametrize("act", [0, 1, 2])
def test_epilogue(act):
    for shape in SHAPES[::2]:
        rng = np.random.default_rng(sum(shape))
        x, w, dy = map(rounded, data(shape, seed=4 + sum(shape)))
        bias = rng.standard_normal(shape[4]).astype(np.float32)
        residual = rounded(rng.standard_normal(dy.shape))
        want = ref.activate(ref.conv_fwd(x, w, shape) + bias + residual, act, 0.125)
        scale = np.exp2(rng.integers(-1, 2, shape[4])).astype(np.float32)  # rounds nothing
        scaled = ref.conv_fwd(x, w, shape) * scale
        for kernel in _core._conv_kernels("fwd", shape, True):
            got = run(kernel, "fwd", shape, x, w, dy.shape, act=act, slope=0.125, bias=bias,
                      residual=residual)
            assert ref.relative_error(got, want) <= bound(kernel, "fwd", shape), (kernel, shape)
            got = run(kernel, "fwd", shape, x, w, dy.shape, scale=scale)
            assert ref.relative_error(got, scaled) <= bound(kernel, "fwd", shape), (kernel, shape)


@pytest.mark.parametrize("which", PASSES)
def test_same_bits_for_any_number_of_threads(which):
    for shape in SHAPES[::2]:
        x, w, dy = map(rounded, data(shape, seed=5 + sum(shape)))
        a, b, out_shape, _ = operands(which, x, w, dy)
        for kernel in _core._conv_kernels(which, shape, True):
            first, *others = [run(kernel, which, shape, a, b, out_shape, threads=t)
                              for t in (1, 2, 5)]
            for other in others:
                assert np.array_equal(first, other), (kernel, shape)


def test_nan_reaches_the_output():
    shape = (1, 6, 6, 16, 16, 3, 3, 1, 1, 1)
    x, w, dy = map(rounded, data(shape))
    x[0, 3, 3, 5] = np.nan
    for kernel in _core._conv_kernels("fwd", shape, True):
        got = run(kernel, "fwd", shape, x, w, dy.shape, act=1)
        assert np.isnan(got[0, 2:5, 2:5]).all(), kernel


@pytest.mark.parametrize("level", LEVELS)
def test_level(level):
    if os.environ.get("REIDC_CPU"):
        pytest.skip("already inside a level")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "REIDC_CPU": level}, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-3000:]
