"""The mean of three denoisers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pristine.image.consensus import denoise
from napari_pristine.image.refine import refine


def discs(shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.asarray(ndimage.gaussian_filter(random.normal(size=shape), 3) > 0, np.float32)


@pytest.mark.parametrize("shape", [(64, 70), (10, 24, 30)])
def test_it_is_better_than_spectra_alone(shape: tuple[int, ...]) -> None:
    truth = np.stack([discs(shape), 1 - discs(shape), 0.3 * discs(shape)])
    noisy = truth + np.random.default_rng(1).normal(0, 0.2, truth.shape)
    alone = np.stack([refine(channel, channel, 0.2) for channel in noisy])
    found = denoise(noisy, noisy, 0.2)
    assert found.dtype == np.float32
    assert np.square(found - truth).mean() < 0.8 * np.square(alone - truth).mean()


def test_a_single_channel_and_a_flat_picture_are_fine() -> None:
    flat = np.full((1, 20, 20), 3.0, np.float32)
    assert np.allclose(denoise(flat, flat, 0.1), 3, atol=1e-3)
