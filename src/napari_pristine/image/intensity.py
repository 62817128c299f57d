"""From the values of an image to what a method sees, and back without losing anything."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import gammaln

from napari_pristine.errors import ImageError
from napari_pristine.image.noise import Noise

Array = NDArray[np.float64]

LEAST_SEEN = 0.01
"""Share of the pixels that must have a value, and that a mask must leave."""
_NODES, _WEIGHTS = hermegauss(31)
_NORMAL = (_NODES, _WEIGHTS / _WEIGHTS.sum())
"""Points and weights of a mean over the normal distribution."""


@dataclass(frozen=True, eq=False)
class Stabilised:
    """The generalised Anscombe transform for one `Noise`, and its exact unbiased inverse.

    Forward: f = 2 √(p + 3/8 + s²) with p the signal in photons and s the read noise in photons
    (Starck, Murtagh & Bijaoui 1998); the noise of f has unit variance.
    Inverse: the photons whose *expected* transform is f (Mäkitalo & Foi 2013), by table.
    """

    noise: Noise
    largest: float

    @property
    def _read(self) -> float:
        return self.noise.read / self.noise.gain

    def do(self, values: Array) -> Array:
        """Values to units of the noise."""
        return _anscombe((values - self.noise.offset) / self.noise.gain, self._read)

    def undo(self, stable: Array) -> Array:
        """Units of the noise to values."""
        photons, expected = self._table
        return self.noise.gain * np.interp(stable, expected, photons) + self.noise.offset

    @property
    def _table(self) -> tuple[Array, Array]:
        most = max(2 * (self.largest - self.noise.offset) / self.noise.gain, 100.0)
        return _table(self._read, 2.0 ** np.ceil(np.log2(most)))


def _anscombe(photons: Array, read: float) -> Array:
    return 2 * np.sqrt(np.maximum(photons + 0.375 + read**2, 0))


@lru_cache(maxsize=64)
def _table(read: float, most: float) -> tuple[Array, Array]:
    """Mean signals in photons, and the expectation of their transform."""
    below = np.linspace(-(read**2), 0, 80 if read else 0, endpoint=False)
    photons = np.concatenate([below, np.linspace(0, 8, 120), np.geomspace(8.02, most, 1000)])
    return photons, np.maximum.accumulate([_expected_anscombe(p, read) for p in photons])


def _expected_anscombe(mean: float, read: float) -> float:
    """E[f] for Poisson photons with this mean and Gaussian read noise, both in photons."""
    if mean + read**2 > 60:  # second-order expansion about the mean; off by less than 1e-4
        centre = mean + 0.375 + read**2
        return float(2 * np.sqrt(centre) - (mean + read**2) / (4 * centre**1.5))
    if mean < 0:  # a background was subtracted: what looks like read noise is that of its photons
        return float(_chances(mean + read**2) @ _anscombe(_counts(mean + read**2) - read**2, read))
    nodes, weights = _NORMAL
    return float(_chances(mean) @ _anscombe(_counts(mean)[:, None] + read * nodes, read) @ weights)


def _counts(mean: float) -> Array:
    """The numbers of photons that there may be."""
    return np.arange(int(mean + 12 * np.sqrt(mean) + 25), dtype=np.float64)


def _chances(mean: float) -> Array:
    """Probability of each of these numbers."""
    counts = _counts(mean)
    return np.asarray(np.exp(counts * np.log(max(mean, 1e-300)) - mean - gammaln(counts + 1)))


@dataclass(frozen=True, eq=False)
class Intensity:
    """How the values of one channel become pixels: stabilise (or not), subtract the mean, divide by the spread."""

    noise: Noise
    stabilised: Stabilised | None
    mean: float
    std: float

    @property
    def sigma(self) -> float:
        """Noise level in the units of the pixels."""
        return (1.0 if self.stabilised else self.noise.sigma) / self.std

    def do(self, values: NDArray[Any]) -> Array:
        """Values to pixels."""
        values = np.asarray(values, dtype=np.float64)
        stable = self.stabilised.do(values) if self.stabilised else values
        return (stable - self.mean) / self.std

    def undo(self, pixels: NDArray[Any]) -> Array:
        """Pixels to values."""
        stable = np.asarray(pixels, dtype=np.float64) * self.std + self.mean
        return self.stabilised.undo(stable) if self.stabilised else stable


def measure_intensity(
    values: NDArray[Any], noise: Noise, *, stabilise: bool, like: Intensity | None = None
) -> Intensity:
    """Find the `Intensity` of one channel `(*space)` without invalid values.

    Args:
        values: The values.
        noise: Their noise.
        stabilise: Whether it is to be made equally strong everywhere.
        like: That of other values, of which these are to become a part: its mean and spread are taken.
    """
    values = np.asarray(values, dtype=np.float64)
    stabilised = Stabilised(noise, float(values.max())) if stabilise and noise.photons else None
    if like is not None:
        return Intensity(noise, stabilised, like.mean, like.std)
    stable = stabilised.do(values) if stabilised else values
    return Intensity(noise, stabilised, float(stable.mean()), float(stable.std()) or 1.0)


def find_valid(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Where all channels of a block `(C, *space)` have finite values: `(*space)`.

    Raises:
        ImageError: Less than a hundredth of the values is finite.
    """
    valid: NDArray[np.bool_] = np.isfinite(block).all(axis=0)
    if valid.mean() < LEAST_SEEN:
        raise ImageError(
            f"{1 - valid.mean():.1%} of the pixels are NaN or infinite; {LEAST_SEEN:.0%} at least must have a value"
        )
    return valid


def fill_invalid(block: NDArray[Any], valid: NDArray[np.bool_]) -> Array:
    """The block as float64 with the nearest valid value in the place of each invalid one."""
    filled = np.asarray(block, dtype=np.float64)
    if valid.all():
        return filled
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.stack([channel[tuple(nearest)] for channel in filled])


def cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values as `dtype`: rounded and clipped to its range for integers, clipped to finite values for floats."""
    limits: Any = np.iinfo(dtype) if dtype.kind in "ui" else np.finfo(dtype)
    rounded = np.rint(values) if dtype.kind in "ui" else values
    highest = float(limits.max)
    if highest > limits.max:  # 2⁶⁴ - 1 and 2⁶³ - 1 round up as floats, and would wrap
        highest = float(np.nextafter(highest, 0))
    return np.asarray(np.clip(rounded, float(limits.min), highest).astype(dtype))
