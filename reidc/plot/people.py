"""Pictures of people: ranked lists with right and wrong framed, and sheets of a data set."""
from collections import namedtuple

import numpy as np

from reidc import _checks, _shown
from reidc._core import ArgumentError, ArgumentTypeError
from reidc.plot import _canvas as c

Side = namedtuple("Side", "batch pids camids")  # what is asked of a query set or a gallery


def _side(value, name):
    """A split of a data set, or (images, pids, camids or None), as a Side."""
    if hasattr(value, "batch") and hasattr(value, "pids"):
        camids = getattr(value, "camids", None)
        return Side(value.batch, np.asarray(value.pids),
                    None if camids is None else np.asarray(camids))
    if not isinstance(value, (tuple, list)) or not 2 <= len(value) <= 3:
        raise ArgumentTypeError(f"{name}: expected a split or (images, pids, camids), got "
                                f"{type(value).__name__}")
    images = c.check_images(value[0], f"{name} images")
    arrays = []
    for what, array in zip(("pids", "camids"), (value[1], value[2] if len(value) == 3 else None)):
        if array is None and what == "camids":
            arrays.append(None)
            continue
        array = np.asarray(array)
        if array.dtype.kind not in "iu":
            raise ArgumentTypeError(f"{name} {what}: expected integers, got {array.dtype}")
        if array.shape != (len(images),):
            raise ArgumentError(f"{name} {what}: expected {len(images)}, one a picture, got shape "
                                f"{array.shape}")
        arrays.append(array)
    return Side(lambda indices: [images[i] for i in indices], *arrays)


def _sides(data):
    if getattr(data, "query", None) is not None and getattr(data, "gallery", None) is not None:
        return _side(data.query, "query"), _side(data.gallery, "gallery")
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return _side(data[0], "query"), _side(data[1], "gallery")
    raise ArgumentTypeError("data: expected a data set with .query and .gallery, or a pair (query, "
                            f"gallery) of splits or of (images, pids, camids), got "
                            f"{type(data).__name__}")


def _distances(found, data, query, gallery, flip):
    """(a function of query numbers: float rows of length G, an Evaluation or None)."""
    from reidc import evaluation as e

    shape = len(query.pids), len(gallery.pids)
    cameras = query.camids is not None and gallery.camids is not None
    who = (query.pids, gallery.pids, query.camids if cameras else None,
           gallery.camids if cameras else None)
    result = None
    if hasattr(found, "embed"):
        if not hasattr(data, "query"):
            raise ArgumentTypeError("data: with a network expected a data set with .query and "
                                    f".gallery, got {type(data).__name__}")
        flip = bool(found.test_flip if flip is None else flip)
        found = tuple(e.embed_split(found, side, flip=flip) for side in (data.query, data.gallery))
    elif hasattr(found, "cmc") and hasattr(found, "distmat"):
        if found.distmat is None:
            raise ArgumentError("found: this Evaluation holds no distances; make it with "
                                "evaluate(m, data, distmat=True)")
        result, found = found, found.distmat
    if isinstance(found, (tuple, list)) and len(found) == 2:
        q, g = (np.asarray(x) for x in found)
        for name, array, n in (("query", q, shape[0]), ("gallery", g, shape[1])):
            if array.ndim != 2 or len(array) != n:
                raise ArgumentError(f"found: expected {n} {name} embeddings, N x D, got shape "
                                    f"{array.shape}")
        return (lambda rows: e.compute_distance_matrix(q[rows], g),
                e.evaluate_embeddings(q, g, *who))
    matrix = np.asarray(found)
    if matrix.dtype.kind != "f" or matrix.ndim != 2:
        raise ArgumentTypeError("found: expected a network, an Evaluation, distances Q x G or "
                                "(query embeddings, gallery embeddings), got "
                                f"{type(found).__name__}")
    if matrix.shape != shape:
        raise ArgumentError(f"found: expected distances of {shape[0]} x {shape[1]}, queries by "
                            f"gallery pictures, got {matrix.shape[0]} x {matrix.shape[1]}")
    if result is None:
        result = e.Evaluation(e._core._rank_distmat(
            np.ascontiguousarray(matrix), *who, False, False, 0, _checks.threads(None)), shape[1])
    return matrix.__getitem__, result


def _chosen(queries, result, n):
    if isinstance(queries, bool) or (np.ndim(queries) == 0 and not hasattr(queries, "__index__")):
        raise ArgumentTypeError("queries: expected how many, or a list of query numbers, got "
                                f"{type(queries).__name__}")
    if np.ndim(queries) == 0:
        return _shown.spread(result.ap, result.hits, _checks.count("queries", queries))
    rows = np.asarray(queries)
    if rows.dtype.kind not in "iu" or rows.ndim != 1 or not rows.size:
        raise ArgumentTypeError("queries: expected how many, or a list of query numbers")
    if rows.min() < 0 or rows.max() >= n:
        raise ArgumentError(f"queries: expected numbers from 0 to {n - 1}, got "
                            f"{rows[(rows < 0) | (rows >= n)][0]}")
    return rows.tolist()


def _camera(camids, i, short=False):
    return "" if camids is None else f"{'c' if short else 'cam '}{camids[i] + 1}"


def ranking(found, data, *, queries=6, ranks=10, flip=None, title=None, width=7.0):
    """Queries with what was found for them, nearest first; right and wrong framed and marked.

    found: a network (its embeddings of unit length are ranked, as `reidc.evaluate` does), an
        `Evaluation` made with distmat=True, distances float Q×G (smaller is nearer), or a pair of
        embeddings float32 (Q×D, G×D), ranked as they are by squared Euclidean distance.
    data: a data set with .query and .gallery, or a pair (query, gallery), each a split or
        (images uint8 N×H×W×3 or a list, pids N, camids N or None).
    queries: how many, from well to badly found (by AP), or a list of query numbers.
    ranks: gallery pictures a query. flip: of a network; None: as its page's test.
    width: inches.

    Gallery pictures that the evaluation does not count are left out: id -1, and the query's
    identity under its own camera. Right: a whole frame and a check mark; wrong: a dashed one and
    a cross.
    TypeError, ValueError: input that does not fit; ValueError: no query has a match.
    """
    width, ranks = c.check_width(width), _checks.count("ranks", ranks)
    query, gallery = _sides(data)
    c.load()  # a missing matplotlib is said before pictures are embedded
    distances, result = _distances(found, data, query, gallery, flip)
    chosen = _chosen(queries, result, len(query.pids))
    rows = distances(chosen)
    shown = [_shown.nearest(row, query.pids[q], None if query.camids is None else query.camids[q],
                            gallery.pids, gallery.camids, ranks)
             for q, row in zip(chosen, rows)]
    asked = query.batch(chosen)
    columns = 1 + max(1, max(len(places) for places, _ in shown))
    with c.style() as figure:
        grid = c.Grid(figure, len(chosen), columns, c.ratio_of(asked), width, label=0.68,
                      head=0.5 if title else 0.3, below=0.19, gap=0.09, gaps={1: 0.07})
        short = grid.cell < 0.42  # captions of two narrow pictures would meet
        for line, q, (places, right), image in zip(grid.axes, chosen, shown, asked):
            c.picture(line[0], image)
            c.frame(line[0], c.ASKED)
            c.caption(line[0], _camera(query.camids, q, short))
            for axes, g, hit, photo, rank in zip(line[1:], places, right, gallery.batch(places),
                                                 range(1, ranks + 1)):
                color = c.RIGHT if hit else c.WRONG
                c.picture(axes, photo)
                c.frame(axes, color)
                words = _camera(gallery.camids, g, short) or rank
                c.caption(axes, f"{c.MARKS[hit]} {words}", color=color, family=c.MARK_FONT)
            for axes in line[1 + len(places):]:
                c.hide(axes)
        for row, q in enumerate(chosen):
            matches = int(result.hits[q])
            grid.label(row, [f"person {query.pids[q]}",
                             f"AP {result.ap[q]:.2f}" if matches else "no match",
                             f"{matches} to find"])
        _legend(grid, grid.height - 0.06 - (0.2 if title else 0))
        if title:
            grid.text(grid.left, grid.height - 0.05, title, va="top", fontsize=9)
    return grid.figure


def _legend(grid, top):
    """What frames and marks mean, above the columns."""
    look = {"va": "top", "fontsize": 7.5}
    grid.text(grid.left + grid.cell / 2, top, "query", ha="center", **look)
    x = grid.left + grid.cell + 0.16
    if grid.width > 4.2:
        grid.text(x, top, "nearest first:", color=c.FAINT, **look)
        x += 0.78
    for hit, word, color in ((True, "same person", c.RIGHT), (False, "someone else", c.WRONG)):
        grid.text(x, top, f"{c.MARKS[hit]} {word}", color=color, family=c.MARK_FONT, **look)
        x += 0.95


def sheet(data, *, people=6, pictures=8, title=None, width=7.0):
    """A sheet of a data set: people in rows, their pictures by several cameras.

    data: a data set (its .train is shown), a split, or (images, pids, camids or None).
    people: how many, evenly over the identities, or a list of identities; -1 is junk, 0 Market's
        distractors. pictures: the most of each, one of each camera first.
    TypeError, ValueError: input that does not fit, an identity that is not there.
    """
    width, pictures = c.check_width(width), _checks.count("pictures", pictures)
    split = _side(getattr(data, "train", None) if hasattr(data, "train") else data, "data")
    if np.ndim(people) == 0:
        chosen = _shown.people(split.pids, _checks.count("people", people))
    else:
        chosen = [_checks.count("people", pid, -1) for pid in people]
        missing = [pid for pid in chosen if not (split.pids == pid).any()]
        if missing or not chosen:
            raise ArgumentError(f"people: no pictures of {missing[0]}" if missing else
                                "people: expected at least one identity, got none")
    rows = [_shown.pictures_of(split.pids, pid, pictures, split.camids) for pid in chosen]
    images = [split.batch(places) for places in rows]
    with c.style() as figure:
        grid = c.Grid(figure, len(rows), max(map(len, rows)), c.ratio_of(images[0]), width,
                      label=0.68, head=0.3 if title else 0.08,
                      below=0.08 if split.camids is None else 0.19)
        for row, (pid, places) in enumerate(zip(chosen, rows)):
            names = {-1: "junk", 0: "distractors"}
            count = int((split.pids == pid).sum())
            grid.label(row, [names.get(pid, f"person {pid}"),
                             f"{count} picture{'s' if count > 1 else ''}"])
            for axes, i, image in zip(grid.axes[row], places, images[row]):
                c.picture(axes, image)
                if split.camids is not None:
                    c.caption(axes, _camera(split.camids, i))
            for axes in grid.axes[row][len(places):]:
                c.hide(axes)
        if title:
            grid.text(grid.side, grid.height - 0.07, title, va="top", fontsize=9)
    return grid.figure
