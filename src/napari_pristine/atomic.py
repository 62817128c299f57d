"""Files and folders that appear when they are complete, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_pristine.errors import FileError

ZARR = ".zarr"
"""Suffix of the only results that are folders."""


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
        _remove(part)


def put(part: Path, path: Path) -> None:
    """Rename a complete file or folder to its final name, in place of what is there.

    No system replaces a folder that is not empty in one go: the old one is renamed first, and deleted at the end. If
    all stops in between, it is there still, under a hidden name.
    """
    if not path.is_dir() and not (part.is_dir() and path.exists()):
        os.replace(part, path)
        return
    old = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.old")
    os.replace(path, old)
    try:
        os.replace(part, path)
    except BaseException:
        os.replace(old, path)
        raise
    _remove(old)


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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
