"""The Batch panel: planning, running, stopping and resuming; the same pixels as the restore panel."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ENDLESS, QUICK, cells, menu_that_triggers, noisy, wait_until_active, wait_until_idle
from qtpy.QtCore import QMimeData, QPointF, Qt, QThreadPool, QUrl
from qtpy.QtGui import QDesktopServices, QDropEvent
from tests.batches import plate, series

from napari_pristine import read, write
from napari_pristine.batch.store import HIDDEN
from napari_pristine.gui.batch_job import BatchRequest, BatchSettings
from napari_pristine.gui.batch_panel import BatchPanel, open_batch_with
from napari_pristine.gui.file_layers import add_file
from napari_pristine.image.image import Image
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.methods import METHODS
from napari_pristine.model import Model
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import load_recipe, save_recipe
from napari_pristine.resources import cpu_count

pytestmark = pytest.mark.gui


def result(panel: BatchPanel, name: str) -> np.ndarray:
    return np.asarray(read(Path(panel.form.output.path()) / name).data)


def test_the_plan_shows_each_file_and_writes_nothing(qtbot, open_batch, folder):
    panel = open_batch()
    panel.plan_button.click()
    assert not panel.plan_button.isEnabled()
    assert panel.stop_button.isEnabled()
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Size")["a stack.ome.tif"] == "T 3 × C 2 × Y 32 × X 40"
    assert cells(panel, "Type")["plane.tif"] == "uint16"
    assert cells(panel, "Time")["plane.tif"].startswith("≈ ")
    assert cells(panel, "Memory")["plane.tif"].endswith(" GB")
    assert "C 2 × T 3" in cells(panel, "Blocks")["a stack.ome.tif"]
    status = cells(panel, "Status")
    assert status["a stack.ome.tif"] == "can be restored"
    assert status["notes.txt"] == "skipped: not an image that can be read (suffix '.txt')"
    assert status["empty.tif"].startswith("cannot be restored: 'empty.tif' is empty (0 bytes)")
    assert panel.status.text().startswith("2 of 4 files can be restored, about ")
    assert not (folder.parent / "restored").exists()
    assert panel.plan_button.isEnabled()
    assert not panel.report_button.isEnabled()


def test_run_restores_the_images_and_reports_the_other_files(qtbot, open_batch, monkeypatch):
    panel = open_batch()
    panel.run_button.click()
    wait_until_idle(qtbot, panel)
    status = cells(panel, "Status")
    assert status["plane.tif"].startswith("restored: removed ")
    assert "× the noise level" in status["plane.tif"]
    assert status["empty.tif"].startswith("failed: 'empty.tif' is empty")
    assert status["notes.txt"].startswith("skipped: not an image")
    assert panel.status.text().startswith("Done: 2 restored, 1 skipped, 1 failed, of 4 files.")
    assert panel.bar.value() == panel.bar.maximum()
    assert result(panel, "a stack.ome.tif").shape == (3, 2, 32, 40)
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    panel.report_button.click()
    assert Path(opened[0].toLocalFile()) == Path(panel.form.output.path()) / "report.html"

    panel.run()
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Status")["plane.tif"] == "done before"
    assert panel.status.text().startswith("Done: 0 restored, 2 done before, 1 skipped, 1 failed, of 4 files.")
    panel.plan()
    wait_until_idle(qtbot, panel)
    assert panel.status.text() == "0 of 4 files can be restored, 2 done before."

    panel.form.use_recipe(Recipe(method="inr", preset="fast", settings=QUICK["inr"] | {"steps": 21}, device="cpu"))
    for replace in (False, True):
        panel.form.settings.set_values({"replace_results": replace})
        panel.run()
        wait_until_idle(qtbot, panel)
        expected = "restored: removed" if replace else (
            "not replaced: 'plane.tif' already exists, made by another recipe (steps 20, now 21); 'Replace results' "
        )  # fmt: skip
        assert cells(panel, "Status")["plane.tif"].startswith(expected)
    assert "INR: 4 files" in (Path(panel.form.output.path()) / "report.html").read_text()


def test_stop_keeps_what_is_finished_and_run_goes_on(qtbot, open_batch, recipe):
    slow = QUICK["inr"] | {"steps": 80, "holdout": 0.1}  # one block after the other: each may stop at another step
    save_recipe(recipe, Recipe(method="inr", preset="fast", settings=slow, device="cpu"), overwrite=True)
    whole = open_batch()
    whole.run()
    wait_until_idle(qtbot, whole)
    expected = {name: result(whole, name) for name in ("a stack.ome.tif", "plane.tif")}

    panel = open_batch()
    panel.form.output.set_path(str(recipe.parent / "again"))
    panel.run()
    wait_until_active(qtbot, panel, 0.2)  # a block of six
    assert any(text.startswith("restoring ") for text in cells(panel, "Status").values())
    panel.stop_button.click()
    assert not panel.stop_button.isEnabled()
    wait_until_idle(qtbot, panel)
    assert panel.status.text().startswith("Stopped: 0 restored, 1 partial, of 4 files. Finished files and blocks are")
    assert cells(panel, "Status")["a stack.ome.tif"] == "partial; finished blocks are kept"
    assert cells(panel, "Status")["plane.tif"] == "not restored"
    assert list((recipe.parent / "again").glob("*.tif")) == []
    panel.run_button.click()
    wait_until_idle(qtbot, panel)
    for name, values in expected.items():
        np.testing.assert_array_equal(result(panel, name), values)
    assert not (recipe.parent / "again" / HIDDEN).exists()


def test_closing_the_panel_stops_the_batch(qtbot, window_viewer, open_batch):
    panel = open_batch(in_viewer=window_viewer)
    threads = torch.get_num_threads()
    panel.run()
    wait_until_active(qtbot, panel)
    window_viewer.window.remove_dock_widget(panel)
    wait_until_idle(qtbot, panel)
    assert torch.get_num_threads() == threads
    assert not list(Path(panel.form.output.path()).glob("plane.tif"))
    left = weakref.ref(panel)
    del panel
    qtbot.wait(50)
    gc.collect()
    assert left() is None


def test_closing_the_viewer_stops_the_batch_and_unlocks_the_files(qtbot, make_napari_viewer, folder, recipe):
    viewer = make_napari_viewer()
    panel = BatchPanel(viewer)
    viewer.window.add_dock_widget(panel)
    save_recipe(recipe, Recipe(method="inr", preset="fast", settings=QUICK["inr"] | ENDLESS), overwrite=True)
    panel.form.recipe.set_path(str(recipe))
    panel.form.inputs.add([str(folder / "plane.tif")])
    panel.form.output.set_path(str(folder / "out"))
    panel.run()
    wait_until_active(qtbot, panel)
    job = panel.runner
    del panel
    viewer.close()
    qtbot.waitUntil(lambda: not job.running, timeout=60_000)
    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=60_000)
    assert not list(folder.rglob("*.lock"))


def test_a_plan_can_be_stopped(qtbot, open_batch):
    panel = open_batch()
    panel.plan()
    qtbot.waitUntil(lambda: bool(panel.table.rows), timeout=60_000)
    panel.stop_button.click()
    wait_until_idle(qtbot, panel)
    assert panel.status.text().startswith("Stopped: ")
    assert "of 4 files were not planned" in panel.status.text()
    assert cells(panel, "Status")["plane.tif"] == "not planned"


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        (lambda form: form.recipe.set_path(""), "choose a recipe"),
        (lambda form: form.inputs.clear(), "add images"),
        (lambda form: form.output.set_path(""), "choose a folder"),
    ],
    ids=["recipe", "inputs", "output"],
)
def test_missing_input_is_reported(open_batch, notifications, leave_out, message):
    panel = open_batch()
    leave_out(panel.form)
    panel.run_button.click()
    assert message in notifications[0].message
    assert not panel.runner.running


def test_the_recipe_is_summarised_or_its_error_shown(qtbot, open_batch, notifications, tmp_path):
    panel = open_batch()
    assert panel.form.recipe_summary.text() == "INR · quick"
    (tmp_path / "wrong.yaml").write_text("method: inr\nsettings: {stepps: 3}\n")
    panel.form.recipe.set_path(str(tmp_path / "wrong.yaml"))
    assert "stepps" in panel.form.recipe_summary.text()
    panel.run()
    wait_until_idle(qtbot, panel)
    assert "stepps" in notifications[0].message
    assert panel.run_button.isEnabled()


def test_files_can_be_dropped_and_removed(qtbot, open_batch, folder):
    panel = open_batch()
    inputs = panel.form.inputs
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(folder / "plane.tif")), QUrl.fromLocalFile(str(folder)), QUrl("http://a/b")])
    inputs.dropEvent(
        QDropEvent(
            QPointF(5, 5), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        )
    )
    assert inputs.paths() == [str(folder), str(folder / "plane.tif")]
    assert not panel.form.remove_button.isEnabled()
    inputs.item(0).setSelected(True)
    panel.form.remove_button.click()
    assert inputs.paths() == [str(folder / "plane.tif")]
    inputs.item(0).setSelected(True)
    qtbot.keyClick(inputs, Qt.Key.Key_Delete)
    assert inputs.paths() == []


def test_a_file_can_be_dropped_on_a_field(open_batch, recipe, folder):
    panel = open_batch()
    for field, path in ((panel.form.recipe, recipe), (panel.form.output, folder)):
        mime = QMimeData()
        mime.setUrls([QUrl.fromLocalFile(str(path))])
        field.line.dropEvent(
            QDropEvent(
                QPointF(5, 5), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
            )
        )
        assert field.path() == str(path)


@pytest.mark.parametrize(("workers", "threads"), [(1, 7), (2, 3)])
def test_a_cpu_is_left_for_the_window(folder, recipe, monkeypatch, workers, threads):
    monkeypatch.setattr("napari_pristine.resources.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    settings = BatchSettings.model_construct(**BatchSettings().model_dump() | {"workers": workers})
    spec = BatchRequest(recipe, (str(folder),), folder.parent / "out", settings).resolve()
    assert spec.options.threads == threads


@pytest.mark.skipif(cpu_count() < 2, reason="there is one core")
def test_workers_give_what_this_process_gives(qtbot, open_batch, folder):
    found = []
    for workers in (1, 2):
        panel = open_batch()
        output = folder.parent / f"restored by {workers}"
        panel.form.output.set_path(str(output))
        panel.form.settings.set_values({"workers": workers, "threads": 1})
        panel.run()
        wait_until_idle(qtbot, panel)
        found.append({path.name: read(path).data.tobytes() for path in output.rglob("*.tif")})
    assert found[0] == found[1] != {}


def test_a_finished_row_shows_image_and_result(qtbot, viewer, open_batch, folder):
    panel = open_batch(folder / "a stack.ome.tif")
    panel.run()
    wait_until_idle(qtbot, panel)
    panel.view.activated.emit(panel.table.index(0, 0))
    names = ["a stack · DAPI", "a stack · GFP", "a stack · restored · DAPI", "a stack · restored · GFP"]
    assert [layer.name for layer in viewer.layers] == names
    for before, after in zip(list(viewer.layers)[:2], list(viewer.layers)[2:], strict=True):
        assert tuple(after.scale) == tuple(before.scale) == (30, 0.2, 0.2)
        assert after.units == before.units
        assert [str(unit) for unit in after.units] == ["second", "micrometer", "micrometer"]
        assert after.contrast_limits == before.contrast_limits
        assert (before.visible, after.visible) == (False, True)
        assert type(after.data).__module__.startswith("dask")
    assert viewer.layers[-1].metadata["pristine"]["recipe"]["method"] == "inr"
    np.testing.assert_array_equal(viewer.layers[-1].data, result(panel, "a stack.ome.tif")[:, 1])


def test_a_result_in_another_format_opens_in_the_same_place(qtbot, viewer, open_batch, recipe, folder):
    save_recipe(
        recipe, Recipe(method="inr", settings=QUICK["inr"], device="cpu", format="ome-zarr"), overwrite=True
    )  # fmt: skip
    panel = open_batch(folder / "a stack.ome.tif")
    panel.run()
    wait_until_idle(qtbot, panel)
    panel.view.activated.emit(panel.table.index(0, 0))
    assert len(viewer.layers) == 4
    for before, after in zip(list(viewer.layers)[:2], list(viewer.layers)[2:], strict=True):
        assert tuple(after.scale) == tuple(before.scale) == (30, 0.2, 0.2)
        assert after.units == before.units
        assert after.contrast_limits == before.contrast_limits
    np.testing.assert_array_equal(viewer.layers[-1].data, result(panel, "a stack.ome.zarr")[:, 1])


def test_each_image_of_a_plate_has_a_row_and_opens_with_its_result(qtbot, viewer, open_batch, tmp_path):
    plate(tmp_path / "p.zarr", wells=("A/1", "B/2"), fields=1)
    panel = open_batch(tmp_path / "p.zarr", series(tmp_path / "two.zarr"))
    panel.plan()
    wait_until_idle(qtbot, panel)
    names = ["p.zarr/A/1/0", "p.zarr/B/2/0", "two.zarr/0", "two.zarr/1"]
    assert cells(panel, "Status") == dict.fromkeys(names, "can be restored")
    panel.run()
    wait_until_idle(qtbot, panel)
    assert all(text.startswith("restored") for text in cells(panel, "Status").values())
    panel.view.activated.emit(panel.table.index(1, 0))
    assert [layer.name for layer in viewer.layers] == ["p B 2 0", "p B 2 0 · restored"]
    np.testing.assert_array_equal(viewer.layers[-1].data, result(panel, "p.zarr/B/2/0"))
    panel.view.activated.emit(panel.table.index(3, 0))
    assert [layer.name for layer in viewer.layers][-1] == "two 1 · restored · channel 2"


def test_the_inputs_of_a_batch_are_freed_when_it_has_ended(qtbot, open_batch, open_panel, viewer, folder, recipe):
    """The image, the mask and the trained network of the last file."""
    viewer.add_image(noisy((32, 32)), name="cells")
    panel = open_panel(viewer, "blind2unblind")
    panel.train()
    wait_until_idle(qtbot, panel)
    model = folder.parent / "model.safetensors"
    panel.form.model_select.save(str(model))
    panel.deleteLater()
    del panel
    mask = folder.parent / "mask.tif"
    write(mask, Image((noisy((32, 32)) > 100).astype(np.uint8), "YX"))
    fields = {"model": str(model), "mask": str(mask), "device": "cpu"}
    save_recipe(recipe, Recipe(method="blind2unblind", settings=QUICK["blind2unblind"], **fields), overwrite=True)
    qtbot.wait(1)
    gc.collect()
    assert held() == []
    batch = open_batch(folder / "plane.tif")
    batch.run()
    wait_until_idle(qtbot, batch)
    assert batch.status.text().startswith("Done: 1 restored")
    gc.collect()
    assert held() == []


def held() -> list[object]:
    """Plans and models that are alive."""
    return [found for found in gc.get_objects() if isinstance(found, (RestorationPlan, Model))]


def test_a_large_zarr_opens_with_its_coarser_levels(viewer, tmp_path):
    write(tmp_path / "large.zarr", Image(noisy((2, 600, 700)), "TYX", scale=(1, 0.5, 0.5)))
    (layer,) = add_file(viewer, tmp_path / "large.zarr")
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(2, 600, 700), (2, 300, 350)]
    assert tuple(layer.scale) == (1, 0.5, 0.5)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".zarr"])
def test_colours_open_as_colours(viewer, tmp_path, suffix):
    colours = np.stack([noisy((64, 70), seed) for seed in range(3)], axis=-1).astype(np.uint8)
    write(tmp_path / f"colours{suffix}", Image(colours, "YXS"))
    (layer,) = add_file(viewer, tmp_path / f"colours{suffix}")
    assert layer.rgb
    np.testing.assert_array_equal(layer.data, colours)


@pytest.mark.parametrize("method", METHODS)
def test_the_batch_gives_the_pixels_of_the_panel(qtbot, viewer, open_panel, open_batch, tmp_path, monkeypatch, method):
    """A layer of a file, restored by Run; and the file, by the recipe that the panel saves for it."""
    monkeypatch.setattr("napari_pristine.gui.job_runner.leave_a_core", lambda: torch.set_num_threads(1))
    image = Image(
        noisy((2, 2, 32, 40)), "TCYX", scale=(3, 1, 0.5, 0.5), units=("second", "pixel", "micrometer", "micrometer")
    )
    write(tmp_path / "cells.tif", image)
    layer = viewer.add_image(
        read(tmp_path / "cells.tif").data, scale=image.scale, units=image.units, axis_labels=tuple(image.axes)
    )
    panel = open_panel(viewer, method, sigma=None)
    assert panel.form.layer_select.layer == layer
    if METHODS[method].learn:
        panel.train()
        wait_until_idle(qtbot, panel)
        panel.form.model_select.save(str(tmp_path / "model.safetensors"))
    panel.run()
    wait_until_idle(qtbot, panel)
    assert panel.menu.save_recipe(str(tmp_path / "of the panel.yaml"))
    batch = open_batch(tmp_path / "cells.tif")
    batch.form.recipe.set_path(str(tmp_path / "of the panel.yaml"))
    batch.run()
    wait_until_idle(qtbot, batch)
    assert batch.status.text().startswith("Done: 1 restored")
    np.testing.assert_array_equal(result(batch, "cells.tif"), viewer.layers[-1].data)


def test_the_recipe_of_an_open_panel_is_used(window_viewer, open_panel, open_batch, notifications, monkeypatch):
    viewer = window_viewer
    batch = open_batch(in_viewer=viewer)
    batch.form.recipe.set_path("")
    batch.form.from_panel_button.click()
    assert "no Restore panel is open" in notifications[0].message
    viewer.add_image(noisy((64, 64)))
    method = open_panel(viewer, "linr")
    monkeypatch.setattr("napari_pristine.gui.batch_form.QMenu", menu_that_triggers(slice(1)))
    batch.form.from_panel_button.click()
    assert batch.form.recipe_summary.text().startswith("LINR · balanced")
    method.form.effort.value = "fast"
    batch.form.from_panel_button.click()
    assert batch.form.recipe_summary.text().startswith("LINR · quick")
    assert batch.form.request().recipe == method.form.recipe_for_files()


def test_a_recipe_of_a_panel_restores_a_folder_without_being_saved(qtbot, window_viewer, folder):
    recipe = Recipe(method="inr", preset="fast", settings=QUICK["inr"], device="cpu")
    panel = open_batch_with(window_viewer, recipe, [folder])
    assert (panel.form.recipe.path(), panel.form.inputs.paths()) == ("", [str(folder)])
    assert panel.form.output.path() == str(folder.parent / "night shift restored")
    panel.run()
    wait_until_idle(qtbot, panel)
    assert panel.status.text().startswith("Done: 2 restored")
    report = Path(panel.form.output.path()) / "report.html"
    for made in (report, report.with_name("plane.tif.json")):
        assert load_recipe(made).model_copy(update={"inputs": {}}) == recipe
    panel.form.recipe.set_path(str(report))  # a file that is chosen later counts
    assert panel.form.request().recipe == report
    assert open_batch_with(window_viewer, recipe.model_copy(update={"seed": 1})) is panel
    assert panel.form.request().recipe.seed == 1


def test_axes_are_for_files_with_as_many_dimensions(qtbot, open_batch, folder):
    write(folder / "volume.tif", Image(noisy((3, 32, 32)), "TYX"))
    panel = open_batch()
    panel.form.axes.setText("zyx")
    panel.plan()
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Size") == {
        "a stack.ome.tif": "T 3 × C 2 × Y 32 × X 40", "empty.tif": "", "notes.txt": "", "plane.tif": "Y 32 × X 32",
        "volume.tif": "Z 3 × Y 32 × X 32",
    }  # fmt: skip
