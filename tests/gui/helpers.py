"""Images and settings that take no time, and the panels as a user sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMenu

_FIELD = {"steps": 20, "patch": 64, "width": 8, "batch": 128, "refine": False}
_NET = {"steps": 4, "side": 32, "batch": 2, "width": 8, "levels": 2, "refine": False}
QUICK: dict[str, dict[str, Any]] = {
    "inr": _FIELD,
    "linr": _FIELD,
    "sampling": {**_NET, "steps": 4, "patch": 64, "function_width": 8, "function_batch": 128},
    "iddp": _NET,
    "blind2unblind": _NET,
    "auto": {"refine": False},
    "pretrained": {"orientations": 1, "refine": False},
}
ENDLESS = {"steps": 100_000}


def noisy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A bright disc in Poisson noise, in all planes of an image."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    disc = 20 + 80 * (np.hypot(y - shape[-2] / 2, x - shape[-1] / 2) < min(shape[-2:]) / 4)
    return np.random.default_rng(seed).poisson(np.broadcast_to(disc, shape)).astype(np.uint16)


def wait_until_idle(qtbot: Any, panel: Any, timeout: int = 60_000) -> None:
    qtbot.waitUntil(lambda: not panel.runner.running, timeout=timeout)


def wait_for_preview(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: panel.result is not None and panel.result.layer is not None, timeout=60_000)


def wait_until_active(qtbot: Any, panel: Any, fraction: float = 0.0) -> None:
    """Wait until more than a fraction of one of the files of a batch is done."""
    qtbot.waitUntil(lambda: any((row.fraction or 0) > fraction for row in panel.table.rows), timeout=60_000)


def menu_that_triggers(actions: slice) -> type[QMenu]:
    """A menu that does not open but triggers some of its actions; to replace `QMenu.exec` does not work in PySide6."""

    class Menu(QMenu):
        def exec(self, *_: Any) -> None:
            for action in self.actions()[actions]:
                action.trigger()

    return Menu


def cells(panel: Any, title: str) -> dict[str, str]:
    """A column of the table of the Batch panel, by the names of the files."""
    table = panel.table
    column = next(n for n in range(table.columnCount()) if table.headerData(n, Qt.Orientation.Horizontal) == title)
    return {table.data(table.index(n, 0)): table.data(table.index(n, column)) for n in range(table.rowCount())}
