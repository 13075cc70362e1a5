"""`export_onnx` where onnx is not installed, and arguments that cannot be meant (no file changes).
What the files compute: tests/export."""
import sys

import pytest
import reidc

from .command import fails


@pytest.fixture(scope="module")
def m():
    return reidc.Baseline(3, 32, 16, backbone="resnet18", width_multiplier=0.125, threads=1)


def test_without_onnx(m, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"onnx: pip install 'reidc\[export\]'"):
        m.export_onnx(tmp_path / "m.onnx")
    m.save(tmp_path / "m.safetensors")
    fails(capsys, 1, r"reidc\[export\]", "export", tmp_path / "m.safetensors", "-o",
          tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.twin
def test_without_a_runtime_it_is_said(m, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.warns(UserWarning, match="onnxruntime is not installed"):
        report = m.export_onnx(tmp_path / "m.onnx")
    assert report["runtime"] is None and (tmp_path / "m.onnx").stat().st_size == report["bytes"]


@pytest.mark.parametrize("error, words, wrong", [
    (TypeError, "flip: expected True or False, got 1", dict(flip=1)),
    (TypeError, "normalize: expected True", dict(normalize=None)),
    (TypeError, "fold: expected True", dict(fold="yes")),
    (TypeError, "check: expected True", dict(check=0)),
    (TypeError, "batch: expected None .any. or a number of images, got 2.5", dict(batch=2.5)),
    (ValueError, "batch: expected 1 or more, got 0", dict(batch=0)),
    (ValueError, "input: expected 'float32' or 'uint8', got 'int8'", dict(input="int8")),
])
def test_wrong_arguments(m, tmp_path, error, words, wrong):
    with pytest.raises(error, match=words):
        m.export_onnx(tmp_path / "m.onnx", **wrong)
    assert not list(tmp_path.iterdir())


def test_wrong_places(m, tmp_path, capsys):
    with pytest.raises(TypeError):
        m.export_onnx(None)
    fails(capsys, 1, "no such folder", "export", "x", "-o", tmp_path / "no" / "m.onnx")
    fails(capsys, 1, "no such run or checkpoint", "export", tmp_path / "x", "-o",
          tmp_path / "m.onnx")


def test_links_name_the_inputs(m):
    """What a file is made from: `graph()` says which node or parameter each input is."""
    nodes, state = m.graph(), m.state_dict()
    for i, node in enumerate(nodes):
        assert len(node["links"]) == len(node["inputs"])
        for link, name in zip(node["links"], node["inputs"]):
            if isinstance(link, str):
                assert link == name and link in state
            elif link is None or link < 0:
                assert name in (None, "images", "labels")
            else:
                assert link < i and nodes[link]["name"] == name
