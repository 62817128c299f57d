"""Dock panel that restores many files by one recipe, with a plan beforehand and a table of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from napari import Viewer, current_viewer
from napari.utils.notifications import show_error
from napari.utils.theme import get_theme
from qtpy.QtCore import QModelIndex, QSize, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from napari_pristine.batch.estimate import FileEstimate
from napari_pristine.batch.inputs import REPORTS
from napari_pristine.batch.results import count_outcomes
from napari_pristine.batch.spec import BatchSpec
from napari_pristine.batch.store import WorkDir
from napari_pristine.errors import PristineError
from napari_pristine.events import BatchProgress, ItemDone, Note
from napari_pristine.gui.batch_form import BatchForm
from napari_pristine.gui.batch_job import BatchRequest, plan_batch, run_batch, use_panel_labels
from napari_pristine.gui.batch_table import BatchTableModel, BatchTableView
from napari_pristine.gui.file_layers import show_pair
from napari_pristine.gui.job_runner import Job, JobPanel, report_error
from napari_pristine.gui.progress_view import BAR_MAXIMUM
from napari_pristine.gui.widgets import button, find_panel, wrapped_label
from napari_pristine.recipe import Recipe
from napari_pristine.text import counted, duration, short_name

_SHOWN_NOTES = 3


class BatchPanel(JobPanel):
    """The dock panel for many files."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.form = BatchForm(viewer, self._open_panels)
        self.plan_button = button(
            "Plan", "Show size, time and memory of each file, and what cannot be restored. Nothing is written.",
            self.plan,
        )  # fmt: skip
        self.run_button = button("Run", "Restore all files.", self.run)
        self.stop_button = button("Stop", "Stop; finished files and blocks are kept, and 'Run' continues.", self.stop)
        self.report_button = button("Open report", "Show the results, with pictures, in the browser.", self.open_report)
        self.bar = QProgressBar()
        self.bar.setRange(0, BAR_MAXIMUM)
        self.bar.setTextVisible(False)
        policy = self.bar.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.bar.setSizePolicy(policy)
        self.status = wrapped_label()
        self.notes = wrapped_label()
        self.table = BatchTableModel(viewer)
        self.view = BatchTableView(self.table)
        self._planning = False
        self._stopped = False
        self._notes: list[str] = []
        buttons = QHBoxLayout()
        for widget in (self.plan_button, self.run_button, self.stop_button, self.report_button):
            buttons.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        layout.addLayout(buttons)
        for widget in (self.bar, self.status, self.notes):
            layout.addWidget(widget)
        layout.addWidget(self.view, stretch=1)
        self.form.changed.connect(self._update_enabled)
        self.view.activated.connect(self.show_row)
        self._show_notes()
        self._update_enabled()

    def plan(self) -> None:
        """Estimate all files; nothing is written."""
        self._start(plan_batch)

    def run(self) -> None:
        """Restore all files."""
        self._start(run_batch)

    def stop(self) -> None:
        """Stop the job, if there is one; finished files and blocks are kept."""
        if self.runner.active:
            self.runner.cancel()
            self._stopped = True
            self.status.setText("Stopping …")
        self._update_enabled()

    def open_report(self) -> None:
        """Show the report in the browser."""
        report = self._report()
        if report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(report)))

    def show_row(self, index: QModelIndex) -> None:
        """Add the image of a row and its result, if there is one, to the viewer."""
        row = self.table.rows[index.row()]
        try:
            show_pair(self.viewer, row.task.source, row.task.target if row.has_result else None)
        except PristineError as error:
            show_error(str(error))

    def sizeHint(self) -> QSize:  # noqa: N802
        """Wide enough for the most important columns."""
        return super().sizeHint().expandedTo(QSize(560, 720))

    def on_event(self, event: object) -> None:
        if isinstance(event, BatchSpec):
            self.table.set_files(event)
            if self._planning:
                self.table.set_state(0, "reading …")
            self.view.fit_columns()
        elif isinstance(event, Note):
            self._notes.append(event.text[0].upper() + event.text[1:])
            self._show_notes()
        elif isinstance(event, FileEstimate):
            number, total = self.table.set_estimate(event), len(self.table.rows)
            self.table.set_state(number + 1, "reading …")
            self.view.fit_row(number)
            self.view.follow(number + 1)
            self.bar.setValue(BAR_MAXIMUM * (number + 1) // total)
            self.status.setText(f"Planned {number + 1} of {counted(total, 'file')}")
        elif isinstance(event, ItemDone):
            self.view.fit_row(self.table.set_item(event))
        elif isinstance(event, BatchProgress):
            for number in self.table.set_progress(event):
                self.view.follow(number)
            self.bar.setValue(round(BAR_MAXIMUM * event.fraction))
            self.status.setText(progress_text(event))

    def on_result(self, _: object) -> None:
        if self._planning:
            self._show_plan()
        else:
            self.table.show_end(lambda _: "not restored")
            self.status.setText(f"Done: {self._counts(0)}. Double-click a row to see image and result.")
            self.bar.setValue(BAR_MAXIMUM)

    def on_error(self, error: Exception) -> None:
        self.table.show_end(lambda _: "")
        message = use_panel_labels(str(error))
        self.status.setText(f"Failed: {message}")
        report_error(error, message)

    def on_finished(self) -> None:
        if self._stopped and self._planning:
            self._show_plan()
        elif self._stopped:
            partial = [row for row in self.table.rows if row.item is None and WorkDir(row.task.target).has_blocks]
            self.table.show_end(lambda row: "partial; finished blocks are kept" if row in partial else "not restored")
            if partial or any(row.item for row in self.table.rows):
                kept = "Finished files and blocks are kept; 'Run' continues."
                self.status.setText(f"Stopped: {self._counts(len(partial))}. {kept}")
            else:
                self.status.setText("Stopped before anything was written.")
        self._update_enabled()

    def _start(self, make_job: Callable[[BatchRequest], Job]) -> None:
        try:
            request = self.form.request()
        except PristineError as error:
            show_error(str(error))
            return
        self._planning, self._stopped = make_job is plan_batch, False
        self.bar.setValue(0)
        self.status.setText("Looking for files …")
        self._notes.clear()
        self._show_notes()
        self.runner.start(make_job(request))
        self._update_enabled()

    def _show_plan(self) -> None:
        """Summarise the estimates, even if planning was stopped."""
        self.table.show_end(lambda row: "can be restored" if row.estimate else "not planned")
        self.bar.setValue(0)  # nothing is restored yet
        estimates = [row.estimate for row in self.table.rows if row.estimate]
        done = sum(estimate.done for estimate in estimates)
        usable = [estimate for estimate in estimates if not (estimate.problem or estimate.done)]
        times = [estimate.seconds for estimate in usable if estimate.seconds is not None]
        time = f", about {duration(sum(times))} with one process" if times else ""
        memory = f", {max(estimate.memory for estimate in usable) / 1e9:.2g} GB of memory" if usable else ""
        before = f", {done} done before" if done else ""
        summary = f"{len(usable)} of {counted(len(estimates), 'file')} can be restored{time}{memory}{before}."
        total = len(self.table.rows)
        if self._stopped:
            were = "was" if total == 1 else "were"
            stopped = f"Stopped: {total - len(estimates)} of {counted(total, 'file')} {were} not planned."
            summary = f"{stopped} {summary}" if estimates else stopped
        self.status.setText(summary)

    def _counts(self, partial: int) -> str:
        counts = count_outcomes([row.item for row in self.table.rows if row.item]) | {"partial": partial}
        parts = [f"{count} {name}" for name, count in counts.items() if count or name == "restored"]
        return f"{', '.join(parts)}, of {counted(len(self.table.rows), 'file')}"

    def _show_notes(self) -> None:
        """Show the last notes on the whole batch below the progress bar."""
        self.notes.setText("\n".join(self._notes[-_SHOWN_NOTES:]))
        self.notes.setStyleSheet(f"color: {get_theme(self.viewer.theme).warning.as_hex()}")
        self.notes.setVisible(bool(self._notes))

    def _report(self) -> Path | None:
        """The report in the folder of the results, if there is one."""
        if not self.form.output.path():
            return None
        report = Path(self.form.output.path()).expanduser().absolute() / REPORTS[1]
        return report if report.is_file() else None

    def _open_panels(self) -> dict[str, Callable[[], Recipe]]:
        """The open restore panels: title of the method, and a function that returns the recipe."""
        from napari_pristine.gui.restore_panel import RestorePanel  # here, as it opens this panel

        main_window: QWidget = self
        while (parent := main_window.parentWidget()) is not None:
            main_window = parent
        return {
            panel.form.method.title: panel.form.recipe_for_files for panel in main_window.findChildren(RestorePanel)
        }

    def _update_enabled(self) -> None:
        """Enable what can be used now."""
        idle = not self.runner.running
        self.bar.setVisible(not idle)
        self.form.enable(idle)
        self.plan_button.setEnabled(idle)
        self.run_button.setEnabled(idle)
        self.stop_button.setEnabled(self.runner.active)
        self.report_button.setEnabled(self._report() is not None)


def progress_text(progress: BatchProgress) -> str:
    """Number of finished files, the current file, and the remaining time."""
    active = [short_name(source) for source, _ in progress.active]
    name = progress.name if progress.phase == "reading" else active[0] if len(active) == 1 else ""
    if len(name) > 44:
        name = f"{name[:26]}…{name[-17:]}"
    phase = f"{progress.phase} " if progress.phase != "restoring" and name else ""
    remaining = f"{duration(progress.remaining)} left" if progress.remaining is not None else ""
    return " · ".join(
        filter(None, (f"{progress.items} of {counted(progress.total, 'file')}", f"{phase}{name}", remaining))
    )


def open_batch_with(viewer: Viewer, recipe: Recipe, inputs: Iterable[str | Path] = ()) -> BatchPanel:
    """Open the Batch panel as a tab beside the other panels, filled in; one that is open is used.

    Args:
        viewer: The napari viewer.
        recipe: The recipe, which need not be in a file.
        inputs: Files and folders; for a single folder, a folder beside it is proposed for the results.
    """
    panel = find_panel(viewer, BatchPanel)
    if panel is None:
        panel = viewer.window.add_plugin_dock_widget("napari-pristine", "Batch", tabify=True)[1]
    dock = panel.parentWidget()
    panel.form.use_recipe(recipe)
    panel.form.inputs.add(map(str, inputs))
    folders = [Path(path) for path in panel.form.inputs.paths()]
    if not panel.form.output.path() and len(folders) == 1 and folders[0].is_dir():
        panel.form.output.set_path(str(folders[0].with_name(f"{folders[0].name} restored")))
    dock.show()
    dock.raise_()
    return cast("BatchPanel", panel)


def open_panel() -> BatchPanel:
    """Make a panel for the current viewer."""
    return BatchPanel(current_viewer())
