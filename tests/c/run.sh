#!/usr/bin/env bash
# C tests under address and undefined-behaviour sanitizers (or those of $1: "thread").
# The core is compiled as setup.py compiles it, without csrc/py; python only lists the sources.
set -euo pipefail
cd "$(dirname "$0")/../.."
kind=${1:-address,undefined}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
out=build/c-tests-${kind//,/-}
mkdir -p "$out"
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
"$python" - "$out" "$kind" <<'PY' | xargs -P "$(nproc)" -d '\n' -n 1 bash -c
import runpy, shlex, sys
out, kind = sys.argv[1:]
setup = runpy.run_path("setup.py", run_name="sources")
objects = []
for group, sources, flags in setup["groups"]():
    for source in sources:
        if source.startswith("csrc/py/"):
            continue
        target = f"{out}/{group}-{source.replace('/', '-')[:-2]}.o"
        objects.append(target)
        base = ["-O1" if f == "-O3" else f for f in setup["BASE"] if f != "-DNDEBUG"]
        command = ["gcc", *base, *flags, f"-fsanitize={kind}", "-fno-sanitize-recover=all",
                   "-fno-omit-frame-pointer", "-c", source, "-o", target]
        print(f"[ {target} -nt {source} ] && [ -z \"$(find csrc -name '*.[hi]*' -newer {target})\" ]"
              f" || {shlex.join(command)}")
PY
status=0
for test in tests/c/test_*.c; do
    name=$(basename "$test" .c)
    gcc -std=c11 -g1 -O1 -Wall -Wextra -Icsrc -Itests/c "-fsanitize=$kind" \
        -fno-sanitize-recover=all "$test" "$out"/*.o -lm -lpthread -o "$out/$name"
    timeout 300 "$out/$name" || status=1
done
exit $status
