"""TIFF by tifffile: reading any, writing OME-TIFF, ImageJ hyperstacks or plain TIFF.

A stage position (`Image.translate`) is neither read nor written.
"""

from __future__ import annotations

import logging
import math
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import tifffile

from napari_pristine.errors import AxesError, FileError
from napari_pristine.files import imagej, ome, plain
from napari_pristine.files.dialect import Layout, Notes, Provenance
from napari_pristine.files.lazy import on_disk
from napari_pristine.files.units import PIXEL
from napari_pristine.image.image import Image, check_axes, guess_axes

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_BIG_SUFFIXES = (".btf", ".tf8")
_BIG = 3_900_000_000
"""Bytes beyond which the 32-bit offsets of classic TIFF may not reach."""
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


def read(path: Path, axes: str) -> Image:
    """The largest image in the file (others are thumbnails or lower resolutions)."""
    with _largest(path) as (tif, series):
        data = series.asarray()
        if data.shape != series.shape:
            raise _cut_off(path)
        found, notes, metadata = _described(tif, series)
    data = data.astype(data.dtype.newbyteorder("="), copy=False)  # torch knows the order of this machine only
    if not axes and "S" in found:  # samples that were stored as planes
        data, found = np.moveaxis(data, found.index("S"), -1), found.replace("S", "") + "S"
    return _image(path, data, axes or found, notes, metadata)


def open_lazily(path: Path, axes: str) -> Image | None:
    """The same, but its values stay on disk until they are asked for; none where all must be read at once."""
    with _largest(path) as (tif, series):
        found, notes, metadata = _described(tif, series)
        data = None if "S" in found[:-1] else on_disk(path, tif, series, lambda: _broken_files(path))
    return None if data is None else _image(path, data, axes or found, notes, metadata)


def write(part: Path, target: Path, image: Image, provenance: Provenance) -> None:
    """Write `image` to `part`, in the dialect that suits it and the name of `target`, uncompressed.

    Uncompressed, as restored data are quick to write and every program can open them without reading them all.
    """
    layout = _layout(target, image, provenance)
    tifffile.imwrite(
        part,
        np.asarray(image.data).transpose([image.axes.index(axis) for axis in layout.axes]),
        bigtiff=_is_big(target, image),
        ome=layout.dialect == "ome",
        imagej=layout.dialect == "imagej",
        photometric="rgb" if "S" in layout.axes else "minisblack",
        resolution=layout.resolution,
        software="napari-pristine",
        metadata=dict(layout.metadata),
    )


def _layout(target: Path, image: Image, provenance: Provenance) -> Layout:
    """The original's dialect if it was ImageJ's, else OME, else plain for what OME has no word for."""
    must_be_ome = target.stem.lower().endswith(".ome")
    was_imagej = image.metadata.get("format") == "imagej" and not _is_big(target, image)
    if was_imagej and imagej.can_hold(image) and not must_be_ome:
        return imagej.layout(image, provenance)
    if ome.can_hold(image):
        return ome.layout(image, provenance)
    if must_be_ome or not plain.can_hold(image):
        name = "OME-TIFF" if must_be_ome else "TIFF"
        advice = "; write a '.tif' file" if plain.can_hold(image) else ""
        raise FileError(f"'{target}': {name} cannot hold {image.dtype} values with the axes {image.axes}{advice}")
    return plain.layout(image, provenance)


def _is_big(target: Path, image: Image) -> bool:
    """Whether the file needs, or by its name is, a BigTIFF."""
    return target.suffix.lower() in _BIG_SUFFIXES or math.prod(image.shape) * image.dtype.itemsize > _BIG


def _image(path: Path, data: Any, axes: str, notes: Notes, metadata: dict[str, Any]) -> Image:
    try:
        check_axes(axes, data.shape)
    except AxesError as error:
        raise AxesError(f"'{path.name}': {error}") from None
    spacing = [notes.spacing.get(axis, (1.0, PIXEL)) for axis in axes]
    size = dict(zip(axes, data.shape, strict=True)).get("C", 1)
    return Image(
        data,
        axes,
        scale=tuple(distance for distance, _ in spacing),
        units=tuple(unit for _, unit in spacing),
        translate=tuple(notes.position.get(axis, 0.0) for axis in axes),
        name=path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem,
        channels=notes.channels if len(notes.channels) == size else (),
        metadata=metadata | dict(notes.metadata),
    )


@contextmanager
def _largest(path: Path) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries]]:
    """The file and the largest image in it, which is complete."""
    with _broken_files(path), _complaints() as complaints, tifffile.TiffFile(path) as tif:
        series = max(tif.series, key=lambda s: math.prod(s.shape))
        _check_complete(path, tif, series)
        yield tif, series
        if any(text in line for text in _CUT for line in complaints):
            raise _cut_off(path)


def _described(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[str, Notes, dict[str, Any]]:
    """Axes, what the file says of them, and what else is known of it."""
    kind, notes = _notes(tif, series)
    found = plain.stated_axes(tif, series) or _name_axes(series.axes, series.shape)
    return found, notes, {"format": kind} | ({"images": len(tif.series)} if len(tif.series) > 1 else {})


def _notes(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[str, Notes]:
    """The dialect of the file, and what it says in it."""
    if tif.is_ome:
        return "ome", ome.describe(tif, series)
    if tif.is_imagej:
        return "imagej", imagej.describe(tif, series)
    return "tiff", plain.describe(tif, series)


def _name_axes(axes: str, shape: tuple[int, ...]) -> str:
    """The letters of tifffile, with a guess for the axes that it could not name: its `I` and `Q`."""
    sizes = dict(zip(axes, shape, strict=True))
    if "C" not in axes and sizes.get("S", 3) not in (3, 4):  # not colours but channels
        axes = axes.replace("S", "C")
    unnamed = [n for axis, n in zip(axes, shape, strict=True) if axis in "IQ"]
    guesses = guess_axes((*unnamed, 9, 9))[:-2] + "CTZ"
    free = iter(dict.fromkeys(axis for axis in guesses if axis not in axes))
    return "".join(next(free) if axis in "IQ" else axis for axis in axes)


def _check_complete(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Raise a `FileError` where tifffile would fill up with zeros what is not there."""
    if tif.is_imagej and series.kind in ("uniform", "generic"):  # tifffile gave up on ImageJ's number of planes
        raise _cut_off(path)
    pages = [page for page in series.pages if page is not None]
    if len(pages) < len(series.pages):
        raise FileError(
            f"'{path}' has only {len(pages)} of its {len(series.pages)} planes; "
            "put the files it belongs with beside it, or save what there is as a new file"
        )
    for page in pages:
        ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
        end = page.dataoffsets[0] + page.nbytes if page.is_contiguous else max(ends, default=0)
        if end > page.parent.filehandle.size:
            raise _cut_off(path)


def _cut_off(path: Path) -> FileError:
    return FileError(f"'{path}' is incomplete: it ends before its last plane; copy it again from where it came")


@contextmanager
def _broken_files(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        advice = "it is damaged or no TIFF; copy it again, or open it in Fiji and save it anew"
        if "imagecodecs" in reason:
            advice = "pip install imagecodecs"
        raise FileError(f"'{path}' cannot be read as TIFF ({reason}); {advice}") from error


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread, which would be noise on the terminal."""
    collector = _Collector(logging.ERROR)
    logger = logging.getLogger("tifffile")
    logger.addHandler(collector)
    try:
        yield collector.lines
    finally:
        logger.removeHandler(collector)


class _Collector(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []
        self.thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.lines.append(record.getMessage())
