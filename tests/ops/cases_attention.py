"""Cases of involution, relation_map, planes and what attention and pooling of the pages need;
each `ref_*` is the definition, written for reading, in float64."""
import naive_aabs
import numpy as np
from harness import Case

CASES = []
WRONG = []  # (op, attrs, shapes, words that the message must have)


def case(*args, **more):
    CASES.append(Case(*args, **more))


def wrong(*args):
    WRONG.append(args)


# ---- involution ------------------------------------------------------------------------------

def ref_involution(x, attrs, training):
    x, k = x
    n, c, h, w = x.shape
    K, G = attrs["kernel"], attrs["groups"]
    r = (K - 1) // 2
    padded = np.zeros((n, c, h + 2 * r, w + 2 * r))
    padded[:, :, r:r + h, r:r + w] = x
    k = k.reshape(n, G, K * K, h, w)
    out = np.zeros(x.shape)
    for t in range(K * K):
        ky, kx = divmod(t, K)
        for ch in range(c):
            out[:, ch] += k[:, ch // (c // G), t] * padded[:, ch, ky:ky + h, kx:kx + w]
    return out


def involution(n, c, h, w, kernel, groups, **more):
    case("involution", {"kernel": kernel, "groups": groups},
         [(n, c, h, w), (n, kernel * kernel * groups, h, w)], ref_involution,
         terms=max(kernel * kernel, c // groups), **more)


involution(2, 4, 3, 2, 3, 2)
involution(1, 6, 5, 4, 1, 3)
involution(1, 3, 4, 6, 5, 1)
involution(2, 2, 3, 5, 7, 2)
# 16 channels a group and kernel 7: what vector kernels run. Widths below, at and above blocks.
for width in (1, 2, 3, 4, 5, 7, 8, 9):
    involution(1, 32, 3, width, 7, 2, numeric=False)
involution(1, 16, 2, 31, 7, 1, numeric=False)
involution(2, 256, 5, 17, 7, 16, numeric=False)  # whole and half vectors of groups
involution(1, 272, 9, 4, 7, 17, numeric=False)
involution(2, 528, 1, 6, 7, 33, numeric=False)
involution(3, 48, 12, 8, 7, 3, numeric=False)
wrong("involution", {"kernel": 4, "groups": 2}, [(1, 4, 3, 3), (1, 32, 3, 3)], "odd")
wrong("involution", {"kernel": 3, "groups": 3}, [(1, 4, 3, 3), (1, 27, 3, 3)],
      ["4 channels", "3 groups"])
wrong("involution", {"kernel": 3, "groups": 2}, [(1, 4, 3, 3), (1, 17, 3, 3)],
      ["1x18x3x3", "1x17x3x3"])
wrong("involution", {"kernel": 3, "groups": 2}, [(1, 4, 3), (1, 18, 3, 3)], "4 dimensions")


# ---- relation_map ----------------------------------------------------------------------------

def ref_relation(x, attrs, training):
    a, b, weight = x
    n, c, h, w = a.shape
    a, b = a.reshape(n, c, h * w), b.reshape(n, c, h * w)
    relation = np.einsum("nci,ncj->nij", a, b)  # the literal one: channel i at position j
    return np.einsum("qi,nij->nqj", weight[:, :, 0, 0], relation).reshape(n, -1, h, w)


def relation(n, c, h, w, q, **more):
    case("relation_map", {}, [(n, c, h, w), (n, c, h, w), (q, h * w, 1, 1)], ref_relation,
         terms=h * w + c, **more)


relation(2, 3, 2, 3, 2)
relation(1, 1, 1, 4, 1)
relation(3, 5, 4, 2, 3)
relation(2, 32, 16, 8, 16, numeric=False)
relation(2, 17, 13, 7, 11, numeric=False)
wrong("relation_map", {}, [(1, 3, 2, 2), (1, 3, 2, 3), (1, 4, 1, 1)], "one shape")
wrong("relation_map", {}, [(1, 3, 2, 2), (1, 3, 2, 2), (1, 5, 1, 1)], ["4 columns", "1x5x1x1"])


# ---- planes, half_means, pair_cosine ---------------------------------------------------------

def ref_planes(x, attrs, training):
    f = x[0]
    if attrs["mode"] == 1:
        return np.array([naive_aabs.start(f.shape[2])] * len(f))
    if attrs["mode"] == 2:
        return np.array([naive_aabs.uniform(f.shape[2])] * len(f))
    found = [naive_aabs.aabs(image, np.float64) for image in f]
    assert all(margin > 1e-6 for _, margin, _ in found), "choose another seed"
    return np.array([planes for planes, _, _ in found])


def body_maps(rng, shapes):
    """Five kinds of rows at random heights, with noise: planes that move by several rows."""
    n, c, h, w = shapes[0]
    out = np.zeros(shapes[0])
    for image in out:
        cuts = np.sort(rng.choice(np.arange(1, h), 4, replace=False))
        kinds = rng.random((5, c)) * (rng.random((5, c)) < 0.5)
        for y in range(h):
            image[:, y] = kinds[np.searchsorted(cuts, y, "right")][:, None]
        image += 0.3 * rng.random(image.shape)
    return [out]


for mode in (0, 1, 2):
    case("planes", {"mode": mode}, [(9, 37, 24, 4)], ref_planes, inputs=body_maps)
    case("planes", {"mode": mode}, [(6, 16, 16, 3)], ref_planes, inputs=body_maps)
    case("planes", {"mode": mode}, [(5, 8, 6, 2)], ref_planes, inputs=body_maps)
    case("planes", {"mode": mode}, [(2, 8, 5, 1)], ref_planes, inputs=body_maps)
case("planes", {"mode": 0}, [(3, 4, 13, 3)], ref_planes,
     inputs=lambda rng, shapes: [np.zeros(shapes[0])], label="blank")
wrong("planes", {"mode": 0}, [(1, 4, 4, 4)], ["5 rows", "1x4x4x4"])
wrong("planes", {"mode": 3}, [(1, 4, 8, 4)], "mode")


def ref_half_means(x, attrs, training):
    f, planes = x
    n, c, h, w = f.shape
    out = np.zeros((n, 10, c))
    for i in range(n):
        cuts = [0, *planes[i], h]
        for part in range(5):
            rows = f[i, :, cuts[part]:cuts[part + 1]]
            out[i, 2 * part] = rows[:, :, :w // 2].mean(axis=(1, 2))
            out[i, 2 * part + 1] = rows[:, :, w // 2:].mean(axis=(1, 2))
    return out


def with_planes(rng, shapes):
    n, _, h, _ = shapes[0]
    cuts = [np.sort(rng.choice(np.arange(1, h), 4, replace=False)) for _ in range(n)]
    return [rng.standard_normal(shapes[0]), np.array(cuts, np.int64)]


for shape in ((2, 3, 6, 2), (3, 5, 12, 4), (2, 2, 9, 5), (1, 33, 24, 8)):
    case("half_means", {}, [shape, (shape[0], 4)], ref_half_means, inputs=with_planes,
         terms=shape[2] * shape[3])
wrong("half_means", {}, [(1, 4, 4, 4), (1, 4)], "5 rows")
wrong("half_means", {}, [(1, 4, 8, 1), (1, 4)], "2 columns")
wrong("half_means", {}, [(2, 4, 8, 4), (1, 4)], ["planes", "2x4"])


def ref_pair_cosine(x, attrs, training):
    u = x[0]
    length = np.sqrt((u ** 2).sum(axis=2, keepdims=True))
    unit = u / np.maximum(length, 1e-12)
    r = u.shape[1]
    pairs = [(a, b) for a in range(r) for b in range(a + 1, r)]
    return np.stack([(unit[:, a] * unit[:, b]).sum(axis=1) for a, b in pairs], axis=1)


def grad_pair_cosine_tiny(x, attrs, dy):
    """Lengths below the clamp: the divisor is 1e-12, a constant."""
    unit, r = x[0] / 1e-12, x[0].shape[1]
    d, at = np.zeros_like(unit), 0
    for a in range(r):
        for b in range(a + 1, r):
            d[:, a] += dy[:, at, None] * unit[:, b]
            d[:, b] += dy[:, at, None] * unit[:, a]
            at += 1
    return [d / 1e-12]


case("pair_cosine", {}, [(2, 10, 7)], ref_pair_cosine)
case("pair_cosine", {}, [(1, 2, 1)], ref_pair_cosine)
case("pair_cosine", {}, [(3, 5, 33)], ref_pair_cosine, terms=33)
case("pair_cosine", {}, [(2, 3, 4)], ref_pair_cosine, grad_ref=grad_pair_cosine_tiny,
     inputs=lambda rng, s: [1e-14 * rng.standard_normal(s[0])], label="tiny")
wrong("pair_cosine", {}, [(2, 1, 4)], "two vectors")
wrong("pair_cosine", {}, [(2, 4)], "2x4")


# ---- matmul, softmax -------------------------------------------------------------------------

def ref_matmul(x, attrs, training):
    a, b = x
    a = a.transpose(0, 2, 1) if attrs.get("trans_a") else a
    b = b.transpose(0, 2, 1) if attrs.get("trans_b") else b
    return attrs["scale"] * (a @ b)


def matmul(n, m, k, width, ta, tb, scale, **more):
    case("matmul", {"trans_a": ta, "trans_b": tb, "scale": scale},
         [(n, k, m) if ta else (n, m, k), (n, width, k) if tb else (n, k, width)], ref_matmul,
         terms=max(m, k, width), **more)


for ta in (0, 1):
    for tb in (0, 1):
        matmul(2, 3, 4, 5, ta, tb, 1.0)
        matmul(3, 17, 33, 19, ta, tb, 0.125, numeric=False)
matmul(1, 1, 1, 1, 0, 0, -2.0)
matmul(2, 96, 40, 70, 1, 0, 1.0, numeric=False)
wrong("matmul", {"scale": 1.0}, [(2, 3, 4), (2, 3, 4)], ["inner", "2x3x4", "4 columns", "3 rows"])
wrong("matmul", {"scale": 1.0}, [(2, 3, 4), (1, 4, 3)], "as many")
wrong("matmul", {"scale": 0.0}, [(2, 3, 4), (2, 4, 3)], "scale")


def ref_softmax(x, attrs, training):
    z = -x[0] if attrs.get("negate") else x[0]
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


for negate in (0, 1):
    case("softmax", {"negate": negate}, [(2, 3, 5)], ref_softmax)
    case("softmax", {"negate": negate}, [(1, 2, 37)], ref_softmax)
    case("softmax", {"negate": negate}, [(2, 4, 6)], ref_softmax, numeric=False,
         inputs=lambda rng, s: [rng.integers(-800, 800, s[0]).astype(float)], label="large")
    case("softmax", {"negate": negate}, [(2, 5, 300)], ref_softmax, numeric=False)
case("softmax", {}, [(1, 3, 1)], ref_softmax)
wrong("softmax", {}, [(3, 5)], "3 dimensions")


def ref_attention(x, attrs, training):
    s = ref_softmax([ref_matmul(x[:2], attrs, training)], attrs, training)
    return x[2] @ s.transpose(0, 2, 1) if attrs["mode"] else s @ x[2]


def attention(n, r, k, c, e, mode, ta, tb, negate, scale, **more):
    case("attention", {"mode": mode, "trans_a": ta, "trans_b": tb, "negate": negate,
                       "scale": scale},
         [(n, k, r) if ta else (n, r, k), (n, c, k) if tb else (n, k, c),
          (n, e, c) if mode else (n, c, e)], ref_attention, terms=max(r, k, c, e), **more)


for ta in (0, 1):
    for tb in (0, 1):
        attention(2, 3, 4, 5, 2, ta, ta, tb, tb, 0.5)
        attention(3, 33, 19, 35, 17, tb, ta, tb, ta, 0.25, numeric=False)
attention(1, 1, 1, 1, 1, 0, 0, 0, 0, 1.0)
attention(2, 4, 3, 6, 2, 1, 1, 0, 1, 1.0)
attention(3, 700, 8, 700, 5, 0, 0, 1, 0, 0.3, numeric=False)  # rows of an image shared by tasks
attention(8, 90, 2, 5000, 3, 0, 0, 0, 0, 0.3, numeric=False)  # an image in several blocks of rows
attention(8, 90, 2, 5000, 3, 1, 1, 1, 1, 0.3, numeric=False)
wrong("attention", {"scale": 1.0}, [(2, 3, 4), (2, 4, 5), (1, 5, 2)], ["as many", "1x5x2"])
wrong("attention", {"scale": 1.0}, [(2, 3, 4), (2, 3, 5), (2, 5, 2)], ["inner", "2x3x4"])
wrong("attention", {"scale": 1.0}, [(2, 3, 4), (2, 4, 5), (2, 2, 5)], ["v", "5 rows"])
wrong("attention", {"scale": 1.0, "mode": 1}, [(2, 3, 4), (2, 4, 5), (2, 5, 2)], "5 columns")
wrong("attention", {"scale": 1.0, "mode": 2}, [(2, 3, 4), (2, 4, 5), (2, 5, 2)], "mode")
wrong("attention", {"scale": 0.0}, [(2, 3, 4), (2, 4, 5), (2, 5, 2)], "scale")


# ---- gem, channel_conv, normalize ------------------------------------------------------------

def ref_gem(x, attrs, training):
    f, p = x
    t = np.maximum(f, attrs["eps"])
    return ((t ** p[0]).mean(axis=(2, 3))) ** (1 / p[0])


def gem_inputs(p, scale=1.0, zeros=0.0):
    def make(rng, shapes):
        f = scale * (0.1 + rng.random(shapes[0]))
        return [np.where(rng.random(shapes[0]) < zeros, -f, f), np.array([p])]
    return make


for p in (3.0, 1.0, 0.7, 6.5):
    case("gem", {"eps": 1e-6}, [(2, 3, 4, 2), (1,)], ref_gem, inputs=gem_inputs(p), terms=32,
         label=f"p{p}")
case("gem", {"eps": 1e-6}, [(2, 5, 6, 3), (1,)], ref_gem, inputs=gem_inputs(3.0, 20.0, 0.4),
     terms=32, numeric_bound=1e-5, label="zeros")
case("gem", {"eps": 0.4}, [(2, 5, 6, 3), (1,)], ref_gem, inputs=gem_inputs(2.0), terms=32,
     label="many below eps")
case("gem", {"eps": 1e-6}, [(2, 4, 3, 3), (1,)], ref_gem, numeric=False, terms=32,
     inputs=lambda rng, s: [np.zeros(s[0]), np.array([9.0])], label="blank")  # eps^p: no float
case("gem", {"eps": 1e-6}, [(2, 150, 5, 3), (1,)], ref_gem, inputs=gem_inputs(3.0, 1.0, 0.2),
     terms=64, numeric=False, label="wide")
wrong("gem", {"eps": 0.0}, [(1, 2, 3, 3), (1,)], "eps")
wrong("gem", {"eps": 1e-6}, [(1, 2, 3, 3), (2,)], "p: expected one")
wrong("gem", {"eps": 1e-6}, [(1, 2), (1,)], "1x2")


def ref_channel_conv(x, attrs, training):
    m, w = x
    r = (w.shape[2] - 1) // 2
    padded = np.pad(m, ((0, 0), (r, r)))
    return sum(w[0, 0, j] * padded[:, j:j + m.shape[1]] for j in range(w.shape[2]))


for c, k in ((5, 3), (8, 5), (2, 7), (1, 1), (64, 3)):
    case("channel_conv", {}, [(3, c), (1, 1, k)], ref_channel_conv, terms=3 * c)
wrong("channel_conv", {}, [(3, 5), (1, 1, 4)], "odd")
wrong("channel_conv", {}, [(3, 5, 1, 1), (1, 1, 3)], "3x5x1x1")


def ref_normalize(x, attrs, training):
    length = np.sqrt((x[0] ** 2).sum(axis=1, keepdims=True))
    return attrs.get("scale", 1) * x[0] / np.maximum(length, attrs["eps"])


case("normalize", {"eps": 1e-12}, [(4, 6)], ref_normalize)
case("normalize", {"eps": 1e-12}, [(2, 257)], ref_normalize)
case("normalize", {"eps": 3.0}, [(6, 9)], ref_normalize, label="some clamped")
case("normalize", {"eps": 1e-12, "scale": 64.0}, [(3, 5)], ref_normalize)
case("normalize", {"eps": 3.0, "scale": 0.5}, [(6, 9)], ref_normalize, label="some clamped")
wrong("normalize", {"eps": 1e-12}, [(2, 3, 4)], "2x3x4")
wrong("normalize", {"eps": 1e-12, "scale": -1.0}, [(2, 3)], ["scale", "-1"])
wrong("normalize", {"eps": 1e-12, "scale": float("inf")}, [(2, 3)], ["scale", "inf"])
wrong("normalize", {"eps": 0.0}, [(2, 3)], "eps")


# ---- relative_attention ----------------------------------------------------------------------

def ref_relative_attention(x, attrs, training):
    q, k, v, rel_h, rel_w = x
    n, c, h, w = q.shape
    heads = attrs["groups"]
    d = c // heads
    y = np.zeros(q.shape)
    for image in range(n):
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            for row in range(h):
                for col in range(w):
                    query = attrs["scale"] * q[image, part, row, col]
                    logits = np.array([[query @ (k[image, part, r, s] + rel_h[r - row + h - 1]
                                                 + rel_w[s - col + w - 1])
                                        for s in range(w)] for r in range(h)])
                    a = np.exp(logits - logits.max())
                    y[image, part, row, col] = (a / a.sum() * v[image, part]).sum(axis=(1, 2))
    return y


def relative_attention(n, heads, d, h, w, scale, **more):
    x = (n, heads * d, h, w)
    case("relative_attention", {"groups": heads, "scale": scale},
         [x, x, x, (2 * h - 1, d), (2 * w - 1, d)], ref_relative_attention,
         terms=h * w + d, label=f"{heads}x{d}", **more)


relative_attention(2, 2, 3, 3, 2, 0.6)
relative_attention(1, 1, 2, 2, 3, -1.5)
relative_attention(3, 2, 1, 1, 4, 1.0)  # one row: rel_h is a constant of each row of logits
relative_attention(2, 2, 2, 3, 1, 1.0)
relative_attention(1, 3, 5, 1, 1, 1.0)
relative_attention(2, 4, 16, 6, 3, 0.25, numeric=False)
relative_attention(1, 2, 40, 12, 6, 0.16, numeric=False)
case("relative_attention", {"groups": 2, "scale": 1.0},
     [(2, 4, 3, 2)] * 3 + [(5, 2), (3, 2)], ref_relative_attention, numeric=False, label="large",
     inputs=lambda rng, s: [30 * rng.standard_normal(shape) for shape in s], terms=400)
Q = (1, 6, 3, 2)
ATTENTION = {"groups": 2, "scale": 1.0}
wrong("relative_attention", ATTENTION, [(1, 6, 6)] * 3 + [(5, 3), (3, 3)], ["q", "1x6x6"])
wrong("relative_attention", ATTENTION, [Q, (1, 6, 2, 3), Q, (5, 3), (3, 3)], ["k", "1x6x2x3"])
wrong("relative_attention", ATTENTION, [Q, Q, (2, 6, 3, 2), (5, 3), (3, 3)], ["v", "2x6x3x2"])
wrong("relative_attention", ATTENTION, [Q, Q, Q, (3, 3), (3, 3)], ["rel_h", "5x3", "got 3x3"])
wrong("relative_attention", ATTENTION, [Q, Q, Q, (5, 3), (5, 3)], ["rel_w", "3x3", "got 5x3"])
wrong("relative_attention", {"groups": 4, "scale": 1.0}, [Q, Q, Q, (5, 3), (3, 3)],
      ["4 equal heads", "6"])
wrong("relative_attention", {"groups": 0, "scale": 1.0}, [Q, Q, Q, (5, 3), (3, 3)], "groups")
wrong("relative_attention", {"groups": 2, "scale": 0.0}, [Q, Q, Q, (5, 3), (3, 3)], "scale")


def ref_relative_attention_map(x, attrs, training):
    """Row i of a head's A: what the head's output at i is for values that are 1 at one key."""
    q, k, _, rel_h, rel_w = x
    n, c, h, w = q.shape
    heads, t = attrs["groups"], h * w
    a = np.zeros((n, heads, t, t))
    for j in range(t):
        v = np.zeros((n, c, t))
        v[..., j] = 1
        y = ref_relative_attention([q, k, v.reshape(q.shape), rel_h, rel_w], attrs, training)
        a[..., j] = y.reshape(n, heads, c // heads, t)[:, :, 0]
    return a.reshape(n, heads * t, t)


for n, heads, d, h, w, scale in ((2, 2, 3, 3, 2, 0.6), (1, 1, 2, 2, 3, -1.5), (3, 3, 5, 1, 4, 1.0)):
    case("relative_attention_map", {"groups": heads, "scale": scale},
         [(n, heads * d, h, w)] * 3 + [(2 * h - 1, d), (2 * w - 1, d)], ref_relative_attention_map,
         terms=d, label=f"{heads}x{d}")
wrong("relative_attention_map", ATTENTION, [Q, Q, Q, (3, 3), (3, 3)], ["rel_h", "5x3", "got 3x3"])
