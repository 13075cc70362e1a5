"""Members of a network: what they return, that they agree with one another, same bits always."""
import numpy as np
import pytest

import reidc

from .tools import LABELS, baseline, batch, floats, mbgn, relative, same, settle


@pytest.fixture(scope="module")
def m():
    network = baseline()
    settle(network, np.random.default_rng(3))
    return network


def test_embed_shapes_and_layouts(m):
    x = batch()
    e = m.embed(x)
    assert e.shape == (8, m.dimension) and e.dtype == np.float32 and e.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(e, axis=1), 1, rtol=1e-5)
    assert m.embed(x[:0]).shape == (0, m.dimension)
    assert m.embed(floats(0)).shape == (0, m.dimension)
    strided = np.empty((8, 64, 64, 3), np.uint8)[:, :, ::2]
    strided[...] = x
    unaligned = np.frombuffer(b"x" + x.tobytes(), np.uint8, offset=1).reshape(x.shape)
    assert not unaligned.flags.writeable
    for same_pixels in (strided, unaligned, np.asfortranarray(x), x[::-1][::-1], list(x)):
        assert np.array_equal(m.embed(same_pixels), e)
    f = floats()
    g = m.embed(f)
    raw = np.empty(f.nbytes + 1, np.uint8)
    odd = raw[1:].view(np.float32).reshape(f.shape)
    odd[...] = f
    assert not odd.flags.aligned
    for same_pixels in (odd, np.asfortranarray(f), f.astype(">f4")):
        assert np.array_equal(m.embed(same_pixels), g)


def test_inputs_are_never_written(m):
    x, f, y = batch(), floats(), LABELS.copy()
    copies = x.copy(), f.copy(), y.copy()
    for images in (x, f):
        m.embed(images, flip=True)
        m.forward(images)
        m.copy().loss(images, y)
    assert all(np.array_equal(a, b) for a, b in zip((x, f, y), copies))


def test_embed_does_not_depend_on_the_batch(m):
    x = batch(9)
    whole = m.embed(x, normalize=False)
    for size in (1, 2, 4, 100):
        assert relative(m.embed(x, batch_size=size, normalize=False), whole) < 1e-5
    assert relative(m.embed(x[3:4], normalize=False), whole[3:4]) < 1e-5


def test_flip_averages_with_the_mirror_image(m):
    x = batch()
    plain, mirrored = m.embed(x, normalize=False), m.embed(x[:, :, ::-1], normalize=False)
    both = m.embed(x, flip=True, normalize=False)
    assert relative(both, (plain.astype(np.float64) + mirrored) / 2) < 1e-6
    unit = both / np.linalg.norm(both, axis=1, keepdims=True)
    assert relative(m.embed(x, flip=True), unit) < 1e-6
    f = floats()
    assert relative(m.embed(f, flip=True), m.embed(f[..., ::-1], flip=True)) < 1e-6


def test_uint8_is_resized_and_normalised(m):
    x = batch(2)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    f = ((x / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    assert relative(m.embed(x), m.embed(f)) < 1e-4
    image = pytest.importorskip("PIL.Image")
    large = batch(2, 150, 71)
    small = np.stack([np.asarray(image.fromarray(i).resize((32, 64), image.BILINEAR))
                      for i in large])
    assert np.array_equal(m.embed(large), m.embed(small))


def test_forward_outputs(m):
    out = m.forward(batch())
    assert list(out) == ["embedding"] and out["embedding"].shape == (8, m.dimension)
    assert relative(out["embedding"], m.embed(batch(), normalize=False)) < 1e-6
    assert m.forward(batch()[:0])["embedding"].shape == (0, m.dimension)
    out = m.copy().forward(batch(), training=True)
    assert {k: v.shape for k, v in out.items()} == {"feat": (8, m.dimension), "logit": (8, 5)}


def test_training_moves_statistics_and_evaluation_does_not(m):
    c = m.copy()
    before, step = c.state_dict(), c.step
    c.embed(batch())
    c.forward(batch())
    assert same(before, c.state_dict()) and c.step == step
    c.forward(batch(), training=True)
    after = c.state_dict()
    moved = {k for k in after if not np.array_equal(before[k], after[k])}
    assert moved == {k for k in after if "running_" in k} and c.step == step + 1


def test_backward_is_the_loss_by_hand(m):
    """id loss of the logits, written in NumPy, against the network's own."""
    a = m.copy()
    own = baseline(triplet=False, label_smooth=0.0)
    own.load_state_dict(a.state_dict())
    a = own.copy()
    parts = own.loss(batch(), LABELS)
    logits = a.forward(batch(), training=True)["logit"].astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert abs(parts["id"] + np.log(p[np.arange(8), LABELS]).mean()) < 1e-5
    assert a.gradients() == {}
    gradient = (p - np.eye(5)[LABELS]) / 8
    assert a.backward({"logit": gradient.astype(np.float32)}) is None
    g, h = a.gradients(), own.gradients()
    assert list(g) == list(h) == list(a.parameters())
    for name in g:
        assert np.abs(g[name] - h[name]).max() < 1e-5 + 1e-3 * np.abs(h[name]).max(), name
    assert not g["bnneck.bias"].any() and g["backbone.conv1.weight"].any()


def test_gradients_accumulate(m):
    c = m.copy()
    c.loss(batch(), LABELS)
    once = c.gradients()
    state = c.state_dict()
    c.load_state_dict({**state, **{k: v for k, v in m.state_dict().items()}})
    c.loss(batch(), LABELS)
    twice = c.gradients()
    for name in once:
        np.testing.assert_allclose(twice[name], 2 * once[name], rtol=1e-3,
                                   atol=1e-5 * np.abs(once[name]).max() + 1e-12)
    c.zero_grad()
    assert all(not v.any() for v in c.gradients().values())


def test_input_gradient_by_differences():
    m = baseline(precision="float64", seed=5)
    settle(m, np.random.default_rng(1))
    state, rng = m.state_dict(), np.random.default_rng(2)
    x = rng.standard_normal((4, 3, 64, 32))
    weights = rng.standard_normal((4, m.dimension))
    out = m.forward(x, training=True)
    assert out["feat"].dtype == np.float64
    gradient = m.backward({"feat": weights}, input_gradient=True)
    assert gradient.shape == x.shape and gradient.dtype == np.float64
    direction = rng.standard_normal(x.shape)
    sides = []
    for sign in (1, -1):
        m.load_state_dict(state)
        moved = m.forward(x + sign * 1e-6 * direction, training=True)["feat"]
        sides.append((moved * weights).sum())
    slope = (sides[0] - sides[1]) / 2e-6
    assert abs(slope - (gradient * direction).sum()) < 1e-4 * abs(slope)


@pytest.mark.parametrize("make, height", [(baseline, 64), (mbgn, 96)])
def test_float64_agrees_with_float32(make, height):
    m = make(**({"dropout": 0.0} if make is mbgn else {}))
    settle(m, np.random.default_rng(7))
    d = make(precision="float64", **({"dropout": 0.0} if make is mbgn else {}))
    assert d.load_state_dict(m.state_dict()) == ([], [])
    assert (m.precision, d.precision) == ("float32", "float64")
    x = floats(4, height)
    e, f = m.embed(x, normalize=False), d.embed(x, normalize=False)
    assert f.dtype == np.float64 and relative(e, f) < 1e-3
    planes = np.tile([1, 2, 3, 4], (4, 1)) if make is mbgn else None
    a, b = (n.loss(x, LABELS[:4], planes=planes) for n in (m, d))
    assert list(a) == list(b)
    for part in a:
        assert abs(a[part] - b[part]) < 1e-3 * abs(b[part]) + 1e-6
    head = [k for k in m.gradients() if "classifier" in k][0]
    assert relative(m.gradients()[head], d.gradients()[head]) < 1e-3


def test_train_step_is_loss_and_step(m):
    a, b = m.copy(), m.copy()
    first, second = reidc.Adam(a, 1e-3, weight_decay=1e-3), reidc.Adam(b, 1e-3, weight_decay=1e-3)
    for seed in range(3):
        parts = a.train_step(batch(seed=seed), LABELS, first)
        assert a.gradients() == {}
        b.zero_grad()
        assert b.loss(batch(seed=seed), LABELS) == parts
        second.step()
        assert list(parts) == ["id", "triplet", "total"]
        assert parts["total"] == pytest.approx(parts["id"] + parts["triplet"], rel=1e-6)
        assert same(a.state_dict(), b.state_dict())
        assert a.step == b.step
    before = m.state_dict()
    a.embed(batch())
    assert same(before, m.state_dict())  # copies are independent


@pytest.mark.parametrize("make, height", [(baseline, 64), (mbgn, 96)])
def test_same_bits_for_any_number_of_threads(make, height):
    results = []
    for threads in (1, 2, 3):
        m = make(threads=threads)
        o = reidc.SGD(m, 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
        parts = [m.train_step(batch(8, height, seed=s), LABELS, o) for s in range(2)]
        results.append((parts, m.state_dict(), m.embed(batch(8, height), flip=True)))
        assert m.threads == threads
    for parts, state, e in results[1:]:
        assert parts == results[0][0] and same(state, results[0][1])
        assert np.array_equal(e, results[0][2], equal_nan=True)


def test_packed_weights_are_made_anew(m):
    """After every way of changing weights, evaluation gives what a fresh copy gives."""
    c, x = m.copy(), batch(3)
    o = reidc.SGD(c, 0.05)

    def load():
        c.load_state_dict({k: v * np.float32(1.1) for k, v in c.state_dict().items()})

    def step():
        c.loss(batch(), LABELS)
        c.embed(x)
        o.step()

    def write():
        c.parameters()["backbone.conv1.weight"] *= 0.9

    for change in (load, step, write, lambda: c.train_step(batch(), LABELS, o),
                   lambda: c.forward(batch(), training=True), write):
        before = c.embed(x)
        change()
        assert np.array_equal(c.embed(x), c.copy().embed(x))
        assert not np.array_equal(c.embed(x), before)


def test_seed_decides_weights_and_dropout():
    assert same(mbgn(seed=4).state_dict(), mbgn(seed=4).state_dict())
    assert not same(mbgn(seed=4).state_dict(), mbgn(seed=5).state_dict())
    m = mbgn(dropout=0.5)
    a, b = (m.copy().forward(batch(8, 96), training=True) for _ in range(2))
    assert same(a, b)
    c = m.copy()
    c.step = 1
    assert not np.array_equal(c.forward(batch(8, 96), training=True)["logits_g"], a["logits_g"])


def test_state_dict_copies_and_loads(m):
    state = m.state_dict()
    assert all(v.dtype == np.float32 and v.flags.owndata and v.flags.c_contiguous
               for v in state.values())
    before = m.embed(batch())
    for value in state.values():
        value += 1
    assert np.array_equal(m.embed(batch()), before)
    c = m.copy()
    assert c.load_state_dict(state) == ([], [])
    assert same(c.state_dict(), state) and not np.array_equal(c.embed(batch()), before)
    part = {"bnneck.weight": np.full(c.dimension, 2, np.float16), "other": np.zeros(3),
            "bnneck.num_batches_tracked": np.array(5)}
    missing, unexpected = c.load_state_dict(part, strict=False)
    assert unexpected == ["other"] and len(missing) == len(state) - 1
    assert (c.state_dict()["bnneck.weight"] == 2).all()

    class Mapping:
        def keys(self):
            return state.keys()

        def __getitem__(self, key):
            return state[key]

    assert c.load_state_dict(Mapping()) == ([], [])


def test_parameters_are_views(m):
    c = m.copy()
    views = c.parameters()
    assert not any("running_" in name for name in views)
    assert sum(v.size for v in views.values()) == c.num_parameters
    assert all(v.flags.writeable and not v.flags.owndata for v in views.values())
    before = c.embed(batch())
    o = reidc.SGD(c, 0.1)
    views["backbone.layer2.0.conv1.weight"] *= 0.5
    after = c.embed(batch())
    assert not np.array_equal(before, after)
    views["backbone.layer2.0.conv1.weight"] *= 2
    assert np.array_equal(c.embed(batch()), before)
    kept = views["backbone.conv1.weight"]
    at_start = kept.copy()
    c.train_step(batch(), LABELS, o)
    assert not np.array_equal(kept, at_start)  # the same memory, after an update too
    del c, views, o
    kept[...] = 1  # still the network's memory, kept alive by the view
    assert kept.sum() == kept.size


def test_planes():
    m = mbgn(dropout=0.0)
    x = batch(4, 96)
    out = m.copy().forward(x, training=True)
    planes = out["planes"]
    assert planes.shape == (4, 4) and planes.dtype == np.int64
    given = np.array([[1, 2, 3, 5], [1, 2, 4, 5], [1, 3, 4, 5], [2, 3, 4, 5]], np.int32)
    again = m.copy().forward(x, training=True, planes=given)
    assert np.array_equal(again["planes"], given)
    assert np.array_equal(again["z_g"], out["z_g"])
    assert not np.array_equal(again["f_p2"], out["f_p2"])
    assert relative(m.forward(x, planes=planes)["embedding"], m.embed(x, normalize=False)) < 1e-5
    assert m.loss(x, LABELS[:4], planes=given.tolist())["total"] > 0


def test_plans_and_memory(m):
    plan = m.memory_plan(8)
    assert set(plan) == {"weights", "gradients", "activations", "workspace", "packed",
                         "optimizer", "total"}
    assert plan["total"] == sum(v for k, v in plan.items() if k != "total")
    assert plan["weights"] >= 4 * m.num_parameters
    small = m.memory_plan(2, training=False)
    assert small["gradients"] == small["optimizer"] == 0
    assert small["activations"] < m.memory_plan(16, training=False)["activations"]
    assert m.memory_plan(8, optimizer="sgd")["optimizer"] * 2 == plan["optimizer"]
    assert reidc.HAMR(4, 96, 32, backbone="resnet18", width_multiplier=0.25).memory_plan(2) == (
        reidc.HAMR(4, 96, 32, backbone="resnet18", width_multiplier=0.25).memory_plan(
            2, optimizer="sgd"))
    with pytest.raises(ValueError, match="'adam', 'adamw' or 'sgd'"):
        m.memory_plan(8, optimizer="lamb")
    text = m.plan(8, training=True)
    assert "most is alive in step" in text
    assert "backbone.conv1" in text and "MMAC" in text and text != m.plan(8)


def test_graph_and_summary(m):
    nodes = m.graph()
    first = nodes[0]
    assert first["name"] == "backbone.conv1" and first["op"] == "conv2d"
    assert first["inputs"][:2] == ["images", "backbone.conv1.weight"]
    assert first["attributes"]["stride"] == 2 and first["shape"] == (1, 8, 32, 16)
    assert sum(n["parameters"] for n in nodes) == m.num_parameters
    assert sum(n["macs"] for n in nodes if n["evaluation"]) == m.macs
    names = {n["name"] for n in nodes} | set(m.state_dict()) | {"images", "labels", None}
    assert all(i in names for n in nodes for i in n["inputs"])
    text = m.summary()
    assert "backbone.layer4.1.conv2" in text and f"{m.num_parameters:,}" in text


def test_contract_and_facts(m):
    assert m.contract["size"] == [64, 32] and m.contract["dimension"] == m.dimension
    assert m.contract["mean"] == [0.485, 0.456, 0.406] and m.contract["metric"] == "euclidean"
    assert m.config["system"] == "baseline" and m.config["settings"]["num_classes"] == 5
    m.config["settings"]["num_classes"] = 6
    assert m.num_classes == 5 and m.config["settings"]["num_classes"] == 5
    assert m.to("cpu") is m and m.device == "cpu"
    assert (m.test_flip, mbgn().test_flip) == (False, True)
    assert m.takes_planes is False and m.has_loss is True


def test_registry():
    assert {"baseline", "mbgn", "hamr", "mgaf", "fsac", "mfa"} <= set(reidc.list_models())
    assert reidc.list_models() == list(reidc.networks.SYSTEMS)
    m = reidc.build_model("MBGN", 5, height=96, width=32, backbone="resnet18",
                          width_multiplier=0.25)
    assert type(m) is reidc.MBGN
    assert isinstance(m, reidc.Network)


def test_copies_keep_their_class(m):
    import copy
    import pickle

    for other in (m.copy(), copy.copy(m), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert type(other) is reidc.Baseline and other.step == m.step
        assert same(other.state_dict(), m.state_dict())
        assert np.array_equal(other.embed(batch()), m.embed(batch()))
