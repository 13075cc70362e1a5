"""The embedded data set: people that the package draws itself (`reidc.datasets.Synthetic`).

The C core draws every image alone from integers, with the same bytes on every machine; this
file lists, indexes and writes them.
"""
import csv
import os

import numpy as np

from reidc import _checks
from reidc._core import ArgumentError, ArgumentTypeError, SynthSet, config
from reidc._files import make_folder
from reidc.splits import Labelled, as_array

SIZES = {"small": (240, 120), "tiny": (32, 32), "market": (751, 750)}
LEVELS = {"easy": (0.35, 0.3), "normal": (0.7, 0.5), "hard": (1.0, 0.8)}
WORDS = ("sex", "upper", "upper_color", "lower", "lower_color", "pattern", "second_color",
         "sleeve", "logo", "logo_color", "logo_on_back", "bag", "bag_color", "bag_side", "hair",
         "hair_color", "hat", "hat_color", "shoes_color", "boots", "skin")


def _identities(value):
    if isinstance(value, str):
        if value not in SIZES:
            raise ArgumentError(f"identities: expected {', '.join(SIZES)}, an integer or a pair "
                                f"(train, test), got {value!r}")
        return SIZES[value]
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ArgumentError(f"identities: expected a pair (train, test), got {value!r}")
        pair = tuple(_checks.whole("identities", v) for v in value)
    else:
        pair = (_checks.whole("identities", value),) * 2
    if not all(0 < v < 1 << 20 for v in pair):
        raise ArgumentError(f"identities: expected 1 to {(1 << 20) - 2} to train and to test, "
                            f"got {value!r}")
    return pair


class Images:
    """The images of a split, drawn when asked for.

    `len(images)`; `images[i]` is uint8 H x W x 3; `images[a:b]`, `images[[3, 1, 2]]` and
    `images[mask]` are uint8 N x H x W x 3; an array of all of them where one is asked for.
    """

    dtype = np.dtype("uint8")

    def __init__(self, core, rows, size):
        self._core, self._rows = core, rows
        self.shape = (len(rows), *size, 3)

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        rows = self._rows[index]
        if np.ndim(index) == 0 and rows.ndim == 1:
            return self._core.render(rows[None])[0]
        return self._core.render(rows, config()["threads"])

    def __array__(self, dtype=None, copy=None):
        return as_array(self, dtype, copy)

    def __repr__(self):
        return f"<{len(self)} drawn images, uint8 {self.shape[1]} x {self.shape[2]} x 3>"


class Split(Labelled):
    """`train`, `query` or `gallery`: `pids`, `camids` (int64, n), `rows` (int64, n x 3:
    identity, camera, index) and `images` (see Images). pid 0 is a distractor, -1 junk."""

    images = None

    def __init__(self, core, name, number, size):
        self._core, self.name = core, name
        self.rows, self.pids, self.camids = core.list(number)
        for array in (self.rows, self.pids, self.camids):
            array.flags.writeable = False
        self.images = Images(core, self.rows, size)

    def __len__(self):
        return len(self.rows)

    def batch(self, indices, threads=None):
        """Images of `indices` (integers, n): uint8 n x H x W x 3; threads None: all."""
        indices = np.asarray(indices)
        if indices.size and indices.dtype.kind not in "iu":
            raise ArgumentTypeError(f"indices: expected integers, got {indices.dtype}")
        rows = self.rows[indices.astype(np.int64).reshape(-1)]
        return self._core.render(rows, _checks.threads(threads))

    def __repr__(self):
        known = self.pids[self.pids > 0]
        return f"<{self.name}: {len(self)} images of {len(np.unique(known))} identities>"


class Synthetic:
    """A re-identification data set that the package draws itself; it needs no files.

    identities: "small" (240 to train, 120 to test), "tiny" (32, 32), "market" (751, 750), an
        integer n (n and n) or a pair (train, test).
    cameras: 2 to 64.   seed: 0 to 2**64 - 1; another seed is another world.
    level: how much light, colour, blur, boxes and obstacles vary, 0 to 2, or "easy" (0.35,
        twins 0.3), "normal" (0.7, 0.5), "hard" (1.0, 0.8), which set twins too.
    twins: 0 to 1, how often one of four neighbours shares garments and colours with them.
    height, width: multiples of 16; None: 128 x 64 for "tiny", else 256 x 128.
    occluded: every query has something in front of the person.

    `.train`, `.query`, `.gallery` are Splits. The same arguments give the same bytes on every
    machine. Raises ValueError for values out of range, TypeError for wrong kinds.
    """

    def __init__(self, identities="small", cameras=6, seed=0, level=0.7, twins=0.5, height=None,
                 width=None, occluded=False):
        train, test = _identities(identities)
        if isinstance(level, str):
            if level not in LEVELS:
                raise ArgumentError(
                    f"level: expected {', '.join(LEVELS)} or a number, got {level!r}")
            level, twins = LEVELS[level]
        level, twins = _checks.number("level", level, " or a word"), _checks.number("twins", twins)
        seed, cameras = _checks.seed(seed), _checks.integer("cameras", cameras, 2, 64)
        size = (128, 64) if identities == "tiny" else (256, 128)
        self.height = size[0] if height is None else _checks.whole("height", height)
        self.width = size[1] if width is None else _checks.whole("width", width)
        for name, value in (("height", self.height), ("width", self.width)):
            if not 32 <= value <= 2048 or value % 16:
                raise ArgumentError(
                    f"{name}: expected a multiple of 16 from 32 to 2048, got {value}")
        self.cameras, self.seed, self.level, self.twins = cameras, seed, level, twins
        self.occluded = bool(occluded)
        self._core = SynthSet(train, test, cameras, seed, level, twins, self.height, self.width,
                              self.occluded)
        self.train = Split(self._core, "train", 0, (self.height, self.width))
        self.query = Split(self._core, "query", 1, (self.height, self.width))
        self.gallery = Split(self._core, "gallery", 2, (self.height, self.width))

    @property
    def num_classes(self):
        """Identities to train on."""
        return self.train.num_classes

    def render(self, rows, threads=1):
        """Images of rows (n x 3 integers: identity 1.., camera 0.., index 0..): uint8 n x H x
        W x 3. Any row may be asked for, listed in a split or not."""
        return self._core.render(rows, _checks.threads(threads))

    def masks(self, rows, threads=1):
        """The share of each pixel that shows the person, others and obstacles in front taken
        off: float32 n x H x W, 0..1."""
        return self._core.masks(rows, _checks.threads(threads))

    def yaws(self, rows):
        """Body angles, float64 n: radians in [-pi, pi), 0 faces the camera; NaN: nobody."""
        return self._core.yaws(rows)

    def visible(self, rows, threads=1):
        """The person's visible share of the image, float64 n, 0..1."""
        return self._core.visible(rows, _checks.threads(threads))

    def attributes(self, pid):
        """What is fixed about an identity: a dict of words, flags, colours (sRGB 0..1) and
        lengths (body heights)."""
        return self._core.attributes(_checks.whole("pid", pid))

    def export(self, folder, format="jpg"):
        """Write the set as Market-1501's folders, `bounding_box_train`, `query` and
        `bounding_box_test`, and `labels.csv`; returns the number of images.

        format: "jpg" (quality 95, no chroma subsampling) or "png" (exact). Needs Pillow.
        Each file appears whole or not at all, labels.csv last. ValueError where one of the
        folders already holds files."""
        return _export(self, _checks.path("folder", folder), format)

    def __repr__(self):
        return (f"Synthetic(train={len(self.train)}, query={len(self.query)}, "
                f"gallery={len(self.gallery)} images, {self.height} x {self.width}, "
                f"cameras={self.cameras}, seed={self.seed}, level={self.level:g}, "
                f"twins={self.twins:g})")


FOLDERS = (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test"))


def _write(path, write):
    """Through a temporary name, so that a file is whole or absent."""
    partial = path + ".part"
    try:
        write(partial)
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise


def _save(array, kind):
    from PIL import Image  # late: `import reidc` must not load it

    picture = Image.fromarray(array)
    if kind == "png":
        return lambda path: picture.save(path, format="PNG")
    return lambda path: picture.save(path, format="JPEG", quality=95, subsampling=0)


def _export(data, folder, kind):
    if kind not in ("jpg", "png"):
        raise ArgumentError(f"format: expected 'jpg' or 'png', got {kind!r}")
    for _, name in FOLDERS:
        target = os.path.join(folder, name)
        make_folder(target)
        if os.listdir(target):
            raise ArgumentError(f"folder: expected {target} to be empty or absent, it holds "
                                f"{len(os.listdir(target))} files")
    running = [0] * data.cameras
    lines, threads = [], config()["threads"]
    for split_name, name in FOLDERS:
        split = getattr(data, split_name)
        for start in range(0, len(split), 64):
            rows = split.rows[start:start + 64]
            images = data.render(rows, threads)
            facts = zip(images, rows.tolist(), split.pids[start:start + 64].tolist(),
                        data.yaws(rows).tolist(), data.visible(rows, threads).tolist())
            for image, (_, camera, index), pid, yaw, visible in facts:
                running[camera] += 1
                label = "-1" if pid == -1 else f"{pid:04d}"
                path = (f"{name}/{label}_c{camera + 1}s1_{running[camera]:06d}_"
                        f"{index:02d}.{kind}")
                _write(os.path.join(folder, path), _save(image, kind))
                about = data.attributes(pid) if pid > 0 else {}
                lines.append([path, split_name, pid, camera, index,
                              "" if yaw != yaw else f"{yaw:.4f}", f"{visible:.4f}",
                              *(about.get(word, "") for word in WORDS)])

    def labels(path):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "split", "pid", "camid", "index", "yaw", "visible", *WORDS])
            writer.writerows(lines)

    _write(os.path.join(folder, "labels.csv"), labels)
    return len(lines)
