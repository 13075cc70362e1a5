"""A contestant in a process of its own, which does nothing until it is asked: so each library has
the malloc that suits it, and none meets another's threads or memory.

Requests and answers are lines of JSON on the process's standard streams.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from reidc.bench import contestants
from reidc.bench.contestants import Case, LeftOut, Setting
from reidc.bench.machine import environment, malloc


def timed(step, count):
    """(seconds by the clock, seconds of all threads) a step."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        step()
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count


def resident(key):
    """VmRSS or VmHWM of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def serve():
    """In the process: makes the case ready, then runs as many steps as each line says."""
    requests, answers = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def answer(**words):
        print(json.dumps(words), file=answers, flush=True)

    wanted = json.loads(requests.readline())
    name, case = wanted["name"], Case(*wanted["case"])
    setting = Setting(*wanted["setting"])
    try:
        contestants.import_all(name, setting)
        before = resident("VmRSS")
        step = contestants.make(name, case, setting, wanted["folder"], wanted["layout"])
        step()  # plans, packed weights, pools of threads
    except LeftOut as reason:
        return answer(left_out=str(reason))
    answer(malloc=malloc())
    for line in requests:
        asked = json.loads(line)
        if "steps" in asked:
            answer(seconds=timed(step, asked["steps"]))
        else:
            Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
            step()
            answer(mib=resident("VmHWM") - before)


class Worker:
    """The other end. LeftOut: it cannot run this case. RuntimeError: it died."""

    def __init__(self, name, case, setting, folder=None, layout=None):
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from reidc.bench.worker import serve; serve()"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(name))
        try:
            found = self._ask(name=name, case=case, setting=setting, folder=folder, layout=layout)
            if "left_out" in found:
                raise LeftOut(found["left_out"])
        except BaseException:
            self.close()
            raise
        self.malloc = found["malloc"]

    def _ask(self, **words):
        try:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: the missing answer says so
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"bench: {self.name} ended without an answer (status "
                               f"{self._process.wait()})")
        return json.loads(line)

    def run(self, steps):
        """(seconds by the clock, seconds of all threads) a step."""
        return tuple(self._ask(steps=steps)["seconds"])

    def peak_mib(self):
        """Of one more step, less what the process held after its imports."""
        return self._ask(memory=True)["mib"]

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
