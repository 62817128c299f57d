"""The degradation of an image, as settings; the forward operators that follow from them are made by `fits.scene`."""

from __future__ import annotations

import re
from typing import Any, Literal

from napari_pristine.errors import SettingError
from napari_pristine.settings import Params, make, setting

_IMAGE = re.compile(r"(?:\"[^\"]*\"|[^;])+")
"""One image of a list; semicolons in quotes do not separate."""
_ASSIGNMENT = re.compile(r"(?:^|\s)(\w+)=(\"[^\"]*\"|\S+)")


class Degradation(Params):
    """Degradation of a scene to its image: blur, then sampling."""

    finer: int = setting(
        1,
        "Factor by which the grid of the result is finer than that of the image.",
        title="Finer grid",
        unit="×",
        higher="smaller pixels; little is gained beyond the resolution of the optics",
        ge=1,
        le=16,
    )
    finer_axes: Literal["YX", "Z", "ZYX"] = setting(
        "YX",
        "Axes along which the grid of the result is finer.",
        title="Finer along",
        labels={"YX": "Y and X", "ZYX": "Z, Y and X"},
        unless=("finer", 1),
    )
    downsampling: Literal["box", "lanczos"] = setting(
        "box",
        "Filter that made coarse pixels: a box (mean), as in cameras, or Lanczos, as in resized images.",
        title="Coarse pixels by",
        labels={"box": "a camera (mean)", "lanczos": "resizing (Lanczos)"},
        unless=("finer", 1),
    )
    blur: Literal["none", "gaussian", "airy", "gibson-lanni", "file"] = setting(
        "none",
        "Blur to undo: the point spread function (PSF), by a formula, or measured (psf_file). With gibson-lanni, light "
        "from below the cover glass is described as well.",
        labels={"gaussian": "Gaussian", "airy": "Airy", "gibson-lanni": "Gibson–Lanni", "file": "measured PSF"},
    )
    psf_file: str = setting(
        "",
        "Measured point spread function, such as the image of a bead: a TIFF or .npy file with pixels as large as "
        "those of the image.",
        title="PSF",
        only=("blur", "file"),
    )
    blur_width: float = setting(
        1.0,
        "Standard deviation of a Gaussian blur.",
        unit="pixels",
        higher="more is sharpened; too high, and rings appear",
        only=("blur", "gaussian"),
        ge=0,
        le=100,
    )
    blur_depth: float | None = setting(
        None,
        "Standard deviation of a Gaussian blur along Z.",
        title="Blur along Z",
        none="as along Y and X",
        unit="planes",
        higher="more is sharpened along Z; too high, and rings appear",
        only=("blur", "gaussian"),
        ge=0,
        le=100,
        advanced=True,
    )
    wavelength: float = setting(
        520.0,
        "Wavelength of the emitted light.",
        unit="nm",
        higher="a wider blur is undone",
        only=("blur", "airy", "gibson-lanni"),
        ge=100,
        le=10_000,
    )
    aperture: float = setting(
        1.2,
        "Numerical aperture of the objective, as engraved on it.",
        title="Aperture (NA)",
        higher="a narrower blur is undone",
        only=("blur", "airy", "gibson-lanni"),
        gt=0,
        le=2,
    )
    refractive_index: float = setting(
        1.33,
        "Refractive index of the sample: 1.33 in water, about 1.45 in glycerol.",
        higher="a longer blur along Z is undone",
        only=("blur", "airy", "gibson-lanni"),
        ge=1,
        le=2.5,
    )
    immersion: float = setting(
        1.33,
        "Refractive index of the immersion medium: 1 for air, 1.33 for water, 1.52 for oil.",
        title="Immersion index",
        higher="further from the index of the sample, the blur is less symmetrical",
        only=("blur", "gibson-lanni"),
        ge=1,
        le=2.5,
        advanced=True,
    )
    depth: float = setting(
        0.0,
        "Depth of the scene below the cover glass.",
        title="Depth in sample",
        unit="µm",
        higher="a wider and less symmetrical blur is undone",
        only=("blur", "gibson-lanni"),
        ge=0,
        le=1000,
        advanced=True,
    )
    pixel_size: float | None = setting(
        None,
        "Distance between neighbouring pixels along Y and X.",
        none="as the image says",
        unit="µm",
        higher="the blur covers fewer pixels",
        only=("blur", "airy", "gibson-lanni"),
        gt=0,
        advanced=True,
    )
    boundary: Literal["reflect", "circular"] = setting(
        "reflect",
        "Continuation of the scene beyond its border, for the blur.",
        title="Beyond border",
        labels={"reflect": "mirrored", "circular": "repeated"},
        unless=("blur", "none"),
        advanced=True,
    )
    weight: float | None = setting(
        None,
        "Weight of the errors of this image relative to those of others; in the paper 0.1 if noisy, else 1.",
        title="Image weight",
        none="by its noise",
        higher="the result follows this image more",
        ge=0,
        le=1000,
        advanced=True,
    )

    def factors(self, axes: str) -> tuple[int, ...]:
        """Pixels of the scene along one pixel of the image, for each of `axes`."""
        return tuple(self.finer if axis in self.finer_axes else 1 for axis in axes)

    def is_identity(self, axes: str) -> bool:
        """True if the image shows the scene as it is, neither blurred nor coarser."""
        return self.blur == "none" and set(self.factors(axes)) == {1}


class ExtraImage(Degradation):
    """An extra image of the same scene."""

    file: str = setting("", "File of the image; empty if the image itself is given.")


def parse_extra_images(text: str) -> tuple[ExtraImage, ...]:
    """Read a list of extra images from a text: `FILE NAME=VALUE …`, separated by semicolons; values may be quoted.

    Raises:
        SettingError: A part of it cannot be read, or a setting is unknown or out of range.
    """
    parts = [part.strip() for part in _IMAGE.findall(text)]
    return tuple(_parse_extra_image(part) for part in parts if part)


def read_extra_images(value: Any) -> Any:
    """Read a list of extra images from a text, or from a list of texts, mappings and images; keep other values.

    Raises:
        SettingError: One of them cannot be read.
    """
    if isinstance(value, str):
        return parse_extra_images(value)
    if not isinstance(value, (list, tuple)):
        return value
    images: list[Any] = []
    for number, item in enumerate(value, start=1):
        if isinstance(item, str):
            images += parse_extra_images(item)
        elif isinstance(item, dict):
            try:
                images.append(make(ExtraImage, item))
            except SettingError as error:
                raise SettingError(f"extra_images: {error} (image {number} of the list)") from error
        else:
            images.append(item)
    return tuple(images)


def _parse_extra_image(text: str) -> ExtraImage:
    first = _ASSIGNMENT.search(text)
    file, rest = (text[: first.start()], text[first.start() :]) if first else (text, "")
    if unread := _ASSIGNMENT.sub(" ", rest).strip():
        raise SettingError(
            f"extra_images: cannot read '{unread}' in '{text}'; write FILE NAME=VALUE NAME=VALUE, "
            "and separate images by semicolons"
        )
    values = {name: value.strip('"') for name, value in _ASSIGNMENT.findall(rest)}
    if "file" in values:
        raise SettingError(f"extra_images: write the file first in '{text}', without 'file='")
    try:
        return make(ExtraImage, {**values, "file": file.strip().strip('"')})
    except SettingError as error:
        raise SettingError(f"extra_images: {error} (in '{text}')") from error
