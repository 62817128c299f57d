"""Takes the pictures of the panels: `xvfb-run -a -s "-screen 0 1600x1200x24" python docs/make_screenshots.py [PRESET]`.

Opens the real napari window, loads the simulated time-lapse, restores it with the panel as a user would, and writes
docs/pictures/panel_running.png and docs/pictures/panel_done.png; then a folder with the Batch panel:
docs/pictures/batch_panel.png.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_pristine import write
from napari_pristine.events import Preview
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe
from napari_pristine.samples import simulate_timelapse

PICTURES = Path(__file__).parent / "pictures"


def wait(until: Callable[[], bool], seconds: float) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds} seconds")
        QApplication.processEvents()
        time.sleep(0.01)


def pause(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() >= end, seconds + 1)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    preset = sys.argv[1] if len(sys.argv) > 1 else "balanced"
    one_image(preset)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # the picture shows names without a place
        many_files(preset)


def one_image(preset: str) -> None:
    """The panel of a method, at work and done."""
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 1000)
    viewer.open_sample("napari-pristine", "timelapse")
    _, panel = viewer.window.add_plugin_dock_widget("napari-pristine", "INR denoise")
    noisy = viewer.layers["time-lapse"]
    noisy.contrast_limits = (98, 165)
    viewer.dims.set_current_step((0, 1), (0, 1))
    panel.choice.ranges["T"].value = "0"
    panel.choice.ranges["C"].value = "1"
    viewer.reset_view()
    pause(1)
    panel.preset.value = preset
    previews: list[object] = []
    panel.job.said.connect(lambda event: previews.append(event) if isinstance(event, Preview) else None)
    panel.run_all()
    # the first preview comes too early to show anything
    wait(lambda: len(previews) > 1 or not panel.job.running, 300)
    pause(0.3)
    viewer.screenshot(str(PICTURES / "panel_running.png"), canvas_only=False, flash=False)
    wait(lambda: not panel.job.running, 300)
    pause(0.5)
    viewer.screenshot(str(PICTURES / "panel_done.png"), canvas_only=False, flash=False)
    viewer.close()


def many_files(preset: str) -> None:
    """The Batch panel, done, with one of the results in the viewer."""
    night = Path("2026-11-20 night")
    night.mkdir()
    for number in range(3):
        image, _ = simulate_timelapse((160, 192), frames=2, seed=number)
        write(night / f"position {number + 1}.ome.tif", image)
    (night / "notes.txt").write_text("focus drifted after midnight")
    (night / "position 4.ome.tif").touch()
    save_recipe("denoise.yaml", Recipe(method="inr", preset=preset))
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 900)
    _, panel = viewer.window.add_plugin_dock_widget("napari-pristine", "Batch")
    panel.form.recipe.set_name("denoise.yaml")
    panel.form.inputs.add([str(night)])
    panel.form.output.set_name("restored")
    panel.make_plan()
    wait(lambda: not panel.job.running, 300)
    panel.run_all()
    wait(lambda: not panel.job.running, 600)
    panel.show_line(panel.table.index(1, 0))
    viewer.reset_view()
    pause(1)
    viewer.screenshot(str(PICTURES / "batch_panel.png"), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
