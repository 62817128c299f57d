"""Offsets of rows and columns are measured; structure and noise are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from test_outliers import cells

from napari_pristine.image.noise import measure_noise
from napari_pristine.image.stripes import measure_stripes


def spot(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.asarray(60 + 200 * np.exp(-((y - 0.4 * size) ** 2 + (x - 0.5 * size) ** 2) / 300))


@pytest.mark.parametrize("along", ["rows", "columns"])
@pytest.mark.parametrize(("size", "level"), [(96, 12), (128, 5), (256, 3)])
def test_offsets_are_measured_and_removed(size: int, level: float, along: str) -> None:
    rng = np.random.default_rng(size)
    offsets = rng.normal(0, level, (size, 1) if along == "rows" else (1, size))
    noisy = np.rint(rng.poisson(spot(size)) + offsets)
    found = measure_stripes(noisy[None])
    strong, none = (found.rows, found.columns) if along == "rows" else (found.columns, found.rows)
    assert strong == pytest.approx(level, rel=0.3)
    assert none == 0
    assert (offsets - found.offsets[0]).std() < 0.6 * level
    noise = measure_noise(noisy)
    assert noise.sigma == pytest.approx(np.sqrt(spot(size).mean()), rel=0.2)
    assert max(noise.rows, noise.columns) == pytest.approx(strong, rel=0.05)


def test_interlaced_lines_are_offsets() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.poisson(spot(128)) + np.where(np.arange(128) % 2, 10, 0)[:, None]
    found = measure_stripes(noisy[None])
    assert found.rows == pytest.approx(5, rel=0.2)
    assert found.columns == 0


def test_each_plane_of_a_stack_has_offsets_of_its_own() -> None:
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 10, (4, 96, 1))
    found = measure_stripes(rng.poisson(spot(96), (4, 96, 96)) + offsets)
    assert (
        np.corrcoef((offsets - offsets.mean(axis=1, keepdims=True)).ravel(), found.offsets[:, :, 0].ravel())[0, 1] > 0.9
    )


@pytest.mark.parametrize("seed", range(6))
def test_structure_has_no_offsets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grating = 200 + 150 * np.sin(np.arange(128) / 2.5)[:, None] * np.ones((1, 128))  # along the rows, smooth across
    for truth in (cells(seed=seed), spot(128), grating, ndimage.gaussian_filter(rng.normal(300, 900, (128, 128)), 1.5)):
        found = measure_stripes(rng.poisson(np.clip(truth, 0, None))[None])
        assert (found.rows, found.columns) == (0, 0)


@pytest.mark.parametrize("along", ["rows", "columns"])
@pytest.mark.parametrize(("size", "brightness"), [(96, 1), (128, 4), (256, 20)])
def test_bright_structure_does_not_spoil_the_offsets(size: int, brightness: float, along: str) -> None:
    rng = np.random.default_rng(size)
    truth = brightness * cells(size, seed=size)
    for level in np.array([0.4, 1, 3]) * truth.mean() ** 0.5:
        offsets = rng.normal(0, level, (size, 1) if along == "rows" else (1, size))
        found = measure_stripes(rng.poisson(truth)[None] + offsets)
        strong, none = (found.rows, found.columns) if along == "rows" else (found.columns, found.rows)
        assert none == 0
        assert strong > 0 or level < truth.mean() ** 0.5
        assert (offsets - found.offsets[0]).std() <= (0.9 * level if strong else offsets.std())


def test_a_dark_column_leaves_its_neighbours_alone() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.poisson(cells()).astype(float)
    noisy[:, 40] = 0
    assert not measure_stripes(noisy[None]).offsets.any()


def test_blank_parts_do_not_hide_offsets() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.poisson(cells()).astype(float) + rng.normal(0, 15, (128, 1))
    noisy[:, 70:] = noisy[:20] = 0
    found = measure_stripes(noisy[None])
    assert found.rows > 10
    assert not found.offsets[0, noisy == 0].any()


@pytest.mark.parametrize("period", [2.5, 3.0, 3.6, 9.0])
@pytest.mark.parametrize("width", [1.0, 0.6])
def test_gratings_have_no_offsets(period: float, width: float) -> None:
    rng = np.random.default_rng(0)
    grating = np.zeros((256, 256))
    grating[:, : int(256 * width)] = 20 * np.sin(2 * np.pi * np.arange(256) / period)[:, None]
    found = measure_stripes(200 + grating[None] + rng.normal(0, 5, grating.shape))
    assert (found.rows, found.columns) == (0, 0)


def test_columns_with_another_gain_are_offset() -> None:
    rng = np.random.default_rng(0)
    found = measure_stripes(rng.poisson(spot(128) * (1 + rng.normal(0, 0.1, 128)))[None])
    assert found.rows == 0 < found.columns


def test_pixels_that_do_not_count_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 12, (96, 1))
    noisy = rng.poisson(spot(96)) + offsets
    good = np.ones((1, 96, 96), bool)
    noisy[:, :30], good[:, :, :30] = 1e6, False
    assert measure_stripes(noisy[None], good).rows == pytest.approx(12, rel=0.3)
