"""What a recipe adds to the plain loop: frozen layers, clipping, a warm-up counted in iterations,
momentum that starts anew; each the same as a loop by hand, and going on to the same bits."""
import json

import numpy as np
import pytest
from runs import RECIPE, bits, losses, network, stop_at

import reidc
from reidc.trainer import Trainer

SGD = {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
RULES = {
    "freeze": {"layers": ["backbone.layer1.*", "backbone.bn1.*"], "iterations": 4},
    "clip_norm": 2.0,
    "optimizer": {**SGD, "momentum_reset": "epoch"},
    "schedule": {"kind": "constant", "warmup": {"iterations": 5, "factor": 0.1}},
    "per_step": False,
}


@pytest.fixture(scope="module")
def data():
    return reidc.datasets.Synthetic((12, 6), cameras=3, height=96, width=32)


def trainer(data, folder, recipe, **options):
    return Trainer(network(**options), data, recipe, folder, log=lambda line: None)


def by_hand(data, recipe, epochs=2):
    """The same training as a plain loop over a Loader."""
    m = network()
    augment = reidc.Augment(height=96, width=32, **recipe["augment"])
    loader = reidc.Loader(data.train, 4, 2, augment, recipe["seed"], once=True)
    o = reidc.SGD(m, 0.05, 0.9, True, 1e-3, clip_norm=recipe.get("clip_norm"))
    t = 0
    for _ in range(epochs):
        if recipe["optimizer"].get("momentum_reset"):
            o.reset()
        for images, labels in loader:
            m.freeze(recipe["freeze"]["layers"] if t < 4 else [])
            o.lr = 0.05 * (0.1 * (1 - t / 5) + t / 5 if t < 5 else 1)
            m.train_step(images, labels, o)
            t += 1
    return m.state_dict()


def test_all_rules_are_the_loop_by_hand(data, tmp_path):
    recipe = {**RECIPE, **RULES}
    t = trainer(data, tmp_path, recipe)
    t.fit()
    wanted = by_hand(data, recipe)
    assert all(np.array_equal(v, wanted[k]) for k, v in t.model.state_dict().items())
    assert t.iteration == 6 and t.model.frozen == ()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(row["gradient_norm"] > 0 for row in rows)
    assert [row["lr"] for row in rows] == pytest.approx([0.05 * (0.1 * 0.6 + 0.4), 0.05])


@pytest.mark.parametrize("when, raising",
                         [(2, "before"), (3, "after"), (4, "after"), (5, "before")])
def test_stopped_runs_go_on_to_the_same_bits(data, tmp_path, when, raising):
    recipe = {**RECIPE, **RULES}
    whole = trainer(data, tmp_path / "whole", recipe)
    whole.fit()
    stop_at(trainer(data, tmp_path / "run", recipe), when, raising)
    again = trainer(data, tmp_path / "run", recipe, threads=1)
    again.fit(resume=True)
    assert bits(again) == bits(whole) and losses(again) == losses(whole)


def test_freezing_by_epochs(data, tmp_path):
    recipe = {**RECIPE, "freeze": {"layers": ["backbone.*"], "epochs": 1}}
    t = trainer(data, tmp_path, recipe)
    start = t.model.state_dict()
    t.fit(1)
    now = t.model.state_dict()
    assert all(np.array_equal(v, start[k]) for k, v in now.items() if k.startswith("backbone."))
    t.fit(2)
    end = t.model.state_dict()
    assert not np.array_equal(end["backbone.conv1.weight"], start["backbone.conv1.weight"])


def test_momentum_reset_changes_the_second_epoch_only(data, tmp_path):
    runs = {}
    for name, reset in (("kept", None), ("reset", "epoch")):
        recipe = {**RECIPE, "optimizer": {**SGD, "momentum_reset": reset}}
        t = trainer(data, tmp_path / name, recipe)
        t.fit(1)
        first = t.model.state_dict()
        t.fit(2)
        runs[name] = first, t.model.state_dict()
    name = "backbone.conv1.weight"
    assert np.array_equal(runs["kept"][0][name], runs["reset"][0][name])
    assert not np.array_equal(runs["kept"][1][name], runs["reset"][1][name])


def test_own_freezing_is_left_alone_and_wrong_patterns_are_refused(data, tmp_path):
    m = network()
    m.freeze(["backbone.*"])
    t = Trainer(m, data, RECIPE, tmp_path, log=lambda line: None)
    before = m.state_dict()
    t.fit(1)
    assert m.frozen and np.array_equal(m.state_dict()["backbone.conv1.weight"],
                                       before["backbone.conv1.weight"])
    with pytest.raises(ValueError, match="'bone.*'".replace("*", r"\*")):
        trainer(data, tmp_path, {**RECIPE, "freeze": {"layers": ["bone.*"], "epochs": 1}})


def test_the_average_is_tested_and_kept(data, tmp_path):
    recipe = {**RECIPE, **RULES, "ema": 0.8, "evaluate_every": 1}
    whole = trainer(data, tmp_path / "whole", recipe)
    whole.fit()
    average, own = whole.ema.state_dict()["state"], whole.model.state_dict()
    kept = reidc.load(whole.checkpoint).state_dict()
    assert all(np.array_equal(v, average[k]) for k, v in kept.items())
    name = "backbone.conv1.weight"
    assert not np.array_equal(average[name], own[name]) and whole.ema.updates == whole.iteration
    wanted = reidc.evaluate(reidc.load(whole.checkpoint), data).mAP
    assert whole.history[-1]["mAP"] == whole.test().mAP == wanted
    assert np.array_equal(whole.model.state_dict()[name], own[name])
    for when, raising in ((2, "before"), (4, "after")):
        folder = tmp_path / f"{when}"
        stop_at(trainer(data, folder, recipe), when, raising)
        again = trainer(data, folder, recipe, threads=1)
        again.fit(resume=True)
        assert bits(again) == bits(whole) and losses(again) == losses(whole)
