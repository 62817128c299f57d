"""What an image says about its noise, and what follows for restoring it: neither torch nor a fit is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import AxesError, ImageError
from napari_pristine.image.image import COLOUR, Image, check_restorable, guess_axes
from napari_pristine.image.intensity import fill_invalid, find_valid
from napari_pristine.image.noise import estimate_sigma, measure_noise

_MOST_PLANES = 8
_MOST_ADVICE = 3
_CORRELATED = 0.1
"""Correlation of neighbours above which noise does not count as independent."""
_SATURATED = 1e-3
_WEAK, _STRONG = 20.0, 3.0
"""Contrast, in noise levels, above which noise is hardly seen and below which structures drown in it."""
_SMOOTH = 0.02
"""Ratio of the finest noise to all of it below which an image has been filtered or computed."""
_DISAGREE = 1.6
"""Ratio of the two estimates of the noise level from which one of them is wrong."""


@dataclass(frozen=True)
class Channel:
    """The noise of one channel, in the units of the image.

    Attributes:
        name: Name or number of the channel.
        sigma: Noise level after Chen, Zhu & Heng (2015), which the papers use; None for images too small for it.
        sigma_fit: Noise level after the fit of variance against signal, root mean square over the image.
        gain: Variance per unit of signal, the grey values that one photon makes; 0 if the noise does not grow.
        offset: Signal at which the noise of photons vanishes; 0 where there is read noise.
        read: Standard deviation where the signal is zero.
        photons: Photons per pixel at the median brightness; None if the noise does not grow with the signal.
        correlation_length: Noise at low frequencies over that of white noise of the same level; 1 if independent.
        correlation: Autocorrelation of the noise at a distance of one pixel.
        contrast: Range of the brightness (1st to 99th percentile of the smoothed image) in noise levels.
        saturated: Share of the pixels at which the detector is full.
        invalid: Share of the pixels without a value (NaN or infinite).
    """

    name: str
    sigma: float | None
    sigma_fit: float
    gain: float
    offset: float
    read: float
    photons: float | None
    correlation_length: float
    correlation: float
    contrast: float
    saturated: float
    invalid: float

    @property
    def grows(self) -> bool:
        """Whether the noise grows enough with the signal, over the range of the image, to call it that of photons."""
        return self.gain * self.contrast > 0.5 * self.sigma_fit


@dataclass(frozen=True)
class Diagnosis:
    """What is known about the noise of an image, and one to three sentences on what that means."""

    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    channels: tuple[Channel, ...]
    advice: tuple[str, ...]


def diagnose(image: NDArray[Any] | Image, *, axes: str = "") -> Diagnosis:
    """Measure the noise of each channel of an image, and say what that means for restoring it.

    Args:
        image: An array, or an `Image`.
        axes: One letter per dimension, needed for arrays with more than two dimensions.

    Raises:
        PristineError: The axes do not fit, or there is nothing to measure.
    """
    if not isinstance(image, Image):
        array = np.asarray(image)
        if not axes and array.ndim != 2:
            raise AxesError(
                f"an array with {array.ndim} dimensions (shape {array.shape}) needs axes; "
                f"give one letter per dimension, e.g. axes='{guess_axes(array.shape)}'"
            )
        image = Image(array, axes or "YX")
    check_restorable(image)
    channels = tuple(_measure(name, values) for name, values in _channels(image))
    return Diagnosis(image.name, image.axes, image.shape, image.dtype.name, channels, advise(channels))


def advise(channels: Sequence[Channel]) -> tuple[str, ...]:
    """What the figures mean for the choice of method, in one to three sentences: the one place where this is said."""
    said = [_which_method(channels), *_cautions(channels)]
    return tuple(said[:_MOST_ADVICE])


def _which_method(channels: Sequence[Channel]) -> str:
    correlation = max(channel.correlation for channel in channels)
    if all(_is_smooth(channel) for channel in channels):
        return "No noise was found: the image is computed, compressed or filtered already, and restoring gains nothing."
    if correlation >= _CORRELATED:
        return (
            f"The noise of neighbouring pixels is correlated ({correlation:.2f}): use 'inr' with the preset "
            "'balanced', which allows for it; 'paper', which takes pixels for independent, would keep some of it."
        )
    if any(channel.grows for channel in channels):
        return (
            "The noise is that of photons and independent from pixel to pixel: use 'inr' with the preset 'balanced', "
            "which makes it equally strong everywhere before it fits."
        )
    return (
        "The noise is equally strong everywhere and independent from pixel to pixel: "
        "use 'inr' with the preset 'balanced'."
    )


def _cautions(channels: Sequence[Channel]) -> Iterator[str]:
    """What to look out for, the gravest first."""
    saturated = max(channel.saturated for channel in channels)
    invalid = max(channel.invalid for channel in channels)
    contrast = [channel.contrast for channel in channels if not _is_smooth(channel)]
    if saturated > _SATURATED:
        yield (
            f"{saturated:.1%} of the pixels are saturated; their brightness is lost and cannot be restored, "
            "so expose shorter or lower the gain next time."
        )
    if any(_disagree(channel) for channel in channels):
        yield (
            "The two estimates of the noise level disagree, as they do where fine texture fills the image: "
            "look at what was removed, and set 'sigma' from a flat part of the image if there is structure in it."
        )
    if contrast and min(contrast) < _STRONG:
        yield "Structures are hardly stronger than the noise: trust only what is seen in more than one exposure."
    if contrast and min(contrast) > _WEAK:
        yield "The noise is weak: there is little to gain, and the preset 'fast' may do."
    if invalid:
        yield f"{invalid:.2%} of the pixels have no value (NaN or infinite); they are filled from the fit."


def _is_smooth(channel: Channel) -> bool:
    """Whether what looks like correlated noise lacks the finest detail that any detector adds."""
    return not channel.sigma_fit or (channel.sigma is not None and channel.sigma < _SMOOTH * channel.sigma_fit)


def _disagree(channel: Channel) -> bool:
    """Whether the estimates differ by more than correlation, which only one of them sees, explains."""
    if channel.sigma is None or not channel.sigma or not channel.sigma_fit:
        return False
    ratio = channel.sigma / channel.sigma_fit
    return ratio > _DISAGREE or (ratio < 1 / _DISAGREE and channel.correlation < _CORRELATED)


def _channels(image: Image) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and values `(planes, Y, X)` of each channel and colour."""
    colours = [axis for axis in image.axes if axis in COLOUR]
    others = [axis for axis in image.axes if axis not in "CSYX"]
    order = [image.axes.index(axis) for axis in (*colours, *others, "Y", "X")]
    data = np.asarray(image.data).transpose(order)
    for index in np.ndindex(*data.shape[: len(colours)]):
        names = [_name(image, axis, i) for axis, i in zip(colours, index, strict=True)]
        yield " ".join(names), data[index].reshape(-1, *data.shape[-2:])


def _name(image: Image, axis: str, index: int) -> str:
    if axis == "C" and len(image.channels) == image.size("C"):
        return image.channels[index]
    return ("red", "green", "blue", "alpha")[index] if axis == "S" else f"{axis} {index}"


def _measure(name: str, values: NDArray[Any]) -> Channel:
    """The figures of one channel `(planes, Y, X)`; the noise is that of a few planes spread over it."""
    some = values[np.linspace(0, len(values) - 1, min(len(values), _MOST_PLANES)).astype(int)]
    valid = find_valid(some[None])
    filled = fill_invalid(some[None], valid)[0]
    noise = measure_noise(filled, valid)
    smooth = filled.reshape(len(filled), -1) if noise.sigma == 0 else _binned(filled)
    low, median, high = np.percentile(smooth, [1, 50, 99])
    return Channel(
        name=name,
        sigma=_sigma(filled),
        sigma_fit=noise.sigma,
        gain=noise.gain,
        offset=noise.offset,
        read=noise.read,
        photons=max(float(median) - noise.offset, 0.0) / noise.gain if noise.photons else None,
        correlation_length=noise.correlation_length,
        correlation=noise.correlation,
        contrast=float(high - low) / noise.sigma if noise.sigma else 0.0,
        saturated=_saturated(values),
        invalid=1 - float(np.isfinite(values).mean()),
    )


def _sigma(planes: NDArray[np.float64]) -> float | None:
    try:
        return estimate_sigma(planes[None])
    except ImageError:
        return None


def _binned(planes: NDArray[np.float64], side: int = 4) -> NDArray[np.float64]:
    """Means of squares of `side` × `side` pixels: brightness with little noise."""
    y, x = (n // side * side for n in planes.shape[1:])
    parts = planes[:, :y, :x].reshape(len(planes), y // side, side, x // side, side)
    return np.asarray(parts.mean(axis=(2, 4)))


def _saturated(values: NDArray[Any]) -> float:
    """Share of the pixels at the brightest value, if that ends the type's range or occurs suspiciously often."""
    finite = values[np.isfinite(values)]
    top = finite.max()
    count = int(np.sum(finite == top))
    end = values.dtype.kind in "ui" and top == np.iinfo(values.dtype).max
    often = count > max(20, 2e-4 * finite.size) and top > np.median(finite)
    return count / finite.size if end or often else 0.0
