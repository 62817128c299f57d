"""`python -m benchmarks panel`: how fast the window answers while the Restore panel works; needs a display."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import save_json
from napari_pristine.samples import simulate_image

_FIT_SECONDS = 12.0
"""Time for which the gaps between events are measured while a fit runs, in seconds."""


def run_panel(busy: int, side: int, json: Path | None) -> int:
    """Open napari, use the panel as a user would, and print what was measured.

    Args:
        busy: Number of other processes that compute meanwhile.
        side: Side of the image that is fitted, in pixels.
        json: File for the figures.

    Returns:
        Exit status.
    """
    others = [multiprocessing.get_context("spawn").Process(target=_compute, daemon=True) for _ in range(busy)]
    for other in others:
        other.start()
    figures: dict[str, float] = {}
    try:
        _measure(figures, side)
    finally:
        for other in others:
            other.terminate()
    print(f"\n| with {busy} other busy processes | |\n|---|--:|")
    for name, value in figures.items():
        print(f"| {name} | {value:.0f} ms |")
    if json:
        save_json(json, [{"busy": busy, **figures}])
    return 0


def _measure(figures: dict[str, float], side: int) -> None:
    import napari
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    scene = np.asarray(simulate_image((side, side), photons=20)[0].data)
    viewer = napari.Viewer(show_welcome_screen=False)
    small = viewer.add_image(scene[:512, :512], name="512")
    _wait(lambda: False, 2)

    started = time.perf_counter()
    _, panel = viewer.window.add_plugin_dock_widget("napari-pristine", "Restore")
    QApplication.processEvents()
    figures["panel open, first time"] = 1e3 * (time.perf_counter() - started)
    _wait(lambda: panel.form.measured is not None, 60)

    events: list[float] = []
    panel.runner.yielded.connect(lambda event: events.append(time.perf_counter()) if _is_preview(event) else None)
    for effort, name in (("fast", "Quick"), ("balanced", "Balanced")):
        panel.form.effort.value = effort
        events.clear()
        started = time.perf_counter()
        panel.run()
        _wait(lambda: bool(events) or not panel.runner.running, 120)
        figures[f"first useful preview of 512 × 512, {name}"] = 1e3 * ((events or [time.perf_counter()])[0] - started)
        _wait(lambda: not panel.runner.running, 120)

    viewer.layers.remove(small)
    viewer.add_image(scene, name="large")
    panel.form.set_method("inr")
    _wait(lambda: panel.form.measured is not None, 60)
    turns: list[float] = []
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(time.perf_counter()))
    timer.start(0)
    panel.run()
    _wait(lambda: False, _FIT_SECONDS)
    timer.stop()
    gaps = 1e3 * np.diff(turns)
    figures[f"gap between events while INR fits {side} × {side}, median"] = median(gaps)
    figures["the same, longest"] = float(gaps.max())

    started = time.perf_counter()
    panel.stop()
    QApplication.processEvents()
    figures["Cancel answered"] = 1e3 * (time.perf_counter() - started)
    _wait(lambda: not panel.runner.running, 60)
    figures["job gone after Cancel"] = 1e3 * (time.perf_counter() - started)
    viewer.close()


def _is_preview(event: Any) -> bool:
    from napari_pristine.events import Preview

    return isinstance(event, Preview)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    """Process events of the window until a condition holds, or for so long."""
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    while not condition() and time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.001)


def _compute() -> None:
    matrix = np.ones((300, 300))
    while True:
        matrix @ matrix
