"""Diagnose the noise of an image, and recommend how to restore it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pristine.image.channels import name_channel, split_channels
from napari_pristine.image.image import Image, check_restorable
from napari_pristine.image.intensity import fill_invalid, find_padding, find_valid
from napari_pristine.image.noise import DISAGREE, count_saturated, is_correlated, measure_noise, spread
from napari_pristine.image.outliers import count_defects, describe_defects, fill_outliers, find_outliers, name_defects
from napari_pristine.image.stripes import measure_stripes
from napari_pristine.io.arrays import as_image

_MAX_PLANES = 8
_MAX_SENTENCES = 4
_SATURATED = 1e-3
"""Fraction of saturated pixels from which they are mentioned."""
_WEAK, _STRONG = 20.0, 3.0
"""Contrast, in noise levels, above which the noise is hardly visible, and below which it hides structures."""
_STRONG_BELOW, _FEW_PHOTONS = 8.0, 3.0
"""Contrast, in noise levels, below which noise is called strong, and photons per pixel below which they are few."""
_NOISELESS = 0.02
"""Ratio of the finest noise to all noise below which an image has been filtered or computed."""
_LITTLE_GAIN = 0.95
"""Error, relative to that of a light blur or of the image itself, above which little is gained."""
_BIN = 4
"""Side, in pixels, of the squares whose means show the brightness with little noise."""


@dataclass(frozen=True)
class ChannelNoise:
    """Noise of one channel, in the units of the image.

    Attributes:
        name: Name or number of the channel.
        sigma: Noise level by Chen, Zhu & Heng (2015), which the papers use; None if the image is too small for it.
        sigma_fit: Noise level by the fit of variance against signal, root mean square over the image.
        gain: Variance per unit of signal, the number of grey values that one photon makes; 0 if the noise does not
            grow with the signal.
        offset: Signal at which photon noise vanishes; 0 where there is read noise.
        read: Standard deviation where the signal is zero.
        photons: Photons per pixel at the median brightness; None if the noise does not grow with the signal.
        correlation_length: Correlation length of the noise in pixels, 1 if independent; see `Noise`.
        correlation: Autocorrelation of the noise at a distance of one pixel.
        contrast: Range of the brightness (1st to 99th percentile of the smoothed image) in noise levels.
        saturated: Fraction of the pixels that are saturated.
        invalid: Fraction of the pixels without a value (NaN or infinite).
        rows, columns: Standard deviation of the offsets of rows and of columns; 0 if there are none.
        defects: Number of hot and cold pixels, rows and columns that stand out, by kind, in the planes measured.
        constant: The value of all pixels; None if there are several values.
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
    rows: float = 0.0
    columns: float = 0.0
    defects: Mapping[str, int] = field(default_factory=dict)
    constant: float | None = None

    @property
    def photon_noise(self) -> bool:
        """True if photon noise adds a good part of the variance at the brightest pixels."""
        return self.gain * self.contrast > 0.5 * self.sigma_fit

    @property
    def noiseless(self) -> bool:
        """True if the finest noise, which any detector adds, is missing."""
        return not self.sigma_fit or (self.sigma is not None and self.sigma < _NOISELESS * self.sigma_fit)


@dataclass(frozen=True)
class Recommendation:
    """Method and preset for an image; both None if restoring gains nothing.

    Attributes:
        method: Name of the method.
        preset: Its preset.
        reason: Reason for the user, in one sentence.
        errors: Estimated root mean square error of the method that was tried on a part of the image, and of the
            better of a light blur and the image itself, in noise levels; empty if none was tried.
    """

    method: str | None
    preset: str | None
    reason: str
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """Noise of an image, and one to four sentences of advice on how to restore it."""

    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    channels: tuple[ChannelNoise, ...]
    recommendation: Recommendation
    advice: tuple[str, ...]


def diagnose(image: NDArray[Any] | Image, *, axes: str = "") -> Diagnosis:
    """Measure the noise of each channel of an image, and recommend how to restore it.

    Args:
        image: An array, an `Image`, or a `DataArray` of xarray.
        axes: One letter per dimension, needed for arrays with more than two dimensions.

    Raises:
        PristineError: The axes do not fit, or the image cannot be restored.
    """
    image = as_image(image, axes)
    check_restorable(image)
    channels = measure_channels(image)
    found = recommend(channels)
    if found.method is not None and (errors := _estimate_errors(image)):
        found = recommend(channels, errors)
    advice = (found.reason, *_cautions(channels))[:_MAX_SENTENCES]
    return Diagnosis(image.name, image.axes, image.shape, image.dtype.name, channels, found, advice)


def _estimate_errors(image: Image) -> dict[str, float]:
    """Estimated errors of the best quick method and of a light blur on a part of the image; none where it is empty."""
    from napari_pristine.jobs.choose import compare_candidates  # here, as it imports torch

    for choice, _, blur_error in compare_candidates(image, (("pretrained", "balanced"),)):
        return {f"{choice.method}, {choice.preset}": (choice.error or 0.0) ** 0.5, "light blur": blur_error**0.5}
    return {}


def advise(channels: Sequence[ChannelNoise]) -> tuple[str, ...]:
    """Advise, in one to four sentences, which method suits the noise, and which defects the image has."""
    return (recommend(channels).reason, *_cautions(channels))[:_MAX_SENTENCES]


def measure_channels(image: Image) -> tuple[ChannelNoise, ...]:
    """Noise of each channel of an image; no method is tried."""
    return tuple(
        _measure(name_channel(position, image.channels, image.size("C")), values.reshape(-1, *values.shape[-2:]))
        for position, values in split_channels(image)
    )


def describe_noise(noise: ChannelNoise) -> str:
    """The noise of a channel, and what stands out in it, in words."""
    if noise.constant is not None:
        return f"constant (value {noise.constant:g}): nothing to restore"
    if noise.noiseless:
        return "no noise: computed, compressed or filtered"
    strength = "strong" if noise.contrast < _STRONG_BELOW else "weak" if noise.contrast > _WEAK else "moderate"
    correlated = is_correlated(noise.correlation_length)
    parts = [
        f"{'photon noise' if noise.photon_noise else 'noise'}, {strength} "
        f"(signal to noise {_two_digits(noise.contrast)}), "
        f"{'correlated between neighbouring pixels' if correlated else 'independent from pixel to pixel'}"
    ]
    if noise.photons is not None and noise.photons < _FEW_PHOTONS:
        parts.append(f"few photons (on average {noise.photons:.1g} per pixel)")
    if noise.defects:
        parts.append(name_defects(noise.defects))
    if noise.rows or noise.columns:
        parts.append("offsets of " + " and ".join(name for name in ("rows", "columns") if getattr(noise, name)))
    if noise.saturated > _SATURATED:
        parts.append(f"{noise.saturated:.1%} of the pixels saturated")
    return "; ".join(parts)


def _two_digits(value: float) -> str:
    """A number with two digits, as 120 and not as 1.2e+02."""
    return f"{float(f'{value:.2g}'):g}"


def recommend(channels: Sequence[ChannelNoise], errors: Mapping[str, float] | None = None) -> Recommendation:
    """Recommend a method and a preset for noise like this.

    Args:
        channels: Noise of each channel.
        errors: Estimated errors of methods, see `Recommendation`.
    """
    if all(channel.constant is not None for channel in channels):
        values = ", ".join(dict.fromkeys(f"{channel.constant:g}" for channel in channels))
        return Recommendation(
            None, None, f"The image is constant (value{'s' if ',' in values else ''} {values}): nothing to restore."
        )
    if all(channel.noiseless for channel in channels):
        return Recommendation(
            None,
            None,
            "No noise was found: the image is computed, compressed or filtered, so restoring gains nothing.",
        )
    if any(is_correlated(channel.correlation_length) for channel in channels):
        correlation = max(channel.correlation for channel in channels)
        kind = f"correlated between neighbouring pixels ({correlation:.2f})"
    else:
        kind = "independent "
        kind += "within rows and columns" if any(c.rows or c.columns for c in channels) else "from pixel to pixel"
    name = "photon noise" if any(channel.photon_noise for channel in channels) else "equally strong everywhere"
    reason = f"The noise is {name}, {kind}: use 'auto' with the preset 'balanced'"
    if not errors:
        return Recommendation("auto", "balanced", f"{reason}, which allows for it.")
    least, blur = errors.values()
    reason += f"; estimated error {least:.2f} noise levels (light blur {blur:.2f}, input 1.00)"
    if least < _LITTLE_GAIN * min(blur, 1.0):
        return Recommendation("auto", "balanced", f"{reason}.", errors)
    reason = reason.replace("'balanced'", "'fast'")
    return Recommendation("auto", "fast", f"{reason}: hardly less than without it, there is little to gain.", errors)


def _cautions(channels: Sequence[ChannelNoise]) -> Iterator[str]:
    """Sentences about faults of the image, most serious first."""
    saturated = max(channel.saturated for channel in channels)
    invalid = max(channel.invalid for channel in channels)
    contrast = [channel.contrast for channel in channels if not channel.noiseless]
    constant = [channel for channel in channels if channel.constant is not None]
    if 0 < len(constant) < len(channels):
        named = " and ".join(f"{channel.name} (value {channel.constant:g})" for channel in constant)
        yield f"Constant, nothing to restore: {named}."
    for name in ("rows", "columns"):
        channel = max(channels, key=lambda channel: getattr(channel, name))
        if offset := getattr(channel, name):
            yield (
                f"{name.capitalize()} are offset against each other, by {offset:.3g} grey values (standard deviation; "
                f"the noise within them is {channel.sigma_fit:.3g}): restoring removes these offsets (stripes)."
            )
    defects: Counter[str] = sum((Counter(channel.defects) for channel in channels), Counter())
    if defects:
        yield f"{describe_defects(defects)}: restoring fills them in (hot_pixels)."
    if saturated > _SATURATED:
        yield (
            f"{saturated:.1%} of the pixels are saturated: their brightness is lost and cannot be restored; "
            "use a shorter exposure or a lower gain next time."
        )
    if any(_estimates_disagree(channel) for channel in channels):
        yield (
            "The two estimates of the noise level disagree, as they do if fine texture fills the image: look for "
            "structure in the noise that was removed, and if there is any, set 'sigma' from a flat part of the image."
        )
    if contrast and min(contrast) < _STRONG:
        yield "Structures are hardly stronger than the noise: trust only those that show in more than one exposure."
    if contrast and min(contrast) > _WEAK:
        yield "The noise is weak: there is little to gain."
    if invalid:
        yield f"{invalid:.2%} of the pixels have no value (NaN or infinite); restoring fills them in."


def _estimates_disagree(channel: ChannelNoise) -> bool:
    """True if the two noise levels differ by more than correlation, which only the fit sees, explains."""
    if not channel.sigma or not channel.sigma_fit:
        return False
    ratio = channel.sigma / channel.sigma_fit
    return ratio > DISAGREE or (ratio < 1 / DISAGREE and not is_correlated(channel.correlation_length))


def _measure(name: str, values: NDArray[Any]) -> ChannelNoise:
    """Measure one channel `(planes, Y, X)`; its noise in a few planes, evenly spread."""
    planes = values[spread(len(values), _MAX_PLANES)]
    valid = find_valid(planes[None]) & ~find_padding(planes[None])
    filled = fill_invalid(planes[None], valid)[0]
    noise = measure_noise(filled, valid)
    outliers = find_outliers(filled - measure_stripes(filled, valid).offsets, valid)
    smooth = fill_outliers(filled, outliers)
    if noise.sigma > 0:
        y, x = (n // _BIN * _BIN for n in filled.shape[1:])
        smooth = smooth[:, :y, :x].reshape(len(filled), y // _BIN, _BIN, x // _BIN, _BIN).mean(axis=(2, 4))
    finite = values[np.isfinite(values)]
    lowest, highest = float(finite.min()), float(finite.max())
    low, median, high = np.percentile(smooth, [1, 50, 99])
    return ChannelNoise(
        name=name,
        sigma=noise.patch_sigma,
        sigma_fit=noise.sigma,
        gain=noise.gain,
        offset=noise.offset,
        read=noise.read,
        photons=max(float(median) - noise.offset, 0.0) / noise.gain if noise.signal_dependent else None,
        correlation_length=noise.correlation_length,
        correlation=noise.correlation,
        contrast=float(high - low) / noise.sigma if noise.sigma else 0.0,
        saturated=0.0 if lowest == highest else _saturated(values),
        invalid=1 - float(np.isfinite(values).mean()),
        rows=noise.rows,
        columns=noise.columns,
        defects=count_defects(outliers),
        constant=lowest if lowest == highest else None,
    )


def _saturated(values: NDArray[Any]) -> float:
    """Fraction of pixels at the brightest value, if that is the type's largest or suspiciously frequent; no padding."""
    recorded = values[np.isfinite(values) & ~find_padding(values[None])]
    top = recorded.max()
    if values.dtype.kind in "ui" and top == np.iinfo(values.dtype).max:
        return float(np.mean(recorded == top))
    return float(count_saturated(recorded) / recorded.size)
