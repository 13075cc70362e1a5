"""Training and inference on a card beside PyTorch twins, in one command of under eight minutes:

    python benchmarks/gpu.py [--systems Baseline,MFA] [--batch 64] [--minutes 7.5] [--json gpu.json]

Contestants: reidc in float32; PyTorch in channels_last, in float32 without TF32 (the same work) and
in bf16 autocast (context: half the bytes), each eager and by torch.compile(mode="max-autotune"),
which records CUDA graphs. All get the same page-locked host arrays and return results on the host.
A measurement is the median of rounds; in training a round is the time from one step's losses on the
host to those of a later step. Compiling takes minutes: what does not fit into --minutes is left out
and said so, system by system. --dry runs every line on the CPU, with tiny networks and against the
library of REIDC_CUDA_LIBRARY, and prints no figure: to see that the command is in order.
"""
import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from contestants import CLASSES, RATE, SYSTEMS, machine, twin_kinds

INFER = (1, 8, 64, 256)


class Clock:
    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self):
        return self.end - time.monotonic()


def arrays(system, batch, dry):
    height, width = (96, 32) if dry else SYSTEMS[system][:2]
    x = np.random.default_rng(0).standard_normal((batch, 3, height, width)).astype(np.float32)
    return x, np.arange(batch) // 4 % CLASSES


def small(dry):
    return {"backbone": "resnet18", "width_multiplier": 0.25} if dry else {}


def reidc_network(system, dry):
    import reidc

    height, width = (96, 32) if dry else SYSTEMS[system][:2]
    return getattr(reidc, system)(CLASSES, height, width, device="cuda", **small(dry))


def reidc_runners(system, dry):
    """(train, infer): each takes a batch and gives a step, whose result is on the host."""
    import reidc

    def train(batch):
        m, (x, y) = reidc_network(system, dry), arrays(system, batch, dry)
        make = reidc.SGD if SYSTEMS[system][2] == "sgd" else reidc.Adam
        optimizer = make(m, RATE, **({"momentum": 0.9} if make is reidc.SGD else {}))
        return lambda: m.train_step(x, y, optimizer)

    def infer(batch):
        m, (x, _) = reidc_network(system, dry), arrays(system, batch, dry)
        return lambda: m.embed(x, normalize=False, batch_size=batch)

    return train, infer


def torch_runners(system, kind, dry):
    import torch
    import twins

    where = "cpu" if dry else "cuda"
    height, width = (96, 32) if dry else SYSTEMS[system][:2]
    options = {**list(twin_kinds(system).values())[-1], **small(dry)}
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
        optimizer = (torch.optim.SGD(weights, RATE, momentum=0.9) if SYSTEMS[system][2] == "sgd"
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


def bench(system, args, clock):
    """{case: {contestant: seconds, or why there are none}}"""
    results = {}
    kinds = ["float32", "bf16", "float32 compiled", "bf16 compiled"]
    for name in ["reidc", *kinds]:
        train, infer = reidc_runners(system, args.dry) if name == "reidc" else \
            torch_runners(system, name, args.dry)
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
        own = found.get("reidc")
        print(f"\n{system}, {case}")
        for name, value in found.items():
            if dry or not isinstance(value, float):
                print(f"  {name:18} {'ran' if dry else value}")
                continue
            ratio = f"  reidc is {value / own:.2f} times as fast" if isinstance(own, float) and \
                name != "reidc" else ""
            print(f"  {name:18} {1e3 * value:9.2f} ms {int(case.split()[1]) / value:9.0f} "
                  f"images/s{ratio}")


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
    report = {"card": reidc.cuda_info(), "machine": machine(), "systems": {}}
    if not args.dry:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        print(report["card"], torch.__version__, torch.cuda.get_device_name())
    names = args.systems.split(",")
    for i, system in enumerate(names):
        share = Clock(clock.left() / 60 / (len(names) - i))  # what is left, evenly
        report["systems"][system] = bench(system, args, share)
        show(system, report["systems"][system], args.dry)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1, default=str))


if __name__ == "__main__":
    main()
