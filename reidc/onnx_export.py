"""`Network.export_onnx`: an evaluation network as an ONNX file, compared before it is written.

The file is made from `Network.graph()` and the weights, node by node (`_onnx_layers`,
`_onnx_parts`). It needs the package onnx (the extra `export`); onnxruntime, where it is installed,
runs the file before `path` changes.
"""
import json
import warnings

import numpy

from reidc import _checks, _core
from reidc._onnx_builder import IR_VERSION, OPSET, Builder, Value

INPUTS = ("float32", "uint8")
TOLERANCE = 1e-4  # of a row of the embedding: |difference| / |row|
LARGEST = (1 << 31) - (1 << 20)  # a protocol buffer ends at 2 GiB


def packages(check):
    """(onnx, onnxruntime or None); ImportError says what to install."""
    try:
        import onnx
    except ImportError:
        raise ImportError("export_onnx: needs the package onnx: pip install 'reidc[export]', or "
                          "pip install onnx onnxruntime") from None
    if not check:
        return onnx, None
    try:
        import onnxruntime
    except ImportError:
        return onnx, None
    return onnx, onnxruntime


def _checked(m, flip, normalize, batch, input, fold, check):
    for name, value in (("flip", flip), ("normalize", normalize), ("fold", fold),
                        ("check", check)):
        if not isinstance(value, bool):
            raise _core.ArgumentTypeError(f"{name}: expected True or False, got {value!r}")
    if batch is not None:
        if isinstance(batch, bool) or not isinstance(batch, int):
            raise _core.ArgumentTypeError(f"batch: expected None (any) or a number of images, got "
                                          f"{batch!r}")
        if batch < 1:
            raise _core.ArgumentError(f"batch: expected 1 or more, got {batch}")
    if input not in INPUTS:
        raise _core.ArgumentError(f"input: expected 'float32' or 'uint8', got {input!r}")


def export(m, path, *, flip, normalize, batch, input, fold, check):
    """`Network.export_onnx`."""
    from reidc._files import write_atomic

    _checked(m, flip, normalize, batch, input, fold, check)
    path = _checks.path("path", path)
    onnx, runtime = packages(check)
    model, moving = make_model(m, onnx, flip=flip, normalize=normalize, batch=batch, input=input,
                               fold=fold)
    if model.ByteSize() > LARGEST:
        raise _core.UnsupportedError(f"export_onnx: {model.ByteSize():,} bytes; an ONNX file of "
                                     "one piece ends at 2 GiB")
    data = watched = model.SerializeToString(deterministic=True)
    if moving:  # seen by the comparison alone
        model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None)
                                  for name in moving)
        watched = model.SerializeToString()
    del model
    report = {"path": path, "bytes": len(data), "opset": OPSET, "runtime": None}
    if runtime is not None:
        report |= compare(m, watched, runtime, moving, flip=flip, normalize=normalize,
                          batch=batch, input=input)
    elif check:
        warnings.warn("export_onnx: onnxruntime is not installed, so the file was not compared "
                      "with the network (pip install onnxruntime)", stacklevel=3)
    with write_atomic(path) as file:
        file.write(data)
    return report


# ---- the file -----------------------------------------------------------------------------------


def make_model(m, onnx, *, flip=False, normalize=False, batch=None, input="float32", fold=True):
    """The ModelProto, and where body parts follow the image (MBGN's AABS) the names of the map
    and of the planes that are found on it, else ()."""
    helper = onnx.helper
    b = Builder(helper)
    size = batch or "N"
    shape = [size, 3, m.height, m.width] if input == "float32" else [size, m.height, m.width, 3]
    kind = onnx.TensorProto.FLOAT if input == "float32" else onnx.TensorProto.UINT8
    x = b.name("images")
    result = b.name("embedding")
    images = helper.make_tensor_value_info(x, kind, shape)
    if input == "uint8":
        x = _normalised_pixels(b, x)
    if flip:
        backwards = b.constant(numpy.arange(m.width - 1, -1, -1), "backwards")
        x = b.add("Concat", x, b.add("Gather", x, backwards, axis=3), name="both_ways", axis=0)
    y = _network(b, m, Value(x, (1, 3, m.height, m.width)), fold)
    if flip:
        y = b.reduce("Mean", b.reshape(y, 2, -1, m.dimension), [0])
    if normalize:
        from reidc._onnx_layers import unit_rows

        y = unit_rows(b, y, 1, 1e-12)
    b.nodes.append(helper.make_node("Identity", [y], [result], name=result))
    graph = helper.make_graph(
        b.nodes, m.system, [images],
        [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, [size, m.dimension])],
        [])
    for name in list(b.constants):  # one by one, for a network may be large
        graph.initializer.append(onnx.numpy_helper.from_array(b.constants.pop(name), name))
    model = helper.make_model(graph, producer_name="reidc", ir_version=IR_VERSION,
                              opset_imports=[helper.make_opsetid("", OPSET)])
    helper.set_model_props(model, metadata(m, flip, normalize, input, fold))
    onnx.checker.check_model(model)
    return model, b.moving


def metadata(m, flip, normalize, input, fold):
    """What the file says of itself: names to text, JSON but for the version."""
    from reidc import __version__

    contract = {**m.contract, "normalized": normalize or m.normalized, "flip": flip}
    settings = {"input": input, "layout": "NCHW, normalised" if input == "float32" else "NHWC, RGB",
                "batch_norms_folded": fold, "test_flip": m.test_flip}
    return {"reidc.version": __version__, "reidc.contract": json.dumps(contract),
            "reidc.config": json.dumps(m.config), "reidc.export": json.dumps(settings)}


def _normalised_pixels(b, x):
    """uint8 N×H×W×3 to float32 N×3×H×W, normalised."""
    from reidc.networks import MEAN, STD

    mean, std = numpy.float64(MEAN), numpy.float64(STD)
    scale = b.constant((1 / (255 * std)).astype(numpy.float32), "pixel_scale")
    shift = b.constant((-mean / std).astype(numpy.float32), "pixel_shift")
    return b.turned(b.add("Add", b.add("Mul", b.as_float(x), scale), shift), 0, 3, 1, 2)


def _network(b, m, images, fold):
    """All nodes that the embedding needs; its name."""
    from reidc import _onnx_parts as parts

    nodes = m.graph()
    needed = [i for i, node in enumerate(nodes) if node["evaluation"]]
    if not needed:
        raise _core.UnsupportedError("export_onnx: the embedding depends on no layer")
    state = {name: numpy.asarray(array, numpy.float32) for name, array in m.state_dict().items()}
    readers = {}
    for i in needed:
        for link in nodes[i]["links"]:
            readers.setdefault(link, []).append(i)
    values = {-1: images, None: None}
    for i in needed:
        if i in values:  # went into the convolution before it
            continue
        node = nodes[i]
        xs = [values[link] if not isinstance(link, str) else
              Value(link, state[link].shape, state[link]) for link in node["links"]]
        attributes, norm = node["attributes"], None
        if node["op"] == "batch_norm":
            value = Value(parts.layers.batch_norm(b, attributes, xs, node["shape"],
                                                  name=node["name"], fold=fold), node["shape"])
        else:
            if fold:
                norm = _norm_behind(nodes, readers, i)
            if norm is not None:
                xs = _folded(xs, nodes[norm], state)
            try:
                value = parts.emit(b, node["op"], attributes, xs, node["shape"], node["name"])
            except KeyError:
                raise _core.UnsupportedError(f"export_onnx: {node['op']} ({node['name']}) has no "
                                             "meaning in a file for inference") from None
        values[i] = value
        if norm is not None:
            act = parts.layers.activated(b, value.name, nodes[norm]["attributes"])
            values[norm] = Value(act, node["shape"])
    return values[needed[-1]].name  # what nothing else needs


def _norm_behind(nodes, readers, i):
    """The batch norm that alone reads this convolution or linear layer, which may take it in."""
    node = nodes[i]
    plain = node["op"] in ("conv2d", "linear") and not node["attributes"].get("act") \
        and len([link for link in node["links"] if link is not None]) <= 3 \
        and isinstance(node["links"][1], str)
    after = readers.get(i, [])
    if not plain or len(after) != 1 or nodes[after[0]]["op"] != "batch_norm":
        return None
    norm = nodes[after[0]]
    return after[0] if norm["links"][0] == i and len(norm["links"]) <= 5 else None


def _folded(xs, norm, state):
    """Weight and bias with a batch norm in them, worked out in double."""
    from reidc._onnx_layers import scale_and_shift

    scale, shift = scale_and_shift(norm["attributes"], [None] + [
        Value(name, state[name].shape, state[name]) for name in norm["links"][1:5]])
    weight, bias = xs[1], xs[2] if len(xs) > 2 else None
    if bias is not None:
        shift = shift + scale * bias.array
    base = weight.name.removesuffix(".weight")
    wide = weight.array * scale.reshape(-1, *[1] * (weight.array.ndim - 1))
    return [xs[0], Value(base + ".weight", weight.shape, wide.astype(numpy.float32)),
            Value(base + ".bias", shift.shape, shift.astype(numpy.float32))]


# ---- comparison ---------------------------------------------------------------------------------


def compare(m, data, runtime, moving, *, flip, normalize, batch, input):
    """Run the file beside the network on drawn pixels; how far they are apart.

    UnsupportedError: most images are farther than `TOLERANCE`, and than rounding explains. Random
    weights, which no training has settled, magnify what rounding does to a pixel thousands of
    times; so the network itself is asked how far its embedding moves when pixels move by a few of
    their last bits. Where masks shut altogether (fresh MBGN) even that says nothing of some images:
    fewer than half of them are a warning.
    Planes that follow the image are a discontinuous function of it: they are compared with those
    of `reidc.aabs` on the file's own map, and the embeddings for the file's planes.
    """
    count = batch or 3
    rng = numpy.random.default_rng(0)
    images = _drawn(rng, count, m.height, m.width)
    pixels = _normalised(images)
    fed = images if input == "uint8" else pixels
    plain = m if m.precision == "float32" else _in_float32(m)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = m.threads
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    got, *seen = session.run(["embedding", *moving], {"images": fed})
    planes = None
    if moving:
        planes = seen[1].astype(numpy.int64)
        differ = int((planes != _core.aabs(seen[0])).any(axis=1).sum())
        if differ > 1:  # one may be within rounding of the rule's threshold
            raise _core.UnsupportedError(
                f"export_onnx: onnxruntime {runtime.__version__} and reidc.aabs cut {differ} of "
                f"{len(planes)} maps differently; nothing was written")

    def embedded(x):
        return _embedded(plain, x, planes, flip, normalize)

    want = embedded(fed)
    length = numpy.maximum(numpy.linalg.norm(want, axis=1), 1e-12)
    moved = pixels * (1 + 2e-7 * rng.choice([-1, 1], pixels.shape)).astype(numpy.float32)
    rounding = numpy.linalg.norm(embedded(moved) - want, axis=1) / length
    tolerance = max(TOLERANCE, 50 * float(rounding.max()))
    if got.shape != want.shape:
        raise _core.InternalError(f"export_onnx: the file gives {got.shape}, the network "
                                  f"{want.shape}")
    apart = numpy.linalg.norm(got - want, axis=1) / length
    near = apart <= tolerance
    if not near.all():
        words = (f"onnxruntime {runtime.__version__} and the network are {apart.max():.2g} apart "
                 f"(|difference| / |row|; at most {tolerance:.2g})")
        if 2 * near.sum() <= count:
            raise _core.UnsupportedError(f"export_onnx: {words}; nothing was written")
        warnings.warn(f"export_onnx: {words} on {count - near.sum()} of {count} drawn images",
                      stacklevel=4)
    return {"runtime": f"onnxruntime {runtime.__version__}", "images": int(near.sum()),
            "max_difference": float(numpy.abs(got - want)[near].max()),
            "relative_difference": float(apart[near].max()), "tolerance": tolerance}


def _embedded(m, images, planes, flip, normalize):
    """`embed`, or the same with given planes (of the images, then of their mirror images)."""
    if planes is None:
        return m.embed(images, flip=flip, normalize=normalize).astype(numpy.float64)
    count, across = len(images), 2 if images.dtype == numpy.uint8 else 3
    result = m.forward(images, planes=planes[:count])["embedding"].astype(numpy.float64)
    if flip:
        mirrored = numpy.ascontiguousarray(numpy.flip(images, across))
        result = (result + m.forward(mirrored, planes=planes[count:])["embedding"]) / 2
    if normalize:
        result /= numpy.maximum(numpy.linalg.norm(result, axis=1, keepdims=True), 1e-12)
    return result


def _drawn(rng, count, height, width):
    """uint8 pictures with coarse patches and fine noise, as real ones have both."""
    coarse = rng.integers(0, 200, (count, -(-height // 16), -(-width // 16), 3))
    coarse = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    return (coarse + rng.integers(0, 56, coarse.shape)).astype(numpy.uint8)


def _normalised(images):
    from reidc.networks import MEAN, STD

    pixels = (images / 255.0 - MEAN) / STD
    return numpy.ascontiguousarray(pixels.transpose(0, 3, 1, 2), numpy.float32)


def _in_float32(m):
    """The same weights, computed in float32."""
    from reidc.networks import from_config

    config = {**m.config, "settings": {**m.config["settings"], "precision": "float32"}}
    plain = from_config(config, threads=m.config["settings"].get("threads"))
    plain.load_state_dict(m.state_dict())
    return plain
