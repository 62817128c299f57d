"""The table of the Batch panel: what each file is, what it takes, how far it is and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor

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
            return ": ".join(filter(None, (self.row.status, self.row.text)))
        if self.running is not None:
            return f"running {self.running:.0%}" if self.running >= 0 else "running"
        if self.problem:
            return f"unusable: {self.problem}"
        return self.state


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


def _sigma(line: Line) -> str:
    found = figures(line.row).sigma if line.row else None
    return "" if found is None else f"{found:.3g}"


def _residual(line: Line) -> str:
    found = figures(line.row).residual if line.row else None
    return "" if found is None else f"{found:.2f}"


def _loops(line: Line) -> str:
    return line.forecast.loops if line.forecast else ""


COLUMNS: tuple[tuple[str, str, Callable[[Line], str]], ...] = (
    ("File", "The image.", lambda line: line.task.source.name),
    ("Status", "How far it is, what became of it, or why it cannot be restored.", Line.status),
    ("Size", "Axes and sizes of what is restored.", _size),
    ("Type", "Type of the values.", _type),
    ("Time", "What it takes one process: measured on one part (≈), or what it took.", _time),
    ("Memory", "What a process takes, at most.", _memory),
    ("Noise", "Noise level, in the units of the image.", _sigma),
    ("Residual", "What was taken away, in noise levels: 1 is as much as there is noise.", _residual),
    ("What is looped", "What is fitted together, and what is looped over.", _loops),
)
STATUS = next(number for number, (title, _, _) in enumerate(COLUMNS) if title == "Status")


class BatchTable(QAbstractTableModel):  # type: ignore[misc]
    """The lines of a batch."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.lines: list[Line] = []
        self._numbers: dict[Task, int] = {}

    def show(self, tasks: Sequence[Task], state: str) -> None:
        """Begin with these files; what was planned of them before is kept."""
        known = {line.task: line.forecast for line in self.lines}
        self.beginResetModel()
        self.lines = [Line(task, known.get(task), state=state) for task in tasks]
        self._numbers = {task: number for number, task in enumerate(tasks)}
        self.endResetModel()

    def foretell(self, forecast: Forecast) -> int:
        """What is known of a file before it is restored; returns its line."""
        number = self._numbers[forecast.task]
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
        number = next(n for n, line in enumerate(self.lines) if line.task.source == row.source)
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
            return in_words_of_the_panel(COLUMNS[column][2](line))
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(line, column)
        if role == Qt.ItemDataRole.ForegroundRole and column == STATUS and line.problem:
            return QColor(get_theme(self.viewer.theme).warning.as_hex())
        return None

    def _tip(self, line: Line, column: int) -> str:
        if column == 0:
            done = line.row is not None and line.row.status != "failed"
            return f"{line.task.source}\n→ {line.task.target}" + ("\nDouble-click: show both" if done else "")
        return in_words_of_the_panel(COLUMNS[column][2](line))

    def _changed(self, number: int) -> int:
        self.dataChanged.emit(self.index(number, 0), self.index(number, len(COLUMNS) - 1))
        return number
