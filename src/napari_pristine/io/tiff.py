"""TIFF by tifffile: reading any; what is written is in `tiff_writing`.

Positions are read from and written to our own OME-TIFF alone; those of a stage are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_pristine.image.image import Image, guess_axes
from napari_pristine.io import imagej, ome, plain, tiff_faults
from napari_pristine.io.lazy import on_disk
from napari_pristine.io.metadata import FileMetadata, image_of
from napari_pristine.io.tiff_pages import check_pages, cut_off
from napari_pristine.io.tiff_writer import write
from napari_pristine.resources import check_fits

__all__ = ["SUFFIXES", "open_lazily", "read", "write"]

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")


def read(path: Path, axes: str) -> Image:
    """The largest image in the file (others are thumbnails or lower resolutions)."""
    with _largest(path) as (tif, series):
        check_fits(path, series.nbytes)
        data = series.asarray()
        if data.shape != series.shape:
            raise cut_off(path)
        found, notes, metadata = _described(tif, series)
    data = data.astype(data.dtype.newbyteorder("="), copy=False)  # torch knows the order of this machine only
    if not axes and "S" in found:  # samples that were stored as planes
        data, found = np.moveaxis(data, found.index("S"), -1), found.replace("S", "") + "S"
    return image_of(path, data, axes or found, notes, metadata)


def open_lazily(path: Path, axes: str) -> Image | None:
    """The same, but its values stay on disk until they are asked for; none where all must be read at once."""
    with _largest(path) as (tif, series):
        found, notes, metadata = _described(tif, series)
        data = None if "S" in found[:-1] else on_disk(path, tif, series, tiff_faults.guard(path))
    return None if data is None else image_of(path, data, axes or found, notes, metadata)


@contextmanager
def _largest(path: Path) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries]]:
    """The file and the largest image in it, which is complete."""
    with tiff_faults.complaints(path), tiff_faults.broken_files(path):
        check_pages(path)
        with tifffile.TiffFile(path) as tif:
            tiff_faults.check_claims(path, tif)
            series = max(tif.series, key=lambda s: math.prod(s.shape))
            tiff_faults.check_complete(path, tif, series)
            yield tif, series


def _described(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[str, FileMetadata, dict[str, Any]]:
    """Axes, what the file says of them, and what else is known of it."""
    kind, notes = _notes(tif, series)
    found = plain.stated_axes(tif, series) or _name_axes(series.axes, series.shape)
    return found, notes, {"format": kind} | ({"images": len(tif.series)} if len(tif.series) > 1 else {})


def _notes(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[str, FileMetadata]:
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
