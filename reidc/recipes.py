"""Training recipes as plain data: `reidc.recipes.get("mbgn-market1501")`, overridable key by key.

A recipe is a nested dict that prints as a table. `recipe.set("optimizer.lr", 1e-4)` changes a key
that is there; an unknown key is an error that names the nearest one. Where each number comes
from: the recipe section of the system's page, `spec/common.md` for the rest.
"""
import copy
import difflib

from reidc import schedules
from reidc._core import ArgumentError, ArgumentTypeError

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


_LEFT_OUT = {"options": {}, "sampler": "pk", "seed": 0, "augment": {}, "per_step": False,
             "evaluate_every": 0}  # what a recipe of one's own need not say


class Recipe(dict):
    """A recipe; `str()` is a table, `set("a.b", value)` changes one key."""

    def set(self, key, value):
        """Change a key, named with dots. ValueError: there is no such key (the nearest is named);
        `options.*` and `augment.*` take any key, which the network or `Augment` then checks."""
        *path, last = str(key).split(".")
        place = self
        for i, part in enumerate([*path, last]):
            known = isinstance(place, dict) and part in place
            if i == len(path):
                if not known and not (path and path[-1] in ("options", "augment", "schedule")):
                    raise ArgumentError(self._unknown(key))
                place[last] = value
            elif not known:
                raise ArgumentError(self._unknown(key))
            else:
                place = place[part]
        return self

    def _unknown(self, key):
        near = difflib.get_close_matches(str(key), list(self.flat()), 1, 0)
        return f"recipe: no key {key!r}; did you mean {near[0]!r}?"

    def flat(self):
        """{dotted key: value}."""
        def walk(prefix, value):
            if isinstance(value, dict) and value:
                for name, inner in value.items():
                    yield from walk(f"{prefix}.{name}" if prefix else name, inner)
            else:
                yield prefix, value
        return dict(walk("", dict(self)))

    def check(self):
        """The recipe itself. ValueError or TypeError that names a key which is missing or has a
        value that means nothing."""
        for key in ("epochs", "identities", "images", "seed", "evaluate_every"):
            value = self[key]
            if isinstance(value, bool) or not isinstance(value, int):
                raise ArgumentTypeError(f"{key}: expected a whole number, got {value!r}")
        for place, key, known in ((self, "sampler", ("pk", "once", "balanced")),
                                  (self["optimizer"], "kind", ("adam", "adamw", "sgd"))):
            if place[key] not in known:
                raise ArgumentError(f"{key}: expected {', '.join(known)}, got {place[key]!r}")
        self.rate()(0)
        return self

    def rate(self):
        """The learning rate as a function of the epoch."""
        rule = dict(self["schedule"])
        kind, base, warm = rule.pop("kind"), self["optimizer"]["lr"], rule.pop("warmup", None)
        makers = ("constant", "multistep", "exponential", "cosine", "strong_baseline", "hamr")
        if kind not in makers:
            raise ArgumentError(f"schedule.kind: expected one of {', '.join(makers)}, got {kind!r}")
        if kind == "cosine":
            rule.setdefault("epochs", self["epochs"])
        try:
            rate = getattr(schedules, kind)(base, **rule)
            return schedules.warmup(rate, **warm) if warm else rate
        except TypeError as error:
            raise ArgumentTypeError(f"schedule: {error}") from None

    def __str__(self):
        flat = self.flat()
        width = max(map(len, flat))
        return "\n".join(f"{key:<{width}}  {value}" for key, value in flat.items())


def names():
    """The names that `get` knows."""
    return list(RECIPES)


def get(name):
    """A fresh copy of a recipe. ValueError: unknown name (the nearest is named)."""
    if isinstance(name, dict):
        recipe = Recipe({**copy.deepcopy(_LEFT_OUT), **copy.deepcopy(dict(name))})
        missing = [key for key in ("epochs", "identities", "images", "optimizer", "schedule")
                   if key not in recipe]
        if missing:
            raise ArgumentError(f"recipe: {', '.join(missing)} missing")
        recipe["optimizer"] = {"kind": "adam", **recipe["optimizer"]}
        return recipe
    if name not in RECIPES:
        near = difflib.get_close_matches(str(name), RECIPES, 1, 0)
        raise ArgumentError(f"recipe: no {name!r}; did you mean {near[0]!r}? "
                            f"There are {', '.join(RECIPES)}")
    return Recipe(copy.deepcopy(RECIPES[name]))
