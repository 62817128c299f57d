"""The Batch panel: one recipe for many files, with a plan before and a table of what became of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari import current_viewer
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QEvent, QModelIndex, QSize, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_pristine.batch.engine import Stand
from napari_pristine.batch.inputs import REPORTS
from napari_pristine.batch.plan import Forecast
from napari_pristine.batch.rows import Row
from napari_pristine.errors import PristineError
from napari_pristine.gui.batch_form import BatchForm
from napari_pristine.gui.batch_job import Asked, Ended, doing, in_words_of_the_panel, planning
from napari_pristine.gui.batch_table import BatchTable, TableView
from napari_pristine.gui.job import JobRunner
from napari_pristine.gui.opened import add_file
from napari_pristine.gui.panel import Panel
from napari_pristine.report import duration

_FULL = 1000
"""Ticks of the progress bar."""


class BatchPanel(QWidget):  # type: ignore[misc]
    """The dock panel for many files."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.form = BatchForm(viewer, self._panels)
        self.plan, self.start, self.cancel, self.report = (
            _button(text, tip)
            for text, tip in (
                ("Plan", "Say what each file is, how long it takes, and what cannot be restored. Nothing is written."),
                ("Run", "Restore all files."),
                ("Cancel", "Stop. What is finished stays, and 'Resume' goes on from there."),
                ("Open report", "Show what became of each file, with pictures, in the browser."),
            )
        )
        self.bar = QProgressBar()
        self.bar.setRange(0, _FULL)
        self.bar.setTextVisible(False)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.table = BatchTable(viewer)
        self.lines = TableView(self.table)
        self.job = JobRunner()
        self.under_way: Asked | None = None
        self._lay_out()
        self._connect()
        self._enable()

    def make_plan(self) -> None:
        """Say what would be done."""
        self._begin(planning, "Looking at the files …")

    def run_all(self) -> None:
        """Restore all files."""
        self._begin(doing, "Looking at the files …")

    def stop(self) -> None:
        """End what is under way; what is finished stays."""
        if self.under_way is not None and self.job.running:
            self.under_way.stop.set()
            self.text.setText("Cancelling …")
        self._enable()

    def open_report(self) -> None:
        """Show the report in the browser."""
        page = self._page()
        if page is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(page)))

    def show_line(self, index: QModelIndex) -> None:
        """Add an image and its result to the viewer."""
        line = self.table.lines[index.row()]
        if line.row is None or line.row.status == "failed":
            return
        try:
            layers = add_file(self.viewer, line.row.source)
            add_file(self.viewer, line.row.target, "restored", [layer.contrast_limits for layer in layers])
        except PristineError as error:
            show_error(str(error))
            return
        for layer in layers:  # several are mixed with those of the result; a single one lies below it
            layer.visible = len(layers) == 1

    def sizeHint(self) -> QSize:  # noqa: N802
        """Wide enough for the columns that matter most."""
        return super().sizeHint().expandedTo(QSize(660, 760))

    def event(self, event: QEvent) -> bool:
        """Closing the panel takes it out of the window but does not close it."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.stop()
        return bool(super().event(event))

    def _begin(self, work: Callable[[Asked], Any], text: str) -> None:
        try:
            asked = self.form.asked()
        except PristineError as error:
            show_error(str(error))
            return
        self.under_way = asked
        self.bar.setValue(0)
        self.text.setText(text)
        self.job.start(work(asked))
        self._enable()

    def _hear(self, said: object) -> None:
        if isinstance(said, list):
            self.table.show(said, "waiting")
            self.lines.fit()
        elif isinstance(said, str):
            self.text.setText(said)
        elif isinstance(said, Forecast):
            number = self.table.foretell(said)
            self.lines.fit_line(number)
            self.bar.setValue(_FULL * (number + 1) // len(self.table.lines))
            self.text.setText(f"Planned {number + 1} of {len(self.table.lines)} files")
        elif isinstance(said, Row):
            self.lines.fit_line(self.table.conclude(said))
        elif isinstance(said, Stand) and self.under_way is not None:
            self._follow(said, self.under_way)

    def _follow(self, stand: Stand, asked: Asked) -> None:
        self.table.follow(stand, alone=asked.options.workers == 1)
        self.bar.setValue(round(_FULL * stand.fraction))
        if not asked.stop.is_set():
            left = f" · {duration(stand.remaining)} left" if stand.remaining is not None else ""
            self.text.setText(f"{stand.files} of {stand.of_files} files{left}")

    def _finish(self, ended: Ended | None) -> None:
        if ended is None:
            self._conclude_plan()
            return
        self.table.end("not restored")
        done, failed = (sum(row.status == s for row in ended.rows) for s in ("restored", "failed"))
        left = sum(row.status == "left" for row in ended.rows)
        parts = [f"{done} restored", f"{left} left" if left else "", f"{failed} failed" if failed else ""]
        said = f"{', '.join(filter(None, parts))}, of {ended.of_files}"
        if ended.stopped:
            self.text.setText(f"Cancelled: {said}. What is finished stays; 'Resume' goes on from there.")
        else:
            self.bar.setValue(_FULL)
            self.text.setText(f"Done: {said}. Double-click a line to see image and result.")

    def _conclude_plan(self) -> None:
        found = [line.forecast for line in self.table.lines if line.forecast]
        usable = [forecast for forecast in found if not forecast.problem]
        times = [forecast.seconds for forecast in usable if forecast.seconds is not None]
        time = f", about {duration(sum(times))} for one process" if times else ""
        memory = f", {max(f.memory for f in usable) / 1e9:.2g} GB of memory" if usable else ""
        stopped = self.under_way is not None and self.under_way.stop.is_set()
        ends = f" {len(self.table.lines) - len(found)} were not looked at." if stopped else ""
        self.text.setText(f"{len(usable)} of {len(found)} files can be restored{time}{memory}.{ends}")

    def _fail(self, error: Exception) -> None:
        self.table.end("")
        message = in_words_of_the_panel(str(error))
        self.text.setText(f"Failed: {message}")
        if isinstance(error, PristineError):
            show_error(message)
        else:  # a mistake of ours: with the traceback
            notification_manager.receive_error(type(error), error, error.__traceback__)

    def _page(self) -> Path | None:
        """The report in the folder of the results, if there is one."""
        if not self.form.output.name():
            return None
        page = Path(self.form.output.name()).expanduser().absolute() / REPORTS[1]
        return page if page.is_file() else None

    def _panels(self) -> dict[str, Callable[[], str]]:
        """The open panels of methods, and what saves the recipe of each."""
        top: Any = self
        while top.parentWidget() is not None:
            top = top.parentWidget()
        return {panel.method.title: panel.ask_where for panel in top.findChildren(Panel)}

    def _enable(self) -> None:
        """Only what can be pressed is enabled."""
        idle = not self.job.running
        self.form.enable(idle)
        self.plan.setEnabled(idle)
        self.start.setEnabled(idle)
        self.cancel.setEnabled(not idle and self.under_way is not None and not self.under_way.stop.is_set())
        self.report.setEnabled(self._page() is not None)

    def _connect(self) -> None:
        self.form.changed.connect(self._enable)
        self.plan.clicked.connect(self.make_plan)
        self.start.clicked.connect(self.run_all)
        self.cancel.clicked.connect(self.stop)
        self.report.clicked.connect(self.open_report)
        self.lines.activated.connect(self.show_line)
        self.job.said.connect(self._hear)
        self.job.returned.connect(self._finish)
        self.job.errored.connect(self._fail)
        self.job.finished.connect(self._enable)
        # closing the viewer deletes the panel
        self.destroyed.connect(self.job.cancel)

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        for button in (self.plan, self.start, self.cancel, self.report):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.text)
        layout.addWidget(self.lines, stretch=1)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def batch_widget() -> BatchPanel:
    """The panel in the viewer that asks for it."""
    return BatchPanel(current_viewer())
