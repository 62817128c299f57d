"""Figures of results: noise that is left, resolution, brightness, comparison with a reference."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.figures import (
    NoisyPlane,
    halves_resolution,
    line_profile,
    measure_figures,
    noise_level,
    prepare_plane,
    reference_resolution,
    split_plane,
)
from napari_pristine.samples import simulate_image

NOISY, TRUTH = (np.asarray(image.data) for image in simulate_image((256, 256), photons=30))


@pytest.fixture(scope="module")
def plane() -> NoisyPlane:
    return prepare_plane(NOISY)


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 1.0])
def test_the_noise_that_is_left_is_measured(plane: NoisyPlane, kept: float) -> None:
    figures = measure_figures(plane, TRUTH + kept * (NOISY - TRUTH))
    assert abs(figures.noise_after / figures.noise_before - kept) < 0.08
    assert abs(figures.residual - (1 - kept)) < 0.04


def test_what_a_perfect_result_removes_is_noise(plane: NoisyPlane) -> None:
    figures = measure_figures(plane, TRUTH)
    x, y = figures.histogram.x, figures.histogram.y
    assert np.abs(y - np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)).max() < 0.04
    assert abs(figures.spectra["removed"].y[8:].mean() - 1) < 0.1
    assert abs(figures.whiteness) < 0.02
    assert abs(figures.slope - 1) < 0.02
    assert abs(figures.offset) < 2


def test_whole_numbers_fill_the_histogram_evenly(plane: NoisyPlane) -> None:
    density = measure_figures(plane, np.rint(TRUTH)).histogram.y
    assert_allclose(density, measure_figures(plane, TRUTH).histogram.y, atol=0.05)


@pytest.mark.parametrize(("gain", "offset"), [(1.1, 0.0), (0.9, 0.0), (1.0, 12.0)])
def test_changed_brightness_shows_in_slope_and_offset(plane: NoisyPlane, gain: float, offset: float) -> None:
    figures = measure_figures(plane, gain * TRUTH + offset)
    assert abs(figures.slope - gain) < 0.02
    assert abs(figures.offset - offset) < 2


@pytest.mark.parametrize(("channel", "photons"), [("microtubules", 30), ("nuclei", 200)])
def test_halves_resolve_what_the_truth_says(channel: str, photons: float) -> None:
    noisy, truth = (np.asarray(image.data) for image in simulate_image((384, 384), channel=channel, photons=photons))
    plane = prepare_plane(noisy)
    expected = reference_resolution(plane.values, truth.astype(float)).pixels
    assert abs(plane.resolution.pixels / expected - 1) < 0.1


def test_a_linear_filter_resolves_neither_more_nor_less(plane: NoisyPlane) -> None:
    """But splitting its result into neighbouring pixels would say so: such a figure is not given."""
    figures = measure_figures(plane, ndimage.gaussian_filter(NOISY.astype(float), 2), TRUTH)
    assert figures.after is not None
    assert abs(figures.after.pixels / figures.before.pixels - 1) < 0.05
    assert measure_figures(plane, TRUTH).after is None


def test_noise_resolves_nothing_and_identical_planes_everything() -> None:
    noise = np.random.default_rng(0).normal(100, 5, (128, 128))
    plane = prepare_plane(noise)
    assert plane.resolution.pixels > 20
    assert halves_resolution([(noise, noise)]).pixels == 2


def test_halves_have_independent_noise_and_the_image_as_their_mean(plane: NoisyPlane) -> None:
    first, second = split_plane(plane.values, plane.noise, 0)
    assert_allclose((first + second) / 2, plane.values)
    assert abs(np.corrcoef((first - TRUTH).ravel(), (second - TRUTH).ravel())[0, 1]) < 0.05


def test_scores_against_a_reference_also_after_gain_and_offset(plane: NoisyPlane) -> None:
    figures = measure_figures(plane, 2 * TRUTH + 50, TRUTH)
    assert figures.scores_before is not None
    assert figures.scores_after is not None
    assert figures.scores_after.plain.psnr < figures.scores_before.plain.psnr
    assert figures.scores_after.fitted.psnr > 60
    assert figures.scores_after.fitted.ssim > 0.999
    assert figures.scores_after.fitted.nrmse < 1e-3


def test_values_that_are_missing_do_not_count(plane: NoisyPlane) -> None:
    restored = TRUTH.astype(np.float32)
    restored[:64] = np.nan
    figures = measure_figures(plane, restored)
    assert abs(figures.residual - 1) < 0.05
    assert abs(figures.slope - 1) < 0.02


def test_the_noise_level_follows_the_brightness(plane: NoisyPlane) -> None:
    dark, bright = noise_level(np.array([100.0, 150.0]), plane.noise)
    assert abs(dark - 3) < 1.5
    assert abs(bright - (9 + 2 * 50) ** 0.5) < 2


def test_a_profile_follows_a_line() -> None:
    y, x = np.mgrid[:40, :50]
    profile = line_profile(10.0 * y + x, (5, 5), (8, 9))
    assert_allclose(profile.x, np.arange(6))
    assert_allclose(profile.y, 55 + np.arange(6) * 34 / 5)
    assert np.isnan(line_profile(x, (5, 5), (5, 60)).y[-1])


def test_planes_that_cannot_be_compared_are_refused(plane: NoisyPlane) -> None:
    with pytest.raises(ImageError, match="32 × 32"):
        prepare_plane(NOISY[:16])
    with pytest.raises(ImageError, match="shape"):
        measure_figures(plane, TRUTH[:100])
    with pytest.raises(ImageError, match="NaN"):
        measure_figures(plane, np.full(TRUTH.shape, np.nan))
