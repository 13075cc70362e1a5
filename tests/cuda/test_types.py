"""bfloat16: every kernel on values that it holds exactly, against the same kernel in float32 (which
test_kernels.py compares with double). What is stored is rounded once; where backward reads a
stored result, so is that."""
import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import build

if not build.library():
    pytest.skip("no C++ compiler", allow_module_level=True)
import run
from test_kernels import SHORT, clean  # noqa: F401 (a fixture)

import harness

pytestmark = pytest.mark.cuda_host
EPS = 2.0 ** -7  # distance of neighbours at 1; rounding errs by half of it


def rounded(x):
    return run.from_bf16(run.to_bf16(x.reshape(-1))).reshape(x.shape).astype(np.float64)


@pytest.mark.parametrize("case", SHORT, ids=str)
def test_bfloat16(case):
    op = run.Op(case.op, case.attrs, case.training, bf16=True)
    inputs = [v if v is None or np.issubdtype(v.dtype, np.integer) or op.float_input(i)
              else rounded(v) for i, v in enumerate(case.arrays())]
    dy = None
    if case.has_gradient():
        dy = case.dy(case.run(inputs)["y"])
        dy = dy if case.op in run.FLOAT_OUTPUT else rounded(dy)
    truth = case.run(inputs, "float32", kernel="fast", dy=dy)
    got = op.run(inputs, dy=dy)
    if np.issubdtype(truth["y"].dtype, np.integer):
        assert np.array_equal(got["y"], truth["y"])
        return
    bound = harness.bounds32(case, truth["y"])
    stored = 0 if case.op in run.FLOAT_OUTPUT else EPS / 2 * np.abs(truth["y"])
    harness.close(got["y"], truth["y"], bound + stored, "y")
    shapes = [None if v is None else v.shape for v in inputs]
    bits = sum(1 << i for i, d in enumerate(truth.get("dx", [])) if d is not None)
    reads = harness._core._op_rules(case.op, case.attrs, shapes, wants=bits,
                                    training=case.training)["reads"]
    for i, want in enumerate(truth.get("dx", [])):
        if want is None:
            continue
        bound = harness.bounds32(case, want)
        bound = bound + (0 if op.float_input(i) else EPS / 2 * np.abs(want))
        if reads >> 31 & 1:  # y, off by a rounding, is a factor
            bound = bound + 2 * EPS * harness.magnitude(want)
        harness.close(got["dx"][i], want, bound, f"dx[{i}]")
