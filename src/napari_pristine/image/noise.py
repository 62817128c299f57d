"""Measure the noise of a channel: its level, its dependence on the signal, and its correlation between pixels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.optimize import nnls

from napari_pristine.errors import ImageError
from napari_pristine.image.outliers import fill_outliers, find_outliers, value_step
from napari_pristine.image.stripes import measure_stripes
from napari_pristine.text import counted

Array = NDArray[np.float64]

BLANK_SIDE = 9
"""Side, in pixels, of the squares of one value that count as blank: nothing was recorded there."""
DISAGREE = 1.6
"""Ratio of two estimates of the noise level from which one of them is wrong."""
_CORRELATED = 1.1
"""Correlation length, in pixels, above which noise counts as correlated."""
_PATCH_SIDE, _PATCH_STEP = 8, 3
"""Side and distance of the patches of Chen, Zhu & Heng (2015), in pixels."""
_MAX_PATCHES = 60_000
_MAX_PLANES = 8
_CROP_SIDE, _MAX_CROPS = 256, 32
"""Large planes are measured in crops of this side, in pixels, up to this number."""
_NEXT_VALUES = 3
"""Number of values below the largest that are compared with it in frequency."""
_SINGLE, _MAX_COUNT = 0.03, 10
"""Mean above the darkest value, in steps of the values, below which they are single photons: too few for a fit. Larger
values count as so many steps."""
_CELL = 4
"""Side, in pixels, of the cells whose flatness is compared."""
_INDEPENDENT = 5
"""Number of independent squares of differences in a cell."""
_SELECTED, _FEW = 1.05, 0.8
"""Corrections of the mean power of the flattest cells, which is low by chance: a factor, and for few cells a number of
standard errors."""
_MARGIN = 3
"""Width of the border of a plane, in pixels, where differences would reach beyond it."""
_KERNELS = tuple(
    np.array(kernel) / np.linalg.norm(kernel)
    for kernel in ((1, -4, 6, -4, 1), (1, -2, 1), (1, 0, -2, 0, 1), (1, 0, 0, -2, 0, 0, 1))
)
"""Fourth differences, and second differences over one, two and three pixels; white noise keeps its variance."""
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
        rows, columns: Standard deviation of the offsets of rows and of columns, which `sigma` does not include.
        patch_sigma: Independent estimate of `sigma`, see `estimate_sigma`; None if it was not made.
    """

    sigma: float
    gain: float
    variance: float
    correlation_length: float = 1.0
    correlation: float = 0.0
    rows: float = 0.0
    columns: float = 0.0
    patch_sigma: float | None = None

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


def correlate(white: NDArray[Any], correlation_length: float) -> NDArray[Any]:
    """Blur white noise `(..., Y, X)` so that it has this correlation length, in pixels, and the same level."""
    if not is_correlated(correlation_length):
        return white
    blur = float(np.interp(correlation_length, _LENGTHS, _BLURS))
    blurred = ndimage.gaussian_filter(white, (*[0.0] * (white.ndim - 2), blur, blur), mode="wrap")
    return np.asarray(blurred * (white.std() / blurred.std()))


def estimate_sigma(block: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> float:
    """Estimate the noise level of a block by the eigenvalues of its patches (Chen, Zhu & Heng, ICCV 2015).

    The smallest eigenvalues of the covariance of all 8 × 8 patches belong to noise alone: the largest ones are dropped
    until the mean of the rest equals its median.

    Args:
        block: `(C, Y, X)` or `(C, Z, Y, X)`, without NaN.
        valid: The same shape without C; patches without values that were filled in are used, if these are enough.

    Returns:
        One level for all channels, in the units of the block.

    Raises:
        ImageError: The block has fewer patches than a patch has values.
    """
    patches = _patches(np.asarray(block, dtype=np.float64), valid)
    count, length = patches.shape
    if count <= length:
        raise ImageError(
            f"the image has {counted(count, 'patch', 'patches')} of {_PATCH_SIDE} × {_PATCH_SIDE} pixels, "
            "but estimating its noise level "
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


def _patches(block: Array, valid: NDArray[np.bool_] | None) -> Array:
    """Patches of a block `(C, *space)`, one per row, without those of one value or with values that do not count."""
    windows = _windows(block)
    positions = np.indices(windows.shape[1:4]).reshape(3, -1)
    if positions.shape[1] > _MAX_PATCHES:
        drawn = np.random.default_rng(0).choice(positions.shape[1], _MAX_PATCHES, replace=False)
        positions = positions[:, drawn]
    patches = (
        windows[(slice(None), *positions)]
        .transpose(1, 0, 2, 3)
        .reshape(positions.shape[1], len(block) * _PATCH_SIDE**2)
    )
    recorded = np.ptp(patches, axis=1) > 0  # the margins of stitched images hold one value
    if valid is not None and not valid.all():
        recorded &= _windows(valid[None])[(0, *positions)].all(axis=(1, 2))
    return np.asarray(patches[recorded] if recorded.sum() > 0.1 * len(recorded) else patches)


def _windows(block: NDArray[Any]) -> NDArray[Any]:
    """Views of all patches of a block `(C, *space)`: `(C, planes, rows, columns, Y, X)`; none if it is too small."""
    planes = _sample_planes(block)
    if min(planes.shape[-2:]) < _PATCH_SIDE:
        return np.empty((len(block), 0, 0, 0, _PATCH_SIDE, _PATCH_SIDE), block.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(planes, (_PATCH_SIDE, _PATCH_SIDE), axis=(2, 3))
    return np.asarray(windows[:, :, ::_PATCH_STEP, ::_PATCH_STEP])


def _sample_planes(block: NDArray[Any]) -> NDArray[Any]:
    """Planes of a block `(C, *space)` as `(C, planes, Y, X)`; some planes or crops, evenly spread, if it is large."""
    planes = block.reshape(len(block), -1, *block.shape[-2:])
    planes = planes[:, spread(planes.shape[1], _MAX_PLANES)]
    crops = np.stack([_cut(channel) for channel in planes])
    return crops[:, spread(crops.shape[1], _MAX_CROPS)]


def spread(count: int, most: int) -> NDArray[np.intp]:
    """Indices of up to `most` of so many items, evenly spread from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def _cut(planes: NDArray[Any]) -> NDArray[Any]:
    """Cut planes `(planes, Y, X)` into crops if they are large."""
    if planes.size <= _MAX_CROPS * _CROP_SIDE**2 or min(planes.shape[-2:]) < _CROP_SIDE:
        return planes
    rows, columns = (n // _CROP_SIDE for n in planes.shape[-2:])
    cropped = planes[:, : rows * _CROP_SIDE, : columns * _CROP_SIDE]
    crops = cropped.reshape(len(planes), rows, _CROP_SIDE, columns, _CROP_SIDE).swapaxes(2, 3)
    return crops.reshape(-1, _CROP_SIDE, _CROP_SIDE)


def measure_noise(channel: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Noise:
    """Measure the noise of one channel.

    Second and fourth differences along Y and X cancel a smooth signal and leave noise. Their mean square over the
    flattest cells of each brightness is the variance at that brightness; a robust line through these points (the
    photon transfer curve of the camera) gives gain and variance. The variance of noise is proportional to the signal,
    that of remaining structure to its square: a quadratic term accounts for structure.

    The correlation length follows from the power of differences over two pixels relative to that over one: equal for
    white noise, larger for correlated noise. Fourth differences, which are sensitive to the finest detail only, tell
    correlated noise from structure: optics blur structure, but not the noise of the detector.

    Hot and cold pixels, and the offsets of rows and columns, are left out.

    Args:
        channel: Values `(*space)`, all finite; the last two axes are Y and X.
        valid: `(*space)`, False where a value was filled in and does not count.
    """
    planes = channel.reshape(-1, *channel.shape[-2:])
    good = np.ones(planes.shape, bool) if valid is None else valid.reshape(planes.shape)
    for cut, most in ((np.asarray, _MAX_PLANES), (_cut, _MAX_CROPS)):
        planes, good = cut(planes), cut(good)
        recorded = np.flatnonzero(good.any(axis=(1, 2)))
        if not len(recorded):
            return Noise(0.0, 0.0, 0.0)
        chosen = recorded[spread(len(recorded), most)]
        planes, good = planes[chosen], good[chosen]
    planes = planes.astype(np.float64)
    if planes.size < _PATCH_SIDE**2 or np.ptp(planes[good]) == 0:
        return Noise(0.0, 0.0, 0.0)
    step, dark = value_step(planes), float(planes[good].min())
    rounding = step**2 / 12
    mean = float(np.minimum(planes[good] - dark, _MAX_COUNT * step).mean())  # hot pixels add little
    if mean < _SINGLE * step:
        return Noise((step * mean) ** 0.5, step, -step * dark)
    stripes = measure_stripes(planes, good)
    planes = planes - stripes.offsets
    outliers = find_outliers(planes, good)
    planes, good = fill_outliers(planes, outliers), good & (outliers == 0)
    powers = _flat_powers(planes, good)
    if powers is None:
        return Noise(0.0, 0.0, 0.0)
    means, *variances = powers
    finest, fine, coarse, coarsest = (np.maximum(v, 0.05 * rounding + np.finfo(np.float32).tiny) for v in variances)
    over_two, over_one = (float(np.quantile(x / finest, 0.35)) for x in (coarse, fine))
    over_three = float(np.quantile(coarsest / coarse, 0.25))
    levels, ratio = len(means) // 3, coarse / finest
    rising = levels > 1 and bool(np.median(ratio[:levels]) < 0.9 * np.median(ratio[levels : 2 * levels]))
    # structure also has more power in coarse differences, but less in fine ones and more over three pixels
    white = over_two < 1.5 or (
        np.median(finest) > 4 * rounding and _looks_like_structure(over_one, over_two, over_three, rising)
    )
    if white:
        variance, blur = finest * np.clip(over_one, 1, 1.15), 0.0
    else:
        fine, coarse, coarsest = (np.maximum(x - rounding, 0.02 * x) for x in (fine, coarse, coarsest))
        blur = float(np.interp(np.quantile(coarse / fine, 0.25), _power(2, _BLURS) / _power(1, _BLURS), _BLURS))
        by_one, by_two, by_three = (x / _power(lag, blur) for lag, x in ((1, fine), (2, coarse), (3, coarsest)))
        # real correlated noise has more power at low frequencies than blurred noise; much more is structure
        longer = np.interp(np.quantile(by_three / by_two, 0.25), [1, 1.4, 2], [1, 1.4, 1])
        variance = np.minimum(by_two, 1.15 * by_one) * longer + rounding
    # the noise of rounding cannot be seen where all values are equal; counts of few photons are whole by nature
    least = np.minimum(rounding, step * np.maximum(means - dark, 0))
    variance = np.maximum(variance, np.maximum(least, 1e-3 * variance.mean()))
    gain, offset = _fit_line(means, variance)
    signal = ndimage.gaussian_filter(planes, (0, 2.0, 2.0))[good]
    sigma = float(np.sqrt(np.maximum(gain * signal + offset, variance.min() / 2).mean()))
    length = 1.0 if white else float(np.interp(blur, _BLURS, _LENGTHS))
    correlation = 0.0 if white else float(_blurred_autocorrelation(1, blur))
    try:
        patch_sigma = estimate_sigma(planes[None], good)
    except ImageError:  # too small
        patch_sigma = None
    return Noise(sigma, gain, offset, length, correlation, stripes.rows, stripes.columns, patch_sigma)


def _looks_like_structure(over_one: float, over_two: float, over_three: float, rising: bool) -> bool:
    """Tell structure with white noise from correlated noise, by the power of differences over one to three pixels.

    Args:
        over_one: Power of second differences over one pixel, relative to that of fourth differences.
        over_two: The same over two pixels.
        over_three: Power over three pixels, relative to that over two.
        rising: True if the relative power over two pixels is higher in bright areas than in dark ones, as of structure.
    """
    return (over_one < 1.1 and over_two < 3) or (over_one < 1.25 and over_two < 5 and over_three > 1.3 and rising)


def _power(lag: int, blur: ArrayLike) -> Array:
    """Mean square of second differences over `lag` pixels along Y and X, for blurred noise of unit variance."""
    near, far = (_blurred_autocorrelation(n * lag, blur) for n in (1, 2))
    return np.asarray(((6 - 8 * near + 2 * far) / 6) ** 2)


def length_of_ratio(ratio: NDArray[Any]) -> Array:
    """Correlation length of noise, in pixels, by the power of its second differences over two pixels relative to one.

    The powers are means of squares of differences along Y and X, see `_power`.
    """
    blurs = np.interp(ratio, _power(2, _BLURS) / _power(1, _BLURS), _BLURS)
    return np.asarray(np.interp(blurs, _BLURS, _LENGTHS))


def _flat_powers(planes: Array, good: NDArray[np.bool_]) -> Array | None:
    """Mean square of differences in the flattest cells of each brightness.

    Returns:
        `(5, levels)`: the mean signal of each brightness level; the power of fourth differences, and of second
        differences over one, two and three pixels. None if all pixels are too close to excluded ones.
    """
    usable = ndimage.minimum_filter(_usable(planes, good), (1, 5, 5), mode="constant", cval=False)
    usable[:, :_MARGIN] = usable[:, -_MARGIN:] = usable[..., :_MARGIN] = usable[..., -_MARGIN:] = False
    counts = _cell_means(usable.astype(np.float64))
    used = counts > 0.2 if (counts > 0.2).any() else counts > 0
    if not used.any():
        return None
    slope = np.hypot(*np.gradient(ndimage.gaussian_filter(planes, (0, 2.0, 2.0)), axis=(-2, -1)))
    flatness = _cell_means(slope)[used]
    powers: list[Array] = []
    signals: list[Array] = []
    for kernel in _KERNELS:
        for found, values in (
            (powers, _filter_plane(planes, kernel) ** 2),
            # the expected power of a difference is gain · this mean of the signal + variance, however it varies
            (signals, _filter_plane(planes, kernel**2)),
        ):
            found.append(_cell_means(values * usable)[used] / counts[used])
    levels = [
        _flattest(cells[np.argsort(flatness[cells], kind="stable")], powers, signals)
        for cells in _brightness_levels(signals[0])
    ]
    return np.array(levels).T


def _flattest(cells: NDArray[np.intp], powers: list[Array], signals: list[Array]) -> list[float]:
    """Signal and powers of the flattest cells of a brightness level, which are those with the lowest mean power.

    A few cells may have a low mean by chance, so an upper limit of the mean is compared.

    Args:
        cells: The cells of the level, flattest first.
        powers: Mean square of each kind of difference, for all cells.
        signals: Mean signal for each kind of difference, for all cells.
    """
    counts = np.arange(1, len(cells) + 1)
    error = np.sqrt(2 / (counts * _INDEPENDENT))
    least = min(len(cells) - 1, max(3, len(cells) // 8))
    found = [0.0]
    for kind, power in enumerate(powers):
        means = np.cumsum(power[cells]) / counts
        chosen = least + int(np.argmin((means * (1 + 1.5 * error))[least:]))
        found.append(float(means[chosen] * _SELECTED * (1 + _FEW * error[chosen])))
        if kind == 0:
            found[0] = float(signals[kind][cells[: chosen + 1]].mean())
    return found


def _brightness_levels(signal: Array) -> list[NDArray[np.intp]]:
    """Indices of cells by brightness, darkest first: equal parts of the darker three quarters, then halves of the rest.

    The few brightest cells, which determine the gain of a dark image with bright spots, thus have levels of their own.
    """
    order, count = np.argsort(signal, kind="stable"), len(signal)
    fractions = list(np.linspace(0, 0.75, min(max(count // 32, 2), 13)))
    rest = 0.25
    while rest * count / 2 >= 12:
        rest /= 2
        fractions.append(1 - rest)
    edges = np.unique((np.array([*fractions, 1.0]) * count).astype(int))
    return [order[first:last] for first, last in itertools.pairwise(edges)]


def _cell_means(values: Array) -> Array:
    """Means of squares of 4 × 4 pixels of planes, flat; pixels that are left at the end do not count."""
    rows, columns = (n // _CELL for n in values.shape[1:])
    cropped = values[:, : rows * _CELL, : columns * _CELL]
    return np.asarray(cropped.reshape(len(values), rows, _CELL, columns, _CELL).mean(axis=(2, 4)).ravel())


def fourth_differences(planes: Array) -> Array:
    """Fourth differences along Y and X, the last two axes; white noise keeps its variance."""
    return _filter_plane(planes, _KERNELS[0])


def _filter_plane(planes: Array, kernel: Array) -> Array:
    """Apply a filter along Y and X."""
    return np.asarray(ndimage.correlate1d(ndimage.correlate1d(planes, kernel, axis=-2), kernel, axis=-1))


def _usable(planes: Array, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels to measure: without blank areas, saturated pixels and their neighbours, unless little else is left."""
    recorded = ndimage.maximum_filter(planes, (1, BLANK_SIDE, BLANK_SIDE)) > ndimage.minimum_filter(
        planes, (1, BLANK_SIDE, BLANK_SIDE)
    )
    good = recorded & good if (recorded & good).mean() > 0.1 else good
    values = planes[good]
    top = values.max() if count_saturated(values) else np.inf
    usable = good & (ndimage.maximum_filter(planes, (1, 3, 3)) < top)
    return np.asarray(usable if usable.mean() > 0.1 else good)


def count_saturated(values: NDArray[Any]) -> int:
    """Number of values at the top, if it is suspiciously large: the next values are far less frequent; else 0."""
    top = values.max()
    count = int(np.sum(values == top))
    if count <= max(20, 2e-4 * values.size):
        return 0
    for _ in range(_NEXT_VALUES):
        lower = values[values < top]
        if not lower.size:
            break
        top, values = lower.max(), lower
        if 2 * np.sum(values == top) > count:
            return 0
    return count


def _fit_line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and intercept of y over x, by least absolute relative deviations; neither falls below the darkest point.

    A quadratic term in the distance from the darkest point is fitted too, and then dropped. The line is
    flat if y grows by less than a tenth.
    """
    dark, span = float(x.min()), float(np.ptp(x))
    if span == 0:
        return 0.0, float(np.median(y))
    t = (x - dark) / span
    design, weight = np.stack([np.ones_like(t), t, t**2], axis=1), 1 / y
    preference = np.array([[0, 0, 1 / np.median(y)]])  # of a line, where both explain the points
    for _ in range(40):
        rows = np.concatenate([design * weight[:, None], preference])
        terms = nnls(rows, np.append(y * weight, 0.0))[0]
        fitted = np.maximum(design @ terms, y.min() / 2)
        weight = np.sqrt(0.5 / (np.abs(y - fitted) / fitted + 0.05)) / fitted
    level, slope, rest = terms
    if slope < 0.1 * level:
        return 0.0, float(np.average(y, weights=1 / y)) if rest < 0.1 * level else float(level)
    return float(slope / span), float(level - slope / span * dark)
