"""Writes nets.npz and aabs.npz from the float64 twins; needs torch and a minute or two.

    python tests/golden/make_golden.py [nets] [aabs]

Everything that goes in is made by rule (tests/nets/states.py, golden.py), so the files hold results
alone. Run it again only when a page changes, and say so in the commit.
"""
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "nets"))
import golden  # noqa: E402
import states  # noqa: E402
from twins import aabs  # noqa: E402


def nets():
    import torch
    from parity import TwinAsEngine, reference, state_of, twin_of
    from report import error

    torch.set_num_threads(1)
    arrays, meta = {}, {}
    for key, (name, _) in golden.CASES.items():
        options = golden.options_of(key)
        twin = twin_of(name, golden.CLASSES, golden.HEIGHT, golden.WIDTH, **options)
        shapes = {k: list(v.shape) for k, v in state_of(twin).items()}
        for seed in golden.SEEDS:
            x, y, planes = golden.batch(key, seed)
            _, truth, peers, quiet = reference(twin, x, y, planes, seed)
            names, rows = golden.table(truth)
            exact, runs = golden.flatten(truth), [golden.flatten(p) for p in peers]
            arrays[f"{key}.{seed}"] = rows.astype(np.float32)
            arrays[f"{key}.{seed}.peer"] = np.array(
                [max(error(r[k], v) for r in runs) for k, v in exact.items()], np.float32)
            print(key, seed, "largest error of the float32 twin",
                  max(e for k, e in zip(names, arrays[f"{key}.{seed}.peer"])
                      if k.split()[1] not in quiet))
        double = TwinAsEngine(twin, torch.float64)
        double.load_state_dict(states.excite(shapes, 0))
        arrays[f"{key}.steps"] = golden.ten_losses(double, double.adam(golden.LR, 5e-4), key, 0)
        meta[key] = {"names": names, "quiet": sorted(quiet), "shapes": shapes}
    text = np.frombuffer(json.dumps(meta, separators=(",", ":")).encode(), np.uint8)
    np.savez_compressed(HERE / "nets.npz", meta=text, **arrays)


def planes():
    arrays = {}
    for height, count in golden.AABS.items():
        found, nearest, passes = aabs.trace(golden.aabs_maps(height, count))
        arrays[f"planes{height}"] = found.astype(np.uint8)
        arrays[f"clear{height}"] = nearest > golden.NEAR
        moved = (found != aabs.start(height)).any(1)
        print(f"H {height}: {count} maps, {int(moved.sum())} moved, at most {passes.max()} passes, "
              f"{int((nearest <= golden.NEAR).sum())} too near a threshold")
    np.savez_compressed(HERE / "aabs.npz", **arrays)


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["nets", "aabs"]
    if "nets" in wanted:
        nets()
    if "aabs" in wanted:
        planes()
