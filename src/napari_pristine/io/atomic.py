"""Files and folders that appear when they are complete, or not at all; and are on disk then, should the power fail."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_pristine.errors import FileError

ZARR = ".zarr"
"""Suffix of the only results that are folders."""
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""What file systems say that do not know of writing at once."""


@contextmanager
def appearing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a hidden name beside `path` to write a file or folder to, and rename it to `path` at the end.

    Whatever goes wrong, Ctrl-C included, what was written so far is removed.

    Raises:
        FileError: `path` exists and may not be overwritten, or cannot be written.
    """
    # not by tempfile, whose files only their owner may read
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        check_free(path, overwrite=overwrite)
        yield part
        put(part, path)
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be written: {error.strerror or error}; is the disk full, the folder write-protected "
            "or the file open in another program?"
        ) from error
    finally:
        with suppress(OSError):  # what was written is named, or its error is under way
            remove(part)


def put(part: Path, path: Path) -> None:
    """Rename a complete file or folder to its final name, in place of what is there.

    No system replaces a folder that is not empty in one go: the old one is renamed first, and deleted at the end. If
    all stops in between, it is there still, under a hidden name.
    """
    flush(files_in(part), names=part.is_dir())
    if not path.is_dir() and not (part.is_dir() and path.exists()):
        os.replace(part, path)
        flush_names(path.parent)
        return
    old = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.old")
    os.replace(path, old)
    try:
        os.replace(part, path)
    except BaseException:
        os.replace(old, path)
        raise
    flush_names(path.parent)
    with suppress(OSError):  # the new one is complete
        remove(old)


def flush(files: Iterable[Path], *, names: bool = True) -> None:
    """Have files on disk, and not in the memory of the system alone; those that are not there are left out.

    Args:
        files: The files.
        names: Whether their names are to last, too, as they are now.

    Raises:
        OSError: The disk cannot take them.
    """
    folders: set[Path] = set()
    for file in files:
        with suppress(FileNotFoundError):
            _sync(file, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            folders.add(file.parent)
    for folder in sorted(folders if names else ()):
        flush_names(folder)


def flush_names(folder: Path) -> None:
    """Have the names of what lies in a folder on disk; where that can be asked for, which it cannot on Windows."""
    with suppress(OSError):
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    number = os.open(path, flags)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(number)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in files_in(path))


def files_in(path: Path) -> Iterator[Path]:
    """The file itself, or all files in a folder and in those inside."""
    if not path.is_dir():
        yield path
    for here, _, names in os.walk(path):
        yield from (Path(here) / name for name in names)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise a `FileError` unless a file can be written there, as far as can be told without doing it."""
    if not path.parent.is_dir():
        raise FileError(f"cannot write '{path}': there is no folder '{path.parent}'; make it first")
    if path.is_dir() and not _is_zarr(path):
        raise FileError(f"cannot write '{path}': it is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise FileError(f"'{path}' exists already; choose another name or allow overwriting")
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"cannot write '{path}': you may not write to '{path.parent}'; choose another folder")


def _is_zarr(path: Path) -> bool:
    """Whether a folder is by name and content one that a result may replace: no other is ever deleted."""
    holds = any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
    return path.suffix.lower() == ZARR and (holds or not any(path.iterdir()))


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
