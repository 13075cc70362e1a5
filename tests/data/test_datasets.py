"""Data sets in temporary folders with everything that real ones carry, and wrong inputs."""
import csv
import io
import os
import threading
import warnings
import zipfile

import numpy as np
import pytest

import reidc
from reidc.datasets import Arrays, ImageFolder, Market1501, Table
from reidc.splits import ImageStore

Image = pytest.importorskip("PIL.Image")


def encoded(value=0, size=(12, 6), kind="PNG", mode="RGB"):
    """A picture whose every pixel is (value, value + 1, value + 2)."""
    colour = np.full((*size, 3), [value, value + 1, value + 2], np.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(colour)
    picture = picture.quantize(8) if mode == "P" else picture.convert(mode)
    picture.save(file, kind)
    return file.getvalue()


def write(path, data=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(encoded() if data is None else data)


def quiet(make, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **options)


def names(split):
    return [os.path.basename(path) for path in split.paths]


# ---- Market-1501 -----------------------------------------------------------------------------

JPEG = encoded(kind="JPEG")


@pytest.fixture
def market(tmp_path):
    root = tmp_path / "Market-1501-v15.09.15"
    for folder, files in {
            "bounding_box_train": ["0007_c2s1_000451_03.jpg", "0002_c1s1_000451_03.jpg",
                                   "0002_c6s1_000451_01.jpg", "Thumbs.db", ".0002_c1s1_x.jpg",
                                   "0011_c3s3_001051_01.jpg"],
            "query": ["0001_c1s1_001051_00.jpg", "Thumbs.db", "0001_c1s1_001051_00.jpg.png"],
            "bounding_box_test": ["-1_c1s1_000401_03.jpg", "0000_c4s1_000401_03.jpg",
                                  "0001_c2s1_000401_03.JPG", "0001_c1s1_000401_03.jpg"],
            "gt_bbox": ["0001_c1s1_000401_00.jpg"]}.items():
        for name in files:
            write(str(root / folder / name), JPEG)
    return tmp_path


@pytest.mark.parametrize("inner", ["", "Market-1501-v15.09.15"])
def test_market(market, inner):
    with pytest.warns(UserWarning, match=r"train: 4 images of 3 identities \(published: 12936"):
        data = Market1501(str(market / inner))
    assert names(data.train) == ["0002_c1s1_000451_03.jpg", "0002_c6s1_000451_01.jpg",
                                 "0007_c2s1_000451_03.jpg", "0011_c3s3_001051_01.jpg"]
    assert data.train.pids.tolist() == [2, 2, 7, 11]
    assert data.train.camids.tolist() == [0, 5, 1, 2]
    assert data.train.labels.tolist() == [0, 0, 1, 2]
    assert data.num_classes == data.train.num_classes == 3
    assert data.query.pids.tolist() == [1] and data.query.camids.tolist() == [0]
    assert data.gallery.pids.tolist() == [-1, 0, 1, 1]
    assert data.gallery.camids.tolist() == [0, 3, 0, 1]
    assert data.train.batch([0, 3]).shape == (2, 12, 6, 3)
    assert "published" in repr(data) and "12936" in data.notes[0]


def test_market_with_the_published_counts_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(Market1501, "counts", {"train": (4, 2), "query": (1, 1),
                                               "gallery": (8, 1), "gallery, id 0": (1,),
                                               "gallery, id -1": (1,)})
    for folder, files in [("bounding_box_train", ["1_c1", "1_c2", "3_c5", "3_c6"]),
                          ("query", ["2_c3"]),
                          ("bounding_box_test", ["-1_c1", "0_c4", *(f"2_c{c}" for c in "123456")])]:
        for name in files:
            write(str(tmp_path / folder / f"{name}s1.jpg"), JPEG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not Market1501(str(tmp_path)).notes
    write(str(tmp_path / "query" / "person_c2.jpg"), JPEG)
    with pytest.warns(UserWarning, match="person_c2"):
        assert len(Market1501(tmp_path).query) == 1


def test_market_missing_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Market1501(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="bounding_box_train"):
        Market1501(str(tmp_path))
    with pytest.raises(reidc.Error):
        Market1501(str(tmp_path))


# ---- any folder ------------------------------------------------------------------------------


def test_folder_is_divided_by_identity(tmp_path):
    for pid in range(20):
        for cam in range(1, 4 if pid != 7 else 2):
            for k in range(2):
                write(str(tmp_path / f"{pid}_{cam}_{k}.png"))
    for seed in range(6):
        data = quiet(ImageFolder, tmp_path, seed=seed)
        tested = set(data.gallery.pids.tolist())
        assert len(tested) == 10 and not tested & set(data.train.pids.tolist())
        assert len(data.train) + len(data.query) + len(data.gallery) == 19 * 6 + 2
        assert set(data.query.pids.tolist()) == tested - {7}
        assert all(name.endswith("_0.png") for name in names(data.query))
        assert len(data.query) == 3 * len(tested - {7})
        assert {0, 1, 2} == set(data.query.camids.tolist())
        assert any("7" in note for note in data.notes) == (7 in tested)
    assert len({tuple(quiet(ImageFolder, tmp_path, seed=s).train.pids) for s in range(6)}) > 4
    again = quiet(ImageFolder, tmp_path, seed=2)
    assert again.train.paths == quiet(ImageFolder, tmp_path, seed=2).train.paths
    with pytest.warns(UserWarning, match="one camera only.*: 7"):
        everything = ImageFolder(tmp_path, test=1.0)
    assert len(everything.train) == 0 and len(everything.query) == 19 * 3


def test_folder_names(tmp_path):
    for name in ["0002_c1s1_000451_03.jpg", "2_2_x.JPEG", "0003_cam12.bmp", "3_04_1.png",
                 "-1_c1_x.png", "Thumbs.db", "notes.txt", ".hidden_1_x.png", "0004_c1.gif"]:
        write(str(tmp_path / name), JPEG)
    write(str(tmp_path / "unnamed.png"))
    os.makedirs(tmp_path / "5_1_folder.png")
    with pytest.warns(UserWarning, match="unnamed.png"):
        data = ImageFolder(tmp_path, test=1.0)
    found = {**dict(zip(names(data.query), data.query.camids)),
             **dict(zip(names(data.gallery), data.gallery.camids))}
    assert found == {"0002_c1s1_000451_03.jpg": 0, "2_2_x.JPEG": 1, "0003_cam12.bmp": 11,
                     "3_04_1.png": 3, "-1_c1_x.png": 0}
    assert dict(zip(names(data.gallery), data.gallery.pids)) == {"-1_c1_x.png": -1}


def test_folder_with_names_for_identities_and_camera_zero(tmp_path):
    for name in ["ann_0_1", "ann_1_1", "bob_0_1", "bob_1_1", "bob_1_2", "12_0_1", "12_1_1"]:
        write(str(tmp_path / f"{name}.png"))
    data = ImageFolder(tmp_path, test=1.0)
    assert data.identities == {0: "12", 1: "ann", 2: "bob"}
    assert sorted(data.query.pids.tolist()) == [0, 0, 1, 1, 2, 2]
    assert set(data.query.camids.tolist()) == {0, 1}
    assert data.gallery.pids.tolist() == [2]


@pytest.mark.parametrize("folders", [("train", "query", "gallery"),
                                     ("bounding_box_train", "query", "bounding_box_test")])
def test_folder_with_sub_folders(tmp_path, folders):
    for folder, files in zip(folders, [["5_1_1.png", "5_2_1.png", "9_1_1.png"], ["3_1_1.png"],
                                       ["3_2_1.png", "0_1_1.png", "-1_1_1.png", "4_1_1.png"]]):
        for name in files:
            write(str(tmp_path / folder / name))
    data = ImageFolder(tmp_path)
    assert data.train.pids.tolist() == [5, 5, 9] and data.train.labels.tolist() == [0, 0, 1]
    assert data.query.pids.tolist() == [3] and data.query.camids.tolist() == [0]
    assert sorted(data.gallery.pids.tolist()) == [-1, 0, 3, 4]
    assert not data.notes
    write(str(tmp_path / "query" / "4_1_2.png"))
    assert "ids 4" in ImageFolder(tmp_path).notes[0]


def test_folder_without_cameras(tmp_path):
    for name in ["1_a", "1_b", "2_a", "2_b", "3_a"]:
        write(str(tmp_path / f"{name}.png"))
    data = quiet(ImageFolder, tmp_path, test=1.0, cameras=False)
    assert data.query.camids is None and data.gallery.camids is None
    assert names(data.query) == ["1_a.png", "2_a.png"]
    assert names(data.gallery) == ["1_b.png", "2_b.png", "3_a.png"]


def test_folder_wrong_inputs(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFolder(tmp_path / "nowhere")
    write(str(tmp_path / "Thumbs.db"))
    with pytest.raises(ValueError, match="no pictures"):
        ImageFolder(tmp_path)
    write(str(tmp_path / "me.png"))
    with pytest.raises(ValueError, match="me.png"):
        ImageFolder(tmp_path)
    write(str(tmp_path / "1_1_1.png"))
    for test, error in [(0, ValueError), (1.5, ValueError), ("half", TypeError)]:
        with pytest.raises(error, match="test"):
            ImageFolder(tmp_path, test=test)
    with pytest.raises(ValueError, match="seed"):
        ImageFolder(tmp_path, seed=-1)


# ---- tables ----------------------------------------------------------------------------------

ROWS = [("a.png", 10, 1, "train"), ("b.png", 4, 2, "train"), ("c.png", 10, 3, "train"),
        ("d.png", 6, 1, "val_query"), ("sub/e.png", 6, 2, "val_gallery"),
        ("f.png", -1, 1, "val_gallery")]


def table(tmp_path, rows=ROWS, header=("file", "id", "camera", "role"), mark=",", archive=False):
    text = "\n".join(mark.join(map(str, row)) for row in [header, *rows])
    (tmp_path / "index.csv").write_text("\ufeff" + text + "\n", encoding="utf-8")
    pictures = {row[0]: encoded(10 * i, (10 + i, 5)) for i, row in enumerate(rows)}
    if archive:
        with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
            for name, data in pictures.items():
                file.writestr(name, data)
            file.writestr("Thumbs.db", b"")
    else:
        for name, data in pictures.items():
            write(str(tmp_path / name), data)
    return str(tmp_path / "index.csv")


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_table_by_usual_names(tmp_path, archive, mark):
    path = table(tmp_path, archive=archive, mark=mark)
    data = Table(path, images=str(tmp_path / "images.zip") if archive else None)
    assert data.train.pids.tolist() == [10, 4, 10] and data.train.labels.tolist() == [1, 0, 1]
    assert data.train.camids.tolist() == [0, 1, 2]
    assert data.query.pids.tolist() == [6] and data.gallery.pids.tolist() == [6, -1]
    images = data.train.batch([2, 0, 2])
    assert [i.shape for i in images] == [(12, 5, 3), (10, 5, 3), (12, 5, 3)]
    assert images[0][0, 0].tolist() == [20, 21, 22]
    assert data.gallery.images[0][3, 2].tolist() == [40, 41, 42]
    assert data.gallery.paths[0].endswith("sub/e.png") and not data.notes
    final = Table(path, data.train.paths[0].rpartition("/")[0],
                  train=("train", "val_query", "val_gallery"), validation=False)
    assert len(final.train) == 6 and len(final.query) == 0


def test_table_columns_splits_and_words(tmp_path):
    rows = [("x", "yes", "north", "a.png"), ("x", "no", "south", "b.png"),
            ("y", "yes", "south", "c.png"), ("y", "no", "north", "d.png")]
    text = "\n".join(",".join(row) for row in [("who", "first", "where", "picture"), *rows])
    (tmp_path / "t.csv").write_text(text)
    for row in rows:
        write(str(tmp_path / "p" / row[3]))
    columns = {"path": "picture", "pid": "who", "camid": "where", "split": "first"}
    data = Table(tmp_path / "t.csv", tmp_path / "p", columns,
                 splits={"yes": "query", "no": "gallery"})
    assert data.identities == {0: "x", 1: "y"} and "north, south" in data.notes[0]
    assert data.query.pids.tolist() == [0, 1] and data.query.camids.tolist() == [0, 1]
    assert len(data.train) == 0
    blind = Table(tmp_path / "t.csv", tmp_path / "p", {**columns, "camid": None, "split": None},
                  test=1.0)
    assert blind.query.camids is None and blind.query.pids.tolist() == [0, 1]


def test_table_that_counts_cameras_from_zero_and_official_test(tmp_path):
    rows = [("a.png", 1, 0, "train"), ("b.png", 2, 1, "query"), ("c.png", 2, 2, "gallery"),
            ("d.png", 3, 0, "val_query"), ("e.png", 3, 1, "val_gallery")]
    path = table(tmp_path, rows)
    data = Table(path)
    assert data.query.pids.tolist() == [2] and data.query.camids.tolist() == [1]
    assert Table(path, validation=True).query.pids.tolist() == [3]
    with pytest.warns(UserWarning, match="val_query are trained on"):
        Table(path, train=("train", "val_query"), validation=True)


@pytest.mark.parametrize("change, error, word", [
    (dict(columns={"pid": "person"}), ValueError, "person"),
    (dict(columns={"label": "id"}), ValueError, "label"),
    (dict(splits={"train": "training"}), ValueError, "training"),
    (dict(train=("all",)), ValueError, "all"),
    (dict(images="nowhere.zip"), FileNotFoundError, "nowhere.zip")])
def test_table_wrong_options(tmp_path, change, error, word):
    path = table(tmp_path)
    with pytest.raises(error, match=word):
        Table(path, **change)


@pytest.mark.parametrize("row, word", [
    (("a.png", 1, 1), "line 8: expected 4 values, got 3"),
    (("a.png", 1, 1, "test"), "line 8.*test"),
    (("a.png", "", 1, "train"), "line 8: no id"), (("a.png", -2, 1, "train"), "-2"),
    (("a.png", 1, -1, "train"), "negative")])
def test_table_wrong_lines(tmp_path, row, word):
    path = table(tmp_path, [*ROWS, row])
    with pytest.raises(ValueError, match=word):
        Table(path)


def test_table_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.csv"):
        Table(tmp_path / "no.csv")
    path = table(tmp_path, archive=True)
    with pytest.raises(FileNotFoundError, match="6 of 6 pictures.*a.png"):
        Table(path)  # they are in the zip
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(OSError, match="broken.zip"):
        Table(path, tmp_path / "broken.zip")
    (tmp_path / "bytes.csv").write_bytes(b"file,id\n\xff\xfe,1\n")
    with pytest.raises(OSError, match="bytes.csv"):
        Table(tmp_path / "bytes.csv")
    (tmp_path / "empty.csv").write_text("file,id\n")
    with pytest.raises(ValueError, match="lines of pictures"):
        Table(tmp_path / "empty.csv")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="which of a, b is the path"):
        Table(tmp_path / "odd.csv")


def test_zip_is_read_by_many_threads_and_after_a_fork(tmp_path):
    rows = [(f"{i}.png", i // 2, i % 2, "train") for i in range(40)]
    data = Table(table(tmp_path, rows, archive=True), tmp_path / "images.zip")
    want = [10 * i % 256 for i in range(40)]
    assert [im[0, 0, 0] for im in data.train.batch(range(40), threads=7)] == want
    data = Table(tmp_path / "index.csv", tmp_path / "images.zip")
    data.train.batch([0])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        good = [int(im[0, 0, 0]) for im in data.train.batch(range(40), threads=1)] == want
        os.write(writer, b"1" if good else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"


# ---- pictures --------------------------------------------------------------------------------


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_truncated_pictures_name_the_file(tmp_path, kind, archive):
    noise = np.random.default_rng(0).integers(0, 256, (60, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    name = "1_1_x." + kind.lower()
    if archive:
        (tmp_path / "t.csv").write_text(f"file,id\n{name},1\n")
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as out:
            out.writestr(name, file.getvalue()[:-500])
        split = quiet(Table, tmp_path / "t.csv", tmp_path / "t.zip", test=1.0).gallery
    else:
        write(str(tmp_path / name), file.getvalue()[:-500])
        split = quiet(ImageFolder, tmp_path, test=1.0).gallery
    with pytest.raises(OSError, match=name) as caught:
        split.batch([0])
    assert isinstance(caught.value, reidc.Error)


def test_pictures_that_vanish_are_no_pictures_or_are_too_deep(tmp_path):
    for name in ["1_1_a.png", "1_1_b.png", "1_1_c.png", "1_1_d.png"]:
        write(str(tmp_path / name))
    split = quiet(ImageFolder, tmp_path, test=1.0).gallery
    os.remove(tmp_path / "1_1_a.png")
    (tmp_path / "1_1_b.png").write_bytes(b"hello")
    (tmp_path / "1_1_c.png").write_bytes(b"")
    deep = np.full((4, 4), 40000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "1_1_d.png")
    with pytest.raises(FileNotFoundError, match="1_1_a"):
        split.batch([0])
    for i, word in [(1, "1_1_b"), (2, "1_1_c"), (3, "8 bits")]:
        with pytest.raises(OSError, match=word):
            split.batch([i])


def test_modes_become_rgb(tmp_path):
    for i, (mode, kind) in enumerate([("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("1", "BMP"),
                                      ("CMYK", "JPEG"), ("L", "JPEG")]):
        write(str(tmp_path / f"1_1_{i}.{kind.lower()}"), encoded(250, mode=mode, kind=kind))
    split = quiet(ImageFolder, tmp_path, test=1.0).gallery
    images = split.batch(range(6))
    assert images.dtype == np.uint8 and images.shape == (6, 12, 6, 3)
    assert abs(images[[0, 1, 2, 4, 5]].astype(int) - [250, 251, 252]).max() <= 5
    assert set(images[3].ravel().tolist()) <= {0, 255}  # one bit a pixel


def test_each_picture_is_decoded_once_whoever_asks(tmp_path):
    asked = []

    def read(i):
        asked.append(i)
        return np.full((2, 2, 3), i, np.uint8)

    store = ImageStore(read, 50)
    threads = [threading.Thread(target=store.get, args=(range(50), 3)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == list(range(50))
    assert [image[0, 0, 0] for image in store.get(range(50))] == list(range(50))


def test_store_keeps_pictures_in_few_blocks():
    """Small blocks of many threads' heaps never went back to the system: three times the memory."""
    store = ImageStore(lambda i: np.full((7, 5, 3), i, np.uint8), 40)
    images = store.get(range(40), 4)
    assert len({id(image.base) for image in images}) == 1
    assert [int(image[6, 4, 2]) for image in images] == list(range(40))


def test_store_maps_what_memory_does_not_hold():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (int(h), 90, 3), dtype=np.uint8)
              for h in rng.integers(1, 300, 60)]
    store = ImageStore(lambda i: images[i].copy(), 60, memory=100_000)
    for image, want in zip(store.get(range(60)), images):
        assert np.array_equal(image, want) and not image.flags.writeable
    kept = [image for image in store.get(range(60)) if not isinstance(image.base, np.memmap)]
    assert 0 < sum(image.nbytes for image in kept) <= 100_000


def test_split_batches(tmp_path):
    data = Arrays(np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3), [1, 1, 2, 2, 2])
    split = data.train
    assert split.batch([]) == [] and len(split.images) == len(split) == 5
    assert np.array_equal(split.batch([-1, 0])[0], split.images[4])
    assert split.images[1:3].shape == (2, 2, 2, 3)
    for indices, error in [([5], ValueError), ([-6], ValueError), ([0.5], TypeError)]:
        with pytest.raises(error, match="indices"):
            split.batch(indices)
    done = []
    split.preload(lambda i, n: done.append((i, n)))
    assert done == [(5, 5)]


# ---- arrays ----------------------------------------------------------------------------------


def test_arrays_without_a_share_train_and_test_everything():
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 3, 3), dtype=np.uint8)
    data = Arrays(images, [5, 5, 5, 2, 2, -1, 9], [0, 0, 1, 3, 4, 0, 2])
    assert data.train.pids.tolist() == [5, 5, 5, 2, 2, 9]
    assert data.train.labels.tolist() == [1, 1, 1, 0, 0, 2]
    assert sorted(zip(data.query.pids, data.query.camids)) == [(2, 3), (2, 4), (5, 0), (5, 1)]
    assert sorted(data.gallery.pids.tolist()) == [-1, 5, 9]
    assert np.array_equal(data.gallery.batch([0])[0], images[1])
    assert data.train.paths is None and "test=0.5" in data.notes[0]


def test_arrays_without_cameras_with_a_share_or_with_splits():
    images = [np.full((3 + i, 4, 3), i, np.uint8) for i in range(12)]
    pids = np.repeat(np.arange(6), 2)
    data = Arrays(images, pids, test=0.5)
    assert data.query.camids is None
    assert len(set(data.train.pids)) == 3 and len(data.query) == len(data.gallery) == 3
    assert not set(data.train.pids) & set(data.query.pids)
    assert data.train.batch([0])[0].shape == images[data.train.rows[0]].shape
    data = Arrays(images, pids, splits=["train"] * 6 + ["query", "gallery"] * 3)
    assert data.query.pids.tolist() == data.gallery.pids.tolist() == [3, 4, 5]


@pytest.mark.parametrize("images, pids, camids, error, word", [
    (np.zeros((2, 3, 8, 4), np.uint8), [1, 2], None, ValueError, r"transpose\(0, 2, 3, 1\)"),
    (np.zeros((2, 8, 4, 3), np.float32), [1, 2], None, TypeError, "uint8"),
    (np.zeros((8, 4, 3), np.uint8), [1, 2], None, ValueError, "dimensions"),
    ([np.zeros((8, 4), np.uint8)], [1], None, ValueError, r"images\[0\]"),
    ([3], [1], None, TypeError, r"images\[0\]"), (None, [1], None, TypeError, "images"),
    (np.zeros((0, 8, 4, 3), np.uint8), [], None, ValueError, "at least one"),
    (np.zeros((2, 8, 4, 3), np.uint8), [1], None, ValueError, "pids"),
    (np.zeros((2, 8, 4, 3), np.uint8), [1.0, 2.0], None, TypeError, "pids"),
    (np.zeros((2, 8, 4, 3), np.uint8), [1, -2], None, ValueError, "pids"),
    (np.zeros((2, 8, 4, 3), np.uint8), np.array([1, 1 << 63], np.uint64), None, ValueError,
     r"pids: expected numbers below 2\*\*63"),
    (np.zeros((2, 8, 4, 3), np.uint8), [1, 2], [1], ValueError, "camids")])
def test_arrays_wrong_inputs(images, pids, camids, error, word):
    with pytest.raises(error, match=word):
        Arrays(images, pids, camids)


def test_arrays_wrong_splits():
    for splits in (5, "train", ["train"], ["train", "test"]):
        with pytest.raises(ValueError, match="splits: expected 2 words"):
            Arrays(np.zeros((2, 8, 4, 3), np.uint8), [1, 2], splits=splits)


# ---- real sets -------------------------------------------------------------------------------

DATA = os.environ.get("REIDC_DATA")
# images, train images, train identities, queries that can match
REAL = {"market1501_part": (8642, 7757, 439, 255), "cuhk03_np_train": (7365, 6436, 672, 189),
        "cuhk01_part": (1944, 1704, 426, 120), "cuhk03_fullsize_part": (966, 966, 100, 0)}


@pytest.mark.real
@pytest.mark.skipif(not DATA, reason="REIDC_DATA (a folder of real sets) is not set")
@pytest.mark.parametrize("name", REAL)
def test_real_sets(name):
    folder = os.path.join(DATA or "", name)
    if not os.path.isdir(folder):
        pytest.skip(f"{name} is not in REIDC_DATA")
    data = Table(os.path.join(folder, "index.csv"), os.path.join(folder, "images.zip"))
    total, train, identities, valid = REAL[name]
    with open(os.path.join(folder, "index.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(data.train) + len(data.query) + len(data.gallery) == total == len(rows)
    assert len(data.train) == train and data.num_classes == identities
    lost = sum(not any(data.gallery.pids[j] == pid and data.gallery.camids[j] != camid
                       for j in range(len(data.gallery)))
               for pid, camid in zip(data.query.pids, data.query.camids))
    assert len(data.query) - lost == valid
    load = reidc.Loader(data.train, 8, 4, augment=reidc.Augment(height=128, width=64))
    images, labels = next(iter(load))
    assert images.shape == (32, 3, 128, 64) and np.isfinite(images).all()
    assert labels.max() < identities


def test_images_of_a_split_become_an_array():
    pictures = np.random.default_rng(0).integers(0, 256, (4, 12, 6, 3), np.uint8)
    split = Arrays(pictures, [0, 0, 1, 1], [0, 1, 0, 1]).train
    m = reidc.Baseline(2, 64, 32, backbone="resnet18", width_multiplier=0.125)
    assert np.array_equal(np.asarray(split.images), pictures)
    assert [i.shape for i in split.images] == [(12, 6, 3)] * 4
    assert np.array_equal(m.embed(split.images), m.embed(pictures))
    assert np.asarray(split.images, np.float32).dtype == np.float32
    drawn = reidc.datasets.Synthetic(identities=2, cameras=2).query.images
    assert np.array_equal(np.asarray(drawn), drawn[:])
    assert np.array_equal(np.stack(list(drawn)), drawn[:])
    assert np.array_equal(m.embed(drawn), m.embed(drawn[:]))
    mixed = Arrays([pictures[0], pictures[1, 1:], pictures[2], pictures[3]], [0, 0, 1, 1]).train
    with pytest.raises(ValueError, match="different sizes"):
        m.embed(mixed.images)
    with pytest.raises(ValueError, match="copy"):
        split.images.__array__(copy=False)


@pytest.mark.parametrize("make, name", [
    (lambda: Market1501(3), "root.*int"), (lambda: ImageFolder(None), "root.*NoneType"),
    (lambda: Table(3), "csv.*int")])
def test_paths_have_to_be_paths(make, name):
    with pytest.raises(TypeError, match=name) as caught:
        make()
    assert isinstance(caught.value, reidc.Error)
