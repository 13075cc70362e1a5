"""What memory_plan says beforehand is what a training step then holds."""
import os
import subprocess
import sys

import numpy as np
import pytest

import reidc
from reidc import _core

SMALL = dict(height=96, width=64, backbone="resnet50", width_multiplier=0.25)
SYSTEMS = ["Baseline", "MBGN", "MFA", "HAMR", "MGAF", "FSAC"]
FULL = {"Baseline": (256, 128), "MFA": (256, 128), "FSAC": (256, 128)}


def step(m, batch=4, steps=1):
    """Steps with the page's optimiser, which is returned."""
    size = m.contract["size"]
    x = np.random.default_rng(0).standard_normal((batch, 3, *size), np.float32)
    o = (reidc.SGD(m, 1e-5, momentum=0.9) if type(m).__name__ == "HAMR" else reidc.Adam(m, 1e-5))
    for _ in range(steps):
        m.train_step(x, np.arange(batch) // 2, o)
    return o


@pytest.mark.parametrize("memory", ["normal", "low"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_forecast_is_what_is_allocated(system, memory):
    before = _core._memory_live()
    m = getattr(reidc, system)(10, **SMALL, memory=memory)
    forecast = m.memory_plan(4)
    o = step(m)
    held = _core._memory_live() - before
    # beside tensors: the graph, the plan's lists, the optimiser's; at most 8 MiB
    assert 0 <= held - forecast["total"] < 8 << 20
    assert forecast["gradients"] == 0  # they lie in the arena
    del o


@pytest.mark.parametrize("system", SYSTEMS)
def test_updates_within_backward_are_those_after_it(system):
    """train_step updates weights one by one, as soon as backward has done with each: to the bits of
    loss and step, and of a step that clips nothing, but has to look at all gradients first."""
    size = (96, 64)
    x = np.random.default_rng(0).standard_normal((4, 3, *size), np.float32)
    results = []
    for kind in "step", "clip", "parts":
        m = getattr(reidc, system)(10, **{**SMALL, "width_multiplier": 0.125})
        o = reidc.Adam(m, 1e-3, clip_norm=1e9 if kind == "clip" else None)
        for _ in range(2):
            if kind == "parts":
                m.zero_grad()
                m.loss(x, np.arange(4) // 2)
                o.step()
            else:
                m.train_step(x, np.arange(4) // 2, o)
        results.append({**m.state_dict(), **o.state_dict()["state"]})
    for other in results[1:]:
        assert results[0].keys() == other.keys()
        assert all(np.array_equal(results[0][k], other[k]) for k in other)


RESIDENT = """
import sys
import numpy as np
import reidc, reidc.networks, reidc.optim
sys.path.insert(0, {here!r})
import test_memory
from pathlib import Path

def resident(key):
    text = Path("/proc/self/status").read_text()
    return int(text.split(key + ":")[1].split()[0]) << 10

before = resident("VmRSS")
m = getattr(reidc, {system!r})(751, *{size!r}, memory={memory!r})
test_memory.step(m, 8, 2)
print((resident("VmHWM") - before) / m.memory_plan(8)["total"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("memory", ["normal", "low"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_forecast_is_what_becomes_resident(system, memory):
    """Full size: within 5 % of the peak of two steps, in a process of its own."""
    script = RESIDENT.format(here=os.path.dirname(os.path.abspath(__file__)), system=system,
                             memory=memory, size=FULL.get(system, (384, 128)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          timeout=1200, check=True)
    assert 0.95 < float(done.stdout) < 1.05
