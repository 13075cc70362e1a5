"""Losses of re-identification as functions of arrays, by the very kernels that networks train
with (spec/common.md 1). Each returns (value, gradient): a float, and the gradient of the value
in the shape and dtype of the first array.

Rows are float32 or float64 (labels: any integers, N of them); sums run in double. TypeError:
dtype; ValueError: shape, NaN, an empty batch, a label out of range, a setting's value.
"""
from reidc import _core


def cross_entropy(logits, labels, smoothing=0.0, spread="all"):
    """Softmax cross entropy of N x K logits, the mean over the rows.

    labels: 0..K-1. smoothing: 0..1; spread 'all': smoothing/K on every class; 'others':
    smoothing/(K-1) on the wrong classes only, divided by the number of rows whose loss is not 0.
    """
    return _core._loss("cross_entropy", (logits, labels),
                       {"smoothing": smoothing, "spread": spread})


def triplet(embeddings, labels, margin=0.3, *, normalize=False, distance="euclidean"):
    """Batch-hard triplet loss of N x D embeddings: for each row its farthest of the same label
    (itself counts) and its nearest of another one; the mean of max(0, ap - an + margin).

    margin None: soft, log(1 + exp(ap - an)). normalize: rows / (length + 1e-12) first.
    distance 'cos': 2 - 2 cos in place of the Euclidean one. labels: >= 0, two different ones at
    least (else ValueError). The gradient goes to the chosen pairs; the choice has none.
    """
    return _core._loss("triplet", (embeddings, labels),
                       {"margin": margin, "normalize": normalize, "distance": distance})


def center(embeddings, labels, centers):
    """Centre loss: the mean over the rows of the squared distance to the centre of their label
    (each clamped to 1e-12..1e12; a row's other centres add 1e-12 each).

    centers: K x D, of the same dtype; labels: 0..K-1. Returns (value, (d_embeddings, d_centers)).
    """
    return _core._loss("center", (embeddings, labels, centers), {})


def circle(embeddings, labels, margin=0.25, scale=128.0):
    """Pairwise circle loss of N x D embeddings, normalised inside: the mean over the rows of
    softplus(logsumexp of the positives + logsumexp of the negatives). The pair weights are
    detached. Rows without a positive or without a negative give 0. labels: >= 0.
    """
    return _core._loss("circle", (embeddings, labels), {"margin": margin, "scale": scale})


def gla(embeddings, guides):
    """Global local aligned loss: the mean over the rows of 1 - cosine of N x D embeddings and
    N x D guides (same dtype). The guides are constants.
    """
    return _core._loss("gla", (embeddings, guides), {})
