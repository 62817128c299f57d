"""Writing TIFF: OME-TIFF, ImageJ hyperstacks or plain TIFF, one picture after the other.

Large pictures become tiled pyramids, as OME-TIFF has them, so that viewers need not read them whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io import imagej, ome, plain, pyramid
from napari_pristine.io.metadata import Provenance, WriteSpec
from napari_pristine.io.row_chunks import CheckCancelled, bands, beaten, rows

_BIG_SUFFIXES = (".btf", ".tf8")
_BIG = 3_900_000_000
"""Bytes beyond which the 32-bit offsets of classic TIFF may not reach."""
_LARGE = 2048
"""Pixels along Y or X beyond which pictures get coarser levels."""
_TILE = 512
_SOFTWARE = "napari-pristine"
Bands = Iterator[NDArray[Any]]


def write(part: Path, target: Path, image: Image, provenance: Provenance, check_cancelled: CheckCancelled) -> None:
    """Write `image` to `part`, in the dialect that suits it and the name of `target`; it is never in memory as a whole.

    Pictures of usual size are not compressed, as they are quick to write so, and every program can open them without
    reading them all. Large ones are compressed tile by tile with deflate, which all readers of tiles know, as their
    empty borders would take most of the room.
    """
    layout, big = _layout(target, image, provenance), _is_big(target, image)
    if layout.dialect == "ome" and max(image.size("Y"), image.size("X")) > _LARGE:
        _write_levels(part, image, layout, check_cancelled, big=big)
    else:
        _write_pictures(part, image, layout, check_cancelled, big=big)


def _write_pictures(part: Path, image: Image, layout: WriteSpec, check_cancelled: CheckCancelled, *, big: bool) -> None:
    """Picture by picture; where these are large, the file is made with room for them, and filled."""
    height = rows(image)
    source, whole = beaten(bands(image, layout.axes, height), check_cancelled), height == image.size("Y")
    place = tifffile.imwrite(
        part,
        source if whole else None,
        shape=tuple(image.size(axis) for axis in layout.axes),
        dtype=image.dtype.newbyteorder("="),
        bigtiff=big,
        ome=layout.dialect == "ome",
        imagej=layout.dialect == "imagej",
        photometric=_photometric(layout),
        resolution=layout.resolution,
        software=_SOFTWARE,
        metadata=dict(layout.metadata),
        returnoffset=True,
    )
    if not whole and place:
        _fill(part, place[0], source)


def _fill(part: Path, offset: int, source: Bands) -> None:
    """Put the values where the file has room for them, in one piece."""
    with part.open("r+b") as file:
        big_endian = file.read(2) == b"MM"
        file.seek(offset)
        for band in source:
            dtype = band.dtype.newbyteorder(">" if big_endian else "<")
            file.write(band.astype(dtype, order="C", copy=False).data)


def _layout(target: Path, image: Image, provenance: Provenance) -> WriteSpec:
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
    """Whether the file needs, or by its name is, a BigTIFF; coarser levels add a third."""
    size = math.prod(image.shape) * image.dtype.itemsize
    large = max(image.size("Y"), image.size("X")) > _LARGE
    return target.suffix.lower() in _BIG_SUFFIXES or size * (4 / 3 if large else 1) > _BIG


def _photometric(layout: WriteSpec) -> str:
    return "rgb" if "S" in layout.axes else "minisblack"


def _write_levels(part: Path, image: Image, layout: WriteSpec, check_cancelled: CheckCancelled, *, big: bool) -> None:
    """Level by level; while one is written, the next goes to a nameless file beside it, which no kill leaves behind."""
    levels = pyramid.count(image.size("Y"), image.size("X"), _TILE)
    shape = [image.size(axis) for axis in layout.axes]
    at = layout.axes.index("Y")
    source = bands(image, layout.axes, rows(image))
    with ExitStack() as files, tifffile.TiffWriter(part, bigtiff=big, ome=True) as tif:
        for level in range(levels):
            below = files.enter_context(TemporaryFile(dir=part.parent)) if level + 1 < levels else None
            tif.write(
                beaten(_tiles(_halved_to(below, source)), check_cancelled),
                shape=tuple(shape),
                dtype=image.dtype.newbyteorder("="),
                tile=(_TILE, _TILE),
                compression="zlib",
                predictor=image.dtype.kind in "ui",  # that of floats is read by few
                photometric=_photometric(layout),
                software=_SOFTWARE,
                subfiletype=1 if level else 0,
                subifds=0 if level else levels - 1,
                metadata=None if level else dict(layout.metadata),
            )
            shape[at : at + 2] = [pyramid.halved(size) for size in shape[at : at + 2]]
            if below is not None:
                source = _bands_from(below, tuple(shape), at, image.dtype)


def _halved_to(below: IO[bytes] | None, source: Bands) -> Bands:
    """The same bands; half of each goes to a file."""
    for band in source:
        if below is not None:
            below.write(np.ascontiguousarray(pyramid.halve(band)).data)
        yield band


def _tiles(source: Bands) -> Bands:
    """Tiles of bands that are, but for the last of a picture, a number of tiles high; those at the edge are cut."""
    for band in source:
        for top in range(0, band.shape[0], _TILE):
            for left in range(0, band.shape[1], _TILE):
                yield np.ascontiguousarray(band[top : top + _TILE, left : left + _TILE])


def _bands_from(file: IO[bytes], shape: tuple[int, ...], at: int, dtype: np.dtype[Any]) -> Bands:
    """The bands of a level in a file, a whole number of tiles high."""
    file.seek(0)
    height, width = shape[at], math.prod(shape[at + 1 :])
    for _ in range(math.prod(shape[:at])):
        for top in range(0, height, 2 * _TILE):
            size = min(2 * _TILE, height - top)
            values = file.read(size * width * dtype.itemsize)
            yield np.frombuffer(values, dtype.newbyteorder("=")).reshape(size, *shape[at + 1 :])
