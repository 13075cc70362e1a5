"""Frozen layers, clipping and the moving average of the weights against PyTorch, step by step in
float64: what is frozen is in evaluation mode without gradients, as fast-reid and torchreid have
it."""
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import twins  # noqa: E402
from parity import put_state, state_of  # noqa: E402

import reidc  # noqa: E402

pytestmark = pytest.mark.twin

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
SYSTEMS = {
    "Baseline": (64, 32, dict(backbone="resnet18", width_multiplier=0.125)),
    "FSAC": (96, 32, dict(backbone="resnet50", width_multiplier=0.125)),
}


def pair(name):
    height, width, options = SYSTEMS[name]
    m = getattr(reidc, name)(5, height, width, precision="float64", seed=3, **options)
    twin = twins.build(name, 5, height, width, **options).double()
    put_state(twin, m.state_dict())
    return m, twin, (height, width)


def freeze(twin, prefixes):
    """requires_grad off and evaluation mode for every module that is frozen whole."""
    twin.train()
    for name, parameter in twin.named_parameters():
        parameter.requires_grad_(name not in twin.untrained and not name.startswith(prefixes))
    for name, module in twin.named_modules():
        if prefixes and (name + ".").startswith(prefixes):
            module.eval()


def close(m, twin, bound):
    state, wanted = m.state_dict(), state_of(twin)
    for name, value in wanted.items():
        error = np.linalg.norm(state[name] - value) / max(np.linalg.norm(value), 1e-3)
        assert error <= bound, (name, error)


MAKERS = {
    "adam": (lambda m, c: reidc.Adam(m, 1e-3, weight_decay=0.01, clip_norm=c),
             lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.01)),
    "sgd": (lambda m, c: reidc.SGD(m, 0.02, 0.9, True, 0.01, clip_norm=c),
            lambda p: torch.optim.SGD(p, 0.02, 0.9, nesterov=True, weight_decay=0.01)),
    "adamw": (lambda m, c: reidc.AdamW(m, 1e-3, weight_decay=0.1, clip_norm=c),
              lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1)),
}


@pytest.mark.parametrize("name, kind, clip, layers", [
    ("Baseline", "adam", 1.5, ("backbone.",)),
    ("Baseline", "sgd", 0.5, ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.",
                              "backbone.layer2.")),
    ("Baseline", "adamw", None, ("backbone.layer3.", "classifier.")),  # in the middle
    ("FSAC", "adam", 1.0, ("backbone.",)),
])
def test_frozen_and_clipped_steps(name, kind, clip, layers):
    """Two steps frozen, two with everything, one frozen again: the optimiser's own counts, too."""
    m, twin, size = pair(name)
    ours, theirs = MAKERS[kind]
    ours, theirs = ours(m, clip), theirs(list(twin.parameters()))
    for t, prefixes in enumerate([layers, layers, (), (), layers]):
        images = np.random.default_rng(t).standard_normal((8, 3, *size))
        m.freeze([prefix + "*" for prefix in prefixes])
        freeze(twin, prefixes)
        theirs.zero_grad(set_to_none=True)
        parts = twin.loss(twin(torch.from_numpy(images)), torch.from_numpy(LABELS))
        parts["total"].backward()
        trained = [p for p in twin.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, clip) if clip else None
        theirs.step()
        got = m.train_step(images, LABELS, ours)
        assert got["total"] == pytest.approx(float(parts["total"].detach()), rel=1e-9)
        if clip:
            assert ours.gradient_norm == pytest.approx(float(norm), rel=1e-7)
            assert float(norm) > clip or t  # it does clip
        close(m, twin, 1e-8)


def test_the_average_is_pytorchs():
    from torch.optim.swa_utils import get_ema_avg_fn

    m, twin, size = pair("Baseline")
    ours, theirs = (make(x, None) if i == 0 else make(x) for i, (make, x) in enumerate(
        zip(MAKERS["sgd"], (m, list(twin.parameters())))))
    freeze(twin, ())
    ema, update = reidc.EMA(m, 0.9), get_ema_avg_fn(0.9)
    average = {k: v.clone() for k, v in twin.state_dict().items() if v.is_floating_point()}
    for t in range(3):
        images = np.random.default_rng(t).standard_normal((8, 3, *size))
        theirs.zero_grad()
        twin.loss(twin(torch.from_numpy(images)), torch.from_numpy(LABELS))["total"].backward()
        theirs.step()
        state = twin.state_dict()
        average = {k: update(v, state[k], t) for k, v in average.items()}
        m.train_step(images, LABELS, ours, ema=ema)
    got = ema.state_dict()["state"]
    for name, value in average.items():
        value = value.numpy()
        assert np.linalg.norm(got[name] - value) <= 1e-8 * max(np.linalg.norm(value), 1e-3), name
