"""A barrier, a block or a thread less makes a run of the kernels fail: for each operation and
direction, each of the barriers that a thread comes to."""
import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import build

if not build.library():
    pytest.skip("no C++ compiler", allow_module_level=True)
from run import LIB, Wrong
from test_kernels import SHORT, clean  # noqa: F401 (a fixture)

pytestmark = pytest.mark.cuda_host
MOST = 24  # barriers looked at


def size(case):
    return sum(v.size for v in case.arrays() if v is not None)


# The largest case of an operation that has its gradient, of each attribute that changes kernels.
CHOSEN = {}
for case_ in SHORT:
    key = (case_.op, case_.attrs.get("mode", 0), case_.training)
    if key not in CHOSEN or size(case_) > size(CHOSEN[key]):
        CHOSEN[key] = case_


def bits(case, inputs, dy):
    """All results as bytes, or what the host run found."""
    try:
        out = case.run(inputs, "float32", kernel="fast", dy=dy)
    except Wrong as wrong:
        return str(wrong)
    parts = [out["y"], *out.get("dx", []), *out.get("state", [])]
    return b"".join(np.ascontiguousarray(p).tobytes() for p in parts if p is not None)


@pytest.mark.parametrize("case", CHOSEN.values(), ids=str)
def test_nothing_may_be_left_out(case):
    inputs = case.arrays()
    dy = case.dy(case.run(inputs)["y"]) if case.has_gradient() else None
    LIB.rc_host_barriers()
    launches = LIB.rc_host_launches()
    whole = bits(case, inputs, dy)
    assert isinstance(whole, bytes)
    if LIB.rc_host_launches() == launches:
        return  # nothing to do: in place
    survivors = []
    for barrier in range(min(LIB.rc_host_barriers(), MOST)):
        LIB.rc_host_leave_out(barrier, -1, -1)
        unseen = True
        for order in (0, 1):  # what goes through global memory shows in one of them
            LIB.rc_host_set_order(order)
            unseen = unseen and bits(case, inputs, dy) == whole
        LIB.rc_host_set_order(0)
        if unseen:
            survivors.append(barrier)
    for place in ((-1, 0, -1), (-1, -1, 0)):
        LIB.rc_host_leave_out(*place)
        assert bits(case, inputs, dy) != whole, f"left out {place}"
    assert not survivors, f"barriers that nothing needs: {survivors}"
