"""Distances, CMC / mAP / mINP, and the evaluation of a network on a data set.

The arithmetic is in csrc/eval; here are the public functions, the result's table and its file.
Rules (spec/common.md 6): squared Euclidean or 1 - cosine; ascending and stable, ties by gallery
index; gallery images with id -1, or with the query's id and camera, do not count; ids that never
match stay as negatives; queries without a match are left out and named.
"""
from reidc import _checks, _core
from reidc._core import ArgumentError, ArgumentTypeError

AP_KINDS = ("precision", "trapezoid")


def _trapezoid(ap):
    if ap not in AP_KINDS:
        raise ArgumentError(f"ap: expected 'precision' or 'trapezoid', got {ap!r}")
    return ap == "trapezoid"


def _max_rank(max_rank, gallery):
    return max(1, min(_checks.count("max_rank", max_rank), gallery))


def _card(*arrays):
    """Arrays that may lie on a card: its library is looked for where it is."""
    import numpy

    if not all(isinstance(array, (numpy.ndarray, list)) for array in arrays):
        from reidc.devices import set_paths

        set_paths()


def compute_distance_matrix(query, gallery, metric="euclidean", *, threads=None):
    """Distances between all rows of two sets of embeddings.

    query: float32 Q x D; gallery: float32 G x D; both on the host, or both on one card (DLPack, the
    CUDA array interface), which then works the distances out. metric: "euclidean", the *squared*
    Euclidean distance of the rows as given (no root, no normalisation), or "cosine", 1 - cosine, in
    [0, 2]. Returns float32 Q x G, on the host. Differences are summed, so equal rows are at exactly
    0 and near pairs keep their digits. TypeError: dtype; ValueError: shapes, an unknown metric, NaN
    or infinity, one on a card and one not.
    """
    if not isinstance(metric, str):
        raise ArgumentTypeError("metric: expected 'euclidean' or 'cosine', got "
                                f"{type(metric).__name__}")
    _card(query, gallery)
    return _core._compute_distance_matrix(query, gallery, metric, _checks.threads(threads))


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
                                 bool(use_metric_cuhk03), _trapezoid(ap), _checks.seed(seed),
                                 _checks.threads(threads))
    cmc, mean_ap, _, _ = _core._rank_summary(result, _max_rank(max_rank, len(g_pids)))
    return cmc, mean_ap


def color_histogram(images, centre=False, *, threads=None):
    """The baseline that sees colours only: 8 x 8 x 8 RGB histogram, square root, unit length.

    images: uint8 N x H x W x 3; centre: only columns W/4 .. 3W/4 - 1. Returns float32 N x 512.
    """
    return _core._color_histogram(images, bool(centre), _checks.threads(threads))


class Evaluation:
    """What came out: `.mAP`, `.mINP`, `.cmc` (float32, cmc[k-1]), `.rank(k)`, `.interval(…)`,
    `.skipped` (queries without a match: their names, or numbers where there are none),
    `.queries` and `.gallery` (counts), `.distmat` (float32 Q x G, or None), `.provenance` (a dict).
    Printing it gives a table; `.save(path)` writes JSON.
    """

    def __init__(self, result, gallery, *, max_rank=50, names=None, distmat=None,
                 provenance=None, threads=None):
        self._result = result
        self._threads = _checks.threads(threads)
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
        return float(self.cmc[_checks.integer("k", k, 1, len(self.cmc)) - 1])

    def interval(self, metric="mAP", level=0.95, repeats=2000, seed=0):
        """Bootstrap over the queries: (low, high) that hold `level` of the resampled values.

        metric: "mAP", "mINP", or k (or "rank-k") for CMC at k. The interval speaks of other queries
        against this gallery, not of other training runs.
        """
        k = 0
        if metric not in ("mAP", "mINP"):
            text = str(metric).removeprefix("rank-")
            if isinstance(metric, bool) or not text.isdigit() or int(text) < 1:
                raise ArgumentError("metric: expected 'mAP', 'mINP', 'rank-k' or k, got "
                                    f"{metric!r}")
            k, metric = int(text), "cmc"
        return _core._rank_interval(self._result, metric, k, _checks.number("level", level),
                                    _checks.count("repeats", repeats), _checks.seed(seed),
                                    self._threads)

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

    query, gallery: float32 Q x D and G x D, taken as they are ("euclidean": squared distance); on
    the host, or both on one card (a `DeviceArray`, DLPack, the CUDA array interface): then that
    card ranks them, and what comes to the host are the places of the matches.
    Distances are made and ranked a block of queries at a time; the whole matrix exists only with
    `distmat=True`, in the result's `.distmat`. names: Q names for `.skipped`. The other arguments
    as in `evaluate_rank`.
    """
    threads = _checks.threads(threads)
    trapezoid, seed = _trapezoid(ap), _checks.seed(seed)
    matrix = None
    if distmat:
        matrix = compute_distance_matrix(query, gallery, metric, threads=threads)
        result = _core._rank_distmat(matrix, q_pids, g_pids, q_camids, g_camids,
                                     bool(use_metric_cuhk03), trapezoid, seed, threads)
    else:
        _card(query, gallery)
        result = _core._rank_embeddings(query, gallery, q_pids, g_pids, q_camids, g_camids, metric,
                                        bool(use_metric_cuhk03), trapezoid, seed, threads)
    protocol = {"metric": "squared " + metric if metric == "euclidean" else metric, "ap": ap,
                "cuhk03": bool(use_metric_cuhk03), "seed": seed,
                "cameras": q_camids is not None}
    return Evaluation(result, len(g_pids), max_rank=max_rank, names=names, distmat=matrix,
                      provenance={**_circumstances(), "protocol": protocol, **(provenance or {})},
                      threads=threads)


def embed_split(m, split, *, flip=False, normalize=True, indices=None, progress=None, chunk=256,
                device_output=False):
    """Embeddings of a split's pictures: float32 n x D; device_output: a `DeviceArray`, on the
    network's card.

    split: a data set's `.query`, `.gallery` or `.train`; pictures of different sizes are resized
    to the network's. indices: only these pictures, in this order. progress(done, total) is called
    after every `chunk` pictures. The next pictures are read while the network runs.
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy

    indices = numpy.arange(len(split)) if indices is None else numpy.asarray(indices)
    parts = [indices[i:i + chunk] for i in range(0, len(indices), chunk)]
    rows, there = [], {"device_output": True} if device_output else {}

    def read(part):
        pictures = split.batch(part)
        if isinstance(pictures, list):
            pictures = _core._images_to_input(pictures, m.height, m.width, nchw=True,
                                              threads=_checks.threads(None))
        return pictures

    with ThreadPoolExecutor(1, "reidc-read") as reader:
        coming = reader.submit(read, parts[0]) if parts else None
        done = 0
        for number, part in enumerate(parts):
            pictures = coming.result()
            if number + 1 < len(parts):
                coming = reader.submit(read, parts[number + 1])
            rows.append(m.embed(pictures, flip=flip, normalize=normalize, **there))
            done += len(part)
            if progress is not None:
                progress(done, len(indices))
    if rows and device_output:
        return _core._device_join(rows)
    return numpy.concatenate(rows) if rows else numpy.zeros((0, m.dimension), numpy.float32)


def evaluate(m, dataset, *, flip=None, ap="precision", distmat=False, max_rank=50,
             use_metric_cuhk03=False, seed=0, progress=None, threads=None):
    """Test a network on a data set: an `Evaluation`, which prints as a table.

    Every query against the whole gallery, by squared Euclidean distance of embeddings of unit
    length. flip: average with the mirrored picture; None does what the network's page does. ap:
    "precision" or "trapezoid". A network on a card leaves its embeddings there, and the card ranks
    them. distmat: keep the whole matrix, float32 Q x G, in the result's
    `.distmat`; otherwise it never exists, and gallery pictures of id -1, which count for nothing,
    are not even embedded. progress(done, total) counts pictures. ValueError: no query has a match.
    """
    import time

    import numpy

    # Wrong input is refused before the long part.
    _trapezoid(ap), _checks.seed(seed), _checks.threads(threads)
    query, gallery = getattr(dataset, "query", None), getattr(dataset, "gallery", None)
    if not hasattr(m, "embed") or query is None or gallery is None:
        wrong = "m: expected a network" if not hasattr(m, "embed") else (
            "dataset: expected one with .query and .gallery")
        got = m if not hasattr(m, "embed") else dataset
        raise ArgumentTypeError(f"{wrong}, got {type(got).__name__}")
    flip = bool(m.test_flip if flip is None else flip)
    g_pids = numpy.asarray(gallery.pids)
    kept = numpy.arange(len(g_pids)) if distmat else numpy.flatnonzero(g_pids != -1)
    cameras = query.camids is not None and gallery.camids is not None
    total, start = len(query) + len(kept), time.perf_counter()

    def shifted(by):
        return progress and (lambda done, _: progress(by + done, total))

    there = getattr(m, "device", "cpu") != "cpu" and len(query) > 0 and len(kept) > 0
    q = embed_split(m, query, flip=flip, progress=shifted(0), device_output=there)
    g = embed_split(m, gallery, flip=flip, indices=kept, progress=shifted(len(query)),
                    device_output=there)
    seconds = time.perf_counter() - start
    paths = getattr(query, "paths", None)
    provenance = {
        "dataset": {"name": str(getattr(dataset, "name", type(dataset).__name__)),
                    "text": repr(dataset), "notes": list(getattr(dataset, "notes", []))},
        "network": {"type": type(m).__name__, "config": getattr(m, "config", None),
                    "contract": getattr(m, "contract", None)},
        "flip": flip, "images_per_second": round(total / max(seconds, 1e-9), 1),
    }
    return evaluate_embeddings(
        q, g, query.pids, g_pids[kept], query.camids if cameras else None,
        numpy.asarray(gallery.camids)[kept] if cameras else None, ap=ap, max_rank=max_rank,
        use_metric_cuhk03=use_metric_cuhk03, seed=seed, distmat=distmat,
        names=None if paths is None else list(paths), provenance=provenance, threads=threads)


def _circumstances():
    import platform
    import time

    import numpy

    import reidc

    return {"reidc": reidc.__version__, "python": platform.python_version(),
            "numpy": numpy.__version__,
            "platform": platform.platform(), "config": _core.config(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
