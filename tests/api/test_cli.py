"""The command line: exit status, one clear line for what is wrong, files that appear, going on."""
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import reidc
from reidc.__main__ import main

from .command import SMALL, fails, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--data", f"folder:{folder}", "--out", str(place), "--epochs", "1",
                 *SMALL]) == 0
    return place


@pytest.mark.parametrize("command", ["", "demo", "train", "eval", "embed", "cam", "export",
                                     "info", "ablate", "bench"])
def test_help(capsys, command):
    status, out, _ = run(capsys, *command.split(), "--help")
    assert status == 0 and out.startswith(f"usage: reidc {command}".rstrip())


def test_help_loads_little():
    """So that --help answers at once: neither NumPy's users nor Pillow, let alone torch."""
    code = ("import sys; from reidc.__main__ import main; main(['train', '--help']); "
            "print(sorted({m.split('.')[0] for m in sys.modules} & {'PIL', 'torch', 'scipy'}), "
            "[m for m in sys.modules if m.startswith('reidc.')], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.strip() == (
        "[] ['reidc._core', 'reidc._tuned', 'reidc.__main__', 'reidc.cli']")


def test_module_and_version():
    done = subprocess.run([sys.executable, "-m", "reidc", "--version"], capture_output=True,
                          text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, f"reidc {reidc.__version__}")


@pytest.mark.parametrize("words, arguments", [
    ("which command", []),
    ("--data is missing", ["train", "--out", "x"]),
    ("no key 'optimizer.rl'; did you mean 'optimizer.lr'",
     ["train", "--out", "x", "--data", "synthetic:tiny", "--set", "optimizer.rl=1"]),
    ("no 'mbgn-smal'; did you mean 'mbgn-small'",
     ["train", "--out", "x", "--data", "synthetic:tiny", "--recipe", "mbgn-smal"]),
    ("sampler: expected pk", ["train", "--out", "x", "--data", "synthetic:tiny", "--set",
                              "sampler=pkk"]),
    ("--system: expected one of .*mbgn", ["train", "--out", "x", "--data",
                                                  "synthetic:tiny", "--system", "mgn"]),
    ("mbgn has no 'atention'; did you mean 'attention'", ["info", "--system", "mbgn", "--option",
                                                          "atention=cbam"]),
    ("optimizer.lr: expected a number, got 'high'", ["train", "--out", "x", "--data",
                                                     "synthetic:tiny", "--set",
                                                     "optimizer.lr=high"]),
    ("gamma: expected a number, got 'x'", ["train", "--out", "x", "--data", "synthetic:tiny",
                                           "--recipe", "mgaf-duke", "--set", "schedule.gamma=x"]),
    ("attention: expected", ["info", "--system", "mbgn", "--option", "attention=cbm"]),
    ("height, width: expected", ["info", "--system", "mbgn", "--height", "100"]),
    ("name a checkpoint or --system|Name a checkpoint", ["info", "--plan", "4"]),
    ("--training: goes with --plan", ["info", "--training"]),
    ("synthetic: expected key=value", ["train", "--out", "x", "--data", "synthetic:tiny,lvl=1"]),
    ("identities", ["train", "--out", "x", "--data", "synthetic:huge"]),
    ("seed: expected 0 to 2.*got -1", ["train", "--out", "x", "--data", "synthetic:tiny", "--set",
                                       "seed=-1"]),
    ("augment: pad: ", ["train", "--out", "x", "--data", "synthetic:tiny", "--set",
                        "augment.pad=-1"]),
    ("--columns does not go with synthetic", ["train", "--out", "x", "--data", "synthetic:tiny",
                                              "--columns", "path=a"]),
])
def test_wrong_use_is_2(capsys, tmp_path, monkeypatch, words, arguments):
    monkeypatch.chdir(tmp_path)
    fails(capsys, 2, words, *arguments)
    assert os.listdir(tmp_path) == []  # refused before anything was written


@pytest.mark.parametrize("arguments", [
    ["fly"], ["train"], ["embed", "a", "b"], ["train", "--out", "x", "--set", "nothing"],
    ["train", "--out", "x", "--epochs", "0"], ["eval", "x", "--ap", "mean"], ["info", "--nope"],
    ["demo", "--seed", "-1"], ["train", "--out", "x", "--seed", "1.5"],
])
def test_argparse_refusals_are_2(capsys, arguments):
    status, _, err = run(capsys, *arguments)
    assert status == 2 and "error: " in err and "Traceback" not in err


def test_missing_things_are_1(capsys, tmp_path, trained, folder):
    lost = tmp_path / "lost"
    for words, arguments in [
        ("no such file or folder: .*lost", ["train", "--data", lost, "--out", tmp_path / "r"]),
        ("no such folder", ["train", "--data", f"market:{lost}", "--out", tmp_path / "r"]),
        ("no such file", ["train", "--data", f"table:{lost}.csv", "--out", tmp_path / "r"]),
        ("no file .*lost.pth", ["train", "--data", folder, "--out", tmp_path / "r",
                                "--pretrained", f"{lost}.pth"]),
        ("no such run or checkpoint", ["eval", lost]),
        ("has none|it has none", ["eval", tmp_path]),
        ("lost: no such file or folder", ["embed", trained, lost, "-o", tmp_path / "a.npz"]),
        ("no such folder", ["embed", trained, folder, "-o", lost / "a.npz"]),
        ("--json: no such folder", ["eval", trained, "--json", lost / "a.json"]),
        ("-o: no such folder", ["export", trained, "-o", lost / "a.onnx"]),
        ("no checkpoint", ["train", "--out", tmp_path / "none", "--resume"]),
    ]:
        fails(capsys, 1, words, *arguments)
    assert not (tmp_path / "r").exists()
    fails(capsys, 2, "-o: expected a .onnx file", "export", trained, "-o", tmp_path / "a.txt")


def test_foreign_weights_are_1(capsys, tmp_path, folder):
    other = tmp_path / "other.safetensors"
    reidc.Baseline(3, 64, 32, backbone="resnet18", width_multiplier=0.125).save(other)
    fails(capsys, 1, "other.safetensors|backbone", "train", "--data", folder, "--out",
          tmp_path / "r", "--recipe", "mbgn-small", "--pretrained", other)
    weights = tmp_path / "weights.npz"
    np.savez(weights, a=np.zeros(3, np.float32))
    fails(capsys, 1, "without a configuration", "eval", weights, "--data", "synthetic:tiny")
    weights.write_bytes(b"PK\x03\x04 not really")
    fails(capsys, 1, "damaged", "info", weights)


def test_truncated_jpeg_is_1_and_leaves_nothing(capsys, tmp_path, folder, trained):
    source = sorted((folder / "query").iterdir())[0]
    broken = tmp_path / "0001_c1_broken.jpg"
    broken.write_bytes(source.read_bytes()[:700])
    fails(capsys, 1, "0001_c1_broken.jpg", "embed", trained, folder / "query", broken, "-o",
          tmp_path / "out.npz")
    assert sorted(os.listdir(tmp_path)) == [broken.name]


def test_info_reads_a_data_set(capsys, tmp_path, folder):
    status, out, _ = run(capsys, "info", "--data", folder)
    count = sum(len(list((folder / name).iterdir())) for name in ("query", "bounding_box_test",
                                                                  "bounding_box_train"))
    assert status == 0 and f"{count} pictures read: 96 to 96 rows, 32 to 32 columns" in out
    shutil.copytree(folder, tmp_path / "copy")
    source = sorted((tmp_path / "copy" / "query").iterdir())
    for path in source[:2]:
        path.write_bytes(path.read_bytes()[:300])
    _, _, err = run(capsys, "info", "--data", tmp_path / "copy")
    assert source[0].name in err
    fails(capsys, 1, source[1].name, "info", "--data", tmp_path / "copy")
    fails(capsys, 2, "info: --data is missing", "info", "--columns", "path=a")
    assert "train=565" in run(capsys, "info", "--data", "synthetic:tiny")[1]


def test_traceback_on_request(capsys, tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["eval", str(tmp_path / "lost"), "--traceback"])


def test_train_eval_embed_info(capsys, tmp_path, folder, trained):
    assert sorted(os.listdir(trained)) == ["eval.json", "last.safetensors", "metrics.csv",
                                           "metrics.jsonl", "recipe.json", "run.json"]
    recipe, kept = (json.loads((trained / name).read_text()) for name in ("recipe.json",
                                                                          "run.json"))
    assert recipe["options"] == kept["options"] and recipe["options"]["height"] == 96
    status, out, _ = run(capsys, "eval", trained, "--interval", "--json", tmp_path / "e.json")
    assert status == 0 and "mAP" in out and "95 % interval" in out
    saved = json.loads((tmp_path / "e.json").read_text())
    assert saved["mAP"] == json.loads((trained / "eval.json").read_text())["mAP"]
    assert saved["provenance"]["checkpoint"].endswith("last.safetensors")

    pictures = sorted((folder / "query").iterdir())
    target = tmp_path / "out.npz"
    status, out, _ = run(capsys, "embed", trained, folder / "query", pictures[0], "-o", target)
    assert status == 0 and str(target) in out
    with np.load(target) as file:
        embeddings, paths = file["embeddings"], file["paths"]
        contract = json.loads(str(file["contract"]))
    assert [str(p) for p in paths] == [str(p) for p in [*pictures, pictures[0]]]
    assert contract["normalized"] is True and contract["size"] == [96, 32]
    from PIL import Image
    m = reidc.load(trained / "last.safetensors")
    expected = m.embed(np.stack([np.asarray(Image.open(p)) for p in pictures]))
    assert np.allclose(embeddings[:-1], expected, atol=1e-6)
    assert np.array_equal(embeddings[-1], embeddings[0])

    status, out, _ = run(capsys, "info", trained)
    assert status == 0 and "1,180,429 parameters" in out and "num_attention=1" in out
    status, out, _ = run(capsys, "info", trained, "--plan", 8, "--training")
    assert status == 0 and "batch 8, training" in out and "memory: " in out
    status, out, _ = run(capsys, "info")
    assert status == 0 and reidc.config()["cpu"] in out
    status, out, _ = run(capsys, "info", "--recipes")
    assert status == 0 and all(name in out for name in reidc.recipes.names())
    status, out, _ = run(capsys, "info", "--system", "mbgn")
    assert status == 0 and "45,564,979 parameters" in out


def test_cam(capsys, tmp_path, folder, trained):
    """Overlays and maps.npz are grad_cam's; what does not fit is said before anything is there."""
    from PIL import Image

    query = sorted((folder / "query").glob("*.jpg"))
    pictures, out = query[:2], tmp_path / "cams"
    other = tmp_path / "again" / pictures[0].name
    other.parent.mkdir()
    Image.open(pictures[1]).resize((20, 50)).save(other)
    paths = [*map(str, pictures), str(other)]
    status, text, err = run(capsys, "cam", trained, *paths, "-o", out, "--target", "norm")
    assert status == 0 and "3 pictures" in text, err
    m = reidc.load(trained / "last.safetensors")
    kept = np.load(out / "maps.npz")
    arrays = [np.array(Image.open(p)) for p in paths]
    expected = np.concatenate([m.grad_cam(np.stack(arrays[:2]), "norm"),
                               m.grad_cam(arrays[2][None], "norm")])
    assert np.array_equal(kept["maps"], expected) and list(kept["paths"]) == paths
    assert json.loads(str(kept["settings"]))["target"] == "norm"
    assert sorted(os.listdir(out)) == sorted([pictures[0].stem + ".png", pictures[1].stem + ".png",
                                              pictures[0].stem + "-2.png", "maps.npz"])
    mixed = np.array(Image.open(out / f"{pictures[0].stem}.png")).astype(int)
    assert mixed.shape == arrays[0].shape
    assert expected[0].max() > 0.8 and expected[0].min() < 0.1
    bright = 2 * mixed - arrays[0]  # the heat map alone, within rounding
    hot, cold = (bright.reshape(-1, 3)[f(expected[0])] for f in (np.argmax, np.argmin))
    assert hot.sum() > cold.sum() + 100
    for more in ([], ["--target", "3", "--layer", "backbone.layer3"],
                 ["--head", "logits_g"], ["--method", "activation"]):
        status, _, err = run(capsys, "cam", trained, pictures[0], "-o", tmp_path / "more", *more)
        assert status == 0, err
    reference = m.embed(arrays[1][None])[0]
    run(capsys, "cam", trained, paths[0], "-o", out, "--target", f"similar:{paths[1]}")
    assert np.array_equal(np.load(out / "maps.npz")["maps"],
                          m.grad_cam(arrays[0][None], reference))
    none = tmp_path / "none"
    for status, words, arguments in [
        (2, "--target: expected a class", ["--target", "best"]),
        (2, "--target, --head: not with", ["--target", "1", "--method", "activation"]),
        (1, "--target: no such file", ["--target", "similar:nowhere.jpg"]),
        (1, "target: expected classes from 0", ["--target", "900"]),
        (1, "layer: .*'backbone.layer1'", ["--layer", "backbone.layer5"]),
        (1, "head: .*'logits_g'", ["--head", "logit_g"]),
    ]:
        fails(capsys, status, words, "cam", trained, pictures[0], "-o", none, *arguments)
    fails(capsys, 1, "no such file or folder", "cam", trained, "lost.jpg", "-o", none)
    fails(capsys, 2, "expected a folder", "cam", trained, pictures[0], "-o", pictures[0])
    fails(capsys, 1, "no such folder", "cam", trained, pictures[0], "-o", none / "deeper")
    assert not none.exists()


def test_a_run_is_not_overwritten_and_goes_on(capsys, tmp_path, folder):
    place = tmp_path / "run"
    start = ["train", "--data", folder, "--out", place, "--epochs", 1, "--no-test", "--seed", 4,
             *SMALL, "--set", 'schedule={"kind": "constant"}']
    assert run(capsys, *start)[0] == 0
    fails(capsys, 1, "holds a run already: go on with --resume", *start)
    fails(capsys, 2, "leave out --recipe, --seed", "train", "--out", place, "--resume", "--seed",
          1, "--recipe", "mbgn-small")
    fails(capsys, 2, "leave out --precision", "train", "--out", place, "--resume", "--precision",
          "bfloat16")
    status, out, _ = run(capsys, "train", "--out", place, "--resume", "--epochs", 2)
    assert status == 0 and "mAP" in out
    straight = tmp_path / "straight"
    start[start.index("--epochs") + 1], start[start.index(place)] = 2, straight
    assert run(capsys, *start)[0] == 0
    one, two = (reidc.load(p / "last.safetensors").state_dict() for p in (place, straight))
    assert all(np.array_equal(two[k], v) for k, v in one.items())


def test_a_run_goes_on_in_its_own_precision(capsys, tmp_path, folder):
    place = tmp_path / "run"
    start = ["train", "--data", folder, "--out", place, "--epochs", 1, "--no-test", *SMALL]
    assert run(capsys, *start, "--precision", "bfloat16")[0] == 0
    before = reidc.load(place / "last.safetensors")
    status, out, _ = run(capsys, "train", "--out", place, "--resume", "--epochs", 2, "--no-test",
                         "--memory", "low")  # which changes no bit
    after = reidc.load(place / "last.safetensors")
    assert status == 0 and "bfloat16" in out and after.config["settings"]["memory"] == "low"
    assert before.precision == after.precision == "bfloat16" and after.step == 2 * before.step


def test_table_with_its_own_words(capsys, tmp_path, folder):
    """A zip, other column names, other words for the splits, no cameras."""
    import zipfile

    words = {"train": "lernen", "query": "frage", "gallery": "menge"}
    with open(folder / "labels.csv") as file, zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        rows = list(csv.DictReader(file))
        for row in rows:
            archive.write(folder / row["path"], row["path"])
    with open(tmp_path / "list.csv", "w") as file:
        file.write("bild;wer;rolle\n" + "".join(
            f"{r['path']};{r['pid']};{words[r['split']]}\n" for r in rows))
    data = ["--data", f"table:{tmp_path}/list.csv,{tmp_path}/p.zip", "--columns",
            "path=bild,pid=wer,split=rolle,camid=none", "--splits",
            "lernen=train,frage=query,menge=gallery"]
    status, out, err = run(capsys, "train", *data, "--out", tmp_path / "run", "--epochs", 1, *SMALL)
    assert status == 0 and "115 images     12 identities   ? cameras" in out, err
    status, out, _ = run(capsys, "eval", tmp_path / "run")
    assert status == 0 and "mAP" in out
    fails(capsys, 1, "no column 'bld'", "eval", tmp_path / "run", *data[:3], "path=bld,pid=wer")


def test_no_cameras_and_share(capsys, tmp_path, folder):
    import shutil

    flat = tmp_path / "flat"
    flat.mkdir()
    for part in ("bounding_box_train", "query"):
        for path in (folder / part).iterdir():
            shutil.copy(path, flat)
    status, out, err = run(capsys, "train", "--data", f"folder:{flat}", "--test-share", "0.25",
                           "--no-cameras", "--out", tmp_path / "run", "--epochs", 1, *SMALL)
    assert status == 0 and "? cameras" in out, err


def test_ctrl_c_says_how_to_go_on(tmp_path, folder):
    child = subprocess.Popen(
        [sys.executable, "-m", "reidc", "train", "--data", f"folder:{folder}", "--out",
         str(tmp_path / "run"), "--epochs", "3000", "--no-test", *SMALL], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = child.stderr.readline()
    assert first.startswith("epoch"), first + child.stderr.read()
    time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    last = err.splitlines()[-1]
    assert last == ("reidc: stopped; the run is kept: go on with  reidc train --out "
                    f"{tmp_path / 'run'} --resume")
    assert reidc.load(tmp_path / "run" / "last.safetensors").num_classes == 12


def test_a_closed_pipe_is_no_traceback(trained):
    done = subprocess.run(f"{sys.executable} -m reidc info {trained} --plan 2 | head -1",
                          shell=True, capture_output=True, text=True, cwd=ROOT)
    assert "mbgn" in done.stdout and "Traceback" not in done.stderr


def test_readme_script(capsys):
    """The script of the README runs as it stands there."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        script, = re.findall(r"```python\n(.*?)```", file.read(), re.S)
    assert len(script.strip().splitlines()) <= 15
    for word in ("Trainer", "datasets", "Loader"):
        assert word not in script
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = {}
        exec(compile(script, "README.md", "exec"), names)
    assert 0.9 < names["mAP"] <= 1 and 0.9 < names["cmc"][0] <= 1
    assert "mAP" in capsys.readouterr().out


@pytest.mark.slow
def test_quick_demo(tmp_path):
    """Half a minute on two idle cores: it must learn, and every picture must be a picture."""
    from PIL import Image

    done = subprocess.run([sys.executable, "-m", "reidc", "demo", "--quick", "--out",
                           str(tmp_path / "demo")], cwd=ROOT, capture_output=True, text=True,
                          timeout=900)
    assert done.returncode == 0, done.stderr
    table = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert {"untrained", "trained", "colours only (RGB histogram)"} <= set(table)
    for name in ("data.png", "ranking.png", "curve.png"):
        with Image.open(tmp_path / "demo" / name) as picture:
            picture.load()
            assert picture.width > 400 and len(picture.convert("RGB").getcolors(1 << 20)) > 20
    saved = json.loads((tmp_path / "demo" / "eval.json").read_text())
    assert 0 < saved["mAP"] <= 1
    assert reidc.load(tmp_path / "demo" / "mbgn-small.safetensors").dimension == 2304
