"""Training, inference and evaluation on a card beside PyTorch twins, in one command of under eight
minutes:

    python benchmarks/gpu.py [--systems Baseline,MFA] [--batch 64] [--minutes 7.5] [--json gpu.json]

First the card's own bfloat16 rate and bandwidth are measured, then evaluation of Market-1501's
size, then each network: its layers' shares of both, and whole steps beside PyTorch (channels_last)
in float32 without TF32 and in bf16 autocast, each eager and by torch.compile(mode="max-autotune"),
which records CUDA graphs. All get the same page-locked host arrays and return results on the host.
A measurement is the median of rounds; in training a round is the time from one step's losses on the
host to those of a later step. Compiling takes minutes: what does not fit into --minutes is left out
and said so, system by system. --dry runs every line on the CPU, with tiny networks and against the
library of REIDC_CUDA_LIBRARY, and prints no figure: to see that the command is in order.
"""
import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import gpu_parts
import numpy as np

from reidc.bench.contestants import CLASSES, OPTIMIZERS, RATE, SYSTEMS, torch_kinds, twins_folder

INFER = (1, 8, 64, 256)
PRECISIONS = {"reidc": "float32", "reidc bf16": "bfloat16"}


class Clock:
    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self):
        return self.end - time.monotonic()


def size_of(system, dry):
    """Height and width of the network's page."""
    return (96, 32) if dry else (384 if system in ("MBGN", "MGAF", "HAMR") else 256, 128)


def arrays(system, batch, dry):
    x = np.random.default_rng(0).standard_normal((batch, 3, *size_of(system, dry)))
    return x.astype(np.float32), np.arange(batch) // 4 % CLASSES


def small(dry):
    return {"backbone": "resnet18", "width_multiplier": 0.25} if dry else {}


def reidc_network(system, dry, precision="float32"):
    import reidc

    return getattr(reidc, system)(CLASSES, *size_of(system, dry), device="cuda",
                                  precision=precision, **small(dry))


def reidc_optimizer(system, m):
    import reidc

    return (reidc.SGD(m, RATE, momentum=0.9) if OPTIMIZERS.get(system) == "sgd"
            else reidc.Adam(m, RATE))


def reidc_runners(system, dry, precision):
    """(train, infer): each takes a batch and gives a step, whose result is on the host."""

    def train(batch):
        m, (x, y) = reidc_network(system, dry, precision), arrays(system, batch, dry)
        optimizer = reidc_optimizer(system, m)
        return lambda: m.train_step(x, y, optimizer)

    def infer(batch):
        m, (x, _) = reidc_network(system, dry, precision), arrays(system, batch, dry)
        return lambda: m.embed(x, normalize=False, batch_size=batch)

    return train, infer


def torch_runners(system, kind, dry):
    import torch
    import twins

    where = "cpu" if dry else "cuda"
    height, width = size_of(system, dry)
    options = {**list(torch_kinds(system).values())[-1], **small(dry)}
    half, compiled = "bf16" in kind, "compiled" in kind and not dry

    def network():
        net = twins.build(system, CLASSES, height, width, **options).to(where)
        return net.to(memory_format=torch.channels_last)

    def move(x, y):
        x = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
        x, y = (x, torch.from_numpy(y)) if dry else (x.pin_memory(),
                                                     torch.from_numpy(y).pin_memory())
        return lambda: (x.to(where, non_blocking=True), y.to(where, non_blocking=True))

    def train(batch):
        net, load = network().train(), move(*arrays(system, batch, dry))
        weights = [p for p in net.parameters() if p.requires_grad]
        optimizer = (torch.optim.SGD(weights, RATE, momentum=0.9) if OPTIMIZERS.get(system) == "sgd"
                     else torch.optim.Adam(weights, RATE, fused=not dry))

        def loss(x, y):
            with torch.autocast(where, torch.bfloat16, enabled=half):
                out = net(x)
            return net.loss({k: v.float() if v.is_floating_point() else v
                             for k, v in out.items()}, y)["total"]

        run = torch.compile(loss, mode="max-autotune") if compiled else loss

        def step():
            optimizer.zero_grad(set_to_none=True)
            total = run(*load())
            total.backward()
            optimizer.step()
            return total.item()

        return step

    def infer(batch):
        net, load = network().eval(), move(*arrays(system, batch, dry))
        run = torch.compile(net, mode="max-autotune") if compiled else net

        def step():
            with torch.inference_mode(), torch.autocast(where, torch.bfloat16, enabled=half):
                return run(load()[0])["embedding"].float().cpu()

        return step

    return train, infer


def measure(step, clock, dry):
    """Seconds a call: the median of up to 7 rounds of about 0.3 s; None: no time is left."""
    for _ in range(1 if dry else 4):  # as many as it takes to record and to choose
        step()
    if dry:
        return float("nan")
    if clock.left() < 2:
        return None
    start = time.perf_counter()
    step()
    inner = max(1, min(100, int(0.3 / (time.perf_counter() - start))))
    rounds = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(inner):
            step()
        rounds.append((time.perf_counter() - start) / inner)
    return statistics.median(rounds)


def bench(system, args, clock, kinds):
    """{case: {contestant: seconds, or why there are none}}"""
    results = {}
    for name in [*PRECISIONS, *kinds]:
        train, infer = reidc_runners(system, args.dry, PRECISIONS[name]) if name in PRECISIONS \
            else torch_runners(system, name, args.dry)
        batch = 8 if args.dry else args.batch
        cases = [(f"train {batch}", train, batch)]
        cases += [(f"infer {n}", infer, n) for n in ((1, 2) if args.dry else INFER)]
        for case, make, batch in cases:
            found = results.setdefault(case, {})
            if "compiled" in name and clock.left() < 100:
                found[name] = "left out: no time to compile"
                continue
            if clock.left() < 5:
                found[name] = "left out: no time"
                continue
            try:
                found[name] = measure(make(batch), clock, args.dry)
            except Exception as error:  # one contestant's failure is a line of the report
                if args.dry:
                    raise
                found[name] = f"failed: {type(error).__name__}: {error}"[:200]
    return results


def show(system, results, dry):
    for case, found in results.items():
        print(f"\n{system}, {case}")
        for name, value in found.items():
            if dry or not isinstance(value, float):
                print(f"  {name:18} {'ran' if dry else value or 'left out: no time'}")
                continue
            own = found.get("reidc bf16" if "bf16" in name else "reidc")
            ratio = f"  reidc is {value / own:.2f} times as fast" if isinstance(own, float) and \
                name not in PRECISIONS else ""
            print(f"  {name:18} {1e3 * value:9.2f} ms {int(case.split()[1]) / value:9.0f} "
                  f"images/s{ratio}")


def parts(args, names, clock, report):
    """Peaks, evaluation, layers: about a minute."""
    report["peaks"] = gpu_parts.peaks(args.dry)
    if not args.dry:
        print(f"measured: {report['peaks']['flops'] / 1e12:.0f} TFLOP/s in bfloat16, "
              f"{report['peaks']['bytes'] / 1e12:.2f} TB/s")
    found = report["evaluation"] = gpu_parts.evaluation(reidc_network("Baseline", True), args.dry)
    for name, seconds in found["seconds"].items():
        print(f"evaluation of Market-1501's size, {name}: "
              + ("ran" if args.dry else f"{1e3 * seconds:.1f} ms"))
    report["layers"] = {}
    for system in names:
        if clock.left() < 240 and not args.dry:
            print(f"{system}: layers left out: no time")
            continue
        m = reidc_network(system, args.dry, "bfloat16")
        x, y = arrays(system, 8 if args.dry else args.batch, args.dry)
        report["layers"][system] = gpu_parts.layers(m, x, y, reidc_optimizer(system, m),
                                                    report["peaks"], 1 if args.dry else 5)
        gpu_parts.show_layers(system, report["layers"][system], args.dry)


def torch_there(dry):
    """The PyTorch contestants; none where it, or the twins of the source tree, are missing."""
    folder = twins_folder()
    try:
        import torch
    except ImportError:
        torch = None
    if not torch or not folder:
        print("PyTorch and its twins: left out, " + ("no torch" if not torch else "no twins"))
        return []
    sys.path.insert(0, folder)
    if not dry:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        print(torch.__version__, torch.cuda.get_device_name())
    return ["float32", "bf16", "float32 compiled", "bf16 compiled"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dry", action="store_true")
    args = parser.parse_args()
    import reidc

    clock = Clock(args.minutes)
    report = {"card": reidc.cuda_info(), "date": time.strftime("%Y-%m-%d"),
              "system": platform.platform(), "reidc": reidc.__version__, "systems": {}}
    print(report["card"], report["date"])
    kinds, names = torch_there(args.dry), args.systems.split(",")
    parts(args, names, clock, report)
    for i, system in enumerate(names):
        share = Clock(clock.left() / 60 / (len(names) - i))  # what is left, evenly
        report["systems"][system] = bench(system, args, share, kinds)
        show(system, report["systems"][system], args.dry)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1, default=str))


if __name__ == "__main__":
    main()
