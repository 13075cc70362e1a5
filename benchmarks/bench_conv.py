"""Speed of the convolution kernels, one by one, on the layers of a network.

    python benchmarks/bench_conv.py --batch 16 [--threads 1 2] [--pass fwd bwd_x bwd_w]
                                    [--kernels all] [--json FILE]

For each layer and pass: GFLOP/s (of the direct convolution, whatever the kernel saves) and share
of the peak measured right before, best of several runs after one to warm up. One thread is timed
by its processor time, several by the clock. By default only the kernel that would be chosen
runs; `--kernels all` runs every kernel that takes the shape.
"""
import argparse
import json
import os
import platform
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from reidc import _core  # noqa: E402

PASSES = ("fwd", "bwd_x", "bwd_w")


def read_shapes(path):
    with open(path) as file:
        rows = [line.split("#")[0].split() for line in file]
    return [tuple(map(int, row)) for row in rows if row]


def arrays(shape, rng):
    n, h, w, c, k, kh, kw, stride, pad, groups = shape
    oh, ow = (h + 2 * pad - kh) // stride + 1, (w + 2 * pad - kw) // stride + 1
    sizes = {"x": (n, h, w, c), "w": (k, c // groups, kh, kw), "y": (n, oh, ow, k)}
    flop = 2.0 * n * oh * ow * k * (c // groups) * kh * kw
    return {name: rng.standard_normal(s, dtype=np.float32) for name, s in sizes.items()}, flop


def measure(kernel, which, shape, data, flop, threads, seconds):
    a, b, out = {"fwd": "xwy", "bwd_x": "ywx", "bwd_w": "yxw"}[which]
    target = np.zeros_like(data[out])
    repeat = max(4, min(40, int(seconds * 2e11 * threads / flop)))
    result = _core._conv_run(kernel, shape, data[a], data[b], target, threads=threads,
                             repeat=repeat)
    return result["seconds"], result["pack_seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, _core.config()["threads"]])
    parser.add_argument("--pass", dest="passes", nargs="+", default=PASSES, choices=PASSES)
    parser.add_argument("--kernels", default="chosen", choices=("chosen", "all"))
    parser.add_argument("--shapes", default=os.path.join(HERE, "shapes", "resnet50.txt"))
    parser.add_argument("--seconds", type=float, default=0.1, help="about, for each row")
    parser.add_argument("--json")
    options = parser.parse_args()
    config = _core.config()
    print(f"# {platform.processor() or platform.machine()}, {config['cpu']}, "
          f"{config['threads']} processors, NumPy {np.__version__}, batch {options.batch}")
    rng = np.random.default_rng(0)
    rows = []
    for threads in dict.fromkeys(options.threads):
        totals = {}
        for times, *layer in read_shapes(options.shapes):
            shape = (options.batch, *layer)
            data, flop = arrays(shape, rng)
            for which in options.passes:
                if which == "bwd_x" and layer[2] == 3:
                    continue  # nobody asks for the gradient of the image in training
                kernels = _core._conv_kernels(which, shape)
                for i, kernel in enumerate(kernels if options.kernels == "all" else kernels[:1]):
                    peak = _core._peak(threads)
                    seconds, packing = measure(kernel, which, shape, data, flop, threads,
                                               options.seconds)
                    speed = flop / seconds
                    print(f"{threads} threads  {times} x {'x'.join(map(str, layer)):28s} "
                          f"{kernel:44s} {speed / 1e9:7.0f} GFLOP/s  {100 * speed / peak:4.0f} % "
                          f"of {peak / 1e9:.0f}", flush=True)
                    rows.append({"threads": threads, "times": times, "shape": shape,
                                 "pass": which, "kernel": kernel, "seconds": seconds,
                                 "pack_seconds": packing, "gflops": speed / 1e9,
                                 "peak": peak / 1e9})
                    if i == 0:
                        total = totals.setdefault(which, [0.0, 0.0, 0.0])
                        total[0] += times * flop
                        total[1] += times * seconds
                        total[2] += times * packing
        for which, (flop, seconds, packing) in totals.items():
            print(f"{threads} threads  {which:5s} all layers: {flop / 1e9:.1f} GFLOP in "
                  f"{1e3 * seconds:.1f} ms, {flop / seconds / 1e9:.0f} GFLOP/s, "
                  f"{options.batch / seconds:.1f} images/s; packing {1e3 * packing:.1f} ms")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"config": config, "batch": options.batch, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
