"""Checks for TIFF files that are cut off, damaged or hostile; tifffile trusts what a file says.

It follows a circular list of pages for ever, fills in zeros for data that are not in the file, and allocates whatever
shape a file claims.
"""

from __future__ import annotations

import logging
import math
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple

import tifffile

from napari_pristine.errors import FileError
from napari_pristine.io.metadata import number
from napari_pristine.io.planes import check_plane_count
from napari_pristine.text import counted

_LOGGED_WHEN_CUT_OFF = (
    "corrupted tag list of page", "invalid offset to page", "invalid page offset", "circular reference",
    "TiffTag 270 @",
)  # fmt: skip
"""Logged, but not raised, by tifffile where the list of pages or the description (tag 270) is cut off."""
_MAX_EXPANSION = {1: 1, 5: 3000, 8: 1100, 32773: 64, 32946: 1100, 50000: 200_000, 34926: 200_000, 50013: 1100}
"""Bytes that one byte can decompress to, by TIFF's number of the compression: none, LZW, deflate, PackBits, zstd."""
_MAX_EXPANSION_OF_OTHERS = 1_000_000
_SHOWN = 3
"""File names in a message."""
_MAX_TAGS = 4096
"""tifffile takes a page with more tags for the end of the list."""
_DESCRIPTION, _SUB_IFDS = 270, 330
"""Tags of a page with a text, and with a list of its coarser levels, which are pages, too."""
_OFFSET_TYPES = {4: "I", 13: "I", 16: "Q", 18: "Q"}
"""TIFF's types of numbers that can be offsets in the file, as `struct` codes."""
_CLASSIC, _BIG = ("H", "HHI4s", "I"), ("Q", "HHQ8s", "Q")
_LAYOUTS = {b"II*\0": ("<", *_CLASSIC), b"MM\0*": (">", *_CLASSIC), b"II+\0": ("<", *_BIG), b"MM\0+": (">", *_BIG)}
"""`struct` codes of byte order, number of tags, a tag, and an offset, by the first bytes of the file."""


class PageList(NamedTuple):
    """Number of the pages of a TIFF file, 0 if it is none, and the description of the first of them."""

    pages: int = 0
    description: str = ""


def check_page_list(path: Path) -> PageList:
    """Raise a `FileError` if the list of pages, or of coarser levels, is circular or leaves the file.

    Must be called before tifffile opens the file, and takes one short read per page.
    """
    with path.open("rb") as file:
        layout = _LAYOUTS.get(file.read(4))
        if layout is None:
            return PageList()
        ifds = _Ifds(file, *layout)
        first = page = ifds.first()
        pages: set[int] = set()
        levels: set[int] = set()
        while page:
            found = None if page in pages else ifds.read(page)
            if found is None:
                raise circular(path) if page in pages else cut_off(path)
            pages.add(page)
            page, pending = found
            while pending:
                level = pending.pop()
                if level in levels:
                    raise circular(path)
                levels.add(level)
                pending += (ifds.read(level) or (0, []))[1]  # tifffile leaves out levels that are not in the file
        return PageList(len(pages), ifds.description(first) if pages else "")


class _Ifds:
    """The image file directories (IFDs) of a TIFF file: one per page or level."""

    def __init__(self, file: IO[bytes], byte_order: str, count: str, tag: str, offset: str) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self._order, self._count, self._tag, self._offset = byte_order, count, tag, offset

    def first(self) -> int:
        """Offset of the first page; 0 if there is none."""
        return (self._numbers(struct.calcsize("=" + self._offset), self._offset, 1) or (0,))[0]

    def read(self, position: int) -> tuple[int, list[int]] | None:
        """Offset of the next page (0 at the end) and offsets of the levels of this one; None if there is no page."""
        (count,) = self._numbers(position, self._count, 1) or (_MAX_TAGS + 1,)
        start, size = position + struct.calcsize("=" + self._count), count * struct.calcsize("=" + self._tag)
        following = self._numbers(start + size, self._offset, 1)
        if count > _MAX_TAGS or not following:
            return None
        self._file.seek(start)
        tags = self._file.read(size)
        levels: list[int] = []
        if struct.pack(self._order + "H", _SUB_IFDS) in tags:  # few pages have any
            for code, kind, length, value in struct.iter_unpack(self._order + self._tag, tags):
                if code != _SUB_IFDS or kind not in _OFFSET_TYPES:
                    continue
                number = _OFFSET_TYPES[kind]
                if length * struct.calcsize("=" + number) <= len(value):
                    levels += struct.unpack_from(f"{self._order}{length}{number}", value)
                else:  # too many to stand in the tag, which says where they are
                    (elsewhere,) = struct.unpack(self._order + self._offset, value)
                    levels += self._numbers(elsewhere, number, length)
        return following[0], [level for level in levels if level]

    def description(self, position: int) -> str:
        """The (first) description of a page; empty if it has none, or it is not in the file."""
        (count,) = self._numbers(position, self._count, 1)
        self._file.seek(position + struct.calcsize("=" + self._count))
        tags = self._file.read(count * struct.calcsize("=" + self._tag))
        for code, _, length, value in struct.iter_unpack(self._order + self._tag, tags):
            if code == _DESCRIPTION:
                if length > len(value):
                    (elsewhere,) = struct.unpack(self._order + self._offset, value)
                    (value,) = self._numbers(elsewhere, "s", length) or (b"",)
                text = bytes(value.partition(b"\0")[0])
                try:
                    return text.decode()
                except UnicodeDecodeError:  # of programs from before Unicode
                    return text.decode("cp1252", "replace")
        return ""

    def _numbers(self, position: int, code: str, count: int) -> tuple[int, ...]:
        """Numbers at a position; none if the file ends before the last of them."""
        size = count * struct.calcsize("=" + code)
        if position + size > self._size:
            return ()
        self._file.seek(position)
        data = self._file.read(size)
        return struct.unpack(f"{self._order}{count}{code}", data) if len(data) == size else ()


def check_complete(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, missing: Sequence[str] = ()
) -> None:
    """Raise a `FileError` if data are missing (tifffile would read zeros), or the file claims more than it can hold.

    Args:
        path: The file.
        tif: The same, open.
        series: The image to read from it.
        missing: Names of other files with planes of the image that are not there.
    """
    if tif.is_imagej and series.kind in ("uniform", "generic"):  # tifffile found fewer planes than ImageJ's metadata
        raise cut_off(path)
    if series.dataoffset is not None:  # the values lie in one piece; there may be a million pages, which take time
        if series.dataoffset + series.nbytes > tif.filehandle.size:
            raise cut_off(path)
        return
    pages = [page for page in series.pages if page is not None]
    if len(pages) < len(series.pages):
        others = f"the missing {name_files(missing)}" if missing else "its other files"
        raise FileError(
            f"'{path}' has only {len(pages)} of its {counted(len(series.pages), 'plane')}, with gaps between them; "
            f"put {others} into the same folder, or save the existing planes as a new file"
        )
    if series.nbytes > sum(page.nbytes for page in pages):
        raise cut_off(path)
    for page in pages:
        _check_page(path, page)


def _check_page(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Raise a `FileError` if the data of a page are not in the file, or too few for its shape."""
    offsets, counts = page.dataoffsets, page.databytecounts  # of its strips or tiles
    if page.is_contiguous:
        end = offsets[0] + page.nbytes
    else:
        end = max((offset + count for offset, count in zip(offsets, counts, strict=False)), default=0)
    keyframe = page if isinstance(page, tifffile.TiffPage) else page.keyframe
    if end > page.parent.filehandle.size or keyframe is None:
        raise cut_off(path)
    expected = math.prod(keyframe.chunked)
    if not page.is_contiguous and min(len(offsets), len(counts)) < expected:  # tifffile takes the others for zeros
        raise cut_off(path)
    stored = sum(counts)
    # some programs store empty tiles with a length of 0 on purpose
    filled = sum(count > 0 for count in counts) / expected if len(counts) == expected > 0 else 1.0
    claimed = page.nbytes * filled
    if claimed > stored * _MAX_EXPANSION.get(keyframe.compression, _MAX_EXPANSION_OF_OTHERS) + (1 << 20):
        raise FileError(
            f"'{path}' claims {claimed / 1e9:.4g} GB of values in a page (shape {keyframe.shape}) but holds "
            f"{stored} bytes of it, which is impossible; it is damaged, copy it again"
        )


def check_micro_manager(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise a `FileError` if metadata of Micro-Manager claim too many planes, or name files in other folders.

    Must be called before tifffile lists the images of the file.
    """
    stated: dict[str, Any] = {}
    if tif.is_micromanager:
        with suppress(ValueError):  # they are of another version
            stated = tifffile.read_micromanager_metadata(tif.filehandle, {"Summary", "IndexMap"})
    index = path.parent / "NDTiff.index"
    sizes: list[float] = []
    if stated.get("MajorVersion", 0) >= 2 and index.is_file():
        places: dict[str, set[Any]] = {}
        for place, name, *_ in tifffile.read_ndtiff_index(index):
            if not is_plain(name):
                raise _leads_elsewhere(path, name)
            for axis, at in place.items():
                places.setdefault(axis, set()).add(at)
        for found in places.values():
            is_named = all(isinstance(at, str) for at in found)
            sizes.append(len(found) if is_named else max(map(int, found)) - min(map(int, found)) + 1)
    elif "IndexMap" in stated:
        keys = ("Channels", "Slices", "Frames", "Positions")
        ends = stated["IndexMap"][:, :4].max(0, initial=0) + 1
        sizes = [max(number(stated.get("Summary", {}).get(key)), end) for key, end in zip(keys, ends, strict=True)]
    check_plane_count(path, math.prod(sizes))


def check_folder(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Raise a `FileError` if pages are in a file in another folder."""
    handles = {page.parent.filehandle for page in series if page is not None}
    for handle in handles:
        if os.path.realpath(handle.dirname) != os.path.dirname(os.path.realpath(path)):
            raise _leads_elsewhere(path, handle.path)


def is_plain(name: str) -> bool:
    """True if a name has no folder: metadata of a file from elsewhere must not lead to other places."""
    return bool(name) and name == PurePosixPath(name).name == PureWindowsPath(name).name and name != ".."


def _leads_elsewhere(path: Path, name: str) -> FileError:
    return FileError(
        f"'{path}' names '{name}', a file in another folder, which is not read; put all files of the set into one "
        "folder, or save the image as a new file"
    )


def name_files(names: Sequence[str]) -> str:
    """Names of files for a message, not more than a few."""
    listed = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{'file' if len(names) == 1 else 'files'} {listed}{more}"


def cut_off(path: Path) -> FileError:
    """The error for a file that ends before its last plane."""
    return FileError(f"'{path}' is incomplete: it ends before its last plane; copy it again from its source")


def circular(path: Path) -> FileError:
    """The error for a circular list of pages."""
    return FileError(f"'{path}' is damaged: its list of pages is circular; copy it again from its source")


@contextmanager
def check_log(path: Path) -> Iterator[None]:
    """Raise a `FileError` if tifffile logs, but does not raise, that the file is cut off; keep its log to ourselves."""
    log = _ThreadLog()
    logger = logging.getLogger("tifffile")
    logger.addFilter(log)
    try:
        yield
    finally:
        logger.removeFilter(log)
    if any(text in message for text in _LOGGED_WHEN_CUT_OFF for message in log.messages):
        raise cut_off(path)


class _ThreadLog(logging.Filter):
    """Collects what this thread logs, and so keeps it from the terminal: our own notes say it to the user."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        is_other = record.thread != self._thread
        if not is_other:
            self.messages.append(record.getMessage())
        return is_other
