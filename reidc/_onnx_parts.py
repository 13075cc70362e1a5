"""The papers' modules in ONNX's standard operations: body parts whose borders move with the image
(AABS), poolings over them, involution, the factored relation, attention with relative positions.

Signatures as in `_onnx_layers`. Planes are float32 N×4 here: small whole numbers, and comparisons
of floats are what every runtime has.
"""
import numpy

from reidc import _onnx_layers as layers
from reidc._onnx_builder import Value

_LEAST = float(numpy.finfo(numpy.float32).min)


# ---- planes: spec/mbgn.md 3 ---------------------------------------------------------------------


def planes(b, a, xs, shape, name=None):
    """N×4. 'body' and 'uniform' (modes 1, 2) are constants that `fixed_planes` gives."""
    height = xs[0].shape[2]
    r = b.once(("rows", "Mean", xs[0].name, 0, 0), lambda: b.reduce("Mean", xs[0].name, [3]))
    gram = b.add("MatMul", b.turned(r, 0, 2, 1), r)
    batch = b.slice(b.add("Shape", gram), [0], [0], [1])
    start = b.constant(numpy.array([start_planes(height)], numpy.float32), "start_planes")
    begin = b.add("Expand", start, b.add("Concat", batch, b.integers(4), axis=0))
    found = b.add("Loop", b.constant(numpy.int64(height), "passes"),
                  b.constant(numpy.bool_(True), "true"), begin, name=name or "planes",
                  body=_aabs_pass(b, gram, height))
    b.moving = (xs[0].name, found)
    return found


def start_planes(height):
    """Shares 2, 2, 2, 3, 3 of 12, rounded half up."""
    return [(2 * height * upto + 12) // 24 for upto in (2, 4, 6, 9)]


def fixed_planes(mode, height):
    """The planes of 'body' (mode 1) and 'uniform' (2), the same for all images."""
    if mode == 1:
        return start_planes(height)
    return [(2 * height * (i + 1) + 5) // 10 for i in range(4)]


def _aabs_pass(outer, gram, height):
    """A loop's body: one pass over the four planes of every image at once. It goes on while a plane
    of any image has moved; for the others a further pass changes nothing."""
    b, helper = outer.inside(), outer.helper
    given = b.name("planes_before")
    lines = b.add("Split", given, b.integers(1, 1, 1, 1), axis=1, outputs=4)
    moved = None
    for i in range(4):
        low = lines[i - 1] if i else b.constant(numpy.zeros((1, 1), numpy.float32), "top")
        high = lines[i + 1] if i < 3 else b.constant(
            numpy.full((1, 1), height, numpy.float32), "bottom")
        step = _step(b, gram, height, low, lines[i], high)
        lines[i] = b.add("Add", lines[i], step)
        size = b.add("Abs", step)
        moved = size if moved is None else b.add("Add", moved, size)
    result = b.add("Concat", *lines, axis=1)
    most = b.reduce("Max", moved, [0, 1])
    go_on = b.add("Greater", most, b.number(0))
    number, before = b.name("pass"), b.name("go_on_before")
    value = helper.make_tensor_value_info
    return helper.make_graph(
        b.nodes, "aabs_pass",
        [value(number, 7, []), value(before, 9, []), value(given, 1, [None, 4])],
        [value(go_on, 9, []), value(result, 1, [None, 4])])


def _step(b, gram, height, low, line, high):
    """-1, 0 or 1 of one plane (N×1): both rows beside it are more like the part on their other
    side. Scores come from sums over masks, not from differences of cumulated sums, so that they
    keep float32's whole precision: the threshold is 1e-5."""
    rows = b.constant(numpy.arange(height, dtype=numpy.float32), "rows")
    one = b.integers(1)

    def stacked(first, second):
        return b.add("Concat", *(b.add("Unsqueeze", b.as_float(m), one) for m in (first, second)),
                     axis=1)

    parts = stacked(b.rows_between(low, line, height), b.rows_between(line, high, height))
    beside = stacked(b.add("Equal", rows, b.add("Sub", line, b.number(1))),
                     b.add("Equal", rows, line))
    sums = b.add("MatMul", parts, gram)  # N×2×H
    count = b.reduce("Sum", parts, [2], keep=True)
    within = b.reduce("Sum", b.add("Mul", sums, parts), [2], keep=True)
    q = b.add("Div", within, b.add("Mul", count, count))
    length = b.add("Sqrt", b.add("Max", q, b.number(1e-12)))
    m = b.add("Div", b.add("MatMul", sums, b.turned(beside, 0, 2, 1)), count)
    above, below = b.add("Split", b.add("Div", m, length), b.integers(1, 1), axis=1, outputs=2)
    near = b.add("Mul", b.add("Max", above, below), b.number(1e-5))

    def both(more, less, room):
        """1 where it holds for both rows, and the plane has a row to spare on that side."""
        held = b.as_float(b.add("Greater", b.add("Sub", more, less), near))
        free = b.as_float(b.add("GreaterOrEqual", room, b.number(2)))
        return b.add("Mul", b.reduce("Min", held, [2]), free)

    down = both(above, below, b.add("Sub", high, line))
    up = both(below, above, b.add("Sub", line, low))
    return b.add("Sub", down, up)


# ---- poolings -----------------------------------------------------------------------------------


def _rows_of(b, kind, x, left, right):
    """Mean or maximum over the columns [left, right): N×C×H, made once for all parts."""
    def make():
        whole = (left, right) == (0, x.shape[3])
        return b.reduce(kind, x.name if whole else b.slice(x.name, [3], [left], [right]), [3])

    key = (0, 0) if (left, right) == (0, x.shape[3]) else (left, right)
    return b.once(("rows", kind, x.name, *key), make)


def _edges(b, cuts, height):
    """(0, l0, l1, l2, l3, H) of each image: N×6."""
    def make():
        with_top = b.add("Pad", cuts.name, b.integers(0, 1, 0, 0), b.number(0))
        return b.add("Pad", with_top, b.integers(0, 0, 0, 1), b.number(height))

    return b.once(("edges", cuts.name), make)


def region_pool(b, a, xs, shape, name=None):
    x, cuts = xs[0], xs[1] if len(xs) > 1 else None
    kind, height = "Max" if a.get("mode") else "Mean", x.shape[2]
    left, right = a.get("col_from", 0), a.get("col_to", 0) or x.shape[3]
    low, high = a.get("from", 0), a.get("to", 0) or (5 if cuts else height)
    if cuts and cuts.array is not None:  # the same for all images: plain rows
        edges = [0, *(int(v) for v in cuts.array.reshape(-1)), height]
        cuts, low, high = None, edges[low], edges[high]
    if not cuts or (low, high) == (0, 5):
        part = x.name
        if not cuts and (low, high, left, right) != (0, height, 0, x.shape[3]):
            part = b.slice(part, [2, 3], [low, left], [high, right])
        elif cuts and (left, right) != (0, x.shape[3]):
            part = b.slice(part, [3], [left], [right])
        return b.add("Reduce" + kind, part, name=name, axes=[2, 3], keepdims=0)
    edges = _edges(b, cuts, height)
    top, bottom = (b.slice(edges, [1], [at], [at + 1]) for at in (low, high))
    inside = b.once(("inside", cuts.name, low, high),
                    lambda: b.rows_between(top, bottom, height))  # N×H
    rows = _rows_of(b, kind, x, left, right)
    if kind == "Max":
        kept = b.add("Where", b.add("Unsqueeze", inside, b.integers(1)), rows, b.number(_LEAST))
        return b.add("ReduceMax", kept, name=name, axes=[2], keepdims=0)
    share = b.add("Div", b.as_float(inside), b.add("Sub", bottom, top))
    product = b.add("MatMul", rows, b.add("Unsqueeze", share, b.integers(2)))
    return b.reshape(product, 0, shape[1], name=name)


def half_means(b, a, xs, shape, name=None):
    x, cuts = xs
    height, width = x.shape[2:]
    if cuts.array is not None:
        cuts = Value(b.constant(cuts.array.astype(numpy.float32).reshape(1, 4), "fixed_planes"),
                     (1, 4))
    edges = _edges(b, cuts, height)
    two = b.integers(2)
    top = b.add("Unsqueeze", b.slice(edges, [1], [0], [5]), two)  # N×5×1
    bottom = b.add("Unsqueeze", b.slice(edges, [1], [1], [6]), two)
    inside = b.as_float(b.rows_between(top, bottom, height))
    share = b.add("Div", inside, b.add("Sub", bottom, top))  # N×5×H
    halves = []
    for left, right in ((0, width // 2), (width // 2, width)):
        rows = _rows_of(b, "Mean", x, left, right)  # N×C×H
        half = b.add("MatMul", share, b.turned(rows, 0, 2, 1))  # N×5×C
        halves.append(b.add("Unsqueeze", half, two))
    return b.reshape(b.add("Concat", *halves, axis=2), 0, 10, shape[2], name=name)


def pair_cosine(b, a, xs, shape, name=None):
    count = xs[0].shape[1]
    unit = layers.unit_rows(b, xs[0].name, 2, 1e-12)
    cosines = b.reshape(b.add("MatMul", unit, b.turned(unit, 0, 2, 1)), 0, count * count)
    first, second = numpy.triu_indices(count, 1)
    places = b.constant((first * count + second).astype(numpy.int64), "pairs")
    return b.add("Gather", cosines, places, name=name, axis=1)


# ---- attention ----------------------------------------------------------------------------------


def involution(b, a, xs, shape, name=None):
    """Sum over taps of the shifted map times the tap's weights, group by group, never unfolded.
    Columns are shifted first, so that the other shift copies whole rows."""
    x, weights = xs
    _, channels, height, width = shape
    kernel, groups = a["kernel"], a["groups"]
    r, taps = kernel // 2, kernel * kernel
    grouped = b.reshape(x.name, 0, groups, channels // groups, height, width)
    padded = b.add("Pad", grouped, b.integers(0, 0, 0, r, r, 0, 0, 0, r, r))
    tap = b.reshape(weights.name, 0, groups, taps, height, width)
    tap = b.add("Split", tap, b.integers(*[1] * taps), axis=2, outputs=taps) if taps > 1 else [tap]
    columns = [b.slice(padded, [4], [dx], [dx + width]) for dx in range(kernel)]
    total = None
    for t in range(taps):
        dy, dx = divmod(t, kernel)
        shifted = b.slice(columns[dx], [3], [dy], [dy + height])
        product = b.add("Mul", shifted, tap[t])
        total = product if total is None else b.add("Add", total, product)
    return b.reshape(total, 0, channels, height, width, name=name)


def relation_map(b, a, xs, shape, name=None):
    """W (Aᵀ B) = (W Aᵀ) B: the P×P relation of spec/mbgn.md 2 is never built."""
    first, second, weight = xs
    _, channels, height, width = first.shape
    places, rows = height * width, shape[1]
    flat_a, flat_b = (b.reshape(v.name, 0, channels, places) for v in (first, second))
    if weight.array is None:
        turned = b.turned(b.reshape(weight.name, rows, places), 1, 0)
    else:
        turned = b.constant(weight.array.reshape(rows, places).T, weight.name)
    u = b.turned(b.add("MatMul", flat_a, turned), 0, 2, 1)
    return b.reshape(b.add("MatMul", u, flat_b), 0, rows, height, width, name=name)


def _relative_weights(b, a, xs):
    """softmax of scale·q·(k + rel_h + rel_w): (N·heads)×T×T; and the heads' values."""
    q, k, v, rel_h, rel_w = xs
    _, channels, height, width = q.shape
    heads, places = a["groups"], height * width
    d = channels // heads

    def of_heads(x):  # N×C×H×W to (N·heads)×T×d
        return b.turned(b.reshape(x.name, -1, d, places), 0, 2, 1)

    query = b.add("Mul", of_heads(q), b.number(a["scale"]))
    logits = b.add("MatMul", query, b.reshape(k.name, -1, d, places))
    by_place = b.reshape(query, -1, height, width, d)
    # For the queries of a row only H rows of the table matter, beginning at H-1-row.
    table_h, table_w = (numpy.stack([table.array[size - 1 - i:2 * size - 1 - i].T
                                     for i in range(size)])
                        for table, size in ((rel_h, height), (rel_w, width)))  # size×d×size
    of_rows = b.add("MatMul", by_place, b.constant(table_h, rel_h.name))  # …×H×W×H'
    of_columns = b.turned(b.add("MatMul", b.turned(by_place, 0, 2, 1, 3),
                                b.constant(table_w, rel_w.name)), 0, 2, 1, 3)  # …×H×W×W'
    logits = b.add("Add", b.reshape(logits, -1, places, height, width),
                   b.reshape(of_rows, -1, places, height, 1))
    logits = b.add("Add", logits, b.reshape(of_columns, -1, places, 1, width))
    return b.add("Softmax", b.reshape(logits, -1, places, places), axis=-1), of_heads(v)


def relative_attention(b, a, xs, shape, name=None):
    weights, values = _relative_weights(b, a, xs)
    y = b.turned(b.add("MatMul", weights, values), 0, 2, 1)  # (N·heads)×d×T
    return b.reshape(y, -1, *shape[1:], name=name)


def relative_attention_map(b, a, xs, shape, name=None):
    weights, _ = _relative_weights(b, a, xs)
    return b.reshape(weights, -1, *shape[1:], name=name)


EMITTERS = {f.__name__: f for f in (
    layers.conv2d, layers.linear, layers.batch_norm, layers.instance_norm, layers.activation,
    layers.add, layers.scale_add, layers.max_pool2d, layers.avg_pool2d, layers.channel_pool,
    layers.concat, layers.mul_map, layers.mul_channel, layers.matmul, layers.softmax,
    layers.attention, layers.normalize, layers.gem, layers.channel_conv, layers.view, planes,
    region_pool, half_means, pair_cosine, involution, relation_map, relative_attention,
    relative_attention_map)} | {
    "slice": layers.channels, "dropout": layers.identity, "drop_block": layers.identity,
    "batch_drop_block": layers.identity, "stop_gradient": layers.identity}


def emit(b, op, attributes, xs, shape, name=None):
    """A node of any operation that evaluation runs; its `Value`. KeyError: a training one."""
    if op == "planes" and attributes.get("mode"):
        array = numpy.array(fixed_planes(attributes["mode"], xs[0].shape[2]), numpy.int64)
        return Value(name or "planes", shape, array)
    return Value(EMITTERS[op](b, attributes, xs, shape, name=name), shape)
