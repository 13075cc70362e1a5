"""The losses of spec/common.md section 1, in differentiable torch, written from the page.

Every function takes float tensors of any precision and int64 labels and returns a scalar tensor;
gradients come from autograd, with the page's ties, clamps and detached terms.
"""
import torch
from torch.nn import functional as F


def cross_entropy(logits, labels, smoothing=0.0, spread="all"):
    """Label smoothing over all classes, or over the others (`spread='others'`, fast-reid)."""
    n, k = logits.shape
    logp = F.log_softmax(logits, 1)
    true = F.one_hot(labels, k).to(logits.dtype)
    if spread == "all":
        return -(((1 - smoothing) * true + smoothing / k) * logp).sum(1).mean()
    target = true * (1 - smoothing) + (1 - true) * (smoothing / (k - 1))
    rows = -(target * logp).sum(1)
    return rows.sum() / max(int((rows != 0).sum()), 1)


def squared_distances(x):
    """Sum of squared differences, so that the diagonal is exactly zero."""
    return (x[:, None] - x[None]).square().sum(2)


def distances(x):
    return squared_distances(x).clamp(min=1e-12).sqrt()


def triplet(x, labels, margin=0.3, normalize=False, distance="euclidean"):
    """Batch-hard: the farthest of the same label (the anchor counts), the nearest of another."""
    if len(labels.unique()) < 2:
        raise ValueError("labels: a batch with a single identity has no negative")
    if distance == "cos":
        u = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
        d = 2 - 2 * u @ u.T
    else:
        d = distances(x / (x.norm(dim=1, keepdim=True) + 1e-12) if normalize else x)
    same = labels[:, None] == labels[None]
    with torch.no_grad():  # selection; the first index wins a tie
        p = d.masked_fill(~same, -float("inf")).argmax(1)
        n = d.masked_fill(same, float("inf")).argmin(1)
    rows = torch.arange(len(x))
    gap = d[rows, p] - d[rows, n]
    if margin is None:
        return F.softplus(gap, threshold=1e9).mean()
    gap = gap + margin
    return torch.where(gap >= 0, gap, torch.zeros_like(gap)).mean()


def center(x, labels, centers):
    d = (x[:, None] - centers[None]).square().sum(2)
    mask = F.one_hot(labels, len(centers)).to(x.dtype)
    return (mask * d).clamp(1e-12, 1e12).sum() / len(x)


def circle(x, labels, margin=0.25, gamma=128.0):
    """Pairwise circle loss; a row without positives or negatives gives 0."""
    n = len(x)
    u = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
    s = u @ u.T
    same = labels[:, None] == labels[None]
    positive, negative = same & ~torch.eye(n, dtype=torch.bool), ~same
    ap = (1 + margin - s.detach()).clamp(min=0)
    an = (s.detach() + margin).clamp(min=0)
    lp = torch.where(positive, -gamma * ap * (s - (1 - margin)), torch.full_like(s, -99999999.0))
    ln = torch.where(negative, gamma * an * (s - margin), torch.full_like(s, -99999999.0))
    return F.softplus(lp.logsumexp(1) + ln.logsumexp(1), threshold=1e9).mean()


def circle_logits(cosines, labels, margin=0.35, gamma=64.0):
    """Logits of the class-level form, to be given to `cross_entropy`."""
    ap = (1 + margin - cosines.detach()).clamp(min=0)
    an = (cosines.detach() + margin).clamp(min=0)
    true = F.one_hot(labels, cosines.shape[1]).bool()
    return gamma * torch.where(true, ap * (cosines - (1 - margin)), an * (cosines - margin))
