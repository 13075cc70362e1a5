"""The kernels of cuda/ as a library for the host, made with the C++ compiler and host.h."""
import ctypes
import functools
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from glob import glob

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FOLDER = os.path.join(ROOT, "build", "cuda_host")
FLAGS = ["-fPIC", "-O2", "-g1", "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing",
         f"-I{ROOT}/csrc", f"-I{ROOT}/cuda", f"-I{ROOT}/cuda/runtime", f"-I{HERE}"]
CXX = ["g++", "-std=c++17", "-x", "c++", "-fno-gnu-unique", "-Wno-unknown-pragmas", *FLAGS]
CC = ["gcc", "-std=c11", *FLAGS]


def sources(what="kernels"):
    host = [f"{HERE}/host.cc"]
    if what == "broken":  # small kernels with mistakes
        return [*host, f"{HERE}/broken.cu"]
    return (sorted(glob(f"{ROOT}/cuda/**/*.cu", recursive=True)) + [f"{ROOT}/cuda/op_table.c"]
            + [*host, f"{HERE}/call.c"])


def stale(target, command):
    try:
        made = os.path.getmtime(target)
        with open(target + ".cmd") as file:
            if file.read() != " ".join(command):
                return True
        with open(target[:-2] + ".d") as file:
            used = file.read().replace("\\\n", " ").split(": ", 1)[1].split()
        return any(os.path.getmtime(path) > made for path in used)
    except (OSError, IndexError):
        return True


def compile_one(source, folder=FOLDER, more=()):
    target = os.path.join(folder, os.path.relpath(source, ROOT).replace(os.sep, "_") + ".o")
    command = [*(CC if source.endswith(".c") else CXX), *more, "-MMD", "-c", source, "-o", target]
    if stale(target, command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return done
        with open(target + ".cmd", "w") as file:
            file.write(" ".join(command))
    return target


@functools.cache
def library(what="kernels"):
    """The library, loaded; None where there is no C++ compiler."""
    if not shutil.which("g++"):
        return None
    os.makedirs(FOLDER, exist_ok=True)
    jobs = int(os.environ.get("MAX_JOBS") or 0) or os.cpu_count() or 1
    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compile_one, sources(what)))
    failed = [o.stderr for o in objects if not isinstance(o, str)]
    assert not failed, "\n".join(failed)
    path = os.path.join(FOLDER, f"{what}.so")
    if not os.path.exists(path) or any(os.path.getmtime(o) > os.path.getmtime(path)
                                       for o in objects):
        fresh = f"{path}.{os.getpid()}"
        # What is loaded beside it has functions of the same names: it shall find its own.
        subprocess.run(["g++", "-shared", "-Wl,-Bsymbolic", *objects, "-o", fresh], check=True)
        os.replace(fresh, path)
    return ctypes.CDLL(path)
