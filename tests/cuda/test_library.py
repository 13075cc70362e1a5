"""The CUDA back end as nvcc built it: what it needs, what it says on a machine without a card."""
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = os.environ.get("REIDC_CUDA_BUILT") or os.path.join(ROOT, "reidc", "libreidc_cuda.so")
if not os.path.exists(LIBRARY):
    pytest.skip("no CUDA back end was built here", allow_module_level=True)
pytestmark = pytest.mark.cuda_host


def test_what_it_is_linked_to():
    """Neither cuDNN nor cuBLAS nor the driver: they are opened when a card is."""
    said = subprocess.run(["ldd", LIBRARY], capture_output=True, text=True, check=True).stdout
    assert not [line for line in said.splitlines()
                if any(word in line for word in ("cudnn", "cublas", "libcuda", "not found"))]
    symbols = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True,
                             text=True, check=True).stdout.split()
    assert symbols[2::3] == ["rc_device_library"]


def test_without_a_driver():
    """It opens, and says what is missing, or what there is."""
    program = ("import reidc\ntry:\n    print(reidc.cuda_info())\n"
               "except reidc.DeviceError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "REIDC_CUDA_LIBRARY": LIBRARY})
    assert done.returncode == 0, done.stderr
    assert "cuda:0: no NVIDIA driver" in done.stdout or "cuda:0: there is no card" in done.stdout \
        or "'total_bytes'" in done.stdout, done.stdout
