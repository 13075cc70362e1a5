"""AABS (spec/mbgn.md 3) in plain Python and NumPy: the planes that cut a feature map into parts.

Written from the page's listing, one image after the other, float64 from the Gram matrix on.
`aabs(F)` gives the planes; `trace(F)` also how near any test came to the threshold, for a plane is
a discontinuous function of F and such images are left out of comparisons.
"""
import math

import numpy as np

THRESHOLD = 1e-5
REACHES = (2, 2, 2, 3, 3)


def start(height):
    """The planes of the body proportions: round half up of H*c/S."""
    s, c, planes = sum(REACHES), 0, []
    for r in REACHES[:4]:
        c += r
        planes.append((2 * height * c + s) // (2 * s))
    return planes


def uniform(height):
    """Five equal runs: round half up of (i+1)*H/5."""
    return [(2 * height * (i + 1) + 5) // 10 for i in range(4)]


def gram(f):
    """f: C x H x W float32 -> H x H float64."""
    r = f.astype(np.float64).mean(2).astype(np.float32).astype(np.float64)  # C x H
    return r.T @ r


class Walk:
    """The loop on one image; `nearest` = least | |t-s|/max(s,t) - 1e-5 | of all tests."""

    def __init__(self, g):
        self.g = g
        self.height = len(g)
        self.nearest = math.inf
        self.passes = 0

    def score(self, y, lo, hi):
        n = hi - lo
        m = sum(self.g[y][lo:hi]) / n
        q = sum(sum(row[lo:hi]) for row in self.g[lo:hi]) / (n * n)
        return m / math.sqrt(max(q, 1e-12))

    def side(self, y, lo, plane, hi):
        s, t = self.score(y, lo, plane), self.score(y, plane, hi)
        top = max(s, t)
        if top != 0:
            self.nearest = min(self.nearest, abs(abs(t - s) / abs(top) - THRESHOLD))
        if t - s > THRESHOLD * top:
            return 1
        if s - t > THRESHOLD * top:
            return -1
        return 0

    def run(self):
        planes = start(self.height)
        for _ in range(self.height):
            self.passes += 1
            changed = False
            for i in range(4):
                lo = planes[i - 1] if i else 0
                hi = planes[i + 1] if i < 3 else self.height
                s0 = self.side(planes[i] - 1, lo, planes[i], hi)
                s1 = self.side(planes[i], lo, planes[i], hi)
                if s0 == s1 == 1 and planes[i] - lo >= 2:
                    planes[i] -= 1
                    changed = True
                elif s0 == s1 == -1 and hi - planes[i] >= 2:
                    planes[i] += 1
                    changed = True
            if not changed:
                break
        return planes


def trace(maps):
    """maps: N x C x H x W float32 -> planes (N x 4 int64), nearest (N), passes (N)."""
    planes, nearest, passes = [], [], []
    for f in np.asarray(maps):
        walk = Walk(gram(f).tolist())
        planes.append(walk.run())
        nearest.append(walk.nearest)
        passes.append(walk.passes)
    return (np.array(planes, np.int64).reshape(-1, 4), np.array(nearest, np.float64),
            np.array(passes, np.int64))


def aabs(maps):
    """Planes alone, N x 4 int64."""
    return trace(maps)[0]
