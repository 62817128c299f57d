"""Channels and colours of an image, one by one, and their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from napari_pristine.image.image import COLOUR, Image

_SAMPLES = ("red", "green", "blue", "alpha")


def split_channels(image: Image, axes: str = "") -> Iterator[tuple[dict[str, int], NDArray[np.generic]]]:
    """Position along the axes of colour and values `(…, Y, X)` of each channel and colour; all pixels are read.

    Args:
        image: The image.
        axes: Its axes in the order in which they are gone through and returned; by default, as they are.
    """
    axes = axes or image.axes
    colours = [axis for axis in axes if axis in COLOUR]
    order = [image.axes.index(axis) for axis in (*colours, *other_axes(axes), "Y", "X")]
    values = np.asarray(image.data).transpose(order)
    for index in np.ndindex(*values.shape[: len(colours)]):
        yield dict(zip(colours, index, strict=True)), values[index]


def other_axes(axes: str) -> str:
    """Those of some axes that are neither of colour nor of the plane."""
    return "".join(axis for axis in axes if axis not in "CSYX")


def name_channel(position: Mapping[str, int], channels: tuple[str, ...], count: int) -> str:
    """Name of a channel or colour, such as `DAPI`, `C 1` or `C 1 red`.

    Args:
        position: Its position along the axes of colour.
        channels: Names of the channels, if they are known.
        count: Number of channels.
    """
    known = {"S": _SAMPLES, "C": channels if len(channels) == count else ()}
    return " ".join(known[axis][number] if known[axis] else f"{axis} {number}" for axis, number in position.items())
