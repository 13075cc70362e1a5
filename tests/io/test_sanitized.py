"""The safetensors reader on mutated files under the address and undefined-behaviour sanitizers."""
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"


def test_reader_under_sanitizers(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler or not CSRC.exists():
        pytest.skip("needs a C compiler and the sources")
    program = tmp_path / "fuzz"
    sources = [HERE / "fuzz_safetensors.c", *sorted((CSRC / "io").glob("*.c")),
               *(CSRC / "base" / f"{name}.c" for name in ("memory", "status"))]
    command = [compiler, "-std=c11", "-D_GNU_SOURCE", "-O1", "-g", f"-I{CSRC}",
               "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *map(str, sources),
               "-o", str(program), "-lm", "-lpthread"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if built.returncode and "sanitize" in built.stderr + "asan" * ("-lasan" in built.stderr):
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    run = subprocess.run([str(program), str(tmp_path / "x"), "1500"], capture_output=True,
                         text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    accepted, refused = map(int, run.stdout.split())
    assert accepted > 20 and refused > 700
