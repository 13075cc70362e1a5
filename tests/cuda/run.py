"""Operations on the host-run kernels, as _core._op_run runs them on the CPU's: what a plan would
not provide is not provided, outputs begin as NaN, zones around every buffer stay untouched."""
import ctypes
import sys
from dataclasses import dataclass

import build
import numpy as np
from reidc import _core

sys.path.insert(0, f"{build.ROOT}/tests/ops")
from harness import NODE, SEED, STEP, Case

MAX_IN, MAX_RANK = 32, 4
GUARD = 256
# Whatever the network's type, these are float32: parameters by input, losses and scalars.
FLOAT_INPUTS = {"batch_norm": (1, 2, 3, 4), "instance_norm": (1, 2), "scale_add": (0,),
                "gem": (1,), "channel_conv": (1,), "relation_map": (2,),
                "relative_attention": (3, 4), "relative_attention_map": (3, 4), "center": (2,),
                "mean_scalars": range(MAX_IN), "add_scalars": (0, 1)}
FLOAT_OUTPUT = ("cross_entropy", "triplet", "center", "circle", "cosine_loss", "mean_scalars",
                "add_scalars")


class Flat(ctypes.Structure):  # rc_test_call of call.c
    _fields_ = [("attrs", ctypes.c_double * 64), ("xs", ctypes.c_int64 * (MAX_IN * 5)),
                ("ys", ctypes.c_int64 * 5), ("x", ctypes.c_void_p * MAX_IN),
                ("y", ctypes.c_void_p), ("dy", ctypes.c_void_p), ("dx", ctypes.c_void_p * MAX_IN),
                ("ws", ctypes.c_void_p), ("tmp", ctypes.c_void_p), ("state", ctypes.c_void_p * 2),
                ("seed", ctypes.c_void_p), ("step", ctypes.c_void_p)] + [
        (name, ctypes.c_int64) for name in ("n_in", "node", "training", "again", "type")] + [
        ("add", ctypes.c_int64 * MAX_IN)]


class Wrong(AssertionError):
    """What the host run found in a kernel: a race, a place outside an array …"""


def setup(lib):
    for name in ("rc_test_op_name", "rc_test_attr_name", "rc_host_error"):
        getattr(lib, name).restype = ctypes.c_char_p
    for name in ("rc_test_size", "rc_test_tmp", "rc_host_launches"):
        getattr(lib, name).restype = ctypes.c_int64
    assert lib.rc_test_size() == ctypes.sizeof(Flat)

    def names(function):
        out = []
        while name := function(len(out)):
            out.append(name.decode())
        return {n: i for i, n in enumerate(out)}
    return names(lib.rc_test_op_name), names(lib.rc_test_attr_name)


LIB = build.library()
OPS, ATTRS = setup(LIB) if LIB else ({}, {})


def check():
    text = LIB.rc_host_error().decode()
    if text:
        raise Wrong(text)


class Buffer:
    """Bytes with zones of NaN around them; begins at a multiple of 16."""

    def __init__(self, count, dtype, values=None):
        self.size = int(count) * np.dtype(dtype).itemsize
        raw = np.full(self.size + 2 * GUARD + 16, 0xFF, np.uint8)
        self.start = GUARD + -(raw.ctypes.data + GUARD) % 16
        self.raw = raw
        self.at = raw.ctypes.data + self.start
        self.view = raw[self.start:self.start + self.size].view(dtype)
        if values is not None:
            self.view[:] = values

    def check(self, what):
        end = self.start + self.size
        if (self.raw[:self.start] != 0xFF).any() or (self.raw[end:] != 0xFF).any():
            raise Wrong(f"kernel wrote outside {what}")


def to_bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(x):
    return (x.astype(np.uint32) << 16).view(np.float32)


def lay(a):
    """To the order of memory: rank 4 as n, h, w, c (weights of the cases here: k, p, 1, 1)."""
    return a.transpose(0, 2, 3, 1) if a.ndim == 4 else a


def pack(a, bf16):
    flat = np.ascontiguousarray(lay(a)).reshape(-1)
    if np.issubdtype(flat.dtype, np.integer):
        return flat.astype(np.int64)
    return to_bf16(flat) if bf16 else flat.astype(np.float32)


def unpack(b, shape, bf16):
    flat = from_bf16(b.view) if bf16 else b.view.copy()
    if len(shape) == 4:
        n, c, h, w = shape
        return flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)
    return flat.reshape(shape)


def kind(bf16):
    return np.uint16 if bf16 else np.float32


@dataclass
class Op:
    """One operation on the kernels; `run` is Case.run of tests/ops/harness.py."""
    op: str
    attrs: dict
    training: bool
    bf16: bool = False

    def float_input(self, i):
        return not self.bf16 or i in FLOAT_INPUTS.get(self.op, ())

    def prepare(self, inputs):
        flat, keep = Flat(), []
        for name, value in self.attrs.items():
            flat.attrs[ATTRS[name]] = value
        shapes = [None if v is None else v.shape for v in inputs]
        for i, v in enumerate(inputs):
            if v is None:
                continue
            flat.xs[5 * i:5 * i + 5] = [v.ndim, *v.shape] + [1] * (4 - v.ndim)
            data = pack(v, not self.float_input(i))
            keep.append(Buffer(data.size, data.dtype, data))
            flat.x[i] = keep[-1].at
        flat.n_in, flat.node, flat.training = len(inputs), NODE, self.training
        flat.type = self.bf16
        keys = Buffer(2, np.uint64, [SEED, STEP])
        flat.seed, flat.step = keys.at, keys.at + 8
        return flat, shapes, [*keep, keys]

    def launch(self, flat, which, keep):
        tmp = Buffer(LIB.rc_test_tmp(OPS[self.op], ctypes.byref(flat), which == 1), np.uint8)
        flat.tmp = tmp.at if tmp.size else None
        LIB.rc_test_run(OPS[self.op], ctypes.byref(flat), which)
        check()
        for b in [*keep, tmp]:
            b.check(f"a buffer in pass {which}")

    def run(self, inputs, dy=None, dx=None, wants=None, in_place=False, bwd_in_place=False,
            again=False):
        flat, shapes, keep = self.prepare(inputs)
        info = _core._op_info(self.op)
        can = [v is not None and not np.issubdtype(v.dtype, np.integer)
               and not info["no_grad"] >> i & 1 and (wants is None or wants[i])
               for i, v in enumerate(inputs)]
        bits = sum(1 << i for i, c in enumerate(can) if c)
        rules = _core._op_rules(self.op, self.attrs, shapes, wants=bits, training=self.training)
        shape = rules["y"]
        flat.ys[:] = [len(shape), *shape] + [1] * (4 - len(shape))
        y_bf16 = self.bf16 and self.op not in FLOAT_OUTPUT
        y_type = np.int64 if info["y_is_int"] else kind(y_bf16)
        if rules["ws"] and (self.training or dy is not None):
            keep.append(Buffer(rules["ws"], np.uint8))
            flat.ws = keep[-1].at
        y = keep[0] if in_place else Buffer(np.prod(shape), y_type)
        flat.y = y.at
        keep.append(y)
        self.launch(flat, 0, keep)
        if again:
            y = Buffer(np.prod(shape), y_type)
            keep.append(y)
            flat.y, flat.again = y.at, 1
            self.launch(flat, 0, keep)
            flat.again = 0
        out = {"y": y.view.reshape(shape) if info["y_is_int"] else unpack(y, shape, y_bf16),
               "kernel": "cuda"}
        if dy is not None:
            out["dx"] = self.backward(flat, keep, inputs, dy, dx, can, bwd_in_place, rules, y_bf16)
        if self.training and LIB.rc_test_has(OPS[self.op], 2):
            states = [Buffer(v.size, np.float32, v) for v in inputs[3:5]]
            flat.state[:] = [s.at for s in states]
            self.launch(flat, 2, keep + states)
            out["state"] = [s.view.copy() for s in states]
        return out

    def backward(self, flat, keep, inputs, dy, dx, can, bwd_in_place, rules, y_bf16):
        d = Buffer(dy.size, kind(y_bf16), pack(dy, y_bf16))
        flat.dy = d.at
        grads = [None] * len(inputs)
        for i, v in enumerate(inputs):
            if not can[i]:
                continue
            start = dx[i] if dx is not None else None
            flat.add[i] = start is not None
            bf16 = not self.float_input(i)
            if i == 0 and bwd_in_place and start is None:
                grads[i] = d
            else:
                grads[i] = Buffer(v.size, kind(bf16), None if start is None else pack(start, bf16))
            flat.dx[i] = grads[i].at
        x, y = list(flat.x), flat.y
        for i in range(len(inputs)):
            flat.x[i] = x[i] if rules["reads"] >> i & 1 else None
        flat.y = y if rules["reads"] >> 31 & 1 else None
        self.launch(flat, 1, keep + [d] + [g for g in grads if g])
        flat.x[:], flat.y = x, y
        for i in range(MAX_IN):
            flat.dx[i], flat.add[i] = None, 0
        return [None if g is None else unpack(g, inputs[i].shape, not self.float_input(i))
                for i, g in enumerate(grads)]


class OnHost(Case):
    """A case whose "fast" kernel for float32 is the CUDA one; everything else as it is."""

    def run(self, inputs, dtype="float64", kernel="reference", threads=1, **more):
        if kernel != "fast" or dtype != "float32":
            return super().run(inputs, dtype, kernel=kernel, threads=threads, **more)
        return Op(self.op, self.attrs, self.training).run(inputs, **more)


def has(op):
    return bool(LIB) and bool(LIB.rc_test_has(OPS[op], 0))
