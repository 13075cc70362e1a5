"""compute_distance_matrix against float64, for near pairs too, at tile edges and every ISA."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reidc

EPS = float(np.finfo(np.float32).eps)


def truth(query, gallery, metric):
    query, gallery = query.astype(np.float64), gallery.astype(np.float64)
    if metric == "cosine":
        query = query / np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-12)
        gallery = gallery / np.maximum(np.linalg.norm(gallery, axis=1, keepdims=True), 1e-12)
        return 1 - query @ gallery.T
    return np.square(query[:, None] - gallery[None]).sum(-1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 31, 3), (8, 32, 256), (9, 33, 257), (255, 3, 17),
                                   (256, 256, 64), (257, 259, 5), (3, 700, 513), (2, 5, 2048)])
def test_squared_euclidean(shape):
    rng = np.random.default_rng(sum(shape))
    query = rng.standard_normal((shape[0], shape[2]), dtype=np.float32)
    gallery = rng.standard_normal((shape[1], shape[2]), dtype=np.float32)
    gallery[0] = query[0] * np.float32(1 + 2e-5)  # a near pair
    want = truth(query, gallery, "euclidean")
    got = reidc.compute_distance_matrix(query, gallery)
    assert got.dtype == np.float32 and got.flags.c_contiguous
    # Sums of non-negative terms: the relative error is that of the additions.
    assert (np.abs(got - want) <= (3 + np.sqrt(shape[2])) * EPS * want).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 33, 257), (65, 300, 64)])
def test_cosine(shape):
    rng = np.random.default_rng(sum(shape))
    query = rng.standard_normal((shape[0], shape[2]), dtype=np.float32) * 50
    gallery = rng.standard_normal((shape[1], shape[2]), dtype=np.float32)
    got = reidc.compute_distance_matrix(query, gallery, "cosine")
    assert (np.abs(got - truth(query, gallery, "cosine")) <= 8 * EPS).all()
    assert (got >= 0).all()


def test_cosine_keeps_near_pairs_apart():
    """Angles of 1e-4 and 2e-4: 1 - cos is 5e-9 and 2e-8, far below float32's step at 1."""
    angle = np.array([0.0, 1e-4, 2e-4])
    gallery = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    got = reidc.compute_distance_matrix(gallery[:1], gallery, "cosine")[0]
    np.testing.assert_allclose(got, 1 - np.cos(angle), rtol=1e-3)


def test_cosine_of_zero_and_tiny_rows():
    """Norms below 1e-12 are clamped: a zero row is at 1 from everything."""
    rows = np.array([[0, 0], [1, 0], [-1, 0], [5e-13, 0], [-5e-13, 0]], np.float32)
    got = reidc.compute_distance_matrix(rows, rows, "cosine")
    np.testing.assert_allclose(got, truth(rows, rows, "cosine"), atol=1e-6)
    assert got[0].tolist() == [1, 1, 1, 1, 1] and abs(got[1, 3] - 0.5) < 1e-6


def test_equal_rows_are_at_zero_and_order_does_not_matter():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((300, 700), dtype=np.float32) * 100
    for metric in ("euclidean", "cosine"):
        got = reidc.compute_distance_matrix(rows, rows, metric)
        assert (np.diag(got) == 0).all()
        assert (got == got.T).all()
        shuffled = rng.permutation(300)
        assert (reidc.compute_distance_matrix(rows[shuffled], rows, metric) == got[shuffled]).all()


def test_threads_do_not_change_a_bit():
    rng = np.random.default_rng(2)
    query = rng.standard_normal((600, 300), dtype=np.float32)
    gallery = rng.standard_normal((777, 300), dtype=np.float32)
    one = reidc.compute_distance_matrix(query, gallery, threads=1)
    for threads in (2, 3, 7):
        assert (reidc.compute_distance_matrix(query, gallery, threads=threads) == one).all()


def test_inputs_in_any_layout_and_untouched():
    rng = np.random.default_rng(3)
    query = rng.standard_normal((5, 64), dtype=np.float32)
    gallery = np.asfortranarray(rng.standard_normal((9, 64), dtype=np.float32))
    want = reidc.compute_distance_matrix(query[:, ::2].copy(), gallery[:, ::2].copy())
    keep = query.copy(), gallery.copy()
    query.flags.writeable = False
    assert (reidc.compute_distance_matrix(query[:, ::2], gallery[:, ::2]) == want).all()
    swapped = query.astype(">f4")
    assert (reidc.compute_distance_matrix(swapped, gallery)
            == reidc.compute_distance_matrix(query, gallery)).all()
    assert (query == keep[0]).all() and (gallery == keep[1]).all()


def test_empty_sets():
    rows = np.zeros((3, 4), np.float32)
    for metric in ("euclidean", "cosine"):
        assert reidc.compute_distance_matrix(rows[:0], rows, metric).shape == (0, 3)
        assert reidc.compute_distance_matrix(rows, rows[:0], metric).shape == (3, 0)


ROWS = np.ones((2, 4), np.float32)
NAN = np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]], np.float32)


@pytest.mark.parametrize("error, message, query, gallery, metric", [
    (TypeError, "query: expected float32, got float64", ROWS.astype(float), ROWS, "euclidean"),
    (TypeError, "gallery: expected float32", ROWS, ROWS.astype(np.float16), "euclidean"),
    (ValueError, "query: expected 2 dimensions, got 1", ROWS[0], ROWS, "euclidean"),
    (ValueError, "gallery: expected rows of 4", ROWS, np.ones((2, 5), np.float32), "euclidean"),
    (ValueError, "metric: expected 'euclidean' or 'cosine', got 'l2'", ROWS, ROWS, "l2"),
    (TypeError, "metric", ROWS, ROWS, 2),
    (ValueError, "query: row 1 holds NaN or infinity", NAN, ROWS, "euclidean"),
    (ValueError, "gallery: row 1 holds NaN or infinity", ROWS, NAN, "cosine"),
    (ValueError, "gallery: row 0 holds", ROWS, ROWS * np.float32(np.inf), "euclidean"),
    (ValueError, "at least one column", ROWS[:, :0], ROWS[:, :0], "euclidean"),
])
def test_wrong_input(error, message, query, gallery, metric):
    with pytest.raises(error, match=message):
        reidc.compute_distance_matrix(query, gallery, metric)


SCRIPT = """
import numpy as np, reidc
rng = np.random.default_rng(4)
for shape in (9, 40, 300), (8, 32, 7), (1, 100, 256):
    q = rng.standard_normal((shape[0], shape[2]), dtype=np.float32)
    g = rng.standard_normal((shape[1], shape[2]), dtype=np.float32)
    want = np.square(q.astype(float)[:, None] - g[None]).sum(-1)
    got = reidc.compute_distance_matrix(q, g)
    assert (np.abs(got - want) <= 20 * 1.2e-7 * want).all(), shape
print(reidc.config()["cpu"])
"""


@pytest.mark.parametrize("level", ["generic", "avx2", "avx512"])
def test_every_instruction_set(level):
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60,
                         cwd=Path(reidc.__file__).parents[1],
                         env={**os.environ, "REIDC_CPU": level})
    assert run.returncode == 0, run.stderr
