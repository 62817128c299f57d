"""Arrays that stay on disk: what is asked for is read when it is asked for.

No file is open in between, and none needs to be closed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

Guard = Callable[[], AbstractContextManager[None]]


class Unread:
    """The values of a file that can only be read as a whole; anything asked for reads it.

    Args:
        data: The values, which are not kept.
        read: Reads them again.
    """

    def __init__(self, data: NDArray[Any], read: Callable[[], NDArray[Any]]) -> None:
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self._read = read

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]


class Mapped:
    """The values of a file that lie there in one piece; only those that are asked for are read.

    A map that stays open keeps one of the files that the system allows a program to have open: it is opened anew
    each time.

    Args:
        path: The file.
        offset: Where the piece begins, in bytes.
        dtype: Type of the values, with the byte order of the file.
        shape: Shape of the array.
        guard: Around all reading, to say what is wrong with the file.
    """

    def __init__(self, path: Path, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], guard: Guard) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._path, self._offset, self._guard = path, offset, guard

    def __getitem__(self, index: Any) -> Any:
        with self._guard():
            mapped = np.memmap(self._path, dtype=self.dtype, mode="r", offset=self._offset, shape=self.shape)
            return np.array(mapped[index])  # a copy: the map is closed when nothing refers to it any more

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)


class Pages:
    """The planes of a TIFF series, one page each; only those that are asked for are read.

    Args:
        series: The series; its file may be closed.
        page: Shape of a page: the last axes of the series.
        guard: Around all reading, to say what is wrong with the file.
    """

    def __init__(self, series: tifffile.TiffPageSeries, page: tuple[int, ...], guard: Guard) -> None:
        self.shape, self.dtype, self.ndim = series.shape, series.dtype.newbyteorder("="), len(series.shape)
        self._series, self._guard = series, guard
        self._outer = self.shape[: self.ndim - len(page)]

    def __getitem__(self, index: Any) -> Any:
        """Integers and slices, as of an array."""
        index = index if isinstance(index, tuple) else (index,)
        outer, inner = index[: len(self._outer)], index[len(self._outer) :]
        numbers = np.arange(math.prod(self._outer)).reshape(self._outer)[outer]
        planes = [self._plane(number)[inner] for number in numbers.ravel().tolist()]
        return np.stack(planes).reshape(*numbers.shape, *planes[0].shape) if numbers.ndim else planes[0]

    def _plane(self, number: int) -> NDArray[Any]:
        with self._guard(), _open(self._series.parent):
            page = self._series.pages[number]
            with _open(page and page.parent):  # of files that belong together, maybe another one
                return np.asarray(page and page.asarray()).astype(self.dtype, copy=False)


def on_disk(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, guard: Guard) -> Any:
    """The values of a series, unread; none if they are not in one piece and not in pages of a plane each."""
    if series.dataoffset is not None:  # one uncompressed piece
        dtype = np.dtype(tif.byteorder + series.dtype.char)
        return Mapped(path, series.dataoffset, dtype, series.shape, guard)
    page = series.keyframe.shape
    whole_planes = series.shape[len(series.shape) - len(page) :] == page
    pages = math.prod(series.shape) / math.prod(page)
    return Pages(series, page, guard) if whole_planes and pages == len(series.pages) else None


@contextmanager
def _open(tif: tifffile.TiffFile | None) -> Iterator[None]:
    """Open a file for a while, unless it is open."""
    if tif is None or not tif.filehandle.closed:
        yield
        return
    tif.filehandle.open()
    try:
        yield
    finally:
        tif.filehandle.close()
