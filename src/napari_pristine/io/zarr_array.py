"""Arrays of zarr in a folder: read and written by the chunk, with no file open in between."""

from __future__ import annotations

import lzma
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from napari_pristine.errors import FileError
from napari_pristine.image.lazy_slice import Range, ranges, read
from napari_pristine.resources import check_fits

METADATA = ("zarr.json", ".zarray", ".zgroup")
"""Files by which a folder is known to be zarr."""
_BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError,
    SystemError, lzma.LZMAError, struct.error, zlib.error,
)  # fmt: skip
"""What zarr and its codecs raise on broken files."""


class ZarrArray:
    """An array of zarr whose axes may be in another order; takes integers and slices, to read and to assign.

    Two who write parts of one chunk at the same time lose one of the parts: give each of them whole chunks.

    Args:
        path: The folder of the array.
        order: For each axis of this object, which of the stored ones it is.
        writable: Whether it may be assigned to.

    Raises:
        FileError: There is no such array, it is damaged, or no array of numbers.
    """

    def __init__(self, path: Path, order: tuple[int, ...] | None = None, *, writable: bool = False) -> None:
        with reading(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr warns of names and codecs of others
            store = LocalStore(path, read_only=not writable)
            self._array = zarr.open_array(store, mode="r+" if writable else "r")
            _check_array(path, self._array)
        self._path, self._order = path, order or tuple(range(self._array.ndim))
        self._stamp = _stamp(path)
        self.shape = tuple(int(self._array.shape[axis]) for axis in self._order)
        self.chunks = tuple(int(self._array.chunks[axis]) for axis in self._order)
        self.dtype, self.ndim = np.dtype(self._array.dtype).newbyteorder("="), len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        taken = ranges(index, self.shape)
        check_fits(self._path, self.dtype.itemsize * math.prod(len(t) for t in taken if isinstance(t, range)))
        with reading(self._path):
            values = read(self._array, [taken[place] for place in np.argsort(self._order)])
        if _stamp(self._path) != self._stamp:  # zarr takes chunks that are not there for zeros
            raise FileError(f"'{self._path}' is gone or was replaced while it was read; is its disk or share there?")
        return np.asarray(values.transpose(self._turned(taken))).astype(self.dtype, copy=False)

    def __setitem__(self, index: Any, values: Any) -> None:
        taken = ranges(index, self.shape)
        shape = tuple(len(item) for item in taken if isinstance(item, range))
        stored = np.broadcast_to(np.asarray(values, self.dtype), shape).transpose(np.argsort(self._turned(taken)))
        places = [taken[place] for place in np.argsort(self._order)]
        where = tuple(t if isinstance(t, int) else slice(t.start, t.stop, t.step) for t in places)
        with writing(self._path):
            self._array[where] = stored

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def turned(self, order: tuple[int, ...]) -> ZarrArray:
        """The same array, to be read with its stored axes in another order."""
        return ZarrArray(self._path, order)

    def has(self, index: tuple[slice, ...]) -> bool:
        """Whether any chunk of a part, given in the stored order, was ever written."""
        return any(file.exists() for file in self._files([range(part.start, part.stop) for part in index]))

    def files(self, index: Any) -> Iterator[Path]:
        """Where a part lies on disk; chunks of zeros are not there."""
        taken = [item if isinstance(item, range) else range(item, item + 1) for item in ranges(index, self.shape)]
        return self._files([taken[place] for place in np.argsort(self._order)])

    def _files(self, parts: Sequence[range]) -> Iterator[Path]:
        """The files of all chunks of which something is in a part, given in the stored order."""
        spans = [
            range(min(part) // size, max(part) // size + 1) if part else part
            for part, size in zip(parts, self._array.chunks, strict=True)
        ]
        for at in np.ndindex(*map(len, spans)):
            place = tuple(span[n] for span, n in zip(spans, at, strict=True))
            yield self._path / self._array.metadata.encode_chunk_key(place)

    def _turned(self, taken: list[Range]) -> list[int]:
        """Where each axis that is left is among those left in the stored order."""
        left = [axis for axis, item in zip(self._order, taken, strict=True) if isinstance(item, range)]
        return [sorted(left).index(axis) for axis in left]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say what is wrong with a folder that cannot be read as zarr."""
    try:
        yield
    except MemoryError as error:
        raise FileError(f"'{path}' does not fit into memory; restore it in parts (fewer frames or a crop)") from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise FileError(f"'{path}' cannot be read: {reason}; is its disk or share there?") from error
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileError(f"'{path}' cannot be read as zarr ({reason}); it is damaged, copy it again") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say why a folder cannot be written; chunks appear whole or not at all, as zarr renames them into place."""
    try:
        yield
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be written: {error.strerror or error}; is the disk full or the folder write-protected?"
        ) from error


def _check_array(path: Path, array: zarr.Array[Any]) -> None:
    if array.dtype.kind not in "uifbc":
        raise FileError(f"'{path}' holds no numbers but {array.dtype}; give the path of an image")
    codecs = [*array.compressors, *array.filters]
    if any("pickle" in str(getattr(codec, "codec_id", type(codec).__name__)).lower() for codec in codecs):
        raise FileError(f"'{path}' is packed with pickle, which could run any code; it is not read")
    if math.prod(array.shape) * array.dtype.itemsize >= 2**62:
        raise FileError(f"'{path}' claims to have the shape {array.shape}, which no disk can hold; it is damaged")
    check_fits(path, math.prod(array.chunks) * array.dtype.itemsize)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes if an array is replaced by another."""
    for name in METADATA[:2]:
        try:
            found = os.stat(path / name)
        except OSError:
            continue
        return found.st_ino, found.st_mtime_ns
    return None
