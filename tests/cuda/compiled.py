"""Compiles cuda/ with nvcc, warnings as errors, and reads registers and spills of every kernel from
the compiler's report:

    python tests/cuda/compiled.py [--arch sm_90] [--list] [file.cu …]

Fails where a kernel spills or, on sm_90, keeps more registers than its threads may have without
leaving the card half empty (BOUND), unless it is named below with its reason. Other architectures
have other compilers behind the same one: there, MOST is the bound.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLAGS = ["-O3", "-std=c++17", "-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror",
         "-Xptxas", "-v,-warn-spills", f"-I{ROOT}/csrc", f"-I{ROOT}/cuda",
         f"-I{ROOT}/cuda/runtime"]
BOUND = 64  # registers of a thread: 1024 threads of a processor's 65,536
MOST = 128
# Kernels that may have more: (file, part of the name) -> (registers, why).
MORE = {
    ("batch_norm.cu", "sums_of"): (104, "two sums of eight bfloat16 channels, two rows in flight"),
    ("attention.cu", "rc_attend"): (128, "sixteen sums a thread; shared memory leaves two blocks"),
    ("relative_attention.cu", "rc_attend"): (128, "likewise"),
    ("relation_map.cu", "matrix_kernel"): (112, "sixteen sums, what they lost, and a piece"),
    ("involution.cu", "tile_kernel"): (80, "sixteen sums, a window of weights"),
    ("involution.cu", "weights_kernel"): (80, "seven sums, a window of x"),
    ("rank.cu", "tile_kernel"): (128, "64 sums a thread, by design: 2 blocks a processor"),
    ("mul_channel.cu", "rc_columns"): (80, "eight bfloat16 channels, two rows of two maps"),
    ("instance_norm.cu", "forward"): (80, "three walks' eight channels"),
}


def compile_one(source, arch, folder):
    target = os.path.join(folder, os.path.basename(source) + ".o")
    done = subprocess.run(["nvcc", *FLAGS, f"-arch={arch}", "-c", source, "-o", target],
                          capture_output=True, text=True)
    return source, done.returncode, done.stdout + done.stderr


def kernels(report):
    """(mangled name, registers, bytes of spills) of each kernel of a report."""
    name, spills = None, 0
    for line in report.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            name, spills = found[1], 0
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, "
                                r"(\d+) bytes spill loads", line):
            spills += int(found[2]) + int(found[3])
        elif found := re.search(r"Used (\d+) registers", line):
            yield name, int(found[1]), spills


def complaints(report):
    # (the notes under "Compiling entry function" are indented numbers of bytes)
    return "\n".join(line for line in report.splitlines()
                     if not re.match(r"ptxas info|\s+\d+ bytes stack", line))


def bound(source, name, arch):
    if arch != "sm_90":
        return MOST
    for (file, part), (most, _) in MORE.items():
        if file == os.path.basename(source) and part in name:
            return most
    return BOUND


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--list", action="store_true", help="print every kernel")
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    if not shutil.which("nvcc"):
        sys.exit("compiled.py: nvcc is not there")
    files = args.files or sorted(glob(f"{ROOT}/cuda/**/*.cu", recursive=True))
    folder = os.path.join(ROOT, "build", f"nvcc_{args.arch}")
    os.makedirs(folder, exist_ok=True)
    jobs = int(os.environ.get("MAX_JOBS") or 0) or os.cpu_count() or 1
    count, bad = 0, []
    with ThreadPoolExecutor(jobs) as pool:
        for source, code, report in pool.map(lambda f: compile_one(f, args.arch, folder), files):
            here = os.path.relpath(source, ROOT)
            if code:
                bad.append(f"{here}: does not compile\n{complaints(report)}")
            for name, registers, spills in kernels(report):
                count += 1
                if args.list:
                    print(f"{registers:4} {spills:5} {here}: {name}")
                if spills or registers > bound(source, name, args.arch):
                    bad.append(f"{here}: {name}: {registers} registers, at most "
                               f"{bound(source, name, args.arch)}; {spills} bytes of spills")
    print(*bad, f"{count} kernels of {len(files)} files for {args.arch}, {len(bad)} complaints",
          sep="\n")
    return 1 if bad or not count else 0


if __name__ == "__main__":
    sys.exit(main())
