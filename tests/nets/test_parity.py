"""Baseline and MBGN of the engine against their PyTorch twins in float64 (see parity.py).

Small sizes run by default, the paper's sizes are `slow`. The networks are made through the public
interface and run with the plans that users get: same kernels, threads and fusions.
"""
import pytest

torch = pytest.importorskip("torch")
import reidc  # noqa: E402
import states  # noqa: E402
from parity import by_majority, compare, compare_steps, put_state, state_of, twin_of  # noqa: E402

pytestmark = [pytest.mark.twin,
              pytest.mark.skipif(not hasattr(reidc, "MBGN"), reason="networks are not built yet")]
PLAIN = dict(branch_g=False, segmentation="uniform", strategy="F", structure=False,
             attention=None)
SMALL = dict(width_multiplier=0.25)
SMALL18 = dict(backbone="resnet18", width_multiplier=0.5)
SBS = dict(pool="gem", head="circle", non_local=True, triplet_on="bnneck", spread="others",
           margin=None)
BASELINES = {
    "resnet50": SMALL, "resnet18": SMALL18, "ibn": SMALL | dict(backbone="resnet50_ibn_a"),
    "resnet34": SMALL | dict(backbone="resnet34"),
    "stride2": SMALL | dict(last_stride=2), "soft": SMALL18 | dict(margin=None),
    "plain": SMALL18 | dict(triplet=False, label_smooth=0.0),
    "center": SMALL18 | dict(center=True, w_center=0.01, margin=1.0),
    "gem": SMALL18 | dict(pool="gem"), "circle": SMALL18 | dict(head="circle"),
    "non local": SMALL | dict(non_local=True),
    "neck": SMALL18 | dict(triplet_on="bnneck", spread="others"),
    "sbs": SMALL | SBS,
}
MBGNS = {
    "full": SMALL, "resnet18": SMALL18,
    "cbam": SMALL18 | dict(attention="cbam"), "two": SMALL18 | dict(num_attention=2),
    "one": SMALL18 | dict(num_attention=1, branch_l=False, structure=False),
    "cbam three": SMALL18 | PLAIN | dict(attention="cbam", num_attention=3),
    "no attention": SMALL18 | dict(num_attention=0, branch_g=False, structure=False),
    "avg": SMALL18 | dict(part_pool="avg", structure=False),
    "global": SMALL18 | dict(branch_l=False), "local": SMALL18 | dict(branch_g=False),
    "F": SMALL18 | PLAIN, "M": SMALL18 | PLAIN | dict(strategy="M", segmentation="body"),
    "M+C": SMALL18 | PLAIN | dict(strategy="M+C", branch_g=True),
    "MGN": SMALL18 | PLAIN | dict(strategy="MGN"),
}


def batch(name, options, height, width, identities, images, seed):
    x, y = states.batch(identities, images, height, width, seed, 7)
    planes = None
    if name == "MBGN" and options.get("branch_l", True):
        planes = states.planes(len(x), height // 16, seed)
    return x, y, planes


def engine_of(name, height, width, options):
    extra = {"dropout": 0.0} if name == "MBGN" else {}
    return getattr(reidc, name)(7, height, width, **options | extra)


def parity(name, options, height=96, width=32, identities=4, images=4, **twin_options):
    engine = engine_of(name, height, width, options)
    twin = twin_of(name, 7, height, width, **options | twin_options)

    def run(seed):
        x, y, planes = batch(name, options, height, width, identities, images, seed)
        return compare(engine, twin, x, y, planes, seed)

    report = by_majority(run)
    print(f"{name} {options} {height}x{width}\n{report.summary()}")
    report.check()


def ten_steps(name, options, height=96, width=32, identities=4, images=4, count=2):
    engine = engine_of(name, height, width, options)
    twin = twin_of(name, 7, height, width, **options)

    def adam(m, lr, weight_decay):
        return reidc.Adam(m, lr, weight_decay=weight_decay)

    def run(seed):
        batches = [batch(name, options, height, width, identities, images, seed + i)
                   for i in range(count)]
        return compare_steps(engine, adam, twin, batches, seed)

    report = by_majority(run)
    print(f"{name} {options} {height}x{width} ten steps\n{report.summary()}")
    report.check()


@pytest.mark.parametrize("key", list(BASELINES))
def test_baseline(key):
    parity("Baseline", BASELINES[key])


@pytest.mark.parametrize("key", list(MBGNS))
def test_mbgn(key):
    parity("MBGN", MBGNS[key])


@pytest.mark.slow
@pytest.mark.parametrize("backbone,non_local", [("resnet101", False), ("resnet152", False),
                                                ("resnet101", True)])
def test_deep_backbones(backbone, non_local):
    parity("Baseline", SMALL | dict(backbone=backbone, non_local=non_local))


@pytest.mark.slow
def test_mbgn_three_modules():
    parity("MBGN", SMALL18 | dict(num_attention=3))


@pytest.mark.slow
def test_mbgn_high_map():
    """H = 24: parts and structure on rows as in the paper, still narrow."""
    parity("MBGN", SMALL, 384, 64, identities=2, images=2)


@pytest.mark.parametrize("name,options", [("Baseline", dict(center=True)), ("MBGN", {})])
def test_ten_steps(name, options):
    ten_steps(name, SMALL18 | options)


def test_sbs_ten_steps():
    ten_steps("Baseline", SMALL | SBS)


@pytest.mark.slow
def test_sbs_full_size():
    parity("Baseline", SBS, 384, 128, identities=2, images=4)


@pytest.mark.slow
@pytest.mark.parametrize("name,height", [("Baseline", 256), ("Baseline", 384), ("MBGN", 96)])
def test_full_width(name, height):
    parity(name, {}, height, 32 if height == 96 else 128, identities=4,
           images=4 if height == 96 else 2)


@pytest.mark.slow
def test_mbgn_full_size():
    """384x128, ResNet-50, the literal twin."""
    parity("MBGN", {}, 384, 128, identities=2, images=2)


@pytest.mark.slow
def test_mbgn_full_size_batch_of_eight():
    """The plan that is timed. Unfolded in float64 this takes 20 GiB: the tuned twin, which
    `test_tuned_is_the_same_network` ties to the literal one."""
    parity("MBGN", {}, 384, 128, identities=4, images=2, tuned=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Baseline", "MBGN"])
def test_ten_steps_full_width(name):
    ten_steps(name, {}, 96, 32)


@pytest.mark.parametrize("name,options", [("Baseline", o) for o in BASELINES.values()]
                         + [("MBGN", o) for o in MBGNS.values()])
def test_names(name, options):
    m, twin = engine_of(name, 96, 32, options), twin_of(name, 7, 96, 32, **options)
    ours, theirs = m.state_dict(), state_of(twin)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert set(m.parameters()) == {k for k, _ in twin.named_parameters()}


@pytest.mark.parametrize("name", ["Baseline", "MBGN"])
def test_user_losses_reach_the_same_gradients(name):
    """`forward` + `backward` with the gradients of the paper's loss, taken from the twin."""
    options = SMALL18
    m, twin = engine_of(name, 96, 32, options), twin_of(name, 7, 96, 32, **options).double()
    x, y, planes = batch(name, options, 96, 32, 4, 4, 0)
    state = states.excite(state_of(twin), 0)
    m.load_state_dict(state)
    put_state(twin, state)
    out = twin.train()(torch.from_numpy(x).double(),
                       None if planes is None else torch.from_numpy(planes))
    leaves = {k: v.detach().requires_grad_() for k, v in out.items() if v.requires_grad}
    twin.loss(leaves, torch.from_numpy(y))["total"].backward()
    used = [k for k, v in leaves.items() if v.grad is not None]
    torch.autograd.backward([out[k] for k in used], [leaves[k].grad for k in used])
    m.zero_grad()
    m.forward(x, training=True, **({} if planes is None else {"planes": planes}))
    m.backward({k: leaves[k].grad.float().numpy() for k in used})
    expected = {k: p.grad.numpy() for k, p in twin.named_parameters() if p.grad is not None}
    ours = m.gradients()
    bad = []
    for k, g in expected.items():
        if k not in twin.page_zero:
            gap = ((ours[k] - g) ** 2).sum() ** 0.5 / (g ** 2).sum() ** 0.5
            if not gap <= 1e-3:
                bad.append((k, gap))
    assert not bad, bad[:5]
