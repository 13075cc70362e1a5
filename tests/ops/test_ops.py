"""Every operation through every check, for all case tables (see harness.py)."""
import importlib
import os
import subprocess
import sys

import pytest
from reidc import _core

sys.path.insert(0, os.path.dirname(__file__))
import harness

TABLES = ["cases", "cases_attention", "cases_losses"]
MODULES = [importlib.import_module(name) for name in TABLES]
CASES = [case for module in MODULES for case in module.CASES]
WRONG = [wrong for module in MODULES for wrong in module.WRONG]
GRADIENT = [c for c in CASES if c.has_gradient()]
ids = str


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_forward_is_the_definition(case):
    harness.check_forward(case)


@pytest.mark.parametrize("case", [c for c in GRADIENT if c.numeric], ids=ids)
def test_gradients_are_central_differences(case):
    harness.check_gradient(case)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_float32_is_near_float64(case):
    harness.check_float32(case)


def on_both(check, case):
    """Plain float64, the fast kernel (or plain float32 where there is none), and that of bf16."""
    check(case)
    check(case, "float32", "fast")
    if harness.takes_bf16(case):
        check(case, "bfloat16", "fast")


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_fast_kernels_are_near_float64(case):
    harness.check_float32(case, "fast")


BF16 = {"batch_norm", "activation", "add", "mul_map", "mul_channel", "concat", "slice", "dropout",
        "max_pool2d", "region_pool", "channel_pool", "avg_pool2d", "gem", "scale_add",
        "instance_norm"}


@pytest.mark.parametrize("case", [c for c in CASES if c.op in BF16], ids=ids)
def test_bf16_kernels_are_near_float64(case):
    assert harness.check_bf16(case) or max(len(s) for s in case.shapes if s) < 3


@pytest.mark.parametrize("case", GRADIENT, ids=ids)
def test_gradients_add_up(case):
    on_both(harness.check_add, case)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_in_place_where_declared(case):
    on_both(harness.check_in_place, case)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_forward_again(case):
    on_both(harness.check_again, case)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_same_bits_for_any_number_of_threads(case):
    on_both(harness.check_threads, case)


@pytest.mark.parametrize("case", GRADIENT, ids=ids)
def test_reads_names_what_backward_needs(case):
    on_both(harness.check_wants, case)


@pytest.mark.parametrize("op, attrs, shapes, words", WRONG,
                         ids=[f"{i}-{w[0]}" for i, w in enumerate(WRONG)])
def test_wrong_input_is_refused(op, attrs, shapes, words):
    with pytest.raises(ValueError) as caught:
        _core._op_rules(op, attrs, shapes)
    text = str(caught.value)
    assert text.startswith(op + ":"), text
    for word in words if isinstance(words, (list, tuple)) else [words]:
        assert word in text, text


def test_every_operation_has_cases():
    assert {c.op for c in CASES} >= set(_core._op_names())


def test_every_operation_refuses_something():
    assert {w[0] for w in WRONG} >= set(_core._op_names())


LEVELS = ["generic", "avx2", "avx512"]
CODE = """
import sys
sys.path.insert(0, {folder!r})
import test_ops
fast = 0
for case in test_ops.CASES:
    fast += test_ops.harness.check_float32(case, "fast") is not None
    if test_ops.harness.check_bf16(case):
        test_ops.harness.check_threads(case, "bfloat16", "fast")
    if case.has_gradient():
        test_ops.harness.check_add(case, "float32", "fast")
    test_ops.harness.check_threads(case, "float32", "fast")
print(fast)
"""


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_of_instructions(level):
    probe = _core.config()["cpu_probe"]
    order = ["generic", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx"]
    if order.index(level) > order.index(probe):
        pytest.skip(f"this processor has no {level}")
    run = subprocess.run([sys.executable, "-c", CODE.format(folder=os.path.dirname(__file__))],
                         env={**os.environ, "REIDC_CPU": level}, capture_output=True, text=True,
                         timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
