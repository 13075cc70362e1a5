"""Small networks and batches for the tests of the Python interface."""
from contextlib import contextmanager

import numpy as np

import reidc

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])


def baseline(seed=1, **options):
    options = {"backbone": "resnet18", "width_multiplier": 0.125, **options}
    return reidc.Baseline(5, 64, 32, seed=seed, **options)


def mbgn(seed=1, **options):
    options = {"backbone": "resnet18", "width_multiplier": 0.25, **options}
    return reidc.MBGN(5, 96, 32, seed=seed, **options)


def batch(n=8, h=64, w=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, 3), dtype=np.uint8)


def floats(n=8, h=64, w=32, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3, h, w)).astype(np.float32)


def same(a, b):
    return list(a) == list(b) and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


def snapshot(m, optimizer=None):
    state = {**m.state_dict(), **{f"gradient {k}": v for k, v in m.gradients().items()},
             "step": np.array(m.step)}
    if optimizer is not None:
        kept = optimizer.state_dict()
        state.update({f"optimizer {k}": v for k, v in kept["state"].items()})
        state["t"] = np.array([kept["step"], kept["lr"]])
    return state


@contextmanager
def unchanged(m, optimizer=None):
    """Nothing of the network (weights, statistics, gradients, counters) may differ afterwards."""
    before = snapshot(m, optimizer)
    yield
    assert same(before, snapshot(m, optimizer))


def relative(a, b):
    """L2 distance over b's length, in double."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)


def settle(m, rng):
    """Move weights and statistics off their start, so that no gradient is zero by accident."""
    state = m.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value *= rng.uniform(0.7, 1.4, value.shape)
        elif name.endswith("running_mean"):
            value += 0.1 * rng.standard_normal(value.shape)
        elif value.ndim == 1:
            value += 0.1 * rng.standard_normal(value.shape)
        if name.endswith(("bn2.weight",)) and "backbone.layer" in name:
            value *= 0.1
    m.load_state_dict(state)
