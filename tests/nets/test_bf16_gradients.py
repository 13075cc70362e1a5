"""Gradients of a bf16 network beside those of PyTorch's bf16 autocast, both against float64.

Both keep maps and their gradients in bf16 and sum in float32, so that their errors are of one size:
what rounding pushes over a ReLU's kink is chance, and decides for a single tensor which of the two
is nearer (from 0.75 to 1.3 of each other on these inputs). Over all tensors of all inputs chance
averages out; there ours may be 1.1 times theirs. A rounding too many between two layers, of all
maps, would add two fifths (it adds up as squares do: sqrt 2)."""
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import twins  # noqa: E402
from parity import put_state  # noqa: E402

import reidc  # noqa: E402

pytestmark = pytest.mark.twin

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SEEDS = range(4)
LABELS = np.repeat(np.arange(4), 2)
SIZE = (4, 64, 32)
KINDS = dict(backbone="resnet18", triplet=False, width_multiplier=0.25)


def ours(precision, seed, images):
    m = reidc.Baseline(*SIZE, zero_init_residual=True, precision=precision, seed=seed, **KINDS)
    state = {k: v + 0.3 if k.endswith("bn2.weight") else v for k, v in m.state_dict().items()}
    m.load_state_dict(state)
    m.loss(images, LABELS)
    return m.gradients(), state


def theirs(state, images):
    net = twins.build("Baseline", *SIZE, **KINDS)
    put_state(net, {k: v.astype(np.float32) for k, v in state.items()})
    net = net.to(memory_format=torch.channels_last).train()
    x = torch.from_numpy((((images / 255) - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        total = net.loss(net(x), torch.from_numpy(LABELS))["total"]
    total.backward()
    return {k: p.grad.numpy() for k, p in net.named_parameters() if p.grad is not None}


def error(got, exact):
    return np.linalg.norm(got - exact) / np.linalg.norm(exact)


@pytest.fixture(scope="module")
def errors():
    """Per seed and weight: (ours, theirs), relative L2."""
    found = []
    for seed in SEEDS:
        images = np.random.default_rng(seed).integers(0, 256, (8, 64, 32, 3), dtype=np.uint8)
        exact, state = ours("float64", seed, images)
        half, other = ours("bfloat16", seed, images)[0], theirs(state, images)
        found.append([(error(half[k], exact[k]), error(other[k], exact[k]))
                      for k in exact if exact[k].ndim > 1])
    return np.array(found)


def test_no_larger_than_those_of_autocast(errors):
    own, other = np.sqrt((errors**2).mean((0, 1)))
    assert 1e-3 < own < 1.1 * other, (own, other)


def test_no_tensor_is_far_off(errors):
    """A wrong gradient is off by its own size, and by more than chance in every input."""
    ratio = np.min(errors[..., 0] / errors[..., 1], axis=0)
    assert np.all(ratio < 1.2), ratio
    assert np.all(errors[..., 0] < 0.35), errors[..., 0].max()
