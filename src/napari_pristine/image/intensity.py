"""Convert the values of an image to the normalised pixels that a method sees, and back without loss or bias."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import gammaln

from napari_pristine.errors import ImageError
from napari_pristine.image.noise import Noise

Array = NDArray[np.float64]
ArrayOrTensor = TypeVar("ArrayOrTensor")

MIN_VALID = 0.01
"""Fraction of the pixels that must have a value, and that a mask must leave, at least."""
LEVEL_SIDE = 5
"""Side of the squares over which the signal is averaged to find the level of its noise, in pixels."""
_BIAS = 0.02
"""Change of a mean, relative to the mean or the noise level, above which values should not be rounded."""
_PADDED, _WIDTH = 81, 3
"""Area and width of padding, in pixels, at least; a dead column is narrower."""
_SQUARE, _BAND, _FREQUENT = 9, 13, 0.25
"""Side of the squares that padding is made of, in pixels; side of the squares by which it is widened to look at what is
next to it; share of the pixels there above which its value is so frequent that it may be recorded."""
_LEAST_PHOTONS = 0.1
"""Photons, with those of the transform's offset, below which its slope is taken for that of as many."""
_NODES, _WEIGHTS = hermegauss(31)
"""Points and weights of a mean over the normal distribution, by Gauss-Hermite quadrature."""


@dataclass(frozen=True, eq=False)
class AnscombeTransform:
    """Generalised Anscombe transform for one `Noise`, with its exact unbiased inverse.

    Forward: f = 2 √(p + 3/8 + s²), with p the signal and s the read noise, both in photons (Starck, Murtagh & Bijaoui
    1998); the noise of f has unit variance at any brightness.

    Inverse: the mean signal whose *expected* transform is f (Mäkitalo & Foi 2013), from a table. A fit or a filter
    averages noisy transformed pixels, so its result is an expectation, which the algebraic inverse would underrate.

    Attributes:
        noise: Noise that grows with the signal (`gain` above 0).
        largest: Largest value to transform, in the units of the image; the inverse covers twice this signal.
    """

    noise: Noise
    largest: float

    @property
    def read_photons(self) -> float:
        """Read noise in photons: s in the formula."""
        return self.noise.read / self.noise.gain

    def forward(self, values: ArrayOrTensor) -> ArrayOrTensor:
        """Transform values in the units of the image; takes torch tensors, too, for models that are exported."""
        signal: Any = values
        transformed: ArrayOrTensor = _anscombe((signal - self.noise.offset) / self.noise.gain, self.read_photons)
        return transformed

    def inverse(self, transformed: Array) -> Array:
        """Invert without bias: the mean signal, in the units of the image, whose expected transform this is."""
        expected, photons = self.inverse_table
        return self.noise.gain * np.interp(transformed, expected, photons) + self.noise.offset

    def level(self, transformed: Array) -> Array:
        """Level of the noise of transformed values `(..., Y, X)`, by the signal around: below 1 for few photons."""
        photons, levels = self.level_table
        signal = np.maximum(transformed, 0) ** 2 / 4 - 0.375 - self.read_photons**2
        around = ndimage.uniform_filter(signal, (*[1] * (signal.ndim - 2), LEVEL_SIDE, LEVEL_SIDE), mode="nearest")
        return np.asarray(np.interp(around, photons, levels))

    @property
    def level_table(self) -> tuple[Array, Array]:
        """Mean signals in photons, ascending, and the level of the transformed noise at each."""
        return _level_table(self.read_photons)

    @property
    def inverse_table(self) -> tuple[Array, Array]:
        """Expected transforms, ascending, and the mean signal in photons of each, to be interpolated linearly."""
        largest = max(2 * (self.largest - self.noise.offset) / self.noise.gain, 100.0)
        return _inverse_table(self.read_photons, 2.0 ** np.ceil(np.log2(largest)))


def _anscombe(photons: Any, read: float) -> Any:
    """Transform photons, by operations that arrays and tensors share."""
    return 2 * (photons + 0.375 + read**2).clip(min=0) ** 0.5


@lru_cache(maxsize=64)
def _level_table(read: float) -> tuple[Array, Array]:
    """Mean signals in photons, and the level of the transformed noise at each."""
    photons = np.linspace(0, 4, 61) ** 3
    return photons, np.array([stabilised_level(mean, read) for mean in photons])


@lru_cache(maxsize=64)
def _inverse_table(read: float, largest: float) -> tuple[Array, Array]:
    """Expected transforms and mean signals in photons, from -read² to `largest`."""
    negative = np.linspace(-(read**2), 0, 80 if read else 0, endpoint=False)
    photons = np.concatenate([negative, np.linspace(0, 8, 120), np.geomspace(8.02, largest, 1000)])
    return np.maximum.accumulate([_expected_transform(mean, read) for mean in photons]), photons


def _expected_transform(mean: float, read: float) -> float:
    """E[f] for Poisson photons with this mean and Gaussian read noise, both in photons."""
    if mean + read**2 > 60:  # second-order expansion about the mean; off by less than 1e-4
        centre = mean + 0.375 + read**2
        return float(2 * np.sqrt(centre) - (mean + read**2) / (4 * centre**1.5))
    if mean < 0:  # a background was subtracted: the apparent read noise is that of its photons
        counts, chances = _poisson(mean + read**2)
        return float(chances @ _anscombe(counts - read**2, read))
    counts, chances = _poisson(mean)
    return float(chances @ _anscombe(counts[:, None] + read * _NODES, read) @ (_WEIGHTS / _WEIGHTS.sum()))


def stabilised_level(mean: float, read: float) -> float:
    """Level of the noise of f for Poisson photons with this mean and this read noise: below 1 for few photons."""
    # E[f²] = 4 (mean + 3/8 + s²), as long as few values are clipped
    return float(np.sqrt(max(4 * (mean + 0.375 + read**2) - _expected_transform(mean, read) ** 2, 0.0)))


def _poisson(mean: float) -> tuple[Array, Array]:
    """Photon counts from 0 on, and the probability of each."""
    counts = np.arange(int(mean + 12 * np.sqrt(mean) + 25), dtype=np.float64)
    return counts, np.exp(counts * np.log(max(mean, 1e-300)) - mean - gammaln(counts + 1))


@dataclass(frozen=True, eq=False)
class Intensity:
    """Conversion of the values of one channel to pixels: transform (or not), subtract the mean, divide by the std.

    Attributes:
        noise: Noise of the values.
        anscombe: Transform that makes the noise equally strong at any brightness; None for values as they are.
        mean: Mean of the transformed values.
        std: Their standard deviation.
    """

    noise: Noise
    anscombe: AnscombeTransform | None
    mean: float
    std: float

    @property
    def sigma(self) -> float:
        """Noise level in the units of the pixels."""
        return (1.0 if self.anscombe else self.noise.sigma) / self.std

    def normalise(self, values: NDArray[Any]) -> Array:
        """Convert values to pixels."""
        values = np.asarray(values, dtype=np.float64)
        return ((self.anscombe.forward(values) if self.anscombe else values) - self.mean) / self.std

    def denormalise(self, pixels: NDArray[Any]) -> Array:
        """Convert pixels to values."""
        transformed = np.asarray(pixels, dtype=np.float64) * self.std + self.mean
        return self.anscombe.inverse(transformed) if self.anscombe else transformed

    def slope(self, values: NDArray[Any]) -> Array:
        """Change of values with the pixels that stand for them, in the units of the image."""
        values = np.asarray(values, dtype=np.float64)
        if self.anscombe is None:
            return np.full(values.shape, self.std)
        photons = (values - self.noise.offset) / self.noise.gain
        root = np.sqrt(np.maximum(photons + 0.375 + self.anscombe.read_photons**2, _LEAST_PHOTONS))
        return np.asarray(self.noise.gain * root * self.std)

    def level(self, pixels: NDArray[Any]) -> Array:
        """Noise level of pixels `(..., Y, X)` relative to `sigma`: below 1 where few photons were transformed."""
        pixels = np.asarray(pixels, dtype=np.float64)
        return self.anscombe.level(pixels * self.std + self.mean) if self.anscombe else np.ones(pixels.shape)


def measure_intensity(
    values: NDArray[Any], noise: Noise, *, stabilise: bool, like: Intensity | None = None
) -> Intensity:
    """Measure how the values of one channel are converted to pixels of zero mean and unit standard deviation.

    Args:
        values: `(*space)`, all finite.
        noise: Noise of the values.
        stabilise: Make the noise equally strong everywhere, if it grows with the signal.
        like: Conversion of a larger image of which the values are a part; its mean and std are taken.
    """
    values = np.asarray(values, dtype=np.float64)
    anscombe = AnscombeTransform(noise, float(values.max())) if stabilise and noise.signal_dependent else None
    if like is not None:
        return Intensity(noise, anscombe, like.mean, like.std)
    transformed = anscombe.forward(values) if anscombe else values
    return Intensity(noise, anscombe, float(transformed.mean()), float(transformed.std()) or 1.0)


def find_valid(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Find the pixels of a block `(C, *space)` at which all channels are finite, `(*space)`.

    Raises:
        ImageError: Less than a hundredth of the pixels is finite.
    """
    valid: NDArray[np.bool_] = np.isfinite(block).all(axis=0)
    if valid.mean() < MIN_VALID:
        raise ImageError(
            f"{1 - valid.mean():.1%} of the pixels are NaN or infinite; at least {MIN_VALID:.0%} must have a value"
        )
    return valid


def find_padding(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Find areas at the edges of planes where nothing was recorded, such as around rotated images.

    All of such an area has the value of a corner of the plane, or the lowest one along its edges. The dark background
    of an image may have one value, too, but has it next to such areas as well.

    Args:
        block: `(C, *space)`; the last two axes are Y and X.

    Returns:
        `(*space)`; all False if too few pixels would be left.
    """
    planes = block.reshape(len(block), -1, *block.shape[-2:])
    padding = np.zeros(planes.shape[1:], bool)
    for number, found in enumerate(padding):
        plane = planes[:, number]
        edges = np.concatenate([plane[:, 0], plane[:, -1], plane[:, :, 0], plane[:, :, -1]], axis=1)
        corners = plane[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        lowest = edges[:, np.where(np.isfinite(edges), edges, np.inf).sum(axis=0).argmin()]
        for value in np.unique(np.column_stack([corners, lowest]), axis=1).T:
            equal = (plane == value[:, None, None]).all(axis=0)
            sides = (equal[:_WIDTH], equal[-_WIDTH:], equal.T[:_WIDTH], equal.T[-_WIDTH:])
            if sum(int(side.all(axis=0).sum()) for side in sides) >= _SQUARE:  # quick, and rare
                found |= _padding_within(equal)
    return padding.reshape(block.shape[1:]) if padding.mean() < 1 - MIN_VALID else np.zeros(block.shape[1:], bool)


def _padding_within(equal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The padding among the pixels of a plane that have one value: squares that are connected with an edge."""
    edge = np.ones(equal.shape, bool)
    edge[1:-1, 1:-1] = False
    squares = _open(equal, _SQUARE, _SQUARE - _WIDTH)
    squares = ndimage.binary_propagation(edge & squares, mask=squares)
    near = ndimage.maximum_filter(squares, _BAND) & ~squares
    if squares.sum() < _PADDED or (near.any() and equal[near].mean() > _FREQUENT):
        return np.zeros(equal.shape, bool)
    # at the edges of the plane it may be narrower
    return np.asarray(ndimage.binary_propagation(squares, mask=_open(equal, _WIDTH, _WIDTH) | squares))


def _open(area: NDArray[np.bool_], side: int, outside: int) -> NDArray[np.bool_]:
    """The part of an area that squares fit into, which may reach out of the plane by a number of pixels."""
    padded = np.pad(area, outside, constant_values=True)
    eroded = ndimage.minimum_filter(padded, side, mode="constant", cval=False)
    opened = ndimage.maximum_filter(eroded, side, mode="constant", cval=False)
    return np.asarray(opened[tuple(slice(outside, outside + n) for n in area.shape)])


def fill_invalid(block: NDArray[Any], valid: NDArray[np.bool_]) -> Array:
    """Replace each invalid value of a block `(C, *space)` by the nearest valid one of its channel; float64."""
    filled = np.asarray(block, dtype=np.float64)
    if valid.all():
        return filled
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.stack([channel[tuple(nearest)] for channel in filled])


def is_biased(exact: float, stored: float, sigma: float) -> bool:
    """Tell whether conversion to another type changes a mean noticeably.

    Args:
        exact: Mean before the conversion.
        stored: Mean after it.
        sigma: Noise level: a mean near 0 may change by more than a small part of itself.
    """
    return abs(stored - exact) > _BIAS * max(abs(exact), sigma)


def cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert values to `dtype`, clipped to its range; rounded for integers, never infinite for floats."""
    limits: Any = np.iinfo(dtype) if dtype.kind in "ui" else np.finfo(dtype)
    rounded = np.rint(values) if dtype.kind in "ui" else values
    highest = float(limits.max)
    if highest > limits.max:  # 2⁶⁴ - 1 and 2⁶³ - 1 round up as floats, and would wrap
        highest = float(np.nextafter(highest, 0))
    return np.asarray(np.clip(rounded, float(limits.min), highest).astype(dtype))
