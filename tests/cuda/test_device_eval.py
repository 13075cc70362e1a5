"""Evaluation on device="cuda" on the stand-in: embeddings stay on the card, it ranks them, and what
comes to the host are the places of the matches."""
import numpy as np
import pytest
import reidc
from device_arrays import CARD, OnCard, baseline
from device_arrays import card as card  # the fixture

from reidc.evaluation import evaluate_embeddings

pytestmark = pytest.mark.cuda_host


def sets(q=20, g=70, d=16, seed=8):
    """Embeddings whose distances are exact (small integers), and labels."""
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, 6, q + g)
    rows = rng.integers(0, 4, (6, d))[pids] + rng.integers(0, 3, (q + g, d))
    pids[-1] = -1
    cams = rng.integers(0, 3, q + g)
    pids[0] = 99  # has no match
    return (rows[:q].astype(np.float32), rows[q:].astype(np.float32), pids[:q], pids[q:], cams[:q],
            cams[q:])


def same(got, want):
    for a, b in zip(got._result, want._result):
        assert (a is None and b is None) or np.array_equal(a, b)
    assert np.array_equal(got.cmc, want.cmc) and got.mAP == want.mAP and got.mINP == want.mINP
    assert got.skipped == want.skipped == [0]


@pytest.mark.parametrize("kind", ["dlpack", "interface"])
@pytest.mark.parametrize("options", [
    {}, dict(ap="trapezoid"), dict(use_metric_cuhk03=True, seed=3), dict(distmat=True),
    dict(cameras=False)])
def test_ranks_are_those_of_the_cpu(kind, options):
    q, g, q_pids, g_pids, q_cams, g_cams = sets()
    cameras = (q_cams, g_cams) if options.get("cameras", True) else (None, None)
    options = {k: v for k, v in options.items() if k != "cameras"}
    want = evaluate_embeddings(q, g, q_pids, g_pids, *cameras, **options)
    held = [OnCard(x, kind=kind) for x in (q, g)]
    got = evaluate_embeddings(*held, q_pids, g_pids, *cameras, **options)
    same(got, want)
    if options.get("distmat"):
        assert np.array_equal(got.distmat, want.distmat)
    for array in held:
        array.free()


def test_cosine():
    """Rounded otherwise than on the CPU: the ranks of rows that are not near each other."""
    rng = np.random.default_rng(2)
    pids = rng.integers(0, 5, 60)
    rows = (rng.standard_normal((5, 24))[pids] + 0.7 * rng.standard_normal((60, 24)))
    rows = rows.astype(np.float32)
    q, g = OnCard(rows[:15]), OnCard(rows[15:])
    want = evaluate_embeddings(rows[:15], rows[15:], pids[:15], pids[15:], metric="cosine")
    got = evaluate_embeddings(q, g, pids[:15], pids[15:], metric="cosine")
    assert np.array_equal(got.cmc, want.cmc) and abs(got.mAP - want.mAP) < 1e-12
    d = reidc.compute_distance_matrix(q, g, "cosine")
    assert np.abs(d - reidc.compute_distance_matrix(rows[:15], rows[15:], "cosine")).max() < 1e-6
    q.free(), g.free()


def test_nothing_of_the_matrix_is_in_memory():
    """But counts: a few numbers for each query come down."""
    q, g, q_pids, g_pids, q_cams, g_cams = sets(40, 900)
    held = [OnCard(x) for x in (q, g)]
    start, before = len(CARD.log()), CARD.alive()["bytes"]
    evaluate_embeddings(*held, q_pids, g_pids, q_cams, g_cams)
    log = CARD.log()[start:]
    taken = sum(int(line.split()[1]) for line in log if line.startswith("cudaMalloc "))
    down = sum(int(line.split()[2]) for line in log if line.startswith("cudaMemcpyAsync down"))
    matches = sum(((g_pids == p) & (g_cams != c)).sum() for p, c in zip(q_pids, q_cams))
    assert down == 4 * matches + 8  # and where a row is not finite
    assert taken < 40 * 900 * 4
    assert not any(line.startswith(("cudnnCreate", "cublasLtCreate")) for line in log)
    assert CARD.alive()["bytes"] == before
    for array in held:
        array.free()


def test_networks_leave_their_embeddings_there():
    data = reidc.datasets.Synthetic(identities=6, cameras=2, seed=1)
    cpu, gpu = baseline(), baseline("cuda")
    want, start = reidc.evaluate(cpu, data), len(CARD.log())
    got = reidc.evaluate(gpu, data)
    assert abs(got.mAP - want.mAP) < 1e-3 and got.queries == want.queries
    sizes = [int(line.split()[2]) for line in CARD.log()[start:]
             if line.startswith("cudaMemcpyAsync down")]
    assert max(sizes) < 4 * len(data.gallery) * 8  # never the embeddings: 64 numbers each
    with_matrix = reidc.evaluate(gpu, data, distmat=True)
    assert with_matrix.distmat.shape == (got.queries, len(data.gallery))


def test_validation_of_training(tmp_path):
    data = reidc.datasets.Synthetic(identities=6, cameras=2, seed=1)
    m = reidc.Baseline(data.train.num_classes, 32, 16, seed=3, device="cuda", backbone="resnet18",
                       width_multiplier=0.125)
    recipe = {**reidc.recipes.get("baseline-small"), "epochs": 1, "identities": 2, "images": 2,
              "evaluate_every": 1}
    history = reidc.Trainer(m, data, recipe, tmp_path, log=lambda line: None).fit()
    assert 0 < history[0]["mAP"] <= 1
    assert history[0]["mAP"] == reidc.evaluate(m, data).mAP


@pytest.mark.parametrize("n", range(1, 16))
def test_memory_that_runs_out(n):
    q, g, q_pids, g_pids, q_cams, g_cams = sets()
    held = [OnCard(x) for x in (q, g)]
    for metric in ("euclidean", "cosine"):
        CARD.fail("cudaMalloc", n, 2)
        try:
            evaluate_embeddings(*held, q_pids, g_pids, q_cams, g_cams, metric=metric)
        except MemoryError as error:
            assert "out of memory on the card" in str(error)
        CARD.fail("cudaMalloc", 0, 0)
    for array in held:
        array.free()


@pytest.mark.parametrize("function", ["cudaMemcpyAsync", "cudaStreamSynchronize",
                                      "cudaStreamCreateWithFlags"])
def test_failures_come_out(function):
    q, g, q_pids, g_pids, q_cams, g_cams = sets()
    held = [OnCard(x) for x in (q, g)]
    for n in range(1, 7):
        CARD.fail(function, n, 719)
        try:
            evaluate_embeddings(*held, q_pids, g_pids, q_cams, g_cams)
        except reidc.DeviceError:
            pass
        CARD.fail(function, 0, 0)
    for array in held:
        array.free()


def test_arrays_that_do_not_fit():
    q, g, q_pids, g_pids, _, _ = sets()
    bad = g.copy()
    bad[7, 3] = np.nan
    held = {"q": OnCard(q), "g": OnCard(g), "elsewhere": OnCard(g, card=1), "nan": OnCard(bad),
            "narrow": OnCard(np.ascontiguousarray(g[:, :9])), "turned": OnCard(g, axes=(1, 0)),
            "double": OnCard(g.astype(np.float64))}
    for name, kind, words in (("elsewhere", ValueError, "cuda:1, query is on cuda:0"),
                              ("nan", ValueError, "gallery: row 7 holds NaN"),
                              ("narrow", ValueError, "rows of 16 numbers as in query, got 9"),
                              ("turned", ValueError, "contiguous"),
                              ("double", TypeError, "float32")):
        with pytest.raises(kind, match=words):
            evaluate_embeddings(held["q"], held[name], q_pids, g_pids)
    with pytest.raises(ValueError, match="gallery: it is on the CPU, query is on a card"):
        evaluate_embeddings(held["q"], g, q_pids, g_pids)
    with pytest.raises(ValueError, match="gallery: it is on a card, query is on the CPU"):
        reidc.compute_distance_matrix(q, held["g"])
    there = OnCard(q, card=3)
    with pytest.raises(reidc.DeviceError, match="cuda:3: there is one card"):
        reidc.compute_distance_matrix(there, there)
    for array in [*held.values(), there]:
        array.free()
