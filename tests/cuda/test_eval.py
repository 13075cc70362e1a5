"""Distances, ranks, nearest images and Grad-CAM of cuda/eval, run on the host."""
import ctypes
import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import build

if not build.library():
    pytest.skip("no C++ compiler", allow_module_level=True)
import run
from run import LIB, Buffer

from reidc.evaluation import evaluate_embeddings

pytestmark = pytest.mark.cuda_host
LONG, INT = ctypes.c_int64, ctypes.c_int
RNG = np.random.default_rng(4)


@pytest.fixture(autouse=True, params=[0, 1, 5], ids=["forward", "backward", "shuffled"])
def order(request):
    LIB.rc_host_set_order(request.param)
    yield
    LIB.rc_host_set_order(0)
    LIB.rc_host_error()


class Pairs(ctypes.Structure):  # rc_device_pairs, rc_device_ranking of csrc/device/device.h
    _fields_ = [(n, ctypes.c_void_p) for n in ("query", "gallery", "lack_query", "lack_gallery")]
    _fields_ += [(n, LONG) for n in ("queries", "gallery_rows", "dimension")]


class Ranking(ctypes.Structure):
    _fields_ = [(n, ctypes.c_void_p) for n in ("start", "match", "q_pids", "g_pids")]
    _fields_ += [("matches", LONG)]
    _fields_ += [(n, ctypes.c_void_p) for n in ("distance", "sorted", "place", "ranks")]


def put(a):
    return Buffer(a.size, a.dtype, np.ascontiguousarray(a).reshape(-1))


def call(name, buffers, *args):
    getattr(LIB, name)(*args, None)
    run.check()
    for i, b in enumerate(buffers):
        b.check(f"buffer {i} of {name}")


def void(b):
    return ctypes.c_void_p(b.at)


def pairs_of(query, gallery, cosine):
    """The struct, and the buffers that must outlive it."""
    keep, out = [], Pairs()
    for which, rows in (("query", query), ("gallery", gallery)):
        b = put(rows.astype(np.float32))
        if cosine:
            unit, lack = Buffer(rows.size, np.float32), Buffer(len(rows), np.float32)
            call("rc_cuda_unit_rows", [b, unit, lack], void(b), LONG(len(rows)),
                 LONG(rows.shape[1]), void(unit), void(lack))
            setattr(out, f"lack_{which}", lack.at)
            keep += [lack]
            b = unit
        setattr(out, which, b.at)
        keep.append(b)
    out.queries, out.gallery_rows, out.dimension = len(query), len(gallery), query.shape[1]
    return out, keep


def distances(query, gallery, cosine=False, first=0, count=None):
    count = len(query) - first if count is None else count
    p, keep = pairs_of(query, gallery, cosine)
    out = Buffer(count * len(gallery), np.float32)
    call("rc_cuda_distances", [*keep, out], ctypes.byref(p), LONG(first), LONG(count), void(out))
    return out.view.reshape(count, len(gallery)).copy()


@pytest.mark.parametrize("q, g, d", [(3, 5, 7), (130, 150, 20), (1, 129, 3), (128, 128, 8)])
def test_distances(q, g, d):
    a, b = RNG.standard_normal((q, d)), RNG.standard_normal((g, d))
    a, b = a.astype(np.float32), b.astype(np.float32)
    a[0] = b[0]
    want = ((a[:, None].astype(np.float64) - b[None]) ** 2).sum(2)
    got = distances(a, b)
    assert np.abs(got - want).max() <= (d + 4) * 2.0 ** -23 * max(1, want.max()) and got[0, 0] == 0
    assert np.array_equal(distances(a, b, first=q // 2, count=1)[0], got[q // 2])
    b[-1] = 0  # no direction: at distance 1 from all others
    unit = [x / np.maximum(np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True), 1e-12)
            for x in (a, b)]
    got = distances(a, b, cosine=True)
    assert np.abs(got - (1 - unit[0] @ unit[1].T)).max() <= (d + 8) * 2.0 ** -23


def matches_of(q_pids, g_pids, q_cams, g_cams):
    lists = [np.flatnonzero((g_pids == p) & (g_cams != c) & (p != -1))
             for p, c in zip(q_pids, q_cams)]
    start = np.concatenate([[0], np.cumsum([len(m) for m in lists])]).astype(np.int32)
    return start, np.concatenate(lists).astype(np.int32)


def ranks(query, gallery, q_pids, g_pids, start, match, cosine=False, at_once=None):
    p, keep = pairs_of(query, gallery, cosine)
    n = max(len(match), 1)
    r, made = Ranking(), {}
    for name, values in (("start", start), ("match", match), ("q_pids", q_pids),
                         ("g_pids", g_pids)):
        made[name] = put(values)
    for name in ("distance", "sorted"):
        made[name] = Buffer(n, np.float32)
    for name in ("place", "ranks"):
        made[name] = Buffer(n, np.int32)
    for name, b in made.items():
        setattr(r, name, b.at)
    r.matches = len(match)
    at_once = at_once or len(query)
    for first in range(0, len(query), at_once):
        call("rc_cuda_rank", [*keep, *made.values()], ctypes.byref(p), ctypes.byref(r), LONG(first),
             LONG(min(at_once, len(query) - first)))
    return made["ranks"].view[:len(match)].copy()


@pytest.mark.parametrize("n, d", [(1, 1), (70, 33), (9, 128)])
def test_rows_that_are_not_finite(n, d):
    rows = RNG.standard_normal((n, d)).astype(np.float32)
    for bad in ([], [(n - 1, d - 1)], [(n // 2, 0), (n - 1, d // 2)]):
        for value in (np.nan, np.inf, -np.inf):
            x = rows.copy()
            for at in bad:
                x[at] = value
            held, found = put(x), put(np.array([n + 5], np.int32))
            call("rc_cuda_find_bad", [held, found], void(held), LONG(n), LONG(d), void(found))
            assert found.view[0] == (bad[0][0] if bad else n + 5)


@pytest.mark.parametrize("q, g, d, levels", [(9, 60, 4, 2), (40, 300, 6, 3), (140, 260, 5, 40)])
def test_ranks_are_those_of_a_stable_sort(q, g, d, levels):
    """Few different coordinates: distances are exact, and many are equal."""
    rng = np.random.default_rng(q)
    a = rng.integers(0, levels, (q, d)).astype(np.float32)
    b = rng.integers(0, levels, (g, d)).astype(np.float32)
    q_pids, g_pids = rng.integers(0, 9, q), rng.integers(-1, 9, g)
    q_pids[0] = 77  # nobody else's
    q_cams, g_cams = rng.integers(0, 3, q), rng.integers(0, 3, g)
    start, match = matches_of(q_pids, g_pids, q_cams, g_cams)
    got = ranks(a, b, q_pids, g_pids, start, match)
    assert np.array_equal(got, ranks(a, b, q_pids, g_pids, start, match, at_once=30))
    dist = ((a[:, None] - b[None]) ** 2).sum(2)
    for i in range(q):
        order = np.argsort(dist[i], kind="stable")
        junk = (g_pids == -1) | ((g_pids == q_pids[i]) & (g_cams == q_cams[i]))
        left = order[~junk[order]]
        want = 1 + np.flatnonzero(np.isin(left, match[start[i]:start[i + 1]]))
        assert got[start[i]:start[i + 1]].tolist() == want.tolist(), i


def test_ranks_lead_to_evaluate():
    rng = np.random.default_rng(8)
    pids = rng.integers(0, 6, 90)
    f = (rng.standard_normal((6, 16))[pids] + rng.standard_normal((90, 16))).astype(np.float32)
    cams = rng.integers(0, 4, 90)
    q, g = slice(0, 20), slice(20, 90)
    start, match = matches_of(pids[q], pids[g], cams[q], cams[g])
    for cosine in (False, True):
        got = ranks(f[q], f[g], pids[q], pids[g], start, match, cosine)
        want = evaluate_embeddings(f[q], f[g], pids[q], pids[g], cams[q], cams[g],
                                   metric="cosine" if cosine else "euclidean")
        lists = [got[start[i]:start[i + 1]] for i in range(20)]
        ap = [np.mean(np.arange(1, len(r) + 1) / r) for r in lists if len(r)]
        assert np.isclose(np.mean(ap), want.mAP, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows, n, k", [(3, 40, 1), (2, 40, 40), (4, 1000, 10), (2, 3000, 257)])
def test_nearest(rows, n, k):
    for values in (RNG.standard_normal((rows, n)), RNG.integers(-2, 3, (rows, n))):
        d = values.astype(np.float32)
        b, index, value = put(d), Buffer(rows * k, np.int32), Buffer(rows * k, np.float32)
        call("rc_cuda_nearest", [b, index, value], void(b), LONG(rows), LONG(n), LONG(k),
             void(index), void(value))
        want = np.argsort(d, axis=1, kind="stable")[:, :k]
        assert np.array_equal(index.view.reshape(rows, k), want)
        assert np.array_equal(value.view.reshape(rows, k), np.take_along_axis(d, want, 1))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("n, h, w, c", [(2, 6, 3, 37), (3, 16, 8, 64)])
def test_grad_cam(n, h, w, c, bf16):
    maps, gradients = (RNG.standard_normal((n, h, w, c)).astype(np.float32) for _ in range(2))
    if bf16:
        maps, gradients = (run.from_bf16(run.to_bf16(v)) for v in (maps, gradients))
    held = [put(run.to_bf16(v) if bf16 else v) for v in (maps, gradients)]
    for activation in (False, True):
        begin = RNG.random((n, h, w))
        cam, out = put(begin), Buffer(n * 4 * h * 4 * w, np.float32)
        call("rc_cuda_cam_add", [*held, cam], void(held[0]),
             None if activation else void(held[1]), INT(bf16), LONG(n), LONG(h * w), LONG(c),
             void(cam))
        m, g = maps.astype(np.float64), gradients.astype(np.float64)
        added = (m ** 2).sum(3) if activation else np.maximum(
            (m * g.mean((1, 2), keepdims=True)).sum(3), 0)
        want = begin + added
        assert np.abs(cam.view.reshape(n, h, w) - want).max() < 1e-12 * c
        call("rc_cuda_cam_finish", [cam, out], void(cam), LONG(n), LONG(h), LONG(w),
             ctypes.c_bool(activation), LONG(4 * h), LONG(4 * w), void(out))
        if activation:
            want /= np.sqrt((want ** 2).sum((1, 2), keepdims=True))
        low, high = want.min((1, 2), keepdims=True), want.max((1, 2), keepdims=True)
        want = (want - low) / (high - low)
        for axis, size in ((1, h), (2, w)):
            x = np.clip((np.arange(4 * size) + 0.5) / 4 - 0.5, 0, size - 1)
            at = np.minimum(x.astype(int), size - 1)
            share = (x - at).reshape((-1, 1) if axis == 1 else (1, -1))
            want = (np.take(want, at, axis) * (1 - share)
                    + np.take(want, np.minimum(at + 1, size - 1), axis) * share)
        assert np.abs(out.view.reshape(n, 4 * h, 4 * w) - want).max() < 1e-6
