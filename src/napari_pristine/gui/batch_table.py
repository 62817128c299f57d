"""Table of the Batch panel: one row per file, with its size, cost, progress and result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari import Viewer
from napari.utils.theme import get_theme
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QPoint, QRect, Qt, QTimer, QUrl
from qtpy.QtGui import QColor, QDesktopServices, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QMenu,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
)

from napari_pristine.batch.estimate import FileEstimate
from napari_pristine.batch.results import result_facts, was_done
from napari_pristine.batch.spec import BatchSpec, Task
from napari_pristine.events import BatchProgress, ItemDone
from napari_pristine.gui.batch_form import paint_hint
from napari_pristine.gui.batch_job import use_panel_labels
from napari_pristine.recipe import Recipe
from napari_pristine.text import duration, short_name


@dataclass(eq=False)
class Row:
    """A file of the batch, with all that is known of it.

    Attributes:
        task: The file, and where its result goes.
        estimate: Its size and cost.
        item: Its result, or why there is none.
        fraction: Fraction that is done, 0 to 1, while it is being restored.
        state: Status before anything else is known.
    """

    task: Task
    estimate: FileEstimate | None = None
    item: ItemDone | None = None
    fraction: float | None = None
    state: str = ""

    @property
    def error(self) -> str:
        """Reason why the file cannot be restored, or was not; empty for files that are not images."""
        if self.item is not None:
            return self.item.text if self.item.is_error else ""
        return self.estimate.problem if self.estimate and not self.task.problem else ""

    @property
    def has_result(self) -> bool:
        """True if there is a result, of this batch or an earlier one."""
        return self.item is not None and self.item.status != "failed" and bool(self.item.facts)

    @property
    def status(self) -> str:
        """Progress, result, or reason why there is none."""
        if self.item is not None:
            return self._outcome(self.item)
        if self.fraction is not None:
            if self.fraction >= 1:
                return "writing"
            return f"restoring {self.fraction:.0%}" if self.fraction else "restoring"
        if self.task.problem:
            return f"skipped: {self.task.problem}"
        if self.error:
            return f"cannot be restored: {use_panel_labels(self.error)}"
        if self.estimate and self.estimate.done:
            return "done before, with the same recipe"
        return self.state

    @staticmethod
    def _outcome(item: ItemDone) -> str:
        text = use_panel_labels(item.text)
        if item.status == "skipped":
            return text if was_done(item) else f"skipped: {text}"
        if item.status == "exists":
            return f"not replaced: {text}"
        quality = result_facts(item)
        if not text and quality.sigma is not None and quality.residual is not None:
            text = f"removed {quality.residual:.2f} × the noise level ({quality.sigma:.3g})"
        return f"{item.status}: {text}" if text else item.status

    @property
    def time(self) -> str:
        """Time that the file took, or will take."""
        if self.item is not None:
            seconds = result_facts(self.item).seconds if self.item.status == "restored" else None
            return "" if seconds is None else duration(seconds)
        if self.estimate is None or self.estimate.problem:
            return ""
        return "?" if self.estimate.seconds is None else f"≈ {duration(self.estimate.seconds)}"

    @property
    def memory(self) -> str:
        """Memory that a process needs for the file."""
        return f"{self.estimate.memory / 1e9:.2g} GB" if self.estimate and self.estimate.memory else ""

    @property
    def size(self) -> str:
        """Axes and sizes of the image."""
        axes, shape = (self.estimate.axes, self.estimate.shape) if self.estimate else ("", ())
        if self.item is not None and not shape:
            axes, shape = result_facts(self.item).axes, result_facts(self.item).shape
        return " × ".join(f"{axis} {size}" for axis, size in zip(axes, shape, strict=False))

    @property
    def dtype(self) -> str:
        """Data type of the pixels."""
        return (self.estimate.dtype if self.estimate else "") or (result_facts(self.item).dtype if self.item else "")


COLUMNS: tuple[tuple[str, str, Callable[[Row], str]], ...] = (
    ("File", "The image.", lambda row: short_name(row.task.source)),
    ("Status", "Progress, result, or why the file cannot be restored.", lambda row: row.status),
    ("Time", "Time for one process: estimated from one block (≈), or measured.", lambda row: row.time),
    ("Memory", "Memory that one process needs.", lambda row: row.memory),
    ("Size", "Axes and sizes of the part that is restored.", lambda row: row.size),
    ("Type", "Data type of the pixels.", lambda row: row.dtype),
    ("Blocks", "What is fitted together, and what is restored one after the other.",
     lambda row: "; ".join(filter(None, (row.estimate.loops, row.estimate.note))) if row.estimate else ""),
)  # fmt: skip
"""Title, tooltip and text of each column."""
STATUS = next(number for number, (title, *_) in enumerate(COLUMNS) if title == "Status")
FRACTION_ROLE = Qt.ItemDataRole.UserRole
"""Role of the fraction of a file that is done, 0 to 1; `None` unless it is being restored."""
_ROOT = QModelIndex()


class BatchTableModel(QAbstractTableModel):  # type: ignore[misc]
    """The files of a batch."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.rows: list[Row] = []
        self._row_of: dict[Path, int] = {}
        self._active: dict[int, float] = {}
        self._recipe: Recipe | None = None

    def set_files(self, spec: BatchSpec) -> None:
        """Show the files of a batch; estimates by the same recipe are kept, unless the file could not be restored."""
        known: dict[Task, FileEstimate] = {}
        if spec.options.recipe == self._recipe:
            known = {row.task: row.estimate for row in self.rows if row.estimate and not row.estimate.problem}
        self.beginResetModel()
        self.rows = [Row(task, known.get(task), state="waiting") for task in spec.tasks]
        self._row_of = {task.source: number for number, task in enumerate(spec.tasks)}
        self._recipe, self._active = spec.options.recipe, {}
        self.endResetModel()

    def set_state(self, number: int, state: str) -> None:
        """Set the state of a row, if there is such a row."""
        if number < len(self.rows):
            self.rows[number].state = state
            self._emit_row(number)

    def set_estimate(self, estimate: FileEstimate) -> int:
        """Show the estimate for a file; returns its row."""
        number = self._row_of[estimate.task.source]
        row = self.rows[number]
        row.task, row.estimate, row.state = estimate.task, estimate, "can be restored"
        self._emit_row(number)
        return number

    def set_progress(self, progress: BatchProgress) -> list[int]:
        """Show the progress of the batch; returns the rows of files that have just been started."""
        before, self._active = self._active, {self._row_of[source]: part for source, part in progress.active}
        for number in before.keys() | self._active.keys():
            if before.get(number) != self._active.get(number):
                self.rows[number].fraction = self._active.get(number)
                self._emit_row(number)
        return [number for number in self._active if number not in before]

    def set_item(self, item: ItemDone) -> int:
        """Show the result for a file; returns its row."""
        number = self._row_of[item.source]
        self.rows[number].item, self.rows[number].fraction = item, None
        self._emit_row(number)
        return number

    def show_end(self, state: Callable[[Row], str]) -> None:
        """Show that nothing is being restored any more; `state` returns the status of rows without a result."""
        self._active = {}
        for row in self.rows:
            row.state = state(row)
            row.fraction = None
        if self.rows:
            self.dataChanged.emit(self.index(0, STATUS), self.index(len(self.rows) - 1, STATUS))

    def rowCount(self, parent: QModelIndex = _ROOT) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = _ROOT) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        if orientation == Qt.Orientation.Vertical:
            return None
        title, tooltip, _ = COLUMNS[section]
        return {Qt.ItemDataRole.DisplayRole: title, Qt.ItemDataRole.ToolTipRole: tooltip}.get(role)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            # names for paths; the tooltip of the file name shows the paths
            text = COLUMNS[column][2](row)
            for path in (row.task.source, row.task.target):
                text = text.replace(str(path), short_name(path))
            return text
        if role == Qt.ItemDataRole.ToolTipRole:
            if column == 0:
                hint = "\nDouble-click to show both" if row.has_result else ""
                return f"{row.task.source}\n→ {row.task.target}{hint}"
            return COLUMNS[column][2](row)
        if column == STATUS and role == FRACTION_ROLE:
            return row.fraction
        if column == STATUS and role == Qt.ItemDataRole.ForegroundRole and row.error:
            return QColor(get_theme(self.viewer.theme).warning.as_hex())
        return None

    def _emit_row(self, number: int) -> None:
        self.dataChanged.emit(self.index(number, 0), self.index(number, len(COLUMNS) - 1))


_MAX_WIDTH = 240
_WIDTHS = {0: (110, 140), STATUS: (190, 216), len(COLUMNS) - 1: (160, _MAX_WIDTH)}
"""Smallest and largest width of some columns in pixels; longer texts are wrapped, file names shortened."""
_BAR_HEIGHT = 4


class BatchTableView(QTableView):  # type: ignore[misc]
    """View of the files; `activated` is emitted for a row that is double-clicked or chosen with Enter."""

    def __init__(self, model: BatchTableModel) -> None:
        super().__init__()
        self.setModel(model)
        self.setItemDelegateForColumn(STATUS, _ProgressDelegate(self, model.viewer))
        self.setWordWrap(True)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTabKeyNavigation(False)
        self.setMinimumHeight(120)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._show_menu)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        self._resize_rows = QTimer(self)  # once, however many columns change
        self._resize_rows.setSingleShot(True)
        self._resize_rows.timeout.connect(self.resizeRowsToContents)
        header.sectionResized.connect(self._on_section_resized)
        self.fit_columns()

    def fit_columns(self) -> None:
        """Fit the columns to their content, within limits."""
        self.resizeColumnsToContents()
        for column, (low, high) in _WIDTHS.items():
            self.setColumnWidth(column, min(max(self.columnWidth(column), low), high))
        self.resizeRowsToContents()

    def fit_row(self, number: int) -> None:
        """Make room for the content of a row, which has changed."""
        for column in range(len(COLUMNS)):
            wanted = self.sizeHintForIndex(self.model().index(number, column)).width() + 6
            low, high = _WIDTHS.get(column, (0, _MAX_WIDTH))
            if wanted > self.columnWidth(column):
                self.setColumnWidth(column, min(max(wanted, low), high))
        self.resizeRowToContents(number)

    def follow(self, number: int) -> None:
        """Scroll to a row if the row before is visible, that is, unless the user has scrolled elsewhere."""
        before = self.visualRect(self.model().index(max(number - 1, 0), 0))
        if self.viewport().rect().intersects(before):
            self.scrollTo(self.model().index(number, 0))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        super().paintEvent(event)
        if not self.model().rows:
            paint_hint(
                self,
                "'Plan' shows size, time and memory of each file.\n'Run' restores the files and shows results.",
            )

    def _on_section_resized(self, *_: int) -> None:
        self._resize_rows.start()

    def _show_menu(self, position: QPoint) -> None:
        index = self.indexAt(position)
        if not index.isValid():
            return
        row = self.model().rows[index.row()]
        written = row.task.target.exists()
        folder = QUrl.fromLocalFile(str((row.task.target if written else row.task.source).absolute().parent))
        menu = QMenu(self)
        menu.addAction("Show image and result" if row.has_result else "Show image", lambda: self.activated.emit(index))
        menu.addAction(
            "Open folder of the result" if written else "Open folder of the image",
            lambda: QDesktopServices.openUrl(folder),
        )
        menu.addAction(
            "Copy path and status", lambda: QApplication.clipboard().setText(f"{row.task.source}\n{row.status}")
        )
        menu.exec(self.viewport().mapToGlobal(position))


class _ProgressDelegate(QStyledItemDelegate):  # type: ignore[misc]
    """Draws a progress bar below the status of files that are being restored."""

    def __init__(self, parent: BatchTableView, viewer: Viewer) -> None:
        super().__init__(parent)
        self._viewer = viewer

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().paint(painter, option, index)
        fraction = index.data(FRACTION_ROLE)
        if fraction is not None:
            theme = get_theme(self._viewer.theme)
            bar = QRect(option.rect).adjusted(2, 0, -2, -1)
            bar.setTop(bar.bottom() - _BAR_HEIGHT + 1)
            painter.fillRect(bar, QColor(theme.foreground.as_hex()))
            bar.setWidth(round(bar.width() * fraction))
            painter.fillRect(bar, QColor(theme.current.as_hex()))
