"""A split of a data set: pictures decoded once and kept as bytes, identities, cameras.

No pixel is computed here: Pillow decodes (loaded when the first file is), C does the rest.
"""
import os
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np

from reidc import _checks
from reidc._core import ArgumentError, ArgumentTypeError, FileError, FileMissingError, config

MEMORY = 4 << 30  # bytes of pictures kept in memory; more go to a memory-mapped temporary file
CHUNK = 64 << 20  # by which both grow


def rgb(picture, name=""):
    """uint8 H x W x 3 of a picture of Pillow's. ValueError: it has more than 8 bits per channel."""
    if picture.mode[0] in "IF":
        raise ArgumentError(f"{name}expected 8 bits per channel, its mode is {picture.mode}")
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def decode(file, name):
    """uint8 H x W x 3 of an open file or a path; OSError that names `name` if it is damaged."""
    from PIL import Image  # late: `import reidc` must not load it

    try:
        with Image.open(file) as picture:
            return rgb(picture)
    except FileNotFoundError:
        raise FileMissingError(f"{name}: no such file") from None
    except MemoryError:
        raise
    except Exception as problem:  # Pillow's plug-ins raise many kinds for damaged files
        raise FileError(f"{name}: cannot be read as a picture: {problem}") from problem


class Folder:
    """Reads pictures by their path below a folder."""

    def __init__(self, root, paths):
        self.paths = [os.path.join(root, path) for path in paths]

    def __call__(self, index):
        return decode(self.paths[index], self.paths[index])


class Zip:
    """Reads pictures by their name in a zip, in place."""

    def __init__(self, archive, paths):
        self.archive, self.names = os.fspath(archive), list(paths)
        self.paths = [f"{self.archive}/{name}" for name in self.names]
        self._lock = threading.Lock()
        self._open = None, None  # process, ZipFile: a forked child needs a file of its own

    def __call__(self, index):
        with self._lock:
            if self._open[0] != os.getpid():
                self._open = os.getpid(), zipfile.ZipFile(self.archive)
            try:
                data = self._open[1].read(self.names[index])
            except (zipfile.BadZipFile, OSError, EOFError, RuntimeError,
                    NotImplementedError) as problem:
                raise FileError(f"{self.paths[index]}: cannot be read: {problem}") from problem
        return decode(BytesIO(data), self.paths[index])

    def __getstate__(self):
        return self.archive, self.names

    def __setstate__(self, state):
        self.__init__(*state)


class ImageStore:
    """Pictures by number, each read once and kept as uint8: in memory up to `memory` bytes,
    the rest in a temporary file that is mapped and vanishes with the process."""

    def __init__(self, read, n, memory=None):
        self._read, self._kept = read, [None] * n
        self._left = self._memory = MEMORY if memory is None else _checks.memory(memory)
        self._lock = threading.RLock()
        self._file = self._chunk = None
        self._used = 0

    def __len__(self):
        return len(self._kept)

    def read(self, index):
        """One picture, read anew and not kept."""
        return self._read(index)

    def get(self, indices, threads=None):
        """A list of uint8 H x W x 3 arrays, read-only; missing ones are read in threads."""
        missing = sorted({i for i in indices if self._kept[i] is None})
        if missing:
            with self._lock:  # a second caller waits and then finds them read
                missing = [i for i in missing if self._kept[i] is None]
                threads = min(config()["threads"] if threads is None else threads, len(missing))
                if threads > 1:
                    with ThreadPoolExecutor(threads) as pool:
                        for i, image in zip(missing, pool.map(self._read, missing)):
                            self._kept[i] = self._keep(image)
                else:
                    for i in missing:
                        self._kept[i] = self._keep(self._read(i))
        return [self._kept[i] for i in indices]

    def _keep(self, image):
        """A read-only copy in a chunk. Many pictures to a chunk, as the system gets back the memory
        of a large block at once, that of small ones in a thread's heap often never."""
        if self._file is None and image.nbytes > self._left:
            self._file, self._chunk = tempfile.TemporaryFile(prefix="reidc-images-"), None
        self._left -= image.nbytes
        if self._chunk is None or self._used + image.nbytes > len(self._chunk):
            self._chunk, self._used = self._another(image.nbytes), 0
        place = self._chunk[self._used:self._used + image.nbytes].reshape(image.shape)
        place[...] = image
        self._used += image.nbytes
        place = place.view(np.ndarray)
        place.flags.writeable = False
        return place

    def _another(self, least):
        size = max(CHUNK, -(-least // CHUNK) * CHUNK)
        if self._file is None:
            return np.empty(size, np.uint8)
        start = os.fstat(self._file.fileno()).st_size
        return np.memmap(self._file, np.uint8, "r+", start, (size,))

    def __getstate__(self):  # what was read stays behind, it can be read again
        return self._read, len(self._kept), self._memory

    def __setstate__(self, state):
        self.__init__(*state)


class Labelled:
    """What follows from a split's `pids` and its `batch`."""

    @property
    def labels(self):
        """int64 (n): distinct ids in ascending order are 0, 1, … (training labels)."""
        return labels_of(self.pids)[0]

    @property
    def num_classes(self):
        """Distinct identities: what a network that trains on this split needs."""
        return labels_of(self.pids)[1]

    @property
    def images(self):
        return Images(self)


class Split(Labelled):
    """Pictures with an identity and a camera each: `train`, `query` or `gallery` of a data set.

    pids: int64 (n), -1 is junk, which evaluation leaves out.
    camids: int64 (n), or None where cameras are unknown; then nothing is filtered by camera.
    paths: n strings, or None where the pictures came as arrays.
    `len(split)`; `split.batch(indices)`; `split.images[i]` is uint8 H x W x 3.
    """

    keeps = True  # pictures are kept once read: a Loader need not keep them again

    def __init__(self, store, rows, pids, camids=None, paths=None, name="split"):
        self.store, self.name = store, name
        self.rows = np.asarray(rows, np.int64)  # place of each picture in the store
        self.pids = np.array(pids, np.int64)
        self.camids = None if camids is None else np.array(camids, np.int64)
        self.paths = None if paths is None else list(paths)

    def __len__(self):
        return len(self.rows)

    def pictures(self, indices, threads=None):
        """Pictures of `indices` (integers, n; negative ones count from the end): a list of
        read-only uint8 H x W x 3 arrays, not copied. Raises OSError (FileNotFoundError) that
        names a picture that is damaged (missing)."""
        indices = np.asarray(indices)
        if indices.size and indices.dtype.kind not in "iu":
            raise ArgumentTypeError(f"indices: expected integers, got {indices.dtype}")
        indices = indices.astype(np.int64).reshape(-1)
        outside = indices[(indices < -len(self)) | (indices >= len(self))]
        if outside.size:
            raise ArgumentError(f"indices: expected 0 to {len(self) - 1}, got {outside[0]}")
        return self.store.get(self.rows[indices].tolist(), threads)

    def batch(self, indices, threads=None):
        """As `pictures`, but one array, uint8 n x H x W x 3, where they are of one size."""
        images = self.pictures(indices, threads)
        if len({image.shape for image in images}) == 1:
            return np.stack(images)
        return images

    def preload(self, progress=None):
        """Read every picture now; progress(done, total) is called now and then."""
        for start in range(0, len(self), 256):
            self.store.get(self.rows[start:start + 256].tolist())
            if progress is not None:
                progress(min(start + 256, len(self)), len(self))

    def __repr__(self):
        cameras = "no cameras" if self.camids is None else f"{len(set(self.camids))} cameras"
        return (f"<{self.name}: {len(self)} images of {len(set(self.pids) - {-1})} identities, "
                f"{cameras}>")


def as_array(images, dtype, copy):
    """`__array__` of a split's pictures: all of them at once, where they are of one size."""
    if copy is False:
        raise ArgumentError("images: they are read when asked for; an array of them is a copy")
    array = images[:]
    if not isinstance(array, np.ndarray):
        raise ArgumentError("images: pictures of different sizes are no array; take a few at a "
                            "time, or evaluate the split")
    return array if dtype is None else array.astype(dtype, copy=False)


class Images:
    """`split.images`: len(), [i] -> uint8 H x W x 3, [slice or list] -> as Split.batch; iterates
    over pictures, and is an array of all of them (N x H x W x 3) where one is asked for."""

    def __init__(self, split):
        self._split = split

    def __len__(self):
        return len(self._split)

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            return self._split.batch([index])[0]
        return self._split.batch(np.arange(len(self))[index])

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype=None, copy=None):
        return as_array(self, dtype, copy)


def unanswered(query, gallery):
    """Whether each query has nothing to find in the gallery (bool, n): nobody of its id, where
    cameras are known under another camera; junk (-1) counts for nothing."""
    cameras = query.camids is not None and gallery.camids is not None
    seen = {}
    for i, pid in enumerate(np.asarray(gallery.pids).tolist()):
        if pid != -1:
            seen.setdefault(pid, set()).add(gallery.camids[i] if cameras else 0)
    return np.array([not seen.get(pid, set()) - {query.camids[i] if cameras else None}
                     for i, pid in enumerate(np.asarray(query.pids).tolist())], bool)


def labels_of(pids):
    """(labels int64 n, number of identities): ids ascending -> 0, 1, …; junk is refused."""
    pids = np.asarray(pids)
    if (pids < 0).any():
        raise ArgumentError(f"pids: {int((pids < 0).sum())} pictures have a negative id; junk "
                            f"(-1) cannot be trained on")
    known, labels = np.unique(pids, return_inverse=True)
    return labels.reshape(-1).astype(np.int64), len(known)
