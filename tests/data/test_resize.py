"""Resize equal to Pillow byte by byte, normalisation equal to the definition bit by bit."""
import numpy as np
import pytest

from reidc import _core

Image = pytest.importorskip("PIL.Image")
PILLOW = int(pytest.importorskip("PIL").__version__.split(".")[0])
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(rng, h, w):
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    if kind == 1:  # extremes: bicubic overshoots and must clip
        return (rng.integers(0, 2, (h, w, 3)) * 255).astype(np.uint8)
    ramp = np.linspace(0, 255, h * w * 3).reshape(h, w, 3)
    return ramp.astype(np.uint8)


def pillow_resize(image, h, w, interpolation):
    return np.asarray(Image.fromarray(image).resize((w, h), FILTERS[interpolation]))


def check(image, h, w, interpolation, threads=1):
    ours = _core._image_resize(image, h, w, interpolation, threads)
    theirs = pillow_resize(image, h, w, interpolation)
    assert ours.dtype == np.uint8 and ours.shape == (h, w, 3)
    assert np.array_equal(ours, theirs), (image.shape, (h, w), interpolation)


pillow13 = pytest.mark.skipif(PILLOW < 13, reason="the order of passes is Pillow 13's")


@pillow13
@pytest.mark.parametrize("interpolation", FILTERS)
def test_equals_pillow_at_random_sizes(interpolation):
    rng = np.random.default_rng(1)
    for _ in range(250):
        h, w, oh, ow = rng.integers(1, 90, 4)
        check(picture(rng, h, w), int(oh), int(ow), interpolation)


@pillow13
@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 3), (128, 64), (160, 60), (400, 150),
                                  (256, 128), (256, 64), (128, 128), (1, 5000), (5000, 1),
                                  (1500, 2), (3, 1700), (431, 161)])
def test_equals_pillow_at_chosen_sizes(size, interpolation):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    for oh, ow in [(256, 128), (384, 128), (128, 64), (1, 1), (1, 300), (300, 1), (5, 3),
                   (288, 144), size]:
        check(image, oh, ow, interpolation)


@pillow13
def test_order_of_the_passes_at_the_switch_point():
    """Vertical first exactly when H_in - H_out > 2 max(0, W_in - W_out)."""
    rng = np.random.default_rng(3)
    differing = 0
    for dw in (-5, 0, 1, 4, 9):
        for dh in (2 * max(0, dw) - 1, 2 * max(0, dw), 2 * max(0, dw) + 1, 2 * max(0, dw) + 20):
            image = rng.integers(0, 256, (60 + dh, 60 + dw, 3), dtype=np.uint8)
            check(image, 60, 60, "bilinear")
            one = _core._image_resize(_core._image_resize(image, 60 + dh, 60), 60, 60)
            two = _core._image_resize(_core._image_resize(image, 60, 60 + dw), 60, 60)
            differing += not np.array_equal(one, two)
    assert differing > 5  # otherwise the orders cannot be told apart


@pytest.mark.parametrize("size", [(128, 64), (400, 150), (37, 211), (256, 128)])
def test_same_bytes_for_any_number_of_threads(size):
    image = np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8)
    one = _core._image_resize(image, 256, 128)
    for threads in (2, 7):
        assert np.array_equal(one, _core._image_resize(image, 256, 128, threads=threads))


def normalised(batch, mean=MEAN, std=STD):
    x = batch.astype(np.float32) / np.float32(255)
    return (x - np.float32(mean)) / np.float32(std)


@pillow13
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("size", [(128, 64), (400, 150), (256, 128), (256, 60), (90, 128), (1, 1)])
def test_images_to_input(size, threads):
    images = np.random.default_rng(5).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    resized = np.stack([pillow_resize(i, 256, 128, "bilinear") for i in images])
    want = normalised(resized)
    got = _core._images_to_input(images, 256, 128, threads=threads)
    assert got.dtype == np.float32 and got.flags.c_contiguous
    assert np.array_equal(got, want)
    mirrored = _core._images_to_input(images, 256, 128, mirror=True, threads=threads)
    assert np.array_equal(mirrored, want[:, :, ::-1])
    nchw = _core._images_to_input(images, 256, 128, nchw=True, mirror=True, threads=threads)
    assert np.array_equal(nchw, want[:, :, ::-1].transpose(0, 3, 1, 2))


@pillow13
def test_images_of_different_sizes_views_and_other_rules():
    rng = np.random.default_rng(6)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
              for h, w in [(128, 64), (400, 150), (128, 64), (33, 77), (160, 60)]]
    images.append(images[1][10:300:2, ::-1])  # not contiguous
    mean, std = (0.5, 0.25, 0.125), (0.5, 2.0, 1.5)
    want = normalised(np.stack([pillow_resize(np.ascontiguousarray(i), 96, 48, "bicubic")
                                for i in images]), mean, std)
    for threads in (1, 2, 7):
        got = _core._images_to_input(images, 96, 48, "bicubic", False, False, mean, std, threads)
        assert np.array_equal(got, want)


def test_floats_to_input():
    x = np.random.default_rng(7).standard_normal((3, 3, 70, 33)).astype(np.float32)
    x[0, 0, 0, 0] = -np.finfo(np.float32).max
    for threads in (1, 2, 7):
        y = _core._floats_to_input(x, threads=threads)
        assert np.array_equal(y, x.transpose(0, 2, 3, 1))
        y = _core._floats_to_input(x, mirror=True, threads=threads)
        assert np.array_equal(y, x.transpose(0, 2, 3, 1)[:, :, ::-1])


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(1, 0, 0, 0), (1, 2, 69, 32), (1, 1, 40, 17)])
def test_floats_that_are_not_finite_are_refused(value, place):
    x = np.zeros((3, 3, 70, 33), np.float32)
    x[place] = value
    with pytest.raises(ValueError, match="image 1 has a value that is NaN"):
        _core._floats_to_input(x, threads=2)


def test_empty_batch_and_wrong_inputs():
    assert _core._images_to_input(np.zeros((0, 9, 9, 3), np.uint8), 256, 128).shape == (
        0, 256, 128, 3)
    assert _core._images_to_input([], 256, 128, nchw=True).shape == (0, 3, 256, 128)
    good = np.zeros((2, 9, 8, 3), np.uint8)
    for images, error, word in [
            (good.astype(np.int32), TypeError, "uint8"),
            (good.astype(np.float64), TypeError, "uint8"),
            (good[0], ValueError, "dimensions"),
            (good.transpose(0, 3, 1, 2), ValueError, "3 x H x W"),
            (np.zeros((2, 9, 8, 4), np.uint8), ValueError, "last dimension"),
            (np.zeros((2, 0, 8, 3), np.uint8), ValueError, "between 1"),
            ([good[0], good], ValueError, r"images\[1\]"),
            ([good[0], None], TypeError, r"images\[1\]"),
            (7, TypeError, "images")]:
        with pytest.raises(error, match=word):
            _core._images_to_input(images, 256, 128)
    for h, w in [(0, 128), (256, -1), (256, 1 << 40)]:
        with pytest.raises((ValueError, MemoryError)):
            _core._images_to_input(good, h, w)
    with pytest.raises(ValueError, match="bilinear"):
        _core._images_to_input(good, 256, 128, "nearest")
    with pytest.raises(ValueError, match="std"):
        _core._images_to_input(good, 256, 128, std=(0.1, 0.0, 1.0))


@pytest.mark.parametrize("mixed", [False, True])
def test_memory_that_runs_out_leaves_nothing_behind(mixed):
    images = [np.zeros((40 + i * mixed, 30, 3), np.uint8) for i in range(4)]
    before = _core._memory_live()
    failures = 0
    for n in range(1, 60):
        _core._memory_fail_after(n)
        try:
            _core._images_to_input(images if mixed else np.stack(images), 20, 10)
        except MemoryError:
            failures += 1
        finally:
            _core._memory_fail_after(-1)
        assert _core._memory_live() == before
    assert 5 < failures < 59
