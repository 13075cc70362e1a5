"""The safetensors reader and writer: round trips, the format's rules, hostile files, full disks."""
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reidc
from reidc import _core

FILE_ERRORS = (OSError, ValueError)


def sample(rng):
    return {
        "backbone.conv1.weight": rng.standard_normal((4, 3, 7, 7), dtype=np.float32),
        "steps": np.array(7, np.int64),
        "empty": np.zeros((0, 5), np.float32),
        "flags": np.array([True, False, True]),
        "bytes": rng.integers(0, 256, 11, dtype=np.uint8),
        "größe \"x\"\\\n": np.arange(6, dtype=np.int32).reshape(2, 3),
    }


def build(header, data=b"", length=None):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def read_bytes(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    return _core.read_safetensors(path)


def test_round_trip(tmp_path):
    tensors = sample(np.random.default_rng(0))
    metadata = {"reidc": "{\"a\": 1}", "ключ": "значение\t\x01", "": ""}
    path = tmp_path / "a.safetensors"
    _core.write_safetensors(path, tensors, metadata)
    got, got_metadata = _core.read_safetensors(str(path))
    assert got_metadata == metadata and set(got) == set(tensors)
    for name, x in tensors.items():
        assert got[name].dtype == x.dtype and got[name].shape == x.shape
        assert (got[name] == x).all() and got[name].flags.writeable
    header = _core.read_safetensors_header(path)
    assert header[0]["backbone.conv1.weight"] == ("F32", (4, 3, 7, 7)) and header[1] == metadata
    assert header[0]["steps"] == ("I64", ())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_bytes_do_not_depend_on_order_or_layout(tmp_path):
    tensors = sample(np.random.default_rng(1))
    a, b = tmp_path / "a", tmp_path / "b"
    _core.write_safetensors(a, tensors, {"x": "1", "y": "2"})
    backward = dict(reversed(list(tensors.items())))
    backward["backbone.conv1.weight"] = np.asfortranarray(tensors["backbone.conv1.weight"])
    backward["bytes"] = np.repeat(tensors["bytes"], 2)[::2]
    _core.write_safetensors(b, backward, {"y": "2", "x": "1"})
    assert a.read_bytes() == b.read_bytes()
    (length,) = struct.unpack("<Q", a.read_bytes()[:8])
    assert length % 8 == 0


def test_float_types_become_float32(tmp_path):
    half = np.arange(65536, dtype=np.uint16).view(np.float16)  # every value there is
    wide = np.array([1 / 3, 1e300, -1e-300, 3.5, np.inf, np.nan])
    brain = np.array([0x3F80, 0xC049, 0x7F80, 0x0001], np.uint16)
    data = half.tobytes() + wide.tobytes() + brain.tobytes()
    header = {"half": entry("F16", (65536,), 0, 131072), "wide": entry("F64", (6,), 131072, 131120),
              "brain": entry("BF16", (2, 2), 131120, 131128)}
    got, _ = read_bytes(tmp_path, build(header, data))
    with np.errstate(over="ignore"):
        want = {"half": half.astype(np.float32), "wide": wide.astype(np.float32),
                "brain": (brain.astype(np.uint32) << 16).view(np.float32).reshape(2, 2)}
    for name in want:
        assert got[name].dtype == np.float32
        np.testing.assert_array_equal(got[name], want[name])
    np.testing.assert_array_equal(np.signbit(got["half"]), np.signbit(half))


def test_the_safetensors_package_reads_ours_and_we_read_its(tmp_path):
    package = pytest.importorskip("safetensors.numpy", reason="needs the safetensors package")
    tensors = sample(np.random.default_rng(2))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    _core.write_safetensors(ours, tensors, {"k": "v\n"})
    got = package.load_file(ours)
    for name, x in tensors.items():
        assert got[name].dtype == x.dtype and np.array_equal(got[name], x)
    package.save_file(tensors, theirs, {"k": "v\n"})
    got, metadata = _core.read_safetensors(theirs)
    assert metadata == {"k": "v\n"} and set(got) == set(tensors)
    for name, x in tensors.items():
        assert np.array_equal(got[name], x) and got[name].dtype == x.dtype


def test_unknown_members_and_white_space_are_fine(tmp_path):
    header = (b'{ "a" : {"dtype":"F32", "note": {"x":[1,-2.5e3,null,true,"\\u00e9"]}, '
              b'"shape":[ 2 ],"data_offsets":[0 , 8]}, '
              b'"__metadata__":{"\\ud83d\\ude00":"\\"\\\\\\/"} } \n ')
    got, metadata = read_bytes(tmp_path, build(header, b"\0\0\x80\x3f\0\0\0\x40"))
    assert got["a"].tolist() == [1, 2] and metadata == {"\U0001f600": "\"\\/"}
    assert read_bytes(tmp_path, build(b"{}")) == ({}, {})


OK8 = b"\0" * 8
BROKEN = {
    "empty file": b"",
    "seven bytes": b"\0" * 7,
    "no header": build(b""),
    "header longer than the file": build({"a": entry()}, OK8, 10**6),
    "header length near 2^64": build({"a": entry()}, OK8, 2**64 - 1),
    "header length 2^63": build({"a": entry()}, OK8, 2**63),
    "a list": build(b"[]"),
    "space first": build(b" {}"),
    "not JSON": build(b"\x80\x04pickle"),
    "after the object": build(b"{}x"),
    "not UTF-8": build(b'{"\xff":' + json.dumps(entry()).encode() + b"}", OK8),
    "overlong UTF-8": build(b'{"\xc0\xaf":' + json.dumps(entry()).encode() + b"}", OK8),
    "lone surrogate": build(b'{"\\ud800":' + json.dumps(entry()).encode() + b"}", OK8),
    "NUL in a name": build(b'{"a\\u0000":' + json.dumps(entry()).encode() + b"}", OK8),
    "control character": build(b'{"a\n":' + json.dumps(entry()).encode() + b"}", OK8),
    "unknown escape": build(b'{"\\x":' + json.dumps(entry()).encode() + b"}", OK8),
    "unknown dtype": build({"a": entry("Q4", (2,))}, OK8),
    "F8": build({"a": entry("F8_E4M3", (8,))}, OK8),
    "negative size": build({"a": entry("F32", (-2,))}, OK8),
    "fraction": build(b'{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', OK8),
    "leading zero": build(b'{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}', OK8),
    "2^53": build({"a": entry("U8", (2**53,), 0, 2**53)}, OK8),
    "overflowing shape": build({"a": entry("F32", (2**52, 2**52))}, OK8),
    "shape overflows to 8": build({"a": entry("U8", (2**32, 2**32, 8))}, OK8),
    "nine dimensions": build({"a": entry("F32", (1,) * 8 + (2,))}, OK8),
    "shape larger than its bytes": build({"a": entry("F32", (3,))}, OK8),
    "offsets beyond the file": build({"a": entry("F32", (4,), 0, 16)}, OK8),
    "offsets backward": build({"a": entry("F32", (2,), 8, 0)}, OK8),
    "bytes left over": build({"a": entry("F32", (1,), 0, 4)}, OK8),
    "gap": build({"a": entry("F32", (1,), 4, 8)}, OK8),
    "overlap": build({"a": entry(), "b": entry()}, OK8),
    "three offsets": build({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, OK8),
    "one offset": build({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}, OK8),
    "no dtype": build({"a": {"shape": [2], "data_offsets": [0, 8]}}, OK8),
    "no shape": build({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, OK8),
    "shape twice": build(
        b'{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}', OK8),
    "tensor is a list": build({"a": [1]}, OK8),
    "name twice": build(
        b'{"a":%s,"a":%s}' % ((json.dumps(entry("F32", (0,), 0, 0)).encode(),) * 2)),
    "metadata twice": build(b'{"__metadata__":{},"__metadata__":{}}'),
    "metadata key twice": build(b'{"__metadata__":{"a":"1","a":"2"}}'),
    "metadata not text": build({"__metadata__": {"a": 1}}),
    "metadata a list": build({"__metadata__": []}),
    "too deep": build(b'{"a":{"x":' + b"[" * 100000 + b"]" * 100000 + b"}}"),
    "unclosed string": build(b'{"a'),
    "unclosed object": build(b'{"a":{"dtype":"F32"'),
    "trailing comma": build(b'{"__metadata__":{},}'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_an_oserror(tmp_path, name):
    with pytest.raises(OSError, match="x.safetensors"):
        read_bytes(tmp_path, BROKEN[name])


def test_missing_file_folder_and_pipe(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        _core.read_safetensors(tmp_path / "nowhere")
    with pytest.raises(OSError, match="not a regular file"):
        _core.read_safetensors(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        _core.read_safetensors(tmp_path / "pipe")
    with pytest.raises(ValueError):
        _core.read_safetensors("a\0b")


def test_every_truncation(tmp_path):
    path = tmp_path / "whole"
    _core.write_safetensors(path, {"a": np.ones((3, 2), np.float32), "b": np.ones(3, np.int16)},
                            {"k": "v"})
    whole = path.read_bytes()
    for size in range(len(whole)):
        with pytest.raises(OSError):
            read_bytes(tmp_path, whole[:size])


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        kind, at = rng.integers(6), int(rng.integers(len(data)))
        if kind == 0:
            data[at] = rng.integers(256)
        elif kind == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del data[at:at + int(rng.integers(1, 20))]
        elif kind == 3:
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 4:
            data[at:at + 1] = rng.choice([b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":",
                                          b"9" * 15, b"-", b"\\u0000", b"\\ud800", b"\0", b"0"])
        else:
            data[0:8] = struct.pack("<Q", int(rng.integers(0, 400)))
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_never_crash(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "whole"
    _core.write_safetensors(path, sample(rng), {"config": '{"a": [1, 2]}', "é": "\t"})
    whole = path.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    head, tail = whole[:8 + header], whole[8 + header:]
    live = _core._memory_live()
    accepted = refused = 0
    for i in range(800):
        data = mutate(rng, head) + tail if i % 2 else mutate(rng, whole)
        if i % 4 == 1 and len(data) > len(tail) + 8:  # right length: reaches the parser
            data = struct.pack("<Q", len(data) - len(tail) - 8) + data[8:]
        try:
            tensors, metadata = read_bytes(tmp_path, data)
        except FILE_ERRORS:
            refused += 1
            continue
        accepted += 1
        size = sum(x.nbytes for x in tensors.values())
        assert size <= 2 * len(data) and all(isinstance(v, str) for v in metadata.values())
    assert _core._memory_live() == live
    assert refused > 300 and accepted > 30


def test_failed_allocations(tmp_path):
    path = tmp_path / "a"
    tensors = {"a": np.ones(3, np.float16), "b": np.ones(3, np.float32)}
    _core.write_safetensors(path, tensors, {"k": "v"})
    before, live = path.read_bytes(), _core._memory_live()
    for call in (lambda: _core.read_safetensors(path),
                 lambda: _core.write_safetensors(path, {"c": np.zeros(9)}, {"x": "y"})):
        refused = 0
        for n in range(1, 20):
            _core._memory_fail_after(n)
            try:
                call()
            except MemoryError:
                refused += 1
                assert path.read_bytes() == before
            finally:
                _core._memory_fail_after(-1)
            assert _core._memory_live() == live
        assert 3 <= refused < 19
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


FULL_DISK = """
import resource, sys
import numpy as np
from reidc import _core
from reidc.weights import write_weights
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_weights(sys.argv[1], {"a": np.random.default_rng(0).random(50_000, dtype=np.float32)})
except OSError as error:
    print(error)
else:
    sys.exit("no error")
"""


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_write_that_fails_half_way_keeps_the_old_file(tmp_path, suffix):
    """A limit on file sizes stands for a full disk: the write itself fails after 100 kB."""
    pytest.importorskip("resource")
    path = tmp_path / ("w" + suffix)
    from reidc.weights import read_weights, write_weights
    write_weights(path, {"old": np.ones(3, np.float32)})
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], text=True, timeout=60,
                         capture_output=True, cwd=Path(reidc.__file__).parents[1])
    assert run.returncode == 0, run.stderr
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert read_weights(path)[0]["old"].tolist() == [1, 1, 1]


def test_wrong_input_writes_nothing(tmp_path):
    path = tmp_path / "a"
    good = np.ones(2, np.float32)
    for error, args in [(TypeError, ([("a", good)],)), (TypeError, ({"a": [1.0]},)),
                        (TypeError, ({"a": good.astype(complex)},)), (TypeError, ({1: good},)),
                        (TypeError, ({"a": np.array(["x"])},)),
                        (TypeError, ({"a": good}, {"k": 1})),
                        (TypeError, ({"a": good}, {1: "v"})), (TypeError, ({"a": good}, "meta")),
                        (ValueError, ({"a\0": good},)), (ValueError, ({"__metadata__": good},)),
                        (ValueError, ({"a": good}, {"k": "\0"})),
                        (TypeError, ({"a": np.ones((1,) * 9, np.float32)},)),
                        (UnicodeError, ({"\ud800": good},))]:
        with pytest.raises(error):
            _core.write_safetensors(path, *args)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        _core.write_safetensors(tmp_path / "no" / "folder", {"a": good})
    (tmp_path / "dir").mkdir()
    with pytest.raises(OSError, match="cannot replace"):
        _core.write_safetensors(tmp_path / "dir", {"a": good})
    assert [p.name for p in tmp_path.iterdir()] == ["dir"]
