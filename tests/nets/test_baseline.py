"""Baseline's switches that make fast-reid's "stronger baseline", through the public interface,
without torch: names and counts, initial values, outputs, wrong switches. Grad-CAM of the circle
head: tests/api/test_grad_cam.py."""
import numpy as np
import pytest

import reidc

SBS = dict(pool="gem", head="circle", non_local=True, triplet_on="bnneck", spread="others",
           margin=None)
NARROW = dict(width_multiplier=0.125)


def small(**switches):
    return reidc.Baseline(5, 64, 32, **NARROW | switches)


def batch(n=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3, 64, 32)).astype(np.float32), np.arange(n) // 2


def test_counts():
    """A block of C channels has 3 (C + 1) + 2 C + 2 C parameters; GeM one."""
    assert reidc.Baseline(751).num_parameters == 25_050_176
    m = reidc.Baseline(751, 384, 128, **SBS)
    blocks = 2 * (7 * 512 + 3) + 3 * (7 * 1024 + 3)
    assert m.num_parameters == 25_050_176 + 1 + blocks == 25_078_864
    assert m.dimension == 2048 and len(m.state_dict()) == 270 + 1 + 5 * 12


def test_names():
    """fast-reid's under `backbone.`; a plain Baseline has none of them."""
    plain, m = small(), small(**SBS)
    own = {k: v.shape for k, v in m.state_dict().items() if k not in plain.state_dict()}
    assert own.pop("gem.p") == (1,)
    assert {k.split(".")[1] + "." + k.split(".")[2] for k in own} == {
        "NL_2.0", "NL_2.1", "NL_3.0", "NL_3.1", "NL_3.2"}
    block = {k.removeprefix("backbone.NL_2.0."): v for k, v in own.items() if "NL_2.0" in k}
    c = 64  # an eighth of 512
    assert block == {
        **{f"{k}.weight": (1, c, 1, 1) for k in ("theta", "phi", "g")},
        **{f"{k}.bias": (1,) for k in ("theta", "phi", "g")},
        "W.0.weight": (c, 1, 1, 1), "W.0.bias": (c,), "W.1.weight": (c,), "W.1.bias": (c,),
        "W.1.running_mean": (c,), "W.1.running_var": (c,)}
    deeper = reidc.Baseline(5, 64, 32, backbone="resnet101", non_local=True, **NARROW)
    assert sum(k.endswith(".W.1.weight") for k in deeper.state_dict()) == 2 + 9


def test_initial_values():
    s = reidc.Baseline(751, 64, 32, **SBS).state_dict()
    assert s["gem.p"].tolist() == [3.0]
    assert s["classifier.weight"].std() == pytest.approx(0.01, rel=0.01)
    name = "backbone.NL_3.1."
    assert not s[name + "W.1.weight"].any() and not s[name + "W.1.bias"].any()
    for key, fan_in in (("theta.weight", 1024), ("g.weight", 1024), ("W.0.weight", 1),
                        ("W.0.bias", 1)):
        assert 0.9 / np.sqrt(fan_in) < np.abs(s[name + key]).max() <= 1 / np.sqrt(fan_in), key
        assert s[name + key].std() == pytest.approx(1 / np.sqrt(3 * fan_in), rel=0.1), key
    assert np.abs(s[name + "phi.bias"]).max() <= 1 / np.sqrt(1024)
    assert reidc.Baseline(751, 64, 32, **NARROW).state_dict()["classifier.weight"].std() == \
        pytest.approx(0.001, rel=0.01)


def test_non_local_blocks_start_as_the_identity():
    plain, m = small(), small(non_local=True)
    state = plain.state_dict()
    m.load_state_dict({**m.state_dict(), **state})
    x, _ = batch()
    assert np.allclose(m.embed(x), plain.embed(x), atol=1e-6)


def test_outputs():
    m = small(**SBS)
    x, y = batch()
    out = m.forward(x, training=True)
    assert list(out) == ["feat", "bnneck", "logit"]
    w = m.parameters()["classifier.weight"]
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (out["bnneck"], w)]
    assert np.allclose(out["logit"], 64 * unit[0] @ unit[1].T, atol=1e-4)
    assert set(m.loss(x, y)) == {"total", "id", "triplet"}
    assert np.abs(m.gradients()["gem.p"]).item() > 0
    assert list(small(head="circle").forward(x, training=True)) == ["feat", "logit"]


def test_training_goes_on():
    m = small(**SBS)
    x, y = batch(8)
    y = y % 4
    optimizer = reidc.Adam(m, 1e-3)
    losses = [m.train_step(x, y, optimizer)["total"] for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]
    assert m.parameters()["gem.p"] != 3 and m.parameters()["backbone.NL_2.0.W.1.weight"].any()


@pytest.mark.parametrize("switches,error,words", [
    (dict(pool="max"), ValueError, ["pool", "avg|gem", "'max'"]),
    (dict(head="arc"), ValueError, ["head", "linear|circle", "'arc'"]),
    (dict(non_local=1), ValueError, ["non_local", "True or False", "1"]),
    (dict(non_local="yes"), ValueError, ["non_local", "'yes'"]),
    (dict(non_local=True, backbone="resnet18"), ValueError, ["non_local", "resnet50", "resnet18"]),
    (dict(non_local=True, backbone="resnet152"), ValueError, ["non_local", "resnet101"]),
    (dict(triplet_on="neck"), ValueError, ["triplet_on", "feat|bnneck"]),
    (dict(spread="other"), ValueError, ["spread", "all|others"]),
    (dict(pooling="gem"), TypeError, ["pooling"]),
])
def test_wrong_switches(switches, error, words):
    with pytest.raises(error) as caught:
        small(**switches)
    assert all(w in str(caught.value) for w in words), caught.value


def test_a_saved_network_keeps_its_switches(tmp_path):
    m = small(**SBS)
    m.save(tmp_path / "m.safetensors")
    other = reidc.load(tmp_path / "m.safetensors")
    assert other.config == m.config
    x, _ = batch()
    assert np.array_equal(other.embed(x), m.embed(x))


def test_fast_reids_weights_bring_their_blocks(tmp_path):
    source, plain = small(non_local=True, seed=4), small(seed=5)
    weights = {k: v for k, v in source.state_dict().items() if k.startswith("backbone.")}
    weights |= {"heads.weight": np.zeros((7, 256), np.float32)}
    path = tmp_path / "fast-reid.npz"
    np.savez(path, **weights)
    m = small(**SBS, pretrained=path)
    for key, value in weights.items():
        assert key.startswith("heads") or np.array_equal(m.state_dict()[key], value), key
    assert "NL_2.0" not in " ".join(small(pretrained=path).state_dict())  # passed over
    plain.save(tmp_path / "plain.npz")
    assert small(**SBS, pretrained=tmp_path / "plain.npz").num_classes == 5  # none: not missed


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_same_bits_for_any_number_of_threads(precision):
    x, y = batch()
    steps = []
    for threads in (1, 3):
        m = small(**SBS, threads=threads, precision=precision)
        optimizer = reidc.Adam(m, 1e-3)
        losses = [m.train_step(x.astype(precision), y, optimizer)["total"] for _ in range(2)]
        steps.append((losses, {k: v.tobytes() for k, v in m.state_dict().items()}))
    assert steps[0] == steps[1]


@pytest.mark.parametrize("system,backbone,last", [
    ("Baseline", "resnet18", "bn2"), ("FSAC", "resnet50_ibn_a", "bn3"),
    ("MGAF", "resnet18", "bn2")])
def test_zero_init_residual(system, backbone, last):
    """Each block begins as its shortcut; everything else is drawn as without the switch."""
    make, options = getattr(reidc, system), dict(backbone=backbone, width_multiplier=0.125)
    plain = make(5, 96, 32, **options).state_dict()
    m = make(5, 96, 32, zero_init_residual=True, **options)
    state = m.state_dict()
    zero = {k for k in plain if not (state[k] == plain[k]).all()}
    assert zero == {k for k in plain if ".layer" in k and k.endswith(f".{last}.weight")}
    assert all(not state[k].any() and (plain[k] == 1).all() for k in zero)
    assert m.copy().config["settings"]["zero_init_residual"] is True
    with pytest.raises(ValueError, match="zero_init_residual: expected True or False, got 1"):
        make(5, 96, 32, zero_init_residual=1, **options)
