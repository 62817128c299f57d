"""The restore panel: what users saw go wrong, and must not see again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import noisy, wait_until_idle

from napari_pristine.gui.result_layer import source_name
from napari_pristine.recipe_file import load_recipe

pytestmark = pytest.mark.gui


def test_results_are_never_proposed_as_input(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer)
    panel.run()
    wait_until_idle(qtbot, panel)
    result = viewer.layers[-1]
    assert source_name(result) == "cells"
    assert viewer.layers.selection.active == result
    second = open_panel(viewer, "iddp")
    for one in (panel, second):
        assert one.form.layer_select.layer.name == "cells"
        assert one.form.layer_select.image_box.box.choices == ("cells",)
    viewer.layers.remove("cells")
    for one in (panel, second):
        assert one.form.layer_select.layer is None


def test_additive_layers_do_not_add_up_and_the_next_job_uses_the_same_layer(qtbot, viewer, open_panel):
    cells = viewer.add_image(noisy((64, 64)), name="cells", blending="additive")
    panel = open_panel(viewer)
    for _ in range(2):
        panel.run()
        wait_until_idle(qtbot, panel)
        assert [(layer.name, layer.visible) for layer in viewer.layers] == [
            ("cells", False),
            ("cells · INR, balanced", True),
        ]
    panel.result.show_source(shown=True)
    assert cells.visible
    assert not viewer.layers[-1].visible
    panel.result.show_source(shown=False)
    viewer.layers.remove(viewer.layers[-1])
    assert cells.visible


def test_the_view_goes_to_what_is_restored_unless_the_user_moves(qtbot, viewer, open_panel):
    viewer.add_image(noisy((4, 64, 64)), name="cells")
    viewer.dims.set_current_step(0, 3)
    panel = open_panel(viewer, "pretrained")
    panel.form.layer_select.ranges["T"].value = "0:2"
    panel.run()
    wait_until_idle(qtbot, panel)
    assert viewer.dims.current_step[0] in (0, 1)
    viewer.dims.set_current_step(0, 0)
    panel.form.layer_select.ranges["T"].value = "2:4"
    moved: list[Any] = []
    panel.runner.yielded.connect(lambda _: moved or (moved.append(1), viewer.dims.set_current_step(0, 1)))
    panel.run()
    wait_until_idle(qtbot, panel)
    assert viewer.dims.current_step[0] == 1


@pytest.mark.parametrize("answer", [True, False])
def test_only_restored_frames_are_kept(qtbot, viewer, open_panel, monkeypatch, answer):
    viewer.add_image(noisy((5, 64, 64)), name="cells")
    questions: list[str] = []
    monkeypatch.setattr("napari_pristine.gui.restore_panel.ask", lambda _, text, *__: questions.append(text) or answer)
    panel = open_panel(viewer, "pretrained")
    monkeypatch.setattr("napari_pristine.gui.restore_panel.ask", lambda _, text, *__: questions.append(text) or answer)
    panel.run()
    qtbot.waitUntil(lambda: len(panel._done) == 1, timeout=60_000)
    panel.keep()
    wait_until_idle(qtbot, panel)
    result = viewer.layers[-1]
    if questions and answer and len(result.data) < 5:
        assert "of 5 planes" in questions[-1]
        assert all((result.data[n] != viewer.layers[0].data[n]).any() for n in range(len(result.data)))
    else:
        assert result.data.shape == (5, 64, 64)


def test_large_jobs_and_confusable_axes_are_asked_about(viewer, open_panel, monkeypatch):
    viewer.add_image(np.zeros((500, 2, 40, 64, 64), np.uint8))
    panel = open_panel(viewer)
    assert panel.form.layer_select.axes.value == "TCZYX"
    assert "axes guessed" in panel.form.facts.text()
    questions: list[str] = []
    monkeypatch.setattr("napari_pristine.gui.restore_panel.ask", lambda _, text, *__: questions.append(text) or False)
    panel.run()
    assert not panel.runner.running
    assert "T 500 · C 2 · Z 40" in questions[0]
    monkeypatch.setattr(
        "napari_pristine.gui.restore_panel.ask", lambda _, text, *__: questions.append(text) or "guessed" in text
    )
    panel.run()
    assert not panel.runner.running
    assert "40,000 planes" in questions[-1]


def test_the_strength_is_shown_recorded_and_repeated(qtbot, viewer, open_panel, tmp_path):
    cells = viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, "pretrained")
    panel.run()
    wait_until_idle(qtbot, panel)
    restored = viewer.layers[-1].data.astype(float)
    panel.controls.strength.setValue(40)
    mixed = cells.data + 0.4 * (restored - cells.data)
    np.testing.assert_allclose(viewer.layers[-1].data, mixed, atol=0.51)
    assert viewer.layers[-1].metadata["pristine"]["recipe"]["strength"] == [0.4]
    panel.menu.copy_python()
    assert panel.menu.save_recipe(str(tmp_path / "a.yaml"))
    assert load_recipe(tmp_path / "a.yaml").axes == ""


def test_the_noise_is_told_in_words_and_efforts_have_a_time(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, "auto")
    qtbot.waitUntil(lambda: panel.form.measured is not None, timeout=60_000)
    assert "noise" in panel.form.noise.text()
    assert "≈" in panel.form.effort._buttons["fast"].text()


def test_a_rectangle_is_a_region(qtbot, viewer, open_panel):
    viewer.add_image(noisy((3, 96, 96)), name="cells")
    viewer.add_shapes([[[0, 10, 20], [0, 10, 90], [0, 80, 90], [0, 80, 20]]], name="box")
    panel = open_panel(viewer, "pretrained")
    region = panel.form.layer_select.region
    region.value = "box"
    assert panel.form.layer_select.region_ranges() == {"Y": "10:81", "X": "20:91"}
    region.value = ":plane"
    assert panel.form.layer_select.region_ranges()["Y"] == "0:96"


def test_a_verdict_is_shown(qtbot, viewer, open_panel):
    viewer.add_image(noisy((96, 96)), name="cells")
    panel = open_panel(viewer, "auto")
    panel.run()
    wait_until_idle(qtbot, panel)
    assert panel.progress.verdict.text()


def test_other_layers_are_restored_the_same_way(qtbot, viewer, open_panel):
    layers = [viewer.add_image(noisy((64, 64), seed), name=f"cells {seed}") for seed in range(3)]
    panel = open_panel(viewer, "pretrained")
    viewer.layers.selection = set(layers)
    panel.form.layer_select.image_box.choose(layers[0])
    panel.run_others()
    qtbot.waitUntil(lambda: len(viewer.layers) == 5 and not panel.runner.running, timeout=120_000)
    assert {source_name(layer) for layer in viewer.layers} == {"", "cells 1", "cells 2"}
