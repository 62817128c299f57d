"""Writing of TIFF: OME-TIFF, ImageJ hyperstacks or plain TIFF, plane by plane."""

from __future__ import annotations

import json
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
from napari_pristine.io import imagej, ome
from napari_pristine.io.metadata import (
    COLOUR_TABLE,
    PROVENANCE,
    WHITE_IS_ZERO,
    Provenance,
    WriteSpec,
    plane_last,
    provenance_to_json,
    unit_name,
)
from napari_pristine.io.planes import chunk_height, count_levels, halve, halved, row_chunks
from napari_pristine.threads import CheckCancelled

_BIGTIFF_SUFFIXES = (".btf", ".tf8")
_CLASSIC_BYTES = 3_900_000_000
"""Bytes beyond which the 32-bit offsets of classic TIFF may not reach."""
_LARGE_PLANE = 2048
"""Pixels along Y or X beyond which a plane gets tiles and coarser levels."""
_TILE = 512
_SOFTWARE = "napari-pristine"


def write(temporary: Path, target: Path, image: Image, provenance: Provenance, check_cancelled: CheckCancelled) -> None:
    """Write an image plane by plane; it is never in memory as a whole.

    Planes up to 2048 pixels wide and high are not compressed: every program can open them without reading them
    whole. Larger ones become the tiled pyramid of OME-TIFF, compressed with deflate, which all readers of tiles know;
    their empty borders would take most of the space.

    Args:
        temporary: The file to write.
        target: Its final name, which decides on OME-TIFF (`.ome.tif`) and BigTIFF (`.btf`, `.tf8`).
        image: The image.
        provenance: Origin of the image.
        check_cancelled: Called for each chunk of rows or tile.

    Raises:
        FileError: TIFF cannot hold the image.
    """
    spec, bigtiff = _write_spec(target, image, provenance), _needs_bigtiff(target, image)
    if spec.kind == "ome" and max(image.size("Y"), image.size("X")) > _LARGE_PLANE:
        _write_pyramid(temporary, image, spec, check_cancelled, bigtiff=bigtiff)
    else:
        _write_planes(temporary, image, spec, check_cancelled, bigtiff=bigtiff)


def _write_spec(target: Path, image: Image, provenance: Provenance) -> WriteSpec:
    """ImageJ TIFF if the image was read from one, else OME-TIFF, else plain TIFF for what OME cannot express."""
    must_be_ome = target.stem.lower().endswith(".ome")
    was_imagej = image.metadata.get("format") == imagej.FORMAT and not _needs_bigtiff(target, image)
    if was_imagej and imagej.can_hold(image) and not must_be_ome:
        return imagej.write_spec(image, provenance)
    if ome.can_hold(image):
        return ome.write_spec(image, provenance)
    is_numeric = image.dtype.kind in "uif"
    if must_be_ome or not is_numeric:
        name, advice = "OME-TIFF" if must_be_ome else "TIFF", "; write a '.tif' file" if is_numeric else ""
        raise FileError(f"'{target}': {name} cannot hold {image.dtype} values with the axes {image.axes}{advice}")
    axes = plane_last(image.axes)
    order = [image.axes.index(axis) for axis in axes]
    description: dict[str, Any] = {
        "axes": axes,
        "scale": [float(image.scale[i]) for i in order],
        "units": [unit_name(image.units[i]) for i in order],
        "channels": list(image.channels),
    }
    if provenance:
        description[PROVENANCE] = json.loads(provenance_to_json(provenance))
    return WriteSpec("shaped", axes, description)


def _needs_bigtiff(target: Path, image: Image) -> bool:
    """True if the file is BigTIFF by its name, or may become too large for classic TIFF."""
    size = math.prod(image.shape) * image.dtype.itemsize
    has_levels = max(image.size("Y"), image.size("X")) > _LARGE_PLANE
    return target.suffix.lower() in _BIGTIFF_SUFFIXES or size * (4 / 3 if has_levels else 1) > _CLASSIC_BYTES


def kept_extras(target: Path, image: Image) -> frozenset[str]:
    """Keys of `EXTRAS` that a TIFF file of an image holds."""
    spec = _write_spec(target, image, None)
    shown = {"miniswhite": WHITE_IS_ZERO, "palette": COLOUR_TABLE}.get(_photometric(spec, image)["photometric"])
    return spec.kept | ({shown} if shown else set())


def _photometric(spec: WriteSpec, image: Image) -> dict[str, Any]:
    """Arguments for tifffile on how viewers show the values."""
    table = np.asarray(image.metadata.get(COLOUR_TABLE, ()))
    if "S" in spec.axes:
        return {"photometric": "rgb"}
    if image.metadata.get(WHITE_IS_ZERO):
        return {"photometric": "miniswhite"}
    types = ("uint8",) if spec.kind == "imagej" else ("uint8", "uint16")
    if image.dtype.name in types and table.shape == (3, 256**image.dtype.itemsize):
        return {"photometric": "palette", "colormap": table}
    return {"photometric": "minisblack"}


def _write_planes(
    temporary: Path, image: Image, spec: WriteSpec, check_cancelled: CheckCancelled, *, bigtiff: bool
) -> None:
    """Write uncompressed planes: tifffile reserves the space for all of them, which is then filled.

    tifffile itself takes whole planes only, which may be larger than the memory.
    """
    space = tifffile.imwrite(
        temporary,
        shape=tuple(image.size(axis) for axis in spec.axes),
        dtype=image.dtype.newbyteorder("="),
        bigtiff=bigtiff,
        ome=spec.kind == "ome",
        imagej=spec.kind == "imagej",
        **_photometric(spec, image),
        resolution=spec.resolution,
        software=_SOFTWARE,
        metadata=dict(spec.metadata),
        returnoffset=True,
    )
    assert space is not None, "uncompressed values lie in one piece"
    with temporary.open("r+b") as file:
        dtype: np.dtype[Any] = image.dtype.newbyteorder(">" if file.read(2) == b"MM" else "<")
        file.seek(space[0])
        for values in row_chunks(image, spec.axes, chunk_height(image), check_cancelled):
            file.write(values.astype(dtype, order="C", copy=False).data)


def _write_pyramid(
    temporary: Path, image: Image, spec: WriteSpec, check_cancelled: CheckCancelled, *, bigtiff: bool
) -> None:
    """Write tiles and coarser levels.

    While a level is written, the next one goes to a nameless temporary file beside it, which not even a kill leaves
    behind.
    """
    levels = count_levels(image.size("Y"), image.size("X"), _TILE)
    shape = [image.size(axis) for axis in spec.axes]
    y = spec.axes.index("Y")
    chunks = row_chunks(image, spec.axes, chunk_height(image), check_cancelled)
    with ExitStack() as files, tifffile.TiffWriter(temporary, bigtiff=bigtiff, ome=True) as tif:
        for level in range(levels):
            next_level = files.enter_context(TemporaryFile(dir=temporary.parent)) if level + 1 < levels else None
            tif.write(
                _tiles(chunks, next_level, check_cancelled),
                shape=tuple(shape),
                dtype=image.dtype.newbyteorder("="),
                tile=(_TILE, _TILE),
                compression="zlib",
                predictor=image.dtype.kind in "ui",  # few programs read that of floats
                **_photometric(spec, image),
                software=_SOFTWARE,
                subfiletype=1 if level else 0,
                subifds=0 if level else levels - 1,
                metadata=None if level else dict(spec.metadata),
            )
            shape[y : y + 2] = [halved(size) for size in shape[y : y + 2]]
            if next_level is not None:
                chunks = _read_level(next_level, tuple(shape), y, image.dtype)


def _tiles(
    chunks: Iterator[NDArray[Any]], next_level: IO[bytes] | None, check_cancelled: CheckCancelled
) -> Iterator[NDArray[Any]]:
    """Cut chunks of rows into tiles, and write each chunk, halved, to a file.

    Chunks are a whole number of tiles high, but for the last of a plane; tiles at the edges are smaller.
    """
    for values in chunks:
        if next_level is not None:
            next_level.write(np.ascontiguousarray(halve(values)).data)
        for top in range(0, values.shape[0], _TILE):
            for left in range(0, values.shape[1], _TILE):
                check_cancelled()
                yield np.ascontiguousarray(values[top : top + _TILE, left : left + _TILE])


def _read_level(file: IO[bytes], shape: tuple[int, ...], y: int, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Chunks of rows of a level in a file, each a whole number of tiles high."""
    file.seek(0)
    for _ in range(math.prod(shape[:y])):
        for top in range(0, shape[y], 2 * _TILE):
            chunk = (min(2 * _TILE, shape[y] - top), *shape[y + 1 :])
            values = file.read(math.prod(chunk) * dtype.itemsize)
            yield np.frombuffer(values, dtype.newbyteorder("=")).reshape(chunk)
