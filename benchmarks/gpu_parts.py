"""What benchmarks/gpu.py measures beside whole steps: the card's own bfloat16 rate and bandwidth,
each layer's share of them, evaluation of Market-1501's size. `dry`: tiny, figures mean nothing."""
import re
import statistics
import time

import numpy as np

MARKET = dict(queries=3368, gallery=19732, dimension=2048, identities=750, cameras=6)
TINY = dict(queries=40, gallery=300, dimension=None, identities=9, cameras=3)
STEP = re.compile(r"^ *\d+ (\w+) +(\S+) +(\S*) +(\d+(?:x\d+)*) +(\w*) +[\d.]+ MiB +([\d.]+) MMAC "
                  r" (.+?) +([\d.]+) ms +[\d.]+ ms cpu +[\d.]+ GFLOP/s +([\d.]+) MB$")


def median_seconds(run, rounds=7):
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def peaks(dry):
    """{"flops", "bytes"} a second, measured now by PyTorch: a large product of bfloat16 matrices,
    and a copy that fits no cache; the best of some rounds."""
    if dry:
        return {"flops": 1e12, "bytes": 1e11}
    import torch

    n, count = 8192, 1 << 28
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    x = torch.randn(count, device="cuda")
    y = torch.empty_like(x)

    def best(run, rounds=12):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        took = []
        for _ in range(rounds):
            events[0].record()
            run()
            events[1].record()
            torch.cuda.synchronize()
            took.append(events[0].elapsed_time(events[1]) / 1e3)
        return min(took)

    out = torch.empty_like(a)
    return {"flops": 2 * n ** 3 / best(lambda: torch.mm(a, b, out=out)),
            "bytes": 2 * 4 * count / best(lambda: y.copy_(x))}


# ---- layers


def steps_of(text):
    """[{pass, op, layer, shape, kernel, ms, mmac, mb}] of a plan that was run with m.profile()."""
    names = ("pass", "op", "layer", "shape", "type", "mmac", "kernel", "ms", "mb")
    found = [dict(zip(names, match.groups())) for match in map(STEP.match, text.splitlines())
             if match]
    for step in found:
        step.update({k: float(step[k]) for k in ("mmac", "ms", "mb")})
    return found


def layers(m, x, y, optimizer, peak, runs=5):
    """{"inference", "training"}: steps with their shares of the measured rate and bandwidth. Every
    step is waited for, which adds some 10 microseconds; the smallest step's time is taken off."""
    result = {}
    for name, training, run in (
            ("inference", False, lambda: m.embed(x, normalize=False, batch_size=len(x))),
            ("training", True, lambda: m.train_step(x, y, optimizer))):
        run()
        m.profile(True)
        for _ in range(runs):
            run()
        steps = steps_of(m.plan(len(x), training=training))
        m.profile(False)
        idle = min((step["ms"] for step in steps), default=0.0)
        for step in steps:
            seconds = max(step["ms"] - 0.9 * idle, 1e-6) / 1e3
            step["of_rate"] = 2e6 * step["mmac"] / seconds / peak["flops"]
            step["of_bandwidth"] = 1e6 * step["mb"] / seconds / peak["bytes"]
        result[name] = steps
    return result


def show_layers(system, found, dry):
    for name, steps in found.items():
        whole = sum(step["ms"] for step in steps) or 1.0
        print(f"\n{system}, {name}, bfloat16, step by step: "
              + ("ran" if dry else f"{whole:.2f} ms in {len(steps)} steps"))
        if dry:
            continue
        print("| layer | operation | pass | shape | ms | time | rate | bandwidth | kernel |")
        print("|" + " --- |" * 9)
        for step in steps:
            if step["ms"] >= 0.01 * whole:
                print(f"| {step['layer']} | {step['op']} | {step['pass']} | {step['shape']} | "
                      f"{step['ms']:.3f} | {100 * step['ms'] / whole:.1f} % | "
                      f"{100 * step['of_rate']:.0f} % | {100 * step['of_bandwidth']:.0f} % | "
                      f"{step['kernel']} |")


# ---- evaluation


def labels(sizes):
    rng = np.random.default_rng(0)
    q, g = sizes["queries"], sizes["gallery"]
    pids = rng.integers(0, sizes["identities"], q + g)
    pids[q:][rng.random(g) < 0.14] = -1  # junk, about as much as Market-1501 has
    cameras = rng.integers(0, sizes["cameras"], q + g)
    return pids[:q], pids[q:], cameras[:q], cameras[q:]


def evaluation(m, dry):
    """{contestant: seconds}: embeddings on the card in, CMC and mAP on the host out."""
    from reidc.evaluation import evaluate_embeddings

    sizes = TINY if dry else MARKET
    q_pids, g_pids, q_cams, g_cams = labels(sizes)
    if dry:
        rng = np.random.default_rng(1)
        q, g = (m.embed(rng.integers(0, 256, (n, 32, 16, 3), np.uint8), device_output=True)
                for n in (sizes["queries"], sizes["gallery"]))
    else:
        import torch

        q, g = (torch.randn(n, sizes["dimension"], device="cuda")
                for n in (sizes["queries"], sizes["gallery"]))

    def ours():
        return evaluate_embeddings(q, g, q_pids, g_pids, q_cams, g_cams).mAP

    found = {"mAP": ours(), "seconds": {}}
    found["seconds"]["reidc"] = median_seconds(ours, 1 if dry else 7)
    if not dry:
        found["seconds"]["torch, distances and sort alone"] = median_seconds(
            lambda: torch_ranking(q, g), 5)
    return found


def torch_ranking(q, g):
    """What PyTorch has for it, without the counting: squared distances by a product in float32, and
    the order of each row; blocks of queries, as the matrix of indices is large."""
    import torch

    norms = (g * g).sum(1)
    for block in q.split(1024):
        d = (block * block).sum(1, keepdim=True) + norms - 2 * block @ g.T
        order = torch.argsort(d, dim=1)
    return order[0, 0].item()
