"""Recipes as plain data: every key can be set, an unknown one is an error with the nearest."""
import json

import pytest

import reidc
from reidc.recipe import KEYS

OWN = {
    "epochs": 2, "identities": 4, "images": 2, "optimizer": {"lr": 1e-3},
    "schedule": {"kind": "constant"},
}


def test_published_recipes_are_plain_data():
    for name in reidc.recipes.names():
        recipe = reidc.recipes.get(name).check()
        assert json.loads(json.dumps(recipe)) == recipe
        assert reidc.recipes.get(dict(recipe)) == recipe
        assert set(recipe) == set(KEYS)
        m = reidc.build_model(recipe["system"], 3, **recipe["options"]) if "small" in name else None
        assert m is None or m.num_classes == 3
    with pytest.raises(ValueError, match="did you mean 'mbgn-market1501'"):
        reidc.recipes.get("mbgn-market")
    with pytest.raises(ValueError, match="schedule missing"):
        reidc.recipes.get({"epochs": 1, "identities": 2, "images": 2, "optimizer": {"lr": 1}})
    paper = reidc.recipes.get("mbgn-market1501")
    rate = paper.rate()
    assert rate(39) == 2e-4 and rate(40) == pytest.approx(2e-4 * 0.98)
    assert reidc.recipes.get("bot-market1501").rate()(0) == pytest.approx(3.815e-5)


@pytest.mark.parametrize("key, value", [
    ("optimizer.lr", 1e-4), ("optimizer.momentum_reset", "epoch"), ("clip_norm", 5.0),
    ("ema", 0.999), ("validation", 0.1), ("validation", 12), ("validation", True),
    ("freeze", {"layers": ["backbone.*"], "epochs": 5}), ("freeze.layers", ["backbone.*"]),
    ("schedule.warmup.iterations", 2000), ("schedule.warmup", None), ("augment.erase", 0.1),
    ("options.last_stride", 2), ("optimizer.groups", {"backbone.*": {"lr_factor": 0.1}}),
    ("optimizer.groups.backbone.*.lr_factor", 0.1),
])
def test_a_key_is_set(key, value):
    recipe = reidc.recipes.get("bot-market1501").set(key, value)
    assert recipe.flat().get(key, value) == value
    assert json.loads(json.dumps(recipe)) == recipe


def test_what_was_set_is_kept_in_its_place():
    recipe = reidc.recipes.get("bot-market1501")
    recipe.set("optimizer.groups.backbone.*.lr_factor", 0.1).set("freeze.layers", ["backbone.*"])
    recipe.set("freeze.iterations", 1000).check()
    assert recipe["optimizer"]["groups"] == {"backbone.*": {"lr_factor": 0.1}}
    assert recipe["freeze"] == {"layers": ["backbone.*"], "iterations": 1000}
    assert reidc.recipes.get("bot-market1501")["freeze"] is None  # a copy each time


@pytest.mark.parametrize("key, near", [
    ("optimizer.rl", "optimizer.lr"), ("epoch", "epochs"), ("clipnorm", "clip_norm"),
    ("freez", "freeze"), ("freeze.layer", "freeze.layers"), ("optimizer.group", "optimizer.groups"),
    ("optimizer.groups.backbone.*.lr_facto", r"optimizer.groups.backbone.\*.lr_factor"),
    ("schedule.warmup.iteration", "schedule.warmup.iterations"), ("augment.eras", "augment.erase"),
    ("options.last_strid", "options.last_stride"), ("seed.x", "seed"), ("ema.decay", "ema"),
    ("validate", "validation"), ("schedule.milestone", "schedule.milestones"),
])
def test_an_unknown_key_names_the_nearest(key, near):
    with pytest.raises(ValueError, match=f"did you mean '({near})|has no keys"):
        reidc.recipes.get("bot-market1501").set(key, 1).set(key + ".x", 1)


@pytest.mark.parametrize("change, words", [
    ({"epocs": 3}, "no key 'epocs'; did you mean 'epochs'"),
    ({"optimizer": {"lr": 1, "weight_decy": 0}}, "did you mean 'optimizer.weight_decay'"),
    ({"optimizer": {"weight_decay": 0}}, "optimizer.lr: missing"),
    ({"optimizer": {"lr": 1, "momentum": 0.9}}, "optimizer.momentum: does not go with kind 'adam'"),
    ({"optimizer": {"lr": 1, "momentum_reset": "step"}},
     "momentum_reset: expected 'epoch' or None"),
    ({"optimizer": {"lr": 1, "groups": {"a.*": {"lr": 1}}}}, "did you mean 'optimizer.*lr"),
    ({"optimizer": {"lr": 1, "groups": [1]}}, "optimizer.groups: expected a dict"),
    ({"optimizer": 3}, "optimizer: expected a dict"),
    ({"schedule": {"kind": "cosine", "gamma": 1}},
     "schedule.gamma: does not go with kind 'cosine'"),
    ({"schedule": {"kind": "cosine", "etamin": 1}}, "did you mean 'schedule.eta_min'"),
    ({"schedule": {}}, "schedule.kind: expected one of"),
    ({"schedule": {"kind": "constant", "warmup": {"iters": 5, "factor": 0.1}}},
     "did you mean 'schedule.warmup.iterations'"),
    ({"schedule": {"kind": "constant", "warmup": {"factor": 0.1}}},
     "schedule.warmup: expected either epochs or iterations, got neither"),
    ({"schedule": {"kind": "constant", "warmup": {"epochs": 1, "iterations": 5, "factor": 0.1}}},
     "got epochs and iterations"),
    ({"schedule": {"kind": "constant", "warmup": {"epochs": 1}}}, "factor"),
    ({"augment": {"padd": 3}}, "did you mean 'augment.pad'"),
    ({"augment": {"height": 3}}, "no key 'augment.height'"),
    ({"system": "mbgn", "options": {"dropuot": 0.1}}, "did you mean 'options.dropout'"),
    ({"freeze": {"layers": "backbone.*", "epochs": 1}}, "freeze.layers: expected a list"),
    ({"freeze": {"layers": ["backbone.*"]}}, "freeze: expected either epochs or iterations"),
    ({"freeze": {"layers": ["backbone.*"], "epochs": 0}}, "freeze.epochs: expected a number above"),
    ({"freeze": {"layer": ["backbone.*"]}}, "did you mean 'freeze.layers'"),
    ({"ema": 1.0}, "ema: expected a decay from 0 to below 1"),
    ({"ema": True}, "ema: expected a decay"),
    ({"clip_norm": 0}, "clip_norm: expected a finite number above 0"),
    ({"clip_norm": float("nan")}, "clip_norm: expected a finite number"),
    ({"validation": 1.0, "evaluate_every": 1}, "validation: expected a share between 0 and 1"),
    ({"validation": 1, "evaluate_every": 1}, "or a whole number of identities from 2"),
    ({"validation": "val", "evaluate_every": 1}, "validation: expected a share"),
    ({"validation": 0.1}, "validation: needs evaluate_every of 1 or more"),
    ({"seed": True}, "seed: expected a whole number"),
    ({"seed": -1}, r"seed: expected 0 to 2\*\*63 - 1, got -1"),
    ({"seed": 1 << 63}, "seed: expected 0 to"),
    ({"epochs": 0}, "epochs: expected 1 or more, got 0"),
    ({"identities": -2}, "identities: expected 1 or more"),
    ({"images": 0}, "images: expected 1 or more"),
    ({"evaluate_every": -1}, "evaluate_every: expected 0 or more"),
    ({"optimizer": {"lr": -0.1}}, "optimizer.lr: expected a finite number >= 0, got -0.1"),
    ({"optimizer": {"lr": float("nan")}}, "optimizer.lr: expected a finite number"),
    ({"augment": {"pad": -1}}, "augment: pad: .*got -1"),
    ({"augment": {"mirror": "yes"}}, "augment: mirror: expected a number"),
    ({"schedule": {"kind": "multistep", "milestones": 5}}, "milestones: expected numbers, got 5"),
])
def test_recipes_that_mean_nothing(change, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        reidc.recipes.get({**OWN, **change}).check()
    assert isinstance(caught.value, reidc.Error)


def test_neither_a_name_nor_a_recipe():
    for other in (None, 3, ["mbgn-small"]):
        with pytest.raises(TypeError, match="recipe: expected a name or a dict, got"):
            reidc.recipes.get(other)


def test_rate_with_a_warmup_in_iterations_and_in_epochs():
    schedule = {"kind": "multistep", "milestones": [2], "gamma": 0.5}
    by_step = {**schedule, "warmup": {"iterations": 10, "factor": 0.1}}
    rate = reidc.recipes.get({**OWN, "schedule": by_step}).rate()
    assert [rate(e, t) for e, t in ((0, 0), (0, 5), (1, 10), (2, 99))] == pytest.approx(
        [1e-4, 5.5e-4, 1e-3, 5e-4], rel=1e-12)
    by_epoch = {**schedule, "warmup": {"epochs": 2, "factor": 0.5, "kind": "constant"}}
    rate = reidc.recipes.get({**OWN, "schedule": by_epoch}).rate()
    assert [rate(e, 1000 * e) for e in (0, 1.5, 2)] == pytest.approx([5e-4, 5e-4, 5e-4])


def test_kind_of_an_adam_recipe_changed_to_sgd():
    recipe = reidc.recipes.get("mbgn-small").set("optimizer.kind", "sgd")
    recipe.set("optimizer.momentum", 0.9).set("optimizer.nesterov", True).check()
    m = reidc.Baseline(5, 64, 32, backbone="resnet18", width_multiplier=0.125)
    from reidc.trainer import make_optimizer
    assert make_optimizer(m, recipe["optimizer"]).kind == "sgd"
