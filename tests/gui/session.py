"""A session of a user in a real window, in a process of its own: `QT_API=pyside6 python tests/gui/session.py [FOLDER]`.

Opens a sample, previews, restores, compares, saves the recipe, restores a folder by it and opens a result. Each step
checks what the user sees; if a folder is given, a picture of the window is saved there after each step. Prints the
binding, and exits with an error if an exception was raised anywhere, such as in a slot, of which Qt says nothing but a
traceback.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import napari
import numpy as np
import qtpy
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton, QSpinBox, QWidget

from napari_pristine import read, write
from napari_pristine.gui.batch_panel import BatchPanel
from napari_pristine.gui.compare_panel import ComparePanel
from napari_pristine.gui.settings_form import SettingsForm
from napari_pristine.methods import METHODS
from napari_pristine.recipe_file import load_recipe
from napari_pristine.samples import simulate_timelapse

See = Callable[[str, "QWidget | None"], None]
"""Called with the name of a step: after it, and before it with the widget that is about to be pressed."""
MICROTUBULES = 1
"""The channel of the sample that is looked at."""

raised: list[BaseException] = []


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that nobody caught, and remember it."""
    raised.append(error)
    traceback.print_exception(kind, error, trace)


def wait(seconds: float, until: Any = lambda: False) -> bool:
    """Process events of the window until a condition holds, at most that long; returns whether it holds."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    return bool(until())


def type_into_forms() -> None:
    """Type a number into the form of each method, and switch everything once."""
    for method in METHODS.values():
        form = SettingsForm(method.params)
        form.show()
        changes: list[int] = []
        form.changed.connect(lambda seen=changes: seen.append(1))
        for box in form.findChildren(QSpinBox):
            box.stepUp()
            box.selectAll()
            QTest.keyClicks(box, "70")
            QTest.keyClick(box, Qt.Key.Key_Tab)
        for preset in method.presets:
            form.set_values(method.settings(preset).model_dump())
        assert changes, f"the form of {method.key} never said that a value changed"
        form.close()


class Session:
    """What a user does, step by step.

    Args:
        viewer: A viewer with its window.
        folder: An empty folder for files.
        see: Called at each step.
    """

    def __init__(self, viewer: napari.Viewer, folder: Path, see: See = lambda *_: None) -> None:
        self.viewer, self.folder, self.see = viewer, folder, see
        self.images = folder / "2026-11-20 night"
        self.recipe = folder / "microtubules.yaml"
        self.images.mkdir()
        for number in (1, 2):
            image, _ = simulate_timelapse(frames=2, seed=number)
            write(self.images / f"position {number}.ome.tif", image)
        (self.images / "notes.txt").write_text("focus drifted after midnight")

    def play(self) -> None:
        """Do everything."""
        self.open_sample()
        self.choose_effort()
        self.preview()
        self.restore()
        self.look_at_noisy()
        self.compare()
        self.mix()
        self.save()
        self.restore_folder()
        self.open_result()

    def open_sample(self) -> None:
        """Open the sample and the panel, which measures the noise."""
        self.viewer.open_sample("napari-pristine", "timelapse")
        self.noisy, self.truth = self.viewer.layers["time-lapse"], self.viewer.layers["time-lapse, truth"]
        self.go_to(frame=0)
        self.see("sample", None)
        self.dock, self.panel = self.viewer.window.add_plugin_dock_widget("napari-pristine", "Restore")
        self.form, self.progress = self.panel.form, self.panel.progress
        assert wait(60, lambda: self.form.measured is not None), "the noise was not measured"
        wait(0.3)  # until the window is laid out
        self.viewer.reset_view()
        assert "T 5 · C 2 · Y 256 · X 256 · uint16 · 0.2 µm" in self.form.facts.text()
        assert "photon noise" in self.form.noise.text()
        assert not self.form.verticalScrollBar().isVisible(), "not everything fits into the window"
        self.see("noise", None)

    def choose_effort(self) -> None:
        """Choose the effort by its button, which says how long it takes."""
        buttons = {button.text().split()[0]: button for button in self.form.effort.findChildren(QPushButton)}
        assert list(buttons) == ["Quick", "Balanced", "Best"]
        assert all("≈" in button.text() for button in buttons.values()), "an effort does not say how long it takes"
        self.press(buttons["Quick"], "effort")
        assert buttons["Quick"].isChecked()

    def preview(self) -> None:
        """Preview one frame, then another, which uses the same layer."""
        before = len(self.viewer.layers)
        self.press(self.panel.preview_button, "preview")
        self.finish("preview")
        self.check_result("time-lapse · Auto, quick (preview)", frame=0)
        self.go_to(frame=3)
        self.see("another frame", None)
        self.press(self.panel.preview_button, "preview of another frame")
        self.finish("preview of another frame")
        self.check_result("time-lapse · Auto, quick (preview)", frame=3)
        assert len(self.viewer.layers) == before + 1, "the second preview did not use the layer of the first"

    def restore(self) -> None:
        """Restore all frames and channels."""
        self.press(self.panel.run_button, "restoring")
        assert self.panel.cancel_button.isVisible()
        self.finish("restoring")
        self.go_to(frame=1)
        self.check_result("time-lapse · Auto, quick", frame=1)
        assert self.result.data.shape == self.noisy.data.shape
        assert ": done in" in self.progress.status.text()
        assert self.progress.verdict.isVisible()
        assert self.progress.verdict.text().count("Only noise was removed.") == 2, self.progress.verdict.text()
        self.see("restored", None)

    def look_at_noisy(self) -> None:
        """Hold N to see the noisy image."""
        window = self.panel.window()
        QTest.keyPress(window, Qt.Key.Key_N)
        assert self.noisy.visible
        assert not self.result.visible
        self.see("noisy", None)
        QTest.keyRelease(window, Qt.Key.Key_N)
        assert self.result.visible
        assert not self.noisy.visible
        self.see("restored again", None)

    def compare(self) -> None:
        """Compare the result with the noisy image and with the truth, side by side."""
        self.press(self.panel.controls.compare_button, "compare")
        self.compared = self.panel.window().findChild(ComparePanel)
        assert self.compared.isVisible()
        self.compared.form.reference_box.choose(self.truth)
        assert wait(60, lambda: not self.compared.busy), "the figures were not measured"
        psnr = self.figures("PSNR (dB)")
        assert psnr[1] > psnr[0] + 5, psnr
        noise = self.figures("Noise level")
        assert noise[1] < noise[0] / 2, noise
        self.see("compare", None)
        self.press(self.compared.grid_button, "side by side")
        assert wait(60, lambda: self.compared.grid.shown and not self.compared.busy), "nothing is side by side"
        removed = self.viewer.layers[f"{self.result.name}, removed"]
        shown = {layer.name for layer in self.viewer.layers if layer.visible}
        assert shown == {layer.name for layer in (self.noisy, self.truth, self.result, removed)}
        self.compared.tabs.setCurrentIndex(1)
        self.see("side by side", None)
        QTest.mouseClick(self.compared.grid_button, Qt.MouseButton.LeftButton)
        assert self.result.visible
        assert not self.noisy.visible

    def mix(self) -> None:
        """Give back some of the noise with the slider of the strength."""
        self.dock.raise_()
        wait(0.2)
        for percent in (90, 80, 70, 60, 50):
            QTest.keyClick(self.panel.controls.strength, Qt.Key.Key_PageDown)
            assert self.panel.controls.strength_label.text() == f"{percent} %"
            self.see("strength", self.panel.controls.strength)
        plane = 1, MICROTUBULES
        half = (self.noisy.data[plane].astype(float) + self.restored[plane]) / 2
        assert np.abs(self.result.data[plane] - half).mean() < 1, "50 % are not the mean of noisy and restored"
        for _ in range(3):
            QTest.keyClick(self.panel.controls.strength, Qt.Key.Key_PageUp)
        self.see("strength", None)

    def save(self) -> None:
        """Save the result and the recipe by the menu."""
        saved = self.folder / "time-lapse restored.ome.tif"
        with patch("napari_pristine.gui.recipe_menu.ask_save_path", return_value=str(saved)):
            self.choose("Save result…")
        assert wait(60, lambda: not self.panel.menu.saving.running), "the result was not saved"
        image = read(saved)
        assert (image.axes, image.scale) == ("TCYX", (30, 1, 0.2, 0.2))
        assert np.array_equal(image.data, self.result.data)
        assert image.metadata["pristine"]["recipe"]["strength"] == [0.8]
        with patch("napari_pristine.gui.recipe_menu.ask_save_path", return_value=str(self.recipe)):
            self.choose("Save recipe…")
        recipe = load_recipe(self.recipe)
        assert (recipe.method, recipe.preset, recipe.strength) == ("auto", "fast", [0.8])
        self.see("saved", None)

    def restore_folder(self) -> None:
        """Restore a folder in the same way."""
        with patch("napari_pristine.gui.recipe_menu.QFileDialog.getExistingDirectory", return_value=str(self.images)):
            self.choose("Do this to a folder…")
        self.batch = self.panel.window().findChild(BatchPanel)
        assert self.batch.isVisible()
        assert self.batch.form.inputs.paths() == [str(self.images)]
        self.see("batch", None)
        self.press(self.batch.run_button, "batch runs")
        assert wait(120, lambda: not self.batch.runner.running), "the batch did not end"
        assert "2 restored" in self.batch.status.text(), self.batch.status.text()
        targets = [row.task.target for row in self.batch.table.rows if row.has_result]
        assert [target.name for target in targets] == ["position 1.ome.tif", "position 2.ome.tif"]
        assert all(load_recipe(target.with_name(f"{target.name}.json")).strength == [0.8] for target in targets)
        assert self.batch.report_button.isEnabled()
        self.see("batch done", None)

    def open_result(self) -> None:
        """Open a result by a double click on its row."""
        before = set(self.viewer.layers)
        view = self.batch.view
        row = next(number for number, row in enumerate(self.batch.table.rows) if row.has_result)
        place = view.visualRect(self.batch.table.index(row, 0)).center()
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
        QTest.mouseDClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
        wait(0.3)
        image, result = (layer for layer in self.viewer.layers if layer not in before)
        assert result.name == f"{image.name} · restored"
        assert [layer for layer in self.viewer.layers if layer.visible] == [image, result], "what was shown before, is"
        assert np.array_equal(np.asarray(result.data), read(self.batch.table.rows[row].task.target).data)
        self.viewer.reset_view()
        self.see("result", None)

    def press(self, button: QWidget, step: str) -> None:
        """Press a button that the user sees."""
        assert not button.visibleRegion().isEmpty(), f"'{button.text()}' is not to be seen"
        assert button.isEnabled(), f"'{button.text()}' is not enabled"
        self.see(step, button)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        wait(0.1)
        self.see(step, None)

    def choose(self, text: str) -> None:
        """Choose an entry of the menu."""
        next(action for action in self.panel.menu.actions() if action.text() == text).trigger()
        wait(0.3)

    def go_to(self, frame: int) -> None:
        """Go to a frame of the microtubules."""
        self.viewer.dims.set_current_step((0, 1), (frame, MICROTUBULES))
        wait(0.2)

    def finish(self, step: str) -> None:
        """Wait for the end of the job."""
        end = time.monotonic() + 120
        while self.panel.runner.running:
            assert time.monotonic() < end, "the job did not end"
            wait(0.5, lambda: not self.panel.runner.running)
            self.see(step, None)
        self.result = next(layer for layer in self.viewer.layers if layer.name.startswith("time-lapse · "))
        self.restored = np.array(self.result.data)

    def check_result(self, name: str, frame: int) -> None:
        """Check that the result is what the user sees, and closer to the truth than the noisy image is."""
        assert self.result.name == name
        shown = [layer for layer in self.viewer.layers if layer.visible]
        assert shown == [self.result], "other layers add up with the result"
        assert self.viewer.dims.current_step[:2] == (frame, MICROTUBULES), "the view has moved"
        truth, noisy = (layer.data[frame, MICROTUBULES] for layer in (self.truth, self.noisy))
        at = tuple(np.rint(self.result.world_to_data(self.viewer.dims.point)).astype(int)[:2])
        assert np.abs(self.result.data[at] - truth).mean() < np.abs(noisy - truth).mean() / 2

    def figures(self, title: str) -> list[float]:
        """A row of the table of Compare."""
        table = self.compared.table
        row = next(row for row in range(table.rowCount()) if table.verticalHeaderItem(row).text() == title)
        return [float(table.item(row, column).text()) for column in range(table.columnCount())]


def save_pictures(viewer: napari.Viewer, folder: Path) -> See:
    """A function that saves a picture of the window after each step."""
    folder.mkdir(parents=True, exist_ok=True)

    def see(step: str, widget: QWidget | None) -> None:
        if widget is None:
            wait(0.2)
            viewer.screenshot(str(folder / f"{len(list(folder.iterdir())):02} {step}.png"), canvas_only=False)

    return see


def main(pictures: str = "") -> None:
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1280, 800)
    type_into_forms()
    with tempfile.TemporaryDirectory() as folder:
        see = {"see": save_pictures(viewer, Path(pictures))} if pictures else {}
        session = Session(viewer, Path(folder), **see)
        session.play()
        viewer.window.add_plugin_dock_widget("napari-pristine", "Restore with LINR")
        wait(0.5)
        viewer.close()
        assert wait(60, lambda: QThreadPool.globalInstance().activeThreadCount() == 0), (
            "a thread goes on without its window"
        )


if __name__ == "__main__":
    sys.excepthook = report
    main(*sys.argv[1:2])
    sys.stdout.write(f"{qtpy.API_NAME} napari {napari.__version__}\n")
    sys.exit(bool(raised))
