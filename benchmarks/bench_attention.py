"""Speed of MBGN's attention operations at its four stages: involution and relation_map.

    python benchmarks/bench_attention.py [--batch 8] [--threads 1 2] [--size 384x128] [--repeat 12]

GFLOP/s (two per multiply-accumulate; the factored count for relation_map), share of the peak
measured right before, and GB/s of what has to be read and written once. One thread is timed by
its processor time, several by the clock; best of --repeat runs.
"""
import argparse
import os
import platform
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from reidc import _core


def run(op, attrs, inputs, dy, threads, repeat):
    """(kernel, seconds of forward, seconds of each gradient alone)"""
    more = dict(kernel="fast", threads=threads, repeat=repeat, training=True)
    out, gradients = None, []
    for i in range(len(inputs)):
        wants = [i == j for j in range(len(inputs))]
        out = _core._op_run(op, attrs, inputs, dy=dy, wants=wants, **more)
        gradients.append(out["seconds"][1])
    return out["kernel"], out["seconds"][0], gradients


def line(what, seconds, flop, bytes_, peak):
    print(f"    {what:8s} {seconds * 1e3:8.2f} ms {flop / seconds / 1e9:7.1f} GFLOP/s "
          f"{100 * flop / seconds / peak:5.1f} % {bytes_ / seconds / 1e9:6.1f} GB/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--size", default="384x128")
    parser.add_argument("--repeat", type=int, default=12)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    n, rng = options.batch, np.random.default_rng(0)
    print(f"{platform.processor() or platform.machine()}, {_core.config()}, batch {n}")
    for threads in options.threads:
        peak = max(_core._peak(threads) for _ in range(3))
        print(f"{threads} thread(s), peak {peak / 1e9:.0f} GFLOP/s")
        for stage, down in enumerate((4, 8, 16, 16)):
            c, h, w = 256 << stage, height // down, width // down
            x, d = rng.standard_normal((2, n, c, h, w), np.float32)
            k = rng.standard_normal((n, 49 * c // 16, h, w), np.float32)
            kernel, forward, (dx, dk) = run("involution", {"kernel": 7, "groups": c // 16}, [x, k],
                                            d, threads, options.repeat)
            flop, moved = 2.0 * 49 * x.size, k.nbytes + 2 * x.nbytes
            print(f"  stage {stage + 1}: involution {c} x {h} x {w}, {kernel}")
            for what, seconds in (("forward", forward), ("dx", dx), ("dk", dk)):
                line(what, seconds, flop, moved, peak)
            c, p = c // 8, h * w
            a, b = rng.standard_normal((2, n, c, h, w), np.float32)
            weight = rng.standard_normal((p // 8, p, 1, 1), np.float32)
            d = rng.standard_normal((n, p // 8, h, w), np.float32)
            kernel, forward, (da, db, dw) = run("relation_map", {}, [a, b, weight], d, threads,
                                                options.repeat)
            flop, moved = 4.0 * n * (p // 8) * p * c, weight.nbytes + a.nbytes * 2 + d.nbytes
            print(f"  stage {stage + 1}: relation_map {c} x {h} x {w}, {kernel}")
            for what, seconds, part in (("forward", forward, 1), ("da", da, 1), ("db", db, 0.5),
                                        ("dw", dw, 1)):
                line(what, seconds, flop * part, moved, peak)


if __name__ == "__main__":
    main()
