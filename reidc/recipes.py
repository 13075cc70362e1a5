"""Training recipes as plain data: `reidc.recipes.get("mbgn-market1501")`, overridable key by key.

A recipe is a nested dict that prints as a table. `recipe.set("optimizer.lr", 1e-4)` changes a key;
an unknown one is an error that names the nearest (reidc/recipe.py knows the keys). Where each
number comes from: the recipe section of the system's page, `spec/common.md` for the rest.
"""
import copy

from reidc._core import ArgumentError
from reidc.recipe import DEFAULTS, OPTIMIZER_DEFAULTS, Recipe, nearest

# per_step: the schedule's epoch counts on within an epoch (False: one rate an epoch, as published).
# evaluate_every: test after so many epochs and after the last; 0: never.
_ADAM = {"kind": "adam", "lr": 3.5e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 5e-4,
         "groups": None}

RECIPES = {
    # Tu, Guan, Kuang 2022, with the MGN code's settings where the paper is silent.
    "mbgn-market1501": {
        "system": "mbgn", "options": {"height": 384, "width": 128},
        "epochs": 160, "identities": 16, "images": 4, "sampler": "pk", "seed": 0,
        "optimizer": {**_ADAM, "lr": 2e-4},
        "schedule": {"kind": "exponential", "gamma": 0.98, "hold": 40},
        "augment": {"pad": 0, "erasing": "zero"},
        "per_step": False, "evaluate_every": 0,
    },
    # Ours: from fresh weights on a few thousand small pictures, in minutes. Found by trying:
    # attention after the last stage only (with it after all four a network this narrow reached
    # a quarter of the mAP in the same time, however the rate was set), twice as many steps of
    # half the batch, a high rate with a short warm-up that counts in steps, little decay.
    "mbgn-small": {
        "system": "mbgn",
        "options": {"height": 96, "width": 32, "backbone": "resnet18", "width_multiplier": 0.25,
                    "num_attention": 1, "dropout": 0.2},
        "epochs": 36, "identities": 8, "images": 4, "sampler": "pk", "seed": 0,
        "optimizer": {**_ADAM, "lr": 4e-3, "weight_decay": 1e-4},
        "schedule": {"kind": "cosine", "eta_min": 1e-5,
                     "warmup": {"epochs": 0.5, "factor": 0.05}},
        "augment": {"pad": 4, "erasing": "zero", "erase": 0.3},
        "per_step": True, "evaluate_every": 6,
    },
    # Luo et al. 2019, "bag of tricks".
    "bot-market1501": {
        "system": "baseline", "options": {"height": 256, "width": 128},
        "epochs": 120, "identities": 16, "images": 4, "sampler": "pk", "seed": 0,
        "optimizer": dict(_ADAM),
        "schedule": {"kind": "strong_baseline", "milestones": [40, 70], "gamma": 0.1,
                     "epochs": 10, "factor": 0.01},
        "augment": {"pad": 10, "erasing": "sb"},
        "per_step": False, "evaluate_every": 0,
    },
}


def names():
    """The names that `get` knows."""
    return list(RECIPES)


def get(name):
    """A fresh copy of a recipe, with every key it may leave out. ValueError: unknown name (the
    nearest is named)."""
    if not isinstance(name, dict) and name not in RECIPES:
        raise ArgumentError(f"recipe: no {name!r}; did you mean {nearest(name, RECIPES)!r}? "
                            f"There are {', '.join(RECIPES)}")
    given = dict(name) if isinstance(name, dict) else RECIPES[name]
    missing = [key for key in ("epochs", "identities", "images", "optimizer", "schedule")
               if key not in given]
    if missing:
        raise ArgumentError(f"recipe: {', '.join(missing)} missing")
    recipe = Recipe(copy.deepcopy({**DEFAULTS, **given}))
    if isinstance(recipe["optimizer"], dict):
        recipe["optimizer"] = {**OPTIMIZER_DEFAULTS, **recipe["optimizer"]}
    return recipe
