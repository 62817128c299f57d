"""LazySlice: a part of an array that is read from it only when indexed."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = int | range
"""Selection along one axis: one element, which drops the axis, or elements at a constant distance."""


def ranges(index: Any, shape: Sequence[int]) -> list[Range]:
    """Resolve a basic index of numpy (integers, slices, an ellipsis) into one selection per axis.

    Raises:
        IndexError: The index has another kind of item, too many items, or an item out of range.
    """
    index = index if isinstance(index, tuple) else (index,)
    ellipses = [number for number, item in enumerate(index) if isinstance(item, EllipsisType)]
    if len(ellipses) > 1 or len(index) - len(ellipses) > len(shape):
        raise IndexError(f"the index {index} does not fit an array with the shape {tuple(shape)}")
    gap = ellipses[0] if ellipses else len(index)
    missing = (slice(None),) * (len(shape) - len(index) + len(ellipses))
    selected: list[Range] = []
    for item, size in zip((*index[:gap], *missing, *index[gap + 1 :]), shape, strict=True):
        if isinstance(item, slice):
            selected.append(range(size)[item])
        elif isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            selected.append(range(size)[int(item)])
        else:
            raise IndexError(f"{item!r} is no integer, slice or ellipsis; convert to a numpy array for other indices")
    return selected


def read(array: Any, selected: Sequence[Range]) -> NDArray[Any]:
    """Read a selection from an array that may support no negative steps; they are applied after reading."""
    forward = [item if isinstance(item, int) or item.step > 0 else item[::-1] for item in selected]
    flips = (slice(None, None, -1 if item.step < 0 else 1) for item in selected if isinstance(item, range))
    return np.asarray(array[tuple(item if isinstance(item, int) else slice_of(item) for item in forward)])[tuple(flips)]


def slice_of(selected: range) -> slice:
    """Slice that selects the elements of a range."""
    stop = selected.stop if selected.stop >= 0 else None  # a negative step down to index 0
    return slice(selected.start, stop, selected.step) if len(selected) else slice(0, 0)


class LazySlice:
    """Part of an array-like that reads only the elements asked for; supports integers, slices and an ellipsis.

    Args:
        array: Anything with shape, dtype and basic slicing.
        index: Integers, slices with steps, or an ellipsis, as in numpy.
    """

    def __init__(self, array: Any, index: Any) -> None:
        self._array, self._selected = array, ranges(index, tuple(int(n) for n in array.shape))
        self.shape = tuple(len(item) for item in self._selected if isinstance(item, range))
        self.dtype, self.ndim = np.dtype(array.dtype), len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        wanted = iter(ranges(index, self.shape))
        selected: list[Range] = []
        for item in self._selected:
            if isinstance(item, int):
                selected.append(item)
            else:
                part = next(wanted)
                selected.append(item[part] if isinstance(part, int) else item[slice_of(part)])
        return read(self._array, selected)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)
