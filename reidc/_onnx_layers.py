"""reidc's operations in ONNX's: layers, poolings, products. Each takes the builder, the node's
attributes (those that are not zero), its inputs as `Value`s (None: left out) and the shape of its
result for one image, and returns the result's name. What is special to a paper's module is in
`_onnx_parts`; `EMITTERS` there has all.

Meaning is N×C×H×W on both sides, so nearly everything is one node. The exception is a view: reidc's
memory is N×H×W×C, and its views keep the memory, so here they transpose.
"""
import numpy

_ACTS = {1: "relu", 2: "leaky_relu", 3: "sigmoid"}


def activated(b, x, attributes, name=None):
    """act(x) by a node's attributes; x itself where there is none."""
    act = attributes.get("act", 0)
    act = _ACTS.get(act, act)
    if act == "relu":
        return b.add("Relu", x, name=name)
    if act == "leaky_relu":
        return b.add("LeakyRelu", x, name=name, alpha=attributes.get("slope", 0.0))
    if act == "sigmoid":
        return b.add("Sigmoid", x, name=name)
    return x


def _constant_or_name(b, value):
    return value.name if value.array is None else b.constant(value.array, value.name)


def conv2d(b, a, xs, shape, name=None):
    x, weight, bias, residual = (*xs, None, None)[:4]
    pad, stride = a.get("pad", 0), a["stride"]
    inputs = [x.name, _constant_or_name(b, weight)]
    if bias is not None:
        inputs.append(_constant_or_name(b, bias))
    y = b.add("Conv", *inputs, name=name, kernel_shape=weight.shape[2:], pads=[pad] * 4,
              strides=[stride] * 2, group=a.get("groups", 1))
    if residual is not None:
        y = b.add("Add", y, residual.name)
    return activated(b, y, a)


def linear(b, a, xs, shape, name=None):
    x, weight, bias = (*xs, None)[:3]
    inputs = [x.name, _constant_or_name(b, weight)]
    if bias is not None:
        inputs.append(_constant_or_name(b, bias))
    return activated(b, b.add("Gemm", *inputs, name=name, transB=1), a)


def scale_and_shift(a, xs):
    """A batch norm in evaluation as x·scale + shift, in double."""
    gamma, beta, mean, variance = (v.array.astype(numpy.float64) for v in xs[1:5])
    scale = gamma / numpy.sqrt(variance + a["eps"])
    return scale, beta - mean * scale


def batch_norm(b, a, xs, shape, name=None, fold=True):
    residual = xs[5] if len(xs) > 5 else None
    if fold:
        spread = (-1, 1, 1) if len(shape) == 4 else (-1,)
        scale, shift = (v.astype(numpy.float32).reshape(spread) for v in scale_and_shift(a, xs))
        base = name or "batch_norm"
        y = b.add("Mul", xs[0].name, b.constant(scale, base + ".scale"))
        y = b.add("Add", y, b.constant(shift, base + ".shift"), name=name)
    else:
        y = b.add("BatchNormalization", xs[0].name, *(_constant_or_name(b, v) for v in xs[1:5]),
                  name=name, epsilon=a["eps"])
    if residual is not None:
        y = b.add("Add", y, residual.name)
    return activated(b, y, a)


def instance_norm(b, a, xs, shape, name=None):
    return b.add("InstanceNormalization", xs[0].name, *(_constant_or_name(b, v) for v in xs[1:3]),
                 name=name, epsilon=a["eps"])


def activation(b, a, xs, shape, name=None):
    y = activated(b, xs[0].name, a, name)
    return y if y != xs[0].name else b.add("Identity", y, name=name)


def add(b, a, xs, shape, name=None):
    return activated(b, b.add("Add", xs[0].name, xs[1].name, name=name), a)


def scale_add(b, a, xs, shape, name=None):
    product = b.add("Mul", xs[1].name, _constant_or_name(b, xs[0]))
    return b.add("Add", product, xs[2].name, name=name)


def identity(b, a, xs, shape, name=None):
    """What evaluation leaves as it is: dropout in all its kinds, a stopped gradient."""
    return xs[0].name


def max_pool2d(b, a, xs, shape, name=None):
    return b.add("MaxPool", xs[0].name, name=name, kernel_shape=[a["kernel"]] * 2,
                 strides=[a["stride"]] * 2, pads=[a.get("pad", 0)] * 4)


def avg_pool2d(b, a, xs, shape, name=None):
    return b.add("AveragePool", xs[0].name, name=name, kernel_shape=[a["kernel"]] * 2,
                 strides=[a["stride"]] * 2)


def channel_pool(b, a, xs, shape, name=None):
    return b.add("ReduceMax" if a.get("mode") else "ReduceMean", xs[0].name, name=name, axes=[1],
                 keepdims=1)


def concat(b, a, xs, shape, name=None):
    return b.add("Concat", *(x.name for x in xs), name=name, axis=1)


def channels(b, a, xs, shape, name=None):
    return b.slice(xs[0].name, [1], [a.get("from", 0)], [a["to"]])


def mul_map(b, a, xs, shape, name=None):
    return b.add("Mul", xs[0].name, xs[1].name, name=name)


def mul_channel(b, a, xs, shape, name=None):
    return b.add("Mul", xs[0].name, b.reshape(xs[1].name, 0, shape[1], 1, 1), name=name)


def _transposed(b, x, yes):
    return b.turned(x, 0, 2, 1) if yes else x


def matmul(b, a, xs, shape, name=None):
    y = b.add("MatMul", _transposed(b, xs[0].name, a.get("trans_a")),
              _transposed(b, xs[1].name, a.get("trans_b")))
    return y if a["scale"] == 1 else b.add("Mul", y, b.number(a["scale"]), name=name)


def softmax(b, a, xs, shape, name=None):
    x = b.add("Neg", xs[0].name) if a.get("negate") else xs[0].name
    return b.add("Softmax", x, name=name, axis=-1)


def attention(b, a, xs, shape, name=None):
    logits = matmul(b, a, xs, shape)
    weights = b.add("Softmax", b.add("Neg", logits) if a.get("negate") else logits, axis=-1)
    if a.get("mode"):
        return b.add("MatMul", xs[2].name, b.turned(weights, 0, 2, 1), name=name)
    return b.add("MatMul", weights, xs[2].name, name=name)


def unit_rows(b, x, axis, eps, name=None):
    """x / max(|x|, eps) along an axis."""
    length = b.add("Max", b.reduce("L2", x, [axis], keep=True), b.number(eps))
    return b.add("Div", x, length, name=name)


def normalize(b, a, xs, shape, name=None):
    y = unit_rows(b, xs[0].name, 1, a["eps"])
    return b.add("Mul", y, b.number(a["scale"]), name=name) if a.get("scale") else y


def gem(b, a, xs, shape, name=None):
    """Divided by the largest value first, as in csrc/ops/gem.c: no power leaves float32."""
    p = numpy.float32(xs[1].array.reshape(-1)[0])
    x = b.add("Max", xs[0].name, b.number(a["eps"]))
    top = b.reduce("Max", x, [2, 3], keep=True)
    powers = b.add("Pow", b.add("Div", x, top), b.number(p))
    mean = b.reduce("Mean", powers, [2, 3], keep=True)
    y = b.add("Mul", top, b.add("Pow", mean, b.number(numpy.float32(1) / p)))
    return b.reshape(y, 0, shape[1], name=name)


def channel_conv(b, a, xs, shape, name=None):
    kernel = xs[1].shape[2]
    y = b.add("Conv", b.reshape(xs[0].name, 0, 1, shape[1]), _constant_or_name(b, xs[1]),
              kernel_shape=[kernel], pads=[kernel // 2] * 2)
    return b.reshape(y, 0, shape[1], name=name)


def view(b, a, xs, shape, name=None):
    x, mode = xs[0], a.get("mode", 0)
    if mode in (0, 3):  # N×C×1×1 and N×C
        return b.reshape(x.name, 0, *shape[1:], name=name)
    if mode == 1:  # N×C×H×W to N×P×C
        return b.turned(b.reshape(x.name, 0, shape[2], shape[1]), 0, 2, 1)
    if mode == 2:  # back
        return b.reshape(b.turned(x.name, 0, 2, 1), 0, *shape[1:], name=name)
    if mode == 4:  # rows one after the other, as a map of one column
        rows = b.turned(b.reshape(x.name, 0, shape[2], shape[1]), 0, 2, 1)
        return b.reshape(rows, 0, *shape[1:], name=name)
    return x.name
