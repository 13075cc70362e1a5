"""What a network on a card must agree with: the same one on the CPU, in float32 and in double. Used
on the stand-in (test_device.py) and on cards (tests/gpu)."""
import numpy as np
import reidc

LABELS = np.array([0, 0, 1, 1])


def images(n=4, h=32, w=16, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3, h, w)).astype(np.float32)


def near(a, b, bound=1e-4):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    assert np.linalg.norm(a - b) <= bound * max(np.linalg.norm(b), 1e-6), (
        np.linalg.norm(a - b), np.linalg.norm(b))


def near_states(a, b, bound=1e-4):
    assert list(a) == list(b)
    for name in a:
        near(a[name], b[name], bound)


SYSTEMS = {
    "Baseline": dict(backbone="resnet50", width_multiplier=0.0625, pool="gem", center=True),
    "MBGN": dict(backbone="resnet18", width_multiplier=0.25),
    "HAMR": dict(backbone="resnet18", width_multiplier=0.25, parts=2),
    "MGAF": dict(backbone="resnet18", width_multiplier=0.25),
    "FSAC": dict(backbone="resnet50", width_multiplier=0.125),
    "MFA": dict(backbone="resnet18", width_multiplier=0.25),
}


def three(system):
    """The same network as plain C in double, on the CPU, on the card."""
    make, options = getattr(reidc, system), SYSTEMS[system]
    nets = [make(5, 96, 32, seed=1, precision="float64", **options),
            make(5, 96, 32, seed=1, **options),
            make(5, 96, 32, seed=1, device="cuda", **options)]
    nets[0].load_state_dict(nets[1].state_dict())
    return nets


def as_near_as(got, cpu, truth, what):
    """The card is as near to the truth as the CPU's float32 is, but for a small factor."""
    got, cpu, truth = (np.asarray(v, np.float64).ravel() for v in (got, cpu, truth))
    own, length = np.linalg.norm(cpu - truth), np.linalg.norm(truth)
    error = np.linalg.norm(got - truth)
    assert error <= 4 * own + 1e-6 * length, (what, error, own, length)


def whole(arrays):
    return np.concatenate([np.asarray(v, np.float64).ravel() for v in arrays.values()])


def agree(system):
    """Embeddings, losses, gradients, then steps: the first step by step, the second recorded, the
    third replayed."""
    nets = three(system)
    x = images(4, 96, 32)
    xs = [x.astype(np.float64), x, x]

    def compare(what, results):
        as_near_as(results[2], results[1], results[0], (system, what))

    compare("embedding", [m.embed(v) for m, v in zip(nets, xs)])
    parts = [m.loss(v, LABELS) for m, v in zip(nets, xs)]
    compare("losses", [list(p.values()) for p in parts])
    gradients = [m.gradients() for m in nets]
    compare("gradients", [whole(g) for g in gradients])
    length = np.linalg.norm(whole(gradients[0]))
    for name, truth in gradients[0].items():  # each on its own: none is forgotten
        error = np.linalg.norm(gradients[2][name] - truth)
        own = np.linalg.norm(gradients[1][name] - truth)
        assert error <= 10 * own + 1e-5 * (np.linalg.norm(truth) + 1e-2 * length), (system, name)
    rate = 0.01 / length  # the first update is of this length, whatever the network's gradients
    optimizers = [reidc.SGD(m, rate, momentum=0.9, weight_decay=1e-3) for m in nets]
    for step in range(3):
        parts = [m.train_step(v, LABELS, o) for m, v, o in zip(nets, xs, optimizers)]
        compare(f"losses of step {step}", [list(p.values()) for p in parts])
    compare("weights", [whole(m.state_dict()) for m in nets])
