"""HAMR, MGAF, FSAC and MFA against their PyTorch twins in float64, every switch once.

Small sizes, as test_parity.py (whose helpers are used); the whole default network and the paper's
size are `slow`.
"""
import numpy as np
import pytest

torch = pytest.importorskip("torch")
import reidc  # noqa: E402
import states  # noqa: E402
from parity import put_state, state_of, twin_of  # noqa: E402
from test_parity import SMALL, SMALL18, parity, ten_steps  # noqa: E402

pytestmark = pytest.mark.twin
LITTLE = SMALL18 | dict(reduce_dim=32, feat_dim=64)
FEW = LITTLE | dict(local="none")
HAMRS = {
    "default": LITTLE,
    "public": LITTLE | dict(order="F", act="leaky_relu", triplet_on="bn"),
    "pcb": LITTLE | dict(local="pcb", parts=3, order="FCS"),
    "ide": FEW | dict(stages=(4,), order="F", mpfe=False, triplet=False, label_smooth=0.0),
    "each": FEW | dict(order="CSF", cam_mlp="each", reduction=8),
    "scf": FEW | dict(order="SCF", stages=(1, 3), sam_kernel=3, margin=None),
    "stride2": LITTLE | dict(order="FS", last_stride=2, parts=3, mpfe=False),
    "two": FEW | dict(stages=(2, 3), last_stride=2, order="FSC", margin=0.5),
    "cfs": FEW | dict(order="CFS", stages=(2, 3, 4)),
    "spatial": FEW | dict(order="SF", stages=(4,), mpfe=False),
    "channel": FEW | dict(order="CF", stages=(1, 2), mpfe=False),
    "first": FEW | dict(stages=(1,), cam_mlp="each"),
}
MGAFS = {
    "default": SMALL18,
    "bottlenecks": SMALL | dict(small=False, medium=False),
    "plain": SMALL18 | dict(attention=False),
    "small": SMALL18 | dict(medium=False, large=False),
    "small plain": SMALL18 | dict(medium=False, large=False, attention=False),
    "medium": SMALL18 | dict(small=False, large=False),
    "two": SMALL18 | dict(large=False, attention=False),
}
QUARTER = dict(width_multiplier=0.125)
FSACS = {
    "default": QUARTER,
    "plain norms": QUARTER | dict(backbone="resnet50"),
    "no eca": QUARTER | dict(eca=False),
    "no fusion": QUARTER | dict(eca=False, fusion=False),
    "plain": QUARTER | dict(mhsa=False, eca=False, fusion=False),
    "no mhsa": SMALL18 | dict(mhsa=False),
}
MFAS = {
    "default": QUARTER,
    "scaled": QUARTER | dict(cpaa_scale=True),
    "channel": QUARTER | dict(cpaa_parts="channel", cpaa=(3, 4), regions=3),
    "point": QUARTER | dict(cpaa_parts="point", cpaa=(1, 4), regions=5),
    "no cpaa": QUARTER | dict(cpaa=(), w_gla=0.5, w_center=0.01),
    "no gla": SMALL18 | dict(gla=False, cpaa=(2, 3), pool="avg"),
    "alone": QUARTER | dict(local_branches=False, gla=False),
    "alone, plain": QUARTER | dict(local_branches=False, gla=False, cpaa=(), label_smooth=0.0),
    "one loss": SMALL18 | dict(triplet=False, center=False, gla=False, cpaa=(4,), regions=2),
}


@pytest.mark.parametrize("key", list(HAMRS))
def test_hamr(key):
    parity("HAMR", HAMRS[key], identities=4, images=3)


def test_hamr_ten_steps():
    ten_steps("HAMR", FEW)


@pytest.mark.parametrize("key", list(MGAFS))
def test_mgaf(key):
    parity("MGAF", MGAFS[key], identities=4, images=3)


def test_mgaf_ten_steps():
    ten_steps("MGAF", SMALL18 | dict(large=False))


@pytest.mark.parametrize("key", list(FSACS))
def test_fsac(key):
    parity("FSAC", FSACS[key], identities=4, images=3)


def test_fsac_wider_map():
    """Both tables have more than one column to tell apart in every block."""
    parity("FSAC", QUARTER, 64, 96, identities=3, images=3)


def test_fsac_ten_steps():
    ten_steps("FSAC", QUARTER)


@pytest.mark.parametrize("key", list(MFAS))
def test_mfa(key):
    parity("MFA", MFAS[key], identities=4, images=3)


def test_mfa_ten_steps():
    ten_steps("MFA", QUARTER)


@pytest.mark.parametrize("name,options", [("HAMR", o) for o in HAMRS.values()]
                         + [("MGAF", o) for o in MGAFS.values()]
                         + [("FSAC", o) for o in FSACS.values()]
                         + [("MFA", o) for o in MFAS.values()])
def test_names_and_their_order(name, options):
    engine = getattr(reidc, name)(7, 96, 32, **options)
    twin = twin_of(name, 7, 96, 32, **options)
    ours, theirs = engine.state_dict(), state_of(twin)
    assert [(k, v.shape) for k, v in ours.items()] == [(k, v.shape) for k, v in theirs.items()]
    assert set(engine.parameters()) == {k for k, _ in twin.named_parameters()}


def test_hamr_drop_block():
    """One of the places where the block may lie gives the engine's outputs and gradients."""
    options = LITTLE | dict(dropblock=(0.33, 0.5), parts=2, order="F", stages=(3, 4))
    engine = reidc.HAMR(7, 96, 32, precision="float64", **options)
    twin = twin_of("HAMR", 7, 96, 32, **options).double().train()
    state = states.excite(state_of(twin), 0)
    images, labels = states.batch(3, 2, 96, 32, 0, 7)
    images = images.astype(np.float64)
    seen = set()
    for _ in range(4):
        engine.load_state_dict({k: v.astype(np.float64) for k, v in state.items()})
        engine.zero_grad()
        losses = engine.loss(images, labels)
        found = []
        for place in [(r, c) for r in range(5) for c in range(2)]:
            put_state(twin, state)
            twin.drop_at = place
            parts = twin.loss(twin(torch.from_numpy(images)), torch.from_numpy(labels))
            if abs(losses["total"] - float(parts["total"].detach())) < 1e-6 * losses["total"]:
                found.append(place)
                twin.zero_grad()
                parts["total"].backward()
                gradients = engine.gradients()
                for name, p in twin.named_parameters():
                    gap = np.linalg.norm(gradients[name] - p.grad.numpy())
                    assert gap <= 1e-8 * float(p.grad.norm()) + 1e-12, name
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 1  # another place every step
    embedding = engine.forward(images)["embedding"]
    assert np.isfinite(embedding).all()


@pytest.mark.slow
def test_hamr_high_map():
    parity("HAMR", SMALL, 384, 64, identities=2, images=2)


@pytest.mark.slow
def test_hamr_full_size():
    parity("HAMR", {}, 384, 128, identities=2, images=2)


@pytest.mark.slow
def test_mgaf_high_map():
    parity("MGAF", SMALL, 384, 64, identities=2, images=2)


@pytest.mark.slow
def test_mgaf_full_size():
    parity("MGAF", {}, 384, 128, identities=2, images=2)


@pytest.mark.slow
def test_fsac_full_size():
    parity("FSAC", {}, 256, 128, identities=2, images=2)


@pytest.mark.slow
def test_mfa_full_size():
    parity("MFA", {}, 256, 128, identities=2, images=2)
