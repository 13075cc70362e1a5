"""Inference in eight bits: what `Network.quantize` found, and what checkpoints keep of it."""
import json

from reidc import _checks, _core

METHODS = ("percentile", "mse")
HEADER = "reidc.int8"  # in a checkpoint's header


class Quantization:
    """What `Network.quantize` did; prints as a table.

    layers: for each convolution a dict of name, int8 (whether it computes with bytes), reason
    (why not, else None), low, high and step of its input's bytes, and error: the relative L2
    error of its result with its own input, residual and weights in bytes and everything before it
    exact (None where bytes were not tried). method, percentile, limit: as given. images: how many.
    cosine: the mean cosine between the embeddings of the images before and after.
    """

    def __init__(self, layers, images, cosine, method, percentile, limit):
        self.layers = [dict(name=layer["name"], int8=layer["int8"], reason=_reason(layer, limit),
                            low=layer["low"], high=layer["high"], step=layer["step"],
                            error=layer["error"] if layer["measured"] else None)
                       for layer in layers]
        self.images, self.cosine = images, cosine
        self.method, self.percentile, self.limit = method, percentile, limit

    def __str__(self):
        rows = [("layer", "in", "input range", "step", "relative error")]
        for layer in self.layers:
            tried = layer["error"] is not None
            rows.append((layer["name"], "int8" if layer["int8"] else "float32",
                         f"{layer['low']:.4g} … {layer['high']:.4g}" if tried else "",
                         f"{layer['step']:.3g}" if tried else "",
                         (f"{layer['error']:.4f}" if tried else "")
                         + (f" {layer['reason']}" if layer["reason"] else "")))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
        lines.insert(1, "-" * sum(widths, 2 * len(widths) - 2))
        used = sum(layer["int8"] for layer in self.layers)
        how = self.method + (f" {self.percentile:g}" if self.method == "percentile" else "")
        lines.append(f"{used} of {len(self.layers)} convolutions in int8, ranges of {self.images} "
                     f"images by {how}; embeddings' mean cosine with float32: {self.cosine:.5f}")
        return "\n".join(lines)

    def __repr__(self):
        used = sum(layer["int8"] for layer in self.layers)
        return (f"<reidc Quantization: {used} of {len(self.layers)} convolutions in int8, "
                f"cosine {self.cosine:.5f}>")


def _reason(layer, limit):
    if layer["int8"]:
        return None
    return f"above the limit {limit:g}" if layer["measured"] else "small"


def quantize(m, images, method, percentile, limit):
    """`Network.quantize`, without its documentation."""
    import numpy

    if method not in METHODS:
        raise _core.ArgumentError(f"method: expected 'percentile' or 'mse', got {method!r}")
    percentile = _checks.number("percentile", percentile)
    limit = _checks.number("limit", limit)
    before = (in_float(m) if m.precision == "int8" else m).embed(images)
    layers = m._quantize(images, method == "mse", percentile, limit)
    cosine = float(numpy.mean(numpy.sum(before * m.embed(images), axis=1)))
    return Quantization(layers, len(before), cosine, method, percentile, limit)


def in_float(m):
    """A float32 network with the weights of one that computes in bytes."""
    from reidc.networks import from_config

    config = dict(m.config)
    config["settings"] = dict(config["settings"], precision="float32")
    other = from_config(config, threads=m.threads)
    other.load_state_dict(m.state_dict())
    return other


def header_of(m):
    """What `Network.save` adds to the header: nothing unless the network was quantised."""
    stored = m._stored() if m.precision == "int8" else []
    return {HEADER: json.dumps(stored)} if stored else {}


def take_header(m, header):
    """What `load` does with that."""
    if m.precision == "int8" and HEADER in header:
        m._set_stored(json.loads(header[HEADER]))
