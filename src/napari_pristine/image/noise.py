"""Measure the noise of a channel: its level, its dependence on the signal, and its correlation between pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_pristine.errors import ImageError

Array = NDArray[np.float64]

BLANK_SIDE = 9
"""Side, in pixels, of the squares of one value that count as blank: nothing was recorded there."""
_CORRELATED = 1.1
"""Correlation length, in pixels, above which noise counts as correlated."""
_PATCH_SIDE, _PATCH_STEP = 8, 3
"""Side and distance of the patches of Chen, Zhu & Heng (2015), in pixels."""
_MAX_PATCHES = 60_000
_MAX_PLANES = 8
_CROP_SIDE, _MAX_CROPS = 256, 32
"""Large planes are measured in crops of this side, in pixels, up to this number."""
_BINS = 24
"""Maximum number of brightness levels at which the variance is measured."""
_STRUCTURE_RATIO = 1.5
"""Ratio of coarse to fine differences that structure of the image explains, without any correlation of the noise."""
_BLURS = np.linspace(0.2, 1.5, 200)
"""Widths of Gaussians, in pixels."""


def _blurred_autocorrelation(distance: ArrayLike, blur: ArrayLike) -> Array:
    """Autocorrelation, at distances in pixels, of white noise blurred by a Gaussian with a sigma of `blur` pixels."""
    return np.asarray(np.exp(-((np.asarray(distance) / np.asarray(blur)) ** 2) / 4))


_LENGTHS = _blurred_autocorrelation(np.arange(-8, 9)[:, None], _BLURS).sum(axis=0)
"""Correlation length, in pixels, of white noise blurred by each of `_BLURS`."""


@dataclass(frozen=True)
class Noise:
    """Noise of one channel: variance(signal) = `gain` · signal + `variance`, in the units of the image.

    Attributes:
        sigma: Standard deviation of the noise, root mean square over the channel.
        gain: Variance per unit of signal, which is the number of grey values that one photon makes.
        variance: Variance where the signal is zero; negative where the camera adds an offset to the signal.
        correlation_length: Sum of the autocorrelation over all distances along an axis, in pixels: 1 for noise that
            is independent from pixel to pixel, about 2 for white noise blurred by a Gaussian with a sigma of 0.6
            pixels. At low frequencies such noise is stronger than white noise of the same `sigma` by this factor.
            Measured from second differences over one and two pixels, see `measure_noise`; up to 5.3.
        correlation: Autocorrelation at a distance of one pixel, for the same blur.
    """

    sigma: float
    gain: float
    variance: float
    correlation_length: float = 1.0
    correlation: float = 0.0

    @property
    def signal_dependent(self) -> bool:
        """True if the noise grows with the signal, as photon noise does."""
        return self.gain > 0

    @property
    def offset(self) -> float:
        """Offset of the camera: the signal at which photon noise would vanish; 0 where there is read noise."""
        return -self.variance / self.gain if self.signal_dependent and self.variance < 0 else 0.0

    @property
    def read(self) -> float:
        """Read noise: standard deviation where the signal is zero."""
        return float(np.sqrt(max(self.variance, 0.0)))


def is_correlated(correlation_length: float) -> bool:
    """Decide if noise counts as correlated between pixels; see `Noise` for the correlation length, in pixels."""
    return correlation_length > _CORRELATED


def noise_autocorrelation(distances: NDArray[np.int_], correlation_length: float) -> Array:
    """Autocorrelation of noise with this correlation length (pixels), at whole distances along an axis (pixels)."""
    if correlation_length <= 1:
        return np.asarray(distances == 0, dtype=np.float64)
    return _blurred_autocorrelation(distances, float(np.interp(correlation_length, _LENGTHS, _BLURS)))


def estimate_sigma(block: NDArray[Any]) -> float:
    """Estimate the noise level of a block by the eigenvalues of its patches (Chen, Zhu & Heng, ICCV 2015).

    The smallest eigenvalues of the covariance of all 8 × 8 patches belong to noise alone: the largest ones are dropped
    until the mean of the rest equals its median.

    Args:
        block: `(C, Y, X)` or `(C, Z, Y, X)`, without NaN.

    Returns:
        One level for all channels, in the units of the block.

    Raises:
        ImageError: The block has fewer patches than a patch has values.
    """
    patches = _patches(np.asarray(block, dtype=np.float64))
    count, length = patches.shape
    if count <= length:
        raise ImageError(
            f"the image has {count} patches of {_PATCH_SIDE} × {_PATCH_SIDE} pixels, but estimating its noise level "
            f"takes more than {length}; set the noise level (sigma) yourself"
        )
    patches = patches - patches.mean(axis=0)
    values = np.linalg.eigvalsh(patches.T @ patches / count)[::-1]
    for dropped in range(1, length):
        rest = values[dropped:]
        mean = rest.mean()
        if np.sum(rest > mean) == np.sum(rest < mean):
            return float(np.sqrt(max(mean, 0.0)))
    return float(np.sqrt(max(values[-1], 0.0)))


def _patches(block: Array) -> Array:
    """Patches of a block `(C, *space)`, one per row, without those of one value."""
    planes = _sample_planes(block)
    if min(planes.shape[-2:]) < _PATCH_SIDE:
        return np.empty((0, _PATCH_SIDE**2 * len(block)))
    windows = np.lib.stride_tricks.sliding_window_view(planes, (_PATCH_SIDE, _PATCH_SIDE), axis=(2, 3))
    windows = windows[:, :, ::_PATCH_STEP, ::_PATCH_STEP]
    positions = np.indices(windows.shape[1:4]).reshape(3, -1)
    if positions.shape[1] > _MAX_PATCHES:
        drawn = np.random.default_rng(0).choice(positions.shape[1], _MAX_PATCHES, replace=False)
        positions = positions[:, drawn]
    patches = windows[(slice(None), *positions)].transpose(1, 0, 2, 3).reshape(positions.shape[1], -1)
    recorded = np.ptp(patches, axis=1) > 0  # the margins of stitched images hold one value
    return np.asarray(patches[recorded] if recorded.mean() > 0.1 else patches)


def _sample_planes(block: Array) -> Array:
    """Planes of a block `(C, *space)` as `(C, planes, Y, X)`; some planes or crops, evenly spread, if it is large."""
    planes = block.reshape(len(block), -1, *block.shape[-2:])
    if planes.shape[1] > _MAX_PLANES:
        planes = planes[:, np.linspace(0, planes.shape[1] - 1, _MAX_PLANES).astype(int)]
    if planes[0].size <= _MAX_CROPS * _CROP_SIDE**2 or min(planes.shape[-2:]) < _CROP_SIDE:
        return planes
    rows, columns = (n // _CROP_SIDE for n in planes.shape[-2:])
    cropped = planes[..., : rows * _CROP_SIDE, : columns * _CROP_SIDE]
    crops = cropped.reshape(*planes.shape[:2], rows, _CROP_SIDE, columns, _CROP_SIDE).swapaxes(3, 4)
    crops = crops.reshape(len(planes), -1, _CROP_SIDE, _CROP_SIDE)
    return crops[:, np.linspace(0, crops.shape[1] - 1, _MAX_CROPS).astype(int)]


def measure_noise(channel: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Noise:
    """Measure the noise of one channel over its flat parts.

    Second differences along Y and X cancel a smooth signal and leave the noise. Their mean square, over the flatter
    half of the pixels of each brightness, is the variance at that brightness. A robust line through these points (the
    photon transfer curve of the camera) gives gain and variance. The correlation length follows from the power of the
    differences over two pixels relative to that over one: equal for white noise, larger for correlated noise.

    Args:
        channel: Values `(*space)`, all finite; the last two axes are Y and X.
        valid: `(*space)`, False where a value was filled in and does not count.
    """
    planes = _sample_planes(np.asarray(channel, dtype=np.float64)[None])[0]
    good = np.ones(planes.shape, bool) if valid is None else _sample_planes(valid[None].astype(float))[0] > 0
    if planes.size < _PATCH_SIDE**2 or np.ptp(planes[good]) == 0:
        return Noise(0.0, 0.0, 0.0)
    signal = ndimage.gaussian_filter(planes, (0, 2.0, 2.0))
    groups = _flat_pixels(planes, signal, good)
    means = np.array([signal.ravel()[pixels].mean() for pixels in groups])
    power = [_second_differences(planes, distance).ravel() ** 2 for distance in (1, 2, 3)]
    fine, *coarse = (np.array([p[pixels].mean() for pixels in groups]) for p in power)
    fine = np.maximum(fine, 1e-3 * fine.mean() + np.finfo(np.float32).tiny)  # rounding hides all noise in the dark
    gain, variance = _fit_line(means, fine)
    ratios = [max(float(np.quantile(c / fine, 0.25)), 1.0) for c in coarse]
    correlation_length, correlation = _correlation(ratios[0])
    # differences of neighbours miss most of the power of correlated noise
    missed = max(ratios) if correlation_length > 1 else 1.0
    variances = np.maximum(gain * signal[good] + variance, fine.min() / 2)
    sigma = float(np.sqrt(variances.mean() * missed))
    return Noise(sigma, gain * missed, variance * missed, correlation_length, correlation)


def _second_differences(planes: Array, distance: int) -> Array:
    """Second differences over `distance` pixels along Y and X, scaled so that white noise keeps its variance."""
    kernel = np.zeros(2 * distance + 1)
    kernel[[0, distance, -1]] = 1, -2, 1
    along_y = ndimage.correlate1d(planes, kernel, axis=-2, mode="reflect")
    return np.asarray(ndimage.correlate1d(along_y, kernel, axis=-1, mode="reflect")) / 6


def _flat_pixels(planes: Array, signal: Array, good: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Flat indices of the flatter half of the pixels of each brightness, darkest first.

    Blank areas and saturated pixels with their neighbours are left out, unless little else is left.
    """
    recorded = ndimage.maximum_filter(planes, (1, BLANK_SIDE, BLANK_SIDE)) > ndimage.minimum_filter(
        planes, (1, BLANK_SIDE, BLANK_SIDE)
    )
    good = recorded & good if (recorded & good).mean() > 0.1 else good
    values = planes[good]
    top = values.max()
    saturated = np.sum(values == top) > max(20, 2e-4 * values.size)  # the brightest value is suspiciously frequent
    usable = good & (ndimage.maximum_filter(planes, (1, 3, 3)) < (top if saturated else np.inf))
    pixels = np.flatnonzero(usable if usable.mean() > 0.1 else good)
    slope = np.hypot(*np.gradient(ndimage.gaussian_filter(planes, (0, 3.0, 3.0)), axis=(-2, -1))).ravel()
    by_brightness = pixels[np.argsort(signal.ravel()[pixels], kind="stable")]
    bins = np.array_split(by_brightness, max(2, min(_BINS, len(pixels) // 256)))
    return [bin_[np.argsort(slope[bin_], kind="stable")[: max(len(bin_) // 2, 1)]] for bin_ in bins if len(bin_)]


def _fit_line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and intercept of y over x, by least squares with weights 1/y² and less for outliers.

    The line is flat if y grows by less than a tenth of its mean.
    """
    weight, ones = 1 / y, np.ones_like(x)
    slope, intercept = 0.0, float(np.average(y, weights=weight))
    if np.ptp(x) == 0:
        return slope, intercept
    for _ in range(30):
        design = np.stack([x, ones], axis=1) * weight[:, None]
        slope, intercept = map(float, np.linalg.lstsq(design, y * weight, rcond=None)[0])
        fitted = np.maximum(slope * x + intercept, y.min() / 2)
        deviation = np.abs(y - fitted) / fitted
        weight = 1 / fitted / np.sqrt(np.maximum(1, deviation / (1.5 * np.median(deviation) + 1e-3)))
    if slope * np.ptp(x) < 0.1 * abs(y.mean()):
        return 0.0, float(np.average(y, weights=1 / y))
    return slope, intercept


def _correlation(ratio: float) -> tuple[float, float]:
    """Correlation length (pixels) and autocorrelation at one pixel, of white noise blurred by a Gaussian.

    Args:
        ratio: Power of second differences over two pixels, relative to that over one.
    """
    lag = [_blurred_autocorrelation(distance, _BLURS) for distance in range(5)]
    ratios = ((6 - 8 * lag[2] + 2 * lag[4]) / (6 - 8 * lag[1] + 2 * lag[2])) ** 2
    blur = float(np.interp(max(ratio / _STRUCTURE_RATIO, 1.0), ratios, _BLURS))
    if blur <= _BLURS[0]:
        return 1.0, 0.0
    return float(np.interp(blur, _BLURS, _LENGTHS)), float(_blurred_autocorrelation(1, blur))
