"""The difference between a noisy image and a result, compared with noise at several scales.

A verdict (`image/verdict.py`) decides by the strongest of these deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.image.noise import Noise, fourth_differences, noise_autocorrelation
from napari_pristine.image.safeguard import noise_variance

Array = NDArray[np.float32]
Map = NDArray[np.floating[Any]]

_SCALES = (1.0, 2.0, 4.0)
"""Standard deviations of the blurs at which what was removed is compared with noise, in pixels."""
_SURROUNDINGS = 3.0
"""Width of the blur that separates structure from its surroundings, relative to that of a scale."""
_TOLERANCE = 0.1
"""Error that a good result may have where there is structure, relative to the strength of that structure."""
_WEAK = 0.1
"""Power of structure, in noise variances, below which hardly anything can be said about it."""
_KEPT_BIAS = 0.1
"""Product of what was removed and of the result, in noise variances, that a good filter has where it keeps noise."""
_DARK = 0.01
"""Quantile of the image blurred over 4 pixels that counts as dark."""
_LEAST = 0.2
"""Least noise level of a place, relative to that of the channel."""
_TAIL = 0.995, 2.81
"""A quantile of the magnitudes of normal noise, and its value: stronger noise raises it."""
LIMITS = {"place": 5.8, "dimmed": 6.3, "dimmed, wide": 7.6, "added, narrow": 4.4, "added": 4.5}
"""Tests of places and windows, and the deviations, in standard deviations, above which noise does not explain them."""
_MEDIAN = 0.4549
"""Median of the square of normal noise of unit variance."""
_CLASSES = 8
"""Number of classes of brightness in which the measured noise is compared with what is seen."""
_MOST_SEEN = 2.5
"""Factor by which the variance that was measured may be too low."""


class Kind(StrEnum):
    """Kinds of verdicts."""

    GOOD = "only noise removed"
    BRIGHTNESS = "brightness changed"
    REMOVED = "structure removed"
    ADDED = "structure added"
    REMAINS = "noise remains"
    UNKNOWN = "not judged"


_WINDOWS = {
    "dimmed": (Kind.REMOVED, 8.0),
    "dimmed, wide": (Kind.REMOVED, 16.0),
    "added, narrow": (Kind.ADDED, 4.0),
    "added": (Kind.ADDED, 8.0),
}
"""Kind of fault and standard deviation of the window, in pixels, of the tests that compare structure."""


@dataclass(frozen=True)
class Peak:
    """The strongest deviation that a test found in a tile.

    Attributes:
        test: Name of the test, a key of `LIMITS`.
        kind: Structure removed, or added.
        value: The deviation, in standard deviations.
        y, x: Its place.
        share: Contrast that was lost, relative to that of the noisy image; or added, relative to that of the result.
        area: Share of the tile where the limit is exceeded.
        plane: Index of the plane.
    """

    test: str
    kind: Kind
    value: float
    y: int
    x: int
    share: float
    area: float
    plane: int = 0

    @property
    def strength(self) -> float:
        """The deviation relative to its limit."""
        return self.value / LIMITS[self.test]


@dataclass(frozen=True, eq=False)
class Levels:
    """Noise of a channel by brightness, corrected where it was measured as too weak.

    Attributes:
        noise: The measured noise.
        brightness: Mean brightness of some classes, ascending.
        factors: Variance that is seen in each class, relative to the measured one, at least 1.
        least: Variance in the dark, below which it does not fall at darker places, whose darkness is chance.
    """

    noise: Noise
    brightness: NDArray[np.float64]
    factors: NDArray[np.float64]
    least: float

    def variance(self, signal: Map, least: float) -> Map:
        """Variance of the noise for each value of a signal; at least that in the dark, and a given one."""
        least = max(self.least, least)
        expected = np.maximum(self.noise.gain * signal + self.noise.variance, least)
        if (self.factors == 1).all():
            return np.asarray(expected)
        return np.asarray(expected * np.interp(signal, self.brightness, self.factors).astype(np.float32))


def measure_levels(noisy: Map, result: Map, valid: NDArray[np.bool_], noise: Noise) -> Levels:
    """Compare the finest detail of what was removed, which is hardly ever structure, with the measured noise."""
    seen = fourth_differences(np.asarray(noisy - result))[valid] ** 2
    signal, expected = ndimage.gaussian_filter(noisy, (0, 2.0, 2.0))[valid], noise_variance(noisy, noise)[valid]
    order = np.argsort(signal)
    classes = [members for members in np.array_split(order, _CLASSES) if len(members)]
    factors = [float(np.median(seen[members]) / _MEDIAN / expected[members].mean()) for members in classes]
    brightness = np.array([signal[members].mean() for members in classes])
    dark = float(np.quantile(ndimage.gaussian_filter(noisy, (0, 4.0, 4.0))[valid], _DARK))
    least = max(noise.gain * dark + noise.variance, (_LEAST * noise.sigma) ** 2)
    return Levels(noise, brightness, np.clip(factors, 1, _MOST_SEEN), least)


@dataclass(frozen=True)
class Look:
    """The figures of one tile, see `Evidence`, and its peaks."""

    residual: float
    whiteness: float
    structure: float
    peaks: tuple[Peak, ...]


def look_at(noisy: Map, result: Map, valid: NDArray[np.bool_], levels: Levels, step: float) -> Look:
    """Compare what was removed from a tile `(Y, X)` with noise, at several scales.

    The noise of a place is the mean of the levels that the brightness of both images foretells, which makes few
    photons comparable as a square root does.

    Args:
        noisy: The noisy image.
        result: The result.
        valid: False where the noisy value does not count.
        levels: Noise of the channel.
        step: Step of the values of the result; rounding adds errors that do not average out where the image is flat.
    """
    y, f = np.asarray(noisy, np.float32), np.asarray(result, np.float32)
    removed = np.where(valid, y - f, 0)
    level = np.sqrt(noise_variance(y, levels.noise))
    lags = [np.mean(removed[:, 1:] * removed[:, :-1]), np.mean(removed[1:] * removed[:-1])]
    power = max(float(np.mean(removed**2)), 1e-30)
    peaks: list[Peak] = []
    structure = 0.0
    for scale in _SCALES:
        band = _band(y, f, valid, levels, step, scale)
        peaks += band.places()
        if scale == _SCALES[0]:
            products = float((band.shown * band.removed).sum())
            structure = products / max(float((band.shown**2).sum() * (band.removed**2).sum()) ** 0.5, 1e-30)
            peaks += band.windows()
    residual = float(((removed / level)[valid] ** 2).mean() ** 0.5) if valid.any() else 0.0
    return Look(residual, float(np.mean(lags)) / power, structure, tuple(peaks))


@dataclass(frozen=True, eq=False)
class _Band:
    """A tile at one scale, in standard deviations of the noise, all `(Y, X)`.

    Attributes:
        scale: Standard deviation of the blur, in pixels.
        removed: The noisy image minus the result, blurred.
        tolerated: The same, relative to noise and the error that a good result may have.
        shown: Structure of the result.
        seen: Structure of the noisy image.
    """

    scale: float
    removed: Array
    tolerated: Array
    shown: Array
    seen: Array

    def places(self) -> list[Peak]:
        """The place whose deviation noise explains least; wrong noise levels widen all deviations."""
        size = np.abs(self.tolerated)
        wider = max(float(np.quantile(size[::2, ::2], _TAIL[0])) / _TAIL[1], 1.0)
        y, x = np.unravel_index(int(size.argmax()), size.shape)
        removed, shown, seen = (float(a[y, x]) for a in (self.tolerated, self.shown, self.seen))
        # light is missing in a bright structure of the image, or was added in a dark one that the result still has
        kind = Kind.REMOVED if (seen > 0 if removed > 0 else shown <= 0) else Kind.ADDED
        more, less = (seen, shown) if kind is Kind.REMOVED else (shown, seen)
        share = float(np.clip(1 - less / more, 0, 1)) if more else 0.0
        area = float((size > LIMITS["place"] * wider).mean())
        return [Peak("place", kind, float(size[y, x]) / wider, int(y), int(x), share, area)]

    def windows(self) -> list[Peak]:
        """The windows where most of the result's structure was removed in part, or is missing in the noisy image."""
        product, power = self.shown * self.tolerated, self.shown**2
        found = []
        for test, (kind, window) in _WINDOWS.items():
            common, own = _blur(product, window), _blur(power, window) + _WEAK
            signed = common - _KEPT_BIAS if kind is Kind.REMOVED else -common
            values = signed / np.sqrt(own) * (window / self.scale)
            y, x = np.unravel_index(int(values.argmax()), values.shape)
            share = max(float(signed[y, x] / own[y, x]), 0.0)
            share = share / (1 + share) if kind is Kind.REMOVED else min(share, 1.0)
            area = float((values > LIMITS[test]).mean())
            found.append(Peak(test, kind, float(values[y, x]), int(y), int(x), share, area))
        return found


def _band(y: Array, f: Array, valid: NDArray[np.bool_], levels: Levels, step: float, scale: float) -> _Band:
    """Blur a tile to one scale, in standard deviations of the noise."""
    noise = levels.noise
    kept = _blurred_variance(scale, noise.correlation_length)
    blurred, smooth = _blur(y, scale), _blur(f, scale)
    # fewer photons than one in the window are no certainty that there are none
    least = 3 / 8 * noise.gain**2 * kept
    level = (np.sqrt(levels.variance(blurred, least)) + np.sqrt(levels.variance(smooth, least))) / 2
    at_edges = np.multiply.outer(*(_variance_at_edges(n, scale) for n in y.shape))
    level = np.sqrt(level**2 * kept * at_edges + step**2 / 6)
    removed = np.where(valid, (blurred - smooth) / level, 0)
    wider = max(float(np.median(np.abs(removed[::2, ::2]))) / 0.6745, 1.0)
    around = _blur(np.stack([blurred, smooth]), _SURROUNDINGS * scale)
    seen, shown = (np.where(valid, (a - b) / level, 0) for a, b in zip((blurred, smooth), around, strict=True))
    tolerated = removed / np.sqrt(wider**2 + _TOLERANCE**2 * _blur(shown**2, 2 * scale))
    return _Band(scale, removed, tolerated, shown, seen)


def _blurred_variance(blur: float, correlation_length: float) -> float:
    """Variance of blurred noise, relative to that before."""
    lags = np.arange(-32, 33)
    kernel = np.exp(-((lags / blur) ** 2) / 4)
    return float((kernel / kernel.sum() * noise_autocorrelation(lags, correlation_length)).sum() ** 2)


def _variance_at_edges(length: int, blur: float) -> Array:
    """Variance of blurred noise along an axis, relative to that far from the edges, where values are mirrored."""
    reach = min(int(4 * blur) + 1, length // 2)
    kernels = ndimage.gaussian_filter1d(np.eye(4 * reach + 1), blur, axis=1, truncate=3)
    power = (kernels**2).sum(axis=0)
    found = np.ones(length, np.float32)
    found[:reach] = power[:reach] / power[2 * reach]
    found[length - reach :] = found[:reach][::-1]
    return found


def _blur(values: Array, sigma: float) -> Array:
    """Blur along Y and X."""
    return np.asarray(ndimage.gaussian_filter(values, (*[0.0] * (values.ndim - 2), sigma, sigma), truncate=3))
