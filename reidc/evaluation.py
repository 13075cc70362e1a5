"""Distances, CMC / mAP / mINP, and the evaluation of a network on a data set.

The arithmetic is in csrc/eval; here are the public functions, the result's table and its file.
Rules (spec/common.md 6): squared Euclidean or 1 - cosine; ascending and stable, ties by gallery
index; gallery images with id -1, or with the query's id and camera, do not count; ids that never
match stay as negatives; queries without a match are left out and named.
"""
from reidc import _core
from reidc._core import ArgumentError, ArgumentTypeError

AP_KINDS = ("precision", "trapezoid")


def _threads(threads):
    if threads is None:
        return _core.config()["threads"]
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise ArgumentTypeError(f"threads: expected an integer or None, got {type(threads).__name__}")
    if threads < 1:
        raise ArgumentError(f"threads: expected at least 1, got {threads}")
    return min(threads, 256)


def _trapezoid(ap):
    if ap not in AP_KINDS:
        raise ArgumentError(f"ap: expected 'precision' or 'trapezoid', got {ap!r}")
    return ap == "trapezoid"


def _seed(seed):
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise ArgumentTypeError(f"seed: expected an integer, got {type(seed).__name__}")
    seed = seed.__index__()
    if not 0 <= seed < 2**64:
        raise ArgumentError(f"seed: expected 0..2^64-1, got {seed}")
    return seed


def _max_rank(max_rank, gallery):
    if isinstance(max_rank, bool) or not hasattr(max_rank, "__index__"):
        raise ArgumentTypeError(f"max_rank: expected an integer, got {type(max_rank).__name__}")
    max_rank = max_rank.__index__()
    if max_rank < 1:
        raise ArgumentError(f"max_rank: expected at least 1, got {max_rank}")
    return max(1, min(max_rank, gallery))


def compute_distance_matrix(query, gallery, metric="euclidean", *, threads=None):
    """Distances between all rows of two sets of embeddings.

    query: float32 Q x D; gallery: float32 G x D. metric: "euclidean", the *squared* Euclidean
    distance of the rows as given (no root, no normalisation), or "cosine", 1 - cosine, in [0, 2].
    Returns float32 Q x G. Differences are summed, so equal rows are at exactly 0 and near pairs
    keep their digits. TypeError: dtype; ValueError: shapes, an unknown metric, NaN or infinity.
    """
    if not isinstance(metric, str):
        raise ArgumentTypeError(f"metric: expected 'euclidean' or 'cosine', got {type(metric).__name__}")
    return _core._compute_distance_matrix(query, gallery, metric, _threads(threads))


def evaluate_rank(distmat, q_pids, g_pids, q_camids, g_camids, max_rank=50,
                  use_metric_cuhk03=False, *, ap="precision", seed=0, threads=None):
    """CMC and mAP of a distance matrix: `(cmc, mAP)`.

    distmat: float32 or float64 Q x G, smaller is nearer. q_pids (Q), g_pids (G): identities,
    integers; -1 in the gallery is junk. q_camids (Q), g_camids (G): cameras, or both None: nothing
    is filtered by camera. cmc: float32, min(max_rank, G) values, cmc[k-1] the share of queries
    with a match among their first k; mAP: float. `use_metric_cuhk03`: CMC over one random image of
    each identity, ten draws a query, fixed by `seed`; mAP stays over all images. `ap`: "precision"
    or "trapezoid" (Market-1501's own code). Queries without a match do not count; ValueError if
    that is all of them, if a distance is NaN, or if lengths differ.
    """
    result = _core._rank_distmat(distmat, q_pids, g_pids, q_camids, g_camids,
                                 bool(use_metric_cuhk03), _trapezoid(ap), _seed(seed),
                                 _threads(threads))
    cmc, mean_ap, _, _ = _core._rank_summary(result, _max_rank(max_rank, len(g_pids)))
    return cmc, mean_ap


def color_histogram(images, centre=False, *, threads=None):
    """The baseline that sees colours only: 8 x 8 x 8 RGB histogram, square root, unit length.

    images: uint8 N x H x W x 3; centre: only columns W/4 .. 3W/4 - 1. Returns float32 N x 512.
    """
    return _core._color_histogram(images, bool(centre), _threads(threads))


class Evaluation:
    """What came out: `.mAP`, `.mINP`, `.cmc` (float32, cmc[k-1]), `.rank(k)`, `.interval(…)`,
    `.skipped` (queries without a match: their names, or numbers where there are none),
    `.queries` and `.gallery` (counts), `.distmat` (float32 Q x G, or None), `.provenance` (a dict).
    Printing it gives a table; `.save(path)` writes JSON.
    """

    def __init__(self, result, gallery, *, max_rank=50, names=None, distmat=None,
                 provenance=None, threads=None):
        self._result = result
        self._threads = _threads(threads)
        self.hits, self.first, _, self.ap, self.inp = result
        self.queries, self.gallery = len(self.hits), gallery
        self.cmc, self.mAP, self.mINP, self.valid = _core._rank_summary(
            result, _max_rank(max_rank, gallery))
        skipped = (self.hits == 0).nonzero()[0].tolist()
        self.skipped = skipped if names is None else [names[i] for i in skipped]
        self.distmat = distmat
        self.provenance = dict(provenance or {})

    def rank(self, k):
        """CMC at k: the share of queries with a match among their first k, k = 1.. ."""
        if not 1 <= k <= len(self.cmc):
            raise ArgumentError(f"k: expected 1..{len(self.cmc)}, got {k}")
        return float(self.cmc[k - 1])

    def interval(self, metric="mAP", level=0.95, repeats=2000, seed=0):
        """Bootstrap over the queries: (low, high) that hold `level` of the resampled values.

        metric: "mAP", "mINP", or k (or "rank-k") for CMC at k. The interval speaks of other queries
        against this gallery, not of other training runs.
        """
        k = 0
        if metric not in ("mAP", "mINP"):
            text = str(metric).removeprefix("rank-")
            if isinstance(metric, bool) or not text.isdigit() or int(text) < 1:
                raise ArgumentError(f"metric: expected 'mAP', 'mINP', 'rank-k' or k, got {metric!r}")
            k, metric = int(text), "cmc"
        return _core._rank_interval(self._result, metric, k, float(level), int(repeats),
                                    _seed(seed), self._threads)

    def as_dict(self):
        """Plain data, as `save` writes it."""
        return {
            "mAP": self.mAP, "mINP": self.mINP, "cmc": [float(x) for x in self.cmc],
            "queries": self.queries, "gallery": self.gallery,
            "skipped": [x if isinstance(x, int) else str(x) for x in self.skipped],
            "provenance": self.provenance,
        }

    def save(self, path):
        """Write the numbers and where they come from as JSON, whole or not at all."""
        import json

        from reidc._files import write_atomic

        text = json.dumps(self.as_dict(), indent=1, allow_nan=False, default=str)
        with write_atomic(path) as file:
            file.write(text.encode() + b"\n")

    def __str__(self):
        ranks = [k for k in (1, 5, 10, 20) if k <= len(self.cmc)]
        heads = ["mAP", "mINP", *(f"rank-{k}" for k in ranks), "queries", "gallery"]
        cells = [f"{100 * x:.2f} %" for x in (self.mAP, self.mINP, *map(self.rank, ranks))]
        cells += [str(self.queries), str(self.gallery)]
        if self.skipped:
            heads.append("skipped")
            cells.append(str(len(self.skipped)))
        widths = [max(len(a), len(b)) for a, b in zip(heads, cells)]
        return "\n".join("  ".join(x.rjust(w) for x, w in zip(row, widths))
                         for row in (heads, cells))

    def __repr__(self):
        return (f"Evaluation(mAP={self.mAP:.4f}, rank1={self.rank(1):.4f}, "
                f"queries={self.queries}, gallery={self.gallery}, skipped={len(self.skipped)})")


def evaluate_embeddings(query, gallery, q_pids, g_pids, q_camids=None, g_camids=None, *,
                        metric="euclidean", ap="precision", max_rank=50,
                        use_metric_cuhk03=False, seed=0, distmat=False, names=None,
                        provenance=None, threads=None):
    """Evaluate embeddings that are there already: an `Evaluation`.

    query, gallery: float32 Q x D and G x D, taken as they are ("euclidean": squared distance).
    Distances are made and ranked a block of queries at a time; the whole matrix exists only with
    `distmat=True`, in the result's `.distmat`. names: Q names for `.skipped`. The other arguments
    as in `evaluate_rank`.
    """
    threads = _threads(threads)
    trapezoid, seed = _trapezoid(ap), _seed(seed)
    matrix = None
    if distmat:
        matrix = compute_distance_matrix(query, gallery, metric, threads=threads)
        result = _core._rank_distmat(matrix, q_pids, g_pids, q_camids, g_camids,
                                     bool(use_metric_cuhk03), trapezoid, seed, threads)
    else:
        result = _core._rank_embeddings(query, gallery, q_pids, g_pids, q_camids, g_camids, metric,
                                        bool(use_metric_cuhk03), trapezoid, seed, threads)
    protocol = {"metric": "squared " + metric if metric == "euclidean" else metric, "ap": ap,
                "cuhk03": bool(use_metric_cuhk03), "seed": seed,
                "cameras": q_camids is not None}
    return Evaluation(result, len(g_pids), max_rank=max_rank, names=names, distmat=matrix,
                      provenance={**_circumstances(), "protocol": protocol, **(provenance or {})},
                      threads=threads)


def _circumstances():
    import platform
    import time

    import numpy

    import reidc

    return {"reidc": reidc.__version__, "python": platform.python_version(), "numpy": numpy.__version__,
            "platform": platform.platform(), "config": _core.config(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
