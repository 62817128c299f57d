"""The Batch panel as a user sees it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt


def finish(qtbot: Any, panel: Any, timeout: int = 30_000) -> None:
    qtbot.waitUntil(lambda: not panel.job.running, timeout=timeout)


def wait_until_at_work(qtbot: Any, panel: Any, share: float = 0.0) -> None:
    """Until more than a share of a file is done."""
    qtbot.waitUntil(lambda: any((line.running or 0) > share for line in panel.table.lines), timeout=20_000)


def cells(panel: Any, title: str) -> dict[str, str]:
    """A column of the table, by the names of the files."""
    table = panel.table
    column = next(n for n in range(table.columnCount()) if table.headerData(n, Qt.Orientation.Horizontal) == title)
    return {table.data(table.index(n, 0)): table.data(table.index(n, column)) for n in range(table.rowCount())}
