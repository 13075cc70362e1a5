"""Inference and training steps of reidc beside PyTorch twins, in one run on the same cores.

    LD_PRELOAD=libtcmalloc_minimal.so.4 OMP_WAIT_POLICY=PASSIVE python benchmarks/bench_step.py
        [--systems MFA,FSAC] [--cases infer1,infer8,train8] [--rounds 7] [--pause 1.0]
        [--json step.json] [--no-reidc | --no-torch]

Contestants of a case take turns, with a pause before each, so that a change of the machine's clock
or load meets all of them; medians are compared. PyTorch gets every core, both memory layouts (its
better one counts), inference_mode, a fused optimiser, and should get a good malloc: glibc's gives
large buffers back to the system after every step. On Debian: apt-get install libtcmalloc-minimal4.
The report says whether it was there. MBGN has two twins: the literal one, which builds the relation
matrix and unfolds the involution as the page writes them, and a tuned one, which does neither.
`peak` is the share of the processor's measured peak, by the page's multiply-accumulates (a training
step counts three times inference), of the time by the clock. `cpu` is the ratio of processor times
(all threads): on a machine that has other work it is the number to read.
"""
import argparse
import gc
import json
import os
import re
import statistics
import time
from pathlib import Path

from contestants import SYSTEMS, machine, reidc_network, reidc_runner, torch_runner, twin_kinds

ASKED = {"torch": 1.0, "literal": 3.0, "tuned": 1.5}


def parse_case(case):
    found = re.fullmatch(r"(infer|train)(\d+)", case)
    if not found:
        raise SystemExit(f"--cases: expected inferN or trainN, got {case!r}")
    return found[1] == "train", int(found[2])


def runners(system, batch, training, with_reidc, with_torch):
    """name -> a function that makes the contestant's step."""
    found = {"reidc": lambda: reidc_runner(system, batch, training)} if with_reidc else {}
    for kind, options in twin_kinds(system).items() if with_torch else ():
        for last in (False, True):
            found[kind + (" nhwc" if last else " nchw")] = (
                lambda last=last, options=options: torch_runner(system, batch, training, last,
                                                                **options))
    return found


def timed(step, count):
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        step()
    return ((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


def measure(system, case, args):
    """{contestant: [(seconds by the clock, seconds of all threads)]}"""
    training, batch = parse_case(case)
    steps, inner = {}, {}
    for name, make in runners(system, batch, training, not args.no_reidc,
                              not args.no_torch).items():
        steps[name] = make()
        steps[name]()
        inner[name] = max(1, min(50, int(0.3 / timed(steps[name], 1)[0])))
    samples = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            time.sleep(args.pause)
            samples[name].append(timed(step, inner[name]))
    return samples


def summary(system, case, samples, macs, peak):
    training, batch = parse_case(case)
    wall = {k: statistics.median(s[0] for s in v) for k, v in samples.items()}
    cpu = {k: statistics.median(s[1] for s in v) for k, v in samples.items()}
    result = {"wall_s": wall, "cpu_s": cpu, "samples": samples, "batch": batch}
    if "reidc" not in wall:
        return result
    flop = 2 * macs * batch * (3 if training else 1)
    result["share_of_peak"] = flop / wall["reidc"] / peak
    for kind in twin_kinds(system):
        names = [k for k in wall if k.split()[0] == kind]
        if names:
            best = result[kind] = min(names, key=wall.get)
            pairs = zip(samples[best], samples["reidc"])
            result["wall_ratio_" + kind] = statistics.median(a[0] / b[0] for a, b in pairs)
            result["cpu_ratio_" + kind] = min(cpu[k] for k in names) / cpu["reidc"]
    return result


def line(system, case, result):
    height, width, _ = SYSTEMS[system]
    kinds = [k for k in twin_kinds(system) if k in result]
    wall = result["wall_s"]

    def ms(name):
        return f"{1e3 * wall[name]:.0f}" if wall[name] > 0.1 else f"{1e3 * wall[name]:.1f}"

    if "reidc" not in wall:
        return f"| {system} {height}x{width} | {case} | " + ", ".join(
            f"{k} {ms(k)}" for k in wall) + " |"
    return (f"| {system} {height}x{width} | {case} | {ms('reidc')} | "
            f"{100 * result['share_of_peak']:.0f} % | "
            + " / ".join(f"{ms(result[k])} ({result[k]})" for k in kinds) + " | "
            + " / ".join(f"{result['wall_ratio_' + k]:.2f}" for k in kinds) + " | "
            + " / ".join(f"{result['cpu_ratio_' + k]:.2f}" for k in kinds) + " | "
            + " / ".join(f"{ASKED[k]}" for k in kinds) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--cases", default="infer1,infer8,train8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--json")
    parser.add_argument("--no-reidc", action="store_true", help="the torch side alone")
    parser.add_argument("--no-torch", action="store_true", help="reidc alone")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(os.cpu_count())
    record = {"machine": machine(), "rounds": args.rounds, "systems": {}}
    peak = 0.0
    if not args.no_reidc:
        from reidc import _core

        peak = max(_core._peak(os.cpu_count()) for _ in range(5))
        record["machine"]["peak_gflops"] = round(peak / 1e9)
    for key, value in record["machine"].items():
        print(f"{key}: {value}")
    if record["machine"]["malloc"] == "the system's":
        print("no tcmalloc: PyTorch is slower for it, see the head of this file")
    print("\n| system | case | reidc, ms | peak | PyTorch, ms | ratio | cpu | asked |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    for system in args.systems.split(","):
        macs = 0 if args.no_reidc else reidc_network(system).macs
        for case in args.cases.split(","):
            result = summary(system, case, measure(system, case, args), macs, peak)
            record["systems"].setdefault(system, {})[case] = result
            print(line(system, case, result), flush=True)
            gc.collect()
    record["machine"]["load_after"] = os.getloadavg()
    if args.json:
        Path(args.json).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
