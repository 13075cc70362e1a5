"""The stand-in for a card, loaded, and others' arrays on it: what tests of device="cuda" share."""
import ctypes
import os

import numpy as np
import pytest
import reidc
import standin_build
from device_checks import images as images

PATH, WHY = standin_build.library()
if not PATH:
    pytest.skip(WHY, allow_module_level=True)
os.environ["REIDC_CUDA_LIBRARY"] = PATH
CARD = standin_build.Standin(PATH)


@pytest.fixture(autouse=True)
def card():
    """Nothing wrong was noticed, and nothing is left on the card."""
    CARD.reset()
    before = CARD.alive()
    yield CARD
    problem, after = CARD.problem(), CARD.alive()
    CARD.reset()
    assert problem == ""
    assert after == before


def baseline(device="cpu", seed=3, **options):
    options = {"backbone": "resnet18", "width_multiplier": 0.125, **options}
    return reidc.Baseline(5, 32, 16, seed=seed, device=device, **options)


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32),
                ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
                ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class OnCard:
    """Somebody else's array on the card, with these axes in memory."""

    def __init__(self, x, axes=None, card=0, kind="dlpack"):
        axes = tuple(range(x.ndim)) if axes is None else axes
        memory = np.ascontiguousarray(x.transpose(axes))
        self.shape, self.dtype, self.card = x.shape, x.dtype, card
        self.strides = [memory.strides[axes.index(i)] for i in range(x.ndim)]
        self.at = ctypes.c_void_p()
        CARD.c.cudaMalloc(ctypes.byref(self.at), ctypes.c_size_t(memory.nbytes))
        ctypes.memmove(self.at, memory.ctypes.data, memory.nbytes)
        self.asked = []
        if kind == "dlpack":
            self.__class__ = DLPackOnCard

    def free(self):
        CARD.c.cudaFree(self.at)

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.at.value, True),
                "version": 3, "strides": tuple(self.strides), "stream": 1}


class DLPackOnCard(OnCard):
    def __dlpack_device__(self):
        return 2, self.card

    def __dlpack__(self, *, stream):
        self.asked.append(stream)
        some = ctypes.c_int64 * len(self.shape)
        self.kept = some(*self.shape), some(*(s // self.dtype.itemsize for s in self.strides))
        self.tensor = DLTensor(self.at, 2, self.card, len(self.shape), "iuf".index(self.dtype.kind),
                               8 * self.dtype.itemsize, 1, *self.kept)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p,
                                                       ctypes.c_void_p]
        return new(ctypes.addressof(self.tensor), b"dltensor", None)
