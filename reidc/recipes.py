"""Training recipes as plain data: `reidc.recipes.get("mbgn-market1501")`, overridable key by key.

A recipe is a nested dict that prints as a table. `recipe.set("optimizer.lr", 1e-4)` changes a key;
an unknown one is an error that names the nearest (reidc/recipe.py knows the keys). The published
ones are in reidc/published.py, our own in reidc/small.py.
"""
import copy

from reidc._core import ArgumentError, ArgumentTypeError
from reidc.published import PUBLISHED, result
from reidc.recipe import DEFAULTS, OPTIMIZER_DEFAULTS, Recipe, nearest
from reidc.small import SMALL

RECIPES = {
    **PUBLISHED,
    **SMALL,
}


def names():
    """The names that `get` knows."""
    return list(RECIPES)


def get(name):
    """A fresh copy of a recipe, with every key it may leave out. ValueError: unknown name (the
    nearest is named)."""
    if not isinstance(name, (dict, str)):
        raise ArgumentTypeError(f"recipe: expected a name or a dict, got {type(name).__name__}")
    if not isinstance(name, dict) and name not in RECIPES:
        raise ArgumentError(f"recipe: no {name!r}; did you mean {nearest(name, RECIPES)!r}? "
                            "(`reidc info --recipes` lists them)")
    given = dict(name) if isinstance(name, dict) else RECIPES[name]
    missing = [key for key in ("epochs", "identities", "images", "optimizer", "schedule")
               if key not in given]
    if missing:
        raise ArgumentError(f"recipe: {', '.join(missing)} missing")
    recipe = Recipe(copy.deepcopy({**given, **{k: v for k, v in DEFAULTS.items()
                                               if k not in given}}))
    if isinstance(recipe["optimizer"], dict):
        recipe["optimizer"] = {**OPTIMIZER_DEFAULTS, **recipe["optimizer"]}
    return recipe


# ---- the list ---------------------------------------------------------------------------------


def _schedule_words(rule):
    """'×0.1 at 40, 70; warm-up 10'."""
    kind, factor = rule["kind"], f"×{rule.get('gamma', 0.1):g}"
    if "milestones" in rule:
        words = [f"{factor} at {', '.join(map(str, rule['milestones']))}"]
    elif kind == "exponential":
        words = [f"{factor} an epoch from {rule.get('hold', 0)}"]
    elif kind == "cosine":
        delay = f" from {rule['delay']}" if rule.get("delay") else ""
        words = [f"cosine{delay} to {rule.get('eta_min', 0):g}"]
    else:
        words = [kind]
    warm = rule.get("warmup") or {}
    length = warm.get("epochs", rule.get("epochs") if kind in ("strong_baseline", "hamr") else None)
    if length:
        words.append(f"warm-up {length:g}")
    elif warm.get("iterations"):
        words.append(f"warm-up {warm['iterations']} steps")
    return "; ".join(words)


def table():
    """Every recipe in a line: network, input, batch (identities × images), epochs, optimiser,
    rate, schedule, and the published mAP and rank-1 (per cent) where there are."""
    rows = [("recipe", "network", "input", "batch", "epochs", "optimiser", "rate", "schedule",
             "mAP", "rank-1")]
    for name in names():
        r, published = get(name), result(name)
        size = "×".join(str(r["options"].get(side, "-")) for side in ("height", "width"))
        rows.append((name, r.get("system", "-"), size, f"{r['identities']}×{r['images']}",
                     str(r["epochs"]), r["optimizer"]["kind"], f"{r['optimizer']['lr']:g}",
                     _schedule_words(r["schedule"]),
                     *([f"{figure:.1f}" for figure in published] if published else ["", ""])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(w) if i >= 8 else cell.ljust(w)
                       for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
             for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
