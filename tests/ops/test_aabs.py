"""reidc.aabs against the page's algorithm in plain Python, on thousands of maps. Images where a
test comes within 1e-6 of its threshold 1e-5 are left out, as the page says (and counted)."""
import naive_aabs
import numpy as np
import pytest
import reidc

KINDS = ("uniform", "sparse", "body", "ramp", "rows", "near")


def maps(kind, rng, n, C, H, w):
    noise = rng.random((n, C, H, w), np.float32)
    if kind == "uniform":
        return noise
    if kind == "sparse":  # as behind a ReLU, with rows that are zero
        return noise * (rng.random((n, C, H, w)) < 0.05) * (rng.random((n, 1, H, 1)) < 0.8)
    if kind == "body":  # five kinds of rows at random heights
        out = 0.2 * noise
        for image in out:
            cuts = np.sort(rng.choice(np.arange(1, H), 4, replace=False))
            looks = rng.random((5, C)) * (rng.random((5, C)) < 0.4)
            image += looks[np.searchsorted(cuts, np.arange(H), "right")].T[:, :, None]
        return out
    if kind == "ramp":  # likeness falls off slowly with distance
        return 0.05 * noise + np.cumsum(rng.standard_normal((n, C, H, 1)) * 0.3, axis=2)
    if kind == "near":  # directions so alike that tests fall on both sides of 1e-5
        out, angle = np.zeros((n, C, H, w)), 0.004 * rng.standard_normal((n, H, 1))
        out[:, 0], out[:, 1] = np.cos(angle), np.sin(angle)
        return out
    looks = rng.random((n, C, 3)) * (rng.random((n, C, 3)) < 0.4)  # three looks, shuffled rows
    pick = rng.integers(0, 3, (n, H))
    return 0.01 * noise + np.take_along_axis(looks, pick[:, None, :].repeat(C, 1), 2)[..., None]


@pytest.mark.parametrize("H, w, C, n", [(24, 8, 40, 160), (16, 8, 24, 240), (6, 2, 16, 240),
                                        (5, 1, 3, 60), (33, 3, 9, 40)])
def test_planes_are_the_pages(H, w, C, n):
    rng = np.random.default_rng(H)
    moved, compared, longest = 0, 0, 0
    for kind in KINDS:
        F = maps(kind, rng, n, C, H, w).astype(np.float32)
        got = reidc.aabs(F)
        assert got.dtype == np.int64 and got.shape == (n, 4)
        edges = np.concatenate([np.zeros((n, 1)), got, np.full((n, 1), H)], axis=1)
        assert (np.diff(edges, axis=1) >= 1).all()
        for image, planes in zip(F, got):
            want, margin, passes = naive_aabs.aabs(image)
            if margin > 1e-6:
                compared += 1
                assert planes.tolist() == want, kind
                moved += want != naive_aabs.start(H)
                longest = max(longest, passes)
    assert compared >= 0.8 * n * len(KINDS)
    if H >= 16:
        assert moved >= 0.35 * compared and longest >= 4


def test_images_do_not_depend_on_each_other():
    F = maps("body", np.random.default_rng(1), 7, 12, 24, 4).astype(np.float32)
    assert np.array_equal(reidc.aabs(F), np.concatenate([reidc.aabs(F[i:i + 1])
                                                         for i in range(7)]))
    assert np.array_equal(reidc.aabs(F), reidc.aabs(F[:, :, :, ::-1]))  # mirrored
    assert reidc.aabs(F[:0]).shape == (0, 4)


def test_blank_maps_keep_the_start_planes():
    assert reidc.aabs(np.zeros((1, 5, 24, 2), np.float32)).tolist() == [[4, 8, 12, 18]]
    assert reidc.aabs(np.ones((1, 5, 16, 2), np.float32)).tolist() == [[3, 5, 8, 12]]


@pytest.mark.parametrize("kind, words, F", [
    (TypeError, "F: expected float32, got float64", np.zeros((1, 2, 8, 2))),
    (ValueError, "F: expected 4 dimensions, got 3", np.zeros((2, 8, 2), np.float32)),
    (ValueError, "at least 5 rows", np.zeros((1, 2, 4, 2), np.float32)),
    (ValueError, "F: contains NaN", np.full((1, 2, 8, 2), np.nan, np.float32)),
])
def test_wrong_maps(kind, words, F):
    with pytest.raises(kind, match=words) as caught:
        reidc.aabs(F)
    assert isinstance(caught.value, reidc.Error)
