"""The table of the Batch panel: what each file is, what it takes, how far it is and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor

from napari_pristine.batch.estimate import FileEstimate
from napari_pristine.batch.file_result import figures, was_done
from napari_pristine.batch.spec import BatchSpec
from napari_pristine.batch.tasks import Task
from napari_pristine.events import BatchProgress, ItemDone
from napari_pristine.gui.batch_job import in_words_of_the_panel
from napari_pristine.recipe import Recipe
from napari_pristine.text import duration

_TOP = QModelIndex()


@dataclass(eq=False)
class Line:
    """All that is known of one file.

    Attributes:
        running: Which share of it is done, 0 to 1, while it is at work.
        state: What is to be said of it as long as nothing became of it.
    """

    task: Task
    forecast: FileEstimate | None = None
    row: ItemDone | None = None
    running: float | None = None
    state: str = ""

    @property
    def problem(self) -> str:
        """Why it cannot be restored, or was not; what is no image at all is no problem."""
        if self.row is not None:
            return self.row.text if self.row.status == "failed" else ""
        return self.forecast.problem if self.forecast and not self.task.problem else ""

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.row is not None and (self.row.status == "restored" or was_done(self.row))

    def status(self) -> str:
        """How it stands, in words."""
        if self.row is not None:
            return _became(self.row)
        if self.running is not None:
            return _at_work(self.running)
        if self.task.problem:
            return f"left out: {self.task.problem}"
        if self.problem:
            return f"unusable: {in_words_of_the_panel(self.problem)}"
        if self.forecast and self.forecast.done:
            return "done before, by the same recipe"
        return self.state


def _at_work(share: float) -> str:
    """How far a file is, in words; workers tell of it when one of its parts is done."""
    if share >= 1:
        return "being written"
    return f"restoring {share:.0%}" if share else "restoring"


def _became(row: ItemDone) -> str:
    """What became of a file, in words."""
    said = in_words_of_the_panel(row.text)
    if row.status == "skipped":
        return said if was_done(row) else f"left out: {said}"
    return ": ".join(filter(None, (row.status, said or _quality(row))))


def _quality(row: ItemDone) -> str:
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
    ("Time", "What it takes one process: measured on one part (≈), or what it took.", _time),
    ("Memory", "What a process takes, at most.", _memory),
    ("Size", "Axes and sizes of what is restored.", _size),
    ("Type", "Type of the values.", _type),
    ("What is looped", "What is fitted together, and what is looped over.", _loops),
)
STATUS = next(number for number, (title, _, _) in enumerate(COLUMNS) if title == "Status")
SHARE = Qt.ItemDataRole.UserRole
"""Which share of a file is done, 0 to 1; of files that are at work alone."""


def _short(text: str, task: Task) -> str:
    """A text with names for paths: where a file is stands in the tip of its name."""
    return text.replace(str(task.source), task.source.name).replace(str(task.target), task.target.name)


class BatchTable(QAbstractTableModel):  # type: ignore[misc]
    """The lines of a batch."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.lines: list[Line] = []
        self._numbers: dict[Path, int] = {}
        self._at_work: dict[int, float] = {}
        self._recipe: Recipe | None = None

    def show(self, begun: BatchSpec, state: str) -> None:
        """Begin with these files; what was planned of them by the same recipe is kept, unless it was a problem."""
        planned = [line.forecast for line in self.lines if line.forecast and not line.forecast.problem]
        known = {forecast.task: forecast for forecast in planned if begun.order.recipe == self._recipe}
        self.beginResetModel()
        self.lines = [Line(task, known.get(task), state=state) for task in begun.tasks]
        self._numbers = {task.source: number for number, task in enumerate(begun.tasks)}
        self._recipe, self._at_work = begun.order.recipe, {}
        self.endResetModel()

    def look_at(self, number: int) -> None:
        """A file is being looked at, which may take a while."""
        if number < len(self.lines):
            self.lines[number].state = "being looked at …"
            self._changed(number)

    def foretell(self, forecast: FileEstimate) -> int:
        """What is known of a file before it is restored; returns its line."""
        number = self._numbers[forecast.task.source]
        self.lines[number].forecast = forecast
        self.lines[number].state = "can be restored"
        return self._changed(number)

    def follow(self, stand: BatchProgress) -> list[int]:
        """How far the batch is; returns the lines of files that are at work and were not before."""
        now = {self._numbers[source]: part for source, part in stand.active}
        before, self._at_work = self._at_work, now
        for number in before.keys() | now.keys():
            if before.get(number) != now.get(number):
                self.lines[number].running = now.get(number)
                self._changed(number)
        return [number for number in now if number not in before]

    def conclude(self, row: ItemDone) -> int:
        """What became of a file; returns its line."""
        number = self._numbers[row.source]
        self.lines[number].row, self.lines[number].running = row, None
        return self._changed(number)

    def end(self, state: Callable[[Line], str]) -> None:
        """Nothing is at work any more; `state` says what is to be said of files of which nothing became."""
        self._at_work = {}
        for line in self.lines:
            line.running, line.state = None, state(line)
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
            return _short(COLUMNS[column][2](line), line.task)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(line, column)
        if role == SHARE and column == STATUS:
            return line.running
        if role == Qt.ItemDataRole.ForegroundRole and column == STATUS and line.problem:
            return QColor(get_theme(self.viewer.theme).warning.as_hex())
        return None

    def _tip(self, line: Line, column: int) -> str:
        if column == 0:
            return f"{line.task.source}\n→ {line.task.target}" + ("\nDouble-click: show both" if line.done else "")
        return COLUMNS[column][2](line)

    def _changed(self, number: int) -> int:
        self.dataChanged.emit(self.index(number, 0), self.index(number, len(COLUMNS) - 1))
        return number
