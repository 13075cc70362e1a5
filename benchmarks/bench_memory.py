"""Memory of a full-size training step at batch 8: reidc, its own forecast, and PyTorch twins.

    python benchmarks/bench_memory.py [--systems MFA,HAMR] [--batch 8] [--json memory.json]

Each number is of a process of its own that does nothing else: the peak of what is resident in the
second step, less what the process held after its imports. The optimiser is that of the system's
page. PyTorch gets tcmalloc where it is installed (Debian: libtcmalloc-minimal4), both memory
layouts, and its smaller number counts.
"""
import argparse
import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path

from contestants import SYSTEMS, machine, reidc_network, reidc_runner, torch_runner, twin_kinds

BOUNDS = {"MBGN": 0.6, "MFA": 0.6, "FSAC": 0.6, "HAMR": 0.75, "MGAF": 0.75}
MIB = 1 << 20


def resident(key):
    """VmRSS or VmHWM of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def one(contestant, system, batch):
    """In a process of its own: prints MiB."""
    if contestant == "reidc":
        import reidc.networks
        import reidc.optim  # noqa: F401
        before = resident("VmRSS")
        step = reidc_runner(system, batch, True)
    else:
        import torch
        import twins

        twins.build("Baseline", 10, 64, 32)  # modules that are imported late
        torch.ones(8) @ torch.ones(8)
        kind, layout = contestant.split()
        before = resident("VmRSS")
        step = torch_runner(system, batch, True, layout == "nhwc", **twin_kinds(system)[kind])
    step()
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    step()
    print(resident("VmHWM") - before)


def measured(contestant, system, batch):
    environment = dict(os.environ, OMP_WAIT_POLICY="PASSIVE")
    tcmalloc = ctypes.util.find_library("tcmalloc_minimal")
    if contestant != "reidc" and tcmalloc:
        environment["LD_PRELOAD"] = tcmalloc
    done = subprocess.run([sys.executable, __file__, "--one", contestant, "--systems", system,
                           "--batch", str(batch)], text=True, stdout=subprocess.PIPE,
                          timeout=1800, env=environment, check=True)
    return float(done.stdout)


def compare(system, batch, with_torch):
    row = {"forecast": reidc_network(system).memory_plan(batch)}
    row["reidc"] = measured("reidc", system, batch)
    row["forecast_off"] = row["forecast"]["total"] / MIB / row["reidc"] - 1
    for kind in twin_kinds(system) if with_torch else ():
        row[kind] = min(measured(f"{kind} {layout}", system, batch) for layout in ("nchw", "nhwc"))
        row["share_of_" + kind] = row["reidc"] / row[kind]
    return row


def line(system, row):
    height, width, kind = SYSTEMS[system]
    twins = " / ".join(f"{row[k]:.0f}" for k in twin_kinds(system) if k in row)
    shares = " / ".join(f"{row['share_of_' + k]:.2f}" for k in twin_kinds(system) if k in row)
    parts = ", ".join(f"{k} {v / MIB:.0f}" for k, v in row["forecast"].items()
                      if v and k != "total")
    return (f"| {system} {height}x{width}, {kind} | {row['reidc']:.0f} | "
            f"{row['forecast']['total'] / MIB:.0f} ({100 * row['forecast_off']:+.1f} %) | {twins} "
            f"| {shares} | {BOUNDS.get(system, '')} | {parts} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json")
    parser.add_argument("--no-torch", action="store_true", help="reidc and its forecast alone")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.systems, args.batch)
    record = {"machine": machine(), "batch": args.batch, "systems": {}}
    record["machine"]["malloc"] = ctypes.util.find_library("tcmalloc_minimal") or "the system's"
    for key, value in record["machine"].items():
        print(f"{key}: {value}")
    print(f"\nMiB of a training step, batch {args.batch}; MBGN's twins: literal / tuned\n")
    print("| system, optimiser | reidc | its forecast | PyTorch | share | asked "
          "| of the forecast |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for system in args.systems.split(","):
        row = record["systems"][system] = compare(system, args.batch, not args.no_torch)
        print(line(system, row), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
