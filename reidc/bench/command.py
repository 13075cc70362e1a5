"""What `reidc bench` does: its options turned into cases, the tables printed as they come."""
import json
import sys

from reidc.bench import contestants, layers, machine, memory, tables, timing, tune
from reidc.bench.contestants import Case, Setting
from reidc.cli import UsageError
from reidc.commands import check_folder


def cases_of(arguments):
    """In the order of the report: by system, inference before training."""
    names = {name.lower(): name for name in contestants.SYSTEMS}
    found = []
    for word in arguments.systems or contestants.SYSTEMS:
        if word.lower() not in names:
            raise UsageError(f"--systems: expected some of {', '.join(contestants.SYSTEMS)}, got "
                             f"{word!r}")
        system = names[word.lower()]
        for precision in arguments.precisions or (["fp32"] if arguments.quick
                                                  else list(contestants.PRECISIONS)):
            if precision not in contestants.PRECISIONS:
                raise UsageError("--precisions: expected some of "
                                 f"{', '.join(contestants.PRECISIONS)}, got {precision!r}")
            for word in arguments.cases or (["infer1", "infer8"] if arguments.quick else
                                            ["infer1", "infer8", "infer32", "train"]):
                training, batch = _case(word, system)
                found.append(Case(system, training, batch, precision))
    return found


def _case(word, system):
    kind = next((k for k in ("infer", "train") if word.startswith(k)), None)
    batch = word.removeprefix(kind or "")
    if kind == "train" and not batch:
        batch = "16" if system == "Baseline" else "8"
    if kind is None or not batch.isdecimal() or int(batch) < (2 if kind == "train" else 1):
        raise UsageError(f"--cases: expected inferN, train or trainN (N from 2), got {word!r}")
    return kind == "train", int(batch)


def peers_of(arguments):
    """Those that are installed and wanted, in the order of the columns; says who is left out."""
    wanted = [] if arguments.peers == ["none"] else arguments.peers or list(machine.PEERS)
    for name in wanted:
        if name not in machine.PEERS:
            raise UsageError(f"--peers: expected none or some of {', '.join(machine.PEERS)}, got "
                             f"{name!r}")
    there = machine.installed()
    for name in wanted:
        if name not in there:
            _note(f"{machine.PEERS[name]} is not installed and is left out")
    return [name for name in machine.PEERS if name in wanted and name in there]


def _note(line):
    print(f"reidc: note: {line}", file=sys.stderr, flush=True)


class _Once:
    """Says each reason once."""

    def __init__(self):
        self.said = []

    def __call__(self, reason):
        if reason not in self.said:
            self.said.append(reason)
            _note(f"left out: {reason}")


def run(arguments):
    """`reidc bench`."""
    from reidc import _core
    from reidc._files import write_atomic

    if arguments.out and not arguments.tune:
        raise UsageError("--out: goes with --tune")
    if arguments.size and not (arguments.tune or arguments.layers):
        raise UsageError("--size: goes with --tune or --layers")
    if arguments.out:
        check_folder("--out", arguments.out)
    cases = cases_of(arguments)
    peers = [] if arguments.tune or arguments.layers else peers_of(arguments)
    twins = contestants.twins_folder(arguments.twins)
    if arguments.twins and not twins:
        raise UsageError(f"--twins: no package `twins` in {arguments.twins}")
    threads = arguments.threads or _core.config()["threads"]
    setting = Setting(threads, arguments.width_multiplier, twins,
                      "low" if arguments.low else "normal", arguments.size)
    rounds = arguments.rounds or (3 if arguments.quick else 7 if arguments.tune else 15)
    record = {"machine": machine.describe(threads), "rounds": rounds, "pause": arguments.pause,
              "width_multiplier": arguments.width_multiplier, "our_memory": setting.memory,
              "cases": [], "layers": [], "memory": []}
    for key, value in record["machine"].items():
        print(f"{key}: {value}")
    if "torch" in peers and not record["machine"]["tcmalloc"]:
        _note("no tcmalloc was found: PyTorch is slower for it (Debian: libtcmalloc-minimal4)")
    peak, leave_out = record["machine"]["peak_gflops"] * 1e9, _Once()
    if arguments.tune:
        tune.run(cases, setting, rounds, arguments.pause, arguments.out, record, leave_out)
    elif arguments.layers:
        _layers(cases, setting, peak, record, leave_out)
    elif arguments.memory:
        _memory(cases, setting, peers, record, leave_out)
    else:
        _speed(cases, setting, peers, rounds, arguments.pause, peak, record, leave_out)
    record["left_out"] = leave_out.said
    record["machine"]["load_after"] = machine.load()
    if arguments.json:
        with write_atomic(arguments.json) as file:
            file.write(json.dumps(record, indent=1).encode() + b"\n")
        print(f"written: {arguments.json}")


def _speed(cases, setting, peers, rounds, pause, peak, record, leave_out):
    print(f"\nImages a second, medians of {rounds} rounds in turns; times: reidc against each peer "
          "of the row, in the columns' order\n")
    print(tables.heads(peers), flush=True)
    known = {}
    with contestants.working_folder() as folder:
        for case in cases:
            if case.system not in known:
                m = contestants.network(case._replace(precision="fp32"), setting)
                known[case.system] = m.macs, (m.height, m.width)
                del m
            macs, sizes = known[case.system]
            samples = timing.measure(case, setting, peers, folder, rounds, pause, leave_out)
            if samples:
                result = timing.summary(case, samples, macs, peak)
                record["cases"].append(result)
                print(tables.row(result, peers, sizes), flush=True)


def _layers(cases, setting, peak, record, leave_out):
    for case in cases:
        try:
            m = contestants.ready(case, setting)
        except contestants.LeftOut as reason:
            leave_out(str(reason))
            continue
        steps = layers.profiled(m, case, peak)
        record["layers"].append({"system": case.system, "training": case.training,
                                 "batch": case.batch, "precision": case.precision, "steps": steps})
        print(layers.text(case, steps), flush=True)


def _memory(cases, setting, peers, record, leave_out):
    print("\nMiB of a training step with the optimiser of the page\n")
    print(memory.HEADS, flush=True)
    for case in cases:
        if not case.training:
            leave_out("--memory: a training step's alone, no inference")
            continue
        try:
            rows = memory.compare(case, setting, peers)
        except contestants.LeftOut as reason:
            leave_out(str(reason))
            continue
        record["memory"] += rows
        for row in rows:
            print(memory.line(row), flush=True)
