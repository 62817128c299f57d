"""A scene behind several degraded images: one field of networks, evaluated as a whole and compared with each image.

The whole scene is computed in each step, with its patches blended, since operators need the neighbours of each pixel.
Positions are measured in cells: the smallest boxes that consist of whole pixels of every image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from napari_pristine.errors import SettingError
from napari_pristine.fits.fields import mean_slopes, noise_level
from napari_pristine.methods.degradation import Degradation
from napari_pristine.methods.method import NoisyBlock
from napari_pristine.nets.field import Field, fine_slices, pixel_centres
from napari_pristine.physics.blur import Blur
from napari_pristine.physics.operator import Grid, Operators, degrade, scene_grid
from napari_pristine.physics.psf import PSF, AiryPSF, GaussianPSF, GibsonLanniPSF, MeasuredPSF
from napari_pristine.physics.sampling import Downsample, Mask

LEAST_NOISE = 0.015
"""Minimum noise level, in standard deviations of the values, for the weight of the slope: slopes are penalised even
without noise, since the images do not determine the whole scene."""
_STORED_CHUNKS = 64
"""Chunks of positions whose activations are stored for the backward pass; those of more are computed again."""
_RATE = 0.03
"""Rate at which the weight of the slope follows the residual, per step."""
_RANGE = 16.0
"""Largest factor by which the weight of the slope may rise or fall."""
_NM = 1e-3
"""One nanometre in µm."""


def forward_operators(degradation: Degradation, block: NoisyBlock) -> tuple[Operators, Grid]:
    """The operators from the scene to an image, and the grid of the scene; masks of missing pixels are not among them.

    Raises:
        SettingError: The optics need a pixel size, or a measured PSF is missing.
    """
    size = degradation.pixel_size
    spacing = tuple(size if size and a in "YX" else d for a, d in zip(block.axes, block.spacing, strict=True))
    grid = Grid(block.axes, tuple(block.pixels.shape[1:]), spacing)
    psf, finer = _make_psf(degradation, grid, block.psf), degradation.finer
    blur = () if psf is None else (Blur(psf, degradation.boundary, degradation.factors(grid.axes)),)
    sampling = (Downsample(finer, degradation.finer_axes, degradation.downsampling),) if finer > 1 else ()
    operators = (*blur, *sampling)
    return operators, scene_grid(operators, grid)


def _make_psf(degradation: Degradation, grid: Grid, measured: MeasuredPSF | None) -> PSF | None:
    """The point spread function that the settings describe, or the measured one; none without blur."""
    blur, wavelength, aperture = degradation.blur, degradation.wavelength * _NM, degradation.aperture
    if blur == "none":
        return None
    if blur == "gaussian":
        along_z = degradation.blur_width if degradation.blur_depth is None else degradation.blur_depth
        stds = {"Y": degradation.blur_width, "X": degradation.blur_width, "Z": along_z}
        return GaussianPSF(tuple(stds.get(axis, 0.0) for axis in grid.axes))
    if blur == "file":
        if measured is None:
            raise SettingError("blur 'file' needs a measured point spread function; set psf_file")
        return measured
    if grid.spacing[-1] == 1 and degradation.pixel_size is None:
        raise SettingError(f"blur '{blur}' needs the pixel size, which the image does not state; set pixel_size, in µm")
    if blur == "airy":
        return AiryPSF(wavelength, aperture, degradation.refractive_index)
    return GibsonLanniPSF(wavelength, aperture, degradation.refractive_index, degradation.immersion, degradation.depth)


@dataclass(frozen=True, eq=False)
class DegradedImage:
    """An image of the scene, with its degradation."""

    block: NoisyBlock
    degradation: Degradation

    @property
    def shows_all(self) -> bool:
        """True if the image shows the scene as it is, neither blurred nor coarser."""
        return self.degradation.is_identity(self.block.axes)


def cell_sides(degradations: Sequence[Degradation], axes: str) -> tuple[int, ...]:
    """Pixels of the scene along each side of a cell."""
    return tuple(math.lcm(*sides) for sides in zip(*(d.factors(axes) for d in degradations), strict=True))


def lowest_noise(blocks: Sequence[NoisyBlock]) -> float:
    """Noise level of the image with the least noise; the slope follows it, and other images weigh less."""
    return max(min(noise_level(block) for block in blocks), LEAST_NOISE)


def relative_spacing(block: NoisyBlock) -> tuple[float, ...]:
    """Distance of neighbouring pixels along each axis relative to the smallest one in space; 1 along time."""
    least = min(d for axis, d in zip(block.axes, block.spacing, strict=True) if axis in "ZYX")
    return tuple(d / least if axis in "ZYX" else 1.0 for axis, d in zip(block.axes, block.spacing, strict=True))


@dataclass(frozen=True, eq=False)
class ImageTarget:
    """An image that the scene is fitted to.

    Attributes:
        values: `(C, *space)`, in the units of the networks.
        fitted: `(*space)`: 1 where a pixel counts, 0 where it has no value or is held out.
        held_out: The same, 1 where a pixel is held out.
        sigma: Noise level in the units of the values.
        weight: Weight of its errors relative to those of other images.
        operators: Operators from the scene to the image; the last one is the mask of valid pixels.
        grid: Grid of the scene.
    """

    values: Tensor
    fitted: Tensor
    held_out: Tensor
    sigma: float
    weight: float
    operators: Operators
    grid: Grid

    def misfit(self, scene: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error of all pixels `()`, and of those fitted and held out in noise variances `(2,)`.

        Invalid pixels count as fitted without error in the first: where few are valid, the slope decides.
        """
        valid = self.fitted + self.held_out
        square = (degrade(scene, self.operators, self.grid) - self.values * valid).square().mean(dim=1)
        fitted = (square * self.fitted).mean()
        hidden = (square.detach() * self.held_out).mean()
        fractions = torch.stack([self.fitted.mean(), self.held_out.mean()]).clamp(min=1e-6)
        return fitted, torch.stack([fitted.detach(), hidden]) / fractions / self.sigma**2


def make_targets(
    net: Field, images: Sequence[DegradedImage], unit: float, holdout: float, generator: torch.Generator
) -> tuple[ImageTarget, ...]:
    """The images as targets of a fit, weighted by their noise unless settings give a weight.

    Args:
        net: The networks.
        images: All images, with pixels in the same units.
        unit: Unit of the networks, in that of the pixels.
        holdout: Fraction of the pixels that are held out.
        generator: Source of the random numbers.

    Raises:
        SettingError: The shapes of the images do not fit each other.
    """
    cell = cell_sides([image.degradation for image in images], images[0].block.axes)
    least = lowest_noise([image.block for image in images])
    targets = []
    for image in images:
        block, degradation, sigma = image.block, image.degradation, noise_level(image.block)
        shape, factors = tuple(block.pixels.shape[1:]), degradation.factors(block.axes)
        needed = tuple(n * c // k for n, c, k in zip(net.patches.shape, cell, factors, strict=True))
        if needed != shape:
            raise SettingError(
                f"an image of {shape} pixels whose scene is {factors} times finer does not cover the field of the "
                f"others; {needed} pixels are needed (along {block.axes})"
            )
        valid = block.valid.float()
        held_out = valid * (torch.rand(valid.shape, generator=generator) < holdout).to(valid)
        operators, grid = forward_operators(degradation, block)
        weight = (least / max(sigma, least)) ** 2 if degradation.weight is None else degradation.weight
        targets.append(
            ImageTarget(
                values=block.pixels / unit,
                fitted=valid - held_out,
                held_out=held_out,
                sigma=sigma / unit,
                weight=weight,
                operators=(*operators, Mask(block.valid)),
                grid=grid,
            )
        )
    return tuple(targets)


@dataclass(frozen=True, eq=False)
class Scene:
    """The scene as a blend of patches, and the images that it is fitted to.

    Attributes:
        targets: The images; the first is the one that is restored.
        shape: Shape of the scene, in its own pixels.
        positions: The pixels of a patch, in cells: `(positions, ndim)`.
        index: Positions of the pixels of each patch in the flattened scene, `(patches · positions,)`.
        weights: Weight of each of them in the blend, of the same shape; they sum to 1 at each pixel of the scene.
        slope_weight: Weight of the slope.
        spacing: Distance of neighbouring pixels along each axis, in pixels of the first image.
    """

    targets: tuple[ImageTarget, ...]
    shape: tuple[int, ...]
    positions: Tensor
    index: Tensor
    weights: Tensor
    slope_weight: float
    spacing: tuple[float, ...]

    @classmethod
    def of(
        cls,
        net: Field,
        targets: tuple[ImageTarget, ...],
        cell: tuple[int, ...],
        slope_weight: float,
        spacing: tuple[float, ...],
    ) -> Scene:
        """The scene that the networks compose, with `cell` pixels along each side of one of theirs."""
        device, tiling = targets[0].values.device, net.patches
        shape, side = (tuple(n * k for n, k in zip(n_, cell, strict=True)) for n_ in (tiling.shape, tiling.side))
        numbers = torch.arange(math.prod(shape)).reshape(shape)
        index = torch.cat([numbers[part].reshape(-1) for part in fine_slices(tiling, cell)])
        window = torch.from_numpy(tiling.window_of(side)).reshape(-1).repeat(len(tiling.corners))
        total = torch.zeros(numbers.numel()).index_add(0, index, window)
        positions = pixel_centres(side, cell).reshape(-1, net.ndim)
        weights = window / total[index]
        return cls(targets, shape, positions.to(device), index.to(device), weights.to(device), slope_weight, spacing)

    def accumulate_gradients(self, net: Field, slope_factor: float = 1.0) -> Tensor:
        """Add the gradients of the loss: weighted squared errors of all images + weight · mean slope.

        Args:
            net: The networks.
            slope_factor: Multiplies the weight of the slope.

        Returns:
            Mean squared error of the pixels fitted and of those held out, in noise variances, `(2,)`; the mean over
            the images.
        """
        scene = self.compose(net)
        loss: Tensor = scene.new_zeros(())
        misfit = scene.new_zeros(2)
        for target in self.targets:
            error, relative = target.misfit(scene)
            loss = loss + target.weight * error
            misfit += relative / len(self.targets)
        if self.slope_weight:
            slope = mean_slopes(scene.movedim(1, -1)[:, None], self.targets[0].sigma, self.spacing).mean()
            loss = loss + slope_factor * self.slope_weight * slope
        # times the number of networks: each gets the gradient that it would get alone
        torch.autograd.backward(loss * net.siren.model.networks)
        return misfit

    def compose(self, net: Field) -> Tensor:
        """The scene of each fit, patches blended: `(fits, C, *shape)`."""
        at_once = _STORED_CHUNKS * net.chunk_size
        if len(self.positions) <= at_once:
            values = net(self.positions)
        else:
            parts = torch.split(self.positions, at_once)
            values = torch.cat([checkpoint(net, part, use_reentrant=False) for part in parts], dim=1)
        values = values.reshape(net.fits, -1, net.channels) * self.weights[:, None]
        scene: Tensor = values.new_zeros((net.fits, math.prod(self.shape), net.channels))
        scene = torch.index_add(scene, 1, self.index, values)
        return scene.movedim(-1, 1).reshape(net.fits, net.channels, *self.shape)


@dataclass
class SlopeBalance:
    """Adapts the weight of the slope, so that the residual ends at the noise level.

    The noise of a blurred or coarse image says little about the slopes of the scene.

    Attributes:
        factor: Factor that the weight is multiplied by.
        mean: Running mean of the misfit, in noise variances.
    """

    factor: float = 1.0
    mean: float = math.nan

    def update(self, misfit: float) -> None:
        """Lower the weight where the residual is stronger than the noise, raise it where it is weaker."""
        self.mean = misfit if math.isnan(self.mean) else 0.9 * self.mean + 0.1 * misfit
        change = _RATE * min(max(math.log(max(self.mean, 1e-9)), -1.0), 1.0)
        self.factor = min(max(self.factor * math.exp(-change), 1 / _RANGE), _RANGE)
