"""Reading and writing files: TIFF (OME, ImageJ, plain), OME-Zarr, and PNG and JPEG for convenience.

No torch and no Qt here. Only the command line, the batch and the panel open files; all else works on `Image`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io import picture as pictures
from napari_pristine.io import tiff
from napari_pristine.io.atomic import ZARR, appearing
from napari_pristine.io.lazy import Unread
from napari_pristine.io.row_chunks import CheckCancelled


class _Format(Protocol):
    """What a module does for the files of a format."""

    def read(self, path: Path, axes: str) -> Image: ...

    def open_lazily(self, path: Path, axes: str) -> Image | None:
        """None where all must be read at once."""

    def write(
        self,
        part: Path,
        target: Path,
        image: Image,
        provenance: Mapping[str, Any] | None,
        check_cancelled: CheckCancelled,
    ) -> None:
        """Write an image; `beat` is called now and then, and may end it by raising."""


_FILES: dict[str, _Format] = {**dict.fromkeys(tiff.SUFFIXES, tiff), **dict.fromkeys(pictures.SUFFIXES, pictures)}

SUFFIXES = (*_FILES, ZARR)
"""Of the files that can be read; those with the last one are folders."""
_MICROSCOPES = (".czi", ".dv", ".ims", ".lif", ".lsm", ".nd2", ".oib", ".oif", ".svs", ".vsi")
"""Suffixes of files of microscopes, which other programs read."""


def advice_on(suffix: str) -> str:
    """What to do about files with a suffix that is none of ours, as the end of a message; nothing for most."""
    if suffix.lower() not in _MICROSCOPES:
        return ""
    return "; export it as OME-TIFF or OME-Zarr, with the microscope's program or Fiji (Bio-Formats)"


def read(path: str | os.PathLike[str], *, axes: str = "", lazy: bool = False) -> Image:
    """The image in a file.

    Args:
        path: A TIFF (`.tif`, `.tiff`, `.ome.tif`, `.btf`, `.tf8`), PNG or JPEG file; an OME-Zarr (`.zarr`), or an
            image or array in one, such as `plate.zarr/A/1/0`.
        axes: One letter per dimension, where the file says nothing or the wrong thing.
        lazy: Leave its values on disk and read what is asked for each time, by the plane, tile or chunk.

    Raises:
        FileError: There is no such file, or it cannot be read.
        AxesError: `axes` do not fit what is in the file.
    """
    path = Path(path)
    try:
        kind = _format(path)
        _check_there(path)
        return _unread(path, kind, axes.upper()) if lazy else kind.read(path, axes.upper())
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
    check_cancelled: CheckCancelled = lambda: None,
) -> None:
    """Write an image with its axes, pixel size, units, time step and channel names.

    The file appears when it is complete: an error, Ctrl-C or a full disk leave nothing behind, and a file that was
    there before stays as it was. `provenance` is what the values came from, such as the recipe, as JSON can hold it;
    `read` gives it back as `metadata["pristine"]`. `beat` is called now and then; what it raises ends the writing.

    Raises:
        FileError: The file exists and `overwrite` is not set, cannot be written, or cannot hold such an image.
    """
    path = Path(path)
    kind = _format(path)
    if 0 in image.shape:
        raise FileError(f"cannot write '{path}': the image is empty (shape {image.shape})")
    with appearing(path, overwrite=overwrite) as part:
        kind.write(part, path, image, provenance, check_cancelled)


def _unread(path: Path, kind: _Format, axes: str) -> Image:
    """The image in a file, its values on disk."""
    image = kind.open_lazily(path, axes)
    if image is None:
        image = kind.read(path, axes)
        image = replace(image, data=Unread(image.data, lambda: np.asarray(kind.read(path, axes).data)))
    return image


def _format(path: Path) -> _Format:
    """What reads and writes files with this suffix."""
    suffix = path.suffix.lower()
    if suffix in _FILES:
        return _FILES[suffix]
    if is_zarr(path):
        from napari_pristine.io import zarr  # half a second, which other formats can do without

        return zarr
    known = ", ".join(SUFFIXES)
    raise FileError(
        f"'{path}' has the suffix '{suffix}', which is no format we know; use one of {known}{advice_on(suffix)}"
    )


def is_zarr(path: Path) -> bool:
    """Whether a path is that of an OME-Zarr or of something in one, by its name."""
    return any(part.lower().endswith(ZARR) for part in path.parts)


def _check_there(path: Path) -> None:
    if not path.exists():
        raise FileError(f"'{path}' does not exist; check the name")
    if is_zarr(path) and path.suffix.lower() not in _FILES:
        if not path.is_dir():
            raise FileError(f"'{path}' is a file, but an OME-Zarr is a folder; copy all of it, or unpack it")
        return
    if path.is_dir():
        raise FileError(f"'{path}' is a folder; give the files in it, e.g. '{path / '*.tif'}'")
    if path.stat().st_size == 0:
        raise FileError(f"'{path}' is empty (0 bytes); copy it again from where it came")
