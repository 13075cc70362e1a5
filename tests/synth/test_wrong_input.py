"""Wrong input: one clear error of the right kind, before anything is drawn."""
import numpy as np
import pytest

import reidc
from reidc.synthetic import Synthetic


@pytest.mark.parametrize("arguments, kind, words", [
    ({"identities": "huge"}, ValueError, "identities: expected small, tiny, market"),
    ({"identities": 0}, ValueError, "identities"),
    ({"identities": -3}, ValueError, "identities"),
    ({"identities": (5,)}, ValueError, "pair"),
    ({"identities": 1 << 40}, ValueError, "identities"),
    ({"identities": (1 << 19, 1 << 19)}, ValueError, "identities"),
    ({"identities": 2.5}, TypeError, "identities"),
    ({"identities": None}, TypeError, "identities"),
    ({"level": "brutal"}, ValueError, "level: expected easy, normal, hard"),
    ({"level": -0.1}, ValueError, "level"),
    ({"level": float("nan")}, ValueError, "level"),
    ({"level": 5}, ValueError, "level"),
    ({"level": None}, TypeError, "level"),
    ({"twins": 1.5}, ValueError, "twins"),
    ({"twins": "many"}, TypeError, "twins"),
    ({"cameras": 1}, ValueError, "cameras: expected 2 to 64, got 1"),
    ({"cameras": 65}, ValueError, "cameras"),
    ({"cameras": 2.0}, TypeError, "cameras"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 1 << 64}, ValueError, "seed"),
    ({"seed": "x"}, TypeError, "seed"),
    ({"height": 100}, ValueError, "height: expected a multiple of 16"),
    ({"height": 250, "width": 125}, ValueError, "height: expected a multiple of 16"),
    ({"width": 0}, ValueError, "width"),
    ({"width": 1 << 40}, ValueError, "width"),
    ({"height": 32, "width": 2048}, ValueError, "height and width"),
    ({"height": True}, TypeError, "height"),
])
def test_wrong_arguments(arguments, kind, words):
    with pytest.raises(kind, match=words.replace("(", r"\(")) as caught:
        Synthetic(**{"identities": "tiny", **arguments})
    assert isinstance(caught.value, reidc.Error)


def test_unknown_keyword():
    with pytest.raises(TypeError):
        Synthetic("tiny", colour="red")


@pytest.fixture(scope="module")
def data():
    return Synthetic("tiny")


@pytest.mark.parametrize("rows, kind", [
    ([[0, 0, 0]], ValueError),
    ([[-1, 0, 0]], ValueError),
    ([[1 << 20, 0, 0]], ValueError),
    ([[(1 << 34), 0, 0]], ValueError),
    ([[1, 6, 0]], ValueError),
    ([[1, -1, 0]], ValueError),
    ([[1, 0, -1]], ValueError),
    ([1, 0, 0], ValueError),
    ([[1, 0]], ValueError),
    ([[1.0, 0.0, 0.0]], TypeError),
    ("rows", TypeError),
    (None, TypeError),
])
@pytest.mark.parametrize("method", ["render", "masks", "yaws", "visible"])
def test_wrong_rows(data, method, rows, kind):
    with pytest.raises(kind, match="rows") as caught:
        getattr(data, method)(rows)
    assert isinstance(caught.value, reidc.Error)


def test_no_rows_is_no_images(data):
    assert data.render(np.empty((0, 3), np.int64)).shape == (0, 128, 64, 3)


def test_wrong_threads_pid_format_and_indices(data, tmp_path):
    for threads in (0, -2):
        with pytest.raises(ValueError, match="threads"):
            data.render([[1, 0, 0]], threads=threads)
    with pytest.raises(TypeError, match="threads"):
        data.render([[1, 0, 0]], threads="all")
    for pid in (0, -1, 1 << 20):
        with pytest.raises(ValueError, match="pid"):
            data.attributes(pid)
    with pytest.raises(TypeError, match="pid"):
        data.attributes("1")
    with pytest.raises(TypeError, match="indices"):
        data.train.batch([0.5])
    with pytest.raises(IndexError):
        data.train.batch([10**6])
    with pytest.raises(ValueError, match="format"):
        data.export(tmp_path / "x", format="bmp")
    assert not (tmp_path / "x").exists()


def test_labels_cannot_be_overwritten(data):
    with pytest.raises(ValueError):
        data.train.pids[0] = 5
