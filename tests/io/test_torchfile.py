"""PyTorch's .pth files, read without executing their pickle: good ones, odd ones, hostile ones."""
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import reidc
from reidc.weights import read_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "torch_checkpoint.pth"


def check_golden(got):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    want = {
        "conv1.weight": base / 8, "transposed": base.T, "row": base[2],
        "every_second": base[:, ::2],
        "expanded": np.full((2, 5), 3, np.float32), "scalar": np.float32(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "half": np.array([1.5, -65504, 6e-8], np.float16).astype(np.float32),
        "brain": np.array([1.5, -3e38], np.float32), "double": np.array([1 / 3], np.float32),
        "bn1.num_batches_tracked": np.array(7), "bytes": np.array([0, 255], np.uint8),
        "flags": np.array([True, False]), "parameter": np.ones(2, np.float32),
    }
    assert set(got) == {"module." + k for k in want}
    for name, x in want.items():
        y = got["module." + name]
        assert y.dtype == x.dtype and y.shape == x.shape and y.flags.c_contiguous, name
        np.testing.assert_allclose(y, x, rtol=4e-3 if name == "brain" else 0)
        y[...] = 0  # fresh memory: tensors that share a storage do not share it here


def test_golden_checkpoint():
    check_golden(read_weights(GOLDEN)[0])


def test_reading_needs_no_torch_and_no_pickle():
    script = ("import sys, numpy; numpy.load; sys.modules['torch'] = None\n"
              "import pickle; pickle.loads = pickle.load = pickle.Unpickler = None\n"
              "from reidc.weights import read_weights; print(len(read_weights(sys.argv[1])[0]))")
    run = subprocess.run([sys.executable, "-c", script, str(GOLDEN)], capture_output=True,
                         text=True,
                         timeout=60, cwd=Path(reidc.__file__).parents[1])
    assert run.stdout.strip() == "14", run.stderr


@pytest.mark.twin
def test_files_of_the_torch_that_is_installed(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    sys.path.insert(0, str(GOLDEN.parent))
    try:
        import make_pth
    finally:
        sys.path.pop(0)
    tensors = make_pth.tensors()
    path = tmp_path / "x.pth"
    for wrap in (lambda t: t, lambda t: {"state_dict": t}, lambda t: {"model": {"state_dict": t}},
                 lambda t: {"model_state_dict": dict(t), "config": {"lr": 1e-3, "sizes": (1, [2])}},
                 lambda t: {"epoch": torch.tensor(3), "state_dict": t}):
        torch.save(wrap(tensors), path)
        check_golden(read_weights(path)[0])
    torch.save(tensors, path, pickle_protocol=4)
    check_golden(read_weights(path)[0])
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(network.state_dict(), path)  # an OrderedDict with attributes (_metadata)
    got = read_weights(path)[0]
    for name, x in network.state_dict().items():
        assert np.array_equal(got[name], x.numpy())
    torch.save(network, path)
    with pytest.raises(OSError, match="torch.nn.modules.container.Sequential"):
        read_weights(path)
    torch.save({"w": torch.ones(2, dtype=torch.complex64)}, path)
    with pytest.raises(OSError, match="ComplexFloatStorage"):
        read_weights(path)
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    with pytest.raises(OSError, match="bare pickle"):
        read_weights(path)


# ---- files made by hand ------------------------------------------------------------------------


class Global:
    """Pickles as a bare global name (by the pickler below)."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    def __init__(self, function, *args):
        self.function, self.args = function, args


class Storage:
    def __init__(self, kind, key, numel):
        self.pid = ("storage", Global("torch", kind), key, "cpu", numel)


class Pickler(pickle._Pickler):
    """Python's own pickler in Python, with names and calls of our choice."""

    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None

    def save_global_name(self, value):
        self.write(b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n")

    def save_call(self, value):
        self.save(value.function)
        self.save(tuple(value.args))
        self.write(b"R")

    dispatch[Global] = save_global_name
    dispatch[Call] = save_call


def dumps(value):
    file = io.BytesIO()
    Pickler(file, 2).dump(value)
    return file.getvalue()


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def tensor(size=(2,), stride=(1,), offset=0, numel=4, kind="FloatStorage", key="0"):
    return Call(REBUILD, Storage(kind, key, numel), offset, size, stride, False, OrderedDict())


def make(path, value, data=np.arange(4, dtype=np.float32).tobytes(), compression=0, **more):
    pickled = value if isinstance(value, bytes) else dumps(value)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/data/0", data)
        for name, content in more.items():
            archive.writestr("x/" + name, content)
    return path


def test_hand_made_file(tmp_path):
    path = make(tmp_path / "x.pth", {"w": tensor((2, 2), (1, 2)), "v": tensor(offset=2)})
    got = read_weights(path)[0]
    assert got["w"].tolist() == [[0, 2], [1, 3]] and got["v"].tolist() == [2, 3]


HARMLESS = Call(Global("numpy", "dtype"), "f8")
REFUSED = {
    "posix.system": {"w": Call(Global("posix", "system"), "exit 1")},
    "os.system": {"w": tensor(), "x": Call(Global("os", "system"), "exit 1")},
    "builtins.eval": {"state_dict": {"w": tensor()}, "x": Call(Global("builtins", "eval"), "1")},
    "builtins.getattr": [Call(Global("builtins", "getattr"), 1, "real")],
    "torch.load": {"w": Call(Global("torch", "load"), "x")},
    "subprocess.Popen": {"w": tensor(), "x": Global("subprocess", "Popen")},
    "its entry w is a numpy.dtype": {"w": HARMLESS, "v": tensor()},
    "no state dict": {"w": 1},
    "holds no state": 5,
    "beyond its storage": {"w": tensor((5,))},
    "its storage": {"w": tensor((2, 2), (3, 1))},
    "reaches beyond": {"w": tensor((1,), (1,), 4)},
    "far larger": {"w": tensor((2**40,), (0,))},
    "no natural numbers": {"w": tensor((-1,))},
    "natural": {"w": tensor((2,), (-1,), 3)},
    "numbers": {"w": tensor((2,), (1,), -1)},
    "sizes that": {"w": tensor((2.0,))},
    "more sizes": {"w": tensor((2, 2))},
    "holds 16 bytes, expected 20": {"w": tensor(numel=5)},
    "expected 12": {"w": tensor(numel=3)},
    "data/../0 is missing": {"w": tensor(key="../0")},
    "data/7 is missing": {"w": tensor(key="7")},
    "in two ways": {"w": tensor(), "v": tensor(kind="IntStorage")},
    "without a storage": {"w": Call(REBUILD, 1, 0, (2,), (1,))},
    "QInt8Storage": {"w": tensor(kind="QInt8Storage")},
    "a tensor without a name": {1: tensor()},
    "no name": {"w": Call(5, 1)},
    "damaged": {"w": Call(REBUILD)},
    "torch.save": b"junk",
    "does not end|damaged": b"\x80\x02}",
    "the opcode INST": b"(S'ls'\nios\nsystem\n.",
    "the opcode OBJ|names os.system": b"(cos\nsystem\nS'ls'\no.",
    "names os.system": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "the opcode EXT1": b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_by_name(tmp_path, message):
    path = make(tmp_path / "x.pth", REFUSED[message])
    with pytest.raises(OSError, match=message):
        read_weights(path)


def test_a_pickle_that_would_run_a_command_does_not(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path = make(tmp_path / "x.pth", pickle.dumps({"state_dict": Bomb()}, 2))
    with pytest.raises(OSError, match="mkdir"):
        read_weights(path)
    pickle.loads(pickle.dumps(Bomb(), 2))  # the bomb is real
    assert (tmp_path / "executed").exists()


def test_other_kinds_of_archives(tmp_path):
    path = tmp_path / "x.pth"
    good = {"w": tensor()}
    with pytest.raises(OSError, match="TorchScript"):
        read_weights(make(path, good, **{"code/__torch__.py": b""}))
    with pytest.raises(OSError, match="big-endian"):
        read_weights(make(path, good, byteorder=b"big"))
    assert len(read_weights(make(path, good, byteorder=b"little"))[0]) == 1
    with pytest.raises(OSError, match="compressed"):
        read_weights(make(path, good, compression=zipfile.ZIP_DEFLATED))
    cyclic = {}
    cyclic["model"] = cyclic
    with pytest.raises(OSError, match="no state dict"):
        read_weights(make(path, cyclic))


def test_mutated_files_never_crash(tmp_path):
    path, rng = tmp_path / "x.pth", np.random.default_rng(0)
    whole = GOLDEN.read_bytes()
    with zipfile.ZipFile(GOLDEN) as archive:
        pickled = archive.read("torch_checkpoint/data.pkl")
    refused = 0
    for i in range(1000):
        data = bytearray(pickled if i % 2 else whole)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(data)))
            if rng.random() < 0.3:
                del data[at:at + int(rng.integers(1, 9))]
            else:
                data[at] = rng.integers(256)
        if i % 2:  # a valid archive around a broken pickle
            with zipfile.ZipFile(path, "w") as archive, zipfile.ZipFile(GOLDEN) as old:
                for name in old.namelist():
                    content = data if name.endswith("data.pkl") else old.read(name)
                    archive.writestr(name, bytes(content))
        else:
            path.write_bytes(data)
        try:
            read_weights(path)
        except OSError:
            refused += 1
    assert refused > 400


def test_deep_nesting_and_large_numbers(tmp_path):
    path = tmp_path / "x.pth"
    for pickled in (b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
                    b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
                    b"\x80\x02L" + b"9" * 100_000 + b"L\n.",
                    b"\x80\x04\x8b" + struct.pack("<i", 50_000) + b"\x7f" * 50_000 + b".",
                    b"\x80\x02X\xff\xff\xff\x7fabc.", b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f."):
        with pytest.raises(OSError):
            read_weights(make(path, pickled))
