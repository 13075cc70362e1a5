"""Where the time goes: our steps of one inference or training step, each with its share of the
measured peak."""
import re

from reidc.bench import contestants

LINE = re.compile(r"^ *\d+ (\w+) +(\S+) +(\S*) +(\d+(?:x\d+)*) +(\w+) +[\d.]+ MiB +([\d.]+) MMAC "
                  r" (\S+) +([\d.]+) ms +[\d.]+ ms cpu")


def profiled(m, case, peak, runs=10):
    """[{pass, operation, layer, shape, kernel, ms, mmac, share of the peak}], as they run."""
    step = contestants.step_of(m, case, whole=True)
    step()
    m.profile(True)
    for _ in range(runs):
        step()
    found = []
    for line in m.plan(case.batch, training=case.training).splitlines():
        match = LINE.match(line)
        if match:
            which, op, layer, shape, kind, mmac, kernel, wall = match.groups()
            seconds, macs = float(wall) / 1e3, float(mmac) * 1e6
            found.append({"pass": which, "op": op, "layer": layer, "shape": shape,
                          "type": kind, "kernel": kernel, "ms": float(wall), "mmac": float(mmac),
                          "share_of_peak": 2 * macs / seconds / peak if macs and seconds else None})
    m.profile(False)
    return found


def text(case, steps):
    """A table: every step above half a per cent of the time, the rest together."""
    whole = sum(step["ms"] for step in steps) or 1.0
    lines = [f"\n{case.system}, {case.precision}, {case.label}: {whole:.2f} ms in {len(steps)} "
             "steps\n",
             "| pass | layer | operation | shape | type | ms | time | peak | kernel |",
             "|" + " --- |" * 9]
    rest, macs = 0.0, sum(step["mmac"] for step in steps)
    for step in steps:
        if step["ms"] < 0.005 * whole:
            rest += step["ms"]
            continue
        peak = step["share_of_peak"]
        lines.append(f"| {step['pass']} | {step['layer']} | {step['op']} | {step['shape']} | "
                     f"{step['type']} | {step['ms']:.3f} | "
                     f"{100 * step['ms'] / whole:.1f} % | "
                     + (f"{100 * peak:.0f} %" if peak else "–") + f" | {step['kernel']} |")
    lines.append(f"| | the others | | | | {rest:.3f} | {100 * rest / whole:.1f} % | | |")
    lines.append(f"\n{macs:.0f} MMAC; Winograd needs fewer products than are counted, so it may "
                 "pass 100 %.")
    return "\n".join(lines)
