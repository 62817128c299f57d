"""The table of the Batch panel on the screen: long texts are broken, names shortened in their middle, bars drawn."""

from __future__ import annotations

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QModelIndex, QPoint, QRect, Qt, QTimer, QUrl
from qtpy.QtGui import QColor, QDesktopServices, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QMenu,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
)

from napari_pristine.gui.batch_table import COLUMNS, SHARE, STATUS, BatchTable

_WIDEST = 240
_WIDTHS = {0: (110, 140), STATUS: (190, 216), len(COLUMNS) - 1: (160, _WIDEST)}
"""Least and most pixels of columns; what does not fit is broken into lines, or names shortened."""
_BAR = 4
"""Pixels that the bar of a file at work is high."""


class TableView(QTableView):  # type: ignore[misc]
    """The lines of a batch; `activated` is emitted for one that is double-clicked, or that Enter is pressed on."""

    def __init__(self, table: BatchTable) -> None:
        super().__init__()
        self.table = table
        self.setModel(table)
        self.setItemDelegateForColumn(STATUS, _Bar(self, table.viewer))
        self.setWordWrap(True)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTabKeyNavigation(False)
        self.setMinimumHeight(120)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self.offer)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        soon = QTimer(self)  # once for all columns
        soon.setSingleShot(True)
        soon.timeout.connect(self.resizeRowsToContents)
        header.sectionResized.connect(lambda *_: soon.start())
        self.fit()

    def fit(self) -> None:
        """Give each column the width of what stands in it, within limits."""
        self.resizeColumnsToContents()
        for column, (low, high) in _WIDTHS.items():
            self.setColumnWidth(column, min(max(self.columnWidth(column), low), high))
        self.resizeRowsToContents()

    def fit_line(self, number: int) -> None:
        """A line may need more room than before."""
        for column in range(len(COLUMNS)):
            wanted = self.sizeHintForIndex(self.model().index(number, column)).width() + 6
            low, high = _WIDTHS.get(column, (0, _WIDEST))
            if wanted > self.columnWidth(column):
                self.setColumnWidth(column, min(max(wanted, low), high))
        self.resizeRowToContents(number)

    def go_along(self, number: int) -> None:
        """Scroll to where work goes on, if the line above is in sight: whoever has scrolled away stays there."""
        above = self.visualRect(self.model().index(max(number - 1, 0), 0))
        if self.viewport().rect().intersects(above):
            self.scrollTo(self.model().index(number, 0))

    def offer(self, at: QPoint) -> None:
        """What can be done with the line at a point."""
        index = self.indexAt(at)
        if not index.isValid():
            return
        line = self.table.lines[index.row()]
        made = line.task.target.exists()
        folder = (line.task.target if made else line.task.source).absolute().parent
        menu = QMenu(self)
        menu.addAction("Show image and result" if line.done else "Show image", lambda: self.activated.emit(index))
        menu.addAction(
            "Open folder of the result" if made else "Open folder of the image",
            lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))),
        )
        menu.addAction(
            "Copy path and status", lambda: QApplication.clipboard().setText(f"{line.task.source}\n{line.status()}")
        )
        menu.exec(self.viewport().mapToGlobal(at))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """While there is nothing in the table, it says what will be."""
        super().paintEvent(event)
        if not self.table.lines:
            painter = QPainter(self.viewport())
            painter.setOpacity(0.6)
            text = "'Plan' says here what each file is, and how long it takes.\n'Run' says what became of it."
            painter.drawText(self.viewport().rect(), Qt.AlignmentFlag.AlignCenter, text)
            painter.end()


class _Bar(QStyledItemDelegate):  # type: ignore[misc]
    """Draws how far a file is that is at work."""

    def __init__(self, parent: TableView, viewer: Any) -> None:
        super().__init__(parent)
        self._viewer = viewer

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().paint(painter, option, index)
        share = index.data(SHARE)
        if share is not None:
            theme = get_theme(self._viewer.theme)
            room = QRect(option.rect).adjusted(2, 0, -2, -1)
            room.setTop(room.bottom() - _BAR + 1)
            painter.fillRect(room, QColor(theme.foreground.as_hex("long")))
            room.setWidth(round(room.width() * share))
            painter.fillRect(room, QColor(theme.current.as_hex("long")))
