"""A running batch: its progress in the table, stopping at any moment, warnings, and the actions of rows."""

from __future__ import annotations

import itertools
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ENDLESS, QUICK, cells, menu_that_triggers, noisy, wait_until_active, wait_until_idle
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication

from napari_pristine import write
from napari_pristine.batch.processes import local_executor
from napari_pristine.device import why_missing
from napari_pristine.errors import FileError
from napari_pristine.events import Note
from napari_pristine.gui.batch_table import FRACTION_ROLE, STATUS
from napari_pristine.image.image import Image
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe
from napari_pristine.resources import cpu_count

pytestmark = pytest.mark.gui


def save_endless(recipe: Path) -> None:
    save_recipe(recipe, Recipe(method="inr", preset="fast", settings=QUICK["inr"] | ENDLESS), overwrite=True)


def test_each_file_shows_its_progress(qtbot, open_batch, recipe):
    save_recipe(
        recipe, Recipe(method="inr", preset="fast", settings=QUICK["inr"] | {"steps": 300}, device="cpu"),
        overwrite=True,
    )  # fmt: skip
    panel = open_batch()
    fractions: dict[str, list[float]] = {}

    def look(_: object) -> None:
        for number, row in enumerate(panel.table.rows):
            fraction = panel.table.data(panel.table.index(number, STATUS), FRACTION_ROLE)
            if fraction is not None:
                fractions.setdefault(row.task.source.name, []).append(fraction)

    panel.runner.yielded.connect(look)
    panel.run()
    wait_until_active(qtbot, panel)
    assert " of 4 files · " in panel.status.text()
    wait_until_idle(qtbot, panel)
    assert set(fractions) == {"a stack.ome.tif", "plane.tif"}
    for found in fractions.values():
        assert found == sorted(found)
        assert 0 <= found[0] < 0.5 < found[-1] <= 1
    assert all(row.fraction is None for row in panel.table.rows)


def test_an_estimate_can_be_stopped(qtbot, open_batch, recipe, monkeypatch):
    monkeypatch.setattr("napari_pristine.batch.estimate._PROBE_SECONDS", 1e6)
    save_endless(recipe)
    panel = open_batch()
    panel.plan()
    qtbot.waitUntil(lambda: "reading …" in cells(panel, "Status").values(), timeout=60_000)
    panel.stop_button.click()
    assert panel.status.text() == "Stopping …"
    assert not panel.stop_button.isEnabled()
    wait_until_idle(qtbot, panel)
    assert "were not planned" in panel.status.text()
    assert panel.run_button.isEnabled()


@pytest.mark.skipif(cpu_count() < 2, reason="there is one core")
def test_a_batch_can_be_stopped_while_its_workers_start(qtbot, open_batch):
    panel = open_batch()
    panel.form.settings.set_values({"workers": 2})
    panel.run()
    qtbot.waitUntil(lambda: len(active_children()) == 2, timeout=60_000)
    panel.stop_button.click()
    wait_until_idle(qtbot, panel)
    assert panel.status.text().startswith("Stopped")
    assert active_children() == []
    assert not list(Path(panel.form.output.path()).glob("*.tif"))


def test_notices_about_the_batch_are_shown(qtbot, open_batch, monkeypatch):
    def lacking(workers: int, threads: int | None) -> Any:
        def answers(items: Any) -> Any:
            yield Note("the cluster has no workers; waiting")
            yield from local_executor(workers, threads)(items)

        return answers

    monkeypatch.setattr("napari_pristine.gui.batch_job.local_executor", lacking)
    panel = open_batch()
    assert panel.notes.isHidden()
    panel.run()
    wait_until_idle(qtbot, panel)
    assert panel.notes.text() == "The cluster has no workers; waiting"
    assert not panel.notes.isHidden()
    panel.plan()
    assert panel.notes.isHidden()
    wait_until_idle(qtbot, panel)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is the device that should be missing")
def test_a_missing_device_is_reported(qtbot, open_batch, recipe, folder):
    save_recipe(recipe, Recipe(method="inr", settings=QUICK["inr"], device="cuda"), overwrite=True)
    panel = open_batch(folder / "plane.tif")
    for begin in (panel.plan, panel.run):
        begin()
        wait_until_idle(qtbot, panel)
        assert panel.notes.text() == f"There is no cuda device here, computing on the CPU: {why_missing('cuda')}"


def test_the_table_scrolls_along_unless_the_user_has_scrolled_away(qtbot, open_batch, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(40):
        write(many / f"{number:02}.tif", Image(noisy((24, 24), number), "YX"))
    panel = open_batch(many)
    bar = panel.view.verticalScrollBar()
    panel.plan()
    wait_until_idle(qtbot, panel)
    assert 0 <= bar.maximum() - bar.value() < panel.view.rowHeight(39) < bar.maximum()  # the last row is in view
    panel.view.scrollToTop()
    qtbot.wait(50)
    panel.view.follow(39)
    assert bar.value() == 0


def test_estimates_are_kept_for_a_run_with_the_same_recipe(qtbot, open_batch, recipe, folder):
    panel = open_batch(folder / "plane.tif")
    output = Path(panel.form.output.path())
    output.mkdir()
    write(output / "plane.tif", Image(noisy((32, 32)), "YX"))
    panel.plan()
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Status")["plane.tif"].startswith(
        "cannot be restored: 'plane.tif' already exists without a record of how it was made; 'Replace results'"
    )
    (output / "plane.tif").unlink()
    panel.plan()
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Time")["plane.tif"].startswith("≈ ")
    panel.run()
    qtbot.waitUntil(lambda: panel.table.rows[0].state == "waiting", timeout=60_000)
    assert cells(panel, "Time")["plane.tif"].startswith("≈ ")
    wait_until_idle(qtbot, panel)
    save_recipe(recipe, Recipe(method="linr", settings=QUICK["linr"], device="cpu"), overwrite=True)
    panel.run()
    assert panel.form.recipe_summary.text().startswith("LINR")  # by the file as it is now
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Time")["plane.tif"] == ""


def test_the_menu_of_a_row_opens_its_folder_and_copies_its_status(qtbot, open_batch, folder, monkeypatch):
    panel = open_batch()
    panel.run()
    wait_until_idle(qtbot, panel)
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    monkeypatch.setattr("napari_pristine.gui.batch_table.QMenu", menu_that_triggers(slice(1, None)))
    rows = {row.task.source.name: number for number, row in enumerate(panel.table.rows)}
    for name in ("plane.tif", "empty.tif"):
        place = panel.view.visualRect(panel.table.index(rows[name], 0)).center()
        panel.view.customContextMenuRequested.emit(place)
    assert [Path(url.toLocalFile()) for url in opened] == [folder.parent / "restored", folder]
    assert QApplication.clipboard().text().startswith(f"{folder / 'empty.tif'}\nfailed: ")


def test_a_row_without_a_result_shows_its_image_or_the_error(qtbot, viewer, open_batch, notifications):
    panel = open_batch()
    panel.plan()
    wait_until_idle(qtbot, panel)
    rows = {row.task.source.name: number for number, row in enumerate(panel.table.rows)}
    panel.view.activated.emit(panel.table.index(rows["plane.tif"], 0))
    assert [layer.name for layer in viewer.layers] == ["plane"]
    panel.view.activated.emit(panel.table.index(rows["empty.tif"], 0))
    assert "is empty" in notifications[-1].message


def test_tab_goes_through_the_panel_from_top_to_bottom(qtbot, open_batch):
    panel = open_batch()
    first = panel.form.recipe.line
    panel.grab()  # which lays it out
    chain = [first]
    while (part := chain[-1].nextInFocusChain()) is not first:
        chain.append(part)
    parts = [
        part for part in chain
        if panel.isAncestorOf(part) and part.isVisibleTo(panel) and part.focusPolicy() & Qt.FocusPolicy.TabFocus
    ]  # fmt: skip
    heights = [part.mapTo(panel, part.rect().center()).y() for part in parts]
    assert len(heights) > 10
    assert all(below > above - 12 for above, below in itertools.pairwise(heights))  # those in one line are not level


def test_an_error_at_the_start_is_shown(qtbot, open_batch, notifications):
    panel = open_batch()
    Path(panel.form.output.path()).write_text("no folder")
    panel.run()
    wait_until_idle(qtbot, panel)
    assert "is a file; give a folder for the results" in notifications[0].message
    assert panel.status.text().startswith("Failed: ")
    assert FileError.__name__ not in panel.status.text()
