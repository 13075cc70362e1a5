"""The systems through the public interface, without torch: outputs and their order, initial values,
wrong switches, training that goes on."""
import numpy as np
import pytest
import reidc

SMALL = dict(backbone="resnet18", width_multiplier=0.5)


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


def test_mgaf_outputs_and_names():
    m = small("MGAF")
    x, y = batch()
    out = m.forward(x, training=True)
    heads = [("small", 0)] + [("medium", i) for i in range(3)] + [("large", i) for i in range(4)]
    assert list(out) == ["f_small", "f_medium", "f_large"] + [f"y_{b}_{i}" for b, i in heads]
    assert out["f_large"].shape == (4, 256) and out["y_large_3"].shape == (4, 5)
    assert m.test_flip and not m.normalized and set(m.loss(x, y)) == {"total", "id", "triplet"}
    tops = list(dict.fromkeys(".".join(k.split(".")[:2]) for k in m.state_dict()))
    assert tops == ["backbone." + k for k in ("conv1", "bn1", "layer1", "layer2")] + [
        f"{b}.{k}" for b in ("small", "medium", "large")
        for k in ("layer3", "layer4", "attention", "reduce", "classifier")]
    two = small("MGAF", small=False, attention=False)
    assert list(two.forward(x, training=True))[:3] == ["f_medium", "f_large", "y_medium_0"]
    assert two.dimension == 7 * 256


def test_mgaf_embedding_has_whole_maps_first():
    """A reduction whose norm gives 1 + its number everywhere shows where its vector went."""
    m = small("MGAF")
    state = m.state_dict()
    order = [("small", 0), ("medium", 0), ("large", 0), ("medium", 1), ("medium", 2),
             ("large", 1), ("large", 2), ("large", 3)]
    for k, (b, i) in enumerate(order):
        state[f"{b}.reduce.{i}.bn.weight"][...] = 0
        state[f"{b}.reduce.{i}.bn.bias"][...] = 1 + k
    m.load_state_dict(state)
    assert np.array_equal(m.forward(batch(2)[0])["embedding"],
                          np.repeat(np.arange(1.0, 9), 256)[None].repeat(2, 0))


def test_mgaf_starts_as_the_identity_and_as_the_page_says():
    with_block, without = small("MGAF", seed=3), small("MGAF", seed=4, attention=False)
    s = with_block.state_dict()
    without.load_state_dict({k: v for k, v in s.items() if ".attention." not in k})
    x, y = batch()
    assert np.array_equal(with_block.forward(x)["embedding"], without.forward(x)["embedding"])
    with_block.loss(x, y)
    gradients = with_block.gradients()
    for b in ("small", "medium", "large"):
        assert not any(gradients[f"{b}.attention.{k}.weight"].any()
                       for k in ("theta", "phi", "g", "w"))
        assert gradients[f"{b}.attention.bn.weight"].any()
    c = 256

    def spread(name, deviation):
        assert s[name].std() == pytest.approx(deviation, rel=0.05), name

    for k, fan_out in (("theta", c // 2), ("phi", c // 2), ("g", c // 2), ("w", c)):
        spread(f"large.attention.{k}.weight", np.sqrt(2 / fan_out))
    spread("medium.reduce.1.conv.weight", np.sqrt(2 / c))
    spread("small.classifier.0.weight", np.sqrt(2 / 5))
    assert not s["small.classifier.0.bias"].any() and not s["small.attention.bn.bias"].any()
    norm = s["large.reduce.3.bn.weight"]
    assert norm.mean() == pytest.approx(1, abs=0.01) and norm.std() == pytest.approx(0.02, rel=0.2)
    assert not s["large.reduce.3.bn.bias"].any()


def test_mgaf_pretrained_goes_to_every_branch(tmp_path):
    """A plain ResNet's weights: layer3 and layer4 to all branches, the rest to the backbone."""
    from reidc.weights import write_weights

    rng = np.random.default_rng(1)
    plain = {k[len("backbone."):]: rng.standard_normal(v.shape).astype(np.float32)
             for k, v in small("Baseline").state_dict().items() if k.startswith("backbone.")}
    write_weights(tmp_path / "resnet.npz", plain | {"fc.weight": np.ones((3, 4), np.float32)})
    m = small("MGAF", pretrained=tmp_path / "resnet.npz", small=False)
    state = m.state_dict()
    loaded = 0
    for name, value in plain.items():
        deep = name.startswith(("layer3", "layer4"))
        for place in ("medium", "large") if deep else ("backbone",):
            assert np.array_equal(state[f"{place}.{name}"], value), name
            loaded += 1
    fresh = small("MGAF", small=False).state_dict()
    assert loaded == sum(not np.array_equal(fresh[k], v) for k, v in state.items())


@pytest.mark.parametrize("height,width,switches,error,words", [
    (80, 32, {}, ValueError, ["96", "80"]),
    (96, 48, {}, ValueError, ["32", "48"]),
    (96, 32, dict(small=False, medium=False, large=False), ValueError, ["at least one"]),
    (96, 32, dict(attention="yes"), ValueError, ["attention", "True or False"]),
    (96, 32, dict(margin=0.3), TypeError, ["margin"]),
])
def test_mgaf_wrong_switches(height, width, switches, error, words):
    with pytest.raises(error) as caught:
        reidc.MGAF(5, height, width, **SMALL | switches)
    assert all(w in str(caught.value) for w in words), caught.value


def test_mgaf_named_maps():
    for attention in (True, False):
        m = small("MGAF", precision="float64", attention=attention)
        x = batch(2)[0].astype(np.float64)
        maps = {b: m.explain(x, b, f"y_{b}_0", np.ones((2, 5))) for b in ("small", "medium",
                                                                         "large")}
        assert {k: v[0].shape for k, v in maps.items()} == {
            "small": (2, 256, 3, 1), "medium": (2, 256, 6, 2), "large": (2, 256, 12, 4)}
        for _, gradient in maps.values():  # a maximum: one position of a channel
            assert np.abs(gradient).max() > 0
            assert ((gradient != 0).sum((2, 3)) <= 1).all()


NARROW = dict(backbone="resnet50_ibn_a", width_multiplier=0.125)


def test_fsac_outputs_and_names():
    m = small("FSAC", **NARROW)
    x, y = batch()
    out = m.forward(x, training=True)
    assert [(k, v.shape) for k, v in out.items()] == [("f", (4, 448)), ("y", (4, 5))]
    assert not m.test_flip and not m.normalized and set(m.loss(x, y)) == {"total", "id", "triplet"}
    names = list(m.state_dict())
    assert names[-7:] == [f"eca{i}.conv.weight" for i in range(1, 6)] + ["classifier.weight",
                                                                         "classifier.bias"]
    assert small("FSAC", **NARROW, fusion=False).dimension == 256
    bare = small("FSAC", mhsa=False, eca=False)  # basic blocks are fine without attention
    assert not [k for k in bare.state_dict() if k.startswith("eca") or ".rel_" in k]
    with pytest.raises(ValueError, match="images"):  # the tables' size
        m.forward(np.zeros((2, 3, 64, 32), np.float32))


def test_fsac_initial_values():
    s = reidc.FSAC(751, 96, 64, width_multiplier=0.5).state_dict()

    def spread(name, deviation, rel=0.05):
        assert s[name].std() == pytest.approx(deviation, rel=rel), name

    for layer, w in (("layer3.1", 128), ("layer4.0", 256)):
        for k in "qkv":
            spread(f"backbone.{layer}.conv2.{k}.weight", np.sqrt(2 / w))
        for k in ("rel_h", "rel_w"):
            spread(f"backbone.{layer}.conv2.{k}", np.sqrt(4 / w), rel=0.15)
    eca = np.concatenate([s[f"eca{i}.conv.weight"].ravel() * np.sqrt(
        s[f"eca{i}.conv.weight"].size / 2) for i in range(1, 6)])
    assert 0.6 < eca.std() < 1.5
    spread("classifier.weight", 0.001)
    assert not s["classifier.bias"].any()
    assert (s["backbone.layer2.0.bn1.IN.weight"] == 1).all()
    assert not s["backbone.layer2.0.bn1.IN.bias"].any()


@pytest.mark.parametrize("height,width,switches,error,words", [
    (80, 32, NARROW, ValueError, ["32", "80"]),
    (96, 48, NARROW, ValueError, ["32", "48"]),
    (96, 32, dict(backbone="resnet34"), ValueError, ["mhsa", "resnet34"]),
    (96, 32, NARROW | dict(mhsa=None), ValueError, ["mhsa", "True or False"]),
    (96, 32, NARROW | dict(eca="yes"), ValueError, ["eca", "True or False"]),
    (96, 32, NARROW | dict(fusion=1.0), ValueError, ["fusion", "True or False"]),
    (96, 32, NARROW | dict(label_smooth=0.1), TypeError, ["label_smooth"]),
])
def test_fsac_wrong_switches(height, width, switches, error, words):
    with pytest.raises(error) as caught:
        reidc.FSAC(5, height, width, **switches)
    assert all(w in str(caught.value) for w in words), caught.value


@pytest.mark.parametrize("source", ["resnet50", "resnet50_ibn_a"])
def test_fsac_pretrained(source, tmp_path):
    """A plain ResNet's bn1 goes half to IN, half to BN; what attention replaces is passed over."""
    from reidc.weights import write_weights

    rng = np.random.default_rng(1)
    m = small("Baseline", backbone=source, width_multiplier=0.125)
    plain = {k[len("backbone."):]: rng.standard_normal(v.shape).astype(np.float32)
             for k, v in m.state_dict().items() if k.startswith("backbone.")}
    write_weights(tmp_path / "resnet.npz", plain)
    state = small("FSAC", **NARROW, pretrained=tmp_path / "resnet.npz").state_dict()
    if source == "resnet50":
        bn = plain["layer3.2.bn1.bias"]
        assert np.array_equal(state["backbone.layer3.2.bn1.IN.bias"], bn[:len(bn) // 2])
        assert np.array_equal(state["backbone.layer3.2.bn1.BN.bias"], bn[len(bn) // 2:])
    else:
        for k in ("IN.bias", "BN.running_var"):
            assert np.array_equal(state[f"backbone.layer3.2.bn1.{k}"], plain[f"layer3.2.bn1.{k}"])
    assert np.array_equal(state["backbone.layer4.2.conv3.weight"], plain["layer4.2.conv3.weight"])
    fresh = small("FSAC", **NARROW).state_dict()
    kept = {k for k, v in state.items() if np.array_equal(v, fresh[k])}
    assert kept == {k for k in state if not k.startswith("backbone.") or ".rel_" in k
                    or k.endswith(("q.weight", "k.weight", "v.weight"))}


def test_fsac_named_maps():
    for eca in (True, False):
        m = small("FSAC", **NARROW, precision="float64", eca=eca)
        name = "eca5" if eca else "backbone.layer4"
        fmap, gradient = m.explain(batch(2)[0].astype(np.float64), name, "y", np.ones((2, 5)))
        assert fmap.shape == (2, 256, 3, 1) and np.abs(gradient).max() > 0


def test_mfa_outputs_and_names():
    m = small("MFA", regions=3)
    x, y = batch()
    out = m.forward(x, training=True)
    assert [(k, v.shape) for k, v in out.items()] == [
        (f"{k}_{i}", (4, size)) for k, size in (("feat", 256), ("logit", 5), ("region", 256))
        for i in range(3)]
    assert not m.test_flip and m.normalized and m.contract["normalized"]
    assert set(m.loss(x, y)) == {"total", "id", "triplet", "center", "gla"}
    own = [".".join(k.split(".")[:2]) for k in m.state_dict() if not k.startswith("backbone.")]
    assert list(dict.fromkeys(own)) == [f"cpaa.{s}" for s in (2, 3, 4)] + [
        f"{k}.{i}" for k in ("branch", "bnneck", "classifier", "center") for i in range(3)]
    m.train_step(x, y, reidc.Adam(m, 1e-2))
    assert not any(v.any() for k, v in m.state_dict().items()
                   if k.startswith("bnneck") and k.endswith(".bias"))  # never trained
    few = small("MFA", gla=False, triplet=False, center=False, pool="avg", cpaa_parts="channel")
    assert set(few.loss(x, y)) == {"total", "id"}
    assert "region_3" in few.forward(x, training=True)  # still returned
    assert not [k for k in few.state_dict() if k.startswith("center") or "gem" in k
                or "gamma" in k or "query" in k]
    point = small("MFA", cpaa_parts="point", cpaa=(4,))
    assert [k for k in point.state_dict() if k.startswith("cpaa")] == [f"cpaa.4.{k}" for k in (
        "gamma", "query.weight", "query.bias", "key.weight", "key.bias", "value.weight",
        "value.bias")]
    alone = small("MFA", local_branches=False, gla=False, regions=7)
    assert list(alone.forward(x, training=True)) == ["feat_0", "logit_0"]
    assert alone.dimension == 256


def test_mfa_embedding_is_of_unit_length():
    m = small("MFA")
    x, _ = batch()
    e = m.embed(x, normalize=False)
    np.testing.assert_allclose(np.linalg.norm(e, axis=1), 1, rtol=1e-6)
    state = m.state_dict()
    for i in range(4):  # branch i gives 1 + i everywhere
        state[f"bnneck.{i}.weight"][...] = 0
        state[f"bnneck.{i}.bias"][...] = 1 + i
    m.load_state_dict(state)
    expected = np.repeat(np.arange(1.0, 5), 256)
    np.testing.assert_allclose(m.embed(x, normalize=False)[0],
                               expected / np.linalg.norm(expected), rtol=1e-6)


def test_mfa_regions_are_rows_from_floor_to_ceil():
    """Six rows: four strips overlap, eight are of one row or two."""
    for regions in (1, 4, 6, 8):
        m = small("MFA", regions=regions, cpaa=(), precision="float64")
        x = batch(2)[0].astype(np.float64)
        seen = []
        for i in range(regions):
            gradient = m.explain(x, "backbone.layer4", f"region_{i}", np.ones((2, 256)))[1]
            rows = np.flatnonzero(np.abs(gradient).max((0, 1, 3)))
            seen.append((rows[0], rows[-1] + 1))
            np.testing.assert_allclose(gradient[:, :, rows], 1 / (2 * len(rows)))
        assert seen == [(i * 6 // regions, -(-(i + 1) * 6 // regions)) for i in range(regions)]


def test_mfa_starts_as_the_page_says():
    m = small("MFA", seed=5)
    x, y = batch()
    s = m.state_dict()
    without = small("MFA", cpaa=())
    without.load_state_dict({k: v for k, v in s.items() if not k.startswith("cpaa")})
    assert np.array_equal(m.embed(x), without.embed(x))  # beta = gamma = 0
    m.loss(x, y)
    gradients = m.gradients()
    for layer in (2, 3, 4):
        assert gradients[f"cpaa.{layer}.beta"].any() and gradients[f"cpaa.{layer}.gamma"].any()
        for k in ("query", "key", "value"):
            assert not gradients[f"cpaa.{layer}.{k}.weight"].any()
            assert not s[f"cpaa.{layer}.{k}.bias"].any()

    def spread(name, deviation, rel=0.05):
        assert s[name].std() == pytest.approx(deviation, rel=rel), name

    c = 256
    spread("cpaa.4.query.weight", np.sqrt(2 / (c / 8)))
    spread("cpaa.4.value.weight", np.sqrt(2 / c))
    spread("branch.2.conv1.weight", np.sqrt(2 / (c // 16)))
    spread("branch.2.conv2.weight", np.sqrt(2 / (9 * c // 16)))
    spread("branch.2.conv3.weight", np.sqrt(2 / c))
    spread("classifier.1.weight", 0.001)
    spread("center.3", 1)
    assert all(s[f"branch.{i}.gem.p"] == [3] for i in range(4))


def test_mfa_centres_have_their_own_rate():
    """Rate 0.5 on the gradient of the plain loss: that of the total times n/w_center."""
    m = small("MFA", regions=3, w_center=0.002, precision="float64")
    x, y = batch()
    x = x.astype(np.float64)
    before = m.state_dict()
    other = m.copy()
    other.loss(x, y)
    gradients = other.gradients()
    features = m.copy().forward(x, training=True)
    m.train_step(x, y, reidc.Adam(m, 1e-3, weight_decay=0.1))
    after = m.state_dict()
    for i in range(3):
        name = f"center.{i}"
        change = after[name] - before[name]
        assert np.abs(change).max() > 1e-3
        np.testing.assert_allclose(change, -0.5 * gradients[name] * 3 / 0.002, rtol=1e-5, atol=1e-6)
        f = features[f"feat_{i}"]
        plain = np.zeros_like(change)
        np.add.at(plain, y, 2 * (before[name][y] - f) / len(y))
        np.testing.assert_allclose(change, -0.5 * plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("height,width,switches,error,words", [
    (96, 32, dict(local_branches=False), ValueError, ["gla", "local_branches"]),
    (96, 32, dict(local_branches=False, gla=True), ValueError, ["gla", "local_branches"]),
    (90, 32, {}, ValueError, ["16", "90"]),
    (96, 40, {}, ValueError, ["16", "40"]),
    (96, 32, dict(cpaa=(2, 2)), ValueError, ["cpaa", "2 twice"]),
    (96, 32, dict(cpaa=(5,)), ValueError, ["cpaa", "1 to 4", "5"]),
    (96, 32, dict(cpaa=3), TypeError, ["cpaa", "3"]),
    (96, 32, dict(cpaa=None), TypeError, ["cpaa", "None"]),
    (96, 32, dict(cpaa_parts="none"), ValueError, ["cpaa_parts", "both|channel|point"]),
    (96, 32, dict(cpaa_scale=2), ValueError, ["cpaa_scale", "True or False"]),
    (96, 32, dict(regions=0), ValueError, ["regions", "0"]),
    (96, 32, dict(regions=33), ValueError, ["regions", "33"]),
    (96, 32, dict(regions=2.5), ValueError, ["regions", "2.5"]),
    (96, 32, dict(pool="max"), ValueError, ["pool", "gem|avg"]),
    (96, 32, dict(label_smooth=1.5), ValueError, ["label_smooth", "1.5"]),
    (96, 32, dict(w_center=-1), ValueError, ["w_center", "-1"]),
    (96, 32, dict(margin=0.3), TypeError, ["margin"]),
])
def test_mfa_wrong_switches(height, width, switches, error, words):
    with pytest.raises(error) as caught:
        reidc.MFA(5, height, width, **SMALL | switches)
    assert all(w in str(caught.value) for w in words), caught.value


def test_mfa_smoothing_may_be_false():
    x, y = batch()
    off = [small("MFA", label_smooth=v).loss(x, y)["id"] for v in (0, False, 0.1)]
    assert off[0] == off[1] != off[2]


def test_mfa_named_maps():
    m = small("MFA", precision="float64")
    x = batch(2)[0].astype(np.float64)
    for i in (0, 3):
        fmap, gradient = m.explain(x, f"branch.{i}", f"logit_{i}", np.ones((2, 5)))
        assert fmap.shape == (2, 256, 6, 2) and np.abs(gradient).max() > 0 and (fmap >= 0).all()
        other = m.explain(x, f"branch.{i}", f"logit_{i ^ 1}", np.ones((2, 5)))[1]
        assert not other.any()


def test_mfa_flip_averages_what_is_normalised():
    m = small("MFA")
    x, _ = batch()
    e, mirrored = (m.embed(v, normalize=False) for v in (x, x[..., ::-1]))
    np.testing.assert_allclose(m.embed(x, flip=True, normalize=False), (e + mirrored) / 2,
                               rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("system", ["Baseline", "MBGN", "HAMR", "MGAF", "FSAC", "MFA"])
def test_every_system_refuses(system):
    """One identity, one image where a norm sees the batch alone, another size, foreign planes."""
    m = small(system, **NARROW if system == "FSAC" else {})
    x, _ = batch()
    before = m.state_dict()
    for call, words in [
            (lambda: m.loss(x, [1, 1, 1, 1]), "two identities"),
            (lambda: m.train_step(x, [1] * 4, reidc.Adam(m, 1e-3)), "two identities"),
            (lambda: m.loss(x[:0], []), "empty batch"),
            (lambda: m.loss(x, [0, 0, 1, 5]), r"0\.\.4"),
            (lambda: m.forward(x[:, :, :80]), "3×96×32.*4×3×80×32")]:
        with pytest.raises(ValueError, match=words):
            call()
    if system == "FSAC":  # every norm of its sees positions
        m.copy().forward(x[:1], training=True)
    else:
        with pytest.raises(ValueError, match="2 images"):
            m.forward(x[:1], training=True)
    planes = [[1, 2, 3, 4]] * 4
    if system == "MBGN":
        for wrong in ([[1, 2, 3, 6]] * 4, [[0, 2, 3, 4]] * 4, [[1, 2, 2, 4]] * 4):
            for training in (False, True):
                with pytest.raises(ValueError, match="planes"):
                    m.forward(x, training=training, planes=wrong)
    else:
        for training in (False, True):
            with pytest.raises(ValueError, match="planes.*none"):
                m.forward(x, training=training, planes=planes)
    after = m.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("system,switches", [
    ("MFA", dict(cpaa=(), regions=2, gla=False, label_smooth=False)),
    ("MFA", dict(cpaa=(4, 1), cpaa_scale=True)),
    ("FSAC", NARROW | dict(fusion=False)),
    ("MGAF", dict(medium=False)),
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
