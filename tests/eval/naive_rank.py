"""CMC, AP and INP straight from the definition, one query at a time, in plain NumPy."""
import numpy as np


def rank_query(row, pid, camid, g_pids, g_camids, trapezoid=False):
    """(ranks of the matches from 1, AP, INP), or None without a match."""
    order = sorted(range(len(row)), key=lambda j: (row[j], j))
    kept = [j for j in order if g_pids[j] != -1
            and not (camid is not None and g_pids[j] == pid and g_camids[j] == camid)]
    ranks = [place for place, j in enumerate(kept, 1) if g_pids[j] == pid]
    if not ranks:
        return None
    terms = []
    for m, r in enumerate(ranks, 1):
        if trapezoid:
            old = 1.0 if r == 1 else (m - 1) / (r - 1)
            terms.append((m / r + old) / 2)
        else:
            terms.append(m / r)
    return ranks, sum(terms) / len(ranks), len(ranks) / ranks[-1]


def evaluate(distmat, q_pids, g_pids, q_camids, g_camids, max_rank=50, trapezoid=False):
    """(cmc, mAP, mINP, skipped); cmc is None when every query is skipped."""
    cmc, aps, inps, skipped = [], [], [], []
    max_rank = min(max_rank, len(g_pids))
    for i, row in enumerate(distmat):
        camid = None if q_camids is None else q_camids[i]
        found = rank_query(row, q_pids[i], camid, g_pids, g_camids, trapezoid)
        if found is None:
            skipped.append(i)
            continue
        ranks, ap, inp = found
        cmc.append([float(ranks[0] <= k) for k in range(1, max_rank + 1)])
        aps.append(ap)
        inps.append(inp)
    if not aps:
        return None, None, None, skipped
    return np.mean(cmc, axis=0), np.mean(aps), np.mean(inps), skipped
