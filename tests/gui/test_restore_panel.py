"""The restore panel: run, preview, keep, cancel, and closing at any moment."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from helpers import ENDLESS, noisy, wait_for_preview, wait_until_idle
from qtpy.QtCore import QThreadPool, QTimer

from napari_pristine.events import Note, Preview
from napari_pristine.gui.layers import image_from_layer
from napari_pristine.gui.progress_view import ProgressView
from napari_pristine.image.image import Image
from napari_pristine.image.quality import ChannelQuality, Quality
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.restore import Restored, restore, run_plan
from napari_pristine.methods import METHODS
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe

pytestmark = pytest.mark.gui

TURN = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
KINDS = ["inr", "blind2unblind"]
"""A method that fits block by block, and one that trains on all blocks first."""


@pytest.mark.parametrize("method", METHODS)
def test_run_adds_a_layer_with_the_look_of_the_image_and_the_pixels_of_python(qtbot, viewer, open_panel, method):
    layer = viewer.add_image(
        noisy((2, 64, 72)), name="cells", scale=(3, 0.5, 0.25), translate=(1, 2, 3), rotate=TURN, shear=(0, 0, 0.1),
        units=("second", "micrometer", "micrometer"), axis_labels=("t", "y", "x"), colormap="magenta",
        contrast_limits=(5, 90), gamma=0.8, blending="additive", opacity=0.9, metadata={"lab": "A"},
    )  # fmt: skip
    panel = open_panel(viewer, method)
    assert panel.form.layer_select.axes.value == "TYX"
    panel.run_button.click()
    assert not panel.run_button.isEnabled()
    assert panel.cancel_button.isEnabled()
    wait_until_idle(qtbot, panel)
    assert len(viewer.layers) == 2
    result = viewer.layers[-1]
    assert result.name == f"cells · {METHODS[method].title}, balanced"
    assert not layer.visible
    for name in ("units", "axis_labels", "colormap", "contrast_limits", "gamma", "blending", "opacity"):
        assert getattr(result, name) == getattr(layer, name), name
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(result, name), getattr(layer, name), atol=1e-9)
    assert result.data.dtype == np.uint16
    assert result.metadata["lab"] == "A"
    assert panel.run_button.isEnabled()
    assert not panel.cancel_button.isEnabled()
    assert panel.progress.bar.value == panel.progress.bar.max
    assert "noise level" in panel.progress.summary.text().lower()

    recipe = result.metadata["pristine"]["recipe"]
    assert recipe["method"] == method
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    again = restore(image_from_layer(layer, "TYX"), method, settings=recipe["settings"], seed=recipe["seed"])
    torch.set_num_threads(threads)
    np.testing.assert_array_equal(result.data, again.data)


def test_the_summary_has_the_figures_of_each_channel(qtbot, viewer):
    channels = (ChannelQuality("DAPI", 3.21, 0.98, 0, 0), ChannelQuality("GFP", 12.5, 1.02, 0, 0))
    quality = Quality(9.1, 1, 0, 0, stopped=("2 × reached the noise level after 40 steps",), channels=channels)
    view = ProgressView(viewer)
    qtbot.addWidget(view)
    image = Image(noisy((2, 8, 8)), "CYX")
    view.show_result(Restored(image, Recipe(), quality, 3.2, "cpu (2 threads)", (Note("3 hot pixels were filled"),)))
    assert view.status.text() == "Done in 3.2 s on cpu (2 threads)"
    assert view.summary.text().splitlines() == [
        "DAPI: removed 0.98 × the noise level (3.21).",
        "GFP: removed 1.02 × the noise level (12.5).",
        "2 × reached the noise level after 40 steps",
        "3 hot pixels were filled",
    ]


def test_rgb_stays_rgb(qtbot, viewer, open_panel):
    colours = np.stack([noisy((64, 64), seed) for seed in range(3)], axis=-1).astype(np.uint8)
    viewer.add_image(colours, rgb=True)
    panel = open_panel(viewer)
    assert panel.form.layer_select.axes.value == "YXS"
    panel.run()
    wait_until_idle(qtbot, panel)
    assert viewer.layers[-1].rgb
    assert viewer.layers[-1].data.shape == (64, 64, 3)


@pytest.mark.parametrize("method", KINDS)
def test_keep_shows_the_result_so_far(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, method, **ENDLESS)
    panel.run()
    wait_for_preview(qtbot, panel)
    panel.keep_button.click()
    wait_until_idle(qtbot, panel)
    assert len(viewer.layers) == 2
    assert not np.array_equal(viewer.layers[-1].data, viewer.layers[0].data)
    assert "pristine" in viewer.layers[-1].metadata


@pytest.mark.parametrize("method", KINDS)
def test_cancel_hides_the_layer_at_once_and_ends_the_job(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)), name="cells")
    threads = torch.get_num_threads()
    panel = open_panel(viewer, method, **ENDLESS)
    panel.run()
    wait_for_preview(qtbot, panel)
    panel.cancel_button.click()
    assert [layer.name for layer in viewer.layers if layer.visible] == ["cells"]
    assert panel.progress.status.text() == "Cancelled"
    wait_until_idle(qtbot, panel)  # of 100,000 steps most were left: see test_job_runner for how soon it ends
    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=60_000)
    qtbot.waitUntil(lambda: [layer.name for layer in viewer.layers] == ["cells"])
    assert viewer.layers.selection.active is viewer.layers["cells"]
    assert panel.progress.status.text() == "Cancelled"
    assert panel.run_button.isEnabled()
    assert torch.get_num_threads() == threads


def test_an_error_is_shown_in_the_words_of_the_core(qtbot, viewer, open_panel, notifications):
    viewer.add_image(np.full((64, 64), 7, np.uint8), contrast_limits=(0, 255))
    panel = open_panel(viewer)
    panel.run()
    wait_until_idle(qtbot, panel)
    assert [note.message for note in notifications] == ["all pixels have the value 7; there is nothing to restore"]
    assert str(notifications[0].severity) == "error"
    assert len(viewer.layers) == 1
    assert panel.run_button.isEnabled()
    assert "all pixels have the value 7" in panel.progress.status.text()


def test_axes_that_do_not_fit_are_refused_before_a_job_starts(viewer, open_panel, notifications):
    viewer.add_image(noisy((2, 64, 64)))
    panel = open_panel(viewer)
    panel.form.layer_select.axes.value = "YX"
    assert "name 2 dimensions but the image has 3" in panel.form.description.text()
    panel.run()
    assert not panel.runner.running
    assert "name 2 dimensions but the image has 3" in notifications[0].message


def test_closing_the_panel_stops_the_job_and_frees_the_panel(qtbot, window_viewer, open_panel):
    window_viewer.add_image(noisy((64, 64)))
    panel = open_panel(window_viewer, **ENDLESS)
    panel.run()
    wait_for_preview(qtbot, panel)
    panel.form.set_method("linr")  # the form of the method before is freed, too
    window_viewer.window.remove_dock_widget(panel)
    wait_until_idle(qtbot, panel)
    qtbot.waitUntil(lambda: len(window_viewer.layers) == 1)
    left = [weakref.ref(panel), weakref.ref(panel.form), weakref.ref(panel.form.settings)]
    del panel
    qtbot.wait(50)
    gc.collect()
    assert [ref() for ref in left] == [None, None, None]


def test_deleting_the_panel_stops_the_job(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, **ENDLESS)
    panel.run()
    wait_for_preview(qtbot, panel)
    runner = panel.runner
    panel.deleteLater()
    qtbot.waitUntil(lambda: not runner.running, timeout=60_000)


def test_closing_the_viewer_stops_the_job(qtbot, make_napari_viewer, open_panel):
    viewer = make_napari_viewer()
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, **ENDLESS)
    panel.run()
    wait_for_preview(qtbot, panel)
    runner = panel.runner
    del panel
    viewer.close()
    qtbot.waitUntil(lambda: not runner.running, timeout=60_000)
    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=60_000)


def test_the_data_of_a_removed_layer_are_freed_after_run_and_preview(qtbot, viewer, open_panel):
    data = noisy((2, 64, 64))
    left = weakref.ref(data)
    viewer.add_image(data, name="cells")  # without a name, napari looks for one in this frame and keeps its variables
    del data
    panel = open_panel(viewer)
    for start in (panel.run, panel.run_preview):
        start()
        wait_until_idle(qtbot, panel)
    viewer.layers.remove(viewer.layers[0])
    gc.collect()
    assert left() is None


def test_the_window_stays_responsive(qtbot, window_viewer, open_panel):
    """Counts turns of the event loop, and the CPU time of each; both do not depend on the load of the machine."""
    window_viewer.add_image(noisy((96, 96)))
    panel = open_panel(window_viewer, steps=200)
    turns: list[float] = []
    events: list[int] = []
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(time.thread_time()))
    timer.start(0)
    panel.runner.yielded.connect(lambda _: events.append(len(turns)))
    panel.run()
    wait_until_idle(qtbot, panel)
    timer.stop()
    assert max(np.diff(turns)) < 0.5
    assert len(turns) > 2 * len(events) > 4


def test_previews_are_shown_in_one_layer(qtbot, viewer, open_panel):
    viewer.add_image(noisy((2, 64, 64)), name="cells")
    panel = open_panel(viewer, **ENDLESS)
    previews: list[Preview] = []
    panel.runner.yielded.connect(lambda event: previews.append(event) if isinstance(event, Preview) else None)
    panel.run()
    qtbot.waitUntil(lambda: len(previews) > 2, timeout=60_000)
    assert len(viewer.layers) == 2
    shown = viewer.layers[-1].data
    np.testing.assert_array_equal(shown[0], previews[-1].data)
    np.testing.assert_array_equal(shown[1], viewer.layers[0].data[1])
    assert isinstance(previews[-1].data, np.ndarray)
    panel.stop()


def test_preview_here_restores_the_visible_part_in_its_place(qtbot, make_napari_viewer_proxy, open_panel):
    viewer = make_napari_viewer_proxy(show=True)
    layer = viewer.add_image(noisy((3, 256, 256)), name="cells", scale=(2, 0.5, 0.5), rotate=TURN, translate=(0, 7, 9))
    viewer.dims.set_current_step(0, 1)
    panel = open_panel(viewer, steps=60)
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera  # napari < 0.9
    camera.center = (0, *layer.data_to_world((1, 100, 120))[1:])
    camera.zoom = 6
    qtbot.wait(100)
    panel.preview_button.click()
    wait_until_idle(qtbot, panel)
    shown = viewer.layers["cells · INR, balanced (preview)"]
    assert shown.data.shape[0] == 1
    height, width = shown.data.shape[1:]
    assert 64 <= height < 256
    assert 64 <= width < 256
    start = np.rint(layer.world_to_data(shown.data_to_world((0, 0, 0)))).astype(int)
    assert start[0] == 1
    assert start[1] < 100 < start[1] + height
    assert start[2] < 120 < start[2] + width
    part = layer.data[1, start[1] : start[1] + height, start[2] : start[2] + width]
    assert np.corrcoef(part.ravel(), shown.data.ravel())[0, 1] > 0.5
    panel.preview_button.click()
    wait_until_idle(qtbot, panel)
    assert [one.name for one in viewer.layers] == ["cells", shown.name]


def test_of_a_lazy_stack_only_the_chosen_range_is_read(qtbot, viewer, open_panel):
    read: list[int] = []

    def load(block_info: Any = None) -> np.ndarray:
        read.append(block_info[None]["chunk-location"][0])
        return noisy((1, 64, 64))

    lazy = da.map_blocks(load, chunks=((1,) * 6, (64,), (64,)), dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    viewer.add_image(lazy, contrast_limits=(0, 200))
    panel = open_panel(viewer)
    panel.form.layer_select.ranges["T"].value = "4:6"
    assert "(T 2)" in panel.form.description.text()
    qtbot.waitUntil(lambda: panel.form.measured is not None, timeout=60_000)
    read.clear()
    panel.run()
    wait_until_idle(qtbot, panel)
    assert set(read) == {4, 5}
    assert viewer.layers[-1].data.shape == (2, 64, 64)
    assert viewer.layers[-1].translate[0] == 4


def test_a_layer_that_the_user_deletes_stays_deleted_and_its_job_ends(qtbot, viewer, open_panel):
    layer = viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, **ENDLESS)
    panel.run()
    wait_for_preview(qtbot, panel)
    assert not layer.visible
    viewer.layers.remove(panel.result.layer)
    wait_until_idle(qtbot, panel)
    assert [one.name for one in viewer.layers] == ["cells"]
    assert layer.visible
    assert "deleted" in panel.progress.status.text()


def test_one_plan_is_made_in_the_worker_thread_and_handed_to_the_job(qtbot, viewer, open_panel, monkeypatch):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer)
    made: list[tuple[Any, int]] = []
    handed: list[Any] = []

    def make(*arguments: Any, **keywords: Any) -> Any:
        made.append((make_plan(*arguments, **keywords), threading.get_ident()))
        return made[-1][0]

    def run(plan: Any) -> Any:
        handed.append(plan)
        return (yield from run_plan(plan))

    monkeypatch.setattr("napari_pristine.gui.method_form.make_plan", make)
    monkeypatch.setattr("napari_pristine.gui.restore_panel.run_plan", run)
    panel.run()
    wait_until_idle(qtbot, panel)
    assert handed == [plan for plan, _ in made]
    assert len(made) == 1
    assert made[0][1] != threading.get_ident()


def test_the_uncertainty_is_a_layer_of_methods_that_know_it(qtbot, viewer, open_panel):
    layer = viewer.add_image(noisy((2, 48, 40)), name="cells", scale=(1, 0.5, 0.25))
    panel = open_panel(viewer, "pretrained", orientations=1, refine=False)
    box = panel.form.uncertainty_box
    assert not box.native.isHidden()
    box.value = True
    panel.run_button.click()
    wait_until_idle(qtbot, panel)
    result, error = viewer.layers[1:]
    assert error.name == f"{result.name}, uncertainty"
    assert (error.data.shape, error.data.dtype) == ((2, 48, 40), np.float32)
    np.testing.assert_allclose(error.scale, layer.scale)
    assert (error.data > 0).all()
    assert error.contrast_limits[1] == pytest.approx(error.data.max())
    panel.form.set_method("inr")
    assert box.native.isHidden()
    assert not panel.form.recipe({}).uncertainty


def test_the_uncertainty_of_colours_is_that_of_the_least_certain_sample(qtbot, viewer, open_panel):
    viewer.add_image(noisy((3, 48, 40)).transpose(1, 2, 0).astype(np.uint8), rgb=True, name="stain")
    panel = open_panel(viewer, "pretrained", orientations=1, refine=False)
    panel.form.uncertainty_box.value = True
    panel.run_button.click()
    wait_until_idle(qtbot, panel)
    assert viewer.layers[-1].data.shape == (48, 40)
    assert not viewer.layers[-1].rgb


def test_beside_the_frame_of_a_preview_the_image_shows(qtbot, viewer, open_panel):
    layer = viewer.add_image(noisy((4, 64, 64)), name="cells")
    panel = open_panel(viewer, "pretrained")
    viewer.dims.set_current_step(0, 1)
    panel.run_preview()
    wait_until_idle(qtbot, panel)
    assert not layer.visible
    viewer.dims.set_current_step(0, 3)
    assert layer.visible
    viewer.dims.set_current_step(0, 1)
    assert not layer.visible
    layer.visible = True  # as the user wants it; it stays so while the result is shown
    viewer.dims.set_current_step(0, 1)
    assert layer.visible


def test_the_view_returns_to_where_the_user_was(qtbot, viewer, open_panel):
    viewer.add_image(noisy((4, 64, 64)), name="cells")
    panel = open_panel(viewer, "pretrained")
    viewer.dims.set_current_step(0, 2)
    panel.run()
    wait_until_idle(qtbot, panel)
    assert viewer.dims.current_step[0] == 2


def test_a_recipe_that_is_loaded_is_used_as_a_whole(qtbot, viewer, open_panel, tmp_path):
    layer = viewer.add_image(noisy((2, 64, 64)), name="cells")
    panel = open_panel(viewer, "pretrained")
    recipe = Recipe(
        method="pretrained", preset="fast", axes="ZYX", seed=7, value_type="float32", strength=[0.5], format="ome-zarr"
    )
    save_recipe(tmp_path / "recipe.yaml", recipe)
    panel.menu.load_recipe(str(tmp_path / "recipe.yaml"))
    panel.run()
    wait_until_idle(qtbot, panel)
    used = panel.menu._recipe()
    for field in ("method", "preset", "axes", "seed", "value_type", "strength", "format"):
        assert getattr(used, field) == getattr(recipe, field), field
    expected = restore(image_from_layer(layer, "ZYX"), recipe=recipe).data
    np.testing.assert_allclose(viewer.layers[-1].data, expected, rtol=1e-5)


def test_noise_that_is_measured_for_an_image_that_is_gone_is_not_shown(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer)
    panel.form.measure()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not panel.form.probe.running, timeout=60_000)
    assert panel.form.noise.text() == ""
