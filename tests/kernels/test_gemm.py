"""rc_gemm against NumPy in float64: orientations, tails, batches, epilogues, threads."""
import itertools

import numpy as np
import pytest

import reference as ref
from reidc import _core

BOTH = list(itertools.product((False, True), repeat=2))
SIZES = [(1, 1, 1, 1), (1, 1, 37, 5), (1, 2, 3, 700), (1, 14, 32, 16), (1, 15, 33, 17),
         (1, 13, 31, 519), (1, 64, 751, 130), (1, 3, 2048, 70), (1, 100, 90, 33), (1, 300, 65, 40),
         (5, 7, 11, 13), (3, 40, 40, 64), (1, 29, 300, 600), (2, 150, 310, 9), (1, 6, 40, 0)]


def bound(size):
    """Rounding that walks at random along sums of size[3] terms, and the epilogue's."""
    return 1e-7 + 2.0**-25 * size[3]**0.5


def run(size, trans_a, trans_b, a, b, start=None, pad=(0, 0, 0), share=(False, False), **options):
    """a: (batch,m,k), b: (batch,k,n) as in the mathematics; stores them as asked, and runs."""
    batch, m, n, k = size
    stored, strides = [], []
    for matrix, transposed, extra, shared in ((a, trans_a, pad[0], share[0]),
                                              (b, trans_b, pad[1], share[1])):
        matrix = matrix.transpose(0, 2, 1) if transposed else matrix
        matrix = matrix[:1] if shared else matrix
        wide = np.full((matrix.shape[0], matrix.shape[1], matrix.shape[2] + extra), np.nan,
                       np.float32)
        wide[:, :, :matrix.shape[2]] = matrix
        stored.append(ref.guarded_copy(wide))
        strides.append(0 if shared else wide.shape[1] * wide.shape[2])
    out, intact = ref.guarded((batch, m, n + pad[2]), fill=-9.0)
    if start is not None:
        out[:, :, :n] = start
    residual = options.pop("residual", None)
    if residual is not None:
        wide = np.full(out.shape, np.nan, np.float32)
        wide[:, :, :n] = residual
        options["residual"] = ref.guarded_copy(wide)
    _core._gemm((batch, m, n, k), *stored, out, trans_a, trans_b, (m if trans_a else k) + pad[0],
                (k if trans_b else n) + pad[1], n + pad[2], (*strides, m * (n + pad[2])),
                **options)
    assert intact()
    assert (out[:, :, n:] == -9.0).all(), "wrote between the rows"
    return out[:, :, :n].copy()


def factors(size, seed, exact=False):
    batch, m, n, k = size
    rng = np.random.default_rng(seed)
    shapes = ((batch, m, k), (batch, k, n))
    if exact:
        return [rng.integers(-3, 4, s).astype(np.float32) for s in shapes]
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


@pytest.mark.parametrize("trans_a,trans_b", BOTH)
@pytest.mark.parametrize("pad", [(0, 0, 0), (3, 5, 1)])
def test_against_float64(trans_a, trans_b, pad):
    for size in SIZES:
        a, b = factors(size, sum(size))
        want = a.astype(np.float64) @ b.astype(np.float64)
        got = run(size, trans_a, trans_b, a, b, pad=pad)
        assert ref.relative_error(got, want) <= bound(size), size
        start = np.random.default_rng(0).standard_normal(want.shape).astype(np.float32)
        got = run(size, trans_a, trans_b, a, b, pad=pad, start=start, add=True)
        assert ref.relative_error(got, want + start) <= bound(size), size
        a, b = factors(size, sum(size), exact=True)
        assert (run(size, trans_a, trans_b, a, b, pad=pad) == a @ b).all(), size


@pytest.mark.parametrize("trans_a,trans_b", BOTH)
@pytest.mark.parametrize("act", [0, 1, 2])
def test_epilogue(trans_a, trans_b, act):
    for size in SIZES:
        a, b = factors(size, sum(size))
        rng = np.random.default_rng(1)
        bias = rng.standard_normal(size[2]).astype(np.float32)
        residual = rng.standard_normal((size[0], size[1], size[2])).astype(np.float32)
        want = ref.activate(a.astype(np.float64) @ b + bias + residual, act, 0.25)
        got = run(size, trans_a, trans_b, a, b, pad=(1, 0, 2), bias=bias, residual=residual,
                  act=act, slope=0.25)
        assert ref.relative_error(got, want) <= bound(size), size


@pytest.mark.parametrize("trans_a,trans_b", BOTH)
def test_shared_factor(trans_a, trans_b):
    size = (4, 9, 35, 21)
    a, b = factors(size, 2)
    got = run(size, trans_a, trans_b, a, b, share=(True, False))
    assert ref.relative_error(got, a[:1].astype(np.float64) @ b) <= bound(size)
    got = run(size, trans_a, trans_b, a, b, share=(False, True))
    assert ref.relative_error(got, a.astype(np.float64) @ b[:1]) <= bound(size)


@pytest.mark.parametrize("trans_a,trans_b", BOTH)
def test_same_bits_for_any_number_of_threads(trans_a, trans_b):
    for size in SIZES[4:]:
        a, b = factors(size, 3)
        first, *others = [run(size, trans_a, trans_b, a, b, threads=t) for t in (1, 2, 3, 7)]
        for other in others:
            assert (first.view(np.int32) == other.view(np.int32)).all(), size
