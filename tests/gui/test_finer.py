"""Results on a finer grid, and several images of one scene."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import dask.array as da
import numpy as np
import pytest
from helpers import noisy, wait_until_idle

from napari_pristine.events import Preview
from napari_pristine.gui.extra_images import SETTING
from napari_pristine.methods import METHODS

FINER = [key for key, method in METHODS.items() if "finer" in method.params.model_fields]
TOGETHER = [key for key, method in METHODS.items() if SETTING in method.params.model_fields]
ACCURATE = {"steps": 150, "width": 16, "batch": 256}
"""Settings for which the spot is found to a tenth of a pixel."""
TURN = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])

pytestmark = [pytest.mark.gui, pytest.mark.parametrize("method", FINER)]


def with_spot() -> np.ndarray:
    """A bright spot in two frames, off the middle."""
    y, x = np.ogrid[:64, :64]
    spot = 20 + 4000 * np.exp(-((y - 20) ** 2 + (x - 41) ** 2) / 18)
    return np.random.default_rng(0).poisson(np.broadcast_to(spot, (2, 64, 64))).astype(np.uint16)


def middle(layer: Any) -> np.ndarray:
    """Where the spot in the last frame of a layer is in the world."""
    frame = np.asarray(layer.data[-1], float)
    weight = np.maximum(frame - frame.max() / 2, 0)
    at = [(weight * grid).sum() / weight.sum() for grid in np.indices(frame.shape)]
    return np.array(layer.data_to_world((len(layer.data) - 1, *at)))


def edges(layer: Any) -> np.ndarray:
    """Where the outer corners of the first and the last pixel of the last frame of a layer are in the world."""
    last = len(layer.data) - 1
    return np.array(
        [layer.data_to_world(at) for at in ((last, -0.5, -0.5), (last, *np.array(layer.data.shape[1:]) - 0.5))]
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_a_thing_lies_at_the_same_place_in_the_image_the_preview_and_the_result(
    qtbot, viewer, open_panel, method, lazy
):
    data = da.from_array(with_spot(), chunks=(1, 64, 64)) if lazy else with_spot()
    layer = viewer.add_image(
        data, name="cells", scale=(3, 0.5, 0.25), translate=(1, 2, 3), rotate=TURN, shear=(0, 0, 0.1),
        units=("second", "micrometer", "micrometer"), contrast_limits=(0, 5000),
    )  # fmt: skip
    panel = open_panel(viewer, method, finer=2, **ACCURATE)
    assert "Y 128 × X 128" in panel.form.description.text()
    shown: list[np.ndarray] = []

    def look(event: object) -> None:
        if isinstance(event, Preview) and event.index[0] == 1:
            shown.append(middle(panel.result.layer))

    panel.runner.yielded.connect(look)
    panel.run()
    wait_until_idle(qtbot, panel)
    result = viewer.layers[-1]
    assert result.name == f"cells · {METHODS[method].title}, balanced"
    assert result.data.shape == (2, 128, 128)
    np.testing.assert_allclose(result.scale, (3, 0.25, 0.125))
    assert result.units == layer.units
    np.testing.assert_allclose(edges(result), edges(layer))
    # a tenth of a pixel of the image
    np.testing.assert_allclose(middle(result), middle(layer), atol=0.05)
    np.testing.assert_allclose(shown[-1], middle(layer), atol=0.05)


def test_a_part_on_a_finer_grid_lies_where_it_was_cut_from(qtbot, viewer, open_panel, method):
    layer = viewer.add_image(with_spot(), name="cells", scale=(3, 0.5, 0.5), rotate=TURN)
    panel = open_panel(viewer, method, finer=3, **ACCURATE)
    panel._start(lambda: {"T": "1", "Y": "4:52", "X": "10:63"}, preview=True)
    wait_until_idle(qtbot, panel)
    result = viewer.layers[-1]
    assert result.data.shape == (1, 144, 159)
    np.testing.assert_allclose(
        edges(result), [layer.data_to_world((1, 3.5, 9.5)), layer.data_to_world((1, 51.5, 62.5))]
    )
    cut = layer.data[1, 4:52, 10:63]
    coarse = result.data[0].reshape(48, 3, 53, 3).mean(axis=(1, 3))
    assert np.corrcoef(cut.ravel(), coarse.ravel())[0, 1] > 0.5


@pytest.mark.skipif(not TOGETHER, reason="no method restores several images together")
def test_the_degradation_of_each_image_is_in_the_recipe(viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)), name="blurred")
    viewer.add_image(noisy((64, 64)), name="sharp")
    panel = open_panel(viewer, method)
    assert panel.preview_button.isEnabled()
    row = panel.form.extra_images.add()
    assert not panel.preview_button.isEnabled()
    assert row.layer_box.layer.name == "blurred"
    row.settings.set_values(
        {"blur": "gaussian", "blur_width": 1.75, "blur_depth": 0.5, "psf_file": "a folder/spot.tif"}
    )
    (extra,) = panel.form.recipe({}).params.extra_images
    assert extra.model_dump(exclude={"file"}) == row.settings.values()
    assert [image.name for image in panel.form.extra_images.images("YX")] == ["blurred"]
    row.remove_button.click()
    assert panel.form.recipe({}).params.extra_images == ()
    assert panel.preview_button.isEnabled()


@pytest.mark.skipif(not TOGETHER, reason="no method restores several images together")
def test_only_layers_that_can_show_the_same_scene_are_proposed(viewer, open_panel, method):
    viewer.add_image(np.ones((9, 9)), name="point spread function")
    viewer.add_image(noisy((60, 64)), name="other")
    viewer.add_image(noisy((64, 64)), name="result", metadata={"pristine": {}})
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, method)
    button = panel.form.extra_images.add_button
    assert not button.isEnabled()
    assert button.toolTip().startswith("There is no other layer whose pixels fit those of the image.\n")
    viewer.add_image(noisy((4, 4)), name="much coarser", visible=False)
    viewer.add_image(noisy((32, 32)), name="coarse", visible=False)
    viewer.layers.selection.active = viewer.layers["cells"]
    panel.form.refresh()
    assert button.isEnabled()
    row = panel.form.extra_images.add()
    assert row.layer_box.layer.name == "coarse"
    assert row.settings.values()["finer"] == 2
    assert list(row.layer_box.box.choices) == ["", "much coarser", "coarse"]
    panel.form.recipe({})


@pytest.mark.skipif(not TOGETHER, reason="no method restores several images together")
def test_several_images_are_restored_together(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((32, 32), 1), name="coarse", scale=(2, 2))
    viewer.add_image(noisy((64, 64)), name="fine")
    panel = open_panel(viewer, method)
    panel.form.extra_images.add().settings.set_values({"finer": 2})
    panel.run()
    wait_until_idle(qtbot, panel)
    assert [layer.name for layer in viewer.layers] == ["coarse", "fine", f"fine · {METHODS[method].title}, balanced"]
    assert viewer.layers[-1].data.shape == (64, 64)


@pytest.mark.skipif(not TOGETHER, reason="no method restores several images together")
def test_an_extra_image_without_a_layer_is_refused(viewer, open_panel, notifications, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.form.extra_images.add()
    panel.run()
    assert not panel.runner.running
    assert "no layer is chosen" in notifications[0].message


@pytest.mark.skipif(not TOGETHER, reason="no method restores several images together")
def test_closing_the_panel_frees_the_widgets_of_the_extra_images(qtbot, window_viewer, open_panel, method):
    viewer = window_viewer
    viewer.add_image(noisy((64, 64)))
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    left = [weakref.ref(panel), weakref.ref(panel.form.extra_images.add()), weakref.ref(panel.form.extra_images.add())]
    panel.form.extra_images.remove(panel.form.extra_images.rows[1])
    viewer.window.remove_dock_widget(panel)
    del panel
    qtbot.wait(50)
    gc.collect()
    assert [ref() for ref in left] == [None, None, None]
