"""The systems through the public interface, without torch: the pages' counts for every ablation
row, outputs and their order, initial values, wrong switches, training that goes on."""
import numpy as np
import pages
import pytest
import reidc

SMALL = dict(backbone="resnet18", width_multiplier=0.5)
FULL_SIZE_IN_DEFAULT_RUN = {"HAMR": 2}  # rows; the others are `slow`


def full_size():
    seen = {}
    for page in pages.ROWS:
        seen[page.system] = seen.get(page.system, 0) + 1
        late = seen[page.system] > FULL_SIZE_IN_DEFAULT_RUN[page.system]
        yield pytest.param(page, id=str(page), marks=[pytest.mark.slow] * late)


@pytest.mark.parametrize("page", list(full_size()))
def test_counts(page):
    m = getattr(reidc, page.system)(751, **page.switches)
    assert m.num_parameters == page.parameters
    assert len(m.state_dict()) == page.entries
    assert m.dimension == page.dimension
    assert pages.macs_agree(m.macs, page.macs), m.macs


def small(system, **switches):
    return getattr(reidc, system)(5, 96, 32, **SMALL | switches)


def batch(n=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3, 96, 32)).astype(np.float32), np.arange(n) // 2


def test_hamr_outputs_and_names():
    m = small("HAMR", order="CSF")
    x, y = batch()
    out = m.forward(x, training=True)
    parts = [(level, i) for level in range(1, 7) for i in range(1, level + 1)]
    assert list(out) == [f"logits{a}_{b}" for a, b in parts] + [f"triplet{a}" for a in range(1, 7)]
    assert out["logits6_6"].shape == (4, 5) and out["triplet3"].shape == (4, 3 * 512)
    assert m.forward(x)["embedding"].shape == (4, 10752)
    assert m.test_flip and not m.normalized and m.contract["flip"]
    own = [k.split(".")[0] for k in m.state_dict()]
    assert list(dict.fromkeys(own)) == ["backbone", "sam1", "sam2", "sam3", "sam4", "cam1", "cam2",
                                        "cam3", "cam4"] + [f"head{a}_{b}" for a, b in parts]
    assert set(m.loss(x, y)) == {"total", "id", "triplet"}
    plain = small("HAMR", triplet=False, local="pcb", mpfe=False)
    assert set(plain.loss(x, y)) == {"total", "id"}
    assert list(plain.forward(x, training=True))[-2:] == ["logits6_6", "triplet6"]


def test_hamr_initial_values():
    s = reidc.HAMR(751, 96, 32, backbone="resnet18", local="none").state_dict()
    c = 960

    def spread(name, deviation):
        assert s[name].std() == pytest.approx(deviation, rel=0.05), name
        assert abs(s[name].mean()) < 0.1 * deviation

    for name, fan_in in (("cam.fc1.weight", c), ("cam.fc2.weight", c // 16),
                         ("head1_1.reduce.weight", 2 * c)):
        spread(name, 1 / np.sqrt(3 * fan_in))
        assert np.abs(s[name]).max() <= 1 / np.sqrt(fan_in)
    assert 0.8 / np.sqrt(98) < np.abs(s["sam2.conv.weight"]).max() <= 1 / np.sqrt(98)
    spread("head1_1.fc.weight", np.sqrt(2 / 512))
    spread("head1_1.classifier.weight", 0.001)
    for norm in ("bn1", "bn2"):
        weight = s[f"head1_1.{norm}.weight"]
        assert weight.mean() == pytest.approx(1, abs=0.005)
        assert weight.std() == pytest.approx(0.02, rel=0.15)
        assert not s[f"head1_1.{norm}.bias"].any()


@pytest.mark.parametrize("switches,error,words", [
    (dict(height=100), ValueError, ["16", "100"]),
    (dict(last_stride=2, height=112), ValueError, ["32", "112"]),
    (dict(parts=4), ValueError, ["parts", "6 rows", "4"]),
    (dict(parts=0), ValueError, ["parts", "1"]),
    (dict(sam_kernel=6), ValueError, ["sam_kernel", "odd", "6"]),
    (dict(reduction=7), ValueError, ["reduction", "480", "7"]),
    (dict(order="CSF", reduction=64), ValueError, ["reduction", "32", "64"]),
    (dict(order="SC"), ValueError, ["order", "'F'", "'SC'"]),
    (dict(order=""), ValueError, ["order", "'F'"]),
    (dict(order="FF"), ValueError, ["order", "'FF'"]),
    (dict(order="SFX"), ValueError, ["order", "'SFX'"]),
    (dict(order="SFCSFCSFC"), ValueError, ["order"]),
    (dict(order=3), TypeError, ["order", "3"]),
    (dict(stages=()), ValueError, ["stages", "1 to 4"]),
    (dict(stages=(1, 1)), ValueError, ["stages", "1 twice"]),
    (dict(stages=(0, 4)), ValueError, ["stages", "1 to 4", "0"]),
    (dict(stages=(2.5,)), ValueError, ["stages", "2.5"]),
    (dict(stages=4), TypeError, ["stages", "4"]),
    (dict(local="pbc"), ValueError, ["local", "mgo|pcb|none"]),
    (dict(cam_mlp="both"), ValueError, ["cam_mlp", "sum|each"]),
    (dict(act="gelu"), ValueError, ["act", "leaky_relu"]),
    (dict(triplet_on="neck"), ValueError, ["triplet_on", "fc|bn"]),
    (dict(dropblock=(0.3,)), ValueError, ["dropblock", "two"]),
    (dict(dropblock=(0.3, 1.5)), ValueError, ["dropblock", "1.5"]),
    (dict(dropblock=0.3), TypeError, ["dropblock", "two numbers"]),
    (dict(part=6), TypeError, ["part"]),
])
def test_hamr_wrong_switches(switches, error, words):
    with pytest.raises(error) as caught:
        small("HAMR", **{k: v for k, v in switches.items() if k != "height"}) \
            if "height" not in switches else reidc.HAMR(5, switches["height"], 32, **SMALL | {
                k: v for k, v in switches.items() if k != "height"})
    assert all(w in str(caught.value) for w in words), caught.value


def test_hamr_sizes_that_fit():
    """parts need not divide where there are none; stage 4 alone asks for 32; many parts."""
    assert small("HAMR", local="none", parts=4).dimension == 512
    assert reidc.HAMR(5, 48, 16, stages=(1, 2, 3), last_stride=2, parts=3, **SMALL).dimension == \
        6 * 512
    many = reidc.HAMR(3, 192, 16, parts=12, feat_dim=4, reduce_dim=4, backbone="resnet18",
                      width_multiplier=0.25)
    assert many.dimension == 78 * 4
    x = np.random.default_rng(0).standard_normal((4, 3, 192, 16)).astype(np.float32)
    losses = many.loss(x, [0, 0, 1, 1])  # 78 heads: more than one node takes
    out = many.copy().forward(x, training=True)
    each = [reidc.losses.cross_entropy(v, [0, 0, 1, 1], smoothing=0.1)[0]
            for k, v in out.items() if k.startswith("logits")]
    assert len(each) == 78 and losses["id"] == pytest.approx(np.mean(each), rel=1e-5)


def test_hamr_named_maps():
    m = small("HAMR", precision="float64")
    x = batch(2)[0].astype(np.float64)
    g = np.ones((2, 5))
    shapes = {"aligned1": 32, "aligned4": 256, "fused": 480, "backbone.layer4": 256}
    maps = {k: m.explain(x, k, "logits1_1", g) for k in shapes}
    assert {k: v[0].shape for k, v in maps.items()} == {k: (2, c, 6, 2) for k, c in shapes.items()}
    assert all(np.abs(v[1]).max() > 0 for v in maps.values())
    assert np.array_equal(maps["aligned4"][0], maps["backbone.layer4"][0])
    np.testing.assert_allclose(maps["aligned4"][1], maps["backbone.layer4"][1], rtol=1e-10)
    assert np.array_equal(m.explain(x, "backbone.layer3", "logits1_1", g)[0],
                          m.explain(x, "aligned3", "logits1_1", g)[0])
    alone = small("HAMR", stages=(4,), order="F", precision="float64")
    assert alone.explain(x, "fused", "logits1_1", g)[0].shape == (2, 256, 6, 2)


@pytest.mark.parametrize("system,switches", [
    ("HAMR", dict(stages=(1, 3), order="CFS", dropblock=(0.33, 1.0), margin=None)),
])
def test_saved_networks_keep_their_switches(system, switches, tmp_path):
    m = small(system, **switches)
    x, y = batch()
    m.loss(x, y)
    m.save(tmp_path / "net.safetensors")
    other = reidc.load(tmp_path / "net.safetensors")
    assert type(other) is getattr(reidc, system) and other.config == m.config
    assert np.array_equal(other.embed(x), m.embed(x))
