"""Classical methods for what is too coarse, hidden or blurred; those for noise are in `baselines`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import interpolate
from skimage import restoration

from benchmarks.degrade import FULL, kernel
from benchmarks.pair import Array

_ROUNDS = 30
"""Iterations of Richardson-Lucy (default of scikit-image)."""


@dataclass(frozen=True)
class Recovery:
    """A classical method for a task: `run(picture, finer)` takes a picture `(Y, X)` with values from 0 to 255.

    `finer` says how many times finer the grid of the result is.
    """

    task: str
    run: Callable[[Array, int], Array]


def _resized(picture: Array, finer: int, how: PIL.Image.Resampling) -> Array:
    height, width = picture.shape
    small = PIL.Image.fromarray(picture.astype(np.uint8))
    return np.asarray(small.resize((width * finer, height * finer), how), np.float64)


def _linear(picture: Array, finer: int) -> Array:
    """Between the three nearest pixels that are seen, and the nearest one beyond the outermost."""
    seen = np.isfinite(picture)
    at, values = np.argwhere(seen), picture[seen]
    everywhere = tuple(np.indices(picture.shape))
    filled = interpolate.griddata(at, values, everywhere, method="linear")
    nearest = interpolate.griddata(at, values, everywhere, method="nearest")
    return np.asarray(np.where(np.isfinite(filled), filled, nearest))


def _biharmonic(picture: Array, finer: int) -> Array:
    hidden: NDArray[np.bool_] = ~np.isfinite(picture)
    filled = restoration.inpaint_biharmonic(np.where(hidden, 0.0, picture) / FULL, hidden)
    return np.asarray(filled * FULL, np.float64)


def _psf() -> Array:
    return np.asarray(np.outer(kernel(), kernel()))


def _same(picture: Array, finer: int) -> Array:
    return picture


def _wiener(picture: Array, finer: int) -> Array:
    """With the strength that fits the picture best (Orieux, Giovannelli & Rodet 2010)."""
    restored, _ = restoration.unsupervised_wiener(picture / FULL, _psf(), clip=False, rng=0)
    return np.asarray(restored * FULL, np.float64)


def _richardson_lucy(picture: Array, finer: int) -> Array:
    edge = len(kernel())
    wide = np.pad(np.maximum(picture, 0) / FULL, edge, mode="wrap")  # as the blur went on
    restored = restoration.richardson_lucy(wide, _psf(), num_iter=_ROUNDS, clip=False)
    return np.asarray(restored[edge:-edge, edge:-edge] * FULL, np.float64)


RECOVERIES = {
    "nearest": Recovery("enlarge", partial(_resized, how=PIL.Image.Resampling.NEAREST)),
    "bicubic": Recovery("enlarge", partial(_resized, how=PIL.Image.Resampling.BICUBIC)),
    "lanczos": Recovery("enlarge", partial(_resized, how=PIL.Image.Resampling.LANCZOS)),
    "linear": Recovery("inpaint", _linear),
    "biharmonic": Recovery("inpaint", _biharmonic),
    "blurred": Recovery("deblur", _same),
    "wiener": Recovery("deblur", _wiener),
    "richardson-lucy": Recovery("deblur", _richardson_lucy),
}
