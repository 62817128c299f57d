"""Block: what is restored at once, between the values of the image and the pixels that a method sees."""

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
from napari_pristine.image.intensity import LEAST_SEEN, Intensity, fill_invalid, find_valid, measure_intensity
from napari_pristine.image.noise import MARGIN, Noise, estimate_sigma
from napari_pristine.image.outliers import find_hot
from napari_pristine.image.quality import judge
from napari_pristine.image.refine import refine
from napari_pristine.image.tiling import repeat
from napari_pristine.methods.method import MethodParams, NoisyBlock

Pixels: TypeAlias = NDArray[np.float32]
"""Normalised numbers of a block or of a part of it, `(C, *space)`."""
_MOSTLY = 0.5
"""Share of the pixels of a picture that must be seen to measure its noise."""
_SMOOTH = 2.0
"""Blur, in pixels, that tells the signal from its noise."""
_DARKEST = 0.2
"""Least noise of a pixel, in noise levels of the block."""


@dataclass(frozen=True, eq=False)
class Block:
    """One block `(C, *space)` as values and as pixels.

    Attributes:
        filled: Values, those that do not count replaced by a neighbour's.
        valid: Where the values count, `(*space)`: finite, and no hot pixels.
        hot: Where there are hot pixels, `(*space)`.
        intensities: How the values of each channel become pixels.
        pixels: `(C, *space)`, zero mean and unit spread.
        sigma: Noise level of each channel in the units of the pixels.
        correlation_length: Reach of the noise, the largest of all channels.
        params: Settings that the block was made with.
        axes: Letters of the axes of space.
        spacing: Distance of neighbours along them.
        others: More pictures of the same scene, as pixels in the same units.
        empty: Where a part of something larger holds one value far around, `(*space)`: this stays, as it does in
            parts that are all empty.
    """

    filled: NDArray[np.float64]
    valid: NDArray[np.bool_]
    hot: NDArray[np.bool_]
    intensities: tuple[Intensity, ...]
    pixels: NDArray[np.float32]
    sigma: tuple[float, ...]
    correlation_length: float
    params: MethodParams
    axes: str
    spacing: tuple[float, ...]
    others: tuple[NoisyBlock, ...] = ()
    empty: NDArray[np.bool_] | None = None

    @property
    def space(self) -> tuple[int, ...]:
        """Shape without channels."""
        return self.pixels.shape[1:]

    def noisy(self, part: tuple[slice, ...], device: torch.device, seed: int) -> NoisyBlock:
        """A tile as a method sees it."""
        inside = (slice(None), *part)
        return NoisyBlock(
            pixels=torch.from_numpy(np.ascontiguousarray(self.pixels[inside])).to(device),
            sigma=torch.tensor(self.levels(part), dtype=torch.float32, device=device),
            valid=torch.from_numpy(np.ascontiguousarray(self.valid[part])).to(device),
            correlation_length=self.correlation_length,
            seed=seed,
            axes=self.axes,
            spacing=self.spacing,
            others=tuple(
                replace(o, pixels=o.pixels.to(device), sigma=o.sigma.to(device), valid=o.valid.to(device))
                for o in self.others
            ),
            variance=None if self.variance is None else torch.from_numpy(self.variance[inside]).to(device),
        )

    @cached_property
    def variance(self) -> NDArray[np.float32] | None:
        """Variance of the noise of each pixel, `(C, *space)`, where it grows with the signal as it is."""
        if not self.params.degraded or not any(i.noise.photons for i in self.intensities):
            return None
        maps = []
        for intensity, values in zip(self.intensities, self.filled, strict=True):
            noise = intensity.noise
            variance = noise.gain * ndimage.gaussian_filter(values, _SMOOTH) + noise.variance
            maps.append(np.maximum(variance, (_DARKEST * noise.sigma) ** 2) / intensity.std**2)
        return np.stack(maps).astype(np.float32)

    def levels(self, part: tuple[slice, ...]) -> tuple[float, ...]:
        """Noise level of each channel of a tile: its own where it is estimated, as photon noise follows the signal."""
        tile = self.pixels[(slice(None), *part)]
        return tuple(_sigma(i, p, self.params) for i, p in zip(self.intensities, tile, strict=True))

    def refined(self, pixels: NDArray[np.float32], part: tuple[slice, ...]) -> NDArray[np.float32]:
        """A part of restored pixels, refined by the noisy ones."""
        inside = (slice(None), *part)
        pilots = pixels[inside]
        noisy = np.where(self.valid[part], self.pixels[inside], pilots)
        return np.stack(
            [refine(n, p, s, self.correlation_length) for n, p, s in zip(noisy, pilots, self.sigma, strict=True)]
        )

    def values(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        """Restored pixels as values in the units of the image."""
        values = np.stack([i.undo(channel) for i, channel in zip(self.intensities, pixels, strict=True)])
        if self.empty is not None:
            finer = tuple(n // mine for n, mine in zip(values.shape[1:], self.space, strict=True))
            np.copyto(values, repeat(self.filled, finer), where=repeat(self.empty, finer))
        return values

    def judge(self, values: NDArray[np.float64]) -> list[tuple[float, float, float, float]]:
        """Noise level (in the units of the image), residual, whiteness and structure of each channel."""
        levels = [
            intensity.noise.sigma if intensity.stabilised else sigma * intensity.std
            for intensity, sigma in zip(self.intensities, self.sigma, strict=True)
        ]
        return [
            (level, *judge(noisy, restored, self.valid, level))
            for level, noisy, restored in zip(levels, self.filled, values, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Other:
    """One more picture of the scene that a block shows: values `(C, *space)` on a grid of its own."""

    values: NDArray[Any]
    spacing: tuple[float, ...]


def prepare(
    values: NDArray[Any],
    noise: list[Noise],
    params: MethodParams,
    *,
    masked: NDArray[np.bool_] | None = None,
    axes: str = "YX",
    spacing: tuple[float, ...] = (1.0, 1.0),
    others: Sequence[Other] = (),
    like: Sequence[Intensity] = (),
) -> Block:
    """Measure and normalise a block `(C, *space)`.

    Args:
        values: Values of the image.
        noise: The noise of each channel.
        params: Settings of the method.
        masked: Where the values do not count, `(*space)`.
        axes: Letters of the axes of space.
        spacing: Distance of neighbours along them.
        others: More pictures of the same scene.
        like: How the values of each channel become pixels, if the block is a part of something larger.

    Raises:
        ImageError: The block is constant, or almost nothing in it counts.
    """
    if is_constant(values):
        raise _nothing(values)
    check_numbers(values, labels=not like)
    valid = _counting(values, masked)
    filled = fill_invalid(values, valid)
    hot = np.zeros_like(valid)
    if params.hot_pixels:
        hot = valid & np.any([find_hot(channel, n) for channel, n in zip(filled, noise, strict=True)], axis=0)
        filled = fill_invalid(filled, valid & ~hot)
    if all(np.ptp(channel) == 0 for channel in filled):
        raise _nothing(filled)
    if params.sigma is not None:
        noise = [Noise(params.sigma, 0.0, params.sigma**2, n.correlation_length, n.correlation) for n in noise]
    stabilise = params.stabilise and not params.degraded  # what blurs and bins is linear in light, not in its root
    known = like or itertools.repeat(None)
    intensities = tuple(
        measure_intensity(channel, n, stabilise=stabilise, like=one)
        for channel, n, one in zip(filled, noise, known, strict=False)
    )
    pixels = np.stack([i.do(channel) for i, channel in zip(intensities, filled, strict=True)])
    return Block(
        filled=filled,
        valid=valid & ~hot,
        hot=hot,
        intensities=intensities,
        pixels=pixels.astype(np.float32),
        sigma=tuple(_sigma(i, p, params) for i, p in zip(intensities, pixels, strict=True)),
        # texture of a coarse picture looks like correlated noise, and what a camera bins is not correlated
        correlation_length=1.0 if params.degraded else max(n.correlation_length for n in noise),
        params=params,
        axes=axes,
        spacing=spacing,
        others=tuple(_other(other, intensities, axes) for other in others),
        empty=_find_empty(filled) & valid & ~hot if like else None,
    )


def _nothing(values: NDArray[Any]) -> ImageError:
    return ImageError(f"all pixels have the value {values.flat[0]:g}; there is nothing to restore")


def _find_empty(filled: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a block `(C, *space)` holds one value far around in its planes: nothing was recorded there."""
    sides = (1,) * (filled.ndim - 3) + (MARGIN, MARGIN)
    empty = np.ones(filled.shape[1:], bool)
    for channel in filled:
        empty &= ndimage.maximum_filter(channel, sides) == ndimage.minimum_filter(channel, sides)
    return empty


def _counting(values: NDArray[Any], masked: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Where the values of a block count, `(*space)`."""
    valid = find_valid(values)
    if masked is None:
        return valid
    valid &= ~masked
    if valid.mean() < LEAST_SEEN:
        raise ImageError(f"the mask leaves {valid.mean():.2%} of the pixels; {LEAST_SEEN:.0%} at least must be seen")
    return valid


def _other(other: Other, intensities: tuple[Intensity, ...], axes: str) -> NoisyBlock:
    """One more picture as pixels, in the units of those of the block."""
    check_numbers(other.values)
    valid = find_valid(other.values)
    filled = fill_invalid(other.values, valid)
    pixels = np.stack([i.do(channel) for i, channel in zip(intensities, filled, strict=True)])
    # its own noise, whatever the settings say of that of the first; filled in, most of a sparse picture says nothing
    measured = valid.mean() > _MOSTLY
    sigma = [_estimate(p, i.sigma) if measured else i.sigma for i, p in zip(intensities, pixels, strict=True)]
    return NoisyBlock(
        torch.from_numpy(pixels.astype(np.float32)),
        torch.tensor(sigma, dtype=torch.float32),
        torch.from_numpy(valid),
        axes=axes,
        spacing=other.spacing,
    )


def is_constant(values: NDArray[Any]) -> bool:
    """Whether all values of a block are the same; quick, since whole stacks may be empty."""
    return bool(values.min() == values.max())


def _sigma(intensity: Intensity, pixels: NDArray[Any], params: MethodParams) -> float:
    """Noise level of a channel of pixels: as given, 1 where stabilised, else by the estimator of the papers."""
    known = max(intensity.sigma, 1e-6)
    if params.sigma is not None or (params.stabilise and not params.degraded):
        return known
    if params.degraded and intensity.noise.photons:
        return known
    level = _estimate(pixels, intensity.sigma)
    return min(level, known) if params.degraded else level  # texture of a coarse picture looks like noise


def _estimate(pixels: NDArray[Any], otherwise: float) -> float:
    """Noise level of a channel by the estimator of the papers, `otherwise` if it is too small for its patches."""
    try:
        return max(estimate_sigma(pixels[None]), 1e-6)
    except ImageError:
        return max(otherwise, 1e-6)


def check_numbers(values: NDArray[Any], *, labels: bool = True) -> None:
    """Raise an `ImageError` for numbers that are none of an intensity, or that a float cannot hold.

    Args:
        values: A block.
        labels: Whether to look for areas of one value, too; parts of an image may well be such areas.
    """
    finite = values[np.isfinite(values)]
    top = max(abs(float(finite.max())), abs(float(finite.min()))) if finite.size else 0.0
    if values.dtype.kind in "ui" and top > 2**53:
        raise ImageError(f"values up to {top:.3g} are too large to be computed with; subtract an offset first")
    if top and not 1e-15 < top < 1e30:
        raise ImageError(f"values up to {top:.3g} are out of the range of 32-bit floats; give them in another unit")
    if labels and values.dtype.kind in "ui" and _looks_like_labels(values):
        raise ImageError(
            "these are areas of equal values, as in a label image or a mask; give the image it was made from"
        )


def _looks_like_labels(values: NDArray[Any]) -> bool:
    """Whether most pixels off the background lie inside areas of one value."""
    picture = values[0].reshape(-1, *values.shape[-2:])[0]
    kinds, counts = np.unique(picture, return_counts=True)
    inside = ndimage.maximum_filter(picture, 3) == ndimage.minimum_filter(picture, 3)
    objects = picture != kinds[counts.argmax()]
    return bool(objects.any() and inside[objects].mean() > 0.5)
