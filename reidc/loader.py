"""Batches for training: sampled, decoded and augmented in C beside the training step."""
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from reidc import _checks, _core
from reidc._core import ArgumentError, ArgumentTypeError
from reidc.augment import Augment, DeferredBatch
from reidc.splits import ImageStore, Split, labels_of

PK, ONCE, BALANCED = 0, 1, 2  # rc_sampler_kind


class Loader:
    """Iterates over the batches of an epoch: `for images, labels in loader`.

    images: float32 N x 3 x height x width, normalised; labels: int64 N, 0..num_classes-1
    (distinct ids of the split in ascending order). N is identities * images, images of one
    identity are adjacent.

    split: the training split of a data set (`dataset.train`).
    identities, images: P identities with K images each.
    augment: a `reidc.Augment`; None: the baseline's at 256 x 128.
    seed: every batch is a function of (seed, epoch, its place in the epoch) alone.
    once: each identity once an epoch (the last batch may be smaller); otherwise identities are
        drawn as long as `identities` of them have unused images.
    balanced: each identity once, its images from different cameras where there are any.
    workers: threads that prepare batches; prefetch: batches prepared ahead.
    memory: bytes of pictures that the loader keeps in memory: of splits that do not keep their own,
        and those that are larger than the network's input, which are resized once for all epochs
        (unless the augmentation crops from another size or jitters colours before).
    defer: True for a network on a card: images are a `reidc.augment.DeferredBatch` of bytes, which
        the card augments as it would be done here; what has colour jitter is done here anyway.

    An epoch that has been read to its end is followed by the next one: `epoch` and `batch` say
    what comes next, `set_epoch` moves there. A loop that was left early goes on with the batch
    after the last one that was given out; so does a new Loader after `load_state_dict`.
    Raises ValueError where the split has fewer identities than a batch needs.
    """

    def __init__(self, split, identities=16, images=4, augment=None, seed=0, *, once=False,
                 balanced=False, workers=1, prefetch=2, memory=None, defer=False):
        if not hasattr(split, "batch") or not hasattr(split, "pids"):
            hint = "; pass its .train" if hasattr(split, "train") else ""
            raise ArgumentTypeError(
                f"split: expected a split of a data set, got {type(split).__name__}{hint}")
        if augment is not None and not isinstance(augment, Augment):
            raise ArgumentTypeError(
                f"augment: expected reidc.Augment, got {type(augment).__name__}")
        if once and balanced:
            raise ArgumentError("once, balanced: choose one of them")
        self.split = split
        self.identities = _checks.count("identities", identities)
        self.images = _checks.count("images", images)
        self.augment = Augment() if augment is None else augment
        self.seed = _checks.seed(seed, 63)
        self.defer = bool(defer) and self.augment._core()["jitter"] == 0
        self.workers = _checks.count("workers", workers)
        self.prefetch = _checks.count("prefetch", prefetch, 0)
        self.labels, self.num_classes = labels_of(split.pids)
        camids = getattr(split, "camids", None)
        self._camids = None if camids is None else np.asarray(camids, np.int64)
        self._kind = ONCE if once else BALANCED if balanced else PK
        self._memory, self._store, self._seen = _checks.memory(memory), None, {}
        rule = self.augment._core()
        self._may_resize = not (rule["scale_crop"] or rule["jitter"] and rule["jitter_first"])
        self._order = None, None
        self.epoch = self.batch = 0
        self._indices()  # what cannot work is refused now

    def _indices(self):
        if self._order[0] != self.epoch:
            self._order = self.epoch, _core._sampler_epoch(
                self.labels, self._camids if self._kind == BALANCED else None, self.num_classes,
                self.identities, self.images, self._kind, self.seed, self.epoch)
        return self._order[1]

    def __len__(self):
        """Batches in the epoch that comes next (it may differ a little between epochs)."""
        return -(-len(self._indices()) // (self.identities * self.images))

    def set_epoch(self, epoch, batch=0):
        """Go on with batch number `batch` of epoch `epoch`, both from 0."""
        epoch, batch = _checks.count("epoch", epoch, 0), _checks.count("batch", batch, 0)
        before, self.epoch = self.epoch, epoch
        if batch > len(self):
            most, self.epoch = len(self), before
            raise ArgumentError(f"batch: epoch {epoch} has {most} batches, got {batch}")
        self.batch = batch

    def state_dict(self):
        """Where the loader stands: plain numbers for `load_state_dict`."""
        return {"seed": self.seed, "epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state):
        """Go on exactly where the loader stood whose state this is."""
        if not isinstance(state, dict) or not {"seed", "epoch", "batch"} <= state.keys():
            kind = ArgumentError if isinstance(state, dict) else ArgumentTypeError
            raise kind(f"state: expected what state_dict() gave, got {state!r:.60}")
        if _checks.seed(state["seed"], 63) != self.seed:
            raise ArgumentError(
                f"seed: the state is of seed {state['seed']}, this loader has {self.seed}")
        self.set_epoch(state["epoch"], state["batch"])

    def indices(self, batch):
        """The pictures' places in the split for batch number `batch` of the next epoch."""
        size = self.identities * self.images
        return self._indices()[batch * size:(batch + 1) * size]

    def _read(self, indices):
        if isinstance(self.split, Split):  # a list will do: saves a copy
            return self.split.pictures(indices, threads=1)
        return self.split.batch(indices, threads=1)

    def _whole(self, index):
        return self._seen.pop(index) if index in self._seen else self._read([index])[0]

    def _fitted(self, index):
        a = self.augment
        return _core._image_resize(self._whole(index), a.height, a.width, a.interpolation)

    def _open(self, index):
        """Decide by a picture of the split what is kept here: False: nothing."""
        picture = self._read([index])[0]
        self._seen = {index: picture}
        rows, columns = picture.shape[:2]
        if self._may_resize and rows * columns > self.augment.height * self.augment.width:
            return ImageStore(self._fitted, len(self.split), self._memory)
        if getattr(self.split, "keeps", False):
            return False
        return ImageStore(self._whole, len(self.split), self._memory)

    def _make(self, epoch, first, indices):
        pictures = self._store.get(indices.tolist(), 1) if self._store else self._read(indices)
        batch = DeferredBatch(pictures, self.augment, seed=self.seed, epoch=epoch, first=first)
        return batch if self.defer else np.asarray(batch), self.labels[indices]

    def __iter__(self):
        epoch, size, count = self.epoch, self.identities * self.images, len(self)
        if self.batch >= count:  # an epoch was read to its last batch, but not beyond
            self.epoch, self.batch = epoch + 1, 0
            yield from self
            return
        parts = [self.indices(b) for b in range(self.batch, count)]
        jobs = deque()
        pool = ThreadPoolExecutor(self.workers, "reidc-loader")
        start = self.batch
        try:
            if self._store is None:
                self._store = pool.submit(self._open, int(parts[0][0])).result()
            for b in range(start, count):
                while len(jobs) <= self.prefetch and b + len(jobs) < count:
                    ahead = b + len(jobs)
                    jobs.append(pool.submit(self._make, epoch, ahead * size, parts[ahead - start]))
                ready = jobs.popleft().result()
                self.epoch, self.batch = epoch, b + 1
                yield ready
            self.epoch, self.batch = epoch + 1, 0
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def __repr__(self):
        return (f"Loader({self.split!r}, {self.identities} x {self.images}, seed={self.seed}, "
                f"next: epoch {self.epoch}, batch {self.batch})")
