"""Whole networks as ONNX files: every row of the pages' tables at an eighth of the width, the
defaults also by OpenVINO; each way to export; what the file says of itself."""
import json

import numpy as np
import pages
import pytest
import reidc
import runtimes
import states

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
from reidc.onnx_export import make_model  # noqa: E402

pytestmark = pytest.mark.twin
TOLERANCE = 1e-4
HEIGHTS = {"Baseline": 64, "MFA": 64, "FSAC": 64}  # others 192: parts of 12 rows


def excited(system, **switches):
    switches = {**switches, "height": HEIGHTS.get(system, 192)}
    m = getattr(reidc, system)(5, width=64, width_multiplier=0.125, threads=1, **switches)
    m.load_state_dict(states.excite(m.state_dict()))
    return m


def images(m, count=3, seed=0):
    return states.batch(count, 1, m.height, m.width, seed)[0]


def serialized(m, **more):
    model, _ = make_model(m, onnx, **more)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def stable(m, x):
    """Images whose planes no rounding moves: the embedding of images changed in their last bits
    stays where it is."""
    moved = (x * np.float32(1 + 2e-7)).astype(np.float32)
    same = np.abs(m.embed(moved, normalize=False) - m.embed(x, normalize=False)).max(axis=1)
    return same < 1e-3 * np.abs(m.embed(x, normalize=False)).max(axis=1)


@pytest.mark.parametrize("page", [p for p in pages.ROWS if p.switches.get("height") is None],
                         ids=str)
def test_rows_of_the_tables(page):
    m = excited(page.system, **page.options)
    x = images(m)
    want, kept = m.embed(x, normalize=False), stable(m, x)
    assert kept.sum() >= 2
    both = runtimes.NAMES if not page.options else runtimes.NAMES[:1]
    for name in both:
        run = runtimes.runner(name, serialized(m))
        got = run({"images": x})["embedding"]
        assert got.dtype == np.float32 and got.shape == want.shape
        assert runtimes.apart(got[kept], want[kept]) <= TOLERANCE, name
        one = run({"images": x[:1]})["embedding"]  # the same file, another batch
        assert runtimes.apart(one, got[:1]) <= TOLERANCE, name


@pytest.mark.parametrize("system", ["MBGN", "FSAC", "MFA"])
def test_ways_to_export(system):
    m = excited(system)
    pixels = np.random.default_rng(3).integers(0, 256, (4, m.height, m.width, 3), np.uint8)
    x = images(m, 4)
    for more, feed in ((dict(flip=True), x), (dict(normalize=True), x),
                       (dict(flip=True, normalize=True, fold=False, batch=4), x),
                       (dict(input="uint8", flip=True), pixels)):
        want = m.embed(feed, flip=more.get("flip", False), normalize=more.get("normalize", False))
        for name in runtimes.NAMES:
            got = runtimes.runner(name, serialized(m, **more))({"images": feed})["embedding"]
            assert runtimes.apart(got, want) <= TOLERANCE, (more, name)


def test_unfolded_weights_keep_their_names():
    m = excited("Baseline")
    state = m.state_dict()
    model, moving = make_model(m, onnx, fold=False)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    wanted = {k for k in state if not k.startswith(("classifier", "center"))}
    assert wanted <= set(held) and all((held[k] == state[k]).all() for k in wanted)
    assert moving == ()
    folded = {t.name for t in make_model(m, onnx)[0].graph.initializer}
    assert "backbone.conv1.bias" in folded and "backbone.bn1.running_mean" not in folded


def graph_network():
    """What the systems do not have: shared weights, two layers of one name, a value's own name that
    is a parameter's, a fusion by hand, no batch norm at all behind a convolution."""
    g = reidc.Graph()
    x = g.ibn(g.conv2d(g.input(3, 32, 16), 8, 3, stride=2, padding=1, name="stem"), name="ibn")
    shared = g.parameter("shared", (8, 8, 3, 3), std=0.1)
    conv = dict(kernel=3, stride=1, pad=1, groups=1)
    x = g.leaky_relu(g.batch_norm(g.op("conv2d", [x, shared, None], **conv), name="n"), 0.1)
    y = g.op("conv2d", [x, shared, None], **conv)
    x = g.name(g.add(g.batch_norm(y, name="m"), y), "stem.weight")  # y has two readers
    x = g.avg_pool2d(g.instance_norm(x, name="in"), 2)
    rows = g.op("view", [x], mode=1)
    seen = g.op("attention", [rows, rows, rows], scale=0.2, trans_b=1)
    x = g.op("view", [seen], mode=2, **{"from": 8, "to": 4})
    x = g.dropout(g.mul(x, g.sigmoid(g.channel_max(x))), 0.3)
    z = g.concat([g.mean(x), g.rows(x, 1, 5, "max")])
    return g.build(outputs={"embedding": g.normalize(g.linear(z, 6, name="last"))})


def test_network_of_a_graph(tmp_path):
    m = graph_network()
    for name, array in m.parameters().items():
        array += np.random.default_rng(len(name)).standard_normal(array.shape) * 0.1
    x = images(m, 5)
    for fold in (True, False):
        report = m.export_onnx(tmp_path / "g.onnx", fold=fold)
        assert report["relative_difference"] < TOLERANCE and report["images"] == 3
        data = (tmp_path / "g.onnx").read_bytes()
        assert report["bytes"] == len(data)
        for name in runtimes.NAMES:
            got = runtimes.runner(name, data)({"images": x})["embedding"]
            assert runtimes.apart(got, m.embed(x, normalize=False)) <= TOLERANCE


def test_the_file_says_what_it_is(tmp_path):
    m, path = excited("MFA"), tmp_path / "m.onnx"
    m.export_onnx(path, flip=True)
    model = onnx.load(path)
    said = {p.key: p.value for p in model.metadata_props}
    assert json.loads(said["reidc.contract"]) == {**m.contract, "flip": True}
    assert json.loads(said["reidc.config"]) == m.config
    assert said["reidc.version"] == reidc.__version__
    assert json.loads(said["reidc.export"])["test_flip"] == m.test_flip
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value or d.dim_param for d in shape] == ["N", 3, m.height, m.width]
    assert [o.name for o in model.graph.output] == ["embedding"]
    first = path.read_bytes()
    m.export_onnx(path, flip=True, check=False)
    assert path.read_bytes() == first  # the same network, the same bytes
    m.export_onnx(path, batch=2, input="uint8", normalize=True)
    model = onnx.load(path)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in shape] == [2, m.height, m.width, 3]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_double_networks_are_exported_in_float32(tmp_path):
    m = reidc.Baseline(3, 32, 16, backbone="resnet18", width_multiplier=0.125, precision="float64")
    report = m.export_onnx(tmp_path / "d.onnx")
    assert report["relative_difference"] < TOLERANCE
    types = {t.data_type for t in onnx.load(tmp_path / "d.onnx").graph.initializer}
    assert onnx.TensorProto.DOUBLE not in types


def test_quantized_networks_are_exported_in_float32(tmp_path):
    m = excited("Baseline")
    plain = m.embed(images(m), normalize=False)
    m.quantize(images(m, 8))
    assert m.precision == "int8" and (m.embed(images(m), normalize=False) != plain).any()
    assert m.export_onnx(tmp_path / "q.onnx")["relative_difference"] < TOLERANCE
    run = runtimes.runner("onnxruntime", (tmp_path / "q.onnx").read_bytes())
    assert runtimes.apart(run({"images": images(m)})["embedding"], plain) <= TOLERANCE


def test_a_wrong_file_is_not_written(tmp_path, monkeypatch):
    from reidc import _onnx_parts

    m, path = excited("FSAC"), tmp_path / "m.onnx"
    path.write_bytes(b"before")
    right = _onnx_parts.EMITTERS["relative_attention"]

    def wrong(b, a, xs, shape, name=None):  # the tables change places
        return right(b, {**a, "scale": 1.5 * a["scale"]}, xs, shape, name=name)

    monkeypatch.setitem(_onnx_parts.EMITTERS, "relative_attention", wrong)
    with pytest.raises(NotImplementedError, match="apart"):
        m.export_onnx(path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_planes_that_are_wrong_are_not_written(tmp_path, monkeypatch):
    from reidc import _onnx_parts

    m = excited("MBGN")
    monkeypatch.setattr(_onnx_parts, "start_planes", lambda height: [1, 2, 3, 4])
    with pytest.raises(NotImplementedError, match="cut . of"):
        m.export_onnx(tmp_path / "m.onnx", batch=6)
    assert not list(tmp_path.iterdir())


def test_command(tmp_path, capsys):
    from reidc.__main__ import main

    m = excited("Baseline")
    m.save(tmp_path / "m.safetensors")
    assert main(["export", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "m.onnx"),
                 "--normalize", "--input", "uint8"]) == 0
    said = capsys.readouterr().out
    assert "operation set 17" in said and "onnxruntime" in said
    pixels = np.random.default_rng(0).integers(0, 256, (2, m.height, m.width, 3), np.uint8)
    run = runtimes.runner("onnxruntime", (tmp_path / "m.onnx").read_bytes())
    assert runtimes.apart(run({"images": pixels})["embedding"], m.embed(pixels)) <= TOLERANCE
