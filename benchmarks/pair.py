"""What a method is given, what it should have made of it, and how the two are compared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from napari_pristine.errors import ImageError
from napari_pristine.image.quality import Comparison, compare
from napari_pristine.io.registry import read

Array = NDArray[np.float64]

_LUMA = np.array([65.481, 128.553, 24.966]) / 255
"""Weights of R, G, B in the luma of BT.601 with its studio range, 16 to 235."""


@dataclass(frozen=True)
class Protocol:
    """How a restored picture is compared with its truth.

    Attributes:
        text: The protocol in words.
        clipped: Whether values outside the range of the detector are brought back to it.
        rounded: Whether values are rounded to whole numbers, as in a file of 8 bits.
        gaussian: Whether the SSIM has a Gaussian 11 × 11 window, not a uniform 7 × 7 one.
        ssim_range: Range that the SSIM is told, in ranges of the detector; 2 where a paper let scikit-image guess.
        luma: Whether PSNR is that of the rounded luma.
    """

    text: str
    clipped: bool = True
    rounded: bool = False
    gaussian: bool = False
    ssim_range: float = 1.0
    luma: bool = False


PROTOCOL_A = Protocol(
    "Protocol A: clipped to the range of the detector, not rounded; SSIM with a uniform 7 × 7 window."
)


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture to restore and its truth.

    Attributes:
        noisy: `(Y, X)` or `(Y, X, S)`, NaN where nothing was seen.
        truth: On the same grid, or on a finer one.
        full: The largest value that the detector can give.
        others: More pictures of the same scene, each degraded in its own way.
        protocol: How to compare.
    """

    noisy: Array
    truth: Array
    full: float
    others: tuple[Array, ...] = ()
    protocol: Protocol = field(default=PROTOCOL_A)

    def cropped(self, side: int | None) -> Pair:
        """The central square with this side, or all of it."""
        if side is None:
            return self
        return replace(self, noisy=centre(self.noisy, side), truth=centre(self.truth, side))

    def score(self, restored: NDArray[Any]) -> Comparison:
        """The restored picture against the truth by the protocol."""
        result, truth = self._seen(restored), self.truth
        samples = -1 if truth.ndim == 3 else None
        found = compare(result, truth, self.full, samples)
        ssim = found.ssim_gaussian if self.protocol.gaussian else found.ssim
        if self.protocol.ssim_range != 1:
            ssim = compare(result, truth, self.full * self.protocol.ssim_range, samples).ssim
        found = replace(found, ssim=ssim)
        if not self.protocol.luma:
            return found
        of_luma = compare(luma(result), luma(truth), self.full)
        return replace(found, psnr=of_luma.psnr, psnr_affine=of_luma.psnr_affine)

    def _seen(self, restored: NDArray[Any]) -> Array:
        values = np.asarray(restored, np.float64)
        if self.protocol.clipped:
            values = np.clip(values, 0, self.full)
        return np.floor(values + 0.5) if self.protocol.rounded else values

    def psnr(self, restored: NDArray[Any]) -> tuple[float, float]:
        """PSNR and PSNR after the best gain and offset by protocol A; without SSIM, which takes far longer."""
        clipped = np.clip(restored, 0, self.full)
        (own, common), (_, wanted) = np.cov(clipped.ravel(), self.truth.ravel(), bias=True)
        fitted = wanted - common**2 / own if own else wanted
        squares = np.array([np.mean((clipped - self.truth) ** 2), fitted])
        plain, affine = 10 * np.log10(self.full**2 / np.maximum(squares, 1e-12))
        return float(plain), float(affine)


def luma(picture: Array) -> Array:
    """Rounded luma `(Y, X)` of a picture `(Y, X, 3)` of 8 bits."""
    return np.asarray(np.round(picture @ _LUMA + 16), np.float64)


def load(noisy: Path, truth: Path, *, colour: bool = False) -> Pair:
    """Read a pair.

    Raises:
        ImageError: They are not two grey pictures (RGB if `colour`) of one shape with whole numbers.
    """
    pictures = [np.asarray(read(path).data) for path in (noisy, truth)]
    shapes, kinds, wanted = {p.shape for p in pictures}, {p.dtype for p in pictures}, 3 if colour else 2
    if len(shapes) > 1 or len(kinds) > 1 or pictures[0].ndim != wanted or pictures[0].dtype.kind != "u":
        found, what = " and ".join(f"{p.dtype} {p.shape}" for p in pictures), "colour" if colour else "grey"
        raise ImageError(
            f"'{noisy}' and its truth must be two {what} pictures of one shape, 8 or 16 bits; found {found}"
        )
    full = float(np.iinfo(pictures[0].dtype).max)
    return Pair(pictures[0].astype(np.float64), pictures[1].astype(np.float64), full)


def load_clean(path: Path) -> Array:
    """Read a clean picture of 8 bits, `(Y, X)` or `(Y, X, 3)`.

    Raises:
        ImageError: It is something else.
    """
    picture = _bitmap(path) if path.suffix.lower() == ".bmp" else np.asarray(read(path).data)
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise ImageError(f"'{path}' must be a grey or RGB picture of 8 bits; found {picture.dtype} {picture.shape}")
    return picture.astype(np.float64)


def _bitmap(path: Path) -> NDArray[Any]:
    with PIL.Image.open(path) as picture:
        return np.asarray(picture)


def centre(picture: Array, side: int) -> Array:
    """The central square of a picture `(Y, X)` or `(Y, X, S)`.

    Raises:
        ImageError: It is smaller.
    """
    height, width = picture.shape[:2]
    if side > min(height, width):
        raise ImageError(f"a crop of {side} pixels does not fit into {height} × {width} pixels; make --crop smaller")
    return window(picture, side, side)


def window(picture: Array, height: int, width: int) -> Array:
    """The central part of a picture `(Y, X)` or `(Y, X, S)` that is so high and wide."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]
