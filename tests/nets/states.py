"""States and batches for comparisons, from names, shapes and a seed alone (NumPy, no torch).

With fresh random weights even a float32 PyTorch network's gradients are 1e-2 away from float64, and
that hides every error. `excite` gives a state where they are 1e-5 to 1e-4 away: each residual
block's last batch norm has a small weight, and everything else (all weights, biases and running
statistics) is moved off its start, so that no term of a formula is multiplied by 0 or 1. Each
tensor has its own generator, keyed by its name: NumPy's frozen MT19937, the same on every machine.
"""
import re
import zlib

import numpy as np

KINK = 0.5
LAST_NORM = re.compile(
    r"(?:(?:backbone|small|medium|large)\.layer\d|branch)\.\d+\.(bn\d)\.weight$")


def generator(name, seed):
    return np.random.RandomState([zlib.crc32(name.encode()), seed & 0xFFFFFFFF])


def is_last_norm(name, names):
    """The second norm of a basic block, the third of a bottleneck."""
    found = LAST_NORM.match(name)
    if not found:
        return False
    block = name[:found.start(1)]
    return found.group(1) == ("bn3" if block + "bn3.weight" in names else "bn2")


def running_scale(name, shapes):
    """Rough size of what a norm sees, so that evaluation neither saturates nor dies out."""
    if ".attention.bn." in name:
        return 5.0  # a value and a weight of gain 2 each
    found = re.match(r"(att\d)\.(bn1|bn2|map1\.bn|map2\.bn)\.", name)
    if not found:
        return 1.0
    if found.group(2) in ("bn1", "bn2"):
        return 10.0  # 49 taps, each about 1
    return 1.4 * shapes[found.group(1) + ".theta.conv.weight"][0] ** 0.5


def shift(name, shapes):
    """Where the biases of a norm lie: well above 0 before a ReLU, but for every 16th channel.

    A value that rounding pushes over a kink changes a gradient by its whole size: with n values and
    k of them pushed over, by sqrt(k/n), about 1e-3 when biases are near 0. So most channels stay
    clear of the kink, and every 16th (every 4th in the relation) has it in the middle of its
    values: enough to show a forgotten mask, and to keep the biases' gradients from vanishing (what
    only shifts the input of the next norm has none).
    """
    stem = name.rpartition(".")[0]
    if stem + ".weight" not in shapes or len(shapes[stem + ".weight"]) != 1:
        return 0.0  # bias of a convolution or a linear layer
    if is_last_norm(stem + ".weight", shapes) or stem.startswith("bnneck"):
        return 0.0
    if re.search(r"att\d\.(bn[12]|att\.bn|bn)$|head\d+_\d+\.bn2$|\.attention\.bn$|\.W\.1$", stem):
        return 0.0  # no ReLU behind it
    count = shapes[name][0]
    if re.search(r"(theta|phi|map\d)\.bn$", stem):
        return np.where(np.arange(count) % 4 == min(2, count - 1), KINK, 1.5)
    return np.where(np.arange(count) % 16 == min(2, count - 1), KINK, 2.5)


def tensor(name, shapes, seed):
    shape, rng = tuple(shapes[name]), generator(name, seed)
    stem, _, leaf = name.rpartition(".")
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape) * running_scale(name, shapes) ** 2
    if leaf == "running_mean":
        return 0.3 * rng.standard_normal(shape) * running_scale(name, shapes)
    if name.startswith("center"):
        return rng.standard_normal(shape)
    if leaf == "bias":
        return shift(name, shapes) + 0.1 * rng.standard_normal(shape)
    if re.search(r"(^|\.)gem\.p$", name):
        return rng.uniform(2.0, 4.0, shape)
    if len(shape) == 1:  # norms
        small = 0.05 if is_last_norm(name, shapes) else 1.0
        return rng.uniform(0.5, 1.0, shape) * small
    fan_in = int(np.prod(shape[1:]))
    gain = 0.5 if re.search(r"classifier(\.\d+)?$", stem) else 2.0
    if stem.endswith((".attention.theta", ".attention.phi", ".conv2.q", ".conv2.k")) or re.search(
            r"cpaa\.\d\.(query|key)$", stem):
        gain = 0.05  # logits of a few units: neither flat nor one position takes all
    w = np.sqrt(gain / fan_in) * rng.standard_normal(shape)
    if len(shape) == 4:  # most of the row's mean goes, or norms see constants far above deviations
        w = w - 0.8 * w.mean((1, 2, 3), keepdims=True)
    return w


def excite(shapes, seed=0):
    """shapes: name -> shape (or -> array, e.g. a state_dict) -> name -> float32 array.

    A norm's parameters are told from others by their rank; a BNNeck's bias, which no page trains,
    keeps its 0.
    """
    shapes = {k: tuple(getattr(v, "shape", v)) for k, v in shapes.items()
              if not k.endswith("num_batches_tracked")}
    state = {k: np.ascontiguousarray(tensor(k, shapes, seed), np.float32) for k in shapes}
    for name in state:
        if re.fullmatch(r"bnneck(\.\d+)?\.bias", name):
            state[name][...] = 0
    return state


def batch(identities, images, height, width, seed=0, num_classes=None):
    """images float32 N x 3 x height x width already normalised, labels int64 N.

    An identity has a coarse pattern, an image its own coarse change and fine noise: unlike plain
    noise, whose channel means are all alike, this leaves the heads something to tell apart.
    """
    rng = np.random.RandomState([seed, 77])
    n, rows, columns = identities * images, height // 16, width // 8
    own = rng.standard_normal((identities, 3, rows, columns)).repeat(images, 0)
    x = own + 0.5 * rng.standard_normal((n, 3, rows, columns))
    x = x.repeat(height // rows, 2).repeat(width // columns, 3)
    x = x + 0.3 * rng.standard_normal((n, 3, height, width))
    x = 0.8 * x + 0.5 * rng.standard_normal((n, 3, 1, 1))
    ids = np.sort(rng.permutation(num_classes or identities)[:identities]).repeat(images)
    return np.ascontiguousarray(x, np.float32), ids.astype(np.int64)


def planes(n, height, seed=0):
    """n x 4 increasing rows strictly between 0 and height, each image its own."""
    rng = np.random.RandomState([seed, 78])
    return np.array([np.sort(rng.permutation(height - 1)[:4] + 1) for _ in range(n)], np.int64)
