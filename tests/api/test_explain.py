"""Explanation: the gradient of an output to a feature map, in evaluation mode, by differences."""
import numpy as np
import pytest

import reidc


@pytest.fixture(scope="module")
def network():
    return reidc.MBGN(4, 96, 32, backbone="resnet18", width_multiplier=0.25, seed=2,
                      precision="float64")


def test_gradient_of_a_map_by_differences(network):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 96, 32))
    before = network.state_dict()
    direction = rng.standard_normal((2, 4))
    outputs = {}
    for name in ("att4", "backbone.layer1"):
        fmap, gradient = network.explain(x, name, "logits_g", direction)
        assert fmap.shape == gradient.shape and fmap.shape[0] == 2
        assert np.abs(gradient).max() > 0
        outputs[name] = fmap, gradient
    assert outputs["att4"][0].shape == (2, 128, 6, 2)
    # logits_g = W·ReLU(BN(reduce·mean(F))) + b: the page's head in NumPy, differenced in F
    s = before

    def logits(f):
        z = f.mean((2, 3)) @ s["head_g.reduce.weight"].astype(float).T
        z = ((z - s["head_g.bn.running_mean"]) / np.sqrt(s["head_g.bn.running_var"] + 1e-5)
             * s["head_g.bn.weight"] + s["head_g.bn.bias"])
        return np.maximum(z, 0) @ s["head_g.classifier.weight"].T + s["head_g.classifier.bias"]

    f, gradient = outputs["att4"]
    for _ in range(20):
        i = tuple(rng.integers(0, n) for n in f.shape)
        step = np.zeros_like(f)
        step[i] = 1e-4
        slope = ((logits(f + step) - logits(f - step)) * direction).sum() / 2e-4
        assert slope == pytest.approx(gradient[i], rel=1e-6, abs=1e-12)
    after = network.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before)


def test_what_does_not_fit(network):
    x = np.zeros((1, 3, 96, 32))
    with pytest.raises(ValueError, match="layer"):
        network.explain(x, "layer9", "logits_g", np.zeros((1, 4)))
    with pytest.raises(ValueError, match="output"):
        network.explain(x, "att4", "nothing", np.zeros((1, 4)))
    with pytest.raises(ValueError, match="gradient"):
        network.explain(x, "att4", "logits_g", np.zeros((1, 5)))
