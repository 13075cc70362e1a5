"""`Graph`: networks described layer by layer, with the builder that reidc's own systems use.

Every call adds nodes to a description in C, which knows the shapes at once; `build` makes a
network of it. The calls are remembered as plain data, so that a checkpoint can hold them.
"""
from reidc import _checks, _core

TRAIN, EVAL, LOSS = 1, 2, 4  # roles of an output
_CALLS = ("input", "labels", "conv2d", "linear", "norm", "parameter", "node", "name", "output")
_LOSSES = {"id": {"smoothing": 0.0}, "triplet": {"margin": 0.3}, "center": {},
           "circle": {"margin": 0.25, "scale": 128.0}}
_LOSS_OPS = {"id": "cross_entropy", "triplet": "triplet", "center": "center", "circle": "circle"}


class Value:
    """What a layer gives: an input of other layers, or an output of the network."""

    __slots__ = ("_graph", "_id")

    def __init__(self, graph, identity):
        self._graph = graph
        self._id = identity

    @property
    def shape(self):
        """N×C×H×W or N×C, with N = 1."""
        return self._graph._core.shape(self._id)

    def __repr__(self):
        return f"<value {self._id}: {'×'.join(map(str, self.shape))}>"


def _wholes(**values):
    return [_checks.whole(name, value) for name, value in values.items()]


def _several(name, values):
    if not hasattr(values, "__iter__"):
        raise _core.ArgumentTypeError(f"{name}: expected several, got {type(values).__name__}")
    return values


def _replay(core, calls):
    """Repeat remembered calls on a fresh builder (a checkpoint's description)."""
    for method, arguments in calls:
        if method not in _CALLS:
            raise _core.ArgumentError(f"description: unknown call {method!r}")
        getattr(core, method)(*(tuple(a) if isinstance(a, list) else a for a in arguments))


class Graph:
    """Describe a network of your own.

        g = reidc.Graph()
        x = g.input(3, 256, 128)
        x = g.relu(g.batch_norm(g.conv2d(x, 64, 7, stride=2, padding=3, name="conv1"), name="bn1"))
        x = g.mean(x)
        logits = g.linear(x, 751, name="classifier")
        net = g.build(outputs={"embedding": x, "logits": logits},
                      losses=[("id", "logits"), ("triplet", "embedding")])

    Shapes are N×C×H×W; `x.shape` shows them for N = 1. A layer that does not fit is a ValueError
    at its own line and leaves the graph as it was. Names become the names of parameters
    (`conv1.weight`); left out, they are the layer's kind and a number.
    """

    def __init__(self):
        self._core = _core.GraphBuilder()
        self._calls = []
        self._taken = set()

    def _add(self, method, *arguments):
        value = getattr(self._core, method)(*arguments)
        self._calls.append([method, [list(a) if isinstance(a, tuple) else a for a in arguments]])
        return Value(self, value)

    def _of(self, x, what="x"):
        if not isinstance(x, Value):
            raise _core.ArgumentTypeError(f"{what}: expected a value of this graph, got "
                                          f"{type(x).__name__}")
        if x._graph is not self:
            raise _core.ArgumentError(f"{what}: a value of another graph")
        return x._id

    def _name(self, name, kind):
        if name is None:
            number = 1
            while f"{kind}{number}" in self._taken:
                number += 1
            name = f"{kind}{number}"
        if not isinstance(name, str):
            raise _core.ArgumentTypeError(f"name: expected text, got {type(name).__name__}")
        if name.startswith("center"):
            raise _core.ArgumentError("name: names beginning with 'center' are kept for centre "
                                      f"losses, got {name!r}")
        return name

    def _layer(self, method, x, name, kind, *arguments):
        """Adds one with parameters, whose name is taken once it fits."""
        name = self._name(name, kind)
        value = self._add(method, self._of(x), name, *arguments)
        self._taken.add(name)
        return value

    def _node(self, op, inputs, **attributes):
        return self._add("node", op, tuple(inputs), attributes)

    # ---- inputs and layers with parameters

    def input(self, channels, height, width):
        """The images: 3 channels, height and width in pixels. Once per graph."""
        return self._add("input", *_wholes(channels=channels, height=height, width=width))

    def conv2d(self, x, out_channels, kernel, *, stride=1, padding=0, groups=1, bias=False,
               name=None):
        """Convolution with a kernel×kernel window: N×C×H×W to N×out_channels×H'×W'.

        Parameters name.weight (out_channels×C/groups×kernel×kernel), drawn Kaiming normal fan-out,
        and name.bias, zero, where `bias`.
        """
        sizes = _wholes(out_channels=out_channels, kernel=kernel, stride=stride, padding=padding,
                        groups=groups)
        return self._layer("conv2d", x, name, "conv", *sizes, bool(bias))

    def linear(self, x, out_features, *, bias=True, init="kaiming_fan_out", name=None):
        """x W^T + b: N×C to N×out_features.

        init of the weight: 'kaiming_fan_out', 'kaiming_fan_in', 'classifier' (N(0, 0.001²)) or
        'uniform' (±1/sqrt(C)).
        """
        out_features = _checks.whole("out_features", out_features)
        return self._layer("linear", x, name, "linear", out_features, bool(bias), init)

    def batch_norm(self, x, *, frozen_bias=False, name=None):
        """Batch norm over N×C×H×W or N×C; momentum 0.1, eps 1e-5. frozen_bias: a BNNeck's."""
        return self._layer("norm", x, name, "bn", "bnneck" if frozen_bias else "batch")

    def instance_norm(self, x, *, name=None):
        """Norm over the positions of each image and channel, with weight and bias; eps 1e-5."""
        return self._layer("norm", x, name, "in", "instance")

    def ibn(self, x, *, name=None):
        """IBN-a: instance norm (name.IN) on the first half of channels, batch norm (name.BN)."""
        return self._layer("norm", x, name, "ibn", "ibn")

    def parameter(self, name, shape, *, mean=0.0, std=0.0, trained=True):
        """A parameter of its own for `op`, drawn from N(mean, std²). Up to 4 sizes."""
        shape = tuple(_checks.whole("shape", n) for n in _several("shape", shape))
        mean, std = _checks.number("mean", mean), _checks.number("std", std)
        name = self._name(name, "parameter")
        value = self._add("parameter", name, shape, mean, std, bool(trained))
        self._taken.add(name)
        return value

    # ---- layers without

    def relu(self, x):
        """max(x, 0)"""
        return self._node("activation", [self._of(x)], act="relu")

    def leaky_relu(self, x, slope=0.01):
        """x where x > 0, else slope·x."""
        slope = _checks.number("slope", slope)
        return self._node("activation", [self._of(x)], act="leaky_relu", slope=slope)

    def sigmoid(self, x):
        """1 / (1 + exp(-x))"""
        return self._node("activation", [self._of(x)], act="sigmoid")

    def add(self, a, b):
        """a + b, of equal shapes."""
        return self._node("add", [self._of(a, "a"), self._of(b, "b")])

    def max_pool2d(self, x, kernel, stride=None, padding=0):
        """Maximum over kernel×kernel windows; stride None: the kernel."""
        kernel, stride, padding = _wholes(
            kernel=kernel, stride=kernel if stride is None else stride, padding=padding)
        return self._node("max_pool2d", [self._of(x)], kernel=kernel, stride=stride, pad=padding)

    def avg_pool2d(self, x, kernel, stride=None):
        """Mean over kernel×kernel windows; stride None: the kernel."""
        kernel, stride = _wholes(kernel=kernel, stride=kernel if stride is None else stride)
        return self._node("avg_pool2d", [self._of(x)], kernel=kernel, stride=stride)

    def mean(self, x):
        """Mean over all positions: N×C×H×W to N×C."""
        return self._node("region_pool", [self._of(x)], mode=0)

    def max(self, x):
        """Maximum over all positions: N×C×H×W to N×C."""
        return self._node("region_pool", [self._of(x)], mode=1)

    def rows(self, x, start, stop, pool="mean"):
        """Mean or maximum over the rows [start, stop) and all columns: N×C×H×W to N×C."""
        height = x.shape[2] if isinstance(x, Value) and len(x.shape) == 4 else 0
        modes = {"mean": 0, "max": 1}
        if pool not in modes:
            raise _core.ArgumentError(f"pool: expected 'mean' or 'max', got {pool!r}")
        start, stop = _wholes(start=start, stop=stop)
        if not 0 <= start < stop <= max(height, 1):
            raise _core.ArgumentError(f"rows: expected 0 <= start < stop <= {height}, got "
                                      f"{start}, {stop}")
        return self._node("region_pool", [self._of(x)], mode=modes[pool], **{"from": start,
                                                                             "to": stop})

    def channel_mean(self, x):
        """Mean over channels: N×C×H×W to N×1×H×W."""
        return self._node("channel_pool", [self._of(x)], mode=0)

    def channel_max(self, x):
        """Maximum over channels: N×C×H×W to N×1×H×W."""
        return self._node("channel_pool", [self._of(x)], mode=1)

    def dropout(self, x, p=0.5):
        """In training zero with probability p (0 <= p < 1), else times 1/(1-p)."""
        p = _checks.number("p", p)
        if not 0 <= p < 1:
            raise _core.ArgumentError(f"p: expected 0 <= p < 1, got {p}")
        return self._node("dropout", [self._of(x)], p=p) if p else x

    def concat(self, values):
        """Channels one after the other."""
        return self._node("concat", [self._of(v, "values") for v in _several("values", values)])

    def slice(self, x, start, stop):
        """Channels [start, stop)."""
        start, stop = _wholes(start=start, stop=stop)
        return self._node("slice", [self._of(x)], **{"from": start, "to": stop})

    def mul(self, x, a):
        """a·x: a is N×1×H×W (a mask for all channels) or N×C (a weight for all positions)."""
        op = "mul_map" if isinstance(a, Value) and len(a.shape) == 4 else "mul_channel"
        return self._node(op, [self._of(x), self._of(a, "a")])

    def normalize(self, x):
        """Rows of N×C scaled to unit length (lengths below 1e-12 count as 1e-12)."""
        return self._node("normalize", [self._of(x)], eps=1e-12)

    def flatten(self, x):
        """N×C×1×1 to N×C."""
        return self._node("view", [self._of(x)], mode=0)

    def stop_gradient(self, x):
        """x, with no gradient behind it."""
        return self._node("stop_gradient", [self._of(x)])

    def op(self, name, inputs, **attributes):
        """Any other operation of `csrc/graph/op_list.h` by its name, with its attributes.

        inputs: values, or None where the list says an input may be left out.
        """
        ids = [None if x is None else self._of(x, "inputs") for x in _several("inputs", inputs)]
        return self._node(name, ids, **attributes)

    def name(self, x, name):
        """Give a value a name, as `Network.graph()` shows it. Returns x."""
        self._core.name(self._of(x), self._name(name, "value"))
        self._taken.add(name)
        self._calls.append(["name", [x._id, name]])
        return x

    # ---- the network

    def build(self, outputs, losses=(), *, seed=0, device="cpu", precision="float32",
              memory="normal", threads=None):
        """A network with these outputs; the graph may go on growing, or be built again.

        outputs: {name: value}; "embedding" (N×D) is what `embed` gives, and all are what
        `forward(training=True)` gives. losses: (kind, output name) or (kind, output name, options);
        kinds and options: "id" (cross entropy; smoothing=0.0), "triplet" (batch hard; margin=0.3,
        None: soft), "center" (weight=0.0005), "circle" (margin=0.25, scale=128.0), and weight=1.0
        for all. A kind that occurs several times is averaged; `total` adds up weight times kind.
        Without losses `loss` and `train_step` are a ValueError. seed, device, precision, memory,
        threads: as every network's.
        """
        from reidc.devices import check_device
        from reidc.networks import Network

        check_device(device)
        if not isinstance(outputs, dict):
            raise _core.ArgumentTypeError("outputs: expected a dict from names to values, got "
                                          f"{type(outputs).__name__}")
        if "embedding" not in outputs:
            raise _core.ArgumentError("outputs: expected one named 'embedding', got "
                                      f"{', '.join(map(repr, outputs)) or 'none'}")
        for name, value in outputs.items():
            if not isinstance(name, str):
                raise _core.ArgumentTypeError(f"outputs: expected text as names, got {name!r}")
            self._of(value, f"outputs[{name!r}]")
        if len(outputs["embedding"].shape) != 2:
            raise _core.ArgumentError("outputs['embedding']: expected N×D, got "
                                      f"{outputs['embedding']!r}")
        whole = Graph.__new__(Graph)
        whole._core, whole._calls = self._core.copy(), list(self._calls)
        for name, value in outputs.items():
            role = TRAIN | EVAL if name == "embedding" else TRAIN
            whole._add("output", role, name, value._id)
        center_weight = whole._add_losses(outputs, losses) if losses else 0.0
        settings = {"seed": seed, "precision": precision, "memory": memory, "threads": threads}
        network = Network.__new__(Network)
        whole._core.build(network, settings, [whole._calls, center_weight], center_weight)
        return network.to(device)

    def _add_losses(self, outputs, losses):
        parts, sizes, options_of, centers = {}, {}, {}, 0
        wanted = [_loss(entry, outputs) for entry in _several("losses", losses)]
        several = sum(kind == "center" for kind, _, _ in wanted) > 1
        for kind, name, _ in wanted:
            if kind == "id":
                sizes[name] = outputs[name].shape[-1]
        if len(set(sizes.values())) > 1:
            raise _core.ArgumentError("losses: expected logits of one number of classes, got "
                                      + ", ".join(f"{k}: {v}" for k, v in sizes.items()))
        labels = self._add("labels")
        for kind, name, options in wanted:
            if options_of.setdefault(kind, options) != options:
                raise _core.ArgumentError(f"losses: expected the same options for every {kind!r}")
            attributes = {k: v for k, v in options.items() if k != "weight"}
            inputs = [outputs[name]._id, labels._id]
            if kind == "triplet":
                soft = attributes["margin"] is None
                attributes = {"soft": int(soft), "margin": 0.0 if soft else attributes["margin"]}
            if kind == "center":
                if not sizes:
                    raise _core.ArgumentError("losses: 'center' needs an 'id' loss beside it")
                label = f"center.{centers}" if several else "center"
                shape = (next(iter(sizes.values())), outputs[name].shape[1])
                inputs.append(self._add("parameter", label, shape, 0.0, 1.0, True)._id)
                centers += 1
            parts.setdefault(kind, []).append(self._node(_LOSS_OPS[kind], inputs, **attributes))
        total = None
        for kind, values in parts.items():
            value = values[0]
            if len(values) > 1:
                value = self._node("mean_scalars", [v._id for v in values])
            self._add("output", LOSS, kind, value._id)
            weight = options_of[kind]["weight"]
            if total is None:  # weight·value as value + (weight - 1)·value
                total = value if weight == 1 else self._node(
                    "add_scalars", [value._id, value._id], weight=weight - 1)
            else:
                total = self._node("add_scalars", [total._id, value._id], weight=weight)
        self._add("output", LOSS, "total", total._id)
        return options_of["center"]["weight"] / centers if centers else 0.0


def _loss(entry, outputs):
    """(kind, output, {option: value}) with every option filled in."""
    if not isinstance(entry, (tuple, list)) or not 2 <= len(entry) <= 3:
        raise _core.ArgumentTypeError("losses: expected (kind, output name[, options]), got "
                                      f"{entry!r}")
    kind, name = entry[0], entry[1]
    if kind not in _LOSSES:
        raise _core.ArgumentError(f"losses: expected {', '.join(map(repr, _LOSSES))}, got {kind!r}")
    if name not in outputs:
        raise _core.ArgumentError(f"losses: {name!r} is none of the outputs")
    options = {**_LOSSES[kind], "weight": 0.0005 if kind == "center" else 1.0}
    for key, value in (entry[2] if len(entry) == 3 else {}).items():
        if key not in options:
            raise _core.ArgumentTypeError(f"losses: {kind!r} has no option {key!r}; it has "
                                          + ", ".join(options))
        if value is None and key == "margin" and kind == "triplet":
            options[key] = None
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise _core.ArgumentError(f"losses: {kind!r}: {key}: expected a number >= 0, got "
                                      f"{value!r}")
        else:
            options[key] = float(value)
    return kind, name, options
