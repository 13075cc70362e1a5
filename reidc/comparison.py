"""Several runs side by side: mean and spread over seeds, of runs that differ in nothing else."""
import json
import os
import re
from statistics import mean, stdev

from reidc import _checks
from reidc._core import ArgumentError, FileError, FileMissingError

METRICS = ("mAP", "rank-1", "rank-5", "rank-10", "mINP")
TESTS = ("eval.json", "best.eval.json", "last.eval.json")  # `reidc train` writes the first


def compare(runs):
    """Mean and sample standard deviation over seeds, as plain data.

    runs: folders of runs, or folders that hold runs (`reidc train --seeds`); one or a list.
    Runs whose recipe, data, network and start weights are equal but for the seed are a group:

        {"groups": [{"name", "differs", "runs", "seeds", "sources", "metrics"}]}

    metrics: {"mAP": {"mean", "std", "values"}, …} for what all runs of the group have; shares
    of 1, std is None for a single run. differs: the keys that tell the groups apart. sources:
    where each run's numbers are from, its `eval.json` or else the last epoch of its metrics that
    was tested. FileNotFoundError: no run there; ValueError: a run that was never tested.
    """
    places = [runs] if isinstance(runs, (str, os.PathLike)) else list(runs)
    if not places:
        raise ArgumentError("runs: expected at least one folder")
    groups = {}
    for folder in dict.fromkeys(os.path.normpath(f) for place in places for f in _runs_of(place)):
        facts = _facts(folder)
        seed = facts.pop("recipe.seed", None)
        group = groups.setdefault(json.dumps(facts, sort_keys=True),
                                  {"facts": facts, "runs": [], "seeds": [], "tests": []})
        group["runs"].append(folder)
        group["seeds"].append(seed)
        group["tests"].append(_test_of(folder))
    groups = list(groups.values())
    apart = _apart([group["facts"] for group in groups])
    return {"groups": [_summary(group, apart) for group in groups]}


def _runs_of(place):
    place = _checks.path("runs", place)
    if os.path.isfile(os.path.join(place, "recipe.json")):
        return [place]
    if not os.path.isdir(place):
        raise FileMissingError(f"{place}: no such run or folder")
    found = [os.path.join(place, name) for name in sorted(os.listdir(place), key=_natural)
             if os.path.isfile(os.path.join(place, name, "recipe.json"))]
    if not found:
        raise FileMissingError(f"{place}: neither a run nor a folder that holds runs")
    return found


def _natural(name):
    """seed2 before seed10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.split(r"(\d+)", name)]


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FileError(f"{path}: cannot be read: {error}") from None


def _facts(folder):
    """Everything that a run was started with, {dotted key: value}."""
    from reidc import recipes

    recipe = recipes.get(_read(os.path.join(folder, "recipe.json")) or {})
    facts = {f"recipe.{key}": value for key, value in recipe.flat().items()}
    for key, value in (_read(os.path.join(folder, "run.json")) or {}).items():
        pairs = value.items() if isinstance(value, dict) else ((None, value),)
        facts.update({f"{key}.{name}" if name else key: inner for name, inner in pairs})
    return facts


def _test_of(folder):
    """(where from, {metric: value}) of a run's last test."""
    for name in TESTS:
        saved = _read(os.path.join(folder, name))
        if saved:
            cmc = saved["cmc"]
            ranks = {f"rank-{k}": cmc[k - 1] for k in (1, 5, 10) if k <= len(cmc)}
            return name, {"mAP": saved["mAP"], "mINP": saved["mINP"], **ranks}
    try:
        with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    except FileNotFoundError:
        rows = []
    tested = [row for row in rows if "mAP" in row]
    if not tested:
        raise ArgumentError(f"{folder}: was never tested; `reidc eval {folder}` does it")
    last = tested[-1]
    return f"metrics.jsonl, epoch {last['epoch']}", {
        "mAP": last["mAP"], "rank-1": last["rank1"], "mINP": last["mINP"]}


def _apart(facts):
    """Keys whose values are not the same in all groups."""
    keys = dict.fromkeys(key for one in facts for key in one)
    return [key for key in keys if any(one.get(key) != facts[0].get(key) for one in facts)]


def _summary(group, apart):
    tests = [found for _, found in group["tests"]]
    metrics = {}
    for name in METRICS:
        values = [found[name] for found in tests if name in found]
        if len(values) == len(tests):
            metrics[name] = {"mean": mean(values), "values": values,
                             "std": stdev(values) if len(values) > 1 else None}
    differs = {key.removeprefix("recipe."): group["facts"].get(key) for key in apart}
    parents = {os.path.dirname(run) or run for run in group["runs"]}
    name = ", ".join(f"{key}={value}" for key, value in differs.items()) or \
        (parents.pop() if len(parents) == 1 and len(group["runs"]) > 1 else group["runs"][0])
    return {"name": name, "differs": differs, "runs": group["runs"], "seeds": group["seeds"],
            "sources": [source for source, _ in group["tests"]], "metrics": metrics}


def table(result):
    """What `compare` found as text, percentages."""
    names = [name for name in METRICS if any(name in g["metrics"] for g in result["groups"])]
    rows = [("", "runs", *names)]
    for group in result["groups"]:
        cells = []
        for name in names:
            found = group["metrics"].get(name)
            spread = "" if not found or found["std"] is None else f" ± {100 * found['std']:.2f}"
            cells.append(f"{100 * found['mean']:.2f}{spread}" if found else "–")
        rows.append((group["name"], str(len(group["runs"])), *cells))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
    seeds = ["; ".join(f"seed {seed}: {source}" for seed, source in zip(g["seeds"], g["sources"]))
             for g in result["groups"]]
    return "\n".join([*lines, "", "percent; mean ± sample standard deviation over seeds",
                      *dict.fromkeys(seeds)])
