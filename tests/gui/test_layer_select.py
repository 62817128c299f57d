"""The choice of image and mask, and masked pixels in the result."""

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
def panel(viewer: Any, open_panel: Any) -> Any:
    viewer.add_image(np.zeros((5, 64, 48, 3), np.uint8), rgb=True, name="film")
    viewer.add_image(np.zeros((5, 64, 48)), name="same")
    viewer.add_image(np.zeros((64, 48)), name="plane")
    viewer.add_image(np.zeros((48, 64)), name="turned")
    viewer.add_labels(np.zeros((5, 64, 48), int), name="labels")
    viewer.add_labels(np.zeros((5, 32, 48), int), name="small")
    viewer.add_shapes(name="shapes")
    panel = open_panel(viewer)
    panel.form.layer_select.image_box.box.value = "film"
    return panel


def test_only_masks_that_fit_are_offered(panel):
    select = panel.form.layer_select
    assert select.mask_box.box.choices == ("", "same", "plane", "labels")
    for name, axes in (("same", "TYX"), ("plane", "YX"), ("labels", "TYX")):
        select.mask_box.box.value = name
        assert select.mask_image().axes == axes


def test_a_renamed_mask_stays_chosen_and_a_removed_one_does_not(viewer, panel):
    select = panel.form.layer_select
    select.mask_box.box.value = "labels"
    viewer.layers["labels"].name = "dead pixels"
    assert select.mask_box.box.value == "dead pixels"
    assert select.mask_image().name == "dead pixels"
    viewer.layers.remove("dead pixels")
    assert select.mask_box.box.value == ""
    assert select.mask_image() is None


def test_a_mask_that_does_not_fit_another_image_is_no_longer_chosen(panel):
    select = panel.form.layer_select
    select.mask_box.box.value = "labels"
    select.image_box.box.value = "turned"
    assert select.mask_image() is None


def test_the_panel_follows_the_layers_of_the_window(window_viewer, open_panel):
    viewer = window_viewer
    panel = open_panel(viewer)
    box = panel.form.layer_select.image_box
    assert not panel.run_button.isEnabled()
    viewer.add_labels(np.zeros((64, 64), int), name="labels")
    assert box.box.choices == ()
    first = viewer.add_image(noisy((64, 64)), name="first")
    viewer.add_image(noisy((3, 64, 64)), name="second")
    assert box.box.choices == ("first", "second")
    assert box.layer.name == "second"  # napari selects what is added
    viewer.layers.selection.active = first
    assert box.layer.name == "first"
    first.name = "renamed"
    assert box.box.value == "renamed"
    viewer.layers.remove("renamed")
    assert box.layer.name == "second"
    assert panel.form.layer_select.axes.value == "TYX"
