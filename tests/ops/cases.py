"""Cases of the operations that shape, pool, normalise and convolve; each `ref_*` is the
definition, written for reading, in float64."""
import numpy as np
from harness import NODE, SEED, STEP, Case, away_from_zero, distinct
from reidc import _core

CASES = []
WRONG = []  # (op, attrs, shapes, words that the message must have)
RELU, LEAKY, SIGMOID = 1, 2, 3


def case(*args, **more):
    CASES.append(Case(*args, **more))


def wrong(*args):
    WRONG.append(args)


def act(v, attrs):
    kind, slope = attrs.get("act", 0), attrs.get("slope", 0.0)
    return {0: lambda: v, RELU: lambda: np.maximum(v, 0),
            LEAKY: lambda: np.where(v > 0, v, slope * v),
            SIGMOID: lambda: 1 / (1 + np.exp(-v))}[kind]()


ACTS = [{}, {"act": RELU}, {"act": LEAKY, "slope": 0.1}, {"act": SIGMOID}]


# ---- activation ------------------------------------------------------------------------------

def ref_activation(x, attrs, training):
    return act(x[0], attrs)


for a in ACTS:
    case("activation", a, [(2, 3, 4, 5)], ref_activation, inputs=away_from_zero)
case("activation", {"act": RELU}, [(7, 5)], ref_activation, inputs=away_from_zero)
case("activation", {"act": LEAKY, "slope": 0.1}, [(3, 17, 5, 7)], ref_activation,
     inputs=away_from_zero, numeric=False)
wrong("activation", {"act": 9}, [(2, 3)], "act")


# ---- conv2d ----------------------------------------------------------------------------------

def ref_conv2d(x, attrs, training):
    x = list(x) + [None] * (4 - len(x))
    image, w, b, residual = x
    stride, pad, groups = attrs["stride"], attrs.get("pad", 0), attrs.get("groups", 1)
    n, c, h, width = image.shape
    k, cg, kh, kw = w.shape
    oh, ow = (h + 2 * pad - kh) // stride + 1, (width + 2 * pad - kw) // stride + 1
    padded = np.pad(image, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    y = np.zeros((n, k, oh, ow))
    for g in range(groups):
        ks, cs = slice(g * k // groups, (g + 1) * k // groups), slice(g * cg, (g + 1) * cg)
        for i in range(kh):
            for j in range(kw):
                part = padded[:, cs, i:i + stride * (oh - 1) + 1:stride,
                              j:j + stride * (ow - 1) + 1:stride]
                y[:, ks] += np.einsum("nchw,kc->nkhw", part, w[ks, :, i, j])
    if b is not None:
        y += b[:, None, None]
    if residual is not None:
        y += residual
    return act(y, attrs)


def conv(n, c, h, w, k, kernel, stride=1, pad=0, groups=1, bias=False, **more):
    attrs = {"stride": stride, "pad": pad, "groups": groups}
    oh, ow = (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1
    case("conv2d", attrs, [(n, c, h, w), (k, c // groups, kernel, kernel),
                           (k,) if bias else None], ref_conv2d,
         terms=max(c // groups * kernel ** 2, k // groups * kernel ** 2, n * oh * ow),
         label=f"k{kernel}-out{k}", **more)


conv(2, 3, 5, 4, 4, 3, pad=1)
conv(2, 3, 5, 4, 4, 3, pad=1, bias=True)
conv(1, 4, 7, 6, 2, 3, stride=2, pad=1)
conv(2, 4, 5, 3, 6, 1)
conv(2, 4, 5, 5, 6, 1, stride=2, bias=True)
conv(1, 6, 5, 4, 4, 3, pad=1, groups=2, bias=True)
conv(1, 4, 4, 4, 4, 3, pad=1, groups=4)
conv(1, 2, 9, 8, 1, 7, pad=3)
conv(1, 3, 17, 13, 5, 7, stride=2, pad=3)
conv(1, 2, 6, 6, 3, 2, stride=3)
conv(3, 16, 8, 5, 24, 3, pad=1, numeric=False)
conv(2, 37, 6, 7, 19, 1, numeric=False)
for a in ACTS[1:3]:
    case("conv2d", {"stride": 1, "pad": 1, "groups": 1, **a},
         [(2, 3, 5, 4), (4, 3, 3, 3), (4,), (2, 4, 5, 4)], ref_conv2d, numeric=False, terms=40,
         label="residual", gradient=False)
wrong("conv2d", {"stride": 1, "groups": 1}, [(2, 3, 5), (4, 3, 1, 1)], ["x", "2x3x5"])
wrong("conv2d", {"stride": 1, "groups": 1}, [(2, 3, 5, 5), None], ["weight"])
wrong("conv2d", {"stride": 1, "groups": 1}, [(2, 3, 5, 5), (4, 2, 1, 1)], ["3", "4x2x1x1"])
wrong("conv2d", {"stride": 0, "groups": 1}, [(2, 3, 5, 5), (4, 3, 1, 1)], ["stride"])
wrong("conv2d", {"stride": 1, "groups": 0}, [(2, 3, 5, 5), (4, 3, 1, 1)], ["groups"])
wrong("conv2d", {"stride": 1, "groups": 2}, [(2, 3, 5, 5), (4, 3, 1, 1)], ["groups"])
wrong("conv2d", {"stride": 1, "groups": 1, "pad": -1}, [(2, 3, 5, 5), (4, 3, 1, 1)], ["pad"])
wrong("conv2d", {"stride": 1, "groups": 1}, [(2, 3, 5, 5), (4, 3, 6, 6)], ["6x6"])
wrong("conv2d", {"stride": 1, "groups": 1}, [(2, 3, 5, 5), (4, 3, 1, 1), (3,)], ["bias", "4"])
wrong("conv2d", {"stride": 1, "groups": 1}, [(2, 3, 5, 5), (4, 3, 1, 1), None, (2, 4, 5, 4)],
      ["residual", "2x4x5x5"])
wrong("conv2d", {"stride": 1, "groups": 1, "act": SIGMOID}, [(2, 3, 5, 5), (4, 3, 1, 1)], ["act"])


# ---- linear ----------------------------------------------------------------------------------

def ref_linear(x, attrs, training):
    y = x[0] @ x[1].T
    if len(x) > 2 and x[2] is not None:
        y = y + x[2]
    return act(y, attrs)


for a in ACTS:
    case("linear", a, [(3, 7), (4, 7), (4,)], ref_linear)
case("linear", {}, [(5, 6), (3, 6)], ref_linear)
case("linear", {}, [(1, 1), (1, 1), None], ref_linear)
case("linear", {}, [(9, 67), (31, 67), (31,)], ref_linear, terms=67, numeric=False)
wrong("linear", {}, [(2, 3, 1, 1), (4, 3)], ["x", "2x3x1x1"])
wrong("linear", {}, [(2, 3), (4, 5)], ["3", "4x5"])
wrong("linear", {}, [(2, 3), (4, 3), (5,)], ["bias", "4"])
wrong("linear", {"act": LEAKY, "slope": -1}, [(2, 3), (4, 3)], ["slope"])
wrong("linear", {"act": 4}, [(2, 3), (4, 3)], ["act"])


# ---- normalisation ---------------------------------------------------------------------------

def per_channel(v, rank):
    return v[:, None, None] if rank == 4 else v


def ref_batch_norm(x, attrs, training):
    v, gamma, beta, mean, var = x[:5]
    axes = (0, 2, 3) if v.ndim == 4 else (0,)
    if training:
        mean, var = v.mean(axes), v.var(axes)
    y = per_channel(gamma / np.sqrt(var + attrs["eps"]), v.ndim) * (
        v - per_channel(mean, v.ndim)) + per_channel(beta, v.ndim)
    if len(x) > 5 and x[5] is not None:
        y = y + x[5]
    return act(y, attrs)


def running_statistics(x, attrs):
    v, momentum = x[0], attrs["momentum"]
    axes = (0, 2, 3) if v.ndim == 4 else (0,)
    return [(1 - momentum) * x[3] + momentum * v.mean(axes),
            (1 - momentum) * x[4] + momentum * v.var(axes, ddof=1)]


def batch_norm_inputs(rng, shapes):
    """Means off zero; all but the last channels' values have a deviation of order 1."""
    c = shapes[0][1]
    out = [rng.standard_normal(shapes[0]) * 1.5 + per_channel(rng.standard_normal(c),
                                                              len(shapes[0])),
           rng.uniform(0.5, 1.5, c) * rng.choice([-1, 1], c), rng.standard_normal(c) * 0.5,
           rng.standard_normal(c), rng.uniform(0.5, 2, c)]
    if len(shapes) > 5:
        out.append(None if shapes[5] is None else rng.standard_normal(shapes[5]))
    return out


def bn(shape, attrs=None, training=True, residual=False, **more):
    c, m = shape[1], int(np.prod(shape)) // shape[1]
    case("batch_norm", {"eps": 1e-5, "momentum": 0.1, **(attrs or {})},
         [shape, (c,), (c,), (c,), (c,)] + ([shape] if residual else []), ref_batch_norm,
         training=training, inputs=batch_norm_inputs, terms=m, state_ref=running_statistics,
         label="residual" if residual else "", **more)


for training in (True, False):
    for a in ACTS:
        bn((3, 4, 3, 2), a, training)
        bn((2, 3, 2, 3), a, training, residual=True)
    bn((5, 4), ACTS[1], training)
    bn((6, 3), {}, training, residual=True)
    bn((2, 64, 6, 5), ACTS[1], training, numeric=False)
    bn((3, 67, 5, 7), ACTS[1], training, residual=True, numeric=False)
    bn((3, 67, 5, 7), ACTS[2], training, residual=True, numeric=False)
    bn((2, 16, 24, 31), {}, training, numeric=False)
    bn((64, 130), ACTS[1], training, numeric=False)
# Two values a channel: the gradient is a difference of terms gamma/deviation times as large.
bn((2, 3, 1, 1), {}, slack=16)
wrong("batch_norm", {"eps": 1e-5}, [(2, 3, 4)] + [(3,)] * 4, ["x", "2x3x4"])
wrong("batch_norm", {"eps": 1e-5}, [(2, 3), (3,), (2,), (3,), (3,)], ["bias", "3"])
wrong("batch_norm", {"eps": 1e-5}, [(2, 3), (3,), None, (3,), (3,)], ["bias", "3"])
wrong("batch_norm", {"eps": 1e-5}, [(2, 3), (3,), (3,), (3,), (3,), (2, 4)], ["residual", "2x3"])
wrong("batch_norm", {"eps": 0}, [(2, 3)] + [(3,)] * 4, ["eps"])
wrong("batch_norm", {"eps": 1, "momentum": 2}, [(2, 3)] + [(3,)] * 4, ["momentum"])


def ref_instance_norm(x, attrs, training):
    v, gamma, beta = x
    mean, var = v.mean((2, 3), keepdims=True), v.var((2, 3), keepdims=True)
    return (v - mean) / np.sqrt(var + attrs["eps"]) * per_channel(gamma, 4) + per_channel(beta, 4)


for training in (True, False):
    case("instance_norm", {"eps": 1e-5}, [(2, 3, 4, 3), (3,), (3,)], ref_instance_norm,
         training=training, terms=24)
case("instance_norm", {"eps": 1e-5}, [(2, 65, 6, 5), (65,), (65,)], ref_instance_norm,
     terms=60, numeric=False)
wrong("instance_norm", {"eps": 1e-5}, [(2, 3), (3,), (3,)], ["x", "2x3"])
wrong("instance_norm", {"eps": 1e-5}, [(2, 3, 4, 4), (3,), (4,)], ["bias", "3"])
wrong("instance_norm", {}, [(2, 3, 4, 4), (3,), (3,)], ["eps"])


# ---- sums and products -----------------------------------------------------------------------

def ref_add(x, attrs, training):
    return act(x[0] + x[1], attrs)


for a in ACTS:
    case("add", a, [(2, 3, 4, 3), (2, 3, 4, 3)], ref_add)
case("add", {}, [(3,), (3,)], ref_add)
case("add", {"act": RELU}, [(3, 33, 7, 5), (3, 33, 7, 5)], ref_add, numeric=False)
wrong("add", {}, [(2, 3), (3, 2)], ["b", "2x3", "3x2"])
wrong("add", {}, [(2, 3), None], ["b", "2x3"])
wrong("add", {"act": -1}, [(2, 3), (2, 3)], ["act"])

case("scale_add", {}, [(1,), (2, 3, 4, 3), (2, 3, 4, 3)],
     lambda x, attrs, training: x[0] * x[1] + x[2], terms=72)
case("scale_add", {}, [(1,), (2, 5), (2, 5)], lambda x, attrs, training: x[0] * x[1] + x[2])
wrong("scale_add", {}, [(2,), (2, 5), (2, 5)], ["s", "1 values"])
wrong("scale_add", {}, [(1,), (2, 5), (2, 4)], ["b", "2x5"])

for shape in [(2, 3, 4, 3), (2, 67, 5, 3)]:
    n, c, h, w = shape
    case("mul_map", {}, [shape, (n, 1, h, w)], lambda x, attrs, training: x[0] * x[1], terms=c,
         numeric=c < 10)
    case("mul_channel", {}, [shape, (n, c)],
         lambda x, attrs, training: x[0] * x[1][:, :, None, None], terms=h * w, numeric=c < 10)
wrong("mul_map", {}, [(2, 3, 4, 3), (2, 3, 4, 3)], ["map", "2x1x4x3"])
wrong("mul_map", {}, [(2, 3), (2, 1)], ["x"])
wrong("mul_channel", {}, [(2, 3, 4, 3), (2, 4)], ["scale", "2x3"])
wrong("mul_channel", {}, [(2, 3, 4), (2, 3)], ["x"])


# ---- pooling ---------------------------------------------------------------------------------

def windows(x, attrs, fill):
    """(n, c, oh, ow, kernel*kernel): the values of each window in raster order."""
    kernel, stride, pad = attrs["kernel"], attrs["stride"], attrs.get("pad", 0)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))
    view = view[:, :, ::stride, ::stride]
    return view.reshape(*view.shape[:4], kernel * kernel)


def ref_max_pool2d(x, attrs, training):
    return windows(x[0], attrs, -np.inf).max(-1)


def ref_avg_pool2d(x, attrs, training):
    return windows(x[0], attrs, 0).mean(-1)


for kernel, stride, pad, shape in [(3, 2, 1, (2, 3, 7, 6)), (2, 2, 0, (1, 2, 5, 4)),
                                   (4, 4, 0, (1, 3, 8, 8)), (3, 1, 1, (1, 2, 4, 4)),
                                   (3, 2, 1, (2, 64, 12, 8)), (3, 2, 1, (1, 67, 9, 11)),
                                   (5, 3, 2, (1, 3, 11, 10)), (1, 1, 0, (1, 2, 3, 2)),
                                   (16, 16, 0, (1, 2, 16, 32))]:
    a = {"kernel": kernel, "stride": stride, "pad": pad}
    for training in (True, False):
        case("max_pool2d", a, [shape], ref_max_pool2d, training=training, inputs=distinct,
             numeric=shape[1] < 10 and training)
    if pad == 0:
        case("avg_pool2d", {"kernel": kernel, "stride": stride}, [shape], ref_avg_pool2d,
             numeric=shape[1] < 10, terms=kernel ** 2)
case("avg_pool2d", {"kernel": 3, "stride": 1}, [(1, 2, 5, 4)], ref_avg_pool2d)
wrong("max_pool2d", {"kernel": 3, "stride": 2}, [(2, 3)], ["x"])
wrong("max_pool2d", {"kernel": 17, "stride": 2}, [(2, 3, 32, 32)], ["kernel"])
wrong("max_pool2d", {"kernel": 3}, [(2, 3, 8, 8)], ["stride"])
wrong("max_pool2d", {"kernel": 3, "stride": 1, "pad": 2}, [(2, 3, 8, 8)], ["pad"])
wrong("max_pool2d", {"kernel": 4, "stride": 4}, [(2, 3, 3, 8)], ["2x3x3x8"])
wrong("avg_pool2d", {"kernel": 4, "stride": 4}, [(2, 3, 3, 8)], ["2x3x3x8"])
wrong("avg_pool2d", {"stride": 4}, [(2, 3, 3, 8)], ["kernel"])


def ref_region_pool(x, attrs, training):
    v = x[0]
    rows = np.zeros((len(v), 6), int)
    rows[:, 5] = v.shape[2]
    to = attrs.get("to", 0)
    if len(x) > 1 and x[1] is not None:
        rows[:, 1:5] = x[1]
        top, bottom = rows[:, attrs["from"]], rows[:, to or 5]
    else:
        top = np.full(len(v), attrs.get("from", 0))
        bottom = np.full(len(v), to or v.shape[2])
    left, right = attrs.get("col_from", 0), attrs.get("col_to", 0) or v.shape[3]
    pool = np.max if attrs["mode"] else np.mean
    return np.stack([pool(v[n, :, top[n]:bottom[n], left:right], (1, 2)) for n in range(len(v))])


def region_inputs(rng, shapes):
    x = distinct(rng, shapes[:1])
    if len(shapes) > 1:
        n, h = shapes[0][0], shapes[0][2]
        x.append(np.stack([np.sort(rng.choice(np.arange(1, h), 4, False)) for _ in range(n)]))
    return x


for mode in (0, 1):
    for a in [{}, {"from": 1, "to": 3}, {"col_from": 1}, {"from": 2, "col_to": 2}]:
        case("region_pool", {"mode": mode, **a}, [(2, 3, 4, 5)], ref_region_pool,
             inputs=region_inputs, terms=20)
    for a in [{"from": 0, "to": 5}, {"from": 0, "to": 1}, {"from": 1, "to": 3}, {"from": 4},
              {"from": 2, "to": 3, "col_from": 1, "col_to": 3}]:
        case("region_pool", {"mode": mode, **a}, [(3, 2, 8, 3), (3, 4)], ref_region_pool,
             inputs=region_inputs, terms=20, label="planes", training=bool(mode))
    case("region_pool", {"mode": mode}, [(3, 130, 6, 3)], ref_region_pool, inputs=region_inputs,
         terms=20, numeric=False)
wrong("region_pool", {}, [(2, 3)], ["x"])
wrong("region_pool", {"mode": 2}, [(2, 3, 4, 5)], ["mode"])
wrong("region_pool", {"from": 3, "to": 3}, [(2, 3, 4, 5)], ["rows", "4"])
wrong("region_pool", {"from": 3, "to": 6}, [(2, 3, 4, 5)], ["rows", "4"])
wrong("region_pool", {"col_to": 6}, [(2, 3, 4, 5)], ["columns", "5"])
wrong("region_pool", {"to": 6}, [(2, 3, 9, 5), (2, 4)], ["planes", "5"])
wrong("region_pool", {"to": 5}, [(2, 3, 9, 5), (3, 4)], ["planes", "2x4"])


def ref_channel_pool(x, attrs, training):
    return (np.max if attrs["mode"] else np.mean)(x[0], 1, keepdims=True)


for mode in (0, 1):
    case("channel_pool", {"mode": mode}, [(2, 5, 3, 4)], ref_channel_pool, inputs=distinct)
    case("channel_pool", {"mode": mode}, [(2, 1, 3, 2)], ref_channel_pool, inputs=distinct)
    case("channel_pool", {"mode": mode}, [(2, 131, 5, 3)], ref_channel_pool, inputs=distinct,
         numeric=False, training=True, terms=131)
wrong("channel_pool", {}, [(2, 3)], ["x"])
wrong("channel_pool", {"mode": -1}, [(2, 3, 4, 4)], ["mode"])


# Ties: the first place in raster order, the lowest channel.

def few_values(rng, shapes):
    return [rng.integers(0, 3, s).astype(np.float64) for s in shapes]


def first_of_window(x, attrs, dy):
    kernel, stride, pad = attrs["kernel"], attrs["stride"], attrs.get("pad", 0)
    dx = np.zeros(x[0].shape)
    won = windows(x[0], attrs, -np.inf).argmax(-1)  # NumPy's argmax: the first
    for n, c, i, j in np.ndindex(*dy.shape):
        y, z = np.divmod(won[n, c, i, j], kernel)
        dx[n, c, i * stride + y - pad, j * stride + z - pad] += dy[n, c, i, j]
    return [dx]


def first_of_region(x, attrs, dy):
    v, dx = x[0], np.zeros(x[0].shape)
    part = v[:, :, attrs["from"]:attrs["to"]]
    won = part.reshape(*v.shape[:2], -1).argmax(-1)
    for n, c in np.ndindex(*dy.shape):
        y, z = np.divmod(won[n, c], v.shape[3])
        dx[n, c, attrs["from"] + y, z] = dy[n, c]
    return [dx]


def lowest_channel(x, attrs, dy):
    return [np.where(np.arange(x[0].shape[1])[:, None, None]
                     == x[0].argmax(1)[:, None], dy, 0)]


for c in (3, 70):
    for a in ({"kernel": 3, "stride": 2, "pad": 1}, {"kernel": 2, "stride": 2},
              {"kernel": 4, "stride": 4}):
        case("max_pool2d", a, [(2, c, 9, 8)], ref_max_pool2d, inputs=few_values,
             grad_ref=first_of_window, training=True, label="ties")
    case("region_pool", {"mode": 1, "from": 1, "to": 4}, [(2, c, 5, 3)], ref_region_pool,
         inputs=few_values, grad_ref=first_of_region, training=True, label="ties")
    case("channel_pool", {"mode": 1}, [(2, c, 5, 3)], ref_channel_pool, inputs=few_values,
         grad_ref=lowest_channel, training=True, label="ties")
case("channel_pool", {"mode": 1}, [(1, 512, 3, 3)], ref_channel_pool, inputs=few_values,
     grad_ref=lowest_channel, training=True, label="ties")


# ---- rearranging -----------------------------------------------------------------------------

def ref_concat(x, attrs, training):
    return np.concatenate(x, 1)


case("concat", {}, [(2, 3, 4, 5), (2, 1, 4, 5), (2, 2, 4, 5)], ref_concat)
case("concat", {}, [(2, 3), (2, 70)], ref_concat)
case("concat", {}, [(2, 3, 2, 2)], ref_concat)
case("concat", {}, [(2, 64, 5, 3), (2, 33, 5, 3)], ref_concat, numeric=False)
wrong("concat", {}, [(2, 3, 4)], ["2x3x4"])
wrong("concat", {}, [(2, 3, 4, 5), (2, 3, 5, 4)], ["input 1", "2x3x5x4"])
wrong("concat", {}, [(2, 3, 4, 5), (2, 3)], ["input 1"])


def ref_slice(x, attrs, training):
    return x[0][:, attrs.get("from", 0):attrs["to"]]


case("slice", {"from": 1, "to": 4}, [(2, 5, 3, 2)], ref_slice)
case("slice", {"from": 0, "to": 5}, [(2, 5)], ref_slice)
case("slice", {"from": 17, "to": 66}, [(2, 67, 3, 5)], ref_slice, numeric=False)
wrong("slice", {"from": 2, "to": 2}, [(2, 5)], ["channels"])
wrong("slice", {"from": 2, "to": 6}, [(2, 5, 3, 3)], ["channels", "5"])
wrong("slice", {"to": 2}, [(5,)], ["x"])


def ref_view(x, attrs, training):
    v, mode = x[0], attrs["mode"]
    if mode == 0:
        return v[:, :, 0, 0]
    if mode == 1:
        return v.reshape(*v.shape[:2], -1).transpose(0, 2, 1)
    if mode == 2:
        return v.transpose(0, 2, 1).reshape(len(v), v.shape[2], attrs["from"], attrs["to"])
    if mode == 4:
        return v.reshape(len(v), attrs["from"], -1, 1).transpose(0, 2, 1, 3)
    return v[:, :, None, None] if mode == 3 else v


case("view", {"mode": 0}, [(2, 3, 1, 1)], ref_view)
case("view", {"mode": 1}, [(2, 3, 2, 4)], ref_view)
case("view", {"mode": 2, "from": 2, "to": 4}, [(2, 8, 3)], ref_view)
case("view", {"mode": 3}, [(2, 3)], ref_view)
case("view", {"mode": 4, "from": 3}, [(2, 12)], ref_view)
case("view", {"mode": 5}, [(2, 3, 4, 5)], ref_view)
case("view", {"mode": 5}, [(2, 3)], ref_view)
wrong("view", {"mode": 0}, [(2, 3, 1, 2)], ["2x3x1x2"])
wrong("view", {"mode": 1}, [(2, 3)], ["x"])
wrong("view", {"mode": 2, "from": 2, "to": 3}, [(2, 8, 3)], ["2x3", "2x8x3"])
wrong("view", {"mode": 3}, [(2, 3, 1)], ["x"])
wrong("view", {"mode": 4, "from": 2}, [(2, 3)], ["2 equal rows", "2x3"])
wrong("view", {"mode": 4}, [(2, 3)], ["from"])
wrong("view", {"mode": 6}, [(2, 3)], ["mode"])

case("stop_gradient", {}, [(2, 3, 4, 2)], lambda x, attrs, training: x[0])
wrong("stop_gradient", {}, [None], ["x"])


# ---- random zeros ----------------------------------------------------------------------------

def uniform(row, slot):
    word = _core._random(SEED, 35, STEP, NODE, row, slot)
    return (word >> 40) * 2.0 ** -24


def ref_dropout(x, attrs, training):
    v = x[0]
    if not training:
        return v
    u = np.array([[uniform(n, i) for i in range(v[0].size)] for n in range(len(v))])
    return np.where(u.reshape(v.shape) >= np.float32(attrs["p"]), v / (1 - attrs["p"]), 0)


for training in (True, False):
    case("dropout", {"p": 0.5}, [(2, 5, 3, 4)], ref_dropout, training=training)
    case("dropout", {"p": 0.3}, [(3, 37)], ref_dropout, training=training)
case("dropout", {"p": 0.0}, [(3, 7)], ref_dropout, training=True)
case("dropout", {"p": 0.5}, [(2, 33, 5, 3)], ref_dropout, training=True, numeric=False)
wrong("dropout", {"p": 1}, [(2, 3)], ["p"])
wrong("dropout", {"p": -0.1}, [(2, 3)], ["p"])


def ref_drop_block(x, attrs, training):
    v, q, b = x[0], attrs["p"], attrs["kernel"]
    n, c, h, w = v.shape
    if not training:
        return v
    keep = np.ones(v.shape)
    chance = q / b ** 2 * h * w / ((h - b + 1) * (w - b + 1))
    for at in np.ndindex(n, c, h - b + 1, w - b + 1):
        row, k, i, j = at
        if uniform(row, (k * h + i) * w + j) < chance:
            keep[row, k, i:i + b, j:j + b] = 0
    return v * keep * (keep.size / keep.sum() if keep.sum() else 0)


for training in (True, False):
    case("drop_block", {"p": 0.2, "kernel": 3}, [(2, 3, 6, 5)], ref_drop_block,
         training=training)
case("drop_block", {"p": 0.3, "kernel": 1}, [(2, 3, 6, 5)], ref_drop_block, training=True)
case("drop_block", {"p": 0.999, "kernel": 2}, [(1, 1, 2, 2)], ref_drop_block, training=True)
wrong("drop_block", {"p": 0.1, "kernel": 7}, [(2, 3, 6, 8)], ["block", "2x3x6x8"])
wrong("drop_block", {"p": 1.5, "kernel": 2}, [(2, 3, 6, 8)], ["p"])
wrong("drop_block", {"p": 0.5, "kernel": 2}, [(2, 3)], ["x"])


def ref_batch_drop_block(x, attrs, training):
    v = x[0].copy()
    h, w = v.shape[2:]
    if training:
        rows, columns = round(attrs["height_ratio"] * h), round(attrs["width_ratio"] * w)
        top, left = int(uniform(0, 0) * (h - rows + 1)), int(uniform(0, 1) * (w - columns + 1))
        v[:, :, top:top + rows, left:left + columns] = 0
    return v


for training in (True, False):
    for a in [{"height_ratio": 0.33, "width_ratio": 1.0},
              {"height_ratio": 0.5, "width_ratio": 0.5}]:
        case("batch_drop_block", a, [(2, 3, 9, 5)], ref_batch_drop_block, training=training)
wrong("batch_drop_block", {"height_ratio": 1.1}, [(2, 3, 9, 5)], ["1.1"])
wrong("batch_drop_block", {}, [(2, 3)], ["x"])
