"""Images with the faults of real detectors come out better than any light blur, and say what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import napari_pristine as pristine
from napari_pristine.events import BlockDone
from napari_pristine.image.image import Image
from napari_pristine.image.noise import measure_noise
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.summary import QualitySummary
from napari_pristine.recipe import Recipe


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
    assert error(result.data, truth) < best_blur(noisy, truth)
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


@pytest.mark.parametrize("missing", ["masked", "NaN"])
def test_a_small_part_that_counts_is_enough(missing: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(100, 5, (2048, 2048)).astype(np.float32)
    mask = np.ones(image.shape, bool)
    mask[10:240, 270:500] = False
    plan = make_plan(Image(image, "YX"), Recipe(device="cpu"), mask=Image(mask, "YX"))
    if missing == "NaN":
        image[mask] = np.nan
        plan = make_plan(Image(image, "YX"), Recipe(device="cpu"))
    assert plan.statistics.noise(plan.indices[0])[0].sigma == pytest.approx(5, rel=0.1)
    everything = measure_noise(np.ones((64, 64)) * np.arange(64), np.zeros((64, 64), bool))
    assert everything.sigma == 0  # nothing counts


@pytest.mark.parametrize("sigma", [3, 30, 300])
def test_values_around_zero_are_not_too_coarse(sigma: float) -> None:
    image = np.random.default_rng(0).normal(0, sigma, (96, 96)).round().astype(np.int16)
    for value_type in ("auto", "same"):
        result = pristine.restore(image, "inr", axes="YX", preset="fast", value_type=value_type)
        assert result.data.dtype == np.int16
        assert not any("mean" in note.text for note in result.notes)


def test_a_bad_channel_among_good_ones_is_named() -> None:
    names = ("DAPI", "GFP", "RFP", "Cy5")
    plan = make_plan(Image(np.zeros((2, 4, 32, 32), np.uint16), "TCYX", channels=names), Recipe(device="cpu"))
    summary = QualitySummary(plan, np.dtype(np.uint16))
    for index in plan.indices:
        channel = plan.blocks.position(index)["C"]
        errors, mean = ((0.1, 0.2, 0.0, 0.0), (100.0, 100.0))
        if channel == 1:
            errors = (0.5, 0.15, 0.0, 0.0)
        elif channel == 2:
            errors = (0.1, 0.2, 0.95, 0.0)
        elif channel == 3:
            mean = (0.4, 0.0)
        summary.add(BlockDone(index, ((5.0 if channel < 3 else 0.6, 1.0, 0.0, 0.0),), errors=(errors,), means=(mean,)))
    texts = [note.text for note in summary.notes() if note.warning]
    assert len(texts) == 3
    assert "changes the mean in Cy5 from 0.4 to 0;" in texts[0]
    assert "the result in GFP is estimated to be further from the truth" in texts[1]
    assert "95% of the result in RFP is a light blur" in texts[2]


@pytest.mark.parametrize(("degrees", "columns"), [(0, 40), (20, 0), (8, 0)])
def test_padding_stays_as_it_was(degrees: float, columns: int) -> None:
    rng, truth = np.random.default_rng(0), scene(128)
    inside = ndimage.rotate(np.ones(truth.shape), degrees, order=1, reshape=False) > 0.999
    inside[:, :columns] = False
    image = (rng.poisson(truth) + rng.normal(100, 3, truth.shape)).round().astype(np.uint16)
    image[~inside] = 0
    result = pristine.restore(image, "inr", axes="YX", preset="fast")
    assert not result.data[~inside].any()
    sigma = float(np.sqrt((truth[inside] + 9).mean()))
    assert sigma / 1.15 < result.quality.sigma < 1.15 * sigma
    assert not any("stand" in note.text or "filled" in note.text for note in result.notes)
    noise = pristine.diagnose(image).channels[0]
    assert noise.sigma_fit == pytest.approx(sigma, rel=0.15)
    assert noise.sigma == pytest.approx(sigma, rel=0.25)
    assert not noise.defects
    assert error(result.data[inside] - 100, truth[inside]) < 0.15 * sigma**2


@pytest.mark.parametrize(("border", "factor"), [(75, 8), (70, 20)])
def test_a_noise_level_that_is_too_low_gives_a_warning(border: int, factor: float) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (96, 96))
    noise[:, border:] *= factor  # where the noise is measured, it is weaker than elsewhere
    result = pristine.restore(100 + noise, "inr", axes="YX", preset="fast")
    (warning,) = [note.text for note in result.notes if "noise level" in note.text]
    assert "may be too low" in warning
    assert "set 'sigma'" in warning
    result = pristine.restore(100 + noise, "inr", axes="YX", preset="fast", settings={"sigma": 3.0})
    assert not any("noise level" in note.text for note in result.notes)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.012])
def test_hot_pixels_do_not_make_the_noise_level_too_low(share: float) -> None:
    rng = np.random.default_rng(0)
    noisy = rng.poisson(scene()).astype(float)
    hot = rng.random(noisy.shape) < share
    noisy[hot] += rng.exponential(800, hot.sum())
    result = pristine.restore(noisy, "inr", axes="YX", preset="fast")
    assert not any("noise level" in note.text and note.warning for note in result.notes)


@pytest.mark.data
@pytest.mark.parametrize("name", ["Confocal_BPAE_R_1", "Confocal_FISH_1", "WideField_BPAE_G_1"])
@pytest.mark.parametrize("frames", [1, 16])
def test_estimates_of_the_noise_level_of_real_images_agree(data_folder: Path, name: str, frames: int) -> None:
    noise = measure_noise(pristine.read(data_folder / "fmd_test_mix" / f"noisy_avg{frames}" / f"{name}.png").data)
    assert noise.patch_sigma is not None
    assert noise.patch_sigma < 1.5 * noise.sigma
