"""Identities held out of the training set, to choose an epoch by: never the test set."""
import copy

import numpy as np

from reidc import _checks
from reidc._core import ArgumentError, ArgumentTypeError
from reidc.datasets import _divide, _some
from reidc.recipe import check_validation
from reidc.splits import Labelled


class Subset(Labelled):
    """Some pictures of a split, as a split: whatever has `pids`, `camids` and `batch` will do."""

    def __init__(self, split, rows, name):
        self.split, self.name = split, name
        self.indices = np.asarray(rows, np.int64)
        self.keeps = getattr(split, "keeps", False)
        if hasattr(split, "rows"):  # what `Synthetic.masks` and the like take
            self.rows = np.asarray(split.rows)[self.indices]
        self.pids = np.asarray(split.pids)[self.indices]
        camids, paths = getattr(split, "camids", None), getattr(split, "paths", None)
        self.camids = None if camids is None else np.asarray(camids)[self.indices]
        self.paths = None if paths is None else [paths[i] for i in self.indices]

    def __len__(self):
        return len(self.indices)

    def batch(self, indices, threads=None):
        """Pictures of `indices`, as the whole split gives them."""
        return self.split.batch(self.indices[np.asarray(indices, np.int64)], threads=threads)

    def __repr__(self):
        return f"<{self.name}: {len(self)} images of {len(np.unique(self.pids))} identities>"


class Validation:
    """What `hold_out` sets aside: `.query`, `.gallery`, `.notes`, for `evaluate`."""

    def __init__(self, name, query, gallery, notes=()):
        self.name, self.query, self.gallery, self.notes = name, query, gallery, list(notes)

    def __repr__(self):
        rows = [f"  {word:8}{len(split):7} images {len(np.unique(split.pids)):6} identities"
                for word, split in (("query", self.query), ("gallery", self.gallery))]
        return "\n".join([self.name, *rows, *(f"  note: {note}" for note in self.notes)])


def hold_out(dataset, validation, seed=0):
    """(the data set with fewer training identities, the validation set).

    validation: a share of the training identities (0.1) or a number of them (from 2), chosen by
    the seed: the first picture of each in each camera is a query, the others are the gallery, and
    none of them is trained on. True: the data set's own validation pictures (a Table's val_query
    and val_gallery); training stays as it is. Query and gallery of the data set, on which the
    result is reported, are not touched.

    A network for the smaller set has `num_classes` of the first of the two. ValueError: too few
    identities on either side, or pictures that could not answer a query; a data set without
    validation pictures of its own; TypeError: another kind of value.
    """
    check_validation(validation)
    if not hasattr(dataset, "train"):
        raise ArgumentTypeError(f"dataset: expected a data set, got {type(dataset).__name__}")
    if validation is True:
        return dataset, _own(dataset)
    seed, split = _checks.seed(seed), dataset.train
    pids = np.asarray(split.pids)
    camids = None if getattr(split, "camids", None) is None else np.asarray(split.camids)
    known = np.unique(pids)
    count = round(validation * len(known)) if isinstance(validation, float) else int(validation)
    if not 2 <= count <= len(known) - 2:
        raise ArgumentError(f"validation: expected 2 to {len(known) - 2} of the {len(known)} "
                            f"training identities, got {count} (validation={validation})")
    train, query, gallery, single = _divide(pids, camids, count, seed)
    if not query:
        raise ArgumentError(f"validation: none of the {count} identities has pictures of two "
                            "cameras, so that there is nothing to find")
    name = getattr(dataset, "name", type(dataset).__name__)
    notes = [f"{len(single)} identities of one camera are in the gallery, not queried: "
             f"{_some(single)}"] if single else []
    smaller = copy.copy(dataset)
    smaller.train = Subset(split, train, f"{name} train")
    smaller.notes = [*getattr(dataset, "notes", []),
                     f"{count} of {len(known)} training identities are held out for validation "
                     f"(seed {seed})"]
    name = f"{name} validation"
    return smaller, Validation(name, Subset(split, query, f"{name} query"),
                               Subset(split, gallery, f"{name} gallery"), notes)


def _own(dataset):
    """The validation set that the data set brings."""
    own = getattr(dataset, "validation", None)
    if own is None:
        raise ArgumentError(f"validation: {getattr(dataset, 'name', 'the data set')} has no "
                            "validation pictures of its own (val_query, val_gallery of a table); "
                            "give a share of the training identities, as 0.1")
    both = np.intersect1d(np.asarray(dataset.train.pids), np.asarray(own.query.pids))
    if both.size:
        raise ArgumentError(f"validation: {len(both)} of its identities are trained on, so that "
                            f"it would say nothing about new ones: ids {_some(both.tolist())}")
    return own
