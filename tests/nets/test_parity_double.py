"""The engine in float64 (plain C) against the twins in float64: no rounding hides anything here.

A gradient for every training output at once, drawn at random, as a loss written in Python would
give; the input's gradient; and the network's own loss. All to 1e-8, but for gradients that the
pages call zero.
"""
import numpy as np
import pytest

torch = pytest.importorskip("torch")
import reidc  # noqa: E402
import states  # noqa: E402
from parity import put_state, state_of, twin_of  # noqa: E402

pytestmark = pytest.mark.twin
BOUND = 1e-8
QUARTER = dict(backbone="resnet18", width_multiplier=0.25)
EIGHTH = dict(width_multiplier=0.125)
CASES = {
    "Baseline": QUARTER | dict(center=True),
    "Baseline, stronger": EIGHTH | dict(
        pool="gem", head="circle", non_local=True, triplet_on="bnneck", spread="others",
        margin=None),
    "MBGN": QUARTER,
    "HAMR": QUARTER | dict(reduce_dim=16, feat_dim=24, triplet=False),
    "MGAF": QUARTER,
    "FSAC": EIGHTH,
    "MFA": EIGHTH | dict(gla=False),  # region_i takes a gradient all the same
}


def made(name):
    options, name = CASES[name], name.split(",")[0]
    dropout = dict(dropout=0.0) if name == "MBGN" else {}
    m = getattr(reidc, name)(5, 96, 32, precision="float64", **options | dropout)
    twin = twin_of(name, 5, 96, 32, **options).double().train()
    state = {k: v.astype(np.float64) for k, v in states.excite(state_of(twin), 6).items()}
    m.load_state_dict(state)
    put_state(twin, state)
    x, y = states.batch(3, 2, 96, 32, 6, 5)
    planes = {"planes": states.planes(len(x), 6, 6)} if name == "MBGN" else {}
    return m, twin, x.astype(np.float64), y, planes


def torch_planes(planes):
    return torch.from_numpy(planes["planes"]) if planes else None


def check_gradients(m, twin):
    ours = m.gradients()
    assert list(ours) == list(m.parameters())
    scale = max(float(p.grad.norm()) for p in twin.parameters() if p.grad is not None)
    for name, p in twin.named_parameters():
        wanted = np.zeros(p.shape) if p.grad is None else p.grad.numpy()
        gap = np.linalg.norm(ours[name] - wanted)
        least = 1e-10 * scale if name in twin.page_zero else 1e-14 * scale
        assert gap <= BOUND * np.linalg.norm(wanted) + least, (name, gap)


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_given_to_every_output(name):
    m, twin, x, _, planes = made(name)
    inputs = torch.from_numpy(x).requires_grad_()
    expected = twin(inputs, torch_planes(planes))
    out = m.forward(x, training=True, **planes)
    assert set(out) == set(expected)
    rng, given = np.random.default_rng(8), {}
    for key, value in out.items():
        wanted = expected[key].detach().numpy()
        assert np.linalg.norm(value - wanted) <= BOUND * np.linalg.norm(wanted), key
        if key != "planes":
            given[key] = rng.standard_normal(value.shape)
    keys = list(given)
    torch.autograd.backward([expected[k] for k in keys], [torch.from_numpy(given[k]) for k in keys])
    pixels = m.backward(given, input_gradient=True)
    gap = np.linalg.norm(pixels - inputs.grad.numpy())
    assert gap <= BOUND * float(inputs.grad.norm())
    check_gradients(m, twin)
    running = state_of(twin)
    for key, value in m.state_dict().items():
        assert np.linalg.norm(value - running[key]) <= BOUND * np.linalg.norm(running[key]), key


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_of_the_loss(name):
    m, twin, x, y, planes = made(name)
    parts = twin.loss(twin(torch.from_numpy(x), torch_planes(planes)), torch.from_numpy(y))
    parts["total"].backward()
    ours = m.loss(x, y, **planes)
    assert set(ours) == set(parts)
    for key, value in parts.items():
        assert ours[key] == pytest.approx(float(value.detach()), rel=BOUND), key
    check_gradients(m, twin)
