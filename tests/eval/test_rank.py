"""evaluate_rank and the streamed evaluation against the definition, on thousands of cases."""
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reidc
from reidc import _core
from reidc.evaluation import evaluate_embeddings

sys.path.insert(0, str(Path(__file__).parent))
import naive_rank as naive


def random_case(rng):
    queries, gallery = rng.integers(1, 12), rng.integers(1, 40)
    ids, cameras = rng.integers(1, 8), rng.integers(1, 4)
    q_pids = rng.integers(-1 if rng.random() < 0.1 else 0, ids, queries)
    g_pids = rng.integers(-1 if rng.random() < 0.5 else 0, ids + 1, gallery)
    if rng.random() < 0.3:
        q_camids = g_camids = None
    else:
        q_camids, g_camids = rng.integers(0, cameras, queries), rng.integers(0, cameras, gallery)
    kind = rng.integers(3)
    if kind == 0:  # many ties
        distmat = rng.integers(0, 4, (queries, gallery)).astype(np.float32)
    elif kind == 1:
        distmat = rng.random((queries, gallery), dtype=np.float32)
    else:  # distinct in float64 only
        distmat = 1.0 + rng.integers(0, 50, (queries, gallery)) * 2.0**-40
    return distmat, q_pids, g_pids, q_camids, g_camids


@pytest.mark.parametrize("seed", range(8))
def test_random_cases_equal_the_definition(seed):
    rng = np.random.default_rng(seed)
    skipped_seen = refused = 0
    for _ in range(400):
        case = random_case(rng)
        max_rank = int(rng.integers(1, 60))
        ap = ("precision", "trapezoid")[rng.integers(2)]
        cmc, mean_ap, mean_inp, skipped = naive.evaluate(*case, max_rank, ap == "trapezoid")
        if cmc is None:
            refused += 1
            with pytest.raises(ValueError, match="no query has a match"):
                reidc.evaluate_rank(*case, max_rank, ap=ap)
            continue
        got_cmc, got_ap = reidc.evaluate_rank(*case, max_rank, ap=ap)
        assert got_cmc.dtype == np.float32 and got_cmc.shape == cmc.shape
        np.testing.assert_allclose(got_cmc, cmc, rtol=1e-6, atol=0)
        assert abs(got_ap - mean_ap) < 1e-12
        result = _core._rank_distmat(*case, False, ap == "trapezoid", 0, 2)
        assert np.flatnonzero(result[0] == 0).tolist() == skipped
        assert abs(_core._rank_summary(result, 1)[2] - mean_inp) < 1e-12
        skipped_seen += bool(skipped)
    assert skipped_seen > 20 and refused > 2  # the cases are what they claim to be


def test_against_average_precision_by_sorting():
    """Without ties and junk, AP is the mean of precision at each hit of a plain argsort."""
    rng = np.random.default_rng(5)
    distmat = rng.random((200, 500), dtype=np.float32)
    q_pids, g_pids = rng.integers(0, 20, 200), rng.integers(0, 20, 500)
    hits = g_pids[np.argsort(distmat, axis=1)] == q_pids[:, None]
    precision = hits.cumsum(1) / np.arange(1, 501)
    want = ((precision * hits).sum(1) / hits.sum(1)).mean()
    cmc, mean_ap = reidc.evaluate_rank(distmat, q_pids, g_pids, None, None)
    assert abs(mean_ap - want) < 1e-12
    np.testing.assert_allclose(cmc, (hits.cumsum(1) > 0).mean(0)[:50], rtol=1e-6)


def test_trapezoid_is_never_higher():
    rng = np.random.default_rng(6)
    for _ in range(200):
        case = random_case(rng)
        try:
            low, high = (reidc.evaluate_rank(*case, ap=ap)[1] for ap in ("trapezoid", "precision"))
        except ValueError:
            continue
        assert low <= high + 1e-15


def test_ties_go_by_gallery_index():
    distmat = np.zeros((1, 3), np.float32)
    pids = np.array([4])
    assert reidc.evaluate_rank(distmat, pids, np.array([4, 1, 1]), None, None)[0][0] == 1
    cmc, mean_ap = reidc.evaluate_rank(distmat, pids, np.array([1, 1, 4]), None, None)
    assert cmc.tolist() == [0, 0, 1] and abs(mean_ap - 1 / 3) < 1e-12
    signed = np.array([[0.0, -0.0, 0.0]], np.float32)  # -0 and 0 are the same distance
    assert reidc.evaluate_rank(signed, pids, np.array([1, 4, 1]), None, None)[1] == 0.5


def test_large_gallery_many_matches_and_infinite_distances():
    rng = np.random.default_rng(7)
    distmat = rng.integers(0, 300, (3, 4000)).astype(np.float32)
    distmat[0, ::7] = np.inf
    distmat[1, ::5] = -np.inf
    q_pids, g_pids = np.array([0, 1, 2]), rng.integers(-1, 3, 4000)
    q_camids, g_camids = np.array([0, 1, 0]), rng.integers(0, 2, 4000)
    case = distmat, q_pids, g_pids, q_camids, g_camids
    cmc, mean_ap, mean_inp, _ = naive.evaluate(*case)
    got = _core._rank_summary(_core._rank_distmat(*case, False, False, 0, 2), 50)
    np.testing.assert_allclose(got[0], cmc, rtol=1e-6)
    assert abs(got[1] - mean_ap) < 1e-12 and abs(got[2] - mean_inp) < 1e-12


def mix64(x):
    mask = 2**64 - 1
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & mask
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & mask
    return x ^ x >> 31


def word(*values):
    x = values[0]
    for v in values[1:]:
        x = mix64(x ^ (v * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) % 2**64)
    return x


def test_cuhk03_draws_one_image_of_each_identity():
    rng = np.random.default_rng(8)
    for seed in range(20):
        distmat, q_pids, g_pids, q_camids, g_camids = random_case(rng)
        found = []
        for i, pid in enumerate(q_pids):
            kept = [j for j in range(len(g_pids)) if g_pids[j] != -1 and not (
                q_camids is not None and g_pids[j] == pid and g_camids[j] == q_camids[i])]
            if pid not in g_pids[kept]:
                continue
            for draw in range(10):
                chosen = []
                for identity in np.unique(g_pids[kept]):
                    own = [j for j in kept if g_pids[j] == identity]
                    h = word(seed, 36, i, draw, int(identity), 0)
                    chosen.append(own[(h >> 40) * len(own) >> 24])
                order = sorted(chosen, key=lambda j: (distmat[i, j], j))
                found.append([g_pids[j] for j in order].index(pid) + 1)
        if not found:
            continue
        cmc, mean_ap = reidc.evaluate_rank(distmat, q_pids, g_pids, q_camids, g_camids, 5, True,
                                           seed=seed)
        want = [np.mean(np.array(found) <= k) for k in range(1, len(cmc) + 1)]
        np.testing.assert_allclose(cmc, want, rtol=1e-6)
        assert mean_ap == reidc.evaluate_rank(distmat, q_pids, g_pids, q_camids, g_camids)[1]


def embeddings(rng, queries=70, gallery=900, dimension=33):
    centres = rng.standard_normal((30, dimension))
    q_pids, g_pids = rng.integers(0, 30, queries), rng.integers(-1, 30, gallery)

    def make(pids):
        return (centres[pids] + 2 * rng.standard_normal((len(pids), dimension))).astype(np.float32)

    return (make(q_pids), make(g_pids), q_pids, g_pids, rng.integers(0, 3, queries),
            rng.integers(0, 3, gallery))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_streamed_equals_matrix_and_threads_do_not_matter(metric):
    query, gallery, *labels = embeddings(np.random.default_rng(9))
    whole = evaluate_embeddings(query, gallery, *labels, metric=metric, distmat=True, threads=1)
    distmat = reidc.compute_distance_matrix(query, gallery, metric)
    cmc, mean_ap = reidc.evaluate_rank(distmat, *labels)
    assert whole.mAP == mean_ap and (whole.cmc == cmc).all()
    assert (whole.distmat == distmat).all()
    for threads in (1, 2, 7):
        part = evaluate_embeddings(query, gallery, *labels, metric=metric, threads=threads)
        assert part.distmat is None
        assert part.mAP == whole.mAP and part.mINP == whole.mINP
        assert (part.cmc == whole.cmc).all() and (part.ap == whole.ap).all()
    assert 0.1 < whole.mAP < 0.99


MEMORY = """
import numpy as np
from reidc.evaluation import evaluate_embeddings
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
data = np.random.default_rng(10).standard_normal((12000, 4), dtype=np.float32)
pids = np.arange(12000) // 4
before = peak()
evaluate_embeddings(data, data, pids, pids, distmat={distmat})
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("distmat, low, high", [(False, 0, 100), (True, 500, 9999)])
def test_streaming_holds_a_block_not_the_matrix(distmat, low, high):
    """12,000 x 12,000 distances are 550 MiB; a block of them is about 32."""
    run = subprocess.run([sys.executable, "-c", MEMORY.format(distmat=distmat)], text=True,
                         capture_output=True, timeout=60, cwd=Path(reidc.__file__).parents[1])
    assert run.returncode == 0, run.stderr
    assert low <= int(run.stdout) <= high


def test_labels_of_any_integer_dtype():
    distmat = np.random.default_rng(14).random((5, 20), dtype=np.float32)
    q_pids, g_pids = np.arange(5), np.arange(20) % 5
    want = reidc.evaluate_rank(distmat, q_pids, g_pids, None, None)[1]
    for dtype in (np.int8, np.uint16, np.int32, np.uint64, ">i4"):
        got = reidc.evaluate_rank(distmat, q_pids.astype(dtype), g_pids.astype(dtype), None, None)
        assert got[1] == want
    assert reidc.evaluate_rank(distmat, list(q_pids), tuple(g_pids), None, None)[1] == want


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
def test_a_signal_stops_a_long_call():
    class Stop(Exception):
        pass

    def handler(number, frame):
        raise Stop

    rows = np.random.default_rng(15).standard_normal((8000, 2048), dtype=np.float32)
    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Stop):
            reidc.compute_distance_matrix(rows, rows, threads=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_interval():
    query, gallery, *labels = embeddings(np.random.default_rng(11), queries=400)
    result = evaluate_embeddings(query, gallery, *labels)
    low, high = result.interval(repeats=4000)
    valid = result.ap[result.hits > 0]
    spread = valid.std() / np.sqrt(len(valid))
    assert low < result.mAP < high
    assert abs((high - low) / (2 * 1.96 * spread) - 1) < 0.06  # normal approximation
    assert result.interval(repeats=50) == result.interval(repeats=50)
    assert result.interval(repeats=50) != result.interval(repeats=50, seed=1)
    wide, narrow = result.interval("rank-1", 0.99), result.interval(1, 0.5)
    assert wide[0] < narrow[0] <= result.rank(1) <= narrow[1] < wide[1]
    assert result.interval("mINP")[0] < result.mINP < result.interval("mINP")[1]
    for bad in ({"level": 1.0}, {"level": float("nan")}, {"repeats": 0}, {"metric": "mAp"},
                {"metric": 0}, {"metric": True}):
        with pytest.raises(ValueError):
            result.interval(**bad)
    for bad in ({"level": "0.9"}, {"repeats": 50.0}):
        with pytest.raises(TypeError, match=f"{[*bad][0]}: expected a"):
            result.interval(**bad)
    with pytest.raises(TypeError, match="k: expected an integer, got float"):
        result.rank(1.0)


def test_result_prints_saves_and_names_the_skipped(tmp_path):
    import json
    query, gallery, q_pids, g_pids, q_camids, g_camids = embeddings(np.random.default_rng(12))
    q_pids[3] = 999
    names = [f"{i:03}.jpg" for i in range(len(q_pids))]
    result = evaluate_embeddings(query, gallery, q_pids, g_pids, q_camids, g_camids, names=names)
    assert result.skipped == ["003.jpg"] and result.valid == len(q_pids) - 1
    assert "mAP" in str(result) and f"{100 * result.mAP:.2f} %" in str(result)
    assert "skipped" in str(result)
    path = tmp_path / "result.json"
    result.save(path)
    data = json.loads(path.read_text())
    assert data["mAP"] == result.mAP and len(data["cmc"]) == 50
    assert data["skipped"] == ["003.jpg"]
    assert data["provenance"]["protocol"]["ap"] == "precision"
    assert data["provenance"]["config"] == reidc.config()
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    with pytest.raises(ValueError, match="k: expected 1 to 50, got 51"):
        result.rank(51)


GOOD = dict(distmat=np.zeros((2, 3), np.float32), q_pids=[0, 1], g_pids=[0, 1, 1],
            q_camids=[0, 0], g_camids=[1, 1, 1])


@pytest.mark.parametrize("error, message, change", [
    (TypeError, "distmat", {"distmat": np.zeros((2, 3), np.int32)}),
    (TypeError, "distmat", {"distmat": None}),
    (ValueError, "distmat: expected 2 dim", {"distmat": np.zeros(3, np.float32)}),
    (ValueError, "distmat: expected 2 dim", {"distmat": np.zeros(3)}),
    (ValueError, "q_pids: expected 2", {"q_pids": [0, 1, 1]}),
    (ValueError, "g_pids: expected 3", {"g_pids": [0]}),
    (ValueError, "q_camids: expected 2", {"q_camids": [0]}),
    (ValueError, "g_camids: expected 3", {"g_camids": [0]}),
    (ValueError, "both camera arrays or neither", {"g_camids": None}),
    (ValueError, "both camera arrays or neither", {"q_camids": None}),
    (TypeError, "q_pids", {"q_pids": np.array([0.0, 1.0])}),
    (TypeError, "g_pids", {"g_pids": ["a", "b", "c"]}),
    (ValueError, "row 1, column 2 is NaN", {"distmat": np.array([[0, 0, 0], [0, 0, np.nan]],
                                                                np.float32)}),
    (ValueError, "row 0, column 0 is NaN", {"distmat": np.array([[np.nan, 0, 0], [0, 0, 0]])}),
    (ValueError, "max_rank", {"max_rank": 0}),
    (TypeError, "max_rank", {"max_rank": 1.5}),
    (ValueError, "ap: expected", {"ap": "area"}),
    (ValueError, "threads", {"threads": 0}),
    (TypeError, "threads: expected an integer or None, got float", {"threads": 2.0}),
    (ValueError, "seed", {"seed": -1}),
    (ValueError, "no query has a match", {"g_camids": [0, 0, 0]}),
    (ValueError, "no query has a match", {"q_pids": [-1, -1], "g_pids": [-1, -1, -1]}),
    (ValueError, "no query has a match", {"distmat": np.zeros((0, 3), np.float32), "q_pids": [],
                                          "q_camids": []}),
    (ValueError, "no query has a match", {"distmat": np.zeros((2, 0), np.float32), "g_pids": [],
                                          "g_camids": []}),
])
def test_wrong_input_is_one_clear_error(error, message, change):
    with pytest.raises(error, match=message):
        reidc.evaluate_rank(**{**GOOD, **change})


def test_skipped_query_with_nan_is_still_refused():
    distmat = np.array([[np.nan, 0], [0, 0]], np.float32)
    with pytest.raises(ValueError, match="row 0, column 0 is NaN"):
        reidc.evaluate_rank(distmat, [7, 1], [1, 1], None, None)


def test_failed_allocations_leave_nothing_behind():
    query, gallery, *labels = embeddings(np.random.default_rng(13), 20, 50)
    args = query, gallery, *labels, "cosine", True, False, 0, 2
    live = _core._memory_live()
    refused = 0
    for n in range(1, 40):
        _core._memory_fail_after(n)
        try:
            _core._rank_embeddings(*args)
        except MemoryError:
            refused += 1
        finally:
            _core._memory_fail_after(-1)
        assert _core._memory_live() == live
    assert 8 <= refused < 39
