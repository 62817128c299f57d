"""Block: converts the values of an image to the normalised pixels that a method sees, and back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.intensity import (
    MIN_VALID,
    Intensity,
    fill_invalid,
    find_padding,
    find_valid,
    measure_intensity,
)
from napari_pristine.image.noise import BLANK_SIDE, Noise, estimate_sigma
from napari_pristine.image.outliers import find_outliers
from napari_pristine.image.quality import measure_residual
from napari_pristine.image.refine import refine
from napari_pristine.image.safeguard import (
    PILOT,
    least_errors,
    mixing_weight,
    noise_variance,
    replace_worse,
    variance_at,
)
from napari_pristine.image.stripes import measure_stripes
from napari_pristine.image.tiling import repeat
from napari_pristine.methods.method import MethodParams, NoisyBlock
from napari_pristine.physics.psf import MeasuredPSF

Pixels: TypeAlias = NDArray[np.float32]
"""Normalised values of a block or of a part of it, `(C, *space)`."""

_NORMAL_90 = 1.645
"""Half the width of the interval that holds 90 % of a normal distribution, in standard deviations."""
_MIN_SIGMA = 1e-6
_MIN_VALID_FOR_NOISE = 0.5
"""Minimum fraction of valid pixels of an extra image for its noise to be measured."""
_SIGNAL_BLUR = 2.0
"""Standard deviation, in pixels, of the blur that separates the signal from its noise."""


@dataclass(frozen=True, eq=False)
class Block:
    """One block `(C, *space)` as values and as pixels.

    Attributes:
        values: Values as they are stored.
        filled: The same as 64-bit floats; those that do not count are replaced by their nearest neighbour.
        valid: `(*space)`, true where values count: finite, not masked, no outliers, no padding.
        outliers: `(*space)`, 1 at hot and -1 at cold pixels of any channel, else 0.
        intensities: Normalisation of each channel.
        pixels: Normalised values `(C, *space)`: zero mean, unit standard deviation.
        sigma: Noise level of each channel in the units of the pixels.
        correlation_lengths: Correlation length of the noise of each channel, see `Noise`.
        params: Settings of the method.
        axes: Letters of the axes of space.
        spacing: Distance between neighbours along each axis of space.
        others: Extra images of the scene, normalised in the same way.
        psf: Measured point spread function of the image, if there is one.
        stripes: Standard deviation of the offsets of rows and columns that were removed, in noise levels.
        empty: `(*space)`, true where nothing was recorded, so that values are kept: in padding, and in chunks also
            where all pixels within a few pixels have one value.
    """

    values: NDArray[Any]
    filled: NDArray[np.float64]
    valid: NDArray[np.bool_]
    outliers: NDArray[np.int8]
    intensities: tuple[Intensity, ...]
    pixels: Pixels
    sigma: tuple[float, ...]
    correlation_lengths: tuple[float, ...]
    params: MethodParams
    axes: str
    spacing: tuple[float, ...]
    others: tuple[NoisyBlock, ...]
    psf: MeasuredPSF | None
    stripes: tuple[float, float]
    empty: NDArray[np.bool_]

    @property
    def space(self) -> tuple[int, ...]:
        """Shape without channels."""
        return self.pixels.shape[1:]

    @property
    def correlation_length(self) -> float:
        """The largest correlation length of all channels."""
        return max(self.correlation_lengths)

    @property
    def patch_sigmas(self) -> tuple[float, ...]:
        """See `BlockDone`; unknown where the noise level is set, or where the texture of a coarse image adds to it."""
        return () if self.params.degraded else tuple(i.noise.patch_sigma or 0.0 for i in self.intensities)

    def noisy(self, device: torch.device, seed: int, tile: tuple[slice, ...] | None = None) -> NoisyBlock:
        """The block, or a tile of it, as a method sees it."""
        tile = (slice(None),) * len(self.space) if tile is None else tile
        inside = (slice(None), *tile)
        pixels = self.pixels[inside]
        # the level of each tile by itself where it is estimated, as photon noise follows the signal
        sigma = [_sigma(i, p, self.valid[tile], self.params) for i, p in zip(self.intensities, pixels, strict=True)]
        return NoisyBlock(
            pixels=torch.from_numpy(np.ascontiguousarray(pixels)).to(device),
            sigma=torch.tensor(sigma, dtype=torch.float32, device=device),
            valid=torch.from_numpy(np.ascontiguousarray(self.valid[tile])).to(device),
            correlation_length=self.correlation_length,
            seed=seed,
            axes=self.axes,
            spacing=self.spacing,
            others=tuple(
                replace(o, pixels=o.pixels.to(device), sigma=o.sigma.to(device), valid=o.valid.to(device))
                for o in self.others
            ),
            variance=None if self.variance is None else torch.from_numpy(self.variance[inside]).to(device),
            psf=self.psf,
            intensities=self.intensities,
        )

    @cached_property
    def variance(self) -> Pixels | None:
        """Noise variance of each pixel, `(C, *space)`, where it grows with the signal and is not stabilised."""
        if not self.params.degraded or not any(i.noise.signal_dependent for i in self.intensities):
            return None
        maps = [
            variance_at(ndimage.gaussian_filter(values, _SIGNAL_BLUR), intensity.noise) / intensity.std**2
            for values, intensity in zip(self.filled, self.intensities, strict=True)
        ]
        return np.stack(maps).astype(np.float32)

    def refine(self, restored: Pixels, part: tuple[slice, ...]) -> Pixels:
        """Refine a part of the restored pixels with the noisy ones.

        Returns:
            `(2, C, *space)`: the refined pixels, and the covariance of the noise and them, in noise variances.
        """
        inside = (slice(None), *part)
        pilots = restored[inside]
        noisy = np.where(self.valid[part], self.pixels[inside], pilots)
        parts = zip(noisy, pilots, self.sigma, self.correlation_lengths, strict=True)
        refined = np.stack([refine(n, p, s, length) for n, p, s, length in parts], axis=1)
        refined[1] *= PILOT
        return refined

    def weights_of(self, restored: Pixels, refined: Pixels, kept: Pixels, kept_refined: Pixels) -> NDArray[np.float32]:
        """Weight of the restored pixels of each channel in the best mixture with the refined ones, `(C, 1, …)`.

        Args:
            restored: Restored pixels `(C, *space)`.
            refined: The same, refined.
            kept: Covariance of the noise and the restored pixels, in noise variances, `(C, *space)`.
            kept_refined: The same for the refined pixels.
        """
        weights = []
        for number, intensity in enumerate(self.intensities):
            noisy, a, b = (pixels[number][self.valid] for pixels in (self.pixels, restored, refined))
            variance = (self.sigma[number] * intensity.level(self.pixels[number])[self.valid]) ** 2
            more = (kept[number] - kept_refined[number])[self.valid]
            weights.append(mixing_weight(noisy, a, b, float((variance * more).mean()), float(variance.mean())))
        return np.array(weights, np.float32).reshape(-1, *[1] * len(self.space))

    def denormalise(self, restored: Pixels) -> NDArray[np.float64]:
        """Turn restored pixels into values in the units of the image."""
        return np.stack([i.denormalise(channel) for i, channel in zip(self.intensities, restored, strict=True)])

    def keep_empty(self, restored: NDArray[np.float64]) -> NDArray[np.float64]:
        """Restored values `(C, *space)`, on the same grid or a finer one, with those that are kept."""
        if not self.empty.any():
            return restored
        factors = tuple(n // mine for n, mine in zip(restored.shape[1:], self.space, strict=True))
        return np.where(repeat(self.empty, factors), repeat(self.values, factors), restored)

    def blend(self, restored: NDArray[np.float64], strength: NDArray[np.float32]) -> NDArray[np.float64]:
        """Restored values `(C, *space)`, mixed with the noisy ones; where those do not count, they are kept."""
        noisy = np.where(self.valid, self.values, restored)
        return np.asarray(noisy + strength * (restored - noisy))

    @property
    def missing(self) -> NDArray[np.bool_]:
        """`(*space)`, true where values were filled in, but for outliers."""
        return np.asarray(~self.valid & ~self.empty & (self.outliers == 0))

    def replace_worse(
        self, values: NDArray[np.float64], kept: Pixels | None
    ) -> tuple[
        NDArray[np.float64], tuple[tuple[float, float, float, float], ...], tuple[tuple[float, float, float], ...]
    ]:
        """Replace what is worse than a light blur; returns the errors and the evidence of `BlockDone` too.

        Args:
            values: Restored values `(C, *space)`.
            kept: Share of the noise that they keep, `(C, *space)`; nothing is replaced if it is unknown.
        """
        channels, errors, evidence = [], [], []
        for number, (noisy, restored, intensity) in enumerate(zip(self.filled, values, self.intensities, strict=True)):
            noise = intensity.noise
            if noise.sigma == 0:
                channels.append(restored)
                errors.append((0.0, 0.0, 0.0, 0.0))
            elif kept is None:
                channels.append(restored)
                errors.append((*least_errors(noisy, restored, noise, self.valid), 0.0, 0.0))
            else:
                safe = replace_worse(noisy, restored, kept[number], noise, self.valid)
                channels.append(safe.values)
                errors.append((safe.error, safe.blur_error, safe.replaced, safe.lost))
                evidence.append((safe.removed, safe.factor, safe.kept))
        return np.stack(channels), tuple(errors), tuple(evidence)

    def is_useful(self, values: NDArray[np.float64]) -> bool:
        """True if restored values `(C, *space)` may be closer to the truth than a light blur, in each channel."""
        if values.shape != self.filled.shape:
            return True
        for noisy, restored, intensity in zip(self.filled, values, self.intensities, strict=True):
            if intensity.noise.sigma > 0:
                least, blur = least_errors(noisy, restored, intensity.noise, self.valid)
                if least > blur:
                    return False
        return True

    def half_widths(
        self,
        half_widths: Pixels,
        fitted: NDArray[np.float64],
        values: NDArray[np.float64],
        strength: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Half the width of the 90 % interval of values, in the units of the image; NaN where there was no value.

        Args:
            half_widths: That of the fit, in the units of the pixels, `(C, *space)`.
            fitted: Values of the fit.
            values: Restored values; what refinement and safeguard have changed may be wrong by as much.
            strength: Their share in the result, see `blend`; all of it if none.
        """
        slopes = np.stack([i.slope(channel) for i, channel in zip(self.intensities, values, strict=True)])
        widths = np.hypot(half_widths * slopes, _NORMAL_90 * (values - fitted))
        if strength is not None:
            levels = np.sqrt([noise_variance(y, i.noise) for y, i in zip(self.filled, self.intensities, strict=True)])
            widths = np.hypot(strength * widths, (1 - strength) * _NORMAL_90 * levels)
        return np.where(self.valid, widths, np.nan).astype(np.float32)

    def quality(self, values: NDArray[np.float64]) -> tuple[tuple[float, float, float, float], ...]:
        """Noise level (in the units of the image), residual, whiteness and structure of each channel."""
        levels = [
            intensity.noise.sigma if intensity.anscombe else sigma * intensity.std
            for intensity, sigma in zip(self.intensities, self.sigma, strict=True)
        ]
        return tuple(
            (level, *measure_residual(noisy, restored, self.valid, level))
            for level, noisy, restored in zip(levels, self.filled, values, strict=True)
        )


@dataclass(frozen=True, eq=False)
class ExtraBlock:
    """The part of an extra image that shows a block: values `(C, *space)` on a grid of their own."""

    values: NDArray[Any]
    spacing: tuple[float, ...]
    psf: MeasuredPSF | None = None


def make_block(
    values: NDArray[Any],
    noise: list[Noise],
    params: MethodParams,
    *,
    masked: NDArray[np.bool_] | None = None,
    axes: str = "YX",
    spacing: tuple[float, ...] = (1.0, 1.0),
    extra: Sequence[ExtraBlock] = (),
    psf: MeasuredPSF | None = None,
    like: Sequence[Intensity] = (),
) -> Block:
    """Measure and normalise the values of a block.

    Args:
        values: Values `(C, *space)` of the image.
        noise: Noise of each channel.
        params: Settings of the method.
        masked: `(*space)`, true where values do not count.
        axes: Letters of the axes of space.
        spacing: Distance between neighbours along each axis.
        extra: Extra images of the scene.
        psf: Measured point spread function of the image.
        like: Normalisation of each channel if the block is a part of something larger.

    Raises:
        ImageError: The block is constant, or almost none of its values count.
    """
    if is_constant(values):
        raise nothing_to_restore(values)
    check_numbers(values, labels=not like)
    valid = find_valid(values)
    if masked is not None:
        valid &= ~masked
        if valid.mean() < MIN_VALID:
            raise ImageError(
                f"the mask leaves {valid.mean():.2%} of the pixels; at least {MIN_VALID:.0%} must be visible"
            )
    padding = find_padding(values) & valid
    if (valid & ~padding).mean() < MIN_VALID:
        padding &= False
    valid &= ~padding
    filled = fill_invalid(values, valid)
    stripes = np.zeros(2)
    if params.stripes:
        filled, stripes = _remove_stripes(filled, valid, noise)
    outliers = np.zeros(valid.shape, np.int8)
    if params.hot_pixels:
        for channel in filled:
            found = find_outliers(channel.reshape(-1, *channel.shape[-2:]), valid.reshape(-1, *valid.shape[-2:]))
            outliers = np.where(outliers == 0, found.reshape(valid.shape), outliers)
        filled = fill_invalid(filled, valid & (outliers == 0))
    if all(np.ptp(channel) == 0 for channel in filled):
        raise nothing_to_restore(filled)
    if params.sigma is not None:
        noise = [Noise(params.sigma, 0.0, params.sigma**2, n.correlation_length, n.correlation) for n in noise]
    stabilise = params.stabilise and not params.degraded  # blur and binning are linear in light, not in its root
    intensities = tuple(
        measure_intensity(channel, n, stabilise=stabilise, like=known)
        for channel, n, known in zip(filled, noise, like or itertools.repeat(None), strict=False)
    )
    pixels = np.stack([i.normalise(channel) for i, channel in zip(intensities, filled, strict=True)])
    empty = padding | (_find_empty(filled) & valid & (outliers == 0)) if like else padding
    return Block(
        values=values,
        filled=filled,
        valid=valid & (outliers == 0),
        outliers=outliers,
        intensities=intensities,
        pixels=pixels.astype(np.float32),
        sigma=tuple(_sigma(i, p, valid, params) for i, p in zip(intensities, pixels, strict=True)),
        # the texture of a coarse image looks like correlated noise, and what a camera bins is not correlated
        correlation_lengths=tuple(1.0 if params.degraded else n.correlation_length for n in noise),
        params=params,
        axes=axes,
        spacing=spacing,
        others=tuple(_normalise_extra(image, intensities, axes) for image in extra),
        psf=psf,
        stripes=(float(stripes[0]), float(stripes[1])),
        empty=empty,
    )


def is_constant(values: NDArray[Any]) -> bool:
    """Tell whether all values of a block are equal; quick, since whole stacks may be empty."""
    return bool(values.min() == values.max())


def check_numbers(values: NDArray[Any], *, labels: bool = True) -> None:
    """Raise an `ImageError` for values that are not intensities, or that 32-bit floats cannot hold.

    Args:
        values: Values of a block.
        labels: Check for areas of equal values, as in label images; small parts of an image may be such areas.
    """
    finite = values[np.isfinite(values)]
    largest = max(abs(float(finite.max())), abs(float(finite.min()))) if finite.size else 0.0
    if values.dtype.kind in "ui" and largest > 2**53:
        raise ImageError(f"values up to {largest:.3g} are too large to be computed with; subtract an offset first")
    if largest and not 1e-15 < largest < 1e30:
        raise ImageError(f"values up to {largest:.3g} are out of the range of 32-bit floats; use another unit")
    if labels and values.dtype.kind in "ui":
        plane = values[0].reshape(-1, *values.shape[-2:])[0]
        kinds, counts = np.unique(plane, return_counts=True)
        inside = ndimage.maximum_filter(plane, 3) == ndimage.minimum_filter(plane, 3)
        objects = plane != kinds[counts.argmax()]
        if objects.any() and inside[objects].mean() > 0.5:
            raise ImageError(
                "these are areas of equal values, as in a label image or a mask; give the image it was made from"
            )


def _remove_stripes(
    filled: NDArray[np.float64], valid: NDArray[np.bool_], noise: list[Noise]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Remove the offsets of rows and columns; also returns the largest standard deviation of each over all channels."""
    channels, found = [], np.zeros(2)
    for channel, level in zip(filled, noise, strict=True):
        planes = channel.reshape(-1, *channel.shape[-2:])
        stripes = measure_stripes(planes, valid.reshape(planes.shape))
        channels.append((planes - stripes.offsets).reshape(channel.shape))
        found = np.maximum(found, np.array([stripes.rows, stripes.columns]) / (level.sigma or 1.0))
    return np.stack(channels), found


def nothing_to_restore(values: NDArray[Any]) -> ImageError:
    """The error for a block with a single value."""
    return ImageError(f"all pixels have the value {values.flat[0]:g}; there is nothing to restore")


def _find_empty(filled: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find the pixels of a block `(C, *space)` whose neighbourhood has a single value: nothing was recorded there."""
    sides = (1,) * (filled.ndim - 3) + (BLANK_SIDE, BLANK_SIDE)
    empty = np.ones(filled.shape[1:], bool)
    for channel in filled:
        empty &= ndimage.maximum_filter(channel, sides) == ndimage.minimum_filter(channel, sides)
    return empty


def _normalise_extra(image: ExtraBlock, intensities: tuple[Intensity, ...], axes: str) -> NoisyBlock:
    """Normalise an extra image like the block."""
    check_numbers(image.values)
    valid = find_valid(image.values)
    filled = fill_invalid(image.values, valid)
    pixels = np.stack([i.normalise(channel) for i, channel in zip(intensities, filled, strict=True)])
    # its own noise: the setting sigma is that of the first image; of a sparse image, it cannot be measured
    measured = valid.mean() > _MIN_VALID_FOR_NOISE
    sigma = [_estimate(p, valid, i.sigma) if measured else i.sigma for i, p in zip(intensities, pixels, strict=True)]
    return NoisyBlock(
        torch.from_numpy(pixels.astype(np.float32)),
        torch.tensor(sigma, dtype=torch.float32),
        torch.from_numpy(valid),
        axes=axes,
        spacing=image.spacing,
        psf=image.psf,
    )


def _sigma(intensity: Intensity, pixels: NDArray[Any], valid: NDArray[np.bool_], params: MethodParams) -> float:
    """Noise level of a channel of pixels: as set, 1 where stabilised, else by the estimator of the papers."""
    known = max(intensity.sigma, _MIN_SIGMA)
    if params.sigma is not None or (params.stabilise and not params.degraded):
        return known
    if params.degraded and intensity.noise.signal_dependent:
        return known
    level = _estimate(pixels, valid, intensity.sigma)
    return min(level, known) if params.degraded else level  # the texture of a coarse image looks like noise


def _estimate(pixels: NDArray[Any], valid: NDArray[np.bool_], default: float) -> float:
    """Noise level of a channel by the estimator of the papers; the default where it is too small for patches."""
    try:
        return max(estimate_sigma(pixels[None], valid), _MIN_SIGMA)
    except ImageError:
        return max(default, _MIN_SIGMA)
