"""The engine against the pages' formulas in plain NumPy (by_hand.py), in float64: training outputs
and their order, losses, running statistics, embeddings. No torch is needed."""
import by_hand
import numpy as np
import pytest
import reidc
import states

NARROW = dict(backbone="resnet18", width_multiplier=0.25)
BOTTLENECKS = dict(backbone="resnet50", width_multiplier=0.125)
SBS = dict(pool="gem", head="circle", non_local=True, triplet_on="bnneck", spread="others",
           margin=None)
CASES = [  # system, made with, and which of that `by_hand` is told as well
    ("Baseline", NARROW | dict(center=True), ()),
    ("Baseline", BOTTLENECKS | dict(last_stride=2, margin=None, label_smooth=0.0),
     ("last_stride", "margin", "label_smooth")),
    ("Baseline", BOTTLENECKS | SBS, tuple(SBS)),
    ("Baseline", NARROW | dict(head="circle", pool="gem"), ("head", "pool")),
    ("MFA", BOTTLENECKS, ()),
    ("MFA", NARROW | dict(cpaa_scale=True, regions=5), ("cpaa_scale", "regions")),
    ("HAMR", NARROW | dict(reduce_dim=16, feat_dim=24), ()),
    ("HAMR", BOTTLENECKS | dict(order="CFS", cam_mlp="each", act="leaky_relu", triplet_on="bn",
                                parts=3, stages=(1, 3), reduce_dim=16, feat_dim=24),
     ("order", "cam_mlp", "act", "triplet_on", "parts", "stages")),
    ("MGAF", BOTTLENECKS, ()),
    ("FSAC", dict(backbone="resnet50_ibn_a", width_multiplier=0.125), ()),
    ("MBGN", NARROW | dict(dropout=0.0), ()),
]


def close(ours, theirs, what):
    assert ours.shape == theirs.shape, what
    gap = np.linalg.norm(ours - theirs)
    assert gap <= 1e-9 * np.linalg.norm(theirs), f"{what}: {gap / np.linalg.norm(theirs):.1e}"


@pytest.mark.parametrize("name,switches,told", CASES, ids=[
    f"{c[0]} {c[1]['backbone']} {' '.join(c[2])}" for c in CASES])
def test_forward(name, switches, told):
    m = getattr(reidc, name)(4, 96, 64 if name == "FSAC" else 32, precision="float64", **switches)
    state = {k: v.astype(np.float64) for k, v in states.excite(m.state_dict(), 3).items()}
    x, y = states.batch(2, 2, 96, m.width, 3, 4)
    x = x.astype(np.float64)
    by_page = {k: switches[k] for k in told} | {"backbone": switches["backbone"]}
    own = {}
    if name == "MBGN":
        own = {"planes": states.planes(4, 6, 3)}
        by_page |= own
    m.load_state_dict(state)
    embedding, _, _ = by_hand.run(name, state, x, **by_page)
    close(m.forward(x, **own)["embedding"], embedding["embedding"], "embedding")
    expected, running, parts = by_hand.run(name, state, x, y, training=True, **by_page)
    out = m.forward(x, training=True, **own)
    assert list(out) == list(expected)
    for key, value in expected.items():
        close(out[key], value, key)
    after = m.state_dict()
    for key, value in running.items():
        close(after[key], value, key)
    m.load_state_dict(state)
    losses = m.loss(x, y, **own)
    assert set(losses) == set(parts)
    for key, value in parts.items():
        assert losses[key] == pytest.approx(value, rel=1e-10), key


@pytest.mark.parametrize("segmentation", ["uniform", "body", "aabs"])
def test_mbgn_cuts_its_map_itself(segmentation):
    """Without `planes` the network uses those of its segmentation, of each image's own map."""
    m = reidc.MBGN(4, 384, 32, segmentation=segmentation, dropout=0.0, **NARROW)
    m.load_state_dict(states.excite(m.state_dict(), 4))
    x, y = states.batch(2, 2, 384, 32, 4, 4)
    rows = m.explain(x, "att4", "logits_g", np.zeros((4, 4), np.float32))[0]  # evaluation's map
    assert rows.shape[2] == 24
    expected = {"uniform": [[5, 10, 14, 19]] * 4, "body": [[4, 8, 12, 18]] * 4,
                "aabs": reidc.aabs(rows)}[segmentation]
    given = m.forward(x, planes=expected)["embedding"]
    assert np.array_equal(m.forward(x)["embedding"], given)
    other = [[1, 2, 3, 4]] * 4
    assert not np.array_equal(m.forward(x, planes=other)["embedding"], given)
    out = m.copy().forward(x, training=True)
    assert segmentation == "aabs" or np.array_equal(out["planes"], expected)
    again = m.copy().forward(x, training=True, planes=out["planes"])
    assert all(np.array_equal(out[k], again[k]) for k in out)
    assert m.copy().loss(x, y) == m.copy().loss(x, y, planes=out["planes"])
