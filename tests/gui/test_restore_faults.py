"""The restore panel: what users saw go wrong, and must not see again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from helpers import ENDLESS, noisy, wait_for_preview, wait_until_idle
from qtpy.QtCore import QPoint, QRect
from qtpy.QtWidgets import QWidget

from napari_pristine.events import Progress
from napari_pristine.gui import mixture
from napari_pristine.gui.origin import show_sources, source_name
from napari_pristine.gui.progress_view import ProgressView
from napari_pristine.jobs.context import JobContext
from napari_pristine.jobs.restore import restore, wait
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Step, StopReason
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import load_recipe
from napari_pristine.settings import settings_of

pytestmark = pytest.mark.gui


def test_previews_of_other_frames_use_one_layer_and_cancelling_them_never_crashes_the_canvas():
    previews = Path(__file__).with_name("previews.py")
    done = subprocess.run([sys.executable, previews], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    both = "cells | cells · INR, balanced (preview)"
    assert [line for line in done.stdout.splitlines() if line.startswith("cells")] == ["cells"] * 4 + [both] * 5


def test_removing_the_image_while_it_is_restored_proposes_no_result_either(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, **ENDLESS)
    panel.run()
    wait_for_preview(qtbot, panel)
    viewer.layers.remove("cells")
    panel.keep()
    wait_until_idle(qtbot, panel)
    assert panel.form.layer_select.layer is None
    assert not panel.run_button.isEnabled()


def test_results_keep_their_names_however_often_they_are_made(qtbot, viewer, open_panel):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, "pretrained")
    for run in (panel.run, panel.run_preview, panel.run, panel.run_preview, panel.run):
        run()
        wait_until_idle(qtbot, panel)
    second = open_panel(viewer, "pretrained")  # as when the panel is closed and opened again
    second.run()
    wait_until_idle(qtbot, second)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells · Pretrained, balanced"]


def test_a_cancelled_job_leaves_the_result_before_it(qtbot, viewer, open_panel):
    cells = viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer)
    panel.run()
    wait_until_idle(qtbot, panel)
    result = viewer.layers[-1]
    before, facts = np.array(result.data), dict(result.metadata)
    panel.form.settings.set_values(ENDLESS)
    panel.run()
    # a result with other settings has a layer of its own
    qtbot.waitUntil(lambda: len(viewer.layers) == 3 and not result.visible, timeout=60_000)
    panel.stop()
    np.testing.assert_array_equal(result.data, before)
    assert (result.metadata, result.visible, cells.visible) == (facts, True, False)
    wait_until_idle(qtbot, panel)
    qtbot.waitUntil(lambda: list(viewer.layers) == [cells, result], timeout=10_000)
    panel.controls.strength.setValue(0)
    np.testing.assert_array_equal(result.data, cells.data)


@pytest.mark.parametrize("seconds", [20.0, 400.0])
def test_a_slow_first_step_does_not_announce_hours(monkeypatch, seconds):
    now = [0.0]
    monkeypatch.setattr("napari_pristine.jobs.context.time.monotonic", lambda: now[0])

    def fit():
        for step in range(1, 601):
            now[0] += seconds if step == 1 else 0.05  # the first step loads libraries
            yield Step(step, 600, torch.ones(()))
        return StopReason()

    announced: list[float] = []
    context = JobContext()
    context.begin_stage(0, 40)
    wait(context.run_fit(fit()), lambda event: announced.append(event.remaining or 0.0))
    assert max(announced) == pytest.approx(40 * 600 * 0.05, rel=0.1)
    assert announced[0] == 0.0


def test_the_progress_of_a_plane_names_no_parts_and_that_of_a_stack_its_planes(qtbot, viewer):
    view = ProgressView(viewer)
    qtbot.addWidget(view)
    view.show_progress(Progress(0, 2, 3, 30, 1.4, 1.0, None))  # of LINR, which refines what it has fitted
    assert view.status.text() == "step 3 of 30"
    view.show_progress(Progress(2, 40, 3, 30, 1.4, 1.0, 7.0), 2, 40)
    assert view.status.text() == "2 of 40 planes done · step 3 of 30 · 7.0 s left"


@pytest.mark.parametrize("method", ["inr", "linr"])
def test_the_curve_ends_where_the_text_says(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(
        viewer, method, **({"blur": "gaussian", "refine": True, "rounds": 3} if method == "linr" else {})
    )
    seen: list[tuple[int, int, str]] = []

    def look(event: object) -> None:
        if isinstance(event, Progress):
            curve = panel.progress.curve
            seen.append((curve.points[-1][0], curve._steps, panel.progress.status.text().split(" · ")[0]))

    panel.runner.yielded.connect(look)
    panel.run()
    wait_until_idle(qtbot, panel)
    assert seen
    assert all(text == f"step {step} of {steps}" and step <= steps for step, steps, text in seen)
    # the figures in the text are those of the refined result, which no curve contradicts
    assert panel.progress.curve.isHidden()
    assert "the noise level" in panel.progress.summary.text()


def test_two_panels_fit_into_a_small_window(qtbot, make_napari_viewer, monkeypatch):
    monkeypatch.setattr("napari_pristine.gui.probe.slowness", lambda: 1.0)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    viewer.add_image(noisy((4, 2, 256, 256)), name="cells", axis_labels=("t", "c", "y", "x"))
    _, first = viewer.window.add_plugin_dock_widget("napari-pristine", "Restore")
    _, second = viewer.window.add_plugin_dock_widget("napari-pristine", "Restore with INR")
    qtbot.waitUntil(lambda: first.form.measured is not None and second.form.measured is not None, timeout=60_000)
    second.run_preview()
    qtbot.waitUntil(lambda: second.progress.curve.isVisible(), timeout=60_000)
    qtbot.wait(50)
    window = second.window()
    assert (window.width(), window.height()) == (1280, 800)
    assert first.visibleRegion().isEmpty()  # it is a tab
    assert not second.form.verticalScrollBar().isVisible()
    needed = [*second.form.effort._buttons.values(), second.keep_button, second.cancel_button]
    assert all(button.visibleRegion().boundingRect() == button.rect() for button in needed)
    shown = [
        child
        for child in second.progress.findChildren(QWidget)
        if child.isVisible() and child.parent() is second.progress
    ]
    places = [QRect(child.mapTo(second, QPoint(0, 0)), child.size()) for child in [second.form, *shown]]
    assert second.progress.curve in shown
    assert not any(a.intersects(b) for n, a in enumerate(places) for b in places[:n])
    second.stop()
    wait_until_idle(qtbot, second)


def test_run_is_disabled_under_an_error_and_says_why(viewer, open_panel):
    viewer.add_image(noisy((3, 64, 64)), name="cells")
    panel = open_panel(viewer)
    assert panel.run_button.isEnabled()
    panel.form.layer_select.ranges["T"].value = "5:9"
    reason = panel.form.problem
    assert "5:9" in reason
    assert panel.form.description.text() == reason
    for button in (panel.run_button, panel.preview_button):
        assert not button.isEnabled()
        assert button.toolTip() == reason
    panel.form.layer_select.ranges["T"].value = ""
    assert panel.run_button.isEnabled()


def test_several_images_of_a_scene_say_why_there_is_no_preview_and_never_take_a_small_layer(viewer, open_panel):
    cells = viewer.add_image(noisy((128, 128)), name="cells")
    viewer.add_image(noisy((128, 128)), name="blurred")
    viewer.add_image(np.ones((9, 9), np.float32), name="bead")
    viewer.layers.selection.active = cells
    panel = open_panel(viewer, "linr")
    assert panel.form.extra_images.add().layer_box.layer.name == "blurred"
    assert not panel.preview_button.isEnabled()
    assert "several images" in panel.preview_button.toolTip()
    assert panel.run_button.isEnabled()


@pytest.mark.parametrize("method", METHODS)
def test_no_text_of_a_setting_is_for_programmers(method):
    for setting in settings_of(METHODS[method].params):
        text = f"{setting.help} {setting.requirement} {setting.allowed}"
        assert not {"bool", "str", "int", "float", "NoneType"} & set(text.split()), text
        assert " 1 pixels" not in text
        assert setting.unit.split(" ")[0][:4] in text
        assert setting.title
        assert len(setting.text.split()) > 1
    assert "Named" not in Recipe.model_fields["preset"].description


def test_the_sample_that_is_downloaded_says_in_one_sentence_that_there_is_no_network(viewer, npe2pm, monkeypatch):
    def refuse(*_: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("pooch.os_cache", lambda _: Path("/nowhere"))
    monkeypatch.setattr("pooch.core.make_local_storage", lambda *_, **__: None)
    with (
        npe2pm.tmp_plugin(package="napari-pristine"),
        pytest.raises(Exception, match="could not be downloaded") as caught,
    ):
        viewer.open_sample("napari-pristine", "fmd")
    assert "\n" not in str(caught.value)
    assert "connection to the internet" in str(caught.value)
    assert "HTTPSConnectionPool" not in str(caught.value)


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
    panel.form.effort.value = "fast"
    panel.run()
    wait_until_idle(qtbot, panel)
    show_again = show_sources(viewer)
    assert [layer.visible for layer in viewer.layers] == [True, False, False]
    show_again()
    assert [layer.visible for layer in viewer.layers] == [False, False, True]
    viewer.layers.remove(viewer.layers[-1])
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
    frames = noisy((4, 96, 96))
    viewer.add_image(frames, name="cells")
    questions: list[str] = []
    panel = open_panel(viewer, steps=60, tile=64)  # tiles, so that frames are fitted one after the other
    monkeypatch.setattr("napari_pristine.gui.restore_panel.ask", lambda _, text, *__: questions.append(text) or answer)

    def keep_after_the_first(_: object) -> None:
        if len(panel._done) == 1 and not questions:
            panel.keep()

    panel.runner.yielded.connect(keep_after_the_first)
    panel.run()
    wait_until_idle(qtbot, panel)
    result = np.asarray(viewer.layers[-1].data)
    assert questions[0].startswith("1 of 4 planes is restored. Keep these")
    assert len(result) in ((1, 2, 3) if answer else (4,))  # one that was being restored meanwhile is kept, too
    assert all((result[n] != frames[n]).any() for n in range(len(result)))


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


@pytest.mark.parametrize("at_once", [2**21, 0])
def test_the_strength_holds_for_each_channel_and_the_whole_stack(qtbot, viewer, open_panel, monkeypatch, at_once):
    monkeypatch.setattr(mixture, "MIXED_AT_ONCE", at_once)
    data = noisy((3, 2, 64, 64))
    data[1, 1, 5, 7] = 60_000  # a hot pixel, which is restored at any strength
    cells = viewer.add_image(data, name="cells", axis_labels=("t", "c", "y", "x"))
    panel = open_panel(viewer, "pretrained")
    panel.run()
    wait_until_idle(qtbot, panel)
    result, controls = viewer.layers[-1], panel.controls
    restored = result.data.astype(float)
    controls.strength.setValue(50)
    assert panel.result.strengths == (0.5, 0.5)
    controls.channel_box.setChecked(True)
    viewer.dims.set_current_step(1, 1)
    controls.strength.setValue(20)
    assert isinstance(result.data, np.ndarray if at_once else da.Array)  # of large stacks, the planes that are shown
    share = np.array([0.5, 0.2]).reshape(2, 1, 1)
    mixed = cells.data + share * (restored - cells.data)
    mixed[1, 1, 5, 7] = restored[1, 1, 5, 7]
    np.testing.assert_allclose(np.asarray(result.data), mixed, atol=0.51)
    strength = result.metadata["pristine"]["recipe"]["strength"]
    assert strength == [0.5, 0.2]
    recipe = panel.menu._recipe()
    assert recipe.strength == strength
    repeated = restore(cells.data, recipe=recipe, axes="TCYX")
    np.testing.assert_allclose(repeated.data, mixed, atol=1.01)
    viewer.dims.set_current_step(1, 0)
    assert controls.strength.value() == 50
    controls.channel_box.setChecked(False)
    assert panel.result.strengths == (0.5, 0.5)
    controls.strength.setValue(100)
    np.testing.assert_array_equal(result.data, restored)


@pytest.mark.parametrize("method", ["inr", "iddp"])
def test_a_step_of_the_fit_is_used_and_repeated(qtbot, viewer, open_panel, monkeypatch, method):
    monkeypatch.setattr(JobContext, "preview_due", lambda _: True)
    cells = viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer, method, steps=40, refine=True)
    panel.run()
    wait_until_idle(qtbot, panel)
    controls, result = panel.controls, panel.result
    assert [step for step, _ in result.snapshots][:-1] == list(range(1, 41))
    assert not controls.step_button.isEnabled()
    whole = np.array(result.layer.data)
    np.testing.assert_array_equal(result.snapshots[-1][1], whole)
    controls.step.setValue(24)
    assert controls.step_label.text() == "step 25 of 40"
    np.testing.assert_array_equal(result.layer.data, result.snapshots[24][1])
    controls.step_button.click()
    wait_until_idle(qtbot, panel)
    assert "Ended after 25 of 40 steps" in panel.progress.summary.text()
    used = np.array(result.layer.data)
    assert (used != whole).any()
    recipe = panel.menu._recipe()
    assert recipe.settings["last_step"] == 25
    np.testing.assert_array_equal(restore(cells.data, recipe=recipe).data, used)


def test_the_noise_is_told_in_words_and_efforts_have_time_and_memory(qtbot, viewer, open_panel):
    viewer.add_image(np.broadcast_to(noisy((1, 64, 64)), (1000, 64, 64)), name="cells")
    panel = open_panel(viewer, "auto")
    qtbot.waitUntil(lambda: panel.form.measured is not None, timeout=60_000)
    assert "noise" in panel.form.noise.text()
    title, time, memory = panel.form.effort._buttons["fast"].text().splitlines()
    assert (title, time[0], memory[-3:]) == ("Quick", "≈", " GB")
    everything = panel.form.memory["fast"]
    panel.form.layer_select.region.value = ":plane"
    assert everything - panel.form.memory["fast"] == 2 * 999 * 64 * 64 * 2  # the result, and what is shown before it
    assert panel.form.memory.keys() == METHODS["auto"].presets.keys()


def test_a_job_that_needs_more_memory_than_there_is_asks_first(viewer, open_panel, monkeypatch):
    viewer.add_image(noisy((64, 64)), name="cells")
    panel = open_panel(viewer)
    questions: list[str] = []
    monkeypatch.setattr("napari_pristine.gui.restore_panel.ask", lambda _, text, *__: questions.append(text) or False)
    monkeypatch.setattr("napari_pristine.gui.restore_panel.free_memory", lambda: 10**8)
    panel.run()
    assert not panel.runner.running
    assert "GB of memory, of which 0.1 GB are free" in questions[0]


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
