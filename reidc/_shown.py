"""Which pictures are shown: queries from well to badly found, their nearest, one person's pictures.

Chosen here for the demo's pictures (Pillow) and for `reidc.plot` (matplotlib) alike. What does not
count in the evaluation is not shown either: gallery pictures of id -1, and those with the
query's identity and camera.
"""
import numpy as np

JUNK = -1


def spread(ap, hits, shares):
    """Queries at these shares of the order from the worst AP to the best, best first.

    ap, hits: of an Evaluation; queries without a match are left out. shares: numbers from 0 to 1,
    or how many, evenly from 0.95 down to 0.05. No query comes twice.
    """
    order = np.lexsort((np.arange(len(ap)), ap))
    order = order[np.asarray(hits)[order] > 0].tolist()
    if isinstance(shares, int):
        shares = [0.5] if shares == 1 else [0.95 - 0.9 * i / (shares - 1) for i in range(shares)]
    chosen = [order[min(len(order) - 1, int(share * len(order)))] for share in shares]
    return list(dict.fromkeys(chosen))


def nearest(distances, pid, camid, pids, camids, count):
    """The `count` nearest gallery pictures of one query that count: (places, right), two lists.

    distances: G numbers, smaller is nearer; ties by place. camid, camids: None: nothing is left
    out by camera.
    """
    junk = pids == JUNK
    if camids is not None and camid is not None:
        junk = junk | ((pids == pid) & (camids == camid))
    order = np.argsort(distances, kind="stable")
    found = order[~junk[order]][:count].tolist()
    return found, [bool(pids[i] == pid) for i in found]


def people(pids, count):
    """`count` identities, evenly over all; ids below 1, junk and distractors, only where there are
    no others."""
    known = np.unique(pids)
    known = known[known > 0] if (known > 0).any() else known
    places = np.linspace(0, len(known) - 1, min(count, len(known))).round()
    return known[places.astype(int)].tolist()


def pictures_of(pids, pid, count, camids=None):
    """The first `count` pictures of an identity; where cameras are known, one of each camera before
    a second of any."""
    places = np.flatnonzero(pids == pid).tolist()
    if camids is not None:
        seen, turns = {}, []
        for i in places:
            turns.append(seen.setdefault(int(camids[i]), 0))
            seen[int(camids[i])] += 1
        chosen = sorted(range(len(places)), key=turns.__getitem__)[:count]
        places = sorted(places[i] for i in chosen)
    return places[:count]
