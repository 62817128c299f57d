from __future__ import annotations

import gc
import inspect
import time
import weakref
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from qtpy.QtCore import QThreadPool, QTimer
from quick import ENDLESS, QUICK, noisy

from napari_pristine.events import Preview
from napari_pristine.gui.job_runner import JobRunner
from napari_pristine.image.image import Image
from napari_pristine.jobs.restore import restore, run
from napari_pristine.methods import METHODS
from napari_pristine.recipe import Recipe

pytestmark = [pytest.mark.gui, pytest.mark.parametrize("method", METHODS)]

TURN = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])


def finish(qtbot: Any, panel: Any, timeout: int = 20_000) -> None:
    qtbot.waitUntil(lambda: not panel.job.running, timeout=timeout)


def wait_for_preview(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: panel.model is not None and panel.model.layer is not None, timeout=20_000)


def test_run_makes_one_layer_that_inherits_everything(qtbot, viewer, open_panel, method):
    layer = viewer.add_image(
        noisy((2, 64, 72)), name="cells", scale=(3, 0.5, 0.25), translate=(1, 2, 3), rotate=TURN, shear=(0, 0, 0.1),
        units=("second", "micrometer", "micrometer"), axis_labels=("t", "y", "x"), colormap="magenta",
        contrast_limits=(5, 90), gamma=0.8, blending="additive", opacity=0.9, metadata={"lab": "A"},
    )  # fmt: skip
    panel = open_panel(viewer, method)
    assert panel.choice.axes.value == "TYX"
    panel.start.native.click()
    assert not panel.start.enabled
    assert panel.cancel.enabled
    finish(qtbot, panel)
    assert len(viewer.layers) == 2
    result = viewer.layers[-1]
    assert result.name == f"cells · {METHODS[method].title}"
    for name in ("units", "axis_labels", "colormap", "contrast_limits", "gamma", "blending", "opacity"):
        assert getattr(result, name) == getattr(layer, name), name
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(result, name), getattr(layer, name), atol=1e-9)
    assert result.data.dtype == np.uint16
    assert result.metadata["lab"] == "A"
    assert result.metadata["pristine"]["recipe"]["method"] == method
    assert panel.start.enabled
    assert not panel.cancel.enabled
    assert panel.watch.bar.value == panel.watch.bar.max
    assert "residual" in panel.watch.summary.text()


def test_the_panel_gives_the_pixels_that_python_gives(qtbot, viewer, open_panel, method):
    data = noisy((64, 64))
    viewer.add_image(data)
    panel = open_panel(viewer, method)
    panel.run_all()
    finish(qtbot, panel)
    recipe = viewer.layers[-1].metadata["pristine"]["recipe"]
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    again = restore(data, method, settings=recipe["settings"], seed=recipe["seed"])
    torch.set_num_threads(threads)
    np.testing.assert_array_equal(viewer.layers[-1].data, again.data)


def test_rgb_stays_rgb(qtbot, viewer, open_panel, method):
    colours = np.stack([noisy((64, 64), seed) for seed in range(3)], axis=-1).astype(np.uint8)
    viewer.add_image(colours, rgb=True)
    panel = open_panel(viewer, method)
    assert panel.choice.axes.value == "YXS"
    panel.run_all()
    finish(qtbot, panel)
    assert viewer.layers[-1].rgb
    assert viewer.layers[-1].data.shape == (64, 64, 3)


def test_keep_takes_what_there_is(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, method, **ENDLESS)
    panel.run_all()
    wait_for_preview(qtbot, panel)
    panel.keep.native.click()
    finish(qtbot, panel, 5000)
    assert len(viewer.layers) == 2
    assert not np.array_equal(viewer.layers[-1].data, viewer.layers[0].data)
    assert "pristine" in viewer.layers[-1].metadata


def test_cancel_stops_within_a_second_and_leaves_nothing(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)), name="cells")
    threads = torch.get_num_threads()
    panel = open_panel(viewer, method, **ENDLESS)
    panel.run_all()
    wait_for_preview(qtbot, panel)
    began = time.monotonic()
    panel.cancel.native.click()
    assert len(viewer.layers) == 1
    finish(qtbot, panel, 1000)
    assert time.monotonic() - began < 1
    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=1000)
    qtbot.wait(100)
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert panel.start.enabled
    assert torch.get_num_threads() == threads


def test_a_cancelled_job_is_closed_and_says_no_more(qtbot, method):
    job = run(Image(noisy((64, 64)), "YX"), Recipe(method=method, settings=QUICK[method] | ENDLESS))
    runner = JobRunner()
    heard: list[object] = []
    runner.said.connect(heard.append)
    runner.returned.connect(heard.append)
    runner.start(job)
    qtbot.waitUntil(lambda: bool(heard), timeout=20_000)
    with qtbot.waitSignal(runner.finished, timeout=1000):
        runner.cancel()
        heard.clear()
    assert inspect.getgeneratorstate(job) == inspect.GEN_CLOSED
    assert heard == []
    assert not runner.running


def test_an_error_is_shown_with_the_words_of_the_core(qtbot, viewer, open_panel, heard, method):
    viewer.add_image(np.full((64, 64), 7, np.uint8), contrast_limits=(0, 255))
    panel = open_panel(viewer, method)
    panel.run_all()
    finish(qtbot, panel)
    assert [note.message for note in heard] == ["all pixels have the value 7; there is nothing to restore"]
    assert str(heard[0].severity) == "error"
    assert len(viewer.layers) == 1
    assert panel.start.enabled
    assert "all pixels have the value 7" in panel.watch.text.text()


def test_axes_that_do_not_fit_are_told_before_anything_runs(viewer, open_panel, heard, method):
    viewer.add_image(noisy((2, 64, 64)))
    panel = open_panel(viewer, method)
    panel.choice.axes.value = "YX"
    assert "name 2 dimensions but the image has 3" in panel.choice.plan.text()
    panel.run_all()
    assert not panel.job.running
    assert "name 2 dimensions but the image has 3" in heard[0].message


def test_closing_the_panel_stops_the_job(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method, **ENDLESS)
    panel.run_all()
    wait_for_preview(qtbot, panel)
    viewer.window.remove_dock_widget(panel)
    finish(qtbot, panel, 1000)
    assert len(viewer.layers) == 1
    left = weakref.ref(panel)
    del panel
    qtbot.wait(50)
    gc.collect()
    assert left() is None


def test_deleting_the_panel_stops_the_job(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method, **ENDLESS)
    panel.run_all()
    wait_for_preview(qtbot, panel)
    job = panel.job
    panel.deleteLater()
    qtbot.waitUntil(lambda: not job.running, timeout=1000)


def test_closing_the_viewer_stops_the_job(qtbot, make_napari_viewer, open_panel, method):
    viewer = make_napari_viewer()
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method, **ENDLESS)
    panel.run_all()
    wait_for_preview(qtbot, panel)
    job = panel.job
    del panel
    viewer.close()
    qtbot.waitUntil(lambda: not job.running, timeout=1000)
    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=1000)


def test_the_window_stays_responsive(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((96, 96)))
    panel = open_panel(viewer, method, steps=300)
    ticks: list[float] = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start(20)
    panel.run_all()
    finish(qtbot, panel, 60_000)
    timer.stop()
    assert len(ticks) > 10
    assert max(np.diff(ticks)) < 0.5


def test_previews_are_shown_in_one_layer_and_are_computed_elsewhere(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((2, 64, 64)), name="cells")
    panel = open_panel(viewer, method, **ENDLESS)
    previews: list[Preview] = []
    panel.job.said.connect(lambda event: previews.append(event) if isinstance(event, Preview) else None)
    panel.run_all()
    qtbot.waitUntil(lambda: len(previews) > 2, timeout=20_000)
    assert len(viewer.layers) == 2
    shown = viewer.layers[-1].data
    np.testing.assert_array_equal(shown[0], previews[-1].data)
    np.testing.assert_array_equal(shown[1], viewer.layers[0].data[1])
    assert isinstance(previews[-1].data, np.ndarray)
    panel.stop()


def test_preview_here_restores_what_can_be_seen_and_puts_it_there(qtbot, make_napari_viewer_proxy, open_panel, method):
    viewer = make_napari_viewer_proxy(show=True)
    layer = viewer.add_image(noisy((3, 256, 256)), name="cells", scale=(2, 0.5, 0.5), rotate=TURN, translate=(0, 7, 9))
    viewer.dims.set_current_step(0, 1)
    panel = open_panel(viewer, method)
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera  # napari < 0.9
    camera.center = (0, *layer.data_to_world((1, 100, 120))[1:])
    camera.zoom = 6
    qtbot.wait(100)
    panel.preview.native.click()
    finish(qtbot, panel)
    shown = viewer.layers["cells preview"]
    assert shown.data.shape[0] == 1
    height, width = shown.data.shape[1:]
    assert 64 <= height < 256
    assert 64 <= width < 256
    start = np.rint(layer.world_to_data(shown.data_to_world((0, 0, 0)))).astype(int)
    assert start[0] == 1
    assert start[1] < 100 < start[1] + height
    assert start[2] < 120 < start[2] + width
    cut = layer.data[1, start[1] : start[1] + height, start[2] : start[2] + width]
    assert np.corrcoef(cut.ravel(), shown.data.ravel())[0, 1] > 0.5
    panel.preview.native.click()
    finish(qtbot, panel)
    assert [one.name for one in viewer.layers] == ["cells", "cells preview"]


def test_a_part_of_a_lazy_stack_is_read_only_where_it_is_needed(qtbot, viewer, open_panel, method):
    read: list[int] = []

    def load(block_info: Any = None) -> np.ndarray:
        read.append(block_info[None]["chunk-location"][0])
        return noisy((1, 64, 64))

    lazy = da.map_blocks(load, chunks=((1,) * 6, (64,), (64,)), dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    viewer.add_image(lazy, contrast_limits=(0, 200))
    panel = open_panel(viewer, method)
    panel.choice.ranges["T"].value = "4:6"
    assert panel.choice.plan.text() == "Fits Y 64 × X 64 together, one after the other over T (2)."
    read.clear()
    panel.run_all()
    finish(qtbot, panel)
    assert set(read) == {4, 5}
    assert viewer.layers[-1].data.shape == (2, 64, 64)
    assert viewer.layers[-1].translate[0] == 4


def test_a_result_comes_even_when_its_preview_was_deleted(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, method, **ENDLESS)
    panel.run_all()
    wait_for_preview(qtbot, panel)
    viewer.layers.remove(panel.model.layer)
    panel.keep.native.click()
    finish(qtbot, panel, 5000)
    assert len(viewer.layers) == 2


def test_the_panel_follows_the_layers(viewer, open_panel, method):
    panel = open_panel(viewer, method)
    assert not panel.start.enabled
    viewer.add_labels(np.zeros((64, 64), int), name="labels")
    assert panel.choice.name.choices == ()
    first = viewer.add_image(noisy((64, 64)), name="first")
    viewer.add_image(noisy((3, 64, 64)), name="second")
    assert panel.choice.name.choices == ("first", "second")
    assert panel.choice.layer.name == "first"
    first.name = "renamed"
    assert panel.choice.name.value == "renamed"
    viewer.layers.remove("renamed")
    assert panel.choice.layer.name == "second"
    assert panel.choice.axes.value == "TYX"


def test_what_can_be_fitted_together_follows_from_the_axes(viewer, open_panel, method):
    viewer.add_image(noisy((2, 3, 64, 64)), axis_labels=("t", "z", "y", "x"))
    choice = open_panel(viewer, method).choice
    assert list(choice.together.choices) == ["", "TYX", "ZYX"]
    choice.together.value = "ZYX"
    assert choice.plan.text() == "Fits Z 3 × Y 64 × X 64 together, one after the other over T (2)."
    assert set(choice.ranges) == {"T", "Z"}


def test_a_preset_sets_the_form_and_the_recipe_says_what_the_form_says(viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    for preset in METHODS[method].presets:
        panel.preset.value = preset
        # also the one that was chosen before gives its values back when it is chosen again
        panel.preset.native.activated.emit(0)
        assert panel.form.values() == METHODS[method].settings(preset).model_dump()
    panel.form.set({"steps": 77})
    assert panel.question.recipe({}).params.steps == 77


def test_the_menu_opens_the_panel(make_napari_viewer, method):
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-pristine", METHODS[method].title)
    assert panel.method is METHODS[method]
    assert panel.viewer is viewer
