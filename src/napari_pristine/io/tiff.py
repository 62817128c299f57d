"""Reading of TIFF: OME-TIFF, ImageJ hyperstacks, and any other that tifffile knows."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from napari_pristine.errors import AxesError
from napari_pristine.image.image import Image, check_axes, guess_axes
from napari_pristine.io import imagej, ome
from napari_pristine.io.lazy import LazyArray
from napari_pristine.io.metadata import (
    PROVENANCE,
    FileMetadata,
    check_series,
    make_image,
    parse_json,
    samples_last,
    unit_name,
)
from napari_pristine.io.tiff_checks import check_complete, check_log, check_ome_claims, check_page_list, cut_off
from napari_pristine.resources import check_fits

_LARGE_PAGE = 1 << 26
"""Bytes of a page beyond which it is read strip by strip; below, whole pages are faster."""

_SMALL_FILE = 1 << 18
"""Bytes up to which values are read as a whole; that is quicker than to map them."""


def read(path: Path, axes: str, series: int | None = None) -> Image:
    """Read the largest image of a file; smaller ones are thumbnails or lower resolutions.

    Args:
        path: The file.
        axes: One letter per dimension, in place of what the file states.
        series: Number of the image, from 0.

    Raises:
        FileError: The file cannot be read.
        AxesError: The axes do not fit the image.
    """
    with _open_image(path, series) as (tif, image):
        check_fits(path, image.nbytes)
        data = image.asarray()
        if data.shape != image.shape:
            raise cut_off(path)
        file_axes, stated, extra = _read_metadata(tif, image)
    data = data.astype(data.dtype.newbyteorder("="), copy=False)  # torch takes the byte order of this machine only
    image_axes = axes or samples_last(file_axes)
    if not axes:
        data = data.transpose([file_axes.index(axis) for axis in image_axes])
    return make_image(path, data, image_axes, stated, extra)


def open_lazily(path: Path, axes: str, series: int | None = None) -> Image | None:
    """Open the same image without reading its values; None if it can only be read as a whole."""
    with _open_image(path, series) as (tif, image):
        file_axes, stated, extra = _read_metadata(tif, image)
        image_axes = axes or samples_last(file_axes)
        order = () if axes else [file_axes.index(axis) for axis in image_axes]
        data = TiffArray(path, tif, image, order) if _has_whole_pages(image) else None
    return None if data is None else make_image(path, data, image_axes, stated, extra)


class TiffArray(LazyArray):
    """The values of a TIFF series, read by tifffile's Zarr store: by the tile, by the page, or by the strip.

    Values that lie in the file uncompressed and in one piece are read through a memory map instead: the store would
    read whole pages, which may be larger than the memory.

    Args:
        path: The file.
        tif: The same, open; it may be closed afterwards.
        series: One of its series, made of whole pages.
        order: See `LazyArray`.
    """

    format_name = "TIFF"

    def __init__(
        self, path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, order: Sequence[int] = ()
    ) -> None:
        super().__init__(path, series.shape, series.dtype, order, watched=path)
        self._lock = threading.Lock()
        self._store: Any = None
        if series.dataoffset is not None and series.transform is None:
            dtype = np.dtype(tif.byteorder + series.dtype.char)
            self._stored: Any = _MemoryMap(path, dtype, series.dataoffset, series.shape)
            return
        page = series.keyframe
        by_chunk = page.is_tiled or (page.nbytes > _LARGE_PAGE and len(page.dataoffsets) > 1)
        chunk = page.chunks if by_chunk else page.shape
        check_fits(path, math.prod(chunk) * self.dtype.itemsize)
        self._store = series.aszarr(level=0, chunkmode=0 if by_chunk else 2)
        self._stored = zarr.open_array(_KeepLastChunk(self._store), mode="r", zarr_format=2)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._lock, check_log(self._path):
            try:
                yield self._stored
            finally:
                if self._store is not None:
                    self._store.close()  # closes the files, which the next read opens again


class _MemoryMap:
    """A part of a file as an array; mapped again for each read, as an open map counts as an open file."""

    def __init__(self, path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...]) -> None:
        self._path, self._dtype, self._offset, self._shape = path, dtype, offset, shape

    def __getitem__(self, index: Any) -> NDArray[Any]:
        count = math.prod(self._shape)
        if count * self._dtype.itemsize <= _SMALL_FILE:
            values = np.fromfile(self._path, self._dtype, count, offset=self._offset)
            return np.array(values.reshape(self._shape)[index])
        return np.array(np.memmap(self._path, self._dtype, "r", self._offset, self._shape)[index])


class _KeepLastChunk(WrapperStore[Any]):
    """Keeps the chunk that was decoded last, as the next part of a large page is often read next.

    One chunk is kept for all files: thousands of them may be open.
    """

    _last: ClassVar[tuple[weakref.ref[Any], str, Buffer | None] | None] = None

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        last = _KeepLastChunk._last
        if last is not None and last[0]() is self and last[1] == key:
            return last[2]
        _KeepLastChunk._last = last = None  # free the memory first
        value: Buffer | None = await self._store.get(key, prototype, byte_range)
        _KeepLastChunk._last = weakref.ref(self, _KeepLastChunk._forget), key, value
        return value

    @staticmethod
    def _forget(reference: weakref.ref[Any]) -> None:
        if _KeepLastChunk._last is not None and _KeepLastChunk._last[0] is reference:
            _KeepLastChunk._last = None


@contextmanager
def _open_image(path: Path, number: int | None) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries]]:
    """Open a file and check one of its images, by default the largest."""
    with check_log(path):
        check_page_list(path)
        with tifffile.TiffFile(path) as tif:
            check_ome_claims(path, tif)
            check_series(path, number, len(tif.series))
            series = max(tif.series, key=lambda s: math.prod(s.shape)) if number is None else tif.series[number]
            check_complete(path, tif, series)
            yield tif, series


def _has_whole_pages(series: tifffile.TiffPageSeries) -> bool:
    """True if the last axes of a series are those of its pages, as tifffile's Zarr store needs them."""
    if series.dataoffset is not None and series.transform is None:
        return True
    page = series.keyframe.shape
    pages = math.prod(series.shape) / math.prod(page)
    return series.shape[len(series.shape) - len(page) :] == page and pages == len(series.pages)


def _read_metadata(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> tuple[str, FileMetadata, Mapping[str, Any]]:
    """Axes, stated metadata, and more for `Image.metadata`."""
    description = parse_json(tif.pages.first.shaped_description)
    axes = _stated_axes(description, series.shape)
    if tif.is_ome:
        kind, stated = "ome", ome.read_metadata(tif, series)
    elif tif.is_imagej:
        kind, stated = "imagej", imagej.read_metadata(tif, series)
    else:
        kind, stated = "tiff", _from_json(description, axes)
    several = {"images": len(tif.series)} if len(tif.series) > 1 else {}
    return axes or _name_axes(series.axes, series.shape), stated, {"format": kind, **several}


def _stated_axes(description: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    """Axes in the JSON description of a plain TIFF; empty if it has none that fit."""
    axes = str(description.get("axes", "")).upper()
    try:
        check_axes(axes, shape)
    except AxesError:
        return ""
    return axes


def _from_json(description: Mapping[str, Any], axes: str) -> FileMetadata:
    """Metadata that we wrote into the JSON description of a plain TIFF.

    Those of other programs are not used: a resolution of 72 per inch is not a pixel size.
    """
    scale, units = description.get("scale", ()), description.get("units", ())
    if not len(axes) == len(scale) == len(units):
        return FileMetadata()
    spacing = {axis: (float(d), unit_name(str(unit))) for axis, d, unit in zip(axes, scale, units, strict=True)}
    metadata = {PROVENANCE: description[PROVENANCE]} if PROVENANCE in description else {}
    return FileMetadata(spacing, tuple(str(name) for name in description.get("channels", ())), metadata)


def _name_axes(axes: str, shape: tuple[int, ...]) -> str:
    """Axes of tifffile, with a guess for those that it could not name, its `I` and `Q`."""
    sizes = dict(zip(axes, shape, strict=True))
    if "C" not in axes and sizes.get("S", 3) not in (3, 4):  # no colours but channels
        axes = axes.replace("S", "C")
    unnamed = [n for axis, n in zip(axes, shape, strict=True) if axis in "IQ"]
    guesses = guess_axes((*unnamed, 9, 9))[:-2] + "CTZ"
    free = iter(dict.fromkeys(axis for axis in guesses if axis not in axes))
    return "".join(next(free) if axis in "IQ" else axis for axis in axes)
