"""HAMR from weights under its authors' public names: the mapping on the page, the report of every
key, and the same outputs as the network that the weights were taken from."""
import re

import numpy as np
import pytest
import reidc
import states
from reidc.weights import load_pretrained, write_weights

PUBLIC = dict(order="F", act="leaky_relu", triplet_on="bn")
TINY = PUBLIC | dict(backbone="resnet18", width_multiplier=0.25, reduce_dim=16, feat_dim=24)
LAYERS = {"reduce": "conv1x1", "bn1": "add_block1.0", "fc": "add_block1.2", "bn2": "add_block2.0",
          "classifier": "classifier.0"}


def public_name(ours):
    found = re.match(r"head(\d+_\d+)\.(\w+)\.(\w+)$", ours)
    if not found:
        return ours.removeprefix("backbone.")
    return f"classifierlayer{found[1]}.{LAYERS[found[2]]}.{found[3]}"


def hamr(classes=5, **switches):
    return reidc.HAMR(classes, 96, 32, **TINY | switches)


@pytest.fixture(scope="module")
def original():
    m = hamr()
    m.load_state_dict(states.excite(m.state_dict(), 5))
    return m


def public(m, prefix="", counters=True):
    state = {}
    for name, value in m.state_dict().items():
        state[prefix + public_name(name)] = value
        if counters and name.endswith("running_var"):
            state[prefix + public_name(name).replace("running_var", "num_batches_tracked")] = \
                np.array(17)
    return state


def same(a, b):
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_public_names_load(original, prefix, tmp_path):
    state = public(original, prefix)
    assert f"{prefix}classifierlayer3_2.add_block1.2.weight" in state
    path = tmp_path / "hamr.npz"
    write_weights(path, state)
    m = hamr(seed=9)
    report = load_pretrained(m, path)
    assert len(report.loaded) == len(original.state_dict())
    assert set(report.loaded) | set(report.ignored) == set(state)
    assert all("counter" in why for why in report.ignored.values())
    assert not report.missing and not report.mismatched and not report.kept
    assert report.loaded[f"{prefix}classifierlayer6_5.conv1x1.weight"] == ["head6_5.reduce.weight"]
    assert report.loaded[f"{prefix}layer4.1.bn2.bias"] == ["backbone.layer4.1.bn2.bias"]
    assert "-> head1_1.bn2.running_var" in str(report)
    assert same(m.state_dict(), original.state_dict())
    x, _ = states.batch(2, 2, 96, 32)
    assert np.array_equal(m.embed(x, flip=True), original.embed(x, flip=True))
    other = hamr(pretrained=path)
    assert same(other.forward(x, training=True), original.copy().forward(x, training=True))


def test_another_number_of_classes_keeps_its_classifiers(original, tmp_path):
    write_weights(tmp_path / "hamr.npz", public(original))
    m = hamr(classes=7)
    before = m.state_dict()
    report = load_pretrained(m, tmp_path / "hamr.npz")
    assert report.kept == [f"head{a}_{b}.classifier.weight" for a in range(1, 7)
                           for b in range(1, a + 1)]
    assert "classes of another training: 5×24" in report.ignored[
        "classifierlayer1_1.classifier.0.weight"]
    for name, value in m.state_dict().items():
        expected = before if ".classifier." in name else original.state_dict()
        assert np.array_equal(value, expected[name]), name
    x, _ = states.batch(2, 2, 96, 32)
    assert np.array_equal(m.embed(x), original.embed(x))


def test_what_does_not_fit_is_said(original, tmp_path):
    state, path = public(original), tmp_path / "hamr.npz"
    lacking = {k: v for k, v in state.items() if k != "classifierlayer4_1.add_block1.2.weight"}
    write_weights(path, lacking)
    m = hamr()
    before = m.state_dict()
    with pytest.raises(ValueError, match=r"1 entries of the heads.*head4_1\.fc\.weight"):
        load_pretrained(m, path)
    write_weights(path, state)
    with pytest.raises(ValueError, match=r"add_block1\.2\.weight is 24×16.*fc\.weight is 32×16"):
        hamr(feat_dim=32, pretrained=path)
    assert same(m.state_dict(), before)
    one = hamr(local="none", pretrained=path)  # the others have no head here
    assert np.array_equal(one.state_dict()["head1_1.fc.weight"],
                          original.state_dict()["head1_1.fc.weight"])
    report = load_pretrained(one, path)
    assert report.ignored["classifierlayer2_1.conv1x1.weight"] == "this network has no such head"
    attentive = hamr(order="SFC")  # more than the public model: it keeps its start
    load_pretrained(attentive, path)
    plain = {k: v for k, v in state.items() if not k.startswith("classifierlayer")}
    write_weights(path, plain)  # a ResNet alone is still enough
    assert not load_pretrained(hamr(), path).missing


@pytest.mark.twin
def test_a_torch_file_of_a_module_with_these_names(tmp_path):
    """Layers grouped as the public names tell, saved by torch from behind DataParallel."""
    torch = pytest.importorskip("torch")
    from torch import nn
    from torch.nn import functional as F
    from twins.resnet import ResNet

    class Head(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1x1 = nn.Conv2d(2 * c, 16, 1, bias=False)
            self.add_block1 = nn.Sequential(nn.BatchNorm1d(16), nn.LeakyReLU(0.1),
                                            nn.Linear(16, 24, bias=False))
            self.add_block2 = nn.Sequential(nn.BatchNorm1d(24))
            self.classifier = nn.Sequential(nn.Linear(24, 5, bias=False))

        def forward(self, part):
            d = torch.cat([F.adaptive_max_pool2d(part, 1), F.adaptive_avg_pool2d(part, 1)], 1)
            b = self.add_block2(self.add_block1(self.conv1x1(d).flatten(1)))
            return b, self.classifier(b)

    class Public(ResNet):
        def __init__(self):
            super().__init__("resnet18", 1, 0.25)
            for level in range(1, 7):
                for i in range(1, level + 1):
                    self.add_module(f"classifierlayer{level}_{i}", Head(sum(self.channels)))

        def forward(self, x):
            x, maps = self.maxpool(torch.relu(self.bn1(self.conv1(x)))), []
            for stage in range(1, 5):
                x = getattr(self, f"layer{stage}")(x)
                maps.append(x)
            f = torch.cat([F.adaptive_max_pool2d(m, maps[3].shape[2:]) for m in maps], 1)
            found = {}
            for level in range(1, 7):
                for i in range(1, level + 1):
                    head = getattr(self, f"classifierlayer{level}_{i}")
                    found[level, i] = head(f[:, :, i - 1:i + 6 - level])
            return found

    torch.manual_seed(3)
    net = Public()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.9).add_(0.02 * torch.randn_like(p))
    x = torch.randn(4, 3, 96, 32)
    net.train()(x)
    path = tmp_path / "hamr.pth"
    torch.save(nn.DataParallel(net).state_dict(), path)
    m = hamr(pretrained=path)
    with torch.no_grad():
        embedding = torch.cat([b for b, _ in net.eval()(x).values()], 1).numpy()
        trained = net.train()(x)
    ours = m.forward(x.numpy())["embedding"]
    assert np.linalg.norm(ours - embedding) <= 1e-5 * np.linalg.norm(embedding)
    out = m.forward(x.numpy(), training=True)
    for (level, i), (_, logits) in trained.items():
        gap = np.linalg.norm(out[f"logits{level}_{i}"] - logits.detach().numpy())
        assert gap <= 1e-4 * float(logits.norm()), (level, i)
