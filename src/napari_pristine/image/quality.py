"""Quality of a result: without a reference, from the residual; with one, by PSNR, SSIM and NRMSE."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from napari_pristine.errors import ImageError

Array = NDArray[np.float64]

_WINDOW = 11
"""Side, in pixels, of the larger of the two windows of SSIM."""


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

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {**asdict(self), "stopped": list(self.stopped), "channels": [asdict(c) for c in self.channels]}


class ResidualFigures(NamedTuple):
    """Figures of the residual of one channel: of the noisy image minus the restored one.

    Attributes:
        residual: Root mean square of the residual, in noise levels; 0 if the noise level is 0.
        whiteness: Mean correlation of the residual with itself one pixel further along Y and X; 0 for white noise.
        structure: Correlation of the residual with the restored image at scales of 1 to 4 pixels; 0 if no structure
            was removed.
    """

    residual: float
    whiteness: float
    structure: float


def measure_residual(
    noisy: NDArray[Any], restored: NDArray[Any], valid: NDArray[np.bool_], sigma: float
) -> ResidualFigures:
    """Measure the residual of one channel, which for a good result looks like white noise.

    Args:
        noisy: `(*space)`; the last two axes are Y and X.
        restored: `(*space)`.
        valid: `(*space)`, False where the noisy value does not count.
        sigma: Noise level in the same units.
    """
    removed = np.where(valid, np.asarray(noisy, np.float64) - restored, 0.0)
    level = float(np.sqrt(np.mean(removed[valid] ** 2)))
    removed -= removed.mean()
    power = np.mean(removed**2)
    if power == 0 or sigma == 0:
        return ResidualFigures(level / sigma if sigma else 0.0, 0.0, 0.0)
    lags = [np.mean(removed[..., 1:] * removed[..., :-1]), np.mean(removed[..., 1:, :] * removed[..., :-1, :])]
    # a band-pass around the scale of fine structure
    a, b = (
        ndimage.gaussian_filter(x, 1.0) - ndimage.gaussian_filter(x, 4.0)
        for x in (removed, np.asarray(restored, np.float64))
    )
    norm = np.sqrt(np.mean(a**2) * np.mean(b**2))
    structure = float(np.mean(a * b) / norm) if norm > 0 else 0.0
    return ResidualFigures(level / sigma, float(np.mean(lags) / power), structure)


@dataclass(frozen=True)
class Comparison:
    """Figures of an image compared with its reference.

    Attributes:
        psnr: Peak signal-to-noise ratio in dB; infinite if both are the same.
        psnr_affine: The same after fitting gain and offset, since brightness drifts between exposures.
        ssim: Structural similarity with a uniform 7 × 7 window and sample covariance (scikit-image's default).
        ssim_gaussian: The same with a Gaussian window, sigma 1.5, and population covariance (Wang et al. 2004).
        nrmse: Root mean square error over the root mean square of the reference.
        data_range: Largest possible minus smallest possible value, to which PSNR and SSIM refer.
    """

    psnr: float
    psnr_affine: float
    ssim: float
    ssim_gaussian: float
    nrmse: float
    data_range: float

    @property
    def identical(self) -> bool:
        """True if both have the same values: then PSNR is infinite."""
        return self.nrmse == 0


def compare(image: NDArray[Any], reference: NDArray[Any], data_range: float, samples: int | None = None) -> Comparison:
    """Compare an image with its reference; SSIM is the mean over the planes of the last two axes.

    Args:
        image: Real numbers, all finite.
        reference: The same shape.
        data_range: Largest possible minus smallest possible value, such as 255.
        samples: Axis of the colours of RGB pixels, if there is one; each colour is a plane of its own.

    Raises:
        ImageError: The shapes differ, values are not finite or not real, the images are too small for SSIM, or the
            data range is not positive.
    """
    if image.shape != reference.shape:
        raise ImageError(f"the image has the shape {image.shape}, its reference {reference.shape}; give equal shapes")
    if "c" in (image.dtype.kind, reference.dtype.kind):
        raise ImageError("images with complex values cannot be compared; compare their magnitudes")
    if not data_range > 0:
        raise ImageError(f"the data range must be above 0 but is {data_range}; give that of the detector, e.g. 255")
    x, y = image.astype(np.float64), reference.astype(np.float64)
    if samples is not None:
        x, y = np.moveaxis(x, samples, 0), np.moveaxis(y, samples, 0)
    if min(x.shape[-2:]) < _WINDOW:
        raise ImageError(
            f"the image (shape {image.shape}) is too small for SSIM, which needs {_WINDOW} × {_WINDOW} pixels"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ImageError("the image or its reference has NaN or infinite values; fill them before comparing")
    design = np.stack([x.ravel(), np.ones(x.size)], axis=1)
    squared_error = float(np.mean((x - y) ** 2))
    fitted = design @ np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
    return Comparison(
        psnr=_psnr(squared_error, data_range),
        # a fit is never worse, but for rounding
        psnr_affine=_psnr(min(float(np.mean((fitted - y.ravel()) ** 2)), squared_error), data_range),
        ssim=_ssim(x, y, data_range=data_range),
        ssim_gaussian=_ssim(x, y, data_range=data_range, gaussian_weights=True, use_sample_covariance=False, sigma=1.5),
        nrmse=float(np.sqrt(np.mean((x - y) ** 2)) / (np.sqrt(np.mean(y**2)) or 1.0)),
        data_range=data_range,
    )


def _psnr(squared_error: float, data_range: float) -> float:
    return float(10 * np.log10(data_range**2 / squared_error)) if squared_error > 0 else float("inf")


def _ssim(x: Array, y: Array, **options: Any) -> float:
    """Mean SSIM of the planes of the last two axes."""
    planes = zip(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]), strict=True)
    return float(np.mean([structural_similarity(a, b, **options) for a, b in planes]))
