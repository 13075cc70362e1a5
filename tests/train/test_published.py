"""The published recipes: each builds its network, optimiser, schedule and augmentation, and its
rates are the numbers on its page."""
import math

import numpy as np
import pytest

import reidc
from reidc import published, recipes
from reidc.trainer import make_optimizer

NAMES = list(published.PUBLISHED)
# (system, data sets) of every page
SETS = {
    "mgaf": ("market1501", "duke", "cuhk03", "cuhk03-detected"),
    "hamr": ("market1501", "duke", "cuhk03", "cuhk03-detected", "msmt17"),
    "mbgn": ("market1501", "duke", "cuhk03"),
    "mfa": ("market1501", "duke", "cuhk03", "msmt17"),
    "fsac": ("market1501", "duke", "cuhk03"),
    "bot": ("market1501", "duke", "cuhk03", "msmt17"),
    "sbs": ("market1501", "duke", "msmt17"),
}


def rates(name, *epochs):
    return [recipes.get(f"{name}-market1501").rate()(e) for e in epochs]


def test_every_paper_and_data_set_has_one():
    assert sorted(NAMES) == sorted(f"{paper}-{data}" for paper, sets in SETS.items()
                                   for data in sets)
    assert set(NAMES) < set(recipes.names())


@pytest.mark.parametrize("paper", list(SETS))
def test_a_recipe_builds_what_it_names(paper):
    """Narrow, since widths are no matter of the recipe; each data set's is the same."""
    r = recipes.get(f"{paper}-{SETS[paper][0]}").check()
    assert all(recipes.get(f"{paper}-{data}") == r for data in SETS[paper])
    narrow = {} if "backbone" in r["options"] else {"width_multiplier": 0.125}
    m = reidc.build_model(r["system"], 4, **{**r["options"], **narrow})
    fresh = reidc.build_model(r["system"], 4, **narrow)
    page = {"sbs": (384, 128)}.get(paper, (fresh.height, fresh.width))
    assert (m.height, m.width) == page
    kind = {"adam": reidc.Adam, "sgd": reidc.SGD}[r["optimizer"]["kind"]]
    optimizer = make_optimizer(m, r["optimizer"])
    assert type(optimizer) is kind and optimizer.lr == r["optimizer"]["lr"]
    augment = reidc.Augment(height=m.height, width=m.width, **r["augment"])
    preset = {"bot": "sb", "sbs": None}.get(paper, paper)
    if preset:  # the presets of `Augment` are the pages', too
        assert augment == reidc.Augment.preset(preset, height=m.height, width=m.width)
    else:
        assert augment == reidc.Augment.preset("fast-reid", height=384, jitter=None)
    for e in range(r["epochs"]):
        assert 0 < r.rate()(e, 5000) <= r["optimizer"]["lr"]


def test_batches_and_lengths():
    found = {paper: [recipes.get(f"{paper}-market1501")[key]
                     for key in ("epochs", "identities", "images", "sampler")] for paper in SETS}
    assert found == {"mgaf": [400, 8, 4, "once"], "hamr": [150, 16, 4, "pk"],
                     "mbgn": [160, 16, 4, "pk"], "mfa": [120, 16, 4, "pk"],
                     "fsac": [120, 16, 4, "pk"], "bot": [120, 16, 4, "pk"],
                     "sbs": [60, 4, 16, "pk"]}


def test_optimisers():
    for name in NAMES:
        settings = recipes.get(name)["optimizer"]
        assert settings["weight_decay"] == 5e-4
        if name.startswith("hamr"):
            assert settings["momentum"] == 0.9 and settings["nesterov"] is True
            assert settings["momentum_reset"] is None
        else:
            second = 0.99 if name.startswith("mgaf") else 0.999
            assert settings["betas"] == [0.9, second] and settings["eps"] == 1e-8


def test_rates_of_mgaf():
    assert rates("mgaf", 0, 319, 320, 369, 370, 399) == pytest.approx(
        [2e-4, 2e-4, 2e-5, 2e-5, 2e-6, 2e-6])


def test_rates_of_hamr():
    """Equation (5), its epochs e from 1 to 150; then the script's, from 0."""
    def equation(e):
        return (3e-4 * e / 10 if e <= 10 else 0.01 if e <= 60 else 0.005 if e <= 90
                else 0.0025 if e <= 120 else 0.00125)

    rate = recipes.get("hamr-msmt17").rate()
    for e in range(1, 151):
        assert rate(e - 1) == pytest.approx(equation(e), rel=1e-12), e
    rate = recipes.get("hamr-duke").set("schedule.form", "linear").rate()
    for e in range(150):
        line = 3e-4 + (0.01 - 3e-4) * e / 10
        steps = 0.01 * 0.5 ** sum(m <= e for m in (60, 90, 120))
        assert rate(e) == pytest.approx(line if e < 10 else steps, rel=1e-12), e


def test_rates_of_mbgn():
    for e in range(160):
        assert rates("mbgn", e)[0] == pytest.approx(2e-4 if e < 40 else 2e-4 * 0.98 ** (e - 39))


@pytest.mark.parametrize("name", ["mfa", "bot"])
def test_rates_of_the_strong_baseline(name):
    """Counted from 1: linear from 0.01 over ten epochs, tenths from 40 and 70."""
    for e in range(1, 121):
        warm = 0.01 * (1 - e / 10) + e / 10 if e < 10 else 1
        expected = 3.5e-4 * warm * 0.1 ** ((e >= 40) + (e >= 70))
        assert rates(name, e - 1)[0] == pytest.approx(expected, rel=1e-12), e
    assert rates(name, 0)[0] == pytest.approx(3.815e-5, rel=1e-12)


def test_rates_of_fsac():
    assert rates("fsac", 0, 39, 40, 69, 70, 119) == pytest.approx(
        [3.5e-4, 3.5e-4, 3.5e-5, 3.5e-5, 3.5e-6, 3.5e-6])


def test_rates_of_sbs():
    """The warm-up counts iterations, the cosine epochs after the thirtieth."""
    rate = recipes.get("sbs-market1501").rate()
    for i in (0, 1, 1000, 1999, 2000, 3000):
        factor = 0.1 * (1 - i / 2000) + i / 2000 if i < 2000 else 1
        assert rate(3, i) == pytest.approx(3.5e-4 * factor, rel=1e-12), i
    for e in (0, 29, 30, 31, 45, 59):
        expected = 3.5e-4 if e < 30 else 7e-7 + (3.5e-4 - 7e-7) * (
            1 + math.cos(math.pi * (e - 30) / 30)) / 2
        assert rate(e, 10_000) == pytest.approx(expected, rel=1e-12), e
    assert recipes.get("sbs-duke")["freeze"] == {"layers": ["backbone.*"], "iterations": 1000}


def test_the_table_has_a_line_for_each(capsys):
    lines = recipes.table().splitlines()
    assert [line.split()[0] for line in lines[2:]] == recipes.names()
    hamr = next(line for line in lines if line.startswith("hamr-cuhk03-detected"))
    assert all(word in hamr for word in ("384×128", "16×4", "sgd", "0.01", "72.5", "77.5"))
    sbs = next(line for line in lines if line.startswith("sbs-msmt17"))
    assert all(word in sbs for word in ("cosine from 30", "2000 steps", "58.4", "81.8"))
    assert published.result("mbgn-duke") is None and published.result("mbgn-small") is None
    assert published.result("mgaf-cuhk03-detected") == (76.30, 78.39)


def test_with_a_new_kind_the_keys_of_the_old_one_go():
    r = recipes.get("hamr-duke").set("optimizer.kind", "adam").set("schedule.kind", "cosine")
    assert set(r["optimizer"]) == {"kind", "lr", "weight_decay", "groups", "momentum_reset"}
    assert r["schedule"] == {"kind": "cosine"}
    assert r.check().rate()(149) < r.rate()(0) == 0.01
    r = recipes.get("bot-duke").set("optimizer.kind", "sgd").set("optimizer.momentum", 0.9)
    assert "betas" not in r["optimizer"] and r.check()
    r = recipes.get("sbs-duke").set("schedule.kind", "cosine").set("optimizer.kind", "adamw")
    assert r["schedule"]["delay"] == 30 and r["optimizer"]["betas"] == [0.9, 0.999]
    r.set("schedule.kind", "multistep").set("schedule.milestones", [20])
    assert r["schedule"]["warmup"]["iterations"] == 2000 and r.check()
    with pytest.raises(ValueError, match="schedule.kind.*multistep"):
        recipes.get("bot-duke").set("schedule.kind", "multi").check()
    with pytest.raises(TypeError, match="milestones"):
        recipes.get("bot-duke").set("schedule.kind", "multistep").check()


def test_the_stronger_baseline_trains(tmp_path):
    """Its backbone stands still while it is frozen, its rate climbs with every step."""
    data = reidc.datasets.Synthetic((8, 4), cameras=3, height=64, width=32)
    r = recipes.get("sbs-market1501")
    for key, value in {"epochs": 2, "images": 4, "freeze.iterations": 3, "schedule.delay": 1,
                       "schedule.warmup.iterations": 8}.items():
        r.set(key, value)
    m = reidc.Baseline(8, **{**r["options"], "height": 64, "width": 32, "width_multiplier": 0.125})
    start, seen = m.state_dict(), []
    own = type(m)

    class Watched(own):
        def train_step(self, images, labels, optimizer, **more):
            parts = own.train_step(self, images, labels, optimizer, **more)
            state = self.state_dict()
            still = all(np.array_equal(v, start[k]) for k, v in state.items()
                        if k.startswith("backbone."))
            seen.append((optimizer.lr, still, parts["total"]))
            return parts

    m.__class__ = Watched
    reidc.Trainer(m, data, r, tmp_path, log=lambda line: None).fit()
    assert [still for _, still, _ in seen] == [True] * 3 + [False] * (len(seen) - 3)
    assert [lr for lr, _, _ in seen[:4]] == pytest.approx(
        [3.5e-4 * (0.1 * (1 - i / 8) + i / 8) for i in range(4)])
    assert all(np.isfinite(total) for _, _, total in seen) and len(seen) > 4
    assert m.parameters()["gem.p"] != 3
