"""What the benchmarks compare: a system of reidc and its PyTorch twin (tests/nets/twins), at full
size, each with the optimiser of the system's page."""
import datetime
import os
import platform
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "nets")]
CLASSES = 751
RATE = 1e-5
SYSTEMS = {  # name: (height, width, optimiser of its page)
    "Baseline": (256, 128, "adam"),
    "MFA": (256, 128, "adam"),
    "FSAC": (256, 128, "adam"),
    "HAMR": (384, 128, "sgd"),
    "MBGN": (384, 128, "adam"),
    "MGAF": (384, 128, "adam"),
}


def data(system, batch):
    height, width, _ = SYSTEMS[system]
    rng = np.random.RandomState(0)
    x = rng.standard_normal((batch, 3, height, width)).astype(np.float32)
    return x, np.arange(batch) // 4 % CLASSES


def reidc_network(system):
    import reidc

    height, width, _ = SYSTEMS[system]
    return getattr(reidc, system)(CLASSES, height, width)


def reidc_runner(system, batch, training):
    import reidc

    m, (x, y) = reidc_network(system), data(system, batch)
    if not training:
        return lambda: m.embed(x, normalize=False)
    if SYSTEMS[system][2] == "sgd":
        optimizer = reidc.SGD(m, RATE, momentum=0.9, nesterov=True)
    else:
        optimizer = reidc.Adam(m, RATE)
    return lambda: m.train_step(x, y, optimizer)


def torch_runner(system, batch, training, channels_last=False, **options):
    import torch
    import twins

    height, width, kind = SYSTEMS[system]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = twins.build(system, CLASSES, height, width, **options).to(memory_format=layout)
    x, y = data(system, batch)
    x, y = torch.from_numpy(x).contiguous(memory_format=layout), torch.from_numpy(y)
    if not training:
        net.eval()

        def infer():
            with torch.inference_mode():
                return net(x)["embedding"].numpy()

        return infer
    net.train()
    trained = [p for p in net.parameters() if p.requires_grad]
    if kind == "sgd":
        optimizer = torch.optim.SGD(trained, RATE, momentum=0.9, nesterov=True, fused=True)
    else:
        optimizer = torch.optim.Adam(trained, RATE, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        total = net.loss(net(x), y)["total"]
        total.backward()
        optimizer.step()
        return total.item()

    return step


def twin_kinds(system):
    """{kind: options of the twin}; MBGN has one as the page is written and a tuned one."""
    if system == "MBGN":
        return {"literal": {}, "tuned": {"tuned": True}}
    return {"torch": {}}


def malloc():
    maps = Path("/proc/self/maps")
    text = maps.read_text() if maps.exists() else ""
    return next((m for m in ("tcmalloc", "jemalloc", "mimalloc") if m in text), "the system's")


def machine():
    """What a report needs to be read later."""
    import torch

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        model = next((line.split(":")[1].strip() for line in
                      Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
                     model)
    found = {"date": datetime.datetime.now().isoformat(" ", "minutes"), "cpu": model,
             "cores": os.cpu_count(), "load": [round(v, 1) for v in os.getloadavg()],
             "python": platform.python_version(), "numpy": np.__version__,
             "torch": torch.__version__, "torch_threads": torch.get_num_threads(),
             "malloc": malloc(), "system": platform.platform()}
    try:
        import reidc
        found["reidc"], found["reidc_config"] = reidc.__version__, reidc.config()
    except ImportError:
        pass
    return found
