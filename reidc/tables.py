"""Data sets listed in a table: `reidc.datasets.Table`."""
import csv
import os
import re
import zipfile

import numpy as np

from reidc import _checks
from reidc._core import ArgumentError, FileError, FileMissingError
from reidc.datasets import (NAMES, Dataset, _divide, _note_single, _number, _share, _some,
                            _zero_based)
from reidc.splits import Folder, ImageStore, Zip


class Table(Dataset):
    """A CSV file that lists pictures, beside a folder or a zip that holds them.

    csv: its first line names the columns (comma, semicolon or tab between them).
    images: the folder that the paths are below, or a zip, which is read in place; None: the
        folder of the CSV file.
    columns: which column is which, `{"path": …, "pid": …, "camid": …, "split": …}`; those left
        out are found by their usual names (path: path, file, filename, image, name; pid: pid,
        id, identity, person; camid: camid, camera, cam; split: split, role, set, subset).
        No column of cameras, or `"camid": None`: cameras are unknown. No column of splits, or
        `"split": None`: identities are divided as ImageFolder does it (test, seed).
    splits: `{word in the table: split}` where the words are not train, query, gallery,
        val_query and val_gallery.
    train: which of these splits are trained on; `("train", "val_query", "val_gallery")` adds
        the validation identities back for a final model.
    validation: True: val_query and val_gallery are `.query` and `.gallery`; False: query and
        gallery are; None: query and gallery if the table has them, else the validation ones.
        `.validation` has val_query and val_gallery as `.query` and `.gallery`, None without them.
    memory: bytes of decoded pictures kept in memory.

    Identities that are not all whole numbers, and cameras that are not, are numbered in sorted
    order. Camera numbers become 0-based where none is 0. Raises FileNotFoundError for a missing
    file, ValueError that names the line where the table is wrong.
    """

    columns = {
        "path": ("path", "file", "filename", "image", "name"),
        "pid": ("pid", "id", "identity", "person"),
        "camid": ("camid", "camera", "cam"),
        "split": ("split", "role", "set", "subset"),
    }
    known = ("train", "query", "gallery", "val_query", "val_gallery")

    def __init__(self, csv, images=None, columns=None, *, splits=None, train=("train",),
                 validation=None, test=0.5, seed=0, memory=None):
        super().__init__()
        self.csv = _checks.path("csv", csv)
        self.name = os.path.basename(os.path.dirname(os.path.abspath(self.csv))) or "table"
        test, seed = _share("test", test), _checks.seed(seed)
        paths, words, cameras, roles = self._read(columns or {}, splits or {})
        reader = self._reader(images, paths)
        store = ImageStore(reader, len(paths), memory)
        pids, self.identities = _number(words)
        camids = self._cameras(cameras) if cameras is not None else None
        if roles is None:
            *rows, single = _divide(pids, camids, test, seed)
            _note_single(self, single, self.identities)
        else:
            rows = self._choose(np.array(roles), (train,) if isinstance(train, str) else train,
                                validation)
        for split, indices in zip(NAMES, rows):
            self._set(split, split, indices, store, pids, camids, reader.paths)
        self._note_queries()
        self.validation = None
        words = np.array([] if roles is None else roles)
        if all((words == name).any() for name in ("val_query", "val_gallery")):
            self.validation = Dataset()
            self.validation.name = f"{self.name} validation"
            for split in NAMES:  # nothing to train on
                self.validation._set(split, split, np.flatnonzero(words == f"val_{split}"), store,
                                     pids, camids, reader.paths)

    def _read(self, wanted, splits):
        """Lists of path, pid, camid, split, each as words; None for the optional two."""
        unknown = sorted(set(wanted) - set(self.columns))
        if unknown:
            raise ArgumentError(f"columns: expected path, pid, camid, split; got {_some(unknown)}")
        bad = sorted(set(splits.values()) - set(self.known))
        if bad:
            raise ArgumentError(f"splits: expected {', '.join(self.known)}; got {_some(bad)}")
        try:
            with open(self.csv, newline="", encoding="utf-8-sig") as file:
                first = file.readline()
                file.seek(0)
                mark = max(",;\t", key=first.count)
                reader = csv.reader(file, delimiter=mark, strict=True)
                lines = [(reader.line_num, row) for row in reader if row]
        except FileNotFoundError:
            raise FileMissingError(f"csv: no such file: {self.csv}") from None
        except (OSError, UnicodeDecodeError, csv.Error) as problem:
            raise FileError(f"{self.csv}: cannot be read as CSV: {problem}") from problem
        if len(lines) < 2:
            raise ArgumentError(f"{self.csv}: expected a line of names and lines of pictures")
        header = [name.strip() for name in lines[0][1]]
        place = {what: self._find(what, wanted, header) for what in self.columns}
        result = {what: [] for what in self.columns}
        for number, row in lines[1:]:
            if len(row) != len(header):
                raise ArgumentError(f"{self.csv}, line {number}: expected {len(header)} values, "
                                    f"got {len(row)}")
            for what, i in place.items():
                word = "" if i is None else row[i].strip()
                if i is not None and not word:
                    raise ArgumentError(f"{self.csv}, line {number}: no {header[i]}")
                if what == "split" and i is not None:
                    word = splits.get(word, word)
                    if word not in self.known:
                        raise ArgumentError(
                            f"{self.csv}, line {number}: {header[i]} is {word!r}; expected "
                            f"{', '.join(self.known)} (or say what it means with splits=)")
                result[what].append(word)
        return [result[what] if place[what] is not None else None for what in self.columns]

    def _find(self, what, wanted, header):
        """The place of a column, None if it is optional and not there."""
        if what in wanted and wanted[what] is not None:
            if wanted[what] in header:
                return header.index(wanted[what])
            raise ArgumentError(f"columns: {self.csv} has no column {wanted[what]!r} for {what}; "
                                f"it has {', '.join(header)}")
        lower = [name.lower() for name in header]
        for name in () if what in wanted else self.columns[what]:
            if name in lower:
                return lower.index(name)
        if what in ("path", "pid"):
            raise ArgumentError(f"columns: which of {', '.join(header)} is the {what}? "
                                f"Say columns={{{what!r}: …}}")
        return None

    def _reader(self, images, paths):
        root = (os.path.dirname(self.csv) or "." if images is None
                else _checks.path("images", images))
        if os.path.isdir(root):
            missing = [p for p in paths if not os.path.isfile(os.path.join(root, p))]
            reader = Folder(root, paths)
        else:
            if not os.path.exists(root):
                raise FileMissingError(f"images: no such folder or zip: {root}")
            try:
                with zipfile.ZipFile(root) as archive:
                    names = set(archive.namelist())
            except (zipfile.BadZipFile, OSError) as problem:
                raise FileError(f"images: {root} is neither a folder nor a readable zip: "
                                f"{problem}") from problem
            missing = [p for p in paths if p not in names]
            reader = Zip(root, paths)
        if missing:
            raise FileMissingError(f"{root}: {len(missing)} of {len(paths)} pictures of the table "
                                   f"are missing: {_some(missing, 4)}")
        return reader

    def _cameras(self, words):
        if all(re.fullmatch(r"\d{1,18}", word) for word in words):
            return _zero_based([int(word) for word in words])
        if any(re.fullmatch(r"-\d+", word) for word in words):
            raise ArgumentError(f"{self.csv}: a camera is negative")
        names = sorted(set(words))
        self._note(f"cameras 0 to {len(names) - 1} are {_some(names)}")
        return np.array([names.index(word) for word in words], np.int64)

    def _choose(self, roles, train, validation):
        """Rows of train, query and gallery."""
        bad = sorted(set(train) - set(self.known))
        if bad:
            raise ArgumentError(f"train: expected some of {', '.join(self.known)}; got "
                                f"{_some(bad)}")
        has = set(roles.tolist())
        if validation is None:
            validation = not {"query", "gallery"} & has and bool({"val_query", "val_gallery"} & has)
        elif validation and not {"val_query", "val_gallery"} & has:
            raise ArgumentError(f"validation: {self.csv} has no val_query, val_gallery")
        pair = ("val_query", "val_gallery") if validation else ("query", "gallery")
        both = sorted(set(pair) & set(train) & has)
        if both:
            self._note(f"{' and '.join(both)} are trained on and tested; the result says nothing "
                       f"about new identities", warn=True)
        return [np.flatnonzero(np.isin(roles, list(train))), *(
            np.flatnonzero(roles == name) for name in pair)]
