"""Golden numbers: which networks, and how a tensor is boiled down to five of them (no torch).

A case is a network, a seed and a batch, all made by rule (`states`). Of each tensor the file keeps
its norm, two sums with random signs (they move as far as the tensor does), its first and its middle
element, and the error of the float32 twin, which sets the limit. `../golden/make_golden.py` writes
the file from the float64 twins, `test_golden.py` holds the engine to it.
"""
import numpy as np
import states
from report import FACTOR, FLOOR, GRADIENT_FLOOR, LOSS_STEPS, Report, Row, one_step

CLASSES, HEIGHT, WIDTH, SEEDS, STEPS = 5, 96, 32, (0, 1, 2), 10
SMALL = dict(backbone="resnet18", width_multiplier=0.5)
CASES = {
    "baseline": ("Baseline", dict(backbone="resnet18", width_multiplier=0.25)),
    "mbgn": ("MBGN", SMALL),
    "cbam": ("MBGN", SMALL | dict(attention="cbam", part_pool="avg", strategy="M+C")),
    "two": ("MBGN", SMALL | dict(num_attention=2, branch_g=False, structure=False, strategy="F")),
    "mgn": ("MBGN", SMALL | dict(attention=None, segmentation="uniform", structure=False,
                                 strategy="MGN")),
}
LR = 1e-5


def options_of(key):
    name, options = CASES[key]
    return options | ({"dropout": 0.0} if name == "MBGN" else {})


def batch(key, seed):
    x, y = states.batch(3, 3, HEIGHT, WIDTH, seed, CLASSES)
    return x, y, states.planes(9, HEIGHT // 16, seed) if CASES[key][0] == "MBGN" else None


def sketch(x, name):
    x = np.asarray(x, np.float64).ravel()
    if not len(x) or not np.isfinite(x).all():
        return np.full(5, np.nan)
    signs = states.generator(name, 5).randint(0, 2, (2, len(x))) * 2 - 1
    return np.concatenate([[np.linalg.norm(x)], signs @ x, x[:1], x[len(x) // 2:][:1]])


def flatten(result):
    """one_step's result -> {(kind, name): array}."""
    embedding, outputs, parts, gradients, _, running = result
    found = {("embedding", "embedding"): embedding}
    for kind, d in (("output", outputs), ("loss", parts), ("gradient", gradients),
                    ("running", running)):
        found |= {(kind, k): v for k, v in sorted(d.items()) if k != "planes"}
    return found


def table(result):
    """-> names 'kind name' in order, float64 n x 5."""
    found = flatten(result)
    return ([" ".join(k) for k in found],
            np.array([sketch(v, k[1]) for k, v in found.items()], np.float64))


def ten_losses(net, optimizer, key, seed):
    found = []
    for i in range(STEPS):
        x, y, planes = batch(key, seed + i % 2)
        keyword = {} if planes is None else {"planes": planes}
        found.append(net.train_step(x, y, optimizer, **keyword)["total"])
    return np.array(found)


def check(engine, key, seed, names, truth, peer, quiet=(), shapes=None):
    """The engine's step against the stored table -> Report."""
    state = states.excite(shapes or engine.state_dict(), seed)
    x, y, planes = batch(key, seed)
    ours_names, ours = table(one_step(engine, state, x, y, planes))
    report = Report()
    for name in sorted(set(names) ^ set(ours_names)):
        report.rows.append(Row(name.split()[0], name + " (not in both)", np.inf, 0.0, 0.0))
    place = {n: i for i, n in enumerate(ours_names)}
    for name, row, error in zip(names, truth, peer):
        kind, _, tensor = name.partition(" ")
        if name not in place or tensor in quiet:
            continue
        got, norm = ours[place[name]], row[0]
        limit = FACTOR * error + FLOOR + (GRADIENT_FLOOR if kind == "gradient" else 0.0)
        if norm == 0:
            report.rows.append(Row(kind, tensor, float(np.abs(got).max()), 0.0, 0.0))
            continue
        gap = np.abs(got - row) / norm
        gap[1:3] /= 4.0  # a random sum moves about as far as the tensor, rarely four times as far
        worst = float(gap.max()) if np.isfinite(gap).all() else np.inf
        report.rows.append(Row(kind, tensor, worst, float(error), float(limit)))
    return report


def check_losses(losses, stored):
    report = Report()
    for i, (a, b) in enumerate(zip(losses, stored)):
        report.rows.append(Row("loss", f"step {i}", abs(a - b) / abs(b), 0.0, LOSS_STEPS))
    return report


def aabs_maps(height, count):
    """count x 16 x height x 4 float32 of six kinds in turn, exact on every machine: uniform
    draws, products and sums of them, no function of the C library."""
    rng = np.random.RandomState([height, 91])
    maps = np.empty((count, 16, height, 4), np.float64)
    for i in range(count):
        kind, u = i % 6, rng.random_sample
        noise = u((16, height, 4))
        if kind == 0:
            f = noise
        elif kind == 5 and i % 12 == 5:  # much of it blank: scores of zero on both sides
            f = noise * (u((1, height, 1)) < 0.4)
        elif kind == 5:  # signed
            f = noise - 0.5
        else:  # bands of a common vector, borders anywhere, more or less noise
            bands = 3 + kind
            border = np.sort(rng.randint(0, height, bands - 1))
            which = (np.arange(height)[:, None] >= border).sum(1)
            f = (u((16, bands)) * (u((16, bands)) < 0.5))[:, which][:, :, None]
            f = f + (0.02, 0.2, 0.5, 1.0)[kind - 1] * noise
        maps[i] = f
    return maps.astype(np.float32)


AABS = {24: 2000, 16: 2000, 6: 400}
NEAR = 1e-6
