"""What bf16 and int8 cost in retrieval: mAP of trained runs beside float32, the mean change of a
distance, and the embeddings' mean cosine.

    python benchmarks/precision_accuracy.py RUN… [--threads N]

RUN: a folder that `reidc train` wrote; its own data set is tested, ranges for int8 come from 128 of
its training pictures. Change of distance: mean absolute change of a squared distance between query
and gallery, by the mean distance. The last lines are means over all runs.
"""
import argparse
import os

import numpy as np

import reidc
from reidc import _core
from reidc.commands import _run_settings, open_data
from reidc.evaluation import embed_split

CALIBRATION = 128
COLUMNS = ("bf16", "int8 percentile", "int8 mse")


def network(run, how, data, threads):
    path = os.path.join(run, "last.safetensors")
    m = reidc.load(path, precision="bfloat16" if how == "bf16" else None, threads=threads)
    if how.startswith("int8"):
        chosen = np.linspace(0, len(data.train) - 1, CALIBRATION).astype(int)
        images = _core._images_to_input(data.train.batch(chosen), m.height, m.width, nchw=True,
                                        threads=m.threads)
        print(repr(m.quantize(images, method=how.split()[1])), flush=True)
    return m


def tested(run, how, data, threads):
    """(mAP in per cent, embeddings, squared distances)."""
    m = network(run, how, data, threads)
    query, gallery = embed_split(m, data.query), embed_split(m, data.gallery)
    distances = reidc.compute_distance_matrix(query, gallery, threads=threads)
    m_ap = reidc.evaluate_rank(distances, data.query.pids, data.gallery.pids, data.query.camids,
                               data.gallery.camids, threads=threads)[1]
    return 100 * m_ap, np.concatenate([query, gallery]), distances


def cosine(a, b):
    return float(np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    changes = []
    for run in arguments.runs:
        data = open_data(_run_settings(run)["data"])
        exact, embeddings, distances = tested(run, "float32", data, arguments.threads)
        line = f"| {os.path.basename(run.rstrip('/'))} | {exact:.2f} |"
        changes.append([])
        for how in COLUMNS:
            m_ap, other, moved = tested(run, how, data, arguments.threads)
            change = 100 * float(np.abs(moved - distances).mean() / distances.mean())
            changes[-1].append((m_ap - exact, change))
            line += f" {m_ap - exact:+.2f}, {change:.2f} %, {cosine(embeddings, other):.5f} |"
        print(line, flush=True)
    for how, column in zip(COLUMNS, np.array(changes).transpose(1, 2, 0)):
        print(f"{how}: mean change of mAP {column[0].mean():+.2f} points "
              f"(largest {np.abs(column[0]).max():.2f}), of distances {column[1].mean():.2f} %")


if __name__ == "__main__":
    main()
