"""Bytes to a network's input on the device (cuda/data), run on the host, against the CPU's."""
import ctypes
import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import build

if not build.library():
    pytest.skip("no C++ compiler", allow_module_level=True)
import run
from run import LIB, Buffer

import reidc

pytestmark = pytest.mark.cuda_host
LONG, INT = ctypes.c_int64, ctypes.c_int


class Taps(ctypes.Structure):
    _fields_ = [("first", ctypes.c_void_p), ("weights", ctypes.c_void_p),
                ("count", ctypes.c_int32)]


class Resize(ctypes.Structure):
    _fields_ = [("x", Taps), ("y", Taps), ("out_h", ctypes.c_int32), ("out_w", ctypes.c_int32),
                ("vertical_first", ctypes.c_bool)]


class Augment(ctypes.Structure):  # rc_augment of csrc/data/data.h
    _fields_ = [("height", LONG), ("width", LONG), ("filter", INT), ("mirror", ctypes.c_double),
                ("scale_crop", ctypes.c_double), ("pad", LONG)]
    _fields_ += [(n, ctypes.c_double) for n in ("jitter", "brightness", "contrast", "saturation",
                                                "hue")]
    _fields_ += [("jitter_first", ctypes.c_bool), ("erase", ctypes.c_double),
                 ("area", ctypes.c_double * 2), ("ratio", ctypes.c_double * 2),
                 ("log_ratio", ctypes.c_bool), ("tries", LONG), ("fill", ctypes.c_float * 3),
                 ("mean", ctypes.c_float * 3), ("std", ctypes.c_float * 3)]


def put(a):
    return Buffer(a.size, a.dtype, np.ascontiguousarray(a).reshape(-1))


def taps(size, out, bicubic, keep):
    """The weights of one axis, as Pillow's resize defines them."""
    if size == out:
        return Taps()
    scale = size / out
    stretch = max(scale, 1.0)
    support = (2.0 if bicubic else 1.0) * stretch
    firsts, rows = [], []
    for i in range(out):
        centre = (i + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), size)
        u = np.abs((np.arange(first, last) - centre + 0.5) / stretch)
        w = np.where(u < 1, 1 - u, 0)
        if bicubic:
            a = -0.5
            w = np.where(u < 1, ((a + 2) * u - (a + 3)) * u * u + 1,
                         np.where(u < 2, (((u - 5) * u + 8) * u - 4) * a, 0))
        w = w / w.sum() * 2 ** 22
        firsts.append(first)
        rows.append(np.trunc(np.where(w < 0, w - 0.5, w + 0.5)).astype(np.int32))
    count = max(len(r) for r in rows)
    weights = np.zeros((out, count), np.int32)
    for i, r in enumerate(rows):
        first = min(firsts[i], size - count)
        weights[i, firsts[i] - first:firsts[i] - first + len(r)] = r
        firsts[i] = first
    keep += [put(np.array(firsts, np.int64)), put(weights)]
    return Taps(keep[-2].at, keep[-1].at, count)


def resize(h, w, out_h, out_w, bicubic, keep):
    return Resize(taps(w, out_w, bicubic, keep), taps(h, out_h, bicubic, keep), out_h, out_w,
                  h != out_h and h - out_h > 2 * max(w - out_w, 0))


def lut(mean, std):
    v = np.arange(256, dtype=np.float32) / np.float32(255)
    return np.stack([(v - np.float32(m)) / np.float32(s) for m, s in zip(mean, std)])


CHAINS = {
    "sb": {},
    "plain": dict(mirror=0.0, pad=0, erasing=None),
    "scale and crop": dict(pad=0, scale_crop=0.5, erasing=None),
    "hamr": dict(pad=3, erasing="zero", erase=1.0),
    "everything": dict(scale_crop=0.7, pad=40, interpolation="bicubic", erasing="original",
                       mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
    "erasing that seldom fits": dict(erasing=dict(area=(0.5, 1.0), ratio=(0.01, 90.0), tries=3),
                                     erase=1.0),
}


def run_augment(a, images, seed, epoch, first, bf16=False):
    flat, keep, (n, h, w, _) = dict(a._core()), [], images.shape
    flat["filter"] = int(flat.pop("interpolation") == "bicubic")
    c = Augment()
    for name, kind in Augment._fields_:
        value = flat[name]
        setattr(c, name, kind(*value) if isinstance(value, (tuple, list, np.ndarray)) else value)
    bicubic = flat["filter"] == 1
    plain = resize(h, w, a.height, a.width, bicubic, keep)
    large = resize(h, w, round(1.125 * a.height), round(1.125 * a.width), bicubic, keep)
    pixels, table = put(images), put(lut(flat["mean"], flat["std"]))
    key, draws = put(np.array([seed], np.uint64)), Buffer(n * 10, np.int32)
    out = Buffer(n * a.height * a.width * 3, np.uint16 if bf16 else np.float32)
    LIB.rc_cuda_augment(ctypes.byref(c), *(ctypes.c_void_p(b) for b in [pixels.at]), LONG(n),
                        LONG(h), LONG(w), ctypes.byref(plain), ctypes.byref(large),
                        ctypes.c_void_p(table.at), ctypes.c_void_p(key.at), LONG(epoch),
                        LONG(first), ctypes.c_void_p(draws.at), ctypes.c_void_p(out.at),
                        INT(bf16), None)
    run.check()
    for b in [*keep, pixels, table, key, draws, out]:
        b.check("a buffer of rc_cuda_augment")
    y = run.from_bf16(out.view) if bf16 else out.view
    return y.reshape(n, a.height, a.width, 3).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("h, w", [(64, 32), (33, 70), (48, 24)])
def test_chain_is_the_cpus(chain, h, w):
    a = reidc.Augment(**{"height": 48, "width": 24, **CHAINS[chain]})
    images = np.random.default_rng(h).integers(0, 256, (4, h, w, 3), np.uint8)
    for order, epoch in ((0, 2), (1, 3)):
        LIB.rc_host_set_order(order)
        got = run_augment(a, images, 11, epoch, 60)
        LIB.rc_host_set_order(0)
        assert np.array_equal(got, a(list(images), seed=11, epoch=epoch, first=60))
    rounded = run_augment(a, images, 11, 3, 60, bf16=True)
    assert np.array_equal(rounded.reshape(-1), run.from_bf16(run.to_bf16(got.reshape(-1))))


@pytest.mark.parametrize("mirror", [False, True])
def test_plain_images(mirror):
    keep = []
    images = np.random.default_rng(1).integers(0, 256, (3, 50, 40, 3), np.uint8)
    r = resize(50, 40, 32, 16, False, keep)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels, table, out = put(images), put(lut(mean, std)), Buffer(3 * 32 * 16 * 3, np.float32)
    LIB.rc_cuda_images(ctypes.c_void_p(pixels.at), LONG(3), LONG(50), LONG(40), ctypes.byref(r),
                       ctypes.c_void_p(table.at), ctypes.c_bool(mirror), ctypes.c_void_p(out.at),
                       INT(0), None)
    run.check()
    out.check("the images")
    a = reidc.Augment(height=32, width=16, mirror=float(mirror), pad=0, erasing=None)
    assert np.array_equal(out.view.reshape(3, 32, 16, 3).transpose(0, 3, 1, 2), a(list(images)))
