"""Tuning tables: what they choose, how they are read; `reidc bench --tune`, which writes them."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reidc
from reidc import _core, _tuned
from reidc.bench import tune
from reidc.bench.contestants import Case, Setting

from .command import fails, run

VERSION = reidc.__version__
ROOT = Path(reidc.__file__).parent.parent
LAYER = (64, 32, 8, 8, 3, 3, 1, 1, 1)  # 3x3 of SMALL's first stage, without the batch
SMALL = {"width_multiplier": 0.125, "seed": 1}


@pytest.fixture(autouse=True)
def restored():
    """The rule before and after, as tests/conftest.py wants it."""
    yield
    _tuned.load(VERSION)
    assert _core.config()["convolutions"] == "a rule (REIDC_TUNE=0)"


def kernels(which, batch, bf16=False):
    """(the rule's, another) of LAYER."""
    _core._tune_set(None, "the rule")
    found = _core._conv_kernels(which, (batch, *LAYER), bf16)
    assert len(found) >= 2
    return found[0], found[1]


def entry(kernel, batch):
    return f"{kernel} {batch} {' '.join(map(str, LAYER))}\n"


def table(*entries):
    return tune.head(VERSION) + "".join(entries)


def put(text):
    return _core._tune_set(text, "this test's table", VERSION)


def used(m, batch, training=False):
    """{pass: kernel} of LAYER in a plan."""
    return {tune.part_of(kernel)[1]: kernel
            for kernel, shape, _, _ in m._convolutions(batch, training)
            if shape == (batch, *LAYER)}


def images(batch, m):
    return np.random.RandomState(0).standard_normal(
        (batch, 3, m.height, m.width)).astype(np.float32)


# ---- what a table does --------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_a_table_chooses_and_the_plan_says_so(training):
    passes = ("fwd", "bwd_x", "bwd_w") if training else ("fwd",)
    rule, other = zip(*(kernels(which, 4) for which in passes))
    assert put(table(*(entry(kernel, 4) for kernel in other))) == (0, "")
    m = reidc.Baseline(10, **SMALL)
    assert used(m, 4, training) == dict(zip(passes, other))
    text = m.plan(4, training=training)
    head, *steps = text.splitlines()
    assert head.endswith(f"convolutions by this test's table, {len(other)} choices")
    for kernel in other:
        assert any(f" {kernel} " in line for line in steps)
    assert _core.config()["convolutions"] == f"this test's table, {len(other)} choices"
    _core._tune_set(None, "the rule")
    again = reidc.Baseline(10, **SMALL)
    assert used(again, 4, training) == dict(zip(passes, rule))
    assert again.plan(4, training=training).splitlines()[0].endswith("convolutions by the rule")


def step(m, x):
    """Embeddings, a training step's losses and what it leaves, as one dict of arrays."""
    found = {"embeddings": m.embed(x)}
    found["total"] = np.float64(m.train_step(x, [0, 0, 1, 1], reidc.SGD(m, 0.1))["total"])
    return {**found, **m.state_dict()}


def test_either_choice_is_right_and_bits_do_not_depend_on_threads():
    others = [kernels(which, 4)[1] for which in ("fwd", "bwd_x", "bwd_w")]
    found = {}
    for words in ("rule", "table"):
        _core._tune_set(None, "the rule")
        if words == "table":
            put(table(*(entry(kernel, 4) for kernel in others)))
        for threads in (1, 2, 3):
            m = reidc.Baseline(10, threads=threads, **SMALL)
            found[words, threads] = step(m, images(4, m))
    for words in ("rule", "table"):
        for threads in (2, 3):
            for key, value in found[words, threads].items():
                assert np.array_equal(value, found[words, 1][key]), (words, threads, key)
    rule, other = found["rule", 1], found["table", 1]
    for key, most in ("embeddings", 1e-5), ("total", 1e-4):  # as far as rounding goes
        apart = np.linalg.norm(rule[key] - other[key]) / np.linalg.norm(rule[key])
        assert 0 < apart < most, (key, apart)


def test_a_plan_keeps_the_kernels_that_it_was_made_with():
    rule, other = kernels("fwd", 2)
    m = reidc.Baseline(10, **SMALL)
    before = m.embed(images(2, m), batch_size=2)
    put(table(entry(other, 2)))
    assert used(m, 2) == {"fwd": rule} and used(m, 3) == {"fwd": other}
    assert np.array_equal(before, m.embed(images(2, m), batch_size=2))


def test_the_nearest_batch_decides():
    rule, other = kernels("fwd", 8)
    put(table(entry(other, 2), entry(rule, 16)))
    for batch, wanted in ((1, other), (2, other), (5, other), (6, rule), (16, rule), (99, rule)):
        assert _core._conv_kernels("fwd", (batch, *LAYER))[0] == wanted, batch
    assert _core._conv_kernels("fwd", (2, 32, *LAYER[1:]))[0] == rule  # another layer
    bf16 = kernels("fwd", 2, True)
    put(table(entry(other, 2)))
    assert _core._conv_kernels("fwd", (2, *LAYER), True)[0] == bf16[0]


# ---- reading ------------------------------------------------------------------------------------


def test_entries_that_cannot_be_used_are_named():
    rule, other = kernels("fwd", 2)
    ignored, notes = put(table("rc_f32_conv2d_fwd_magic__avx9 2 8 8 8 8 3 3 1 1 1\n",
                               entry(other, 2),
                               f"{rule} 2 64 32 8 8 3 3 2 1 1  # stride 2\n"))
    assert ignored == 2
    first, second = notes.split("; ")
    assert first == "line 4: rc_f32_conv2d_fwd_magic__avx9: no such kernel here"
    assert second.startswith(f"line 6: {rule}: not 3x3, stride 1")
    assert _core._conv_kernels("fwd", (2, *LAYER))[0] == other
    ignored, notes = put(table(*["rc_f32_magic 2 8 8 8 8 3 3 1 1 1\n"] * 500))
    assert ignored == 500 and len(notes) < 1024


@pytest.mark.parametrize("text, words", [
    ("", "expected a tuning table, which begins 'reidc-tune 1'"),
    ("{}", "expected a tuning table"),
    ("reidc-tune 2\n", "expected a tuning table"),
    ("reidc-tune 1\n", "line 1: expected 'version …'"),
    ("reidc-tune 1\nversion 0.0.1\ncpu x\n",
     "measured with reidc 0.0.1, this is .*--tune` measures"),
    (f"reidc-tune 1\nversion {VERSION}\n", "line 2: expected 'cpu …'"),
    (f"reidc-tune 1\nversion {VERSION}\ncpu AuthenticXYZ-1-1-avx2\n",
     "on another CPU: expected .*, got AuthenticXYZ-1-1-avx2"),
    (table("rc_f32_conv2d_fwd_6x16__avx2 1 2 3\n"),
     "line 4: expected a kernel and n h w c k kh kw"),
    (table("\n# x\nx 1 8 8 8 8 3 3 1 1 1 1\n"), "line 6: expected a kernel"),
    (table("x 0 8 8 8 8 3 3 1 1 1\n"), "line 4: expected a kernel"),
    (table("x 1 8 8 8 8 3 3 0 1 1\n"), "line 4: expected a kernel"),
    (table("x 1 8 8 8 8 3 3 1 1 99999999999\n"), "line 4: expected a kernel"),
    (table("x" * 400), "line 4: too long for an entry"),
])
def test_what_is_no_table_changes_nothing(text, words):
    _, other = kernels("fwd", 2)
    put(table(entry(other, 2)))
    with pytest.raises(reidc.ArgumentError, match=f"^another: .*{words}"):
        _core._tune_set(text, "another", VERSION)
    assert _core._conv_kernels("fwd", (2, *LAYER))[0] == other


def imported(code="print(reidc.config()['convolutions'])", **environment):
    """(what it prints, what it warns of) in a process of its own."""
    done = subprocess.run([sys.executable, "-c", "import reidc\n" + code], capture_output=True,
                          text=True, timeout=60, cwd=ROOT,
                          env={**{k: v for k, v in os.environ.items() if k != "REIDC_TUNE"},
                               **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_the_users_own_table_is_read_at_import(tmp_path):
    model = reidc.config()["cpu_model"]
    place = tmp_path / "reidc" / "tune" / f"{model}.txt"
    place.parent.mkdir(parents=True)
    _, other = kernels("fwd", 2)
    place.write_text(table(entry(other, 2)))
    assert imported(XDG_CACHE_HOME=str(tmp_path)) == (f"user table {place}, 1 choices", "")
    said, _ = imported(XDG_CACHE_HOME=str(tmp_path), REIDC_TUNE="0")
    assert said == "a rule (REIDC_TUNE=0)"
    said, _ = imported(XDG_CACHE_HOME="relative")  # to be passed over, says its specification
    assert str(place) not in said
    place.rename(tmp_path / "t.txt")
    without, err = imported(XDG_CACHE_HOME=str(tmp_path))
    assert without in ("a rule (unmeasured on this CPU)",) or without.startswith(
        f"shipped table for {model}, ") and not err
    said, err = imported(REIDC_TUNE=str(tmp_path / "t.txt"))
    assert said == f"user table {tmp_path / 't.txt'}, 1 choices" and not err


@pytest.mark.parametrize("content, words", [
    (None, "cannot be read: No such file or directory; not used"),
    (b"\xff\xfe\0", "expected a tuning table, it is no text; not used"),
    (b"{'half': ", "expected a tuning table, which begins"),
    (table().encode().replace(b"cpu ", b"cpu not-"), "on another CPU"),
    (table("rc_f32_magic 2 8 8 8 8 3 3 1 1 1\n").encode(),
     "1 entries are not used: line 4: rc_f32_magic: no such kernel here"),
])
def test_a_table_that_is_wrong_is_a_warning(tmp_path, content, words):
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    said, err = imported(REIDC_TUNE=str(path))
    assert words in err and err.count("RuntimeWarning") == 1 and str(path) in err
    assert ("0 choices" in said) == (b"magic" in (content or b""))


def test_shipped_tables_can_be_read_on_their_cpus():
    """On any machine: the head, each line; on theirs all kernels are there."""
    here = reidc.config()["cpu_model"]
    for path in Path(_tuned.SHIPPED).glob("*.txt"):
        text = path.read_text()
        assert f"\ncpu {path.stem}\n" in text
        ignored, notes = _core._tune_set(text.replace(f"\ncpu {path.stem}\n", f"\ncpu {here}\n"),
                                         path.name)
        assert path.stem != here or ignored == 0, notes


# ---- reidc bench --tune -------------------------------------------------------------------------

QUICK = ["--width-multiplier", "0.125", "--rounds", "2", "--pause", "0", "--threads", "1"]


def test_tune_writes_a_table_that_holds(capsys, tmp_path):
    out_file, numbers = tmp_path / "t.txt", tmp_path / "t.json"
    status, out, err = run(capsys, "bench", "--tune", "--quick", "--systems", "baseline",
                           "--cases", "infer2,train4", "--precisions", "fp32,bf16,int8", "--out",
                           out_file, "--json", numbers, *QUICK)
    assert status == 0, err
    assert err.count("left out") == 1 and "int8: one kernel for every convolution" in err
    rows = [line for line in out.splitlines() if line.startswith(("| f32", "| bf16"))]
    results = json.loads(numbers.read_text())["tune"]
    assert len(rows) == len(results) == 2 * (4 + 3 * 4)  # per element: 4 shapes; and 3 passes
    assert f"written: {out_file}: {len(results)} entries" in out
    for found in results:
        assert found["chosen"] in found["samples"] and len(found["samples"]) >= 2
        assert all(len(s) == 2 and min(s) > 0 for s in found["samples"].values())
    assert put(out_file.read_text()) == (0, "")
    for found in results:
        shape = tuple(found["shape"])
        names = _core._conv_kernels(found["pass"], shape, found["element"] == "bf16")
        assert names[0] == found["chosen"]
    # what was measured elsewhere stays; what is measured again is replaced
    other = entry(kernels("fwd", 77)[1], 77)
    out_file.write_text(out_file.read_text() + other)
    status, out, err = run(capsys, "bench", "--tune", "--quick", "--systems", "baseline",
                           "--cases", "infer2", "--out", out_file, *QUICK)
    assert status == 0 and f"{len(results) + 1} entries; of 4 measured now" in out, err
    assert other in out_file.read_text()


def test_tune_of_other_pictures(capsys, tmp_path):
    out_file = tmp_path / "t.txt"
    words = ["bench", "--tune", "--quick", "--systems", "baseline", "--cases", "infer2", *QUICK]
    status, _, err = run(capsys, *words, "--size", "96x32", "--out", out_file)
    assert status == 0, err
    shapes = {shape[:3] for _, shape in tune.lines_of(out_file.read_text())}
    assert shapes == {(2, 24, 8), (2, 12, 4), (2, 6, 2)}
    fails(capsys, 1, "height", *words, "--size", "0x32", "--out", out_file)
    status, _, err = run(capsys, *words, "--size", "96")
    assert status == 2 and "--size: expected HEIGHTxWIDTH, as 384x128, got '96'" in err
    fails(capsys, 2, "--size: goes with --tune or --layers", "bench", "--size", "96x32")


def test_tune_goes_to_the_users_place(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, out, err = run(capsys, "bench", "--tune", "--quick", "--systems", "baseline",
                           "--cases", "infer1", *QUICK)
    place = tmp_path / "reidc" / "tune" / f"{reidc.config()['cpu_model']}.txt"
    assert status == 0 and f"written: {place}" in out, err
    assert imported(XDG_CACHE_HOME=str(tmp_path))[0].startswith(f"user table {place}, ")


def test_nothing_is_written_on_failure(capsys, tmp_path, monkeypatch):
    words = ["bench", "--tune", "--quick", "--systems", "baseline", "--cases", "infer1", *QUICK]
    something = tmp_path / "notes.md"
    something.write_text("# mine\n")
    fails(capsys, 1, "expected a tuning table", *words, "--out", something)
    assert something.read_text() == "# mine\n"
    fails(capsys, 1, "--out: no such folder", *words, "--out", tmp_path / "no" / "t.txt")
    fails(capsys, 2, "--out: goes with --tune", "bench", "--out", tmp_path / "t.txt")

    def broken(self):
        raise reidc.InternalError("a step that fails")

    monkeypatch.setattr(tune.Runner, "run", broken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fails(capsys, 1, "a step that fails", *words)
    fails(capsys, 1, "a step that fails", *words, "--out", tmp_path / "t.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.md"]
    old = tmp_path / "old.txt"
    old.write_text(table().replace(VERSION, "0.0.1"))
    fails(capsys, 1, "a step that fails", *words, "--out", old)
    assert old.read_text() == table().replace(VERSION, "0.0.1")


def test_a_table_of_another_version_is_written_anew(capsys, tmp_path):
    old = tmp_path / "old.txt"
    old.write_text(table().replace(VERSION, "0.0.1"))
    status, out, err = run(capsys, "bench", "--tune", "--quick", "--systems", "baseline",
                           "--cases", "infer1", "--out", old, *QUICK)
    assert status == 0 and "measured with reidc 0.0.1" in err and "it is written anew" in err
    assert f"\nversion {VERSION}\n" in old.read_text()


def test_the_rule_stays_unless_another_is_clearly_faster():
    key = ("f32", "fwd"), (1, *LAYER)

    def chosen(rule, other):
        return tune.summary(key, {"rc_f32_conv2d_fwd_a__x": rule,
                                  "rc_f32_conv2d_fwd_b__x": other})["chosen"]

    assert chosen([1.0] * 4, [0.99] * 4).endswith("_a__x")
    assert chosen([1.0] * 4, [0.9] * 4).endswith("_b__x")
    assert chosen([1.0, 1.0, 0.8, 0.8, 0.8], [0.9] * 5).endswith("_a__x")
    assert chosen([1.0, 1.0, 1.0, 0.85, 0.85], [0.9] * 5).endswith("_a__x")  # three of five
    assert chosen([1.0, 1.0, 1.0, 1.0, 0.85], [0.9] * 5).endswith("_b__x")


def test_a_batch_that_embed_takes_in_parts():
    runner = tune.Runner(Case("Baseline", False, 40), Setting(1, 0.125, size=(64, 32)), None)
    found = runner.run()
    assert {shape[0] for _, shape in found} == {40} and min(found.values()) > 0


def test_times_are_of_all_layers_of_a_shape():
    case, setting = Case("Baseline", False, 2), Setting(1, 0.125)
    runner = tune.Runner(case, setting, None)
    found = runner.run()
    assert set(found) == set(runner.kernels)
    assert (("f32", "fwd"), (2, *LAYER)) in found and min(found.values()) > 0
    of_layer = [row for row in runner._convolutions() if row[1] == (2, *LAYER)]
    assert len(of_layer) == 3  # ResNet-50's first stage
    assert len(tune.candidates(runner)) == 4
