"""A viewer, its panel with settings that take no time, and what napari tells the user."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from napari.utils.notifications import Notification, notification_manager
from quick import QUICK


@pytest.fixture(scope="session", autouse=True)
def quick_collection() -> None:
    """Garbage is looked for among what the tests make and not among all that torch and napari consist of.

    napari collects garbage whenever a layer or a viewer goes: half a second each time, and most of these tests' time.
    """
    import_module("napari_pristine.gui.panel")
    import_module("napari.qt")
    gc.collect()
    gc.freeze()


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any) -> Any:
    return make_napari_viewer_proxy()


@pytest.fixture
def open_panel(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens the panel in a viewer, as the menu does; previews come at once, not after two seconds."""
    from napari_pristine.gui.panel import Panel

    monkeypatch.setattr("napari_pristine.clock._SHOW", 0.05)
    jobs = []

    def open_one(viewer: Any, method: str = "inr", **settings: Any) -> Any:
        panel = Panel(viewer, method)
        viewer.window.add_dock_widget(panel, name=panel.method.title)
        panel.form.set(QUICK[method] | settings)
        jobs.append(panel.job)
        return panel

    yield open_one
    for job in jobs:
        job.cancel()
        qtbot.waitUntil(lambda job=job: not job.running, timeout=5000)


@pytest.fixture
def heard() -> Iterator[list[Notification]]:
    """The notifications that napari has shown."""
    notes: list[Notification] = []

    def listen(note: Notification) -> None:
        notes.append(note)

    notification_manager.notification_ready.connect(listen)
    yield notes
    notification_manager.notification_ready.disconnect(listen)
