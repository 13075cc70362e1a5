"""Pictures a second of one core, from files and from the decoded store to a normalised batch.

    python benchmarks/bench_data.py [--rounds 15] [--peer-python PYTHON]   # beside torchvision
    python benchmarks/bench_data.py --loop baseline-small,Baseline   # Trainer, bare train_step
    python benchmarks/bench_data.py --chains                         # every preset of Augment

Drawn people as JPEG, 64 to a batch, resized, mirrored, padded and cropped, normalised, erased.
Times are processor times of the two processes, one thread in each, in turn; figures are medians,
ratios medians of the pairs. The loop is measured by the clock, an epoch of the Trainer beside as
many steps on one ready batch: let nothing else run then.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import reidc

# Market-1501's size, one as in CUHK03, one that needs no resize.
SIZES = {"128 x 64": (128, 64), "300 x 120": (300, 120), "256 x 128": (256, 128)}


def pictures(folder, height, width, n=64):
    """n JPEG files of drawn people below `folder`."""
    from PIL import Image

    drawn = reidc.datasets.Synthetic("tiny", seed=0, height=256, width=128).train
    for i, image in enumerate(drawn.images[:n]):
        path = os.path.join(folder, f"{i // 4}_{i % 4}_{i:03d}.jpg")
        Image.fromarray(image).resize((width, height)).save(path, quality=90)


class Own:
    """Our side: what a Loader's thread does for a batch, in this thread."""

    def __init__(self, folder, height, width):
        self.folder, self.augment, self.epoch = folder, reidc.Augment(height=height, width=width), 0
        self.store = self.fresh()
        self.store.preload()

    def fresh(self):
        dataset = reidc.datasets.ImageFolder(self.folder, test=1.0)
        return reidc.splits.Split(dataset.gallery.store, np.arange(64), np.zeros(64))

    def seconds(self, case):
        store = self.store if case == "augment" else self.fresh()
        indices, self.epoch = np.random.default_rng(self.epoch).permutation(64), self.epoch + 1
        start = time.process_time()
        self.augment(store.pictures(indices, threads=1), seed=0, epoch=self.epoch)
        return time.process_time() - start


class Peer:
    """torchvision in its own process (peer_data.py)."""

    def __init__(self, python):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_data.py")
        self.process = subprocess.Popen(
            [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""})

    def ask(self, **request):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("--peer-python: cannot run benchmarks/peer_data.py (see above)")
        return json.loads(answer)


def compare(python, rounds, height, width):
    peer = Peer(python) if python else None
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            pictures(folder, *size)
            own = Own(folder, height, width)
            cases = ["augment", "first pass"]
            if peer:
                about = peer.ask(folder=folder, height=height, width=width)
                cases = about["cases"]
                if name == next(iter(SIZES)):
                    print(about["versions"])
            for case in cases:
                mine, theirs = [], []
                for turn in range(rounds + 1):
                    own_time = own.seconds(case.split(":")[0])
                    peer_time = peer.ask(case=case)["seconds"] if peer else 0.0
                    if turn:  # the first warms up
                        mine.append(own_time)
                        theirs.append(peer_time)
                line = f"{name:12} {case:32} reidc {64 / statistics.median(mine):7.0f} images/s"
                if peer:
                    ratios = sorted(b / a for a, b in zip(mine, theirs))
                    quarter = len(ratios) // 4
                    line += (f"   torchvision {64 / statistics.median(theirs):7.0f}   ratio "
                             f"{statistics.median(ratios):5.2f} ({ratios[quarter]:.2f} to "
                             f"{ratios[-1 - quarter]:.2f})")
                print(line, flush=True)


def chains(rounds):
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            pictures(folder, *size)
            own = Own(folder, 256, 128)
            for preset in reidc.augment.PRESETS:
                own.augment = reidc.Augment.preset(preset, height=256, width=128)
                rate = 64 / statistics.median(own.seconds("augment") for _ in range(rounds))
                print(f"{name:16} {preset:12} {rate:7.0f} images/s", flush=True)


# ---- the training loop ------------------------------------------------------------------------


def trainer(name, steps, folder):
    """A Trainer of a small recipe, or of a class at full size in batches of 16, with an epoch of
    about `steps` steps."""
    small = name.endswith("-small")
    recipe = dict(reidc.recipes.get(name if small else "baseline-small"), evaluate_every=0)
    if not small:
        recipe.update(system=name.lower(), options={}, identities=4)
    drawn = reidc.datasets.Synthetic("small", seed=0).train
    batch = recipe["identities"] * recipe["images"]
    people = max(recipe["identities"], steps * batch // 17)  # 17 to 18 pictures of each
    rows = np.flatnonzero(drawn.labels < people)
    data = reidc.datasets.Arrays(drawn.images[rows], drawn.pids[rows])
    m = reidc.build_model(recipe["system"], data.num_classes, **recipe["options"])
    return reidc.Trainer(m, data, recipe, folder, log=lambda line: None)


def loop(names, rounds, steps):
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            t = trainer(name, steps, folder)
            images, labels = next(iter(t.loader))
            t.loader.set_epoch(0)
            looped, bare = [], []
            for turn in range(rounds + 1):
                count = len(t.loader)
                row = t.fit(epochs=turn + 1)[-1]
                start = time.perf_counter()
                for _ in range(count):
                    t.model.train_step(images, labels, t.optimizer)
                if turn:
                    bare.append((time.perf_counter() - start) / count)
                    looped.append(row["seconds"] / count)
            shares = sorted(b / a for a, b in zip(looped, bare))
            print(f"{name:16} batch {len(labels):3}  {count:4} steps an epoch  "
                  f"bare {1e3 * statistics.median(bare):8.2f} ms  "
                  f"loop {1e3 * statistics.median(looped):8.2f} ms  "
                  f"share {statistics.median(shares):.3f} ({shares[0]:.3f} to {shares[-1]:.3f}) "
                  f"of {rounds} epochs, of the best {min(bare) / min(looped):.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--peer-python", metavar="PYTHON", help="one that has torchvision")
    parser.add_argument("--chains", action="store_true")
    parser.add_argument("--loop", metavar="NAMES", help="small recipes or classes, by commas")
    parser.add_argument("--steps", type=int, default=40, help="with --loop: about, of an epoch")
    arguments = parser.parse_args()
    print(f"{reidc.config()['cpu']}, NumPy {np.__version__}, reidc {reidc.__version__}")
    if arguments.loop:
        loop(arguments.loop.split(","), arguments.rounds, arguments.steps)
    elif arguments.chains:
        chains(arguments.rounds)
    else:
        compare(arguments.peer_python, arguments.rounds, arguments.height, arguments.width)


if __name__ == "__main__":
    main()
