"""While a batch is under way: what the panel shows of it, that it can be stopped at any moment, and what it tells."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ENDLESS, QUICK, cells, noisy, wait_until_active, wait_until_idle
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication, QMenu

from napari_pristine import write
from napari_pristine.batch.executors import here, on_this_machine
from napari_pristine.batch.worker_monitor import Notice
from napari_pristine.errors import FileError
from napari_pristine.gui.batch_table import FRACTION_ROLE, STATUS
from napari_pristine.image.image import Image
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe

pytestmark = pytest.mark.gui


def endless(recipe: Path) -> None:
    save_recipe(recipe, Recipe(method="inr", preset="fast", settings=QUICK["inr"] | ENDLESS), overwrite=True)


def ended_after(qtbot: Any, panel: Any) -> float:
    """Seconds from the click on Stop to the end."""
    began = time.monotonic()
    panel.stop_button.click()
    assert panel.status.text() == "Stopping …"
    assert not panel.stop_button.isEnabled()
    qtbot.waitUntil(lambda: not panel.runner.running, timeout=5000)
    return time.monotonic() - began


def test_each_file_at_work_shows_how_far_it_is(qtbot, open_batch, recipe):
    save_recipe(
        recipe, Recipe(method="inr", preset="fast", settings=QUICK["inr"] | {"steps": 300}, device="cpu"),
        overwrite=True,
    )  # fmt: skip
    panel = open_batch()
    shares: dict[str, list[float]] = {}

    def look(_: object) -> None:
        for number, line in enumerate(panel.table.rows):
            share = panel.table.data(panel.table.index(number, STATUS), FRACTION_ROLE)
            if share is not None:
                shares.setdefault(line.task.source.name, []).append(share)

    panel.runner.yielded.connect(look)
    panel.run()
    wait_until_active(qtbot, panel)
    assert " of 4 files · " in panel.status.text()
    wait_until_idle(qtbot, panel)
    assert set(shares) == {"a stack.ome.tif", "plane.tif"}
    for found in shares.values():
        assert found == sorted(found)
        assert 0 <= found[0] < 0.5 < found[-1] <= 1
    assert all(line.running is None for line in panel.table.rows)


def test_a_probe_can_be_stopped_at_once(qtbot, open_batch, recipe, monkeypatch):
    monkeypatch.setattr("napari_pristine.batch.estimate._PROBE", 4.0)
    endless(recipe)
    panel = open_batch()
    panel.plan()
    qtbot.waitUntil(lambda: "being looked at …" in cells(panel, "Status").values(), timeout=20_000)
    qtbot.wait(500)
    assert ended_after(qtbot, panel) < 0.3
    assert "were not looked at" in panel.status.text()
    assert panel.run_button.isEnabled()


def test_workers_that_do_not_start_can_be_left_alone(qtbot, open_batch, monkeypatch):
    ended: list[int] = []

    @contextmanager
    def slow(workers: int) -> Iterator[Any]:
        time.sleep(1.5)
        yield here
        ended.append(workers)

    monkeypatch.setattr("napari_pristine.gui.batch_job.on_this_machine", slow)
    panel = open_batch()
    panel.form.settings.set_values({"workers": min(2, os.cpu_count() or 1)})
    panel.run()
    qtbot.waitUntil(lambda: bool(panel.table.rows), timeout=10_000)
    assert ended_after(qtbot, panel) < 0.3
    assert panel.status.text() == "Stopped before anything was written."
    qtbot.waitUntil(lambda: bool(ended), timeout=5000)  # those that have started meanwhile are not forgotten
    assert not list(Path(panel.form.output.path()).iterdir())


def test_what_concerns_the_whole_batch_is_shown(qtbot, open_batch, monkeypatch):
    @contextmanager
    def lacking(workers: int) -> Iterator[Any]:
        def answers(shares: Any) -> Any:
            yield Notice("the cluster has no workers; waiting")
            yield from pool(shares)

        with on_this_machine(workers) as pool:
            yield answers

    monkeypatch.setattr("napari_pristine.gui.batch_job.on_this_machine", lacking)
    panel = open_batch()
    assert panel.warning.isHidden()
    panel.run()
    wait_until_idle(qtbot, panel)
    assert panel.warning.text() == "The cluster has no workers; waiting"
    assert not panel.warning.isHidden()
    panel.plan()
    assert panel.warning.isHidden()
    wait_until_idle(qtbot, panel)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is the device that should be missing")
def test_another_device_than_wished_for_is_told(qtbot, open_batch, recipe, folder):
    save_recipe(recipe, Recipe(method="inr", settings=QUICK["inr"], device="cuda"), overwrite=True)
    panel = open_batch(folder / "plane.tif")
    for begin in (panel.plan, panel.run):
        begin()
        wait_until_idle(qtbot, panel)
        assert panel.warning.text() == "There is no cuda device here; computing on the CPU"


def test_what_is_at_work_is_kept_in_sight_unless_the_user_looks_elsewhere(qtbot, open_batch, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(40):
        write(many / f"{number:02}.tif", Image(noisy((24, 24), number), "YX"))
    panel = open_batch(many)
    bar = panel.view.verticalScrollBar()
    panel.plan()
    wait_until_idle(qtbot, panel)
    assert bar.value() == bar.maximum() > 0
    panel.view.scrollToTop()
    qtbot.wait(50)
    panel.view.follow(39)
    assert bar.value() == 0


def test_a_plan_is_kept_for_the_run_by_the_same_recipe_alone(qtbot, open_batch, recipe, folder):
    panel = open_batch(folder / "plane.tif")
    output = Path(panel.form.output.path())
    output.mkdir()
    write(output / "plane.tif", Image(noisy((32, 32)), "YX"))
    panel.plan()
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Status")["plane.tif"].startswith("unusable: 'plane.tif' exists already; 'Replace results'")
    (output / "plane.tif").unlink()
    panel.plan()
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Time")["plane.tif"].startswith("≈ ")
    panel.run()
    qtbot.waitUntil(lambda: panel.table.rows[0].state == "waiting", timeout=10_000)
    assert cells(panel, "Time")["plane.tif"].startswith("≈ ")
    wait_until_idle(qtbot, panel)
    save_recipe(recipe, Recipe(method="linr", settings=QUICK["linr"], device="cpu"), overwrite=True)
    panel.run()
    assert panel.form.recipe_summary.text().startswith("LINR restore")  # by the file as it is now
    wait_until_idle(qtbot, panel)
    assert cells(panel, "Time")["plane.tif"] == ""


def test_the_menu_of_a_line_opens_its_folder_and_copies_what_is_said(qtbot, open_batch, folder, monkeypatch):
    panel = open_batch()
    panel.run()
    wait_until_idle(qtbot, panel)
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    monkeypatch.setattr(QMenu, "exec", lambda menu, _: [action.trigger() for action in menu.actions()[1:]])
    rows = {line.task.source.name: number for number, line in enumerate(panel.table.rows)}
    for name in ("plane.tif", "empty.tif"):
        place = panel.view.visualRect(panel.table.index(rows[name], 0)).center()
        panel.view.customContextMenuRequested.emit(place)
    assert [Path(url.toLocalFile()) for url in opened] == [folder.parent / "restored", folder]
    assert QApplication.clipboard().text().startswith(f"{folder / 'empty.tif'}\nfailed: ")


def test_a_line_that_is_not_restored_shows_its_image_or_why_not(qtbot, viewer, open_batch, notifications):
    panel = open_batch()
    panel.plan()
    wait_until_idle(qtbot, panel)
    rows = {line.task.source.name: number for number, line in enumerate(panel.table.rows)}
    panel.view.activated.emit(panel.table.index(rows["plane.tif"], 0))
    assert [layer.name for layer in viewer.layers] == ["plane"]
    panel.view.activated.emit(panel.table.index(rows["empty.tif"], 0))
    assert "is empty" in notifications[-1].message


def test_the_keys_go_through_the_panel_from_above(qtbot, open_batch):
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


def test_an_error_of_the_start_is_told(qtbot, open_batch, notifications):
    panel = open_batch()
    Path(panel.form.output.path()).write_text("no folder")
    panel.run()
    wait_until_idle(qtbot, panel)
    assert "is a file; give a folder for the results" in notifications[0].message
    assert panel.status.text().startswith("Failed: ")
    assert FileError.__name__ not in panel.status.text()
