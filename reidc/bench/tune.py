"""`reidc bench --tune`: which kernel of each list runs the convolutions of the cases fastest.

They are measured where they are used: whole networks run, in turns, one for each place in the
lists, and every step is timed, so that caches hold what they hold in earnest and a training step's
packing of weights counts. The table goes to a file that later imports read (reidc/_tuned.py,
docs/tuning.md).
"""
import datetime
import os
import re
import statistics
import time

from reidc import _core, _tuned
from reidc._files import make_folder, write_atomic
from reidc.bench import contestants

SLICE = 0.1  # seconds of steps in a turn, at least one step
MARGIN = 1.03  # how many times as fast another kernel must be to take the place of the rule's …
MOST = 0.75  # … and in which share of the rounds faster at all
NAME = re.compile(r"rc_(\w+?)_conv2d_(fwd|bwd_x|bwd_w)_")
HEADS = "| element, pass | n×h×w×c→k, kernel | rule's, ms | others, ms | times | chosen | in |"


def part_of(kernel):
    """('f32', 'fwd') of rc_f32_conv2d_fwd_6x16__avx2."""
    return NAME.match(kernel).groups()


def lines_of(text):
    """{(part, shape): line} of those entries of a readable table whose kernels are there."""
    found = {}
    for line in text.splitlines():
        kernel, *shape = line.split("#")[0].split() or [""]
        if NAME.match(kernel):
            (element, which), shape = part_of(kernel), tuple(map(int, shape))
            if kernel in _core._conv_kernels(which, shape, element == "bf16"):
                found[(element, which), shape] = line
    return found


def head(version):
    return f"reidc-tune 1\nversion {version}\ncpu {_core.config()['cpu_model']}\n"


def table(version, choices):
    """A table's text of {(part, shape): kernel}."""
    return head(version) + "".join(f"{kernel} {' '.join(map(str, shape))}\n"
                                   for (_, shape), kernel in choices.items())


# ---- measuring ----------------------------------------------------------------------------------


class Runner:
    """A case's network with the kernels that a table names, and the time of each convolution."""

    def __init__(self, case, setting, text):
        _core._tune_set(text, "a measurement")
        self.case, m = case, contestants.ready(case, setting)
        self._m, self._step = m, contestants.step_of(m, case, whole=True)
        self._step()  # plans, packed weights
        m.profile(True)
        began = time.perf_counter()
        self._step()
        self._count = max(1, min(50, int(SLICE / (time.perf_counter() - began))))
        self.kernels = {}
        for kernel, shape, _, _ in self._convolutions():
            self.kernels[part_of(kernel), shape] = kernel

    def _convolutions(self):
        return self._m._convolutions(self.case.batch, self.case.training)

    def run(self):
        """{(part, shape): seconds of a step, all layers of that shape together}."""
        before = self._convolutions()
        for _ in range(self._count):
            self._step()
        found = {}
        for (kernel, shape, now, runs), (_, _, then, earlier) in zip(self._convolutions(), before):
            key = part_of(kernel), shape
            found[key] = found.get(key, 0.0) + (now - then) / (runs - earlier)
        return found


def candidates(runner):
    """{(part, shape): kernels, the rule's first} of those that leave a choice."""
    found = {}
    for ((element, which), shape), kernel in runner.kernels.items():
        names = _core._conv_kernels(which, shape, element == "bf16")
        if len(names) > 1:
            found[(element, which), shape] = [kernel, *(n for n in names if n != kernel)]
    return found


def measure(case, setting, version, rounds, pause):
    """{(part, shape): {kernel: [seconds a round]}}, the rule's kernel first."""
    runners = [Runner(case, setting, None)]
    choice = candidates(runners[0])
    for i in range(1, max(map(len, choice.values()), default=0)):
        wanted = {key: names[min(i, len(names) - 1)] for key, names in choice.items()}
        runners.append(Runner(case, setting, table(version, wanted)))
    samples = {key: {name: [] for name in names} for key, names in choice.items()}
    for _ in range(rounds if choice else 0):
        for i, runner in enumerate(runners):
            time.sleep(pause)
            for key, seconds in runner.run().items():
                if key in choice and i < len(choice[key]):
                    samples[key][choice[key][i]].append(seconds)
    return samples


def summary(key, samples):
    """What was found for one shape, as plain data; `times`: the chosen kernel beside the rule's."""
    part, shape = key
    rule, *others = samples
    medians = {name: statistics.median(found) for name, found in samples.items()}
    ratios = {name: [a / b for a, b in zip(samples[rule], samples[name])] for name in others}
    best = max(others, key=lambda name: statistics.median(ratios[name]))
    ratio = statistics.median(ratios[best])
    faster = sum(value > 1 for value in ratios[best]) >= MOST * len(ratios[best])
    return {"element": part[0], "pass": part[1], "shape": shape, "seconds": medians, "rule": rule,
            "chosen": best if ratio >= MARGIN and faster else rule, "best_other": ratio,
            "samples": samples}


def row(found):
    """One line of the report."""
    n, h, w, c, k, kh, kw, stride, _, _ = found["shape"]
    seconds = found["seconds"]
    others = ", ".join(f"{1e3 * s:.3f} {_short(name)}" for name, s in seconds.items()
                       if name != found["rule"])
    return (f"| {found['element']}, {found['pass']} | {n}×{h}×{w}×{c}→{k}, {kh}×{kw}"
            + (f"/{stride}" if stride > 1 else "")
            + f" | {1e3 * seconds[found['rule']]:.3f} {_short(found['rule'])} | {others} | "
              f"{found['best_other']:.2f} | "
            + ("the rule's" if found["chosen"] == found["rule"] else _short(found["chosen"]))
            + " |")


def _short(kernel):
    return NAME.sub("", kernel).strip("_").replace("__", " ")


# ---- the file -----------------------------------------------------------------------------------


def existing(path, version, note):
    """{(part, shape): line} of the table that is there; {} where none is, or one of another version
    or CPU. ArgumentError: what is there is something else."""
    try:
        text = _tuned.read(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _core.FileError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        _core._tune_set(text, path, version)
    except _core.ArgumentError as error:
        if not re.search("^reidc-tune ", text, re.MULTILINE):
            raise
        note(f"{error}; it is written anew")
        return {}
    return lines_of(text)


def write(path, version, kept, results, threads, processor):
    """The table, in one go: what was measured now in the place of what was there."""
    day = datetime.date.today().isoformat()
    lines = dict(kept)
    for found in results:
        line = f"{found['chosen']} {' '.join(map(str, found['shape']))}"
        times = ", ".join(f"{1e3 * seconds:.3f} ms {_short(name)}"
                          for name, seconds in found["seconds"].items())
        lines[(found["element"], found["pass"]), found["shape"]] = (
            f"{line}  # {times}; {threads} threads, {day}")
    text = ("# Which kernel runs a convolution, measured by `reidc bench --tune`; docs/tuning.md\n"
            "# has the format. An entry: the kernel, then n h w c k kh kw stride pad groups.\n"
            + head(version) + f"# {processor}\n"
            + "".join(lines[key] + "\n" for key in sorted(lines)))
    with write_atomic(path) as file:
        file.write(text.encode())
    return len(lines)


def run(cases, setting, rounds, pause, out, record, leave_out):
    """Measures, prints, writes. The table that was in force at import is so again afterwards."""
    import reidc

    version, path = reidc.__version__, out or _tuned.own_place()
    try:
        kept = existing(path, version, leave_out) or (
            {} if out else lines_of(_tuned.shipped_text() or ""))
        gathered = {}
        print(f"\nMedians of {rounds} rounds in turns, all layers of a shape together; times: how "
              f"many as fast the best other kernel is as the rule's\n\n{HEADS}\n"
              + "|" + " --- |" * 7, flush=True)
        for case in cases:
            if case.precision == "int8":
                leave_out("int8: one kernel for every convolution, nothing to choose")
                continue
            try:
                samples = measure(case, setting, version, rounds, pause)
            except contestants.LeftOut as reason:
                leave_out(str(reason))
                continue
            if not samples:
                leave_out(f"{case.system}, {case.label}, {case.precision}: no convolution has two "
                          "kernels here")
            for key, found in samples.items():
                seen = gathered.setdefault(key, {name: [0.0] * rounds for name in found})
                for name, seconds in found.items():  # where cases share a shape, their sum counts
                    seen.setdefault(name, [0.0] * rounds)
                    seen[name] = [a + b for a, b in zip(seen[name], seconds)]
                print(row(summary(key, found)) + f" {case.system}, {case.label} |", flush=True)
        results = [summary(key, found) for key, found in gathered.items()]
        record["tune"] = results
        if not results:
            print("nothing to choose: nothing written")
            return
        if not out:
            make_folder(os.path.dirname(os.path.abspath(path)))
        count = write(path, version, kept, results, setting.threads,
                      record["machine"]["processor"])
        changed = sum(found["chosen"] != found["rule"] for found in results)
        print(f"\nwritten: {path}: {count} entries; of {len(results)} measured now {changed} are "
              "not the rule's")
    finally:
        _tuned.load(version)
