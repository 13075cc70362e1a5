"""reidc.plot: what ranked lists, sheets and curves hold (axes, frames, words, numbers), and what is
refused. Maps are in test_plot_maps.py.

Artists are looked at, not pixels; that a figure draws, that no words meet or leave it, for all.
"""
import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from figures import IMAGES, drawn, frame_of, shown, texts

import reidc
from reidc import _shown
from reidc.evaluation import color_histogram, evaluate_embeddings
from reidc.plot import _canvas as c

plot = reidc.plot
rng = np.random.default_rng(5)

# ---- loading ---------------------------------------------------------------------------------


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          cwd=Path(reidc.__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_no_pyplot_no_backend_and_nothing_before_the_first_call():
    assert run("""
import sys, numpy as np, reidc
print('matplotlib' in sys.modules)
reidc.plot.cmc
print('matplotlib' in sys.modules)
figure = reidc.plot.cmc(np.array([.5, .7, .9]))
figure.savefig(sys.stderr.buffer, format='pdf')
import matplotlib
print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)
print(dict.__getitem__(matplotlib.rcParams, 'backend') is matplotlib.rcsetup._auto_backend_sentinel,
      matplotlib.rcParams['font.size'] == matplotlib.rcParamsDefault['font.size'])
""".replace("sys.stderr.buffer", "__import__('io').BytesIO()")) == [
        "False", "False", "True", "False", "True", "True"]


def test_without_matplotlib():
    assert run("""
import sys, numpy as np, reidc
sys.modules['matplotlib'] = None
images, maps = np.zeros((1, 8, 4, 3), np.uint8), np.zeros((1, 2, 1), np.float32)
pids = np.zeros(1, int)
m = reidc.HAMR(2, 96, 32, backbone='resnet18', width_multiplier=.25)
data = ((images, pids), (images, pids))
for call in (lambda: reidc.plot.cmc(np.array([.5])), lambda: reidc.plot.overlay(images, maps),
             lambda: reidc.plot.training([{'epoch': 1, 'total': 1.}]),
             lambda: reidc.plot.sheet((images, pids)), lambda: reidc.plot.parts(m, images),
             lambda: reidc.plot.ranking(np.zeros((1, 1), np.float32), data)):
    try:
        call()
    except ImportError as error:
        print("pip install 'reidc[plot]'" in str(error))
""") == ["True"] * 6


def test_figures_show_themselves_pickle_and_keep_fonts():
    figure = plot.cmc(np.array([0.5, 0.75]))
    assert figure._repr_png_().startswith(b"\x89PNG")
    again = pickle.loads(pickle.dumps(figure))
    assert type(again) is type(figure) and len(again.axes) == 1
    file = io.BytesIO()
    figure.savefig(file, format="pdf")
    assert b"/Type3" not in file.getvalue() and b"/Subtype /Type3" not in file.getvalue()
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    assert b">rank</text>" in file.getvalue()


def test_right_and_wrong_differ_for_all_eyes():
    assert c.RIGHT != c.WRONG and c.FRAMES[c.RIGHT] != c.FRAMES[c.WRONG]
    assert c.MARKS[True] != c.MARKS[False]
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    have = FT2Font(findfont(c.MARK_FONT, fallback_to_default=False)).get_charmap()
    assert {ord(mark) for mark in c.MARKS.values()} <= set(have)


# ---- what is shown ---------------------------------------------------------------------------


def test_nearest_is_what_the_evaluation_counts():
    pids = np.array([-1, 7, 7, 3, 7, 3])
    camids = np.array([0, 1, 2, 1, 1, 2])
    distances = np.array([0.0, 0.1, 0.5, 0.2, 0.3, 0.2])
    places, right = _shown.nearest(distances, 7, 1, pids, camids, 9)
    assert places == [3, 5, 2] and right == [False, False, True]
    places, right = _shown.nearest(distances, 7, None, pids, None, 2)
    assert places == [1, 3] and right == [True, False]
    for _ in range(20):  # the AP of what is shown is the evaluation's
        pids, camids = rng.integers(-1, 3, 12), rng.integers(0, 2, 12)
        d = rng.integers(0, 4, (1, 12)).astype(np.float32)
        pid, cam = np.array([1]), np.array([0])
        _, right = _shown.nearest(d[0], 1, 0, pids, camids, 12)
        if not any(right):
            continue
        ranks = np.flatnonzero(right) + 1
        expected = np.mean((np.arange(len(ranks)) + 1) / ranks)
        _, mean_ap = reidc.evaluate_rank(d, pid, pids, cam, camids)
        assert mean_ap == pytest.approx(expected, abs=1e-6)


def test_spread_people_and_pictures():
    ap, hits = np.array([0.3, 0.0, 0.9, 0.1, 0.3]), np.array([2, 0, 1, 4, 1])
    assert _shown.spread(ap, hits, 4) == [2, 4, 0, 3]
    assert _shown.spread(ap, hits, 1) == [4]
    assert _shown.spread(ap, hits, (0.99, 0.95, 0.0)) == [2, 3]  # none twice
    assert _shown.people(np.array([-1, 0, 5, 5, 9, 2, 7]), 3) == [2, 7, 9]
    assert _shown.people(np.array([0, 0]), 3) == [0]
    pids, camids = np.array([4, 4, 1, 4, 4]), np.array([0, 0, 0, 1, 0])
    assert _shown.pictures_of(pids, 4, 2) == [0, 1]
    assert _shown.pictures_of(pids, 4, 2, camids) == [0, 3]
    assert _shown.pictures_of(pids, 4, 9, camids) == [0, 1, 3, 4]


# ---- ranked lists ----------------------------------------------------------------------------


def arrays(cameras=True):
    """Query and gallery of four people; (images, pids, camids) each, and embeddings."""
    pids = np.arange(24) % 4
    base = rng.integers(0, 256, (4, 1, 1, 3))
    images = (base[pids] + rng.integers(-80, 80, (24, 32, 16, 3))).clip(0, 255).astype(np.uint8)
    camids = np.arange(24) // 4 % 3
    pids[20] = -1
    query, gallery = slice(0, 4), slice(4, 24)
    cams = (camids[query], camids[gallery]) if cameras else (None, None)
    rows = color_histogram(images)
    return ((images[query], pids[query], cams[0]), (images[gallery], pids[gallery], cams[1]),
            (rows[query], rows[gallery]))


def check_ranking(figure, query, gallery, distmat, chosen, ranks):
    """Every frame, mark and picture against the ranking worked out here."""
    axes = shown(figure)
    place = 0
    for q in chosen:
        assert frame_of(axes[place]) == (c.ASKED.upper(), True)
        assert np.array_equal(axes[place].images[0].get_array(), query[0][q])
        place += 1
        order = [g for g in np.argsort(distmat[q], kind="stable") if gallery[1][g] != -1 and not (
            gallery[2] is not None and gallery[1][g] == query[1][q]
            and gallery[2][g] == query[2][q])][:ranks]
        for rank, g in enumerate(order, 1):
            right = gallery[1][g] == query[1][q]
            assert frame_of(axes[place]) == (c.RIGHT.upper(), True) if right else (
                c.WRONG.upper(), False)
            assert np.array_equal(axes[place].images[0].get_array(), gallery[0][g])
            (word,) = texts(axes[place])
            assert word[0] == c.MARKS[bool(right)]
            assert word[2:].replace("cam ", "c") == (
                f"c{gallery[2][g] + 1}" if gallery[2] is not None else str(rank))
            place += 1
    assert place == len(axes)


@pytest.mark.parametrize("cameras", [True, False])
def test_ranking_from_embeddings_and_distances(cameras):
    query, gallery, rows = arrays(cameras)
    distmat = reidc.compute_distance_matrix(*rows)
    result = evaluate_embeddings(*rows, query[1], gallery[1], query[2], gallery[2])
    best = _shown.spread(result.ap, result.hits, 3)
    for found in (rows, distmat, distmat.astype(float)):
        figure = drawn(plot.ranking(found, (query, gallery), queries=3, ranks=5))
        check_ranking(figure, query, gallery, distmat, best, 5)
        words = [t.get_text() for t in figure.texts]
        for q in best:
            assert f"person {query[1][q]}" in words and f"AP {result.ap[q]:.2f}" in words
    figure = drawn(plot.ranking(distmat, (query, gallery), queries=[2, 0], ranks=30, title="Found"))
    check_ranking(figure, query, gallery, distmat, [2, 0], 30)
    assert figure.get_size_inches()[0] <= 7.001


def test_ranking_from_a_network_and_an_evaluation():
    (qi, qp, qc), (gi, gp, gc), _ = arrays()
    images = np.concatenate([qi, gi, qi])
    pids, camids = np.concatenate([qp, gp, qp]), np.concatenate([qc, gc, qc])
    data = reidc.datasets.Arrays(images, pids, camids,
                                 splits=["query"] * 4 + ["gallery"] * 20 + ["train"] * 4)
    m = reidc.Baseline(4, 64, 32, backbone="resnet18", width_multiplier=0.125)
    distmat = reidc.evaluate(m, data, distmat=True).distmat
    figure = drawn(plot.ranking(m, data, queries=[0, 1], ranks=4, width=3.5))
    found = reidc.evaluate(m, data, distmat=True)
    again = drawn(plot.ranking(found, data, queries=[0, 1], ranks=4))
    check_ranking(again, (qi, qp, qc), (gi, gp, gc), distmat, [0, 1], 4)
    pictures = [[axes.images[0].get_array() for axes in shown(f)] for f in (figure, again)]
    assert all(np.array_equal(a, b) for a, b in zip(*pictures))
    with pytest.raises(ValueError, match="distmat=True"):
        plot.ranking(reidc.evaluate(m, data), data)
    with pytest.raises(TypeError, match="data set"):
        plot.ranking(m, ((qi, qp, qc), (gi, gp, gc)))


@pytest.mark.parametrize("change, error, words", [
    ({"queries": 0}, ValueError, "queries: expected 1"),
    ({"queries": 1.5}, TypeError, "queries"),
    ({"queries": [4]}, ValueError, "from 0 to 3, got 4"),
    ({"queries": []}, TypeError, "queries"),
    ({"ranks": 0}, ValueError, "ranks: expected 1"),
    ({"width": "wide"}, TypeError, "width"),
    ({"width": 1, "ranks": 20}, ValueError, "columns need more than"),
    ({"found": np.zeros((3, 20), np.float32)}, ValueError, "4 x 20.*got 3 x 20"),
    ({"found": np.zeros((4, 20), int)}, TypeError, "found: expected"),
    ({"found": "mbgn"}, TypeError, "found: expected"),
    ({"found": (np.zeros((4, 8), np.float32), np.zeros((9, 8), np.float32))}, ValueError,
     "20 gallery embeddings"),
    ({"data": 3}, TypeError, "data: expected"),
    ({"data": (3, 4)}, TypeError, "query: expected a split"),
])
def test_ranking_refuses(change, error, words):
    query, gallery, rows = arrays()
    arguments = {"found": rows, "data": (query, gallery), **change}
    with pytest.raises(error, match=words):
        plot.ranking(arguments.pop("found"), arguments.pop("data"), **arguments)


def test_ranking_refuses_arrays():
    query, gallery, rows = arrays()
    for wrong, error, words in (
            ((query[0].astype(float), query[1]), TypeError, "query images: expected uint8"),
            ((query[0], query[1][:2]), ValueError, "query pids: expected 4"),
            ((query[0], query[1] / 2), TypeError, "query pids: expected integers"),
            ((query[0], query[1], query[2][:2]), ValueError, "query camids"),
            ((query[0][0], query[1]), ValueError, "one picture")):
        with pytest.raises(error, match=words):
            plot.ranking(rows, (wrong, gallery))


def test_sheet():
    data = reidc.datasets.Synthetic((5, 2), height=32, width=32)
    figure = drawn(plot.sheet(data, people=3, pictures=4, title="People"))
    pids = np.unique(data.train.pids)[[0, 2, 4]]
    labels = [t.get_text() for t in figure.texts]
    assert [w for w in labels if w.startswith("person")] == [f"person {p}" for p in pids]
    images = [axes.images[0].get_array() for axes in shown(figure)]
    places = [i for p in pids
              for i in _shown.pictures_of(data.train.pids, p, 4, data.train.camids)]
    assert len(images) == len(places)
    assert all(np.array_equal(a, data.train.images[i]) for a, i in zip(images, places))
    assert texts(shown(figure)[0]) == [f"cam {data.train.camids[places[0]] + 1}"]
    gallery = drawn(plot.sheet(data.gallery, people=[-1, 0], pictures=3))
    assert {"junk", "distractors"} <= {t.get_text() for t in gallery.texts}
    assert len(shown(plot.sheet((IMAGES, np.array([1, 1, 2]))))) == 3
    with pytest.raises(ValueError, match="no pictures of 99"):
        plot.sheet(data, people=[99])
    with pytest.raises(TypeError, match="data"):
        plot.sheet(7)


# ---- curves ----------------------------------------------------------------------------------


def evaluation(scale):
    query, gallery, _ = arrays()
    rows = rng.random((24, 6)).astype(np.float32) * scale
    return evaluate_embeddings(rows[:4], rows[4:], query[1], gallery[1], query[2], gallery[2])


def test_cmc(tmp_path):
    a, b = evaluation(1), evaluation(2)
    b.save(tmp_path / "b.json")
    figure = drawn(plot.cmc({"ours": a, "theirs": tmp_path / "b.json", "printed": [0.5, 0.75]},
                            max_rank=10, title="CMC"))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "rank" and "%" in axes.get_ylabel()
    for line, shares in zip(axes.lines, (a.cmc, b.cmc, np.array([0.5, 0.75]))):
        assert np.array_equal(line.get_xdata(), np.arange(1, len(shares[:10]) + 1))
        assert np.allclose(line.get_ydata(), 100 * shares[:10])
    legend = [t.get_text() for t in axes.get_legend().texts]
    assert legend == [f"ours: mAP {100 * a.mAP:.1f}, rank-1 {100 * a.rank(1):.1f}",
                      f"theirs: mAP {100 * b.mAP:.1f}, rank-1 {100 * b.rank(1):.1f}",
                      "printed: rank-1 50.0"]
    looks = [(x.get_color(), x.get_linestyle(), x.get_marker()) for x in axes.lines]
    assert all(len(set(column)) == 3 for column in zip(*looks))  # each tells them apart alone
    assert 1 in axes.get_xticks() and axes.get_ylim()[1] == 100
    assert figure.get_size_inches()[0] == 3.5
    assert len(plot.cmc([a, b]).axes[0].lines) == 2
    named = plot.cmc([a, b], names=["x", "y"]).axes[0].get_legend().texts
    assert [t.get_text()[:2] for t in named] == ["x:", "y:"]
    assert plot.cmc(a).axes[0].get_legend().texts[0].get_text().startswith("mAP")


def test_cmc_refuses(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    for value, error, words in ((7, TypeError, "evaluations"), ([], ValueError, "at least one"),
                                ({"a": "b"}, FileNotFoundError, r"evaluations\['a'\]: no such"),
                                (tmp_path / "x.json", OSError, "no saved evaluation"),
                                (np.array([1.5]), ValueError, "from 0 to 1"),
                                ([np.array([1])], TypeError, "expected an Evaluation")):
        with pytest.raises(error, match=words):
            plot.cmc(value)
    with pytest.raises(ValueError, match="names: expected 1, got 2"):
        plot.cmc([np.array([0.5])], names=["a", "b"])
    with pytest.raises(ValueError, match="max_rank"):
        plot.cmc(np.array([0.5]), max_rank=0)


HISTORY = [{"epoch": 1, "lr": 1e-3, "id": 2.0, "triplet": 1.0, "total": 3.0, "seconds": 1.0,
            "images_per_second": 9.0},
           {"epoch": 2, "lr": 1e-3, "id": 1.5, "triplet": 0.5, "total": 2.0, "seconds": 1.0,
            "images_per_second": 9.0, "mAP": 0.25, "rank1": 0.5, "mINP": 0.1}]


def lines(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
            for line in axes.lines}


def test_training_from_a_history():
    losses, test = drawn(plot.training(HISTORY, title="A run")).axes
    assert lines(losses) == {"total": ([1, 2], [3, 2]), "id": ([1, 2], [2, 1.5]),
                             "triplet": ([1, 2], [1, 0.5])}
    assert lines(test) == {"rank-1": ([2], [50]), "mAP": ([2], [25])}
    assert losses.get_xlabel() == "epoch" and "loss" in losses.get_ylabel()
    assert test.get_ylim() == (0, 100) and "%" in test.get_ylabel()
    (alone,) = drawn(plot.training(HISTORY[:1])).axes
    assert set(lines(alone)) == {"total", "id", "triplet"}
    losses, test = drawn(plot.training({"a": HISTORY, "b": HISTORY[:1]})).axes
    assert lines(losses) == {"a": ([1, 2], [3, 2]), "b": ([1], [3])}
    assert lines(test) == {"a": ([2], [25])}


def test_training_from_a_run(tmp_path):
    data = reidc.datasets.Synthetic((4, 2), cameras=2, height=32, width=32)
    recipe = {"epochs": 2, "identities": 2, "images": 2, "optimizer": {"lr": 1e-3},
              "schedule": {"kind": "constant"}, "evaluate_every": 2}
    m = reidc.Baseline(4, 32, 32, backbone="resnet18", width_multiplier=0.125)
    trainer = reidc.Trainer(m, data, recipe, tmp_path / "run", log=lambda line: None)
    trainer.fit()
    for run in (tmp_path / "run", str(tmp_path / "run" / "metrics.csv"), trainer, trainer.history):
        losses, test = plot.training(run).axes
        got = lines(losses)
        assert set(got) == {"total", "id", "triplet"}
        assert got["total"][1] == pytest.approx([row["total"] for row in trainer.history])
        assert lines(test)["mAP"] == ([2], [pytest.approx(100 * trainer.history[1]["mAP"])])
    both = plot.training([trainer, tmp_path / "run"], names=["a", "b"])
    assert set(lines(both.axes[0])) == {"a", "b"}


def test_training_refuses(tmp_path):
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    (tmp_path / "words.csv").write_text("epoch,total\n1,much\n")
    for run, error, words in ((tmp_path / "none", FileNotFoundError, "no such"),
                              (tmp_path, OSError, "no metrics.csv"),
                              (tmp_path / "words.csv", OSError, "no metrics.csv"),
                              (3, TypeError, "runs"), ([], ValueError, "at least one"),
                              ({"a": []}, ValueError, r"runs\['a'\]: no epoch"),
                              ([{"loss": 1}], TypeError, "history")):
        with pytest.raises(error, match=words):
            plot.training(run)
