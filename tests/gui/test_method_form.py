"""The choice of method, preset and settings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from helpers import noisy
from qtpy.QtCore import Qt

from napari_pristine.gui.preferences import Preferences, read_preferences
from napari_pristine.methods import METHODS

pytestmark = pytest.mark.gui


def test_the_method_box_lists_all_methods_with_their_summaries(viewer, open_panel):
    panel = open_panel(viewer, "linr")
    box = panel.form.method_box
    assert list(box.choices) == list(METHODS)
    assert box.value == "linr"
    for row, method in enumerate(METHODS.values()):
        assert box.native.itemText(row) == method.title
        assert box.native.itemData(row, Qt.ItemDataRole.ToolTipRole) == method.summary
    assert box.native.toolTip() == METHODS["linr"].summary


def test_another_method_keeps_the_image_and_the_settings_that_all_methods_have(viewer, open_panel):
    viewer.add_image(noisy((3, 64, 64)), name="cells")
    panel = open_panel(viewer, "inr", sigma=5.5, tile=256, steps=77)
    panel.form.effort.value = "fast"
    panel.form.settings.set_values({"sigma": 5.5, "tile": 256, "steps": 77})
    panel.form.layer_select.axes.value = "ZYX"
    panel.form.layer_select.ranges["Z"].value = "1:3"
    for key, method in METHODS.items():
        panel.form.set_method(key)
        recipe = panel.form.recipe(panel.form.layer_select.selected_ranges())
        assert (recipe.method, recipe.preset, recipe.axes, recipe.select) == (key, "fast", "ZYX", {"Z": "1:3"})
        if key != "inr":  # steps and the like mean something else to each method
            assert recipe.params == method.settings("fast", {"sigma": 5.5, "tile": 256})
        assert panel.form.model_select.isHidden() == (method.learn is None)
        assert panel.form.extra_images.isHidden() == ("extra_images" not in method.params.model_fields)
    assert panel.form.layer_select.layer.name == "cells"


def test_the_method_cannot_be_changed_while_a_job_runs(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer)
    panel.run()
    assert not panel.form.method_box.enabled
    qtbot.waitUntil(lambda: not panel.runner.running, timeout=60_000)
    assert panel.form.method_box.enabled


@pytest.mark.parametrize("method", METHODS)
def test_a_preset_sets_the_form_and_the_recipe_has_the_values_of_the_form(viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    form = panel.form
    for preset in METHODS[method].presets:
        form.effort.value = preset
        form.effort.clicked.emit()  # chosen again, it undoes changes
        assert form.recipe({}).params == METHODS[method].settings(preset)
    form.settings.set_values({"tile": 77})
    assert form.recipe({}).params.tile == 77


def test_the_description_follows_image_axes_and_range(viewer, open_panel):
    panel = open_panel(viewer)
    form = panel.form
    assert form.description.text() == "There is no image layer; open an image first"
    viewer.add_image(noisy((2, 3, 64, 64)), axis_labels=("t", "z", "y", "x"))
    select = form.layer_select
    assert list(select.together.choices) == ["", "TYX", "ZYX"]
    assert set(select.ranges) == {"T", "Z"}
    assert "T 2 × Z 3" in form.description.text()
    select.together.value = "ZYX"
    assert "Z 3 × Y 64 × X 64" in form.description.text()
    select.ranges["Z"].value = "1:3"
    assert "Z 2 × Y 64 × X 64" in form.description.text()
    select.ranges["Z"].value = "7"
    assert "7" in form.description.text()
    assert form.description.styleSheet()


def test_the_choice_of_the_device_says_why_there_is_no_gpu(viewer, open_panel, monkeypatch):
    monkeypatch.setattr("napari_pristine.gui.method_form.gpu_advice", lambda: "No GPU is used: it is at the cleaner's.")
    panel = open_panel(viewer)
    assert panel.form.device_box.tooltip == "Processor that computes. No GPU is used: it is at the cleaner's."


@pytest.mark.parametrize(
    ("effort", "expected"), [("Quick", ("fast", "cpu", 5)), ("nonsense", ("balanced", "auto", 60))]
)
def test_the_preferences_of_napari_are_what_a_panel_starts_with(viewer, open_panel, monkeypatch, effort, expected):
    page = SimpleNamespace(effort=effort, device="cpu", ask_after=5)
    monkeypatch.setattr("napari.settings.get_plugin_settings", lambda _: SimpleNamespace(restore=page), raising=False)
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, "auto")
    assert (panel.form.effort.value, panel.form.device_box.value) == expected[:2]
    questions: list[str] = []
    monkeypatch.setattr("napari_pristine.gui.restore_panel.ask", lambda _, text, *__: questions.append(text) or False)
    monkeypatch.setattr(panel.form, "seconds", lambda *_: 60.0 * expected[2] + 1)
    panel.run()
    assert len(questions) == 1


def test_without_preferences_in_napari_there_are_defaults(monkeypatch):
    monkeypatch.delattr("napari.settings.get_plugin_settings", raising=False)  # as before napari 0.9
    assert read_preferences() == Preferences()


def test_times_follow_what_jobs_take(qtbot, viewer, open_panel):
    viewer.add_image(noisy((40, 256, 256)), name="cells")
    panel = open_panel(viewer, "pretrained")
    qtbot.waitUntil(lambda: panel.form.measured is not None, timeout=60_000)
    expected = panel.form.seconds("balanced")
    panel.form.learn_time(expected, 3 * expected)
    assert panel.form.seconds("balanced") == pytest.approx(3 * expected)
    assert "min" in panel.form.effort._buttons["balanced"].text()
    panel.form.learn_time(0.1, 60)  # too short to tell anything
    assert panel.form.seconds("balanced") == pytest.approx(3 * expected)
