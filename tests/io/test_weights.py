"""read_weights, write_weights, resolve_pretrained and the mapping of ResNet names."""
import io
import os
import sys
import types
import zipfile

import numpy as np
import pytest

import reidc
from reidc._files import make_folder
from reidc.weights import (
    load_pretrained, map_weights, read_weights, resolve_pretrained, write_weights)


# ---- npz -----------------------------------------------------------------------------------------


def test_npz_round_trip_is_deterministic_and_numpy_reads_it(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"a/b.weight": rng.standard_normal((2, 3), dtype=np.float32),
               "n": np.array(5), "file": np.asfortranarray(rng.random((3, 4), dtype=np.float32))}
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    write_weights(a, tensors, {"k": "v", "a": "b"})
    write_weights(b, dict(reversed(tensors.items())), {"a": "b", "k": "v"})
    assert a.read_bytes() == b.read_bytes()
    got, metadata = read_weights(a)
    assert metadata == {"k": "v", "a": "b"} and set(got) == set(tensors)
    for name, x in tensors.items():
        assert np.array_equal(got[name], x) and got[name].dtype == x.dtype
        assert got[name].flags.c_contiguous and got[name].flags.writeable
    with np.load(a) as theirs:
        assert np.array_equal(theirs["a/b.weight"], tensors["a/b.weight"])


def test_npz_of_numpy_with_every_type(tmp_path):
    path = tmp_path / "x.npz"
    rng = np.random.default_rng(1)
    arrays = {f"{t}": np.asfortranarray((rng.random((4, 3)) * 100).astype(t))
              for t in ("f2", ">f4", "f8", "i1", ">i8", "u2", "?")}
    np.savez_compressed(path, **arrays)
    got, metadata = read_weights(path)
    assert metadata == {}
    for name, x in arrays.items():
        want = x.astype(np.float32) if x.dtype.kind == "f" else x
        assert np.array_equal(got[name], want) and got[name].dtype.kind == want.dtype.kind
        assert got[name].dtype.isnative
        assert x.dtype.kind != "f" or got[name].dtype == np.float32


class Bomb:
    def __reduce__(self):
        return os.system, ("exit 1",)


def test_hostile_npz(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([Bomb()], object))
    with pytest.raises(OSError, match="objects"):
        read_weights(path)
    np.savez(path, a=np.array(["text"]))
    with pytest.raises(OSError, match="no type of weights"):
        read_weights(path)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    for content in (head.getvalue(), b"", b"\x93NUMPY\x01\x00\xff\xff{", b"junk"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", content)
        with pytest.raises(OSError, match="x.npz"):
            read_weights(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"hello")
    with pytest.raises(OSError, match="arrays"):
        read_weights(path)


def test_mutated_npz_never_crashes(tmp_path):
    path = tmp_path / "x.npz"
    write_weights(path, {"a": np.ones((2, 3), np.float32), "b": np.arange(4)}, {"k": "v"})
    whole, rng = path.read_bytes(), np.random.default_rng(2)
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        if rng.random() < 0.3:
            del data[rng.integers(len(data)):]
        path.write_bytes(data)
        try:
            read_weights(path)
        except (OSError, ValueError):
            refused += 1
    assert refused > 200


def test_kinds_of_files_are_told_by_content(tmp_path):
    x = {"a": np.ones(2, np.float32)}
    write_weights(tmp_path / "a.npz", x)
    write_weights(tmp_path / "a.safetensors", x)
    os.rename(tmp_path / "a.npz", tmp_path / "b.safetensors")
    os.rename(tmp_path / "a.safetensors", tmp_path / "pytorch_model.bin")
    for name in ("b.safetensors", "pytorch_model.bin"):
        assert read_weights(tmp_path / name)[0]["a"].tolist() == [1, 1]
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "none.npz")
    (tmp_path / "old.pth").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    with pytest.raises(OSError):
        read_weights(tmp_path / "old.pth")
    (tmp_path / "text").write_text("hello, this is no file of weights at all")
    with pytest.raises(OSError, match="safetensors"):
        read_weights(tmp_path / "text")
    with pytest.raises(ValueError, match=".safetensors or .npz"):
        write_weights(tmp_path / "a.pth", x)
    for bad in ({"a": [1]}, {1: np.ones(1)}, {"a": np.array(["x"])}):
        with pytest.raises(TypeError):
            write_weights(tmp_path / "c.npz", bad)
    assert not (tmp_path / "c.npz").exists()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_folders_where_files_should_be(tmp_path, suffix):
    x, run = {"a": np.ones(2, np.float32)}, tmp_path / f"run{suffix}"
    run.mkdir()
    with pytest.raises(OSError, match="expected a file, got a folder$"):
        read_weights(run)
    write_weights(run / "last.safetensors", x)
    with pytest.raises(OSError, match="got a folder; the network of this run is in last.safetens"):
        read_weights(run)
    write_weights(run / "best.safetensors", x)
    with pytest.raises(OSError, match="the network of this run is in best.safetensors"):
        read_weights(str(run).encode())
    with pytest.raises(OSError, match="folder|directory"):
        write_weights(run, x)
    assert sorted(os.listdir(tmp_path)) == [run.name] and len(os.listdir(run)) == 2
    for call in (read_weights, resolve_pretrained, lambda path: write_weights(path, x)):
        with pytest.raises(TypeError, match="expected a path, got int"):
            call(3)
        with pytest.raises(ValueError, match="expected a path, got ''"):
            call("")


def test_files_where_folders_should_be(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file: expected a folder, a file has this name"):
        make_folder(tmp_path / "file")
    with pytest.raises(OSError, match="deep: cannot create this folder: Not a directory"):
        make_folder(tmp_path / "file" / "deep")
    with pytest.raises(OSError, match="cannot create this folder: Not a directory") as caught:
        reidc.datasets.Synthetic((2, 2), cameras=2).export(tmp_path / "file")
    assert isinstance(caught.value, reidc.Error)


# ---- names ---------------------------------------------------------------------------------------


def resnet(blocks=(2, 1, 1, 1), width=8, ibn=False):
    """{torchvision's name: array} of a small bottleneck ResNet, every entry different."""
    rng, out = np.random.default_rng(3), {}

    def add(name, *shape):
        out[name] = rng.standard_normal(shape).astype(np.float32)

    def norm(name, n):
        for part in ("weight", "bias", "running_mean", "running_var"):
            add(f"{name}.{part}", n)

    add("conv1.weight", width, 3, 7, 7)
    norm("bn1", width)
    inputs = width
    for stage, count in enumerate(blocks, 1):
        w = width << stage - 1
        for block in range(count):
            at = f"layer{stage}.{block}"
            add(f"{at}.conv1.weight", w, inputs, 1, 1)
            if ibn and stage < 4:
                add(f"{at}.bn1.IN.weight", w // 2)
                add(f"{at}.bn1.IN.bias", w // 2)
                norm(f"{at}.bn1.BN", w // 2)
            else:
                norm(f"{at}.bn1", w)
            add(f"{at}.conv2.weight", w, w, 3, 3)
            norm(f"{at}.bn2", w)
            add(f"{at}.conv3.weight", 4 * w, w, 1, 1)
            norm(f"{at}.bn3", 4 * w)
            if block == 0:
                add(f"{at}.downsample.0.weight", 4 * w, inputs, 1, 1)
                norm(f"{at}.downsample.1", 4 * w)
            inputs = 4 * w
    return out


class Network:
    """What load_pretrained needs of a network."""

    _pretrained_prefixes = ("backbone",)
    _pretrained_halve_bn = False

    def __init__(self, state):
        self.state = {name: np.zeros_like(x) for name, x in state.items()}

    def state_dict(self):
        return {name: x.copy() for name, x in self.state.items()}

    def load_state_dict(self, state, strict=True):
        assert not strict and set(state) <= set(self.state)
        for name, x in state.items():
            assert x.shape == self.state[name].shape
            self.state[name] = x.copy()


HEAD = {"bnneck.weight": np.ones(4, np.float32), "classifier.weight": np.ones((3, 4), np.float32)}
COUNTERS = ("bn1.num_batches_tracked", "layer1.0.bn2.num_batches_tracked")


def ours(ibn=False):
    return {**{"backbone." + k: v for k, v in resnet(ibn=ibn).items()}, **HEAD}


SOURCES = {
    "torchvision": ("", {"fc.weight": (10, 4), "fc.bias": (10,)}),
    "timm": ("", {"fc.weight": (10, 4)}),
    "torchreid": ("module.", {"module.classifier.weight": (7, 4), "module.classifier.bias": (7,)}),
    "fast-reid": ("backbone.", {"heads.weight": (7, 4), "heads.bottleneck.0.bias": (4,),
                                "pixel_mean": (1, 3, 1, 1)}),
    "strong baseline": ("base.", {"bottleneck.weight": (4,), "classifier.weight": (7, 4)}),
    "moco": ("module.encoder_q.", {"module.encoder_q.fc.0.weight": (4, 4)}),
}


@pytest.mark.parametrize("who", SOURCES)
@pytest.mark.parametrize("ibn", [False, True])
def test_names_of_others(tmp_path, who, ibn):
    prefix, extra = SOURCES[who]
    weights = resnet(ibn=ibn)
    source = {prefix + k: v for k, v in weights.items()}
    source.update({prefix + k: np.array(3) for k in COUNTERS})
    source.update({k: np.ones(s, np.float32) for k, s in extra.items()})
    path = tmp_path / "w.safetensors"
    write_weights(path, source)
    network = Network(ours(ibn))
    report = load_pretrained(network, path)
    for name, x in weights.items():
        assert np.array_equal(network.state["backbone." + name], x), name
    for name in HEAD:
        assert not network.state[name].any()
    # Every name is accounted for once.
    assert set(report.loaded) | set(report.ignored) == set(source)
    assert len(report.loaded) + len(report.ignored) == len(source)
    assert not report.missing and not report.mismatched
    text = str(report)
    for name in source:
        assert name in text
    for name in COUNTERS:
        assert "counter" in report.ignored[prefix + name]
    assert all("head" in why for name, why in report.ignored.items()
               if "fc" in name or "classif" in name or "heads" in name)


def test_halving_a_plain_batch_norm(tmp_path):
    plain = resnet()
    path = tmp_path / "w.npz"
    write_weights(path, plain)
    network = Network(ours(ibn=True))
    with pytest.raises(ValueError, match="halve_bn=True"):
        load_pretrained(network, path)
    assert not any(x.any() for x in network.state.values())  # nothing changed
    report = load_pretrained(network, path, halve_bn=True)
    bn = {part: plain[f"layer1.1.bn1.{part}"] for part in
          ("weight", "bias", "running_mean", "running_var")}
    at = "backbone.layer1.1.bn1."
    for part in ("weight", "bias"):
        assert np.array_equal(network.state[at + "IN." + part], bn[part][:4])
    for part in bn:
        assert np.array_equal(network.state[at + "BN." + part], bn[part][4:])
    assert report.loaded["layer1.1.bn1.weight"] == [at + "IN.weight", at + "BN.weight"]
    assert np.array_equal(network.state["backbone.layer4.0.bn1.bias"], plain["layer4.0.bn1.bias"])
    assert np.array_equal(network.state["backbone.bn1.bias"], plain["bn1.bias"])


def test_branches_with_their_own_stages():
    weights = resnet()
    state = {}
    for name, x in weights.items():
        for prefix in ("small", "large") if name[:6] in ("layer3", "layer4") else ("backbone",):
            state[f"{prefix}.{name}"] = x
    state["small.layer4.0.attention.weight"] = np.ones(3)
    target = {name: x.shape for name, x in state.items()}
    mapped, report = map_weights(weights, target, prefixes=("backbone", "small", "large"))
    report.check()
    assert report.loaded["layer3.0.conv1.weight"] == ["small.layer3.0.conv1.weight",
                                                      "large.layer3.0.conv1.weight"]
    assert report.kept == ["small.layer4.0.attention.weight"]
    assert set(mapped) == set(target) - set(report.kept)


def test_weights_of_another_network_change_nothing(tmp_path):
    network = Network(ours())
    path = tmp_path / "w.safetensors"
    cases = {
        "no name in it": {"features.0.weight": np.ones((2, 2), np.float32)},
        "it is empty": {},
        "100 of its entries have other shapes: bn1.bias is 16, backbone.bn1.bias is 8":
            resnet(width=16),
        "entries of the backbone are not in it: backbone.layer1.1":
            resnet(blocks=(1, 1, 1, 1)),
    }
    for message, source in cases.items():
        write_weights(path, source)
        with pytest.raises(ValueError, match=message):
            load_pretrained(network, path)
        assert not any(x.any() for x in network.state.values())
    write_weights(path, resnet(blocks=(3, 1, 1, 1)))  # more than we have is fine, and told
    report = load_pretrained(network, path)
    assert report.ignored["layer1.2.conv1.weight"] == "this network has no such entry"


def test_the_same_entry_twice():
    source = {"conv1.weight": np.ones(2), "module.conv1.weight": np.zeros(2)}
    mapped, report = map_weights(source, {"backbone.conv1.weight": (2,)})
    assert mapped["backbone.conv1.weight"].all()
    assert report.ignored["module.conv1.weight"] == "the same as conv1.weight"


@pytest.mark.parametrize("system, height, to", [
    ("MGAF", 96, ["small", "medium", "large"]), ("FSAC", 64, ["backbone"])])
def test_later_as_in_the_constructor(tmp_path, system, height, to):
    """`load_pretrained(m, path)`, which `reidc train` calls, fills what `pretrained=` fills."""
    small = {"width_multiplier": 0.125, "threads": 1, "seed": 3}
    start = reidc.Baseline(4, 64, 32, backbone="resnet50", **{**small, "seed": 9}).state_dict()
    path = tmp_path / "w.npz"
    write_weights(path, {name[len("backbone."):]: x for name, x in start.items()
                         if name.startswith("backbone.")})
    at_once = getattr(reidc, system)(4, height, 32, pretrained=path, **small).state_dict()
    m = getattr(reidc, system)(4, height, 32, **small)
    before = m.state_dict()
    load_pretrained(m, path)
    for name, x in m.state_dict().items():
        assert np.array_equal(x, at_once[name]), name
    for branch in to:
        name = f"{branch}.layer4.0.conv1.weight"
        assert not np.array_equal(before[name], at_once[name])


@pytest.mark.real
def test_real_imagenet_weights():
    folder = os.environ.get("REIDC_WEIGHTS")
    if not folder:
        pytest.skip("needs real weights (REIDC_WEIGHTS)")
    path = os.path.join(folder, "resnet50_imagenet_pruned.npz")
    if not os.path.exists(path):
        pytest.skip("needs resnet50_imagenet_pruned.npz in REIDC_WEIGHTS")
    source, metadata = read_weights(path)
    assert len(source) == 267
    assert sum(x.size for k, x in source.items() if "running_" not in k) == 25_557_032
    assert all(x.dtype == np.float32 for x in source.values())
    target = {"backbone." + k: v.shape for k, v in resnet((3, 4, 6, 3), 64).items()}
    mapped, report = map_weights(source, target)
    report.check()
    assert len(mapped) == 265 and sorted(report.ignored) == ["fc.bias", "fc.weight"]
    with np.load(path) as theirs:
        for name in ("conv1.weight", "layer4.2.bn3.running_var"):
            assert np.array_equal(mapped["backbone." + name], theirs[name].astype(np.float32))


# ---- where pretrained= leads -----------------------------------------------------------------


def test_resolve_paths(tmp_path, monkeypatch):
    path = tmp_path / "w.npz"
    write_weights(path, {"a": np.ones(1)})
    assert resolve_pretrained(path) == str(path)
    monkeypatch.chdir(tmp_path)
    assert resolve_pretrained("w.npz") == "w.npz"
    for missing in ("x.npz", "./owner/name", str(tmp_path / "x"), "weights/r50.pth", "resnet50",
                    str(tmp_path)):
        with pytest.raises(FileNotFoundError, match="no file"):
            resolve_pretrained(missing)


def test_resolve_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="huggingface_hub"):
        resolve_pretrained("timm/resnet50.a1_in1k")
    asked = []
    hub = types.ModuleType("huggingface_hub")
    hub.list_repo_files = lambda repo_id, revision: files
    hub.hf_hub_download = lambda filename, repo_id, revision: asked.append(
        (repo_id, revision, filename)) or "/cache/file"
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    files = ["README.md", "pytorch_model.bin", "model.safetensors"]
    assert resolve_pretrained("timm/resnet50.a1_in1k") == "/cache/file"
    files = ["b.safetensors", "a.safetensors", "x.bin"]
    resolve_pretrained("owner/name@v2")
    resolve_pretrained("owner/name/sub/file.pth")
    assert asked == [("timm/resnet50.a1_in1k", None, "model.safetensors"),
                     ("owner/name", "v2", "a.safetensors"),
                     ("owner/name", None, "sub/file.pth")]
    files = ["README.md"]
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        resolve_pretrained("owner/name")
