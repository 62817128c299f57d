"""The file formats, and reading and writing by the suffix of a file.

To add a format, write a module with a function `read` (and `open_lazily` and `write`, if it can do that), add it to
`FORMATS`, and remove its suffix from `_MICROSCOPE_SUFFIXES`. Neither torch nor Qt are used here.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image, check_text
from napari_pristine.io import microscope, picture, tiff, tiff_writer, vendors, zarr
from napari_pristine.io.atomic import ZARR_SUFFIX, atomic_write, is_zarr_node
from napari_pristine.io.lazy import WholeFile, translate_errors
from napari_pristine.io.metadata import WHITE_IS_ZERO, Provenance, lost_extras
from napari_pristine.threads import CheckCancelled


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: Its name, for messages.
        suffixes: Suffixes of its files, in lower case.
        read: Read the image of a file into memory. Takes the path, the axes that the user has given, one capital
            letter per dimension, or an empty text, and the number of the image in a file that holds several.
        open_lazily: Open the image without reading its values; returns None for a file that can only be read as a
            whole. If there is no such function, that holds for all files.
        write: Write an image. Takes the temporary path to write to, the final path, the image, its provenance, and a
            `CheckCancelled` callback. None for formats that are only read.
        result_suffix: Suffix of the result for an input of this format, if the format is only read.
        kept_extras: Keys of `metadata.EXTRAS` that a file of an image holds; none if there is no such function.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, str, int | None], Image]
    open_lazily: Callable[[Path, str, int | None], Image | None] | None = None
    write: Callable[[Path, Path, Image, Provenance, CheckCancelled], None] | None = None
    result_suffix: str = ".ome.tif"
    kept_extras: Callable[[Path, Image], frozenset[str]] | None = None


FORMATS = (
    Format(
        "TIFF", (".tif", ".tiff", ".btf", ".tf8"), tiff.read, tiff.open_lazily, tiff_writer.write,
        kept_extras=tiff_writer.kept_extras,
    ),
    Format("MetaMorph stack", (".stk",), tiff.read, tiff.open_lazily),
    Format("LSM", (".lsm",), tiff.read, tiff.open_lazily),
    Format("PNG", (".png",), picture.read, write=picture.write_png),
    Format("JPEG", (".jpg", ".jpeg"), picture.read, result_suffix=".tif"),
    Format(
        "OME-Zarr", (ZARR_SUFFIX,), zarr.read, zarr.open_lazily, zarr.write,
        kept_extras=lambda target, image: frozenset({WHITE_IS_ZERO}),
    ),
    *(
        Format(kind.format_name, kind.suffixes, partial(microscope.read, kind), partial(microscope.open_lazily, kind))
        for kind in vendors.KINDS
    ),
)  # fmt: skip
SUFFIXES = tuple(suffix for format_ in FORMATS for suffix in format_.suffixes)
"""Suffixes of all files that can be read; those with `.zarr` are folders."""
RESULT_SUFFIXES = tuple(suffix for format_ in FORMATS if format_.write for suffix in format_.suffixes)
"""Suffixes of all files that can be written."""
COMPANION_FOLDERS = (".oif.files",)
"""Suffixes of folders that hold the planes of a file beside them."""
_MICROSCOPE_SUFFIXES = (
    ".dv", ".r3d", ".ims", ".svs", ".scn", ".ndpi", ".mrxs", ".bif", ".vsi", ".oir", ".poir", ".lei", ".xlef", ".xlif",
    ".mvd2", ".sld", ".sldy", ".tf2", ".zvi", ".ipl", ".liff", ".flex", ".cxd", ".aim", ".afi", ".qptiff",
)  # fmt: skip


def read(path: str | os.PathLike[str], *, axes: str = "", series: int | None = None, lazy: bool = False) -> Image:
    """Read the image in a file.

    Args:
        path: A TIFF (`.tif`, `.tiff`, `.ome.tif`, `.btf`, `.tf8`), PNG or JPEG file, or one of a microscope (`.czi`,
            `.lif`, `.lof`, `.lsm`, `.nd2`, `.oib`, `.oif`, `.stk`); an OME-Zarr, or a plate, well, image or array in
            one, such as `plate.zarr/A/1/0`.
        axes: One letter per dimension, where the file states none or wrong ones.
        series: Number of the image in a file that holds several, from 0; by default the one that was measured.
        lazy: Leave the values on disk; each access reads the planes, tiles or chunks that it needs.

    Raises:
        FileError: There is no such file, or it cannot be read.
        AxesError: `axes` do not fit the image.
    """
    check_text(axes)
    path, axes = Path(path), axes.upper()
    if glob.has_magic(str(path)) and not os.path.lexists(path):
        raise FileError(f"'{path}' does not exist, and patterns cannot be used here; give the name of a single file")
    if lazy and (opened := open_lazily(path, axes, series)) is not None:
        return opened
    format_ = _format_of(path)

    def read_whole() -> Image:
        with translate_errors(path, format_.name):
            _check_exists(path, folder=ZARR_SUFFIX in format_.suffixes)
            return format_.read(path, axes, series)

    image = read_whole()
    if not lazy:
        return image
    return replace(image, data=WholeFile(image.data, lambda: np.asarray(read_whole().data)))


def open_lazily(path: Path, axes: str = "", series: int | None = None) -> Image | None:
    """Open the image in a file without reading its values; arguments and errors as of `read`.

    Returns:
        The image; None if its file can only be read as a whole.
    """
    format_ = _format_of(path)
    with translate_errors(path, format_.name):
        _check_exists(path, folder=ZARR_SUFFIX in format_.suffixes)
        return format_.open_lazily(path, axes, series) if format_.open_lazily else None


def write(
    path: str | os.PathLike[str],
    image: Image,
    *,
    provenance: Provenance = None,
    overwrite: bool = False,
    check_cancelled: CheckCancelled = lambda: None,
) -> None:
    """Write an image with its axes, pixel size, units, time step and channel names.

    The file appears under its name when it is complete: after an error, Ctrl-C or on a full disk nothing is left
    behind, and a file that existed before is unchanged.

    Args:
        path: The file; its suffix decides on the format.
        image: The image; a lazy one is read plane by plane.
        provenance: Origin of the image, such as its recipe, as JSON can hold it; `read` returns it as
            `metadata["pristine"]`.
        overwrite: Replace a file that exists.
        check_cancelled: Called regularly; raises to cancel.

    Raises:
        FileError: The file exists and `overwrite` is not set, it cannot be written, or its format cannot hold the
            image or is only read.
    """
    path = Path(path)
    format_ = _find_format(path)
    if format_ is None or format_.write is None:
        what = f": {format_.name} files can be read but not written" if format_ else _unknown_suffix(path)
        raise FileError(f"'{path}'{what}; use one of {', '.join(RESULT_SUFFIXES)}")
    if 0 in image.shape:
        raise FileError(f"cannot write '{path}': the image is empty (shape {image.shape})")
    with atomic_write(path, overwrite=overwrite) as temporary:
        format_.write(temporary, path, image, provenance, check_cancelled)


def loss(target: Path, image: Image) -> str:
    """Describe the metadata of an image that a result cannot hold; empty if there are none.

    Raises:
        FileError: The format cannot hold the image.
    """
    kept = _format_of(target).kept_extras
    return lost_extras(image, kept(target, image) if kept else frozenset())


def result_name(source: Path) -> str:
    """Name for the result of a file in the same format, or in OME-TIFF if the format is only read."""
    for format_ in FORMATS:
        if source.suffix.lower() in format_.suffixes and format_.write is None:
            return source.stem + format_.result_suffix
    return source.name


def is_zarr(path: Path) -> bool:
    """True for a Zarr group or array, and for a path with the name of an OME-Zarr, or inside one."""
    if is_zarr_node(path) or path.suffix.lower() == ZARR_SUFFIX:
        return True
    return path.suffix.lower() not in SUFFIXES and any(part.lower().endswith(ZARR_SUFFIX) for part in path.parts)


def export_advice(suffix: str) -> str:
    """Advice for a message about an unknown suffix: convert the file, if it is from a microscope; else empty."""
    if suffix.lower() == ".ome":
        return "; give one of the OME-TIFF files beside it, with which it is read"
    if suffix.lower() not in _MICROSCOPE_SUFFIXES:
        return ""
    return "; export it as OME-TIFF or OME-Zarr, with the microscope's program or Fiji (Bio-Formats)"


def _format_of(path: Path) -> Format:
    """Format of a file to be read.

    Raises:
        FileError: There is none with this suffix.
    """
    if format_ := _find_format(path):
        return format_
    if path.is_dir():
        raise FileError(_folder_message(path))
    suffixes = ", ".join(SUFFIXES)
    raise FileError(f"'{path}'{_unknown_suffix(path)}; use one of {suffixes}{export_advice(path.suffix)}")


def _find_format(path: Path) -> Format | None:
    suffix = ZARR_SUFFIX if is_zarr(path) else path.suffix.lower()
    return next((format_ for format_ in FORMATS if suffix in format_.suffixes), None)


def _unknown_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return f" has the suffix '{suffix}', which is not a known format" if suffix else " has no suffix to tell its format"


def _folder_message(path: Path) -> str:
    return f"'{path}' is a folder; give the files in it, e.g. '{path / '*.tif'}'"


def _check_exists(path: Path, *, folder: bool) -> None:
    """Raise a `FileError` unless there is a file, or a folder, that is not empty."""
    if not path.exists():
        raise FileError(f"'{path}' does not exist; check the name")
    if folder and not path.is_dir():
        raise FileError(f"'{path}' is a file, but an OME-Zarr is a folder; copy all of it, or unpack it")
    if not folder and path.is_dir():
        raise FileError(_folder_message(path))
    if not folder and path.stat().st_size == 0:
        raise FileError(f"'{path}' is empty (0 bytes); copy it again from its source")
