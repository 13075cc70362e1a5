"""Inference in eight bits: `quantize`, what it says and keeps, and its numbers."""
import copy
import pickle

import numpy as np
import pytest
import reidc
from .command import fails, run
from .tools import LABELS, baseline, batch, floats, mbgn, same, settle, unchanged


def trained(seed=1):
    """A network whose values are spread as after training."""
    m = baseline(seed, width_multiplier=0.5)
    settle(m, np.random.default_rng(seed))
    return m


def cosines(a, b):
    return np.sum(a * b, axis=1)


@pytest.fixture(scope="module")
def quantised():
    m = trained()
    exact = m.embed(batch(12))
    return m, exact, m.quantize(batch(12))


def test_embeddings_stay_near(quantised):
    m, exact, q = quantised
    got = m.embed(batch(12))
    assert m.precision == "int8" and m.config["settings"]["precision"] == "int8"
    assert (cosines(exact, got) > 0.998).all()
    assert not np.array_equal(exact, got)
    assert q.cosine == pytest.approx(cosines(exact, got).mean(), abs=1e-6)
    other = batch(5, seed=9)
    plain = trained().embed(other)
    assert (cosines(plain, m.embed(other)) > 0.998).all()
    assert np.array_equal(m.embed(other), np.concatenate([m.embed(other[:2], batch_size=1),
                                                          m.embed(other[2:], batch_size=3)]))


def test_table(quantised):
    m, _, q = quantised
    names = [n for n, w in m.state_dict().items() if w.ndim == 4]
    assert [layer["name"] for layer in q.layers] and {x["name"] for x in q.layers} == set(names)
    used = [layer for layer in q.layers if layer["int8"]]
    assert len(used) == sum(x["reason"] is None for x in q.layers) and len(used) > len(names) / 2
    for layer in used:
        assert 0 < layer["error"] <= q.limit and layer["step"] > 0
        assert layer["low"] <= 0 <= layer["high"]
        assert layer["high"] - layer["low"] == pytest.approx(255 * layer["step"])
    for layer in q.layers:
        assert (layer["reason"] == "small") == (layer["error"] is None)
    text = str(q)
    assert all(n in text for n in names) and "percentile 99.99" in text and "12 images" in text
    assert text.split("\n")[-1].startswith(f"{len(used)} of {len(names)} ")
    assert "u8" in m.plan(1) and "rc_int8_conv__" in m.plan(1)


def test_methods_and_limit():
    x = batch(8)
    exact = trained().embed(x)
    results = {}
    for method, percentile in (("percentile", 100), ("percentile", 99), ("mse", 99.99)):
        m = trained()
        q = m.quantize(x, method=method, percentile=percentile)
        results[method, percentile] = q
        assert (cosines(exact, m.embed(x)) > 0.99).all()
    wide, narrow, best = (results[k].layers[3] for k in results)
    assert narrow["high"] < wide["high"] and best["high"] <= wide["high"]
    m = trained()
    q = m.quantize(x, limit=1e-9)
    assert not any(layer["int8"] for layer in q.layers) and "above the limit" in str(q)
    assert np.array_equal(m.embed(x), exact) and q.cosine == pytest.approx(1, abs=1e-6)


def test_again_and_other_weights(quantised):
    m = trained()
    x = batch(12)
    m.quantize(x[:3], percentile=98)
    first = m.embed(x)
    m.quantize(x)
    assert np.array_equal(m.embed(x), quantised[0].embed(x))
    assert not np.array_equal(m.embed(x), first)
    other = trained(seed=2)
    m.load_state_dict(other.state_dict())
    assert (cosines(m.embed(x), other.embed(x)) > 0.95).all()  # ranges of other weights, still near
    m.quantize(x)
    assert (cosines(m.embed(x), other.embed(x)) > 0.998).all()
    view = m.parameters()["bnneck.weight"]
    view *= 2
    del view
    other.load_state_dict(m.state_dict())
    assert (cosines(m.embed(x), other.embed(x)) > 0.99).all()


def test_files_copies_and_pickles(quantised, tmp_path):
    m, exact, _ = quantised
    x = batch(12)
    want = m.embed(x)
    for end in ("safetensors", "npz"):
        m.save(tmp_path / f"m.{end}")
        again = reidc.load(tmp_path / f"m.{end}")
        assert again.precision == "int8" and np.array_equal(again.embed(x), want)
        assert again._stored() == m._stored()
    for other in (m.copy(), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert other.precision == "int8" and np.array_equal(other.embed(x), want)
        assert same(other.state_dict(), m.state_dict())
    plain = trained()
    plain.save(tmp_path / "plain.safetensors")
    one = plain.copy()
    one.quantize(x)
    assert plain.precision == "float32" and np.array_equal(plain.embed(x), exact)
    assert reidc.load(tmp_path / "plain.safetensors").precision == "float32"


def test_damaged_ranges(quantised, tmp_path):
    m = quantised[0]
    for bad in ([10**6, 1.0, 0, 1], [1, -1.0, 0, 1], [1, 1.0, 256, 1], [1, float("inf"), 0, 1]):
        with pytest.raises(ValueError, match="int8: entry 0 does not fit"):
            m.copy()._set_stored([bad])
    m.save(tmp_path / "m.safetensors", header={"reidc.int8": "[[1, 2]]"})
    with pytest.raises((ValueError, OSError), match="configuration|int8"):
        reidc.load(tmp_path / "m.safetensors")


def test_threads_do_not_matter(quantised):
    config = quantised[0].config
    state, stored = quantised[0].state_dict(), quantised[0]._stored()
    results = []
    for threads in (1, 3):
        m = baseline(1, width_multiplier=0.5, precision="int8", threads=threads)
        assert m.config["system"] == config["system"]
        m.load_state_dict(state)
        m._set_stored(stored)
        results.append(m.embed(batch(7)))
    assert np.array_equal(*results)


def test_before_it_is_quantised():
    m = baseline(precision="int8")
    assert m.precision == "int8"
    with pytest.raises(ValueError, match=r"call quantize\(images\)"):
        m.embed(batch(2))
    with pytest.raises(ValueError, match=r"call quantize\(images\)"):
        m.forward(batch(2))
    m.quantize(batch(4))
    assert (cosines(m.embed(batch(4)), baseline().embed(batch(4))) > 0.99).all()


def test_training_is_refused(quantised):
    m = quantised[0].copy()
    optimizer = reidc.Adam(m, 1e-3)
    with unchanged(m, optimizer):
        for call in (lambda: m.train_step(batch(), LABELS, optimizer),
                     lambda: m.loss(batch(), LABELS), lambda: m.forward(batch(), training=True),
                     lambda: m.memory_plan(8)):
            with pytest.raises(ValueError, match="'int8' is for inference alone"):
                call()
    assert m.memory_plan(8, training=False)["total"] > 0


def test_wrong_input(quantised):
    m = trained()
    x = batch(4)
    bad = [(dict(method="minmax"), ValueError, "method: expected 'percentile' or 'mse'"),
           (dict(percentile=101), ValueError, "percentile: expected more than 50, at most 100"),
           (dict(percentile=float("nan")), ValueError, "percentile"),
           (dict(percentile="99"), TypeError, "percentile: expected a number"),
           (dict(limit=0), ValueError, "limit: expected a number above 0"),
           (dict(limit=None), TypeError, "limit: expected a number")]
    for options, error, text in bad:
        with pytest.raises(error, match=text):
            m.quantize(x, **options)
    with pytest.raises(ValueError, match="images"):
        m.quantize(x[:0])
    with pytest.raises(TypeError, match="images"):
        m.quantize(x.astype(np.int32))
    broken = floats(2)
    broken[1, 0, 3, 4] = np.nan
    with pytest.raises(ValueError, match="not finite|finite"):
        m.quantize(broken)
    assert m.precision == "float32" and np.array_equal(m.embed(x), trained().embed(x))
    double = baseline(precision="float64")
    with pytest.raises(ValueError, match="float64"):
        double.quantize(x)


def test_maps_and_explanations_stay_exact(quantised):
    m, x = quantised[0], batch(3)
    plain = trained()
    assert np.array_equal(m.grad_cam(x, target="norm"), plain.grad_cam(x, target="norm"))


def bytes_of(x, step, zero):
    t = x * (np.float32(1) / np.float32(step)) + np.float32(zero)
    return np.rint(np.clip(t, 0, 255)).astype(np.uint8)


def test_every_number_of_a_small_network():
    """Cast, convolution with its batch norm, maximum and a second convolution, by hand."""
    g = reidc.Graph()
    x = g.input(3, 12, 10)
    a = g.conv2d(x, 16, 3, stride=1, padding=1, bias=False, name="one")
    a = g.relu(g.batch_norm(a, name="norm"))
    a = g.max_pool2d(a, 3, stride=2, padding=1)
    y = g.conv2d(a, 24, 1, bias=True, name="two")
    net = g.build(outputs={"embedding": g.mean(y)})
    settle(net, np.random.default_rng(3))
    x = floats(4, 12, 10)
    q = net.quantize(x)
    assert all(layer["int8"] for layer in q.layers)
    s = net.state_dict()
    steps = {v: (np.float32(step), zero) for v, step, zero, _ in net._stored()}
    first, second = ((layer["step"], -layer["low"] / layer["step"]) for layer in q.layers)
    assert {np.float32(first[0]), np.float32(second[0])} <= {step for step, _ in steps.values()}

    def conv(xq, zero, w, pad):
        most = np.abs(w).max(axis=(1, 2, 3), keepdims=True)
        wq = np.clip(np.rint(w * (np.float32(127) / most)), -127, 127)
        xq = np.pad(xq.astype(np.float64) - zero, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        view = np.lib.stride_tricks.sliding_window_view(xq, w.shape[2:], axis=(2, 3))
        return np.einsum("nchwab,kcab->nkhw", view, wq), most[:, 0, 0, 0] / 127

    zero = round(first[1])
    total, w_step = conv(bytes_of(x, first[0], zero), zero, s["one.weight"], 1)
    norm = s["norm.weight"] / np.sqrt(s["norm.running_var"] + 1e-5)
    column = (slice(None), None, None)
    value = total * (np.float32(first[0]) * w_step * norm)[column] + (
        s["norm.bias"] - s["norm.running_mean"] * norm)[column]
    step = np.float32(second[0])
    value = np.rint(np.clip(value / step, 0, 255))
    padded = np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    total, w_step = conv(view.max(axis=(4, 5)), 0, s["two.weight"], 0)
    want = total * (step * w_step)[column] + s["two.bias"][column]
    got = net.embed(x, normalize=False)
    assert np.allclose(got, want.mean(axis=(2, 3)), rtol=1e-5, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("system", ["MGAF", "HAMR", "MFA", "FSAC", "MBGN"])
def test_every_system(system):
    options = dict(backbone="resnet18", width_multiplier=0.5)
    if system == "FSAC":
        options["backbone"] = "resnet50"
    m = mbgn() if system == "MBGN" else getattr(reidc, system)(5, 96, 32, **options)
    settle(m, np.random.default_rng(0))
    x = batch(6, 96, 32)
    exact = m.embed(x)
    q = m.quantize(x)
    assert sum(layer["int8"] for layer in q.layers) > len(q.layers) / 3
    assert (cosines(exact, m.embed(x)) > 0.99).all(), q


def test_commands(capsys, tmp_path, folder):
    m = trained()
    m.save(tmp_path / "m.safetensors")
    out, embed = tmp_path / "e.npz", ["embed", tmp_path / "m.safetensors", folder, "-o"]
    assert run(capsys, *embed, out)[0] == 0
    exact = np.load(out)["embeddings"]
    status, text, _ = run(capsys, *embed, out, "--precision", "int8", "--calibrate", folder)
    assert status == 0 and "convolutions in int8" in text
    got = np.load(out)["embeddings"]
    assert not np.array_equal(got, exact) and (cosines(got, exact) > 0.99).all()
    status, text, _ = run(capsys, "eval", tmp_path / "m.safetensors", "--data", f"folder:{folder}",
                          "--precision", "int8", "--calibrate", folder)
    assert status == 0 and "convolutions in int8" in text and "mAP" in text
    fails(capsys, 2, "not quantised: --calibrate FOLDER", *embed, out, "--precision", "int8")
    fails(capsys, 2, "only goes with --precision int8", *embed, out, "--calibrate", folder)
    m.quantize(batch(4))
    m.save(tmp_path / "m.safetensors")
    assert run(capsys, *embed, out, "--precision", "int8")[0] == 0
