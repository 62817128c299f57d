"""The dock panel: one class for all methods, built from what a method declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import PushButton
from napari import current_viewer
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from napari_pristine.errors import PristineError
from napari_pristine.events import Event, Note, Preview, Progress
from napari_pristine.gui.file_field import name_to_save
from napari_pristine.gui.job_runner import JobRunner, complain
from napari_pristine.gui.layers import look_of
from napari_pristine.gui.live import LiveLayer, finer_by
from napari_pristine.gui.method_form import MethodForm
from napari_pristine.gui.progress_view import ProgressView
from napari_pristine.jobs.lazy import lazy_restore
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.restore import Restored, run
from napari_pristine.jobs.train import training_job
from napari_pristine.methods import find_method
from napari_pristine.model import Model
from napari_pristine.recipe_file import save_recipe


class Panel(QWidget):  # type: ignore[misc]
    """The dock panel of one method."""

    def __init__(self, viewer: Any, method: str) -> None:
        super().__init__()
        self.viewer = viewer
        self.method = find_method(method)
        self.question = MethodForm(viewer, self.method)
        self.choice, self.pictures, self.models = self.question.choice, self.question.pictures, self.question.models
        self.preset, self.form = self.question.preset, self.question.form
        self.preview = PushButton(text="Preview here", tooltip="Restore only what can be seen now, of this slice.")
        self.start = PushButton(text="Run", tooltip="Restore the image.")
        self.keep = PushButton(text="Keep this", tooltip="Stop here and use what there is.")
        self.cancel = PushButton(text="Cancel", tooltip="Stop, and throw away what there is.")
        self.save = PushButton(
            text="Save recipe…", tooltip="Write all that is set here to a file, to do the same to other images."
        )
        self.watch = ProgressView(viewer)
        self.job = JobRunner()
        self.live: LiveLayer | None = None
        self.last_preview: LiveLayer | None = None
        self._lay_out()
        self._connect()
        self.enable()

    def reset_choices(self, _: Any = None) -> None:
        """Follow the layers of the viewer; napari calls this when they change."""
        self.question.refresh()
        self.enable()

    def run_all(self) -> None:
        """Restore all that is selected."""
        self._begin(self.choice.select, f"· {self.method.title}")

    def run_here(self) -> None:
        """Restore the visible part of the current slice, in a layer of its own."""
        before = self.last_preview
        self._begin(self.question.visible, "preview")
        if self.live is not None:
            self.last_preview = self.live
            if before is not None:
                before.discard()

    def learn(self) -> None:
        """Learn from the image, or from all selected layers, without restoring them."""
        try:
            recipe = self.question.recipe({}).model_copy(update={"axes": "", "adapt": False})
            job = training_job(self.question.examples(), recipe, self.models.model)
        except PristineError as error:
            show_error(str(error))
            return
        self.watch.reset("Reading the images …")
        self.job.start(job)
        self.enable()

    def scroll(self) -> None:
        """Add a layer in which each slice is restored when it is looked at."""
        try:
            whole = self.choice.image()
            recipe = self.question.recipe(self.choice.select())
            result = lazy_restore(make_plan(whole, recipe, mask=self.choice.masked(), model=self.models.model))
        except PristineError as error:
            show_error(str(error))
            return
        look = look_of(self.choice.layer, whole, result)
        look["metadata"] = {**look["metadata"], "pristine": {"recipe": recipe.model_dump(mode="json")}}
        self.viewer.add_image(result.data, name=f"{whole.name} · {self.method.title}, while scrolling", **look)

    def save_recipe_file(self, path: str) -> bool:
        """Write what Run would do to a file; what is wrong with it is shown. Returns whether it was written."""
        try:
            save_recipe(path, self.question.stored_recipe(), overwrite=True)
        except PristineError as error:
            show_error(str(error))
            return False
        show_info(f"Saved. Do the same to other images: pristine batch '{path}' INPUT... -o FOLDER")
        return True

    def stop(self) -> None:
        """Cancel the job, if there is one, and throw away what there is of it."""
        if self.job.heeded:
            self.watch.reset("Cancelled")
        self.job.cancel()  # first: napari takes its time to remove a layer, and the job can end meanwhile
        if self.live is not None:
            self.live.discard()
            self.live = None
        self.enable()

    def _begin(self, select: Callable[[], dict[str, str]], suffix: str) -> None:
        try:
            whole = self.choice.image()
            recipe = self.question.recipe(select())
            part = whole.select(recipe.select)
            finer = finer_by(part, recipe.together, recipe.params)
            others = self.pictures.images(whole.axes)
        except PristineError as error:
            show_error(str(error))
            return
        look = look_of(self.choice.layer, whole, part.on_finer_grid(part.data, finer))
        self.live = LiveLayer(self.viewer, part, finer, look, f"{whole.name} {suffix}")
        self.watch.reset("Measuring the noise …")
        self.job.start(run(whole, recipe, mask=self.choice.masked(), extra_images=others, model=self.models.model))
        self.enable()

    def hear(self, event: Event) -> None:
        """Follow the job."""
        if isinstance(event, Progress):
            self.watch.follow(event)
        elif isinstance(event, Preview) and self.live is not None:
            self.live.show(event)
        elif isinstance(event, Note):
            self.watch.note(event)
            if event.warning:
                show_warning(event.text)

    def finish(self, result: Restored | Model) -> None:
        """Show what came of the job."""
        if isinstance(result, Model):
            self.models.take_unsaved(result)
            self.watch.conclude_learning(result)
            return
        if self.live is not None:
            self.live.settle(result)
            self.live = None
        self.watch.conclude(result)

    def fail(self, error: Exception) -> None:
        """Say what went wrong."""
        self.stop()
        self.watch.reset(f"Failed: {error}")
        complain(error, str(error))

    def ask_where(self) -> str:
        """Save the recipe to a file that the user names; returns its name, empty if it was not saved."""
        try:
            self.question.stored_recipe()  # first: nobody chooses a name in vain
        except PristineError as error:
            show_error(str(error))
            return ""
        path = name_to_save(self, "Save the recipe", f"{self.method.key}.yaml", "Recipes (*.yaml)")
        return path if path and self.save_recipe_file(path) else ""

    def enable(self) -> None:
        """Only what can be pressed is enabled."""
        idle, there = not self.job.running, self.choice.layer is not None
        self.save.enabled = there
        self.start.enabled = there and idle
        self.preview.enabled = there and idle and not self.pictures.pictures  # parts of several would have to match
        for button in (self.keep, self.cancel):
            button.enabled = self.job.heeded
        self.models.enable(idle, there)

    def _connect(self) -> None:
        self.pictures.changed.connect(self.enable)
        self.models.changed.connect(self.enable)
        self.models.learn.changed.connect(self.learn)
        self.models.scroll.changed.connect(self.scroll)
        self.start.changed.connect(self.run_all)
        self.preview.changed.connect(self.run_here)
        self.save.changed.connect(self.ask_where)
        self.keep.changed.connect(self.job.keep)
        self.cancel.changed.connect(self.stop)
        self.job.tell(self)

    def _lay_out(self) -> None:
        buttons = QGridLayout()
        for column, button in enumerate((self.save, self.preview, self.start)):
            buttons.addWidget(button.native, 0, 2 * column, 1, 2)
        for column, button in enumerate((self.keep, self.cancel)):
            buttons.addWidget(button.native, 1, 3 * column, 1, 3)
        layout = QVBoxLayout(self)
        layout.addWidget(self.question, stretch=1)
        layout.addLayout(buttons)
        layout.addWidget(self.watch)


def _panel_of(method: str) -> Callable[[], Panel]:
    def open_panel() -> Panel:
        return Panel(current_viewer(), method)

    return open_panel


inr_widget = _panel_of("inr")
sampling_widget = _panel_of("sampling")
iddp_widget = _panel_of("iddp")
blind2unblind_widget = _panel_of("blind2unblind")
linr_widget = _panel_of("linr")
