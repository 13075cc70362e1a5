"""Every operation of evaluation as ONNX nodes, by itself, against its definition in NumPy: the
cases are those of tests/ops. Run for a batch, and for its first image alone by the same file."""
import cases
import cases_attention
import numpy as np
import pytest
import runtimes
from reidc import _core
from reidc._onnx_builder import OPSET, Builder, Value
from reidc._onnx_parts import EMITTERS, emit

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytestmark = pytest.mark.twin

PARAMETERS = {  # which inputs are the network's own
    "conv2d": {1, 2}, "linear": {1, 2}, "batch_norm": {1, 2, 3, 4}, "instance_norm": {1, 2},
    "scale_add": {0}, "relation_map": {2}, "relative_attention": {3, 4},
    "relative_attention_map": {3, 4}, "gem": {1}, "channel_conv": {1}}
CASES = [c for c in cases.CASES + cases_attention.CASES
         if c.op in EMITTERS and not (c.training and c.op in (
             "batch_norm", "dropout", "drop_block", "batch_drop_block"))]


def build(case, arrays, want):
    """The model, and what to feed it."""
    b, feed, inputs, xs = Builder(onnx.helper), {}, [], []
    for i, array in enumerate(arrays):
        if array is None:
            xs.append(None)
        elif i in PARAMETERS.get(case.op, ()):
            xs.append(Value(b.name(f"p{i}"), array.shape, array.astype(np.float32)))
        else:
            feed[f"x{i}"] = array.astype(np.float32)
            xs.append(Value(b.name(f"x{i}"), (1, *array.shape[1:])))
            inputs.append(onnx.helper.make_tensor_value_info(f"x{i}", 1, ["N", *array.shape[1:]]))
    y = emit(b, case.op, case.attrs, xs, (1, *want.shape[1:]))
    if y.array is not None:  # planes that no image moves
        return None, y.array
    b.nodes.append(onnx.helper.make_node("Identity", [y.name], ["y"]))
    graph = onnx.helper.make_graph(
        b.nodes, "case", inputs,
        [onnx.helper.make_tensor_value_info("y", 1, ["N", *want.shape[1:]])],
        [onnx.numpy_helper.from_array(v, k) for k, v in b.constants.items()])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)],
                                   ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(), feed


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_definition(case):
    arrays = case.arrays()
    with np.errstate(over="ignore"):
        want = np.asarray(case.ref(arrays, case.attrs, False))
    data, feed = build(case, arrays, want)
    if data is None:
        assert (want == feed).all()
        return
    # Sums behind exponentials carry the size of their terms (the "large" cases).
    bound = 16 * np.finfo(np.float32).eps * case.terms * max(1.0, np.abs(want).max())
    for name in runtimes.NAMES:
        run = runtimes.runner(name, data)
        for count in {len(want), 1}:
            got = run({k: v[:count] for k, v in feed.items()})["y"]
            assert got.shape == (count, *want.shape[1:]), name
            error = np.abs(got - want[:count]).max()
            assert error <= (0 if case.op == "planes" else bound), (name, count, error, bound)


def test_every_operation_of_evaluation_is_here():
    """What has neither an emitter nor a place among the losses would fail at a user's."""
    training = {"cross_entropy", "triplet", "center", "circle", "circle_logits", "cosine_loss",
                "mean_scalars", "add_scalars"}
    assert set(_core._op_names()) - training == set(EMITTERS)
    assert {c.op for c in CASES} == set(EMITTERS)


def test_planes_of_many_maps():
    """AABS as a loop over the batch, on maps where planes move by many rows, against the core's."""
    import reidc
    from test_aabs import maps

    rng = np.random.default_rng(5)
    kinds = ("uniform", "sparse", "body", "rows")
    found = np.concatenate([maps(kind, rng, 40, 24, 24, 4) for kind in kinds]).astype(np.float32)
    case = cases_attention.Case("planes", {"mode": 0}, [found.shape], None)
    want = reidc.aabs(found)
    data, feed = build(case, [found], want)
    assert (want != want[0]).any(axis=1).mean() > 0.5
    for name in runtimes.NAMES:
        got = runtimes.runner(name, data)(feed)["y"]
        # float32 against double: a map within 1e-6 of the rule's threshold may fall either way
        assert (got != want).any(axis=1).mean() <= 0.01, name
