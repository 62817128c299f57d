"""A viewer with one noisy image, and its panel with settings that take no time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import Notification, notification_manager

QUICK = {"steps": 40, "patch": 64, "width": 16, "batch": 256}
ENDLESS = QUICK | {"steps": 100_000}


def noisy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A bright disc in Poisson noise, in all planes of an image."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    disc = 20 + 80 * (np.hypot(y - shape[-2] / 2, x - shape[-1] / 2) < min(shape[-2:]) / 4)
    return np.random.default_rng(seed).poisson(np.broadcast_to(disc, shape)).astype(np.uint16)


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any) -> Any:
    return make_napari_viewer_proxy()


@pytest.fixture
def open_panel(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens the panel in a viewer, as the menu does; previews come at once, not after two seconds."""
    from napari_pristine.gui.panel import Panel

    monkeypatch.setattr("napari_pristine.run._SHOW", 0.05)
    panels = []

    def open_one(viewer: Any, method: str = "inr", **settings: Any) -> Any:
        panel = Panel(viewer, method)
        viewer.window.add_dock_widget(panel, name=panel.method.title)
        panel.form.set(QUICK | settings)
        panels.append(panel)
        return panel

    yield open_one
    for panel in panels:
        panel.job.cancel()
        qtbot.waitUntil(lambda panel=panel: not panel.job.running, timeout=5000)


@pytest.fixture
def heard() -> Iterator[list[Notification]]:
    """The notifications that napari has shown."""
    notes: list[Notification] = []

    def listen(note: Notification) -> None:
        notes.append(note)

    notification_manager.notification_ready.connect(listen)
    yield notes
    notification_manager.notification_ready.disconnect(listen)
