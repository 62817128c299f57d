"""Dock panel that restores an image of the viewer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

from napari import Viewer, current_viewer
from napari.layers import Image as ImageLayer
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtWidgets import QDockWidget, QHBoxLayout, QLabel, QPushButton, QVBoxLayout

from napari_pristine.errors import PristineError
from napari_pristine.events import BlockDone, Note, Preview, Progress
from napari_pristine.gui.job_runner import JobPanel, report_error
from napari_pristine.gui.layers import describe_image, layer_arguments
from napari_pristine.gui.method_form import MethodForm
from napari_pristine.gui.origin import result_facts, result_metadata, show_sources
from napari_pristine.gui.preferences import read_preferences
from napari_pristine.gui.progress_view import ProgressView
from napari_pristine.gui.recipe_menu import RecipeMenu
from napari_pristine.gui.restore_job import Judged, restore_and_judge
from napari_pristine.gui.result_controls import ResultControls
from napari_pristine.gui.result_layer import ResultLayer
from napari_pristine.gui.widgets import ask, button
from napari_pristine.jobs.choose import recipe_with
from napari_pristine.jobs.lazy import lazy_restore
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import Restored
from napari_pristine.jobs.train import training_job
from napari_pristine.methods import METHODS
from napari_pristine.model import Model
from napari_pristine.recipe import Recipe
from napari_pristine.resources import free_memory
from napari_pristine.settings import make
from napari_pristine.text import counted, duration

_MANY_PLANES = 2000
"""Number of planes from which a restoration is started only after a question."""
_CONFUSABLE = 4
"""Number of dimensions from which guessed axes may be confused, so that they are asked about."""


class RestorePanel(JobPanel):
    """The dock panel for one image.

    Args:
        viewer: The napari viewer.
        method: Key of the method that is chosen first.
    """

    def __init__(self, viewer: Viewer, method: str = next(iter(METHODS))) -> None:
        super().__init__(viewer)
        self.form = MethodForm(viewer, method)
        self.preview_button = button("&Preview", "Restore what you see, to try the settings.", self.run_preview)
        self.run_button = button("&Restore", "Restore the region.", self.run)
        self.run_button.setDefault(True)
        self.keep_button = button("&Keep", "Stop now and use the result so far.", self.keep)
        self.cancel_button = button("&Cancel", "Stop and discard the result so far.", self.stop)
        self.more_button = QPushButton("⋯")
        self.more_button.setStyleSheet("QPushButton::menu-indicator { width: 0; }")
        self.more_button.setFixedWidth(36)
        self.more_button.setToolTip("Save the result, save or load recipes, restore other images in the same way.")
        self.menu = RecipeMenu(self)
        self.more_button.setMenu(self.menu)
        self.progress = ProgressView(viewer)
        self.controls = ResultControls(viewer)
        self.results: list[ResultLayer] = []
        self.result: ResultLayer | None = None
        self._plan: RestorationPlan | None = None
        self._done: list[tuple[int | slice, ...]] = []
        self._step = 0  # of the only fit of a job; 0 if there are several, or it is over
        self._reached = (0, 0)  # step of it, and all steps
        self._kept, self._title = False, ""
        self._expected: float | None = None
        self._queue: list[ImageLayer] = []
        self._asked: weakref.WeakSet[object] = weakref.WeakSet()
        buttons = QHBoxLayout()
        for widget in (self.preview_button, self.run_button, self.keep_button, self.cancel_button, self.more_button):
            buttons.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addWidget(self.controls)
        layout.addStretch()
        self.form.changed.connect(self._update_enabled)
        self.form.method_box.changed.connect(self._update_title)
        self.form.model_select.train_clicked.connect(self.train)
        self.form.model_select.scroll_clicked.connect(self.add_lazy_layer)
        self.controls.strength.valueChanged.connect(self.form.forget_strength)
        self.controls.step_chosen.connect(self.use_step)
        self.controls.compare_clicked.connect(self.compare)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_selected)
        viewer.bind_key("N", _show_noisy, overwrite=True)
        self._update_enabled()

    def reset_choices(self, _: object = None) -> None:
        """Update to the layers of the viewer; napari calls this when they change."""
        self.form.refresh()
        self._update_enabled()

    def run(self) -> None:
        """Restore the chosen region of the image; large jobs and doubtful axes are asked about first."""
        if self.form.layer_select.layer is not None and self._is_wanted():
            self._start(self.form.layer_select.region_ranges, preview=False)

    def run_preview(self) -> None:
        """Restore the visible part of the current slice."""
        self._start(self.form.layer_select.visible_part, preview=True)

    def keep(self) -> None:
        """Use the result so far; of a stack, only what is restored, if the user agrees."""
        total = 0 if self._plan is None else len(self._plan.indices)
        if (
            total > 1
            and len(self._done) < total
            and not ask(
                self,
                f"{len(self._done)} of {counted(total, 'plane')} {'is' if len(self._done) == 1 else 'are'} restored. "
                "Keep these and the one that is being restored, without the others?",
                "Keep these",
                "Continue restoring",
            )
        ):
            return
        self._kept = True
        self.runner.keep()

    def compare(self) -> None:
        """Open the panel that compares the result with the noisy image."""
        from napari_pristine.gui.compare_panel import open_compare  # imports matplotlib, which takes a while

        if self.result is not None and self.result.layer is not None and not self.result.deleted:
            open_compare(self.viewer, self.result.source, self.result.layer)

    def use_step(self, step: int) -> None:
        """Restore again with a fit that ends after a step."""
        assert self.result is not None
        assert self.result.layer is not None
        if self.result.source not in self.viewer.layers:
            show_error("the image was removed; its fit cannot be repeated")
            return
        recipe = make(Recipe, result_facts(self.result.layer)["recipe"])
        self.form.layer_select.image_box.choose(self.result.source)
        self.form.layer_select.enter_axes(recipe.axes)
        select, preview = recipe.select, self.result.is_preview
        if recipe.choice is not None:  # steps are those of the method that was chosen
            recipe = recipe_with(recipe, recipe.choice)
        try:
            if self.form.method.key != recipe.method or self.form.recipe(select).settings != recipe.settings:
                self.form.show_recipe(recipe)
        except PristineError as error:
            show_error(str(error))
            return
        self.form.settings.set_values({"last_step": step})
        self._start(lambda: select, preview=preview)

    def train(self) -> None:
        """Train a network on the image or on all selected layers, without restoring them."""
        try:
            recipe = self.form.recipe({}).model_copy(update={"axes": "", "adapt": False})
            images = self.form.training_images()
            job = training_job(images, recipe, self.form.model_select.model)
        except PristineError as error:
            show_error(str(error))
            return
        if not images:
            return
        self.progress.reset("Reading the images …")
        self.runner.start(job)
        self._update_enabled()

    def add_lazy_layer(self) -> None:
        """Add a layer whose slices are restored by the trained network when they are shown."""
        select, layer = self.form.layer_select, self.form.layer_select.layer
        if layer is None:
            return
        try:
            image = select.image()
            plan = self.form.deferred_plan(select.selected_ranges())()
            result = lazy_restore(plan)
        except PristineError as error:
            show_error(str(error))
            return
        arguments = layer_arguments(layer, image, result)
        arguments["metadata"] |= result_metadata(layer, {"recipe": plan.recipe.model_dump(mode="json")})
        name = f"{image.name} · {self.form.method.title}, while scrolling"
        self.viewer.add_image(result.data, name=name, **arguments)

    def run_others(self) -> None:
        """Restore the other selected layers in the same way, one after the other."""
        chosen, accepts = self.form.layer_select.layer, self.form.layer_select.image_box.accepts
        self._queue = [layer for layer in self.viewer.layers.selection if accepts(layer) and layer != chosen]
        if not self._queue:
            show_info("Select the other layers in the layer list first, with Ctrl.")
        elif not self.runner.running:
            self._run_next()

    def stop(self) -> None:
        """Cancel the job, if there is one; its layer is hidden at once, and removed when the job has ended."""
        self._queue = []
        if self.runner.active:
            self.progress.reset("Cancelled")
            self.runner.cancel()
            if self.result is not None:
                self.result.discard()
        self._update_enabled()

    def on_event(self, event: object) -> None:
        if isinstance(event, RestorationPlan) and self.result is not None:
            self._plan = event
            self.result.set_plan(event)
        elif isinstance(event, Progress) and self._plan is not None and self._plan.is_choosing:
            self.progress.status.setText("Comparing methods on a part of the image …")
        elif isinstance(event, Progress) and self._plan is not None:
            alone = self._plan.has_one_fit and event.block == 0 and event.blocks <= 1 + self._plan.has_two_stages
            self._step = event.step if alone else 0
            self._reached = (event.step, event.steps) if alone else self._reached
            self.progress.show_progress(event, len(self._done), len(self._plan.indices))
        elif isinstance(event, Progress):
            self.progress.show_progress(event)
        elif isinstance(event, Preview) and self.result is not None:
            self.result.show_preview(event, self._step)
        elif isinstance(event, BlockDone) and self._plan is not None:
            self._done.append(self._plan.output_blocks.region(event.index))
        elif isinstance(event, Judged):
            self.progress.show_verdicts(event.verdicts, event.share)
        elif isinstance(event, Note):
            self.progress.add_note(event)
            if event.warning:
                show_warning(event.text)

    def on_result(self, result: object) -> None:
        if isinstance(result, Model):
            self.form.model_select.add_trained(result)
            self.progress.show_model(result)
        elif isinstance(result, Restored) and self.result is not None and self._plan is not None:
            partly = len(self._done) < len(self._plan.indices)
            if self._expected and not partly and not self._kept:
                self.form.learn_time(self._expected, result.seconds)
            self.result.show_result(result, self._done if partly else None)
            strength = self.form.loaded.strength if self.form.loaded is not None else []
            count = len(self.result.strengths)
            if strength and self.result.can_mix and (len(strength) == 1 or len(strength) % count == 0):
                # those of RGB are one for each sample
                self.result.mix(strength * count if len(strength) == 1 else strength[:: len(strength) // count])
            self.progress.show_result(result, self._title)

    def on_error(self, error: Exception) -> None:
        if self.result is not None:
            self.result.discard()
        self.progress.reset(f"Failed: {error}")
        report_error(error, str(error))

    def on_finished(self) -> None:
        self._plan, self._done = None, []
        if self.result is not None:
            self.result.remove()
            step, self.result.steps = self._reached
            chosen = self._kept or self.form.settings.values().get("last_step") is not None
            self.result.stopped = step < self.result.steps and not chosen
            self.result.report = self.progress.report
        self._show_controls()
        self._update_enabled()
        self._run_next()

    def _start(self, select: Callable[[], dict[str, str]], *, preview: bool) -> None:
        """Start a restoration; its plan is made once, in the worker thread."""
        layer = self.form.layer_select.layer
        try:
            image, ranges = self.form.layer_select.image(), select()
            make_plan = self.form.deferred_plan(ranges)
            recipe = self.form.recipe(ranges)
            kind = " (preview)" if preview else " (part)" if image.select(ranges).shape != image.shape else ""
        except PristineError as error:
            show_error(str(error))
            return
        self._expected = None if preview else self.form.seconds(self.form.effort.value)
        self._title = f"{self.form.method.title}, {self.form.effort.title()}"
        name = f"{image.name} · {self._title}{kind}"
        known = [result for result in self.results if result.source == layer]
        self.result = known[0] if known else ResultLayer(self.viewer, layer)
        if not known:
            self.results.append(self.result)
        if not preview:
            name = self.result.distinct(name, recipe)
        self.result.begin(image, name, is_preview=preview)
        self._plan, self._done, self._step, self._reached, self._kept = None, [], 0, (0, 0), False
        self.progress.reset("Measuring the noise …")
        self.runner.start(restore_and_judge(make_plan))
        self._update_enabled()

    def _is_wanted(self) -> bool:
        """Ask about axes that may be confused, and about large jobs; True if the user goes on."""
        form, layer = self.form, self.form.layer_select.layer
        axes = form.layer_select.axes.value.replace("S", "")
        if len(axes) >= _CONFUSABLE and form.layer_select.axes_guessed and layer not in self._asked:
            sizes = describe_image(form.layer_select.image())
            if not ask(
                self,
                f"The layer does not name its axes; they were guessed: {sizes}. Are they right?",
                "Restore",
                "Change them",
            ):
                form.more.expand()
                form.layer_select.axes.native.setFocus()
                return False
            self._asked.add(layer)
        seconds = form.seconds(form.effort.value) or 0.0
        memory, free = form.memory.get(form.effort.value, 0), free_memory()
        if form.block_count > _MANY_PLANES or seconds > 60 * read_preferences().ask_after or memory > free:
            size = f"{form.block_count:,} {'plane' if form.block_count == 1 else 'planes'}"
            time = f", about {duration(seconds)}" if seconds else ""
            needs = f", about {memory / 1e9:.2g} GB of memory, of which {free / 1e9:.2g} GB are free"
            return ask(
                self,
                f"{size}{time}{needs if memory > free else ''}. Restore all of it? Batch does so in the background, "
                "keeps results on disk, and can be interrupted.",
                "Restore all",
                "Cancel",
            )
        return True

    def _run_next(self) -> None:
        """Restore the next of the layers that wait."""
        while self._queue:
            layer = self._queue.pop(0)
            if layer in self.viewer.layers:
                self.form.layer_select.image_box.choose(layer)
                self._start(self.form.layer_select.selected_ranges, preview=False)
                if self.runner.running:
                    return

    def _show_controls(self) -> None:
        """Show the controls of the result."""
        steps, stopped = (0, False) if self.result is None else (self.result.steps, self.result.stopped)
        self.controls.show_result(self.result, steps, stopped=stopped)

    def _show_known(self) -> None:
        """Show what is known of the image that is chosen, in place of what is known of another one."""
        layer = self.form.layer_select.layer
        known = next((result for result in self.results if result.source is layer), None)
        if known is not self.result and not self.runner.running:
            self.result = known
            self.progress.show_report(None if known is None else known.report)
            self._show_controls()

    def _on_selected(self, _: object = None) -> None:
        """Follow the selected layer, unless a job is running."""
        if not self.runner.running:
            self.form.layer_select.image_box.follow_selection()

    def _on_removed(self, _: object = None) -> None:
        """Forget images that were removed; a job whose layer was deleted is cancelled, as its result is not wanted."""
        for result in [result for result in self.results if result.deleted]:
            if self.runner.active and result is self.result:
                self.progress.reset("Cancelled, as its layer was deleted")
                self.runner.cancel()
            result.discard()
            result.remove()
        for result in [result for result in self.results if result.source not in self.viewer.layers]:
            self.results.remove(result)
            if result is self.result and not self.runner.active:
                self.result = None
                self.progress.show_report(None)
        if not self.runner.running:
            self._show_controls()
        self._update_enabled()

    def _update_title(self) -> None:
        """Name the dock widget Restore once another method is chosen than that of its entry in the menu."""
        dock = self.parentWidget()
        if isinstance(dock, QDockWidget) and dock.titleBarWidget() is not None:
            dock.setWindowTitle("Restore")
            for label in dock.titleBarWidget().findChildren(QLabel):
                label.setText("Restore")

    def _update_enabled(self) -> None:
        """Enable what can be used now."""
        self._show_known()
        idle, has_image = not self.runner.running, self.form.layer_select.layer is not None
        usable = has_image and idle and not self.form.problem
        self.form.method_box.enabled = idle
        self.more_button.setEnabled(has_image)
        self.run_button.setEnabled(usable)
        # a part of several images would need the same part of each, on grids of their own
        extra = bool(self.form.extra_images.rows)
        self.preview_button.setEnabled(usable and not extra)
        reason = "Not with several images of one scene: each has a grid of its own." if extra else self.form.problem
        self.preview_button.setToolTip(reason or "Restore what you see, to try the settings.")
        self.run_button.setToolTip(self.form.problem or "Restore the region.")
        for widget in (self.keep_button, self.cancel_button):
            widget.setVisible(self.runner.active)
            widget.setEnabled(self.runner.active)
        for widget in (self.preview_button, self.run_button):
            widget.setVisible(not self.runner.active)
        self.controls.setVisible(idle and self.result is not None)
        self.form.model_select.update_enabled(idle=idle, has_image=has_image)


def _show_noisy(viewer: Viewer) -> Iterator[None]:
    """Show noisy images in place of their results while the key is held."""
    show_again = show_sources(viewer)
    yield
    show_again()


def open_panel(method: str) -> RestorePanel:
    """Make a panel for the current viewer, with a method chosen."""
    return RestorePanel(current_viewer(), method)


def __getattr__(name: str) -> Callable[[], RestorePanel]:
    """`open_KEY` makes a panel with the method of this key chosen; the manifest names one for each method."""
    method = name.removeprefix("open_")
    if not name.startswith("open_") or method not in METHODS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

    def open_with_method() -> RestorePanel:  # napari's menus take functions only
        return open_panel(method)

    return open_with_method
