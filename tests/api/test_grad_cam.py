"""grad_cam, attention and energy_inside without torch: networks whose map is known by hand, the
page's rules, and what does not fit. tests/nets/test_explain.py compares with PyTorch."""
import numpy as np
import pytest

import reidc

from .tools import baseline, batch, floats, mbgn, same, snapshot


def by_hand(w, a):
    """w (n,c), a (n,c,h,w) -> the page's map before it is enlarged."""
    m = np.maximum(np.einsum("nk,nkhw->nhw", w, a), 0)
    low, high = m.min((1, 2), keepdims=True), m.max((1, 2), keepdims=True)
    return (m - low) / np.maximum(high - low, 1e-8)


def enlarged(maps, height, width):
    """Bilinear, half-pixel centres, from the definition."""
    def axis(x, to):
        at = np.clip((np.arange(to) + 0.5) * x.shape[1] / to - 0.5, 0, x.shape[1] - 1)
        low = np.floor(at).astype(int)
        high, t = np.minimum(low + 1, x.shape[1] - 1), (at - low)[None, :, None]
        return x[:, low] * (1 - t) + x[:, high] * t
    rows = axis(np.asarray(maps, np.float64), height)
    return axis(rows.transpose(0, 2, 1), width).transpose(0, 2, 1)


def linear(precision="float64", losses=(("id", "logits"),), heads=2):
    """conv -> map; two heads on its mean: everything is linear, so the gradient is known."""
    g = reidc.Graph()
    x = g.name(g.conv2d(g.input(3, 16, 8), 6, 3, stride=2, padding=1, name="conv"), "map")
    f = g.mean(x)
    outputs = {"embedding": f, "logits": g.linear(f, 4, name="one")}
    if heads == 2:
        outputs["more"] = g.linear(f, 4, name="two")
        losses = [*losses, ("id", "more")]
    net = g.build(outputs, losses, precision=precision, seed=3)
    x = np.random.default_rng(0).standard_normal((3, 3, 16, 8)).astype(np.float32)
    return net, x, net.explain(x, "map", "embedding", np.zeros((3, 6), np.float32))[0]


@pytest.mark.parametrize("precision,tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_class_scores_by_hand(precision, tolerance):
    net, x, a = linear(precision)
    one, two = (net.state_dict()[f"{k}.weight"].astype(np.float64) for k in ("one", "two"))
    mean = (one + two) / 2

    def check(maps, w):
        assert maps.shape == (3, 16, 8) and maps.dtype == a.dtype
        expected = enlarged(by_hand(np.broadcast_to(w, (3, 6)), a), 16, 8)
        assert np.abs(maps - expected).max() < tolerance

    assert net.heads() == ["logits", "more"]
    check(net.grad_cam(x, 2), mean[2])
    check(net.grad_cam(x, np.int64(2), "map"), mean[2])
    check(net.grad_cam(x, [3, 0, 1]), mean[[3, 0, 1]])
    check(net.grad_cam(x, np.array([3, 0, 1], np.uint8), "conv"), mean[[3, 0, 1]])
    check(net.grad_cam(x, 1, head="more"), two[1])
    logits = net.embed(x, normalize=False) @ mean.T
    best = logits.argmax(1)
    check(net.grad_cam(x), mean[best])
    check(net.grad_cam(x, head="logits"), one[best])  # the best of the mean, seen by one head


@pytest.mark.parametrize("precision,tolerance", [("float64", 1e-10), ("float32", 2e-4)])
def test_embedding_scores_by_hand(precision, tolerance):
    net, x, a = linear(precision)
    f = a.mean((2, 3)).astype(np.float64)
    r = np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32).astype(float)

    def cosine(r):
        unit, length = f / np.linalg.norm(f, axis=1, keepdims=True), np.linalg.norm(f, axis=1)
        r = np.broadcast_to(r / np.linalg.norm(r, axis=-1, keepdims=True), f.shape)
        return (r - (unit * r).sum(1, keepdims=True) * unit) / length[:, None]

    for target, w in ((r, cosine(r)), (r[0], cosine(r[0])), (r.astype(np.float32), cosine(r)),
                      (list(r[1]), cosine(r[1])), ("norm", f)):
        expected = enlarged(by_hand(w, a), 16, 8)
        assert np.abs(net.grad_cam(x, target) - expected).max() < tolerance
    # the same by differences of the score in each channel's mean: for this network dy/df
    step = 1e-5
    for k in range(6):
        e = step * np.eye(6)[k]
        rise = [(v @ r[0]) / np.linalg.norm(v) / np.linalg.norm(r[0]) for v in (f[0] + e, f[0] - e)]
        assert (rise[0] - rise[1]) / (2 * step) == pytest.approx(cosine(r[0])[0, k], abs=1e-6)


def test_activation_method():
    net, x, a = linear()
    m = (a ** 2).sum(1)
    m = m / np.linalg.norm(m.reshape(3, -1), axis=1)[:, None, None]
    low, high = m.min((1, 2), keepdims=True), m.max((1, 2), keepdims=True)
    maps = net.grad_cam(x, method="activation")
    assert np.abs(maps - enlarged((m - low) / (high - low), 16, 8)).max() < 1e-12
    assert np.array_equal(maps, net.grad_cam(x, 2, head="more", method="activation"))


def test_flat_maps_are_zero():
    net, x, _ = linear("float32")
    blank = np.zeros((2, 3, 16, 8), np.float32)  # conv without bias: a map of zeros
    for target in (0, "norm", np.ones(6, np.float32)):
        assert not net.grad_cam(blank, target).any()
    assert not net.grad_cam(blank, method="activation").any()
    m = reidc.MGAF(5, 96, 32, backbone="resnet18", width_multiplier=0.125)
    assert not m.grad_cam(floats(1, 96, 32), 0, "small", head="y_large_0").any()


def test_unit_embedding_and_norm():
    m = reidc.MFA(5, 64, 32, backbone="resnet18", width_multiplier=0.125, cpaa=(4,))
    with pytest.warns(UserWarning, match="length 1"):
        assert not m.grad_cam(floats(2, 64, 32), "norm").any()


def test_mfa_fused_map_is_the_sum_of_its_branches():
    m = reidc.MFA(5, 64, 32, backbone="resnet18", width_multiplier=0.125, cpaa=(4,), regions=3,
                  precision="float64")
    x = floats(2, 64, 32)
    total = 0
    for i in range(3):
        a, g = m.explain(x, f"branch.{i}", f"logit_{i}", np.eye(5)[[1, 1]])
        total = total + np.maximum((g.mean((2, 3), keepdims=True) * a).sum(1), 0)
    low, high = total.min((1, 2), keepdims=True), total.max((1, 2), keepdims=True)
    fused = enlarged((total - low) / np.maximum(high - low, 1e-8), 64, 32)
    assert np.abs(m.grad_cam(x, 1) - fused).max() < 1e-10
    alone = m.grad_cam(x, 1, head="logit_2")
    assert np.abs(alone - m.grad_cam(x, 1, "branch.2")).max() < 1e-10


def test_many_images_pictures_threads_and_empty_batches():
    m = mbgn(threads=1)
    pictures = batch(37, 50, 20)
    whole = m.grad_cam(pictures, 1)
    assert whole.shape == (37, 96, 32) and whole.min() >= 0 and whole.max() <= 1
    assert whole.flags.c_contiguous and whole.dtype == np.float32
    for threads in (2, 3):
        assert np.array_equal(whole, mbgn(threads=threads).grad_cam(pictures, 1))
    few = m.grad_cam(pictures[:5], 1)
    assert np.abs(few - whole[:5]).max() < 1e-4  # other kernels may serve another batch size
    assert m.grad_cam(pictures[:0]).shape == (0, 96, 32)
    masks = m.attention(pictures)
    assert {k: v.shape for k, v in masks.items()} == {
        "att1": (37, 24, 8), "att2": (37, 12, 4), "att3": (37, 6, 2), "att4": (37, 6, 2),
        "planes": (37, 4)}
    assert same(masks, mbgn(threads=2).attention(pictures))
    assert {k: v.shape for k, v in m.attention(pictures[:0]).items()}["att2"] == (0, 12, 4)
    assert baseline().attention(batch(2)) == {}


def test_network_stays_as_it_is():
    m = mbgn()
    x, labels = batch(8, 96, 32), np.repeat(np.arange(4), 2)
    m.loss(x, labels)
    before = snapshot(m)
    for target in (None, 1, "norm", m.embed(x)[0]):
        m.grad_cam(x, target, "backbone.layer2")
    m.attention(x)
    assert same(before, snapshot(m))
    m.forward(x, training=True)
    m.grad_cam(x)
    with pytest.raises(ValueError, match="forward"):
        m.backward({})


def test_attention_gives_the_masks_that_are_used():
    """att4's output is its mask times the stage's output; the planes are AABS's of F."""
    m = mbgn(precision="float64")
    x = floats(3, 96, 32)
    zero = np.zeros((3, 5))
    f, stage = (m.explain(x, name, "logits_g", zero)[0] for name in ("att4", "backbone.layer4"))
    maps = m.attention(x)
    assert np.abs(maps["att4"][:, None] * stage - f).max() < 1e-12
    assert np.array_equal(maps["planes"], reidc.aabs(f.astype(np.float32)))
    assert maps["planes"].dtype == np.int64


def test_layers_and_heads():
    m = baseline()
    layers = m.layers()
    assert layers["backbone.layer4"] == (64, 4, 2)
    assert layers["backbone.layer4.1.bn2"] == (64, 4, 2) and "backbone.conv1" in layers
    assert m.heads() == ["logit"]
    x = floats(2)
    assert np.array_equal(m.grad_cam(x, 1), m.grad_cam(x, 1, "backbone.layer4"))
    for name in layers:
        maps = m.grad_cam(x, 1, name)
        assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1


def test_the_circle_head_scores_by_its_scaled_cosine():
    """64 cos of the neck and the class weight, without margins, through GeM with p = 1."""
    m = reidc.Baseline(5, 64, 32, backbone="resnet18", width_multiplier=0.125, head="circle",
                       pool="gem", precision="float64")
    s = {**m.state_dict(), "gem.p": np.ones(1)}
    m.load_state_dict(s)
    x = floats(3, 64, 32)
    assert m.heads() == ["logit"]
    a = m.explain(x, "backbone.layer4", "logit", np.eye(5)[[4] * 3])[0]
    slope = s["bnneck.weight"] / np.sqrt(s["bnneck.running_var"] + 1e-5)
    neck = (np.maximum(a, 1e-6).mean((2, 3)) - s["bnneck.running_mean"]) * slope
    unit = neck / np.linalg.norm(neck, axis=1, keepdims=True)
    w = s["classifier.weight"][4] / np.linalg.norm(s["classifier.weight"][4])
    g = 64 * (w - unit * (unit @ w)[:, None]) / np.linalg.norm(neck, axis=1, keepdims=True) * slope
    expected = enlarged(by_hand(g * (a >= 1e-6).mean((2, 3)), a), 64, 32)
    assert np.abs(m.grad_cam(x, 4) - expected).max() < 1e-9
    cosines = unit @ (s["classifier.weight"].T / np.linalg.norm(s["classifier.weight"], axis=1))
    best = m.grad_cam(x)
    for i, label in enumerate(cosines.argmax(1)):
        assert np.array_equal(best[i], m.grad_cam(x[i:i + 1], label)[0])


def test_network_without_a_classifier():
    net, x, a = linear("float32", losses=(), heads=1)
    assert net.heads() == []
    for target in (None, 1):
        with pytest.raises(ValueError, match="target: .*classifier.*head="):
            net.grad_cam(x, target)
    w = net.state_dict()["one.weight"][1]
    expected = enlarged(by_hand(np.broadcast_to(w, (3, 6)), a), 16, 8)
    assert np.abs(net.grad_cam(x, 1, head="logits") - expected).max() < 1e-5
    assert net.grad_cam(x, "norm").max() > 0


@pytest.mark.parametrize("arguments,error,words", [
    (dict(layer="backbone.layer5"), ValueError, ["layer", "'backbone.layer4'", "layers()"]),
    (dict(layer="classifier"), ValueError, ["layer"]),
    (dict(layer=3), TypeError, []),
    (dict(target=5), ValueError, ["target", "0 to 4", "5"]),
    (dict(target=-1), ValueError, ["target", "-1"]),
    (dict(target=2 ** 80), ValueError, ["target"]),
    (dict(target=[0, 9]), ValueError, ["target", "9"]),
    (dict(target=[0, 1, 2]), ValueError, ["target", "2 classes", "3"]),
    (dict(target=np.zeros((2, 2), int)), ValueError, ["target"]),
    (dict(target=True), TypeError, ["target", "bool"]),
    (dict(target=np.array([True, False])), TypeError, ["target", "bool"]),
    (dict(target="best"), ValueError, ["target", "'norm'", "'best'"]),
    (dict(target={}), TypeError, ["target", "dict"]),
    (dict(target=1.5), TypeError, ["target", "float"]),
    (dict(target=np.float32(1)), ValueError, ["target", "one number"]),
    (dict(target=np.ones(63, np.float32)), ValueError, ["target", "64", "63"]),
    (dict(target=np.ones((3, 64), np.float32)), ValueError, ["target", "2×64", "3×64"]),
    (dict(target=np.full(64, np.nan, np.float32)), ValueError, ["target", "NaN"]),
    (dict(target=np.zeros((2, 64), np.float32)), ValueError, ["target", "row 0", "zero"]),
    (dict(target=np.ones(64, np.float16)), TypeError, ["target", "float16"]),
    (dict(target=np.ones(64, complex)), TypeError, ["target", "complex"]),
    (dict(head="logits"), ValueError, ["head", "'logits'", "'logit'"]),
    (dict(head="feat"), ValueError, ["head", "'feat'", "'logit'"]),
    (dict(head="logit", target="norm"), ValueError, ["head", "embedding"]),
    (dict(method="gradcam++"), ValueError, ["method", "'activation'", "gradcam++"]),
    (dict(images=np.zeros((2, 64, 32, 3))), TypeError, ["images", "float64"]),
    (dict(images=np.full((2, 3, 64, 32), np.nan, np.float32)), ValueError, ["images", "NaN"]),
    (dict(nothing=1), TypeError, []),
])
def test_what_does_not_fit(arguments, error, words):
    m = baseline()
    before = snapshot(m)
    with pytest.raises(error) as caught:
        m.grad_cam(**{"images": batch(2), **arguments})
    assert all(w in str(caught.value) for w in words), caught.value
    assert same(before, snapshot(m))


def test_energy_inside():
    maps = np.zeros((4, 4, 2), np.float32)
    maps[0, :2] = 1                # the upper half
    maps[1] = 0.5                  # everywhere alike
    maps[2, 3, 1] = 2
    masks = np.zeros((4, 4, 2), np.float32)
    masks[:, :3] = 1
    share = reidc.energy_inside(maps, masks)
    assert share.dtype == np.float64
    assert np.allclose(share[:3], [1, 0.75, 0]) and np.isnan(share[3])
    rng = np.random.default_rng(0)
    maps, masks = (rng.random((5, *s)).astype(np.float32) for s in ((6, 3), (12, 5)))
    large = enlarged(maps, 12, 5)
    expected = (large * masks).sum((1, 2)) / large.sum((1, 2))
    assert np.allclose(reidc.energy_inside(maps, masks), expected, rtol=1e-6)
    assert reidc.energy_inside(maps[:0], masks[:0]).shape == (0,)
    with pytest.raises(ValueError, match="masks"):
        reidc.energy_inside(maps, masks[:4])
    with pytest.raises(TypeError, match="maps"):
        reidc.energy_inside(maps.astype(float), masks)
    with pytest.raises(ValueError, match="masks"):
        reidc.energy_inside(maps, masks[0])
