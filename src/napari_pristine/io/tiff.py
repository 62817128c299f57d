"""Reading of TIFF: OME-TIFF, ImageJ hyperstacks, and any other that tifffile knows."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from napari_pristine.errors import AxesError, FileError
from napari_pristine.image.image import Image, check_axes, guess_axes
from napari_pristine.io import imagej, ome
from napari_pristine.io.lazy import LazyArray
from napari_pristine.io.metadata import (
    AXES_GUESSED,
    COLOUR_TABLE,
    PROVENANCE,
    WHITE_IS_ZERO,
    FileMetadata,
    check_series,
    make_image,
    parse_json,
    samples_last,
    unit_name,
)
from napari_pristine.io.ome_xml import OmeXml, read_xml
from napari_pristine.io.tiff_checks import (
    check_complete,
    check_folder,
    check_log,
    check_micro_manager,
    check_page_list,
    cut_off,
)
from napari_pristine.io.tiff_series import Series, choose, drop_missing, mend_imagej, mend_ome, split_pages
from napari_pristine.io.tiff_vendors import read_vendor
from napari_pristine.resources import check_fits

_SPREAD_KINDS = ("ome", "mmstack", "ndtiff")
"""Kinds of series, in tifffile's word, of which planes may be missing or in other files."""
_LARGE_PAGE = 1 << 26
"""Bytes of a page beyond which it is read strip by strip; below, whole pages are faster."""

_SMALL_FILE = 1 << 18
"""Bytes up to which values are read as a whole; that is quicker than to map them."""


def read(path: Path, axes: str, series: int | None = None) -> Image:
    """Read the image that was measured; others are copies for display, labels or thumbnails.

    Args:
        path: The file.
        axes: One letter per dimension, in place of what the file states.
        series: Number of the image, from 0.

    Raises:
        FileError: The file cannot be read.
        AxesError: The axes do not fit the image.
    """
    with _open_image(path, series) as image:
        check_fits(path, image.pages.nbytes)
        data = image.pages.asarray()
        if data.size != image.pages.size:
            raise cut_off(path)
        data = data.reshape(image.pages.shape)  # some versions of tifffile leave out axes of length 1
    data = data.astype(data.dtype.newbyteorder("="), copy=False)  # torch takes the byte order of this machine only
    image_axes = axes or samples_last(image.axes)
    if not axes:
        data = data.transpose([image.axes.index(axis) for axis in image_axes])
    return make_image(path, data, image_axes, image.stated, image.extra)


def open_lazily(path: Path, axes: str, series: int | None = None) -> Image | None:
    """Open the same image without reading its values; None if it can only be read as a whole."""
    with _open_image(path, series) as image:
        image_axes = axes or samples_last(image.axes)
        order = () if axes else [image.axes.index(axis) for axis in image_axes]
        data = TiffArray(path, image.tif, image.pages, order) if _has_whole_pages(image.pages) else None
    return None if data is None else make_image(path, data, image_axes, image.stated, image.extra)


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
        self._stored = zarr.open_array(_KeepLastChunk(self._store), mode="r")  # of format 3 since 2026.5

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


@dataclass(frozen=True, eq=False)
class _OpenImage:
    """The image that is read from an open file.

    Attributes:
        tif: The file.
        pages: The image.
        axes: Its axes, as stored.
        stated: Metadata that the file states.
        extra: More for `Image.metadata`.
    """

    tif: tifffile.TiffFile
    pages: tifffile.TiffPageSeries
    axes: str
    stated: FileMetadata
    extra: Mapping[str, Any]


@contextmanager
def _open_image(path: Path, number: int | None) -> Iterator[_OpenImage]:
    """Open a file, and choose and check one of its images.

    Raises:
        FileError: It is damaged, or has no such image.
    """
    with ExitStack() as files:
        files.enter_context(check_log(path))
        page_count, description = check_page_list(path)
        xml = read_xml(path, description, page_count, number)
        notes = list(xml.notes) if xml else []
        text = xml.text if xml else ""  # tifffile must not follow XML that was not checked
        tif = files.enter_context(tifffile.TiffFile(path, is_ome=bool(text), omexml=text or None))
        check_micro_manager(path, tif)
        if xml and xml.text and not _is_described(path, tif, xml):
            notes.append("its OME-XML does not match its pages, which are read in order")
            tif = files.enter_context(tifffile.TiffFile(path, is_ome=False))
        found = [_name_series(n, series, xml) for n, series in enumerate(tif.series)]
        if not tif.is_imagej and (number is not None or len(found) > 1):
            found = split_pages(found)
        if number is None:
            image, chosen = choose(found)
            notes += chosen
        else:
            if tif.series[0].kind != "ome":  # then it was found before
                check_series(path, number, len(found), found[0].sizes)
            image = next(each for each in found if each.number == number)
        pages, mended = image.pages, list[str]()
        if pages.kind == "ome" and xml and xml.places == ((path.name,),):
            pages, mended = mend_ome(tif, pages, in_order=xml.is_in_order)
        elif pages.kind != "ome" and tif.is_imagej and len(found) == 1:
            pages, mended = mend_imagej(tif, pages, page_count)
        missing, absent, is_spread = list[str](), list[str](), False
        first: dict[str, int] | None = None
        if xml and pages.kind == "ome":
            missing = sorted(name for name in xml.files(image.number) if not (path.parent / name).is_file())
        if pages.kind in _SPREAD_KINDS:
            pages, kept, absent = drop_missing(pages, missing)
            first = kept if pages.kind == "ome" else None
            is_spread = any(page is None or page.parent is not tif for page in pages)
            check_folder(path, pages)
        if is_spread:
            pages.__dict__["dataoffset"] = None  # tifffile would look for one piece of values in this file
        check_complete(path, tif, pages, missing)
        if is_spread and len(pages) == 1:  # tifffile would not open the other file
            files.enter_context(_opened(pages.keyframe.parent.filehandle))
        if pages is not image.pages:
            image = replace(image, pages=pages, axes=image.axes if pages.axes == image.pages.axes else _axes_of(pages))
        yield _describe(path, tif, image, xml, first, [*notes, *mended, *absent], len(found))


@contextmanager
def _opened(handle: tifffile.FileHandle) -> Iterator[None]:
    """Open a file that tifffile has closed."""
    handle.open()
    try:
        yield
    finally:
        handle.close()


def _is_described(path: Path, tif: tifffile.TiffFile, xml: OmeXml) -> bool:
    """True if the OME-XML of a file describes its pages, or it has another description of Micro-Manager.

    Raises:
        FileError: Another file of the set is damaged, or the planes of the image that was named are not there.
    """
    for name in {name for n in xml.candidates for name in xml.files(n)} - {path.name}:
        if (path.parent / name).is_file():
            check_page_list(path.parent / name)
    try:
        is_described = bool(tif.series) and tif.series[0].kind in ("ome", "mmstack", "ndtiff")
    except (OSError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - tifffile trusts the XML, and raises anything if it is wrong
        is_described = False
    if not is_described and xml.is_chosen and len(xml.images) > 1:
        raise FileError(
            f"'{path}' has no planes of image {xml.candidates[0]} (--series), and neither have the files in its folder "
            "that its metadata name; put all files of the set into one folder"
        )
    return is_described


def _name_series(number: int, series: tifffile.TiffPageSeries, xml: OmeXml | None) -> Series:
    """A series of tifffile with all of its axes named."""
    if series.kind == "ome" and xml:
        number = int(series.name)
        return Series(number, series, _axes_of(series), xml.images[number].get("Name", ""))
    description = parse_json(series.keyframe.shaped_description)
    axes = _stated_axes(description, series.shape) or _axes_of(series)
    return Series(number, series, axes, series.name)


def _has_whole_pages(series: tifffile.TiffPageSeries) -> bool:
    """True if the last axes of a series are those of its pages, as tifffile's Zarr store needs them."""
    if series.dataoffset is not None and series.transform is None:
        return True
    page = series.keyframe.shape
    pages = math.prod(series.shape) / math.prod(page)
    return series.shape[len(series.shape) - len(page) :] == page and pages == len(series.pages)


def _describe(
    path: Path,
    tif: tifffile.TiffFile,
    image: Series,
    xml: OmeXml | None,
    first: Mapping[str, int] | None,
    notes: list[str],
    count: int,
) -> _OpenImage:
    """Collect all that a file states about one of its images; `first` as in `ome.read_metadata`."""
    pages, keyframe = image.pages, image.pages.keyframe
    if xml and xml.images:
        number = image.number if pages.kind == "ome" else xml.candidates[0]
        kind, stated = "ome", ome.read_metadata(xml, number, image.axes, image.shape, first)
    elif tif.is_imagej:
        kind, stated = "imagej", imagej.read_metadata(tif, image)
    else:
        kind, stated = "tiff", _from_json(parse_json(tif.pages.first.shaped_description), image.axes)
    if not {"X", "Y"} & stated.spacing.keys():
        found = read_vendor(tif, pages)
        spacing, channels = {**found.spacing, **stated.spacing}, stated.channels or found.channels
        stated = replace(stated, spacing=spacing, channels=channels)
    extra: dict[str, Any] = {"format": kind}
    if count > 1:
        extra["images"] = count
    if set("IQ") & set(pages.axes) and not _stated_axes(parse_json(keyframe.shaped_description), pages.shape):
        extra[AXES_GUESSED] = True
    if keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        extra[WHITE_IS_ZERO] = True
    elif keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE and keyframe.colormap is not None:
        extra[COLOUR_TABLE] = keyframe.colormap
    files = {path.name}
    if pages.kind in _SPREAD_KINDS:
        files = {page.parent.filehandle.name for page in pages if page is not None}
    members = {*files}
    if xml and pages.kind == "ome":
        files |= {name for name in xml.files(image.number) if (path.parent / name).is_file()}
        members = xml.members(image.number)
    if files | members != {path.name}:
        extra |= {"files": tuple(sorted(files)), "members": tuple(sorted(members))}
    return _OpenImage(tif, pages, image.axes, replace(stated, notes=(*notes, *stated.notes)), extra)


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


def _axes_of(series: tifffile.TiffPageSeries) -> str:
    """Axes of tifffile, with a guess for those that it could not name, its `I` and `Q`."""
    axes, shape = series.axes, series.shape
    sizes = dict(zip(axes, shape, strict=True))
    if "C" not in axes and sizes.get("S", 3) not in (3, 4):  # no colours but channels
        axes = axes.replace("S", "C")
    unnamed = [n for axis, n in zip(axes, shape, strict=True) if axis in "IQ"]
    guesses = guess_axes((*unnamed, 9, 9))[:-2] + "CTZ"
    free = iter(dict.fromkeys(axis for axis in guesses if axis not in axes))
    return "".join(next(free) if axis in "IQ" else axis for axis in axes)
