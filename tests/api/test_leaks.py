"""References, core memory and resident memory over many calls; failed allocations."""
import gc
import resource
import sys

import numpy as np
import pytest

import reidc
from reidc import _core

from .tools import LABELS, batch, floats, same, snapshot


def tiny(**options):
    g = reidc.Graph()
    x = g.relu(g.batch_norm(g.conv2d(g.input(3, 16, 8), 8, 3, stride=2, padding=1)))
    x = g.mean(x)
    return g.build({"embedding": x, "logits": g.linear(g.dropout(x), 4)},
                   losses=[("id", "logits"), ("triplet", "embedding")], **options)


X, F = batch(8, 16, 8), floats(8, 16, 8)


def everything(m, o):
    """Every kind of call, right and wrong."""
    m.embed(X, flip=True)
    m.embed(F[:, :, ::-1])
    m.embed(X[:0])
    out = m.forward(X, training=True)
    m.backward({"embedding": np.ones_like(out["embedding"])}, input_gradient=True)
    m.loss(X, LABELS.tolist())
    o.step()
    m.train_step(F, LABELS, o)
    m.load_state_dict(m.state_dict())
    m.parameters(), m.gradients(), m.zero_grad(), m.graph(), m.plan(2), m.memory_plan(2)
    o.load_state_dict(o.state_dict())
    ema = reidc.EMA(m, 0.9)
    m.freeze(["conv*"])
    o.clip_norm = 1.0
    m.train_step(F, LABELS, o, ema=ema)
    with ema.applied():
        ema.weights()
    ema.update(), ema.load_state_dict(ema.state_dict()), o.load_state_dict(o.state_dict())
    m.freeze([]), m.frozen, o.gradient_norm, o.reset(), ema.network
    o.clip_norm = None
    m.config, m.contract, m.summary(), repr(m)
    for call in (lambda: m.embed(X.astype(int)), lambda: m.embed(X[0]), lambda: m.loss(X, [1] * 8),
                 lambda: m.loss(X, LABELS[:3]), lambda: m.load_state_dict({"x": X}),
                 lambda: m.load_state_dict({}), lambda: m.backward({"embedding": X}),
                 lambda: m.train_step(X, LABELS, None), lambda: m.embed(F * np.nan),
                 lambda: o.load_state_dict({}), lambda: m.plan(-1), lambda: m.freeze(["x"]),
                 lambda: m.freeze(3), lambda: ema.load_state_dict({}), ema.restore,
                 lambda: m.train_step(X, LABELS, o, ema=3), lambda: reidc.EMA(m, 2)):
        with pytest.raises((TypeError, ValueError)):
            call()


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_grows():
    m = tiny()
    o = reidc.Adam(m, 1e-3)
    for _ in range(20):
        everything(m, o)
    gc.collect()
    core, memory, blocks = _core._memory_live(), resident(), sys.getallocatedblocks()
    for _ in range(150):  # some 4000 calls
        everything(m, o)
    gc.collect()
    assert _core._memory_live() == core
    assert sys.getallocatedblocks() - blocks < 300
    assert resident() - memory < 4 << 20


def test_references():
    m = tiny()
    o = reidc.Adam(m, 1e-3)
    labels, state = LABELS.copy(), m.state_dict()
    name = next(iter(state))
    watched = [X, F, labels, state, state[name], m, o, None, True]
    before = [sys.getrefcount(w) for w in watched]
    for _ in range(100):
        m.embed(X), m.embed(F), m.loss(X, labels), m.train_step(F, labels, o)
        m.load_state_dict(state), m.copy(), reidc.SGD(m, 0.1), o.network, m.parameters()
        m.forward(X, training=True)
        m.backward({})
        for call in (lambda: m.embed(X[0]), lambda: m.loss(X, labels + 9)):
            with pytest.raises(ValueError):
                call()
    after = [sys.getrefcount(w) for w in watched]
    assert all(abs(b - a) < 20 for a, b in zip(before, after)), (before, after)


def test_everything_is_given_back():
    gc.collect()
    core = _core._memory_live()
    for _ in range(20):
        m = tiny()
        o = reidc.Adam(m, 1e-3)
        everything(m, o)
        views = m.copy().parameters()
        m.kept = {"views": m.parameters(), "optimizer": o, "self": m,  # cycles
                  "average": reidc.EMA(m, 0.5)}
        del m, o, views
    gc.collect()
    assert _core._memory_live() == core


def test_views_outlive_the_network():
    core = _core._memory_live()
    views = tiny().parameters()
    assert _core._memory_live() > core
    one = views["conv1.weight"]
    before = one.copy()
    del views
    gc.collect()
    assert np.array_equal(one, before)
    del one
    assert _core._memory_live() == core


CALLS = {
    "build": lambda m, o: tiny(),
    "system": lambda m, o: reidc.Baseline(3, 32, 16, backbone="resnet18", width_multiplier=0.01),
    "copy": lambda m, o: m.copy(),
    "adam": lambda m, o: reidc.Adam(m, 0.1, groups={"*": {}}),
    "embed": lambda m, o: m.embed(X[:3]),
    "forward": lambda m, o: m.forward(X[:5], training=True),
    "loss": lambda m, o: m.loss(X[:6], LABELS[:6]),
    "train": lambda m, o: m.train_step(X[:7], LABELS[:7], o),
    "clip": lambda m, o: setattr(o, "clip_norm", 1.0) or m.train_step(X[:7], LABELS[:7], o),
    "ema": lambda m, o: reidc.EMA(m, 0.9),
    "freeze": lambda m, o: m.freeze(["conv*"]) or True,
    "plan": lambda m, o: m.plan(5),
    "memory": lambda m, o: m.memory_plan(4),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_failed_allocation(name):
    """Make the n-th allocation fail, for every n: MemoryError, nothing changed, nothing lost."""
    failures = 0
    for n in range(2000):
        m = tiny(threads=1)
        o = reidc.SGD(m, 0.1, momentum=0.9)
        before, core = snapshot(m, o), _core._memory_live()
        _core._memory_fail_after(n)
        try:
            result = CALLS[name](m, o)
        except MemoryError:
            result = None
        finally:
            _core._memory_fail_after(-1)
        if result is not None:
            break
        failures += 1
        assert same(before, snapshot(m, o))
        m.embed(X)  # and it still works
        if name in ("build", "system", "copy", "adam"):
            fresh = tiny(threads=1)
            fresh.embed(X)
            del fresh
        del m, o
        gc.collect()
        assert _core._memory_live() <= core
    assert result is not None and failures >= (1 if name in ("plan", "freeze") else 2), failures
