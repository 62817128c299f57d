"""Judge a result by the noisy image alone: was only noise removed?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import AxesError
from napari_pristine.image.image import COLOUR, Image
from napari_pristine.image.verdict import Verdict, judge_channel
from napari_pristine.io.arrays import as_image

_SAMPLES = ("red", "green", "blue", "alpha")


def judge(noisy: NDArray[Any] | Image, result: NDArray[Any] | Image, *, axes: str = "") -> tuple[Verdict, ...]:
    """Judge each channel of a result by the noisy image alone: was only noise removed?

    Args:
        noisy: The noisy image: an array, an `Image`, or a `DataArray` of xarray.
        result: The result, as one of these; its axes may be in another order.
        axes: One letter per dimension, needed for arrays with more than two dimensions.

    Returns:
        One verdict for each channel.

    Raises:
        PristineError: Shapes or axes differ, or values are not real.
    """
    noisy, result = as_image(noisy, axes), as_image(result, axes)
    if sorted(noisy.axes) != sorted(result.axes):
        raise AxesError(
            f"the noisy image has the axes {noisy.axes} (shape {noisy.shape}), its result {result.axes} "
            f"(shape {result.shape}); give images with the same axes"
        )
    return tuple(
        judge_channel(values, restored, axes=letters, name=name)
        for name, letters, values, restored in _channels(noisy, result)
    )


def _channels(noisy: Image, result: Image) -> Iterator[tuple[str, str, NDArray[Any], NDArray[Any]]]:
    """Name, axes, noisy values and result of each channel and colour; Y and X come last."""
    colours = "".join(axis for axis in noisy.axes if axis in COLOUR)
    others = "".join(axis for axis in noisy.axes if axis not in "CSYX") + "YX"
    values, restored = (
        np.asarray(image.data).transpose([image.axes.index(axis) for axis in colours + others])
        for image in (noisy, result)
    )
    for index in np.ndindex(*values.shape[: len(colours)]):
        names = []
        for axis, number in zip(colours, index, strict=True):
            known = noisy.channels if axis == "C" else _SAMPLES
            if noisy.size(axis) > 1:
                names.append(known[number] if len(known) >= noisy.size(axis) else f"{axis} {number}")
        yield " ".join(names), others, values[index], restored[index]
