"""Part: a part of an array that is read when it is asked for, and no more of it than that."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = int | range
"""What is taken along one axis: one element, whose axis goes, or some at a constant distance."""


def ranges(index: Any, shape: Sequence[int]) -> list[Range]:
    """What a basic index of numpy (integers, slices, an ellipsis) takes along each axis of an array.

    Raises:
        IndexError: Another kind of index, too many of them, or one that is out of range.
    """
    index = index if isinstance(index, tuple) else (index,)
    gaps = [place for place, item in enumerate(index) if isinstance(item, EllipsisType)]
    if len(gaps) > 1 or len(index) - len(gaps) > len(shape):
        raise IndexError(f"the index {index} does not fit an array with the shape {tuple(shape)}")
    gap = gaps[0] if gaps else len(index)
    missing = (slice(None),) * (len(shape) - len(index) + len(gaps))
    full = (*index[:gap], *missing, *index[gap + 1 :])
    return [_range(item, size) for item, size in zip(full, shape, strict=True)]


def read(array: Any, taken: Sequence[Range]) -> NDArray[Any]:
    """These values of an array that knows basic slices forwards."""
    index = tuple(item if isinstance(item, int) else _forwards(item) for item in taken)
    back = (slice(None, None, -1 if item.step < 0 else 1) for item in taken if isinstance(item, range))
    return np.asarray(array[index])[tuple(back)]


class Part:
    """Some elements along each axis of an array-like; reads only those that are asked for.

    Args:
        array: Anything with shape, dtype and basic slicing.
        index: Integers, slices with steps, or an ellipsis, as numpy has them.
    """

    def __init__(self, array: Any, index: Any) -> None:
        self._array, self._taken = array, ranges(index, tuple(int(n) for n in array.shape))
        self.shape = tuple(len(item) for item in self._taken if isinstance(item, range))
        self.dtype, self.ndim = np.dtype(array.dtype), len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        wanted = iter(ranges(index, self.shape))
        return read(self._array, [item if isinstance(item, int) else _of(item, next(wanted)) for item in self._taken])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)


def _range(item: Any, size: int) -> Range:
    if isinstance(item, slice):
        return range(size)[item]
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        return range(size)[int(item)]
    raise IndexError(f"{item!r} is no integer, slice or ellipsis; read the values first for any other index")


def _of(taken: range, wanted: Range) -> Range:
    return taken[wanted] if isinstance(wanted, int) else taken[slice_of(wanted)]


def _forwards(item: range) -> slice:
    return slice_of(item if item.step > 0 else item[::-1])


def slice_of(item: range) -> slice:
    """The slice that takes the elements of a range."""
    stop = item.stop if item.stop >= 0 else None  # backwards to the very first
    return slice(item.start, stop, item.step) if len(item) else slice(0, 0)
