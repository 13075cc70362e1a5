"""The parity harness: a network of the engine against its PyTorch twin in float64.

`compare` runs one evaluation and one training step on both and lists, tensor by tensor, the
relative L2 error against the float64 twin beside that of the twin in float32, the yardstick: an
error may be at most 8 times as large, plus 2e-5 (gradients 1e-4 more). `compare_steps` does ten
Adam steps. `by_majority` repeats either on three states: a gradient that one chance crossing of a
ReLU's kink has changed differs in one of them, a wrong one in all. The engine is reached through
its public interface alone (`spec/api.md`); `TwinAsEngine` gives a torch twin that interface, so
that the harness itself can be tested with broken twins.
"""
import copy

import numpy as np
import torch
import twins
from report import (CHANGE_STEPS, FACTOR, GRADIENT_FLOOR, LOSS_STEPS, Report, Row, by_majority,
                    error, one_step)
from states import excite

__all__ = ["TwinAsEngine", "by_majority", "compare", "compare_steps", "error", "judge", "put_state",
           "reference", "state_of", "twin_of"]


def state_of(net):
    return {k: v.detach().numpy().copy() for k, v in net.state_dict().items()
            if not k.endswith("num_batches_tracked")}


def put_state(net, state):
    own = {k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}
    missing, unexpected = net.load_state_dict(own, strict=False)
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise AssertionError(f"names differ: missing {missing[:5]}, unexpected {unexpected[:5]}")
    for k, v in net.state_dict().items():
        if k in state and tuple(v.shape) != state[k].shape:
            raise AssertionError(f"{k}: shape {state[k].shape}, page {tuple(v.shape)}")


def numpy_outputs(out):
    return {k: v.detach().numpy() for k, v in out.items()}


class CenterRule:
    """An optimiser, and beside it plain SGD of rate 0.5 for centres, on the gradient of their own
    loss: the total's over `weight`, what that loss counts in the total (spec/common.md 1)."""

    def __init__(self, optimizer, centers, weight):
        self.optimizer, self.centers, self.weight = optimizer, centers, weight

    def zero_grad(self):
        self.optimizer.zero_grad()
        for p in self.centers:
            p.grad = None

    def step(self):
        self.optimizer.step()
        with torch.no_grad():
            for p in self.centers:
                p -= 0.5 * p.grad / self.weight


class TwinAsEngine:
    """A torch twin behind the engine's interface; `tamper(gradients)` breaks it on purpose."""

    def __init__(self, twin, dtype=torch.float32, tamper=None):
        self.net, self.dtype, self.tamper = twin.to(dtype), dtype, tamper

    def _x(self, images):
        return torch.from_numpy(images).to(self.dtype)

    def state_dict(self):
        return state_of(self.net)

    def load_state_dict(self, state):
        put_state(self.net, state)

    def forward(self, images, *, training=False, planes=None):
        self.net.train(training)
        planes = None if planes is None else torch.from_numpy(planes)
        with torch.no_grad():
            return numpy_outputs(self.net(self._x(images), planes))

    def loss(self, images, labels, *, planes=None):
        self.net.train()
        planes = None if planes is None else torch.from_numpy(planes)
        parts = self.net.loss(self.net(self._x(images), planes), torch.from_numpy(labels))
        parts["total"].backward()
        return {k: float(v.detach()) for k, v in parts.items()}

    def zero_grad(self):
        self.net.zero_grad()

    def gradients(self):
        found = {k: np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy()
                 for k, p in self.net.named_parameters()}
        if self.tamper:
            self.tamper(found)
        return found

    def adam(self, lr, weight_decay):
        own = [(k, p) for k, p in self.net.named_parameters() if p.requires_grad]
        adam = torch.optim.Adam([p for k, p in own if not k.startswith("center")], lr, eps=1e-8,
                                weight_decay=weight_decay)
        centers = [p for k, p in own if k.startswith("center")]
        return CenterRule(adam, centers, self.net.center_weight) if centers else adam

    def train_step(self, images, labels, optimizer, *, planes=None):
        optimizer.zero_grad()
        parts = self.loss(images, labels, planes=planes)
        optimizer.step()
        return parts


def reference(twin, images, labels, planes=None, seed=0, twin_for_64=None):
    """What `judge` needs from the twins: the state, float64 results, two sets of float32 results.

    The twins run one after the other, so that only one set of activations is alive. The float32
    twin runs in both memory layouts and the larger error counts: which values rounding pushes over
    a ReLU's kink is chance, and one order of summation may be lucky.
    `twin_for_64`: another twin of the same network for float64.
    """
    state = excite(state_of(twin), seed)

    def run(net, dtype, layout=torch.contiguous_format):
        net = TwinAsEngine(copy.deepcopy(net).to(memory_format=layout), dtype)
        return one_step(net, state, images, labels, planes)

    truth = run(twin_for_64 or twin, torch.float64)
    peers = [run(twin, torch.float32), run(twin, torch.float32, torch.channels_last)]
    return state, truth, peers, set(twin.page_zero)


def compare(engine, twin, images, labels, planes=None, seed=0, twin_for_64=None):
    """engine: a network of reidc (or TwinAsEngine); twin: a torch network; -> Report."""
    return judge(engine, reference(twin, images, labels, planes, seed, twin_for_64), images, labels,
                 planes)


def judge(engine, known, images, labels, planes=None):
    """The engine's step against what `reference` gave for the same batch -> Report."""
    state, truth, peers, quiet = known
    ours = one_step(engine, state, images, labels, planes)
    report = Report()

    def sets(kind, index, skip=()):
        pick = [{k: v for k, v in t[index].items() if k not in skip} for t in (ours, *peers, truth)]
        report.add_sets(kind, pick[0], pick[1:-1], pick[-1])

    report.add("embedding", "embedding", ours[0], [p[0] for p in peers], truth[0])
    if "planes" in truth[1]:
        same = np.array_equal(ours[1].get("planes"), truth[1]["planes"])
        report.rows.append(Row("planes", "planes (exact)", 0.0 if same else float("inf"), 0.0, 0.0))
    sets("output", 1, {"planes"})
    sets("loss", 2)
    sets("gradient", 3, quiet)
    for name in quiet:  # rounding noise on both sides: its norm, against the norm's own weight
        weight = name.replace(".bias", ".weight").replace("rel_w", "q.weight")
        scale = np.linalg.norm(truth[3][weight.replace("rel_h", "q.weight")])
        norms = [float(np.linalg.norm(t[3][name])) for t in (ours, *peers)]
        report.rows.append(Row("gradient", name, norms[0], max(norms[1:]), FACTOR * max(norms[1:])
                               + GRADIENT_FLOOR * scale, absolute=True))
    sets("running", 4)
    sets("running2", 5)
    return report


def compare_steps(engine, make_adam, twin, batches, seed=0, steps=10, lr=1e-5,
                  weight_decay=5e-4):
    """Ten Adam steps on both -> Report of losses and of each parameter's change.

    batches: a list of (images, labels, planes or None), taken in turn: with one alone the gradients
    would hardly change, and neither would Adam's betas show.
    `make_adam(engine, lr, weight_decay)` makes the engine's optimiser after the state is loaded.
    Where anything is past its limit the float32 twin steps, too: what it misses itself is mute.
    """
    state = excite(state_of(twin), seed)

    def run(net, adam):
        net.load_state_dict(state)
        optimizer, losses = adam(net, lr, weight_decay), []
        for i in range(steps):
            images, labels, planes = batches[i % len(batches)]
            keyword = {} if planes is None else {"planes": planes}
            losses.append(net.train_step(images, labels, optimizer, **keyword))
        return losses, net.state_dict()

    def run_twin(dtype):
        return run(TwinAsEngine(copy.deepcopy(twin), dtype), TwinAsEngine.adam)

    def change(end, name):
        before = state[name].astype(np.float64)
        return error(end[name].astype(np.float64) - before, truth_end[name] - before)

    truth, truth_end = run_twin(torch.float64)
    ours, our_end = run(engine, make_adam)
    report = Report()
    for i in range(steps):
        for part, value in truth[i].items():
            report.rows.append(Row("loss", f"step {i} {part}", error(ours[i][part], value), 0.0,
                                   LOSS_STEPS))
    for name, _ in twin.named_parameters():
        if name not in twin.page_zero:
            report.rows.append(Row("change", name, change(our_end, name), 0.0, CHANGE_STEPS))
    if report.failures:  # a gradient of almost 0 makes Adam step by its sign: is it rounding's?
        peer_end = run_twin(torch.float32)[1]
        for row in report.rows:
            if row.kind == "change":
                row.peer = change(peer_end, row.name)
                row.mute = not row.ok and not row.peer <= row.limit
    return report


def twin_of(name, *args, **options):
    """A twin without dropout, seeded."""
    torch.manual_seed(0)
    if name == "MBGN":
        options.setdefault("dropout", 0.0)
    return twins.build(name, *args, **options)
