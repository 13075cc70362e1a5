"""Inference and training steps of reidc beside PyTorch twins, in one run on the same cores.

    python benchmarks/bench_step.py [--only infer1,infer32,train,mbgn,memory] [--rounds 7]
                                    [--pause 1.0] [--json step.json] [--no-reidc]

Contestants of a case take turns, with a pause before each, so that a change of the machine's clock
or load meets all of them; medians are compared. PyTorch gets every core, both memory layouts (its
best counts), inference_mode, a fused Adam, and should get a good malloc: glibc's gives large buffers
back to the system after every step. On Debian: apt-get install libtcmalloc-minimal4, then
LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4. The report says whether it was there.
MBGN has two twins: the literal one, which builds the relation matrix and unfolds the involution, and
a tuned one, which does neither. `memory` is the peak of a second training step in a process of its
own, less what the process held after its imports.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "nets")]
CLASSES = 751
CASES = {  # name: (network, height, width, batch, training, least speed asked for)
    "infer1": ("Baseline", 256, 128, 1, False, 0.9),
    "infer32": ("Baseline", 256, 128, 32, False, 0.9),
    "train": ("Baseline", 256, 128, 16, True, 0.9),
    "mbgn": ("MBGN", 384, 128, 8, True, 3.0),
}


def data(height, width, count):
    rng = np.random.RandomState(0)
    x = rng.standard_normal((count, 3, height, width)).astype(np.float32)
    return x, np.arange(count) // 4 % CLASSES


def reidc_runner(case):
    import reidc

    name, height, width, count, training, _ = CASES[case]
    m = getattr(reidc, name)(CLASSES, height, width)
    x, y = data(height, width, count)
    if not training:
        return lambda: m.embed(x, normalize=False)
    optimizer = reidc.Adam(m, 1e-5)
    return lambda: m.train_step(x, y, optimizer)


def torch_runner(case, channels_last=False, **options):
    import torch
    import twins

    name, height, width, count, training, _ = CASES[case]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = twins.build(name, CLASSES, height, width, **options).to(memory_format=layout)
    x, y = data(height, width, count)
    x, y = torch.from_numpy(x).contiguous(memory_format=layout), torch.from_numpy(y)
    if not training:
        net.eval()

        def infer():
            with torch.inference_mode():
                return net(x)["embedding"].numpy()

        return infer
    net.train()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-5,
                                 fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        total = net.loss(net(x), y)["total"]
        total.backward()
        optimizer.step()
        return total.item()

    return step


def runners(case, with_reidc):
    """name -> a function that makes the contestant's step."""
    found = {"reidc": lambda: reidc_runner(case)} if with_reidc else {}
    kinds = {"torch": {}} if case != "mbgn" else {"literal": {}, "tuned": {"tuned": True}}
    for kind, options in kinds.items():
        for last in (False, True):
            found[kind + (" nhwc" if last else " nchw")] = (
                lambda last=last, options=options: torch_runner(case, last, **options))
    return found


def measure(case, rounds, pause, with_reidc):
    steps, inner, samples = {}, {}, {}
    for name, make in runners(case, with_reidc).items():
        steps[name] = make()
        steps[name]()
        start = time.perf_counter()
        steps[name]()  # second call: warm
        inner[name] = max(1, min(50, int(0.3 / (time.perf_counter() - start))))
        samples[name] = []
    for _ in range(rounds):
        for name, step in steps.items():
            time.sleep(pause)
            start = time.perf_counter()
            for _ in range(inner[name]):
                step()
            samples[name].append((time.perf_counter() - start) / inner[name])
    return samples


def verdict(case, samples):
    count = CASES[case][3]
    medians = {k: statistics.median(v) for k, v in samples.items()}
    lines = [f"{case}: {CASES[case][0]} {CASES[case][1]}x{CASES[case][2]}, batch {count}, "
             f"{'training step' if CASES[case][4] else 'inference'}"]
    for name, v in samples.items():
        lines.append(f"  {name:13} median {medians[name] * 1e3:9.1f} ms   best {min(v) * 1e3:9.1f} "
                     f"ms   {count / medians[name]:7.1f} images/s")
    result = {"median_s": medians, "samples_s": samples, "batch": count}
    for kind in ("torch", "literal", "tuned"):
        peers = [m for k, m in medians.items() if k.startswith(kind)]
        if peers and "reidc" in medians:
            ratio = result["speed_against_" + kind] = min(peers) / medians["reidc"]
            asked = f" (asked {CASES[case][5]})" if kind != "tuned" else ""
            lines.append(f"  reidc is {ratio:.2f} times as fast as {kind}'s best{asked}")
    return result, "\n".join(lines)


def resident(key):
    """VmRSS or VmHWM of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def one_memory(contestant):
    """In a process of its own: peak of the second MBGN step, less what the imports hold, in MiB."""
    if contestant == "reidc":
        import reidc  # noqa: F401
        make = reidc_runner
    else:
        import torch
        import twins.mbgn  # noqa: F401
        torch.ones(8) @ torch.ones(8)

        def make(case):
            return torch_runner(case, tuned=contestant == "tuned")
    before = resident("VmRSS")
    step = make("mbgn")
    step()
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    step()
    print(resident("VmHWM") - before)


def memory(with_reidc):
    found = {}
    for name in (["reidc"] if with_reidc else []) + ["literal", "tuned"]:
        done = subprocess.run([sys.executable, __file__, "--one-memory", name], text=True,
                              stdout=subprocess.PIPE, timeout=900)
        found[name] = float(done.stdout) if done.returncode == 0 else None
    return found


def malloc():
    maps = Path("/proc/self/maps")
    text = maps.read_text() if maps.exists() else ""
    return next((m for m in ("tcmalloc", "jemalloc", "mimalloc") if m in text), "the system's")


def machine():
    import torch

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        model = next((line.split(":")[1].strip() for line in
                      Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), model)
    found = {"cpu": model, "cores": os.cpu_count(), "load": os.getloadavg(),
             "python": platform.python_version(), "numpy": np.__version__,
             "torch": torch.__version__, "torch_threads": torch.get_num_threads(),
             "malloc": malloc(), "system": platform.platform()}
    try:
        import reidc
        found["reidc"], found["reidc_config"] = reidc.__version__, reidc.config()
    except ImportError:
        pass
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="infer1,infer32,train,mbgn,memory")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--json")
    parser.add_argument("--no-reidc", action="store_true", help="the torch side alone")
    parser.add_argument("--one-memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_memory:
        return one_memory(args.one_memory)
    import torch

    torch.set_num_threads(os.cpu_count())
    record = {"machine": machine(), "rounds": args.rounds, "cases": {}}
    for key, value in record["machine"].items():
        print(f"{key}: {value}")
    if record["machine"]["malloc"] == "the system's":
        print("no tcmalloc: PyTorch is slower for it, see the head of this file")
    for case in args.only.split(","):
        if case == "memory":
            record["memory_mib"] = found = memory(not args.no_reidc)
            print("memory of an MBGN training step, batch 8 at 384x128: " + ", ".join(
                f"{k} {v:.0f} MiB" if v else f"{k} failed" for k, v in found.items()))
        else:
            samples = measure(case, args.rounds, args.pause, not args.no_reidc)
            record["cases"][case], text = verdict(case, samples)
            print(text, flush=True)
    record["machine"]["load_after"] = os.getloadavg()
    if args.json:
        Path(args.json).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
