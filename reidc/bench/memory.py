"""Peak memory of a training step: ours, our forecast, PyTorch's twins.

Each number is of a process of its own that does nothing else: the peak of what is resident in the
second step, less what the process held after its imports. PyTorch has both memory layouts, and its
smaller number counts.
"""
from reidc.bench import contestants
from reidc.bench.tables import LOW_MEMORY_TARGET, MEMORY_TARGETS
from reidc.bench.worker import Worker

MIB = 1 << 20


def _measured(name, case, setting, layout=None):
    with Worker(name, case, setting, layout=layout) as worker:
        return worker.peak_mib()


def compare(case, setting, peers):
    """MiB of each, as plain data: a row for memory="normal", one for "low"."""
    rows = []
    for memory in "normal", "low":
        ours = setting._replace(memory=memory)
        forecast = contestants.network(case, ours).memory_plan(case.batch)["total"] / MIB
        rows.append({"system": case.system, "batch": case.batch, "precision": case.precision,
                     "memory": memory, "forecast": forecast,
                     "reidc": _measured("reidc", case, ours)})
    if "torch" in peers and setting.twins:
        for name in contestants.torch_kinds(case.system):
            least = min(_measured(name, case, setting, layout) for layout in contestants.LAYOUTS)
            for row in rows:
                row[name] = least
    return rows


HEADS = ("| system | batch | precision | memory | reidc | its forecast | PyTorch | share | asked "
         "|\n|" + " --- |" * 9)


def line(row):
    twins = [name for name in row if name.startswith("torch")]
    asked = MEMORY_TARGETS.get(row["system"])
    if row["memory"] == "low":
        asked = LOW_MEMORY_TARGET
    return (f"| {row['system']} | {row['batch']} | {row['precision']} | {row['memory']} | "
            f"{row['reidc']:.0f} | "
            f"{row['forecast']:.0f} ({100 * (row['forecast'] / row['reidc'] - 1):+.1f} %) | "
            + (", ".join(f"{row[t]:.0f}{t.removeprefix('torch')}" for t in twins) or "–") + " | "
            + (", ".join(f"{row['reidc'] / row[t]:.2f}" for t in twins) or "–")
            + f" | {f'≤ {asked}' if asked else ''} |")
