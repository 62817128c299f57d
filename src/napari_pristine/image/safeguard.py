"""Safeguard: estimate the error of a result from the noisy image alone, and replace what is worse than a light blur."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.image.noise import Noise, fourth_differences, is_correlated, noise_autocorrelation

Array = NDArray[np.float64]

BLURS = (2.0, 1.4, 1.0, 0.7, 0.5)
"""Standard deviations of the light blurs, in pixels; the noisy image itself comes last."""
_WINDOW = 6.0
"""Standard deviation of the window over which errors are compared, in pixels."""
_WINDOW_SIDE = round((6 * _WINDOW**2 + 1) ** 0.5)
"""Side of a square that has this standard deviation when it is applied twice."""
PILOT = 1.4
"""Noise that a refined image keeps, relative to what its filter keeps: the pilot has some of it, too."""
_DEVIATIONS = 2.0
"""Standard deviations of its estimate by which a gain must be clear."""
_UNSURE, _UNSURE_CORRELATED = 0.1, 0.2
"""Relative error of a measured variance; that of correlated noise, whose spectrum is known less well, counts more."""
_MAX_FACTOR = 2.0
"""Factor by which the variance that was measured on the flattest parts may be too low."""
_FINE = 4.0
"""Standard deviation of the blur that separates fine structure from its surroundings, in pixels."""
_LOST = 0.1
"""Share of the contrast of fine structure that must be lost for it to be given back."""
_CLEAR_LOSSES = (3.0, 0.03), (8.0, 0.002)
"""Least loss that is clear, in standard deviations of its estimate, and its least power, in noise variances: noise that
a fit has kept may look like a small loss, or like an uncertain one. One of the two pairs is enough."""
_SPOT = 2.0
"""Standard deviation of the window in which the lost light of a spot is measured, in pixels."""
_SPREAD, _LEAST_SPREAD, _MOST_LOST = 4.0, 0.3, 6.0
"""Spread of the losses of spots, relative to their mean; the least spread; and the largest loss that is made good."""
_DETAIL = 1.0
"""Standard deviation of the blur with which fine structure of a result and a noisy image are compared, in pixels."""
_FEW_PHOTONS = 1.0
"""Photons per pixel up to which errors of a result as a whole are compared as well."""
_FIT_KEEPS, _LEAST_GAIN = 0.01, 0.005
"""Noise that a fit of few photons keeps beside what its filter keeps, and the least gain of a change, in variances."""
_CAUTION = 1.7
"""Squared bias, relative to noise that is kept, where the noise is weaker than the fine structure."""
_FINE_FROM = 1.5, 2.2
"""Power of the fine structure, in noise variances, from which that begins to count, and from which it counts fully."""
_FLAT = 0.3
"""Power of fine structure, in noise variances, around a pixel at which half as much of the noisy image is mixed in."""
_TYPICAL, _UNCERTAIN = 0.6, 0.05
"""Weight of a trained network in its mixture with the refinement that is best on average, and the error of estimated
covariances, in noise variances."""
_SIGNAL_BLUR = 2.0
_LEAST_SIGMA = 0.2
"""Least noise level of a pixel, relative to that of the channel."""


class Safe(NamedTuple):
    """A result of one channel whose worst parts are replaced.

    Attributes:
        values: `(*space)`.
        error: Estimate of its mean squared error, in noise variances.
        blur_error: The same for the better of the best light blur and the noisy image.
        replaced: Mean weight of blurs and noisy image in it, 0 to 1.
        lost: Share of the contrast of fine structure that is still missing, 0 to 1; 0 if the fit kept it.
        removed: Mean square of what was removed, in measured noise variances.
        factor: Variance of the noise that was seen in what was removed, relative to the measured one, at least 1.
        kept: Mean covariance of the noise and the result, in noise variances.
    """

    values: Array
    error: float
    blur_error: float
    replaced: float
    lost: float
    removed: float
    factor: float
    kept: float


def replace_worse(
    noisy: NDArray[Any],
    restored: NDArray[Any],
    kept: NDArray[Any],
    noise: Noise,
    valid: NDArray[np.bool_],
) -> Safe:
    """Mix a result with light blurs and the noisy image, where they are estimated to be closer to the truth.

    With noise n of variance V, an estimate f of the image x from y = x + n has the mean squared error
    E(f - y)² - V + 2 cov(f, n) (Stein 1981, Efron 2004). The covariance of a blur is known; that of a refined fit is
    the share of the noise that its filter keeps. In the same way follows the weight with which a blur is mixed in: one
    after the other, from the strongest to the weakest, with weights that are the same over a few pixels. The gain of
    a blur must be clear in spite of the noise, and of a variance that is measured with an error. Then spots get back
    the light that they lost, see `_give_light_back`. At the end, some of the noisy image is mixed in where the noise
    is weak, see `_cautious_share`.

    Args:
        noisy: `(*space)` in the units of the image; the last two axes are Y and X.
        restored: `(*space)`.
        kept: Covariance of noise and result in noise variances, `(*space)`.
        noise: Noise of the channel.
        valid: `(*space)`, False where the noisy value does not count.
    """
    y, current = np.asarray(noisy, np.float64), np.asarray(restored, np.float64)
    variance = noise_variance(y, noise)
    correlated, factor = is_correlated(noise.correlation_length), 1.0
    if not correlated:
        # without most of its structure, all of the image shows the noise, that of few photons included
        seen = fourth_differences(y - current)[valid] ** 2
        factor = float(np.clip(seen.mean() / variance[valid].mean(), 1, _MAX_FACTOR))
        variance *= factor
    share = np.clip(np.asarray(kept, np.float64), 0, 1)
    fit, fit_share = current, share
    unsure = _UNSURE_CORRELATED if correlated else _UNSURE
    averaged = 4 * np.pi * (_WINDOW / noise.correlation_length) ** 2  # independent pixels in a window
    weight, blur_errors = np.ones(y.shape), []
    for blurred, blur_share in _blurs(y, noise):
        blur_errors.append(_mean_error(y, blurred, blur_share, variance, valid))
        change = blurred - current
        more = blur_share - share
        benefit = change * (y - current) - variance * (more + unsure * np.abs(more))
        squared = np.where(valid, change**2, 0.0)
        deviation = (_around(variance * squared) / averaged) ** 0.5
        wanted = _around(np.where(valid, benefit, 0.0)) - _DEVIATIONS * deviation
        room = _around(squared)
        mixed = np.where(valid, np.clip(wanted / np.maximum(room, 1e-9 * room.max() + 1e-300), 0, 1), 0.0)
        current = current + mixed * change
        share = share + mixed * (blur_share - share)
        weight *= 1 - mixed
    mean_variance = float(variance[valid].mean())
    if noise.gain > 0 and mean_variance < _FEW_PHOTONS * noise.gain**2:
        # all of it at once, since the error of a few pixels tells little
        current, share, mixed_blur = _mix_best_blur(y, current, share, variance, valid, noise)
        weight *= 1 - mixed_blur
    lost = 0.0
    if not correlated and _loses_light(y, fit, fit_share, variance, valid):
        current, share = _give_light_back(y, current, share, fit, fit_share, variance, valid)
        lost = _missing_contrast(y, current, valid)
    kept_noisy = _cautious_share(y, current, share, variance, valid)
    current = current + kept_noisy * (y - current)
    share = share + kept_noisy * (1 - share)
    replaced = 1 - float((weight * (1 - kept_noisy)).mean())
    removed = factor * float(((current - y) ** 2)[valid].mean() / variance[valid].mean())
    mean_share = float((share * variance)[valid].mean() / variance[valid].mean())
    error = _mean_error(y, current, share, variance, valid)
    return Safe(current, error, min(blur_errors), replaced, lost, removed, factor, mean_share)


def _mix_best_blur(
    y: Array, current: Array, share: Array, variance: Array, valid: NDArray[np.bool_], noise: Noise
) -> tuple[Array, Array, float]:
    """Mix in the blur that improves the result most, with the same weight everywhere; also returns its weight."""
    best_gain, best = _LEAST_GAIN * float(variance[valid].mean()), (current, share, 0.0)
    for blurred, blur_share in _blurs(y, noise):
        change = blurred - current
        more = blur_share - share - _FIT_KEEPS
        benefit = float((change * (y - current) - variance * (more + _UNSURE * np.abs(more)))[valid].mean())
        room = max(float((change**2)[valid].mean()), 1e-300)
        mixed = min(max(benefit / room, 0.0), 1.0)
        if (gain := 2 * mixed * benefit - mixed**2 * room) > best_gain:
            best_gain, best = gain, (current + mixed * change, share + mixed * (blur_share - share), mixed)
    return best


def _cautious_share(y: Array, estimate: Array, share: Array, variance: Array, valid: NDArray[np.bool_]) -> Array:
    """Weight of the noisy image where lost structure counts more than noise that is kept, `(*space)`.

    Noise that is weaker than the fine structure is hardly seen, structure that is lost cannot be found again. With
    B the squared bias of an estimate that keeps a share s of the noise, the weight w minimises
    _CAUTION (1 - w)² B + (s + w (1 - s))² V.
    """
    mean_variance = float(variance[valid].mean())
    fine = np.where(valid, (estimate - _blur(estimate, _FINE)) ** 2, 0.0)
    is_fine = np.interp(fine[valid].mean() / mean_variance, _FINE_FROM, (0, 1))
    bias = _mean_error(y, estimate, share, variance, valid) - float((share**2 * variance)[valid].mean()) / mean_variance
    lost = _CAUTION * max(bias, 0.0)
    best = np.clip((lost - share * (1 - share)) / (lost + (1 - share) ** 2 + 1e-9), 0, 1)
    fine = _around(fine)
    return np.where(valid, is_fine * best * fine / (fine + _FLAT * variance), 0.0)


def _loses_light(y: Array, fit: Array, share: Array, variance: Array, valid: NDArray[np.bool_]) -> bool:
    """Test if the fine structure of a fit has clearly less contrast than that of the noisy image.

    In an empty or flat image, all fine structure is noise, and is left as it is.
    """
    fine = _fine(fit, valid)
    power = float((fine**2).sum())
    lost = float(_common(fine, y - fit, share, variance).sum())
    deviation = float((fine**2 * variance).sum()) ** 0.5
    noise = float(variance[valid].sum())
    return lost > _LOST * power and any(lost > max(a * deviation, b * noise) for a, b in _CLEAR_LOSSES)


def _give_light_back(
    y: Array, current: Array, share: Array, fit: Array, fit_share: Array, variance: Array, valid: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Multiply fine structure by what brings its light to that of the noisy image; also returns the noise it keeps.

    The fit tells where spots are, and how much noise it has kept there, hence its product with the difference to the
    noisy image tells without bias what is missing: in all of the image, and around each spot. The weaker a spot, the
    less its own figure counts beside that of all (a Wiener filter).
    """
    fine, template = _fine(current, valid), _fine(fit, valid)
    missing, present = _common(template, y - current, fit_share, variance), template * fine
    mean = float(missing.sum() / max(present.sum(), 1e-300))
    spread = max(_SPREAD * mean, _LEAST_SPREAD)
    around = np.maximum(_blur(present, _SPOT), 1e-9 * float(np.abs(present).max()) + 1e-300)
    uncertainty = _blur(variance * template**2, _SPOT) / (4 * np.pi * _SPOT**2) / around**2
    trust = spread**2 / (spread**2 + uncertainty)
    gain = np.clip(mean + trust * (_blur(missing, _SPOT) / around - mean), 0.0, _MOST_LOST)
    # the gain itself follows the noise
    follows = trust * np.maximum(present, 0) / (2 * np.pi * _SPOT**2 * around)
    return current + gain * fine, share * (1 + gain) + follows


def _missing_contrast(y: Array, estimate: Array, valid: NDArray[np.bool_]) -> float:
    """Share of the contrast of fine structure that an estimate lacks, 0 to 1, compared with the noisy image.

    Noise that the estimate keeps counts as missing, too, which matters if most of the structure is weaker than that.
    """
    shown, left = (_fine(_blur(np.where(valid, x, 0.0), _DETAIL), valid) for x in (estimate, y - estimate))
    more = max(float((shown * left).sum() / max((shown**2).sum(), 1e-300)), 0.0)
    return more / (1 + more)


def _fine(values: Array, valid: NDArray[np.bool_]) -> Array:
    """Fine structure: the difference to the surroundings; 0 where values do not count."""
    return np.where(valid, values - _blur(values, _FINE), 0.0)


def _common(fine: Array, difference: Array, share: Array, variance: Array) -> Array:
    """Product of fine structure and the difference to the truth, free of the noise that the structure keeps.

    Args:
        fine: Fine structure of an image that keeps a share of the noise.
        difference: Noisy image minus estimate.
        share: The share, in noise variances.
        variance: Noise variance.
    """
    kept = share * variance * (1 - _kept_by_blur(_FINE, 1.0))
    return np.where(fine == 0, 0.0, fine * difference - kept)


def least_errors(
    noisy: NDArray[Any], restored: NDArray[Any], noise: Noise, valid: NDArray[np.bool_]
) -> tuple[float, float]:
    """Estimate the least possible error of a result of which nothing else is known, and that of the best light blur.

    A result that differs from the noisy image by more than the noise has lost structure; one that differs by less has
    kept some of the noise.

    Returns:
        Mean squared errors in noise variances.
    """
    y = np.asarray(noisy, np.float64)
    variance = noise_variance(y, noise)
    removed = float(((np.asarray(restored, np.float64) - y)[valid] ** 2).mean() / variance[valid].mean())
    least = removed - 1 if removed > 1 else (1 - removed**0.5) ** 2
    return least, min(_mean_error(y, blurred, share, variance, valid) for blurred, share in _blurs(y, noise))


def mixing_weight(
    noisy: NDArray[Any], first: NDArray[Any], second: NDArray[Any], kept: float, variance: float
) -> float:
    """Weight of the first of two estimates in the mixture that is closest to the truth, 0 to 1.

    The mean squared error of w a + (1 - w) b is, but for a constant, that to the noisy image and twice the covariance
    with the noise (Stein 1981). Covariances are known with an error; where the estimates hardly differ it would
    decide, so the weight is drawn towards that which is best on average.

    Args:
        noisy: Noisy pixels.
        first: The first estimate of them, of the same shape.
        second: The second one.
        kept: Covariance of the noise and the first estimate, minus that of the noise and the second.
        variance: Variance of the noise.
    """
    difference = np.asarray(first, np.float64) - second
    room = float((difference**2).mean())
    best = float((difference * (noisy - second)).mean()) - kept
    return float(np.clip((best + _TYPICAL * _UNCERTAIN * variance) / (room + _UNCERTAIN * variance), 0, 1))


def noise_variance(noisy: NDArray[Any], noise: Noise) -> Array:
    """Variance of the noise at each pixel `(*space)`, by the brightness around it."""
    return np.asarray(variance_at(_blur(noisy, _SIGNAL_BLUR), noise))


def variance_at(signal: Any, noise: Noise) -> Any:
    """Variance of the noise where the brightness is `signal`, an array of any kind and shape."""
    return np.maximum(noise.gain * signal + noise.variance, (_LEAST_SIGMA * noise.sigma) ** 2)


def _mean_error(y: Array, estimate: Array, share: Array | float, variance: Array, valid: NDArray[np.bool_]) -> float:
    """Mean squared error of an estimate, in noise variances.

    It is at least that of the noise which is left; less is due to a variance that was measured as too high.
    """
    kept = np.broadcast_to(share, y.shape)
    error = (estimate - y) ** 2 - variance + 2 * kept * variance
    return float(max(error[valid].mean(), (kept**2 * variance)[valid].mean()) / variance[valid].mean())


def _blurs(y: Array, noise: Noise) -> Iterator[tuple[Array, float]]:
    """The light blurs of an image, and the image itself, each with the share of the noise that it keeps.

    They are made one by one, as each takes the memory of the image.
    """
    for blur in (*BLURS, 0.0):
        yield _blur(y, blur), _kept_by_blur(blur, noise.correlation_length)


def _kept_by_blur(blur: float, correlation_length: float) -> float:
    """Covariance of noise and blurred noise, in noise variances."""
    lags = np.arange(-8, 9)
    kernel = ndimage.gaussian_filter1d((lags == 0).astype(float), blur, mode="constant") if blur else lags == 0
    return float((kernel * noise_autocorrelation(lags, correlation_length)).sum() ** 2)


def _blur(values: NDArray[Any], sigma: float) -> Array:
    """Blur along Y and X."""
    return np.asarray(ndimage.gaussian_filter(values, (0.0,) * (values.ndim - 2) + (sigma, sigma)))


def _around(values: Array) -> Array:
    """Mean over the window around each pixel, along Y and X."""
    sides = (1,) * (values.ndim - 2) + (_WINDOW_SIDE, _WINDOW_SIDE)
    # running sums round; what is a mean of squares must not become negative
    smooth = ndimage.uniform_filter(ndimage.uniform_filter(values, sides), sides)
    return np.asarray(np.clip(smooth, values.min(), values.max()))
