"""Ablations: claims of order on made-up numbers, rows that coincide, a run that is stopped and gone
on with, what the command says."""
import json
import os
import signal

import numpy as np
import pytest
import reidc
from reidc import ablation_report, ablations, recipes
from reidc.__main__ import main
from reidc.ablation_tables import CROSS, Row, Table

TINY = [("identities", 4), ("images", 2), ("sampler", "once")]
SPEC = "synthetic:10,cameras=3,height=96,width=32"


@pytest.fixture(scope="module")
def data():
    return reidc.datasets.Synthetic(10, cameras=3, height=96, width=32)


def run(data, folder, **options):
    options = {"rows": ["baseline", "aabs"], "epochs": 1, "settings": TINY, **options}
    return ablations.run("mbgn", data, folder, log=lambda line: None, **options)


# ---- claims ------------------------------------------------------------------------------------


def test_ratio_is_over_the_combined_deviation():
    a, b = [50.0, 52.0, 54.0], [57.0, 58.0, 59.0]  # deviations 2 and 1
    assert ablation_report.ratio(a, b) == pytest.approx(6 / np.sqrt(5))
    assert ablation_report.ratio(b, a) == pytest.approx(-6 / np.sqrt(5))
    assert ablation_report.ratio([50.0], b) is None and ablation_report.ratio(a, [57.0]) is None
    assert ablation_report.ratio([5.0, 5.0], [5.0, 5.0]) == 0
    assert ablation_report.ratio([5.0, 5.0], [6.0, 6.0]) > 1e6


@pytest.mark.parametrize("a, b, direction, expected", [
    ([50, 52, 54], [57, 58, 59], 1, "agrees"),  # 6 / 2.236 = 2.68
    ([50, 52, 54], [57, 58, 59], -1, "does not"),
    ([57, 58, 59], [50, 52, 54], -1, "agrees"),
    ([50, 52, 54], [55.4, 56.4, 57.4], 1, "not decided"),  # 4.4 / 2.236 = 1.97
    ([50, 52, 54], [55.5, 56.5, 57.5], 1, "agrees"),  # 4.5 / 2.236 = 2.01
    ([50], [90], 1, "not decided"),  # one seed decides nothing
    ([50, 51], [90], 1, "not decided"),
])
def test_verdicts(a, b, direction, expected):
    assert ablation_report.verdict(direction, a, b) == expected


def made_up(rows, **runs):
    """An Ablation of one table with given mAP in per cent; rank-1 is 10 more."""
    recipe = {"epochs": 1, "identities": 4, "images": 2, "options": {}}
    found = ablation_report.Ablation("mbgn", (Table("1", "made up", tuple(rows)),),
                                     {"scale": "small", "recipe": recipe, "data": "none"}, 50)
    for key, values in runs.items():
        for seed, value in enumerate(values):
            found.add(key, {"mAP": value / 100, "rank1": value / 100 + 0.1, "mINP": 0.1,
                            "id": 1.0, "seed": seed, "parameters": 10, "inference": 9,
                            "seconds": 2.0})
    return found


def test_claims_of_a_table():
    market, duke = "Market-1501", "DukeMTMC-reID"
    rows = [Row("a", "A", {}, {market: (80.0, 60.0), duke: (70.0, 50.0), CROSS[0]: (30.0, 10.0)}),
            Row("b", "B", {}, {market: (85.0, 66.0), duke: (71.0, 52.5), CROSS[0]: (29.0, 12.0)}),
            Row("c", "C", {}, {market: (79.0, 61.0), duke: (69.0, 49.0), CROSS[0]: (29.0, 12.0)}),
            Row("d", "D", {}, {market: (90.0, None), duke: "lost; above B", CROSS[0]: "lost"}),
            Row("e", "E", {}, {market: "lost", duke: "lost", CROSS[0]: (1.0, 1.0)})]
    found = made_up(rows, a=(20, 21, 22), b=(25, 26, 27), c=(10, 11, 12), d=(10, 20, 30), e=(5, 5))
    table, = found.tables
    assert [found.against_first(table, row) for row in rows] == [
        "", "agrees", "paper: both ways", "not decided", "paper: lost"]
    pairs = found.pairs(table, market)
    assert [pair[:3] for pair in pairs] == [
        ("a", "b", "mAP"), ("a", "c", "mAP"), ("a", "d", "rank1"), ("b", "c", "mAP"),
        ("b", "d", "rank1"), ("c", "d", "rank1")]  # rank-1 where a row has no mAP
    assert [pair[-1] for pair in pairs] == ["agrees", "does not", "not decided", "agrees",
                                            "not decided", "not decided"]
    assert pairs[0][3:5] == (6.0, pytest.approx(5 / np.sqrt(2)))
    text = found.markdown()
    assert "Market-1501: 2 of 6 agree, 1 do not, 3 not decided" in text
    assert "DukeMTMC-reID: 3 of 3 agree, 0 do not, 0 not decided" in text
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert lines[0] == ["row", market, "Δ", duke, "Δ", CROSS[0], "Δ", "ours", "ours", "Δ", "Δ/s",
                        "order", "parameters, paper", "ours", "seconds"]
    assert lines[3] == ["B", "85.0 / 66.0", "+5.0 / +6.0", "71.0 / 52.5", "+1.0 / +2.5",
                        "29.0 / 12.0", "-1.0 / +2.0", "no data", "36.0 ± 1.0 / 26.0 ± 1.0",
                        "+5.0 / +5.0", "+3.5", "agrees", "–", "10", "2"]
    assert lines[5][3] == "lost; above B" and lines[5][4] == "–"
    assert not any(CROSS[0] in line for line in text.splitlines() if "agree," in line)


def test_a_run_that_has_not_learned_decides_nothing():
    """Its identity loss is that of guessing, log(50) here, though its numbers may look well."""
    rows = [Row("a", "A", {}, {"Market-1501": (80.0, 60.0)}),
            Row("b", "B", {}, {"Market-1501": (81.0, 61.0)})]
    found = made_up(rows, a=(20, 21, 22), b=(30, 31, 32))
    assert found.against_first(found.tables[0], rows[1]) == "agrees"
    found.runs["a"][1]["id"] = 3.72  # log(50) is 3.912
    assert found.failed("a") == 1 and found.failed("b") == 0
    assert found.against_first(found.tables[0], rows[1]) == "not decided"
    assert found.pairs(found.tables[0], "Market-1501")[0][-1] == "not decided"
    assert "21.0 ± 1.0 (1 of 3 did not learn) |" in found.markdown()
    found.runs["a"][1]["id"] = 3.71
    assert found.failed("a") == 0
    found.runs["a"][1]["id"] = float("nan")
    assert found.failed("a") == 1


def test_rows_that_did_not_run_are_said_to():
    rows = [Row("a", "A", {}, {"Market-1501": (80.0, 60.0)}),
            Row("b", "B", {}, {"Market-1501": (81.0, 61.0)})]
    found = made_up(rows, b=(20,))
    assert "| A | 80.0 / 60.0 |  | not run |" in found.markdown()
    assert found.pairs(found.tables[0], "Market-1501") == []


# ---- recipes -----------------------------------------------------------------------------------


def test_tables_are_chosen_by_number():
    assert [t.number for t in ablations.choose("HAMR", ["8", "10"])] == ["6/8", "10"]
    assert ablations.choose("fsac", 2) == ablations.TABLES["fsac"]
    with pytest.raises(ValueError, match="mbgn has 2, 3, 4, got 5"):
        ablations.choose("mbgn", ["2", "5"])
    with pytest.raises(ValueError, match="expected one of mbgn.*'resnet'"):
        ablations.choose("resnet")


@pytest.mark.parametrize("schedule, expected", [
    ({"kind": "cosine", "warmup": {"epochs": 1, "factor": 0.1}}, {"kind": "cosine"}),
    ({"kind": "hamr"}, {"kind": "multistep", "milestones": [60, 90, 120], "gamma": 0.5}),
    ({"kind": "hamr", "milestones": [3, 5]}, {"kind": "multistep", "milestones": [3, 5],
                                              "gamma": 0.5}),
    ({"kind": "strong_baseline", "gamma": 0.2}, {"kind": "multistep", "milestones": [40, 70],
                                                 "gamma": 0.2}),
])
def test_without_tricks(schedule, expected):
    """No erasing, no smoothing, the full rate from the start; the identity loss alone."""
    base = recipes.get({**recipes.get("mbgn-small"), "system": "hamr", "schedule": schedule,
                        "options": {"height": 96, "width": 32, "backbone": "resnet18"}})
    rows = {row.key: row for table in ablations.TABLES["hamr"] for row in table.rows}
    plain = ablations.row_recipe(base, rows["baseline"])
    assert plain["schedule"] == expected and plain.rate()(0) == base["optimizer"]["lr"]
    assert plain["augment"]["erasing"] is None and plain["options"]["label_smooth"] == 0
    assert plain["options"]["triplet"] is False and plain["options"]["mpfe"] is False
    tricks = ablations.row_recipe(base, rows["tricks"])
    assert tricks["schedule"] == schedule and tricks["augment"] == base["augment"]
    assert tricks["options"]["triplet"] is False and "label_smooth" not in tricks["options"]
    assert ablations.row_recipe(base, rows["one-mpfe"])["options"].get("triplet", True) is True
    assert ablations.row_recipe(base, rows["full"])["options"] == base["options"]


# ---- running -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Two rows of MBGN's tables 2 and 3, where both stand."""
    folder = tmp_path_factory.mktemp("whole")
    return run(data, folder), folder


def weights(folder, key):
    return reidc.load(folder / key / "seed0" / "last.safetensors").state_dict()


def test_rows_that_coincide_run_once(whole):
    found, folder = whole
    assert {key: len(runs) for key, runs in found.runs.items()} == {"baseline": 1, "aabs": 1}
    assert sorted(os.listdir(folder)) == ["aabs", "ablation.json", "ablation.md", "baseline",
                                          "setup.json"]
    saved = json.loads((folder / "ablation.json").read_text())
    assert [t["number"] for t in saved["tables"]] == ["2", "3", "4"]
    text = (folder / "ablation.md").read_text()
    assert text == str(found)
    ours = [line.split(" | ")[3] for line in text.splitlines()
            if line.startswith(("| Baseline (", "| PCB |"))]
    assert len(ours) == 2 and ours[0] == ours[1]
    assert saved["provenance"]["config"] and saved["provenance"]["processors"]
    tested = json.loads((folder / "aabs" / "seed0" / "eval.json").read_text())
    assert tested["mAP"] == found.runs["aabs"][0]["mAP"] == saved["runs"]["aabs"][0]["mAP"]
    assert not any("mAP" in json.loads(line) for line in  # nothing was tested on the way
                   (folder / "aabs" / "seed0" / "metrics.jsonl").read_text().splitlines())


def test_stopped_within_a_row_and_gone_on_with(data, whole, tmp_path, monkeypatch):
    steps, own = [0], reidc.Network.train_step

    def train_step(self, *arguments, **options):
        steps[0] += 1
        if steps[0] == 4:  # within the second row: one has three steps
            os.kill(os.getpid(), signal.SIGINT)
        return own(self, *arguments, **options)

    monkeypatch.setattr(reidc.MBGN, "train_step", train_step)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path)
    assert (tmp_path / "baseline" / "seed0" / "eval.json").exists()
    assert (tmp_path / "aabs" / "seed0" / "last.safetensors").exists()
    assert not (tmp_path / "aabs" / "seed0" / "eval.json").exists()
    assert "| Baseline + AABS | 93.5 / 83.8 | +1.3 / +1.8 | not run |" in (
        tmp_path / "ablation.md").read_text()
    before = steps[0]
    found = run(data, tmp_path)
    assert steps[0] - before < 4  # the rest of one row
    for key in ("baseline", "aabs"):
        assert found.runs[key][0]["mAP"] == whole[0].runs[key][0]["mAP"]
        expected = weights(whole[1], key)
        assert all(np.array_equal(expected[k], v) for k, v in weights(tmp_path, key).items())


def test_finished_rows_are_passed_over_and_more_seeds_go_on(data, whole, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(whole[1], tmp_path / "again")

    def train_step(self, *arguments, **options):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(reidc.MBGN, "train_step", train_step)
        assert run(data, tmp_path / "again").runs == whole[0].runs
    found = run(data, tmp_path / "again", rows=["aabs"], seeds=2)
    assert [r["seed"] for r in found.runs["aabs"]] == [0, 1]
    assert found.runs["aabs"][0] == whole[0].runs["aabs"][0] != found.runs["aabs"][1]


def test_another_setup_is_refused(data, whole):
    with pytest.raises(OSError, match="recipe.epochs = 1, got 2"):
        run(data, whole[1], epochs=2)
    with pytest.raises(OSError, match="data = "):
        run(reidc.datasets.Synthetic(9, cameras=3, height=96, width=32), whole[1])


@pytest.mark.parametrize("error, words, options", [
    (ValueError, "rows: expected some of .*baseline.*got nothing", {"rows": ["nothing"]}),
    (ValueError, "seeds: expected 1 or more", {"seeds": 0}),
    (TypeError, "seeds: expected an integer", {"seeds": 1.5}),
    (ValueError, "scale: expected one of small, full", {"scale": "tiny"}),
    (ValueError, "expected one of mbgn, got one of baseline", {"recipe": "bot-market1501"}),
    (ValueError, "height", {"settings": [("options.height", 100)]}),
])
def test_wrong_input_is_refused_before_anything_is_written(data, tmp_path, error, words, options):
    with pytest.raises(error, match=words):
        run(data, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_command(capsys, tmp_path):
    """Two rows for an epoch on a tiny set, then the same command again."""
    arguments = ["ablate", "fsac", "--data", SPEC, "--rows", "baseline,sam-fusion", "--epochs", "1",
                 "--out", str(tmp_path / "out"), "--tables", "2",
                 *(f for k, v in TINY for f in ("--set", f"{k}={v}"))]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "| Baseline (ResNet50-IBN-a) | 82.4 / 71.7 |" in out and "not run" in out
    assert "run 2 of 2: sam-fusion, seed 0; about 0:" in err and "epoch" not in err.split("run")[-1]
    assert main(arguments) == 0
    again, err = capsys.readouterr()
    assert again.splitlines()[6:] == out.splitlines()[6:] and "0 of 2 runs to do" in err


@pytest.mark.parametrize("words, arguments", [
    ("expected one of mbgn", ["resnet"]), ("fsac has 2/1, got 9", ["fsac", "--tables", "9"]),
    ("did you mean 'optimizer.lr'", ["fsac", "--set", "optimizer.rl=1"]),
])
def test_wrong_use_is_2(capsys, tmp_path, words, arguments):
    assert main(["ablate", *arguments, "--data", SPEC, "--out", str(tmp_path / "o")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "o").exists()
