"""What clean pictures `(Y, X)` or `(Y, X, 3)` with values from 0 to 255 are degraded to; all numbers are the papers'.

All that is random comes from a generator that the name of the case alone decides, so that every method and every run
sees the same noise.
"""

from __future__ import annotations

import zlib

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.pair import Array, window

FULL = 255.0
BLUR_SIGMA, BLUR_WIDTH, BLUR_NOISE = 1.6, 25, 2**0.5
"""Gaussian blur of DeepRED and LINR, in pixels, and the noise after it, in grey values."""
VISIBLE = 0.1
"""Share of the pixels that are left to see."""


def generator(name: str) -> np.random.Generator:
    """Random numbers that belong to a name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def gaussian(clean: Array, random: np.random.Generator, sigma: float) -> Array:
    """With white Gaussian noise; not clipped."""
    return clean + random.normal(0, sigma, clean.shape)


def gaussian_up_to(clean: Array, random: np.random.Generator, most: float) -> Array:
    """With white Gaussian noise of a level anywhere between 0 and the most; not clipped."""
    return gaussian(clean, random, random.uniform(0, most))


def poisson(clean: Array, random: np.random.Generator, peak: float) -> Array:
    """With the noise of so many photons at full scale; not clipped."""
    return np.asarray(random.poisson(clean / FULL * peak) * (FULL / peak), np.float64)


def clipped_gaussian(clean: Array, random: np.random.Generator, sigma: float) -> Array:
    """With white Gaussian noise, then clipped to the range (as LINR has it, there between -1 and 1)."""
    return np.clip(gaussian(clean, random, sigma), 0, FULL)


def smaller(clean: Array, factor: int) -> Array:
    """Reduced by a whole factor with Pillow's Lanczos filter, 8 bits; the sides must be multiples of it."""
    height, width = clean.shape[:2]
    picture = PIL.Image.fromarray(clean.astype(np.uint8))
    size = (width // factor, height // factor)
    return np.asarray(picture.resize(size, PIL.Image.Resampling.LANCZOS), np.float64)


def fitting(clean: Array, factor: int) -> Array:
    """The central part whose sides are multiples of a factor."""
    height, width = clean.shape[:2]
    return window(clean, height - height % factor, width - width % factor)


def sparse(clean: Array, random: np.random.Generator) -> Array:
    """With all but a tenth of the pixels unseen: NaN, the same ones in all colours."""
    seen: NDArray[np.bool_] = random.random(clean.shape[:2]) < VISIBLE
    return np.where(seen.reshape(*seen.shape, *[1] * (clean.ndim - 2)), clean, np.nan)


def kernel() -> Array:
    """The Gaussian blur `(25,)` along one axis."""
    at = np.arange(BLUR_WIDTH) - BLUR_WIDTH // 2
    weights = np.exp(-(at**2) / (2 * BLUR_SIGMA**2))
    return np.asarray(weights / weights.sum())


def blurred(clean: Array, random: np.random.Generator) -> Array:
    """Blurred as if the picture went on periodically, with a little white noise; not clipped."""
    once = ndimage.convolve1d(clean, kernel(), axis=0, mode="wrap")
    return gaussian(ndimage.convolve1d(once, kernel(), axis=1, mode="wrap"), random, BLUR_NOISE)
