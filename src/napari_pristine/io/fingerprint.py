"""Checksums of files, and signs that a file has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from napari_pristine.errors import FileError
from napari_pristine.threads import CheckCancelled

_PIECE = 4 * 2**20
"""Bytes that are read at once."""

Fingerprint = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of files; of a folder its name, the number of files in it, and a digest of theirs."""


def checksum(path: Path, check_cancelled: CheckCancelled = lambda: None) -> str:
    """SHA-256 of a file; of a folder, such as OME-Zarr, that of the names and contents of all files in it.

    Args:
        path: The file or folder.
        check_cancelled: Called at each piece that is read; what it raises ends this.

    Raises:
        FileError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in _files(path):
            if file != path:
                name = f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n"
                digest.update(name.encode(errors="surrogateescape"))
            with file.open("rb") as stream:
                while piece := stream.read(_PIECE):
                    check_cancelled()
                    digest.update(piece)
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}") from error
    return f"sha256:{digest.hexdigest()}"


def fingerprint(path: Path) -> Fingerprint:
    """What changes when an input is written to or replaced, without reading it.

    Raises:
        FileError: It is no longer there.
    """
    try:
        stats = [(file.as_posix(), file.stat()) for file in _files(path)]
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}") from error
    entries = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    if not path.is_dir():
        return entries
    # of a folder one for all: it may hold a million files, and goes with each part of the work
    digest = hashlib.blake2b(repr(entries).encode(errors="surrogateescape"), digest_size=7).digest()
    return ((path.as_posix(), len(entries), int.from_bytes(digest, "big")),)


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or all files in a folder by name."""
    if not path.is_dir():
        yield path
        return
    for here, folders, files in os.walk(path, onerror=_refuse):
        folders.sort()
        yield from (Path(here) / name for name in sorted(files))


def _refuse(error: OSError) -> None:
    raise error
