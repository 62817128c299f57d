"""Parts of a result that are worse than a light blur are replaced; its error is estimated from the noisy image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from test_outliers import cells

from napari_pristine.image.noise import Noise
from napari_pristine.image.refine import refine
from napari_pristine.image.safeguard import PILOT, least_errors, replace_worse

PHOTONS = Noise(np.sqrt(cells().mean()), 1.0, 0.0)
ALL = np.ones(cells().shape, bool)


def noisy_cells(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(cells()).astype(float)


def mean_error(values: np.ndarray) -> float:
    """Mean squared error in noise variances."""
    return float(np.mean((values - cells()) ** 2) / cells().mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("blur", [3.0, 6.0])
def test_a_result_that_is_too_smooth_becomes_at_least_as_good_as_the_best_blur(blur: float, seed: int) -> None:
    noisy = noisy_cells(seed)
    smooth = ndimage.gaussian_filter(cells(), blur)
    safe = replace_worse(noisy, smooth, np.zeros(noisy.shape), PHOTONS, ALL)
    best = min(mean_error(ndimage.gaussian_filter(noisy, sigma)) for sigma in (0.0, 0.5, 0.7, 1.0, 1.4, 2.0))
    assert mean_error(safe.values) < 1.1 * best < mean_error(smooth)
    assert safe.replaced > 0.3
    assert safe.error == pytest.approx(mean_error(safe.values), abs=0.12)
    assert safe.blur_error == pytest.approx(best, abs=0.08)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_good_result_is_kept(seed: int) -> None:
    noisy = noisy_cells(seed)
    refined = refine(noisy, ndimage.gaussian_filter(cells(), 0.5), PHOTONS.sigma)
    safe = replace_worse(noisy, refined.pixels, PILOT * refined.kept, PHOTONS, ALL)
    assert mean_error(safe.values) < 1.25 * mean_error(refined.pixels)
    assert safe.replaced < 0.2


def test_a_noisy_result_is_not_made_worse() -> None:
    noisy = noisy_cells()
    safe = replace_worse(noisy, noisy, np.ones(noisy.shape), PHOTONS, ALL)
    assert mean_error(safe.values) < 0.65 * mean_error(noisy)


@pytest.mark.parametrize("photons", [0.2, 1, 25])
def test_a_flat_image_stays_flat(photons: float) -> None:
    noisy = np.random.default_rng(0).poisson(photons, (128, 128)).astype(float)
    fit = photons + ndimage.gaussian_filter(noisy - photons, 4)  # with some of the noise
    kept = np.full(noisy.shape, 0.004)
    safe = replace_worse(noisy, fit, kept, Noise(photons**0.5, 1.0, 0.0), np.ones(noisy.shape, bool))
    assert (safe.values - photons).std() < 1.2 * (fit - photons).std()
    assert safe.lost == 0


def spots(seed: int, photons: float = 1.0, background: float = 0.15) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = np.zeros((128, 128))
    points[rng.integers(5, 123, 26), rng.integers(5, 123, 26)] = photons * rng.uniform(15, 60, 26)
    return background + ndimage.gaussian_filter(points, 1.3)


def light(values: np.ndarray, truth: np.ndarray) -> float:
    """Light in spots above the background, relative to the true one."""
    background, inside = truth.min(), truth > truth.min() + 0.45
    return float((values[inside] - background).sum() / (truth[inside] - background).sum())


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_spots_keep_their_light(kept: float, seed: int) -> None:
    truth = spots(seed)
    noisy = np.random.default_rng(seed).poisson(truth).astype(float)
    dimmed = 0.15 + kept * (truth - 0.15)
    noise = Noise(float(np.sqrt(truth.mean())), 1.0, 0.0)
    safe = replace_worse(noisy, dimmed, np.full(noisy.shape, 0.007), noise, np.ones(noisy.shape, bool))
    assert light(safe.values, truth) / light(noisy, truth) == pytest.approx(1, abs=0.12)
    assert safe.lost < 0.1


def test_each_spot_gets_back_its_own_light() -> None:
    truth = spots(3)
    noisy = np.random.default_rng(0).poisson(truth).astype(float)
    half = np.arange(128) < 64
    dimmed = 0.15 + np.where(half, 0.3, 0.9) * (truth - 0.15)
    noise = Noise(float(np.sqrt(truth.mean())), 1.0, 0.0)
    safe = replace_worse(noisy, dimmed, np.full(noisy.shape, 0.007), noise, np.ones(noisy.shape, bool)).values
    for side in (half, ~half):
        assert light(safe[:, side], truth[:, side]) == pytest.approx(light(noisy[:, side], truth[:, side]), abs=0.12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_lost_among_the_noise_is_counted(seed: int) -> None:
    truth = spots(seed, photons=1.3, background=1.5)
    noisy = np.random.default_rng(seed).poisson(truth).astype(float)
    dimmed = 1.5 + 0.5 * (ndimage.gaussian_filter(truth, 3.0) - 1.5)
    noise = Noise(float(np.sqrt(truth.mean())), 1.0, 0.0)
    safe = replace_worse(noisy, dimmed, np.full(noisy.shape, 0.0042), noise, np.ones(noisy.shape, bool))
    assert 3 * light(dimmed, truth) < light(safe.values, truth) < 0.8
    assert 0.15 < safe.lost < 0.5


def test_values_that_do_not_count_are_left_as_they_are() -> None:
    noisy, valid = noisy_cells(), ALL.copy()
    noisy[:40], valid[:40] = 0.0, False
    smooth = ndimage.gaussian_filter(cells(), 3)
    safe = replace_worse(noisy, smooth, np.zeros(noisy.shape), PHOTONS, valid)
    assert np.abs(safe.values - smooth)[:40].max() < 0.35 * np.ptp(smooth)  # contrast is raised everywhere
    assert mean_error(safe.values) < mean_error(smooth)


def test_what_can_be_said_without_knowing_how_a_result_was_made() -> None:
    noisy = noisy_cells()
    smooth, blur = least_errors(noisy, ndimage.gaussian_filter(cells(), 4), PHOTONS, ALL)
    assert smooth > blur + 0.5
    good, _ = least_errors(noisy, cells(), PHOTONS, ALL)
    assert good < 0.05
    unchanged, blur = least_errors(noisy, noisy, PHOTONS, ALL)
    assert unchanged == pytest.approx(1)
    assert blur < 1


def test_where_noise_is_weak_some_is_kept_rather_than_structure_lost() -> None:
    for brightness, least, most in ((0.05, 0.0, 0.1), (3, 0.1, 0.95)):
        truth = brightness * cells()
        noisy = np.random.default_rng(0).poisson(truth).astype(float)
        fit = ndimage.gaussian_filter(truth, 0.5)  # without the finest structure
        safe = replace_worse(noisy, fit, np.full(truth.shape, 0.042), Noise(truth.mean() ** 0.5, 1.0, 0.0), ALL)
        assert least <= safe.replaced < most
        assert ((safe.values - truth) ** 2).mean() < max(((fit - truth) ** 2).mean(), 0.3 * truth.mean())
