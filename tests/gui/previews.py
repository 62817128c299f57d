"""Previews in a real window, in a process of its own: a layer that is removed at the wrong moment crashes napari there.

`python tests/gui/previews.py` prints the names of all layers after each preview, some of which are cancelled.
"""

from __future__ import annotations

import sys

import napari
import numpy as np
from helpers import QUICK, noisy
from session import wait

from napari_pristine.gui import probe
from napari_pristine.gui.restore_panel import RestorePanel
from napari_pristine.jobs import context
from napari_pristine.jobs.block import Block


def main() -> None:
    """Move through a stack, and cancel or preview at each frame."""
    context._PREVIEW_SECONDS = 0.05
    Block.is_useful = lambda *_: True  # type: ignore[method-assign]
    probe.slowness = lambda: 1.0  # type: ignore[assignment]
    viewer = napari.Viewer()
    viewer.add_image(noisy((6, 96, 96)), name="cells", blending="additive")
    panel = RestorePanel(viewer, "inr")
    viewer.window.add_dock_widget(panel, name="Restore")

    def preview(frame: int, *, cancel: bool) -> None:
        viewer.dims.set_current_step(0, frame)
        panel.form.settings.set_values(QUICK["inr"] | ({"steps": 100_000} if cancel else {}))
        wait(0.1)
        panel.run_preview()
        assert wait(60, lambda: panel.result.layer is not None and panel._step > 0)
        wait(0.2)
        viewer.dims.set_current_step(0, frame + 2)  # the layer is in another slice now
        wait(0.1)
        if cancel:
            panel.stop()
        assert wait(60, lambda: not panel.runner.running)
        wait(0.4)
        sys.stdout.write(" | ".join(layer.name for layer in viewer.layers) + "\n")

    for frame in range(4):
        preview(frame, cancel=True)
    for frame in range(4):
        preview(frame, cancel=False)
    shown, before = panel.result.layer, np.array(panel.result.layer.data)
    preview(0, cancel=True)
    assert panel.result.layer is shown
    assert np.array_equal(shown.data, before), "a cancelled preview has changed the one before"
    viewer.close()


if __name__ == "__main__":
    main()
