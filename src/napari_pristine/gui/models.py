"""Part of the restore panel in which networks are chosen, trained and saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, ComboBox
from napari import current_viewer
from napari.layers import Image as ImageLayer
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGroupBox

from napari_pristine.cli.output import describe_model
from napari_pristine.errors import ImageError, PristineError
from napari_pristine.export import export_bioimageio
from napari_pristine.gui.job_runner import LatestCall, report_error
from napari_pristine.gui.layers import image_from_layer, layer_axes
from napari_pristine.gui.origin import source_name, source_of
from napari_pristine.gui.widgets import (
    ask_save_path,
    button,
    form_layout,
    label_for,
    limit_width,
    set_enabled,
    side_by_side,
    wrapped_label,
)
from napari_pristine.image.image import Image
from napari_pristine.methods.method import Method
from napari_pristine.model import SUFFIX, Model, load_model, save_model
from napari_pristine.recipe import PRETRAINED_MODEL, Recipe
from napari_pristine.settings import settings_of

_FILE_TYPES = f"Models (*{SUFFIX})"
_PACKAGES = "Packages of bioimage.io (*.zip)"
_SCRATCH, _PRETRAINED = "scratch", "the pretrained network"
_NO_MODEL = "No network is trained or open yet: there is none to save, to adapt, or to apply while scrolling."
THIS_IMAGE, SELECTED_LAYERS, FOLDER = "this image", "all selected layers", "a folder…"


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model that can be chosen, and its file; the path is empty while it is not saved."""

    model: Model
    path: str = ""


class ModelSelect(QGroupBox):  # type: ignore[misc]
    """Part of the panel for methods that train a network on several images.

    Signals:
        changed: Another model is chosen.
        train_clicked: A network is to be trained.
        scroll_clicked: A layer is to be added that is restored while scrolling.
    """

    changed = Signal()
    train_clicked = Signal()
    scroll_clicked = Signal()

    def __init__(self, method: Method[Any, Any]) -> None:
        super().__init__("Network")
        self.method = method
        self.models: dict[str, NamedModel] = {}
        self.start = ComboBox(
            choices=[(_SCRATCH, "")],
            tooltip="A trained network restores at once; from scratch, a network is trained on the image first; the "
            "pretrained one is trained on the image, too, but needs fewer steps.",
        )
        limit_width(self.start)
        adapt = next(setting for setting in settings_of(Recipe) if setting.name == "adapt")
        self.adapt = CheckBox(text="Adapt it to the image first", tooltip=adapt.text)
        self.source = ComboBox(
            choices=[THIS_IMAGE, SELECTED_LAYERS, FOLDER],
            tooltip="Images to train on. Select several layers in the layer list with Ctrl. Train asks for the folder.",
        )
        self.open_button = button("Open…", "Open a trained network.", self._ask_open_path)
        self.train_button = button(
            "Train",
            "Train a network and keep it: it can be saved, and restores this and similar images at once.",
            self.train_clicked,
        )
        self.save_button = button("Save model…", "Save the network, to restore other images with it.", self._ask_path)
        self.export_button = button(
            "Export…",
            "Write the network as a package of bioimage.io, for deepImageJ, ilastik and others. The selected layer is "
            "the sample: its noise becomes part of the package, and a tile of it the test.",
            self._ask_export_path,
        )
        self._exports = LatestCall()
        self.scroll_button = button(
            "Apply while scrolling",
            "Add a layer at once; each slice is restored when it is shown.",
            self.scroll_clicked,
        )
        self.facts = wrapped_label()
        rows = form_layout(self)
        rows.setContentsMargins(6, 4, 6, 6)
        rows.addRow(label_for(self.start.native, "Start from"), side_by_side(self.start.native, self.open_button))
        rows.addRow(label_for(self.adapt.native, ""), self.adapt.native)
        rows.addRow(label_for(self.source.native, "Train on"), side_by_side(self.source.native, self.train_button))
        rows.addRow(self.facts)
        rows.addRow(label_for(self.save_button, ""), side_by_side(self.save_button, self.export_button))
        rows.addRow(label_for(self.scroll_button, ""), self.scroll_button)
        self.start.changed.connect(self._on_chosen)
        self._exports.returned.connect(self._on_exported)
        self._exports.errored.connect(self._on_not_exported)
        self.set_method(method)

    @property
    def named_model(self) -> NamedModel | None:
        """The model to start from; `None` for a new network."""
        return self.models.get(self.start.value or "")

    @property
    def model(self) -> Model | None:
        """The model to start from, without its file."""
        return self.named_model.model if self.named_model else None

    @property
    def start_settings(self) -> Mapping[str, Any]:
        """Settings that follow from the choice: those with which the method starts from the pretrained network."""
        return self.method.from_pretrained if self.start.value == PRETRAINED_MODEL else {}

    def set_method(self, method: Method[Any, Any]) -> None:
        """Offer the models of a method, and choose none of them; methods that train no network hide this part."""
        self.method = method
        self.setVisible(method.learn is not None)
        self._offer("")

    def recipe_fields(self) -> dict[str, Any]:
        """Fields of the recipe that follow from the choice; a model that is not saved is named by its fingerprint."""
        if self.named_model is None:
            return {}
        return {
            "model": self.named_model.path or f"not saved: {self.named_model.model.fingerprint}",
            "adapt": self.adapt.value,
        }

    def add(self, model: Model, name: str, path: str = "") -> None:
        """Add a model and choose it; another one of the same name is replaced."""
        self.models[name] = NamedModel(model, path)
        self._offer(name)

    def add_trained(self, model: Model) -> None:
        """Add a model that was just trained, under a new name."""
        names = (f"unsaved model {number}" if number > 1 else "unsaved model" for number in count(1))
        self.add(model, next(name for name in names if name not in self.models))

    def open(self, path: str) -> None:
        """Open a model file; errors are shown."""
        try:
            self.load(path)
        except PristineError as error:
            show_error(str(error))

    def load(self, path: str) -> None:
        """Open a model file.

        Raises:
            PristineError: It cannot be opened, or is of another method.
        """
        model = load_model(path)
        model.recipe_with(self.method.key, {}, {})
        self.add(model, Path(path).stem, path)

    def save(self, path: str) -> None:
        """Save the chosen model, which has the name of the file from then on; errors are shown."""
        if self.named_model is None:
            return
        try:
            save_model(path, self.named_model.model, overwrite=True)
        except PristineError as error:
            show_error(str(error))
            return
        saved = self.models.pop(self.start.value)
        self.add(saved.model, Path(path).stem, path)

    def export(self, path: str) -> None:
        """Write the chosen model as a package of bioimage.io, in the background; errors are shown."""
        if self.named_model is None:
            return
        try:
            sample = _selected_image()
        except PristineError as error:
            show_error(str(error))
            return
        self.export_button.setText("Exporting …")
        self._exports.start(partial(_export, path, self.named_model.model, sample))

    def update_enabled(self, *, idle: bool, has_image: bool) -> None:
        """Enable what can be used now, and say why the rest cannot."""
        busy = "" if idle else "Wait until the running job has ended, or cancel it."
        no_image = "" if has_image else "Open an image first."
        no_model = "" if self.named_model is not None else "Train a network first, or open one."
        for widget, reason in (
            (self.start.native, busy), (self.source.native, busy), (self.open_button, busy),
            (self.adapt.native, busy or no_model), (self.train_button, busy or no_image),
            (self.save_button, busy or no_model), (self.export_button, busy or no_image or no_model),
            (self.scroll_button, no_image or no_model),
        ):  # fmt: skip
            set_enabled(widget, reason)

    def _offer(self, name: str) -> None:
        names = [known for known, named in self.models.items() if named.model.recipe.method == self.method.key]
        with self.start.changed.blocked():
            pretrained = [(_PRETRAINED, PRETRAINED_MODEL)] if self.method.from_pretrained else []
            self.start.choices = [(_SCRATCH, ""), *pretrained, *((known, known) for known in names)]
            self.start.value = name
        self._on_chosen()

    def _on_chosen(self) -> None:
        self.facts.setText(describe_model(self.start.value, self.named_model.model) if self.named_model else _NO_MODEL)
        self.changed.emit()

    def _ask_open_path(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", "", _FILE_TYPES)
        if path:
            self.open(path)

    def _ask_path(self) -> None:
        if path := ask_save_path(self, "Save the model", "", _FILE_TYPES):
            self.save(path)

    def _ask_export_path(self) -> None:
        if path := ask_save_path(self, "Export the model", f"{self.start.value}.zip", _PACKAGES):
            self.export(path)

    def _on_exported(self, path: str) -> None:
        self.export_button.setText("Export…")
        show_info(f"The package is complete: {path}")

    def _on_not_exported(self, error: Exception) -> None:
        self.export_button.setText("Export…")
        report_error(error, str(error))


def _export(path: str, model: Model, sample: Image) -> str:
    """Write a package; returns its path."""
    export_bioimageio(path, model, sample, overwrite=True)
    return path


def _selected_image() -> Image:
    """The image that is selected in the viewer; the source of a result in place of the result.

    Raises:
        ImageError: None is selected.
    """
    viewer = current_viewer()
    layer = None if viewer is None else viewer.layers.selection.active
    if layer is not None and source_name(layer):
        layer = source_of(layer, viewer)
    if not isinstance(layer, ImageLayer):
        raise ImageError(
            "no image is selected as the sample of the package; select one in the layer list that is like those to be "
            "restored"
        )
    return image_from_layer(layer, layer_axes(layer))
