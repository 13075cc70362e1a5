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


# Of csrc/device/device.h: rc_device_picture, rc_device_axis, rc_device_resize, rc_device_pictures.
class Picture(ctypes.Structure):
    _fields_ = [("at", LONG), ("row", ctypes.c_int32), ("resize", ctypes.c_int32)]


class Axis(ctypes.Structure):
    _fields_ = [("first", LONG), ("weights", LONG), ("count", ctypes.c_int32),
                ("out", ctypes.c_int32)]


class Resize(ctypes.Structure):
    _fields_ = [("x", Axis), ("y", Axis), ("vertical_first", ctypes.c_int32)]


class Pictures(ctypes.Structure):
    _fields_ = [("block", ctypes.c_void_p), ("bytes", LONG)]
    _fields_ += [(n, LONG) for n in ("pictures", "plain", "larger", "lut", "pixels")]
    _fields_ += [("there", ctypes.c_void_p), ("step", ctypes.c_int32), ("colour", ctypes.c_int32)]
    _fields_ += [(n, LONG) for n in ("n", "height", "width")]
    _fields_ += [("augment", ctypes.c_void_p), ("mirror", ctypes.c_bool),
                 ("seed", ctypes.c_uint64), ("epoch", LONG), ("first", LONG)]


class Block:
    """What is one block for the device: places of what was added."""

    def __init__(self):
        self.data = bytearray()

    def add(self, what):
        at = len(self.data)
        self.data += bytes(what)
        self.data += bytes(-len(self.data) % 16)
        return at


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


def taps(size, out, bicubic, block):
    """The weights of one axis, as Pillow's resize defines them."""
    if size == out:
        return Axis(0, 0, 0, out)
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
    return Axis(block.add(np.array(firsts, np.int64).tobytes()), block.add(weights.tobytes()),
                count, out)


def resizes(sizes, out_h, out_w, bicubic, block):
    """The place of the resizes of pictures of these sizes."""
    made = [Resize(taps(w, out_w, bicubic, block), taps(h, out_h, bicubic, block),
                   h != out_h and h - out_h > 2 * max(w - out_w, 0)) for h, w in sizes]
    return block.add((Resize * len(made))(*made))


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


def augment_of(a):
    flat, c = dict(a._core()), Augment()
    flat["filter"] = int(flat.pop("interpolation") == "bicubic")
    for name, kind in Augment._fields_:
        value = flat[name]
        setattr(c, name, kind(*value) if isinstance(value, (tuple, list, np.ndarray)) else value)
    return c


def run_pictures(images, height, width, rule, augment=None, mirror=False, seed=0, epoch=0, first=0):
    """images: of any sizes; rule: (bicubic, mean, std)."""
    bicubic, mean, std = rule
    sizes = list(dict.fromkeys(x.shape[:2] for x in images))
    block, starts = Block(), np.cumsum([0] + [x.size for x in images])
    p = Pictures(n=len(images), height=height, width=width, mirror=mirror, step=3, colour=1,
                 seed=seed, epoch=epoch, first=first,
                 augment=ctypes.addressof(augment) if augment else None)
    p.pictures = block.add((Picture * len(images))(*(
        Picture(int(at), 3 * x.shape[1], sizes.index(x.shape[:2]))
        for at, x in zip(starts, images))))
    p.plain = resizes(sizes, height, width, bicubic, block)
    p.larger = resizes(sizes, round(1.125 * height), round(1.125 * width), bicubic, block)
    p.lut = block.add(lut(mean, std).tobytes())
    p.pixels = block.add(b"".join(x.tobytes() for x in images))
    p.bytes = len(block.data)
    held = put(np.frombuffer(bytes(block.data), np.int64))
    p.block = held.at
    draws = Buffer(len(images) * 10, np.int32)
    out = Buffer(len(images) * height * width * 3, np.float32)
    LIB.rc_cuda_pictures(ctypes.byref(p), ctypes.c_void_p(draws.at), ctypes.c_void_p(out.at), None)
    run.check()
    for b in (held, draws, out):
        b.check("a buffer of rc_cuda_pictures")
    return out.view.reshape(len(images), height, width, 3).transpose(0, 3, 1, 2)


def run_augment(a, images, seed, epoch, first, mirror=False):
    c = augment_of(a)
    return run_pictures(images, a.height, a.width, (c.filter == 1, c.mean[:], c.std[:]), c,
                        mirror=mirror, seed=seed, epoch=epoch, first=first)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("sizes", [[(64, 32)], [(33, 70)], [(48, 24), (64, 32), (31, 90)]])
def test_chain_is_the_cpus(chain, sizes):
    a = reidc.Augment(**{"height": 48, "width": 24, **CHAINS[chain]})
    rng = np.random.default_rng(len(sizes))
    images = [rng.integers(0, 256, (*sizes[i % len(sizes)], 3), np.uint8) for i in range(4)]
    for order, epoch in ((0, 2), (1, 3)):
        LIB.rc_host_set_order(order)
        got = run_augment(a, images, 11, epoch, 60)
        LIB.rc_host_set_order(0)
        assert np.array_equal(got, a(images, seed=11, epoch=epoch, first=60))
    assert np.array_equal(run_augment(a, images, 11, 3, 60, mirror=True), got[..., ::-1])


@pytest.mark.parametrize("mirror", [False, True])
def test_plain_images(mirror):
    images = list(np.random.default_rng(1).integers(0, 256, (3, 50, 40, 3), np.uint8))
    got = run_pictures(images, 32, 16, (False, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
                       mirror=mirror)
    a = reidc.Augment(height=32, width=16, mirror=float(mirror), pad=0, erasing=None)
    assert np.array_equal(got, a(images))
