"""reidc.losses: values and gradients against the definitions, and what they refuse. (The kernels
themselves have their cases in tests/ops/cases_losses.py.)"""
import sys
from pathlib import Path

import numpy as np
import pytest
import reidc
from reidc import losses

sys.path.insert(0, str(Path(__file__).parent.parent / "ops"))
import cases_losses

RNG = np.random.default_rng(3)
X = RNG.standard_normal((8, 6))
LABELS = np.array([3, 3, 1, 1, 1, 7, 3, 0])
CENTERS = RNG.standard_normal((9, 6))

CALLS = {
    "cross_entropy": lambda x: losses.cross_entropy(x, LABELS % 6, 0.1),
    "others": lambda x: losses.cross_entropy(x, LABELS % 6, 0.1, "others"),
    "triplet": lambda x: losses.triplet(x, LABELS, 1.2),
    "soft": lambda x: losses.triplet(x, LABELS, None),
    "normalize": lambda x: losses.triplet(x, LABELS, 0.5, normalize=True),
    "cos": lambda x: losses.triplet(x, LABELS, 0.5, distance="cos"),
    "gla": lambda x: losses.gla(x, X[::-1].astype(x.dtype)),
}


@pytest.mark.parametrize("name", CALLS)
def test_gradient_is_the_central_difference(name):
    value, gradient = CALLS[name](X)
    assert isinstance(value, float) and gradient.shape == X.shape and gradient.dtype == X.dtype
    numeric = np.zeros_like(X)
    for i in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[i] = 1e-6
        numeric[i] = (CALLS[name](X + step)[0] - CALLS[name](X - step)[0]) / 2e-6
    assert np.abs(numeric - gradient).max() <= 1e-8


@pytest.mark.parametrize("name", CALLS)
def test_float32_stays_float32(name):
    value, gradient = CALLS[name](X)
    value32, gradient32 = CALLS[name](X.astype(np.float32))
    assert gradient32.dtype == np.float32
    assert abs(value32 - value) <= 2e-6 and np.abs(gradient32 - gradient).max() <= 2e-6


def test_settings_reach_the_definition():
    ref = cases_losses
    y = LABELS % 6
    for eps in (0.0, 0.3):
        for mode, spread in enumerate(("all", "others")):
            want = ref.ref_cross_entropy([X, y], {"smoothing": eps, "mode": mode}, True)[0]
            assert losses.cross_entropy(X, y, eps, spread)[0] == pytest.approx(want, rel=1e-13)
    for attrs, keys in (({"margin": 0.3}, {}), ({"soft": 1}, {"margin": None}),
                        ({"margin": 0.3, "normalized": 1}, {"normalize": True}),
                        ({"margin": 2.0, "mode": 1}, {"margin": 2.0, "distance": "cos"})):
        want = ref.ref_triplet([X, LABELS], attrs, True)[0]
        assert losses.triplet(X, LABELS, **keys)[0] == pytest.approx(want, rel=1e-13)
    want = ref.ref_circle([X, LABELS], {"margin": 0.25, "scale": 128.0}, True)[0]
    assert losses.circle(X, LABELS)[0] == pytest.approx(want, rel=1e-12)
    want = ref.ref_circle([X, LABELS], {"margin": 0.4, "scale": 32.0}, True)[0]
    value, gradient = losses.circle(X, LABELS, 0.4, 32)
    assert value == pytest.approx(want, rel=1e-12)
    assert np.allclose(gradient, ref.grad_circle([X, LABELS], {"margin": 0.4, "scale": 32.0},
                                                 [1.0])[0], atol=1e-12)


def test_center_returns_both_gradients():
    value, (dx, dc) = losses.center(X, LABELS, CENTERS)
    assert value == pytest.approx(((X - CENTERS[LABELS]) ** 2).sum() / 8 + 8e-12, rel=1e-12)
    want = 2 * (X - CENTERS[LABELS]) / 8
    assert np.allclose(dx, want, atol=1e-14)
    back = np.zeros_like(CENTERS)
    np.add.at(back, LABELS, -want)
    assert np.allclose(dc, back, atol=1e-14)


def test_inputs_are_not_written_and_any_layout_will_do():
    x, kept = np.asfortranarray(X[::2].copy()), X[::2].copy()
    value, gradient = losses.triplet(x, LABELS[::2].astype(np.uint8))
    assert np.array_equal(x, kept) and gradient.flags.c_contiguous
    assert value == losses.triplet(kept, list(LABELS[::2]))[0]


NAN = np.where(np.eye(8, 6) > 0, np.nan, X)
REFUSED = [
    (TypeError, "logits: expected float32 or float64, got int64",
     lambda: losses.cross_entropy(LABELS[:, None], LABELS)),
    (TypeError, "labels: expected integers, got float64",
     lambda: losses.cross_entropy(X, LABELS.astype(float))),
    (TypeError, "centers: expected float64 as the first array, got float32",
     lambda: losses.center(X, LABELS, CENTERS.astype(np.float32))),
    (TypeError, "margin: expected a number, got str", lambda: losses.triplet(X, LABELS, "0.3")),
    (ValueError, "logits: contains NaN", lambda: losses.cross_entropy(NAN, LABELS % 6)),
    (ValueError, "embeddings: contains NaN", lambda: losses.circle(NAN, LABELS)),
    (ValueError, "centers: contains NaN", lambda: losses.center(X, LABELS, CENTERS + np.inf)),
    (ValueError, r"labels: expected 0..5 \(6 classes\), got 7 at position 5",
     lambda: losses.cross_entropy(X, LABELS)),
    (ValueError, "labels: expected values from 0 on, got -1 at position 2",
     lambda: losses.triplet(X, np.array([0, 1, -1, 2, 3, 4, 5, 6]))),
    (ValueError, "at least two identities", lambda: losses.triplet(X, np.full(8, 4))),
    (ValueError, "labels: expected 8, one an image, got 7",
     lambda: losses.triplet(X, LABELS[:7])),
    (ValueError, "embeddings: the batch is empty",
     lambda: losses.triplet(X[:0], LABELS[:0])),
    (ValueError, "embeddings: expected 2 dimensions, got 3",
     lambda: losses.triplet(X[:, :, None], LABELS)),
    (ValueError, "smoothing: expected 0..1, got 2",
     lambda: losses.cross_entropy(X, LABELS % 6, 2)),
    (ValueError, "spread: expected 'all' or 'others', got 'some'",
     lambda: losses.cross_entropy(X, LABELS % 6, 0.1, "some")),
    (ValueError, "distance: expected 'euclidean' or 'cos', got 3",
     lambda: losses.triplet(X, LABELS, distance=3)),
    (ValueError, "margin: expected a number >= 0", lambda: losses.triplet(X, LABELS, -1)),
    (ValueError, "one shape", lambda: losses.gla(X, X[:, :5])),
]


@pytest.mark.parametrize("kind, words, call", REFUSED, ids=[w[:40] for _, w, _ in REFUSED])
def test_wrong_input(kind, words, call):
    with pytest.raises(kind, match=words) as caught:
        call()
    assert isinstance(caught.value, reidc.Error)


def test_failed_allocations_are_memory_errors():
    live = reidc._core._memory_live()
    for n in range(2):
        reidc._core._memory_fail_after(n)
        try:
            with pytest.raises(MemoryError):
                losses.triplet(X, LABELS)
        finally:
            reidc._core._memory_fail_after(-1)
    assert reidc._core._memory_live() == live
