"""Consensus: the mean of three denoisers that err in different ways."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from napari_pristine.image.refine import refine

Array = NDArray[np.float32]

_WEIGHTS = (1.0, 1.0, 2.0)
"""Of local spectra, total variation and non-local means."""
_FLATNESS = 0.7
"""Weight of the total variation, in noise levels."""
_LIKENESS = 0.6
"""Distance at which patches count as alike, in noise levels."""
_PATCH, _SEARCH = {2: 5, 3: 3}, {2: 7, 3: 3}
"""Side of the patches, and how far away others are looked for, by number of dimensions."""
_ROUNDS = 60
"""Iterations of the total variation."""


def denoise(noisy: NDArray[Any], pilot: NDArray[Any], sigma: float) -> Array:
    """Denoise a picture with several channels, which share their edges.

    Local cosine spectra (`refine`) keep texture and ring at edges, total variation (Chambolle 2004) keeps edges and
    flattens what is between, non-local means (Buades, Coll & Morel 2005) know what comes again. Where a scene is
    sought that all of them leave as it is, their mean is far better than each (Buzzard et al. 2018).

    Args:
        noisy: `(C, *space)`, white noise, equally strong in all channels.
        pilot: A denoised version of it.
        sigma: Noise level.
    """
    pixels = np.asarray(noisy, np.float32)
    filtered = spectra(pixels, np.asarray(pilot, np.float32), sigma)
    ndim = pixels.ndim - 1
    axis = 0 if len(pixels) > 1 else None
    picture = pixels if len(pixels) > 1 else pixels[0]
    flat = denoise_tv_chambolle(picture, _FLATNESS * sigma, max_num_iter=_ROUNDS, eps=1e-5, channel_axis=axis)
    alike = denoise_nl_means(
        picture, _PATCH[ndim], _SEARCH[ndim], h=_LIKENESS * sigma, sigma=sigma, fast_mode=True, channel_axis=axis
    )
    parts = [part.reshape(pixels.shape) for part in (filtered, flat, alike)]
    return np.asarray(np.average(parts, axis=0, weights=_WEIGHTS), np.float32)


def spectra(noisy: Array, pilot: Array, sigma: float) -> Array:
    """Filter in the principal components of the channels, where what they have in common stands out of the noise.

    Args:
        noisy: `(C, *space)`, white noise, equally strong in all channels.
        pilot: A denoised version of it.
        sigma: Noise level.
    """
    if len(noisy) == 1:
        return refine(noisy[0], pilot[0], sigma)[None]
    mean = noisy.reshape(len(noisy), -1).mean(axis=1).reshape(-1, *[1] * (noisy.ndim - 1))
    components, _, _ = np.linalg.svd(np.cov(noisy.reshape(len(noisy), -1)))
    turned = [np.tensordot(components.T, x - mean, 1) for x in (noisy, pilot)]
    filtered = np.stack([refine(n, p, sigma) for n, p in zip(*turned, strict=True)])
    return np.asarray(np.tensordot(components, filtered, 1) + mean, np.float32)
