"""Data sets: pictures with identities and cameras, split into train, query and gallery.

    Market1501(root)      the original folders
    ImageFolder(root)     any folder of identity_camera_*.jpg, png or bmp
    Table(csv, images)    a CSV file beside a folder or a zip
    Arrays(images, pids)  NumPy arrays
    Synthetic(...)        drawn by the package, no files
    hold_out(dataset, validation, seed)   identities set aside to choose an epoch by

Each has `.train`, `.query`, `.gallery` (`reidc.splits.Split`: pids, camids, paths or images,
`batch(indices)`), `.num_classes`, and `.notes`, sentences about what was seen in the data. Junk has
id -1; cameras count from 0; training labels are the distinct ids in ascending order. Pictures
are decoded when first asked for, once, and kept as uint8 (`memory=` bytes in memory, the rest
in a mapped temporary file). Nothing here changes files.
"""
import os
import re
import warnings

import numpy as np

from reidc import _checks, _core
from reidc._core import ArgumentError, ArgumentTypeError, FileMissingError
from reidc.splits import Folder, ImageStore, Split, unanswered

NAMES = ("train", "query", "gallery")
MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


def __getattr__(name):
    if name == "Synthetic":
        from reidc.synthetic import Synthetic

        return Synthetic
    if name == "Table":
        from reidc.tables import Table

        return Table
    if name == "hold_out":
        from reidc.hold_out import hold_out

        return hold_out
    raise AttributeError(f"module 'reidc.datasets' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), "Synthetic", "Table", "hold_out"])


class Dataset:
    """What all data sets share: three splits, notes, and a summary when printed."""

    name = "dataset"
    train = query = gallery = None

    def __init__(self):
        self.notes = []

    @property
    def num_classes(self):
        """Identities to train on."""
        return self.train.num_classes

    def _set(self, split, name, indices, store, pids, camids, paths):
        """Make split `name` of the rows `indices` of a store."""
        indices = np.asarray(indices, np.int64)
        setattr(self, split, Split(
            store, indices, pids[indices], None if camids is None else camids[indices],
            None if paths is None else [paths[i] for i in indices], f"{self.name} {name}"))

    def _note(self, sentence, warn=False):
        self.notes.append(sentence)
        if warn:
            warnings.warn(f"{self.name}: {sentence}", stacklevel=3)

    def _note_queries(self):
        """Name the query identities that no gallery picture can match."""
        query, gallery = self.query, self.gallery
        lost = query.pids[unanswered(query, gallery)].tolist()
        if lost:
            cameras = query.camids is not None and gallery.camids is not None
            where = "under another camera " if cameras else ""
            self._note(f"{len(lost)} of {len(query)} queries have no match in the gallery {where}"
                       f"and do not count: ids {_some(sorted(set(lost)))}")

    def __repr__(self):
        rows = [f"{self.name}"]
        for name in NAMES:
            split = getattr(self, name)
            ids = len(np.unique(split.pids[split.pids != -1]))
            cameras = "?" if split.camids is None else len(np.unique(split.camids))
            rows.append(f"  {name:8}{len(split):7} images {ids:6} identities {cameras:>3} cameras")
        return "\n".join(rows + [f"  note: {note}" for note in self.notes])


def _some(items, most=12):
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def _share(name, value):
    value = _checks.number(name, value)
    if not 0 < value <= 1:
        raise ArgumentError(f"{name}: expected a share of the identities, above 0 and up to 1, "
                            f"got {value}")
    return value


def _divide(pids, camids, test, seed):
    """(train, query, gallery) rows, and the tested ids of one camera only.

    `test` of the identities (a share, or how many, an int), chosen by the seed, are tested: the
    first picture of each in each camera is a query, the rest gallery; ids of one camera (of one
    picture, where there are no cameras) go to the gallery whole. Junk goes to the gallery, too."""
    known = np.unique(pids[pids != -1])
    order = _core._split_permutation(len(known), seed)
    count = test if isinstance(test, int) else round(test * len(known))
    tested = set(known[order[:count]].tolist())
    places = {}
    for i, pid in enumerate(pids.tolist()):
        if pid in tested:
            places.setdefault(pid, {}).setdefault(camids[i] if camids is not None else 0,
                                                  []).append(i)
    query, gallery, single = [], np.flatnonzero(pids == -1).tolist(), []
    for pid, cameras in sorted(places.items()):
        pictures = sorted(i for rows in cameras.values() for i in rows)
        if len(cameras) == 1 and (camids is not None or len(pictures) == 1):
            single.append(pid)
            gallery += pictures
            continue
        first = {rows[0] for rows in cameras.values()}
        query += sorted(first)
        gallery += [i for i in pictures if i not in first]
    train = [i for i, pid in enumerate(pids.tolist()) if pid != -1 and pid not in tested]
    return train, query, sorted(gallery), single


def _note_single(dataset, single, names=None):
    if single:
        shown = _some(names[pid] if names else pid for pid in single)
        dataset._note(f"{len(single)} tested identities occur in one camera only and are in the "
                      f"gallery, not queried: {shown}", warn=True)


# ---- folders ---------------------------------------------------------------------------------


def _folder(root):
    root = _checks.path("root", root)
    if not os.path.isdir(root):
        raise FileMissingError(f"root: no such folder: {root}")
    return root


def _files(folder, extensions):
    """Names below `folder` (not deeper) with one of the extensions, sorted."""
    if not os.path.isdir(folder):
        raise FileMissingError(f"no such folder: {folder}")
    return sorted(entry.name for entry in os.scandir(folder)
                  if entry.name.lower().endswith(extensions) and not entry.name.startswith(".")
                  and entry.is_file())


class Market1501(Dataset):
    """Market-1501 from its original folders.

    root: the folder `Market-1501-v15.09.15` or the one that holds it. Ids 1..1501; -1 is junk,
        0 a distractor that counts against; cameras 0..5.
    memory: bytes of decoded pictures kept in memory.

    Other counts than the published ones are a warning. Raises FileNotFoundError where a folder
    is missing.
    """

    name = "Market-1501"
    pattern = re.compile(r"^(-?\d+)_c(\d)")
    counts = {"train": (12936, 751), "query": (3368, 750), "gallery": (19732, 750),
              "gallery, id 0": (2798,), "gallery, id -1": (3819,)}
    cameras = 6

    def __init__(self, root, *, memory=None):
        super().__init__()
        root = _folder(root)
        inner = os.path.join(root, "Market-1501-v15.09.15")
        self.root = inner if os.path.isdir(inner) else root
        for split, folder in zip(NAMES, MARKET_FOLDERS):
            folder = os.path.join(self.root, folder)
            names = _files(folder, (".jpg",))
            found = [self.pattern.match(name) for name in names]
            strange = [name for name, match in zip(names, found) if not match]
            if strange:
                self._note(f"{folder}: {len(strange)} files are not named id_cCAMERA… and are "
                           f"left out: {_some(strange, 4)}", warn=True)
            names = [name for name, match in zip(names, found) if match]
            pids = np.array([int(m[1]) for m in found if m], np.int64)
            camids = np.array([int(m[2]) - 1 for m in found if m], np.int64)
            reader = Folder(folder, names)
            self._set(split, split, range(len(names)), ImageStore(reader, len(names), memory),
                      pids, camids, reader.paths)
        self._check_counts()

    def _check_counts(self):
        wrong = []
        for what, expected in self.counts.items():
            split, _, pid = what.partition(", id ")
            pids = getattr(self, split).pids
            got = ((int((pids == int(pid)).sum()),) if pid
                   else (len(pids), len(np.unique(pids[pids > 0]))))
            if got != expected:
                words = " images" if pid else " images of {} identities"
                wrong.append(f"{what}: {got[0]}{words.format(*got[1:])} (published: "
                             f"{expected[0]}{words.format(*expected[1:])})")
        cameras = np.unique(np.concatenate([getattr(self, s).camids for s in NAMES]))
        if not np.array_equal(cameras, np.arange(self.cameras)):
            wrong.append(f"cameras {_some(c + 1 for c in cameras)} (published: 1 to "
                         f"{self.cameras})")
        if wrong:
            self._note("; ".join(wrong), warn=True)


class ImageFolder(Dataset):
    """Any folder of pictures named identity_camera_*.jpg, .jpeg, .png or .bmp.

    The identity is what stands before the first underscore; the camera the number after it,
    alone or with letters before it (`7_2_x.png`, `0007_c2s1_000451_03.jpg`, `ann_cam2_1.bmp`).
    Identities that are not all numbers are numbered in sorted order (`.identities` has the
    names). Cameras become 0-based where no camera is called 0.

    root: with sub-folders train, query and gallery, or bounding_box_train, query and
        bounding_box_test, these are the splits. Otherwise its pictures are divided:
    test: this share of the identities, chosen by the seed, is tested; the first picture of an
        identity in each camera is a query, the rest gallery; identities of one camera only go
        to the gallery and are named in a warning. 1.0 tests all.
    seed: chooses.
    cameras: False if the names tell no camera: `camids` is None.
    memory: bytes of decoded pictures kept in memory.

    Other files are left alone; pictures with other names are left out and named in a warning.
    Raises FileNotFoundError for a missing folder, ValueError where there is no picture.
    """

    name = "ImageFolder"
    extensions = (".jpg", ".jpeg", ".png", ".bmp")
    pattern = re.compile(r"^(-?\d+|[^_]+)_[A-Za-z]*(\d+)(?!\d)")

    def __init__(self, root, test=0.5, seed=0, *, cameras=True, memory=None):
        super().__init__()
        self.root = _folder(root)
        self.name = os.path.basename(os.path.abspath(self.root))
        test, seed = _share("test", test), _checks.seed(seed)
        folders = next((names for names in (NAMES, MARKET_FOLDERS)
                        if all(os.path.isdir(os.path.join(self.root, n)) for n in names)), None)
        parts = [self._parse(os.path.join(self.root, f), cameras) for f in folders or (".",)]
        words = [w for part in parts for w in part[1]]
        if not words:
            raise ArgumentError(f"root: {self.root} has no pictures named identity_camera_*"
                                f"{'/'.join(self.extensions)}" + (
                                    f"; left out: {_some(self._strange, 4)}" if self._strange
                                    else ""))
        if self._strange:
            self._note(f"{len(self._strange)} pictures are not named identity_camera_* and are "
                       f"left out: {_some(self._strange, 4)}", warn=True)
        pids, self.identities = _number(words)
        camids = _zero_based([c for part in parts for c in part[2]]) if cameras else None
        reader = Folder(self.root, [p for part in parts for p in part[0]])
        store = ImageStore(reader, len(words), memory)
        if folders:
            ends = np.cumsum([0] + [len(part[0]) for part in parts])
            rows = [range(a, b) for a, b in zip(ends, ends[1:])]
        else:
            *rows, single = _divide(pids, camids, test, seed)
            _note_single(self, single, self.identities)
        for split, indices in zip(NAMES, rows):
            self._set(split, split, list(indices), store, pids, camids, reader.paths)
        self._note_queries()

    _strange = ()

    def _parse(self, folder, cameras):
        """(paths below the root, identities, cameras) of the pictures of a folder."""
        paths, words, numbers = [], [], []
        below = os.path.relpath(folder, self.root)
        for name in _files(folder, self.extensions):
            path = os.path.normpath(os.path.join(below, name))
            match = self.pattern.match(name)
            if match or (not cameras and "_" in name[1:]):
                paths.append(path)
                words.append(match[1] if match else name.split("_")[0])
                numbers.append(int(match[2]) if match else 0)
            else:
                self._strange = [*self._strange, path]
        return paths, words, numbers


def _number(words):
    """(pids, {pid: name} or None): whole numbers as they are, other names in sorted order; -1
    stays junk."""
    if all(re.fullmatch(r"-?\d+", word) and abs(int(word)) < 1 << 62 for word in words):
        pids = np.array([int(word) for word in words], np.int64)
        if (pids < -1).any():
            raise ArgumentError(f"identity {pids.min()}: expected -1 (junk) or more")
        return pids, None
    names = sorted(set(words) - {"-1"})
    number = {name: i for i, name in enumerate(names)} | {"-1": -1}
    return (np.array([number[word] for word in words], np.int64), dict(enumerate(names)))


def _zero_based(cameras):
    """Whole numbers, counted from 1 (no camera 0 among them) or from 0: from 0."""
    cameras = np.array(cameras, np.int64)
    return cameras - 1 if cameras.size and cameras.min() >= 1 else cameras


# ---- arrays ----------------------------------------------------------------------------------


class _ArrayStore:
    """Pictures that are arrays already."""

    def __init__(self, images):
        self._images = images

    def __len__(self):
        return len(self._images)

    def get(self, indices, threads=None):
        return [self._images[i] for i in indices]


class Arrays(Dataset):
    """NumPy arrays as a data set.

    images: uint8 N x H x W x 3 (RGB), or a list of N uint8 H x W x 3 arrays of any sizes. They
        are used where they are, not copied.
    pids: N integers, -1 is junk.   camids: N integers, or None where cameras are unknown.
    test: None: `.train` has all pictures, and `.query` and `.gallery` too: the first picture of
        each identity in each camera is a query, the rest gallery. A share, as 0.5: that many
        identities, chosen by the seed, are tested and not trained on, as in ImageFolder.
    splits: N words, train, query or gallery, which decide instead.

    Raises ValueError or TypeError that names the argument.
    """

    name = "Arrays"

    def __init__(self, images, pids, camids=None, *, test=None, seed=0, splits=None):
        super().__init__()
        n = self._check_images(images)
        pids, camids = _integers("pids", pids, n), _integers("camids", camids, n)
        if (pids < -1).any():
            raise ArgumentError(f"pids: expected -1 (junk) or more, got {pids.min()}")
        store, everything = _ArrayStore(images), np.flatnonzero(pids != -1)
        single = []
        if splits is not None:
            roles = np.array([str(w) for w in splits] if hasattr(splits, "__iter__") else splits)
            if roles.shape != (n,) or not np.isin(roles, NAMES).all():
                raise ArgumentError(f"splits: expected {n} words train, query or gallery")
            rows = [np.flatnonzero(roles == name) for name in NAMES]
        elif test is None:
            _, query, gallery, single = _divide(pids, camids, 1.0, _checks.seed(seed))
            rows = [everything, query, gallery]
            self._note("the identities that are tested are trained on, too; test=0.5 keeps half "
                       "of them apart")
        else:
            *rows, single = _divide(pids, camids, _share("test", test), _checks.seed(seed))
        if test is not None:
            _note_single(self, single)
        for split, indices in zip(NAMES, rows):
            self._set(split, split, indices, store, pids, camids, None)
        if splits is not None:
            self._note_queries()

    @staticmethod
    def _check_images(images):
        if isinstance(images, np.ndarray):
            if images.dtype != np.uint8:
                raise ArgumentTypeError(f"images: expected uint8, got {images.dtype}")
            if images.ndim != 4:
                raise ArgumentError(f"images: expected N x H x W x 3, got {images.ndim} "
                                    f"dimensions")
            if images.shape[3] != 3:
                hint = (" (images.transpose(0, 2, 3, 1) makes it fit)"
                        if images.shape[1] == 3 else "")
                raise ArgumentError(f"images: expected N x H x W x 3, got "
                                    f"{' x '.join(map(str, images.shape))}{hint}")
        elif isinstance(images, (list, tuple)):
            for i, image in enumerate(images):
                if getattr(image, "dtype", None) != np.uint8:
                    raise ArgumentTypeError(f"images[{i}]: expected a uint8 array, got "
                                            f"{getattr(image, 'dtype', type(image).__name__)}")
                if image.ndim != 3 or image.shape[2] != 3 or not image.size:
                    raise ArgumentError(f"images[{i}]: expected H x W x 3, got "
                                        f"{' x '.join(map(str, image.shape))}")
        else:
            raise ArgumentTypeError(f"images: expected a uint8 array or a list of them, got "
                                    f"{type(images).__name__}")
        if not len(images):
            raise ArgumentError("images: expected at least one picture, got none")
        return len(images)


def _integers(name, values, n):
    if values is None and name == "camids":
        return None
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"{name}: expected integers, got {array.dtype}")
    if array.shape != (n,):
        raise ArgumentError(f"{name}: expected {n}, one per picture, got shape {array.shape}")
    if n and array.max() >= 1 << 63:
        raise ArgumentError(f"{name}: expected numbers below 2**63, got {array.max()}")
    return array.astype(np.int64)
