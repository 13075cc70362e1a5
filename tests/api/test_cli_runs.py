"""`reidc train --validation`, `--seeds` and `reidc compare`: files, numbers, going on, refusals."""
import json
import os
import shutil

import numpy as np
import pytest

import reidc
from reidc.__main__ import main
from reidc.trainer import Trainer

from . import command
from .command import fails, run
from .tools import same

SMALL = [*command.SMALL, "--epochs", "1"]


@pytest.fixture(scope="module")
def seeds(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "three"
    assert main(["train", "--data", f"folder:{folder}", "--out", str(place), "--seeds", "2",
                 "--seed", "5", *SMALL]) == 0
    return place


def state(run):
    return reidc.load(run / "last.safetensors").state_dict()


def test_validation(capsys, tmp_path, folder):
    place = tmp_path / "run"
    start = ["train", "--data", folder, "--out", place, *SMALL, "--validation", "0.25", "--set",
             "evaluate_every=1", "--epochs", 2, "--set", 'schedule={"kind": "constant"}']
    status, out, _ = run(capsys, *start)
    assert status == 0 and "chosen by the validation: epoch" in out and "held out" in out
    assert {"best.safetensors", "last.safetensors", "eval.json"} <= set(os.listdir(place))
    assert reidc.load(place / "best.safetensors").num_classes == 9
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    saved = json.loads((place / "eval.json").read_text())
    best = max(rows, key=lambda row: row["val_mAP"])
    assert saved["provenance"]["training"]["epoch"] == best["epoch"]
    status, out, _ = run(capsys, "eval", place, "--json", tmp_path / "e.json")
    again = json.loads((tmp_path / "e.json").read_text())
    assert status == 0 and again["mAP"] == saved["mAP"]
    assert again["provenance"]["checkpoint"].endswith("best.safetensors")
    fails(capsys, 2, "leave out --validation", "train", "--out", place, "--resume", "--validation")
    assert run(capsys, "train", "--out", place, "--resume", "--epochs", 3)[0] == 0
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and all("val_mAP" in row for row in rows)


def test_validation_that_cannot_be(capsys, tmp_path, folder):
    start = ["train", "--data", folder, "--out", tmp_path / "run", *SMALL]
    fails(capsys, 2, "needs evaluate_every of 1 or more", *start, "--validation", "0.25")
    every = ["--set", "evaluate_every=1"]
    status, _, err = run(capsys, *start, *every, "--validation", "val")  # argparse's own words
    assert status == 2 and "expected a share" in err and "Traceback" not in err
    fails(capsys, 2, "share between 0 and 1", *start, *every, "--validation", "1.5")
    fails(capsys, 1, "expected 2 to 10 of the 12", *start, *every, "--validation", "11")
    fails(capsys, 1, "no validation pictures of its own", *start, *every, "--validation")
    assert os.listdir(tmp_path) == []


def test_several_seeds(capsys, seeds, folder, tmp_path):
    assert sorted(os.listdir(seeds)) == ["compare.json", "seed5", "seed6", "seeds.json"]
    assert not same(state(seeds / "seed5"), state(seeds / "seed6"))
    start = ["train", "--data", folder, "--out", tmp_path / "one", "--seed", 6, *SMALL]
    assert run(capsys, *start)[0] == 0
    assert same(state(tmp_path / "one"), state(seeds / "seed6"))  # as on its own
    fails(capsys, 1, "holds runs already", "train", "--data", folder, "--out", seeds, "--seeds", 2)
    fails(capsys, 1, "holds a run already", "train", "--data", folder, "--out", tmp_path / "one",
          "--seeds", 2, *SMALL)
    status, out, err = run(capsys, "train", "--out", seeds, "--resume")
    assert status == 0 and err.count("done before") == 2 and "±" in out
    fails(capsys, 2, "leave out --seeds, --seed|leave out --seed, --seeds", "train", "--out", seeds,
          "--resume", "--seeds", 3, "--seed", 1)


def test_several_seeds_go_on_run_by_run(capsys, seeds, folder, tmp_path, monkeypatch):
    place, own, calls = tmp_path / "runs", Trainer.fit, []

    def fit(self, *arguments, **options):
        calls.append(self.run_dir)
        if len(calls) == 2:  # Ctrl-C in the second run, before its first step is done
            os.makedirs(self.run_dir, exist_ok=True)
            self.save()
            raise KeyboardInterrupt
        return own(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", fit)
    start = ["train", "--data", folder, "--out", place, "--seeds", 2, "--seed", 5, *SMALL]
    status, _, err = run(capsys, *start)
    assert status == 130 and f"reidc train --out {place} --resume" in err
    status, _, err = run(capsys, "train", "--out", place, "--resume")
    assert status == 0 and err.count("done before") == 1 and calls[1] == calls[2]
    for name in ("seed5", "seed6"):
        assert same(state(place / name), state(seeds / name))
    shutil.rmtree(place / "seed6")  # a run that had not begun
    assert run(capsys, "train", "--out", place, "--resume", "--threads", 1)[0] == 0
    assert same(state(place / "seed6"), state(seeds / "seed6"))


def test_compare(capsys, seeds, tmp_path, folder):
    other = tmp_path / "other"
    start = ["train", "--data", f"folder:{folder}", "--out", other, *SMALL, "--set",
             "optimizer.lr=0.001"]
    assert run(capsys, *start)[0] == 0
    status, out, _ = run(capsys, "compare", seeds, other, "--json", tmp_path / "c.json")
    assert status == 0 and "optimizer.lr=0.004" in out and "optimizer.lr=0.001" in out
    assert out.count("±") >= 3 and "seed 5: eval.json; seed 6: eval.json" in out
    result = json.loads((tmp_path / "c.json").read_text())
    assert result == reidc.compare([seeds, other])
    first, second = result["groups"]
    maps = [json.loads((seeds / f"seed{s}" / "eval.json").read_text())["mAP"] for s in (5, 6)]
    assert first["seeds"] == [5, 6] and first["metrics"]["mAP"]["values"] == maps
    assert first["metrics"]["mAP"]["mean"] == pytest.approx(np.mean(maps), rel=1e-12)
    assert first["metrics"]["mAP"]["std"] == pytest.approx(np.std(maps, ddof=1), rel=1e-9)
    assert second["differs"] == {"optimizer.lr": 0.001} and second["seeds"] == [0]
    assert second["metrics"]["mAP"]["std"] is None
    assert reidc.compare([seeds / "seed5", seeds]) == reidc.compare(seeds)  # each run once
    assert json.loads((seeds / "compare.json").read_text())["groups"][0]["metrics"] == \
        first["metrics"]


def test_compare_of_runs_from_python(tmp_path, seeds):
    """Without eval.json: the last epoch of the metrics that was tested."""
    for seed, score in ((0, 0.5), (1, 0.7), (10, 0.6)):
        place = tmp_path / f"seed{seed}"
        place.mkdir()
        recipe = json.loads((seeds / "seed5" / "recipe.json").read_text())
        (place / "recipe.json").write_text(json.dumps({**recipe, "seed": seed}))
        rows = [{"epoch": 1, "mAP": score, "rank1": score, "mINP": score}, {"epoch": 2}]
        (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (group,) = reidc.compare(tmp_path)["groups"]
    assert group["seeds"] == [0, 1, 10] and group["name"] == str(tmp_path)
    assert group["sources"] == ["metrics.jsonl, epoch 1"] * 3
    assert group["metrics"]["mAP"]["std"] == pytest.approx(0.1)
    assert "rank-5" not in group["metrics"]


def test_what_compare_refuses(capsys, tmp_path):
    fails(capsys, 1, "no such run or folder", "compare", tmp_path / "lost")
    fails(capsys, 1, "neither a run nor a folder that holds runs", "compare", tmp_path)
    (tmp_path / "run").mkdir()
    recipe = reidc.recipes.get("mbgn-small")
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(recipe))
    fails(capsys, 1, "was never tested", "compare", tmp_path)
    (tmp_path / "run" / "eval.json").write_text("{")
    fails(capsys, 1, "eval.json: cannot be read", "compare", tmp_path)
    with pytest.raises(ValueError, match="at least one"):
        reidc.compare([])
