"""Measure the noise of an image and the speed of this machine in the background, when a layer is chosen."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Thread

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_pristine.diagnosis import ChannelNoise, describe_noise, measure_channels
from napari_pristine.errors import PristineError
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
        slowness: Time that computing takes here, relative to the machine of `Method.seconds`; none if not measured.
    """

    channels: tuple[ChannelNoise, ...]
    slowness: float | None

    @property
    def text(self) -> str:
        """The noise in words; of several channels, each on its line."""
        lines = [describe_noise(channel) for channel in self.channels]
        if len(set(lines)) == 1:
            return lines[0][0].upper() + lines[0][1:]
        return "\n".join(f"{channel.name}: {line}" for channel, line in zip(self.channels, lines, strict=True))


class Probe(QObject):  # type: ignore[misc]
    """Measures one image at a time in a thread; `measured` is emitted with a `Measured`, or a `PristineError`."""

    measured = Signal(object)
    _found = Signal(object)
    _slowness: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self._busy = False
        self._next: Image | None = None
        self._found.connect(self._on_found)

    def start(self, image: Image) -> None:
        """Measure an image, after the one that is being measured; those between are left out."""
        self._next = image
        if not self._busy:
            self._start()

    def _start(self) -> None:
        image, self._next = self._next, None
        self._busy = image is not None
        if image is not None:
            # a daemon, so that it does not keep a closed window waiting
            Thread(target=self._measure, args=([image],), daemon=True).start()

    def _measure(self, images: list[Image]) -> None:
        """Measure the only image of a list, which is emptied, so that its data are not kept."""
        found: Measured | Exception
        try:
            found = _measure(images.pop(), Probe._slowness)
        except Exception as error:  # noqa: BLE001 - nothing that is wrong with an image may end the thread
            found = error
        with suppress(RuntimeError):  # the window was closed meanwhile
            self._found.emit(found)

    def _on_found(self, found: Measured | Exception) -> None:
        if isinstance(found, Measured):
            Probe._slowness = found.slowness
        if self._next is None and isinstance(found, (Measured, PristineError)):
            self.measured.emit(found)
        self._start()


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


def _measure(image: Image, slowness: float | None) -> Measured:
    channels = measure_channels(replace(image, data=np.asarray(image.data)))
    if slowness is None:
        from napari_pristine.jobs.restore import restore  # loads torch's kernels, which takes a second

        part = np.random.default_rng(0).poisson(30, (_PROBE_SIDE, _PROBE_SIDE)).astype(np.float32)
        for _ in range(2):  # the first one loads libraries
            started = time.monotonic()
            restore(part, "pretrained", preset="fast")
            slowness = (time.monotonic() - started) / _REFERENCE_SECONDS
    return Measured(channels, slowness)
