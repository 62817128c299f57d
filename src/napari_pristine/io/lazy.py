"""Arrays that stay on disk: what is asked for is read when it is asked for.

No file is open in between, and none needs to be closed.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_pristine.image.lazy_slice import Range, ranges, read
from napari_pristine.resources import check_fits

Guard = Callable[[], AbstractContextManager[None]]
_LARGE = 1 << 26
"""Bytes of a page in strips beyond which it is not read as a whole."""


class Unread:
    """The values of a file that can only be read as a whole; anything asked for reads it.

    What was read last is at hand until another such file is read: else each part of a large picture would take as
    long as all of it.

    Args:
        data: The values, which are not kept.
        read: Reads them again.
    """

    read_as_a_whole = True
    _last: ClassVar[tuple[weakref.ref[Unread], NDArray[Any]] | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, data: NDArray[Any], read: Callable[[], NDArray[Any]]) -> None:
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self._read = read

    def __getitem__(self, index: Any) -> Any:
        with Unread._lock:
            last = Unread._last
            if last is None or last[0]() is not self:
                Unread._last = None  # room for the next
                last = Unread._last = weakref.ref(self, Unread._forget), self._read()
            return last[1][index]

    @staticmethod
    def _forget(gone: weakref.ref[Unread]) -> None:
        if Unread._last is not None and Unread._last[0] is gone:
            Unread._last = None


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
            wanted = mapped[index]
            check_fits(self._path, wanted.nbytes)
            return np.array(wanted)  # a copy: the map is closed when nothing refers to it any more

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)


class Pages:
    """The planes of a TIFF series, one page each; only those that are asked for are read.

    Args:
        path: The file.
        series: The series; its file may be closed.
        page: Shape of a page: the last axes of the series.
        guard: Around all reading, to say what is wrong with the file.
    """

    def __init__(self, path: Path, series: tifffile.TiffPageSeries, page: tuple[int, ...], guard: Guard) -> None:
        self.shape, self.dtype, self.ndim = series.shape, series.dtype.newbyteorder("="), len(series.shape)
        self._path, self._series, self._guard, self._lock = path, series, guard, threading.Lock()
        self._outer = self.shape[: self.ndim - len(page)]
        self._last: tuple[int, NDArray[Any]] | None = None
        check_fits(path, math.prod(page) * self.dtype.itemsize)

    def __getitem__(self, index: Any) -> Any:
        """Integers and slices, as of an array."""
        taken = ranges(index, self.shape)
        check_fits(self._path, _bytes(self.dtype, taken))
        outer, inner = taken[: len(self._outer)], taken[len(self._outer) :]
        numbers = read(np.arange(math.prod(self._outer)).reshape(self._outer), outer)
        planes = np.empty((numbers.size, *(len(item) for item in inner if isinstance(item, range))), self.dtype)
        for place, number in enumerate(numbers.ravel().tolist()):
            planes[place] = read(self._plane(number), inner)
        return planes.reshape((*numbers.shape, *planes.shape[1:]))[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def _plane(self, number: int) -> NDArray[Any]:
        with self._lock, self._guard(), _open(self._series.parent):
            if self._last is None or self._last[0] != number:  # the next part is often of the same page
                self._last = None  # room for it
                page = self._series.pages[number]
                with _open(page and page.parent):  # of files that belong together, maybe another one
                    plane = np.asarray(page and page.asarray()).astype(self.dtype, copy=False)
                self._last = number, plane
            return self._last[1]


class Tiles:
    """The values of a TIFF series in tiles or strips; only those that are asked for are read, by way of zarr.

    Args:
        path: The file.
        series: The series; its file may be closed.
        guard: Around all reading, to say what is wrong with the file.
    """

    def __init__(self, path: Path, series: tifffile.TiffPageSeries, guard: Guard) -> None:
        self.shape, self.dtype, self.ndim = series.shape, series.dtype.newbyteorder("="), len(series.shape)
        self._path, self._series, self._guard, self._lock = path, series, guard, threading.Lock()

    def __getitem__(self, index: Any) -> Any:
        """Integers and slices, as of an array."""
        import zarr  # half a second, which files in planes can do without

        taken = ranges(index, self.shape)
        check_fits(self._path, _bytes(self.dtype, taken))
        with self._lock, self._guard(), _open(self._series.parent):
            store: Any = self._series.aszarr(level=0)
            return read(zarr.open_array(store, mode="r"), taken).astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)


def on_disk(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, guard: Guard) -> Any:
    """The values of a series, unread; none if they are not in one piece and not in pages of a plane each."""
    if series.dataoffset is not None:  # one uncompressed piece
        dtype = np.dtype(tif.byteorder + series.dtype.char)
        return Mapped(path, series.dataoffset, dtype, series.shape, guard)
    page = series.keyframe
    here = all(p is not None and p.parent is tif for p in series.pages)
    if here and (page.is_tiled or (page.nbytes > _LARGE and len(page.dataoffsets) > 1)):
        return Tiles(path, series, guard)
    whole_planes = series.shape[len(series.shape) - len(page.shape) :] == page.shape
    pages = math.prod(series.shape) / math.prod(page.shape)
    return Pages(path, series, page.shape, guard) if whole_planes and pages == len(series.pages) else None


def _bytes(dtype: np.dtype[Any], taken: list[Range]) -> int:
    return dtype.itemsize * math.prod(len(item) for item in taken if isinstance(item, range))


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
