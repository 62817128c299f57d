"""The table of the Batch panel: what each file is, what it takes, how far it is and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QTableView

from napari_pristine.batch.engine import Stand
from napari_pristine.batch.plan import Forecast
from napari_pristine.batch.rows import Row, figures
from napari_pristine.batch.tasks import Task
from napari_pristine.gui.batch_job import in_words_of_the_panel
from napari_pristine.report import duration

_TOP = QModelIndex()


@dataclass(eq=False)
class Line:
    """All that is known of one file.

    Attributes:
        running: Which share of it is done, while it is at work; -1 where that is not known.
        state: What is to be said of it as long as nothing became of it.
    """

    task: Task
    forecast: Forecast | None = None
    row: Row | None = None
    running: float | None = None
    state: str = ""

    @property
    def problem(self) -> str:
        """Why it cannot be restored, or was not."""
        if self.row is not None:
            return self.row.text if self.row.status == "failed" else ""
        return self.forecast.problem if self.forecast else self.task.problem

    def status(self) -> str:
        """How it stands, in words."""
        if self.row is not None:
            said = in_words_of_the_panel(self.row.text) or _quality(self.row)
            return ": ".join(filter(None, (self.row.status, said)))
        if self.running is not None:
            return f"running {self.running:.0%}" if self.running >= 0 else "running"
        if self.problem:
            return f"unusable: {in_words_of_the_panel(self.problem)}"
        return self.state


def _quality(row: Row) -> str:
    found = figures(row)
    if found.sigma is None or found.residual is None:
        return ""
    return f"noise level {found.sigma:.3g}, residual {found.residual:.2f} noise levels"


def _size(line: Line) -> str:
    axes, shape = (line.forecast.axes, line.forecast.shape) if line.forecast else ("", ())
    if line.row is not None and not shape:
        known = figures(line.row)
        axes, shape = known.axes, known.shape
    return " × ".join(f"{axis} {size}" for axis, size in zip(axes, shape, strict=False))


def _type(line: Line) -> str:
    return (line.forecast.dtype if line.forecast else "") or (figures(line.row).dtype if line.row else "")


def _memory(line: Line) -> str:
    return f"{line.forecast.memory / 1e9:.2g} GB" if line.forecast and line.forecast.memory else ""


def _time(line: Line) -> str:
    took = figures(line.row).seconds if line.row and line.row.status == "restored" else None
    if took is not None:
        return duration(took)
    if line.forecast is None or line.forecast.problem:
        return ""
    return "?" if line.forecast.seconds is None else f"≈ {duration(line.forecast.seconds)}"


def _loops(line: Line) -> str:
    return line.forecast.loops if line.forecast else ""


COLUMNS: tuple[tuple[str, str, Callable[[Line], str]], ...] = (
    ("File", "The image.", lambda line: line.task.source.name),
    ("Status", "How far it is, what became of it, or why it cannot be restored.", Line.status),
    ("Size", "Axes and sizes of what is restored.", _size),
    ("Time", "What it takes one process: measured on one part (≈), or what it took.", _time),
    ("Memory", "What a process takes, at most.", _memory),
    ("Type", "Type of the values.", _type),
    ("What is looped", "What is fitted together, and what is looped over.", _loops),
)
STATUS = next(number for number, (title, _, _) in enumerate(COLUMNS) if title == "Status")
_WIDEST = 240
_WIDTHS = {0: (110, 150), STATUS: (190, 210), len(COLUMNS) - 1: (160, _WIDEST)}
"""Least and most pixels of columns; what does not fit is broken into lines, or names shortened."""


class BatchTable(QAbstractTableModel):  # type: ignore[misc]
    """The lines of a batch."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.lines: list[Line] = []
        self._numbers: dict[Path, int] = {}

    def show(self, tasks: Sequence[Task], state: str) -> None:
        """Begin with these files; what was planned of them before is kept."""
        known = {line.task: line.forecast for line in self.lines}
        self.beginResetModel()
        self.lines = [Line(task, known.get(task), state=state) for task in tasks]
        self._numbers = {task.source: number for number, task in enumerate(tasks)}
        self.endResetModel()

    def foretell(self, forecast: Forecast) -> int:
        """What is known of a file before it is restored; returns its line."""
        number = self._numbers[forecast.task.source]
        self.lines[number].forecast = forecast
        self.lines[number].state = "can be restored"
        return self._changed(number)

    def follow(self, stand: Stand, *, alone: bool) -> int | None:
        """How far the batch is; returns the line of the file at work, if there is one.

        Args:
            stand: How far it is.
            alone: Whether one file is at work at a time.
        """
        names = (n for n, line in enumerate(self.lines) if line.row is None and line.task.source.name == stand.name)
        number = next(names, None)
        if number is None:
            return None
        share = min(max(stand.fraction * stand.of_files - stand.files, 0.0), 1.0)
        self.lines[number].running = share if alone else -1
        return self._changed(number)

    def conclude(self, row: Row) -> int:
        """What became of a file; returns its line."""
        number = self._numbers[row.source]
        self.lines[number].row, self.lines[number].running = row, None
        return self._changed(number)

    def end(self, state: str) -> None:
        """Nothing is at work any more."""
        for line in self.lines:
            line.running, line.state = None, state
        if self.lines:
            self.dataChanged.emit(self.index(0, STATUS), self.index(len(self.lines) - 1, STATUS))

    def rowCount(self, parent: QModelIndex = _TOP) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self.lines)

    def columnCount(self, parent: QModelIndex = _TOP) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        if orientation == Qt.Orientation.Vertical:
            return None
        title, tip, _ = COLUMNS[section]
        return {Qt.ItemDataRole.DisplayRole: title, Qt.ItemDataRole.ToolTipRole: tip}.get(role)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        line, column = self.lines[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            # the name is enough: where it is stands in the tip of the file
            return COLUMNS[column][2](line).replace(str(line.task.source), line.task.source.name)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(line, column)
        if role == Qt.ItemDataRole.ForegroundRole and column == STATUS and line.problem:
            return QColor(get_theme(self.viewer.theme).warning.as_hex())
        return None

    def _tip(self, line: Line, column: int) -> str:
        if column == 0:
            done = line.row is not None and line.row.status != "failed"
            return f"{line.task.source}\n→ {line.task.target}" + ("\nDouble-click: show both" if done else "")
        return COLUMNS[column][2](line)

    def _changed(self, number: int) -> int:
        self.dataChanged.emit(self.index(number, 0), self.index(number, len(COLUMNS) - 1))
        return number


class TableView(QTableView):  # type: ignore[misc]
    """The lines of a batch on the screen: long texts are broken, names are shortened in their middle."""

    def __init__(self, table: BatchTable) -> None:
        super().__init__()
        self.setModel(table)
        self.setWordWrap(True)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTabKeyNavigation(False)
        self.setMinimumHeight(120)
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
