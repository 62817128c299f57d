"""Stripes: offsets of rows and columns against their neighbours, as scanners and CMOS cameras make them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.image.outliers import fill_outliers, find_outliers, remember_last, value_step

Array = NDArray[np.float64]

_SCENE = 2.0
"""Standard deviation of the blur that separates the scene from noise and offsets, in pixels."""
_SEGMENTS = 8
"""Number of segments of a row; offsets are the same in all of them, structure is not."""
_FIRST, _SECOND = np.argwhere(np.abs(np.subtract.outer(range(_SEGMENTS), range(_SEGMENTS))) > 1).T
"""Pairs of segments that are not neighbours."""
_OF_SEGMENT = [np.flatnonzero(np.equal(_FIRST, number)) for number in range(_SEGMENTS)]
"""For each segment, the numbers of the pairs that it comes first in."""
_LEAST_SIDE = 16
_BLANK = 9
"""Number of equal pixels in a row that were not recorded."""
_ROUNDS = 6
"""Each removes what the scene that was blurred with the offsets had hidden of them."""
_CLIP = 2.0
"""Height, relative to what is usual around a pixel, above which it counts as no more than that."""
_SIGNIFICANT = 4.0
"""Mean product of the offsets in distant segments, relative to its standard error, above which they are no chance."""
_ALIKE = 0.1
"""The same, relative to the mean square of the offsets in single segments: less is structure."""
_ALTERNATING = -0.15
"""Correlation of neighbouring steps from row to row, at most: -0.5 for independent offsets, above 0 for structure."""
_BANDS, _EVERYWHERE = 8, 0.25
"""Number of bands of rows, and the variance in half of them and in all segments, relative to the mean, at least;
structure is in some of them."""
_PERIODIC = 4.0
"""Largest power at a frequency, relative to the mean power and the logarithm of their number, from which structure is
periodic."""
_LARGEST = 3.0
"""Largest offset that is removed, in standard deviations of all."""
_RELEVANT = 0.15
"""Standard deviation of the offsets, in noise levels, from which they count."""


class Stripes(NamedTuple):
    """Offsets of the rows and columns of planes.

    Attributes:
        offsets: Sum of both at each pixel, `(planes, Y, X)` or a shape that broadcasts to it.
        rows: Standard deviation of the offsets of rows; 0 if there are none.
        columns: The same for columns.
    """

    offsets: Array
    rows: float
    columns: float


@remember_last
def measure_stripes(planes: NDArray[Any], good: NDArray[np.bool_] | None = None) -> Stripes:
    """Measure the offsets of rows and of columns.

    The offset of a row is the mean difference of its pixels from their surroundings, with less weight where the
    surroundings are noisy or structured. Offsets that structure or noise may make by chance are 0: those of a row are
    the same in all of its segments, and independent of those of its neighbours. Slow changes over many rows cannot be
    told from the scene and stay.

    Args:
        planes: `(planes, Y, X)`, all finite.
        good: The same shape, False where a value does not count.
    """
    values = np.asarray(planes, np.float64)
    good = np.ones(values.shape, bool) if good is None else good
    outliers = find_outliers(values, good)
    values, good = fill_outliers(values, outliers), good & (outliers == 0)  # a dead row has no offset
    sides = (1, 1, _BLANK)
    blank = ndimage.maximum_filter(values, sides) == ndimage.minimum_filter(values, sides)
    blank = ndimage.maximum_filter(blank, sides)
    good &= ~blank
    least = value_step(values) ** 2  # few photons are skewed: a row with one more than another has no offset
    rows = _offsets_of_rows(values, good, least)
    columns = _offsets_of_rows((values - rows[:, :, None]).swapaxes(1, 2), good.swapaxes(1, 2), least)
    if not rows.any() and not columns.any():
        return Stripes(np.zeros((1, 1, 1)), 0.0, 0.0)
    offsets = np.where(blank, 0.0, rows[:, :, None] + columns[:, None, :])
    return Stripes(offsets, float(rows.std()), float(columns.std()))


def _offsets_of_rows(values: Array, good: NDArray[np.bool_], least: float) -> Array:
    """Offsets of the rows of planes `(planes, Y, X)`, `(planes, Y)`; all 0 if there are none."""
    none = np.zeros(values.shape[:2])
    if min(values.shape[1:]) < _LEAST_SIDE:
        return none
    segments, weights, noise = _differences_of_segments(values, good, least)
    products = segments[..., _FIRST] * segments[..., _SECOND]
    precision = weights[..., _FIRST] * weights[..., _SECOND]
    if not precision.any():
        return none
    variance = float(np.average(products, weights=precision))
    chance = _SIGNIFICANT * float(np.sqrt((precision**2 * (products - variance) ** 2).sum()) / precision.sum())
    structure = _ALIKE * float(np.average(segments**2, weights=weights))
    if variance <= max(chance, structure, _RELEVANT**2 * noise) or not _is_alternating(segments, weights):
        return none
    bands = zip(*(np.array_split(x, _BANDS, axis=1) for x in (products, precision)), strict=True)
    typical = float(np.median([np.average(p, weights=w + 1e-30) for p, w in bands]))
    recorded = [pairs for pairs in _OF_SEGMENT if precision[..., pairs].mean() > _EVERYWHERE * precision.mean()]
    parts = [np.average(products[..., pairs], weights=precision[..., pairs]) for pairs in recorded]
    if min(typical, *parts) < _EVERYWHERE * variance or _is_periodic(segments, weights):
        return none
    shares = weights / np.maximum(weights.sum(axis=2, keepdims=True), 1e-30)
    scatter = shares**2 * (segments - segments.mean(axis=2, keepdims=True)) ** 2
    error = ndimage.gaussian_filter1d(scatter.sum(axis=2) * _SEGMENTS / (_SEGMENTS - 1), 3.0, axis=1)
    offsets = (segments * shares).sum(axis=2)
    for _ in range(_ROUNDS - 1):
        segments, weights, _ = _differences_of_segments(values - offsets[:, :, None], good, least)
        offsets += (segments * weights).sum(axis=2) / np.maximum(weights.sum(axis=2), 1e-30)
    variance = min(variance, typical)
    limit = _LARGEST * variance**0.5  # what is larger is a line of the scene
    return np.asarray(np.clip(offsets, -limit, limit) * variance / (variance + error))


def _differences_of_segments(values: Array, good: NDArray[np.bool_], least: float) -> tuple[Array, Array, float]:
    """Mean difference of each segment of each row from its surroundings, without slow changes along Y.

    Returns:
        The differences and their precision, `(planes, Y, segments)`, and the variance of a pixel.
    """
    rest = values - ndimage.gaussian_filter(values, (0, _SCENE, _SCENE))
    offset = np.median(rest, axis=2, keepdims=True)
    rest -= offset
    power = ndimage.gaussian_filter(rest**2, (0, _SCENE, _SCENE)) + max(least, 1e-30)
    limit = _CLIP * np.sqrt(power)
    weight = good / power
    starts = np.linspace(0, values.shape[2], _SEGMENTS, endpoint=False).astype(int)
    sums = np.add.reduceat((offset + np.clip(rest, -limit, limit)) * weight, starts, axis=2)
    weights = np.add.reduceat(weight, starts, axis=2)
    differences = sums / np.maximum(weights, 1e-30)
    differences -= ndimage.gaussian_filter1d(differences, _SCENE, axis=1)
    return differences, weights, float(good.sum() / max(weight.sum(), 1e-30))


def _is_alternating(segments: Array, weights: Array) -> bool:
    """Tell whether steps from row to row are followed by steps back, as those of independent offsets are."""
    steps, weights = np.diff(segments, axis=1), np.minimum(weights[:, 1:], weights[:, :-1])
    same = steps[..., _FIRST] * steps[..., _SECOND]
    next_one = steps[:, 1:, _FIRST] * steps[:, :-1, _SECOND]
    precision = weights[..., _FIRST] * weights[..., _SECOND]
    both = np.minimum(precision[:, 1:], precision[:, :-1])
    if not both.any():
        return False
    return bool(np.average(next_one, weights=both) < _ALTERNATING * np.average(same, weights=precision))


def _is_periodic(segments: Array, weights: Array) -> bool:
    """Tell whether rows repeat, as those of gratings and muscle do; interlaced ones, every second, do not count."""
    mean = (segments * weights).sum(axis=2) / np.maximum(weights.sum(axis=2), 1e-30)
    power = (np.abs(np.fft.rfft(mean, axis=1)) ** 2).mean(axis=0)[1:]
    power = power[: (mean.shape[1] - 1) // 2]  # without every second row
    return bool(power.max() > _PERIODIC * np.log(len(power)) * power.mean())
