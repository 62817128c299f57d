"""Measure the noise of an image and the speed of this machine, as the panel does when a layer is chosen."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from napari_pristine.diagnosis import ChannelNoise, describe_noise, measure_channels
from napari_pristine.image.image import Image

_SIDE = 512
"""Side of the part that is measured, in pixels: the middle of a plane."""
_PROBE_SIDE = 256
_REFERENCE_SECONDS = 0.9 * _PROBE_SIDE**2 / 512**2
"""Seconds that `pretrained` with `fast` takes for a square with this side on the machine of `Method.seconds`."""
_MAX_CHANNELS = 4


@dataclass(frozen=True)
class Measured:
    """Facts about an image.

    Attributes:
        channels: Noise of its channels.
        slowness: See `slowness`.
    """

    channels: tuple[ChannelNoise, ...]
    slowness: float

    @property
    def text(self) -> str:
        """The noise in words; of several channels, each on its line."""
        lines = [describe_noise(channel) for channel in self.channels]
        if len(set(lines)) == 1:
            return lines[0][0].upper() + lines[0][1:]
        return "\n".join(f"{channel.name}: {line}" for channel, line in zip(self.channels, lines, strict=True))


def middle(image: Image, position: dict[str, int]) -> Image:
    """The middle of a plane of an image, with some of its channels; not read yet.

    Args:
        image: The image.
        position: Index of the plane along the other axes.
    """
    ranges = {}
    for axis, size in zip(image.axes, image.shape, strict=True):
        if axis in "YX":
            start = max(size - _SIDE, 0) // 2
            ranges[axis] = f"{start}:{min(start + _SIDE, size)}"
        elif axis == "C":
            ranges[axis] = f"0:{min(size, _MAX_CHANNELS)}"
        elif axis != "S":
            ranges[axis] = str(position.get(axis, 0))
    return image.select(ranges)


def measure_image(image: Image) -> Measured:
    """Measure the noise of an image, of which all pixels are read, and the speed of this machine if it is not known."""
    return Measured(measure_channels(replace(image, data=np.asarray(image.data))), slowness())


@cache
def slowness() -> float:
    """Time that computing takes here, relative to the machine of `Method.seconds`; measured once."""
    from napari_pristine.jobs.restore import restore  # loads torch's kernels, which takes a second

    part = np.random.default_rng(0).poisson(30, (_PROBE_SIDE, _PROBE_SIDE)).astype(np.float32)
    for _ in range(2):  # the first one loads libraries
        started = time.monotonic()
        restore(part, "pretrained", preset="fast")
    return (time.monotonic() - started) / _REFERENCE_SECONDS
