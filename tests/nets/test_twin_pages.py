"""What the pages say about sizes, checked on the PyTorch twins: names, counts, shapes, MACs.

If one of these fails, the twin (or the page) is wrong and parity with it would mean nothing.
"""
import pytest

torch = pytest.importorskip("torch")
from counting import by_kind  # noqa: E402
from twins.baseline import Baseline  # noqa: E402
from twins.mbgn import MBGN, Structure  # noqa: E402

pytestmark = pytest.mark.twin
PLAIN = dict(branch_g=False, segmentation="uniform", strategy="F", structure=False,
             attention=None)


def count(net, prefix=""):
    return sum(p.numel() for n, p in net.named_parameters() if n.startswith(prefix))


def entries(net):
    return [n for n in net.state_dict() if not n.endswith("num_batches_tracked")]


@pytest.mark.parametrize("height,total,attention", [
    (384, 45_564_979, (2_522_339, 784_899, 2_544_659, 10_126_227)),
    (256, 44_161_043, (1_210_851, 702_787, 2_539_491, 10_121_059)),
])
def test_mbgn_counts(height, total, attention):
    net = MBGN(751, height, 128)
    assert count(net) == total
    assert count(net, "backbone.") == 23_508_032
    assert tuple(count(net, f"att{s}.") for s in range(1, 5)) == attention
    assert len(list(net.parameters())) == 335
    assert len(entries(net)) == 537


@pytest.mark.parametrize("height,literal,factored,taps,relation,maps", [
    (384, 17_369_712_000, 9_828_222_336, 173_408_256, 353_894_400, 7_364_542_464),
    (256, 8_774_440_960, 6_513_711_104, 115_605_504, 157_286_400, 2_182_086_656),
])
def test_mbgn_macs(height, literal, factored, taps, relation, maps):
    net = MBGN(751, height, 128)
    found = by_kind(net, torch.zeros(1, 3, height, 128))
    assert (found["taps"], found["relation"], found["maps"]) == (taps, relation, maps)
    assert found["layers"] + taps + relation == literal
    assert found["layers"] - maps + taps + found["factored"] == factored


def test_mbgn_shapes():
    net = MBGN(7, 96, 32, width_multiplier=0.25)
    x = torch.randn(4, 3, 96, 32)
    out = net.train()(x)
    parts = ["g", "l"] + [f"p{i}" for i in range(1, 7)] + ["s"]
    wanted = {"z_g": (4, 512), "z_l": (4, 512), "similarity": (4, 45), "planes": (4, 4)}
    wanted |= {f"f_{k}": (4, 256) for k in parts} | {f"logits_{k}": (4, 7) for k in parts}
    assert {k: tuple(v.shape) for k, v in out.items()} == wanted
    assert net.eval()(x)["embedding"].shape == (4, 2304)
    mgn = MBGN(7, 96, 32, width_multiplier=0.25, **PLAIN | {"strategy": "MGN"})
    assert set(mgn.train()(x)) == ({"z_l", "planes", "f_l", "logits_l"}
                                   | {f"{a}_p{i}" for a in ("f", "logits") for i in range(1, 6)})


def test_mbgn_names_follow_the_table():
    names = dict(MBGN(751).named_parameters())
    for s, (c, p) in enumerate([(256, 3072), (512, 768), (1024, 192), (2048, 192)], 1):
        q, g, a = p // 8, c // 16, f"att{s}."
        for i in ("inv1.", "inv2."):
            assert names[a + i + "reduce.weight"].shape == (c // 4, c, 1, 1)
            assert names[a + i + "bn.weight"].shape == (c // 4,)
            assert names[a + i + "span.weight"].shape == (49 * g, c // 4, 1, 1)
            assert names[a + i + "span.bias"].shape == (49 * g,)
        assert names[a + "bn1.weight"].shape == names[a + "bn2.bias"].shape == (c,)
        for i in ("theta.", "phi.", "embed."):
            assert names[a + i + "conv.weight"].shape == (c // 8, c, 1, 1)
            assert names[a + i + "bn.bias"].shape == (c // 8,)
        for i in ("map1.", "map2."):
            assert names[a + i + "conv.weight"].shape == (q, p, 1, 1)
            assert names[a + i + "bn.bias"].shape == (q,)
        assert names[a + "att.conv.weight"].shape == (1, 1 + 2 * q, 1, 1)
        assert names[a + "att.bn.weight"].shape == (1,)
        assert len([n for n in names if n.startswith(a)]) == 2 * 5 + 4 + 3 * 3 + 2 * 3 + 3
    for k in ("g", "l", "p1", "p6"):
        assert names[f"head_{k}.reduce.weight"].shape == (256, 2048)
        assert names[f"head_{k}.classifier.bias"].shape == (751,)
    assert names["structure.fc1.weight"].shape == (256, 45)
    assert names["structure.classifier.weight"].shape == (751, 256)


def test_baseline_counts():
    net = Baseline(751)
    assert count(net) == 25_050_176
    assert "bnneck.bias" in dict(net.named_parameters())
    out = Baseline(751, last_stride=2).train()(torch.zeros(2, 3, 64, 32))
    assert out["feat"].shape == (2, 2048)


@pytest.mark.parametrize("name,total", [  # without the classifier, as torchvision counts them
    ("resnet18", 11_176_512), ("resnet34", 21_284_672), ("resnet50", 23_508_032),
    ("resnet101", 42_500_160), ("resnet152", 58_143_808), ("resnet50_ibn_a", 23_508_032),
])
def test_backbone_counts(name, total):
    assert count(Baseline(2, backbone=name), "backbone.") == total


def test_tuned_is_the_same_network():
    torch.manual_seed(0)
    net = MBGN(5, 96, 32, width_multiplier=0.25, dropout=0.0).double().train()
    tuned = MBGN(5, 96, 32, width_multiplier=0.25, dropout=0.0, tuned=True).double().train()
    tuned.load_state_dict(net.state_dict())
    x, y = torch.randn(6, 3, 96, 32, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2, 2])
    planes = torch.tensor([[1, 2, 3, 4]] * 6)
    for n in (net, tuned):
        n.loss(n(x, planes), y)["total"].backward()
    for (name, a), b in zip(net.named_parameters(), tuned.parameters()):
        if name not in net.page_zero:
            assert (a.grad - b.grad).norm() <= 1e-9 * a.grad.norm(), name


def test_structure_is_zero_safe():
    similarity, _ = Structure(3)(torch.zeros(2, 10, 8))
    assert similarity.abs().max() == 0
