"""`Graph`: a network of one's own trains, every layer computes what it says, errors roll back."""
import numpy as np
import pytest

import reidc

from .tools import LABELS, batch, floats, same, unchanged

HEIGHT, WIDTH = 32, 16


def custom(**options):
    """A custom network in 20 lines."""
    g = reidc.Graph()
    x = g.input(3, HEIGHT, WIDTH)
    x = g.relu(g.batch_norm(g.conv2d(x, 16, 7, stride=2, padding=3, name="conv1"), name="bn1"))
    x = g.max_pool2d(x, 3, stride=2, padding=1)
    y = g.relu(g.batch_norm(g.conv2d(x, 16, 3, padding=1, name="conv2"), name="bn2"))
    x = g.relu(g.add(x, g.batch_norm(g.conv2d(y, 16, 3, padding=1, name="conv3"), name="bn3")))
    mask = g.sigmoid(g.conv2d(g.concat([g.channel_mean(x), g.channel_max(x)]), 1, 3, padding=1,
                              name="mask"))
    x = g.name(g.mul(x, mask), "map")
    feat = g.concat([g.mean(x), g.max(x)])
    neck = g.batch_norm(feat, frozen_bias=True, name="neck")
    logits = g.linear(g.dropout(neck, 0.1), 4, bias=False, init="classifier", name="classifier")
    return g.build(outputs={"feat": feat, "embedding": neck, "logits": logits, "map": x},
                   losses=[("id", "logits", {"smoothing": 0.1}), ("triplet", "feat")], **options)


def data(seed):
    """Four identities, each of its own colour, in noise."""
    rng = np.random.default_rng(seed)
    colors = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
    x = colors[LABELS][:, None, None] + rng.normal(0, 60, (8, HEIGHT, WIDTH, 3))
    return x.clip(0, 255).astype(np.uint8)


def test_custom_network_trains():
    m = custom()
    o = reidc.Adam(m, 3e-3)
    losses = [m.train_step(data(t), LABELS, o)["total"] for t in range(60)]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
    e, labels = m.embed(data(99)), LABELS
    distance = reidc.compute_distance_matrix(e, e)
    cmc, mean_ap = reidc.evaluate_rank(distance, labels, labels, np.arange(8), np.arange(8) + 9)
    assert mean_ap > 0.95


def test_it_has_every_member(tmp_path):
    m = custom()
    x = data(0)
    assert m.system == "graph" and m.dimension == 32 and m.num_classes == 4
    assert m.embed(x).shape == (8, 32) and list(m.forward(x)) == ["embedding"]
    out = m.copy().forward(x, training=True)
    assert {k: v.shape for k, v in out.items()} == {
        "feat": (8, 32), "embedding": (8, 32), "logits": (8, 4), "map": (8, 16, 8, 4)}
    assert list(m.copy().loss(x, LABELS)) == ["id", "triplet", "total"]
    assert "conv3" in m.summary() and "map" in {n["name"] for n in m.graph()}
    assert m.plan(8) and m.memory_plan(8)["total"] > 0 and m.contract["size"] == [HEIGHT, WIDTH]
    m.train_step(x, LABELS, reidc.SGD(m, 0.1))
    m.save(tmp_path / "m.safetensors")
    import copy
    import pickle

    for other in (reidc.load(tmp_path / "m.safetensors"), m.copy(), copy.deepcopy(m),
                  pickle.loads(pickle.dumps(m))):
        assert same(other.state_dict(), m.state_dict()) and other.step == 1
        assert np.array_equal(other.embed(x), m.embed(x))
        assert other.loss(x, LABELS) == m.copy().loss(x, LABELS)


def test_same_description_same_network():
    assert same(custom(seed=3).state_dict(), custom(seed=3).state_dict())
    assert not same(custom(seed=3).state_dict(), custom(seed=4).state_dict())


def test_maps_come_channels_first():
    """A rank 4 output and its gradient are N×C×H×W: d sum(map·G) / d images, by differences."""
    g = reidc.Graph()
    x = g.input(3, 4, 5)
    y = g.conv2d(x, 2, 1, name="c")
    m = g.build({"embedding": g.mean(y), "map": y}, precision="float64")
    weight = np.array([[1, 2, 3], [-1, 0, 5]], float)
    m.load_state_dict({"c.weight": weight[:, :, None, None]})
    images = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    out = m.forward(images, training=True)["map"]
    np.testing.assert_allclose(out, np.einsum("oc,nchw->nohw", weight, images), rtol=1e-12)
    assert out.flags.c_contiguous
    gradient = np.random.default_rng(1).standard_normal(out.shape)
    di = m.backward({"map": gradient.transpose(0, 3, 2, 1).copy().transpose(0, 3, 2, 1)},
                    input_gradient=True)
    np.testing.assert_allclose(di, np.einsum("oc,nohw->nchw", weight, gradient), rtol=1e-12)
    np.testing.assert_allclose(m.gradients()["c.weight"][:, :, 0, 0],
                               np.einsum("nohw,nchw->oc", gradient, images), rtol=1e-12)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


LAYERS = {  # layer: (built on x: 3×4×6, in NumPy on x: N×3×4×6), followed by the mean
    "relu": (lambda g, x: g.relu(x), lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda g, x: g.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "sigmoid": (lambda g, x: g.sigmoid(x), sigmoid),
    "add": (lambda g, x: g.add(x, g.relu(x)), lambda x: x + np.maximum(x, 0)),
    "max_pool2d": (lambda g, x: g.max_pool2d(x, 2),
                   lambda x: x.reshape(-1, 3, 2, 2, 3, 2).max((3, 5))),
    "avg_pool2d": (lambda g, x: g.avg_pool2d(x, 2),
                   lambda x: x.reshape(-1, 3, 2, 2, 3, 2).mean((3, 5))),
    "concat": (lambda g, x: g.concat([g.slice(x, 1, 3), x, g.slice(x, 0, 1)]),
               lambda x: np.concatenate([x[:, 1:], x, x[:, :1]], 1)),
    "mul map": (lambda g, x: g.mul(x, g.channel_max(x)), lambda x: x * x.max(1, keepdims=True)),
    "mul channel": (lambda g, x: g.mul(x, g.mean(x)),
                    lambda x: x * x.mean((2, 3), keepdims=True)),
    "dropout in evaluation": (lambda g, x: g.dropout(x, 0.5), lambda x: x),
    "stop_gradient": (lambda g, x: g.stop_gradient(x), lambda x: x),
    "op": (lambda g, x: g.op("activation", [x], act="relu"), lambda x: np.maximum(x, 0)),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer):
    build, expected = LAYERS[layer]
    g = reidc.Graph()
    y = build(g, g.input(3, 4, 6))
    m = g.build({"embedding": g.mean(y)}, precision="float64")
    x = np.random.default_rng(0).standard_normal((5, 3, 4, 6))
    np.testing.assert_allclose(m.embed(x, normalize=False), expected(x).mean((2, 3)), rtol=1e-12)


VECTORS = {
    "mean": (lambda g, x: g.mean(x), lambda x: x.mean((2, 3))),
    "max": (lambda g, x: g.max(x), lambda x: x.max((2, 3))),
    "rows mean": (lambda g, x: g.rows(x, 1, 3), lambda x: x[:, :, 1:3].mean((2, 3))),
    "rows max": (lambda g, x: g.rows(x, 0, 2, "max"), lambda x: x[:, :, :2].max((2, 3))),
    "normalize": (lambda g, x: g.normalize(g.mean(x)), lambda x: x.mean((2, 3)) / np.linalg.norm(
        x.mean((2, 3)), axis=1, keepdims=True)),
    "flatten": (lambda g, x: g.flatten(g.avg_pool2d(g.slice(x, 0, 2), 4, 6)),
                lambda x: x[:, :2, :, :4].mean((2, 3))),
    "linear": (lambda g, x: g.linear(g.mean(x), 2, name="fc"), None),
}


@pytest.mark.parametrize("layer", VECTORS)
def test_vectors(layer):
    build, expected = VECTORS[layer]
    g = reidc.Graph()
    y = build(g, g.input(3, 4, 6))
    m = g.build({"embedding": y}, precision="float64")
    x = np.random.default_rng(0).standard_normal((5, 3, 4, 6))
    if expected is None:
        s = m.state_dict()
        s["fc.bias"] += 1
        m.load_state_dict(s)
        value = x.mean((2, 3)) @ s["fc.weight"].T + s["fc.bias"]
    else:
        value = expected(x)
    np.testing.assert_allclose(m.embed(x, normalize=False), value, rtol=1e-12)


def test_norms_and_parameters():
    g = reidc.Graph()
    x = g.input(3, 8, 8)
    y = g.ibn(g.instance_norm(g.conv2d(x, 4, 3, padding=1, bias=True)))
    w = g.parameter("w", (5, 4, 1, 1), std=0.5)
    y = g.op("conv2d", [y, w, None], kernel=1, stride=1, groups=1)
    fixed = g.parameter("alpha", (1,), mean=2.0, trained=False)
    m = g.build({"embedding": g.mean(g.op("scale_add", [fixed, y, y]))})
    assert list(m.state_dict()) == [
        "conv1.weight", "conv1.bias", "in1.weight", "in1.bias", "ibn1.IN.weight", "ibn1.IN.bias",
        "ibn1.BN.weight", "ibn1.BN.bias", "ibn1.BN.running_mean", "ibn1.BN.running_var", "w",
        "alpha"]
    assert m.state_dict()["alpha"] == 2
    m.forward(batch(4, 8, 8), training=True)
    m.backward({"embedding": np.ones((4, 5), np.float32)})
    g = m.gradients()
    assert g["w"].any() and not g["alpha"].any()


def test_losses():
    def build(losses, **more):
        g = reidc.Graph()
        a = g.mean(g.conv2d(g.input(3, 16, 16), 8, 3, name="a"))
        b = g.linear(a, 6, name="b")
        logits = g.linear(a, 4, name="c")
        return g.build({"embedding": a, "b": b, "logits": logits, "more": g.linear(b, 4, name="d")},
                       losses=losses)

    x = batch(8, 16, 16)

    def parts(*losses):
        return build(losses).loss(x, LABELS)

    one, two = parts(("id", "logits")), parts(("id", "more"))
    both = parts(("id", "logits"), ("id", "more"))
    assert both["id"] == pytest.approx((one["id"] + two["id"]) / 2, rel=1e-5) == both["total"]
    w = parts(("triplet", "b", {"weight": 3.0, "margin": 1.0}), ("id", "logits", {"weight": 0.5}))
    assert w["total"] == pytest.approx(3 * w["triplet"] + 0.5 * w["id"], rel=1e-5)
    soft = parts(("triplet", "b", {"margin": None}))
    assert soft["triplet"] == pytest.approx(np.log1p(np.exp(w["triplet"] - 1)), rel=0.2)
    c = parts(("id", "logits"), ("center", "embedding", {"weight": 0.01}))
    assert c["total"] == pytest.approx(c["id"] + 0.01 * c["center"], rel=1e-5)
    circle = parts(("circle", "b"))
    assert circle["circle"] == circle["total"] > 0

    m = build([("id", "logits"), ("center", "embedding"), ("center", "b")])
    before = {k: v.copy() for k, v in m.parameters().items() if k.startswith("center")}
    assert {k: v.shape for k, v in before.items()} == {"center.0": (4, 8), "center.1": (4, 6)}
    feat = m.copy().forward(x, training=True)
    m.train_step(x, LABELS, reidc.Adam(m, 1e-3))
    for name, output in (("center.0", "embedding"), ("center.1", "b")):
        gradient = np.zeros_like(before[name])
        np.add.at(gradient, LABELS, 2 * (before[name][LABELS] - feat[output]) / 8)
        np.testing.assert_allclose(before[name] - m.parameters()[name], 0.5 * gradient, rtol=1e-3,
                                   atol=1e-6)


def test_without_a_loss():
    g = reidc.Graph()
    x = g.mean(g.conv2d(g.input(3, 16, 16), 8, 3))
    m = g.build({"embedding": x})
    o = reidc.SGD(m, 0.1)
    for call in (lambda: m.loss(batch(8, 16, 16), LABELS),
                 lambda: m.train_step(batch(8, 16, 16), LABELS, o)):
        with unchanged(m, o), pytest.raises(ValueError, match="without a loss"):
            call()
    assert m.has_loss is False


def test_errors_leave_the_graph_as_it_was():
    g, other = reidc.Graph(), reidc.Graph()
    x = g.input(3, 16, 16)
    y = g.conv2d(x, 8, 3, name="c")
    v = g.mean(y)
    p = g.parameter("p", (4,))
    foreign = other.input(3, 16, 16)
    labels = g._add("labels")
    cases = [
        (lambda: g.input(3, 16, 16), ValueError, "already"),
        (lambda: other.conv2d(x, 8, 3), ValueError, "another graph"),
        (lambda: g.conv2d(foreign, 8, 3), ValueError, "another graph"),
        (lambda: g.conv2d("x", 8, 3), TypeError, "value of this graph"),
        (lambda: g.conv2d(x, 8, 3, name="c"), ValueError, "taken"),
        (lambda: g.conv2d(x, 8, 3, name="center_conv"), ValueError, "center"),
        (lambda: g.conv2d(x, 8, 3, name="n" * 60), ValueError, "name"),
        (lambda: g.conv2d(x, 8, 3, name=""), ValueError, "name"),
        (lambda: g.conv2d(x, 8, 3, name=7), TypeError, "name"),
        (lambda: g.conv2d(x, 0, 3), ValueError, "out_channels"),
        (lambda: g.conv2d(x, 8, 0), ValueError, "kernel"),
        (lambda: g.conv2d(x, 8, 40), ValueError, "kernel"),
        (lambda: g.conv2d(x, 8, 3, stride=0), ValueError, "stride"),
        (lambda: g.conv2d(x, 8, 3, padding=-1), ValueError, "padding"),
        (lambda: g.conv2d(x, 8, 3, groups=2), ValueError, "groups"),
        (lambda: g.conv2d(x, 2.5, 3), TypeError, "out_channels: expected an integer, got float"),
        (lambda: g.conv2d(x, 8, 3, stride="2"), TypeError, "stride: expected an integer, got str"),
        (lambda: g.linear(v, None), TypeError, "out_features: expected an integer"),
        (lambda: g.leaky_relu(y, "a"), TypeError, "slope: expected a number, got str"),
        (lambda: g.dropout(y, None), TypeError, "p: expected a number"),
        (lambda: g.max_pool2d(y, 2, 1.0), TypeError, "stride: expected an integer"),
        (lambda: g.avg_pool2d(y, "2"), TypeError, "kernel: expected an integer, got str"),
        (lambda: g.rows(y, 0, 2.0), TypeError, "stop: expected an integer"),
        (lambda: g.slice(y, 0.0, 2), TypeError, "start: expected an integer"),
        (lambda: g.concat(y), TypeError, "values: expected several, got Value"),
        (lambda: g.op("add", y), TypeError, "inputs: expected several, got Value"),
        (lambda: g.parameter("q", 3), TypeError, "shape: expected several, got int"),
        (lambda: g.parameter("q", (3,), mean="a"), TypeError, "mean: expected a number"),
        (lambda: g.conv2d(v, 8, 3), ValueError, "conv2d.*N×C×H×W.*1x8"),
        (lambda: g.linear(y, 8), ValueError, "linear.*N×C"),
        (lambda: g.linear(v, 8, init="zeros"), ValueError, "init"),
        (lambda: g.batch_norm(labels), ValueError, "norm"),
        (lambda: g.add(x, y), ValueError, "add"),
        (lambda: g.concat([]), ValueError, "concat"),
        (lambda: g.concat([y] * 40), ValueError, "concat"),
        (lambda: g.slice(y, 5, 4), ValueError, "slice"),
        (lambda: g.slice(y, 0, 9), ValueError, "slice"),
        (lambda: g.rows(y, 3, 3), ValueError, "rows"),
        (lambda: g.rows(y, 0, 15), ValueError, "rows"),
        (lambda: g.rows(y, 0, 2, "sum"), ValueError, "pool"),
        (lambda: g.dropout(y, 1.0), ValueError, "p: "),
        (lambda: g.max_pool2d(y, 99), ValueError, "max_pool2d"),
        (lambda: g.mul(y, x), ValueError, "mul_map"),
        (lambda: g.mul(y, g.slice(v, 0, 3)), ValueError, "mul_channel"),
        (lambda: g.flatten(y), ValueError, "view"),
        (lambda: g.parameter("q", ()), ValueError, "shape"),
        (lambda: g.parameter("q", (1, 2, 3, 4, 5)), ValueError, "shape"),
        (lambda: g.parameter("q", (0,)), ValueError, "shape"),
        (lambda: g.parameter("q", (3,), std=-1), ValueError, "std"),
        (lambda: g.op("nonsense", [y]), ValueError, "nonsense"),
        (lambda: g.op("activation", [y], slop=1), TypeError, "slop"),
        (lambda: g.op("activation", [y], act="swish"), ValueError, "act"),
        (lambda: g.op("activation", []), ValueError, "inputs"),
        (lambda: g.op("add", [y, None]), ValueError, "add"),
        # what would read memory as something it is not
        (lambda: g.op("cross_entropy", [v, p]), ValueError, "labels"),
        (lambda: g.op("region_pool", [y, labels]), ValueError, "planes"),
        (lambda: g.op("activation", [labels], act="relu"), ValueError, "real"),
        (lambda: g.op("batch_norm", [v, p, p, p, p]), ValueError, "batch_norm"),
        (lambda: g.op("linear", [v, v]), ValueError, "parameter"),
    ]
    for call, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert isinstance(caught.value, reidc.Error)
    m = g.build({"embedding": v})
    assert list(m.state_dict()) == ["c.weight", "p"]
    assert m.embed(floats(2, 16, 16)).shape == (2, 8)
    g.parameter("q", (np.int8(3),), std=np.float32(1))
    e = g.mean(g.conv2d(y, 8, 3))  # no number is left out for one that did not fit
    assert list(g.build({"embedding": e}).state_dict()) == ["c.weight", "p", "q", "conv1.weight"]


def test_build_errors():
    g = reidc.Graph()
    x = g.input(3, 16, 16)
    y = g.conv2d(x, 8, 3, name="c")
    v = g.mean(y)
    logits, wide = g.linear(v, 4), g.linear(v, 5)
    outputs = {"embedding": v, "logits": logits, "wide": wide, "map": y}
    cases = [
        (dict(outputs={"logits": logits}), ValueError, "embedding"),
        (dict(outputs={}), ValueError, "embedding"),
        (dict(outputs=[v]), TypeError, "outputs: .*, got list"),
        (dict(outputs={"embedding": v, 3: v}), TypeError, "outputs: expected text as names, got 3"),
        (dict(losses=3), TypeError, "losses: expected several, got int"),
        (dict(seed=1.0), TypeError, "seed: expected an integer, got 1.0"),
        (dict(outputs={"embedding": y}), ValueError, "N×D"),
        (dict(outputs={"embedding": 3}), TypeError, "outputs"),
        (dict(outputs={"embedding": v, "x": x}), ValueError, "computed"),
        (dict(losses=[("id",)]), TypeError, "losses"),
        (dict(losses=["id"]), TypeError, "losses"),
        (dict(losses=[("idd", "logits")]), ValueError, "idd"),
        (dict(losses=[("id", "logit")]), ValueError, "logit"),
        (dict(losses=[("id", "logits", {"margin": 1})]), TypeError, "margin"),
        (dict(losses=[("id", "logits", {"smoothing": -1})]), ValueError, "smoothing"),
        (dict(losses=[("id", "logits", {"smoothing": "a"})]), ValueError, "smoothing"),
        (dict(losses=[("id", "map")]), ValueError, "cross_entropy"),
        (dict(losses=[("id", "logits"), ("id", "wide")]), ValueError, "number of classes"),
        (dict(losses=[("id", "logits"), ("id", "logits", {"weight": 2})]), ValueError, "options"),
        (dict(losses=[("center", "embedding")]), ValueError, "center"),
        (dict(device="cuda:x"), ValueError, "device"),
        (dict(device="cuda:999"), reidc.DeviceError, "CUDA|cuda"),
        (dict(precision="half"), ValueError, "precision"),
        (dict(threads=-1), ValueError, "threads"),
        (dict(speed=3), TypeError, "speed"),
    ]
    for options, kind, words in cases:
        with pytest.raises(kind, match=words):
            g.build(**{"outputs": outputs, **options})
    m = g.build(outputs, [("id", "logits"), ("triplet", "embedding")])
    n = g.build(outputs, [("id", "logits"), ("triplet", "embedding")])  # as often as one likes
    assert m.loss(batch(8, 16, 16), LABELS) == n.loss(batch(8, 16, 16), LABELS)
    with pytest.raises(ValueError, match="input"):
        empty = reidc.Graph()
        empty.build({"embedding": empty.parameter("p", (1, 4))})
