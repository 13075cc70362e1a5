"""AABS in plain Python, step by step as the MBGN page (section 3) writes it. Also says how close
any test came to its threshold, since planes are a discontinuous function of the map."""
from math import sqrt

import numpy as np


def start(H):
    R, S, c, planes = (2, 2, 2, 3, 3), 12, 0, []
    for i in range(4):
        c += R[i]
        planes.append((2 * H * c + S) // (2 * S))
    return planes


def uniform(H):
    return [int((i + 1) * H / 5 + 0.5) for i in range(4)]


def aabs(F, row_type=np.float32):
    """F: C x H x w. Returns (planes, margin, passes); margin: the least distance of a relative
    difference |t-s|/max(s,t) from the threshold 1e-5."""
    C, H, w = F.shape
    r = F.astype(row_type).mean(axis=2, dtype=row_type).T.astype(np.float64)
    G = (r @ r.T).tolist()
    margin = [np.inf]

    def score(y, lo, hi):
        n = hi - lo
        m = sum(G[y][lo:hi]) / n
        q = sum(sum(G[u][lo:hi]) for u in range(lo, hi)) / (n * n)
        return m / sqrt(max(q, 1e-12))

    def side(y, lo, line, hi):
        s, t = score(y, lo, line), score(y, line, hi)
        if max(s, t) > 0:
            margin[0] = min(margin[0], abs(abs(t - s) / max(s, t) - 1e-5))
        if t - s > 1e-5 * max(s, t):
            return 1
        if s - t > 1e-5 * max(s, t):
            return -1
        return 0

    planes, passes = start(H), 0
    for _ in range(H):
        changed = False
        passes += 1
        for i in range(4):
            lo = planes[i - 1] if i > 0 else 0
            hi = planes[i + 1] if i < 3 else H
            s0 = side(planes[i] - 1, lo, planes[i], hi)
            s1 = side(planes[i], lo, planes[i], hi)
            if s0 == s1 == 1 and planes[i] - lo >= 2:
                planes[i] -= 1
                changed = True
            elif s0 == s1 == -1 and hi - planes[i] >= 2:
                planes[i] += 1
                changed = True
        if not changed:
            break
    return planes, margin[0], passes
