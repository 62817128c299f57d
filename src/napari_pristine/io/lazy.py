"""Lazy arrays: of an array in a file, only the part that is indexed is read. No file stays open in between.

zarr and tifffile read the chunks; this wrapper adds what they lack: negative steps, another order of the axes, the byte
order of this machine, a check of the free memory before a read, and errors that name the file.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_pristine.errors import FileError, PristineError
from napari_pristine.image.image import Range, ranges, read
from napari_pristine.resources import check_fits
from napari_pristine.text import one_line


@contextmanager
def translate_errors(path: Path, format_name: str) -> Iterator[None]:
    """Turn errors of the system and of libraries that read a file into a `FileError`."""
    try:
        yield
    except PristineError:
        raise
    except MemoryError as error:
        raise FileError(f"'{path}' does not fit into memory; restore it in parts (fewer frames or a crop)") from error
    except OSError as error:
        reason = error.strerror or one_line(error)[:200]
        raise FileError(
            f"'{path}' cannot be read: {reason}; check that its disk or network share is connected"
        ) from error
    except Exception as error:
        # libraries trust a file and raise anything if it is broken: even AttributeError or SystemError
        reason = one_line(error)[:200] or type(error).__name__
        advice = f"it is damaged or not {format_name}; copy it again, or open it in another program and save it again"
        if "imagecodecs" in reason:
            advice = "pip install imagecodecs"
        raise FileError(f"'{path}' cannot be read as {format_name} ({reason}); {advice}") from error


class LazyArray(ABC):
    """An array in a file, read by integers and slices as numpy has them.

    Args:
        path: The file or folder, for messages.
        shape: Shape as stored.
        dtype: Type of the values as stored.
        order: For each axis of this object, the stored axis; the stored order if empty.
        watched: A file that changes when the array is replaced.
    """

    format_name: str
    """For messages."""

    def __init__(
        self, path: Path, shape: Sequence[int], dtype: np.dtype[Any], order: Sequence[int] = (), *, watched: Path
    ) -> None:
        self._path, self._order = path, tuple(order) or tuple(range(len(shape)))
        self._watched, self._stamp = watched, _file_stamp(watched)
        self.shape = tuple(int(shape[axis]) for axis in self._order)
        self.dtype, self.ndim = dtype.newbyteorder("="), len(self.shape)

    @abstractmethod
    def _open(self) -> AbstractContextManager[Any]:
        """Open the stored array: integers and slices with positive steps give new arrays."""

    def __getitem__(self, index: Any) -> NDArray[Any]:
        wanted = ranges(index, self.shape)
        check_fits(self._path, self.dtype.itemsize * math.prod(len(r) for r in wanted if isinstance(r, range)))
        try:
            with translate_errors(self._path, self.format_name), self._open() as stored:
                values = read(stored, self._as_stored(wanted))
        finally:  # even without an error: zarr reads missing chunks as zeros
            self._check_unchanged()
        return values.transpose(self._kept_axes(wanted)).astype(self.dtype, copy=False)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def _check_unchanged(self) -> None:
        """Raise a `FileError` if the file is not the one that was opened."""
        stamp = _file_stamp(self._watched)
        if stamp is None:
            raise FileError(f"'{self._path}' no longer exists; check that its disk or network share is connected")
        if stamp != self._stamp:
            raise FileError(
                f"'{self._path}' has been replaced or changed since it was opened; do not change it while it is used"
            )

    def _as_stored(self, wanted: Sequence[Range]) -> list[Range]:
        """Ranges in the order of the stored axes."""
        return [wanted[axis] for axis in np.argsort(self._order)]

    def _kept_axes(self, wanted: Sequence[Range]) -> list[int]:
        """Position in the stored order of each axis of the result; axes indexed by an integer are dropped."""
        kept = [axis for axis, r in zip(self._order, wanted, strict=True) if isinstance(r, range)]
        return [sorted(kept).index(axis) for axis in kept]


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Numbers of a file that change when it is written to or replaced; None if it does not exist."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


class WholeFile:
    """The values of a file that can only be read as a whole, such as PNG.

    The file that was read last is kept in memory until another one is read: else each block of a large image would
    take as long as the whole of it.

    Args:
        data: The values; only their shape and type are kept.
        read: Reads them again.
    """

    read_as_a_whole = True
    _last: ClassVar[tuple[weakref.ref[WholeFile], NDArray[Any]] | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, data: NDArray[Any], read: Callable[[], NDArray[Any]]) -> None:
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self._read = read

    def __getitem__(self, index: Any) -> Any:
        with WholeFile._lock:
            last = WholeFile._last
            if last is None or last[0]() is not self:
                WholeFile._last = None  # free the memory first
                last = WholeFile._last = weakref.ref(self, WholeFile._forget), self._read()
            return last[1][index]

    @staticmethod
    def _forget(reference: weakref.ref[WholeFile]) -> None:
        if WholeFile._last is not None and WholeFile._last[0] is reference:
            WholeFile._last = None
