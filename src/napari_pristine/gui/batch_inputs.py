"""The list of images and folders to restore, into which files can be dropped."""

from __future__ import annotations

import os
from collections.abc import Iterable

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent, QKeyEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QAbstractItemView, QListWidget

_LINES = 4
"""Lines for which there is room."""


class InputList(QListWidget):  # type: ignore[misc]
    """Names of files, folders and patterns; `changed` is emitted when there are more or fewer."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTabKeyNavigation(False)
        self.setToolTip("Images and folders to restore. Drop files here; Delete takes the selected ones out.")

    def names(self) -> list[str]:
        """All of them."""
        return [self.item(row).text() for row in range(self.count())]

    def add(self, names: Iterable[str]) -> None:
        """More of them, each once."""
        there = set(self.names())
        new = [name for name in dict.fromkeys(map(os.path.normpath, names)) if name not in there]
        for name in new:
            self.addItem(name)
            self.item(self.count() - 1).setToolTip(name)
        if new:
            self.changed.emit()
            self.viewport().update()

    def remove_selected(self) -> None:
        """Take the selected ones out of the list."""
        for item in self.selectedItems():
            self.takeItem(self.row(item))
        self.changed.emit()
        self.viewport().update()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(super().sizeHint().width(), _LINES * self.fontMetrics().lineSpacing() + 16)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(120, self.sizeHint().height())

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.remove_selected()
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        self._heed(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:  # noqa: N802
        self._heed(event)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        self.add(url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile())
        event.acceptProposedAction()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """While there is nothing in the list, it says what to do."""
        super().paintEvent(event)
        if not self.count():
            painter = QPainter(self.viewport())
            painter.setOpacity(0.6)
            painter.drawText(self.viewport().rect(), Qt.AlignmentFlag.AlignCenter, "Drop images and folders here")
            painter.end()

    def _heed(self, event: QDragMoveEvent) -> None:
        if event.mimeData().hasUrls():
            event.acceptProposedAction()
        else:
            event.ignore()
