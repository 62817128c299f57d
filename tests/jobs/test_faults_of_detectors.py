"""Images with the faults of real detectors come out better than any light blur, and say what was found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import napari_pristine as pristine


def scene(size: int = 96) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.asarray(60 + 200 * np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 300))


def error(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((image - truth) ** 2))


def best_blur(noisy: np.ndarray, truth: np.ndarray) -> float:
    return min(error(ndimage.gaussian_filter(noisy.astype(float), s) if s else noisy, truth) for s in (0, 0.5, 1, 2))


def test_hot_pixels_of_all_heights() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.poisson(scene()).astype(float)
    clean = pristine.restore(noisy, "inr", axes="YX", preset="fast")
    hot = rng.random(noisy.shape) < 0.003
    noisy[hot] += rng.exponential(800, hot.sum())
    result = pristine.restore(noisy, "inr", axes="YX", preset="fast")
    assert error(result.data, scene()) < 1.5 * error(clean.data, scene())
    assert any("hot pixels" in note.text for note in result.notes)


def test_offsets_of_rows() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.poisson(scene()) + rng.normal(0, 12, (96, 1))
    result = pristine.restore(noisy, "inr", axes="YX", preset="fast")
    assert error(result.data, scene()) < best_blur(noisy, scene())
    assert any("offsets of rows" in note.text for note in result.notes)


def molecules(seed: int, photons: tuple[float, float], background: float, sigma: float, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = np.zeros((96, 96))
    points[rng.integers(5, 91, count), rng.integers(5, 91, count)] = rng.uniform(*photons, count)
    return background + ndimage.gaussian_filter(points, sigma)


@pytest.mark.parametrize("seed", [1, 5, 8])
@pytest.mark.parametrize(("sigma", "count", "photons"), [(1.3, 16, (15, 60)), (1.0, 60, (15, 60)), (1.6, 30, (40, 60))])
def test_single_molecules(sigma: float, count: int, photons: tuple[float, float], seed: int) -> None:
    truth = molecules(seed, photons, 0.15, sigma, count)
    noisy = np.random.default_rng(seed).poisson(truth).astype(np.uint16)
    result = pristine.restore(noisy, "inr", axes="YX", preset="fast")
    assert result.data.dtype == np.float32
    assert error(result.data, truth) < 1.05 * best_blur(noisy, truth)
    spots = truth > 0.6
    recorded = (noisy[spots] - 0.15).sum()
    assert 0.9 < (result.data[spots] - 0.15).sum() / recorded < 1.1
    assert not any("structure was lost" in note.text for note in result.notes)


def test_molecules_that_are_lost_among_the_noise_are_not_lost_in_silence() -> None:
    truth = molecules(0, (20, 30), 1.2, 1.3, 60)
    noisy = np.random.default_rng(0).poisson(truth).astype(np.uint16)
    result = pristine.restore(noisy, "inr", axes="YX", preset="fast")
    assert any(note.warning and note.text.startswith("structure was lost") for note in result.notes)


@pytest.mark.parametrize("value_type", ["auto", "same"])
def test_a_dark_channel_beside_a_bright_one_is_not_lost_in_silence(value_type: str) -> None:
    rng = np.random.default_rng(0)
    channels = np.stack([rng.poisson(5 * scene(64)), rng.poisson(0.2, (64, 64))]).astype(np.uint16)
    result = pristine.restore(channels, "inr", axes="CYX", preset="fast", value_type=value_type)
    if value_type == "auto":
        assert result.data[1].mean() == pytest.approx(channels[1].mean(), rel=0.05)
    else:
        assert any(note.warning and "in C 1" in note.text and "mean" in note.text for note in result.notes)


def test_the_noise_is_measured_where_the_mask_leaves_something() -> None:
    rng = np.random.default_rng(0)
    truth = 100 + 20 * np.sin(np.arange(64) / 9)[:, None] * np.ones((1, 64))
    movie = rng.normal(truth, 5, (10, 64, 64))
    mask = np.ones(movie.shape, bool)
    mask[4] = False
    settings = {"warm_start": False}
    result = pristine.restore(movie, "inr", axes="TYX", preset="fast", mask=mask, settings=settings)
    assert error(result.data[4], truth) < 0.2 * 25


def test_pictures_in_colour_keep_their_type() -> None:
    picture = np.random.default_rng(0).normal(120, 0.5, (64, 64, 3)).round().astype(np.uint8)
    assert pristine.restore(picture, "inr", axes="YXS", preset="fast").data.dtype == np.uint8
