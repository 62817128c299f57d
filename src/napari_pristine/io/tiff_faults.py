"""What is wrong with a TIFF file: cut off, damaged, no TIFF at all, or claiming what it cannot hold."""

from __future__ import annotations

import logging
import math
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import ParseError

import tifffile

from napari_pristine.errors import FileError
from napari_pristine.io.tiff_pages import check_pages, cut_off

_BROKEN = (
    ArithmeticError, AssertionError, AttributeError, LookupError, ParseError, RuntimeError, TypeError, ValueError,
    struct.error, zlib.error,
)  # fmt: skip
"""What tifffile raises on broken files: it trusts what stands in them."""
_CUT = (
    "corrupted tag list of page", "invalid offset to page", "invalid page offset", "circular reference",
    "TiffTag 270 @",
)  # fmt: skip
"""What tifffile logs, but does not raise, where the list of pages or the description (tag 270) is cut off."""
_DENSEST = {1: 1, 5: 3000, 8: 1100, 32773: 64, 32946: 1100, 50000: 200_000, 34926: 200_000, 50013: 1100}
"""Bytes that one byte can become at most, by compression: none, LZW, deflate, PackBits, and zstd."""
_DENSEST_OF_OTHERS = 1_000_000
_PLANES = 10_000_000
"""More than any microscope makes, and as many as can be listed in a moment."""


def check_claims(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise a `FileError` if to list the planes of which the OME-XML tells would take all time and memory."""
    if not tif.is_ome:
        return
    others: set[str] = set()
    for element in ElementTree.fromstring(tif.ome_metadata or "<OME/>").iter():
        if element.tag.endswith("}Pixels"):
            planes = math.prod(int(element.get(f"Size{axis}", "1")) for axis in "CZT")
            if planes > _PLANES:
                raise FileError(f"'{path}' claims to have {planes:.3g} planes; it is damaged, copy it again")
        elif element.tag.endswith("}UUID"):
            others.add(element.get("FileName") or path.name)
    for name in sorted(others - {path.name}):
        if (path.parent / name).is_file():
            check_pages(path.parent / name)


def check_complete(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Raise a `FileError` where tifffile would fill up with zeros what is not there."""
    if tif.is_imagej and series.kind in ("uniform", "generic"):  # tifffile gave up on ImageJ's number of planes
        raise cut_off(path)
    pages = [page for page in series.pages if page is not None]
    if len(pages) < len(series.pages):
        raise FileError(
            f"'{path}' has only {len(pages)} of its {len(series.pages)} planes; "
            "put the files it belongs with beside it, or save what there is as a new file"
        )
    if series.dataoffset is not None and series.dataoffset + series.nbytes > tif.filehandle.size:
        raise cut_off(path)
    if series.dataoffset is None and series.nbytes > sum(page.nbytes for page in pages):
        raise cut_off(path)
    for page in pages:
        _check_page(path, page)


def _check_page(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Raise a `FileError` if the data of a page are not in the file, or too few for its shape."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    end = page.dataoffsets[0] + page.nbytes if page.is_contiguous else max(ends, default=0)
    if end > page.parent.filehandle.size:
        raise cut_off(path)
    key = page if isinstance(page, tifffile.TiffPage) else page.keyframe
    if key is None or (not page.is_contiguous and _listed(page) < math.prod(key.chunked)):
        raise cut_off(path)
    pieces, held = math.prod(key.chunked), [count for count in page.databytecounts if count]
    empty = pieces - len(held) if len(page.databytecounts) == pieces else 0  # which others leave out on purpose
    claimed = page.nbytes * (1 - empty / max(pieces, 1))
    if claimed > sum(held) * _DENSEST.get(key.compression, _DENSEST_OF_OTHERS) + (1 << 20):
        raise FileError(
            f"'{path}' claims {claimed / 1e9:.4g} GB of values in a page (shape {key.shape}) but holds "
            f"{sum(held)} bytes of it, which cannot be; it is damaged, copy it again"
        )


def _listed(page: tifffile.TiffPage | tifffile.TiffFrame) -> int:
    """How many pieces of a page have a place and a size; tifffile takes those that have none for zeros."""
    return min(len(page.dataoffsets), len(page.databytecounts))


def guard(path: Path) -> Callable[[], AbstractContextManager[None]]:
    """For later reading: files that are cut off, broken, or no longer what they were when this was called."""
    before = _stamp(path)

    @contextmanager
    def reading() -> Iterator[None]:
        with complaints(path), broken_files(path):
            try:
                yield
            finally:
                now = _stamp(path)
                if now != before:
                    what = "has been replaced or changed" if now else "is gone"
                    raise FileError(f"'{path}' {what} since it was opened; leave it as it is until all is done")

    return reading


@contextmanager
def broken_files(path: Path) -> Iterator[None]:
    """Say what is wrong with a file that tifffile cannot read."""
    try:
        yield
    except MemoryError as error:
        raise FileError(f"'{path}' does not fit into memory; restore it in parts (fewer frames or a crop)") from error
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}; is its disk or share there?") from error
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        advice = "it is damaged or no TIFF; copy it again, or open it in Fiji and save it anew"
        if "imagecodecs" in reason:
            advice = "pip install imagecodecs"
        raise FileError(f"'{path}' cannot be read as TIFF ({reason}); {advice}") from error


@contextmanager
def complaints(path: Path) -> Iterator[None]:
    """Keep what tifffile logs in this thread from the terminal; raise if it says that the file was cut off."""
    collector = _Collector(logging.ERROR)
    logger = logging.getLogger("tifffile")
    logger.addHandler(collector)
    try:
        yield
    finally:
        logger.removeHandler(collector)
    if any(text in line for text in _CUT for line in collector.lines):
        raise cut_off(path)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes if a file is written to or replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Collector(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []
        self.thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.lines.append(record.getMessage())
