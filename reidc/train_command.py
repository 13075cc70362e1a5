"""`reidc train`: one run, or one with each of several seeds."""
import json
import os
from argparse import Namespace

from reidc._core import FileError, FileMissingError
from reidc.cli import Stopped, UsageError
from reidc.commands import (
    RUN_FILE,
    _build,
    _has_test,
    _note,
    _run_settings,
    _test,
    data_settings,
    network_settings,
    open_data,
)

SEEDS_FILE = "seeds.json"
SETTINGS = {  # what a run is started with and goes on with: flag, where argparse puts it
    "--system": "system", "--recipe": "recipe", "--set": "settings", "--seed": "seed",
    "--seeds": "seeds", "--validation": "hold_out", "--pretrained": "pretrained",
    "--option": "option", "--height": "height", "--width": "width", "--backbone": "backbone",
    "--width-multiplier": "width_multiplier", "--precision": "precision",
}


def run(arguments):
    """The command."""
    if arguments.seeds or os.path.exists(os.path.join(arguments.out, SEEDS_FILE)):
        return _several(arguments)
    return _one(arguments, f"reidc train --out {arguments.out} --resume")


# ---- several seeds ----------------------------------------------------------------------------


def _several(arguments):
    """A run for each seed, in folders seed0, seed1, …, then their comparison."""
    from reidc import recipes
    from reidc._files import write_atomic
    from reidc.comparison import compare, table

    path = os.path.join(arguments.out, SEEDS_FILE)
    again = f"reidc train --out {arguments.out} --resume"
    if arguments.resume:
        seeds, given = _started(arguments, path)
    elif os.path.exists(path):
        raise FileError(f"{arguments.out} holds runs already: go on with --resume, or choose "
                        "another --out")
    else:
        if os.path.exists(os.path.join(arguments.out, "last.safetensors")):
            raise FileError(f"{arguments.out} holds a run already: choose another --out")
        first = _recipe(arguments, recipes)["seed"]
        seeds = list(range(first, first + arguments.seeds))
        given = {**vars(arguments), "data": data_settings(arguments).get("spec")}  # from anywhere
    folders = [os.path.join(arguments.out, f"seed{seed}") for seed in seeds]
    for number, (seed, folder) in enumerate(zip(seeds, folders)):
        child = Namespace(**{**given, "out": folder, "seed": seed, "seeds": None, "resume": False,
                             "threads": arguments.threads, "device": arguments.device,
                             "data": arguments.data or given["data"]})
        if arguments.resume and arguments.epochs:
            child.epochs = arguments.epochs
        if _is_done(folder, child):
            _note(f"{folder}: done before")
            continue
        _note(f"seed {seed}, {number + 1} of {len(seeds)}: {folder}")
        if os.path.exists(os.path.join(folder, "last.safetensors")):
            cleared = {name: [] if name in ("settings", "option") else None
                       for name in SETTINGS.values()}
            child = Namespace(**{**vars(child), **cleared, "resume": True, "data": arguments.data})

        def started():
            if not os.path.exists(path):
                with write_atomic(path) as file:
                    file.write(json.dumps({"seeds": seeds, "arguments": given}, indent=1).encode())

        try:
            _one(child, again, started)
        except KeyboardInterrupt as stop:
            raise Stopped(str(stop) or f"stopped; go on with  {again}") from None
    if not all(os.path.exists(os.path.join(folder, "eval.json")) for folder in folders):
        print(f"written: {', '.join(folders)}; not tested, so there is nothing to compare")
        return
    result = compare(folders)
    with write_atomic(os.path.join(arguments.out, "compare.json")) as file:
        file.write(json.dumps(result, indent=1).encode() + b"\n")
    print(table(result))
    print(f"written: {os.path.join(arguments.out, 'compare.json')}")


def _started(arguments, path):
    """(seeds, arguments) that the runs were started with."""
    _refuse_settings(arguments)
    try:
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
        return [int(seed) for seed in saved["seeds"]], dict(saved["arguments"])
    except FileNotFoundError:
        raise FileMissingError(f"--resume: no runs in {arguments.out} ({SEEDS_FILE} is missing)"
                               ) from None
    except (ValueError, LookupError, TypeError) as error:
        raise FileError(f"{path}: cannot be read: {error!r}") from None


def _is_done(folder, arguments):
    """Whether a run has been trained to its end and tested."""
    from reidc.trainer import saved_place

    checkpoint = os.path.join(folder, "last.safetensors")
    if not os.path.exists(checkpoint):
        return False
    recipe, epochs = saved_place(checkpoint)
    tested = arguments.no_test or os.path.exists(os.path.join(folder, "eval.json"))
    return tested and epochs >= (arguments.epochs or recipe["epochs"])


# ---- one run ----------------------------------------------------------------------------------


def _one(arguments, again, started=lambda: None):
    """One run. again: the command that goes on; started() is called when nothing of what was
    typed can be wrong any more."""
    from reidc.progress import counter
    from reidc.trainer import Trainer

    checkpoint = os.path.join(arguments.out, "last.safetensors")
    if arguments.resume:
        m, data, validation, recipe = _resumed(arguments, checkpoint)
    else:
        if os.path.exists(checkpoint):
            raise FileError(f"{arguments.out} holds a run already: go on with --resume, or choose "
                            "another --out")
        m, data, validation, recipe = _fresh(arguments)
    print("\n".join(str(part) for part in (data, validation, m) if part), flush=True)
    trainer = Trainer(m, data, recipe, arguments.out, validation=validation)
    started()
    tested = _has_test(data) and not arguments.no_test
    if tested and not arguments.resume:
        before = _test(m, data)
        _note(f"before training: mAP {before.mAP:.4f}, rank-1 {before.rank(1):.4f}")
    try:
        trainer.fit(arguments.epochs, resume=arguments.resume)
        if tested:
            with counter("test") as progress:
                result = trainer.test(progress=progress)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; the run is kept: go on with  {again}") from None
    if trainer.best:
        print(f"chosen by the validation: epoch {trainer.best['epoch']}, mAP "
              f"{trainer.best['val_mAP']:.4f} on identities held out of the training")
    if tested:
        result.save(os.path.join(arguments.out, "eval.json"))
        print(result)
    print(f"written: {trainer.best_checkpoint if trainer.best else trainer.checkpoint}")


def _fresh(arguments):
    from reidc import recipes
    from reidc._files import make_folder, write_atomic
    from reidc.networks import SYSTEMS
    from reidc.weights import load_pretrained, resolve_pretrained

    if not arguments.data:
        raise UsageError("train: --data is missing (`reidc train --help` says what it takes)")
    recipe = _recipe(arguments, recipes)
    system = (arguments.system or recipe["system"]).lower()
    if system not in SYSTEMS:
        raise UsageError(f"--system: expected one of {', '.join(SYSTEMS)}, got {system!r}")
    settings = {**(recipe["options"] if system == recipe["system"] else {}),
                **network_settings(arguments)}
    if arguments.precision:
        settings["precision"] = arguments.precision
    pretrained = arguments.pretrained and resolve_pretrained(arguments.pretrained)
    kept = data_settings(arguments)
    data, validation = _held_out(open_data(kept), recipe)
    m = _build(system, data.num_classes, settings, seed=recipe["seed"], device=arguments.device,
               threads=arguments.threads)
    recipe["system"], recipe["options"] = system, settings  # what runs, for recipe.json
    if pretrained:
        report = str(load_pretrained(m, pretrained))
        _note("\n".join(line for line in report.splitlines() if line.split()[0] != "loaded"))
    make_folder(arguments.out)
    if pretrained:
        with write_atomic(os.path.join(arguments.out, "pretrained.txt")) as file:
            file.write(report.encode() + b"\n")
    with write_atomic(os.path.join(arguments.out, RUN_FILE)) as file:
        file.write(json.dumps({"data": kept, "system": system, "options": settings,
                               "pretrained": arguments.pretrained}, indent=1).encode() + b"\n")
    return m, data, validation, recipe


def _held_out(data, recipe):
    """The data to train and test on, and the validation set of the recipe, or None."""
    from reidc.datasets import hold_out

    if not recipe["validation"]:
        return data, None
    return hold_out(data, recipe["validation"], recipe["seed"])


def _recipe(arguments, recipes):
    from reidc.networks import SYSTEMS

    system = (arguments.system or "mbgn").lower()
    fitting = [name for name in recipes.names() if recipes.get(name)["system"] == system
               and name.endswith("market1501")]
    if system in SYSTEMS and not arguments.recipe and not fitting:
        raise UsageError(f"--recipe: {system} has none of its own; name one of "
                         f"{', '.join(recipes.names())}")
    try:
        recipe = recipes.get(arguments.recipe or (fitting or ["mbgn-market1501"])[0])
        for key, value in arguments.settings:
            recipe.set(key, value)
        if arguments.hold_out is not None:
            recipe.set("validation", arguments.hold_out)
        for key in ("seed", "epochs"):
            if getattr(arguments, key) is not None:
                recipe.set(key, getattr(arguments, key))
        recipe.check()
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None
    return recipe


def _refuse_settings(arguments):
    given = [flag for flag, name in SETTINGS.items() if getattr(arguments, name) not in (None, [])]
    if given:
        raise UsageError(f"--resume goes on with the run's own settings; leave out "
                         f"{', '.join(given)} (--epochs, --device, --threads, --memory and --data "
                         "may be given)")


def _resumed(arguments, checkpoint):
    from reidc import recipes
    from reidc.networks import load
    from reidc.trainer import saved_recipe

    _refuse_settings(arguments)
    if not os.path.isfile(checkpoint):
        raise FileMissingError(f"--resume: no checkpoint in {arguments.out}")
    recipe = recipes.get(saved_recipe(checkpoint))
    kept = data_settings(arguments) if arguments.data else \
        _run_settings(arguments.out).get("data")
    if not kept:
        raise UsageError(f"--resume: {arguments.out} has no {RUN_FILE}; say --data")
    m = load(checkpoint, device=arguments.device, threads=arguments.threads,
             memory=arguments.memory)
    return m, *_held_out(open_data(kept), recipe), recipe
