"""The same case made ready by each library: a function that takes a step and gives its result.

A case is (system, training, batch, precision). What a contestant cannot do raises `LeftOut` with
the reason, which the report prints once.
"""
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy

CLASSES = 751
RATE = 1e-5
CALIBRATION = 8  # drawn images
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
OPTIMIZERS = {"HAMR": "sgd"}  # of the pages; the others have Adam
LAYOUTS = ("channels_last", "contiguous_format")
SYSTEMS = ("Baseline", "MFA", "FSAC", "HAMR", "MBGN", "MGAF")


class LeftOut(Exception):
    """Why a contestant does not run this case."""


class Case(NamedTuple):
    system: str
    training: bool
    batch: int
    precision: str = "fp32"

    @property
    def label(self):
        return ("training step" if self.training else "inference") + f", batch {self.batch}"


class Setting(NamedTuple):
    """What all contestants share."""

    threads: int
    width_multiplier: float = 1.0
    twins: str | None = None  # folder that holds the package `twins`
    memory: str = "normal"  # of our training steps
    size: tuple | None = None  # (height, width) of pictures, for reidc alone; None: the page's


def network(case, setting):
    """Ours, with fresh weights. LeftOut: a precision that this build does not have."""
    import reidc

    precision = "float32" if case.precision == "int8" else PRECISIONS[case.precision]
    size = dict(zip(("height", "width"), setting.size or ()))
    try:
        m = getattr(reidc, case.system)(CLASSES, width_multiplier=setting.width_multiplier, **size,
                                        threads=setting.threads, precision=precision,
                                        memory=setting.memory if case.training else "normal")
    except reidc.ArgumentError as error:
        if case.precision == "fp32" or "precision" not in str(error):
            raise
        raise LeftOut(f"reidc: this build has no {case.precision}") from None
    return m


def data(case, m):
    rng = numpy.random.RandomState(0)
    x = rng.standard_normal((case.batch, 3, m.height, m.width)).astype(numpy.float32)
    return x, numpy.arange(case.batch) // max(1, min(4, case.batch // 2)) % CLASSES


def calibration(m):
    rng = numpy.random.RandomState(1)
    return rng.standard_normal((CALIBRATION, 3, m.height, m.width)).astype(numpy.float32)


# ---- ours ---------------------------------------------------------------------------------------


def ready(case, setting):
    """`network`, in integers where the case says so."""
    m = network(case, setting)
    if case.precision == "int8":
        if case.training:
            raise LeftOut("int8: for inference only")
        m.quantize(calibration(m))
    return m


def ours(case, setting):
    return step_of(ready(case, setting), case)


def step_of(m, case, whole=False):
    """A function that runs the case once. whole: inference of all images by one plan, where `embed`
    would take some at a time."""
    import reidc

    x, y = data(case, m)
    if not case.training:
        at_once = case.batch if whole else None
        return lambda: m.embed(x, normalize=False, batch_size=at_once)
    if OPTIMIZERS.get(case.system) == "sgd":
        optimizer = reidc.SGD(m, RATE, momentum=0.9, nesterov=True)
    else:
        optimizer = reidc.Adam(m, RATE)
    return lambda: m.train_step(x, y, optimizer)


# ---- PyTorch, by the twins of the source tree ----------------------------------------------------


def twins_folder(named=None):
    """Where the package `twins` is: as named, or beside the package in a source tree."""
    folder = Path(named) if named else Path(__file__).parents[2] / "tests" / "nets"
    return str(folder) if (folder / "twins" / "__init__.py").is_file() else None


def torch_kinds(system):
    """{name of the contestant: options of the twin}: MBGN's is there as the page is written, and
    tuned (the relation factored, no unfolding)."""
    if system == "MBGN":
        return {"torch literal": {}, "torch tuned": {"tuned": True}}
    return {"torch": {}}


def torch(case, setting, options, layout=None):
    """eager, inference_mode, autocast for bf16, a fused optimiser; layout None: the faster of
    channels_last and contiguous, by a step of each."""
    import time

    if case.precision == "int8":
        raise LeftOut("PyTorch: no int8 (eager mode has none for these networks)")
    if not setting.twins:
        raise LeftOut("PyTorch: its networks (tests/nets/twins) come with the source tree only; "
                      "--twins FOLDER names them")
    if setting.width_multiplier != 1:
        options = {**options, "width_multiplier": setting.width_multiplier}
    if layout is not None:
        return _torch_step(case, setting, options, layout)
    found = {}
    for layout in LAYOUTS:
        step = _torch_step(case, setting, options, layout)
        step()
        began = time.perf_counter()
        step()
        found[layout] = time.perf_counter() - began, step
    return min(found.values(), key=lambda pair: pair[0])[1]


def _torch_step(case, setting, options, layout):
    import torch

    import twins

    import reidc

    torch.set_num_threads(setting.threads)
    like = getattr(reidc, case.system)(1, width_multiplier=0.125)  # its default size
    layout = getattr(torch, layout)
    net = twins.build(case.system, CLASSES, like.height, like.width, **options)
    net = net.to(memory_format=layout)
    x, y = data(case, like)
    x, y = torch.from_numpy(x).contiguous(memory_format=layout), torch.from_numpy(y)
    cast = torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16")
    if not case.training:
        net.eval()

        def infer():
            with torch.inference_mode(), cast:
                return net(x)["embedding"].float().numpy()

        return infer
    net.train()
    trained = [p for p in net.parameters() if p.requires_grad]
    if OPTIMIZERS.get(case.system) == "sgd":
        optimizer = torch.optim.SGD(trained, RATE, momentum=0.9, nesterov=True, fused=True)
    else:
        optimizer = torch.optim.Adam(trained, RATE, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with cast:
            total = net.loss(net(x), y)["total"]
        total.backward()
        optimizer.step()
        return total.item()

    return step


# ---- ONNX Runtime, OpenVINO ----------------------------------------------------------------------


def exported(case, setting, folder):
    """The system's ONNX file, in integers where the case says so; written once."""
    path = os.path.join(folder, f"{case.system}.onnx")
    m = network(case._replace(precision="fp32"), setting)
    if not os.path.exists(path):
        try:
            m.export_onnx(path, check=False)
        except ImportError as error:
            raise LeftOut(f"ONNX: {error}") from None
    if case.precision != "int8":
        return path
    quantized = os.path.join(folder, f"{case.system}.int8.onnx")
    if not os.path.exists(quantized):
        _quantize(path, quantized, calibration(m))
    return quantized


def _quantize(path, to, images):
    """onnxruntime's static quantisation: QDQ, symmetric weights by channel, convolutions and linear
    layers (what the papers' attention does stays in float32)."""
    try:
        from onnxruntime import quantization as q
    except ImportError:
        raise LeftOut("ONNX, int8: onnxruntime makes the file, and is not installed") from None

    class Reader(q.CalibrationDataReader):
        left = list(images)

        def get_next(self):
            return {"images": self.left.pop()[None]} if self.left else None

    q.quantize_static(path, to, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                      op_types_to_quantize=["Conv", "Gemm"], weight_type=q.QuantType.QInt8,
                      activation_type=q.QuantType.QUInt8)


def onnxruntime(case, setting, folder):
    import onnxruntime

    if case.training:
        raise LeftOut("ONNX Runtime, OpenVINO: no training")
    if case.precision == "bf16":
        raise LeftOut("ONNX Runtime: no bf16 on processors")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, setting.threads
    session = onnxruntime.InferenceSession(exported(case, setting, folder), options,
                                           providers=["CPUExecutionProvider"])
    x = data(case, network(case._replace(precision="fp32"), setting))[0]
    return lambda: session.run(None, {"images": x})[0]


def openvino(case, setting, folder):
    import openvino

    if case.training:
        raise LeftOut("ONNX Runtime, OpenVINO: no training")
    core = openvino.Core()
    model = core.read_model(exported(case, setting, folder))
    x = data(case, network(case._replace(precision="fp32"), setting))[0]
    model.reshape(list(x.shape))  # its best: shapes known when it compiles
    hint = "bf16" if case.precision == "bf16" else "f32"
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": setting.threads,
        "PERFORMANCE_HINT": "LATENCY"})
    if hint == "bf16" and compiled.get_property("INFERENCE_PRECISION_HINT") != openvino.Type.bf16:
        raise LeftOut("OpenVINO: no bf16 on this processor (it would run its float32 again)")
    request = compiled.create_infer_request()
    return lambda: request.infer([x], share_inputs=True)[0]


def names(case, peers):
    """All that take part, ours first."""
    found = ["reidc"]
    for peer in peers:
        found += torch_kinds(case.system) if peer == "torch" else [peer]
    return found


def import_all(name, setting):
    """What belongs to a library and not to a step."""
    if name == "reidc":
        import reidc.networks
        import reidc.optim  # noqa: F401
    elif name.startswith("torch") and setting.twins:
        import torch

        sys.path.insert(0, setting.twins)
        import twins

        twins.build("Baseline", 10, 64, 32)  # modules that are imported late
        torch.ones(8) @ torch.ones(8)


def make(name, case, setting, folder, layout=None):
    """A contestant's step."""
    if name == "reidc":
        return ours(case, setting)
    if name.startswith("torch"):
        return torch(case, setting, torch_kinds(case.system)[name], layout)
    return {"onnxruntime": onnxruntime, "openvino": openvino}[name](case, setting, folder)


def working_folder():
    return tempfile.TemporaryDirectory(prefix="reidc-bench-")
