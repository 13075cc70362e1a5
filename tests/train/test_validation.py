"""Held-out identities: chosen from the training set by the seed, one epoch is kept, the test set is
looked at once; stopped anywhere, also in the validation, a run goes on to the same bits."""
import csv
import json
import os
import signal
import types

import numpy as np
import pytest
from runs import RECIPE, bits, losses, stop_at

import reidc
from reidc.datasets import hold_out
from reidc.trainer import BEST, Trainer

VALIDATED = {**RECIPE, "epochs": 3, "evaluate_every": 1, "validation": 4}


@pytest.fixture(scope="module")
def data():
    return reidc.datasets.Synthetic((16, 6), cameras=3, height=96, width=32)


def network(classes=12, threads=None):
    return reidc.MBGN(classes, 96, 32, backbone="resnet18", width_multiplier=0.25, seed=5,
                      threads=threads)


def trainer(data, folder, recipe=None, validation=None, **options):
    return Trainer(network(**options), data, recipe or VALIDATED, folder, validation=validation,
                   log=lambda line: None)


@pytest.mark.parametrize("validation, count", [(0.25, 4), (0.3, 5), (2, 2)])
def test_hold_out(data, validation, count):
    smaller, held = hold_out(data, validation, seed=7)
    ids, kept = set(held.gallery.pids.tolist()), set(smaller.train.pids.tolist())
    assert smaller.num_classes == 16 - count == len(kept) and len(ids) == count
    assert not ids & kept and ids | kept == set(data.train.pids.tolist())
    assert set(held.query.pids.tolist()) <= ids
    assert len(held.query) + len(held.gallery) + len(smaller.train) == len(data.train)
    assert smaller.query is data.query and smaller.gallery is data.gallery  # the test stays
    assert data.num_classes == 16 and "held out" in repr(smaller.notes)
    # the first picture of each identity in each camera is a query
    pairs = list(zip(held.query.pids.tolist(), held.query.camids.tolist()))
    assert len(pairs) == len(set(pairs))
    for split in (smaller.train, held.query, held.gallery):
        assert np.array_equal(split.batch([0, 1]), data.train.batch(split.indices[:2]))
        assert np.array_equal(split.images[1], data.train.images[split.indices[1]])
        assert np.array_equal(data.render(split.rows[:2]), split.batch([0, 1]))
    assert "images of" in repr(held.query) and "query" in repr(held)


def test_the_seed_chooses(data):
    held = [set(hold_out(data, 0.25, seed)[1].gallery.pids.tolist()) for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_hold_out_of_pictures_without_cameras_and_of_files(tmp_path, data):
    images, pids = np.zeros((12, 32, 16, 3), np.uint8), np.repeat(np.arange(6), 2)
    arrays = reidc.datasets.Arrays(images, pids, splits=["train"] * 12)
    smaller, held = hold_out(arrays, 2, 0)
    assert smaller.num_classes == 4 and held.query.camids is None and len(held.query) == 2
    data.export(tmp_path, "png")
    smaller, held = hold_out(reidc.datasets.ImageFolder(tmp_path), 0.25, 0)
    assert smaller.num_classes == 12 and os.path.isfile(held.query.paths[0])


def table(tmp_path, data, count):
    """The drawn set as a table; so many of its training identities are for validation."""
    data.export(tmp_path)
    chosen = {str(pid) for pid in np.unique(data.train.pids)[:count]}
    with open(tmp_path / "labels.csv") as file:
        rows = list(csv.DictReader(file))
    seen, lines = set(), ["path,pid,camid,split"]
    for row in rows:
        role = row["split"]
        if row["pid"] in chosen:
            new = (row["pid"], row["camid"]) not in seen
            seen.add((row["pid"], row["camid"]))
            role = "val_query" if new else "val_gallery"
        lines.append(f"{row['path']},{row['pid']},{row['camid']},{role}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return reidc.datasets.Table(tmp_path / "list.csv")


def test_a_tables_own_validation(tmp_path, data):
    own = table(tmp_path, data, 4)
    assert own.num_classes == 12 and len(own.query) == len(data.query)
    same, held = hold_out(own, True)
    assert same is own and held is own.validation and len(set(held.query.pids)) == 4
    t = Trainer(network(), own, {**VALIDATED, "validation": True, "epochs": 1}, tmp_path / "run",
                log=lambda line: None)
    t.fit()
    assert 0 <= t.history[0]["val_mAP"] <= 1 and "mAP" not in t.history[0]
    both = reidc.datasets.Table(tmp_path / "list.csv", train=("train", "val_query"))
    with pytest.raises(ValueError, match="4 of its identities are trained on"):
        hold_out(both, True)


def test_what_is_refused(data, tmp_path):
    for validation, kind, words in [
            (0.01, ValueError, "expected 2 to 14 of the 16 training identities, got 0"),
            (0.95, ValueError, "got 15"), (15, ValueError, "got 15"), (1, ValueError, "from 2"),
            (1.0, ValueError, "share between 0 and 1"), ("val", TypeError, "validation"),
            (True, ValueError, "no validation pictures of its own"),
            (float("nan"), ValueError, "share")]:
        with pytest.raises(kind, match=words):
            hold_out(data, validation)
    with pytest.raises(TypeError, match="data set"):
        hold_out(3, 0.1)
    with pytest.raises(ValueError, match="has 12 identities, as validation=4 holds the others out, "
                                         "the network 16 classes; build it with num_classes=12"):
        trainer(data, tmp_path, classes=16)
    with pytest.raises(ValueError, match="needs evaluate_every"):
        trainer(data, tmp_path, {**VALIDATED, "evaluate_every": 0})
    smaller, held = hold_out(data, 4, 3)
    with pytest.raises(ValueError, match="needs evaluate_every"):
        trainer(smaller, tmp_path, {**RECIPE, "evaluate_every": 0}, held)
    with pytest.raises(ValueError, match="validation: expected queries with a match .* got none in "
                                         f"{len(data.query)} and {len(held.gallery)} pictures$"):
        trainer(smaller, tmp_path, {**RECIPE, "evaluate_every": 1},
                types.SimpleNamespace(query=data.query, gallery=held.gallery))
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    t = trainer(data, tmp_path_factory.mktemp("validated"))
    t.fit()
    return t


def test_the_best_epoch_is_kept_and_tested(data, whole):
    scores = [row["val_mAP"] for row in whole.history]
    assert len(scores) == 3 and not any("mAP" in row for row in whole.history)
    assert whole.best is whole.history[int(np.argmax(scores))]
    kept = reidc.load(os.path.join(whole.run_dir, BEST))
    assert reidc.evaluate(kept, whole.validation).mAP == whole.best["val_mAP"]
    result = whole.test()
    assert result.mAP == reidc.evaluate(kept, data).mAP
    assert result.provenance["training"]["epoch"] == whole.best["epoch"]
    assert result.queries == len(data.query)


def test_the_first_of_equals_is_the_best(data, tmp_path, monkeypatch):
    saved = []
    t = trainer(data, tmp_path)
    monkeypatch.setattr(Trainer, "_test", lambda self: {"val_mAP": 0.5, "val_rank1": 0.5,
                                                        "val_mINP": 0.5})
    own = type(t.model)
    monkeypatch.setattr(own, "save", lambda self, path, **more: saved.append(
        os.path.basename(path)) or reidc.Network.save(self, path, **more))
    t.fit()
    assert t.best["epoch"] == 1 and saved.count(BEST) == 1
    assert saved.index(BEST) < saved.index("last.safetensors")  # the record comes after the file


def test_the_split_beforehand_is_the_same(data, whole, tmp_path):
    smaller, held = hold_out(data, 4, VALIDATED["seed"])
    t = trainer(smaller, tmp_path, {**VALIDATED, "validation": None}, held)
    t.fit()
    assert losses(t) == losses(whole) and bits(t) == bits(whole)


@pytest.mark.parametrize("when, raising", [(1, "after"), (4, "before")])
def test_stopped_runs_go_on_to_the_same_bits(data, whole, tmp_path, when, raising):
    stop_at(trainer(data, tmp_path), when, raising)
    again = trainer(data, tmp_path, threads=1)
    again.fit(resume=True)
    assert bits(again) == bits(whole) and losses(again) == losses(whole)
    best = [reidc.load(os.path.join(t.run_dir, BEST)).state_dict() for t in (whole, again)]
    assert all(np.array_equal(v, best[1][k]) for k, v in best[0].items())


@pytest.mark.parametrize("call", [1, 4])
def test_stopped_in_the_validation(data, whole, tmp_path, call):
    first = trainer(data, tmp_path)
    own, calls = type(first.model), []

    class Model(own):
        def embed(self, *arguments, **options):
            calls.append(self.step)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGINT)
            return own.embed(self, *arguments, **options)

    first.model.__class__ = Model
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    assert len(first.history) == (call - 1) // 2  # query and gallery are two calls
    again = trainer(data, tmp_path)
    again.fit(resume=True)
    assert bits(again) == bits(whole) and losses(again) == losses(whole)
    assert again.test().mAP == whole.test().mAP


def test_a_failure_at_the_end_of_an_epoch_does_not_lose_it(data, whole, tmp_path, monkeypatch):
    first, full = trainer(data, tmp_path), []
    own = type(first.model)

    def save(self, path, **more):
        if os.path.basename(path) == BEST and not full:
            full.append(path)
            raise OSError("no space left")
        return reidc.Network.save(self, path, **more)

    monkeypatch.setattr(own, "save", save)
    with pytest.raises(OSError, match="no space left"):
        first.fit()
    assert full and first.history == [] and first.loader.epoch == 1
    again = trainer(data, tmp_path)
    again.fit(1, resume=True)  # not trained any further, but tested
    assert losses(again) == losses(whole)[:1] and bits(again) == bits(first)
    assert os.path.exists(again.best_checkpoint)


def test_validation_and_average(data, tmp_path):
    t = trainer(data, tmp_path, {**VALIDATED, "ema": 0.7, "epochs": 2})
    t.fit()
    kept = reidc.load(t.best_checkpoint)
    assert reidc.evaluate(kept, t.validation).mAP == t.best["val_mAP"]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["val_mAP"] for row in rows] == [row["val_mAP"] for row in t.history]
