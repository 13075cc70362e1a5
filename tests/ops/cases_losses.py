"""Cases of the losses (spec/common.md 1 and the pages) and of sums of scalars; each `ref_*` is
the definition in float64, pair by pair."""
import numpy as np
from harness import Case

CASES = []
WRONG = []  # (op, attrs, shapes, words that the message must have)


def case(*args, **more):
    CASES.append(Case(*args, **more))


def wrong(*args):
    WRONG.append(args)


def labelled(labels, *, scale=1.0, extra=None):
    """Normal rows with these labels; extra: shape of a third input."""
    def make(rng, shapes):
        out = [scale * rng.standard_normal(shapes[0]), np.array(labels, np.int64)]
        return out + ([rng.standard_normal(shapes[2])] if len(shapes) > 2 else [])
    return make


# ---- cross entropy ---------------------------------------------------------------------------

def ref_cross_entropy(x, attrs, training):
    z, labels = x
    n, k = z.shape
    eps = attrs.get("smoothing", 0.0)
    if attrs.get("mode"):
        t = np.full((n, k), eps / (k - 1))
        t[np.arange(n), labels] = 1 - eps
    else:
        t = np.full((n, k), eps / k)
        t[np.arange(n), labels] += 1 - eps
    top = z.max(axis=1, keepdims=True)
    log_p = z - top - np.log(np.exp(z - top).sum(axis=1, keepdims=True))
    rows = -(t * log_p).sum(axis=1)
    divisor = max(np.count_nonzero(rows), 1) if attrs.get("mode") else n
    return np.array([rows.sum() / divisor])


for smoothing in (0.0, 0.1, 1.0):
    for mode in (0, 1):
        case("cross_entropy", {"smoothing": smoothing, "mode": mode}, [(3, 5), (3,)],
             ref_cross_entropy, inputs=labelled([0, 4, 2]))
case("cross_entropy", {"smoothing": 0.1}, [(4, 37), (4,)], ref_cross_entropy,
     inputs=labelled([0, 36, 2, 9], scale=30.0), terms=37)
case("cross_entropy", {}, [(2, 1), (2,)], ref_cross_entropy, inputs=labelled([0, 0]))


def certain(rng, shapes):
    """Two rows of three are so sure that their loss is exactly 0: 'others' does not count them."""
    z = rng.standard_normal(shapes[0])
    z[0, 1] += 2000
    z[2, 0] += 2000
    return [z, np.array([1, 3, 0])]


for mode in (0, 1):
    case("cross_entropy", {"mode": mode}, [(3, 4), (3,)], ref_cross_entropy, inputs=certain,
         label="certain")
wrong("cross_entropy", {"mode": 1}, [(2, 1), (2,)], "2 classes")
wrong("cross_entropy", {"smoothing": 1.5}, [(2, 3), (2,)], ["smoothing", "1.5"])
wrong("cross_entropy", {}, [(2, 3), (3,)], ["labels", "2"])
wrong("cross_entropy", {}, [(2, 3, 1, 1), (2,)], ["logits", "2x3x1x1"])


# ---- triplet ---------------------------------------------------------------------------------

def distances(x, attrs):
    if attrs.get("mode"):
        u = x / np.maximum(np.sqrt((x ** 2).sum(axis=1, keepdims=True)), 1e-12)
        d = 2 - 2 * u @ u.T
        np.fill_diagonal(d, 0)
        return d
    if attrs.get("normalized"):
        x = x / (np.sqrt((x ** 2).sum(axis=1, keepdims=True)) + 1e-12)
    square = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    return np.sqrt(np.maximum(square, 1e-12))


def ref_triplet(x, attrs, training):
    x, labels = x
    d, losses = distances(x, attrs), []
    for a in range(len(x)):
        same = labels == labels[a]
        v = d[a][same].max() - d[a][~same].min()
        losses.append(np.logaddexp(0, v) if attrs.get("soft")
                      else max(0.0, v + attrs["margin"]))
    return np.array([np.mean(losses)])


LABELS = [3, 3, 1, 1, 1, 7, 3, 0]  # unequal counts, and anchors without another positive
KINDS = [{"margin": 0.3}, {"soft": 1}, {"margin": 1.2, "normalized": 1},
         {"soft": 1, "normalized": 1}, {"margin": 0.5, "mode": 1}, {"soft": 1, "mode": 1}]
for kind in KINDS:
    case("triplet", kind, [(8, 6), (8,)], ref_triplet, inputs=labelled(LABELS))
    case("triplet", kind, [(2, 3), (2,)], ref_triplet, inputs=labelled([0, 1]))
case("triplet", {"margin": 0.0}, [(8, 33), (8,)], ref_triplet, inputs=labelled(LABELS),
     terms=33, label="often below the hinge")


def grad_triplet_edges(x, attrs, dy):
    """Rows of `edges`: see there. d(0,1) = 0 is bounded: no gradient; the hinge of anchors 0, 1
    is exactly 0 and passes: only their negative, row 2 (lowest of the tie 2, 3), gets a share."""
    z = x[0]
    out = np.zeros_like(z)
    for a in (0, 1):  # an = |z_a - z_2| = 2, ap = 1e-6, margin = 2 - 1e-6
        pull = (z[a] - z[2]) / 2 / 4
        out[a] -= pull
        out[2] += pull
    for a in (2, 3):  # ap = 4 over (2,3), an = 2 at row 0
        pull = (z[a] - z[5 - a]) / 4 / 4
        out[a] += pull
        out[5 - a] -= pull
        pull = (z[a] - z[0]) / 2 / 4
        out[a] -= pull
        out[0] += pull
    return [out * dy[0]]


def edges(rng, shapes):
    return [np.array([[0.0, 1], [0, 1], [2, 1], [-2, 1]]), np.array([5, 5, 6, 6])]


case("triplet", {"margin": 2 - 1e-6}, [(4, 2), (4,)], ref_triplet, inputs=edges,
     grad_ref=grad_triplet_edges, label="edges")


def grad_triplet_ties(x, attrs, dy):
    """Anchor 0 has two farthest positives, rows 1 and 2: the lower one takes the gradient."""
    z = x[0]
    out = np.zeros_like(z)
    for a, j, sign in ((0, 1, 1), (0, 3, -1), (1, 2, 1), (1, 3, -1), (2, 1, 1), (2, 3, -1),
                       (3, 0, -1)):
        pull = sign * (z[a] - z[j]) / np.sqrt(((z[a] - z[j]) ** 2).sum()) / 4
        out[a] += pull
        out[j] -= pull
    return [out * dy[0]]


case("triplet", {"margin": 10.0}, [(4, 2), (4,)], ref_triplet, grad_ref=grad_triplet_ties,
     inputs=lambda rng, s: [np.array([[0.0, 0], [3, 0], [-3, 0], [0, 4]]),
                            np.array([5, 5, 5, 2])], label="ties")
wrong("triplet", {"margin": -0.1}, [(4, 2), (4,)], "margin")
wrong("triplet", {"mode": 2}, [(4, 2), (4,)], "mode")
wrong("triplet", {"margin": 0.3}, [(4, 2, 1), (4,)], ["embeddings", "4x2x1"])
wrong("triplet", {"margin": 0.3}, [(4, 2), (5,)], "labels")


# ---- centre ----------------------------------------------------------------------------------

def ref_center(x, attrs, training):
    x, labels, centers = x
    square = ((x[:, None] - centers[None]) ** 2).sum(axis=2)
    mask = labels[:, None] == np.arange(len(centers))[None]
    return np.array([np.clip(mask * square, 1e-12, 1e12).sum() / len(x)])


case("center", {}, [(5, 4), (5,), (3, 4)], ref_center, inputs=labelled([0, 2, 2, 0, 2], extra=1))
case("center", {}, [(2, 17), (2,), (9, 17)], ref_center, inputs=labelled([8, 1], extra=1),
     terms=17)


def at_centers(rng, shapes):
    """Row 0 sits on its centre, row 1 is beyond 1e12: no gradient from either."""
    centers = rng.standard_normal(shapes[2])
    x = rng.standard_normal(shapes[0])
    x[0], x[1] = np.float32(centers[1]), 2e6
    return [x, np.array([1, 0, 0]), centers]


def grad_center(x, attrs, dy):
    x, labels, centers = x
    dx, dc = np.zeros_like(x), np.zeros_like(centers)
    dx[2] = 2 * (x[2] - centers[0]) / 3
    dc[0] = -dx[2]
    return [dx * dy[0], None, dc * dy[0]]


case("center", {}, [(3, 4), (3,), (2, 4)], ref_center, inputs=at_centers, grad_ref=grad_center,
     label="clamped")
wrong("center", {}, [(3, 4), (3,), (2, 5)], ["centers", "4"])
wrong("center", {}, [(3, 4), (2,), (2, 4)], "labels")


# ---- circle ----------------------------------------------------------------------------------

def circle_parts(x, attrs):
    """Cosines, the detached factors (0: the pair is not there), and the loss of a row."""
    x, labels = x
    m, g = attrs["margin"], attrs["scale"]
    unit = x / np.maximum(np.sqrt((x ** 2).sum(axis=1, keepdims=True)), 1e-12)
    s = unit @ unit.T
    same = labels[:, None] == labels[None]
    positive, negative = same & ~np.eye(len(x), dtype=bool), ~same
    fp = np.where(positive, -g * np.maximum(0, 1 + m - s), 0)
    fn = np.where(negative, g * np.maximum(0, s + m), 0)
    lp = np.where(positive, fp * (s - (1 - m)), -99999999.0)
    ln = np.where(negative, fn * (s - m), -99999999.0)

    def lse(v):
        top = v.max(axis=1, keepdims=True)
        return top[:, 0] + np.log(np.exp(v - top).sum(axis=1))
    there = positive.any(axis=1) & negative.any(axis=1)
    return unit, fp, fn, lp, ln, lse, there


def ref_circle(x, attrs, training):
    _, _, _, lp, ln, lse, there = circle_parts(x, attrs)
    return np.array([np.where(there, np.logaddexp(0, lse(lp) + lse(ln)), 0).mean()])


def grad_circle(x, attrs, dy):
    unit, fp, fn, lp, ln, lse, there = circle_parts(x, attrs)
    outer = there / (1 + np.exp(-np.where(there, lse(lp) + lse(ln), 0))) / len(unit)
    ds = outer[:, None] * (fp * np.exp(lp - lse(lp)[:, None]) + fn * np.exp(ln - lse(ln)[:, None]))
    du = (ds + ds.T) @ unit
    length = np.sqrt((x[0] ** 2).sum(axis=1, keepdims=True))
    return [dy[0] * (du - unit * (unit * du).sum(axis=1, keepdims=True)) / length]


for margin, scale in ((0.25, 128.0), (0.25, 1.0), (0.4, 16.0)):
    case("circle", {"margin": margin, "scale": scale}, [(8, 6), (8,)], ref_circle,
         inputs=labelled(LABELS), grad_ref=grad_circle, terms=64, slack=scale,
         label="slack: cosines' rounding times the scale")
case("circle", {"margin": 0.25, "scale": 64.0}, [(4, 3), (4,)], ref_circle,
     inputs=labelled([2, 2, 2, 2]), grad_ref=grad_circle, label="one identity")
wrong("circle", {"margin": 0.25, "scale": 0.0}, [(4, 3), (4,)], "scale")
wrong("circle", {"margin": 0.25, "scale": 1.0}, [(4,), (4,)], "embeddings")


# ---- circle_logits: the class-level form -----------------------------------------------------

def circle_factors(x, attrs):
    """The detached factor and the middle of each cosine, class by class."""
    x, labels = x
    m = attrs["margin"]
    factor, middle = np.empty_like(x), np.empty_like(x)
    for i, row in enumerate(x / attrs["scale"]):
        for k, s in enumerate(row):
            true = k == labels[i]
            factor[i, k] = max(0, 1 + m - s) if true else max(0, s + m)
            middle[i, k] = 1 - m if true else m
    return factor, middle


def ref_circle_logits(x, attrs, training):
    factor, middle = circle_factors(x, attrs)
    return attrs["scale"] * factor * (x[0] / attrs["scale"] - middle)


def grad_circle_logits(x, attrs, dy):
    return [circle_factors(x, attrs)[0] * dy]


def cosines(labels, scale):
    """Of any size: -1 to 1, some beyond where a factor is 0, times the scale."""
    def make(rng, shapes):
        return [scale * rng.uniform(-1.6, 1.6, shapes[0]), np.array(labels, np.int64)]
    return make


for margin, scale in ((0.35, 64.0), (0.25, 1.0), (0.0, 16.0)):
    case("circle_logits", {"margin": margin, "scale": scale}, [(4, 7), (4,)], ref_circle_logits,
         inputs=cosines([0, 6, 2, 2], scale), grad_ref=grad_circle_logits)
case("circle_logits", {"margin": 0.35, "scale": 64.0}, [(2, 1), (2,)], ref_circle_logits,
     inputs=cosines([0, 0], 64.0), grad_ref=grad_circle_logits)
wrong("circle_logits", {"margin": 0.35, "scale": 0.0}, [(4, 3), (4,)], "scale")
wrong("circle_logits", {"margin": float("nan"), "scale": 1.0}, [(4, 3), (4,)], "margin")
wrong("circle_logits", {"margin": 0.35, "scale": 64.0}, [(4, 3), (3,)], ["labels", "4"])
wrong("circle_logits", {"margin": 0.35, "scale": 64.0}, [(4, 3, 1, 1), (4,)], "4x3x1x1")


# ---- cosine_loss, scalars --------------------------------------------------------------------

def ref_cosine(x, attrs, training):
    f, r = (v / np.maximum(np.sqrt((v ** 2).sum(axis=1, keepdims=True)), 1e-12) for v in x)
    return np.array([(1 - (f * r).sum(axis=1)).mean()])


def grad_cosine(x, attrs, dy):
    f, r = x
    length = np.sqrt((f ** 2).sum(axis=1, keepdims=True))
    w = r / np.sqrt((r ** 2).sum(axis=1, keepdims=True))
    u = f / length
    return [-dy[0] * (w - (u * w).sum(axis=1, keepdims=True) * u) / length / len(f), None]


for shape in ((3, 5), (2, 65)):
    case("cosine_loss", {}, [shape, shape], ref_cosine, grad_ref=grad_cosine, terms=shape[1])
wrong("cosine_loss", {}, [(3, 5), (3, 6)], ["3x5", "3x6"])

for count in (1, 2, 9, 32):
    case("mean_scalars", {}, [(1,)] * count, lambda x, a, t: np.mean(x, axis=0))
wrong("mean_scalars", {}, [(1,), (2,)], "single numbers")
for weight in (2.0, -0.0005):
    case("add_scalars", {"weight": weight}, [(1,), (1,)],
         lambda x, a, t: x[0] + a["weight"] * x[1])
wrong("add_scalars", {"weight": 1.0}, [(1,), (1, 1)], "1x1")
wrong("add_scalars", {"weight": float("inf")}, [(1,), (1,)], "weight")
