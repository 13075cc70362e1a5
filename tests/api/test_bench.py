"""`reidc bench`: what it counts and prints, on networks small enough to be run here. Its peers run
in the twin stage only."""
import json

import numpy as np
import pytest

from reidc.bench import contestants, layers, tables, timing
from reidc.bench.contestants import Case, Setting

from .command import fails, run

SMALL = ["--width-multiplier", "0.125", "--rounds", "2", "--pause", "0", "--threads", "1"]


def test_speed_without_peers(capsys, tmp_path):
    status, out, err = run(capsys, "bench", "--peers", "none", "--systems", "baseline", "--cases",
                           "infer2,train4", "--precisions", "fp32", "--json", tmp_path / "b.json",
                           *SMALL)
    assert status == 0, err
    assert "| Baseline 256×128 | inference, 2 | fp32 |" in out
    assert "| Baseline 256×128 | training step, 4 | fp32 |" in out and "≥ 1.4 |" in out
    record = json.loads((tmp_path / "b.json").read_text())
    assert record["machine"]["threads"] == 1 and record["rounds"] == 2
    assert [(c["training"], c["batch"]) for c in record["cases"]] == [(False, 2), (True, 4)]
    for case in record["cases"]:
        assert len(case["samples"]["reidc"]) == 2 and case["fastest_peer"] is None
        assert case["images_a_second"]["reidc"] * case["seconds"]["reidc"] == pytest.approx(
            case["batch"])


def test_memory_and_layers(capsys, tmp_path):
    status, out, err = run(capsys, "bench", "--memory", "--peers", "none", "--systems", "Baseline",
                           "--cases", "train4", "--precisions", "fp32", "--json",
                           tmp_path / "m.json", *SMALL)
    assert status == 0, err
    normal, low = rows = json.loads((tmp_path / "m.json").read_text())["memory"]
    assert [row["memory"] for row in rows] == ["normal", "low"]
    assert "| Baseline | 4 | fp32 | low |" in out and low["forecast"] < normal["forecast"]
    for row in rows:
        assert 5 < row["forecast"] and 0.3 < row["forecast"] / row["reidc"] < 2
    status, out, err = run(capsys, "bench", "--layers", "--peers", "none", "--systems", "MFA",
                           "--cases", "infer2", "--precisions", "fp32", *SMALL)
    assert status == 0 and "| backbone.conv1 | conv2d | 2x8x128x64 | f32 |" in out, err
    status, out, err = run(capsys, "bench", "--layers", "--systems", "Baseline", "--cases",
                           "train4", "--precisions", "fp32,int8", *SMALL)
    assert status == 0 and "| backward | backbone.conv1 | conv2d | 4x8x128x64 | f32 |" in out, err
    assert "note: left out: int8: for inference only" in err


@pytest.mark.parametrize("batch, precision, size", [
    (2, "fp32", None), (40, "fp32", (64, 32)), (12, "int8", (64, 32))])
def test_layers_are_all_there(batch, precision, size):
    """Of batches, too, that embed takes in parts unless it is told."""
    setting = Setting(1, 0.125, size=size)
    case = Case("Baseline", False, batch, precision)
    m = contestants.ready(case, setting)
    steps = layers.profiled(m, case, 1e11, runs=2)
    assert f": {len(steps)} steps," in m.plan(batch)
    assert sum(s["mmac"] for s in steps) == pytest.approx(batch * m.macs / 1e6, rel=0.02)
    for step in steps:
        if step["share_of_peak"]:
            assert step["share_of_peak"] == pytest.approx(
                2e6 * step["mmac"] / (step["ms"] / 1e3) / 1e11)


def test_ratios_are_of_rounds_and_medians_of_times():
    samples = {"reidc": [(1.0, 2.0), (2.0, 2.0), (4.0, 2.0)],
               "torch literal": [(3.0, 6.0), (2.0, 6.0), (20.0, 6.0)],
               "openvino": [(2.5, 4.0), (2.5, 4.0), (2.5, 4.0)]}
    result = timing.summary(Case("MBGN", False, 8), samples, macs=1e9, peak=1e10)
    assert result["seconds"] == {"reidc": 2.0, "torch literal": 3.0, "openvino": 2.5}
    assert result["ratio"] == {"torch literal": 3.0, "openvino": 1.25}  # of 3, 1, 5; 2.5, 1.25, …
    assert result["fastest_peer"] == "openvino" and result["share_of_peak"] == pytest.approx(0.8)
    line = tables.row(result, ["torch", "onnxruntime", "openvino"], (384, 128))
    assert line == ("| MBGN 384×128 | inference, 8 | fp32 | 4.0 | 80 % | 2.7 literal | – | 3.2 | "
                    "3.00, 1.25 | 1.25 × openvino | PyTorch ≥ 4; all ≥ 1.1 |")
    head = tables.heads(["torch", "onnxruntime", "openvino"]).splitlines()[0]
    assert head.count("|") == line.count("|")


@pytest.mark.parametrize("words, arguments", [
    ("--systems: expected some of Baseline, .* got 'resnet'", ["--systems", "resnet"]),
    ("--cases: expected inferN, train or trainN .*, got 'infer'", ["--cases", "infer"]),
    ("got 'train1'", ["--cases", "train1"]),
    ("--precisions: expected some of fp32, bf16, int8, got 'fp16'", ["--precisions", "fp16"]),
    ("--peers: expected none or some of torch, .* got 'tvm'", ["--peers", "tvm"]),
    ("--twins: no package `twins`", ["--twins", "/nowhere", "--peers", "none"]),
])
def test_wrong_words(capsys, words, arguments):
    fails(capsys, 2, words, "bench", *arguments)


def test_peers_that_are_missing_are_named(capsys, monkeypatch):
    from reidc.bench import command, machine

    monkeypatch.setattr(machine, "installed", lambda: {"openvino": "1"})

    class Wanted:
        peers = None

    assert command.peers_of(Wanted) == ["openvino"]
    err = capsys.readouterr().err
    assert "PyTorch is not installed and is left out" in err and "ONNX Runtime is not" in err


def test_a_peer_that_dies_is_left_out(monkeypatch):
    """The process of a contestant ends: the others' table stands."""
    said = []

    def broken(name, case, setting, folder):
        raise RuntimeError(f"bench: {name} ended without an answer (status -6)")

    monkeypatch.setattr(timing, "Worker", broken)
    with pytest.raises(RuntimeError, match="reidc ended"):
        timing.measure(Case("MFA", False, 1), Setting(1), ["openvino"], None, 1, 0, said.append)

    class Fine:
        def __init__(self, name, *_):
            if name != "reidc":
                broken(name, *_)

        def run(self, steps):
            return 0.5, 1.0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(timing, "Worker", Fine)
    found = timing.measure(Case("MFA", False, 1), Setting(1), ["openvino"], None, 3, 0, said.append)
    assert found == {"reidc": [(0.5, 1.0)] * 3}
    assert said == ["MFA, inference, batch 1, fp32: bench: openvino ended without an answer "
                    "(status -6)"]


def test_integers_run_where_they_are_asked_for():
    case, setting = Case("Baseline", False, 2, "int8"), Setting(1, 0.125)
    assert contestants.ready(case, setting).precision == "int8"
    with pytest.raises(contestants.LeftOut, match="inference only"):
        contestants.ready(case._replace(training=True), setting)


@pytest.mark.twin
def test_every_peer_runs(capsys, tmp_path):
    for package in ("torch", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    status, out, err = run(capsys, "bench", "--systems", "Baseline", "--cases", "infer2,train4",
                           "--precisions", "fp32", "--json", tmp_path / "b.json", *SMALL)
    assert status == 0, err
    infer, train = json.loads((tmp_path / "b.json").read_text())["cases"]
    assert set(infer["ratio"]) == {"torch", "onnxruntime", "openvino"}, err
    assert set(train["ratio"]) == {"torch"}, err


@pytest.mark.twin
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_peers_compute_the_same(precision, tmp_path):
    """What is timed is the embedding: an int8 or bf16 file is near it, not elsewhere."""
    pytest.importorskip("onnxruntime")
    able = pytest.importorskip("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    without_bf16 = {contestants.onnxruntime}
    if "BF16" not in able:
        without_bf16.add(contestants.openvino)
    case, setting = Case("Baseline", False, 4, precision), Setting(1, 0.125)
    plain = contestants.ours(case._replace(precision="fp32"), setting)()
    bound = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.25}[precision]
    for make in (contestants.openvino, contestants.onnxruntime):
        if precision == "bf16" and make in without_bf16:
            with pytest.raises(contestants.LeftOut, match="no bf16"):
                make(case, setting, tmp_path)
            continue
        got = make(case, setting, tmp_path)()
        apart = np.linalg.norm(got - plain, axis=1) / np.linalg.norm(plain, axis=1)
        assert apart.max() <= bound, (make.__name__, apart)
        assert precision == "fp32" or apart.max() > 1e-4
