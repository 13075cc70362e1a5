"""Convolution passes and helpers in NumPy float64, written from the definition."""
import numpy as np


def out_size(shape):
    n, h, w, c, k, kh, kw, stride, pad, groups = shape
    return (h + 2 * pad - kh) // stride + 1, (w + 2 * pad - kw) // stride + 1


def windows(x, shape):
    """(n, oh, ow, kh, kw, c) of the padded input: a view."""
    n, h, w, c, k, kh, kw, stride, pad, groups = shape
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(1, 2))
    return view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3), padded.shape


def conv_fwd(x, w, shape):
    n, h, wd, c, k, kh, kw, stride, pad, groups = shape
    x, w = x.astype(np.float64), w.astype(np.float64)
    cg, kg = c // groups, k // groups
    view, _ = windows(x, shape)
    parts = [np.einsum("nyxabc,kcab->nyxk", view[..., g * cg:(g + 1) * cg],
                       w[g * kg:(g + 1) * kg], optimize=True) for g in range(groups)]
    return np.concatenate(parts, axis=-1)


def conv_bwd_x(dy, w, shape):
    n, h, wd, c, k, kh, kw, stride, pad, groups = shape
    dy, w = dy.astype(np.float64), w.astype(np.float64)
    cg, kg = c // groups, k // groups
    oh, ow = out_size(shape)
    dx = np.zeros((n, h + 2 * pad, wd + 2 * pad, c))
    for g in range(groups):
        for a in range(kh):
            for b in range(kw):
                part = dy[..., g * kg:(g + 1) * kg] @ w[g * kg:(g + 1) * kg, :, a, b]
                dx[:, a:a + stride * oh:stride, b:b + stride * ow:stride,
                   g * cg:(g + 1) * cg] += part
    return dx[:, pad:pad + h, pad:pad + wd]


def conv_bwd_w(dy, x, shape):
    n, h, wd, c, k, kh, kw, stride, pad, groups = shape
    dy, x = dy.astype(np.float64), x.astype(np.float64)
    cg, kg = c // groups, k // groups
    view, _ = windows(x, shape)
    parts = [np.einsum("nyxk,nyxabc->kcab", dy[..., g * kg:(g + 1) * kg],
                       view[..., g * cg:(g + 1) * cg], optimize=True) for g in range(groups)]
    return np.concatenate(parts, axis=0)


def activate(y, act, slope):
    return y if act == 0 else np.where(y > 0, y, 0 if act == 1 else slope * y)


def guarded(shape, fill=0.0, zone=64):
    """A float32 array inside a larger buffer; returns (array, check)."""
    count = int(np.prod(shape))
    buffer = np.full(count + 2 * zone, np.float32(7e30))
    buffer[zone:zone + count] = fill
    inner = buffer[zone:zone + count].reshape(shape)

    def intact():
        return bool((buffer[:zone] == np.float32(7e30)).all()
                    and (buffer[zone + count:] == np.float32(7e30)).all())
    return inner, intact


def guarded_copy(values):
    """A read-only copy that ends where its memory ends in NaN, so that a read beyond shows."""
    zone = 64
    buffer = np.full(values.size + 2 * zone, np.nan, np.float32)
    buffer[zone:zone + values.size] = values.ravel()
    inner = buffer[zone:zone + values.size].reshape(values.shape)
    inner.flags.writeable = False
    return inner


def relative_error(got, want):
    """Relative L2 error; infinite where anything is not finite."""
    got = np.asarray(got, np.float64)
    if not np.isfinite(got).all():
        return np.inf
    scale = np.linalg.norm(want)
    return np.linalg.norm(got - want) / scale if scale > 0 else np.linalg.norm(got)
