"""Write files and folders atomically: complete and on disk, or not there at all, even after a power cut."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from napari_pristine.errors import FileError
from napari_pristine.text import to_json

ZARR_SUFFIX = ".zarr"
"""Suffix of the only results that are folders."""
ZARR_METADATA = ("zarr.json", ".zarray", ".zgroup")
"""Files by one of which a folder is recognised as a Zarr array or group."""
_FSYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def atomic_write(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write a file or folder to; rename it to `path` at the end.

    After any error, Ctrl-C included, the temporary file is removed and `path` is as it was.

    Raises:
        FileError: `path` exists and `overwrite` is not set, or it cannot be written.
    """
    # not by tempfile: only their owner could read the files
    temporary = _hidden_sibling(path, "part")
    try:
        check_writable(path, overwrite=overwrite)
        yield temporary
        replace(temporary, path)
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be written: {error.strerror or error}; is the disk full, the folder write-protected "
            "or the file open in another program?"
        ) from error
    finally:
        with suppress(OSError):  # an error here must not hide the one that is being raised
            remove(temporary)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write a value as JSON in place of what is at `path`.

    An interrupted call leaves `<name>.part` behind, which the next one overwrites. Only one process may write a path
    at a time.

    Args:
        path: The file.
        value: Anything that `napari_pristine.text.to_json` takes.
        durable: Wait until the file is on disk. Its name is not waited for: see `flush_directory`.

    Raises:
        OSError: The file cannot be written.
    """
    temporary = path.with_suffix(".part")
    temporary.write_text(to_json(value, indent=1), encoding="utf-8")
    if durable:
        flush_to_disk([temporary], names=False)
    os.replace(temporary, path)


def replace(temporary: Path, path: Path) -> None:
    """Rename a complete file or folder to its final name, in place of what is there, and wait until it is on disk.

    No system replaces a folder that is not empty in one step: the old folder is renamed first and removed last. If
    the process ends in between, the old folder still exists under a hidden name.

    Raises:
        OSError: The disk is full, or something cannot be renamed.
    """
    flush_to_disk(files_in(temporary), names=temporary.is_dir())
    if not path.is_dir() and not (temporary.is_dir() and path.exists()):
        os.replace(temporary, path)
        flush_directory(path.parent)
        return
    old = _hidden_sibling(path, "old")
    os.replace(path, old)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(old, path)
        raise
    flush_directory(path.parent)
    with suppress(OSError):  # the new one is complete
        remove(old)


def flush_to_disk(files: Iterable[Path], *, names: bool = True) -> None:
    """Wait until files are on disk and not only in the system's memory; files that do not exist are skipped.

    Args:
        files: The files.
        names: Also wait for the entries in their folders, so that the names last, too.

    Raises:
        OSError: The disk cannot take them.
    """
    folders: set[Path] = set()
    for file in files:
        with suppress(FileNotFoundError):
            _fsync(file, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            folders.add(file.parent)
    for folder in sorted(folders if names else ()):
        flush_directory(folder)


def flush_directory(folder: Path) -> None:
    """Wait until the names in a folder are on disk, where the system can do that (Windows cannot)."""
    with suppress(OSError):
        _fsync(folder, os.O_RDONLY)


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in files_in(path))


def files_in(path: Path) -> Iterator[Path]:
    """The file itself, or all files in a folder and its subfolders."""
    if not path.is_dir():
        yield path
    for folder, _, names in os.walk(path):
        yield from (Path(folder) / name for name in names)


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Raise a `FileError` unless a file can be written to `path`, as far as can be known without writing it."""
    if not path.parent.is_dir():
        raise FileError(f"cannot write '{path}': there is no folder '{path.parent}'; make it first")
    if path.is_dir() and not _is_zarr_or_empty(path):
        raise FileError(f"cannot write '{path}': it is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise FileError(
            f"'{path}' already exists; give another name, or overwrite=True (--overwrite in the shell) to replace it"
        )
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"cannot write '{path}': you may not write to '{path.parent}'; choose another folder")


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_zarr_node(folder: Path) -> bool:
    """True if a folder is a Zarr group or array, whatever its name."""
    # unlike `Path.is_file`, also without the permission to look; of files, a single question
    return os.path.isdir(folder) and any(os.path.isfile(folder / name) for name in ZARR_METADATA)


def _is_zarr_or_empty(folder: Path) -> bool:
    """True for a folder that a result may replace, by name and content; no other folder is ever deleted."""
    return folder.suffix.lower() == ZARR_SUFFIX and (is_zarr_node(folder) or not any(folder.iterdir()))


def _hidden_sibling(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.{suffix}")


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FSYNC_UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
