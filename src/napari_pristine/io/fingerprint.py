"""Identity of files: checksums, cheap fingerprints that show a change, and which files belong together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pristine.errors import FileError
from napari_pristine.threads import CheckCancelled

if TYPE_CHECKING:
    from napari_pristine.image.image import Image

_READ_BYTES = 4 * 2**20

Fingerprint = tuple[tuple[str, int, int], ...]
"""Path, size in bytes and time of change of a file; of a folder its path, number of files, and a digest of theirs."""


class FileSets:
    """Sets of files that are one image; each is represented by the first of its files that was opened."""

    def __init__(self) -> None:
        self._first: dict[str, Path] = {}

    def add(self, source: Path, image: Image) -> None:
        """Note which files belong to the image of a file."""
        for name in image.metadata.get("members", ()):
            self._first.setdefault(path_key(source.parent / name), source)

    def first_of(self, path: Path) -> Path | None:
        """The file whose image includes this other one; None if there is none."""
        first = self._first.get(path_key(path), path) if self._first else path
        return None if first == path else first


def path_key(path: Path) -> str:
    """A key that is the same for all paths of a file; circular links are allowed."""
    return os.path.normcase(os.path.realpath(path))


def checksum(path: Path, check_cancelled: CheckCancelled = lambda: None) -> str:
    """Compute the SHA-256 of a file; for a folder, such as OME-Zarr, of the names and contents of all files in it.

    Args:
        path: The file or folder.
        check_cancelled: Called for every 4 MiB that are read; may raise to stop.

    Raises:
        FileError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in _sorted_files(path):
            if file != path:
                name = f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n"
                digest.update(name.encode(errors="surrogateescape"))
            with file.open("rb") as stream:
                while chunk := stream.read(_READ_BYTES):
                    check_cancelled()
                    digest.update(chunk)
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}") from error
    return f"sha256:{digest.hexdigest()}"


def checksum_of_set(paths: Sequence[Path], check_cancelled: CheckCancelled = lambda: None) -> str:
    """Compute the SHA-256 of a file, or of the names and checksums of several.

    Args:
        paths: The files or folders.
        check_cancelled: See `checksum`.

    Raises:
        FileError: One of them cannot be read.
    """
    if len(paths) == 1:
        return checksum(paths[0], check_cancelled)
    lines = [f"{path.name} {checksum(path, check_cancelled)}\n" for path in paths]
    return f"sha256:{hashlib.sha256(''.join(lines).encode(errors='surrogateescape')).hexdigest()}"


def fingerprint(path: Path) -> Fingerprint:
    """Collect sizes and times of change of a file or folder, without reading it.

    Raises:
        FileError: It does not exist any more.
    """
    try:
        stats = [(file.as_posix(), file.stat()) for file in _sorted_files(path)]
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}") from error
    entries = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    if not path.is_dir():
        return entries
    # one entry for a folder: it may hold a million files, and the fingerprint is sent along with each part of the work
    digest = hashlib.blake2b(repr(entries).encode(errors="surrogateescape"), digest_size=7).digest()
    return ((path.as_posix(), len(entries), int.from_bytes(digest, "big")),)


def _sorted_files(path: Path) -> Iterator[Path]:
    """The file itself, or all files in a folder by name; an unreadable folder raises an `OSError`."""

    def fail(error: OSError) -> None:
        raise error

    if not path.is_dir():
        yield path
        return
    for folder, subfolders, files in os.walk(path, onerror=fail):
        subfolders.sort()
        yield from (Path(folder) / name for name in sorted(files))
