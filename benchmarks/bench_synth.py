"""Images a second of the embedded data set: python benchmarks/bench_synth.py [threads]

Draws 512 training images of Synthetic("small"), 256 x 128, in batches of 64, with the plates
already drawn; best and median of 11 rounds, by the clock and by processor time (the one that
counts for "a core" where others use the machine too)."""
import platform
import statistics
import sys
import time

import reidc
from reidc.synthetic import Synthetic


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    data = Synthetic("small")
    rows = data.train.rows[::8][:512]
    data.render(rows, threads)
    clock, processor = [], []
    for _ in range(11):
        start, used = time.perf_counter(), time.process_time()
        for i in range(0, len(rows), 64):
            data.render(rows[i:i + 64], threads)
        clock.append(len(rows) / (time.perf_counter() - start))
        processor.append(len(rows) / (time.process_time() - used))
    print(f"{platform.machine()}, {reidc.config()['cpu']}, {threads} thread(s): images/s by the "
          f"clock best {max(clock):.0f}, median {statistics.median(clock):.0f}; by processor time "
          f"best {max(processor):.0f}, median {statistics.median(processor):.0f}")


if __name__ == "__main__":
    main()
