"""Learning in the panel, saving what was learned, and restoring with it."""

from __future__ import annotations

import gc
import zipfile

import numpy as np
import pytest
from helpers import ENDLESS, QUICK, noisy, wait_until_idle
from qtpy.QtWidgets import QFileDialog

from napari_pristine.gui.models import FOLDER
from napari_pristine.gui.origin import source_name
from napari_pristine.image.image import Image
from napari_pristine.io.registry import write
from napari_pristine.jobs.restore import restore
from napari_pristine.methods import METHODS
from napari_pristine.model import load_model

LEARNERS = [key for key, method in METHODS.items() if method.learn]

pytestmark = [pytest.mark.gui, pytest.mark.parametrize("method", LEARNERS)]


def test_what_was_learned_is_saved_opened_and_restores_as_in_python(qtbot, viewer, open_panel, method, tmp_path):
    viewer.add_image(noisy((2, 64, 64)), name="cells")
    panel = open_panel(viewer, method)
    assert not panel.form.model_select.save_button.isEnabled()
    panel.form.model_select.train_button.click()
    assert panel.cancel_button.isEnabled()
    wait_until_idle(qtbot, panel)
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert "1 image (2 blocks)" in panel.form.model_select.facts.text()
    assert panel.form.model_select.save_button.isEnabled()
    assert panel.form.model_select.model.fingerprint in panel.form.recipe({}).model
    path = tmp_path / "cells.safetensors"
    panel.form.model_select.save(str(path))
    assert load_model(path).facts.images == ("cells",)
    assert panel.form.model_select.start.value == "cells"

    other = open_panel(viewer, method)
    other.form.model_select.open(str(path))
    assert other.form.model_select.start.value == "cells"
    other.run()
    wait_until_idle(qtbot, other)
    result = viewer.layers[-1]
    recipe = result.metadata["pristine"]["recipe"]
    assert recipe["model"] == str(path)
    expected = restore(noisy((2, 64, 64)), axes="TYX", model=path, settings=recipe["settings"])
    np.testing.assert_allclose(result.data.astype(int), expected.data.astype(int), atol=1)


def test_a_model_brings_its_settings_and_scratch_needs_none(viewer, open_panel, method, tmp_path, qtbot):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.train()
    wait_until_idle(qtbot, panel)
    learned = panel.form.model_select.model
    assert learned is not None
    panel.form.effort.value = "fast"
    assert panel.form.settings.values() != learned.recipe.settings
    panel.form.model_select.add(learned, "again")
    assert panel.form.settings.values() == learned.recipe.settings
    assert panel.form.effort.value == learned.recipe.preset
    panel.form.model_select.adapt.value = True
    assert panel.form.recipe({}).adapt
    panel.form.model_select.start.value = ""
    assert panel.form.model_select.model is None
    assert not panel.form.recipe({}).adapt
    assert not panel.form.model_select.adapt.enabled


def test_all_selected_layers_are_learned_from(qtbot, viewer, open_panel, method):
    layers = [viewer.add_image(noisy((64, 64), seed), name=f"cells {seed}") for seed in range(3)]
    viewer.add_labels(np.zeros((64, 64), int))
    panel = open_panel(viewer, method)
    viewer.layers.selection = {layers[0], layers[2]}
    panel.form.model_select.source.value = "all selected layers"
    panel.train()
    wait_until_idle(qtbot, panel)
    assert sorted(panel.form.model_select.model.facts.images) == ["cells 0", "cells 2"]


def test_learning_can_be_kept_and_cancelled(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method, **ENDLESS)
    panel.train()
    qtbot.waitUntil(lambda: panel.progress.curve.points[-1:] > [(1, 0.0)], timeout=20_000)
    panel.cancel_button.click()
    wait_until_idle(qtbot, panel)
    assert panel.form.model_select.model is None
    assert panel.progress.status.text() == "Cancelled"
    panel.train()
    qtbot.waitUntil(lambda: panel.progress.curve.points[-1:] > [(1, 0.0)], timeout=20_000)
    panel.keep_button.click()
    wait_until_idle(qtbot, panel)
    assert "kept after" in panel.form.model_select.facts.text()
    assert "Trained in" in panel.progress.status.text()


def test_with_a_model_learning_goes_on_from_it(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.train()
    wait_until_idle(qtbot, panel)
    first = panel.form.model_select.model
    panel.train()
    wait_until_idle(qtbot, panel)
    assert panel.form.model_select.model.facts.start == first.fingerprint


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the library of bioimage.io leaves files open
def test_a_model_is_exported_with_the_selected_image_as_its_sample(
    qtbot, viewer, open_panel, notifications, method, tmp_path, monkeypatch
):
    pytest.importorskip("bioimageio.spec", reason="pip install 'napari-pristine[bioimageio]'")
    monkeypatch.setattr("napari_pristine.gui.models.current_viewer", lambda: viewer)
    cells = viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, method)
    select = panel.form.model_select
    assert not select.export_button.isEnabled()
    panel.run()
    wait_until_idle(qtbot, panel)
    panel.train()
    wait_until_idle(qtbot, panel)
    assert select.export_button.isEnabled()
    assert source_name(viewer.layers.selection.active) == "cells"  # not the result but its source is the sample
    select.export(str(tmp_path / "model.zip"))
    assert select.export_button.text() == "Exporting …"
    qtbot.waitUntil(lambda: select.export_button.text() == "Export…", timeout=60_000)
    assert str(tmp_path / "model.zip") in notifications[-1].message
    with zipfile.ZipFile(tmp_path / "model.zip") as package:
        package.extract("input.npy", tmp_path)
    assert np.array_equal(np.load(tmp_path / "input.npy")[0, 0], cells.data)

    viewer.layers.selection.clear()
    select.export(str(tmp_path / "second.zip"))
    assert "no image is selected" in notifications[-1].message
    viewer.layers.selection.active = cells
    select.export(str(tmp_path / "model.onnx"))
    qtbot.waitUntil(lambda: "packages of bioimage.io are .zip files" in notifications[-1].message, timeout=60_000)
    assert select.export_button.text() == "Export…"
    gc.collect()  # while the warnings of those files are ignored


def test_a_second_model_does_not_throw_away_the_first(qtbot, viewer, open_panel, method, tmp_path):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    learned = []
    for _ in range(2):
        panel.form.model_select.start.value = ""
        panel.form.settings.set_values(QUICK[method])  # the choice has set the steps of the preset
        panel.train()
        wait_until_idle(qtbot, panel)
        learned.append(panel.form.model_select.model)
    assert [known.model for known in panel.form.model_select.models.values()] == learned
    assert panel.form.model_select.start.value == "unsaved model 2"
    panel.form.model_select.start.value = "unsaved model"
    assert panel.form.model_select.model is learned[0]


def test_a_file_that_is_no_model_is_refused_in_the_words_of_the_core(
    viewer, open_panel, notifications, method, tmp_path
):
    panel = open_panel(viewer, method)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x80\x04 a pickle")
    panel.form.model_select.open(str(path))
    assert "is a pickle" in notifications[0].message
    assert panel.form.model_select.model is None


def test_a_model_of_another_method_is_refused(qtbot, viewer, open_panel, notifications, method, tmp_path):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.train()
    wait_until_idle(qtbot, panel)
    path = str(tmp_path / "model.safetensors")
    panel.form.model_select.save(path)
    other = open_panel(viewer, next(key for key in LEARNERS if key != method))
    other.form.model_select.open(path)
    assert f"was trained with {method}, not with" in notifications[0].message
    assert other.form.model_select.model is None


def test_what_cannot_be_used_says_why(viewer, open_panel, method):
    panel = open_panel(viewer, method)
    select = panel.form.model_select
    assert "there is none to save" in select.facts.text()
    reasons = {
        select.train_button: "Open an image first.", select.scroll_button: "Open an image first.",
        select.save_button: "Train a network first, or open one.",
        select.adapt.native: "Train a network first, or open one.",
    }  # fmt: skip
    for widget, reason in reasons.items():
        assert not widget.isEnabled()
        assert widget.toolTip().startswith(f"{reason}\n")
    select.update_enabled(idle=False, has_image=True)
    assert select.open_button.toolTip().startswith("Wait until the running job has ended, or cancel it.\n")
    select.update_enabled(idle=True, has_image=True)
    assert select.open_button.toolTip() == "Open a trained network."


def test_only_methods_that_learn_have_the_part(viewer, open_panel, method):
    assert not open_panel(viewer, method).form.model_select.isHidden()
    assert open_panel(viewer, "inr").form.model_select.isHidden()


def test_a_fit_can_start_from_the_pretrained_network(viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.form.model_select.start.value = "pretrained"
    recipe = panel.form.recipe({})
    start = METHODS[method].from_pretrained
    assert {name: recipe.settings[name] for name in start} == start
    assert recipe.model == ""
    panel.form.effort.value = "fast"
    assert panel.form.recipe({}).settings["unet"] == "pretrained"
    panel.form.effort.value = "balanced"
    panel.form.model_select.start.value = ""
    assert panel.form.settings.values() == METHODS[method].settings("balanced").model_dump()


def test_a_network_is_trained_on_a_folder(viewer, open_panel, method, tmp_path, qtbot, monkeypatch):
    for number in range(2):
        write(tmp_path / f"{number}.tif", Image(noisy((64, 64), number), "YX"))
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.form.model_select.source.value = FOLDER
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    panel.train()
    assert not panel.runner.running
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    panel.train()
    wait_until_idle(qtbot, panel)
    assert panel.form.model_select.model.facts.images == ("0.tif", "1.tif")
