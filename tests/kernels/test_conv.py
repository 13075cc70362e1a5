"""Every convolution kernel of the instruction set in use against NumPy in float64."""
import numpy as np
import pytest

import conv_cases as cases
import reference as ref
from reidc import _core

PASSES = ("fwd", "bwd_x", "bwd_w")


def data(shape, seed=0, exact=False):
    rng = np.random.default_rng(seed)
    n, h, w, c, k, kh, kw, stride, pad, groups = shape
    oh, ow = ref.out_size(shape)
    sizes = ((n, h, w, c), (k, c // groups, kh, kw), (n, oh, ow, k))
    if exact:  # small integers, thinned: every partial sum is exact in float32
        return [(rng.integers(-3, 4, s) * (rng.random(s) < 0.5)).astype(np.float32) for s in sizes]
    return [rng.standard_normal(s).astype(np.float32) for s in sizes]


def operands(which, x, w, dy):
    if which == "fwd":
        return x, w, dy.shape, ref.conv_fwd
    if which == "bwd_x":
        return dy, w, x.shape, ref.conv_bwd_x
    return dy, x, w.shape, ref.conv_bwd_w


def run(kernel, which, shape, a, b, out_shape, start=None, **options):
    out, intact = ref.guarded(out_shape, fill=np.nan)
    if start is not None:
        out[...] = start
    _core._conv_run(kernel, shape, ref.guarded_copy(a), ref.guarded_copy(b), out, **options)
    assert intact(), "wrote outside its output"
    return out


def is_winograd(kernel):
    return "winograd" in kernel


def bound(kernel, which, shape):
    """Relative L2 error: the promise for Winograd; else rounding that walks at random along a
    sum (half a unit in the last place times the root of its length, and the epilogue's)."""
    if is_winograd(kernel):
        return 1e-5
    n, h, w, c, k, kh, kw, stride, pad, groups = shape
    oh, ow = ref.out_size(shape)
    length = {"fwd": kh * kw * c // groups, "bwd_x": kh * kw * k // groups, "bwd_w": n * oh * ow}
    return 1e-7 + 2.0**-25 * length[which]**0.5


@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("group", ["RESNET50", "TAILS", "ODD", "GROUPS"])
def test_against_float64(which, group):
    for shape in getattr(cases, group):
        x, w, dy = data(shape, seed=sum(shape))
        a, b, out_shape, reference = operands(which, x, w, dy)
        want = reference(a, b, shape)
        kernels = _core._conv_kernels(which, shape)
        assert kernels, shape
        for kernel in kernels:
            got = run(kernel, which, shape, a, b, out_shape)
            error = ref.relative_error(got, want)
            assert error <= bound(kernel, which, shape), (kernel, shape, error)


@pytest.mark.parametrize("which", PASSES)
def test_small_integers_are_exact(which):
    for shape in cases.ALL:
        x, w, dy = data(shape, seed=1 + sum(shape), exact=True)
        a, b, out_shape, reference = operands(which, x, w, dy)
        want = reference(a, b, shape)
        for kernel in _core._conv_kernels(which, shape):
            if not is_winograd(kernel):
                got = run(kernel, which, shape, a, b, out_shape)
                assert (got == want).all(), (kernel, shape)


@pytest.mark.parametrize("which", ["bwd_x", "bwd_w"])
def test_add(which):
    for shape in cases.RESNET50[:7] + cases.ODD + cases.GROUPS:
        x, w, dy = data(shape, seed=2 + sum(shape))
        a, b, out_shape, reference = operands(which, x, w, dy)
        start = np.random.default_rng(3).standard_normal(out_shape).astype(np.float32)
        want = reference(a, b, shape) + start
        for kernel in _core._conv_kernels(which, shape):
            got = run(kernel, which, shape, a, b, out_shape, start=start, add=True)
            error = ref.relative_error(got, want)
            assert error <= bound(kernel, which, shape), (kernel, shape, error)


@pytest.mark.parametrize("act", [0, 1, 2])
@pytest.mark.parametrize("parts", ["b", "r", "br", "sbr", ""])
def test_epilogue(act, parts):
    for shape in cases.RESNET50[:8] + cases.ODD[::3] + cases.GROUPS[::2] + cases.TAILS[::5]:
        rng = np.random.default_rng(sum(shape))
        x, w, dy = data(shape, seed=4 + sum(shape))
        k = shape[4]
        options = {"act": act, "slope": 0.125}
        scale = rng.standard_normal(k).astype(np.float32)
        want = ref.conv_fwd(x, w, shape)
        if "s" in parts:
            options["scale"] = scale
            want = want * scale
        if "b" in parts:
            options["bias"] = rng.standard_normal(k).astype(np.float32)
            want = want + options["bias"]
        if "r" in parts:
            options["residual"] = ref.guarded_copy(
                rng.standard_normal(dy.shape).astype(np.float32))
            want = want + options["residual"]
        want = ref.activate(want, act, 0.125)
        for kernel in _core._conv_kernels("fwd", shape):
            got = run(kernel, "fwd", shape, x, w, dy.shape, **options)
            error = ref.relative_error(got, want)
            assert error <= bound(kernel, "fwd", shape), (kernel, shape, error)


@pytest.mark.parametrize("which", PASSES)
def test_same_bits_for_any_number_of_threads(which):
    for shape in cases.RESNET50 + cases.ODD[-7:] + cases.GROUPS[:3]:
        x, w, dy = data(shape, seed=5 + sum(shape))
        a, b, out_shape, _ = operands(which, x, w, dy)
        for kernel in _core._conv_kernels(which, shape):
            results = [run(kernel, which, shape, a, b, out_shape, threads=t) for t in (1, 2, 3, 7)]
            for other in results[1:]:
                assert (results[0].view(np.int32) == other.view(np.int32)).all(), (kernel, shape)


def test_output_past_the_caches():
    shape = cases.FAR
    x, w, dy = data(shape)
    residual = np.random.default_rng(6).standard_normal(dy.shape).astype(np.float32)
    want = np.maximum(ref.conv_fwd(x, w, shape) + residual, 0)
    for kernel in _core._conv_kernels("fwd", shape):
        room = np.full(dy.size + 64, 7, np.float32)  # a line's start, and what lies around it
        first = 16 + (-room.ctypes.data // 4) % 16
        out = room[first:first + dy.size].reshape(dy.shape)
        assert out.ctypes.data % 64 == 0
        results = []
        for threads in (1, 2):
            out[...] = 9
            _core._conv_run(kernel, shape, x, w, out, residual=residual, act=1, threads=threads)
            results.append(out.copy())
            assert (room[:first] == 7).all() and (room[first + dy.size:] == 7).all()
        assert ref.relative_error(results[0], want) <= bound(kernel, "fwd", shape), kernel
        assert (results[0] == results[1]).all(), kernel


def test_nan_reaches_the_output():
    shape = (1, 6, 6, 16, 16, 3, 3, 1, 1, 1)
    x, w, dy = data(shape)
    x[0, 3, 3, 5] = np.nan
    for kernel in _core._conv_kernels("fwd", shape):
        got = run(kernel, "fwd", shape, x, w, dy.shape)
        assert np.isnan(got[0, 2:5, 2:5]).all(), kernel
        kept = run(kernel, "fwd", shape, x, w, dy.shape, act=1)
        assert np.isnan(kept[0, 2:5, 2:5]).all(), kernel


def test_no_images():
    shape = (0, 6, 6, 4, 4, 3, 3, 1, 1, 1)
    x, w, dy = data(shape)
    for which in PASSES:
        a, b, out_shape, _ = operands(which, x, w, dy)
        for kernel in _core._conv_kernels(which, shape):
            got = run(kernel, which, shape, a, b, out_shape)
            assert (got == 0).all()
