"""Contestants take turns, with a pause before each, so that a change of the machine's clock or load
meets all of them and no one's waiting threads run under another's step. Medians are compared, and
ratios are medians of the rounds' own ratios."""
import statistics
import time
from contextlib import ExitStack

from reidc.bench.contestants import LeftOut, names
from reidc.bench.worker import Worker

SLICE = 0.25  # seconds of steps in a turn, at least one step


def measure(case, setting, peers, folder, rounds, pause, leave_out):
    """{contestant: [(clock, threads) a round]}; leave_out(reason) hears what does not run. Nothing
    where reidc itself does not."""
    with ExitStack() as stack:
        workers, counts = {}, {}
        for name in names(case, peers):
            try:
                worker = stack.enter_context(Worker(name, case, setting, folder))
            except LeftOut as reason:
                leave_out(str(reason))
                if name == "reidc":
                    return {}
                continue
            except RuntimeError as error:  # a peer that died is no reason to lose the table
                if name == "reidc":
                    raise
                leave_out(f"{case.system}, {case.label}, {case.precision}: {error}")
                continue
            workers[name] = worker
            counts[name] = max(1, min(50, int(SLICE / worker.run(1)[0])))
        samples = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                time.sleep(pause)
                samples[name].append(worker.run(counts[name]))
    return samples


def summary(case, samples, macs, peak):
    """Medians of one case, as plain data. peak: float32 operations a second."""
    wall = {name: statistics.median(s[0] for s in found) for name, found in samples.items()}
    result = {"system": case.system, "training": case.training, "batch": case.batch,
              "precision": case.precision, "rounds": len(samples["reidc"]), "seconds": wall,
              "images_a_second": {name: case.batch / v for name, v in wall.items()},
              "cpu_seconds": {name: statistics.median(s[1] for s in found)
                              for name, found in samples.items()}, "samples": samples}
    if case.precision == "fp32":
        result["share_of_peak"] = (2 * macs * case.batch * (3 if case.training else 1)
                                   / wall["reidc"] / peak)
    result["ratio"] = {name: statistics.median(
        theirs[0] / own[0] for theirs, own in zip(found, samples["reidc"]))
        for name, found in samples.items() if name != "reidc"}
    result["fastest_peer"] = min((name for name in wall if name != "reidc"), key=wall.get,
                                 default=None)
    return result
