"""save, load, pretrained, FeatureExtractor: bit for bit, whole or not at all; foreign files."""
import os

import numpy as np
import pytest

import reidc
from reidc.weights import read_weights, write_weights

from .tools import LABELS, baseline, batch, mbgn, same, unchanged


@pytest.fixture(scope="module")
def trained():
    m = mbgn(strategy="F", part_pool="avg")
    o = reidc.Adam(m, 1e-4)
    for t in range(3):
        m.train_step(batch(8, 96, seed=t), LABELS, o)
    return m


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_round_trip(trained, tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    trained.save(path)
    other = reidc.load(path, threads=1)
    assert type(other) is reidc.MBGN and other.threads == 1
    assert same(other.state_dict(), trained.state_dict())
    assert other.step == trained.step == 3 and other.contract == trained.contract
    kept = dict(trained.config["settings"], threads=1)
    assert other.config["settings"] == kept and kept["strategy"] == "F"
    x = batch(4, 96)
    assert np.array_equal(other.embed(x, flip=True), trained.embed(x, flip=True))
    a, b = trained.copy(), other
    oa, ob = reidc.SGD(a, 0.01), reidc.SGD(b, 0.01)
    assert a.train_step(batch(8, 96), LABELS, oa) == b.train_step(batch(8, 96), LABELS, ob)
    assert same(a.state_dict(), b.state_dict())


def test_same_bytes_and_no_leftovers(trained, tmp_path):
    trained.save(tmp_path / "a.safetensors")
    trained.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    trained.save(str(tmp_path / "a.safetensors"))
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.safetensors"]
    with pytest.raises(OSError):
        trained.save(tmp_path / "no" / "folder" / "m.safetensors")
    with pytest.raises(ValueError, match="safetensors"):
        trained.save(tmp_path / "m.weights")
    with pytest.raises(TypeError):
        trained.save(3)


def test_damaged_files(trained, tmp_path):
    path = tmp_path / "m.safetensors"
    trained.save(path)
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(OSError):
            reidc.load(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        reidc.load(path)
    with pytest.raises(OSError):
        reidc.load(tmp_path)
    with pytest.raises(ValueError, match="device"):
        reidc.load(path, device="gpu")
    with pytest.raises(reidc.DeviceError, match="cuda|CUDA"):
        reidc.load(path, device="cuda:999")


def change(path, tensors=None, **header):
    """Rewrite a checkpoint with other tensors or header entries (None: left out)."""
    arrays, old = read_weights(path)
    new = {**old, **{f"reidc.{k}": v for k, v in header.items()}}
    write_weights(path, arrays if tensors is None else tensors(arrays),
                  {k: v for k, v in new.items() if v is not None})


@pytest.mark.parametrize("options, kind, words", [
    (dict(config=None), ValueError, "without a configuration"),
    (dict(config="{"), OSError, "configuration"),
    (dict(config="[]"), OSError, "configuration"),
    (dict(config='{"system": "mbgm", "settings": {}}'), OSError, "configuration"),
    (dict(config='{"system": "mbgn", "settings": {"num_classes": 5, "colour": 1}}'), TypeError,
     "colour"),
    (dict(contract='{"size": [96, 64]}'), ValueError, "contract"),
    (dict(step="many"), OSError, "configuration"),
    (dict(tensors=lambda t: {k: v for k, v in t.items() if k != "backbone.conv1.weight"}),
     ValueError, "missing.*conv1"),
    (dict(tensors=lambda t: {**t, "extra": np.zeros(2, np.float32)}), ValueError, "extra"),
    (dict(tensors=lambda t: {**t, "head_g.bn.bias": np.zeros(2, np.float32)}), ValueError,
     "head_g.bn.bias"),
])
def test_foreign_headers(trained, tmp_path, options, kind, words):
    path = tmp_path / "m.safetensors"
    trained.save(path)
    change(path, **options)
    with pytest.raises(kind, match=words):
        reidc.load(path)


def test_hostile_description(tmp_path):
    """A graph's description in a header calls nothing but the builder."""
    g = reidc.Graph()
    m = g.build({"embedding": g.mean(g.conv2d(g.input(3, 8, 8), 4, 3))})
    path = tmp_path / "m.safetensors"
    m.save(path)
    header = read_weights(path)[1]["reidc.config"]
    for old, new, kind in (('"conv2d"', '"__class__"', ValueError),
                           ('"conv2d"', '"copy"', ValueError),
                           ('"region_pool"', '"view"', ValueError),
                           ('"conv1", 4', '"conv1", 4000000000', ValueError),
                           ('["output", [3, "embedding", 3]]', '["output", [3, "embedding", 99]]',
                            ValueError),
                           ('["output", [3, "embedding", 3]]', '["output", [3, "embedding"]]',
                            OSError)):
        assert old in header, header
        m.save(path)
        change(path, config=header.replace(old, new))
        with pytest.raises(kind):
            reidc.load(path)


def test_float64_networks_are_saved_too(tmp_path):
    m = baseline(precision="float64")
    m.save(tmp_path / "m.safetensors")
    other = reidc.load(tmp_path / "m.safetensors")
    assert other.precision == "float64"
    assert all(np.allclose(a, b, rtol=1e-6, atol=1e-7)
               for a, b in zip(m.state_dict().values(), other.state_dict().values()))


def test_pretrained(tmp_path):
    """A ResNet's weights under torchvision's names go into the backbone; the rest stays."""
    source = baseline(seed=9)
    weights = {k.removeprefix("backbone."): v for k, v in source.state_dict().items()
               if k.startswith("backbone.")}
    weights["fc.weight"] = np.zeros((1000, 64), np.float32)
    path = tmp_path / "resnet.safetensors"
    write_weights(path, weights)
    m, fresh = baseline(pretrained=path), baseline()
    for name, value in m.state_dict().items():
        origin = source if name.startswith("backbone.") else fresh
        assert np.array_equal(value, origin.state_dict()[name]), name
    write_weights(path, {k: v for k, v in weights.items() if k != "layer3.0.conv1.weight"})
    with pytest.raises(ValueError, match="layer3.0.conv1.weight"):
        baseline(pretrained=path)
    with pytest.raises(ValueError, match="another network|other shapes"):
        baseline(pretrained=path, width_multiplier=0.25)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:999])
    with pytest.raises(OSError):
        baseline(pretrained=tmp_path / "cut.safetensors")
    with pytest.raises(FileNotFoundError):
        baseline(pretrained=str(tmp_path / "none.pth"))


def test_feature_extractor(trained, tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "m.safetensors"
    trained.save(path)
    extractor = reidc.FeatureExtractor("mbgn", path)
    x = batch(3, 96)
    expected = trained.embed(x, normalize=False)
    assert np.array_equal(extractor(x), expected)
    assert np.allclose(extractor(x[0]), expected[:1], rtol=1e-4, atol=1e-5)
    files = []
    for i, pixels in enumerate(x):
        files.append(str(tmp_path / f"{i}.png"))
        image.fromarray(pixels).save(files[-1])
    assert np.array_equal(extractor(files), expected)
    assert extractor(files[1]).shape == (1, trained.dimension)
    assert np.array_equal(extractor(path for path in files), expected)  # a generator
    pictures = [image.fromarray(pixels) for pixels in x]
    pictures[1].putalpha(128)
    assert np.array_equal(extractor(pictures), expected)
    assert np.array_equal(extractor(pictures[1]), extractor(files[1]))
    assert np.array_equal(extractor(reidc.datasets.Arrays(x, [1, 1, 1]).train.images), expected)
    mixed = extractor([batch(1, 50)[0], pictures[1], files[2]])
    assert np.allclose(mixed[1:], expected[1:], rtol=1e-3, atol=1e-4)
    assert extractor([]).shape == (0, trained.dimension)
    together = extractor(list(x))
    monkeypatch.setattr(reidc.networks, "TOGETHER", 2)  # two pictures, then the third
    assert np.allclose(extractor(list(x)), together, rtol=1e-4, atol=1e-5)
    frame = np.random.default_rng(3).integers(0, 256, (90, 200, 3), dtype=np.uint8)
    boxes = [(3, 5, 40, 80), (100, 0, 200, 90), (60, 7, 61, 9), (3, 5, 40, 80)]  # one batch
    people = extractor([frame[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes])
    assert np.array_equal(people[0], people[3]) and not np.allclose(people[0], people[1])
    for (x0, y0, x1, y1), row in zip(boxes, people):
        one = trained.embed(frame[None, y0:y1, x0:x1].copy(), normalize=False)[0]
        assert np.linalg.norm(row - one) <= 1e-4 * np.linalg.norm(one)
    for call, kind, words in (
            (lambda: extractor("none.png"), FileNotFoundError, "none.png"),
            (lambda: extractor([str(path)]), OSError, "m.safetensors"),
            (lambda: reidc.FeatureExtractor("baseline", path), ValueError, "baseline"),
            (lambda: reidc.FeatureExtractor("mbgn", path, (80, 64)), ValueError, "image_size"),
            (lambda: reidc.FeatureExtractor("mbgn", "none.pth"), FileNotFoundError, "none"),
            (lambda: reidc.FeatureExtractor("osnet", None), ValueError, "osnet"),
            (lambda: reidc.FeatureExtractor("mbgn", path, 256), TypeError, "image_size.*int"),
            (lambda: reidc.FeatureExtractor("mbgn", path, (1, 2, 3)), ValueError, "image_size"),
            (lambda: extractor([1]), TypeError, "images.*int"),
            (lambda: extractor(None), TypeError, "images.*NoneType"),
            (lambda: extractor([pictures[0].convert("F")]), ValueError, "images: .*mode is F"),
            (lambda: reidc.FeatureExtractor("mbgn", 3), TypeError, "model_path: .*got int"),
            (lambda: reidc.FeatureExtractor("mbgn", tmp_path), OSError, "file, got a folder"),
            (lambda: extractor([frame, frame / 255]), TypeError, r"images\[1\].*float64"),
            (lambda: extractor([frame[:, 7:7]]), ValueError, "image 0 is 90 x 0"),
            (lambda: trained.save(tmp_path / "no" / "m.npz"), FileNotFoundError,
             "m.npz.*no folder"),
            (lambda: trained.save(tmp_path / "no" / "m.safetensors"), OSError, "m.safetensors"),
            (lambda: trained.save(path / "m.npz"), OSError, "m.npz.*cannot create"),
            (lambda: reidc.FeatureExtractor("baseline", None, device="gpu"), ValueError,
             "device")):
        with unchanged(trained), pytest.raises(kind, match=words):
            call()
    truncated = tmp_path / "cut.jpg"
    image.fromarray(x[0]).save(truncated, quality=95)
    truncated.write_bytes(truncated.read_bytes()[:-200])
    with pytest.raises(OSError, match="cut.jpg"):
        extractor(str(truncated))
