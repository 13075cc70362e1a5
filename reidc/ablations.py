"""A paper's ablation tables trained anew, beside what the paper printed.

`reidc.ablations.TABLES["mfa"]` are the tables (`reidc.ablation_tables`), `run("mfa", dataset, out)`
trains their rows, `reidc.ablation_report` compares. docs/ablations.md says how claims are made.
The test set chooses nothing: a row is trained to its end and tested once.
"""
import inspect
import json
import os
import sys

from reidc import _checks, schedules
from reidc._core import ArgumentError, FileError
from reidc._files import make_folder, write_atomic
from reidc.ablation_report import Ablation, circumstances
from reidc.ablation_tables import TABLES
from reidc.progress import duration

SCALES = {"small": "{}-small", "full": "{}-market1501"}  # the recipe of a system's rows
# Of every row at small scale, whatever its system: all 25 of HAMR then take less than 30 minutes a
# seed on two idle cores, the other systems' a few.
EPOCHS = 12
SETUP = "setup.json"
# Of the small recipe, changed so that every row of the system learns, not the full network alone.
# Found on another drawn world (synthetic:small,seed=1), by the training losses of the weakest row:
# MGAF's small branch alone falls to features that are all the same at the recipe's rate; FSAC
# begins to tell people apart after five of its twenty epochs.
SMALL = {"mgaf": {"optimizer.lr": 1e-3}, "fsac": {"epochs": 20}}


def choose(system, numbers=None):
    """The system's tables, or those with these numbers ("8" finds the table "6/8").

    ValueError: no such system or table."""
    if not isinstance(system, str) or system.lower() not in TABLES:
        raise ArgumentError(f"system: expected one of {', '.join(TABLES)}, got {system!r}")
    known = TABLES[system.lower()]
    if numbers is None:
        return known
    wanted = [str(number) for number in ([numbers] if isinstance(numbers, (str, int)) else numbers)]
    missing = [n for n in wanted if not any(n in (t.number, *t.number.split("/")) for t in known)]
    if missing or not wanted:
        raise ArgumentError(f"tables: {system} has {', '.join(t.number for t in known)}, got "
                            f"{', '.join(missing) or 'none'}")
    return tuple(t for t in known if {t.number, *t.number.split("/")} & set(wanted))


def base_recipe(system, scale="small", recipe=None, epochs=None, settings=()):
    """The recipe that all rows of a system share.

    scale: "small" (the system's `-small` recipe, for EPOCHS epochs, with SMALL's changes) or
    "full" (the paper's). recipe: a name or a dict in its place. settings: pairs (dotted key,
    value).
    """
    from reidc import recipes

    if scale not in SCALES:
        raise ArgumentError(f"scale: expected one of {', '.join(SCALES)}, got {scale!r}")
    name = SCALES[scale].format(system) if recipe is None else recipe
    found = recipes.get(name)
    if found.get("system", system) != system:
        raise ArgumentError(f"recipe: expected one of {system}, got one of {found['system']}")
    if recipe is None and scale == "small":
        for key, value in {"epochs": EPOCHS, **SMALL.get(system, {})}.items():
            found.set(key, value)
    found["evaluate_every"], found["validation"] = 0, None  # trained to its end, tested once
    for key, value in settings:
        found.set(key, value)
    if epochs is not None:
        found.set("epochs", epochs)
    return found.check()


def row_recipe(base, row):
    """A copy of the recipe with the row's switches and its training."""
    from reidc import recipes

    recipe = recipes.get(base)
    recipe["options"] = {**recipe["options"], **row.switches}
    if not row.training.get("triplet", True):
        recipe["options"]["triplet"] = False
    if not row.training.get("tricks", True):
        recipe["options"]["label_smooth"] = 0.0
        recipe["augment"] = {**recipe["augment"], "erasing": None}
        recipe["schedule"] = _without_warmup(recipe["schedule"])
    return recipe.check()


def _without_warmup(schedule):
    """The same schedule, its full rate from the start."""
    rule = {key: value for key, value in schedule.items() if key != "warmup"}
    if rule["kind"] in ("hamr", "strong_baseline"):  # steps with a warm-up of their own
        known = inspect.signature(getattr(schedules, rule["kind"])).parameters
        rule = {"kind": "multistep",
                **{key: rule.get(key, list(known[key].default)
                                 if key == "milestones" else known[key].default)
                   for key in ("milestones", "gamma")}}
    return rule


def run(system, dataset, out, *, scale="small", recipe=None, tables=None, rows=None, seeds=1,
        epochs=None, settings=(), pretrained=None, threads=None, log=None):
    """Train the rows of a system's ablation tables: an `Ablation`, which prints as Markdown.

    dataset: as a Trainer takes it; its test set is tested once a run. out: a folder: `KEY/seedN/`
    is a Trainer's run with `eval.json`; `ablation.md` and `ablation.json` are written anew after
    each. Rows that coincide run once. Finished runs are passed over, a half-trained one goes on
    where it stopped: the same call again continues after Ctrl-C.
    scale, recipe, epochs, settings: see `base_recipe`. tables: numbers; rows: keys; None: all.
    seeds: runs of each row, with the recipe's seed and those after it. pretrained: a ResNet's
    weights for every row. log: a function for lines of progress (None: stderr).

    ValueError, TypeError: what does not fit, before anything is trained; OSError: the folder holds
    runs of another setup.
    """
    log = log or (lambda line: print(line, file=sys.stderr, flush=True))
    chosen, system = choose(system, tables), system.lower()
    seeds, out = _checks.count("seeds", seeds), _checks.path("out", out)
    base = base_recipe(system, scale, recipe, epochs, settings)
    work = _rows(chosen, rows)
    ablation = Ablation(system, chosen, {"scale": scale, "recipe": base, "data": repr(dataset),
                                         "pretrained": pretrained and str(pretrained)},
                        dataset.train.num_classes)
    costs = {key: _network(system, row_recipe(base, row), dataset, None, threads).macs
             for key, row in work.items()}  # refuses what does not fit, before anything is trained
    _claim_folder(out, ablation.setup)
    queue = [(key, base["seed"] + i) for i in range(seeds) for key in work]
    for key, seed in queue:
        found = _finished(out, key, seed)
        if found:
            ablation.add(key, found)
    log(f"{system}: {len(work)} rows, {seeds} seed{'s' * (seeds > 1)}, {base['epochs']} epochs a "
        f"run; {len(queue) - ablation.count()} of {len(queue)} runs to do")
    if ablation.count() < len(queue):
        dataset = _kept(dataset)
    for number, (key, seed) in enumerate(queue):
        if ablation.has(key, seed):
            continue
        log(f"run {number + 1} of {len(queue)}: {key}, seed {seed}{_left(ablation, queue, costs)}")
        recipe = row_recipe(base, work[key])
        recipe["seed"] = seed
        m = _network(system, recipe, dataset, pretrained, threads)
        _train(m, dataset, recipe, _folder(out, key, seed), log,
               {"system": system, "row": key, "seed": seed, "epochs": recipe["epochs"],
                "parameters": m.num_parameters, "inference": m.num_inference_parameters,
                "macs": m.macs})
        result = _finished(out, key, seed)
        ablation.add(key, result)
        log(f"  rank-1 {100 * result['rank1']:.2f} %, mAP {100 * result['mAP']:.2f} %, "
            f"{duration(result['seconds'])}")
        ablation.save(out, circumstances())
    ablation.save(out, circumstances())
    return ablation


def _rows(chosen, keys):
    """{key: row} of the tables, in order; rows that coincide have one key."""
    found = {}
    for table in chosen:
        for row in table.rows:
            found.setdefault(row.key, row)
    if keys is None:
        return found
    missing = [key for key in keys if key not in found]
    if missing or not keys:
        raise ArgumentError(f"rows: expected some of {', '.join(found)}, got "
                            f"{', '.join(missing) or 'none'}")
    return {key: row for key, row in found.items() if key in keys}


def _network(system, recipe, dataset, pretrained, threads):
    from reidc.networks import build_model

    return build_model(system, dataset.train.num_classes, seed=recipe["seed"], threads=threads,
                       pretrained=pretrained, **recipe["options"])


def _folder(out, key, seed):
    return os.path.join(out, key, f"seed{seed}")


def _claim_folder(out, setup):
    """Write the setup down, or hold it against the one that is there."""
    path = os.path.join(out, SETUP)
    setup = json.loads(json.dumps(setup))  # lists, as in the file
    if not os.path.exists(path):
        make_folder(out)
        with write_atomic(path) as file:
            file.write(json.dumps(setup, indent=1).encode() + b"\n")
        return
    try:
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
    except ValueError as error:
        raise FileError(f"{path}: cannot be read: {error}") from None
    for key in sorted({*setup, *before}):
        if setup.get(key) != before.get(key):
            theirs, ours = before.get(key), setup.get(key)
            if isinstance(theirs, dict) and isinstance(ours, dict):
                inner = next(k for k in sorted({*ours, *theirs}) if ours.get(k) != theirs.get(k))
                key, theirs, ours = f"{key}.{inner}", theirs.get(inner), ours.get(inner)
            raise FileError(f"{out}: holds an ablation with {key} = {theirs}, got {ours}; choose "
                            "another folder")


def _finished(out, key, seed):
    """What a finished run left; None: it is not finished."""
    folder = _folder(out, key, seed)
    if not os.path.exists(os.path.join(folder, "eval.json")):
        return None
    try:
        with open(os.path.join(folder, "eval.json"), encoding="utf-8") as file:
            saved = json.load(file)
        with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
            last = json.loads(file.read().splitlines()[-1])
        return {"mAP": saved["mAP"], "rank1": saved["cmc"][0], "mINP": saved["mINP"],
                "id": last["id"], **saved["provenance"]["ablation"]}
    except (ValueError, LookupError, TypeError) as error:
        raise FileError(f"{folder}: what the run left cannot be read: {error!r}") from None


def _train(m, dataset, recipe, folder, log, about):
    """Train to the end, test once, write eval.json."""
    import time

    from reidc.progress import counter
    from reidc.trainer import Trainer

    trainer = Trainer(m, dataset, recipe, folder,
                      log=lambda line: None if line.startswith("epoch") else log(line))
    trainer.fit(resume=os.path.exists(trainer.checkpoint))
    start = time.monotonic()
    with counter("test") as progress:
        result = trainer.test(progress=progress)
    training = sum(row["seconds"] for row in trainer.history)
    result.provenance["ablation"] = {**about, "training_seconds": round(training, 1),
                                     "seconds": round(training + time.monotonic() - start, 1)}
    result.save(os.path.join(folder, "eval.json"))
    if trainer.ema is None:  # the run is done: the optimiser is two thirds of its checkpoint
        m.save(trainer.checkpoint)


def _left(ablation, queue, costs):
    """How long the rest will take, by rows that are done: as long as with another seed, or in
    proportion to the root of the multiply-accumulates (a step has costs that are the same)."""
    costs = {key: cost ** 0.5 for key, cost in costs.items()}
    done = {key: ablation.values(key, "seconds") for key in ablation.runs}
    if not done:
        return ""
    spent = sum(costs[key] * len(values) for key, values in done.items())
    rate, seconds = sum(map(sum, done.values())) / spent, 0.0
    for key, seed in queue:
        if not ablation.has(key, seed):
            known = done.get(key)
            seconds += sum(known) / len(known) if known else costs[key] * rate
    return f"; about {duration(seconds)} left"


def _kept(dataset):
    """The data set with its pictures drawn now and kept, for all rows."""
    from reidc.datasets import Dataset
    from reidc.progress import counter
    from reidc.splits import ImageStore, Split

    if all(getattr(split, "keeps", False)
           for split in (dataset.train, dataset.query, dataset.gallery)):
        return dataset

    class Kept(Dataset):
        name = str(getattr(dataset, "name", type(dataset).__name__))

        def __repr__(self):
            return repr(dataset)

    kept = Kept()
    kept.notes = list(getattr(dataset, "notes", []))
    for name in ("train", "query", "gallery"):
        split = getattr(dataset, name)
        store = ImageStore(lambda i, split=split: split.batch([i], threads=1)[0], len(split))
        setattr(kept, name, Split(store, range(len(split)), split.pids, split.camids, None, name))
        with counter(f"drawing, {name}") as progress:
            getattr(kept, name).preload(progress)
    return kept
