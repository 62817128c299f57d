"""Degradation: the settings that say how a picture came from its scene, and the operators that follow from them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_pristine.errors import SettingError
from napari_pristine.methods.method import NoisyBlock
from napari_pristine.physics.blur import PSF, Blur
from napari_pristine.physics.operator import Grid, Operators, before
from napari_pristine.physics.psf import AiryPSF, GaussianPSF, GibsonLanniPSF, MeasuredPSF
from napari_pristine.physics.sampling import Downsample
from napari_pristine.settings import Params, make, setting

_NM = 1e-3
"""One nanometre in µm."""
_PART = re.compile(r"(?:\"[^\"]*\"|[^;])+")
"""One picture; semicolons in quotes are its own."""
_NAME = re.compile(r"(?:^|\s)(\w+)=(\"[^\"]*\"|\S+)")


class Degradation(Params):
    """How a picture came from its scene: blurred first, then sampled."""

    finer: int = setting(1, "How many times finer the grid of the result is than that of the picture.", ge=1, le=16)
    finer_axes: Literal["YX", "Z", "ZYX"] = setting("YX", "Axes along which it is finer.")
    downsampling: Literal["box", "lanczos"] = setting(
        "box", "How fine pixels became one: their mean, as in cameras, or a sinc, as in resized pictures."
    )
    blur: Literal["none", "gaussian", "airy", "gibson-lanni", "file"] = setting(
        "none", "The picture of a point: by formula, or measured (psf_file)."
    )
    blur_width: float = setting(1.0, "Standard deviation of a Gaussian blur.", unit="pixels", ge=0, le=100)
    blur_depth: float | None = setting(
        None, "The same along Z.", none="as blur_width", unit="planes", ge=0, le=100, advanced=True
    )
    wavelength: float = setting(520.0, "Wavelength of the emitted light.", unit="nm", ge=100, le=10_000)
    aperture: float = setting(1.2, "Numerical aperture of the objective.", gt=0, le=2)
    refractive_index: float = setting(1.33, "Refractive index of the sample.", ge=1, le=2.5)
    immersion: float = setting(1.33, "Refractive index of the immersion medium.", ge=1, le=2.5, advanced=True)
    depth: float = setting(
        0.0, "Depth of the scene below the cover glass, for gibson-lanni.", unit="µm", ge=0, le=1000, advanced=True
    )
    pixel_size: float | None = setting(
        None, "Distance of neighbouring pixels along Y and X.", none="as the image says", unit="µm", gt=0, advanced=True
    )
    psf_file: str = setting("", "Measured picture of a point: a TIFF or .npy file with pixels as large as the image's.")
    boundary: Literal["reflect", "circular"] = setting(
        "reflect", "What a blur finds beyond the border; patches assume nothing there.", advanced=True
    )
    weight: float | None = setting(
        None,
        "Weight of this picture's misfit beside that of others; the paper: 0.1 if noisy, else 1.",
        none="as its noise says",
        ge=0,
        le=1000,
        advanced=True,
    )

    def times(self, axes: str) -> tuple[int, ...]:
        """How many pixels of the scene lie along one of the picture, for each of `axes`."""
        return tuple(self.finer if axis in self.finer_axes else 1 for axis in axes)

    def shows_all(self, axes: str) -> bool:
        """Whether the picture shows the scene as it is, neither blurred nor coarser."""
        return self.blur == "none" and set(self.times(axes)) == {1}

    def operators(self, picture: Grid) -> Operators:
        """From the scene to a picture with this grid; the mask of what was seen is not among them.

        Raises:
            SettingError: The optics need a pixel size, or a file cannot be read.
        """
        spot = self._spot(picture)
        blur = () if spot is None else (Blur(spot, self.boundary),)
        sampled = (Downsample(self.finer, self.finer_axes, self.downsampling),) if self.finer > 1 else ()
        return (*blur, *sampled)

    def grid(self, axes: str, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Grid:
        """The grid of the picture, with the pixel size that is set."""
        size = self.pixel_size
        return Grid(axes, shape, tuple(size if size and a in "YX" else d for a, d in zip(axes, spacing, strict=True)))

    def way(self, picture: NoisyBlock) -> tuple[Operators, Grid]:
        """The operators from the scene to a picture, and the grid of the scene."""
        grid = self.grid(picture.axes, tuple(picture.pixels.shape[1:]), picture.spacing)
        operators = self.operators(grid)
        return operators, before(operators, grid)

    def _spot(self, picture: Grid) -> PSF | None:
        times = self.times(picture.axes)
        if self.blur == "gaussian":
            along_z = self.blur_width if self.blur_depth is None else self.blur_depth
            widths = {"Y": self.blur_width, "X": self.blur_width, "Z": along_z}
            return GaussianPSF(tuple(widths.get(a, 0.0) * k for a, k in zip(picture.axes, times, strict=True)))
        if self.blur == "file":
            return MeasuredPSF(_read_spot(self.psf_file), times)
        if self.blur == "none":
            return None
        if picture.spacing[-1] == 1 and self.pixel_size is None:
            raise SettingError(
                f"blur '{self.blur}' needs to know how large a pixel is, and the image does not say; "
                "set pixel_size, in µm"
            )
        if self.blur == "airy":
            return AiryPSF(self.wavelength * _NM, self.aperture, self.refractive_index)
        return GibsonLanniPSF(self.wavelength * _NM, self.aperture, self.refractive_index, self.immersion, self.depth)


class ExtraImage(Degradation):
    """One more picture of the same scene."""

    file: str = setting("", "Where it is.")


def parse_extra_images(text: str) -> tuple[ExtraImage, ...]:
    """The further pictures that a text names: one per semicolon, `FILE NAME=VALUE …`; values may be quoted.

    Raises:
        SettingError: A part of it cannot be read, or a setting is unknown or out of range.
    """
    parts = [part.strip() for part in _PART.findall(text)]
    return tuple(_parse_one(part) for part in parts if part)


def _parse_one(text: str) -> ExtraImage:
    first = _NAME.search(text)
    file, rest = (text[: first.start()], text[first.start() :]) if first else (text, "")
    left = _NAME.sub(" ", rest).strip()
    if left:
        raise SettingError(
            f"also: cannot read '{left}' in '{text}'; write FILE NAME=VALUE NAME=VALUE, "
            "one picture after the other with semicolons between"
        )
    values = {name: value.strip('"') for name, value in _NAME.findall(rest)}
    if "file" in values:
        raise SettingError(f"also: the file stands first in '{text}', without 'file='")
    try:
        return make(ExtraImage, {**values, "file": file.strip().strip('"')})
    except SettingError as error:
        raise SettingError(f"also: {error} (in '{text}')") from error


def _read_spot(file: str) -> NDArray[np.float64]:
    path = Path(file).expanduser()
    if not file or not path.is_file():
        raise SettingError(f"psf_file: there is no file '{file}'; give the measured picture of a point, TIFF or .npy")
    found = path.stat()
    return _read_version(file, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=8)
def _read_version(file: str, changed: int, size: int) -> NDArray[np.float64]:
    """The values of a file as it is now, read once: it is another file to the cache when it has changed."""
    path = Path(file).expanduser()
    try:
        values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else tifffile.imread(path)
    except (ValueError, OSError, tifffile.TiffFileError) as error:
        raise SettingError(f"psf_file: cannot read '{file}': {error}; a TIFF or .npy file is needed") from error
    return np.asarray(values, np.float64)
