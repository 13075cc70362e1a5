"""Devices by name: "cpu", "cuda", "cuda:1"; where the CUDA back end and its libraries are."""
import os
import re
import sys
from glob import glob

from reidc import _core

LIBRARY = "libreidc_cuda.so"  # beside this file, where setup.py found nvcc and cuDNN


def device_index(device):
    """-1 for "cpu", the card's number for "cuda" (0) and "cuda:N".

    ArgumentTypeError: not text. ArgumentError: another name.
    """
    if not isinstance(device, str):
        raise _core.ArgumentTypeError(
            f"device: expected 'cpu', 'cuda' or 'cuda:1', got {type(device).__name__}")
    if device == "cpu":
        return -1
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", device)
    if not match:
        raise _core.ArgumentError(f"device: expected 'cpu', 'cuda' or 'cuda:1', got {device!r}")
    return int(match[1] or 0)


def device_name(index):
    """What `device_index` understands."""
    return "cpu" if index < 0 else f"cuda:{index}"


def library_folders():
    """Folders of cuDNN's and cuBLAS's wheels and of a toolkit in CUDA_HOME, as far as there are."""
    found = []
    for entry in sys.path:
        found += sorted(glob(os.path.join(entry or ".", "nvidia", "*", "lib")))
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    for folder in ("lib64", "lib") if home else ():
        if os.path.isdir(os.path.join(home, folder)):
            found.append(os.path.join(home, folder))
    return [os.path.abspath(folder) for folder in dict.fromkeys(found) if ":" not in folder]


def set_paths():
    """Tell the core where to look. REIDC_CUDA_LIBRARY: another library, whose folder comes first
    (tests name their stand-in for a card)."""
    own = os.environ.get("REIDC_CUDA_LIBRARY")
    library = own or os.path.join(os.path.dirname(os.path.abspath(__file__)), LIBRARY)
    folders = [os.path.dirname(os.path.abspath(library))] if own else []
    _core._device_paths(library, ":".join(folders + library_folders()))


def check_device(device):
    """The index of a device that is there and can be used.

    ArgumentError: no such name. DeviceError: no CUDA back end, driver or card of that number; a
    card that is too old; a library that is missing.
    """
    index = device_index(device)
    if index >= 0:
        set_paths()
        _core._device_info(index)
    return index


def cuda_info(device="cuda"):
    """What a card is: a dict of index, name, versions (text), total_bytes and free_bytes.

    DeviceError: there is none, or something that it needs is missing, and what.
    """
    index = device_index(device)
    if index < 0:
        raise _core.ArgumentError("device: expected 'cuda' or 'cuda:1', got 'cpu'")
    set_paths()
    return _core._device_info(index)
