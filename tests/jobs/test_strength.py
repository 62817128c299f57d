"""Strength: how much of the noise is removed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pristine import Image, Recipe, restore
from napari_pristine.errors import SettingError
from napari_pristine.samples import simulate_image

SETTINGS = {"stripes": False, "hot_pixels": False}


def stack() -> Image:
    noisy = np.stack([simulate_image((48, 48), seed=seed)[0].data for seed in range(2)])
    return Image(noisy.astype(np.float32), "CYX")


def test_the_result_is_mixed_with_the_noisy_image_channel_by_channel() -> None:
    image = stack()
    whole = restore(image, "pretrained", preset="fast", settings=SETTINGS).data
    half = restore(image, "pretrained", preset="fast", settings=SETTINGS, strength=[0.5, 1.0])
    np.testing.assert_allclose(half.data[0], (image.data[0] + whole[0]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(half.data[1], whole[1])
    assert half.recipe.strength == [0.5, 1.0]
    again = restore(image, recipe=half.recipe)
    np.testing.assert_array_equal(again.data, half.data)
    np.testing.assert_array_equal(restore(image, "pretrained", preset="fast", strength=0).data, image.data)


def test_missing_values_and_outliers_stay_restored() -> None:
    image = stack().data[0].copy()
    image[5, 5] = np.nan
    image[20, 20] = 1e4
    result = restore(image, "pretrained", preset="fast", strength=0.2).data
    assert np.isfinite(result).all()
    assert result[20, 20] < 1e3


@pytest.mark.parametrize("strength", [1.5, -0.1, [0.5, 2], [0.5, 0.5, 0.5]])
def test_what_is_no_strength_is_refused(strength: float | list[float]) -> None:
    with pytest.raises(SettingError, match="strength"):
        restore(stack(), "pretrained", preset="fast", strength=strength)
    assert Recipe(strength=0.5).strength == [0.5]
