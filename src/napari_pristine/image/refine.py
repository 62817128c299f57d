"""Refine a denoised picture: let it say how much of the noisy one to believe, frequency by frequency."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from napari_pristine.image.noise import blur_of_reach

Array = NDArray[np.float32]

_SIDES = {1: (16,), 2: (8, 12, 16), 3: (6,)}
"""Sides of the blocks that are transformed, by number of dimensions; their results are averaged."""
_SHIFTS = {1: 4, 2: 4, 3: 2}
"""Positions of the grid of blocks along each axis."""
_OUTSTANDING = 3.5
"""Noise levels from which a frequency of the noisy picture counts as structure by itself."""


def refine(noisy: NDArray[Any], pilot: NDArray[Any], sigma: float, correlation_length: float = 1.0) -> Array:
    """Empirical Wiener filter of local cosine spectra (Ghael, Sayeed & Baraniuk 1997).

    A penalised fit loses contrast and fine structure but knows well where there is any. In each block of pixels, each
    frequency of the noisy picture is multiplied by P² / (P² + N), with P the frequency in the pilot and N the power of
    the noise there. Blocks at all shifts of their grid are averaged, those that let little noise pass count more.
    This is the second stage of BM3D (Dabov et al. 2007) without its search for similar blocks. A first pass also
    believes frequencies that stand out of the noise by themselves, for what the pilot has not seen at all.

    Args:
        noisy: `(*space)`, noise of the same level everywhere.
        pilot: A denoised version of it.
        sigma: Noise level.
        correlation_length: Reach of the noise, see `Noise`.
    """
    pixels = np.asarray(noisy, np.float32)
    seen = _mean_pass(pixels, np.asarray(pilot, np.float32), sigma, correlation_length, _OUTSTANDING)
    return _mean_pass(pixels, seen, sigma, correlation_length, np.inf)


def _mean_pass(noisy: Array, pilot: Array, sigma: float, correlation_length: float, outstanding: float) -> Array:
    """One pass with blocks of each size."""
    sides = sorted({tuple(min(side, n) for n in noisy.shape) for side in _SIDES[noisy.ndim]})
    passes = [_pass(noisy, pilot, side, sigma, correlation_length, outstanding) for side in sides]
    return np.asarray(np.mean(passes, axis=0), dtype=np.float32)


def _pass(
    noisy: Array, pilot: Array, side: tuple[int, ...], sigma: float, correlation_length: float, outstanding: float
) -> Array:
    steps = [max(length // _SHIFTS[noisy.ndim], 1) for length in side]
    power = np.float32(sigma**2) * _spectrum(side, correlation_length)
    window = _product([np.kaiser(length, 2.0) for length in side])
    pad = [(length, length + (-n) % length) for n, length in zip(noisy.shape, side, strict=True)]
    noisy_, pilot_ = (np.pad(x, pad, mode="reflect") for x in (noisy, pilot))
    total, weight = np.zeros_like(noisy_), np.zeros_like(noisy_)
    for corner in itertools.product(*(range(0, length, step) for length, step in zip(side, steps, strict=True))):
        ends = [c + (n - c) // length * length for c, n, length in zip(corner, total.shape, side, strict=True)]
        part = tuple(slice(c, end) for c, end in zip(corner, ends, strict=True))
        blocks, guides = _to_blocks(noisy_[part], side), _to_blocks(pilot_[part], side)
        filtered, trust = _filter(blocks, guides, power, outstanding)
        total[part] += _from_blocks(filtered * trust * window)
        weight[part] += _from_blocks(np.broadcast_to(trust * window, filtered.shape))
    inner = tuple(slice(length, length + n) for length, n in zip(side, noisy.shape, strict=True))
    return np.asarray(total[inner] / weight[inner])


def _filter(noisy: Array, pilot: Array, power: Array, outstanding: float) -> tuple[Array, Array]:
    """Blocks `(*grid, *block)` filtered, and how much each is to be trusted."""
    axes = tuple(range(-power.ndim, 0))
    spectrum, guide = dctn(noisy, axes=axes, norm="ortho"), dctn(pilot, axes=axes, norm="ortho")
    energy = guide**2
    if np.isfinite(outstanding):
        alone = spectrum**2
        energy = np.maximum(energy, np.where(alone > outstanding**2 * power, alone - power, 0))
    gain = energy / (energy + power)
    restored = gain * spectrum
    mean = (..., *[0] * power.ndim)
    restored[mean] += (1 - gain[mean]) * guide[mean]  # brightness has no natural zero to shrink towards
    trust = 1 / np.maximum((gain**2 * power).sum(axis=axes, keepdims=True), 1e-3 * power.max())
    return idctn(restored, axes=axes, norm="ortho"), trust


def _spectrum(side: tuple[int, ...], correlation_length: float) -> Array:
    """Power of noise of unit variance at each frequency of a block; all ones for white noise.

    The noise reaches along the last two axes only: planes and frames are recorded one by one.
    """
    lags = np.arange(-8, 9)
    blur = blur_of_reach(correlation_length)
    rho = np.exp(-((lags / blur) ** 2) / 4) if blur else (lags == 0).astype(float)
    lines = []
    for axis, length in enumerate(side):
        frequencies = np.pi * np.arange(length) / length
        line = np.maximum((rho * np.cos(np.outer(frequencies, lags))).sum(axis=1), 0.02)
        lines.append(line if axis >= len(side) - 2 else np.ones(length))
    return _product(lines)


def _product(lines: list[NDArray[Any]]) -> Array:
    """The outer product of lines, one for each axis."""
    product = np.ones((1,) * len(lines), dtype=np.float32)
    for axis, line in enumerate(lines):
        product = product * line.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(len(lines))])
    return product


def _to_blocks(x: Array, side: tuple[int, ...]) -> Array:
    """`(*space)` as `(*grid, *block)`."""
    ndim = x.ndim
    split = x.reshape([n for total, length in zip(x.shape, side, strict=True) for n in (total // length, length)])
    return split.transpose([*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2)])


def _from_blocks(blocks: Array) -> Array:
    """`(*grid, *block)` as `(*space)`."""
    ndim = blocks.ndim // 2
    order = [axis for pair in zip(range(ndim), range(ndim, 2 * ndim), strict=True) for axis in pair]
    shape = [count * length for count, length in zip(blocks.shape[:ndim], blocks.shape[ndim:], strict=True)]
    return blocks.transpose(order).reshape(shape)
