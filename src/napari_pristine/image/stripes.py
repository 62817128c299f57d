"""Stripes: offsets of rows and columns against their neighbours, as scanners and CMOS cameras make them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.image.outliers import find_outliers, value_step

Array = NDArray[np.float64]

_TREND = 6.0
"""Standard deviation, in rows, of the blur that separates the brightness of the scene from offsets."""
_ALIKE = 0.4
"""Correlation of the offsets in the left and in the right half of the rows, at least; structure is in one of them."""
_ALTERNATING = -0.2
"""Correlation of neighbouring steps from row to row, at most: -0.5 for independent offsets, above 0 for structure."""
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


def measure_stripes(planes: NDArray[Any], good: NDArray[np.bool_] | None = None) -> Stripes:
    """Measure the offsets of rows and of columns.

    Neighbouring rows differ by the same amount in most of their pixels: the median of the differences is that of
    their offsets, whatever structure some of the pixels show. The sum of these medians, without its slow changes, is
    the offset of each row. Offsets that structure and noise may make by chance are 0.

    Args:
        planes: `(planes, Y, X)`, all finite.
        good: The same shape, False where a value does not count.
    """
    values = np.asarray(planes, np.float64)
    good = np.ones(values.shape, bool) if good is None else good
    counted = np.where(good & (find_outliers(values, good) == 0), values, np.nan)  # a dead row has no offset
    least = value_step(values) / np.sqrt(6)  # the noise of a difference of rounded values
    rows = _offsets_of_rows(counted, least)
    columns = _offsets_of_rows((counted - rows[:, :, None]).swapaxes(1, 2), least)
    offsets = rows[:, :, None] + columns[:, None, :] if rows.any() or columns.any() else np.zeros((1, 1, 1))
    return Stripes(offsets, float(rows.std()), float(columns.std()))


def _offsets_of_rows(values: Array, least_noise: float) -> Array:
    """Offsets of the rows of planes `(planes, Y, X)`, `(planes, Y)`; NaN in `values` does not count."""
    planes, height, width = values.shape
    none = np.zeros((planes, height))
    if min(height, width) < 16:
        return none
    differences = np.diff(values, axis=1)
    if np.isnan(differences).any():
        differences[np.isnan(differences).mean(axis=2) > 0.4] = 0.0
    noise = max(1.4826 * float(np.nanmedian(np.abs(differences - np.nanmedian(differences)))) / 2**0.5, least_noise)
    left, right = (_centre(half, 2 * noise) for half in np.array_split(differences, 2, axis=2))
    steps = (left + right) / 2
    variance = float(np.mean(left * right)) / 2  # chance and structure are not the same in both halves
    alike = 2 * variance > _ALIKE * float(np.sqrt(np.mean(left**2) * np.mean(right**2)))
    alternating = np.mean(steps[:, 1:] * steps[:, :-1]) < _ALTERNATING * np.mean(steps**2)
    if not alike or not alternating or variance < (_RELEVANT * noise) ** 2:
        return none
    sums = np.concatenate([np.zeros((planes, 1)), np.cumsum(steps, axis=1)], axis=1)
    return np.asarray(sums - ndimage.gaussian_filter1d(sums, _TREND, axis=1, mode="reflect"))


def _centre(values: Array, width: float) -> Array:
    """Mean along the last axis of the values within `width` of their median; medians of rounded values are rounded."""
    median = np.nanmedian(values, axis=2)
    return np.asarray(median + np.nanmean(np.clip(values - median[:, :, None], -width, width), axis=2))
