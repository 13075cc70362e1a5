"""On a machine with a card, in one command of a few minutes: python -m pytest -m gpu tests/gpu

The six networks beside the CPU's float32 and double results, small ones with every pass and a real
size; the same bits twice; memory that runs out; a batch that is larger than any before."""
import os
import sys

import numpy as np
import pytest
import reidc

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "cuda"))
from device_checks import LABELS, SYSTEMS, agree, images, near

from reidc.augment import DeferredBatch
from reidc.evaluation import evaluate_embeddings

try:
    CARD = reidc.cuda_info()
except reidc.DeviceError as error:
    pytest.skip(str(error), allow_module_level=True)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(
    CARD["name"] == "stand-in", reason="the library of this process is the stand-in")]


@pytest.mark.parametrize("system", SYSTEMS)
def test_systems(system):
    agree(system)


@pytest.mark.parametrize("system", SYSTEMS)
def test_full_size(system):
    """The page's backbone and size: embeddings and a step's losses."""
    height = 256 if system in ("Baseline", "MFA", "FSAC") else 384
    nets = [getattr(reidc, system)(5, height, 128, seed=2, device=d) for d in ("cpu", "cuda")]
    x = images(4, height, 128)
    near(nets[1].embed(x), nets[0].embed(x), 1e-3)
    parts = [m.train_step(x, LABELS, reidc.SGD(m, 1e-4)) for m in nets]
    assert parts[1] == pytest.approx(parts[0], rel=5e-3, abs=1e-3)


def test_same_bits_every_time():
    x, runs = images(16, 256, 128), []
    for _ in range(2):
        m = reidc.Baseline(5, 256, 128, seed=1, device="cuda")
        optimizer = reidc.Adam(m, 1e-3)
        for _ in range(5):
            parts = m.train_step(x, np.arange(16) // 4, optimizer)
        runs.append((parts, m.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(np.array_equal(runs[0][1][k], runs[1][1][k]) for k in runs[0][1])


def test_out_of_memory():
    m = reidc.Baseline(5, 256, 128, device="cuda")
    x = images(4, 256, 128)
    before = m.embed(x)
    image = m.memory_plan(64, training=True)["activations"] // 64
    n = int(1.2 * CARD["total_bytes"] / image)
    with pytest.raises(MemoryError, match=f"batch of {n} needs"):
        m.train_step(np.broadcast_to(x[:1], (n, 3, 256, 128)), np.arange(n) % 5,
                     reidc.Adam(m, 1e-3))
    assert np.array_equal(m.embed(x), before)


def test_evaluation():
    """Embeddings on the card, of integers: distances are exact, and so must be every rank."""
    rng = np.random.default_rng(3)
    pids = rng.integers(0, 90, 2500)
    rows = rng.integers(0, 6, (90, 256))[pids] + rng.integers(0, 4, (2500, 256))
    cams = rng.integers(0, 4, 2500)
    rows, q, g = rows.astype(np.float32), slice(0, 300), slice(300, None)
    labels = pids[q], pids[g], cams[q], cams[g]
    want = evaluate_embeddings(rows[q], rows[g], *labels)
    torch = pytest.importorskip("torch")
    there = [torch.from_numpy(rows[part]).cuda() for part in (q, g)]
    got = evaluate_embeddings(*there, *labels)
    assert got.mAP == want.mAP and np.array_equal(got.cmc, want.cmc)
    d = reidc.compute_distance_matrix(*there)
    assert np.array_equal(d, reidc.compute_distance_matrix(rows[q], rows[g]))


def test_pictures_are_augmented_as_on_the_cpu():
    """The same draws, the same bytes: the same bits of a step."""
    rng = np.random.default_rng(0)
    for preset in ("sb", "mbgn", "fast-reid"):
        a = reidc.Augment.preset(preset, height=256, width=128, jitter=None)
        for sizes in ([(128, 64)], [(128, 64), (301, 77), (256, 128)]):
            x = [rng.integers(0, 256, (*sizes[i % len(sizes)], 3), np.uint8) for i in range(4)]
            batch = DeferredBatch(x, a, seed=3, epoch=1, first=8)
            nets = [reidc.Baseline(5, 256, 128, seed=1, device="cuda") for _ in range(2)]
            parts = [m.train_step(v, LABELS, reidc.SGD(m, 1e-3))
                     for m, v in zip(nets, (batch, np.asarray(batch)))]
            assert parts[0] == parts[1], (preset, sizes)


def test_torch_beside_it():
    """PyTorch in the same process keeps working, and so does this."""
    torch = pytest.importorskip("torch")
    m = reidc.Baseline(5, 64, 32, backbone="resnet18", device="cuda")
    x = images(2, 64, 32)
    before = m.embed(x)
    a = torch.randn(8, 16, 32, 32, device="cuda")
    torch.nn.functional.conv2d(a, torch.randn(8, 16, 3, 3, device="cuda")).sum().item()
    assert np.array_equal(m.embed(x), before)
