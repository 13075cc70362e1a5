"""Weights in files: `.safetensors`, `.npz` and PyTorch's `.pth`, in without executing anything
that a file says, out whole or not at all; and ImageNet or re-ID weights of others into a backbone.
"""
import os

from reidc import _checks, _core
from reidc._mapping import Report, map_weights  # noqa: F401

SUFFIXES = (".safetensors", ".npz")


def read_weights(path):
    """All arrays and the metadata of a file: `({name: array}, {str: str})`.

    The kind is known by the content: safetensors, NumPy's zip, or torch.save's zip. Floating-point
    arrays of any width arrive as float32, integers and bools as they are. FileNotFoundError;
    OSError: unreadable, truncated, of another kind, or with content that only a program could
    rebuild.
    """
    path = _checks.path("path", path)
    if os.path.isdir(path):
        inside = [name for name in ("best.safetensors", "last.safetensors")
                  if os.path.isfile(os.path.join(path, name))]
        raise _core.FileError(f"{path}: expected a file, got a folder" + (
            f"; the network of this run is in {inside[0]}" if inside else ""))
    if not os.path.isfile(path):
        return _core.read_safetensors(path)  # which says what is wrong
    with open(path, "rb") as file:
        start = file.read(9)
    if start[:4] == b"PK\x03\x04":
        import zipfile

        try:
            with zipfile.ZipFile(path) as archive:
                torch = any(n == "data.pkl" or n.endswith("/data.pkl") for n in archive.namelist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise _core.FileError(f"{path}: damaged or truncated: {error}") from None
        if torch:
            from reidc import _torchfile

            return _torchfile.read(path), {}
        return _read_npz(path)
    if start[:1] == b"\x80" and start[8:] != b"{":
        raise _core.FileError(
            f"{path}: a bare pickle (PyTorch before 1.6 wrote these); it can only be read by "
            "executing it. Where you trust it, convert it once: torch.save(torch.load(path, "
            "weights_only=True), 'new.pth') with a current PyTorch")
    return _core.read_safetensors(path)


def _to_memory(array, name, path):
    """Float types as float32; integers and bools as they are, in the machine's byte order."""
    import numpy

    if array.dtype.kind in "biu":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    code = {2: "F16", 4: "F32", 8: "F64"}.get(array.dtype.itemsize)
    if array.dtype.kind != "f" or code is None:
        raise _core.FileError(f"{path}: {name}: {array.dtype} is no type of weights")
    little = numpy.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return _core._to_float32(little, code).reshape(array.shape)


def _read_npz(path):
    import json
    import zipfile
    import zlib

    import numpy
    from numpy.lib import format as npy

    tensors, metadata = {}, {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.filename.endswith(".npy"):
                    raise _core.FileError(f"{path}: {info.filename}: expected arrays (.npy) only")
                name = info.filename[:-4]
                with archive.open(info) as file:
                    version = npy.read_magic(file)
                    if version not in ((1, 0), (2, 0)):
                        raise ValueError(f"{name}: unknown version {version}")
                    read_header = (npy.read_array_header_1_0 if version == (1, 0)
                                   else npy.read_array_header_2_0)
                    shape, fortran, dtype = read_header(file)
                    if dtype.hasobject:
                        raise ValueError(f"{name}: Python objects are not read")
                    size = dtype.itemsize
                    for n in shape:
                        size *= n
                    held = info.file_size - file.tell()
                    if size != held:  # before anything is allocated
                        raise ValueError(f"{name}: {held} bytes for {shape}")
                    flat = numpy.frombuffer(file.read(), dtype)
                if name == "__metadata__" and dtype.kind == "U" and shape == ():
                    found = json.loads(str(flat[0]))
                    metadata = {str(k): str(v) for k, v in found.items()}
                    continue
                array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
                array = _to_memory(array, name, path)
                tensors[name] = array if array.flags.owndata else array.copy(order="C")
    except _core.FileError:
        raise
    except (ValueError, LookupError, AttributeError, TypeError, EOFError, RuntimeError,
            NotImplementedError, RecursionError, zipfile.BadZipFile, zlib.error) as error:
        raise _core.FileError(f"{path}: damaged, or no file of numpy.savez: {error}") from None
    return tensors, metadata


def write_weights(path, tensors, metadata=None):
    """Write {name: array} and {str: str} to `.safetensors` or `.npz`, whole or not at all."""
    path = _checks.path("path", path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise _core.ArgumentError(f"path: expected a .safetensors or .npz file, got {path}")
    if suffix == ".safetensors":
        return _core.write_safetensors(path, tensors, metadata)
    import json
    import zipfile

    import numpy
    from numpy.lib import format as npy

    from reidc._files import write_atomic

    arrays = {}
    for name, array in tensors.items():
        if not isinstance(name, str) or not isinstance(array, numpy.ndarray) \
                or array.dtype.kind not in "fbiu":
            raise _core.ArgumentTypeError(f"tensors: {name}: expected an array of floats, integers "
                                          "or bools under a str")
        if not name or "\0" in name or name == "__metadata__":
            raise _core.ArgumentError(f"tensors: {name!r} is not a name that a file can hold")
        arrays[name] = array
    if metadata:
        arrays["__metadata__"] = numpy.array(json.dumps(dict(metadata), sort_keys=True))
    with write_atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            info = zipfile.ZipInfo(name + ".npy")  # dated 1980: the same content, the same bytes
            with archive.open(info, "w", force_zip64=True) as entry:
                npy.write_array(entry, arrays[name], allow_pickle=False)
    return None


def resolve_pretrained(name_or_path):
    """The local file that `pretrained=` means: a path that exists, or a hub id.

    A hub id is `owner/name`, or `owner/name/file`, each with `@revision` if wanted; it needs the
    package huggingface_hub. FileNotFoundError: a path without a file. ImportError: no hub package.
    """
    text = _checks.path("pretrained", name_or_path)
    if os.path.isfile(text):
        return text
    known = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".tar")
    parts = text.split("@")[0].split("/")
    is_path = (os.path.isabs(text) or text.startswith((".", "~")) or os.path.exists(text)
               or not 2 <= len(parts) <= 8 or not all(parts)
               or (len(parts) == 2 and text.lower().endswith(known)))
    if is_path:
        raise _core.FileMissingError(
            f"pretrained: no file {text!r} (a hub id reads owner/name or owner/name/file)")
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError(
            f"pretrained: {text!r} is no file here; to fetch it from the hub install "
            "huggingface_hub (pip install 'reidc[hub]'), or download the file and give its path"
        ) from None
    name, _, revision = text.partition("@")
    owner, repository, *file = name.split("/")
    where = {"repo_id": f"{owner}/{repository}", "revision": revision or None}
    if file:
        return huggingface_hub.hf_hub_download(filename="/".join(file), **where)
    files = huggingface_hub.list_repo_files(**where)
    for wanted in ("model.safetensors", ".safetensors", "pytorch_model.bin", ".pth", ".npz"):
        for name in sorted(files):
            if name == wanted or (wanted[0] == "." and name.endswith(wanted)):
                return huggingface_hub.hf_hub_download(filename=name, **where)
    raise _core.FileMissingError(f"pretrained: {text} holds no weights that are read here")


def load_pretrained(m, name_or_path, *, prefixes=None, halve_bn=None):
    """Load a ResNet's weights of others into the backbone of `m`; a `Report` of every name.

    A file with heads under the names of HAMR's authors gives them to a HAMR as well; with
    order='F', act='leaky_relu', triplet_on='bn' that is their public model, output for output.

    prefixes: where in `m` a copy goes ("backbone", and the names of branches with their own
    stages). halve_bn: split a plain `bn1` between the IN and BN of an IBN block. None: as the
    constructor's `pretrained` does for this system. ValueError,
    nothing changed: an entry of the backbone (of the heads, where it has some) that the file lacks
    or has in another shape; a classifier of another number of classes is passed over.
    """
    path = resolve_pretrained(name_or_path)
    source, _ = read_weights(path)
    if prefixes is None:
        prefixes = m._pretrained_prefixes
    if halve_bn is None:
        halve_bn = m._pretrained_halve_bn
    target = {name: tuple(array.shape) for name, array in m.state_dict().items()}
    mapped, report = map_weights(source, target, prefixes=prefixes, halve_bn=halve_bn)
    report.source = path
    report.check()
    m.load_state_dict(mapped, strict=False)
    return report
