"""The pictures of an image one after the other, some rows at a time, so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_pristine.image.image import Image

EDGE = 1024
"""Pixels of a chunk along Y and X, at most."""
_BYTES = 1 << 27
Index = tuple[int | slice, ...]
CheckCancelled: TypeAlias = Callable[[], None]
"""Called now and then by what takes its time; raises if nobody wants it any more."""


def rows(image: Image) -> int:
    """Rows to take at a time: the whole picture, or as many times `EDGE` as take about 128 MiB."""
    of_one = image.size("X") * image.size("S") * image.dtype.itemsize
    return min(max(_BYTES // (of_one * EDGE), 1) * EDGE, image.size("Y"))


def indices(image: Image, order: str, height: int) -> Iterator[Index]:
    """Where each band lies: picture after picture, the last axis of `order` (but for Y, X and S) changing fastest."""
    outer = [axis for axis in order if axis not in "YXS"]
    sizes = [image.size(axis) for axis in outer]
    for number in range(math.prod(sizes)):
        at = dict(zip(outer, (int(n) for n in np.unravel_index(number, sizes or [1])), strict=False))
        for top in range(0, image.size("Y"), height):
            band = slice(top, min(top + height, image.size("Y")))
            yield tuple(at.get(axis, band if axis == "Y" else slice(None)) for axis in image.axes)


def bands(image: Image, order: str, height: int) -> Iterator[NDArray[np.generic]]:
    """The values of each band, as `YX` or `YXS`, in the byte order of this machine."""
    inner = [axis for axis in image.axes if axis in "YXS"]
    turned = [inner.index(axis) for axis in "YXS"[: len(inner)]]
    for index in indices(image, order, height):
        band = np.asarray(image.data[index]).transpose(turned)
        yield band.astype(band.dtype.newbyteorder("="), copy=False)


def beaten(source: Iterator[NDArray[np.generic]], check_cancelled: CheckCancelled) -> Iterator[NDArray[np.generic]]:
    """The same, with a beat before each."""
    for values in source:
        check_cancelled()
        yield values
