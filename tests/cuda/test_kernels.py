"""The CUDA kernels, run on the host, through the CPU's case tables and checks (tests/ops), in two
orders of blocks and threads; and that the host run notices what a card would not."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import build

if not build.library():
    pytest.skip("no C++ compiler", allow_module_level=True)
import run
from run import LIB, OnHost

sys.path.insert(0, f"{build.ROOT}/tests/ops")
import harness
import test_ops as cpu

CASES = [OnHost(**vars(c)) for c in cpu.CASES if run.has(c.op)]


def is_long(case):
    """Too long for the host to run more than once."""
    shapes = [None if v is None else v.shape for v in case.arrays()]
    return harness._core._op_rules(case.op, case.attrs, shapes)["macs"] > 4e6


SHORT = [c for c in CASES if not is_long(c)]
GRADIENT = [c for c in SHORT if c.has_gradient()]
pytestmark = pytest.mark.cuda_host


@pytest.fixture(autouse=True)
def clean():
    yield
    LIB.rc_host_set_order(0)
    LIB.rc_host_leave_out(-1, -1, -1)
    LIB.rc_host_error()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_near_float64(case):
    assert harness.check_float32(case, "fast") == "cuda"


@pytest.mark.parametrize("case", SHORT, ids=str)
def test_any_order_gives_the_same_bits(case):
    inputs = case.arrays()
    dy = case.dy(case.run(inputs)["y"]) if case.has_gradient() else None
    runs = []
    for order in (0, 1, 3):
        LIB.rc_host_set_order(order)
        runs.append(case.run(inputs, "float32", kernel="fast", dy=dy))
    for other in runs[1:]:
        harness.same_bits(other["y"], runs[0]["y"], "y")
        for i, d in enumerate(runs[0].get("dx", [])):
            if d is not None:
                harness.same_bits(other["dx"][i], d, f"dx[{i}]")


@pytest.mark.parametrize("case", GRADIENT, ids=str)
def test_gradients_add_up(case):
    harness.check_add(case, "float32", "fast")


@pytest.mark.parametrize("case", SHORT, ids=str)
def test_in_place_where_declared(case):
    harness.check_in_place(case, "float32", "fast")


@pytest.mark.parametrize("case", SHORT, ids=str)
def test_forward_again(case):
    harness.check_again(case, "float32", "fast")


@pytest.mark.parametrize("case", GRADIENT, ids=str)
def test_reads_names_what_backward_needs(case):
    harness.check_wants(case, "float32", "fast")
