"""An OME-Zarr that grows block by block, and what makes it whole: coarser levels and metadata.

Whatever is killed when, nothing is lost that was assigned, and both `create` and `complete` may be called again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import ContainsArrayError

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io import ngff, pyramid
from napari_pristine.io.metadata import Provenance
from napari_pristine.io.ngff import Version, Window
from napari_pristine.io.row_chunks import EDGE, CheckCancelled
from napari_pristine.io.zarr_array import METADATA, ZarrArray, writing

_SMALLEST = 512
"""Pixels of the coarsest level along Y and X, at most."""
_BLOSC: Any = {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0}


def create(path: Path, like: Image, *, version: Version = "0.5", sides: Mapping[str, int] | None = None) -> ZarrArray:
    """The finest level of an image that has yet to be computed, to be assigned to block by block.

    It takes indices in the order of `like.axes`; `chunks` says which blocks those who write side by side may share
    out. All values are zero until they are assigned, and chunks of zeros take no room. If the array is there already,
    it is opened with what was assigned to it.

    Args:
        path: A folder, there or not.
        like: Shape, type and axes of the image; its values are not looked at.
        version: Of OME-Zarr.
        sides: Of the blocks that are written side by side, along Y and X, where they are less than a picture: they
            are made of whole chunks.

    Raises:
        FileError: OME-Zarr cannot hold such an image, another one is there, or nothing can be written.
    """
    if version not in get_args(Version):
        raise FileError(f"'{path}': there is no OME-Zarr {version} here; use one of {', '.join(get_args(Version))}")
    axes = ngff.stored_axes(str(path), like.axes)
    if like.dtype.kind not in "uif":
        raise FileError(f"'{path}': OME-Zarr is written with integers or floats, not {like.dtype}")
    with writing(path):
        zarr.open_group(path, mode="a", zarr_format=_format(version))
    return _opened(path / "0", like, axes, version, sides or {})


def scratch(path: Path, like: Image, *, sides: Mapping[str, int] | None = None) -> ZarrArray:
    """The same as an array of zarr alone, for any axes: for results that become another format when they are whole."""
    return _opened(path, like, like.axes, "0.5", sides or {})


def complete(
    path: Path, like: Image, provenance: Provenance = None, check_cancelled: CheckCancelled = lambda: None
) -> None:
    """Make the coarser levels and write the metadata, after which the folder is an OME-Zarr.

    Args:
        path: As given to `create`.
        like: The same, with scale, units, position, name and channels; its values are not looked at.
        provenance: What the values came from, as JSON can hold it.
        check_cancelled: Called now and then; what it raises ends this, and it may be called again later.

    Raises:
        FileError: There is no such array, or nothing can be written.
    """
    version, axes = _version(path), ngff.stored_axes(str(path), like.axes)
    levels = pyramid.count(like.size("Y"), like.size("X"), _SMALLEST)
    shape = tuple(like.size(axis) for axis in axes)
    with writing(path):
        for left in path.rglob("*.partial"):  # by those who were killed while they wrote a chunk
            left.unlink(missing_ok=True)
        for level in range(1, levels):
            shape = (*shape[:-2], pyramid.halved(shape[-2]), pyramid.halved(shape[-1]))
            _array(path / str(level), axes, shape, like.dtype, version, overwrite=True, sides={})
            _fill(ZarrArray(path / str(level - 1)), ZarrArray(path / str(level), writable=True), check_cancelled)
        windows = _windows(ZarrArray(path / str(levels - 1)), axes)
        said = ngff.attributes(like, levels, windows, provenance, version)
        zarr.open_group(path, mode="r+", zarr_format=_format(version)).attrs.put(said)


def _opened(path: Path, like: Image, axes: str, version: Version, sides: Mapping[str, int]) -> ZarrArray:
    """The array with axes in this order: that which is there, or a new one."""
    if not _is_array(path):
        # or others were faster
        with writing(path), suppress(ContainsArrayError):
            shape = tuple(like.size(axis) for axis in axes)
            _array(path, axes, shape, like.dtype, version, overwrite=False, sides=sides)
    found = ZarrArray(path, tuple(axes.index(axis) for axis in like.axes), writable=True)
    if (found.shape, found.dtype, _version(path)) != (like.shape, like.dtype.newbyteorder("="), version):
        raise FileError(f"'{path}' holds another image, {found.dtype} of the shape {found.shape}; delete it first")
    return found


def _format(version: Version) -> Any:
    return 2 if version == "0.4" else 3


def _version(path: Path) -> Version:
    return "0.5" if (path / METADATA[0]).is_file() else "0.4"


def _is_array(path: Path) -> bool:
    return any((path / name).is_file() for name in METADATA[:2])


def _array(
    path: Path,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    version: Version,
    *,
    overwrite: bool,
    sides: Mapping[str, int],
) -> None:
    """An array of zeros: chunks are parts of one picture with all its samples, so that pictures are independent."""
    whole = {axis: _whole_part(sides.get(axis, EDGE)) for axis in "YX"} | {"S": 4}
    zarr.create_array(
        path,
        shape=shape,
        chunks=tuple(min(n, whole.get(axis, 1)) for axis, n in zip(axes, shape, strict=True)),
        dtype=dtype.newbyteorder("="),
        # blosc of zstd is what all readers of OME-Zarr know, in Java, too
        compressors=_BLOSC if version == "0.4" else BloscCodec(cname="zstd", clevel=3),
        chunk_key_encoding={"name": "v2" if version == "0.4" else "default", "separator": "/"},
        dimension_names=None if version == "0.4" else list(axes.replace("S", "C").lower()),
        fill_value=0,
        zarr_format=_format(version),
        config={"write_empty_chunks": False},
        overwrite=overwrite,
    )


def _whole_part(side: int) -> int:
    """The largest side of a chunk of which a whole number makes up a side."""
    return max(n for n in range(1, EDGE + 1) if side % n == 0)


def _fill(fine: ZarrArray, coarse: ZarrArray, check_cancelled: CheckCancelled) -> None:
    """One level from that before, chunk by chunk; where there is nothing yet, nothing is read."""
    for part in _parts(coarse.shape, coarse.chunks):
        check_cancelled()
        ends = zip(part[-2:], fine.shape[-2:], strict=True)
        source = (*part[:-2], *(slice(2 * p.start, min(2 * p.stop, size)) for p, size in ends))
        if fine.has(source):
            values = np.moveaxis(fine[source], (-2, -1), (0, 1))
            coarse[part] = np.moveaxis(pyramid.halve(values), (0, 1), (-2, -1))


def _parts(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    for place in np.ndindex(*(-(-n // size) for n, size in zip(shape, chunks, strict=True))):
        yield tuple(slice(at * size, min((at + 1) * size, n)) for at, size, n in zip(place, chunks, shape, strict=True))


def _windows(coarsest: ZarrArray, axes: str) -> list[Window]:
    """Darkest and brightest value to show of each channel, by the picture in the middle of time and depth."""
    colour = next((axes.index(axis) for axis in "CS" if axis in axes), None)
    found = []
    for channel in range(1 if colour is None else coarsest.shape[colour]):
        index = [n // 2 for n in coarsest.shape[:-2]]
        if colour is not None:
            index[colour] = channel
        values = coarsest[tuple(index)].astype(np.float64)
        values = values[np.isfinite(values)]
        dark, bright = (float(np.quantile(values, q)) for q in (0.001, 0.999)) if values.size else (0.0, 1.0)
        found.append((dark, bright if bright > dark else dark + 1))
    return found
