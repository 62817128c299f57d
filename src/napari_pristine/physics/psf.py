"""Point spread functions (PSF): the image of a point, by formula or measured.

To add one, derive a class from `FormulaPSF`, and add a choice of `blur` to `methods.degradation.Degradation`.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from scipy import ndimage, special
from torch import Tensor

from napari_pristine.errors import SettingError
from napari_pristine.physics.operator import Grid

_GAUSSIAN_EXTENT = 5.0
"""Half side of a Gaussian, in standard deviations."""
_AIRY_EXTENT = 13.3
"""Half side of an Airy pattern, in optical units: its fourth dark ring, which encloses 95 % of the light."""
_AXIAL_EXTENT = 30.0
"""Half extent along Z, in optical units; the second dark point on the axis is at 8π."""
_CENTRE_TOLERANCE = 1e-6
"""Rounding error of a centre of mass, in pixels."""
_SUBSAMPLES = 3
"""Points along each axis of a pixel over which light is summed."""
_SPACE = "ZYX"
"""Axes along which light spreads; along others, such as T, kernels have one element."""
_PUPIL_RINGS = 200
"""Rings into which the pupil is divided."""


class PSF(Protocol):
    """A point spread function."""

    def kernel(self, grid: Grid, upsampling: tuple[int, ...]) -> Tensor:
        """The convolution kernel on the grid of a scene, float64: odd sides, the point in the middle, the sum 1.

        Args:
            grid: Grid of the scene; only its axes and spacing are used.
            upsampling: Factor by which this grid is finer than that of the image, along each axis.
        """


@lru_cache(maxsize=8)
def _formula_kernel(psf: FormulaPSF, axes: str, spacing: tuple[float, ...], upsampling: tuple[int, ...]) -> Tensor:
    """Kernels of formulas are kept: an axial one takes a second, and every frame of a stack needs it."""
    return torch.from_numpy(psf.compute(Grid(axes, (0,) * len(axes), spacing), upsampling))


class FormulaPSF:
    """Base of PSFs that a formula gives; subclasses are frozen values, so that equal ones share their kernel."""

    def kernel(self, grid: Grid, upsampling: tuple[int, ...]) -> Tensor:
        """The convolution kernel, see `PSF.kernel`."""
        return _formula_kernel(self, grid.axes, grid.spacing, upsampling)

    def compute(self, grid: Grid, upsampling: tuple[int, ...]) -> NDArray[np.float64]:
        """The values of the kernel."""
        raise NotImplementedError


@dataclass(frozen=True)
class GaussianPSF(FormulaPSF):
    """A Gaussian, sampled at the pixel centres.

    Attributes:
        stds: Standard deviation along each axis, in pixels of the image; 0 for no blur.
    """

    stds: tuple[float, ...]

    def compute(self, grid: Grid, upsampling: tuple[int, ...]) -> NDArray[np.float64]:
        """A product of one-dimensional Gaussians."""
        psf = np.ones([1] * len(grid.axes))
        for axis, (std, factor) in enumerate(zip(self.stds, upsampling, strict=True)):
            std *= factor
            half = math.ceil(_GAUSSIAN_EXTENT * std)
            line = np.exp(-0.5 * (np.arange(-half, half + 1) / max(std, 1e-9)) ** 2)
            psf = psf * line.reshape([-1 if a == axis else 1 for a in range(len(grid.axes))])
        return np.asarray(psf / psf.sum(), np.float64)


@dataclass(frozen=True)
class AiryPSF(FormulaPSF):
    """A point in the focus of an ideal wide-field microscope, summed over the area of each pixel.

    The Airy pattern in two dimensions, Born & Wolf's model in three.

    Attributes:
        wavelength: Wavelength of the emitted light, in µm.
        aperture: Numerical aperture.
        index: Refractive index.
    """

    wavelength: float
    aperture: float
    index: float

    def compute(self, grid: Grid, upsampling: tuple[int, ...]) -> NDArray[np.float64]:
        """Intensities at sub-pixel positions, summed to pixels."""
        wave_number = 2 * math.pi / self.wavelength
        space = [(axis, d) for axis, d in zip(grid.axes, grid.spacing, strict=True) if axis in _SPACE]
        lateral = _AIRY_EXTENT / (wave_number * self.aperture)
        axial = _AXIAL_EXTENT * self.index / (wave_number * self.aperture**2)
        halves = [math.ceil((axial if axis == "Z" else lateral) / d) for axis, d in space]
        fine = [_subpixel_positions(half, d) for half, (_, d) in zip(halves, space, strict=True)]
        depth = fine[0] if len(fine) == 3 else np.zeros(1)
        radius = np.hypot(fine[-2][:, None], fine[-1])
        radii, inverse = np.unique(radius.round(9), return_inverse=True)
        light = self._intensity(
            wave_number * self.aperture * radii, wave_number * self.aperture**2 / self.index * depth
        )
        light = light[:, inverse.reshape(radius.shape)].reshape([len(f) for f in fine])
        for axis, half in enumerate(halves):
            before, after = light.shape[:axis], light.shape[axis + 1 :]
            light = light.reshape(*before, 2 * half + 1, _SUBSAMPLES, *after).sum(axis + 1)
        return _expand_to_grid(light / light.sum(), grid)

    @staticmethod
    def _intensity(radii: NDArray[np.float64], depths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Intensity `(depths, radii)` at optical coordinates (Born & Wolf, section 8.8), integrated over the pupil."""
        pupil = (np.arange(_PUPIL_RINGS) + 0.5) / _PUPIL_RINGS
        waves = special.j0(pupil[:, None] * radii) * pupil[:, None]
        return np.asarray(np.abs(np.exp(-0.5j * depths[:, None] * pupil**2) @ waves) ** 2, np.float64)


@dataclass(frozen=True)
class GibsonLanniPSF(FormulaPSF):
    """A point below the cover glass, by the model of Gibson & Lanni (package psfmodels).

    Attributes:
        wavelength: Wavelength of the emitted light, in µm.
        aperture: Numerical aperture.
        index: Refractive index of the sample.
        immersion: Refractive index of the immersion medium that the objective is designed for.
        depth: Depth of the point below the cover glass, in µm.
    """

    wavelength: float
    aperture: float
    index: float
    immersion: float
    depth: float

    def compute(self, grid: Grid, upsampling: tuple[int, ...]) -> NDArray[np.float64]:
        """Intensities summed over the area of each pixel.

        Raises:
            SettingError: psfmodels is not installed.
        """
        try:
            models = importlib.import_module("psfmodels")
        except ImportError as error:
            raise SettingError(
                "blur 'gibson-lanni' needs the package psfmodels; pip install 'napari-pristine[psf]', or use 'airy'"
            ) from error
        half = math.ceil(1.5 * _AIRY_EXTENT * self.wavelength / (2 * math.pi * self.aperture) / grid.spacing[-1])
        planes, step = 0, 1.0
        if "Z" in grid.axes:
            step = grid.spacing[grid.axes.index("Z")]
            planes = math.ceil(_AXIAL_EXTENT * self.index * self.wavelength / (2 * math.pi * self.aperture**2) / step)
        light = models.make_psf(
            z=[step * plane for plane in range(-planes, planes + 1)], nx=2 * half + 1, dxy=grid.spacing[-1],
            pz=self.depth, NA=self.aperture, wvl=self.wavelength, ns=self.index, ni=self.immersion,
            ni0=self.immersion, model="scalar",
        )  # fmt: skip
        light = light.reshape(light.shape[-sum(axis in _SPACE for axis in grid.axes) :])
        return _expand_to_grid(light / light.sum(), grid)


@dataclass(frozen=True, eq=False)
class MeasuredPSF:
    """A measured PSF, such as the image of a bead. It keeps the kernels that were computed from it.

    Attributes:
        image: Its values, sampled with the pixel size of the restored image, without background.
    """

    image: NDArray[np.float64]
    _kernels: dict[tuple[str, tuple[int, ...]], Tensor] = field(default_factory=dict, repr=False)

    def kernel(self, grid: Grid, upsampling: tuple[int, ...]) -> Tensor:
        """The convolution kernel, see `PSF.kernel`.

        It is centred on the centre of mass, which may lie between pixels; negative values count as zero.

        Raises:
            SettingError: The image has another number of axes than the grid, no light, or its light at the border.
        """
        key = (grid.axes, upsampling)
        if key not in self._kernels:
            self._kernels[key] = torch.from_numpy(self._compute(grid.axes, upsampling))
        return self._kernels[key]

    def _compute(self, axes: str, upsampling: tuple[int, ...]) -> NDArray[np.float64]:
        image = np.maximum(np.nan_to_num(np.asarray(self.image, np.float64)), 0).squeeze()
        if image.ndim != len(axes) or not image.any():
            raise SettingError(
                f"the image of the point spread function has the shape {np.shape(self.image)}; "
                f"an image with the axes {axes} and values above 0 is needed"
            )
        centre = [float(c) for c in ndimage.center_of_mass(image)]
        halves = [  # up to half a pixel beyond the border, where there is no light: so even sides lose none
            math.floor(min(c, n - 1 - c) * k + 0.5 + _CENTRE_TOLERANCE)
            for c, n, k in zip(centre, image.shape, upsampling, strict=True)
        ]
        if any(half < 1 < n for half, n in zip(halves, image.shape, strict=True)):
            raise SettingError(
                f"the light of the point spread function lies at the border of its image (its centre is at "
                f"{', '.join(f'{c:.1f}' for c in centre)} of {' × '.join(map(str, image.shape))} pixels); "
                "an image with the point near its centre is needed"
            )
        positions = [c + np.arange(-h, h + 1) / k for c, h, k in zip(centre, halves, upsampling, strict=True)]
        psf = ndimage.map_coordinates(image, np.meshgrid(*positions, indexing="ij"), order=1, mode="grid-constant")
        return np.asarray(psf / psf.sum(), np.float64)


def read_psf(path: str | Path) -> MeasuredPSF:
    """Read a measured PSF from a TIFF or .npy file.

    Raises:
        SettingError: There is no such file, or it cannot be read.
    """
    file = Path(path).expanduser()
    if not str(path) or not file.is_file():
        raise SettingError(
            f"psf_file: there is no file '{path}'; give the image of a point spread function, TIFF or .npy"
        )
    try:
        image = np.load(file, allow_pickle=False) if file.suffix == ".npy" else tifffile.imread(file)
        return MeasuredPSF(np.asarray(image, np.float64))
    except (ValueError, OSError, tifffile.TiffFileError) as error:
        raise SettingError(f"psf_file: cannot read '{path}': {error}; a TIFF or .npy file is needed") from error


def _expand_to_grid(psf: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Give a PSF a side of one along the axes of a grid that are not axes of space."""
    sides = iter(psf.shape)
    return np.asarray(psf, np.float64).reshape([next(sides) if axis in _SPACE else 1 for axis in grid.axes])


def _subpixel_positions(half: int, spacing: float) -> NDArray[np.float64]:
    """Positions of the points of 2 · half + 1 pixels over which light is summed, 0 in the middle."""
    count = (2 * half + 1) * _SUBSAMPLES
    return (np.arange(count) - (count - 1) / 2) * spacing / _SUBSAMPLES
