"""How strong the noise of a block is, how it grows with the signal, and how far it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import ImageError

Array = NDArray[np.float64]

PATCH = 8
"""Side of the patches of Chen, Zhu & Heng (2015)."""
_STRIDE = 3
_MOST_PATCHES = 60_000
_MOST_PLANES = 8
_SQUARE, _MOST_SQUARES = 256, 32
_BINS = 24
MARGIN = 9
"""Side of the squares of one value that count as margins."""
_STRUCTURE = 1.5
"""Ratio of coarse to fine noise power up to which structure in the picture, and not correlated noise, explains it."""
_BLURS = np.linspace(0.2, 1.5, 200)
_REACHES = np.exp(-((np.arange(-8, 9)[:, None] / _BLURS) ** 2) / 4).sum(axis=0)


@dataclass(frozen=True)
class Noise:
    """The noise of one channel: variance = `gain` · signal + `variance`, in the units of the image.

    Attributes:
        sigma: Root mean square over the block.
        gain: Variance per unit of signal: the grey values that one photon makes.
        variance: Variance where the signal is zero; negative where the camera adds an offset to the signal.
        correlation_length: Standard deviation at low frequencies over that of white noise of the same level; 1 for
            noise that is independent from pixel to pixel, about 2 for noise blurred by 0.6 pixels.
        correlation: Autocorrelation at a distance of one pixel that goes with this reach.
    """

    sigma: float
    gain: float
    variance: float
    correlation_length: float = 1.0
    correlation: float = 0.0

    @property
    def photons(self) -> bool:
        """Whether the noise grows with the signal, as that of photons does."""
        return self.gain > 0

    @property
    def offset(self) -> float:
        """Signal at which the noise of photons would vanish: the camera's offset, 0 where there is read noise."""
        return -self.variance / self.gain if self.photons and self.variance < 0 else 0.0

    @property
    def read(self) -> float:
        """Standard deviation where the signal is zero."""
        return float(np.sqrt(max(self.variance, 0.0)))

    def scaled(self, sigma: float) -> Noise:
        """The same noise with another strength."""
        factor = (sigma / self.sigma) ** 2
        return Noise(sigma, self.gain * factor, self.variance * factor, self.correlation_length, self.correlation)


def estimate_sigma(block: NDArray[Any]) -> float:
    """Noise level of a block `(C, Y, X)` or `(C, Z, Y, X)` by Chen, Zhu & Heng (ICCV 2015).

    The smallest eigenvalues of the covariance of all 8 × 8 patches belong to noise alone: the largest are dropped
    until the mean of the rest equals its median. One level for all channels, in the units of the block.

    Raises:
        ImageError: There are fewer patches than values in a patch, so that the covariance says nothing.
    """
    patches = _patches(np.asarray(block, dtype=np.float64))
    count, length = patches.shape
    if count <= length:
        raise ImageError(
            f"the noise level cannot be estimated from {count} patches of {PATCH} × {PATCH} pixels, more than {length} "
            "are needed; set the noise level (sigma) yourself"
        )
    patches = patches - patches.mean(axis=0)
    values = np.linalg.eigvalsh(patches.T @ patches / count)[::-1]
    for dropped in range(1, length):
        rest = values[dropped:]
        tau = rest.mean()
        if np.sum(rest > tau) == np.sum(rest < tau):
            return float(np.sqrt(max(tau, 0.0)))
    return float(np.sqrt(max(values[-1], 0.0)))


def _patches(block: Array) -> Array:
    planes = _planes(block)
    if min(planes.shape[-2:]) < PATCH:
        return np.empty((0, PATCH * PATCH * len(block)))
    windows = np.lib.stride_tricks.sliding_window_view(planes, (PATCH, PATCH), axis=(2, 3))
    windows = windows[:, :, ::_STRIDE, ::_STRIDE]
    places = np.indices(windows.shape[1:4]).reshape(3, -1)
    if places.shape[1] > _MOST_PATCHES:
        places = places[:, np.random.default_rng(0).choice(places.shape[1], _MOST_PATCHES, replace=False)]
    patches = windows[(slice(None), *places)].transpose(1, 0, 2, 3).reshape(places.shape[1], -1)
    recorded = np.ptp(patches, axis=1) > 0  # the margins of stitched images hold one value
    return np.asarray(patches[recorded] if recorded.mean() > 0.1 else patches)


def _planes(block: Array) -> Array:
    """A block `(C, *space)` as `(C, planes, Y, X)`: a few planes or squares spread over it if it is large."""
    planes = block.reshape(len(block), -1, *block.shape[-2:])
    if planes.shape[1] > _MOST_PLANES:
        planes = planes[:, np.linspace(0, planes.shape[1] - 1, _MOST_PLANES).astype(int)]
    if planes[0].size <= _MOST_SQUARES * _SQUARE**2 or min(planes.shape[-2:]) < _SQUARE:
        return planes
    rows, columns = (n // _SQUARE for n in planes.shape[-2:])
    squares = planes[..., : rows * _SQUARE, : columns * _SQUARE].reshape(
        *planes.shape[:2], rows, _SQUARE, columns, _SQUARE
    )
    squares = squares.swapaxes(3, 4).reshape(len(planes), -1, _SQUARE, _SQUARE)
    return squares[:, np.linspace(0, squares.shape[1] - 1, _MOST_SQUARES).astype(int)]


def measure_noise(channel: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Noise:
    """Fit variance against signal over the flat parts of one channel `(*space)`, and see how far the noise reaches.

    Second differences in both directions cancel what is smooth. Their mean square, in the flatter half of the pixels
    of each brightness, is the variance there; a robust weighted line through these gives gain and variance.
    The same differences over two and three pixels tell correlated noise: its power grows with the distance.
    """
    planes = _planes(np.asarray(channel, dtype=np.float64)[None])[0]
    good = np.ones(planes.shape, bool) if valid is None else _planes(valid[None].astype(float))[0] > 0
    if planes.size < PATCH * PATCH or np.ptp(planes[good]) == 0:
        return Noise(0.0, 0.0, 0.0)
    signal = _per_plane(ndimage.gaussian_filter, planes, sigma=2.0)
    flats = _flat_by_brightness(planes, signal, good & _recorded(planes, good))
    power = [_differences(planes, distance) ** 2 for distance in (1, 2, 3)]
    means = np.array([signal.ravel()[flat].mean() for flat in flats])
    fine, *coarse = (np.array([p.ravel()[flat].mean() for flat in flats]) for p in power)
    fine = np.maximum(fine, 1e-3 * fine.mean() + np.finfo(np.float32).tiny)  # dark and rounded: no variance at all
    gain, variance = _robust_line(means, fine)
    ratio = [max(float(np.quantile(c / fine, 0.25)), 1.0) for c in coarse]
    correlation_length, correlation = _reach(ratio[0])
    whole = max(*ratio, 1.0) if correlation_length > 1 else 1.0  # fine differences miss most of a correlated noise
    model = np.maximum(gain * signal[good] + variance, fine.min() / 2)
    return Noise(float(np.sqrt(model.mean() * whole)), gain * whole, variance * whole, correlation_length, correlation)


def _per_plane(function: Any, planes: Array, **options: Any) -> Array:
    return np.stack([function(plane, **options) for plane in planes])


def _differences(planes: Array, distance: int) -> Array:
    """Second differences over `distance` pixels along Y and X, scaled so that white noise keeps its variance."""
    kernel = np.zeros(2 * distance + 1)
    kernel[[0, distance, -1]] = 1, -2, 1
    along_y = ndimage.correlate1d(planes, kernel, axis=-2, mode="reflect")
    return np.asarray(ndimage.correlate1d(along_y, kernel, axis=-1, mode="reflect")) / 6


def _flat_by_brightness(planes: Array, signal: Array, good: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Indices of the flatter half of the pixels of each brightness, darkest first; saturated ones are left out."""
    smooth = _per_plane(ndimage.gaussian_filter, planes, sigma=3.0)
    slope = np.hypot(*np.gradient(smooth, axis=(-2, -1))).ravel()
    usable = good & (_per_plane(ndimage.maximum_filter, planes, size=3) < _saturation(planes[good]))
    pixels = np.flatnonzero(usable if usable.mean() > 0.1 else good)
    by_brightness = pixels[np.argsort(signal.ravel()[pixels], kind="stable")]
    bins = np.array_split(by_brightness, max(2, min(_BINS, len(pixels) // 256)))
    return [bin_[np.argsort(slope[bin_], kind="stable")[: max(len(bin_) // 2, 1)]] for bin_ in bins if len(bin_)]


def _recorded(planes: Array, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where something was recorded: not in the margins that stitching and registration fill with one value."""
    highest, lowest = (_per_plane(f, planes, size=MARGIN) for f in (ndimage.maximum_filter, ndimage.minimum_filter))
    recorded = highest > lowest
    return recorded if (recorded & good).mean() > 0.1 else np.ones_like(recorded)


def _saturation(values: Array) -> float:
    """The value at which the detector is full; infinite unless the brightest value occurs suspiciously often."""
    top = values.max()
    return float(top) if np.sum(values == top) > max(20, 2e-4 * values.size) else float("inf")


def _robust_line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and intercept of y over x, each point weighted by 1/y, far points less; a flat line if it would fall."""
    weight, ones = 1 / y, np.ones_like(x)
    slope, intercept = 0.0, float(np.average(y, weights=weight))
    if np.ptp(x) == 0:
        return slope, intercept
    for _ in range(30):
        design = np.stack([x, ones], axis=1) * weight[:, None]
        slope, intercept = map(float, np.linalg.lstsq(design, y * weight, rcond=None)[0])
        fitted = np.maximum(slope * x + intercept, y.min() / 2)
        off = np.abs(y - fitted) / fitted
        weight = 1 / fitted / np.sqrt(np.maximum(1, off / (1.5 * np.median(off) + 1e-3)))
    if slope * np.ptp(x) < 0.1 * abs(y.mean()):  # not worth the name of a slope
        return 0.0, float(np.average(y, weights=1 / y))
    return slope, intercept


def _reach(ratio: float) -> tuple[float, float]:
    """Reach and lag-1 correlation of white noise blurred by a Gaussian, from coarse over fine power of differences."""
    lag = [np.exp(-((d / _BLURS) ** 2) / 4) for d in range(5)]
    ratios = ((6 - 8 * lag[2] + 2 * lag[4]) / (6 - 8 * lag[1] + 2 * lag[2])) ** 2
    blur = float(np.interp(max(ratio / _STRUCTURE, 1.0), ratios, _BLURS))
    if blur <= _BLURS[0]:
        return 1.0, 0.0
    return float(np.interp(blur, _BLURS, _REACHES)), float(np.exp(-((1 / blur) ** 2) / 4))


def blur_of_reach(correlation_length: float) -> float:
    """Width in pixels of the Gaussian that gives white noise this reach; 0 for white noise."""
    return float(np.interp(correlation_length, _REACHES, _BLURS)) if correlation_length > 1 else 0.0
