"""Refine a denoised picture: let it say how much of the noisy one to believe, frequency by frequency."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from napari_pristine.image.noise import blur_of_reach

Array = NDArray[np.float64]

_SIDE = {1: 16, 2: 12, 3: 6}
"""Side of the blocks that are transformed, by number of dimensions."""
_SHIFTS = {1: 4, 2: 4, 3: 2}
"""Positions of the grid of blocks along each axis."""


def refine(noisy: NDArray[Any], pilot: NDArray[Any], sigma: float, reach: float = 1.0) -> NDArray[np.float32]:
    """Empirical Wiener filter of local cosine spectra (Ghael, Sayeed & Baraniuk 1997).

    A penalised fit loses contrast and fine structure but knows well where there is any. In each block of pixels, each
    frequency of the noisy picture is multiplied by P² / (P² + N), with P the frequency in the pilot and N the power of
    the noise there. Blocks at all shifts of their grid are averaged, those that let little noise pass count more.
    This is the second stage of BM3D (Dabov et al. 2007) without its search for similar blocks.

    Args:
        noisy: `(*space)`, noise of the same level everywhere.
        pilot: A denoised version of it.
        sigma: Noise level.
        reach: Reach of the noise, see `Noise`.
    """
    ndim = noisy.ndim
    side = min(_SIDE[ndim], *noisy.shape)
    step = max(side // _SHIFTS[ndim], 1)
    power = sigma**2 * _spectrum(side, ndim, reach)
    window = _outer(np.kaiser(side, 2.0), ndim)
    pad = [(side, side + (-n) % side) for n in noisy.shape]
    both = [np.pad(np.asarray(x, np.float64), pad, mode="reflect" if side > 1 else "edge") for x in (noisy, pilot)]
    total, weight = np.zeros_like(both[0]), np.zeros_like(both[0])
    for corner in itertools.product(range(0, side, step), repeat=ndim):
        part = tuple(slice(c, c + (n - c) // side * side) for c, n in zip(corner, total.shape, strict=True))
        filtered, trust = _filter(_to_blocks(both[0][part], side), _to_blocks(both[1][part], side), power)
        total[part] += _from_blocks(filtered * trust * window, total[part].shape)
        weight[part] += _from_blocks(np.broadcast_to(trust * window, filtered.shape), total[part].shape)
    inner = tuple(slice(side, side + n) for n in noisy.shape)
    return np.asarray(total[inner] / weight[inner], dtype=np.float32)


def _filter(noisy: Array, pilot: Array, power: Array) -> tuple[Array, Array]:
    axes = tuple(range(-power.ndim, 0))
    energy = dctn(pilot, axes=axes, norm="ortho") ** 2
    gain = energy / (energy + power)
    trust = 1 / np.maximum((gain**2 * power).sum(axis=axes, keepdims=True), 1e-3 * power.max())
    return idctn(gain * dctn(noisy, axes=axes, norm="ortho"), axes=axes, norm="ortho"), trust


def _spectrum(side: int, ndim: int, reach: float) -> Array:
    """Power of noise of unit variance and this reach at each frequency of a block; all ones for white noise."""
    lags = np.arange(-8, 9)
    blur = blur_of_reach(reach)
    rho = np.exp(-((lags / blur) ** 2) / 4) if blur else (lags == 0).astype(float)
    frequencies = np.pi * np.arange(side) / side
    return _outer(np.maximum((rho * np.cos(np.outer(frequencies, lags))).sum(axis=1), 0.02), ndim)


def _outer(line: Array, ndim: int) -> Array:
    """The product of a line with itself along `ndim` axes."""
    product = np.ones((1,) * ndim)
    for axis in range(ndim):
        product = product * line.reshape([-1 if a == axis else 1 for a in range(ndim)])
    return product


def _to_blocks(x: Array, side: int) -> Array:
    """`(*space)` as `(*grid, *block)`."""
    ndim = x.ndim
    split = x.reshape([length for n in x.shape for length in (n // side, side)])
    return split.transpose([*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2)])


def _from_blocks(blocks: Array, shape: tuple[int, ...]) -> Array:
    ndim = len(shape)
    return blocks.transpose(
        [axis for pair in zip(range(ndim), range(ndim, 2 * ndim), strict=True) for axis in pair]
    ).reshape(shape)
