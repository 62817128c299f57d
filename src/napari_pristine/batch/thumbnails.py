"""Thumbnails of an image, of its result, and of what was removed; they are only shown, nothing is measured in them."""

from __future__ import annotations

import itertools
import math
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from napari_pristine.errors import ImageError
from napari_pristine.image.image import Image
from napari_pristine.text import counted

Array = NDArray[np.float64]

_SIDE = 160
"""Maximum number of pixels along the longer side of a thumbnail."""
_READ = 8 * _SIDE
"""Approximate number of pixels read along the longer side of a plane; larger planes are read with a stride."""
_GREYS = 63
"""Steps from black to white: more would not be seen, and noise with more steps does not compress."""
RANGE = 3
"""Noise levels from mid grey to black or white in the picture of what was removed."""


def draw_pictures(source: Image, result: Image, sigma: float) -> tuple[bytes, bytes, bytes]:
    """Draw the middle plane before, after, and before minus after, as PNG. Only that plane is read.

    Before and after share one contrast. In the third, mid grey is no change, and white and black are 3 noise levels
    removed and added; it is empty if the noise level is not known.

    Args:
        source: The image, after any selection.
        result: Its result, on the same grid or on one that is finer by whole factors.
        sigma: Noise level in the units of the image; 0 if it is not known.

    Raises:
        ImageError: The shapes of the two do not fit.
    """
    factors = {axis: _factor(source, result, axis) for axis in source.axes if axis not in "CS"}
    step = _stride(source)
    before = _plane(source, step, {})
    after = _plane(result, step, factors)
    coarse = _averaged(after, factors["Y"], factors["X"])
    if coarse.shape != before.shape:
        raise ImageError(
            f"a result of shape {result.shape} ({result.axes}) cannot be that of an image of shape {source.shape}"
        )
    small = _small(before), _small(after)
    low, high = _window(*small)
    removed = b""
    if sigma > 0:
        with np.errstate(over="ignore", invalid="ignore"):
            removed = _png(_small((before - coarse) / sigma), -RANGE, RANGE)
    return _png(small[0], low, high), _png(small[1], low, high), removed


def thumbnail(image: Image) -> bytes:
    """Draw the middle plane of an image, as PNG."""
    small = _small(_plane(image, _stride(image), {}))
    return _png(small, *_window(small))


def _factor(source: Image, result: Image, axis: str) -> int:
    """Number of elements of the result per element of the image along an axis."""
    factor, rest = divmod(result.size(axis), source.size(axis))
    if rest or not factor:
        raise ImageError(
            f"along {axis} the result has {counted(result.size(axis), 'element')}, the image {source.size(axis)}"
        )
    return factor


def _stride(image: Image) -> int:
    return max(1, max(image.size("Y"), image.size("X")) // _READ)


def _plane(image: Image, step: int, factors: dict[str, int]) -> Array:
    """Read the middle plane `(Y, X, 1 or 3)`: each `step`-th pixel, with all its parts on a finer grid."""
    y, x = factors.get("Y", 1), factors.get("X", 1)
    if step == 1:
        return _read(image, factors, slice(None), slice(None))
    rows, columns = (-(-image.size(axis) // (step * by)) for axis, by in (("Y", y), ("X", x)))
    plane: Array | None = None
    for i, j in itertools.product(range(y), range(x)):
        part = _read(image, factors, slice(i, None, step * y), slice(j, None, step * x))
        plane = np.empty((rows * y, columns * x, part.shape[2])) if plane is None else plane
        plane[i::y, j::x] = part
    assert plane is not None  # there is at least one part
    return plane


def _read(image: Image, factors: dict[str, int], rows: slice, columns: slice) -> Array:
    """Read part of the middle plane: its first channel, or three colours; the planes of a finer grid are averaged."""
    index: list[Any] = []
    for axis, size in zip(image.axes, image.shape, strict=True):
        by = factors.get(axis, 1)
        middle = size // by // 2 * by
        across = slice(0, 1) if axis == "C" else slice(middle, middle + by)
        index.append({"Y": rows, "X": columns, "S": slice(0, 3)}.get(axis, across))
    values = np.asarray(image.data[tuple(index)])
    part: Array = (np.abs(values) if np.iscomplexobj(values) else values).astype(np.float64)
    order = [image.axes.index(axis) for axis in "YXS" if axis in image.axes]
    across_axes = tuple(n for n in range(part.ndim) if n not in order)
    part = part.mean(axis=across_axes, keepdims=True).transpose([*order, *across_axes])
    plane: Array = part.reshape(*part.shape[:2], -1)
    return plane


def _averaged(plane: Array, y: int, x: int) -> Array:
    """Means of the finite values in patches of `y` × `x` pixels; patches at the end may be smaller."""
    if y == x == 1:
        return plane
    valid = np.isfinite(plane)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(part, np.arange(0, part.shape[0], y), 0), np.arange(0, part.shape[1], x), 1)
        for part in (np.where(valid, plane, 0.0), valid.astype(np.float64))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = sums / counts  # NaN where nothing is finite
    return means


def _small(plane: Array) -> Array:
    """Shrink a plane to the size of a thumbnail, by a whole factor: other factors would add a pattern to the noise."""
    by = math.ceil(max(plane.shape[:2]) / _SIDE)
    # extreme values would overflow the sums
    return _averaged(np.where(np.abs(plane) < 1e300, plane, np.nan), by, by)


def _window(*planes: Array) -> tuple[float, float]:
    """Values that are shown as black and as white."""
    values = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    if not values.size:
        return 0.0, 1.0
    for ends in ((0.5, 99.5), (0, 100)):  # the full range where nearly all values are equal, as with a few bright spots
        low, high = (float(value) for value in np.percentile(values, ends))
        if high > low:
            return low, high
    return low - 1.0, high + 1.0


def _png(plane: Array, low: float, high: float) -> bytes:
    """Encode a plane `(Y, X, 1 or 3)` as PNG, black at `low` and white at `high`; missing values are black."""
    shown = np.clip((plane - low) / (high - low), 0.0, 1.0)
    grey = np.rint(np.rint(np.nan_to_num(shown) * _GREYS) * (255 / _GREYS)).astype(np.uint8)
    file = BytesIO()
    PIL.Image.fromarray(grey[..., 0] if grey.shape[2] == 1 else grey).save(file, "PNG", optimize=True)
    return file.getvalue()
