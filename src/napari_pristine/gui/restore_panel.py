"""Dock panel that restores an image of the viewer by one of the methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from napari import Viewer, current_viewer
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtWidgets import QDockWidget, QGridLayout, QLabel, QVBoxLayout

from napari_pristine.errors import PristineError
from napari_pristine.events import Note, Preview, Progress
from napari_pristine.gui.job_runner import Job, JobPanel, report_error
from napari_pristine.gui.layers import ResultLayer, layer_arguments
from napari_pristine.gui.method_form import MethodForm
from napari_pristine.gui.progress_view import ProgressView
from napari_pristine.gui.widgets import ask_save_path, button
from napari_pristine.jobs.lazy import lazy_restore
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import Restored, run_plan
from napari_pristine.jobs.train import training_job
from napari_pristine.methods import METHODS
from napari_pristine.model import Model
from napari_pristine.recipe_file import save_recipe


class RestorePanel(JobPanel):
    """The dock panel for one image.

    Args:
        viewer: The napari viewer.
        method: Key of the method that is chosen first.
    """

    def __init__(self, viewer: Viewer, method: str = next(iter(METHODS))) -> None:
        super().__init__(viewer)
        self.form = MethodForm(viewer, method)
        self.save_button = button(
            "Save recipe…", "Save all settings to a file, to restore other images in the same way.", self.ask_and_save
        )
        self.preview_button = button(
            "Preview here", "Restore only the part of the current slice that is visible.", self.run_preview
        )
        self.run_button = button("Run", "Restore the image.", self.run)
        self.keep_button = button("Keep this", "Stop now and use the result so far.", self.runner.keep)
        self.cancel_button = button("Cancel", "Stop and discard the result so far.", self.stop)
        self.progress = ProgressView(viewer)
        self.result_layer: ResultLayer | None = None
        self.preview_layer: ResultLayer | None = None
        buttons = QGridLayout()
        for column, widget in enumerate((self.save_button, self.preview_button, self.run_button)):
            buttons.addWidget(widget, 0, 2 * column, 1, 2)
        for column, widget in enumerate((self.keep_button, self.cancel_button)):
            buttons.addWidget(widget, 1, 3 * column, 1, 3)
        layout = QVBoxLayout(self)
        layout.addWidget(self.form, stretch=1)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        self.form.changed.connect(self._update_enabled)
        self.form.method_box.changed.connect(self._update_title)
        self.form.model_select.train_clicked.connect(self.train)
        self.form.model_select.scroll_clicked.connect(self.add_lazy_layer)
        self._update_enabled()

    def reset_choices(self, _: object = None) -> None:
        """Update to the layers of the viewer; napari calls this when they change."""
        self.form.refresh()
        self._update_enabled()

    def run(self) -> None:
        """Restore the chosen range of the image."""
        self._start(self.form.layer_select.selected_ranges, preview=False)

    def run_preview(self) -> None:
        """Restore the visible part of the current slice, in a layer that replaces the previous preview."""
        self._start(self.form.visible_part, preview=True)

    def train(self) -> None:
        """Train a network on the image or on all selected layers, without restoring them."""
        try:
            recipe = self.form.recipe({}).model_copy(update={"axes": "", "adapt": False})
            job = training_job(self.form.training_images(), recipe, self.form.model_select.model)
        except PristineError as error:
            show_error(str(error))
            return
        self.progress.reset("Reading the images …")
        self.runner.start(job)
        self._update_enabled()

    def add_lazy_layer(self) -> None:
        """Add a layer whose slices are restored by the trained network when they are shown."""
        select = self.form.layer_select
        try:
            image = select.image()
            plan = self.form.deferred_plan(select.selected_ranges())()
            result = lazy_restore(plan)
        except PristineError as error:
            show_error(str(error))
            return
        arguments = layer_arguments(select.layer, image, result)
        arguments["metadata"] = {**arguments["metadata"], "pristine": {"recipe": plan.recipe.model_dump(mode="json")}}
        name = f"{image.name} · {self.form.method.title}, while scrolling"
        self.viewer.add_image(result.data, name=name, **arguments)

    def save_recipe(self, path: str) -> bool:
        """Save the recipe to a file; errors are shown. Returns whether it was saved."""
        try:
            save_recipe(path, self.form.recipe_for_files(), overwrite=True)
        except PristineError as error:
            show_error(str(error))
            return False
        show_info(f"Saved. Restore other images in the same way: pristine batch '{path}' INPUT... -o FOLDER")
        return True

    def ask_and_save(self) -> str:
        """Ask for a path and save the recipe there; returns the path, empty if it was not saved."""
        try:
            self.form.recipe_for_files()  # report errors before the user chooses a path
        except PristineError as error:
            show_error(str(error))
            return ""
        path = ask_save_path(self, "Save the recipe", f"{self.form.method.key}.yaml", "Recipes (*.yaml)")
        return path if path and self.save_recipe(path) else ""

    def stop(self) -> None:
        """Cancel the job, if there is one, and remove its layer."""
        if self.runner.active:
            self.progress.reset("Cancelled")
        self.runner.cancel()  # first: removing a layer takes a second, in which the job might end
        if self.result_layer is not None:
            self.result_layer.remove()
            self.result_layer = None
        self._update_enabled()

    def on_event(self, event: object) -> None:
        if isinstance(event, RestorationPlan) and self.result_layer is not None:
            self.result_layer.set_plan(event)
            if self.result_layer.is_preview:
                if self.preview_layer is not None:
                    self.preview_layer.remove()
                self.preview_layer = self.result_layer
        elif isinstance(event, Progress):
            self.progress.show_progress(event)
        elif isinstance(event, Preview) and self.result_layer is not None:
            self.result_layer.show_preview(event)
        elif isinstance(event, Note):
            self.progress.add_note(event)
            if event.warning:
                show_warning(event.text)

    def on_result(self, result: object) -> None:
        if isinstance(result, Model):
            self.form.model_select.add_trained(result)
            self.progress.show_model(result)
        elif isinstance(result, Restored):
            if self.result_layer is not None:
                self.result_layer.show_result(result)
                self.result_layer = None
            self.progress.show_result(result)

    def on_error(self, error: Exception) -> None:
        self.stop()
        self.progress.reset(f"Failed: {error}")
        report_error(error, str(error))

    def on_finished(self) -> None:
        self._update_enabled()

    def _start(self, select: Callable[[], dict[str, str]], *, preview: bool) -> None:
        """Start a restoration; its plan is made once, in the worker thread."""
        layer = self.form.layer_select.layer
        try:
            image = self.form.layer_select.image()
            make_plan = self.form.deferred_plan(select())
        except PristineError as error:
            show_error(str(error))
            return
        name = f"{image.name} preview" if preview else f"{image.name} · {self.form.method.title}"
        self.result_layer = ResultLayer(self.viewer, layer, image, name, is_preview=preview)
        self.progress.reset("Measuring the noise …")
        self.runner.start(_restore(make_plan))
        self._update_enabled()

    def _update_title(self) -> None:
        """Show the method in the title bar of the dock widget, which napari names after the entry of the menu."""
        dock = self.parentWidget()
        if isinstance(dock, QDockWidget) and dock.titleBarWidget() is not None:
            dock.setWindowTitle(self.form.method.title)
            for label in dock.titleBarWidget().findChildren(QLabel):
                label.setText(self.form.method.title)

    def _update_enabled(self) -> None:
        """Enable what can be used now."""
        idle, has_image = not self.runner.running, self.form.layer_select.layer is not None
        self.form.method_box.enabled = idle
        self.save_button.setEnabled(has_image)
        self.run_button.setEnabled(has_image and idle)
        # a part of several images would need the same part of each, on grids of their own
        self.preview_button.setEnabled(has_image and idle and not self.form.extra_images.rows)
        for widget in (self.keep_button, self.cancel_button):
            widget.setEnabled(self.runner.active)
        self.form.model_select.update_enabled(idle=idle, has_image=has_image)


def _restore(make_plan: Callable[[], RestorationPlan]) -> Job:
    """Make the plan, yield it, and run it."""
    plan = make_plan()
    yield plan
    return (yield from run_plan(plan))


def open_panel(method: str) -> RestorePanel:
    """Make a panel for the current viewer, with a method chosen."""
    return RestorePanel(current_viewer(), method)


def __getattr__(name: str) -> Callable[[], RestorePanel]:
    """`open_KEY` makes a panel with the method of this key chosen; the manifest names one for each method."""
    method = name.removeprefix("open_")
    if not name.startswith("open_") or method not in METHODS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return partial(open_panel, method)
