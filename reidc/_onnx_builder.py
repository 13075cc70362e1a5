"""Nodes and constants of an ONNX graph while it is written: names stay unique, equal constants
are kept once. Knows ONNX, nothing of reidc's operations (`_onnx_layers`, `_onnx_parts`).

Operation set 17: the newest that ONNX Runtime, OpenVINO and TensorRT 8.6 and later all read; what
18 to 20 add (axes of reductions as inputs, GridSample's modes) is of no use here.
"""
import numpy

OPSET = 17
SMALL = 4096  # bytes of a constant up to which equal ones are looked for
IR_VERSION = 8  # what belongs to that set: older runtimes refuse a newer one


class Value:
    """What a node gives: its name in the file and its shape for one image; `array` where it is a
    constant of the network (a parameter, planes that no image moves)."""

    __slots__ = ("name", "shape", "array")

    def __init__(self, name, shape, array=None):
        self.name, self.shape, self.array = name, tuple(shape), array


class Builder:
    """A graph under construction; `inside` makes the body of a loop, which shares its constants."""

    def __init__(self, helper, outer=None):
        self.helper, self.outer = helper, outer
        self.nodes = []
        self.moving = ()  # names of a map and of the planes found on it
        if outer is None:
            self.constants, self._known, self._names, self.made = {}, {}, set(), {}
        else:  # constants belong to the whole file, what is made once only to its own graph
            self.constants, self._known, self._names = (outer.constants, outer._known,
                                                        outer._names)
            self.made = {}

    def inside(self):
        return Builder(self.helper, self)

    def name(self, wanted):
        """`wanted`, or with a number behind it where that name is taken."""
        name, number = wanted, 2
        while name in self._names:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name

    def constant(self, array, name="constant"):
        """A tensor in the file; the name of an equal one that is there already (of a large one:
        of the same array)."""
        array = numpy.asarray(array, order="C")
        key = (array.dtype.str, array.shape, array.tobytes() if array.nbytes <= SMALL
               else id(array))
        if key not in self._known:
            self._known[key] = self.name(name)
            self.constants[self._known[key]] = array
        return self._known[key]

    def number(self, value):
        return self.constant(numpy.float32(value), "number")

    def integers(self, *values):
        return self.constant(numpy.array(values, numpy.int64), "integers")

    def add(self, op, *inputs, name=None, outputs=1, **attributes):
        """A node; inputs: names of values, "" for one left out. Its output's name (names)."""
        base = name or op.lower()
        made = [self.name(base if outputs == 1 else f"{base}.{i}") for i in range(outputs)]
        self.nodes.append(self.helper.make_node(op, list(inputs), made, name=made[0],
                                                **attributes))
        return made[0] if outputs == 1 else made

    def once(self, key, make):
        """What `make` gave the first time it was asked for under this key."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    # ---- what several operations need

    def reshape(self, x, *shape, name=None):
        """0: as it is there; -1: what is left."""
        return self.add("Reshape", x, self.integers(*shape), name=name)

    def slice(self, x, axes, starts, ends):
        return self.add("Slice", x, self.integers(*starts), self.integers(*ends),
                        self.integers(*axes))

    def turned(self, x, *order):
        return self.add("Transpose", x, perm=order)

    def reduce(self, kind, x, axes, keep=False):
        """Sum, Mean, Max, Min or L2 over axes."""
        if kind == "Sum":
            return self.add("ReduceSum", x, self.integers(*axes), keepdims=int(keep))
        return self.add("Reduce" + kind, x, axes=list(axes), keepdims=int(keep))

    def as_float(self, x):
        return self.add("Cast", x, to=1)

    def rows_between(self, low, high, height):
        """low <= row < high for rows 0 .. height - 1, as bool: low, high of ...x1 to ...xheight."""
        rows = self.constant(numpy.arange(height, dtype=numpy.float32), "rows")
        return self.add("And", self.add("GreaterOrEqual", rows, low), self.add("Less", rows, high))
