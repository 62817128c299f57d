"""Pairs of a degraded and a clean image: read them, make them, compare restored images with them.

Images are `(Y, X)` or `(Y, X, 3)`, float64, in grey values. All numbers of the degradations are those of the papers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.quality import Comparison, compare
from napari_pristine.io.registry import read

Array = NDArray[np.float64]

FULL_SCALE = 255.0  # largest value of an image of 8 bits
BLUR_SIGMA, BLUR_WIDTH, BLUR_NOISE = 1.6, 25, 2**0.5
"""Gaussian blur of DeepRED and LINR: sigma and kernel width in pixels; the noise added after it in grey values."""
VISIBLE = 0.1  # fraction of the pixels that inpainting leaves visible
_LUMA = np.array([65.481, 128.553, 24.966]) / 255
"""Weights of R, G and B in the luma of BT.601 with its studio range, 16 to 235."""


@dataclass(frozen=True)
class Protocol:
    """The way in which a restored image is compared with the truth."""

    text: str  # the protocol in words, for people
    clip: bool = True  # clip the restored values to the range of the detector
    round: bool = False  # round them to whole numbers, as a file of 8 bits does
    gaussian_ssim: bool = False  # SSIM with a Gaussian 11 × 11 window instead of a uniform 7 × 7 one
    ssim_range: float = (
        1.0  # data range for SSIM over that of the detector; 2 where scikit-image guessed it for a paper
    )
    luma: bool = False  # PSNR of the rounded luma instead of all colours


PROTOCOL_A = Protocol(
    "Protocol A: clipped to the range of the detector, not rounded; SSIM with a uniform 7 × 7 window."
)


@dataclass(frozen=True, eq=False)
class ImagePair:
    """An image to restore and the truth."""

    noisy: Array  # NaN in hidden pixels
    truth: Array  # on the same grid or on a finer one
    full_scale: float = FULL_SCALE  # largest value that the detector can give
    extra_images: tuple[Array, ...] = ()  # of the same scene, each degraded in its own way
    protocol: Protocol = PROTOCOL_A

    def cropped(self, side: int | None) -> ImagePair:
        """Take the central square with this side; None takes the whole image."""
        if side is None:
            return self
        return replace(self, noisy=crop_square(self.noisy, side), truth=crop_square(self.truth, side))

    def score(self, restored: NDArray[Any]) -> Comparison:
        """Compare a restored image with the truth by the protocol."""
        protocol, truth = self.protocol, self.truth
        result = np.asarray(restored, np.float64)
        if protocol.clip:
            result = np.clip(result, 0, self.full_scale)
        if protocol.round:
            result = np.floor(result + 0.5)
        samples = -1 if truth.ndim == 3 else None
        score = compare(result, truth, self.full_scale, samples)
        if protocol.gaussian_ssim:
            score = replace(score, ssim=score.ssim_gaussian)
        if protocol.ssim_range != 1:
            wide = compare(result, truth, self.full_scale * protocol.ssim_range, samples)
            score = replace(score, ssim=wide.ssim)
        if protocol.luma:
            of_luma = compare(luma(result), luma(truth), self.full_scale)
            score = replace(score, psnr=of_luma.psnr, psnr_affine=of_luma.psnr_affine)
        return score

    def psnr(self, restored: NDArray[Any]) -> tuple[float, float]:
        """PSNR by protocol A, plain and after the best gain and offset; much faster than `score`, which needs SSIM."""
        clipped = np.clip(restored, 0, self.full_scale)
        (variance, covariance), (_, truth_variance) = np.cov(clipped.ravel(), self.truth.ravel(), bias=True)
        affine = truth_variance - covariance**2 / variance if variance else truth_variance
        errors = np.maximum([np.mean((clipped - self.truth) ** 2), affine], 1e-12)
        plain, affine = 10 * np.log10(self.full_scale**2 / errors)
        return float(plain), float(affine)


def luma(image: Array) -> Array:
    """Compute the rounded luma `(Y, X)` of an RGB image `(Y, X, 3)` of 8 bits."""
    return np.asarray(np.round(image @ _LUMA + 16), np.float64)


def read_pair(noisy: Path, truth: Path, *, colour: bool = False) -> ImagePair:
    """Read a noisy image and its truth.

    Raises:
        ImageError: The files do not hold two grey images (RGB if `colour`) of one shape with unsigned integers.
    """
    a, b = (np.asarray(read(path).data) for path in (noisy, truth))
    if a.shape != b.shape or a.dtype != b.dtype or a.ndim != (3 if colour else 2) or a.dtype.kind != "u":
        raise ImageError(
            f"'{noisy}' and its truth must be two {'colour' if colour else 'grey'} images of one shape, 8 or 16 bits; "
            f"found {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        )
    return ImagePair(a.astype(np.float64), b.astype(np.float64), float(np.iinfo(a.dtype).max))


def read_clean(path: Path) -> Array:
    """Read a clean grey or RGB image of 8 bits.

    Raises:
        ImageError: The file holds something else.
    """
    if path.suffix.lower() == ".bmp":
        with PIL.Image.open(path) as bitmap:
            image: NDArray[Any] = np.asarray(bitmap)
    else:
        image = np.asarray(read(path).data)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ImageError(f"'{path}' must be a grey or RGB image of 8 bits; found {image.dtype} {image.shape}")
    return image.astype(np.float64)


def crop_square(image: Array, side: int) -> Array:
    """Take the central square of an image.

    Raises:
        ImageError: The image is smaller than the square.
    """
    height, width = image.shape[:2]
    if side > min(height, width):
        raise ImageError(f"a crop of {side} pixels does not fit into {height} × {width} pixels; make --crop smaller")
    return _crop(image, side, side)


def crop_to_multiple(image: Array, factor: int) -> Array:
    """Take the central part whose sides are multiples of `factor`."""
    height, width = image.shape[:2]
    return _crop(image, height - height % factor, width - width % factor)


def _crop(image: Array, height: int, width: int) -> Array:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


# degradations


def random_generator(name: str) -> np.random.Generator:
    """Make a generator whose seed is a name, so that every method and every run sees the same noise."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def gaussian_noise(clean: Array, random: np.random.Generator, sigma: float) -> Array:
    """Add white Gaussian noise; not clipped."""
    return clean + random.normal(0, sigma, clean.shape)


def random_gaussian_noise(clean: Array, random: np.random.Generator, highest: float) -> Array:
    """Add white Gaussian noise with a sigma drawn between 0 and `highest`; not clipped."""
    return gaussian_noise(clean, random, random.uniform(0, highest))


def clipped_gaussian_noise(clean: Array, random: np.random.Generator, sigma: float) -> Array:
    """Add white Gaussian noise and clip to the range of 8 bits, as LINR does (there from -1 to 1)."""
    return np.clip(gaussian_noise(clean, random, sigma), 0, FULL_SCALE)


def poisson_noise(clean: Array, random: np.random.Generator, peak: float) -> Array:
    """Draw photon noise with `peak` photons at full scale; not clipped."""
    return np.asarray(random.poisson(clean / FULL_SCALE * peak) * (FULL_SCALE / peak), np.float64)


def downsample(clean: Array, random: np.random.Generator | None, factor: int) -> Array:
    """Reduce by a whole factor with Pillow's Lanczos filter, to 8 bits; the sides must be multiples of it.

    `random` is not used; all degradations have it.
    """
    height, width = clean.shape[:2]
    image = PIL.Image.fromarray(clean.astype(np.uint8))
    size = (width // factor, height // factor)
    return np.asarray(image.resize(size, PIL.Image.Resampling.LANCZOS), np.float64)


def hide_pixels(clean: Array, random: np.random.Generator) -> Array:
    """Replace all but a tenth of the pixels by NaN, the same pixels in all colours."""
    visible: NDArray[np.bool_] = random.random(clean.shape[:2]) < VISIBLE
    return np.where(visible.reshape(*visible.shape, *[1] * (clean.ndim - 2)), clean, np.nan)


def blur_kernel() -> Array:
    """Compute the Gaussian blur along one axis, `(25,)`; its sum is 1."""
    offsets = np.arange(BLUR_WIDTH) - BLUR_WIDTH // 2
    weights = np.exp(-(offsets**2) / (2 * BLUR_SIGMA**2))
    return np.asarray(weights / weights.sum())


def blur(clean: Array, random: np.random.Generator) -> Array:
    """Blur with periodic boundaries and add a little white Gaussian noise; not clipped."""
    rows = ndimage.convolve1d(clean, blur_kernel(), axis=0, mode="wrap")
    return gaussian_noise(ndimage.convolve1d(rows, blur_kernel(), axis=1, mode="wrap"), random, BLUR_NOISE)
