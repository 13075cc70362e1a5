"""Every instruction-set level runs the same network: against the plain C in double."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import reidc

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import states

LEVELS = ["generic", "avx2", "avx512"]
ORDER = ["generic", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx"]
OPTIONS = dict(num_classes=6, height=96, width=32, backbone="resnet50", width_multiplier=0.25,
               seed=5, dropout=0.0)

SCRIPT = """
import json, sys
import numpy as np
sys.path.insert(0, {here!r})
import test_instruction_levels
print(json.dumps(test_instruction_levels.losses_and_errors("float32")))
"""


def run_network(precision):
    """Losses, gradients and embeddings of a batch, on a state where float32 means something."""
    m = reidc.MBGN(precision=precision, **OPTIONS)
    m.load_state_dict({k: v.astype(precision) for k, v in
                       states.excite(m.state_dict(), 0).items()})
    images, labels = states.batch(4, 2, 96, 32, 0, 6)
    images, planes = images.astype(precision), states.planes(8, 6, 0)
    return m.loss(images, labels, planes=planes), m.gradients(), m.embed(images)


def losses_and_errors(precision):
    """Losses, and the relative errors of embeddings and all gradients against double."""
    losses, gradients, embedding = run_network(precision)
    exact_losses, exact, exact_embedding = run_network("float64")
    zero = tuple(f"att{s}.bn2.bias" for s in range(1, 5))  # rounding alone, says the page
    errors = {k: float(np.linalg.norm(gradients[k] - exact[k])
                       / max(np.linalg.norm(exact[k]), 1e-30))
              for k in exact if k not in zero and np.any(exact[k])}
    return {"losses": losses, "exact": exact_losses, "worst": max(errors, key=errors.get),
            "error": max(errors.values()), "median": float(np.median(list(errors.values()))),
            "embedding": float(np.abs(embedding - exact_embedding).max())}


@pytest.mark.parametrize("level", LEVELS)
def test_level_against_double(level):
    if ORDER.index(level) > ORDER.index(reidc.config()["cpu_probe"]):
        pytest.skip(f"this CPU has no {level}")
    env = dict(os.environ, REIDC_CPU=level)
    script = SCRIPT.format(here=os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True,
                          timeout=300, check=True)
    got = json.loads(done.stdout)
    for name, value in got["losses"].items():
        assert value == pytest.approx(got["exact"][name], rel=1e-5)
    assert got["embedding"] < 1e-5
    assert got["median"] < 2e-5 and got["error"] < 1e-3, got
