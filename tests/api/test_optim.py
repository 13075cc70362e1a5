"""Optimisers against their equations in NumPy (float64); groups, frozen entries, centres, state."""
import numpy as np
import pytest

import reidc

from .tools import LABELS, baseline, batch, relative, same, settle, unchanged


def adam(w, g, s, t, lr, b1=0.9, b2=0.999, eps=1e-8, decay=0.0, decoupled=False):
    if decoupled:
        w = w * (1 - lr * decay)
    else:
        g = g + decay * w
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    root = np.sqrt(s["v"]) / np.sqrt(1 - b2**t)
    return w - lr / (1 - b1**t) * s["m"] / (root + eps)


def sgd(w, g, s, t, lr, momentum=0.0, damp=0.0, nesterov=False, decay=0.0):
    g = g + decay * w
    if momentum:
        s["b"] = g if t == 1 else momentum * s["b"] + (1 - damp) * g
        g = g + momentum * s["b"] if nesterov else s["b"]
    return w - lr * g


CASES = [
    (lambda m: reidc.Adam(m, 1e-2), dict(rule=adam, lr=1e-2)),
    (lambda m: reidc.Adam(m, 1e-2, (0.5, 0.99), 1e-3, 0.1),
     dict(rule=adam, lr=1e-2, b1=0.5, b2=0.99, eps=1e-3, decay=0.1)),
    (lambda m: reidc.AdamW(m, 1e-2, weight_decay=0.3),
     dict(rule=adam, lr=1e-2, decay=0.3, decoupled=True)),
    (lambda m: reidc.SGD(m, 0.1), dict(rule=sgd, lr=0.1)),
    (lambda m: reidc.SGD(m, 0.1, 0.9, False, 0.01),
     dict(rule=sgd, lr=0.1, momentum=0.9, decay=0.01)),
    (lambda m: reidc.SGD(m, 0.1, momentum=0.9, nesterov=True),
     dict(rule=sgd, lr=0.1, momentum=0.9, nesterov=True)),
    (lambda m: reidc.SGD(m, 0.1, momentum=0.8, dampening=0.4, weight_decay=0.05),
     dict(rule=sgd, lr=0.1, momentum=0.8, damp=0.4, decay=0.05)),
]


@pytest.mark.parametrize("precision, bound, eps", [("float32", 2e-5, 3e-7),
                                                   ("float64", 1e-12, 1e-15)])
@pytest.mark.parametrize("make, rule", CASES)
def test_equations(make, rule, precision, bound, eps):
    m = baseline(precision=precision, width_multiplier=0.01)
    settle(m, np.random.default_rng(0))
    o, rule = make(m), dict(rule)
    apply = rule.pop("rule")
    start = {k: v.astype(np.float64) for k, v in m.parameters().items()}
    weights = {k: v.copy() for k, v in start.items()}
    slots = {k: {} for k in start}
    for t in range(1, 5):
        m.zero_grad()
        m.loss(batch(seed=t), LABELS)
        for name, g in m.gradients().items():
            if name != "bnneck.bias":
                weights[name] = apply(weights[name], g.astype(np.float64), slots[name], t, **rule)
        o.step()
    for name, now in m.parameters().items():
        if name == "bnneck.bias":  # never trained
            assert np.array_equal(now, start[name])
            continue
        moved = np.linalg.norm(weights[name] - start[name])
        error = np.linalg.norm(now - weights[name])
        assert error <= bound * moved + eps * np.linalg.norm(weights[name]), name


def test_large_parameters_are_cut_without_a_seam():
    """More elements than one piece, threads of any number: the same bits as piece by piece."""
    states = []
    for threads in (1, 3):
        g = reidc.Graph()
        x = g.mean(g.conv2d(g.input(3, 16, 16), 300, 3, padding=1))
        m = g.build({"embedding": g.linear(x, 700, name="fc")}, threads=threads)
        assert m.parameters()["fc.weight"].size == 210_000
        o = reidc.Adam(m, 1e-2, weight_decay=0.1)
        for t in range(2):
            m.forward(batch(4, 16, 16, seed=t), training=True)
            m.backward({"embedding": np.ones((4, 700), np.float32)})
            o.step()
            m.zero_grad()
        states.append(m.state_dict())
    assert same(*states)


def test_groups():
    m = baseline()
    c = m.copy()
    groups = {"backbone.*": {"lr_factor": 0.0}, "*.bias": {"lr_factor": 5.0},
              "classifier.*": {"lr_factor": 2.0, "weight_decay": 0.5}}
    a, b = reidc.SGD(m, 0.1, groups=groups), reidc.SGD(c, 0.1)
    before = {k: v.copy() for k, v in m.parameters().items()}
    for n, o in ((m, a), (c, b)):
        n.loss(batch(), LABELS)
        o.step()
    after, plain = m.parameters(), c.parameters()
    assert all(np.array_equal(after[k], before[k]) for k in after if k.startswith("backbone."))
    name = "classifier.weight"
    g = (before[name] - plain[name]).astype(np.float64) / 0.1
    assert relative(before[name] - after[name], 0.2 * (g + 0.5 * before[name])) < 1e-3
    assert relative(before["bnneck.weight"] - after["bnneck.weight"],
                    before["bnneck.weight"] - plain["bnneck.weight"]) < 1e-3


@pytest.mark.parametrize("make", [lambda m: reidc.Adam(m, 1e-3, weight_decay=0.1),
                                  lambda m: reidc.SGD(m, 0.0, momentum=0.9)])
def test_centres_follow_their_own_rule(make):
    """Rate 0.5 on the gradient of the unweighted loss, whatever the optimiser and its decay."""
    m = baseline(center=True, w_center=0.003)
    o = make(m)
    before = m.state_dict()["center"].astype(np.float64)
    feat = m.copy().forward(batch(), training=True)["feat"].astype(np.float64)
    gradient = np.zeros_like(before)
    np.add.at(gradient, LABELS, 2 * (before[LABELS] - feat) / 8)
    parts = m.train_step(batch(), LABELS, o)
    assert relative(before - m.state_dict()["center"], 0.5 * gradient) < 1e-5
    distance = ((feat - before[LABELS]) ** 2).sum() / 8
    assert parts["center"] == pytest.approx(distance, rel=1e-4)
    assert parts["total"] == pytest.approx(
        parts["id"] + parts["triplet"] + 0.003 * parts["center"], rel=1e-5)
    assert not any(k.endswith(".center") for k in o.state_dict()["state"])


@pytest.mark.parametrize("make, slots", [
    (lambda m: reidc.Adam(m, 1e-3), 2), (lambda m: reidc.AdamW(m, 1e-3), 2),
    (lambda m: reidc.SGD(m, 0.01, momentum=0.9), 1), (lambda m: reidc.SGD(m, 0.01), 0)])
def test_state_goes_on_bitwise(make, slots):
    m = baseline()
    o = make(m)
    for t in range(2):
        m.train_step(batch(seed=t), LABELS, o)
    c = m.copy()
    again = make(c)
    state = o.state_dict()
    trained = len(m.parameters()) - 1
    assert state["step"] == 2 and len(state["state"]) == slots * trained
    again.load_state_dict(state)
    for value in state["state"].values():
        value += 1  # copies
    for t in range(2):
        m.train_step(batch(seed=t), LABELS, o)
        c.train_step(batch(seed=t), LABELS, again)
    assert same(m.state_dict(), c.state_dict())
    assert same(o.state_dict()["state"], again.state_dict()["state"])


def test_rate():
    m = baseline()
    o = reidc.SGD(m, 0.1)
    assert o.lr == 0.1 and o.network is m and o.kind == "sgd"
    o.lr = np.float32(0.25)
    assert o.lr == 0.25
    o.lr = 0
    before = m.state_dict()
    m.loss(batch(), LABELS)
    o.step()
    assert all(np.array_equal(before[k], v) for k, v in m.parameters().items())
    o.zero_grad()
    assert not any(v.any() for v in m.gradients().values())


def test_errors():
    m = baseline()
    o = reidc.Adam(m, 1e-3)
    sgd_state = reidc.SGD(m, 0.1, momentum=0.9).state_dict()
    nan, inf = float("nan"), float("inf")

    def spoiled(change):
        state = o.state_dict()
        change(state)
        return state

    first = "m.backbone.conv1.weight"
    cases = [
        (lambda: o.step(), ValueError, "no gradients"),
        (lambda: reidc.Adam(m, -1), ValueError, "lr"),
        (lambda: reidc.Adam(m, nan), ValueError, "lr"),
        (lambda: reidc.Adam(m, inf), ValueError, "lr"),
        (lambda: reidc.Adam(m, "fast"), TypeError, "lr"),
        (lambda: reidc.Adam(m), TypeError, "lr"),
        (lambda: reidc.Adam(m, 1e-3, (0.9, 1.0)), ValueError, "betas"),
        (lambda: reidc.Adam(m, 1e-3, (-0.1, 0.9)), ValueError, "betas"),
        (lambda: reidc.Adam(m, 1e-3, 0.9), TypeError, "betas"),
        (lambda: reidc.Adam(m, 1e-3, eps=-1), ValueError, "eps"),
        (lambda: reidc.AdamW(m, 1e-3, weight_decay=-1), ValueError, "weight_decay"),
        (lambda: reidc.SGD(m, 1e-3, momentum=-1), ValueError, "momentum"),
        (lambda: reidc.SGD(m, 1e-3, nesterov=True), ValueError, "nesterov"),
        (lambda: reidc.SGD(m, 1e-3, momentum=0.9, dampening=0.1, nesterov=True), ValueError,
         "nesterov"),
        (lambda: reidc.Adam(m, 1e-3, amsgrad=True), TypeError, "amsgrad"),
        (lambda: reidc.Adam("m", 1e-3), TypeError, "network"),
        (lambda: reidc.Adam(m, 1e-3, groups={"bone.*": {}}), ValueError, "bone"),
        (lambda: reidc.Adam(m, 1e-3, groups={"*": {"lr": 1}}), TypeError, "lr_factor"),
        (lambda: reidc.Adam(m, 1e-3, groups={"*": {"lr_factor": -1}}), ValueError, "lr_factor"),
        (lambda: reidc.Adam(m, 1e-3, groups={"*": {"lr_factor": nan}}), ValueError, "lr_factor"),
        (lambda: reidc.Adam(m, 1e-3, groups={"*": 3}), TypeError, "groups"),
        (lambda: reidc.Adam(m, 1e-3, groups=[1]), TypeError, "groups"),
        (lambda: reidc.Adam(m, 1e-3, groups={"x" * 100: {}}), ValueError, "characters"),
        (lambda: setattr(o, "lr", -1), ValueError, "lr"),
        (lambda: setattr(o, "lr", nan), ValueError, "lr"),
        (lambda: setattr(o, "lr", None), TypeError, "lr"),
        (lambda: delattr(o, "lr"), TypeError, "lr"),
        (lambda: o.__init__(m, 1e-3), ValueError, "second time"),
        (lambda: o.load_state_dict(sgd_state), ValueError, "adam"),
        (lambda: o.load_state_dict({}), ValueError, "state"),
        (lambda: o.load_state_dict(3), TypeError, "state"),
        (lambda: o.load_state_dict(spoiled(lambda s: s.update(step=-1))), ValueError, "step"),
        (lambda: o.load_state_dict(spoiled(lambda s: s.update(lr=nan))), ValueError, "lr"),
        (lambda: o.load_state_dict(spoiled(lambda s: s["state"].pop(first))), ValueError, first),
        (lambda: o.load_state_dict(spoiled(lambda s: s["state"].update(x=1))), ValueError,
         "arrays"),
        (lambda: o.load_state_dict(spoiled(
            lambda s: s["state"].update({first: np.zeros((1, 3, 7, 7), np.float32)}))),
         ValueError, first),
        (lambda: o.load_state_dict(spoiled(
            lambda s: s["state"].update({first: np.zeros(3)}))), TypeError, first),
    ]
    for call, kind, words in cases:
        with unchanged(m, o), pytest.raises(kind, match=words):
            call()
