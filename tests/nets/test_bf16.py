"""Networks of precision bfloat16 beside the plain C in double."""
import numpy as np
import pytest

import reidc

NARROW = dict(width_multiplier=0.25, seed=1)
# Relative L2 error of embeddings. A rounding to 8 bits is 1.1e-3 of a value on average, and fifty
# layers in a row add up as a random walk to 8e-3; the attention of MBGN (maps that are normalised
# after their mean came off) and FSAC's instance norms make it several times more.
SYSTEMS = {"Baseline": (64, 32, 0.02), "HAMR": (96, 32, 0.02), "MFA": (64, 32, 0.02),
           "MGAF": (96, 32, 0.02), "MBGN": (96, 32, 0.1), "FSAC": (64, 32, 0.1)}


def pictures(n, height, width):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def cosine(a, b):
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.parametrize("system", SYSTEMS)
def test_embeddings(system):
    height, width, bound = SYSTEMS[system]
    images = pictures(4, height, width)
    exact, half = (getattr(reidc, system)(5, height, width, precision=p, **NARROW)
                   .embed(images, normalize=False) for p in ("float64", "bfloat16"))
    error = np.linalg.norm(half - exact) / np.linalg.norm(exact)
    assert half.dtype == np.float32
    assert 1e-4 < error < bound, error  # below: something else than bf16 ran
    assert min(map(cosine, half, exact)) > 1 - bound**2


@pytest.fixture(scope="module")
def trained():
    """Losses and gradients of a step of a network where they do not hang on the last bit."""
    images, labels = pictures(8, 64, 32), np.repeat(np.arange(4), 2)
    result = {}
    for precision in ("float64", "bfloat16"):
        m = reidc.Baseline(4, 64, 32, backbone="resnet18", zero_init_residual=True, triplet=False,
                           precision=precision, **NARROW)
        m.load_state_dict({k: v + 0.3 if k.endswith("bn2.weight") else v
                           for k, v in m.state_dict().items()})
        result[precision] = m.loss(images, labels), m.gradients(), m.state_dict()
    return result


def test_gradients(trained):
    (exact_loss, exact, _), (loss, half, _) = trained["float64"], trained["bfloat16"]
    assert abs(loss["total"] - exact_loss["total"]) < 0.01 * exact_loss["total"]
    whole = [np.concatenate([g[k].ravel() for k in exact]) for g in (exact, half)]
    assert cosine(*whole) > 0.998
    assert all(half[name].dtype == np.float32 for name in exact)  # each: test_bf16_gradients.py


def test_statistics_and_weights_stay_float32(trained):
    for name, value in trained["bfloat16"][2].items():
        assert value.dtype == np.float32
        if name.endswith("running_mean"):
            want = trained["float64"][2][name]
            assert np.linalg.norm(value - want) < 0.05 * np.linalg.norm(want) + 1e-4, name


def test_gradient_of_a_convolutions_bias():
    images = np.random.default_rng(1).standard_normal((3, 3, 20, 12)).astype(np.float32)
    gradient, grads = None, []
    for precision in ("float64", "bfloat16"):
        g = reidc.Graph()
        x = g.conv2d(g.input(3, 20, 12), 24, 3, padding=1, bias=True, name="first")
        x = g.conv2d(g.relu(x), 20, 3, stride=2, padding=1, bias=True, name="second")
        m = g.build(outputs={"embedding": g.mean(x)}, precision=precision)
        out = m.forward(images.astype(m.parameters()["first.bias"].dtype), training=True)
        if gradient is None:
            gradient = np.random.default_rng(2).standard_normal(out["embedding"].shape)
        m.backward({"embedding": gradient.astype(out["embedding"].dtype)})
        grads.append(m.gradients())
    for name in ("first.bias", "second.bias", "first.weight", "second.weight"):
        assert cosine(grads[0][name], grads[1][name]) > 0.999, name


def test_same_bits_for_any_number_of_threads():
    images, labels = pictures(8, 64, 32), np.repeat(np.arange(4), 2)
    seen = []
    for threads in (1, 2, 3):
        m = reidc.MFA(4, 64, 32, precision="bfloat16", threads=threads, **NARROW)
        m.train_step(images, labels, reidc.Adam(m, 1e-3))
        seen.append((m.state_dict(), m.embed(images)))
    for state, embedding in seen[1:]:
        assert np.array_equal(embedding, seen[0][1])
        assert all(np.array_equal(v, seen[0][0][k]) for k, v in state.items())


def test_checkpoints_load_in_either_precision(tmp_path):
    images = pictures(2, 64, 32)
    m = reidc.Baseline(5, 64, 32, backbone="resnet18", precision="bfloat16", **NARROW)
    m.save(tmp_path / "m.safetensors")
    again = reidc.load(tmp_path / "m.safetensors")
    assert again.precision == "bfloat16"
    assert np.array_equal(again.embed(images), m.embed(images))
    plain = reidc.load(tmp_path / "m.safetensors", precision="float32")
    assert plain.precision == "float32" and " bf16 " not in plain.plan(2)
    assert all(np.array_equal(v, m.state_dict()[k]) for k, v in plain.state_dict().items())
    assert " bf16 " in m.plan(2) and " bf16 " in m.plan(2, training=True)
    for wrong in ("half", 16):
        with pytest.raises(ValueError, match="precision"):
            reidc.load(tmp_path / "m.safetensors", precision=wrong)


def test_explanations_are_those_of_float32():
    images = pictures(2, 96, 32)
    plain, half = (reidc.MBGN(5, 96, 32, precision=p, **NARROW) for p in ("float32", "bfloat16"))
    assert np.array_equal(plain.grad_cam(images, target=1), half.grad_cam(images, target=1))
    for name, value in plain.attention(images).items():
        assert np.array_equal(value, half.attention(images)[name]), name


def test_other_precisions_are_refused():
    with pytest.raises(ValueError, match="bfloat16"):
        reidc.Baseline(5, 64, 32, backbone="resnet18", precision="bf16")
