"""CMC curves of evaluations; losses and tests of training runs."""
import csv
import json
import os

import numpy as np

from reidc import _checks
from reidc._core import ArgumentError, ArgumentTypeError, FileError, FileMissingError
from reidc.plot import _canvas as c

_NOT_LOSSES = {"epoch", "lr", "images_per_second", "seconds", "mAP", "rank1", "mINP"}
_TESTS = {"rank1": "rank-1", "mAP": "mAP"}  # what is drawn of a test


def _named(values, what, single, names=None):
    """{name: value} of a dict, a list or one value; `single` says whether it is one."""
    if isinstance(values, dict) and not single(values):
        named = dict(values)
    elif single(values):
        named = {"": values}
    elif isinstance(values, (list, tuple)):
        named = {str(i + 1): value for i, value in enumerate(values)}
    else:
        raise ArgumentTypeError(f"{what}: expected one, a list or a dict of names, got "
                                f"{type(values).__name__}")
    if names is not None:
        named = dict(zip(c.check_texts(names, len(named), "names"), named.values()))
    if not named:
        raise ArgumentError(f"{what}: expected at least one, got none")
    return {str(name): value for name, value in named.items()}


def _read(path, what):
    if not os.path.exists(path):
        raise FileMissingError(f"{what}: no such file or folder: {path}")
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


# ---- CMC -------------------------------------------------------------------------------------


def _cmc_of(value, name):
    """(cmc array, mAP or None) of an Evaluation, its saved JSON or an array."""
    where = f"evaluations[{name!r}]" if name else "evaluations"
    if hasattr(value, "cmc"):
        return np.asarray(value.cmc, float), float(value.mAP)
    if isinstance(value, (str, os.PathLike)):
        try:
            saved = json.loads(_read(value, where))
            return np.asarray(saved["cmc"], float), float(saved["mAP"])
        except (ValueError, KeyError, TypeError):
            raise FileError(f"{where}: {value} is no saved evaluation") from None
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind != "f" or not array.size:
        raise ArgumentTypeError(f"{where}: expected an Evaluation, a path of its JSON or a float "
                                f"array of shares, got {type(value).__name__}")
    if not ((array >= 0) & (array <= 1)).all():
        raise ArgumentError(f"{where}: expected shares from 0 to 1")
    return array.astype(float), None


def cmc(evaluations, *, names=None, max_rank=20, title=None, width=3.5):
    """CMC curves: the share of queries with a match among their first k.

    evaluations: an `Evaluation`, or several in a list or as {name: evaluation}; in their place a
        path of the JSON that `Evaluation.save` writes, or an array cmc[k-1] of shares. names: of
        those in a list. max_rank: the last k shown. width: inches.
    The legend gives mAP and rank-1 of each in percent, in the order given.
    TypeError, ValueError: something else; FileNotFoundError, OSError: no such file, or another one.
    """
    width, max_rank = c.check_width(width), _checks.count("max_rank", max_rank)

    def single(value):
        return (hasattr(value, "cmc") or isinstance(value, (str, os.PathLike, np.ndarray))
                or (isinstance(value, (list, tuple)) and len(value) > 0
                    and all(isinstance(x, (float, np.floating)) for x in value)))

    curves = {name: _cmc_of(value, name)
              for name, value in _named(evaluations, "evaluations", single, names).items()}
    with c.style() as figure:
        fig = figure(figsize=(width, 0.74 * width), layout="constrained")
        axes = fig.add_subplot()
        for i, (name, (shares, mean_ap)) in enumerate(curves.items()):
            shares = shares[:max_rank]
            numbers = [] if mean_ap is None else [f"mAP {100 * mean_ap:.1f}"]
            numbers.append(f"rank-1 {100 * shares[0]:.1f}")
            axes.plot(range(1, len(shares) + 1), 100 * shares, color=c.CURVES[i % len(c.CURVES)],
                      linestyle=c.DASHES[i % len(c.DASHES)], marker=c.MARKERS[i % len(c.MARKERS)],
                      label=(f"{name}: " if name else "") + ", ".join(numbers), clip_on=False,
                      zorder=3)
        axes.set_xlabel("rank")
        axes.set_ylabel("queries with a match (%)")
        longest = min(max_rank, max(len(shares) for shares, _ in curves.values()))
        axes.set_xlim(0.5 if longest > 1 else 0, longest + 0.5)
        step = 1 if longest <= 10 else 5 * -(-longest // 50)
        axes.set_xticks(sorted({1, *range(step, longest + 1, step)}))
        low = min(shares[0] for shares, _ in curves.values())
        axes.set_ylim(10 * int(max(0, 100 * low - 4) / 10), 100)
        axes.grid(axis="y", linewidth=0.4, color="#DDDFE3")
        axes.legend(loc="lower right")
        if title:
            axes.set_title(title)
    return fig


# ---- training --------------------------------------------------------------------------------


def _history(run, name):
    """A list of dicts, one an epoch, of a folder, a trainer or such a list."""
    where = f"runs[{name!r}]" if name else "runs"
    if hasattr(run, "history"):
        run = run.history
    if isinstance(run, (str, os.PathLike)):
        path = _checks.path(where, run)
        path = os.path.join(path, "metrics.csv") if os.path.isdir(path) else path
        rows = list(csv.DictReader(_read(path, where).splitlines()))
        try:
            run = [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in rows]
        except (TypeError, ValueError):
            raise FileError(f"{where}: {path} is no metrics.csv of a run") from None
        if not all("epoch" in row for row in run):
            raise FileError(f"{where}: {path} is no metrics.csv of a run")
    if not isinstance(run, (list, tuple)) or not all(
            isinstance(row, dict) and "epoch" in row for row in run):
        raise ArgumentTypeError(f"{where}: expected a run's folder, a Trainer or its history, got "
                                f"{type(run).__name__}")
    if not run:
        raise ArgumentError(f"{where}: no epoch is done yet")
    return run


def _line(axes, rows, key, label, scale=1, marked=False):
    points = [(row["epoch"], scale * row[key]) for row in rows if key in row]
    i = len(axes.lines)
    if points:
        axes.plot(*zip(*points), color=c.CURVES[i % len(c.CURVES)],
                  linestyle=c.DASHES[i % len(c.DASHES)], label=label,
                  marker=c.MARKERS[i % len(c.MARKERS)] if marked else None)


def _losses(axes, rows, name):
    """Every part of one run, or the total of run `name`."""
    if name is not None:
        return _line(axes, rows, "total", name)
    parts = {key for row in rows for key in row} - _NOT_LOSSES
    for key in sorted(parts, key=lambda key: (key != "total", key)):
        _line(axes, rows, key, key)


def _tests(axes, rows, name):
    """mAP and rank-1 of one run, or the mAP of run `name`."""
    if name is not None:
        return _line(axes, rows, "mAP", name, 100, True)
    for key, word in _TESTS.items():
        _line(axes, rows, key, word, 100, True)


def training(runs, *, names=None, title=None, width=7.0):
    """Training curves: losses by epoch, and the tests where there were any.

    runs: a run's folder (its `metrics.csv` is read), a `Trainer`, its `history` (a list of dicts
        with "epoch"), or several in a list or as {name: run}. One run: every part of the loss,
        mAP and rank-1; several: `total` and mAP of each.
    width: inches. TypeError, ValueError: something else, or no epoch yet; FileNotFoundError,
    OSError: no such run, or another file.
    """
    width = c.check_width(width)

    def single(value):
        return (hasattr(value, "history") or isinstance(value, (str, os.PathLike))
                or (isinstance(value, (list, tuple)) and len(value) > 0
                    and all(isinstance(row, dict) for row in value)))

    histories = {name: _history(run, name)
                 for name, run in _named(runs, "runs", single, names).items()}
    tested = any(key in row for rows in histories.values() for row in rows for key in _TESTS)
    with c.style() as figure:
        fig = figure(figsize=(width if tested else width / 2, 0.36 * width), layout="constrained")
        panels = fig.subplots(1, 2 if tested else 1, squeeze=False)[0]
        alone = len(histories) == 1
        for name, rows in histories.items():
            _losses(panels[0], rows, None if alone else name)
            if tested:
                _tests(panels[1], rows, None if alone else name)
        heads = ("training loss", "test (%)" if alone else "test, mAP (%)")
        last = max(row["epoch"] for rows in histories.values() for row in rows)
        for axes, head in zip(panels, heads):
            axes.set_xlabel("epoch")
            axes.set_ylabel(head)
            axes.set_xlim(0, last * 1.02)
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", linewidth=0.4, color="#DDDFE3")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend()
        if tested:
            panels[1].set_ylim(0, 100)
        if title:
            fig.suptitle(title, fontsize=9)
    return fig
