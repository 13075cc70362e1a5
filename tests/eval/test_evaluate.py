"""reidc.evaluate on data sets, with a stand-in network whose embedding is known exactly."""
import json

import numpy as np
import pytest

import reidc
from reidc.evaluation import color_histogram, embed_split


class Histogram:
    """Embeds a picture by its colours; has what evaluate needs of a network."""

    height, width, dimension, test_flip = 8, 6, 512, True
    config = {"system": "histogram"}

    def __init__(self):
        self.flips, self.seen = [], 0

    def embed(self, images, *, flip=False, normalize=True):
        self.flips.append(flip)
        self.seen += len(images)
        if images.dtype == np.float32:  # N x 3 x H x W, normalised: mean colour
            assert images.shape[1:] == (3, 8, 6)
            rows = np.zeros((len(images), 512), np.float32)
            rows[:, :3] = images.mean((2, 3))
            return rows
        assert images.dtype == np.uint8
        return color_histogram(images)


def pictures(n=90, seed=0):
    rng = np.random.default_rng(seed)
    pids, camids = np.arange(n) % 10, np.arange(n) // 10 % 3
    base = rng.integers(0, 256, (10, 1, 1, 3))
    images = (base[pids] + rng.integers(-60, 60, (n, 8, 6, 3))).clip(0, 255).astype(np.uint8)
    return images, pids, camids


def dataset(junk=True, cameras=True, ragged=False):
    images, pids, camids = pictures()
    pids = pids.copy()
    if junk:
        pids[70:80] = -1
    splits = np.array(["query"] * 30 + ["gallery"] * 50 + ["train"] * 10)
    if ragged:
        images = [x[:4 + i % 4] for i, x in enumerate(images)]
    return reidc.datasets.Arrays(images, pids, camids if cameras else None, splits=splits)


@pytest.mark.parametrize("cameras", [True, False])
def test_equals_evaluate_rank_on_the_same_embeddings(cameras):
    data = dataset(cameras=cameras)
    result = reidc.evaluate(Histogram(), data)
    images = np.stack([*data.query.images[:], *data.gallery.images[:]])
    rows = color_histogram(images)
    distmat = reidc.compute_distance_matrix(rows[:30], rows[30:])
    cmc, mean_ap = reidc.evaluate_rank(distmat, data.query.pids, data.gallery.pids,
                                       data.query.camids, data.gallery.camids)
    assert result.mAP == mean_ap and 0.2 < mean_ap < 1
    assert (result.cmc[:30] == cmc[:30]).all()
    whole = reidc.evaluate(Histogram(), data, distmat=True)
    assert whole.mAP == mean_ap and (whole.distmat == distmat).all()
    low = reidc.evaluate(Histogram(), data, ap="trapezoid")
    assert low.mAP < mean_ap


def test_junk_is_not_embedded_and_progress_counts():
    network, seen = Histogram(), []
    result = reidc.evaluate(network, dataset(), progress=lambda *x: seen.append(x))
    assert network.seen == 70 and result.gallery == 40 and seen[-1] == (70, 70)
    assert set(network.flips) == {True}
    network = Histogram()
    reidc.evaluate(network, dataset(), flip=False, distmat=True)
    assert network.seen == 80 and set(network.flips) == {False}


def test_pictures_of_different_sizes_and_chunks():
    data = dataset(ragged=True)
    whole = embed_split(Histogram(), data.query)
    parts = embed_split(Histogram(), data.query, chunk=7)
    assert (whole == parts).all() and whole.shape == (30, 512)
    some = embed_split(Histogram(), data.query, indices=[5, 3], chunk=2)
    assert (some == whole[[5, 3]]).all()
    assert embed_split(Histogram(), data.query, indices=[]).shape == (0, 512)
    assert reidc.evaluate(Histogram(), data).mAP > 0.2


def test_provenance(tmp_path):
    result = reidc.evaluate(Histogram(), dataset())
    result.save(tmp_path / "r.json")
    saved = json.loads((tmp_path / "r.json").read_text())
    origin = saved["provenance"]
    assert origin["network"]["config"] == {"system": "histogram"} and origin["flip"] is True
    assert origin["protocol"]["metric"] == "squared euclidean" and origin["reidc"]
    assert "gallery" in origin["dataset"]["text"]


def test_wrong_input_is_refused_before_the_long_part():
    network, data = Histogram(), dataset()
    for error, change in [(ValueError, {"ap": "x"}), (ValueError, {"threads": 0}),
                          (TypeError, {"seed": "x"}), (TypeError, {"dataset": object()}),
                          (TypeError, {"m": object()})]:
        with pytest.raises(error):
            reidc.evaluate(**{"m": network, "dataset": data, **change})
    assert network.seen == 0


def test_nan_embeddings_are_refused():
    class Broken(Histogram):
        def embed(self, images, **more):
            rows = super().embed(images, **more)
            rows[0, 0] = np.nan
            return rows

    with pytest.raises(ValueError, match="row 0 holds NaN"):
        reidc.evaluate(Broken(), dataset())
