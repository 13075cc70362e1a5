"""The same tests at every lower level of instruction set, each in a process of its own."""
import os
import subprocess
import sys

import pytest

from reidc import _core

HERE = os.path.dirname(os.path.abspath(__file__))
LEVELS = ["generic", "avx2", "avx512"]


@pytest.mark.parametrize("level", LEVELS)
def test_level(level):
    if os.environ.get("REIDC_CPU"):
        pytest.skip("already inside a level")
    family = {"avx2_vnni": "avx2"}.get(_core.config()["cpu_probe"], _core.config()["cpu_probe"])
    family = "avx512" if family.startswith(("avx512", "amx")) else family
    if LEVELS.index(level) >= LEVELS.index(family):
        pytest.skip(f"{level}: this machine's own level (run above) or beyond it")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
         os.path.join(HERE, "test_conv.py"), os.path.join(HERE, "test_gemm.py")],
        env={**os.environ, "REIDC_CPU": level}, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-3000:]
