"""Grad-CAM and attention maps against autograd on the PyTorch twins (tests/nets/twins/explain.py).

States and batches as for parity (states.py). Every kind of target, every layer that a page names,
every layer with parameters, every head; networks in float64 and float32, absolute to 1e-4 of maps
in [0, 1]. The twin is float64; where a float32 map strays further (one whose values differ by a
thousandth before they are scaled to [0, 1], as FSAC's here) it may be twice as far off as the
float32 twin's worst. A value that rounding pushes over a ReLU's kink, or past another for a
maximum, changes one image's maps by more: as in parity.py, what fails in one state has to hold in
two others.
"""
import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import reidc  # noqa: E402
import states  # noqa: E402
from parity import put_state, state_of, twin_of  # noqa: E402
from test_parity import MBGNS, SMALL, SMALL18  # noqa: E402
from test_parity_systems import FEW, FSACS, HAMRS, LITTLE, MFAS, MGAFS, QUARTER  # noqa: E402
from twins import explain  # noqa: E402

pytestmark = pytest.mark.twin
TOLERANCE = 1e-4
#: system, switches, the page's default layer, other layers that it names
NETS = {
    "Baseline": ("Baseline", SMALL, "backbone.layer4", ["backbone.layer1"]),
    "Baseline 18": ("Baseline", SMALL18, "backbone.layer4", []),
    "Baseline sbs": ("Baseline", SMALL | dict(pool="gem", head="circle", non_local=True,
                                              triplet_on="bnneck"), "backbone.layer4",
                     ["backbone.layer2"]),
    "MBGN": ("MBGN", SMALL18, "att4", ["att1.mask", "att2", "att3", "backbone.layer4"]),
    "MBGN cbam": ("MBGN", MBGNS["cbam"], "att4", ["att4.mask", "att1"]),
    "MBGN plain": ("MBGN", MBGNS["F"], "backbone.layer4", []),
    "HAMR": ("HAMR", LITTLE, "backbone.layer4",
             [f"backbone.layer{s}" for s in (1, 2, 3)] + [f"aligned{s}" for s in (1, 2, 3, 4)]
             + ["fused", "sam1.mask"]),
    "HAMR cfs": ("HAMR", FEW | dict(order="CFS", stages=(2, 3)), "backbone.layer3",
                 ["aligned2", "aligned3", "fused", "sam.mask"]),
    "HAMR stage 4": ("HAMR", HAMRS["ide"], "backbone.layer4", ["aligned4", "fused"]),
    "MGAF": ("MGAF", SMALL18, "medium", ["small", "large", "large.layer4", "backbone.layer2"]),
    "MGAF plain": ("MGAF", MGAFS["small plain"], "small", ["backbone.layer1"]),
    "FSAC": ("FSAC", QUARTER, "eca5", [f"eca{i}" for i in (1, 2, 3, 4)] + ["backbone.layer4"]),
    "FSAC plain": ("FSAC", FSACS["plain"], "backbone.layer4", ["backbone.layer3"]),
    "MFA": ("MFA", QUARTER, [f"branch.{i}" for i in range(4)],
            [f"branch.{i}" for i in range(4)] + ["cpaa.2", "cpaa.3", "cpaa.4"]),
    "MFA avg": ("MFA", MFAS["one loss"], ["branch.0", "branch.1"], ["branch.1", "backbone.layer4"]),
    "MFA alone": ("MFA", MFAS["alone"], "cpaa.4", ["cpaa.4", "backbone.layer4"]),
}


def pair(name, options, precision, seed=0):
    extra = {"dropout": 0.0} if name == "MBGN" else {}
    engine = getattr(reidc, name)(7, 96, 32, precision=precision, **options | extra)
    twin = twin_of(name, 7, 96, 32, **options).double()
    state = states.excite(state_of(twin), seed)
    engine.load_state_dict(state)
    put_state(twin, state)
    x = states.batch(3, 1, 96, 32, seed, 7)[0]
    return engine, twin, x, torch.from_numpy(x).double()


def targets(engine, x):
    """The kinds of target, as the engine and as the twin take them."""
    other = states.batch(3, 1, *x.shape[2:], 5, 7)[0]
    reference = engine.embed(other).astype(np.float32)
    yield "best", None, None
    yield "class", 4, 4
    yield "classes", [1, 6, 0], torch.tensor([1, 6, 0])
    yield "similar", reference[0], torch.from_numpy(reference[0])
    yield "similar each", reference, torch.from_numpy(reference)
    yield "norm", "norm", "norm"


class Worst:
    """What was compared: the engine's error, and the float32 twin's where it runs."""

    def __init__(self):
        self.rows = []

    def add(self, what, ours, theirs, single=None):
        theirs = theirs.numpy()
        assert ours.shape == theirs.shape, what
        gap = 0.0 if single is None else float(np.abs(single.numpy() - theirs).max())
        self.rows.append((float(np.abs(ours - theirs).max()), gap, what))

    @property
    def limit(self):
        return max(TOLERANCE, 2 * max((peer for _, peer, _ in self.rows), default=0))

    def failures(self):
        print(f"{len(self.rows)} compared, limit {self.limit:.1e}, worst",
              *sorted(self.rows, key=lambda row: row[0])[-3:])
        return {str(what): ours for ours, _, what in self.rows if not ours <= self.limit}


@pytest.mark.filterwarnings("ignore:grad_cam")
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("key", list(NETS))
def test_grad_cam(key, precision):
    found = grad_cam_maps(key, precision, 0).failures()
    if found and precision == "float32":
        again = [grad_cam_maps(key, precision, seed).failures() for seed in (1, 2)]
        found = {k: v for k, v in found.items() if any(k in other for other in again)}
    assert not found


def grad_cam_maps(key, precision, seed):
    """Every map of a network compared, in the state of that seed."""
    name, options, default, named = NETS[key]
    engine, twin, x, xt = pair(name, options, precision, seed)
    worst, single = Worst(), None
    if precision == "float32":
        single = explain.Explainer(copy.deepcopy(twin).float(), xt.float())
    peer = explain.Explainer(twin, xt)

    def compare(what, target, known, layer=None, **how):
        asked = [known, layer or default]
        worst.add((what, layer, *how.values()), engine.grad_cam(x, target, layer, **how),
                  peer.grad_cam(*asked, **how), single and single.grad_cam(*asked, **how))

    for kind, ours, theirs in targets(engine, x):
        if name == "MFA" and kind == "norm":  # a constant: autograd gives its rounding
            assert not engine.grad_cam(x, ours).any()
            continue
        for layer in [None, *named]:
            compare(kind, ours, theirs, layer)
    for head in engine.heads():
        for target in (None, 2):
            compare("head", target, target, head=head)
    for layer in [None, *named]:
        compare("activation", None, None, layer, method="activation")
    return worst


@pytest.mark.parametrize("key", ["Baseline", "MBGN", "HAMR cfs", "MGAF", "FSAC", "MFA"])
def test_every_layer_with_parameters(key):
    """A layer's name is its module's: the same map as a hook there sees."""
    name, options, _, _ = NETS[key]
    engine, twin, x, xt = pair(name, options, "float64")
    worst, peer, compared = Worst(), explain.Explainer(twin, xt), 0
    seen = peer.noted[True][1]
    for layer, shape in list(engine.layers().items())[::2]:
        if layer in seen and tuple(seen[layer].shape[1:]) == shape:
            compared += 1
            worst.add(layer, engine.grad_cam(x, 3, layer),
                      peer.grad_cam(3, layer))
    assert compared > 15
    assert not worst.failures()


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("key", list(NETS))
def test_attention(key, precision):
    name, options, _, _ = NETS[key]
    engine, twin, x, xt = pair(name, options, precision)
    ours, theirs = engine.attention(x), explain.attention(twin, xt)
    assert set(ours) == set(theirs)
    assert bool(ours) == (key not in ("Baseline", "Baseline 18", "Baseline sbs",
                                      "MGAF plain", "FSAC plain", "HAMR stage 4"))
    worst = Worst()
    for k, v in ours.items():
        if k == "planes":
            assert np.array_equal(v, theirs[k].numpy())
            continue
        worst.add(k, v, theirs[k])
        if v.shape[-1] == v.shape[-2]:  # a softmax's rows
            assert np.abs(v.sum(-1) - 1).max() < 1e-5
    assert not worst.failures()
