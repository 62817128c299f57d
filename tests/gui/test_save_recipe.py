"""Save recipe…: a file that does to other images what Run does to this one; and Save result…."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import QUICK, noisy, wait_until_idle
from qtpy.QtWidgets import QFileDialog

from napari_pristine.image.image import Image
from napari_pristine.io.registry import read
from napari_pristine.jobs.restore import run, wait
from napari_pristine.methods import METHODS
from napari_pristine.recipe_file import load_recipe, recipe_of

pytestmark = pytest.mark.gui


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that is chosen in the dialog."""
    path = tmp_path / "my cells.yaml"
    monkeypatch.setattr(QFileDialog, "exec", lambda dialog: dialog.selectFile(str(path)) or 1)
    monkeypatch.setattr(QFileDialog, "selectedFiles", lambda _: [str(path)])
    return path


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_recipe_gives_the_pixels_of_run(qtbot, viewer, open_panel, notifications, answer, method):
    values = noisy((3, 64, 64))
    viewer.add_image(values, name="cells")
    panel = open_panel(viewer, method, sigma=5.5)
    panel.form.layer_select.axes.value = "ZYX"
    panel.form.layer_select.ranges["Z"].value = "1:3"
    panel.form.device_box.value = "cpu"
    panel.menu.ask_and_save()
    assert answer.name in notifications[0].message
    recipe = load_recipe(answer)
    assert recipe == panel.form.recipe(panel.form.layer_select.selected_ranges())
    assert (recipe.axes, recipe.select, recipe.device) == ("ZYX", {"Z": "1:3"}, "cpu")
    assert recipe.params.model_dump() | QUICK[method] | {"sigma": 5.5} == recipe.settings
    panel.run()
    wait_until_idle(qtbot, panel)
    expected = wait(run(Image(values, "ZYX"), recipe))
    np.testing.assert_allclose(viewer.layers[-1].data.astype(int), expected.data.astype(int), atol=1)


def test_it_can_be_saved_while_a_job_runs_and_not_without_an_image(qtbot, viewer, open_panel, answer):
    panel = open_panel(viewer)
    assert not panel.more_button.isEnabled()
    viewer.add_image(noisy((64, 64)))
    assert panel.more_button.isEnabled()
    panel.run()
    panel.menu.ask_and_save()
    assert load_recipe(answer).method == "inr"
    wait_until_idle(qtbot, panel)


def test_nothing_is_written_if_the_dialog_is_cancelled(viewer, open_panel, notifications, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(QFileDialog, "exec", lambda _: 0)
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer)
    panel.menu.ask_and_save()
    assert (list(tmp_path.iterdir()), notifications) == ([], [])


def test_a_result_is_saved_with_axes_place_and_recipe(qtbot, viewer, open_panel, notifications, monkeypatch, tmp_path):
    path = tmp_path / "cells.ome.tif"
    path.write_text("a file that the user has agreed to replace")
    monkeypatch.setattr("napari_pristine.gui.recipe_menu.ask_save_path", lambda *_: str(path))
    viewer.add_image(noisy((3, 64, 64)), name="cells", scale=(0.5, 0.1, 0.1), units=("um", "um", "um"))
    panel = open_panel(viewer, "pretrained")
    panel.form.layer_select.axes.value = "ZYX"
    panel.form.layer_select.ranges["Z"].value = "1:3"
    panel.menu.ask_and_save_result()
    assert "no result yet" in notifications[-1].message
    panel.run()
    wait_until_idle(qtbot, panel)
    panel.controls.strength.setValue(60)
    panel.menu.ask_and_save_result()
    qtbot.waitUntil(lambda: not panel.menu.saving.running)
    saved = read(path)
    assert (saved.axes, saved.scale, saved.translate) == ("ZYX", (0.5, 0.1, 0.1), (0.5, 0, 0))
    np.testing.assert_array_equal(saved.data, viewer.layers[-1].data)
    assert recipe_of(saved.metadata).strength == [0.6]
    monkeypatch.setattr("napari_pristine.gui.recipe_menu.ask_save_path", lambda *_: str(tmp_path / "no" / "cells.tif"))
    panel.menu.ask_and_save_result()
    qtbot.waitUntil(lambda: not panel.menu.saving.running)
    assert "cells.tif" in notifications[-1].message
    assert notifications[-1].type == "error"


def test_a_mask_is_named_by_its_file(napari_readers, viewer, open_panel, notifications, answer, tmp_path):
    viewer.add_image(noisy((64, 64)), name="cells")
    mask = np.zeros((64, 64), np.uint8)
    mask[3, 4] = 1
    drawn = viewer.add_labels(mask, name="drawn")
    tifffile.imwrite(tmp_path / "dead.tif", mask)
    opened = viewer.open(tmp_path / "dead.tif", plugin="napari", layer_type="labels")[0]
    panel = open_panel(viewer)
    panel.form.layer_select.mask_box.choose(drawn)
    panel.menu.ask_and_save()
    assert "the mask 'drawn' is not saved" in notifications[0].message
    assert not answer.exists()
    panel.form.layer_select.mask_box.choose(opened)
    panel.menu.ask_and_save()
    assert load_recipe(answer).mask == str(tmp_path / "dead.tif")


def test_a_network_has_to_be_saved_first(qtbot, viewer, open_panel, notifications, answer, tmp_path):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, "blind2unblind")
    panel.train()
    wait_until_idle(qtbot, panel)
    panel.menu.ask_and_save()
    assert "save it first" in notifications[0].message
    assert not answer.exists()
    panel.form.model_select.save(str(tmp_path / "cells.safetensors"))
    panel.form.model_select.adapt.value = True
    panel.menu.ask_and_save()
    recipe = load_recipe(answer)
    assert (recipe.model, recipe.adapt) == (str(tmp_path / "cells.safetensors"), True)


def test_further_pictures_of_the_scene_are_for_one_image_alone(viewer, open_panel, notifications, answer):
    for name in ("first", "second"):
        viewer.add_image(noisy((64, 64)), name=name)
    panel = open_panel(viewer, "linr")
    panel.form.extra_images.add()
    panel.menu.ask_and_save()
    assert "extra images" in notifications[0].message
    assert not answer.exists()


def test_what_cannot_be_written_is_told(viewer, open_panel, notifications, tmp_path):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer)
    panel.menu.save_recipe(str(tmp_path / "nowhere" / "recipe.yaml"))
    assert "there is no folder" in notifications[0].message
