"""Take the pictures of the panels: `xvfb-run -a -s "-screen 0 1600x1200x24" python docs/make_screenshots.py [PRESET]`.

Opens napari, restores the simulated time-lapse with the restore panel, and writes docs/pictures/panel_running.png and
docs/pictures/panel_done.png; compares two results and writes docs/pictures/compare_panel.png; then restores a folder
with the Batch panel and writes docs/pictures/batch_panel.png.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_pristine import write
from napari_pristine.events import Preview
from napari_pristine.gui.compare_panel import open_compare
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe
from napari_pristine.samples import simulate_timelapse

PICTURES = Path(__file__).parent / "pictures"


def wait(condition: Callable[[], bool], timeout: float) -> None:
    """Process events of the window until a condition holds; raises a `TimeoutError` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"the condition did not hold within {timeout} seconds")
        QApplication.processEvents()
        time.sleep(0.01)


def pause(seconds: float) -> None:
    """Process events of the window for a while."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() >= end, seconds + 1)


def save_screenshot(viewer: napari.Viewer, name: str) -> None:
    """Save a picture of the whole window."""
    viewer.screenshot(str(PICTURES / name), canvas_only=False, flash=False)


def show_restore_panel(preset: str) -> None:
    """Take pictures of the restore panel while it runs and when it is done."""
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 1000)
    viewer.open_sample("napari-pristine", "timelapse")
    _, panel = viewer.window.add_plugin_dock_widget("napari-pristine", "Restore")
    noisy = viewer.layers["time-lapse"]
    noisy.contrast_limits = (98, 165)
    viewer.dims.set_current_step((0, 1), (0, 1))
    for axis, index in (("T", "0"), ("C", "1")):
        panel.form.layer_select.ranges[axis].value = index
    viewer.reset_view()
    pause(1)
    panel.form.effort.value = preset
    previews: list[object] = []
    panel.runner.yielded.connect(lambda event: previews.append(event) if isinstance(event, Preview) else None)
    panel.run()
    wait(lambda: len(previews) > 1 or not panel.runner.running, 300)  # the first preview shows little
    pause(0.3)
    save_screenshot(viewer, "panel_running.png")
    wait(lambda: not panel.runner.running, 300)
    pause(0.5)
    save_screenshot(viewer, "panel_done.png")
    viewer.close()


def show_compare_panel() -> None:
    """Take a picture of the Compare panel with two results, side by side."""
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-pristine", "timelapse")
    noisy, truth = viewer.layers["time-lapse"], viewer.layers["time-lapse, truth"]
    noisy.contrast_limits = truth.contrast_limits = (98, 165)
    viewer.dims.set_current_step((0, 1), (2, 1))
    _, panel = viewer.window.add_plugin_dock_widget("napari-pristine", "Pretrained denoise")
    for effort in ("fast", "balanced"):
        panel.form.layer_select.image_box.choose(noisy)
        panel.form.effort.value = effort
        panel.run()
        wait(lambda: not panel.runner.running, 600)
    compare = open_compare(viewer, noisy)
    compare.form.reference_box.choose(truth)
    compare.show_grid()
    wait(lambda: compare.grid.shown and compare.comparisons is not None, 60)
    compare.tabs.setCurrentIndex(1)
    pause(1)
    wait(lambda: not compare.busy, 60)
    save_screenshot(viewer, "compare_panel.png")
    with Image.open(PICTURES / "compare_panel.png") as picture:  # noise takes much space in all its colours
        picture.convert("RGB").quantize(128).save(PICTURES / "compare_panel.png", optimize=True)
    viewer.close()


def show_batch_panel(preset: str) -> None:
    """Take a picture of the Batch panel when it is done, with one of the results in the viewer."""
    folder = Path("2026-11-20 night")
    folder.mkdir()
    for number in range(3):
        image, _ = simulate_timelapse((160, 192), frames=2, seed=number)
        write(folder / f"position {number + 1}.ome.tif", image)
    (folder / "notes.txt").write_text("focus drifted after midnight")
    (folder / "position 4.ome.tif").touch()
    save_recipe("denoise.yaml", Recipe(method="inr", preset=preset))
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 900)
    _, panel = viewer.window.add_plugin_dock_widget("napari-pristine", "Batch")
    panel.form.recipe.set_path("denoise.yaml")
    panel.form.inputs.add([str(folder)])
    panel.form.output.set_path("restored")
    panel.plan()
    wait(lambda: not panel.runner.running, 300)
    panel.run()
    wait(lambda: not panel.runner.running, 600)
    panel.show_row(panel.table.index(1, 0))
    viewer.reset_view()
    pause(1)
    save_screenshot(viewer, "batch_panel.png")
    viewer.close()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    chosen = sys.argv[1] if len(sys.argv) > 1 else "balanced"
    show_restore_panel(chosen)
    show_compare_panel()
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):  # so that the picture shows short paths
        show_batch_panel(chosen)
