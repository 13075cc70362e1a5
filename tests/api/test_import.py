"""`import reidc`: quick, loading nothing else; what it exports; stubs and docstrings."""
import ast
import inspect
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import reidc
from reidc import _core

ROOT = Path(reidc.__file__).parent


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_quick():
    """At most 0.03 s beyond NumPy; the median of several, so that a busy machine does not fail."""
    code = ("import time, numpy; a = time.perf_counter(); import reidc; "
            "print(time.perf_counter() - a)")
    times = [float(run(code)) for _ in range(7)]
    assert statistics.median(times) <= 0.03, times


def test_import_loads_nothing_else():
    code = ("import sys, numpy; before = set(sys.modules); import reidc; "
            "print(' '.join(sorted(set(sys.modules) - before)))")
    assert run(code).split() == ["reidc", "reidc._core", "reidc._tuned"]


def test_import_leaves_subnormals_and_threads_alone():
    code = ("import numpy as np, os; import reidc; a = np.array([1e-40], np.float32); "
            "print(float(a[0] * np.float32(0.5)) > 0, len(os.listdir('/proc/self/task')))")
    flush, threads = run(code).split()
    assert flush == "True"
    before = run("import numpy, os; print(len(os.listdir('/proc/self/task')))")
    assert threads == before.strip()


def test_every_name_is_there():
    for name in reidc.__all__:
        assert getattr(reidc, name) is not None
    assert set(reidc.__all__) <= set(dir(reidc))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = reidc.nonsense
    for name in ("recipes_of", "Gallery", "re_ranking"):  # not due: absent, not a stub
        assert not hasattr(reidc, name)


def test_exceptions_are_also_reidc_errors():
    for name in reidc.__all__:
        value = getattr(reidc, name)
        if isinstance(value, type) and issubclass(value, BaseException):
            assert issubclass(value, reidc.Error)
    assert issubclass(reidc.ArgumentError, ValueError)
    assert issubclass(reidc.ArgumentTypeError, TypeError)


def public(names):
    return {n for n in names if not n.startswith("_")}


def test_stub_agrees_with_the_module():
    tree = ast.parse((ROOT / "_core.pyi").read_text())
    defined = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert public(defined) == public(dir(_core))
    for name, node in defined.items():
        value = getattr(_core, name)
        if isinstance(node, ast.FunctionDef):
            compare(node, value)
            continue
        assert isinstance(value, type)
        if issubclass(value, BaseException):
            assert [b.id for b in node.bases] == [b.__name__ for b in value.__bases__]
            continue
        members = {}
        for item in node.body:
            key = item.target.id if isinstance(item, ast.AnnAssign) else getattr(item, "name", "")
            members[key] = item
        assert public(members) == public(vars(value)), name
        for key, item in members.items():
            if isinstance(item, ast.FunctionDef) and not item.decorator_list \
                    and not key.startswith("_"):
                compare(item, vars(value)[key])


def compare(node, function):
    """Parameter names, kinds and defaults; functions with *arguments say nothing about them."""
    if node.args.vararg is not None or not function.__text_signature__:
        return
    stub, real = [], []
    for kind, arguments in (("only", node.args.posonlyargs), ("both", node.args.args),
                            ("keyword", node.args.kwonlyargs)):
        stub += [(kind, a.arg) for a in arguments if a.arg != "self"]
    names = {inspect.Parameter.POSITIONAL_ONLY: "only",
             inspect.Parameter.POSITIONAL_OR_KEYWORD: "both",
             inspect.Parameter.KEYWORD_ONLY: "keyword"}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self":
            real.append((names[parameter.kind], parameter.name))
    assert stub == real, node.name
    defaults = [ast.literal_eval(d) for d in node.args.defaults + node.args.kw_defaults
                if d is not None]
    assert defaults == [p.default for p in inspect.signature(function).parameters.values()
                        if p.default is not inspect.Parameter.empty], node.name


def test_everything_public_has_a_docstring():
    for name in reidc.__all__:
        value = getattr(reidc, name)
        if inspect.isclass(value) and not issubclass(value, BaseException):
            for key, member in inspect.getmembers(value):
                if not key.startswith("_") and (callable(member) or isinstance(member, property)):
                    assert inspect.getdoc(member), f"{name}.{key}"
        if callable(value):
            assert inspect.getdoc(value), name


def test_constructors_have_the_pages_keywords():
    signature = inspect.signature(reidc.MBGN)
    assert list(signature.parameters)[:3] == ["num_classes", "height", "width"]
    assert {k: p.default for k, p in signature.parameters.items() if k in (
        "attention", "num_attention", "branch_g", "branch_l", "segmentation", "strategy",
        "structure", "part_pool", "dropout", "height", "width", "backbone", "pretrained", "seed",
        "device", "precision", "threads")} == dict(
            attention="gsrpa", num_attention=4, branch_g=True, branch_l=True, segmentation="aabs",
            strategy="M+F", structure=True, part_pool="max", dropout=0.5, height=384, width=128,
            backbone="resnet50", pretrained=None, seed=0, device="cpu", precision="float32",
            threads=None)
    assert str(inspect.signature(_core.Network.embed)) == (
        "(self, /, images, *, flip=False, normalize=True, batch_size=None, device_output=False)")
