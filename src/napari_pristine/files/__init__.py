"""Reading and writing files: TIFF (OME, ImageJ, plain), and PNG and JPEG for convenience.

No torch and no Qt here. Only the command line, the batch and the panel open files; all else works on `Image`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_pristine.atomic import appearing
from napari_pristine.errors import FileError
from napari_pristine.files import pictures, tiff
from napari_pristine.files.lazy import Unread
from napari_pristine.image.image import Image

_Reader = Callable[[Path, str], Image]
_Writer = Callable[[Path, Path, Image, Mapping[str, Any] | None], None]
_FORMATS: dict[str, tuple[_Reader, _Writer]] = {
    **dict.fromkeys(tiff.SUFFIXES, (tiff.read, tiff.write)),
    **dict.fromkeys(pictures.SUFFIXES, (pictures.read, pictures.write)),
}

SUFFIXES = tuple(_FORMATS)
"""Of the files that can be read."""


def read(path: str | os.PathLike[str], *, axes: str = "", lazy: bool = False) -> Image:
    """The image in a file.

    Args:
        path: A TIFF (`.tif`, `.tiff`, `.ome.tif`, `.btf`, `.tf8`), PNG or JPEG file.
        axes: One letter per dimension, where the file says nothing or the wrong thing.
        lazy: Leave its values on disk and read what is asked for each time: plane by plane from most TIFF files.

    Raises:
        FileError: There is no such file, or it cannot be read.
        AxesError: `axes` do not fit what is in the file.
    """
    path = Path(path)
    reader, _ = _format(path)
    try:
        _check_there(path)
        return _unread(path, reader, axes.upper()) if lazy else reader(path, axes.upper())
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise FileError(f"'{path}' does not fit into memory; restore it in parts (fewer frames or a crop)") from error


def write(
    path: str | os.PathLike[str],
    image: Image,
    *,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write an image with its axes, pixel size, units, time step and channel names.

    The file appears when it is complete: an error, Ctrl-C or a full disk leave nothing behind, and a file that was
    there before stays as it was. `provenance` is what the values came from, such as the recipe, as JSON can hold it;
    `read` gives it back as `metadata["pristine"]`.

    Raises:
        FileError: The file exists and `overwrite` is not set, cannot be written, or cannot hold such an image.
    """
    path = Path(path)
    _, writer = _format(path)
    if 0 in image.shape:
        raise FileError(f"cannot write '{path}': the image is empty (shape {image.shape})")
    with appearing(path, overwrite=overwrite) as part:
        writer(part, path, image, provenance)


def _unread(path: Path, reader: _Reader, axes: str) -> Image:
    """The image in a file, its values on disk."""
    image = tiff.open_lazily(path, axes) if reader is tiff.read else None
    if image is None:
        image = reader(path, axes)
        image = replace(image, data=Unread(image.data, lambda: np.asarray(reader(path, axes).data)))
    return image


def _format(path: Path) -> tuple[_Reader, _Writer]:
    """What reads and writes files with this suffix."""
    suffix = path.suffix.lower()
    if suffix == ".zarr":
        raise FileError(f"'{path}': OME-Zarr is not read or written yet; use a TIFF file")
    if suffix not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise FileError(f"'{path}' has the suffix '{suffix}', which is no format we know; use one of {known}")
    return _FORMATS[suffix]


def _check_there(path: Path) -> None:
    if path.is_dir():
        raise FileError(f"'{path}' is a folder; give the files in it, e.g. '{path / '*.tif'}'")
    if not path.exists():
        raise FileError(f"'{path}' does not exist; check the name")
    if path.stat().st_size == 0:
        raise FileError(f"'{path}' is empty (0 bytes); copy it again from where it came")
