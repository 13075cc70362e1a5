"""Ablation results beside the paper's: means, deviations, claims of order, Markdown and JSON.

A claim compares two rows. Let a and b be the means of n >= 2 seeds each, s_a and s_b their sample
deviations: the ratio is (b - a) / sqrt(s_a^2 + s_b^2), the difference of the means over the
deviation of the difference of two single runs. Beyond 2 in size it agrees with the paper's order or
does not; otherwise nothing is decided, nor where a run has not learned: its identity loss ended
within LEARNED of chance. The metric is mAP where the paper prints it for both rows, else rank-1.
"""
import json
import os
from math import copysign, log, sqrt
from statistics import fmean, stdev

from reidc import _checks
from reidc._files import write_atomic
from reidc.ablation_tables import CROSS
from reidc.progress import duration

BEYOND = 2.0  # deviations
LEARNED = 0.95  # of log(number of identities), which the identity loss of guessing is
AGREES, CONTRARY, OPEN = "agrees", "does not", "not decided"
METRICS = ("rank1", "mAP")  # in the order of the paper's pairs


def ratio(a, b):
    """Difference of the means of two samples over their combined deviation; None: one of them
    has fewer than two values."""
    if len(a) < 2 or len(b) < 2:
        return None
    difference, spread = fmean(b) - fmean(a), sqrt(stdev(a) ** 2 + stdev(b) ** 2)
    if spread == 0:  # no seed made a difference
        return copysign(1e9, difference) if difference else 0.0
    return difference / spread


def verdict(direction, a, b):
    """Whether samples a and b bear out that b is above (direction > 0) or below (< 0) a."""
    found = ratio(a, b)
    if found is None or not abs(found) > BEYOND:
        return OPEN
    return AGREES if found * direction > 0 else CONTRARY


def direction(a, b):
    """(metric, difference b - a) of two of the paper's cells; None: they cannot be compared."""
    if not isinstance(a, tuple) or not isinstance(b, tuple):
        return None
    for place in (1, 0):
        if a[place] is not None and b[place] is not None:
            return METRICS[place], b[place] - a[place]
    return None


def circumstances():
    """Where and when numbers were made, as plain data."""
    import sys

    from reidc.evaluation import _circumstances

    return {**_circumstances(), "processors": os.cpu_count(), "command": sys.argv}


class Ablation:
    """`.tables`, `.setup` (recipe, data), `.runs` {row key: [a dict a seed]}; printing it gives
    the Markdown, `.save(folder)` writes `ablation.md` and `ablation.json`. classes: identities to
    train on."""

    def __init__(self, system, tables, setup, classes):
        self.system, self.tables, self.setup = system, tables, setup
        self.chance = log(classes)
        self.runs, self.provenance = {}, {}

    def add(self, key, result):
        """A run's numbers: `mAP`, `rank1` (of 1), `id`, `seed`, `parameters`, `inference`,
        `seconds`."""
        self.runs.setdefault(key, []).append(result)

    def has(self, key, seed):
        return any(run["seed"] == seed for run in self.runs.get(key, ()))

    def count(self):
        return sum(map(len, self.runs.values()))

    def values(self, key, metric):
        """A row's numbers, one a seed: in per cent (rank1, mAP, mINP), else as they are."""
        scale = 100 if metric in ("rank1", "mAP", "mINP") else 1
        return [scale * run[metric] for run in self.runs.get(key, ())]

    def failed(self, key):
        """How many of a row's runs have not learned."""
        return sum(not value < LEARNED * self.chance for value in self.values(key, "id"))

    # ---- claims

    def _verdict(self, a, b, pair):
        """Of two rows, by the paper's (metric, difference)."""
        if self.failed(a.key) or self.failed(b.key):
            return OPEN
        return verdict(pair[1], *(self.values(row.key, pair[0]) for row in (a, b)))

    def columns(self, table):
        """The data sets of a table whose order ours can be held against: not those that are
        trained on one set and tested on another."""
        return [name for name in table.columns if name not in CROSS]

    def against_first(self, table, row):
        """A row's claim against the table's first row, over all data sets of the paper."""
        first, found = table.rows[0], []
        for name in self.columns(table):
            pair = direction(first.paper.get(name), row.paper.get(name))
            if pair:
                found.append((pair[1], self._verdict(first, row, pair)))
        if row is first or row.key not in self.runs or first.key not in self.runs:
            return ""
        if not found:
            return "paper: lost"
        if len({(by > 0) - (by < 0) for by, _ in found}) > 1:
            return "paper: both ways"
        return OPEN if found[0][0] == 0 else found[0][1]

    def pairs(self, table, name):
        """Every pair of rows that the paper orders on a data set and that ran here:
        [(key, key, metric, the paper's difference, ratio, verdict)]."""
        rows, found = table.rows, []
        for i, a in enumerate(rows):
            for b in rows[i + 1:]:
                pair = direction(a.paper.get(name), b.paper.get(name))
                if pair and pair[1] and a.key in self.runs and b.key in self.runs:
                    ours = [self.values(row.key, pair[0]) for row in (a, b)]
                    found.append((a.key, b.key, pair[0], round(pair[1], 4), ratio(*ours),
                                  self._verdict(a, b, pair)))
        return found

    # ---- words

    def markdown(self):
        """The tables in Markdown."""
        recipe = self.setup["recipe"]
        lines = [f"# {self.system.upper()}: ablations, scale {self.setup['scale']}", "",
                 f"Data: {' '.join(self.setup['data'].split())}. {recipe['epochs']} epochs a run, "
                 f"{recipe['identities']} × {recipe['images']} pictures a step; " + ", ".join(
                     f"{k}={v}" for k, v in recipe["options"].items()) + "."]
        if self.provenance:
            p = self.provenance
            cpu = p["config"]
            lines += ["", f"{p['created'][:10]}, reidc {p['reidc']}, {cpu['cpu']}, "
                      f"{p['processors']} processors, {self.count()} runs, "
                      f"{duration(sum(sum(self.values(k, 'seconds')) for k in self.runs))} "
                      "in all."]
        for table in self.tables:
            lines += ["", *self._table(table)]
        return "\n".join(lines) + "\n"

    __str__ = markdown

    def _table(self, table):
        head = ["row"]
        for name in table.columns:
            head += [name, "Δ"] + ["ours"] * (name in CROSS)
        head += ["ours", "Δ", "Δ/s", "order", "parameters, paper", "ours", "seconds"]
        rows = [head, ["---"] * len(head)]
        rows += [self._row(table, row) for row in table.rows]
        lines = [f"## Table {table.number}: {table.title}", "",
                 *("| " + " | ".join(cells) + " |" for cells in rows)]
        summary = [s for s in (self._summary(table, name) for name in self.columns(table)) if s]
        if summary:
            lines += ["", "Order of all pairs of rows: " + "; ".join(summary) + "."]
        if table.note:
            lines += ["", table.note]
        return lines

    def _row(self, table, row):
        first, cells = table.rows[0], [row.label]
        for name in table.columns:
            own, base = row.paper.get(name), first.paper.get(name)
            cells += [_paper(own), "" if row is first else _paper_delta(base, own)]
            if name in CROSS:
                cells.append("no data")
        if row.key not in self.runs:
            return [*cells, "not run", "", "", "", _count(row.parameters), "", ""]
        ours = [self.values(row.key, metric) for metric in METRICS]
        base = [self.values(first.key, metric) for metric in METRICS]
        metric = self._metric(table)
        failed = self.failed(row.key)
        cells.append(" / ".join(map(_mean, ours)) + (
            f" ({failed} of {len(ours[0])} did not learn)" if failed else ""))
        if row is first or not base[0]:
            cells += ["", "", ""]
        else:
            found = ratio(self.values(first.key, metric), self.values(row.key, metric))
            cells += [" / ".join(f"{fmean(b) - fmean(a):+.1f}" for a, b in zip(base, ours)),
                      "" if found is None else f"{found:+.1f}", self.against_first(table, row)]
        counted = "inference" if table.inference else "parameters"
        return [*cells, _count(row.parameters), _count(self.runs[row.key][0][counted]),
                f"{fmean(self.values(row.key, 'seconds')):.0f}"]

    def _metric(self, table):
        """What claims of a table are about."""
        cells = [cell for row in table.rows for cell in row.paper.values()
                 if isinstance(cell, tuple)]
        return "mAP" if any(cell[1] is not None for cell in cells) else "rank1"

    def _summary(self, table, name):
        found = [pair[-1] for pair in self.pairs(table, name)]
        return found and (f"{name}: {found.count(AGREES)} of {len(found)} agree, "
                          f"{found.count(CONTRARY)} do not, {found.count(OPEN)} not decided")

    # ---- files

    def as_dict(self):
        """Plain data, as `save` writes it."""
        tables = []
        for table in self.tables:
            rows = [{**row._asdict(), "against_first": self.against_first(table, row)}
                    for row in table.rows]
            pairs = {name: [dict(zip(("a", "b", "metric", "paper", "ratio", "verdict"), pair))
                            for pair in self.pairs(table, name)] for name in self.columns(table)}
            tables.append({"number": table.number, "title": table.title, "note": table.note,
                           "rows": rows, "pairs": pairs})
        return {"system": self.system, "setup": self.setup, "provenance": self.provenance,
                "beyond": BEYOND, "runs": self.runs, "tables": tables}

    def save(self, folder, provenance=None):
        """Write `ablation.md` and `ablation.json`, each whole or not at all."""
        self.provenance = provenance or self.provenance
        text = json.dumps(self.as_dict(), indent=1, ensure_ascii=False, allow_nan=False,
                          default=str)
        folder = _checks.path("folder", folder)
        for name, words in (("ablation.md", self.markdown()), ("ablation.json", text + "\n")):
            with write_atomic(os.path.join(folder, name)) as file:
                file.write(words.encode())


def _mean(values):
    text = f"{fmean(values):.1f}"
    return text if len(values) < 2 else f"{text} ± {stdev(values):.1f}"


def _number(value):
    return "–" if value is None else f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def _paper(cell):
    if isinstance(cell, tuple):
        return " / ".join(map(_number, cell))
    return cell or "–"


def _paper_delta(base, cell):
    if not isinstance(base, tuple) or not isinstance(cell, tuple):
        return "–"
    return " / ".join("–" if a is None or b is None else f"{b - a:+.1f}"
                      for a, b in zip(base, cell))


def _count(value):
    return "–" if value is None else f"{value:,}"
