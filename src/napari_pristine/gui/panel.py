"""The dock panel: one class for all methods, built from the settings that a method declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, get_args

from magicgui.widgets import ComboBox, PushButton
from napari import current_viewer
from napari.utils.notifications import notification_manager, show_error, show_warning
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QGridLayout, QScrollArea, QVBoxLayout, QWidget

from napari_pristine.device import Device, pick_device
from napari_pristine.errors import PristineError
from napari_pristine.events import Event, Note, Preview, Progress
from napari_pristine.gui.choice import ImageChoice
from napari_pristine.gui.form import Form, label_for, sheet_in
from napari_pristine.gui.job import JobRunner
from napari_pristine.gui.layers import look_of, view_of
from napari_pristine.gui.live import LiveLayer
from napari_pristine.gui.watch import Watch
from napari_pristine.methods import find_method
from napari_pristine.recipe import Recipe
from napari_pristine.restoration import Restored, run
from napari_pristine.settings import make


class Panel(QWidget):  # type: ignore[misc]
    """The dock panel of one method."""

    def __init__(self, viewer: Any, method: str) -> None:
        super().__init__()
        self.viewer = viewer
        self.method = find_method(method)
        self.choice = ImageChoice(viewer)
        self.preset = ComboBox(choices=list(self.method.presets), value="balanced", tooltip="Named settings.")
        self.form = Form(self.method.params)
        self.device = ComboBox(choices=_devices(), value="auto", tooltip="Where to compute.")
        self.preview = PushButton(text="Preview here", tooltip="Restore only what can be seen now, of this slice.")
        self.start = PushButton(text="Run", tooltip="Restore the image.")
        self.keep = PushButton(text="Keep this", tooltip="Stop here and use what there is.")
        self.cancel = PushButton(text="Cancel", tooltip="Stop, and throw away what there is.")
        self.watch = Watch(viewer)
        self.job = JobRunner()
        self.live: LiveLayer | None = None
        self.last_preview: LiveLayer | None = None
        self._lay_out()
        self._connect()
        self._use_preset()
        self._enable()

    def reset_choices(self, _: Any = None) -> None:
        """Follow the layers of the viewer; napari calls this when they change."""
        self.choice.refresh()
        self._enable()

    def recipe(self, select: dict[str, str]) -> Recipe:
        """What the panel says, as a recipe.

        Raises:
            SettingError: A setting is not allowed.
        """
        return make(
            Recipe,
            {
                "method": self.method.key, "preset": self.preset.value, "settings": self.form.values(),
                "axes": self.choice.image().axes, "together": self.choice.together.value or "", "select": select,
                "device": self.device.value,
            },
        )  # fmt: skip

    def run_all(self) -> None:
        """Restore all that is selected."""
        self._begin(self.choice.select, f"· {self.method.title}")

    def run_here(self) -> None:
        """Restore the visible part of the current slice, in a layer of its own."""
        before = self.last_preview
        self._begin(self._visible, "preview")
        if self.live is not None:
            self.last_preview = self.live
            if before is not None:
                before.discard()

    def stop(self) -> None:
        """Cancel the job, if there is one, and throw away what there is of it."""
        if self.live is not None:
            self.live.discard()
            self.live = None
            self.watch.reset("Cancelled")
        self.job.cancel()
        self._enable()

    def event(self, event: QEvent) -> bool:
        """Closing the panel takes it out of the window but does not close it."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.stop()
        return bool(super().event(event))

    def _visible(self) -> dict[str, str]:
        choice = self.choice
        return view_of(choice.layer, choice.image(), choice.together.value or "", self.viewer.dims)

    def _begin(self, select: Callable[[], dict[str, str]], suffix: str) -> None:
        try:
            whole = self.choice.image()
            recipe = self.recipe(select())
            part = whole.select(recipe.select)
        except PristineError as error:
            show_error(str(error))
            return
        look = look_of(self.choice.layer, whole, part)
        self.live = LiveLayer(self.viewer, part, look, f"{whole.name} {suffix}")
        self.watch.reset("Measuring the noise …")
        self.job.start(run(whole, recipe))
        self._enable()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.watch.follow(event)
        elif isinstance(event, Preview) and self.live is not None:
            self.live.show(event)
        elif isinstance(event, Note):
            self.watch.note(event)
            if event.warning:
                show_warning(event.text)

    def _finish(self, restored: Restored) -> None:
        if self.live is not None:
            self.live.settle(restored)
            self.live = None
        self.watch.conclude(restored)

    def _fail(self, error: Exception) -> None:
        self.stop()
        self.watch.reset(f"Failed: {error}")
        if isinstance(error, PristineError):
            show_error(str(error))
        else:  # a mistake of ours: with the traceback
            notification_manager.receive_error(type(error), error, error.__traceback__)

    def _use_preset(self) -> None:
        self.form.set(self.method.settings(self.preset.value).model_dump())

    def _enable(self) -> None:
        """Only what can be pressed is enabled."""
        running, there = self.job.running, self.choice.layer is not None
        for button in (self.start, self.preview):
            button.enabled = there and not running
        for button in (self.keep, self.cancel):
            button.enabled = running and self.live is not None

    def _connect(self) -> None:
        self.preset.changed.connect(self._use_preset)
        self.preset.native.activated.connect(self._use_preset)  # chosen once more, to undo what was changed
        self.start.changed.connect(self.run_all)
        self.preview.changed.connect(self.run_here)
        self.keep.changed.connect(self.job.keep)
        self.cancel.changed.connect(self.stop)
        self.job.said.connect(self._hear)
        self.job.returned.connect(self._finish)
        self.job.errored.connect(self._fail)
        self.job.finished.connect(self._enable)
        # closing the viewer deletes the panel
        self.destroyed.connect(self.job.cancel)

    def _lay_out(self) -> None:
        upper = QWidget()
        rows = QVBoxLayout(upper)
        rows.setContentsMargins(0, 0, 6, 0)
        for part in (self.choice, _row("Preset", self.preset), self.form, _row("Device", self.device)):
            rows.addWidget(part)
        rows.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(upper)
        buttons = QGridLayout()
        for i, button in enumerate((self.preview, self.start, self.keep, self.cancel)):
            buttons.addWidget(button.native, i // 2, i % 2)
        layout = QVBoxLayout(self)
        layout.addWidget(scroll, stretch=1)
        layout.addLayout(buttons)
        layout.addWidget(self.watch)
        self.setMinimumWidth(370)


def _row(label: str, field: ComboBox) -> QWidget:
    row = QWidget()
    sheet_in(row).addRow(label_for(field.native, label), field.native)
    return row


def _devices() -> list[str]:
    """The devices that are there."""
    kinds = get_args(Device)
    return [kind for kind in kinds if kind == "auto" or pick_device(cast("Device", kind))[1] is None]


def _panel_of(method: str) -> Callable[[], Panel]:
    def open_panel() -> Panel:
        return Panel(current_viewer(), method)

    return open_panel


inr_widget = _panel_of("inr")
