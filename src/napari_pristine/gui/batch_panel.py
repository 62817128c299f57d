"""The Batch panel: one recipe for many files, with a plan before and a table of what became of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari import current_viewer
from napari.utils.notifications import show_error
from napari.utils.theme import get_theme
from qtpy.QtCore import QModelIndex, QSize, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_pristine.batch.estimate import FileEstimate
from napari_pristine.batch.inputs import REPORTS
from napari_pristine.batch.spec import BatchSpec
from napari_pristine.batch.worker_monitor import Notice
from napari_pristine.errors import PristineError
from napari_pristine.events import BatchProgress, ItemDone, Note
from napari_pristine.gui.batch_form import BatchForm, wrapped
from napari_pristine.gui.batch_job import Asked, Ended, doing, in_words_of_the_panel, planning
from napari_pristine.gui.batch_table import BatchTable
from napari_pristine.gui.batch_view import TableView
from napari_pristine.gui.batch_words import at_work, over, planned
from napari_pristine.gui.file_layers import show_pair
from napari_pristine.gui.job_runner import JobRunner, complain
from napari_pristine.gui.restore_panel import Panel

_FULL = 1000
"""Ticks of the progress bar."""
_BEGUN = "begun; what is done of it is kept"


class BatchPanel(QWidget):  # type: ignore[misc]
    """The dock panel for many files."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.form = BatchForm(viewer, self._panels)
        self.plan, self.start, self.halt, self.report = (
            _button(text, tip)
            for text, tip in (
                ("Plan", "Say what each file is, how long it takes, and what cannot be restored. Nothing is written."),
                ("Run", "Restore all files."),
                ("Stop", "What is done is kept, and 'Run' with 'Resume' ticked goes on from there."),
                ("Open report", "Show what became of each file, with pictures, in the browser."),
            )
        )
        self.bar = QProgressBar()
        self.bar.setRange(0, _FULL)
        self.bar.setTextVisible(False)
        self.text, self.news = wrapped(), wrapped()
        self.notes: dict[type, str] = {}
        self.table = BatchTable(viewer)
        self.lines = TableView(self.table)
        self.job = JobRunner()
        self.under_way: Asked | None = None
        self.planning = False
        self._lay_out()
        self._connect()
        self._tell(None)
        self.enable()

    def make_plan(self) -> None:
        """Say what would be done."""
        self._begin(planning)

    def run_all(self) -> None:
        """Restore all files."""
        self._begin(doing)

    def stop(self) -> None:
        """End what is under way; what is finished stays."""
        if self.under_way is not None and self.job.running:
            self.under_way.stop.set()
            self.text.setText("Stopping …")
        self.enable()

    def open_report(self) -> None:
        """Show the report in the browser."""
        page = self._page()
        if page is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(page)))

    def show_line(self, index: QModelIndex) -> None:
        """Add an image and its result, if there is one, to the viewer."""
        line = self.table.lines[index.row()]
        try:
            show_pair(self.viewer, line.task.source, line.task.target if line.done else None)
        except PristineError as error:
            show_error(str(error))

    def sizeHint(self) -> QSize:  # noqa: N802
        """Wide enough for the columns that matter most."""
        return super().sizeHint().expandedTo(QSize(660, 760))

    def hear(self, said: object) -> None:
        """Follow the job."""
        if isinstance(said, BatchSpec):
            self.table.show(said, "waiting")
            self.table.look_at(0 if self.planning else len(said.tasks))
            self.lines.fit()
        elif isinstance(said, str):
            self.text.setText(f"Stopping: {said[0].lower()}{said[1:]}" if self._stopping() else said)
        elif isinstance(said, (Note, Notice)):
            self._tell(said)
        elif isinstance(said, FileEstimate):
            self._foresee(said)
        elif isinstance(said, ItemDone):
            self.lines.fit_line(self.table.conclude(said))
        elif isinstance(said, BatchProgress):
            self._follow(said)

    def finish(self, ended: Ended | None) -> None:
        """Say what came of it, and how to go on."""
        if ended is None:
            found = [line.forecast for line in self.table.lines if line.forecast]
            self.table.end(lambda line: "can be restored" if line.forecast else "not looked at")
            self.bar.setValue(0)  # nothing is restored yet
            self.text.setText(planned(found, len(self.table.lines), stopped=self._stopping()))
            return
        self.table.end(lambda line: _BEGUN if line.task.source in ended.kept else "not restored")
        self.text.setText(over(ended))
        if not ended.stopped:
            self.bar.setValue(_FULL)
        elif ended.rows or ended.kept:
            self.form.options.set({"resume": True})

    def fail(self, error: Exception) -> None:
        """Say what went wrong."""
        self.table.end(lambda _: "")
        message = in_words_of_the_panel(str(error))
        self.text.setText(f"Failed: {message}")
        complain(error, message)

    def enable(self) -> None:
        """Only what can be pressed is enabled."""
        idle = not self.job.running
        self.form.enable(idle)
        self.plan.setEnabled(idle)
        self.start.setEnabled(idle)
        self.halt.setEnabled(not idle and not self._stopping())
        self.report.setEnabled(self._page() is not None)

    def _begin(self, work: Callable[[Asked], Any]) -> None:
        try:
            asked = self.form.asked()
        except PristineError as error:
            show_error(str(error))
            return
        self.under_way, self.planning = asked, work is planning
        self.bar.setValue(0)
        self.text.setText("Looking at the files …")
        self._tell(None)
        self.job.start(work(asked))
        self.enable()

    def _foresee(self, forecast: FileEstimate) -> None:
        number, count = self.table.foretell(forecast), len(self.table.lines)
        self.lines.fit_line(number)
        self.table.look_at(number + 1)
        self.lines.go_along(number + 1)
        self.bar.setValue(_FULL * (number + 1) // count)
        if not self._stopping():
            self.text.setText(f"Planned {number + 1} of {count} files")

    def _follow(self, stand: BatchProgress) -> None:
        for number in self.table.follow(stand):
            self.lines.go_along(number)
        self.bar.setValue(round(_FULL * stand.fraction))
        if not self._stopping():
            self.text.setText(at_work(stand))

    def _tell(self, note: Note | Notice | None) -> None:
        """Show what the user should know: the last of each kind; none begins anew."""
        if note is None:
            self.notes.clear()
        else:
            self.notes[type(note)] = note.text[0].upper() + note.text[1:]
        self.news.setText("\n".join(self.notes.values()))
        self.news.setStyleSheet(f"color: {get_theme(self.viewer.theme).warning.as_hex()}")
        self.news.setVisible(bool(self.notes))

    def _stopping(self) -> bool:
        """Whether what is under way, or was, is to end."""
        return self.under_way is not None and self.under_way.stop.is_set()

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

    def _connect(self) -> None:
        self.form.changed.connect(self.enable)
        self.plan.clicked.connect(self.make_plan)
        self.start.clicked.connect(self.run_all)
        self.halt.clicked.connect(self.stop)
        self.report.clicked.connect(self.open_report)
        self.lines.activated.connect(self.show_line)
        self.job.tell(self)

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        for button in (self.plan, self.start, self.halt, self.report):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.text)
        layout.addWidget(self.news)
        layout.addWidget(self.lines, stretch=1)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def batch_widget() -> BatchPanel:
    """The panel in the viewer that asks for it."""
    return BatchPanel(current_viewer())
