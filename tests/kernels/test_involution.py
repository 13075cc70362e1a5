"""Involution's fast kernels beyond what tests/ops covers: a batch whose kernels outgrow the caches
(dk is then written past them) gives the bits of its images one by one."""
import numpy as np
from reidc import _core


def run(x, k, d, **more):
    return _core._op_run("involution", {"kernel": 7, "groups": x.shape[1] // 16}, [x, k], dy=d,
                         kernel="fast", **more)


def test_large_batches_give_the_bits_of_single_images():
    rng = np.random.default_rng(4)
    n, c, h, w = 6, 256, 30, 32
    x, d = rng.standard_normal((2, n, c, h, w), np.float32)
    k = rng.standard_normal((n, 49 * c // 16, h, w), np.float32)
    assert k.size > 4 << 20 > 2 * k.size // n  # past and within BEYOND of involution.c
    whole = run(x, k, d, threads=2)
    assert whole["kernel"].startswith("rc_f32_involution7x7__")
    for i in range(n):
        alone = run(x[i:i + 1], k[i:i + 1], d[i:i + 1])
        assert np.array_equal(whole["y"][i:i + 1], alone["y"])
        for a, b in zip(whole["dx"], alone["dx"]):
            assert np.array_equal(a[i:i + 1], b)


def test_other_kernels_and_groups_are_refused():
    x, k = np.zeros((1, 32, 3, 3), np.float32), np.zeros((1, 18, 3, 3), np.float32)
    attrs = {"kernel": 3, "groups": 2}
    assert _core._op_run("involution", attrs, [x, k], kernel="fast")["kernel"] == "reference"
