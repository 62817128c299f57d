"""Hot, cold and dead pixels are found and counted, whatever their heights; light and noise are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pristine.image.outliers import count_defects, fill_outliers, find_outliers, value_step


def cells(size: int = 128, seed: int = 0) -> np.ndarray:
    """Filaments between 60 and 460 photons, as optics show them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    lines = sum(
        np.abs((y - rng.uniform(0, size)) * np.cos(a) + (x - rng.uniform(0, size)) * np.sin(a)) < 1
        for a in rng.uniform(0, np.pi, 12)
    )
    return np.asarray(60 + 400 * ndimage.gaussian_filter(np.clip(lines, 0, 1).astype(float), 1.2))


def planted(share: float, heights: tuple[float, float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Photon noise of the cells with hot pixels of uniformly drawn heights; and where they are."""
    rng = np.random.default_rng(seed)
    noisy = rng.poisson(cells()).astype(float)
    hot = rng.random(noisy.shape) < share
    noisy[hot] += rng.uniform(*heights, hot.sum())
    return noisy, hot


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("share", [0.001, 0.003, 0.01])
@pytest.mark.parametrize("heights", [(400, 4000), (3000, 3000), (-800, -500)])
def test_outliers_of_mixed_heights_are_found(share: float, heights: tuple[float, float], seed: int) -> None:
    noisy, hot = planted(share, heights, seed)
    found = find_outliers(noisy[None])[0]
    assert np.mean(found[hot] == np.sign(heights[0])) > 0.85
    assert np.count_nonzero(found[~hot]) <= 1


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("photons", [200, 5000, 100_000])
def test_points_of_light_are_no_outliers(photons: float, sigma: float) -> None:
    rng = np.random.default_rng(0)
    points = np.zeros((96, 96))
    points[rng.integers(4, 92, 12), rng.integers(4, 92, 12)] = photons
    truth = 5 + ndimage.gaussian_filter(points, sigma)
    assert not find_outliers(rng.poisson(truth)[None]).any()


@pytest.mark.parametrize("mean", [0.02, 0.15, 0.5, 2.0])
@pytest.mark.parametrize("gain", [1.0, 20.0])
def test_single_photons_are_no_outliers(mean: float, gain: float) -> None:
    photons = np.random.default_rng(0).poisson(mean * cells() / 60)
    assert np.count_nonzero(find_outliers(gain * photons[None])) <= 1


@pytest.mark.parametrize("blur", [0.5, 0.7, 1.0])
def test_correlated_noise_is_no_outlier(blur: float) -> None:
    noisy = ndimage.gaussian_filter(np.random.default_rng(0).poisson(cells()).astype(float), blur)
    assert np.count_nonzero(find_outliers(noisy[None])) <= 1
    assert np.count_nonzero(find_outliers(np.rint(noisy[None] / 20))) <= 1  # noise weaker than the steps of the values


def test_rows_columns_pairs_and_corners_are_found() -> None:
    noisy = np.random.default_rng(0).poisson(cells()).astype(float)
    noisy[40] = 0
    noisy[:, 70] += 2000
    noisy[90, 20:22] = 3000
    noisy[[100, 101, 100], [30, 30, 31]] = 3000
    found = find_outliers(noisy[None])
    assert found[0, 90, 20:22].all()
    assert found[0, [100, 101, 100], [30, 30, 31]].all()
    counts = count_defects(found)
    assert (counts["rows"], counts["columns"]) == (1, 1)
    assert counts["hot pixels"] == pytest.approx(5, abs=1)


def test_outliers_are_filled_from_their_neighbours() -> None:
    truth = cells()
    noisy, _ = planted(0.01, (400, 4000))
    found = find_outliers(noisy[None])
    filled = fill_outliers(noisy[None], found)[0]
    assert np.array_equal(filled[found[0] == 0], noisy[found[0] == 0])
    assert np.abs(filled - truth)[found[0] != 0].mean() < 60
    everything = np.ones((1, 5, 5), np.int8)
    everything[0, 2, 2] = 0
    assert np.all(fill_outliers(np.full((1, 5, 5), 3.0), everything) == 3)


@pytest.mark.parametrize(("step", "offset"), [(1.0, 0.0), (4.0, 100.0), (0.5, -3.0)])
def test_the_step_of_rounded_values_is_found_beside_others(step: float, offset: float) -> None:
    values = offset + step * np.random.default_rng(0).poisson(5, (64, 64))
    values[3, 4] += 0.3 * step
    assert value_step(values) == pytest.approx(step)
    assert value_step(np.random.default_rng(0).normal(size=(64, 64))) == 0


def test_a_constant_image_has_no_outliers() -> None:
    assert not find_outliers(np.full((1, 32, 32), 7.0)).any()


@pytest.mark.parametrize("value", [0, 20, 2000])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_column_that_is_dark_or_bright_in_part_is_one_defect(share: float, value: float) -> None:
    noisy = np.random.default_rng(0).poisson(cells()).astype(float)
    part = np.s_[20 : 20 + int(128 * share), 50]
    noisy[part] = value
    found = find_outliers(noisy[None])
    assert count_defects(found)["columns"] == 1
    assert (found[0][part] != 0).mean() > 0.8
    assert (found != 0).sum() < 1.2 * share * 128


@pytest.mark.parametrize("width", [0.7, 1.2])
def test_straight_structure_along_a_column_is_no_defect(width: float) -> None:
    truth = np.full((128, 128), 100.0)
    truth[:, 80:100] = 400  # a sharp edge
    line = np.zeros((128, 128))
    line[10:110, 40] = 1
    truth += 1500 * ndimage.gaussian_filter(line, width)
    assert not find_outliers(np.random.default_rng(0).poisson(truth)[None]).any()


def points_on_lines(photons: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A coarsely sampled scene, strings of points of light, without and with photon noise."""
    rng = np.random.default_rng(seed)
    scene = np.zeros((192, 192))
    for y, x in rng.uniform(20, 170, (12, 2)):
        angle = rng.uniform(0, 2 * np.pi, 40).cumsum() * 0.02 + rng.uniform(0, 2 * np.pi)
        rows, columns = y + np.cumsum(2.5 * np.sin(angle)), x + np.cumsum(2.5 * np.cos(angle))
        inside = (rows > 2) & (rows < 189) & (columns > 2) & (columns < 189)
        rows, columns = rows[inside], columns[inside]
        grid = np.arange(192)
        for row, column, height in zip(rows, columns, rng.uniform(0.3, 2, len(rows)), strict=True):
            scene += height * np.outer(
                np.exp(-(((grid - row) / 0.45) ** 2) / 2), np.exp(-(((grid - column) / 0.45) ** 2) / 2)
            )
    truth = photons * scene + 5
    return truth, rng.poisson(truth).astype(np.float64)


def test_points_of_a_coarsely_sampled_scene_are_not_taken_for_hot_pixels() -> None:
    truth, noisy = points_on_lines(300)
    filled = fill_outliers(noisy[None], find_outliers(noisy[None]))[0]
    assert np.square(filled - truth).mean() < 1.1 * np.square(noisy - truth).mean()


def test_hot_pixels_that_are_dense_in_a_corner_are_found() -> None:
    rng = np.random.default_rng(1)
    y, x = np.indices((192, 192))
    noisy = rng.poisson(100 + 60 * np.sin(x / 9) * np.sin(y / 11)).astype(np.float64)
    hot = rng.random(noisy.shape) < 0.08 * np.exp(-np.hypot(y, x) / 25)
    noisy[hot] += 300 + rng.exponential(2000, hot.sum())
    found = find_outliers(noisy[None])[0] > 0
    assert found[hot].mean() > 0.85
    assert found[~hot].sum() < 0.1 * hot.sum()
