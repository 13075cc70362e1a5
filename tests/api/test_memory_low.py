"""memory="low": the same bits as memory="normal" from less memory."""
import time

import numpy as np
import pytest

import reidc

SMALL = dict(height=96, width=64, backbone="resnet50", width_multiplier=0.125)
SYSTEMS = ["Baseline", "MBGN", "MFA", "HAMR", "MGAF", "FSAC"]
# what a step of 8 at full size holds, parts of memory="normal", forecast
SHARES = {"Baseline": 0.82, "MBGN": 0.62, "MFA": 0.77, "HAMR": 0.82, "MGAF": 0.75, "FSAC": 0.77}
CASES = [("Baseline", dict(precision="float32", pool="gem", head="circle", non_local=True)),
         ("Baseline", dict(precision="float64", center=True)),
         ("HAMR", dict(precision="bfloat16", dropblock=(0.3, 1.0))), ("MBGN", dict(dropout=0.5)),
         *((s, dict(precision=p)) for s in SYSTEMS for p in ("float32", "bfloat16"))]
LABELS = np.arange(4) // 2


def pair(system, **options):
    return [getattr(reidc, system)(10, **{**SMALL, **options}, memory=memory)
            for memory in ("normal", "low")]


def images(m):
    return np.random.default_rng(0).standard_normal((4, 3, m.height, m.width), np.float32)


def same(a, b):
    assert a.keys() == b.keys()
    different = [k for k in a if not np.array_equal(a[k], b[k], equal_nan=True)]
    assert not different


def optimizer(m, **options):
    return (reidc.SGD(m, 1e-3, momentum=0.9) if type(m).__name__ == "HAMR"
            else reidc.Adam(m, 1e-3, **options))


def remade(m):
    return sum(line.split()[1:2] == ["again"] for line in m.plan(4, training=True).split("\n"))


@pytest.mark.parametrize("system, options", CASES, ids=lambda o: o if isinstance(o, str)
                         else "-".join(map(str, o.values())))
def test_steps_to_the_same_bits(system, options):
    """Losses, weights, running statistics and what the optimiser remembers, after three steps."""
    networks = pair(system, **options)
    assert remade(networks[1]) > remade(networks[0])
    found = []
    for m in networks:
        o, x = optimizer(m), images(m).astype("f8" if m.precision == "float64" else "f4")
        losses = [dict(m.train_step(x, LABELS, o)) for _ in range(3)]
        found.append({**m.state_dict(), **{f"state/{k}": v for k, v in
                                           o.state_dict()["state"].items()},
                      **{f"{k}/{i}": v for i, step in enumerate(losses) for k, v in step.items()}})
    same(*found)


@pytest.mark.parametrize("system", SYSTEMS)
def test_gradients_and_outputs_to_the_same_bits(system):
    """`forward` and `backward` from outputs to images, `loss`, and a step that clips."""
    found = []
    for m in pair(system):
        x, rng = images(m), np.random.default_rng(1)
        outputs = m.forward(x, training=True)
        values = {f"out/{k}": v.copy() for k, v in outputs.items()}
        given = {k: rng.standard_normal(v.shape).astype(v.dtype) for k, v in outputs.items()
                 if v.dtype.kind == "f"}
        values["images"] = m.backward(given, input_gradient=True)
        values |= {f"backward/{k}": v.copy() for k, v in m.gradients().items()}
        m.zero_grad()
        values |= {f"part/{k}": v for k, v in m.loss(x, LABELS).items()}
        values |= {f"loss/{k}": v.copy() for k, v in m.gradients().items()}
        o = reidc.Adam(m, 1e-3, clip_norm=0.5)
        m.train_step(x, LABELS, o)
        found.append({**values, **m.state_dict()})
    same(*found)


def test_frozen_layers_stay_and_the_rest_is_the_same():
    found = []
    for m in pair("MBGN"):
        before = m.state_dict()["backbone.layer1.0.bn1.running_mean"].copy()
        m.freeze(["backbone.conv1*", "backbone.bn1*", "backbone.layer1*"])
        m.train_step(images(m), LABELS, optimizer(m))
        assert np.array_equal(m.state_dict()["backbone.layer1.0.bn1.running_mean"], before)
        found.append(m.state_dict())
    same(*found)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    found = []
    for count in (1, threads):
        m = reidc.MFA(10, **SMALL, memory="low", threads=count)
        m.train_step(images(m), LABELS, optimizer(m))
        found.append(m.state_dict())
    same(*found)


def test_evaluation_is_as_it_was():
    normal, low = pair("FSAC")
    assert low.plan(4) == normal.plan(4)
    assert low.memory_plan(4, training=False) == normal.memory_plan(4, training=False)
    assert np.array_equal(low.embed(images(low)), normal.embed(images(low)))


@pytest.mark.parametrize("system", SYSTEMS)
def test_full_size_holds_less_and_is_soon_planned(system):
    normal = getattr(reidc, system)(751).memory_plan(8)
    m = getattr(reidc, system)(751, memory="low")
    began = time.process_time()
    low = m.memory_plan(8)
    assert time.process_time() - began < 4
    assert low["total"] < SHARES[system] * normal["total"]
    assert {k: low[k] for k in ("weights", "optimizer")} == {k: normal[k] for k in
                                                             ("weights", "optimizer")}


def test_it_is_a_property_of_the_run(tmp_path):
    m = reidc.Baseline(10, **SMALL, memory="low")
    assert m.memory == "low" and reidc.Baseline(10, **SMALL).memory == "normal"
    m.save(tmp_path / "m.safetensors")
    assert reidc.load(tmp_path / "m.safetensors").memory == "low"
    other = reidc.load(tmp_path / "m.safetensors", memory="normal")
    assert other.memory == "normal"
    same(m.state_dict(), other.state_dict())


def test_of_a_graph():
    g = reidc.Graph()
    x = g.input(3, 32, 32)
    for _ in range(6):
        x = g.relu(g.batch_norm(g.conv2d(x, 16, 3, padding=1)))
    embedding = g.mean(x)
    found = []
    for memory in "normal", "low":
        m = g.build({"embedding": embedding}, [("triplet", "embedding")], memory=memory)
        x = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
        m.train_step(x, LABELS, reidc.Adam(m, 1e-3))
        found.append((m.state_dict(), m.memory_plan(4)["total"]))
    same(found[0][0], found[1][0])
    assert found[1][1] < found[0][1]


@pytest.mark.parametrize("value", ["small", "", None, True, 1])
def test_wrong_words(value, tmp_path):
    with pytest.raises(ValueError, match="memory: expected 'normal' or 'low'"):
        reidc.MFA(10, **SMALL, memory=value)
    m = reidc.MFA(10, **SMALL)
    m.save(tmp_path / "m.safetensors")
    if value is not None:
        with pytest.raises(ValueError, match="memory: expected 'normal', 'low' or None"):
            reidc.load(tmp_path / "m.safetensors", memory=value)


def test_not_on_a_card():
    m = reidc.MFA(10, **SMALL, memory="low")
    with pytest.raises(NotImplementedError, match="memory='low'"):
        m.to("cuda")
    assert m.device == "cpu"
