"""The kernels on the shapes of the six networks (narrow, small pictures): every different node of
their graphs, and what plans fuse of them, against the plain double operation."""
import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import build

if not build.library():
    pytest.skip("no C++ compiler", allow_module_level=True)
import run
from run import OnHost

import harness
import reidc

pytestmark = pytest.mark.cuda_host
BATCH, CLASSES = 4, 11
SYSTEMS = {"Baseline": (64, 32), "MBGN": (96, 32), "MFA": (64, 32), "FSAC": (64, 32),
           "HAMR": (96, 32), "MGAF": (96, 32)}
ACTS = {"none": 0, "relu": 1, "leaky_relu": 2, "sigmoid": 3}
LABELS = np.array([3, 3, 7, 7])


def attributes(node):
    return {k: ACTS.get(v, v) if k == "act" else v for k, v in node["attributes"].items()}


def nodes_of(system):
    """(op, attributes, shapes of the inputs) of all nodes, for BATCH images."""
    height, width = SYSTEMS[system]
    m = getattr(reidc, system)(num_classes=CLASSES, height=height, width=width,
                               width_multiplier=0.25)
    nodes, state = m.graph(), {k: v.shape for k, v in m.state_dict().items()}

    def shape(link, name):
        if link is None:
            return None
        if name == "labels":
            return (BATCH,)
        if isinstance(link, str):
            return state[link]
        if link < 0:
            return (BATCH, 3, height, width)
        s = nodes[link]["shape"]
        return s if s == (1,) and nodes[link]["op"] in run.FLOAT_OUTPUT else (BATCH, *s[1:])
    return nodes, [(n["op"], attributes(n), [shape(*k) for k in zip(n["links"], n["inputs"])])
                   for n in nodes]


def fused(nodes, all_of):
    """What plans make of several nodes: norms with what follows, softmax between products."""
    for node, (op, attrs, shapes) in zip(nodes, all_of):
        if op == "batch_norm":
            yield op, {**attrs, "act": 1}, shapes
            yield op, {**attrs, "act": 1}, [*shapes, shapes[0]]
        if op == "matmul":
            for k, link in enumerate(node["links"]):
                if not isinstance(link, int) or link < 0 or nodes[link]["op"] != "softmax":
                    continue
                first = nodes[link]["links"][0]
                made, rules, factors = all_of[first]
                if made == "matmul":
                    yield "attention", {**rules, "mode": k,
                                        "negate": all_of[link][1].get("negate", 0)}, [
                        *factors, shapes[1 - k]]


def values(op, attrs, shapes):
    def make(rng, shapes):
        out = [None if s is None else rng.standard_normal(s) for s in shapes]
        for i, s in enumerate(shapes):
            if s == (BATCH,) and op not in ("mean_scalars", "add_scalars"):
                out[i] = LABELS
        if op == "batch_norm":
            out[4] = rng.uniform(0.5, 2, shapes[4])
        if op == "gem":
            out[0], out[1] = np.abs(out[0]), np.array([3.0])
        if op in ("region_pool", "half_means") and len(shapes) > 1 and shapes[1]:
            h = shapes[0][2]
            out[1] = np.stack([np.sort(rng.choice(np.arange(1, h), 4, False))
                               for _ in range(BATCH)])
        return out
    return make


def terms(op, shapes):
    """Terms of the longest sum behind a result or gradient."""
    sizes = [int(np.prod(s)) for s in shapes if s]
    if op in ("attention", "relation_map", "relative_attention"):
        return max(sizes) // min(s[1] for s in shapes if s and len(s) > 1)
    return max(16, max(sizes) // (shapes[0][1] if len(shapes[0]) > 1 else 1), *(
        s[1] for s in shapes if s and len(s) > 1))


@pytest.mark.parametrize("system", SYSTEMS)
def test_all_shapes_of_a_network(system):
    nodes, all_of = nodes_of(system)
    seen, ops = set(), set()
    for op, attrs, shapes in [*all_of, *fused(nodes, all_of)]:
        key = repr((op, sorted(attrs.items()), shapes))
        if key in seen or not run.has(op):
            continue
        seen.add(key)
        ops.add(op)
        case = OnHost(op, attrs, shapes, None, training=True, inputs=values(op, attrs, shapes),
                      terms=terms(op, shapes), seed=len(seen))
        try:
            assert harness.check_float32(case, "fast") == "cuda"
        except AssertionError as error:
            raise AssertionError(f"{key}: {error}") from error
    assert len(seen) > 20 and {"batch_norm", "cross_entropy"} <= ops
    if system in ("MFA", "MGAF"):
        assert "attention" in ops
