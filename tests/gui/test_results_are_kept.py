"""No result is lost or mixed up: with several methods, panels, images and jobs that are cancelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import ENDLESS, QUICK, noisy, wait_until_idle

from napari_pristine.errors import ImageError, PristineError
from napari_pristine.gui.mixture import Mixture
from napari_pristine.gui.origin import result_facts
from napari_pristine.image.image import Image
from napari_pristine.io.registry import read, write
from napari_pristine.jobs.context import JobContext
from napari_pristine.recipe import Recipe

pytestmark = pytest.mark.gui


def choose(panel: Any, method: str) -> None:
    panel.form.set_method(method)
    panel.form.settings.set_values(QUICK[method])


def run(qtbot: Any, panel: Any, *, preview: bool = False) -> Any:
    """Restore, or preview; returns the layer."""
    (panel.run_preview if preview else panel.run)()
    wait_until_idle(qtbot, panel)
    return panel.result.layer


def cancel(qtbot: Any, panel: Any, *, preview: bool = False) -> None:
    """Start a job that has no end, and cancel it when it is under way."""
    panel.form.settings.set_values(ENDLESS)
    steps = []
    panel.runner.yielded.connect(steps.append)
    (panel.run_preview if preview else panel.run)()
    qtbot.waitUntil(lambda: len(steps) > 3, timeout=60_000)
    panel.stop()
    wait_until_idle(qtbot, panel)
    panel.runner.yielded.disconnect(steps.append)


def press_n(viewer: Any) -> list[bool]:
    """Press and release the key; returns which layers were shown meanwhile."""
    held = next(action for key, action in viewer.keymap.items() if str(key) == "N")(viewer)
    next(held)
    shown = [layer.visible for layer in viewer.layers]
    with pytest.raises(StopIteration):
        next(held)
    return shown


def test_a_cancelled_job_after_a_preview_leaves_the_result_of_another_method(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer)
    first = run(qtbot, panel)
    before = np.array(first.data)
    run(qtbot, panel, preview=True)
    cancel(qtbot, panel)
    choose(panel, "pretrained")
    run(qtbot, panel)
    assert first in viewer.layers
    assert first.name == "cells · INR, balanced"
    np.testing.assert_array_equal(first.data, before)


def test_a_cancelled_preview_leaves_the_result_with_its_controls(qtbot, viewer, open_panel):
    cells = viewer.add_image(noisy((64, 64)), name="cells", blending="additive")
    panel = open_panel(viewer)
    first = run(qtbot, panel)
    cancel(qtbot, panel, preview=True)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=10_000)
    assert (cells.visible, first.visible) == (False, True)
    assert panel.result.can_mix


@pytest.mark.parametrize("fails", [False, True])
def test_training_that_is_cancelled_or_fails_leaves_the_result(qtbot, viewer, open_panel, monkeypatch, fails):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, "blind2unblind")
    first = run(qtbot, panel)
    panel.form.settings.set_values(ENDLESS)
    if fails:

        def fail(*_: Any) -> Any:
            raise ImageError("nothing to learn from")
            yield

        monkeypatch.setattr("napari_pristine.gui.restore_panel.training_job", fail)
    panel.train()
    panel.stop()
    wait_until_idle(qtbot, panel)
    qtbot.wait(300)
    assert first in viewer.layers
    assert first.visible


def test_only_the_new_result_is_shown(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells", blending="additive")
    panel = open_panel(viewer)
    for method in ("inr", "pretrained", "inr"):
        choose(panel, method)
        layer = run(qtbot, panel)
        assert [each for each in viewer.layers if each.visible] == [layer]


def test_a_result_of_another_image_with_the_same_name_stays(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer)
    first = run(qtbot, panel)
    before = np.array(first.data)
    viewer.layers.remove("cells")
    viewer.add_image(noisy((64, 64), 5), name="cells")
    assert run(qtbot, panel) is not first
    np.testing.assert_array_equal(first.data, before)


def test_a_result_of_a_part_does_not_replace_that_of_the_whole(qtbot, viewer, open_panel):
    viewer.add_image(noisy((2, 64, 64)), name="cells")
    panel = open_panel(viewer)
    first = run(qtbot, panel)
    panel.form.layer_select.ranges["T"].value = "0:1"
    second = run(qtbot, panel)
    assert (first.data.shape, second.data.shape) == ((2, 64, 64), (1, 64, 64))
    assert second.name == "cells · INR, balanced (part)"


def test_the_strength_of_a_panel_does_not_change_the_result_of_another(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    one, two = open_panel(viewer, "pretrained"), open_panel(viewer, "pretrained", sigma=20.0)
    run(qtbot, one)
    layer = run(qtbot, two)
    before = np.array(layer.data)
    one.controls.strength.setValue(10)
    np.testing.assert_array_equal(layer.data, before)
    assert result_facts(layer)["recipe"]["settings"]["sigma"] == 20


def test_what_is_said_follows_the_image(qtbot, viewer, open_panel):
    first = viewer.add_image(noisy((96, 96)), name="first")
    panel = open_panel(viewer, "pretrained")
    run(qtbot, panel)
    said = panel.progress.report
    assert said.verdict
    viewer.layers.selection.active = viewer.add_image(noisy((2, 64, 64), 1), name="second", axis_labels=("c", "y", "x"))
    assert panel.progress.report.verdict == ""
    assert panel.controls.isHidden()
    run(qtbot, panel)
    viewer.layers.selection.active = first
    assert panel.progress.report == said
    assert panel.menu._recipe().strength == []
    viewer.layers.clear()
    assert panel.progress.report.verdict == ""
    viewer.add_image(noisy((96, 96), 2), name="first")
    assert panel.progress.report.verdict == ""


def test_the_selected_result_is_saved(qtbot, viewer, open_panel, tmp_path, monkeypatch):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, "pretrained")
    first = run(qtbot, panel)
    choose(panel, "inr")
    run(qtbot, panel)
    proposed = []
    monkeypatch.setattr(
        "napari_pristine.gui.recipe_menu.ask_save_path",
        lambda *words: proposed.append(words[2]) or str(tmp_path / "saved.ome.tif"),
    )
    viewer.layers.selection.active = first
    panel.menu.ask_and_save_result()
    qtbot.waitUntil(lambda: not panel.menu.saving.running, timeout=60_000)
    assert proposed == ["cells Pretrained, balanced.ome.tif"]
    np.testing.assert_array_equal(read(tmp_path / "saved.ome.tif").data, first.data)


def test_a_result_is_saved_with_the_pixel_size_of_the_file(
    qtbot, napari_readers, viewer, open_panel, tmp_path, monkeypatch
):
    image = Image(noisy((3, 64, 64)), "ZYX", scale=(0.5, 0.2, 0.2), units=("micrometer",) * 3)
    write(tmp_path / "cells.ome.tif", image)
    viewer.open(tmp_path / "cells.ome.tif", plugin="napari")
    panel = open_panel(viewer, "pretrained")
    run(qtbot, panel)
    monkeypatch.setattr("napari_pristine.gui.recipe_menu.ask_save_path", lambda *_: str(tmp_path / "saved.ome.tif"))
    panel.menu.ask_and_save_result()
    qtbot.waitUntil(lambda: not panel.menu.saving.running, timeout=60_000)
    saved = read(tmp_path / "saved.ome.tif")
    assert (saved.axes, saved.scale, saved.units) == (image.axes, image.scale, image.units)
    viewer.layers.clear()
    viewer.open(tmp_path / "saved.ome.tif", plugin="napari")
    assert "This image is already a result (Pretrained, balanced)" in panel.form.facts.text()


def test_the_key_shows_the_noisy_image_and_then_what_was_shown(qtbot, viewer, open_panel):
    cells = viewer.add_image(noisy((4, 64, 64)), name="cells")
    viewer.dims.set_current_step(0, 0)
    panel = open_panel(viewer, "pretrained")
    run(qtbot, panel)
    choose(panel, "inr")
    layer = run(qtbot, panel)
    viewer.layers[1].visible = True  # the older result, too
    assert press_n(viewer) == [True, False, False]
    assert [each.visible for each in viewer.layers] == [False, True, True]
    viewer.layers[1].visible = False
    cancel(qtbot, panel)
    press_n(viewer)
    assert (cells.visible, layer.visible) == (False, True)


def test_a_step_is_used_for_the_image_that_was_fitted(qtbot, viewer, open_panel, monkeypatch):
    monkeypatch.setattr(JobContext, "preview_due", lambda _: True)
    first = viewer.add_image(noisy((64, 64)), name="first")
    panel = open_panel(viewer)
    run(qtbot, panel)
    panel.controls.step.setValue(1)
    panel.controls.step_button.click()
    wait_until_idle(qtbot, panel)
    assert panel.result.source is first
    assert panel.form.settings.values()["last_step"] is not None
    panel.form.set_method("iddp")
    assert panel.form.settings.values()["last_step"] is None


def test_a_step_after_auto_keeps_the_settings_that_were_changed(qtbot, viewer, open_panel, monkeypatch):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, "auto")
    layer = run(qtbot, panel)
    facts = dict(result_facts(layer))
    facts["recipe"] = {
        **facts["recipe"],
        "settings": {**facts["recipe"]["settings"], "hot_pixels": False, "sigma": 7.0},
        "choice": {"method": "inr", "preset": "fast"},
    }
    layer.metadata = {**layer.metadata, "pristine": facts}
    monkeypatch.setattr(panel, "_start", lambda *_, **__: None)
    panel.use_step(5)
    values = panel.form.settings.values()
    assert (panel.form.method.key, values["hot_pixels"], values["sigma"], values["last_step"]) == ("inr", False, 7.0, 5)


def test_a_loaded_recipe_without_a_network_uses_none(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, "blind2unblind")
    panel.train()
    wait_until_idle(qtbot, panel)
    assert panel.form.model_select.model is not None
    panel.form.show_recipe(Recipe(method="blind2unblind", preset="fast"))
    assert panel.form.model_select.model is None
    with pytest.raises(PristineError):
        panel.form.show_recipe(Recipe(method="blind2unblind", model="/nowhere/a.safetensors"))


def test_a_strength_that_was_loaded_counts_until_another_is_chosen(qtbot, viewer, open_panel):
    viewer.add_image(noisy((2, 64, 64)), name="cells", axis_labels=("c", "y", "x"))
    panel = open_panel(viewer, "pretrained")
    panel.form.show_recipe(Recipe(method="pretrained", preset="fast", strength=[0.4, 0.6]))
    run(qtbot, panel)
    assert panel.result.strengths == (0.4, 0.6)
    panel.controls.strength.setValue(100)
    run(qtbot, panel)
    assert panel.result.strengths == (1.0, 1.0)


def test_large_values_are_mixed_without_loss() -> None:
    mixture = Mixture(Image(np.full((4, 4), 1e8 + 3.0), "YX"), np.full((4, 4), 1e8 + 1.0), None, (0.5,))
    np.testing.assert_allclose(mixture.values(), 1e8 + 2, rtol=0, atol=0.01)


def test_a_rectangle_can_be_drawn(qtbot, viewer, open_panel):
    viewer.add_image(noisy((2, 96, 96)), name="cells", scale=(1, 0.5, 0.5))
    panel = open_panel(viewer, "pretrained")
    region = panel.form.layer_select.region
    region.value = next(value for value in region.choices if value.endswith("draw"))
    shapes = viewer.layers.selection.active
    assert shapes.mode == "add_rectangle"
    assert "draw a rectangle" in panel.form.problem
    assert not panel.run_button.isEnabled()
    shapes.add(np.array([[10, 10], [10, 79], [79, 79], [79, 10]]), shape_type="rectangle")
    assert panel.run_button.isEnabled()
    assert run(qtbot, panel).data.shape == (2, 70, 70)


def test_a_result_with_other_settings_does_not_replace_the_first(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer)
    first = run(qtbot, panel)
    panel.form.settings.set_values({"steps": 30})
    assert run(qtbot, panel).name == "cells · INR, balanced, steps 30"
    assert run(qtbot, panel).name == "cells · INR, balanced, steps 30"
    assert len(viewer.layers) == 3
    panel.form.settings.set_values({"steps": 20})
    assert run(qtbot, panel) is first
