"""The six networks in plain NumPy, float64, forward only, written from the pages' formulas.

A second reading of the pages beside the PyTorch twins, for the case that a twin and the engine
share a misreading; it needs no torch. `run(name, state, images, training, **switches)` gives the
page's outputs, the running statistics afterwards and, for labels, the parts of the loss. Loops
where the page has an index, nothing shared with `twins/`.
"""
import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3),
          "resnet50_ibn_a": (3, 4, 6, 3)}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def convolve(x, w, bias=None, stride=1, pad=0, groups=1):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    size, per = w.shape[1], len(w) // groups
    parts = [np.tensordot(windows[:, g * size:(g + 1) * size], w[g * per:(g + 1) * per],
                          ([1, 4, 5], [1, 2, 3])) for g in range(groups)]
    y = np.concatenate(parts, 3).transpose(0, 3, 1, 2)
    return y if bias is None else y + bias[:, None, None]


def max_pool(x, kernel, stride, pad=0):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    return sliding_window_view(x, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride].max((4, 5))


class Hand:
    """State, mode and the layers that every page uses."""

    def __init__(self, state, training, backbone):
        self.s = {k: np.asarray(v, np.float64) for k, v in state.items()}
        self.training, self.kind = training, backbone
        self.running = {k: v for k, v in self.s.items() if ".running_" in k}

    def conv(self, x, name, **how):
        return convolve(x, self.s[name + ".weight"], self.s.get(name + ".bias"), **how)

    def linear(self, x, name):
        y = x @ self.s[name + ".weight"].T
        return y + self.s[name + ".bias"] if name + ".bias" in self.s else y

    def norm(self, x, name):
        """Batch norm: momentum 0.1, eps 1e-5, unbiased running variance."""
        axes = (0,) if x.ndim == 2 else (0, 2, 3)
        mean, var = self.s[name + ".running_mean"], self.s[name + ".running_var"]
        if self.training:
            count = x.size // x.shape[1]
            batch, biased = x.mean(axes), x.var(axes)
            self.running[name + ".running_mean"] = 0.9 * mean + 0.1 * batch
            self.running[name + ".running_var"] = 0.9 * var + 0.1 * biased * count / (count - 1)
            mean, var = batch, biased
        up = (slice(None),) + (None,) * (x.ndim - 2)
        y = (x - mean[up]) / np.sqrt(var[up] + 1e-5)
        return y * self.s[name + ".weight"][up] + self.s[name + ".bias"][up]

    def ibn(self, x, name):
        half = x.shape[1] // 2
        a = x[:, :half]
        a = (a - a.mean((2, 3), keepdims=True)) / np.sqrt(a.var((2, 3), keepdims=True) + 1e-5)
        weight, bias = (self.s[f"{name}.IN.{k}"][:, None, None] for k in ("weight", "bias"))
        a = a * weight + bias
        return np.concatenate([a, self.norm(x[:, half:], name + ".BN")], 1)

    def stem(self, x):
        return relu(self.norm(self.conv(x, "backbone.conv1", stride=2, pad=3), "backbone.bn1"))

    def block(self, x, name, stage, stride, middle):
        ibn = self.kind.endswith("ibn_a") and stage < 4
        if self.kind in ("resnet18", "resnet34"):
            y = relu(self.norm(self.conv(x, name + ".conv1", stride=stride, pad=1), name + ".bn1"))
            y = self.norm(self.conv(y, name + ".conv2", pad=1), name + ".bn2")
        else:
            y = self.conv(x, name + ".conv1")
            y = relu(self.ibn(y, name + ".bn1") if ibn else self.norm(y, name + ".bn1"))
            y = (middle(y, name + ".conv2", stride) if middle else
                 self.conv(y, name + ".conv2", stride=stride, pad=1))
            y = relu(self.norm(y, name + ".bn2"))
            y = self.norm(self.conv(y, name + ".conv3"), name + ".bn3")
        if name + ".downsample.0.weight" in self.s:
            x = self.conv(x, name + ".downsample.0", stride=stride)
            x = self.norm(x, name + ".downsample.1")
        return relu(y + x)

    def stage(self, x, stage, stride, prefix="backbone", middle=None, non_local=0):
        blocks = BLOCKS[self.kind][stage - 1]
        for j in range(blocks):
            x = self.block(x, f"{prefix}.layer{stage}.{j}", stage, stride if j == 0 else 1, middle)
            if j >= blocks - non_local:
                x = self.non_local(x, f"{prefix}.NL_{stage}.{j - blocks + non_local}")
        return x

    def non_local(self, x, name):
        """fast-reid's: x + bn(W(y)), y_i the mean over j of theta_i phi_j g_j."""
        theta, phi, g = (self.conv(x, f"{name}.{k}") for k in ("theta", "phi", "g"))
        y = np.empty_like(theta)
        for image in range(len(x)):
            t, f, v = (a[image].ravel() for a in (theta, phi, g))
            y[image] = (np.outer(t, f) @ v / len(v)).reshape(y.shape[1:])
        return x + self.norm(self.conv(y, name + ".W.0"), name + ".W.1")


# ---- losses, as sums over rows and pairs

def cross_entropy(z, labels, eps=0.0, spread="all"):
    total, count = 0.0, len(z)
    if spread == "others":
        count = 0
    for row, label in zip(z, labels):
        logp = row - row.max() - math.log(np.exp(row - row.max()).sum())
        t = np.full(len(row), eps / (len(row) - (spread == "others")))
        t[label] = 1 - eps if spread == "others" else t[label] + 1 - eps
        total -= (t * logp).sum()
        count += spread == "others" and (t * logp).sum() != 0
    return total / max(count, 1)


def triplet(x, labels, margin):
    total = 0.0
    for a in range(len(x)):
        d = [math.sqrt(max(((x[a] - other) ** 2).sum(), 1e-12)) for other in x]
        gap = (max(d[j] for j in range(len(x)) if labels[j] == labels[a])
               - min(d[j] for j in range(len(x)) if labels[j] != labels[a]))
        total += math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)
    return total / len(x)


def center(x, labels, centers):
    total = 0.0
    for row, label in zip(x, labels):
        for k in range(len(centers)):
            d = ((row - centers[k]) ** 2).sum() if k == label else 0.0
            total += min(max(d, 1e-12), 1e12)
    return total / len(x)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


# ---- the systems: (outputs, parts of the loss or None)

def circle(cosines, labels, margin=0.35, gamma=64.0):
    """Logits of the class-level circle loss."""
    z = np.empty_like(cosines)
    for i, row in enumerate(cosines):
        for k, s in enumerate(row):
            z[i, k] = gamma * (max(0, 1 + margin - s) * (s - (1 - margin)) if k == labels[i]
                               else max(0, s + margin) * (s - margin))
    return z


def baseline(h, x, labels, last_stride=1, label_smooth=0.1, margin=0.3, pool="avg", head="linear",
             non_local=False, triplet_on="feat", spread="all"):
    x = max_pool(h.stem(x), 3, 2, 1)
    for stage, stride in zip(range(1, 5), (1, 2, 2, last_stride)):
        x = h.stage(x, stage, stride, non_local=non_local and (0, 2, 3, 0)[stage - 1])
    feat = x.mean((2, 3))
    if pool == "gem":
        p = h.s["gem.p"]
        feat = (np.maximum(x, 1e-6) ** p).mean((2, 3)) ** (1 / p)
    neck = h.norm(feat, "bnneck")
    if not h.training:
        return {"embedding": neck}, None
    out = {"feat": feat}
    if triplet_on == "bnneck":
        out["bnneck"] = neck
    out["logit"] = logit = h.linear(neck, "classifier")
    if head == "circle":
        w = h.s["classifier.weight"]
        cosines = logit / np.sqrt((neck ** 2).sum(1))[:, None] / np.sqrt((w ** 2).sum(1))
        out["logit"], logit = 64 * cosines, circle(cosines, labels)
    parts = {"id": cross_entropy(logit, labels, label_smooth, spread),
             "triplet": triplet(out[triplet_on], labels, margin)}
    parts["total"] = parts["id"] + parts["triplet"]
    if "center" in h.s:
        parts["center"] = center(feat, labels, h.s["center"])
        parts["total"] += 0.0005 * parts["center"]
    return out, parts


def cpaa(h, a, name, scale):
    n, c, rows, columns = a.shape
    m, d = rows * columns, []
    for x in a.reshape(n, c, m):
        e = x @ x.T
        if scale:
            e = e / m
        s = softmax(e.max(1, keepdims=True) - e)
        d.append(h.s[name + ".beta"] * (s @ x) + x)
    b = np.array(d).reshape(a.shape)
    q, k, v = h.conv(b, name + ".query"), h.conv(b, name + ".key"), h.conv(
        b, name + ".value", groups=8)
    out = []
    for i in range(n):
        e = q[i].reshape(-1, m).T @ k[i].reshape(-1, m)
        p = softmax(e / math.sqrt(c / 8) if scale else e)
        out.append(h.s[name + ".gamma"] * (v[i].reshape(c, m) @ p.T) + b[i].reshape(c, m))
    return np.array(out).reshape(a.shape)


def mfa(h, x, labels, cpaa_scale=False, regions=4):
    x = max_pool(h.stem(x), 3, 2, 1)
    for stage, stride in zip(range(1, 5), (1, 2, 2, 1)):
        x = h.stage(x, stage, stride)
        if stage >= 2:
            x = cpaa(h, x, f"cpaa.{stage}", cpaa_scale)
    rows, feat, neck, region = x.shape[2], [], [], []
    for i in range(regions):
        b = f"branch.{i}."
        y = relu(h.norm(h.conv(x, b + "conv1"), b + "bn1"))
        y = relu(h.norm(h.conv(y, b + "conv2", pad=1), b + "bn2"))
        y = relu(h.norm(h.conv(y, b + "conv3"), b + "bn3") + x)
        p = h.s[b + "gem.p"]
        feat.append((np.maximum(y, 1e-6) ** p).mean((2, 3)) ** (1 / p))
        neck.append(h.norm(feat[i], f"bnneck.{i}"))
        first, end = math.floor(i * rows / regions), math.ceil((i + 1) * rows / regions)
        region.append(x[:, :, first:end].mean((2, 3)))
    if not h.training:
        f = np.concatenate(neck, 1)
        return {"embedding": f / np.maximum(np.sqrt((f ** 2).sum(1, keepdims=True)), 1e-12)}, None
    logit = [h.linear(neck[i], f"classifier.{i}") for i in range(regions)]
    out = {f"{k}_{i}": v[i] for k, v in (("feat", feat), ("logit", logit), ("region", region))
           for i in range(regions)}

    def cosine(u, w):
        return (u * w).sum() / (math.sqrt((u ** 2).sum()) * math.sqrt((w ** 2).sum()))

    parts = {
        "id": mean(cross_entropy(z, labels, 0.1) for z in logit),
        "triplet": mean(triplet(f, labels, None) for f in feat),
        "center": mean(center(feat[i], labels, h.s[f"center.{i}"]) for i in range(regions)),
        "gla": mean(mean(1 - cosine(u, w) for u, w in zip(feat[i], region[i]))
                    for i in range(regions)),
    }
    parts["total"] = (parts["id"] + parts["triplet"] + 0.0005 * parts["center"] + parts["gla"])
    return out, parts


def hamr(h, x, labels, order="SFC", parts=6, cam_mlp="sum", act="relu", triplet_on="fc",
         stages=(1, 2, 3, 4)):
    size = x.shape[2] // 16
    x = max_pool(h.stem(x), 3, 2, 1)
    maps, names = [], []
    for stage, stride in zip(range(1, max(stages) + 1), (1, 2, 2, 1)):
        x = h.stage(x, stage, stride)
        if stage in stages:
            window = x.shape[2] // size
            maps.append(max_pool(x, window, window))
            names.append(str(stage))
    for letter in order:
        if letter == "F":
            maps, names = [np.concatenate(maps, 1)], [""]
        for i, (m, name) in enumerate(zip(maps, names)):
            if letter == "S":
                both = np.stack([m.mean(1), m.max(1)], 1)
                w = h.s[f"sam{name}.conv.weight"]
                maps[i] = sigmoid(convolve(both, w, pad=w.shape[2] // 2)) * m
            if letter == "C":
                w1, w2 = h.s[f"cam{name}.fc1.weight"], h.s[f"cam{name}.fc2.weight"]
                a, t = m.mean((2, 3)), m.max((2, 3))
                z = (relu((a + t) @ w1.T) @ w2.T if cam_mlp == "sum" else
                     relu(a @ w1.T) @ w2.T + relu(t @ w1.T) @ w2.T)
                maps[i] = sigmoid(z)[:, :, None, None] * m
    (f,), rows = maps, size // parts
    logits, features, embedding = {}, {}, []
    for level in range(1, parts + 1):
        own = []
        for i in range(1, level + 1):
            part = f[:, :, (i - 1) * rows:(i - 1 + parts + 1 - level) * rows]
            name = f"head{level}_{i}."
            d = np.concatenate([part.max((2, 3)), part.mean((2, 3))], 1)
            d = h.norm(d @ h.s[name + "reduce.weight"][:, :, 0, 0].T, name + "bn1")
            d = relu(d) if act == "relu" else np.where(d > 0, d, 0.1 * d)
            fc = h.linear(d, name + "fc")
            b = h.norm(fc, name + "bn2")
            logits[f"logits{level}_{i}"] = h.linear(b, name + "classifier")
            own.append(fc if triplet_on == "fc" else b)
            embedding.append(b)
        features[f"triplet{level}"] = np.concatenate(own, 1)
    if not h.training:
        return {"embedding": np.concatenate(embedding, 1)}, None
    loss = {"id": mean(cross_entropy(z, labels, 0.1) for z in logits.values()),
            "triplet": mean(triplet(v, labels, 1.0) for v in features.values())}
    return logits | features, loss | {"total": loss["id"] + loss["triplet"]}


def non_local(h, x, name):
    n, c, rows, columns = x.shape
    t, y = rows * columns, []
    theta, phi, g = (h.conv(x, f"{name}.{k}").reshape(n, c // 2, t) for k in ("theta", "phi", "g"))
    for i in range(n):
        a = softmax(theta[i].T @ phi[i])
        y.append(np.array([(a[q] * g[i]).sum(1) for q in range(t)]).T)
    y = h.conv(np.array(y).reshape(n, c // 2, rows, columns), name + ".w")
    return x + h.norm(y, name + ".bn")


def mgaf(h, x, labels):
    x = h.stage(h.stage(max_pool(h.stem(x), 3, 2, 1), 1, 1), 2, 2)
    v, y = {}, {}
    for name, strides, stripes in (("small", (2, 2), 0), ("medium", (2, 1), 2),
                                   ("large", (1, 1), 3)):
        m = h.stage(h.stage(x, 3, strides[0], name), 4, strides[1], name)
        m = non_local(h, m, name + ".attention")
        rows = m.shape[2]
        runs = [(0, rows)] + [((i - 1) * rows // stripes, i * rows // stripes)
                              for i in range(1, stripes + 1)]
        for i, (first, end) in enumerate(runs):
            p = m[:, :, first:end].max((2, 3))
            reduced = p @ h.s[f"{name}.reduce.{i}.conv.weight"][:, :, 0, 0].T
            v[name, i] = relu(h.norm(reduced, f"{name}.reduce.{i}.bn"))
            y[f"y_{name}_{i}"] = h.linear(v[name, i], f"{name}.classifier.{i}")
    if not h.training:
        order = [("small", 0), ("medium", 0), ("large", 0), ("medium", 1), ("medium", 2),
                 ("large", 1), ("large", 2), ("large", 3)]
        return {"embedding": np.concatenate([v[k] for k in order], 1)}, None
    f = {f"f_{b}": v[b, 0] for b in ("small", "medium", "large")}
    loss = {"id": mean(cross_entropy(z, labels) for z in y.values()),
            "triplet": mean(triplet(z, labels, 1.2) for z in f.values())}
    return f | y, loss | {"total": loss["id"] + loss["triplet"]}


def relative_attention(h, x, name, stride):
    n, w, rows, columns = x.shape
    d, t = w // 4, rows * columns
    q, k, v = (h.conv(x, f"{name}.{letter}") for letter in "qkv")
    q = q * d ** -0.5
    rel_h, rel_w = h.s[name + ".rel_h"], h.s[name + ".rel_w"]
    o = np.zeros_like(x)
    for i in range(n):
        for head in range(4):
            own = slice(head * d, (head + 1) * d)
            for y in range(rows):
                for z in range(columns):
                    logit = np.empty((rows, columns))
                    for y2 in range(rows):
                        for z2 in range(columns):
                            key = (k[i, own, y2, z2] + rel_h[y2 - y + rows - 1]
                                   + rel_w[z2 - z + columns - 1])
                            logit[y2, z2] = q[i, own, y, z] @ key
                    a = softmax(logit.reshape(t))
                    o[i, own, y, z] = v[i, own].reshape(d, t) @ a
    if stride == 2:
        o = sliding_window_view(o, (2, 2), (2, 3))[:, :, ::2, ::2].mean((4, 5))
    return o


def eca(h, x, name):
    w, (n, c) = h.s[name + ".conv.weight"][0, 0], x.shape[:2]
    m, k = x.mean((2, 3)), len(w)
    s = np.array([[sum(w[j] * m[i, ch + j - (k - 1) // 2] for j in range(k)
                       if 0 <= ch + j - (k - 1) // 2 < c) for ch in range(c)] for i in range(n)])
    return x * sigmoid(s)[:, :, None, None]


def fsac(h, x, labels):
    def middle(y, name, stride):
        return relative_attention(h, y, name, stride)

    x = max_pool(eca(h, h.stem(x), "eca1"), 3, 2, 1)
    maps = []
    for stage, stride in zip(range(1, 5), (1, 2, 2, 2)):
        x = h.stage(x, stage, stride, middle=middle if stage >= 3 else None)
        x = eca(h, x, f"eca{stage + 1}")
        maps.append(x)
    f = np.concatenate([max_pool(maps[1], 4, 4), max_pool(maps[2], 2, 2), maps[3]], 1).mean((2, 3))
    if not h.training:
        return {"embedding": f}, None
    y = h.linear(f, "classifier")
    loss = {"id": cross_entropy(y, labels), "triplet": triplet(f, labels, 0.3)}
    return {"f": f, "y": y}, loss | {"total": loss["id"] + loss["triplet"]}


def involution(h, x, name):
    _, c, rows, columns = x.shape
    k = relu(h.norm(h.conv(x, name + ".reduce"), name + ".bn"))
    k = h.conv(k, name + ".span")
    padded, out = np.pad(x, ((0, 0), (0, 0), (3, 3), (3, 3))), np.zeros_like(x)
    for ch in range(c):
        for ky in range(7):
            for kx in range(7):
                out[:, ch] += (k[:, ch // 16 * 49 + 7 * ky + kx]
                               * padded[:, ch, ky:ky + rows, kx:kx + columns])
    return out


def gsrpa(h, f, name):
    def step(x, part):
        return relu(h.norm(h.conv(x, f"{name}.{part}.conv"), f"{name}.{part}.bn"))

    n, _, rows, columns = f.shape
    p = rows * columns
    v = h.norm(involution(h, f, name + ".inv1"), name + ".bn1")
    v = h.norm(involution(h, v, name + ".inv2"), name + ".bn2")
    a, b = step(v, "theta").reshape(n, -1, p), step(v, "phi").reshape(n, -1, p)
    r = np.einsum("nci,ncj->nij", a, b)
    x1, x2 = np.empty((n, p, rows, columns)), np.empty((n, p, rows, columns))
    for y in range(rows):
        for x in range(columns):
            x1[:, :, y, x] = r[:, :, y * columns + x]
            x2[:, :, y, x] = r[:, y * columns + x, :]
    e = step(f, "embed").mean(1, keepdims=True)
    both = np.concatenate([e, step(x1, "map1"), step(x2, "map2")], 1)
    return sigmoid(h.norm(h.conv(both, name + ".att.conv"), name + ".att.bn")) * f


def mbgn(h, x, labels, planes=None):
    """Dropout 0."""
    x = max_pool(h.stem(x), 3, 2, 1)
    for stage, stride in zip(range(1, 5), (1, 2, 2, 1)):
        x = gsrpa(h, h.stage(x, stage, stride), f"att{stage}")
    n, _, rows, columns = x.shape
    z = {"g": x.mean((2, 3)), "l": x.max((2, 3))}
    runs = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]  # B1, B1+B2, ..., B4+B5, B5
    bounds = [[0, *row, rows] for row in planes.tolist()]
    for i, (first, end) in enumerate(runs):
        z[f"p{i + 1}"] = np.array([x[j, :, b[first]:b[end]].max((1, 2))
                                   for j, b in enumerate(bounds)])
    f = {k: relu(h.norm(h.linear(v, f"head_{k}.reduce"), f"head_{k}.bn")) for k, v in z.items()}
    similarity = np.empty((n, 45))
    for j, b in enumerate(bounds):
        u = []
        for i in range(5):
            for half in (slice(0, columns // 2), slice(columns // 2, columns)):
                u.append(x[j, :, b[i]:b[i + 1], half].mean((1, 2)))
        u = [v / max(math.sqrt((v ** 2).sum()), 1e-12) for v in u]
        similarity[j] = [u[s] @ u[t] for s in range(10) for t in range(s + 1, 10)]
    y = relu(h.linear(similarity, "structure.fc1"))
    f["s"] = h.linear(relu(h.linear(y, "structure.fc2")), "structure.fc3")
    if not h.training:
        return {"embedding": np.concatenate(list(f.values()), 1)}, None
    logits = {k: h.linear(v, "structure.classifier" if k == "s" else f"head_{k}.classifier")
              for k, v in f.items()}
    out = ({f"z_{k}": z[k] for k in "gl"} | {f"f_{k}": v for k, v in f.items()}
           | {f"logits_{k}": v for k, v in logits.items()}
           | {"similarity": similarity, "planes": planes})
    loss = {"id": mean(cross_entropy(v, labels) for v in logits.values()),
            "triplet": mean(triplet(z[k], labels, 1.2) for k in "gl")}
    return out, loss | {"total": loss["id"] + 2 * loss["triplet"]}


NETS = {"Baseline": baseline, "MFA": mfa, "HAMR": hamr, "MGAF": mgaf, "FSAC": fsac, "MBGN": mbgn}


def run(name, state, images, labels=None, *, training=False, backbone="resnet18", **switches):
    """(outputs, running statistics afterwards, parts of the loss: None in evaluation)."""
    h = Hand(state, training, backbone)
    out, parts = NETS[name](h, np.asarray(images, np.float64), labels, **switches)
    return out, h.running, parts
