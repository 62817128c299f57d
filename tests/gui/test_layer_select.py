"""Masks in the panel: pixels that are to be filled in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import noisy, wait_until_idle

from napari_pristine.methods import METHODS

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("method", METHODS)
def test_masked_pixels_are_filled_in(qtbot, viewer, open_panel, method):
    data = noisy((2, 64, 64))
    labels = np.zeros((64, 64), np.uint8)
    labels[30:33, 30:33] = 5
    data[:, labels > 0] = 60_000
    viewer.add_labels(labels, name="scratch")
    viewer.add_image(data, name="cells")
    panel = open_panel(viewer, method, hot_pixels=False)
    assert panel.form.layer_select.mask_box.box.choices == ("", "scratch")
    assert panel.form.layer_select.mask_image() is None
    panel.form.layer_select.mask_box.box.value = "scratch"
    panel.run()
    wait_until_idle(qtbot, panel)
    result = viewer.layers[-1]
    assert result.data.max() < 500
    assert result.metadata["pristine"]["recipe"]["mask"] == "scratch"
    assert "NaN, infinite or masked" in " ".join(result.metadata["pristine"]["notes"])


@pytest.fixture
def choice(viewer: Any, open_panel: Any) -> Any:
    viewer.add_image(np.zeros((5, 64, 48, 3), np.uint8), rgb=True, name="film")
    viewer.add_image(np.zeros((5, 64, 48)), name="same")
    viewer.add_image(np.zeros((64, 48)), name="picture")
    viewer.add_image(np.zeros((48, 64)), name="turned")
    viewer.add_labels(np.zeros((5, 64, 48), int), name="labels")
    viewer.add_labels(np.zeros((5, 32, 48), int), name="small")
    viewer.add_shapes(name="shapes")
    panel = open_panel(viewer)
    panel.form.layer_select.image_box.box.value = "film"
    return panel.form.layer_select


def test_only_what_fits_is_offered(choice):
    assert choice.mask_box.box.choices == ("", "same", "picture", "labels")
    for name, axes in (("same", "TYX"), ("picture", "YX"), ("labels", "TYX")):
        choice.mask_box.box.value = name
        assert choice.mask_image().axes == axes


def test_a_mask_is_followed_when_it_is_renamed_and_let_go_when_it_is_gone(viewer, choice):
    choice.mask_box.box.value = "labels"
    viewer.layers["labels"].name = "dead pixels"
    assert choice.mask_box.box.value == "dead pixels"
    assert choice.mask_image().name == "dead pixels"
    viewer.layers.remove("dead pixels")
    assert choice.mask_box.box.value == ""
    assert choice.mask_image() is None


def test_a_mask_that_does_not_fit_another_image_is_let_go(choice):
    choice.mask_box.box.value = "labels"
    choice.name.value = "turned"
    assert choice.mask_image() is None
