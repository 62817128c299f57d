"""How good a result is: without a reference from what was removed, with one by the usual figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from napari_pristine.errors import ImageError

Array = NDArray[np.float64]

_WINDOW = 11
"""Side of the larger of the two windows of SSIM."""


@dataclass(frozen=True)
class ChannelQuality:
    """Figures of one channel of a result, see `Quality`."""

    name: str
    sigma: float
    residual: float
    whiteness: float
    structure: float


@dataclass(frozen=True)
class Quality:
    """Figures of a result that need no reference.

    Attributes:
        sigma: Noise level of the input, root mean square over channels and blocks, in the units of the image.
        residual: Root mean square of what was removed, in noise levels: well below 1 noise was left, above 1 detail
            may have been removed.
        whiteness: Correlation of what was removed with its neighbours one pixel away; 0 for white noise.
        structure: Correlation of what was removed with the result, after smoothing both; 0 when no structure was lost.
        invalid: Number of values that were NaN or infinite and were filled.
        stopped: Reasons why fits ended, and how many fits each.
        channels: The same figures for each channel.
    """

    sigma: float
    residual: float
    whiteness: float
    structure: float
    invalid: int = 0
    stopped: tuple[str, ...] = ()
    channels: tuple[ChannelQuality, ...] = ()

    def facts(self) -> dict[str, Any]:
        """It as plain JSON values."""
        return {**asdict(self), "stopped": list(self.stopped), "channels": [asdict(c) for c in self.channels]}


def judge(
    noisy: NDArray[Any], restored: NDArray[Any], valid: NDArray[np.bool_], sigma: float
) -> tuple[float, float, float]:
    """Residual (in noise levels), whiteness and structure of one channel `(*space)`."""
    removed = np.where(valid, np.asarray(noisy, np.float64) - restored, 0.0)
    level = float(np.sqrt(np.mean(removed[valid] ** 2)))
    removed -= removed.mean()
    power = np.mean(removed**2)
    if power == 0 or sigma == 0:
        return (level / sigma if sigma else 0.0), 0.0, 0.0
    along = [np.mean(removed[..., 1:] * removed[..., :-1]), np.mean(removed[..., 1:, :] * removed[..., :-1, :])]
    return level / sigma, float(np.mean(along) / power), _correlation(removed, np.asarray(restored, np.float64))


def _correlation(removed: Array, restored: Array) -> float:
    """Correlation of both after a band-pass about the scale of fine structure, 1 to 4 pixels."""
    a, b = (ndimage.gaussian_filter(x, 1.0) - ndimage.gaussian_filter(x, 4.0) for x in (removed, restored))
    norm = np.sqrt(np.mean(a**2) * np.mean(b**2))
    return float(np.mean(a * b) / norm) if norm > 0 else 0.0


@dataclass(frozen=True)
class Comparison:
    """An image against its reference.

    Attributes:
        psnr: Peak signal-to-noise ratio in dB.
        psnr_affine: The same after the gain and offset that fit best: brightness drifts between captures.
        ssim: Structural similarity with a uniform 7 × 7 window and sample covariance (scikit-image's default).
        ssim_gaussian: The same with a Gaussian window, sigma 1.5, and population covariance (Wang et al. 2004).
        nrmse: Root mean square error over the root mean square of the reference.
        data_range: The range that PSNR and SSIM refer to.
    """

    psnr: float
    psnr_affine: float
    ssim: float
    ssim_gaussian: float
    nrmse: float
    data_range: float


def compare(image: NDArray[Any], reference: NDArray[Any], data_range: float, samples: int | None = None) -> Comparison:
    """Compare two arrays of one shape, all but the last two axes (before `samples`) averaged plane by plane in SSIM.

    Args:
        image: The image.
        reference: What it should be.
        data_range: Largest possible minus smallest possible value.
        samples: Axis that holds the colours of a pixel, if there is one.

    Raises:
        ImageError: The shapes differ, or values are not finite.
    """
    if image.shape != reference.shape:
        raise ImageError(f"the image has the shape {image.shape}, its reference {reference.shape}; they must be equal")
    if "c" in (image.dtype.kind, reference.dtype.kind):
        raise ImageError("complex values cannot be compared; compare their magnitudes")
    if not data_range > 0:
        raise ImageError(f"the data range is {data_range}, it must be above 0; give that of the detector, e.g. 255")
    x, y = image.astype(np.float64), reference.astype(np.float64)
    if min((np.moveaxis(x, samples, 0) if samples is not None else x).shape[-2:]) < _WINDOW:
        raise ImageError(f"pictures of less than {_WINDOW} × {_WINDOW} pixels (shape {x.shape}) are too small for SSIM")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ImageError("there are NaN or infinite values in the image or its reference; they cannot be compared")
    if samples is not None:
        x, y = np.moveaxis(x, samples, 0), np.moveaxis(y, samples, 0)
    design = np.stack([x.ravel(), np.ones(x.size)], axis=1)
    fitted = design @ np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
    return Comparison(
        psnr=_psnr(float(np.mean((x - y) ** 2)), data_range),
        psnr_affine=_psnr(float(np.mean((fitted - y.ravel()) ** 2)), data_range),
        ssim=_ssim(x, y, data_range=data_range),
        ssim_gaussian=_ssim(x, y, data_range=data_range, gaussian_weights=True, use_sample_covariance=False, sigma=1.5),
        nrmse=float(np.sqrt(np.mean((x - y) ** 2)) / (np.sqrt(np.mean(y**2)) or 1.0)),
        data_range=data_range,
    )


def _psnr(square: float, data_range: float) -> float:
    return float(10 * np.log10(data_range**2 / square)) if square > 0 else float("inf")


def _ssim(x: Array, y: Array, **form: Any) -> float:
    planes = zip(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]), strict=True)
    return float(np.mean([structural_similarity(a, b, **form) for a, b in planes]))
