"""PyTorch's `.pth` files (the zip form of torch.save), read without executing their pickle.

A pickle is a program. This one is not run: its opcodes are walked by a small interpreter that
knows dicts, lists, tuples, numbers, strings and exactly three functions, which it does not call but
takes as descriptions of a tensor. A name outside the lists below is refused by name; a few harmless
ones (scalars, settings, optimiser's odds and ends beside the weights) become an opaque mark that
nothing can be read from.
"""
import pickletools
import zipfile

import numpy as np

from reidc import _core

# Storage class -> (bytes an element, how its bytes are read).
STORAGES = {
    "torch.FloatStorage": (4, "<f4"), "torch.DoubleStorage": (8, "F64"),
    "torch.HalfStorage": (2, "F16"), "torch.BFloat16Storage": (2, "BF16"),
    "torch.LongStorage": (8, "<i8"), "torch.IntStorage": (4, "<i4"),
    "torch.ShortStorage": (2, "<i2"), "torch.CharStorage": (1, "<i1"),
    "torch.ByteStorage": (1, "<u1"), "torch.BoolStorage": (1, "?"),
}
ORDERED, TENSOR, PARAMETER, SIZE = (
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter", "torch.Size")
KNOWN = (ORDERED, TENSOR, PARAMETER, SIZE)
OPAQUE = {
    "argparse.Namespace", "builtins.set", "__builtin__.set", "_codecs.encode", "numpy.dtype",
    "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
    "collections.Counter", "collections.defaultdict", "builtins.dict", "builtins.list",
    "builtins.int", "builtins.float", "__builtin__.dict", "__builtin__.list", "__builtin__.int",
    "__builtin__.float", "torch.device", "torch.float32", "torch.float16", "torch.bfloat16",
    "torch.float64", "torch.int64", "yacs.config.CfgNode", "fastreid.config.config.CfgNode",
}
WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights")
MAX_PICKLE = 256 << 20
MAX_EXPANDED = 1 << 20  # elements of a tensor that repeats its storage (stride 0)


class _Name:
    """A global that the pickle mentions; never looked up."""

    def __init__(self, text):
        self.text = text


class _Opaque(_Name):
    """The result of a harmless name; nothing is known of it."""


class _Storage:
    def __init__(self, kind, key, numel):
        self.kind, self.key, self.numel = kind, key, numel


class _Tensor:
    def __init__(self, storage, offset, size, stride):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class _Refused(Exception):
    pass


def _natural(values):
    values = tuple(values)
    if len(values) > 32 or any(type(v) is not int or not 0 <= v < 2**53 for v in values):
        raise _Refused("a tensor with sizes that are no natural numbers")
    return values


def _call(name, args):
    """What `name(*args)` describes."""
    if not isinstance(name, _Name):
        raise _Refused("a call of something that is no name")
    if isinstance(name, _Opaque) or name.text in OPAQUE:
        return _Opaque(name.text)
    if name.text == ORDERED:
        return dict(*args)
    if name.text == SIZE:
        return tuple(*args)
    if name.text == PARAMETER:
        return args[0]
    if name.text == TENSOR:
        storage, offset, size, stride = args[:4]
        if not isinstance(storage, _Storage):
            raise _Refused("a tensor without a storage")
        size, stride = _natural(size), _natural(stride)
        (offset,) = _natural([offset])
        if len(size) != len(stride):
            raise _Refused("a tensor with more sizes than strides")
        return _Tensor(storage, offset, size, stride)
    raise _Refused(f"it calls {name.text}")


def _storage(pid):
    if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
        raise _Refused("an unknown kind of persistent id")
    _, kind, key, _, numel = pid
    if not isinstance(kind, _Name) or kind.text not in STORAGES:
        raise _Refused(f"elements of type {getattr(kind, 'text', kind)!s}")
    if not isinstance(key, str):
        raise _Refused("a storage without a name")
    return _Storage(kind.text, key, *_natural([numel]))


def _name(text):
    if text not in STORAGES and text not in OPAQUE and text not in KNOWN:
        raise _Refused(f"it names {text}")
    return _Name(text)


CONSTANTS = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list,
             "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False}
VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT",
          "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING",
          "SHORT_BINSTRING", "STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
PUTS = {"BINPUT", "LONG_BINPUT", "PUT"}
GETS = {"BINGET", "LONG_BINGET", "GET"}
_MARK = object()


def _interpret(pickle):
    """The value that the pickle describes, of dicts, lists, tuples, plain values and _Tensor."""
    stack, memo = [], {}

    def since_mark():
        place = len(stack) - 1
        while stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise _Refused("a list without a beginning")
        items = stack[place + 1:]
        del stack[place:]
        return items

    def set_items(items):
        target = stack[-1]
        if isinstance(target, _Opaque):
            return
        if type(target) is not dict or len(items) % 2:
            raise _Refused("items for something that is no dict")
        target.update(zip(items[::2], items[1::2]))

    for opcode, argument, _ in pickletools.genops(pickle):
        code = opcode.name
        if code in VALUES:
            stack.append(argument)
        elif code in CONSTANTS:
            stack.append(CONSTANTS[code]())
        elif code in PUTS:
            memo[argument] = stack[-1]
        elif code == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif code in GETS:
            stack.append(memo[argument])
        elif code == "MARK":
            stack.append(_MARK)
        elif code in ("PROTO", "FRAME"):
            pass
        elif code == "GLOBAL":
            stack.append(_name(argument.replace(" ", ".", 1)))
        elif code == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(_name(f"{module}.{name}"))
        elif code in ("REDUCE", "NEWOBJ"):
            args, name = stack.pop(), stack.pop()
            if type(args) is not tuple:
                raise _Refused("a call without arguments")
            stack.append(_call(name, args))
        elif code == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif code == "BUILD":  # attributes: an OrderedDict's _metadata; of no interest
            stack.pop()
            if type(stack[-1]) is not dict and not isinstance(stack[-1], _Opaque):
                raise _Refused("attributes for something that is no dict")
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(code[-1])
            items = tuple(stack[-count:])
            if len(items) < count or _MARK in items:
                raise _Refused("a tuple of nothing")
            stack[-count:] = [items]
        elif code == "TUPLE":
            stack.append(tuple(since_mark()))
        elif code in ("LIST", "DICT"):
            items = since_mark()
            stack.append(items if code == "LIST" else {})
            if code == "DICT":
                set_items(items)
        elif code in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if code == "APPEND" else since_mark()
            if type(stack[-1]) is list:
                stack[-1].extend(items)
            elif not isinstance(stack[-1], _Opaque):
                raise _Refused("items for something that is no list")
        elif code == "SETITEM":
            value, key = stack.pop(), stack.pop()
            set_items([key, value])
        elif code == "SETITEMS":
            set_items(since_mark())
        elif code == "POP":
            stack.pop()
        elif code == "STOP":
            return stack.pop()
        else:
            raise _Refused(f"the opcode {code}")
    raise _Refused("it does not end")


def _find_state(value, depth=4):
    """The dict with the tensors: the value itself, or under one of the usual names."""
    if type(value) is not dict or depth == 0:
        return None
    for key in WRAPPERS:
        found = _find_state(value.get(key), depth - 1)
        if found is not None:
            return found
    return value if any(isinstance(v, _Tensor) for v in value.values()) else None


class _Archive:
    def __init__(self, file, path):
        self.zip = zipfile.ZipFile(file)
        self.entries = {info.filename: info for info in self.zip.infolist()}
        pickles = [n for n in self.entries if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Refused("no data.pkl")
        self.root = pickles[0][:-len("data.pkl")]
        self.storages = {}

    def read(self, name, limit=MAX_PICKLE):
        info = self.entries.get(self.root + name)
        if info is None:
            raise _Refused(f"its part {name} is missing")
        if info.compress_type != zipfile.ZIP_STORED:
            raise _Refused(f"its part {name} is compressed, which torch.save never does")
        if info.file_size > limit:
            raise _Refused(f"its part {name} holds {info.file_size} bytes, expected {limit}")
        return self.zip.read(info)

    def elements(self, storage):
        """The storage as a flat array: float types as float32, the others as they are."""
        size, kind = STORAGES[storage.kind]
        known = self.storages.get(storage.key)
        if known is None:
            data = self.read("data/" + storage.key, storage.numel * size)
            if len(data) != storage.numel * size:
                raise _Refused(f"storage {storage.key} holds {len(data)} bytes, "
                               f"expected {storage.numel * size}")
            flat = _core._to_float32(data, kind) if kind[0] in "FB" else np.frombuffer(data, kind)
            known = self.storages[storage.key] = (storage.kind, flat)
        if known[0] != storage.kind or len(known[1]) != storage.numel:
            raise _Refused(f"storage {storage.key} is described in two ways")
        return known[1]

    def tensor(self, t):
        count = 1
        for n in t.size:
            count *= n
        last = t.offset + sum((n - 1) * s for n, s in zip(t.size, t.stride))
        if count and last >= t.storage.numel:
            raise _Refused("a tensor reaches beyond its storage")
        if count > max(t.storage.numel, MAX_EXPANDED):
            raise _Refused("a tensor is far larger than its storage")
        flat = self.elements(t.storage)
        if count == 0:
            return np.zeros(t.size, flat.dtype)
        strides = [s * flat.itemsize for s in t.stride]
        view = np.lib.stride_tricks.as_strided(flat[t.offset:], t.size, strides, writeable=False)
        return view.copy(order="C")


def read(path):
    """{name: array} of the state dict in a `.pth` file; OSError says why not."""
    try:
        with open(path, "rb") as file:
            archive = _Archive(file, path)
            if any(n.startswith(archive.root + "code/") for n in archive.entries):
                raise _Refused("it is a TorchScript program, not a state dict")
            if archive.root + "byteorder" in archive.entries:
                if archive.read("byteorder", 16).strip() != b"little":
                    raise _Refused("it was written on a big-endian machine")
            state = _find_state(_interpret(archive.read("data.pkl")))
            if state is None:
                raise _Refused("it holds no state dict (a dict of names and tensors)")
            out = {}
            for name, value in state.items():
                if isinstance(value, _Tensor):
                    if not isinstance(name, str):
                        raise _Refused("a tensor without a name")
                    out[name] = archive.tensor(value)
                elif isinstance(value, _Name):
                    raise _Refused(f"its entry {name} is a {value.text}")
            return out
    except _Refused as error:
        raise _core.FileError(
            f"{path}: not read, since {error}; save the state dict alone with "
            f"torch.save(model.state_dict(), …) or as .safetensors") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError,
            RuntimeError, NotImplementedError, RecursionError, zipfile.BadZipFile) as error:
        raise _core.FileError(f"{path}: damaged, or no file of torch.save: {error}") from None
