"""What a report needs to be read later, and a fair start for each contestant.

glibc's malloc gives large buffers back to the system after every step, which costs PyTorch up to
half its speed; so PyTorch and ONNX Runtime get tcmalloc where it is found (Debian:
libtcmalloc-minimal4). OpenVINO's plugin dies of it ("free(): invalid pointer", 2026.4) and keeps
glibc's; reidc allocates nothing in a run and keeps it, too.
"""
import datetime
import os
import platform
from pathlib import Path

MALLOCS = ("tcmalloc", "jemalloc", "mimalloc")
WITH_TCMALLOC = ("torch", "onnxruntime")
PEERS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def tcmalloc():
    """Its file, or None."""
    import sysconfig

    folders = ["/usr/lib64", "/usr/lib", "/usr/local/lib"]
    if sysconfig.get_config_var("MULTIARCH"):
        folders.insert(0, "/usr/lib/" + sysconfig.get_config_var("MULTIARCH"))
    for folder in folders:
        for name in ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4"):
            if os.path.isfile(os.path.join(folder, name)):
                return os.path.join(folder, name)
    return None


def environment(name):
    """For the process of a contestant."""
    found = dict(os.environ)
    root = str(Path(__file__).parents[2])
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [root, found.get("PYTHONPATH")]))
    if name.split()[0] in WITH_TCMALLOC and tcmalloc():
        found["LD_PRELOAD"] = ":".join(filter(None, [tcmalloc(), found.get("LD_PRELOAD")]))
    return found


def malloc():
    maps = Path("/proc/self/maps")
    text = maps.read_text() if maps.exists() else ""
    return next((m for m in MALLOCS if m in text), "the system's")


def load():
    return [round(v, 1) for v in os.getloadavg()]


def processor():
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines()
             if "model name" in line] if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def installed():
    """{peer: version} of those that can be imported."""
    from importlib import metadata, util

    return {name: metadata.version(name) for name in PEERS if util.find_spec(name)}


def describe(threads):
    """Plain data; the peak is measured now, five times, the best."""
    import numpy

    import reidc
    from reidc import _core

    return {"date": datetime.datetime.now().isoformat(" ", "minutes"), "processor": processor(),
            "threads": threads, "level": _core.config()["cpu"],
            "peak_gflops": round(max(_core._peak(threads) for _ in range(5)) / 1e9),
            "load": load(), "tcmalloc": tcmalloc(),
            "system": platform.platform(), "python": platform.python_version(),
            "numpy": numpy.__version__, "reidc": reidc.__version__, **installed(),
            **{name: os.environ[name] for name in ("REIDC_CPU", "ONEDNN_MAX_CPU_ISA")
               if name in os.environ}}
