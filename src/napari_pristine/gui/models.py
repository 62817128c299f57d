"""Networks that have learned: where to start from, what to learn from, and saving what was learned."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, PushButton
from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGroupBox, QHBoxLayout, QLabel, QWidget

from napari_pristine.cli.output import describe_model
from napari_pristine.errors import PristineError
from napari_pristine.gui.file_field import name_to_save
from napari_pristine.gui.form import label_for, sheet_in
from napari_pristine.gui.layer_combo_box import narrow
from napari_pristine.methods.method import Method
from napari_pristine.model import Model, load_model, save_model
from napari_pristine.recipe import Recipe
from napari_pristine.settings import settings_of
from napari_pristine.weights import SUFFIX

_FILES = f"Models (*{SUFFIX})"
_ANEW = "scratch"
THIS, SELECTED = "this image", "all selected layers"


@dataclass(frozen=True, eq=False)
class Known:
    """A model that can be started from, and its file if it has one."""

    model: Model
    file: str = ""


class ModelChoice(QGroupBox):  # type: ignore[misc]
    """The part of the panel of methods that learn; `changed` is emitted when another model is chosen."""

    changed = Signal()

    def __init__(self, method: Method[Any, Any]) -> None:
        super().__init__("Network")
        self.method = method
        self.known: dict[str, Known] = {}
        self.start = ComboBox(
            choices=[(_ANEW, "")],
            tooltip="A network that has learned restores at once; from scratch, it learns from the image first.",
        )
        self.open = PushButton(text="Open…", tooltip="Take a network from a file.")
        adapt = next(setting for setting in settings_of(Recipe) if setting.name == "adapt")
        self.adapt = CheckBox(text="Adapt it to the image first", tooltip=adapt.text)
        self.source = ComboBox(
            choices=[THIS, SELECTED], tooltip="What to learn from. Layers are selected in the layer list, with Ctrl."
        )
        self.learn = PushButton(
            text="Learn",
            tooltip="Learn, and keep the network: it can be saved, and restores this and other images at once.",
        )
        self.save = PushButton(text="Save model…", tooltip="Write the network to a file, to restore other images.")
        tip = "Add a layer at once, in which each slice is restored when it is looked at."
        self.scroll = PushButton(text="Apply while scrolling", tooltip=tip)
        self.about = QLabel()
        self.about.setWordWrap(True)
        narrow(self.start)
        self._lay_out()
        self.start.changed.connect(self._take)
        self.open.changed.connect(self._ask_which)
        self.save.changed.connect(self._ask_where)
        self._take()

    @property
    def chosen(self) -> Known | None:
        """The model to start from."""
        return self.known.get(self.start.value or "")

    @property
    def model(self) -> Model | None:
        """The same without its file."""
        return self.chosen.model if self.chosen else None

    def fields(self) -> dict[str, Any]:
        """What the recipe says of the model; one without a file is told by its fingerprint."""
        if self.chosen is None:
            return {}
        file = self.chosen.file or f"not saved: {self.chosen.model.fingerprint}"
        return {"model": file, "adapt": self.adapt.value}

    def take(self, model: Model, name: str, file: str = "") -> None:
        """Offer a model, and choose it; another with the same name gives way."""
        self.known[name] = Known(model, file)
        self._offer(name)

    def take_unsaved(self, model: Model) -> None:
        """Offer a model that was just learned, beside those that were not saved before."""
        names = (f"unsaved model {number}" if number > 1 else "unsaved model" for number in count(1))
        self.take(model, next(name for name in names if name not in self.known))

    def open_file(self, path: str) -> None:
        """Take a model from a file; what is wrong with it is shown."""
        try:
            model = load_model(path)
            model.recipe_with(self.method.key, {}, {})
        except PristineError as error:
            show_error(str(error))
            return
        self.take(model, Path(path).stem, path)

    def save_file(self, path: str) -> None:
        """Write the chosen model to a file, whose name stands for it from then on."""
        if self.chosen is None:
            return
        try:
            save_model(path, self.chosen.model, overwrite=True)
        except PristineError as error:
            show_error(str(error))
            return
        known = self.known.pop(self.start.value)
        self.take(known.model, Path(path).stem, path)

    def enable(self, idle: bool, there: bool) -> None:
        """Only what can be pressed is enabled: `there` says that there is an image."""
        for field in (self.start, self.open, self.source):
            field.enabled = idle
        self.learn.enabled = idle and there
        self.save.enabled = idle and self.chosen is not None
        self.adapt.enabled = idle and self.chosen is not None
        self.scroll.enabled = there and self.chosen is not None

    def _offer(self, name: str) -> None:
        with self.start.changed.blocked():
            self.start.choices = [(_ANEW, ""), *((known, known) for known in self.known)]
            self.start.value = name
        self._take()

    def _take(self) -> None:
        name = self.start.value
        self.about.setText(describe_model(name, self.chosen.model) if self.chosen else "")
        self.about.setVisible(self.chosen is not None)
        self.changed.emit()

    def _ask_which(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", "", _FILES)
        if path:
            self.open_file(path)

    def _ask_where(self) -> None:
        path = name_to_save(self, "Save the model", "", _FILES)
        if path:
            self.save_file(path)

    def _lay_out(self) -> None:
        sheet = sheet_in(self)
        sheet.setContentsMargins(6, 4, 6, 6)
        for label, fields in (
            ("Start from", (self.start, self.open)),
            ("", (self.adapt,)),
            ("Learn from", (self.source, self.learn)),
        ):
            sheet.addRow(label_for(fields[0].native, label), _line(*fields))
        sheet.addRow(self.about)
        for button in (self.save, self.scroll):
            sheet.addRow(label_for(button.native, ""), button.native)


def _line(*fields: Any) -> QWidget:
    """Fields side by side; the first takes the room that is left."""
    both = QWidget()
    layout = QHBoxLayout(both)
    layout.setContentsMargins(0, 0, 0, 0)
    for field in fields:
        layout.addWidget(field.native, stretch=int(field is fields[0]))
    return both
