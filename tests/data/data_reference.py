"""The augmentation of a sample and the samplers once more, in NumPy, from their definitions."""
import itertools

import numpy as np

from reidc import _core

MEAN = np.float32([0.485, 0.456, 0.406])
STD = np.float32([0.229, 0.224, 0.225])


class Draws:
    """The numbers of one augmented sample by slot."""

    def __init__(self, seed, epoch, number):
        self.key = seed, 34, epoch, number, 0

    def u(self, slot):
        return (_core._random(*self.key, slot) >> 40) * 2.0 ** -24

    def below(self, slot, n):
        return ((_core._random(*self.key, slot) >> 40) * n) >> 24


def grey(x):
    r, g, b = np.moveaxis(x.astype(np.int64), -1, 0)
    return (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16


def blend(degenerate, x, factor):
    d = np.asarray(degenerate, np.float32)
    value = d + np.float32(factor) * (x.astype(np.float32) - d)
    return np.trunc(np.clip(value, 0, 255)).astype(np.uint8)


def brightness(x, factor):
    return blend(0, x, factor)


def contrast(x, factor):
    return blend(int(grey(x).mean() + 0.5), x, factor)


def saturation(x, factor):
    return blend(grey(x)[..., None], x, factor)


def hue(x, factor):
    """To 8-bit HSV and back as Pillow documents it after Python's colorsys."""
    f32 = np.float32
    r, g, b = np.moveaxis(x.astype(np.int64), -1, 0)
    most, least = x.max(-1).astype(np.int64), x.min(-1).astype(np.int64)
    span = np.where(most == least, 1, most - least).astype(f32)
    rc, gc, bc = ((most - c).astype(f32) / span for c in (r, g, b))
    h = np.where(r == most, (bc - gc).astype(np.float64),
                 np.where(g == most, 2.0 + rc.astype(np.float64) - bc,
                          4.0 + gc.astype(np.float64) - rc)).astype(f32)
    h = np.fmod(h.astype(np.float64) / 6.0 + 1.0, 1.0).astype(f32)
    h8 = (h.astype(np.float64) * 255.0).astype(np.int64)
    s8 = ((span / np.maximum(most, 1).astype(f32)).astype(np.float64) * 255.0).astype(np.int64)
    h8, s8 = np.where(most == least, 0, h8), np.where(most == least, 0, s8)
    h8 = (h8 + int(factor * 255)) % 256
    place = h8 * 6.0 / 255.0
    i = np.floor(place).astype(np.int64)
    f = (place - i).astype(f32).astype(np.float64)
    s = (s8 / 255.0).astype(f32).astype(np.float64)

    def rounded(v):
        return np.clip(np.floor(v + 0.5), 0, 255)

    p, q, t = (rounded(most * (1 - s * k)) for k in (1.0, f, 1 - f))
    v = most.astype(np.float64)
    table = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)]
    out = np.zeros(x.shape)
    for k, colour in enumerate(table):
        chosen = (i % 6 == k) & (s8 > 0)
        for c in range(3):
            out[..., c] = np.where(chosen, colour[c], out[..., c])
    return np.where((s8 == 0)[..., None], most[..., None], out).astype(np.uint8)


OPERATIONS = brightness, contrast, saturation, hue


def jitter(x, d, ranges):
    order = list(itertools.permutations(range(4)))[d.below(7, 24)]
    for op in order:
        if ranges[op]:
            low, high = ((-ranges[3], ranges[3]) if op == 3
                         else (max(0.0, 1 - ranges[op]), 1 + ranges[op]))
            x = OPERATIONS[op](x, low + (high - low) * d.u(8 + op))
    return x


def augment(image, a, seed=0, epoch=0, number=0):
    """a: the dict that goes to C. uint8 h,w,3 -> float32 3,height,width."""
    d = Draws(seed, epoch, number)
    height, width = a["height"], a["width"]
    ranges = a["brightness"], a["contrast"], a["saturation"], a["hue"]
    jittered = d.u(6) < a["jitter"]
    if jittered and a["jitter_first"]:
        image = jitter(image, d, ranges)
    resize = _core._image_resize  # equal to Pillow's, test_resize.py
    if d.u(3) < a["scale_crop"]:
        h, w = round(1.125 * height), round(1.125 * width)
        x = resize(image, h, w, a["interpolation"])
        row, column = d.below(4, h - height + 1), d.below(5, w - width + 1)
        x = x[row:row + height, column:column + width]
    else:
        x = resize(image, height, width, a["interpolation"])
    if d.u(0) < a["mirror"]:
        x = x[:, ::-1]
    if a["pad"]:
        pad = a["pad"]
        row, column = d.below(1, 2 * pad + 1), d.below(2, 2 * pad + 1)
        x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))[row:row + height, column:column + width]
    if jittered and not a["jitter_first"]:
        x = jitter(x, d, ranges)
    mean, std = np.float32(a["mean"]), np.float32(a["std"])
    y = ((x.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1).copy()
    if d.u(12) < a["erase"]:
        rectangle = erased(a, d)
        if rectangle:
            top, left, h, w = rectangle
            y[:, top:top + h, left:left + w] = np.float32(a["fill"])[:, None, None]
    return y


def erased(a, d):
    height, width = a["height"], a["width"]
    for t in range(a["tries"]):
        slot = 16 + 4 * t
        area = (a["area"][0] + (a["area"][1] - a["area"][0]) * d.u(slot)) * height * width
        low, high = a["ratio"]
        if a["log_ratio"]:
            ratio = np.exp(np.log(low) + (np.log(high) - np.log(low)) * d.u(slot + 1))
        else:
            ratio = low + (high - low) * d.u(slot + 1)
        h, w = int(round(np.sqrt(area * ratio))), int(round(np.sqrt(area / ratio)))
        if h < height and w < width:
            return d.below(slot + 2, height - h + 1), d.below(slot + 3, width - w + 1), h, w
    return None
