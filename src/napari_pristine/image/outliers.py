"""Outliers of a detector: hot and cold pixels, dead rows and columns, alone or in small clusters."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.text import counted

Array = NDArray[np.float64]

_HOT, _COLD = 8.0, 6.0
"""Height of an outlier above, or depth below, the median of its neighbours, in noise levels; few photons are often many
more than their mean, never many less."""
_SHARPNESS = 0.3
"""Sum of the two neighbours along an axis, relative to the outlier between them, at most; a point of light that is
spread by optics with a sigma of 0.7 pixels has 0.72 along each axis, wherever it lies between the pixels."""
_MAX_SHARE = 0.015
"""Fraction of outliers above which they are no defects, but the photons of a dark image."""
_GAP = 0.3
"""Depth of a cold pixel below the dark quarter of the pixels around it, relative to that below the median, at least."""
_LINE, _LINE_LENGTH, _LINE_GAP = 0.2, 32, 25
"""Share of the pixels in a part of a row or column of this length that are outliers, above which all up to the last of
them is one defect; gaps of up to this number less one are closed."""
_NEAR, _CLEAR = 6, 4.0
"""Distance in pixels up to which points of the scene are close to an outlier, and the number of standard deviations by
which there must be more of them than by chance."""
_ROUNDS = 8
_RING = np.array([[[1, 1, 1], [1, 0, 1], [1, 1, 1]]], dtype=bool)
_MAX_LEVELS = 24
"""Maximum number of brightness levels at which the noise is measured."""
_TRIMMED = 0.8, 0.437
"""Fraction of the smallest squares of which the mean is taken, and that mean for normal noise of unit variance."""
_ON_STEP, _STEP_ERROR = 0.9, 0.05
"""Share of the values that lie on the steps, at least, and the distance of these from them, in steps."""
_FREQUENT = 4
"""Number of pixels with the same value from which that value counts as one of the steps of the values."""


F = TypeVar("F", bound=Callable[..., Any])
_REMEMBERED = 2
"""Number of results that are kept."""


def remember_last(measure: F) -> F:
    """Keep the last results of a measurement of arrays: the noise and the block of an image need the same ones."""
    known: OrderedDict[bytes, Any] = OrderedDict()

    @wraps(measure)
    def remembered(planes: NDArray[Any], good: NDArray[np.bool_] | None = None) -> Any:
        digest = hashlib.blake2b(digest_size=16)
        for array in (planes, good):
            if array is not None:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        key = digest.digest()
        found = known.get(key)
        if found is None:
            found = known[key] = measure(planes, good)
            while len(known) > _REMEMBERED:
                known.popitem(last=False)
        return found  # not looked up again: another thread may have removed it

    return cast("F", remembered)


@remember_last
def find_outliers(planes: NDArray[Any], good: NDArray[np.bool_] | None = None) -> NDArray[np.int8]:
    """Find pixels that no light can explain, since they differ too sharply from their neighbours.

    A pixel is an outlier if it stands far out of the noise, and along Y or along X none of its neighbours does. So
    single pixels are found, and rows, columns and small clusters, whatever their heights; points of light are not. In a
    scene that is coarsely sampled some points are as sharp, but these lie among others, unlike defects.

    The noise is that of the differences to the median of the neighbours, at each brightness: first robustly, so that
    no outlier adds to it; where that makes outliers of more than a few pixels, these are photons, and the mean of all
    differences is the noise.

    Args:
        planes: `(planes, Y, X)`, all finite.
        good: The same shape, False where a value does not count.

    Returns:
        The same shape: 1 at hot, -1 at cold pixels, else 0.
    """
    planes = np.asarray(planes, np.float64)
    good = np.ones(planes.shape, bool) if good is None else good
    for robust in (True, False):
        found, points = _find(planes, good, robust=robust)
        if not _are_photons(found):
            return _complete_lines(_without_scene(found, points))
    return np.zeros(planes.shape, np.int8)


def fill_outliers(planes: Array, outliers: NDArray[np.int8]) -> Array:
    """Replace each outlier by the median of those of its neighbours that are none; the shapes are equal."""
    if not outliers.any():
        return planes
    filled = planes.copy()
    holes = np.argwhere(outliers)
    padded = np.pad(np.where(outliers == 0, planes, np.nan), ((0, 0), (2, 2), (2, 2)), constant_values=np.nan)
    for reach in (1, 2):
        shifts = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1) if dy or dx]
        around = np.stack([padded[holes[:, 0], holes[:, 1] + 2 + dy, holes[:, 2] + 2 + dx] for dy, dx in shifts])
        known = np.isfinite(around).sum(axis=0) >= 3
        filled[tuple(holes[known].T)] = np.nanmedian(around[:, known], axis=0)
        holes = holes[~known]
        if not len(holes):
            return filled
    rest = np.zeros(planes.shape, bool)
    rest[tuple(holes.T)] = True
    nearest = ndimage.distance_transform_edt(rest, return_distances=False, return_indices=True)
    return np.asarray(filled[tuple(nearest)])


def count_defects(outliers: NDArray[np.int8]) -> dict[str, int]:
    """Count outliers by kind: rows and columns with a line of them, and other pixels.

    Args:
        outliers: Result of `find_outliers`, `(..., Y, X)`.
    """
    counts = {"hot pixels": 0, "cold pixels": 0, "rows": 0, "columns": 0}
    for plane in outliers.reshape(-1, *outliers.shape[-2:]):
        rows, columns = (_has_line(plane != 0, axis) for axis in (1, 0))
        rest = plane[~rows][:, ~columns]
        for name, count in zip(counts, ((rest > 0).sum(), (rest < 0).sum(), rows.sum(), columns.sum()), strict=True):
            counts[name] += int(count)
    return {name: count for name, count in counts.items() if count}


def describe_defects(counts: Mapping[str, int]) -> str:
    """Say how many outliers there are of each kind, such as `2 hot pixels and 1 row stand out from their neighbours`.

    Args:
        counts: Result of `count_defects`, not empty.
    """
    verb = "stands out from its" if sum(counts.values()) == 1 else "stand out from their"
    return f"{name_defects(counts)} {verb} neighbours"


def name_defects(counts: Mapping[str, int]) -> str:
    """Name the outliers of each kind, such as `2 hot pixels and 1 row`."""
    return " and ".join(counted(count, kind.removesuffix("s"), kind) for kind, count in counts.items())


def _has_line(found: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Tell which rows (`axis` 1) or columns (0) of a plane have a line of outliers, without gaps."""
    side = min(_LINE_LENGTH, found.shape[axis]) // 2
    return np.asarray((ndimage.uniform_filter1d(found.astype(np.float32), side, axis=axis) > 0.999).any(axis=axis))


def value_step(values: NDArray[Any]) -> float:
    """Distance of the steps of rounded values; 0 if the values are not rounded to any."""
    sample = values.ravel()[:: max(values.size // 200_000, 1)]
    kinds, counts = np.unique(np.asarray(sample, np.float64), return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:64]
    steps = np.diff(np.sort(kinds[frequent[counts[frequent] >= _FREQUENT]]))
    if not len(steps):
        return 0.0
    step = float(steps.min())
    number = (kinds - kinds[frequent[0]]) / step
    on_step = np.abs(number - np.rint(number)) < _STEP_ERROR
    # two values alone may be the ends of clipped ones
    return step if counts[on_step].sum() > _ON_STEP * sample.size else 0.0


def _find(planes: Array, good: NDArray[np.bool_], *, robust: bool) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Find outliers round by round: a cluster shrinks from its ends, and the noise no longer has those found before.

    Returns:
        The outliers, and the pixels that stand out of the noise, too, but not sharply.
    """
    values, found, step = planes.copy(), np.zeros(planes.shape, np.int8), value_step(planes)
    points = np.zeros(planes.shape, bool)
    for _ in range(_ROUNDS):
        level = ndimage.median_filter(values, footprint=_RING)
        height = values - level
        gain, variance = _noise_of_heights(height, level, good, step, robust=robust)
        # at least that of one photon and of one step: in the dark, single photons are far brighter than all around
        sigma = np.sqrt(np.maximum(gain * level + variance, 0) + gain**2 + step**2)
        candidates = np.argwhere(((height > _HOT * sigma) | (height < -_COLD * sigma)) & good)
        if len(candidates) > 0.3 * values.size:
            return np.ones(planes.shape, np.int8), points
        points[:] = False
        if not len(candidates):
            break
        at = tuple(candidates.T)
        points[at] = True
        sign = np.sign(height[at])
        sharp = _is_sharp(values, candidates, height[at])
        if not sharp.any():
            break
        at = tuple(candidates[sharp].T)
        found[at], values[at] = sign[sharp], level[at]
        if robust and _are_photons(found):
            break
    return found, points & (found == 0)


def _without_scene(found: NDArray[np.int8], points: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Leave out all outliers but lines if points of the scene are clearly closer to them than by chance.

    Defects know nothing of the scene, even if they are dense in a corner of the detector.
    """
    alone = _alone(found)
    own = _grow(alone, 2)  # the rest of a cluster of defects
    around = _grow(alone, _NEAR) & ~own
    near, expected = int(points[around].sum()), float(points[~own].mean() if not own.all() else 0.0) * int(around.sum())
    is_scene = near > 1.5 * expected and near - expected > _CLEAR * (expected**0.5 + 1)
    return np.where(alone, np.int8(0), found) if is_scene else found


def _grow(area: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Grow an area by a number of pixels along Y and X."""
    return np.asarray(ndimage.maximum_filter(area, (1, 2 * reach + 1, 2 * reach + 1)))


def _complete_lines(found: NDArray[np.int8]) -> NDArray[np.int8]:
    """Mark the parts of rows and columns of which many pixels are outliers; the others are hidden by structure."""
    for axis in (1, 2):
        for sign in (1, -1):
            hits = (found == sign).swapaxes(axis, 2)
            side = min(_LINE_LENGTH, hits.shape[2])
            dense = ndimage.uniform_filter1d(hits.astype(np.float32), side, axis=2, mode="reflect") > _LINE
            if dense.any():
                dense = ndimage.maximum_filter1d(dense, side, axis=2)  # up to the ends of the windows
                ends = ((0, 0), (0, 0), (_LINE_GAP, _LINE_GAP))
                closed = ndimage.binary_closing(np.pad(hits & dense, ends, "symmetric"), np.ones((1, 1, _LINE_GAP)))
                line = closed[..., _LINE_GAP:-_LINE_GAP].swapaxes(axis, 2)
                found = np.where(line, np.int8(sign), found)
    return found


def _are_photons(found: NDArray[np.int8]) -> bool:
    """Tell whether there are too many outliers, apart from those of whole rows and columns, to be defects."""
    return bool(_alone(found).mean() > _MAX_SHARE or np.mean(found != 0) > 10 * _MAX_SHARE)


def _alone(found: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Outliers that are not a part of a row or column with many of them."""
    outlier = found != 0
    rows, columns = (outlier.mean(axis=axis, keepdims=True) for axis in (2, 1))
    return np.asarray(outlier & (rows < _LINE) & (columns < _LINE))


def _is_sharp(values: Array, candidates: NDArray[np.intp], height: Array) -> NDArray[np.bool_]:
    """Tell which candidates `(n, 3)` are too sharp for the picture of a scene, by their height above the level.

    Dark ones must also stand out of the dark parts around them, as gaps between points of light may be narrow.
    """
    sign = np.sign(height)
    padded = np.pad(values, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    plane, y, x = candidates.T
    window = sign * np.stack([padded[plane, y + dy, x + dx] for dy in range(5) for dx in range(5)])
    ground = np.quantile(window, 0.2, axis=0)  # of the structure that the pixel is a part of
    along_x, along_y = window[11] + window[13], window[7] + window[17]
    sharp = np.minimum(along_x, along_y) - 2 * ground < _SHARPNESS * (window[12] - ground)
    is_gap = (sign < 0) & (window[12] - np.quantile(window, 0.75, axis=0) < _GAP * np.abs(height))
    return np.asarray(sharp & ~is_gap)


def _noise_of_heights(
    height: Array, level: Array, good: NDArray[np.bool_], step: float, *, robust: bool
) -> tuple[float, float]:
    """Gain and variance of the differences to the median of the neighbours, by a line below most of the points."""
    square, signal = height[good] ** 2, level[good]
    order = np.argsort(signal, kind="stable")
    levels = np.array_split(order, max(1, min(_MAX_LEVELS, len(order) // 128)))
    means = np.array([signal[pixels].mean() for pixels in levels])
    variances = np.array([_trimmed_mean(square[pixels]) if robust else square[pixels].mean() for pixels in levels])
    variances = np.maximum(variances, max(step**2 / 12, 1e-3 * variances.mean() + 1e-30))
    design, weight = np.stack([means, np.ones_like(means)], axis=1), 1 / variances
    gain, variance = 0.0, float(np.average(variances, weights=weight))
    if np.ptp(means) > 0:
        for _ in range(20):
            gain, variance = np.linalg.lstsq(design * weight[:, None], variances * weight, rcond=None)[0]
            fitted = np.maximum(gain * means + variance, variances.min() / 2)
            deviation = (variances - fitted) / fitted
            weight = 1 / fitted / np.sqrt(1 + (deviation / np.where(deviation > 0, 0.2, 0.5)) ** 2)
    if gain < 0:
        gain, variance = 0.0, float(np.average(variances, weights=1 / variances**2))
    least = variances.min() / 4
    return float(gain), float(max(variance, least - gain * means.min()))


def _trimmed_mean(square: Array) -> float:
    """Mean of squares of normal noise without the largest; at least that of the median."""
    fraction, expected = _TRIMMED
    kept = square[square <= np.quantile(square, fraction)]
    return max(float(kept.mean()) / expected, float(np.median(square)) / 0.455)
