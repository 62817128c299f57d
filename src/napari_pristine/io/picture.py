"""PNG and JPEG, for convenience: pictures without pixel size, channels or time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngInfo

from napari_pristine.errors import AxesError, FileError
from napari_pristine.image.image import Image, check_axes
from napari_pristine.io.metadata import PROVENANCE, from_json, to_json
from napari_pristine.io.row_chunks import CheckCancelled

SUFFIXES = (".png", ".jpg", ".jpeg")
_BROKEN = (PIL.Image.DecompressionBombError, SyntaxError, ValueError)


def read(path: Path, axes: str) -> Image:
    """The picture in the file: `YX` if grey, `YXS` if in colour."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # what is twice as large is refused
            opened = PIL.Image.open(path)
        with opened as picture:
            _check_depth(path, picture)
            data = np.asarray(_plain(picture))
            provenance = from_json(picture.info.get(PROVENANCE))
    except _BROKEN as error:
        raise FileError(f"'{path}' cannot be read as a picture: {error}") from error
    axes = axes or "YXS"[: data.ndim]
    try:
        check_axes(axes, data.shape)
    except AxesError as error:
        raise AxesError(f"'{path.name}': {error}") from None
    metadata = {"format": "picture"} | ({PROVENANCE: provenance} if provenance else {})
    return Image(data, axes, name=path.stem, metadata=metadata)


def open_lazily(path: Path, axes: str) -> Image | None:
    """None: pictures are read as a whole."""


def write(
    part: Path, target: Path, image: Image, provenance: Mapping[str, Any] | None, check_cancelled: CheckCancelled
) -> None:
    """Write a grey or RGB picture of 8 bits, or a grey one of 16 bits, as PNG."""
    if target.suffix.lower() != ".png":
        raise FileError(f"'{target}': JPEG throws away the detail that was restored; write '.tif' or '.png'")
    colour = set(image.axes) == set("YXS")
    fits = image.dtype == np.uint8 or (image.dtype == np.uint16 and not colour)
    if not fits or not (colour or set(image.axes) == set("YX")):
        raise FileError(
            f"'{target}': PNG cannot hold {image.dtype} values with the axes {image.axes}, only pictures "
            "YX of 8 or 16 bits and YXS of 8 bits; write '.tif'"
        )
    order = [image.axes.index(axis) for axis in "YXS"[: len(image.axes)]]
    data = np.ascontiguousarray(np.asarray(image.data).transpose(order))
    info = PngInfo()
    if provenance:
        info.add_text(PROVENANCE, to_json(provenance))
    PIL.Image.fromarray(data).save(part, "png", pnginfo=info)


def _check_depth(path: Path, picture: PIL.Image.Image) -> None:
    """Raise where Pillow would drop half of the bits without a word: 16-bit PNG, unless grey."""
    if picture.format == "PNG" and not picture.mode.startswith("I"):
        with path.open("rb") as file:
            depth = file.read(25)[24]  # as the format has it at this place
        if depth == 16:
            raise FileError(f"'{path}' is a colour PNG of 16 bits, which cannot be read in full; convert it to TIFF")


def _plain(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture in grey, RGB or RGBA, whichever way its file encodes it."""
    if picture.mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode == "LA":
        return picture.getchannel("L")
    return picture.convert("RGB") if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV") else picture
