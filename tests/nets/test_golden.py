"""The engine against stored results of the float64 twins; needs neither torch nor the twins."""
import json
from pathlib import Path

import golden
import numpy as np
import pytest
import reidc
from report import by_majority

FILES = Path(__file__).resolve().parents[1] / "golden"
needs_nets = pytest.mark.skipif(not hasattr(reidc, "MBGN"), reason="networks are not built yet")


@pytest.fixture(scope="module")
def stored():
    with np.load(FILES / "nets.npz") as f:
        arrays = {k: f[k] for k in f.files}
    return json.loads(arrays.pop("meta").tobytes()), arrays


def engine(key):
    return getattr(reidc, golden.CASES[key][0])(golden.CLASSES, golden.HEIGHT, golden.WIDTH,
                                                **golden.options_of(key))


@needs_nets
@pytest.mark.parametrize("key", list(golden.CASES))
def test_names_and_shapes(key, stored):
    assert {k: list(v.shape) for k, v in engine(key).state_dict().items()} == \
        stored[0][key]["shapes"]


@needs_nets
@pytest.mark.parametrize("key", list(golden.CASES))
def test_one_step(key, stored):
    meta, arrays = stored
    m = engine(key)

    def run(seed):
        return golden.check(m, key, seed, meta[key]["names"], arrays[f"{key}.{seed}"].astype(float),
                            arrays[f"{key}.{seed}.peer"], meta[key]["quiet"])

    report = by_majority(run, golden.SEEDS)
    print(report.summary())
    report.check()


@needs_nets
@pytest.mark.parametrize("key", list(golden.CASES))
def test_ten_losses(key, stored):
    import states

    m = engine(key)
    m.load_state_dict(states.excite(m.state_dict(), 0))
    losses = golden.ten_losses(m, reidc.Adam(m, golden.LR, weight_decay=5e-4), key, 0)
    golden.check_losses(losses, stored[1][f"{key}.steps"]).check()


@pytest.mark.parametrize("height", list(golden.AABS))
def test_aabs(height):
    with np.load(FILES / "aabs.npz") as f:
        planes, clear = f[f"planes{height}"].astype(np.int64), f[f"clear{height}"]
    maps = golden.aabs_maps(height, golden.AABS[height])
    ours = reidc.aabs(maps)
    assert ours.dtype == np.int64 and ours.shape == planes.shape
    assert clear.mean() > 0.9  # quiet bands are meant to come near the threshold
    bad = np.flatnonzero(clear & (ours != planes).any(1))
    assert not len(bad), f"{len(bad)} maps differ, first {bad[:5]}: {ours[bad[:5]]} for " \
                         f"{planes[bad[:5]]}"
    assert np.array_equal(reidc.aabs(maps[7:8]), ours[7:8])  # no image depends on the others


def test_files_are_small():
    assert sum(p.stat().st_size for p in FILES.glob("*.npz")) < 300_000
