"""reidc.EMA: the formula in NumPy, in and out of the network, going on bitwise, what is refused."""
import gc

import numpy as np
import pytest

import reidc

from .tools import LABELS, baseline, batch, mbgn, relative, same, unchanged


def steps(m, o, ema, seeds, inside=True):
    for t in seeds:
        m.train_step(batch(seed=t), LABELS, o, ema=ema if inside else None)
        if not inside:
            ema.update()


@pytest.mark.parametrize("precision, bound", [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_formula(precision, bound, decay):
    m = baseline(precision=precision)
    ema, o = reidc.EMA(m, decay), reidc.SGD(m, 0.05, 0.9)
    wanted = {k: v.astype(np.float64) for k, v in m.state_dict().items()}
    for t in range(4):
        m.train_step(batch(seed=t), LABELS, o, ema=ema)
        for name, value in m.state_dict().items():
            wanted[name] = decay * wanted[name] + (1 - decay) * value.astype(np.float64)
    state = ema.state_dict()
    assert state["decay"] == decay and state["updates"] == ema.updates == 4
    assert list(state["state"]) == list(m.state_dict())  # weights and running statistics
    for name, value in state["state"].items():
        assert relative(value, wanted[name]) <= bound, name
    if decay == 0:
        assert all(relative(state["state"][k], v) <= bound for k, v in m.state_dict().items())


def test_in_the_step_and_after_it_are_the_same_and_threads_do_not_matter():
    states = []
    for inside, threads in ((True, 1), (False, 3)):
        m = mbgn(threads=threads)
        ema, o = reidc.EMA(m, 0.9), reidc.Adam(m, 1e-3)
        for t in range(2):
            m.train_step(batch(h=96, seed=t), LABELS, o, ema=ema if inside else None)
            if not inside:
                ema.update()
        states.append(ema.state_dict()["state"])
    assert same(*states)


def test_applied_and_restored():
    m = baseline()
    ema, o = reidc.EMA(m, 0.5), reidc.Adam(m, 1e-2)
    steps(m, o, ema, range(2))
    own, average = m.state_dict(), ema.state_dict()["state"]
    before = m.embed(batch())
    other = m.copy()
    other.load_state_dict(average)
    assert ema.network is m and not ema.is_applied
    with ema.applied() as held:
        assert held is m and ema.is_applied and same(m.state_dict(), average)
        assert np.array_equal(m.embed(batch()), other.embed(batch()))
        assert same(ema.state_dict()["state"], average) and same(ema.weights(), own)
        for call in (ema.update, ema.apply,
                     lambda: m.train_step(batch(), LABELS, o, ema=ema),
                     lambda: ema.load_state_dict(ema.state_dict())):
            with unchanged(m, o), pytest.raises(ValueError, match="average|restore"):
                call()
    assert same(m.state_dict(), own) and same(ema.weights(), own)
    assert np.array_equal(m.embed(batch()), before)
    with pytest.raises(ValueError, match="its own weights"):
        ema.restore()
    with pytest.raises(RuntimeError), ema.applied():
        raise RuntimeError
    assert same(m.state_dict(), own)


def test_views_of_the_weights_stay_views():
    m = baseline()
    ema = reidc.EMA(m, 0.5)
    view = m.parameters()["classifier.weight"]
    view += 1
    with ema.applied():
        assert np.array_equal(view, m.state_dict()["classifier.weight"])
        assert np.array_equal(view, ema.state_dict()["state"]["classifier.weight"])
    assert np.array_equal(view, m.state_dict()["classifier.weight"])


def test_goes_on_bitwise():
    m = baseline()
    ema, o = reidc.EMA(m, 0.9), reidc.Adam(m, 1e-2)
    steps(m, o, ema, range(2))
    c = m.copy()
    again, optimizer = reidc.EMA(c, 0.1), reidc.Adam(c, 1e-2)
    state = ema.state_dict()
    again.load_state_dict(state)
    optimizer.load_state_dict(o.state_dict())
    for value in state["state"].values():
        value += 1  # copies
    steps(m, o, ema, (7, 8))
    steps(c, optimizer, again, (7, 8))
    assert again.decay == 0.9 and again.updates == 4
    assert same(ema.state_dict()["state"], again.state_dict()["state"])


def test_it_outlives_the_network_object():
    m = baseline()
    ema = reidc.EMA(m, 0.9)
    del m
    gc.collect()
    ema.update()
    assert ema.updates == 1 and ema.network.num_classes == 5


def test_what_is_refused():
    m, other = baseline(), baseline()
    ema, o = reidc.EMA(m, 0.9), reidc.SGD(m, 0.1)
    state = ema.state_dict()
    first = "backbone.conv1.weight"
    cases = [
        (lambda: reidc.EMA(m, 1), ValueError, "decay"),
        (lambda: reidc.EMA(m, -0.1), ValueError, "decay"),
        (lambda: reidc.EMA(m, float("nan")), ValueError, "decay"),
        (lambda: reidc.EMA(m, "0.9"), TypeError, "decay"),
        (lambda: reidc.EMA(3, 0.9), TypeError, "network"),
        (lambda: reidc.EMA(m), TypeError, "decay"),
        (lambda: ema.__init__(m, 0.9), ValueError, "second time"),
        (lambda: setattr(ema, "decay", 2), ValueError, "decay"),
        (lambda: delattr(ema, "decay"), TypeError, "decay"),
        (lambda: m.train_step(batch(), LABELS, o, ema=reidc.EMA(other, 0.9)), ValueError,
         "another network"),
        (lambda: m.train_step(batch(), LABELS, o, ema=o), TypeError, "ema"),
        (lambda: ema.load_state_dict({}), ValueError, "state"),
        (lambda: ema.load_state_dict(3), TypeError, "state"),
        (lambda: ema.load_state_dict({**state, "decay": 1.5}), ValueError, "decay"),
        (lambda: ema.load_state_dict({**state, "updates": -1}), ValueError, "updates"),
        (lambda: ema.load_state_dict({**state, "state": {}}), ValueError, "missing"),
        (lambda: ema.load_state_dict({**state, "state": {**state["state"], first: np.zeros(3)}}),
         ValueError, first),
    ]
    for call, kind, words in cases:
        with unchanged(m, o), pytest.raises(kind, match=words):
            call()
        assert same(ema.state_dict()["state"], state["state"])


def test_a_stopped_step_leaves_the_average_alone():
    import _thread
    import threading
    import time

    m = baseline(precision="float64")
    ema, o = reidc.EMA(m, 0.5), reidc.SGD(m, 0.1)
    before = ema.state_dict()["state"]
    images = np.concatenate([batch(seed=t) for t in range(32)])
    threading.Thread(target=lambda: (time.sleep(0.05), _thread.interrupt_main())).start()
    with unchanged(m, o), pytest.raises(KeyboardInterrupt):
        m.train_step(images, np.tile(LABELS, 32), o, ema=ema)
        time.sleep(5)
    assert same(ema.state_dict()["state"], before) and ema.updates == 0
