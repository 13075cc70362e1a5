"""Images a second of one core: resize + normalise, and the whole augmentation chain.

    python benchmarks/bench_data.py [seconds per case]

Smooth random pictures; best and median of repeated calls of 64 images after a warm-up, time of
the calling thread only, so that a busy machine disturbs little. Pillow's resize stands beside.
"""
import statistics
import sys
import time

import numpy as np

import reidc
from reidc import _core

N, SIZES = 64, [(128, 64), (400, 150), (256, 128)]


def rate(call, seconds):
    call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 10 or time.perf_counter() < end:
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return f"best {N / min(times):7.0f}   median {N / statistics.median(times):7.0f}"


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    rng = np.random.default_rng(0)
    print(f"{_core.config()['cpu']}, NumPy {np.__version__}, images/s of one core, to 256 x 128")
    for h, w in SIZES:
        images = np.stack([_core._image_resize(
            rng.integers(0, 256, (h // 8, w // 8, 3), dtype=np.uint8), h, w, "bicubic")
            for _ in range(N)])
        cases = {"resize + normalise": lambda x=images: _core._images_to_input(x, 256, 128)}
        for name in ("sb", "mbgn", "dpr", "fast-reid"):
            augment = reidc.Augment.preset(name, height=256, width=128)
            cases[f"augment {name}"] = lambda x=images, a=augment: a(x)
        try:
            from PIL import Image

            pictures = [Image.fromarray(image) for image in images]
            cases["Pillow's resize alone"] = lambda p=pictures: [
                image.resize((128, 256), Image.Resampling.BILINEAR) for image in p]
        except ImportError:
            pass
        for name, call in cases.items():
            print(f"{h:4} x {w:<4} {name:22} {rate(call, seconds)}")


if __name__ == "__main__":
    main()
