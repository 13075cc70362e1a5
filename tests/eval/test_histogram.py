"""The colour histogram against np.histogramdd."""
import numpy as np
import pytest

from reidc.evaluation import color_histogram


@pytest.mark.parametrize("shape", [(3, 256, 128), (2, 5, 7), (1, 1, 2), (2, 4, 6)])
@pytest.mark.parametrize("centre", [False, True])
def test_equals_the_definition(shape, centre):
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    got = color_histogram(images, centre)
    width = shape[2]
    part = images[:, :, width // 4:3 * width // 4] if centre else images
    for row, image in zip(got, part):
        count, _ = np.histogramdd(image.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)
        root = np.sqrt(count.ravel())
        np.testing.assert_allclose(row, root / np.linalg.norm(root), rtol=1e-6)
    assert got.dtype == np.float32 and got.shape == (shape[0], 512)
    assert (color_histogram(images, centre, threads=1) == got).all()


def test_wrong_input():
    with pytest.raises(TypeError, match="images"):
        color_histogram(np.zeros((1, 4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="N x H x W x 3"):
        color_histogram(np.zeros((1, 3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="centre half"):
        color_histogram(np.zeros((1, 4, 1, 3), np.uint8), True)
    assert color_histogram(np.zeros((0, 4, 4, 3), np.uint8)).shape == (0, 512)
