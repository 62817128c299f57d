"""PNG and JPEG: pictures without pixel size, channels or time."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngInfo

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.metadata import (
    PROVENANCE,
    FileMetadata,
    Provenance,
    check_series,
    make_image,
    parse_json,
    provenance_to_json,
)
from napari_pristine.threads import CheckCancelled


def read(path: Path, axes: str, series: int | None = None) -> Image:
    """Read a picture: `YX` if it is grey, `YXS` if it is in colour.

    Raises:
        FileError: It cannot be read, or not in its full depth.
        AxesError: The axes do not fit.
    """
    check_series(path, series, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # twice that size is an error
        opened = PIL.Image.open(path)
    with opened:
        _check_depth(path, opened)
        picture: PIL.Image.Image = opened
        if picture.mode == "P":
            picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        elif picture.mode == "LA":
            picture = picture.getchannel("L")
        elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            picture = picture.convert("RGB")
        data = np.asarray(picture)
        provenance = parse_json(opened.info.get(PROVENANCE))
    stated = FileMetadata(metadata={PROVENANCE: provenance} if provenance else {})
    return make_image(path, data, axes or "YXS"[: data.ndim], stated, {"format": "picture"}, path.stem)


def write_png(
    temporary: Path, target: Path, image: Image, provenance: Provenance, check_cancelled: CheckCancelled
) -> None:
    """Write a grey or RGB picture of 8 bits, or a grey one of 16 bits.

    Raises:
        FileError: The image is none of these.
    """
    is_colour = set(image.axes) == set("YXS")
    fits = image.dtype == np.uint8 or (image.dtype == np.uint16 and not is_colour)
    if not fits or not (is_colour or set(image.axes) == set("YX")):
        raise FileError(
            f"'{target}': PNG cannot hold {image.dtype} values with the axes {image.axes}, only pictures "
            "YX of 8 or 16 bits and YXS of 8 bits; write '.tif'"
        )
    check_cancelled()
    order = [image.axes.index(axis) for axis in "YXS"[: len(image.axes)]]
    data = np.ascontiguousarray(np.asarray(image.data).transpose(order))
    info = PngInfo()
    if provenance:
        info.add_text(PROVENANCE, provenance_to_json(provenance))
    PIL.Image.fromarray(data).save(temporary, "png", pnginfo=info)


def _check_depth(path: Path, picture: PIL.Image.Image) -> None:
    """Raise a `FileError` for colour PNGs of 16 bits, of which Pillow would silently drop 8."""
    if picture.format == "PNG" and not picture.mode.startswith("I"):
        with path.open("rb") as file:
            depth = file.read(25)[24]
        if depth == 16:
            raise FileError(f"'{path}' is a colour PNG of 16 bits, which cannot be read in full; convert it to TIFF")
