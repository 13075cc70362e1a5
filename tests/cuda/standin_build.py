"""The CUDA back end's library for a machine without a card: cuda/runtime as it is, the kernels as
they run on the host, and the stand-in in the place of CUDA, cuDNN and cuBLASLt."""
import ctypes
import functools
import importlib.util
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from glob import glob

import build

ROOT, HERE = build.ROOT, build.HERE
FOLDER = os.path.join(ROOT, "build", "cuda_standin")
LIBRARY = os.path.join(FOLDER, "libreidc_cuda.so")


def headers():
    """CUDA's, cuDNN's and cuBLASLt's include folders; raises Missing."""
    spec = importlib.util.spec_from_file_location("reidc_cuda_build", f"{ROOT}/cuda/build.py")
    cuda = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cuda)
    try:
        return cuda.find()["includes"]
    except cuda.Missing as missing:
        return str(missing)


@functools.cache
def library():
    """Its path; where it cannot be built, None and why not."""
    found = headers()
    if not shutil.which("g++") or isinstance(found, str):
        return None, f"the stand-in needs g++ and {found}"
    flags = ["-Wno-format-zero-length",
             *(word for folder in found for word in ("-isystem", folder))]
    own = [*sorted(glob(f"{ROOT}/cuda/runtime/*.c")), f"{ROOT}/csrc/base/status.c",
           *sorted(glob(f"{HERE}/standin/*.cc"))]
    kernels = [s for s in build.sources() if not s.endswith("call.c")]
    jobs = int(os.environ.get("MAX_JOBS") or 0) or os.cpu_count() or 1
    os.makedirs(FOLDER, exist_ok=True)
    os.makedirs(build.FOLDER, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(build.compile_one, kernels))
        objects += pool.map(lambda s: build.compile_one(s, FOLDER, flags), own)
    failed = [o.stderr for o in objects if not isinstance(o, str)]
    assert not failed, "\n".join(failed)
    if not os.path.exists(LIBRARY) or any(os.path.getmtime(o) > os.path.getmtime(LIBRARY)
                                          for o in objects):
        fresh = f"{LIBRARY}.{os.getpid()}"
        subprocess.run(["g++", "-shared", *objects, "-Wl,-z,defs", "-ldl", "-o", fresh], check=True)
        os.replace(fresh, LIBRARY)
    for name in ("libcudnn.so.9", "libcublasLt.so.13"):  # one library in all three places
        link = os.path.join(FOLDER, name)
        if not os.path.islink(link):
            os.symlink(os.path.basename(LIBRARY), link)
    return LIBRARY, None


class Standin:
    """The stand-in's own functions (standin/standin.h)."""

    def __init__(self, path):
        self.c = ctypes.CDLL(path)
        for name in ("standin_log", "standin_problem"):
            getattr(self.c, name).restype = ctypes.c_char_p
        self.c.standin_alive.restype = ctypes.c_int64
        self.c.standin_machine.argtypes = [ctypes.c_int] * 4 + [ctypes.c_int64]

    def log(self):
        return self.c.standin_log().decode().splitlines()

    def problem(self):
        return self.c.standin_problem().decode()

    def reset(self):
        self.c.standin_reset()

    def fail(self, function, n, code):
        self.c.standin_fail(function.encode(), n, code)

    def machine(self, cards=1, major=9, minor=0, driver=13000, memory=1 << 40):
        self.c.standin_machine(cards, major, minor, driver, memory)

    def lazy(self, on):
        self.c.standin_lazy(int(on))

    def alive(self):
        names = ("memory", "bytes", "host", "streams", "events", "graphs", "handles", "descriptors")
        return {name: self.c.standin_alive(name.encode()) for name in names}
