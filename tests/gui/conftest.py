"""Viewers, panels with settings that take no time, and the notifications that napari shows."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from helpers import QUICK, noisy
from napari.components import ViewerModel
from napari.utils.notifications import Notification, notification_manager

from napari_pristine import write
from napari_pristine.image.image import Image
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe


@pytest.fixture(scope="session", autouse=True)
def freeze_imported_objects() -> None:
    """Keep the garbage collector from visiting all objects of torch and napari, which takes half a second each time.

    napari collects garbage whenever a layer or a viewer is closed.
    """
    import_module("napari_pristine.gui.restore_panel")
    import_module("napari.qt")
    gc.collect()
    gc.freeze()


@pytest.fixture
def viewer() -> ViewerModel:
    """The model of a viewer; its window takes a second to open, and most tests need none."""
    return ViewerModel()


@pytest.fixture
def window_viewer(make_napari_viewer_proxy: Callable[[], Any]) -> Any:
    """A viewer with its window, wrapped as napari wraps it for plugins."""
    return make_napari_viewer_proxy()


def dock(qtbot: Any, viewer: Any, panel: Any, name: str) -> None:
    """Put a panel into the window of a viewer; without a window, connect it to the layers as napari does."""
    if hasattr(viewer, "window"):
        viewer.window.add_dock_widget(panel, name=name)
        return
    qtbot.addWidget(panel)
    if hasattr(panel, "reset_choices"):
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(panel.reset_choices)


@pytest.fixture
def open_panel(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens a restore panel; its previews come at once, not after two seconds."""
    from napari_pristine.gui.restore_panel import RestorePanel

    monkeypatch.setattr("napari_pristine.jobs.context._PREVIEW_SECONDS", 0.05)
    monkeypatch.setattr("napari_pristine.gui.restore_panel.ask", lambda *_: True)
    monkeypatch.setattr("napari_pristine.jobs.block.Block.is_useful", lambda *_: True)  # endless fits show previews
    monkeypatch.setattr("napari_pristine.gui.probe.slowness", lambda: 1.0)
    runners = []

    def open_one(viewer: Any, method: str = "inr", **settings: Any) -> RestorePanel:
        panel = RestorePanel(viewer, method)
        dock(qtbot, viewer, panel, panel.form.method.title)
        panel.form.settings.set_values(QUICK[method] | settings)
        runners.append(panel.runner)
        return panel

    yield open_one
    stop_all(qtbot, runners)


def stop_all(qtbot: Any, runners: list[Any]) -> None:
    for runner in runners:
        runner.cancel()
        qtbot.waitUntil(lambda runner=runner: not runner.running, timeout=60_000)


@pytest.fixture
def napari_readers(npe2pm: Any) -> Iterator[None]:
    """The readers that come with napari, for viewers without a window."""
    with npe2pm.tmp_plugin(package="napari"):
        yield


@pytest.fixture
def notifications() -> Iterator[list[Notification]]:
    """The notifications that napari has shown."""
    shown: list[Notification] = []

    def collect(notification: Notification) -> None:
        shown.append(notification)

    notification_manager.notification_ready.connect(collect)
    yield shown
    notification_manager.notification_ready.disconnect(collect)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, a text file and an empty file."""
    folder = tmp_path / "night shift"
    folder.mkdir()
    image = Image(
        noisy((3, 2, 32, 40)), "TCYX", scale=(30, 1, 0.2, 0.2), units=("second", "pixel", "micrometer", "micrometer"),
        channels=("DAPI", "GFP"),
    )  # fmt: skip
    write(folder / "a stack.ome.tif", image)
    write(folder / "plane.tif", Image(noisy((32, 32), 1), "YX"))
    (folder / "notes.txt").write_text("all is well")
    (folder / "empty.tif").touch()
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    save_recipe(path, Recipe(method="inr", preset="fast", settings=QUICK["inr"], device="cpu"))
    return path


@pytest.fixture
def open_batch(
    qtbot: Any, viewer: ViewerModel, recipe: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Opens a Batch panel that is filled in; its estimates take no time."""
    from napari_pristine.gui.batch_panel import BatchPanel

    monkeypatch.setattr("napari_pristine.batch.estimate._PROBE_SECONDS", 0.05)
    runners = []

    def open_one(*inputs: Path, in_viewer: Any = viewer) -> BatchPanel:
        panel = BatchPanel(in_viewer)
        dock(qtbot, in_viewer, panel, "Batch")
        panel.form.recipe.set_path(str(recipe))
        panel.form.inputs.add(map(str, inputs or (folder,)))
        panel.form.output.set_path(str(folder.parent / "restored"))
        runners.append(panel.runner)
        return panel

    yield open_one
    stop_all(qtbot, runners)
