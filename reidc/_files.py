"""Files that are either wholly the new version or still the old one."""
import os
import tempfile
from contextlib import contextmanager

from reidc import _checks, _core


def make_folder(path):
    """The folder and those above it, where they are not there yet. OSError: they cannot be."""
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise _core.FileError(f"{path}: expected a folder, a file has this name") from None
    except OSError as error:
        raise _core.FileError(f"{path}: cannot create this folder: {error.strerror}") from None


@contextmanager
def write_atomic(path):
    """Open a binary file that becomes `path` when the block ends without an error.

    The bytes go to a temporary file in the same folder, are synced to the disk and renamed. After
    an error (a full disk, an exception in the block) `path` is what it was before and the temporary
    file is gone.
    """
    path = os.path.abspath(_checks.path("path", path))
    if os.path.isdir(path):
        raise _core.FileError(f"{path}: cannot create: a folder has this name")
    folder, name = os.path.split(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    except FileNotFoundError:
        raise _core.FileMissingError(f"{path}: cannot create: no folder {folder}") from None
    except OSError as error:
        raise _core.FileError(f"{path}: cannot create: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp's 0600 is meant for secrets
        os.replace(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems cannot; the rename itself is done
    finally:
        os.close(handle)
