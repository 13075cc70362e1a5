"""Finds nvcc, cuDNN and cuBLAS and builds reidc/libreidc_cuda.so from cuda/; used by setup.py.

From the environment: CUDA_HOME (the toolkit), CUDNN_HOME (cuDNN's include folder lies in it),
REIDC_CUDA_ARCHS (as "80;90"), REIDC_WERROR=1, MAX_JOBS. `python cuda/build.py OUT` builds it alone.
"""
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
ARCHS = ("80", "86", "89", "90", "100", "120")  # code for each, and PTX of the last
NAME = "libreidc_cuda.so"


class Missing(Exception):
    """What is needed and is not there, in a sentence."""


def wheel_folders(part):
    """The folder `part` of every NVIDIA wheel that the running Python sees."""
    places = dict.fromkeys([*sys.path, sysconfig.get_paths()["purelib"],
                            *os.environ.get("REIDC_CUDA_WHEELS", "").split(os.pathsep)])
    return [f for place in places if place
            for f in sorted(glob(os.path.join(place, "nvidia", "*", part)))]


def toolkit():
    """nvcc and its folder. Missing: there is none of version 13."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = os.path.join(home, "bin", "nvcc") if home else shutil.which("nvcc")
    for place in ([] if nvcc else ["/usr/local/cuda/bin/nvcc"]):
        nvcc = place if os.path.exists(place) else None
    if not nvcc or not os.path.exists(nvcc):
        raise Missing("nvcc 13 (a CUDA toolkit; CUDA_HOME names its folder)")
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    if "release 13." not in text:
        raise Missing(f"nvcc 13; {nvcc} is another version")
    said = subprocess.run([nvcc, "--dryrun", "-E", "-x", "cu", os.devnull], capture_output=True,
                          text=True).stderr  # nvcc on the path may be a script
    top = re.search(r"^#\$ TOP=(.+)$", said, re.M)
    home = os.path.realpath(top[1].strip()) if top else ""
    if not os.path.exists(os.path.join(home, "include", "cuda_runtime_api.h")):
        raise Missing(f"the toolkit's headers of {nvcc} (CUDA_HOME names its folder)")
    return nvcc, home


def header_folder(name, package, home):
    own = os.environ.get("CUDNN_HOME")
    places = [os.path.join(own, "include")] if own else []
    places += [os.path.join(home, "include"), "/usr/include", "/usr/local/include",
               f"/usr/include/{sysconfig.get_config_var('MULTIARCH') or ''}",
               *wheel_folders("include")]
    for place in places:
        if os.path.exists(os.path.join(place, name)):
            return place
    raise Missing(f"{name} ({package})")


def find():
    """What is needed: a dict. Missing: something is not there."""
    nvcc, home = toolkit()
    headers = [header_folder("cudnn.h", "nvidia-cudnn-cu13", home),
               header_folder("cublasLt.h", "nvidia-cublas", home)]
    # The toolkit's own folder first: wheels may hold headers of another version beside theirs.
    return {"nvcc": nvcc, "home": home,
            "includes": list(dict.fromkeys([os.path.join(home, "include"), *headers]))}


def architectures(wanted=None):
    wanted = wanted or os.environ.get("REIDC_CUDA_ARCHS")
    archs = wanted.replace(",", ";").replace("sm_", "").split(";") if wanted else ARCHS
    archs = sorted({a.strip().replace(".", "") for a in archs if a.strip()}, key=int)
    flags = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs]
    return flags + [f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}"]


def sources():
    """C files, CUDA files."""
    base = os.path.join(ROOT, "csrc", "base")
    c = [os.path.join(base, "status.c"), *sorted(glob(os.path.join(HERE, "*.c"))),
         *sorted(glob(os.path.join(HERE, "runtime", "*.c")))]
    return c, sorted(glob(os.path.join(HERE, "**", "*.cu"), recursive=True))


def is_fresh(target, command):
    try:
        made = os.path.getmtime(target)
        with open(target + ".cmd") as file:
            if file.read() != " ".join(command):
                return False
        with open(target[:-2] + ".d") as file:
            used = file.read().replace("\\\n", " ").split(": ", 1)[1].split()
        return all(os.path.getmtime(path) <= made for path in used)
    except (OSError, IndexError):
        return False


def run(target, command):
    if not is_fresh(target, command):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.STDOUT, stdout=subprocess.PIPE,
                              text=True)
        if done.stdout:
            print(done.stdout, end="", flush=True)
        if done.returncode:
            raise RuntimeError(f"cuda: {os.path.basename(command[-1])} does not compile")
        with open(target + ".cmd", "w") as file:
            file.write(" ".join(command))
    return target


def build(found, out, temp, archs=None, verbose=False):
    """Compile and link; `out` is the library's path. verbose: registers and spills of kernels."""
    werror = os.environ.get("REIDC_WERROR") == "1"
    includes = [f"-I{ROOT}/csrc", f"-I{HERE}", f"-I{HERE}/runtime",
                *(word for d in found["includes"] for word in ("-isystem", d))]
    host = ["-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", *(["-Werror"] if werror else [])]
    c_flags = ["-std=c11", "-O2", "-Wshadow", "-Wno-deprecated-declarations", *host, *includes]
    cu_flags = ["-std=c++17", "-O3", *architectures(archs), "-Xcompiler",
                ",".join([*host, "-Wno-unused-parameter"]), *includes,
                *(["-Werror", "all-warnings"] if werror else []),
                *(["-Xptxas", "-v"] if verbose else [])]
    jobs, objects = [], []
    c, cu = sources()
    for path in [*cu, *c]:  # the slow ones first
        target = os.path.join(temp, os.path.relpath(path, ROOT) + ".o")
        compiler = ["cc", *c_flags] if path.endswith(".c") else [found["nvcc"], *cu_flags]
        jobs.append((target, [*compiler, "-MD", "-MF", target[:-2] + ".d", "-c", "-o", target,
                              path]))
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or 0) or os.cpu_count()) as pool:
        objects = list(pool.map(lambda job: run(*job), jobs))
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    part = out + ".part"
    subprocess.run([found["nvcc"], "-shared", "-cudart", "static", "-o", part, *objects, "-Xlinker",
                    "--exclude-libs,ALL,-z,defs", "-ldl"], check=True)
    os.replace(part, out)
    return out


if __name__ == "__main__":
    build(find(), sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "reidc", NAME),
          os.path.join(ROOT, "build", "cuda"), verbose="-v" in sys.argv)
