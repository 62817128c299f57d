"""Takes the pictures of the panel: `xvfb-run -a -s "-screen 0 1600x1200x24" python docs/make_screenshots.py [PRESET]`.

Opens the real napari window, loads the simulated time-lapse, restores it with the panel as a user would, and writes
docs/pictures/panel_running.png and docs/pictures/panel_done.png.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_pristine.events import Preview

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
    panel.preset.value = sys.argv[1] if len(sys.argv) > 1 else "balanced"
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


if __name__ == "__main__":
    main()
