"""The pages' counts and tables on the PyTorch twins of the systems, without any memory (meta)."""
import pages
import pytest

torch = pytest.importorskip("torch")
import twins  # noqa: E402
from counting import macs  # noqa: E402
from test_counts import committed, table_row  # noqa: E402

pytestmark = pytest.mark.twin


def twin_counts(page):
    """What `test_counts.engine_counts` says of the engine's, of the twin."""
    with torch.device("meta"):
        net = twins.build(page.system, 751, *page.size, **page.options)
        literal, factored, dimension = macs(net, torch.empty(1, 3, *page.size))
    own = dict(net.named_parameters())
    return {"parameters": sum(p.numel() for p in own.values()),
            "inference": sum(p.numel() for k, p in own.items()
                             if not {"classifier", "center"} & set(k.split("."))),
            "tensors": len(own),
            "entries": sum(not k.endswith("num_batches_tracked") for k in net.state_dict()),
            "macs": factored, "literal": literal, "dimension": dimension}


@pytest.mark.parametrize("page", pages.ROWS, ids=str)
def test_counts(page):
    got = twin_counts(page)
    assert not page.disagreements(got), got
    assert table_row(page, got) == committed()[str(page)]


def test_hamr_without_its_classifiers():
    page = pages.ROWS[[str(p) for p in pages.ROWS].index("HAMR")]
    assert page.macs - 21 * 751 * 512 == 6_125_864_448


def test_hamr_names_follow_the_table():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in twins.build("HAMR", 751, 384, 128)
                  .state_dict().items() if not k.endswith("num_batches_tracked")}
    names = [k for k in shapes if not k.startswith("backbone.")]
    assert names[:6] == [f"sam{s}.conv.weight" for s in range(1, 5)] + ["cam.fc1.weight",
                                                                       "cam.fc2.weight"]
    norm = ("weight", "bias", "running_mean", "running_var")
    head = ["reduce.weight", *(f"bn1.{n}" for n in norm), "fc.weight",
            *(f"bn2.{n}" for n in norm), "classifier.weight"]
    assert names[6:] == [f"head{level}_{i}.{n}" for level in range(1, 7)
                         for i in range(1, level + 1) for n in head]
    assert shapes["sam3.conv.weight"] == (1, 2, 7, 7)
    assert shapes["cam.fc1.weight"] == (240, 3840) and shapes["cam.fc2.weight"] == (3840, 240)
    assert shapes["head4_2.reduce.weight"] == (256, 7680, 1, 1)
    assert shapes["head4_2.fc.weight"] == (512, 256)
    assert shapes["head4_2.classifier.weight"] == (751, 512)
    with torch.device("meta"):
        both = list(twins.build("HAMR", 7, 96, 32, order="CSF").state_dict())
    own = [k.split(".")[0] for k in both if k.startswith(("sam", "cam"))]
    assert list(dict.fromkeys(own)) == ["sam1", "sam2", "sam3", "sam4", "cam1", "cam2", "cam3",
                                        "cam4"]


def test_hamr_outputs():
    with torch.device("meta"):
        net = twins.build("HAMR", 7, 96, 32)
        out = net.train()(torch.empty(4, 3, 96, 32))
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        f"logits{level}_{i}": (4, 7) for level in range(1, 7) for i in range(1, level + 1)} | {
        f"triplet{level}": (4, 512 * level) for level in range(1, 7)}
    assert list(out)[:3] == ["logits1_1", "logits2_1", "logits2_2"]
    assert list(out)[21:] == [f"triplet{level}" for level in range(1, 7)]


def test_mgaf_names_follow_the_table():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in twins.build("MGAF", 751, 384, 128)
                  .state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {k.split(".")[1] for k in shapes if k.startswith("backbone")} == {
        "conv1", "bn1", "layer1", "layer2"}
    norm = ("weight", "bias", "running_mean", "running_var")
    own = [f"attention.{n}.weight" for n in ("theta", "phi", "g", "w")] + [
        f"attention.bn.{n}" for n in norm]
    for b, vectors in (("small", 1), ("medium", 3), ("large", 4)):
        names = [k[len(b) + 1:] for k in shapes if k.startswith(b)]
        rest = [n for n in names if not n.startswith("layer")]
        assert rest == own + [f"reduce.{i}.{n}" for i in range(vectors) for n in (
            "conv.weight", *(f"bn.{n}" for n in norm))] + [
            f"classifier.{i}.{n}" for i in range(vectors) for n in ("weight", "bias")]
        count = {s: sum(torch.Size(shapes[f"{b}.{n}"]).numel() for n in names
                        if n.startswith(s) and "running" not in n) for s in ("layer3", "layer4")}
        assert count == {"layer3": 7_098_368, "layer4": 14_964_736}
        assert shapes[f"{b}.attention.g.weight"] == (1024, 2048, 1, 1)
        assert shapes[f"{b}.attention.w.weight"] == (2048, 1024, 1, 1)
        assert shapes[f"{b}.reduce.0.conv.weight"] == (256, 2048, 1, 1)
        assert shapes[f"{b}.classifier.0.weight"] == (751, 256)


def test_mgaf_outputs():
    with torch.device("meta"):
        net = twins.build("MGAF", 7, 96, 32)
        out = net.train()(torch.empty(4, 3, 96, 32))
        masks = [tuple(getattr(net, b).attention.mask.shape) for b in ("small", "medium", "large")]
    assert masks == [(4, 3, 3), (4, 12, 12), (4, 48, 48)]
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        f"f_{b}": (4, 256) for b in ("small", "medium", "large")} | {
        f"y_{b}_{i}": (4, 7) for b, n in (("small", 1), ("medium", 3), ("large", 4))
        for i in range(n)}
    assert list(out)[:5] == ["f_small", "f_medium", "f_large", "y_small_0", "y_medium_0"]


def test_fsac_names_follow_the_table():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in twins.build("FSAC", 751, 256, 128)
                  .state_dict().items()}
    tables = [(63, 31, 64)] + [(31, 15, 64)] * 5 + [(31, 15, 128)] + [(15, 7, 128)] * 2
    blocks = [(3, j) for j in range(6)] + [(4, j) for j in range(3)]
    for (stage, j), (rows, columns, d) in zip(blocks, tables, strict=True):
        name = f"backbone.layer{stage}.{j}.conv2"
        assert {k[len(name) + 1:]: v for k, v in shapes.items() if k.startswith(name)} == {
            "rel_h": (rows, d), "rel_w": (columns, d)} | {
            f"{k}.weight": (4 * d, 4 * d, 1, 1) for k in "qkv"}
    for stage, j in [(1, 0), (2, 3), (3, 5)]:
        assert f"backbone.layer{stage}.{j}.bn1.IN.weight" in shapes
        assert f"backbone.layer{stage}.{j}.bn1.weight" not in shapes
    assert "backbone.layer4.0.bn1.weight" in shapes
    assert [shapes[f"eca{i}.conv.weight"] for i in range(1, 6)] == [
        (1, 1, k) for k in (3, 5, 5, 5, 7)]
    assert shapes["classifier.weight"] == (751, 3584) and shapes["classifier.bias"] == (751,)


def test_fsac_outputs():
    with torch.device("meta"):
        net = twins.build("FSAC", 7, 96, 32)
        out = net.train()(torch.empty(4, 3, 96, 32))
    assert {k: tuple(v.shape) for k, v in out.items()} == {"f": (4, 3584), "y": (4, 7)}
    assert net.backbone.layer3[0].conv2.mask.shape == (4, 4, 48, 48)
    assert net.eca5.mask.shape == (4, 2048)


def test_mfa_names_follow_the_table():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in twins.build("MFA", 751, 256, 128)
                  .state_dict().items() if not k.endswith("num_batches_tracked")}
    norm = ("weight", "bias", "running_mean", "running_var")
    expected = {}
    for layer, c in ((2, 512), (3, 1024), (4, 2048)):
        expected |= {f"cpaa.{layer}.{k}": v for k, v in (
            ("beta", (1,)), ("gamma", (1,)), ("query.weight", (c // 8, c, 1, 1)),
            ("query.bias", (c // 8,)), ("key.weight", (c // 8, c, 1, 1)),
            ("key.bias", (c // 8,)), ("value.weight", (c, c // 8, 1, 1)), ("value.bias", (c,)))}
    for i in range(4):
        expected |= {f"branch.{i}.conv1.weight": (128, 2048, 1, 1),
                     f"branch.{i}.conv2.weight": (128, 128, 3, 3),
                     f"branch.{i}.conv3.weight": (2048, 128, 1, 1), f"branch.{i}.gem.p": (1,),
                     f"classifier.{i}.weight": (751, 2048), f"center.{i}": (751, 2048)}
        expected |= {f"branch.{i}.bn{b}.{k}": (2048 if b == 3 else 128,) for b in (1, 2, 3)
                     for k in norm}
        expected |= {f"bnneck.{i}.{k}": (2048,) for k in norm}
    assert {k: v for k, v in shapes.items() if not k.startswith("backbone.")} == expected


def test_mfa_outputs():
    with torch.device("meta"):
        net = twins.build("MFA", 7, 96, 32)
        out = net.train()(torch.empty(4, 3, 96, 32))
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        f"{k}_{i}": (4, 7 if k == "logit" else 2048) for k in ("feat", "logit", "region")
        for i in range(4)}
    assert net.cpaa["3"].channel.shape == (4, 1024, 1024)
    assert net.cpaa["3"].point.shape == (4, 12, 12)
