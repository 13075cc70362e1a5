"""The command line: `reidc demo | train | eval | compare | embed | cam | export | info | ablate |
bench`.

Here are the words: options, their help, and what is said when something fails. Each command is a
function in `reidc.commands`, imported when it runs, so that `--help` answers at once. Exit status:
0 done; 1 failed, with one line on stderr (`--traceback` shows where); 2 wrong use; 130 stopped.
"""
import argparse
import sys

DATA_HELP = """what --data takes:
  synthetic[:SIZE[,key=value...]]  drawn by the package: small, tiny, market or a number of
                                   identities; keys: level, twins, seed, cameras, height, width
  market:ROOT                      Market-1501's folders
  folder:ROOT                      identity_camera_*.jpg, png or bmp, with or without sub-folders
                                   train, query, gallery
  table:CSV[,IMAGES]               a CSV file and the folder or zip of its pictures
  ROOT                             one of these, by what is there
"""


class UsageError(Exception):
    """What was typed cannot be meant: exit status 2."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with a sentence that says how to go on."""


def key_value(text):
    """'a.b=value' as ('a.b', value); values are JSON where they read as such, else words."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"expected key=value, got {text!r}")
    return key.strip(), plain_value(value.strip())


def plain_value(text):
    """1, 0.5, true, none, [1, 2] or a word."""
    import json

    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pairs(text):
    """'path=file,pid=id' as a dict of words; 'none' is None."""
    pairs = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise argparse.ArgumentTypeError(f"expected key=value,key=value, got {text!r}")
        pairs[key.strip()] = None if value.strip().lower() == "none" else value.strip()
    return pairs


def _words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole(text, least, words):
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not least <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"expected a whole number {words}, got {text!r}")
    return value


def _positive(text):
    return _whole(text, 1, "from 1")


def _seed(text):
    return _whole(text, 0, "from 0 to 2**63 - 1")


def _validation(text):
    """A share or a number of identities; words are refused by the recipe."""
    value = plain_value(text)
    if value is True or isinstance(value, (int, float)):
        return value
    raise argparse.ArgumentTypeError(f"expected a share as 0.1 or a number of identities, got "
                                     f"{text!r}")


def _network_options(parser, default_system):
    group = parser.add_argument_group("network")
    group.add_argument("--system", metavar="NAME", default=default_system,
                       help="baseline, mbgn, hamr, mgaf, fsac or mfa")
    group.add_argument("--height", type=_positive, metavar="ROWS", help="of its input")
    group.add_argument("--width", type=_positive, metavar="COLUMNS", help="of its input")
    group.add_argument("--backbone", metavar="NAME", help="resnet18, resnet50, resnet50_ibn_a …")
    group.add_argument("--width-multiplier", type=float, metavar="W",
                       help="scales the backbone's channels")
    group.add_argument("--memory", choices=("normal", "low"),
                       help="low: training holds less and takes longer, to the same bits "
                            "(default: normal)")
    group.add_argument("--option", type=key_value, action="append", default=[],
                       metavar="KEY=VALUE", help="a switch of the system's page, as dropout=0.2")
    return group


def _data_options(parser, required, training=False):
    group = parser.add_argument_group("data")
    group.add_argument("--data", required=required, metavar="SPEC", help="see below")
    group.add_argument("--columns", type=_pairs, metavar="path=…,pid=…",
                       help="a table's columns: path, pid, camid, split; camid=none: no cameras")
    group.add_argument("--splits", type=_pairs, metavar="WORD=SPLIT,…",
                       help="what a table's words for the splits mean: train, query, gallery, "
                            "val_query, val_gallery")
    group.add_argument("--train-splits", type=_words, metavar="SPLIT,…",
                       help="a table's splits to train on (default: train)")
    if training:
        parser.set_defaults(validation=None)
        group.add_argument("--validation", type=_validation, nargs="?", const=True,
                           dest="hold_out", metavar="SHARE",
                           help="choose the epoch on this share (0.1) or number of the training "
                                "identities, which are not trained on; without a value on a "
                                "table's val_query and val_gallery")
    else:
        group.add_argument("--validation", action=argparse.BooleanOptionalAction, default=None,
                           help="test on a table's val_query and val_gallery")
    group.add_argument("--test-share", type=float, metavar="SHARE",
                       help="identities to test where the data has no splits (default: 0.5)")
    group.add_argument("--no-cameras", action="store_true",
                       help="names in a folder tell no camera")
    return group


def _common(parser):
    parser.add_argument("--threads", type=_positive, metavar="N",
                        help="default: all processors")
    parser.add_argument("--traceback", action="store_true", help="show where an error happened")


def _device(parser):
    parser.add_argument("--device", default="cpu", metavar="NAME",
                        help="cpu, cuda or cuda:1 (default: cpu)")


def _precision(parser):
    parser.add_argument("--precision", choices=("float32", "bfloat16", "int8"),
                        help="compute in it (default: what the checkpoint was saved with)")
    parser.add_argument("--calibrate", action="append", metavar="IMAGE_OR_FOLDER",
                        help="with --precision int8: pictures to take the ranges of values from")


def _demo(commands):
    p = commands.add_parser(
        "demo", help="train a small MBGN on the embedded data set and show what it finds",
        description="Trains a small MBGN on drawn people, two to five minutes on two cores, tests "
        "it on others, prints a table and writes pictures.")
    p.add_argument("--out", default="demo", metavar="FOLDER", help="default: demo")
    p.add_argument("--quick", action="store_true",
                   help="a much smaller set and network, in seconds")
    p.add_argument("--epochs", type=_positive, metavar="N", help="train this long")
    p.add_argument("--seed", type=_seed, default=0, metavar="N",
                   help="of the initial weights and the order of the pictures")
    p.add_argument("--resume", action="store_true", help="go on where Ctrl-C stopped it")
    _common(p)


def _train(commands):
    p = commands.add_parser(
        "train", help="train a network", epilog=DATA_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trains by a recipe. RUN gets metrics.csv, recipe.json, run.json and a\n"
        "checkpoint after every epoch and after Ctrl-C; --resume goes on from there to the same\n"
        "bits as a run that was never stopped (RUN alone is enough then).")
    p.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    p.add_argument("--resume", action="store_true", help="go on with the run in RUN")
    p.add_argument("--recipe", metavar="NAME", help="default: the system's; `reidc info --recipes`")
    p.add_argument("--set", type=key_value, action="append", default=[], metavar="KEY=VALUE",
                   dest="settings", help="change a recipe's key, as optimizer.lr=1e-4")
    p.add_argument("--epochs", type=_positive, metavar="N", help="in place of the recipe's")
    p.add_argument("--seed", type=_seed, metavar="N",
                   help="of the initial weights and of the recipe")
    p.add_argument("--seeds", type=_positive, metavar="COUNT",
                   help="so many runs, with seeds that follow each other, in RUN/seed0, …")
    _data_options(p, False, training=True)
    group = _network_options(p, None)
    group.add_argument("--pretrained", metavar="FILE",
                       help="a ResNet's weights for the backbone (.safetensors, .npz, .pth) or a "
                            "hub id")
    p.add_argument("--no-test", action="store_true", help="do not test before and after")
    p.add_argument("--precision", choices=("float32", "bfloat16"),
                   help="of feature maps and convolutions (default: float32)")
    _device(p)
    _common(p)


def _compare(commands):
    p = commands.add_parser(
        "compare", help="mean and spread of runs over their seeds",
        description="Tells runs apart by everything but the seed and prints, for each group, mean\n"
        "and sample standard deviation of what the tests found.")
    p.add_argument("runs", nargs="+", metavar="RUN",
                   help="folder of a run, or a folder that holds runs")
    p.add_argument("--json", metavar="FILE", help="write the numbers, too")
    p.add_argument("--traceback", action="store_true", help="show where an error happened")


def _eval(commands):
    p = commands.add_parser(
        "eval", help="test a trained network", epilog=DATA_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Tests a network on the query and gallery pictures of a data set: prints\n"
        "mAP, mINP and CMC, and saves them as JSON.")
    p.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT",
                   help="folder of a run (its data is the default), or a saved network")
    _data_options(p, False)
    p.add_argument("--flip", action=argparse.BooleanOptionalAction, default=None,
                   help="average with the mirrored picture (default: as the system's page)")
    p.add_argument("--ap", choices=("precision", "trapezoid"), default="precision",
                   help="how average precision is summed")
    p.add_argument("--interval", action="store_true",
                   help="add 95 %% intervals (bootstrap over the queries)")
    p.add_argument("--json", metavar="FILE", help="default: beside the checkpoint")
    _precision(p)
    _device(p)
    _common(p)


def _embed(commands):
    p = commands.add_parser(
        "embed", help="embeddings of pictures",
        description="Writes an .npz with `embeddings` (float32 N×D), `paths` and `contract`, what "
        "the embedding means.")
    p.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    p.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER")
    p.add_argument("-o", "--output", required=True, metavar="FILE.npz")
    p.add_argument("--flip", action=argparse.BooleanOptionalAction, default=False,
                   help="average with the mirrored picture")
    p.add_argument("--normalize", action=argparse.BooleanOptionalAction, default=True,
                   help="to unit length")
    _precision(p)
    _device(p)
    _common(p)


def _cam(commands):
    p = commands.add_parser(
        "cam", help="where a network looks in pictures (Grad-CAM)",
        description="Writes a PNG for each picture, half picture, half heat map, and maps.npz with "
        "`maps` (float32 N×height×width, 0 to 1), `paths` and `settings`.")
    p.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    p.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER")
    p.add_argument("-o", "--output", required=True, metavar="FOLDER")
    p.add_argument("--target", metavar="CLASS|norm|similar:IMAGE",
                   help="the score: a class of the training set, the embedding's length, or its "
                   "likeness to a picture's (default: the best class)")
    p.add_argument("--layer", metavar="NAME", help="the feature map (default: the system's)")
    p.add_argument("--head", metavar="NAME", help="one classifier instead of the mean over all")
    p.add_argument("--method", choices=("gradcam", "activation"), default="gradcam",
                   help="activation: the map's strength, whatever the score")
    _device(p)
    _common(p)


def _export(commands):
    p = commands.add_parser(
        "export", help="an ONNX file of a trained network",
        description="Writes the network as an ONNX file (input `images`, output `embedding`), "
        "compared with onnxruntime where it is installed. Needs onnx: pip install 'reidc[export]'.")
    p.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    p.add_argument("-o", "--output", required=True, metavar="FILE.onnx")
    p.add_argument("--flip", action=argparse.BooleanOptionalAction, default=False,
                   help="average with the mirrored picture, inside")
    p.add_argument("--normalize", action=argparse.BooleanOptionalAction, default=False,
                   help="rows of unit length (default: as the system's page has the embedding)")
    p.add_argument("--batch", type=_positive, metavar="N", help="fixed; default: any")
    p.add_argument("--input", choices=("float32", "uint8"), default="float32",
                   help="N×3×H×W, already normalised, or N×H×W×3 RGB of the network's size, "
                        "normalised inside")
    p.add_argument("--fold", action=argparse.BooleanOptionalAction, default=True,
                   help="batch norms into the layers before them")
    p.add_argument("--check", action=argparse.BooleanOptionalAction, default=True,
                   help="run the file before it is written")
    _common(p)


def _info(commands):
    p = commands.add_parser(
        "info", help="this machine, a network layer by layer, or what is wrong with a data set",
        epilog=DATA_HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Without arguments: version, processor level, threads. With a checkpoint or\n"
        "--system: a table by layer, and the plan with --plan. With --data: splits, identities,\n"
        "cameras, what was noticed, and every picture is read once; status 1 if one cannot be.")
    p.add_argument("checkpoint", nargs="?", metavar="RUN_OR_CHECKPOINT")
    p.add_argument("--recipes", nargs="?", const="", metavar="NAME",
                   help="list the recipes, or show the whole of one")
    p.add_argument("--plan", type=_positive, metavar="BATCH",
                   help="the list of calls for a batch: kernel, shape, bytes, MACs")
    p.add_argument("--training", action="store_true", help="with --plan: of a training step")
    p.add_argument("--classes", type=_positive, default=751, metavar="N",
                   help="identities, with --system (default: 751)")
    _data_options(p, False)
    _network_options(p, None)
    _device(p)
    _common(p)


def _ablate(commands):
    p = commands.add_parser(
        "ablate", help="train the rows of a paper's ablation tables",
        epilog=DATA_HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trains every row of a system's ablation tables and prints the paper's\n"
        "numbers and ours side by side. Rows that coincide run once; the same command again\n"
        "goes on where it was stopped. docs/ablations.md says what is compared and how.")
    p.add_argument("system", metavar="NAME", help="mbgn, mfa, hamr, mgaf or fsac")
    p.add_argument("--out", metavar="DIR", help="folder of the runs (default: ablate-NAME)")
    p.add_argument("--scale", choices=("small", "full"), default="small",
                   help="small: a narrow network and small pictures, under half an hour a seed on "
                        "two cores; full: the paper's recipe (default: small)")
    p.add_argument("--tables", type=_words, metavar="N,…", help="only these, by their numbers")
    p.add_argument("--rows", type=_words, metavar="KEY,…",
                   help="only these, by the names of their folders")
    p.add_argument("--seeds", type=_positive, default=1, metavar="N",
                   help="runs of each row; order is claimed from 2 on (default: 1)")
    p.add_argument("--recipe", metavar="NAME", help="in place of the scale's")
    p.add_argument("--epochs", type=_positive, metavar="N", help="of every run")
    p.add_argument("--set", type=key_value, action="append", default=[], metavar="KEY=VALUE",
                   dest="settings", help="change the recipe of all rows, as optimizer.lr=1e-4")
    p.add_argument("--pretrained", metavar="FILE",
                   help="a ResNet's weights for the backbone of every row")
    _data_options(p, True)
    _common(p)


def _size(text):
    """'384x128' as (384, 128)."""
    height, _, width = text.partition("x")
    if not height.isdecimal() or not width.isdecimal():
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, as 384x128, got {text!r}")
    return int(height), int(width)


def _bench(commands):
    p = commands.add_parser(
        "bench", help="speed and memory on this machine, beside every installed peer",
        description="Prints images a second of reidc, PyTorch, ONNX Runtime and OpenVINO, who take "
        "turns on the same cores; what is not installed is left out with a line. PyTorch runs the "
        "source tree's own networks (tests/nets/twins), the other two what `reidc export` writes. "
        "The whole takes hours: choose with --systems, --cases and --precisions.")
    p.add_argument("--quick", action="store_true",
                   help="fp32 inference of 1 and 8 images, three rounds")
    p.add_argument("--systems", type=_words, metavar="NAME,…", help="default: all six")
    p.add_argument("--cases", type=_words, metavar="CASE,…",
                   help="inferN, train or trainN (default: infer1,infer8,infer32,train: of 16 "
                        "images for Baseline, 8 for the others)")
    p.add_argument("--precisions", type=_words, metavar="P,…",
                   help="fp32, bf16, int8 (default: all that the build has)")
    p.add_argument("--peers", type=_words, metavar="NAME,…",
                   help="torch, onnxruntime, openvino, or none (default: all installed)")
    what = p.add_mutually_exclusive_group()
    what.add_argument("--layers", action="store_true",
                      help="instead: our time and share of the measured peak, layer by layer")
    what.add_argument("--memory", action="store_true",
                      help="instead: the peak of a training step, each in a process of its own")
    what.add_argument("--tune", action="store_true",
                      help="instead: measure which kernel runs each convolution fastest and write "
                           "the table that reidc reads from then on (docs/tuning.md)")
    p.add_argument("--out", metavar="FILE",
                   help="of --tune (default: the user's place, below ~/.cache/reidc/tune)")
    p.add_argument("--size", type=_size, metavar="HEIGHTxWIDTH",
                   help="of the pictures of --tune and --layers (default: each page's)")
    p.add_argument("--low", action="store_true",
                   help="our training steps with memory='low' (--memory shows both)")
    p.add_argument("--rounds", type=_positive, metavar="N",
                   help="default: 15 (--tune: 7, --quick: 3)")
    p.add_argument("--pause", type=float, default=0.3, metavar="SECONDS",
                   help="before each turn (default: 0.3)")
    p.add_argument("--width-multiplier", type=float, default=1.0, metavar="W",
                   help="narrower networks, to try the command")
    p.add_argument("--twins", metavar="FOLDER", help="that holds the package twins")
    p.add_argument("--json", metavar="FILE", help="write the numbers and every sample, too")
    _common(p)


def make_parser():
    """The whole parser."""
    from reidc import __version__

    parser = argparse.ArgumentParser(
        prog="reidc", description="Person re-identification networks with a C core.")
    parser.add_argument("--version", action="version", version=f"reidc {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for add in (_demo, _train, _eval, _compare, _embed, _cam, _export, _info, _ablate,
                _bench):
        add(commands)
    return parser


def _say(line):
    print(f"reidc: {line}", file=sys.stderr, flush=True)


def _sentence(error):
    """One line that says what went wrong."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError) and not text:
        text = "out of memory"
    kind = type(error).__name__
    return text if text and not isinstance(error, (KeyError, AssertionError)) else f"{kind}: {text}"


def run(argv=None):
    """Parse, run, and turn what fails into a line and an exit status."""
    import os
    import warnings

    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return stop.code
    if arguments.command is None:
        parser.print_usage(sys.stderr)
        _say("error: which command? One of demo, train, eval, compare, embed, cam, "
             "export, info, ablate, bench")
        return 2
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without × shows ? in its place
            stream.reconfigure(errors="replace")
    shown = warnings.showwarning
    warnings.showwarning = lambda message, *_, **__: _say(f"note: {message}")
    try:
        from reidc import commands

        return getattr(commands, arguments.command)(arguments) or 0
    except UsageError as error:
        _say(f"error: {_sentence(error)}")
        return 2
    except KeyboardInterrupt as stop:
        _say(str(stop) or "stopped")
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.traceback:
            raise
        _say(f"error: {_sentence(error)}")
        return 1
    finally:
        warnings.showwarning = shown
