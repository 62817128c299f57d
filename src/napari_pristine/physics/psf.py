"""Spots: the picture of a point, by formula or as measured."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage, special

from napari_pristine.errors import SettingError
from napari_pristine.physics.operator import Grid

_TAIL = 5.0
"""Standard deviations at which a Gaussian is cut."""
_RINGS = 13.3
"""Optical radius at which an Airy pattern is cut: its fourth dark ring, with 95 % of the light inside."""
_DEPTH = 30.0
"""Optical depth at which its extension along Z is cut: the second dark point on the axis is at 8π."""
_ROUNDING = 1e-6
"""Of a centre of mass, in pixels."""
_FINE = 3
"""Points along each axis of a pixel over which light is summed."""
_SPACE = "ZYX"
"""Axes along which light spreads; along others, such as T, pictures of points are apart."""
_PUPIL = 200
"""Rings into which the pupil is divided."""


@dataclass(frozen=True)
class GaussianPSF:
    """A Gaussian.

    Attributes:
        widths: Standard deviation along each axis, in pixels of the grid that it acts on; 0 for none.
    """

    widths: tuple[float, ...]

    def values(self, grid: Grid) -> NDArray[np.float64]:
        """Sampled at the pixel centres."""
        spot = np.ones([1] * len(grid.axes))
        for axis, width in enumerate(self.widths):
            half = math.ceil(_TAIL * width)
            line = np.exp(-0.5 * (np.arange(-half, half + 1) / max(width, 1e-9)) ** 2)
            spot = spot * line.reshape([-1 if a == axis else 1 for a in range(len(grid.axes))])
        return np.asarray(spot / spot.sum(), np.float64)


@dataclass(frozen=True)
class AiryPSF:
    """A point in the focus of a perfect wide-field microscope: the Airy pattern; with Z, that of Born & Wolf.

    Attributes:
        wavelength: Of the emitted light, in µm.
        aperture: Numerical aperture.
        index: Refractive index.
    """

    wavelength: float
    aperture: float
    index: float

    def values(self, grid: Grid) -> NDArray[np.float64]:
        """Summed over the area of each pixel."""
        wave = 2 * math.pi / self.wavelength
        halo = {"Z": _DEPTH * self.index / (wave * self.aperture**2)}
        space = [(a, d) for a, d in zip(grid.axes, grid.spacing, strict=True) if a in _SPACE]
        halves = [math.ceil(halo.get(axis, _RINGS / (wave * self.aperture)) / d) for axis, d in space]
        fine = [_positions(half, d) for half, (_, d) in zip(halves, space, strict=True)]
        depth = fine[0] if len(fine) == 3 else np.zeros(1)
        radius = np.hypot(fine[-2][:, None], fine[-1])
        rings, which = np.unique(radius.round(9), return_inverse=True)
        light = self._light(wave * self.aperture * rings, wave * self.aperture**2 / self.index * depth)
        light = light[:, which.reshape(radius.shape)].reshape([len(f) for f in fine])
        for axis, half in enumerate(halves):
            light = light.reshape(*light.shape[:axis], 2 * half + 1, _FINE, *light.shape[axis + 1 :]).sum(axis + 1)
        return _in_space(light / light.sum(), grid)

    def _light(self, radii: NDArray[np.float64], depths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Intensity `(depths, radii)` at optical coordinates (Born & Wolf, section 8.8): the pupil ring by ring."""
        pupil = (np.arange(_PUPIL) + 0.5) / _PUPIL
        waves = special.j0(pupil[:, None] * radii) * pupil[:, None]
        return np.asarray(np.abs(np.exp(-0.5j * depths[:, None] * pupil**2) @ waves) ** 2, np.float64)


@dataclass(frozen=True)
class GibsonLanniPSF:
    """A point below the cover glass, by the model of Gibson & Lanni (package psfmodels).

    Attributes:
        wavelength: Of the emitted light, in µm.
        aperture: Numerical aperture.
        index: Refractive index of the sample.
        immersion: Refractive index of the immersion medium, in which the objective is used as designed.
        depth: Of the point below the cover glass, in µm.
    """

    wavelength: float
    aperture: float
    index: float
    immersion: float
    depth: float

    def values(self, grid: Grid) -> NDArray[np.float64]:
        """Summed over the area of each pixel."""
        try:
            models = importlib.import_module("psfmodels")
        except ImportError as error:
            raise SettingError(
                "blur 'gibson-lanni' needs the package psfmodels; pip install 'napari-pristine[psf]', or use 'airy'"
            ) from error
        half = math.ceil(1.5 * _RINGS * self.wavelength / (2 * math.pi * self.aperture) / grid.spacing[-1])
        planes, step = 0, 1.0
        if "Z" in grid.axes:
            step = grid.spacing[grid.axes.index("Z")]
            planes = math.ceil(_DEPTH * self.index * self.wavelength / (2 * math.pi * self.aperture**2) / step)
        light = models.make_psf(
            z=[step * plane for plane in range(-planes, planes + 1)], nx=2 * half + 1, dxy=grid.spacing[-1],
            pz=self.depth, NA=self.aperture, wvl=self.wavelength, ns=self.index, ni=self.immersion,
            ni0=self.immersion, model="scalar",
        )  # fmt: skip
        light = light.reshape(light.shape[-sum(axis in _SPACE for axis in grid.axes) :])
        return _in_space(light / light.sum(), grid)


@dataclass(frozen=True, eq=False)
class MeasuredPSF:
    """A measured spot.

    Attributes:
        picture: Its values, with the pixels of the picture; the background is taken away already.
        times: How many times finer the grid is that it acts on, along each axis.
    """

    picture: NDArray[np.float64]
    times: tuple[int, ...]

    def values(self, grid: Grid) -> NDArray[np.float64]:
        """Centred on its centre of mass, which may lie between pixels, negative values taken for zero.

        Raises:
            SettingError: It has another number of axes, no light, or its light at the border.
        """
        picture = np.maximum(np.nan_to_num(np.asarray(self.picture, np.float64)), 0).squeeze()
        if picture.ndim != len(grid.axes) or not picture.any():
            raise SettingError(
                f"the picture of the point spread function has the shape {np.shape(self.picture)}; "
                f"one with the axes {grid.axes} and some light in it is needed"
            )
        centre = [float(c) for c in ndimage.center_of_mass(picture)]
        halves = [  # up to half a pixel beyond the border, where there is no light: even sides lose none
            math.floor(min(c, n - 1 - c) * k + 0.5 + _ROUNDING)
            for c, n, k in zip(centre, picture.shape, self.times, strict=True)
        ]
        if any(half < 1 < n for half, n in zip(halves, picture.shape, strict=True)):
            raise SettingError(
                f"the light of the point spread function lies at the border of its picture (its centre is at "
                f"{', '.join(f'{c:.1f}' for c in centre)} of {' × '.join(map(str, picture.shape))} pixels); "
                "one with the point near its middle is needed"
            )
        at = [c + np.arange(-h, h + 1) / k for c, h, k in zip(centre, halves, self.times, strict=True)]
        spot = ndimage.map_coordinates(picture, np.meshgrid(*at, indexing="ij"), order=1, mode="grid-constant")
        return np.asarray(spot / spot.sum(), np.float64)


def _in_space(spot: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """A spot along the axes of space that a grid has, with a side of one along all others."""
    sides = iter(spot.shape)
    return np.asarray(spot, np.float64).reshape([next(sides) if axis in _SPACE else 1 for axis in grid.axes])


def _positions(half: int, spacing: float) -> NDArray[np.float64]:
    """Positions of the fine points of 2 · half + 1 pixels, 0 in the middle."""
    count = (2 * half + 1) * _FINE
    return (np.arange(count) - (count - 1) / 2) * spacing / _FINE


def read_psf(path: Any) -> MeasuredPSF:
    """Read a measured point spread function from a TIFF or .npy file."""
    values = np.load(path, allow_pickle=False) if Path(path).suffix == ".npy" else tifffile.imread(path)
    return MeasuredPSF(np.asarray(values, np.float64), (1,) * np.ndim(values))
