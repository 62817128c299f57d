"""Refine a denoised image with the noisy one, frequency by frequency; for scenes, also with other denoisers."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from napari_pristine.image.noise import noise_autocorrelation

Array = NDArray[np.float32]

_BLOCK_SIDES = {1: (16,), 2: (8, 12, 16), 3: (6,)}
"""Sides of the blocks that are transformed, in pixels, by number of dimensions; the results are averaged."""
_SHIFTS = {1: 4, 2: 4, 3: 2}
"""Number of shifts of the grid of blocks along each axis, by number of dimensions."""
_OUTSTANDING = 3.5
"""Amplitude, in noise levels, from which a frequency of the noisy image counts as structure by itself."""
_CONSENSUS_WEIGHTS = (1.0, 1.0, 2.0)
"""Weights of the Wiener filter, total variation and non-local means in the consensus."""
_TV_WEIGHT, _TV_STEPS = 0.7, 60
"""Weight of the total variation in noise levels, and its maximum number of iterations."""
_NLM_DISTANCE = 0.6
"""Distance at which patches count as alike, in noise levels."""
_NLM_PATCH, _NLM_SEARCH = {2: 5, 3: 3}, {2: 7, 3: 3}
"""Side of the patches, and distance up to which others are searched, in pixels by number of dimensions."""


class Refined(NamedTuple):
    """A refined image.

    Attributes:
        pixels: `(*space)`.
        kept: Covariance of the noise and the refined pixels, in noise variances, `(*space)`: 0 where no noise is left.
    """

    pixels: Array
    kept: Array


def refine(noisy: NDArray[Any], pilot: NDArray[Any], sigma: float, correlation_length: float = 1.0) -> Refined:
    """Empirical Wiener filter of local cosine spectra (Ghael, Sayeed & Baraniuk 1997).

    A penalised fit loses contrast and fine structure but shows where there is any. In each block of pixels, each
    frequency of the noisy image is multiplied by P² / (P² + N), with P its amplitude in the pilot and N the power of
    the noise. Results of blocks at all shifts of their grid are averaged, with more weight for those that let little
    noise pass. This is the second stage of BM3D (Dabov et al. 2007) without its search for similar blocks.

    There are two passes. The first also keeps frequencies of the noisy image that stand out of the noise by
    themselves, since the pilot may have missed them; its result is the pilot of the second.

    Args:
        noisy: `(*space)`, with noise of the same level everywhere.
        pilot: `(*space)`, a denoised version of it.
        sigma: Noise level.
        correlation_length: Correlation length of the noise in pixels, see `Noise`.
    """
    pixels, current = np.asarray(noisy, np.float32), np.asarray(pilot, np.float32)
    sides = sorted({tuple(min(side, n) for n in pixels.shape) for side in _BLOCK_SIDES[pixels.ndim]})
    for outstanding in (_OUTSTANDING, np.inf):
        passes = [_filter(pixels, current, side, sigma, correlation_length, outstanding) for side in sides]
        current, kept = np.asarray(np.mean(passes, axis=0), dtype=np.float32)
    return Refined(current, kept)


def _filter(
    noisy: Array, pilot: Array, side: tuple[int, ...], sigma: float, correlation_length: float, outstanding: float
) -> Array:
    """One pass with blocks of one size; the result and the share of the noise that it keeps, `(2, *space)`."""
    steps = [max(length // _SHIFTS[noisy.ndim], 1) for length in side]
    power = np.float32(sigma**2) * _noise_power(side, correlation_length)
    window = _outer_product([np.kaiser(length, 2.0) for length in side])
    pad = [(length, length + (-n) % length) for n, length in zip(noisy.shape, side, strict=True)]
    padded_noisy, padded_pilot = (np.pad(x, pad, mode="reflect") for x in (noisy, pilot))
    total, kept, weight = np.zeros((3, *padded_noisy.shape), np.float32)
    for corner in itertools.product(*(range(0, length, step) for length, step in zip(side, steps, strict=True))):
        ends = [c + (n - c) // length * length for c, n, length in zip(corner, total.shape, side, strict=True)]
        part = tuple(slice(c, end) for c, end in zip(corner, ends, strict=True))
        blocks, guides = _to_blocks(padded_noisy[part], side), _to_blocks(padded_pilot[part], side)
        filtered, noise, trust = _filter_blocks(blocks, guides, power, outstanding)
        total[part] += _from_blocks(filtered * trust * window)
        kept[part] += _from_blocks(noise * trust * window)
        weight[part] += _from_blocks(np.broadcast_to(trust * window, filtered.shape))
    inner = tuple(slice(length, length + n) for length, n in zip(side, noisy.shape, strict=True))
    return np.asarray(np.stack([total[inner], kept[inner]]) / weight[inner])


def _filter_blocks(noisy: Array, pilot: Array, power: Array, outstanding: float) -> tuple[Array, Array, Array]:
    """Filter blocks `(*grid, *block)`; also returns the share of the noise that each keeps, and its weight."""
    axes = tuple(range(-power.ndim, 0))
    spectrum, guide = dctn(noisy, axes=axes, norm="ortho"), dctn(pilot, axes=axes, norm="ortho")
    energy = guide**2
    if np.isfinite(outstanding):
        noisy_energy = spectrum**2
        energy = np.maximum(energy, np.where(noisy_energy > outstanding**2 * power, noisy_energy - power, 0))
    gain = energy / (energy + power)
    restored = gain * spectrum
    mean = (..., *[0] * power.ndim)
    restored[mean] += (1 - gain[mean]) * guide[mean]  # brightness has no natural zero to shrink towards
    trust = 1 / np.maximum((gain**2 * power).sum(axis=axes, keepdims=True), 1e-3 * power.max())
    kept = (gain * power).mean(axis=axes, keepdims=True) / power.mean()
    return idctn(restored, axes=axes, norm="ortho"), kept, trust


def _noise_power(side: tuple[int, ...], correlation_length: float) -> Array:
    """Power of noise of unit variance at each frequency of a block; all ones for white noise.

    The noise is correlated along the last two axes only, since planes and frames are recorded one by one.
    """
    lags = np.arange(-8, 9)
    correlation = noise_autocorrelation(lags, correlation_length)
    lines = []
    for axis, length in enumerate(side):
        frequencies = np.pi * np.arange(length) / length
        line = np.maximum((correlation * np.cos(np.outer(frequencies, lags))).sum(axis=1), 0.02)
        lines.append(line if axis >= len(side) - 2 else np.ones(length))
    return _outer_product(lines)


def _outer_product(lines: list[NDArray[Any]]) -> Array:
    """Outer product of one line per axis."""
    product = np.ones((1,) * len(lines), dtype=np.float32)
    for axis, line in enumerate(lines):
        product = product * line.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(len(lines))])
    return product


def _to_blocks(x: Array, side: tuple[int, ...]) -> Array:
    """Cut `(*space)` into `(*grid, *block)`."""
    split = x.reshape([n for total, length in zip(x.shape, side, strict=True) for n in (total // length, length)])
    return split.transpose([*range(0, 2 * x.ndim, 2), *range(1, 2 * x.ndim, 2)])


def _from_blocks(blocks: Array) -> Array:
    """Join `(*grid, *block)` to `(*space)`."""
    ndim = blocks.ndim // 2
    order = [axis for pair in zip(range(ndim), range(ndim, 2 * ndim), strict=True) for axis in pair]
    shape = [count * length for count, length in zip(blocks.shape[:ndim], blocks.shape[ndim:], strict=True)]
    return blocks.transpose(order).reshape(shape)


def refine_channels(noisy: Array, pilot: Array, sigma: float) -> Array:
    """Refine several channels along their principal components, where common structure stands out of the noise.

    Args:
        noisy: `(C, *space)`, white noise of the same level in all channels.
        pilot: `(C, *space)`, a denoised version of it.
        sigma: Noise level.

    Returns:
        `(C, *space)`.
    """
    if len(noisy) == 1:
        return refine(noisy[0], pilot[0], sigma).pixels[None]
    mean = noisy.reshape(len(noisy), -1).mean(axis=1).reshape(-1, *[1] * (noisy.ndim - 1))
    components, _, _ = np.linalg.svd(np.cov(noisy.reshape(len(noisy), -1)))
    rotated = [np.tensordot(components.T, x - mean, 1) for x in (noisy, pilot)]
    filtered = np.stack([refine(n, p, sigma).pixels for n, p in zip(*rotated, strict=True)])
    return np.asarray(np.tensordot(components, filtered, 1) + mean, np.float32)


def denoise_consensus(noisy: NDArray[Any], pilot: NDArray[Any], sigma: float) -> Array:
    """Denoise channels that share their edges, by the mean of three denoisers that err in different ways.

    The Wiener filter of `refine_channels` keeps texture and rings at edges, total variation (Chambolle 2004) keeps
    edges and flattens the areas between, non-local means (Buades, Coll & Morel 2005) keep patterns that repeat. When
    the scene behind degraded images is sought, their mean is far better than each (Buzzard et al. 2018).

    Args:
        noisy: `(C, *space)`, white noise of the same level in all channels.
        pilot: `(C, *space)`, a denoised version of it.
        sigma: Noise level.

    Returns:
        `(C, *space)`.
    """
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle  # takes half a second

    pixels = np.asarray(noisy, np.float32)
    ndim = pixels.ndim - 1
    axis = 0 if len(pixels) > 1 else None
    image = pixels if len(pixels) > 1 else pixels[0]
    filtered = refine_channels(pixels, np.asarray(pilot, np.float32), sigma)
    flat = denoise_tv_chambolle(image, _TV_WEIGHT * sigma, max_num_iter=_TV_STEPS, eps=1e-5, channel_axis=axis)
    alike = denoise_nl_means(
        image,
        _NLM_PATCH[ndim],
        _NLM_SEARCH[ndim],
        h=_NLM_DISTANCE * sigma,
        sigma=sigma,
        fast_mode=True,
        channel_axis=axis,
    )
    results = [result.reshape(pixels.shape) for result in (filtered, flat, alike)]
    return np.asarray(np.average(results, axis=0, weights=_CONSENSUS_WEIGHTS), np.float32)
