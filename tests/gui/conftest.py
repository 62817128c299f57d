"""A viewer, its panels with settings that take no time, and what napari tells the user."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from napari.utils.notifications import Notification, notification_manager
from quick import QUICK, noisy

from napari_pristine import write
from napari_pristine.image.image import Image
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe


@pytest.fixture(scope="session", autouse=True)
def quick_collection() -> None:
    """Garbage is looked for among what the tests make and not among all that torch and napari consist of.

    napari collects garbage whenever a layer or a viewer goes: half a second each time, and most of these tests' time.
    """
    import_module("napari_pristine.gui.restore_panel")
    import_module("napari.qt")
    gc.collect()
    gc.freeze()


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any) -> Any:
    return make_napari_viewer_proxy()


@pytest.fixture
def open_panel(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens the panel in a viewer, as the menu does; previews come at once, not after two seconds."""
    from napari_pristine.gui.restore_panel import Panel

    monkeypatch.setattr("napari_pristine.jobs.clock._SHOW", 0.05)
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images and what else lies in folders."""
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
def open_batch(qtbot: Any, viewer: Any, recipe: Path, folder: Path, monkeypatch: Any) -> Iterator[Any]:
    """Opens the Batch panel as the menu does, with all filled in; probes take no time."""
    from napari_pristine.gui.batch_panel import BatchPanel

    monkeypatch.setattr("napari_pristine.batch.estimate._PROBE", 0.05)
    jobs = []

    def open_one(*inputs: Path) -> Any:
        panel = BatchPanel(viewer)
        viewer.window.add_dock_widget(panel, name="Batch")
        panel.form.recipe.set_name(str(recipe))
        panel.form.inputs.add(map(str, inputs or (folder,)))
        panel.form.output.set_name(str(folder.parent / "restored"))
        jobs.append(panel.job)
        return panel

    yield open_one
    for job in jobs:
        job.cancel()
        qtbot.waitUntil(lambda job=job: not job.running, timeout=10_000)
