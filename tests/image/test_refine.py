"""The Wiener filter restores structure that a pilot shows, and adds no noise; the consensus is better still."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pristine.image.refine import denoise_consensus, refine

SIGMA = 0.3
SHAPES = [(64, 64), (65, 47), (16, 17), (7, 9), (5, 40), (12, 33, 34), (8, 20, 21), (3, 20, 20), (300,)]
"""Even, odd, and smaller than the blocks that are transformed."""


def truth(shape: tuple[int, ...]) -> np.ndarray:
    """A smooth picture of unit spread and zero mean."""
    rough = np.random.default_rng(0).normal(size=shape)
    smooth = ndimage.gaussian_filter(rough, [min(2.0, n / 4) for n in shape])
    return np.asarray((smooth - smooth.mean()) / smooth.std())


def noise(shape: tuple[int, ...], blur: float = 0) -> np.ndarray:
    drawn = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=shape), blur)
    return np.asarray(drawn * SIGMA / drawn.std())


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_good_pilot_takes_most_of_the_noise_away(shape: tuple[int, ...]) -> None:
    clean = truth(shape)
    refined = refine(clean + noise(shape), clean, SIGMA).pixels
    assert refined.shape == shape
    assert refined.dtype == np.float32
    assert rms(refined - clean) < 0.6 * SIGMA


def test_contrast_that_the_pilot_lost_comes_back() -> None:
    clean = truth((64, 64))
    pale = 0.7 * clean
    assert rms(refine(clean + noise(clean.shape), pale, SIGMA).pixels - clean) < 0.5 * rms(pale - clean)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 20, 20), (2, 2), (1, 1)])
def test_a_constant_stays_constant(shape: tuple[int, ...]) -> None:
    flat = np.full(shape, 5.0)
    assert np.allclose(refine(flat, flat, 0.1).pixels, flat, atol=0.01)


@pytest.mark.parametrize("shape", [(65, 47), (8, 20, 21)])
def test_noise_that_the_pilot_does_not_see_is_taken_away(shape: tuple[int, ...]) -> None:
    refined = refine(noise(shape), np.zeros(shape), SIGMA).pixels
    assert np.isfinite(refined).all()
    assert rms(refined) < 0.01 * SIGMA


@pytest.mark.parametrize("factor", [1e-4, 3.0, 1e4])
@pytest.mark.parametrize("shape", [(33, 40), (5, 20, 20)])
def test_the_unit_of_the_values_does_not_matter(shape: tuple[int, ...], factor: float) -> None:
    clean = truth(shape)
    noisy = clean + noise(shape)
    scaled = refine(factor * noisy, factor * clean, factor * SIGMA).pixels / factor
    assert np.allclose(scaled, refine(noisy, clean, SIGMA).pixels, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 10.0, -1000.0])
@pytest.mark.parametrize("shape", [(64, 64), (33, 47), (12, 30, 30)])
def test_the_mean_is_kept(shape: tuple[int, ...], level: float) -> None:
    clean = truth(shape) + level
    noisy = clean + noise(shape)
    assert refine(noisy, clean, SIGMA).pixels.mean() == pytest.approx(noisy.mean(), abs=0.1 * SIGMA)


def test_correlated_noise_is_found_where_it_is() -> None:
    clean = truth((96, 96))
    noisy = clean + noise(clean.shape, blur=0.7)
    correlation_length = float(np.exp(-((np.arange(-8, 9) / 0.7) ** 2) / 4).sum())
    assert rms(refine(noisy, clean, SIGMA, correlation_length).pixels - clean) < 0.97 * rms(
        refine(noisy, clean, SIGMA).pixels - clean
    )


def test_neither_input_is_touched() -> None:
    noisy, pilot = truth((20, 20)) + noise((20, 20)), truth((20, 20))
    kept = noisy.copy(), pilot.copy()
    refine(noisy, pilot, SIGMA)
    assert np.array_equal(noisy, kept[0])
    assert np.array_equal(pilot, kept[1])


def discs(shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.asarray(ndimage.gaussian_filter(random.normal(size=shape), 3) > 0, np.float32)


@pytest.mark.parametrize("shape", [(64, 70), (10, 24, 30)])
def test_the_consensus_is_better_than_the_wiener_filter_alone(shape: tuple[int, ...]) -> None:
    clean = np.stack([discs(shape), 1 - discs(shape), 0.3 * discs(shape)])
    noisy = clean + np.random.default_rng(1).normal(0, 0.2, clean.shape)
    alone = np.stack([refine(channel, channel, 0.2).pixels for channel in noisy])
    found = denoise_consensus(noisy, noisy, 0.2)
    assert found.dtype == np.float32
    assert np.square(found - clean).mean() < 0.8 * np.square(alone - clean).mean()


def test_the_consensus_takes_a_single_flat_channel() -> None:
    flat = np.full((1, 20, 20), 3.0, np.float32)
    assert np.allclose(denoise_consensus(flat, flat, 0.1), 3, atol=1e-3)
