"""benchmarks/gpu.py in order: every line of it runs on the stand-in, for one network."""
import json
import os
import subprocess
import sys

import pytest
from device_arrays import PATH

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
pytestmark = pytest.mark.cuda_host


def test_dry_run(tmp_path):
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, f"{ROOT}/benchmarks/gpu.py", "--dry", "--systems", "Baseline", "--json",
         str(out)], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "REIDC_CUDA_LIBRARY": PATH, "PYTHONPATH": ROOT})
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(out.read_text())
    evaluation = report["evaluation"]
    assert set(evaluation["seconds"]) == {"reidc"} and 0 < evaluation["mAP"] <= 1
    for name in ("inference", "training"):
        steps = report["layers"]["Baseline"][name]
        convolutions = [step for step in steps if step["op"] == "conv2d"]
        assert len(convolutions) >= 20
        for what in ("mmac", "mb", "ms"):  # (one of so small a network may be printed as 0.0)
            assert sum(step[what] for step in convolutions) > 0
    assert {step["pass"] for step in steps} >= {"forward", "backward"}
    for case, found in report["systems"]["Baseline"].items():
        assert {"reidc", "reidc bf16"} <= set(found), case
    assert "images/s" not in done.stdout  # no figure of a stand-in
