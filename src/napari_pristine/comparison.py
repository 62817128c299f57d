"""Compare an image with a reference, also with axes in another order; choose the data range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import AxesError, ImageError
from napari_pristine.image import quality
from napari_pristine.image.image import Image
from napari_pristine.image.quality import Comparison
from napari_pristine.io.arrays import as_image

_SSIM_WINDOW = 11
"""Side of the window of SSIM in pixels."""


def compare(
    image: NDArray[Any] | Image,
    reference: NDArray[Any] | Image,
    data_range: float | None = None,
    *,
    axes: str = "",
) -> Comparison:
    """Compare an image with a reference: PSNR, SSIM in both common forms, NRMSE.

    PSNR is infinite if both are identical. SSIM is the mean over all planes.

    Args:
        image: An array, an `Image`, or a `DataArray` of xarray.
        reference: The true image, as one of these; its axes may be in another order.
        data_range: Largest possible minus smallest possible value; by default see `default_range`.
        axes: One letter per dimension, needed for arrays with more than two dimensions.

    Raises:
        PristineError: Shapes or axes differ, the images are too small, or values are not finite or not real.
    """
    image, reference = as_image(image, axes), as_image(reference, axes)
    if sorted(image.axes) != sorted(reference.axes):
        if image.shape != reference.shape:
            raise AxesError(
                f"the image has the axes {image.axes} (shape {image.shape}), its reference {reference.axes} "
                f"(shape {reference.shape}); compare images with the same axes"
            )
        order = tuple(range(len(image.axes)))
    else:
        order = tuple(reference.axes.index(axis) for axis in image.axes)
    if min(image.size("Y"), image.size("X")) < _SSIM_WINDOW:
        name = f"'{image.name}'" if image.name else "the image"
        raise ImageError(
            f"{name} has {image.size('Y')} × {image.size('X')} pixels; SSIM needs at least "
            f"{_SSIM_WINDOW} × {_SSIM_WINDOW}"
        )
    samples = image.axes.index("S") if "S" in image.axes else None
    values = np.asarray(reference.data).transpose(order)
    return quality.compare(
        np.asarray(image.data), values, default_range(reference) if data_range is None else data_range, samples
    )


def default_range(reference: Image) -> float:
    """Data range of a reference: 255 for 8 bits, else largest minus smallest value, as few images use all of theirs."""
    if reference.dtype == np.uint8:
        return 255.0
    values = np.asarray(reference.data)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return float(finite.max()) - float(finite.min()) if finite.size else 0.0
