"""Builds reidc._core from csrc/ with the plain C compiler.

Read from the environment: REIDC_DEBUG=1 (no optimisation, assertions, arenas filled with NaN),
REIDC_SANITIZE=address,undefined, REIDC_COVERAGE=1, REIDC_WERROR=1, MAX_JOBS.

The CUDA back end (cuda/, a second library) is built where nvcc, cuDNN's and cuBLAS's headers and a
card are there, for that card; REIDC_CUDA=1 builds it without a card, for all architectures, and
makes a missing part an error; REIDC_CUDA=0 leaves it out. More variables: cuda/build.py.
"""
import importlib.util
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("REIDC_DEBUG") == "1"
SANITIZE = os.environ.get("REIDC_SANITIZE", "")
X86 = platform.machine().lower() in ("x86_64", "amd64")

BASE = ["-std=c11", "-O0" if DEBUG else "-O3", "-g1", "-fvisibility=hidden", "-fno-math-errno",
        "-fno-trapping-math", "-ffp-contract=off", "-Wall", "-Wextra", "-Wshadow", "-Wvla",
        "-Werror=implicit-function-declaration",
        "-Icsrc"]
BASE += ["-DRC_DEBUG=1"] if DEBUG else ["-UNDEBUG" if SANITIZE else "-DNDEBUG"]
BASE += ["-Werror"] if os.environ.get("REIDC_WERROR") == "1" else []
BASE += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"] if SANITIZE else []
BASE += ["--coverage"] if os.environ.get("REIDC_COVERAGE") == "1" else []

# One row per way of compiling: (name, sources, extra flags). A file may be built several ways:
# the plain C operations for float and for double, the vector kernels once per instruction set.
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = AVX2 + ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
CONTRACT = ["-ffp-contract=fast"]
BF16 = {"generic": [], "avx2": AVX2 + CONTRACT, "avx512": AVX512 + CONTRACT,
        "avx512_bf16": AVX512 + CONTRACT + ["-mavx512bf16"]}
INT8 = {"generic": [], "avx2": AVX2, "avx2_vnni": AVX2 + ["-mavxvnni"],  # no contraction: same bits
        "avx512_vnni": AVX512 + ["-mavx512vnni"], "amx": AVX512 + ["-mamx-tile", "-mamx-int8"]}

# Of csrc/cpu/kernels/simd, those that are built for bf16 maps too (simd/element.h there).
MAPS = ["avg_pool", "batch_norm", "gem", "instance_norm", "pointwise", "pool", "rearrange",
        "scale_add"]


def groups():
    everything = sorted(glob("csrc/**/*.c", recursive=True))
    special = ("csrc/ops/", "csrc/cpu/kernels/", "csrc/synth/kernels/")
    yield "base", [f for f in everything if not f.startswith(special)], []
    ops = [f for f in everything if f.startswith("csrc/ops/")]
    yield "ops_f32", ops, ["-DRC_REAL_IS_DOUBLE=0"]
    yield "ops_f64", ops, ["-DRC_REAL_IS_DOUBLE=1"]
    simd = sorted(glob("csrc/cpu/kernels/simd/*.c"))  # plain loops, vectorised by the compiler
    twice = [f"csrc/cpu/kernels/simd/{f}.c" for f in MAPS]
    maps = ["-DRC_BF16_MAPS=1"]
    yield "generic", sorted(glob("csrc/cpu/kernels/generic/*.c")) + simd, ["-DRC_ISA=generic"]
    yield "generic_maps", twice, ["-DRC_ISA=generic", *maps]
    if X86:
        yield ("avx2", sorted(glob("csrc/cpu/kernels/avx2/*.c")) + simd,
               AVX2 + CONTRACT + ["-DRC_ISA=avx2"])
        yield ("avx512", sorted(glob("csrc/cpu/kernels/avx512/*.c")) + simd,
               AVX512 + CONTRACT + ["-DRC_ISA=avx512"])
        yield "avx2_maps", twice, AVX2 + CONTRACT + ["-DRC_ISA=avx2", *maps]
        yield "avx512_maps", twice, AVX512 + CONTRACT + ["-DRC_ISA=avx512", *maps]
    bf16 = ["csrc/cpu/kernels/bf16/conv2d.c", "csrc/cpu/kernels/bf16/winograd.c"]
    for isa, flags in BF16.items() if X86 else [("generic", [])]:
        yield f"bf16_{isa}", bf16, flags + [f"-DRC_ISA={isa}"]
    if X86:
        yield ("bf16_amx", ["csrc/cpu/kernels/bf16/amx.c"], BF16["avx512_bf16"]
               + ["-mamx-tile", "-mamx-bf16", "-DRC_ISA=amx"])
    for isa, flags in INT8.items() if X86 else [("generic", [])]:
        more = ["csrc/cpu/kernels/int8/avx2_winograd.c"] if isa == "avx2" else []
        yield f"int8_{isa}", [f"csrc/cpu/kernels/int8/{isa}.c", *more], flags
    for isa, flags in {"generic": [], "avx2": AVX2, "avx512": AVX512}.items():
        if X86 or isa == "generic":
            yield f"bytes_{isa}", ["csrc/cpu/kernels/int8/bytes.c"], [*flags, f"-DRC_ISA={isa}"]
    synth = sorted(glob("csrc/synth/kernels/*.c"))  # no contraction: the same bits everywhere
    yield "synth_generic", synth, ["-DRC_ISA=generic"]
    if X86:
        yield "synth_avx2", synth, AVX2 + ["-DRC_ISA=avx2"]
        yield "synth_avx512", synth, AVX512 + ["-DRC_ISA=avx512"]


def fresh(target, command):
    """Whether the object was made by this very command from files that have not changed since."""
    try:
        made = os.path.getmtime(target)
        with open(target + ".cmd") as file:
            if file.read() != command:
                return False
        with open(target[:-2] + ".d") as file:  # gcc's list: "target: source header …"
            used = file.read().replace("\\\n", " ").split(": ", 1)[1].split()
        return all(os.path.getmtime(path) <= made for path in used)
    except (OSError, IndexError):
        return False


def cards():
    """Compute capabilities of the machine's cards, as "90"."""
    try:
        said = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return sorted({a + b for a, b in re.findall(r"^(\d+)\.(\d)\s*$", said, re.M)})


def build_cuda(folder, temp):
    """libreidc_cuda.so into this folder, or nothing."""
    wish = os.environ.get("REIDC_CUDA", "")
    if wish not in ("", "0", "1"):
        raise SystemExit(f"REIDC_CUDA: expected 0 or 1, got {wish!r}")
    there = cards() if wish == "" else []
    if wish == "0" or (wish == "" and not there) or not os.path.exists("cuda/build.py"):
        return
    spec = importlib.util.spec_from_file_location("reidc_cuda_build", "cuda/build.py")
    cuda = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cuda)
    try:
        found = cuda.find()
    except cuda.Missing as missing:
        if wish == "1":
            raise SystemExit(f"REIDC_CUDA=1: the CUDA back end needs {missing}") from None
        print(f"reidc: without the CUDA back end, which needs {missing}")
        return
    archs = os.environ.get("REIDC_CUDA_ARCHS") or ";".join(there) or None
    cuda.build(found, os.path.join(folder, cuda.NAME), os.path.join(temp, "cuda"), archs)


class Build(build_ext):
    def build_extension(self, ext):
        jobs = int(os.environ.get("MAX_JOBS") or 0) or os.cpu_count() or 1
        includes = [f"-I{d}" for d in [numpy.get_include()] + self.include_dirs]
        temp = self.build_temp
        if self.editable_mode:  # pip's is a new one each time; this is that of --inplace
            temp = os.path.join("build", f"temp.{self.plat_name}-{sys.implementation.cache_tag}")
        objects, todo = [], []
        for group, sources, flags in groups():
            for source in sources:
                target = os.path.join(temp, group, source[:-2] + ".o")
                command = [*self.compiler.compiler_so[:1], "-fPIC", *BASE, *flags, *includes,
                           "-MMD", "-c", source, "-o", target]
                objects.append(target)
                if not fresh(target, " ".join(command)):
                    todo.append((target, command))

        def compile_one(item):
            target, command = item
            os.makedirs(os.path.dirname(target), exist_ok=True)
            self.spawn(command)
            with open(target + ".cmd", "w") as file:
                file.write(" ".join(command))

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(compile_one, todo))
        link = ["-lm", "-lpthread"] + ([f"-fsanitize={SANITIZE}"] if SANITIZE else [])
        link += ["--coverage"] if os.environ.get("REIDC_COVERAGE") == "1" else []
        path = self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.compiler.link_shared_object(objects, path, extra_postargs=link)
        build_cuda(os.path.dirname(path), temp)


if __name__ != "sources":  # tests/c/run.sh asks for the groups alone
    setup(ext_modules=[Extension("reidc._core", sources=[])], cmdclass={"build_ext": Build})
