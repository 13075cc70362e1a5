"""Split, labels, export (page, 10.2) and identities' attributes (10.3)."""
import csv
import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from reidc.synthetic import Synthetic

COUNTS = {"tiny": (565, 140, 572), "small": (4307, 506, 2126), "market": (13230, 3285, 14108)}


@pytest.mark.parametrize("size", COUNTS)
def test_counts_are_pinned(size):
    data = Synthetic(size)
    assert (len(data.train), len(data.query), len(data.gallery)) == COUNTS[size]
    known = (data.gallery.pids > 0).sum()
    assert (data.gallery.pids == 0).sum() == math.floor(0.17 * known + 0.5)
    assert (data.gallery.pids == -1).sum() == math.floor(0.24 * known + 0.5)


def test_train_and_test_people_are_disjoint_and_every_query_has_a_match():
    data = Synthetic("market", seed=5)
    train, query, gallery = data.train, data.query, data.gallery
    assert not set(train.pids) & set(query.pids)
    assert len(set(train.pids)) == 751 and len(set(query.pids)) == 750
    assert set(train.pids) | set(query.pids) == set(range(1, 1502))
    cameras = {}
    for pid, camera in zip(gallery.pids.tolist(), gallery.camids.tolist()):
        cameras.setdefault(pid, set()).add(camera)
    for pid, camera in zip(query.pids.tolist(), query.camids.tolist()):
        assert cameras[pid] - {camera}
    assert (query.rows[:, 2] == 0).all()
    for split in (train, query, gallery):
        assert split.pids.dtype == split.camids.dtype == split.rows.dtype == np.int64
        assert np.array_equal(split.camids, split.rows[:, 1])
        assert len(np.unique(split.rows, axis=0)) == len(split)
        people = split.pids > 0
        assert np.array_equal(split.pids[people], split.rows[people, 0])
    assert 15 < len(train) / 751 < 19


def test_images_are_indexed_like_an_array():
    data = Synthetic("tiny")
    images, all_of_it = data.query.images, data.render(data.query.rows)
    assert len(images) == len(data.query) and images.shape == all_of_it.shape
    assert images[3].shape == (128, 64, 3) and images[3].dtype == np.uint8
    assert np.array_equal(images[3], all_of_it[3])
    assert np.array_equal(images[-1], all_of_it[-1])
    assert np.array_equal(images[np.int64(2)], all_of_it[2])
    assert np.array_equal(images[5:9], all_of_it[5:9])
    assert np.array_equal(images[[7, 2, 7]], all_of_it[[7, 2, 7]])
    few = np.zeros(len(images), bool)
    few[[1, 4]] = True
    assert np.array_equal(images[few], all_of_it[few])
    assert np.array_equal(data.query.batch([4, 0], threads=2), all_of_it[[4, 0]])
    assert images[[]].shape == data.query.batch([]).shape == (0, 128, 64, 3)
    with pytest.raises(IndexError):
        images[len(images)]


def test_presets_set_level_and_twins():
    data = Synthetic("tiny", level="hard")
    assert (data.level, data.twins) == (1.0, 0.8)
    same = Synthetic("tiny", level=1.0, twins=0.8)
    assert np.array_equal(data.train.images[:3], same.train.images[:3])


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_export_reads_back(tmp_path, kind):
    image = pytest.importorskip("PIL.Image")
    data = Synthetic((3, 4), seed=2, height=64, width=32)
    total = len(data.train) + len(data.query) + len(data.gallery)
    assert data.export(tmp_path / "set", format=kind) == total
    with open(tmp_path / "set" / "labels.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    files = {str(p.relative_to(tmp_path / "set").as_posix())
             for p in (tmp_path / "set").rglob("*.*")} - {"labels.csv"}
    assert files == {line["path"] for line in lines} and len(lines) == total
    at = 0
    for split in (data.train, data.query, data.gallery):
        for i, line in enumerate(lines[at:at + len(split)]):
            pid, camera = int(split.pids[i]), int(split.camids[i])
            assert (line["split"], int(line["pid"]), int(line["camid"])) == (split.name, pid,
                                                                             camera)
            name = line["path"].split("/")[1]
            assert name.startswith(f"{pid:04d}_c{camera + 1}s1_" if pid >= 0
                                   else f"-1_c{camera + 1}s1_")
            with image.open(tmp_path / "set" / line["path"]) as picture:
                pixels = np.asarray(picture)
            truth = split.images[i]
            if kind == "png":
                assert np.array_equal(pixels, truth)
            else:
                assert np.abs(pixels.astype(int) - truth).mean() < 3
            assert 0 <= float(line["visible"]) <= 1
            if pid > 0:
                assert line["upper"] == data.attributes(pid)["upper"]
        at += len(split)
    with pytest.raises(ValueError, match="empty"):
        data.export(tmp_path / "set", format=kind)


# ---- attributes ---------------------------------------------------------------------------

COLOURS = ("black charcoal grey light_grey white navy blue sky red wine orange yellow green olive "
           "khaki brown purple teal denim pink").replace("_", "\0").split()
COLOURS = [name.replace("\0", " ") for name in COLOURS]
U = (18, 7, 9, 5, 14, 7, 6, 4, 6, 3, 2, 3, 3, 3, 2, 2, 2, 2, 2, 4)
L = (26, 9, 7, 2, 4, 9, 5, 1, 1, 1, 0, 0, 1, 4, 7, 4, 0, 0, 18, 1)
A = (30, 8, 8, 0, 4, 8, 6, 0, 8, 3, 3, 3, 3, 4, 4, 8, 3, 2, 0, 4)
TABLE = {
    "sex": {"female": 45, "male": 55},
    "upper": {"tee": 26, "long sleeve": 22, "jacket": 18, "hoodie": 12, "coat": 8, "dress": 7,
              "tank": 7},
    "lower": {"trousers": 58, "shorts": 20, "skirt": 14, "wide trousers": 8},
    "pattern": {"plain": 38, "horizontal stripes": 13, "print": 11, "check": 9, "block": 8,
                "band": 8, "camouflage": 5, "vertical stripes": 4, "dots": 4},
    "skin": {"very light": 25, "light": 33, "medium": 22, "brown": 12, "dark": 8},
    "hair_color": {"black": 45, "dark brown": 27, "brown": 14, "blond": 8, "grey": 6},
    "hat": {"none": 82, "cap": 12, "beanie": 6},
    "bag": {"none": 36, "backpack": 30, "shoulder": 18, "hand": 16},
    "bag_side": {"left": 50, "right": 50},
    "boots": {True: 12, False: 88},
    "sleeve_stripe": {True: 12, False: 88},
    "trouser_stripe": {True: 12, False: 88},
    "bag_two_coloured": {True: 30, False: 70},
    "upper_color": dict(zip(COLOURS, U)),
    "second_color": dict(zip(COLOURS, U)),
    "inner_color": dict(zip(COLOURS, U)),
    "shoes_color": dict(zip(COLOURS, A)),
    "hat_color": dict(zip(COLOURS, A)),
    "bag_color": dict(zip(COLOURS, A)),
}


def within_4_deviations(values, weights):
    n, total, seen = len(values), sum(weights.values()), Counter(values)
    assert set(seen) <= set(weights), set(seen) - set(weights)
    for name, weight in weights.items():
        p = weight / total
        assert abs(seen[name] - n * p) <= 4 * math.sqrt(n * p * (1 - p)), (name, seen[name], n * p)


def test_attributes_follow_the_table():
    people = [Synthetic("tiny", twins=0).attributes(pid) for pid in range(1, 2001)]
    for name, weights in TABLE.items():
        within_4_deviations([p[name] for p in people], weights)
    within_4_deviations([p["lower_color"] for p in people if p["upper"] != "dress"],
                        dict(zip(COLOURS, L)))
    assert all(p["lower_rgb"] == p["upper_rgb"] for p in people if p["upper"] == "dress")
    women = [p["hair"] for p in people if p["sex"] == "female"]
    within_4_deviations(women, {"long": 40, "pony": 25, "short": 23, "bun": 12})
    men = [p["hair"] for p in people if p["sex"] == "male"]
    within_4_deviations(men, {"short": 70, "crop": 20, "bald": 7, "long": 3})
    dresses = [p["sleeve"] for p in people if p["upper"] == "dress"]
    within_4_deviations(dresses, {"none": 1, "half": 1, "long": 1})
    prints = [p for p in people if p["pattern"] == "print"]
    assert all(p["logo"] != "none" for p in prints)
    rest = [p["logo"] != "none" for p in people if p["pattern"] != "print"]
    within_4_deviations(rest, {True: 40, False: 60})
    for name, mean, deviation in (("head", 0.066, 0.003),):
        values = np.array([p[name] for p in people])
        assert abs(values.mean() - mean) < 4 * deviation / math.sqrt(len(values))
        assert abs(values.std() / deviation - 1) < 0.1


SHARED = ("sex", "upper", "lower", "upper_rgb", "lower_rgb")


def shared_pairs(twins, seed=0):
    data = Synthetic("tiny", twins=twins, seed=seed)
    pairs, same = 0, 0
    for family in range(1, 2001):
        people = [data.attributes(4 * family + i) for i in range(4)]
        for a, b in combinations(people, 2):
            pairs += 1
            same += all(a[name] == b[name] for name in SHARED)
    return same / pairs


def test_families_share_garments_and_colours():
    assert shared_pairs(0.0) == 0  # chance: colours are varied, so never exactly
    assert abs(shared_pairs(0.5) - 0.25) < 0.02
    assert shared_pairs(1.0) == 1
    people = [Synthetic("tiny", twins=1.0).attributes(pid) for pid in (8, 9, 10, 11)]
    assert len({p["shoulder"] for p in people}) == 4  # the rest stays everybody's own


def test_occluded_queries_have_something_in_front():
    plain, occluded = Synthetic("small", level=0.0), Synthetic("small", level=0.0, occluded=True)
    rows = plain.query.rows[::4]  # at level 0 nothing else stands in front of anybody
    assert np.array_equal(plain.query.rows, occluded.query.rows)
    a, b = plain.render(rows, threads=2), occluded.render(rows, threads=2)
    assert all((x != y).mean() > 0.02 for x, y in zip(a, b))
    before, after = plain.visible(rows, threads=2), occluded.visible(rows, threads=2)
    assert (after <= before + 1e-9).all() and after.mean() < 0.95 * before.mean()
    normal = Synthetic("small", occluded=True)
    others = normal.gallery.rows[:20]
    assert np.array_equal(Synthetic("small").render(others), normal.render(others))
