"""The networks by name: constructors with their switches, checkpoints, FeatureExtractor.

The networks themselves live in C (csrc/nets); what they do with images is documented at
`reidc._core.Network`. Here are words and files only.
"""
import json

from reidc import _checks, _core
from reidc.devices import check_device, device_index, device_name, set_paths

FORMAT = "1"  # of a checkpoint's header
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # spec/README.md, of pixels in [0, 1]


class Network(_core.Network):
    """A network with its weights, of a system's class, `Graph.build`, `build_model` or `load`."""

    # Where `pretrained` puts a ResNet's weights: under each of these names there is; and whether it
    # may split a plain batch norm between the IN and BN of an IBN block.
    _pretrained_prefixes = ("backbone",)
    _pretrained_halve_bn = False

    def _build(self, system, pretrained, device, settings):
        check_device(device)
        if pretrained is not None:  # found before minutes are spent on anything else
            from reidc.weights import load_pretrained, resolve_pretrained

            pretrained = resolve_pretrained(pretrained)
        super().__init__(system, settings)
        if pretrained is not None:
            load_pretrained(self, pretrained)
        self.to(device)

    @property
    def contract(self):
        """What the embedding means, as plain data; a checkpoint carries it and is held to it.

        size (height, width), resize rule of uint8 images, colour order, mean and std of the
        normalisation (of pixels in [0, 1]), the feature and its dimension, whether it is of unit
        length, whether the test averages the mirrored image, and the metric that ranks.
        """
        return {
            "system": self.system, "size": [self.height, self.width],
            "resize": "bilinear, antialiased, as Pillow", "color": "RGB", "mean": list(MEAN),
            "std": list(STD), "feature": "embedding", "dimension": self.dimension,
            "normalized": self.normalized, "flip": self.test_flip, "metric": "euclidean",
        }

    @property
    def device(self):
        """Where the network computes: "cpu", "cuda:0", …"""
        return device_name(self._device_index)

    def to(self, device):
        """Move the network: "cpu", "cuda" (the first card) or "cuda:1"; returns it.

        Weights, statistics, gradients and what its optimisers and averages remember go with it.
        Whatever fails leaves it where it is. ValueError: no such name; DeviceError: no CUDA back
        end, driver or such card, one that is too old, a library missing; NotImplementedError: its
        precision, or memory='low'; MemoryError: no room for the weights.
        """
        index = device_index(device)
        if index >= 0:
            set_paths()
        self._move(index)
        return self

    def summary(self):
        """A table by layer: operation, output of one image, parameters, multiply-accumulates."""
        rows = [("layer", "operation", "output", "parameters", "MACs")]
        for node in self.graph():
            if node["parameters"] or node["macs"]:
                rows.append((node["name"] + ("" if node["evaluation"] else " (training)"),
                             node["op"], "×".join(map(str, node["shape"])),
                             f"{node['parameters']:,}", f"{node['macs']:,}"))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.ljust(w) if i < 3 else cell.rjust(w)
                           for i, (cell, w) in enumerate(zip(row, widths))) for row in rows]
        lines.insert(1, "-" * len(lines[0]))
        lines.append(lines[1])
        lines.append(f"{self.system}: 3×{self.height}×{self.width} to {self.dimension}; "
                     f"{self.num_parameters:,} parameters, {self.num_inference_parameters:,} of "
                     f"them in inference; {self.macs:,} MACs an image"
                     + (f" ({self.macs_literal:,} done literally)"
                        if self.macs_literal != self.macs else ""))
        return "\n".join(lines)

    def quantize(self, images, *, method="percentile", percentile=99.99, limit=0.03):
        """Compute in eight bits from now on (`embed`, `forward`, `evaluate`); says what was done.

        images: some of those the network is for (a few hundred, as `embed` takes them), from which
        the ranges of values are taken. method: 'percentile', ranges that hold percentile per cent
        of the values on either side, or 'mse', those of the least squared error. limit: a
        convolution whose own relative error is above it stays in float32, as do small ones,
        attention's products, linear layers and the embedding. Weights stay float32; after loading
        others, quantize again. `precision` is 'int8' afterwards, `save` keeps the ranges, training
        is refused. docs/quantization.md says what it costs and gains.

        Returns a `reidc.quantization.Quantization`, which prints as a table. ValueError: another
        method, numbers out of range, no images, values that are not finite, a network of float64;
        NotImplementedError: a network on a device; a failure leaves the network as it was.
        """
        from reidc.quantization import quantize

        return quantize(self, images, method, percentile, limit)

    def save(self, path, *, tensors=None, header=None):
        """Write weights, configuration and contract to a `.safetensors` or `.npz` file.

        Written to a temporary file in the same folder, synced, renamed: `path` is either the old
        file or the whole new one. Weights are float32 in the file and come back bit for bit
        (those of a float64 network are rounded by `load`). tensors, header: more to write beside
        them (a trainer's optimiser); names of such tensors have a "/", and `load` passes over them.
        """
        from reidc.quantization import header_of
        from reidc.weights import write_weights

        own = {"reidc.format": FORMAT, "reidc.config": json.dumps(self.config),
               "reidc.contract": json.dumps(self.contract), "reidc.step": str(self.step),
               **header_of(self)}
        write_weights(path, {**self.state_dict(), **(tensors or {})}, {**own, **(header or {})})

    def export_onnx(self, path, *, flip=False, normalize=False, batch=None, input="float32",
                    fold=True, check=True):
        """Write the evaluation network as an ONNX file that runs without reidc.

        Input `images`, output `embedding` (float32 N×D, as the system's page has it). Operation set
        17; `reidc.contract`, `reidc.config`, `reidc.version` and `reidc.export` in the metadata.
        Needs the package onnx (pip install 'reidc[export]').

        path: of the file; whole or not at all, as `save`.
        flip: average with the mirrored image, inside. normalize: rows of unit length, afterwards.
        batch: None: any number of images; or a fixed one. input: 'float32': N×3×height×width,
        already normalised; 'uint8': N×height×width×3 RGB of the network's own size, normalised
        inside. fold: batch norms go into the convolutions and linear layers before them, which
        makes the file the same for every runtime, and one for integers simpler to calibrate;
        False: weights and running statistics as in `state_dict`, by their names.
        check: run the file by onnxruntime, where it is installed (a warning where it is not), and
        compare before it is written.
        Returns {'path', 'bytes', 'opset', 'runtime'} and, where compared, 'images',
        'max_difference', 'relative_difference' (|difference| / |row|, the largest) and 'tolerance'.

        ImportError: no onnx. ValueError, TypeError: an argument. OSError: the file.
        NotImplementedError: an operation without inference, or the file computes something else.
        """
        from reidc.onnx_export import export

        return export(self, path, flip=flip, normalize=normalize, batch=batch, input=input,
                      fold=fold, check=check)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce_ex__(self, protocol):
        return _restore, (self.config, self.state_dict(), self.step,
                          self._stored() if self.precision == "int8" else [])

    def __repr__(self):
        try:
            system = self.system
        except _core.Error:
            return f"<reidc {type(self).__name__}: without a model>"
        return (f"<reidc {system}: 3×{self.height}×{self.width} to {self.dimension}, "
                f"{self.num_classes} classes, {self.num_parameters:,} parameters"
                f"{'' if self.precision == 'float32' else ', ' + self.precision}>")


class Baseline(Network):
    """ResNet with BNNeck, the field's "bag of tricks" (Luo et al. 2019); `spec/common.md` 10.

    num_classes: identities in training. height, width: multiples of 16 (32 with last_stride=2).
    backbone: 'resnet18', '34', '50', '101', '152' or 'resnet50_ibn_a' and the like;
    width_multiplier scales its channels to 8·max(1, round(c·w/8)). zero_init_residual: the last
    batch norm of each residual block of fresh weights starts at 0 instead of 1 (He et al. 2019),
    without which deep narrow networks hardly learn from nothing.
    pretrained: None, a file (.safetensors, .npz, .pth) or a hub id with a ResNet's weights, for the
    backbone. seed: initial weights and dropout. precision: 'float32'; 'bfloat16': feature maps and
    convolutions in bf16, weights, statistics, vectors and losses in float32; 'float64': plain C,
    slow, for comparisons. memory: 'low': training makes more activations again in backward
    instead of keeping them, to the same bits: less memory, longer steps (docs/training.md); on the
    CPU alone. threads: None: all processors there are.
    last_stride: of the last stage, 1 or 2. label_smooth: of the cross entropy `id`. margin: of the
    batch-hard `triplet` on `feat` (None: soft), which triplet=False leaves out. center: add
    w_center times the centre loss of `feat`.
    What makes it fast-reid's "stronger baseline" (with margin=None and 384×128):
    pool: 'avg', or 'gem' with one learnt exponent `gem.p`. head: 'linear', or 'circle': class-level
    circle loss (`spec/common.md` 1; scale 64, margin 0.35). non_local: two non-local blocks in
    layer2 and three (resnet101: nine) in layer3, `backbone.NL_2.0` and so on; resnet50 and
    resnet101 only. triplet_on: 'feat' or 'bnneck', the neck's output. spread: of the smoothing,
    over 'all' classes or the 'others'.
    Training outputs: `feat` N×C, with triplet_on='bnneck' also `bnneck` N×C, `logit` N×num_classes
    (of the circle head 64 times the cosines, before the margins). Embedding: the BNNeck's output,
    N×C.

    TypeError: unknown keyword. ValueError: a value that does not fit. MemoryError: too large.
    """

    def __init__(self, num_classes, height=256, width=128, *, backbone="resnet50",
                 width_multiplier=1.0, zero_init_residual=False, pretrained=None, seed=0,
                 device="cpu", precision="float32", memory="normal", threads=None,
                 last_stride=1, label_smooth=0.1,
                 margin=0.3, triplet=True, center=False, w_center=0.0005, pool="avg", head="linear",
                 non_local=False, triplet_on="feat", spread="all"):
        self._build("baseline", pretrained, device, dict(
            num_classes=num_classes, height=height, width=width, backbone=backbone,
            width_multiplier=width_multiplier, zero_init_residual=zero_init_residual, seed=seed,
            precision=precision, memory=memory, threads=threads,
            last_stride=last_stride, label_smooth=label_smooth, margin=margin, triplet=triplet,
            center=center, w_center=w_center, pool=pool, head=head, non_local=non_local,
            triplet_on=triplet_on, spread=spread))


class MBGN(Network):
    """Multiple Biological Granularities Network (Tu, Guan, Kuang, ICMR 2022); `spec/mbgn.md`.

    num_classes, backbone, width_multiplier, zero_init_residual, pretrained, seed, precision,
    memory, threads: as Baseline's.
    height: a multiple of 16, at least 80; width: a multiple of 32.
    attention: 'gsrpa', 'cbam' or None, after the last num_attention (0..4) stages.
    branch_g, branch_l: the mean-pooled and the max-pooled branch, at least one of them.
    segmentation: how the map is cut into five parts: 'aabs' (image by image), 'body' or 'uniform'.
    strategy: which runs of parts have heads: 'F', 'M', 'M+F', 'M+C' or 'MGN'.
    structure: the 45 cosine similarities of half parts. part_pool: 'max' or 'avg'.
    dropout: before the classifiers, 0 to 0.99.
    Training outputs: z_*, f_*, logits_*, similarity, planes as on the page. Embedding: all f side
    by side (2304 by default), not normalised.

    TypeError: unknown keyword. ValueError: a value or combination that does not fit. MemoryError.
    """

    def __init__(self, num_classes, height=384, width=128, *, backbone="resnet50",
                 width_multiplier=1.0, zero_init_residual=False, pretrained=None, seed=0,
                 device="cpu", precision="float32", memory="normal", threads=None,
                 attention="gsrpa",
                 num_attention=4, branch_g=True, branch_l=True, segmentation="aabs", strategy="M+F",
                 structure=True, part_pool="max", dropout=0.5):
        self._build("mbgn", pretrained, device, dict(
            num_classes=num_classes, height=height, width=width, backbone=backbone,
            width_multiplier=width_multiplier, zero_init_residual=zero_init_residual, seed=seed,
            precision=precision, memory=memory, threads=threads,
            attention=attention, num_attention=num_attention, branch_g=branch_g,
            branch_l=branch_l, segmentation=segmentation, strategy=strategy, structure=structure,
            part_pool=part_pool, dropout=dropout))


class HAMR(Network):
    """Hybrid-attention guided network with multiple resolution features; `spec/hamr.md`.

    num_classes, backbone, width_multiplier, seed, precision, memory, threads: as Baseline's.
    pretrained: as Baseline's; weights of the authors' public model (order='F', act='leaky_relu',
    triplet_on='bn' here) bring their heads, but for classifiers of another number of classes.
    height, width: multiples of 16 (of 32 with last_stride=2 and stage 4); the map's rows, height/16
    (or /32), a multiple of parts.
    parts: K, the number of stripes, 1 to 31. stages: which stages are fused, a tuple of integers
    from 1 to 4; those above the highest are not built. order: operations from left to right: 'F'
    fusion (once), 'S' spatial and 'C' channel attention (each at most once).
    local: 'mgo' (all K levels of parts), 'pcb' (the K stripes) or 'none' (the whole map).
    mpfe: heads on maximum and mean, reduced to reduce_dim; False: on the mean, not reduced.
    cam_mlp: the channel attention's layers on the 'sum' of mean and maximum, or on 'each'.
    act: of the heads, 'relu' or 'leaky_relu' (slope 0.1). triplet_on: 'fc', or 'bn' after it.
    reduction: of the channel attention, a divisor of its channels. sam_kernel: odd.
    feat_dim: of a part's feature. last_stride: of stage 4, 1 or 2.
    dropblock: None, or (share of height, share of width) of the fused map that training zeroes.
    label_smooth: of the cross entropies `id`. margin: of the batch-hard `triplet` on each level's
    features (None: soft), which triplet=False leaves out of the loss.
    Training outputs: logits{l}_{i} N×num_classes, triplet{l} N×(feat_dim·l). Embedding: all parts'
    features after their batch norm side by side (10752 by default), not normalised.

    TypeError: unknown keyword. ValueError: a value or combination that does not fit. MemoryError.
    """

    def __init__(self, num_classes, height=384, width=128, *, backbone="resnet50",
                 width_multiplier=1.0, zero_init_residual=False, pretrained=None, seed=0,
                 device="cpu", precision="float32", memory="normal", threads=None,
                 parts=6, stages=(1, 2, 3, 4),
                 order="SFC", local="mgo", mpfe=True, cam_mlp="sum", act="relu", triplet_on="fc",
                 reduction=16, sam_kernel=7, reduce_dim=256, feat_dim=512, last_stride=1,
                 dropblock=None, label_smooth=0.1, margin=1.0, triplet=True):
        self._build("hamr", pretrained, device, dict(
            num_classes=num_classes, height=height, width=width, backbone=backbone,
            width_multiplier=width_multiplier, zero_init_residual=zero_init_residual, seed=seed,
            precision=precision, memory=memory, threads=threads,
            parts=parts, stages=stages, order=order, local=local, mpfe=mpfe, cam_mlp=cam_mlp,
            act=act, triplet_on=triplet_on, reduction=reduction, sam_kernel=sam_kernel,
            reduce_dim=reduce_dim, feat_dim=feat_dim, last_stride=last_stride,
            dropblock=dropblock, label_smooth=label_smooth, margin=margin, triplet=triplet))


class MGAF(Network):
    """Multi-granularity network with attention fusion; `spec/mgaf.md`.

    num_classes, backbone, width_multiplier, zero_init_residual, seed, precision, memory, threads:
    as Baseline's. height: a multiple of 96; width: of 32.
    pretrained: as Baseline's; layer3 and layer4 go to every branch.
    small, medium, large: the branches, at least one, with maps of height/32, height/16 and height/8
    rows and 0, 2 and 3 stripes beside the whole map. attention: a non-local block on each map.
    Training outputs: f_small, f_medium, f_large N×256, then y_{branch}_{i} N×num_classes.
    Embedding: the vectors of 256 side by side, whole maps first (2048 by default), not normalised.

    TypeError: unknown keyword. ValueError: a value or combination that does not fit. MemoryError.
    """

    _pretrained_prefixes = ("backbone", "small", "medium", "large")

    def __init__(self, num_classes, height=384, width=128, *, backbone="resnet50",
                 width_multiplier=1.0, zero_init_residual=False, pretrained=None, seed=0,
                 device="cpu", precision="float32", memory="normal", threads=None,
                 small=True, medium=True,
                 large=True, attention=True):
        self._build("mgaf", pretrained, device, dict(
            num_classes=num_classes, height=height, width=width, backbone=backbone,
            width_multiplier=width_multiplier, zero_init_residual=zero_init_residual, seed=seed,
            precision=precision, memory=memory, threads=threads,
            small=small, medium=medium, large=large, attention=attention))


class FSAC(Network):
    """Fusion Self-Attention feature Clustering network; `spec/fsac.md`.

    num_classes, width_multiplier, zero_init_residual, seed, precision, memory, threads: as
    Baseline's. height, width: multiples of 32; weights fit one size only, as the tables of
    positions depend on it.
    backbone: as Baseline's; mhsa needs one with bottlenecks ('resnet50_ibn_a', 'resnet50' and
    deeper). pretrained: as Baseline's; weights with a plain bn1 are split between IN and BN. What
    mhsa replaces is passed over.
    mhsa: four heads of self-attention with relative positions in place of the 3×3 convolutions of
    layer3 and layer4. eca: channel attention after each of the five stages. fusion: the maps of
    layer2, layer3 and layer4 side by side instead of the last alone.
    Training outputs: `f` N×3584 (N×2048 without fusion), `y` N×num_classes. Embedding: f, not
    normalised. Loss: `id` + `triplet` (margin 0.3).

    TypeError: unknown keyword. ValueError: a value or combination that does not fit. MemoryError.
    """

    _pretrained_halve_bn = True

    def __init__(self, num_classes, height=256, width=128, *, backbone="resnet50_ibn_a",
                 width_multiplier=1.0, zero_init_residual=False, pretrained=None, seed=0,
                 device="cpu", precision="float32", memory="normal", threads=None,
                 mhsa=True, eca=True, fusion=True):
        self._build("fsac", pretrained, device, dict(
            num_classes=num_classes, height=height, width=width, backbone=backbone,
            width_multiplier=width_multiplier, zero_init_residual=zero_init_residual, seed=seed,
            precision=precision, memory=memory, threads=threads,
            mhsa=mhsa, eca=eca, fusion=fusion))


class MFA(Network):
    """Multi-local Feature and Attention fused network; `spec/mfa.md`.

    num_classes, backbone, width_multiplier, zero_init_residual, pretrained, seed, precision,
    memory, threads: as Baseline's.
    height, width: multiples of 16.
    cpaa: layers (of 1 to 4) with an attention module after them; () for none. cpaa_parts: 'both',
    'channel' or 'point'. cpaa_scale: scaled softmaxes (not in the paper).
    local_branches: a block, pooling, BNNeck, classifier and centres for each of `regions` (1 to 32)
    horizontal strips of the map; False: one vector, the mean of the map (then gla=False).
    pool: of the branches, 'gem' or 'avg'.
    label_smooth: of the cross entropy `id`. triplet: soft-margin batch-hard `triplet` on `feat_i`.
    center: add w_center times the centre loss `center`. gla: add w_gla times `gla`, the mean of
    1 − cosine of `feat_i` and `region_i`.
    Training outputs: `feat_i` N×C, then `logit_i` N×num_classes, then `region_i` N×C (the strips'
    means), i from 0. Embedding: the BNNecks' outputs side by side (8192 by default), of unit
    length.

    TypeError: unknown keyword. ValueError: a value or combination that does not fit. MemoryError.
    """

    def __init__(self, num_classes, height=256, width=128, *, backbone="resnet50",
                 width_multiplier=1.0, zero_init_residual=False, pretrained=None, seed=0,
                 device="cpu", precision="float32", memory="normal", threads=None,
                 cpaa=(2, 3, 4), cpaa_parts="both",
                 cpaa_scale=False, local_branches=True, regions=4, gla=True, pool="gem",
                 label_smooth=0.1, triplet=True, center=True, w_center=0.0005, w_gla=1.0):
        self._build("mfa", pretrained, device, dict(
            num_classes=num_classes, height=height, width=width, backbone=backbone,
            width_multiplier=width_multiplier, zero_init_residual=zero_init_residual, seed=seed,
            precision=precision, memory=memory, threads=threads,
            cpaa=cpaa, cpaa_parts=cpaa_parts, cpaa_scale=cpaa_scale,
            local_branches=local_branches, regions=regions, gla=gla, pool=pool,
            label_smooth=label_smooth, triplet=triplet, center=center, w_center=w_center,
            w_gla=w_gla))


SYSTEMS = {"baseline": Baseline, "mbgn": MBGN, "hamr": HAMR, "mgaf": MGAF, "fsac": FSAC,
           "mfa": MFA}


def list_models():
    """Names that `build_model` and `FeatureExtractor` know."""
    return list(_core.list_systems())


def build_model(name, num_classes, **options):
    """A network by name (`list_models()`; case does not matter) with its class's keywords.

    ValueError: unknown name.
    """
    if not isinstance(name, str):
        raise _core.ArgumentTypeError(f"name: expected text, got {type(name).__name__}")
    if name.lower() not in SYSTEMS:
        raise _core.ArgumentError(f"name: expected one of {', '.join(SYSTEMS)}, got {name!r}")
    return SYSTEMS[name.lower()](num_classes, **options)


# ---- checkpoints


def from_config(config, *, threads=None):
    """A fresh network from what `Network.config` gave; `threads` in place of those it had."""
    settings = dict(config["settings"], threads=threads)
    if config["system"] == "graph":
        from reidc.graph import _replay

        calls, center_weight = config["description"]
        builder, network = _core.GraphBuilder(), Network.__new__(Network)
        _replay(builder, calls)
        builder.build(network, settings, [calls, center_weight], center_weight)
        return network
    cls = SYSTEMS[config["system"]]
    network = cls.__new__(cls)
    _core.Network.__init__(network, config["system"], settings)
    return network


def _restore(config, state, step, stored=()):
    network = from_config(config, threads=config["settings"].get("threads"))
    network.load_state_dict(state)
    network.step = step
    if stored:
        network._set_stored(list(stored))
    return network


def load(path, *, device="cpu", threads=None, precision=None, memory=None):
    """The network that `Network.save` wrote, with its class, switches and weights.

    device: where it goes (`Network.to`), wherever it was saved. threads: None: all processors
    there are. precision: 'float32', 'bfloat16' or 'float64' in place of what it was saved with;
    memory: 'normal' or 'low' likewise.
    FileNotFoundError; OSError: truncated or no such file format; ValueError: weights without a
    configuration, a contract that this version of the network does not keep (another size,
    dimension, normalisation), or another precision or memory.
    """
    from reidc.quantization import take_header
    from reidc.weights import read_weights

    check_device(device)
    if precision not in (None, "float32", "bfloat16", "float64"):
        raise _core.ArgumentError("precision: expected 'float32', 'bfloat16', 'float64' or None, "
                                  f"got {precision!r} ('int8' is what quantize(images) makes)")
    if memory not in (None, "normal", "low"):
        raise _core.ArgumentError(f"memory: expected 'normal', 'low' or None, got {memory!r}")
    tensors, header = read_weights(path)
    if "reidc.config" not in header:
        raise _core.ArgumentError(
            f"{path}: expected a network saved by reidc, got weights without a configuration "
            "(a ResNet's weights are read by pretrained=)")
    try:
        config, contract = json.loads(header["reidc.config"]), json.loads(header["reidc.contract"])
        step = int(header.get("reidc.step", "0"))
        wanted = {"precision": precision, "memory": memory}
        config = {**config, "settings": {**config["settings"],
                                         **{k: v for k, v in wanted.items() if v is not None}}}
        network = from_config(config, threads=threads)
        take_header(network, header)
    except _core.Error:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _core.FileError(f"{path}: damaged configuration: {error}") from None
    kept = network.contract
    for key in sorted(set(kept) | set(contract)):
        if kept.get(key) != contract.get(key):
            raise _core.ArgumentError(f"{path}: contract: expected {key} {kept.get(key)}, got "
                                      f"{contract.get(key)}")
    network.load_state_dict({k: v for k, v in tensors.items() if "/" not in k})
    network.step = step
    return network.to(device)


# ---- torchreid's way


TOGETHER = 256  # pictures that FeatureExtractor holds as arrays


class FeatureExtractor:
    """Features of pictures by a model's name and weights, as torchreid's users know it.

    name: one of `list_models()`. model_path: a network saved by reidc, or a ResNet's weights for
    the backbone, or None (initial weights). image_size: height and width; those of a saved network
    are its own. Calling it gives float32 N×D, not normalised.
    """

    def __init__(self, name, model_path=None, image_size=(256, 128), device="cpu"):
        check_device(device)
        if not hasattr(image_size, "__len__"):
            raise _core.ArgumentTypeError("image_size: expected (height, width), got "
                                          f"{type(image_size).__name__}")
        if len(image_size) != 2:
            raise _core.ArgumentError(f"image_size: expected (height, width), got {image_size!r}")
        height, width = image_size
        saved = None
        if model_path is not None and model_path != "":
            from reidc.weights import read_weights

            model_path = _checks.path("model_path", model_path)
            saved = "reidc.config" in read_weights(model_path)[1]
        if saved:
            self.model = load(model_path, device=device)
            if self.model.system != str(name).lower():
                raise _core.ArgumentError(f"model_path: expected a {name!r}, got a "
                                          f"{self.model.system!r}")
            own = (self.model.height, self.model.width)
            if (height, width) not in ((256, 128), own):
                raise _core.ArgumentError(f"image_size: the saved network has {own}, got "
                                          f"{(height, width)}")
        else:
            self.model = build_model(name, 1, height=height, width=width, device=device,
                                     pretrained=model_path or None)

    def __call__(self, images):
        """images: a path, a picture (H×W×3 uint8, or Pillow's), or any number of either, of any
        sizes (an array N×H×W×3, a list, a generator): `extractor([frame[y0:y1, x0:x1] for x0, y0,
        x1, y1 in boxes])` are the people in a frame's boxes. Pictures are read a few hundred at a
        time. Float arrays N×3×height×width are taken as they are, as `embed` does."""
        import os

        import numpy

        if getattr(images, "ndim", 0) == 4:
            return self.model.embed(images, normalize=False)
        if isinstance(images, (str, os.PathLike)) or _is_picture(images):
            images = [images]
        images = list(images) if hasattr(images, "__iter__") else [images]
        for image in images:
            if not isinstance(image, (str, os.PathLike)) and not _is_picture(image):
                raise _core.ArgumentTypeError("images: expected paths or pictures, got "
                                              f"{type(image).__name__}")
        features = numpy.empty((len(images), self.model.dimension), numpy.float32)
        for first in range(0, len(images), TOGETHER):
            pictures = [_picture(image) for image in images[first:first + TOGETHER]]
            batch = _core._images_to_input(pictures, self.model.height, self.model.width,
                                           nchw=True, threads=self.model.threads)
            features[first:first + TOGETHER] = self.model.embed(batch, normalize=False)
        return features


def _is_picture(image):
    """Whether it is an array, NumPy's or another package's, or a picture of Pillow's. (The pictures
    of a split, which are read when asked for, have no `ndim`.)"""
    return hasattr(image, "ndim") and hasattr(image, "__array__") or hasattr(image, "convert")


def _picture(image):
    import numpy

    from reidc.splits import decode, rgb

    if not _is_picture(image):
        return decode(image, image)
    return rgb(image, "images: ") if hasattr(image, "convert") else numpy.asarray(image)
