"""Figures and curves of a result on one plane: what was removed, how fine the detail is, how brightness is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.intensity import fill_invalid, find_padding, find_valid
from napari_pristine.image.noise import Noise, correlate, measure_noise
from napari_pristine.image.outliers import find_outliers
from napari_pristine.image.quality import Comparison, compare, measure_residual
from napari_pristine.image.safeguard import noise_variance, variance_at

Array = NDArray[np.float64]

MIN_SIDE = 32
"""Least number of pixels along Y and X of a plane that is measured."""
_CELL = 8
"""Side, in pixels, of the squares whose means are compared."""
_MAX_RINGS = 64
"""Maximum number of rings in the Fourier plane."""
FINEST = 2.0
"""Period of the finest detail that pixels can show, in pixels."""
_SPLITS = 3
"""Number of times that a plane is split into halves; their mean is more precise than one."""
_HALVES, _TRUTH = 1 / 7, 0.5
"""Correlation of rings that counts as resolved: of two halves of one image, and of an image with its truth; both are
the same ratio of signal to noise (Rosenthal & Henderson 2003)."""
_HISTOGRAM = np.linspace(-6, 6, 49)
"""Edges of the histogram, in noise levels."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Values `y` at the places `x`."""

    x: Array
    y: Array


@dataclass(frozen=True, eq=False)
class Resolution:
    """Fourier ring correlation, and the finest detail that it resolves.

    Attributes:
        curve: Correlation at each spatial frequency, in cycles per pixel.
        threshold: Correlation from which a frequency counts as resolved.
        pixels: Period of the finest resolved detail, in pixels; infinite if nothing is resolved.
    """

    curve: Curve
    threshold: float
    pixels: float


@dataclass(frozen=True)
class Scores:
    """Comparison with a reference: as the image is, and after the gain and offset that fit best."""

    plain: Comparison
    fitted: Comparison

    @classmethod
    def of(cls, plane: Array, reference: Array, data_range: float) -> Scores:
        """Compare a plane `(Y, X)` with its reference; for the data range see `compare`."""
        design = np.stack([plane.ravel(), np.ones(plane.size)], axis=1)
        fitted = design @ np.linalg.lstsq(design, reference.ravel(), rcond=None)[0]
        images = (plane, fitted.reshape(plane.shape))
        return cls(*(compare(image, reference, data_range) for image in images))


@dataclass(frozen=True, eq=False)
class NoisyPlane:
    """A plane of the noisy image, prepared for comparisons with its results.

    Attributes:
        values: `(Y, X)`; NaN, infinite and hot pixels are filled in.
        valid: `(Y, X)`, False where a value was filled in or nothing was recorded.
        noise: Measured noise.
        spectrum: Power at each spatial frequency, relative to that of white noise of this level.
        resolution: Fourier ring correlation of two halves of the plane, see `split_plane`.
    """

    values: Array
    valid: NDArray[np.bool_]
    noise: Noise
    spectrum: Curve
    resolution: Resolution


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures and curves of one result on one plane.

    Attributes:
        noise_before, noise_after: Noise level of the noisy plane, and of the noise of it that is left in the result, in
            the units of the image.
        residual, whiteness, structure: See `ResidualFigures`.
        slope, offset: The line `restored = slope · noisy + offset` through the means of squares of 8 × 8 pixels.
        before, after: Fourier ring correlation of the noisy and the restored plane with the reference. Without one,
            that of two halves of the noisy plane, see `split_plane`; the pixels of a result share errors, so that it
            cannot be split.
        histogram: Density of the residual in noise levels, which is normal if only noise was removed.
        spectra: Power of `noisy`, `restored` and `removed`, relative to that of white noise of the noise level.
        means: Means of squares of the restored plane (y) by those of the noisy one (x).
        scores_before, scores_after: Comparison of the noisy and the restored plane with the reference, if there is one.
    """

    noise_before: float
    noise_after: float
    residual: float
    whiteness: float
    structure: float
    slope: float
    offset: float
    before: Resolution
    after: Resolution | None
    histogram: Curve
    spectra: dict[str, Curve] = field(repr=False)
    means: Curve
    scores_before: Scores | None = None
    scores_after: Scores | None = None


def prepare_plane(noisy: NDArray[Any]) -> NoisyPlane:
    """Measure the noise of a plane `(Y, X)`.

    Raises:
        ImageError: It is too small, or hardly any value is finite.
    """
    if noisy.ndim != 2 or min(noisy.shape) < MIN_SIDE:
        sizes = " × ".join(map(str, noisy.shape))
        raise ImageError(f"the plane has {sizes} pixels; comparing takes at least {MIN_SIDE} × {MIN_SIDE}")
    valid = find_valid(noisy[None])
    filled = fill_invalid(noisy[None], valid)
    valid &= ~find_padding(filled)
    noise = measure_noise(filled[0], valid)
    valid &= find_outliers(filled, valid[None])[0] == 0
    values = fill_invalid(filled, valid)[0]
    halves = [split_plane(values, noise, seed) for seed in range(_SPLITS)]
    return NoisyPlane(values, valid, noise, _spectrum(values, noise.sigma), halves_resolution(halves))


def noise_level(restored: NDArray[Any], noise: Noise) -> Any:
    """Noise level of the noisy image where its brightness is `restored`, of any shape; see `Noise`."""
    return np.sqrt(variance_at(restored, noise))


def measure_figures(noisy: NoisyPlane, restored: NDArray[Any], reference: NDArray[Any] | None = None) -> Figures:
    """Compare a result with the noisy plane, and both with a reference if there is one.

    Args:
        noisy: The noisy plane.
        restored: `(Y, X)`, on the same grid.
        reference: `(Y, X)`, on the same grid.

    Raises:
        ImageError: The shapes differ, or hardly any value is finite.
    """
    for name, plane in (("result", restored), ("reference", reference)):
        if plane is not None and plane.shape != noisy.values.shape:
            raise ImageError(f"the noisy plane has the shape {noisy.values.shape}, the {name} {plane.shape}")
    shown = find_valid(restored[None])
    values, valid = fill_invalid(restored[None], shown)[0], noisy.valid & shown
    if not valid.any():
        raise ImageError("no pixel of the plane has a value in both images; show a plane that was restored")
    sigma = noisy.noise.sigma
    removed = np.where(valid, noisy.values - values, 0.0)
    residual = measure_residual(noisy.values, values, valid, sigma)
    if np.array_equal(removed, np.rint(removed)):  # whole numbers would fill the bins of the histogram unevenly
        spread_out = removed + np.random.default_rng(0).uniform(-0.5, 0.5, removed.shape)
    else:
        spread_out = removed
    means = _local_means(noisy.values, values, valid)
    slope, offset = _line(means)
    truth = None if reference is None else fill_invalid(reference[None], find_valid(reference[None]))[0]
    scores: list[Scores | None] = [None, None]
    if reference is not None and truth is not None and np.ptp(truth) > 0:
        span = 255.0 if reference.dtype == np.uint8 else float(np.ptp(truth))
        scores = [Scores.of(image, truth, span) for image in (noisy.values, values)]
    return Figures(
        noise_before=sigma,
        noise_after=_noise_left(values, removed, sigma),
        residual=residual.residual,
        whiteness=residual.whiteness,
        structure=residual.structure,
        slope=slope,
        offset=offset,
        before=noisy.resolution if truth is None else reference_resolution(noisy.values, truth),
        after=None if truth is None else reference_resolution(values, truth),
        histogram=_histogram((spread_out / noise_level(values, noisy.noise))[valid] if sigma else np.zeros(1)),
        spectra={
            "noisy": noisy.spectrum, "restored": _spectrum(values, sigma), "removed": _spectrum(removed, sigma)
        },
        means=means,
        scores_before=scores[0],
        scores_after=scores[1],
    )  # fmt: skip


def split_plane(values: Array, noise: Noise, seed: int) -> tuple[Array, Array]:
    """Two images of the same scene with half the light each: as much noise as there is, added once and subtracted once.

    Their noise is not correlated, as the covariance of the added noise cancels that of the noise of the image. The mean
    of both is the image. Photons can be split in the same way (Rieger et al., Optics Express 32, 21767, 2024).

    Args:
        values: `(Y, X)`, all finite.
        noise: Its noise.
        seed: Seed of the added noise.
    """
    white = np.random.default_rng(seed).normal(size=values.shape)
    added = correlate(white, noise.correlation_length) * np.sqrt(noise_variance(values, noise))
    return values + added, values - added


def halves_resolution(halves: Iterable[tuple[Array, Array]]) -> Resolution:
    """Fourier ring correlation of pairs of images of one scene `(Y, X)`, see `split_plane`: the mean of all pairs."""
    return _resolution(list(halves), _HALVES)


def reference_resolution(plane: Array, reference: Array) -> Resolution:
    """Fourier ring correlation of a plane `(Y, X)` with its truth: the finest detail that is true."""
    return _resolution([(plane, reference)], _TRUTH)


def line_profile(plane: NDArray[Any], start: tuple[float, float], stop: tuple[float, float]) -> Curve:
    """Values along a straight line, interpolated at steps of about one pixel.

    Args:
        plane: `(Y, X)`.
        start: Y and X of its beginning, in pixels.
        stop: Y and X of its end.
    """
    length = float(np.hypot(stop[0] - start[0], stop[1] - start[1]))
    places = np.linspace(0, 1, max(round(length), 1) + 1)
    y, x = (a + places * (b - a) for a, b in zip(start, stop, strict=True))
    values = ndimage.map_coordinates(np.asarray(plane, np.float64), [y, x], order=1, mode="constant", cval=np.nan)
    return Curve(places * length, values)


def _resolution(pairs: Sequence[tuple[Array, Array]], threshold: float) -> Resolution:
    """The frequency at which the smoothed correlation of rings first falls below the threshold."""
    products = np.zeros((3, *pairs[0][0].shape))
    for pair in pairs:
        a, b = map(_transform, pair)
        products += np.real(a * b.conj()), np.abs(a) ** 2, np.abs(b) ** 2
    frequencies, (cross, power_a, power_b) = _rings(products)
    correlation = cross / np.sqrt(np.maximum(power_a * power_b, np.finfo(np.float64).tiny))
    smooth = ndimage.uniform_filter1d(correlation, 3, mode="nearest")
    below = np.flatnonzero(smooth < threshold)
    if not len(below):
        pixels = FINEST
    elif below[0] == 0:
        pixels = float("inf")
    else:
        last = int(below[0]) - 1
        over, under = smooth[last] - threshold, threshold - smooth[last + 1]
        crossing = frequencies[last] + (frequencies[last + 1] - frequencies[last]) * over / (over + under)
        pixels = float(max(1 / crossing, FINEST))
    return Resolution(Curve(frequencies, smooth), threshold, pixels)


def _transform(plane: Array) -> NDArray[np.complex128]:
    """Fourier transform of a plane `(Y, X)`, without its mean, faded towards its edges."""
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in plane.shape))
    centred = plane - np.average(plane, weights=window)
    return np.asarray(np.fft.fft2(centred * window))


def _rings(images: Array) -> tuple[Array, Array]:
    """Means over rings of the Fourier plane.

    Args:
        images: `(…, Y, X)`, in the order of `fft2`.

    Returns:
        Frequencies of the rings, in cycles per pixel up to 0.5; means `(…, rings)`.
    """
    shape = images.shape[-2:]
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    count = min(min(shape) // 4, _MAX_RINGS)
    ring = np.minimum((radius * 2 * count).astype(int), count).ravel()
    ring[0] = count  # the mean belongs to no ring
    sizes = np.bincount(ring, minlength=count + 1)[:count]
    sums = [np.bincount(ring, image.ravel(), count + 1)[:count] for image in images.reshape(-1, *shape)]
    means = np.reshape(sums, (*images.shape[:-2], count)) / np.maximum(sizes, 1)
    return (np.arange(count) + 0.5) / (2 * count), means


def _spectrum(plane: Array, sigma: float) -> Curve:
    """Power at each spatial frequency, relative to that of white noise of level `sigma`."""
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in plane.shape))
    power = np.abs(_transform(plane)) ** 2 / (float((window**2).sum()) * (sigma**2 or 1.0))
    return Curve(*_rings(power))


def _noise_left(restored: Array, removed: Array, sigma: float) -> float:
    """Level of the noise that is left in a result, in the units of the image.

    At each frequency, what was removed is correlated with what is left of the same noise, and not with the scene.
    """
    a, b = _transform(restored), _transform(removed)
    _, (common, gone) = _rings(np.stack([np.real(a * b.conj()), np.abs(b) ** 2]))
    common = np.maximum(common, 0)
    total = common + gone
    kept = np.divide(common, total, out=np.ones_like(total), where=total > 0)  # where nothing was removed, all is left
    rings = np.arange(len(kept)) + 0.5  # in proportion to the number of their pixels
    return sigma * float(np.sqrt(np.average(kept**2, weights=rings)))


def _histogram(values: Array) -> Curve:
    """Density of values in noise levels."""
    counts, _ = np.histogram(values, _HISTOGRAM)
    width = _HISTOGRAM[1] - _HISTOGRAM[0]
    return Curve((_HISTOGRAM[:-1] + _HISTOGRAM[1:]) / 2, counts / (max(values.size, 1) * width))


def _local_means(noisy: Array, restored: Array, valid: NDArray[np.bool_]) -> Curve:
    """Means of squares of both planes, of those without invalid pixels."""
    rows, columns = (size // _CELL for size in noisy.shape)

    def cells(plane: NDArray[Any]) -> NDArray[Any]:
        cut = plane[: rows * _CELL, : columns * _CELL]
        return cut.reshape(rows, _CELL, columns, _CELL).swapaxes(1, 2).reshape(-1, _CELL**2)

    whole = cells(valid).all(axis=1)
    return Curve(cells(noisy)[whole].mean(axis=1), cells(restored)[whole].mean(axis=1))


def _line(means: Curve) -> tuple[float, float]:
    """Slope and offset of the restored means over the noisy ones; noise of the latter does not flatten the line."""
    if len(means.x) < 2 or np.ptp(means.y) == 0:
        return float("nan"), float("nan")
    covariance = np.cov(means.x, means.y)
    if covariance[0, 1] <= 0:
        return float("nan"), float("nan")
    slope = float(covariance[1, 1] / covariance[0, 1])
    return slope, float(means.y.mean() - slope * means.x.mean())
