"""What `reidc train`, `eval`, `embed`, `export` and `info` do; `demo` is in `reidc.demo`,
`ablate` in `reidc.ablate`, `bench` in `reidc.bench`, `cam` in `reidc.cam`.

Each takes argparse's namespace and may raise UsageError for what was typed wrongly; results go to
stdout, what happens meanwhile to stderr.
"""
import inspect
import json
import os
import sys

from reidc._core import ArgumentError, ArgumentTypeError, FileError, FileMissingError
from reidc.cli import UsageError, plain_value

RUN_FILE = "run.json"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
SYNTHETIC_KEYS = ("level", "twins", "seed", "cameras", "height", "width", "occluded")


def _note(line):
    print(line, file=sys.stderr, flush=True)


# ---- data ------------------------------------------------------------------------------------


def data_settings(arguments):
    """The data options as plain data, which run.json keeps."""
    settings = {"spec": arguments.data, "columns": arguments.columns, "splits": arguments.splits,
                "train": arguments.train_splits, "validation": arguments.validation,
                "test": arguments.test_share, "cameras": False if arguments.no_cameras else None}
    spec = arguments.data
    if spec and not spec.startswith("synthetic"):  # a run may be gone on with from elsewhere
        kind, colon, place = spec.partition(":")
        if not (colon and kind in ("market", "folder", "table")):
            kind, place = "", spec
        place = ",".join(os.path.abspath(part) for part in place.split(",")) \
            if kind == "table" else os.path.abspath(place)
        settings["spec"] = f"{kind}:{place}" if kind else place
    return {key: value for key, value in settings.items() if value is not None}


def open_data(settings):
    """The data set that the settings describe."""
    from reidc import datasets

    settings = dict(settings)
    kind, place = _kind_of(settings.pop("spec"))
    allowed = {"synthetic": (), "market": (), "folder": ("test", "cameras"),
               "table": ("columns", "splits", "train", "validation", "test")}[kind]
    flags = {"test": "--test-share", "cameras": "--no-cameras", "train": "--train-splits"}
    for key in settings:
        if key not in allowed:
            raise UsageError(f"{flags.get(key, '--' + key)} does not go with {kind} data")
    if kind == "synthetic":
        return _synthetic(place)
    if kind == "market":
        return datasets.Market1501(place)
    if kind == "folder":
        return datasets.ImageFolder(place, **settings)
    csv, _, images = place.partition(",")
    beside = os.path.join(os.path.dirname(csv), "images.zip")
    if not images and os.path.isfile(csv) and os.path.isfile(beside):
        images = beside
    return datasets.Table(csv, images or None, **settings)


def _kind_of(spec):
    """('table', 'a.csv,a.zip') of a data specification; a bare path by what is there."""
    kind, colon, place = spec.partition(":")
    if kind in ("market", "folder", "table") and colon:
        return kind, place
    if kind == "synthetic":
        return kind, place
    if os.path.isfile(spec) and spec.lower().endswith((".csv", ".tsv")):
        return "table", spec
    if not os.path.exists(spec):
        raise FileMissingError(f"--data: no such file or folder: {spec} (or say synthetic:, "
                               "market:, folder: or table:)")
    if not os.path.isdir(spec):
        raise UsageError(f"--data: {spec} is neither a folder nor a CSV file")
    if "Market-1501-v15.09.15" in (os.path.basename(os.path.abspath(spec)), *os.listdir(spec)):
        return "market", spec
    tables = [name for name in ("index.csv", "labels.csv") if
              os.path.isfile(os.path.join(spec, name))]
    folders = any(os.path.isdir(os.path.join(spec, name)) for name in ("query", "gallery"))
    if tables and not folders:
        return "table", os.path.join(spec, tables[0])
    return "folder", spec


def _synthetic(text):
    from reidc.datasets import Synthetic

    size, *options = text.split(",") if text else ["small"]
    settings = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in SYNTHETIC_KEYS:
            raise UsageError(f"--data: synthetic: expected key=value with a key of "
                             f"{', '.join(SYNTHETIC_KEYS)}, got {option!r}")
        settings[key] = plain_value(value)
    try:
        return Synthetic(plain_value(size) if size else "small", **settings)
    except (ArgumentError, ArgumentTypeError) as error:
        raise UsageError(f"--data: synthetic: {error}") from None


# ---- networks --------------------------------------------------------------------------------


def network_settings(arguments):
    """Constructor keywords that were given."""
    settings = dict(arguments.option)
    for name in ("height", "width", "backbone", "width_multiplier", "memory"):
        value = getattr(arguments, name)
        if value is not None:
            settings[name] = value
    return settings


def _build(system, classes, settings, **more):
    from reidc.networks import SYSTEMS, build_model
    from reidc.recipe import nearest

    known = list(inspect.signature(SYSTEMS[system.lower()]).parameters)[1:] \
        if system.lower() in SYSTEMS else settings
    for key in settings:
        if key not in known:
            raise UsageError(f"--option: {system} has no {key!r}; did you mean "
                             f"{nearest(key, known)!r}?")
    try:
        return build_model(system, classes, **settings, **more)
    except (ArgumentError, ArgumentTypeError, TypeError) as error:
        raise UsageError(f"{system}: {error}") from None


def checkpoint_of(path):
    """The file of a run's folder, or the file itself."""
    from reidc.trainer import BEST, CHECKPOINT

    if os.path.isdir(path):
        best, inner = os.path.join(path, BEST), os.path.join(path, CHECKPOINT)
        if os.path.isfile(best):  # the epoch that the run's validation chose
            return best
        if not os.path.isfile(inner):
            raise FileMissingError(f"{path}: expected a run with {CHECKPOINT}, it has none")
        return inner
    if not os.path.exists(path):
        raise FileMissingError(f"{path}: no such run or checkpoint")
    return path


def _run_settings(folder):
    """run.json of a run's folder; {} where there is none."""
    path = os.path.join(folder, RUN_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise FileError(f"{path}: cannot be read: {error}") from None


def _test(m, data, **options):
    """Evaluate with a progress bar."""
    from reidc.evaluation import evaluate
    from reidc.progress import counter

    with counter("test") as progress:
        return evaluate(m, data, progress=progress, **options)


def _has_test(data):
    return len(data.query) > 0 and len(data.gallery) > 0


# ---- eval, embed -----------------------------------------------------------------------------


def check_folder(flag, file):
    """Before the work, not after it: the folder that a result goes to."""
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        raise FileMissingError(f"{flag}: no such folder: {folder}")


CALIBRATION = 256  # pictures that ranges are taken from


def opened(arguments):
    """The network of a checkpoint, on the device and in the precision asked for."""
    from reidc import _core
    from reidc.networks import load

    wanted = arguments.precision if arguments.precision != "int8" else None
    m = load(checkpoint_of(arguments.checkpoint), device=arguments.device,
             threads=arguments.threads, precision=wanted)
    if arguments.calibrate and arguments.precision != "int8":
        raise UsageError("--calibrate: only goes with --precision int8")
    if arguments.precision != "int8" or (m.precision == "int8" and not arguments.calibrate):
        return m
    if not arguments.calibrate:
        raise UsageError(f"--precision int8: {arguments.checkpoint} is not quantised: --calibrate "
                         "FOLDER says which pictures to take the ranges of values from")
    pictures = Pictures(listed(arguments.calibrate))
    chosen = range(0, len(pictures), -(-len(pictures) // CALIBRATION))  # evenly from all of them
    images = _core._images_to_input(pictures.batch(chosen), m.height, m.width, nchw=True,
                                    threads=m.threads)
    print(m.quantize(images), flush=True)
    return m


def eval(arguments):  # the command's name
    """`reidc eval`."""
    path = checkpoint_of(arguments.checkpoint)
    kept = data_settings(arguments)
    if "spec" not in kept:
        kept = {**_run_settings(os.path.dirname(path)).get("data", {}), **kept}
    if "spec" not in kept:
        raise UsageError("eval: --data is missing (`reidc eval --help` says what it takes)")
    target = arguments.json or os.path.splitext(path)[0] + ".eval.json"
    check_folder("--json", target)
    m = opened(arguments)
    data = open_data(kept)
    print(f"{data}\n{m}", flush=True)
    if not _has_test(data):
        raise ArgumentError(f"{data.name}: nothing to test: {len(data.query)} query and "
                            f"{len(data.gallery)} gallery pictures")
    result = _test(m, data, flip=arguments.flip, ap=arguments.ap)
    print(result)
    if arguments.interval:
        for metric in ("mAP", "rank-1"):
            low, high = result.interval(metric)
            print(f"95 % interval of {metric}: {100 * low:.2f} to {100 * high:.2f} %")
    if result.skipped:
        _note(f"{len(result.skipped)} queries have no match in the gallery and do not count")
    result.provenance["checkpoint"] = os.path.abspath(path)
    result.save(target)
    print(f"written: {target}")


class Pictures:
    """Files as a split that reads them when asked."""

    def __init__(self, paths):
        from reidc.splits import Folder

        self.paths, self._read = paths, Folder("", paths)

    def __len__(self):
        return len(self.paths)

    def batch(self, indices, threads=None):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._read, indices))


def listed(places):
    """Picture files: those named, and those below the folders named, sorted."""
    paths = []
    for place in places:
        if os.path.isdir(place):
            found = sorted(os.path.join(folder, name) for folder, _, names in os.walk(place)
                           for name in names
                           if name.lower().endswith(PICTURES) and not name.startswith("."))
            if not found:
                raise ArgumentError(f"{place}: no pictures ({', '.join(PICTURES)}) below it")
            paths += found
        elif os.path.exists(place):
            paths.append(place)
        else:
            raise FileMissingError(f"{place}: no such file or folder")
    return paths


def embed(arguments):
    """`reidc embed`."""
    import numpy

    from reidc._files import write_atomic
    from reidc.evaluation import embed_split
    from reidc.progress import counter

    if not arguments.output.lower().endswith(".npz"):
        raise UsageError(f"-o: expected a .npz file, got {arguments.output}")
    check_folder("-o", arguments.output)
    pictures = Pictures(listed(arguments.images))
    m = opened(arguments)
    with counter("embed") as progress:
        embeddings = embed_split(m, pictures, flip=arguments.flip, normalize=arguments.normalize,
                                 progress=progress)
    contract = {**m.contract, "normalized": arguments.normalize or m.normalized,
                "flip": arguments.flip}
    with write_atomic(arguments.output) as file:
        numpy.savez(file, embeddings=embeddings, paths=numpy.array(pictures.paths),
                    contract=numpy.array(json.dumps(contract)))
    print(f"written: {arguments.output}: embeddings {embeddings.shape[0]}×{embeddings.shape[1]}, "
          "paths, contract")


def export(arguments):
    """`reidc export`."""
    from reidc.networks import load

    if not arguments.output.lower().endswith(".onnx"):
        raise UsageError(f"-o: expected a .onnx file, got {arguments.output}")
    check_folder("-o", arguments.output)
    m = load(checkpoint_of(arguments.checkpoint), threads=arguments.threads)
    report = m.export_onnx(arguments.output, flip=arguments.flip, normalize=arguments.normalize,
                           batch=arguments.batch, input=arguments.input, fold=arguments.fold,
                           check=arguments.check)
    compared = (f"; {report['runtime']} beside the network, {report['images']} images: largest "
                f"difference {report['max_difference']:.2g}, relative to the row "
                f"{report['relative_difference']:.2g}" if report["runtime"] else "")
    print(f"written: {arguments.output}: {m.system}, {_bytes(report['bytes'])}, operation set "
          f"{report['opset']}{compared}")


# ---- info ------------------------------------------------------------------------------------


def _bytes(count):
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def _info_data(kept):
    """A data set, its notes, and whether every picture can be read."""
    from reidc.progress import counter

    if "spec" not in kept:
        raise UsageError("info: --data is missing (`reidc info --help` says what it takes)")
    data = open_data(kept)
    print(data, flush=True)
    splits = [split for split in (data.train, data.query, data.gallery)
              if getattr(split, "paths", None) is not None]
    total, done, damaged, sizes = sum(map(len, splits)), 0, {}, set()
    with counter("read") as progress:
        for split in splits:
            for row, path in zip(split.rows, split.paths):
                try:
                    sizes.add(split.store.read(row).shape[:2])
                except (FileError, FileMissingError) as error:
                    damaged[path] = error
                done += 1
                progress(done, total)
    if damaged:
        for error in list(damaged.values())[:-1]:
            _note(str(error))
        raise list(damaged.values())[-1]
    if sizes:
        rows, columns = zip(*sizes)
        print(f"{total} pictures read: {min(rows)} to {max(rows)} rows, {min(columns)} to "
              f"{max(columns)} columns")


def info(arguments):
    """`reidc info`."""
    import reidc
    from reidc import _core

    if arguments.training and not arguments.plan:
        raise UsageError("--training: goes with --plan BATCH")
    if arguments.recipes is not None:
        from reidc import recipes

        try:
            print(recipes.get(arguments.recipes) if arguments.recipes else recipes.table())
        except ArgumentError as error:
            raise UsageError(str(error)) from None
        return
    kept = data_settings(arguments)
    if kept:
        _info_data(kept)
        if not arguments.checkpoint and not arguments.system:
            return
    settings = network_settings(arguments)
    memory = settings.pop("memory", None) if arguments.checkpoint else None
    if arguments.checkpoint and (arguments.system or settings):
        raise UsageError("info: a checkpoint has its own system and switches; name one or the "
                         "other")
    if not arguments.checkpoint and not arguments.system:
        if arguments.plan or settings:
            raise UsageError("info: of which network? Name a checkpoint or --system")
        config = {"reidc": reidc.__version__, "python": sys.version.split()[0], **_core.config(),
                  "systems": ", ".join(_core.list_systems())}
        width = max(map(len, config))
        for key, value in config.items():
            print(f"{key:<{width}}  {value}")
        return
    if arguments.checkpoint:
        from reidc.networks import load

        m = load(checkpoint_of(arguments.checkpoint), device=arguments.device,
                 threads=arguments.threads, memory=memory)
        for key, value in m.contract.items():
            print(f"{key:<11} {value}")
        print("switches    " + ", ".join(f"{k}={v}" for k, v in m.config["settings"].items()))
    else:
        m = _build(arguments.system, arguments.classes, settings,
                   device=arguments.device, threads=arguments.threads)
    if arguments.plan:
        print(m.plan(arguments.plan, training=arguments.training))
        memory = m.memory_plan(arguments.plan, training=arguments.training)
        print("memory: " + ", ".join(f"{key} {_bytes(value)}" for key, value in memory.items()))
    else:
        print(m.summary())


def train(arguments):
    """`reidc train`."""
    from reidc.train_command import run

    return run(arguments)


def compare(arguments):
    """`reidc compare`."""
    from reidc._files import write_atomic
    from reidc.comparison import compare as compared
    from reidc.comparison import table

    result = compared(arguments.runs)
    print(table(result))
    if arguments.json:
        with write_atomic(arguments.json) as file:
            file.write(json.dumps(result, indent=1).encode() + b"\n")
        print(f"written: {arguments.json}")


def demo(arguments):
    """`reidc demo`."""
    from reidc.demo import run

    return run(arguments)


def ablate(arguments):
    """`reidc ablate`."""
    from reidc.ablate import run

    return run(arguments)


def bench(arguments):
    """`reidc bench`."""
    from reidc.bench.command import run

    return run(arguments)


def cam(arguments):
    """`reidc cam`."""
    from reidc.cam import run

    return run(arguments)
