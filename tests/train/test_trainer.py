"""Trainer: a run that was stopped, anywhere, in any way, and gone on with is bitwise the run that
was never stopped; metrics; recipes as plain data."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from runs import RECIPE, bits, losses, network, stop_at

import reidc
from reidc.trainer import CHECKPOINT, Trainer, saved_recipe


@pytest.fixture(scope="module")
def data():
    return reidc.datasets.Synthetic((12, 6), cameras=3, height=96, width=32)


def trainer(data, folder, recipe=None, **options):
    return Trainer(network(**options), data, recipe or RECIPE, folder, log=lambda line: None)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    t = trainer(data, tmp_path_factory.mktemp("whole"), {**RECIPE, "evaluate_every": 1})
    t.fit()
    return t


@pytest.mark.parametrize("when, raising", [(1, "before"), (2, "after"), (3, "before"),
                                           (4, "after"), (6, "before")])
def test_stopped_run_goes_on_to_the_same_bits(data, whole, tmp_path, when, raising):
    recipe = {**RECIPE, "evaluate_every": 1}
    first = trainer(data, tmp_path, recipe)
    stop_at(first, when, raising)
    # before: the step was left before it changed anything; after: it is done and counted
    assert first.model.step == when - (raising == "before")
    again = trainer(data, tmp_path, recipe)
    for value in again.model.parameters().values():
        value += 0.1  # other weights, which the checkpoint replaces
    again.fit(resume=True)
    assert bits(again) == bits(whole)
    assert losses(again) == losses(whole)


def test_threads_do_not_matter(data, whole, tmp_path):
    t = trainer(data, tmp_path, {**RECIPE, "evaluate_every": 1}, threads=1)
    t.fit()
    assert bits(t) == bits(whole)


def test_stopped_between_batches_and_in_the_test(data, whole, tmp_path):
    recipe = {**RECIPE, "evaluate_every": 1}
    first = trainer(data, tmp_path, recipe)
    own, calls = type(first.model), []

    class Model(own):
        def embed(self, *arguments, **options):
            calls.append(self.step)
            if len(calls) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return own.embed(self, *arguments, **options)

    first.model.__class__ = Model
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    assert len(calls) == 1 and first.history == []  # the epoch is trained, not tested
    again = trainer(data, tmp_path, recipe)
    again.fit(resume=True)
    assert bits(again) == bits(whole) and losses(again) == losses(whole)


def test_stopped_twice(data, whole, tmp_path):
    recipe = {**RECIPE, "evaluate_every": 1}
    stop_at(trainer(data, tmp_path, recipe), 1, "after")
    second = trainer(data, tmp_path, recipe)
    stop_at(second, 3, "before", resume=True)
    again = trainer(data, tmp_path, recipe)
    again.fit(resume=True)
    assert bits(again) == bits(whole) and losses(again) == losses(whole)


def test_going_on_after_the_end_adds_epochs(data, whole, tmp_path):
    recipe = {**RECIPE, "schedule": {"kind": "constant"}}
    trainer(data, tmp_path, recipe).fit(1)
    more = trainer(data, tmp_path, recipe)
    assert len(more.fit(2, resume=True)) == 2
    straight = trainer(data, tmp_path / "straight", recipe)
    straight.fit(2)
    assert bits(more) == bits(straight)


SCRIPT = """
import sys, time, reidc
from reidc.trainer import Trainer
data = reidc.datasets.Synthetic((12, 6), cameras=3, height=96, width=32)
m = reidc.MBGN(12, 96, 32, backbone="resnet18", width_multiplier=0.25, seed=5)
recipe = {"epochs": 2000, "identities": 4, "images": 2, "seed": 3, "sampler": "once",
          "optimizer": {"lr": 1e-3}, "schedule": {"kind": "constant"}}
t = Trainer(m, data, recipe, sys.argv[1])
try:
    t.fit()
except KeyboardInterrupt:
    print("kept", t.model.step, flush=True)
    raise SystemExit(130)
"""


@pytest.mark.parametrize("delay", [0.0, 0.21, 0.37])
def test_a_real_interrupt(data, tmp_path, delay):
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = child.stderr.readline()  # an epoch is done: training runs
    assert first.startswith("epoch"), first + child.stderr.read()
    time.sleep(delay)
    child.send_signal(signal.SIGINT)
    asked = time.monotonic()
    said = next(line for line in child.stderr if line.startswith("stopping"))
    assert "checkpoint" in said
    out, _ = child.communicate(timeout=60)
    took = time.monotonic() - asked
    assert child.returncode == 130
    if (os.getloadavg()[0] or 0) < 2 * os.cpu_count():  # a crowded machine measures itself
        assert took < 2
    steps = int(out.split()[1])
    recipe = saved_recipe(tmp_path / CHECKPOINT)
    again = Trainer(network(), data, recipe, tmp_path, log=lambda line: None)
    again.restore()
    assert again.model.step == steps
    per_epoch = len(again.loader)
    epochs = steps // per_epoch + 1
    again.fit(epochs, resume=True)
    straight = Trainer(network(), data, recipe, tmp_path / "straight", log=lambda line: None)
    straight.fit(epochs)
    assert bits(again) == bits(straight)


def test_metrics(whole):
    with open(os.path.join(whole.run_dir, "metrics.csv")) as file:
        rows = list(csv.DictReader(file))
    with open(os.path.join(whole.run_dir, "metrics.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    assert lines == whole.history and [int(r["epoch"]) for r in rows] == [1, 2]
    for row in lines:
        assert row["total"] == pytest.approx(row["id"] + 2 * row["triplet"], rel=1e-6)
        assert 0 <= row["mAP"] <= 1 and 0 <= row["rank1"] <= 1
    assert lines[0]["lr"] < 1e-3  # warm-up within the epoch
    loaded = reidc.load(os.path.join(whole.run_dir, CHECKPOINT))
    state = whole.model.state_dict()
    assert all(np.array_equal(v, state[k]) for k, v in loaded.state_dict().items())


def test_no_files_of_a_crash_are_left(whole):
    assert sorted(os.listdir(whole.run_dir)) == [CHECKPOINT, "metrics.csv", "metrics.jsonl",
                                                 "recipe.json"]


def test_nothing_to_test_on(data, tmp_path):
    images, pids = np.zeros((24, 8, 4, 3), np.uint8), np.repeat(np.arange(700, 712), 2)
    recipe, said = {**RECIPE, "evaluate_every": 1}, []
    alone = reidc.datasets.Arrays(images, pids, splits=["train"] * 24)
    t = Trainer(network(), alone, recipe, tmp_path, log=said.append)
    assert said == ["note: nothing to test on, 0 query and 0 gallery pictures"] and t._every == 0
    only = types.SimpleNamespace(train=data.train)
    assert trainer(only, tmp_path, recipe)._every == 0
    assert trainer(data, tmp_path, recipe)._every == 1
    lost = types.SimpleNamespace(train=data.train, query=data.query, gallery=alone.train)
    with pytest.raises(ValueError, match="dataset: expected queries with a match .* got none in "
                                         f"{len(data.query)} and 24 pictures; evaluate_every=0"):
        trainer(lost, tmp_path, recipe)
    trainer(lost, tmp_path)


def test_what_is_refused(data, tmp_path):
    with pytest.raises(TypeError, match="m: expected a network, got str"):
        Trainer("mbgn", data, RECIPE, tmp_path)
    with pytest.raises(TypeError, match="run_dir: expected a path, got int"):
        Trainer(network(), data, RECIPE, 3)
    with pytest.raises(TypeError, match="epochs: expected an integer, got float"):
        trainer(data, tmp_path).fit(2.0)
    with pytest.raises(ValueError, match="12 identities, the network 5 classes"):
        Trainer(reidc.Baseline(5, 64, 32, backbone="resnet18", width_multiplier=0.125), data,
                RECIPE, tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        trainer(data, tmp_path).fit(resume=True)
    network().save(tmp_path / CHECKPOINT)
    with pytest.raises(OSError, match="a network's"):
        trainer(data, tmp_path).fit(resume=True)
    t = trainer(data, tmp_path)
    t.save()
    other = {**RECIPE, "optimizer": {"lr": 2e-3, "weight_decay": 1e-4}}
    with pytest.raises(ValueError, match="optimizer.lr = 0.001, got 0.002"):
        trainer(data, tmp_path, other).fit(resume=True)
    with pytest.raises(ValueError, match="seed = 5, got 6"):
        trainer(data, tmp_path, seed=6).fit(resume=True)
    half = reidc.load(t.checkpoint, precision="bfloat16")
    with pytest.raises(ValueError, match="precision = float32, got bfloat16"):
        Trainer(half, data, RECIPE, tmp_path, log=lambda line: None).fit(resume=True)


@pytest.mark.parametrize("change, words", [
    ({"sampler": "pkk"}, "sampler: expected pk"),
    ({"optimizer": {"kind": "lion", "lr": 1}}, "kind: expected adam"),
    ({"schedule": {"kind": "stairs"}}, "schedule.kind: expected one of"),
    ({"epochs": 2.5}, "epochs: expected a whole number"),
    ({"augment": {"erasing": "nope"}}, "erasing"),
])
def test_recipes_that_mean_nothing(data, tmp_path, change, words):
    with pytest.raises((ValueError, TypeError), match=words):
        trainer(data, tmp_path, {**RECIPE, **change})
