"""Images plane by plane in chunks of rows, so that memory stays bounded, and planes halved for coarser levels."""

from __future__ import annotations

import math
import os
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image, LazySequence
from napari_pristine.threads import CheckCancelled

CHUNK_SIDE = 1024
"""Maximum side of a chunk along Y and X, in pixels."""
_CHUNK_BYTES = 1 << 27
Index = tuple[int | slice, ...]

MAX_PLANES = 10_000_000
"""More than any microscope records, and few enough to list them in a moment."""


def check_plane_count(path: Path, count: float) -> None:
    """Raise a `FileError` for more planes than a file can have."""
    if count > MAX_PLANES:
        raise FileError(f"'{path}' claims to have {count:.3g} planes; it is damaged, copy it again")


def keep_whole(present: NDArray[np.bool_], axes: str, reason: str = "") -> tuple[tuple[range, ...], str]:
    """The part of an image of which all planes are there, with a note on it; empty if there is none.

    Args:
        present: For each plane along the axes whether it is there.
        axes: Letters of these axes.
        reason: Reason for which others are missing, as the end of a clause.
    """
    shape, leading = present.shape, present.ndim
    everything = [np.arange(n) for n in shape]
    others = [tuple(i for i in range(leading) if i != axis) for axis in range(leading)]
    options = [[np.flatnonzero(present.any(rest)) for rest in others]]
    options += [  # without the last frame, say, of which only some channels are there
        [np.flatnonzero(present.all(others[axis])) if axis == n else all_ for n, all_ in enumerate(everything)]
        for axis in range(leading)
    ]
    boxes = [box for box in options if all(map(len, box)) and present[np.ix_(*box)].all()]
    boxes = [box for box in boxes if all(len(n) == n[-1] - n[0] + 1 for n in box)]
    if not boxes:
        return (), ""
    box = max(boxes, key=lambda box: math.prod(map(len, box)))
    read = [_range(axis, n[0], n[-1]) for axis, n, size in zip(axes, box, shape, strict=True) if len(n) < size]
    left_out = [
        _range(axis, first, last)
        for axis, n, size in zip(axes, box, shape, strict=True)
        for first, last in ((0, n[0] - 1), (n[-1] + 1, size - 1))
        if first <= last
    ]
    note = (
        f"{np.count_nonzero(~present)} of its {present.size} planes are missing{reason}: {' and '.join(read)} is read, "
        f"{' and '.join(left_out)} is left out (counted from 0), nothing is filled in"
    )
    return tuple(range(n[0], n[-1] + 1) for n in box), note


def _range(axis: str, first: int, last: int) -> str:
    return f"{axis} {first}" if first == last else f"{axis} {first} to {last}"


def chunk_height(image: Image) -> int:
    """Rows per chunk: the whole plane, or as many times `CHUNK_SIDE` as take about 128 MiB."""
    row_bytes = image.size("X") * image.size("S") * image.dtype.itemsize
    return min(max(_CHUNK_BYTES // (row_bytes * CHUNK_SIDE), 1) * CHUNK_SIDE, image.size("Y"))


def row_chunk_indices(image: Image, order: str, height: int) -> Iterator[Index]:
    """Index of each chunk of rows in the image: plane after plane, top to bottom.

    Args:
        image: The image.
        order: Its axes; of those other than Y, X and S the last changes fastest.
        height: Rows of a chunk.
    """
    outer = [axis for axis in order if axis not in "YXS"]
    for plane in np.ndindex(*(image.size(axis) for axis in outer)):
        position: dict[str, int] = dict(zip(outer, plane, strict=True))
        for top in range(0, image.size("Y"), height):
            rows = slice(top, min(top + height, image.size("Y")))
            yield tuple(position.get(axis, rows if axis == "Y" else slice(None)) for axis in image.axes)


def row_chunks(image: Image, order: str, height: int, check_cancelled: CheckCancelled) -> Iterator[NDArray[np.generic]]:
    """Values of each chunk of rows as `YX` or `YXS`, in the byte order of this machine; arguments as above."""
    inner = [axis for axis in image.axes if axis in "YXS"]
    transposed = [inner.index(axis) for axis in "YXS"[: len(inner)]]
    for index in row_chunk_indices(image, order, height):
        check_cancelled()
        values = np.asarray(image.data[index]).transpose(transposed)
        yield values.astype(values.dtype.newbyteorder("="), copy=False)


def count_levels(height: int, width: int, coarsest: int) -> int:
    """Levels of a pyramid, the full resolution included, until Y and X have at most `coarsest` pixels."""
    return 1 + max(-(-max(height, width) // coarsest) - 1, 0).bit_length()


def halve(values: NDArray[Any]) -> NDArray[Any]:
    """Mean of each 2 × 2 pixels along the first two axes, in the type of the values.

    Sizes are rounded up: at an odd edge the mean is of the pixels that exist. Whole numbers are rounded to nearest;
    no sum of four is ever formed, so that no type overflows.
    """
    if values.shape[0] % 2 or values.shape[1] % 2:
        odd = [(0, size % 2) for size in values.shape[:2]] + [(0, 0)] * (values.ndim - 2)
        values = np.pad(values, odd, mode="edge")
    corners = [values[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    if values.dtype.kind == "f":
        exact = np.promote_types(values.dtype, np.float32)
        quarters = [corner.astype(exact) * exact.type(0.25) for corner in corners]
        return np.asarray(quarters[0] + quarters[1] + (quarters[2] + quarters[3])).astype(values.dtype)
    whole = (corners[0] >> 2) + (corners[1] >> 2) + (corners[2] >> 2) + (corners[3] >> 2)
    rest = (corners[0] & 3) + (corners[1] & 3) + (corners[2] & 3) + (corners[3] & 3)
    return np.asarray(whole + ((rest + 2) >> 2)).astype(values.dtype)


def halved(size: int) -> int:
    """Pixels of the next coarser level along an axis."""
    return (size + 1) // 2


def find_chunks(
    folder: Path, shape: Sequence[int], chunk: Sequence[int], encode: Callable[[tuple[int, ...]], str]
) -> LazySequence[tuple[slice, ...]]:
    """Parts of an array of which there are files in a folder.

    Args:
        folder: The folder.
        shape: Shape of the array.
        chunk: Shape of the part that a file holds.
        encode: Returns the name of the file of a chunk, given its position.
    """
    counts = [-(-size // side) for size, side in zip(shape, chunk, strict=True)]
    found, ndim = array("q"), len(shape)  # positions one after the other: there may be a million
    for here, _, names in os.walk(folder):
        above = "" if here == str(folder) else f"{Path(here).relative_to(folder).as_posix()}/"
        for name in names:
            position = tuple(int(digits) for digits in re.findall(r"\d+", above + name))
            inside = len(position) == ndim and all(map(int.__lt__, position, counts))
            if inside and encode(position) == above + name:
                found.extend(position)

    def part(number: int) -> tuple[slice, ...]:
        sizes = zip(found[number * ndim : (number + 1) * ndim], chunk, shape, strict=True)
        return tuple(slice(at * side, min((at + 1) * side, size)) for at, side, size in sizes)

    return LazySequence(range(len(found) // ndim), part)
