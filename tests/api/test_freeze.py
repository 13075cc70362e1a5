"""Network.freeze, clipping and reset of the optimisers through the Python interface."""
import numpy as np
import pytest

import reidc

from .tools import LABELS, baseline, batch, relative, same, settle, unchanged


def backbone(state):
    return {k: v for k, v in state.items() if k.startswith("backbone.")}


@pytest.mark.parametrize("make", [lambda m: reidc.Adam(m, 1e-2, weight_decay=0.1),
                                  lambda m: reidc.SGD(m, 0.1, 0.9, weight_decay=0.1)])
def test_frozen_layers_stay(make):
    m = baseline()
    settle(m, np.random.default_rng(0))
    before = m.state_dict()
    m.freeze(["backbone.*"])
    assert m.frozen == tuple(k for k in m.parameters() if k.startswith("backbone."))
    o = make(m)
    for t in range(2):
        m.train_step(batch(seed=t), LABELS, o)
    after = m.state_dict()
    assert same(backbone(after), backbone(before))  # weights and running statistics
    assert not np.array_equal(after["classifier.weight"], before["classifier.weight"])
    m.freeze([])
    assert m.frozen == ()
    m.train_step(batch(seed=2), LABELS, o)
    thawed = m.state_dict()
    assert not any(np.array_equal(thawed[k], after[k]) for k in backbone(after))
    assert o.state_dict()["skipped"]["backbone.conv1.weight"] == 2


def test_frozen_gradients_are_zero_and_the_others_unchanged():
    m = baseline(precision="float64")
    m.freeze(["backbone.layer4.*"])
    c = m.copy()
    assert c.frozen == m.frozen
    m.loss(batch(), LABELS)
    gradients = m.gradients()
    assert not any(v.any() for k, v in gradients.items() if k.startswith("backbone.layer4."))
    assert gradients["backbone.conv1.weight"].any()  # goes through what is frozen
    c.freeze([])
    c.loss(batch(), LABELS)
    assert c.gradients()["backbone.layer4.0.conv1.weight"].any()


def test_a_batch_norm_of_which_only_half_is_frozen_uses_the_batch():
    m = baseline()
    before = m.state_dict()
    m.freeze(["bnneck.weight"])
    m.train_step(batch(), LABELS, reidc.SGD(m, 0.1))
    after = m.state_dict()
    assert np.array_equal(after["bnneck.weight"], before["bnneck.weight"])
    assert not np.array_equal(after["bnneck.running_mean"], before["bnneck.running_mean"])


def test_one_image_is_enough_where_every_batch_norm_is_frozen():
    g = reidc.Graph()
    x = g.mean(g.batch_norm(g.conv2d(g.input(3, 16, 16), 8, 3, padding=1), name="bn"))
    m = g.build({"embedding": g.linear(x, 4, name="fc")})
    with pytest.raises(ValueError, match="2 images|batch norm"):
        one = g.build({"embedding": g.linear(g.batch_norm(x), 4)})
        one.forward(batch(1, 16, 16), training=True)
    m.freeze(["bn.*"])
    m.forward(batch(1, 16, 16), training=True)


def test_everything_frozen():
    m = baseline()
    m.freeze(["*"])
    before = m.state_dict()
    o = reidc.SGD(m, 0.1, 0.9)
    assert m.train_step(batch(), LABELS, o)["total"] > 0
    assert same(m.state_dict(), before)
    m.freeze([])
    m.train_step(batch(), LABELS, o)


def test_threads_and_frozen():
    states = []
    for threads in (1, 3):
        m = baseline(threads=threads)
        m.freeze(["backbone.layer1.*", "backbone.layer2.*"])
        o = reidc.Adam(m, 1e-2, clip_norm=0.1)
        for t in range(2):
            m.train_step(batch(seed=t), LABELS, o)
        states.append({**m.state_dict(), "norm": np.array(o.gradient_norm)})
    assert same(*states)


def test_what_freeze_refuses():
    m = baseline()
    m.freeze(["classifier.*"])
    cases = [(["bone.*"], ValueError, "no parameter's name matches 'bone.*'"),
             (["backbone.*", "x"], ValueError, "'x'"), ("backbone.*", TypeError, "list"),
             ([3], TypeError, "words"), (["*.running_mean"], ValueError, "running_mean")]
    for patterns, kind, words in cases:
        with unchanged(m), pytest.raises(kind, match=words.replace("*", r"\*")):
            m.freeze(patterns)
        assert m.frozen == ("classifier.weight",)


@pytest.mark.parametrize("precision, bound", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("clip", [0.01, 0.3, 1e6])
def test_clipping_is_the_formula(precision, bound, clip):
    m = baseline(precision=precision)
    c = m.copy()
    clipped, plain = reidc.SGD(m, 0.5, clip_norm=clip), reidc.SGD(c, 0.5)
    before = m.state_dict()
    for n in (m, c):
        n.loss(batch(), LABELS)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in c.gradients().values()))
    clipped.step()
    plain.step()
    assert clipped.clip_norm == clip and plain.clip_norm is None and plain.gradient_norm is None
    assert clipped.gradient_norm == pytest.approx(norm, rel=1e-12)
    factor = min(1.0, clip / (norm + 1e-6))
    after, wanted = m.parameters(), c.parameters()
    for name in after:
        moved = wanted[name].astype(np.float64) - before[name]
        if np.linalg.norm(moved) > 1e-6 * np.linalg.norm(before[name]):
            got = after[name].astype(np.float64) - before[name]
            eps = (1e-7 if precision == "float32" else 1e-16) * np.linalg.norm(before[name])
            assert np.linalg.norm(got - factor * moved) <= bound * np.linalg.norm(moved) + 2 * eps
    if factor == 1:
        assert same(m.state_dict(), c.state_dict())


def test_clipping_leaves_the_centres_alone():
    m = baseline(center=True, w_center=0.003)
    c = m.copy()
    o, plain = reidc.SGD(m, 0.1, clip_norm=1e-3), reidc.SGD(c, 0.1)
    for n, optimizer in ((m, o), (c, plain)):
        n.train_step(batch(), LABELS, optimizer)
    assert np.array_equal(m.state_dict()["center"], c.state_dict()["center"])
    assert relative(m.state_dict()["classifier.weight"], c.state_dict()["classifier.weight"]) > 1e-4


def test_the_norm_is_settable_and_checked():
    m = baseline()
    o = reidc.Adam(m, 1e-3, clip_norm=5)
    o.clip_norm = None
    assert o.clip_norm is None
    for value, kind in ((0, ValueError), (-1, ValueError), (float("nan"), ValueError),
                        (float("inf"), ValueError), ("1", TypeError)):
        with unchanged(m, o), pytest.raises(kind, match="clip_norm"):
            o.clip_norm = value
        with pytest.raises(kind, match="clip_norm"):
            reidc.SGD(m, 1e-3, clip_norm=value)
    with pytest.raises(TypeError, match="clip_norm"):
        del o.clip_norm


@pytest.mark.parametrize("make", [lambda m: reidc.Adam(m, 1e-3), lambda m: reidc.SGD(m, 0.01),
                                  lambda m: reidc.SGD(m, 0.01, 0.9, True)])
def test_reset_is_a_new_optimiser(make):
    m = baseline()
    o = make(m)
    for t in range(2):
        m.train_step(batch(seed=t), LABELS, o)
    c = m.copy()
    new = make(c)
    o.lr = new.lr = 0.02
    o.reset()
    assert o.state_dict()["step"] == 0
    for t in range(2):
        m.train_step(batch(seed=5 + t), LABELS, o)
        c.train_step(batch(seed=5 + t), LABELS, new)
    assert same(m.state_dict(), c.state_dict())


def test_skipped_steps_are_part_of_the_state():
    """Adam's bias correction of what was frozen goes on bitwise."""
    m = baseline()
    m.freeze(["backbone.*"])
    o = reidc.Adam(m, 1e-2)
    for t in range(2):
        m.train_step(batch(seed=t), LABELS, o)
    c = m.copy()
    again = reidc.Adam(c, 1e-2)
    state = o.state_dict()
    again.load_state_dict(state)
    for n, optimizer in ((m, o), (c, again)):
        n.freeze([])
        n.train_step(batch(seed=9), LABELS, optimizer)
    assert same(m.state_dict(), c.state_dict())
    for skipped, words in (({"nobody": 1}, "another network"),
                           ({"classifier.weight": 3}, "skipped"),
                           ({"classifier.weight": -1}, "skipped"), (3, "state")):
        with unchanged(m, o), pytest.raises(ValueError, match=words):
            o.load_state_dict({**state, "skipped": skipped})
    del state["skipped"]  # of an optimiser that never passed over anything
    o.load_state_dict(state)
    assert o.state_dict()["skipped"] == {}
