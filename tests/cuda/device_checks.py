"""What a network on a card must agree with: the same one on the CPU, in float32 and in double. Used
on the stand-in (test_device.py) and on cards (tests/gpu)."""
import numpy as np
import reidc

LABELS = np.array([0, 0, 1, 1])
FAR = 8  # times what rounding weights and images once does; two to four dozen layers round again


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


def as_near_as(got, cpu, truth, what, times=4):
    """The card is as near to the truth as the CPU's float32 is, but for a small factor: both are
    one draw of rounding errors each, which steps of training multiply."""
    got, cpu, truth = (np.asarray(v, np.float64).ravel() for v in (got, cpu, truth))
    own, length = np.linalg.norm(cpu - truth), np.linalg.norm(truth)
    error = np.linalg.norm(got - truth)
    assert error <= times * own + 1e-6 * length, (what, error, own, length)


def whole(arrays):
    return np.concatenate([np.asarray(v, np.float64).ravel() for v in arrays.values()])


def agree(system):
    """Embeddings, losses, gradients, then steps: the first step by step, the second recorded, the
    third replayed."""
    nets = three(system)
    x = images(4, 96, 32)
    xs = [x.astype(np.float64), x, x]

    def compare(what, results, times=4):
        as_near_as(results[2], results[1], results[0], (system, what), times)

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
        compare(f"losses of step {step}", [list(p.values()) for p in parts], 8)
    compare("weights", [whole(m.state_dict()) for m in nets], 8)


def to_bfloat16(v):
    """To the nearest number of eight bits, ties to even."""
    bits = np.asarray(v, np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000).astype(np.uint32).view(np.float32)


def agree_in_bfloat16(system):
    """Activations and products in bfloat16. What that does to a result depends on the network: it
    is measured with the double network, by rounding its weights and images alone, and the network
    on the card, which rounds after every layer, may be a few times as far off. In float32 it is
    much nearer (agree), so that this is rounding and not another function."""
    make, options = getattr(reidc, system), SYSTEMS[system]
    double = [make(5, 96, 32, seed=1, precision="float64", **options) for _ in range(2)]
    half = make(5, 96, 32, seed=1, device="cuda", precision="bfloat16", **options)
    state = half.state_dict()
    double[0].load_state_dict(state)
    double[1].load_state_dict({k: to_bfloat16(v) for k, v in state.items()})
    x = images(4, 96, 32)
    xs = [x.astype(np.float64), to_bfloat16(x).astype(np.float64), x]

    def compare(what, results):
        truth, rounded, got = (np.asarray(v, np.float64).ravel() for v in results)
        error = np.linalg.norm(got - truth) / np.linalg.norm(truth)
        known = np.linalg.norm(rounded - truth) / np.linalg.norm(truth)
        assert 1e-5 < error < FAR * known, (system, what, error, known)

    nets = [*double, half]
    compare("embedding", [m.embed(v) for m, v in zip(nets, xs)])
    parts = [m.loss(v, LABELS) for m, v in zip(nets, xs)]
    compare("losses", [list(p.values()) for p in parts])
    compare("gradients", [whole(m.gradients()) for m in nets])
    rate = 0.01 / np.linalg.norm(whole(double[0].gradients()))
    optimizer = reidc.SGD(half, rate, momentum=0.9)
    parts = [half.train_step(x, LABELS, optimizer)["total"] for _ in range(4)]
    assert np.isfinite(parts).all(), parts
    assert all(v.dtype == np.float32 for v in half.state_dict().values())
