"""Pixels of the detector that are stuck, and are neither signal nor noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.image.noise import Noise

_LEVELS = 20.0
"""Noise levels by which a hot pixel stands out of all its neighbours."""
_SHARE = 0.2
"""Share of its height that the brightest neighbour of a hot pixel has at most: a point of light has more, as optics
spread it over several pixels."""
_AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)


def find_hot(channel: NDArray[np.float64], noise: Noise) -> NDArray[np.bool_]:
    """Where single pixels of a channel `(*space)` are far brighter than all their neighbours in the plane."""
    if noise.sigma == 0:
        return np.zeros(channel.shape, dtype=bool)
    around = _AROUND.reshape([1] * (channel.ndim - 2) + [3, 3])
    level: NDArray[Any] = ndimage.median_filter(channel, footprint=around)
    brightest = ndimage.maximum_filter(channel, footprint=around)
    # at least one photon's worth: in the dark single photons outshine all around them, and are signal
    least = max(noise.gain**2, 0.01 * noise.sigma**2)
    std = np.sqrt(np.maximum(noise.gain * brightest + noise.variance, least))
    height = channel - level
    return np.asarray((channel - brightest > _LEVELS * std) & (brightest - level < _SHARE * height))
