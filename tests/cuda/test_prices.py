"""What every kernel costs on paper (benchmarks/price_cuda.py): none is left out, and docs/cuda.md
has the table as it is printed now."""
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import build

if not build.library():
    pytest.skip("no C++ compiler", allow_module_level=True)
from run import LIB, OPS

pytestmark = pytest.mark.cuda_host
TABLE = subprocess.run([sys.executable, f"{build.ROOT}/benchmarks/price_cuda.py"],
                       capture_output=True, text=True, check=True).stdout.strip()


def test_every_operation_has_a_price():
    own = [op for op, i in OPS.items() if LIB.rc_test_has(i, 0)]
    assert len(own) > 30
    assert [op for op in own if op not in TABLE] == []


def test_the_page_has_this_table():
    with open(f"{build.ROOT}/docs/cuda.md", encoding="utf-8") as file:
        assert TABLE in file.read()
