"""Judge a result by the noisy image alone: was only noise removed?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from napari_pristine.errors import AxesError
from napari_pristine.image.channels import name_channel, other_axes, split_channels
from napari_pristine.image.image import Image
from napari_pristine.image.noise import Noise
from napari_pristine.image.verdict import Verdict, judge_channel
from napari_pristine.io.arrays import as_image


def judge(
    noisy: NDArray[Any] | Image, result: NDArray[Any] | Image, *, axes: str = "", noise: Sequence[Noise] = ()
) -> tuple[Verdict, ...]:
    """Judge each channel of a result by the noisy image alone: was only noise removed?

    Args:
        noisy: The noisy image: an array, an `Image`, or a `DataArray` of xarray.
        result: The result, as one of these; its axes may be in another order.
        axes: One letter per dimension, needed for arrays with more than two dimensions.
        noise: Noise of each channel; measured if it is not given.

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
    verdicts = []
    pairs = zip(split_channels(noisy), split_channels(result, noisy.axes), strict=True)
    for number, ((position, values), (_, restored)) in enumerate(pairs):
        named = {axis: place for axis, place in position.items() if noisy.size(axis) > 1}
        name = name_channel(named, noisy.channels, noisy.size("C"))
        known = noise[number] if noise else None
        verdicts.append(judge_channel(values, restored, known, axes=other_axes(noisy.axes) + "YX", name=name))
    return tuple(verdicts)
