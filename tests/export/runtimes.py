"""A model's results by the runtimes that the file is meant for, each in float32 on one thread."""
import numpy as np

NAMES = ("onnxruntime", "openvino")


def runner(name, data):
    """{input: array} -> {output: array} of a serialized model."""
    if name == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return lambda feed: dict(zip(names, session.run(names, feed)))
    import openvino

    model = openvino.Core().compile_model(
        openvino.Core().read_model(data), "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    known = {name for x in model.inputs for name in x.get_names()}  # unused ones are dropped

    def run(feed):
        found = model({k: v for k, v in feed.items() if k in known})
        return {name: np.array(v) for o, v in found.items() for name in o.get_names()}

    return run


def apart(got, want):
    """The largest |difference| / |row|."""
    assert got.shape == want.shape and np.isfinite(got).all()
    length = np.linalg.norm(want.astype(np.float64), axis=1)
    return (np.linalg.norm(got - want.astype(np.float64), axis=1) / length).max()
