"""What is to be done: the upper part of the panel, which asks for it, and the recipe that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

from magicgui.widgets import ComboBox
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_pristine.device import Device, pick_device
from napari_pristine.errors import PristineError, SettingError
from napari_pristine.gui.extra_images import SETTING, Pictures
from napari_pristine.gui.form import Form, label_for, sheet_in
from napari_pristine.gui.layer_select import ImageChoice
from napari_pristine.gui.layers import axes_of, image_of, view_of
from napari_pristine.gui.live import finer_by
from napari_pristine.gui.models import SELECTED, ModelChoice
from napari_pristine.image.image import Image
from napari_pristine.jobs.restore import make_recipe
from napari_pristine.methods.method import Method
from napari_pristine.recipe import Recipe
from napari_pristine.settings import make

_NARROWEST = 352
"""Pixels that the panel is wide at least, so that it does not change its width at every turn."""


class MethodForm(QScrollArea):  # type: ignore[misc]
    """All that can be chosen for one method."""

    def __init__(self, viewer: Any, method: Method[Any, Any]) -> None:
        super().__init__()
        self.viewer = viewer
        self.method = method
        self.choice = ImageChoice(viewer)
        self.pictures = Pictures(viewer, lambda: self.choice.layer)
        self.outcome = QLabel()
        self.outcome.setWordWrap(True)
        self.models = ModelChoice(method)
        self.preset = ComboBox(choices=list(method.presets), value="balanced", tooltip="Named settings.")
        self.form = Form(method.params)
        self.device = ComboBox(choices=_devices(), value="auto", tooltip="Where to compute.")
        self._lay_out()
        self.choice.changed.connect(self.pictures.refresh)
        for part in (self.choice, self.form):
            part.changed.connect(self._foretell)
        self.models.changed.connect(self._follow_model)
        self.preset.changed.connect(self._use_preset)
        self.preset.native.activated.connect(self._use_preset)  # chosen once more, to undo what was changed
        self._use_preset()

    def refresh(self) -> None:
        """Follow the layers of the viewer."""
        self.choice.refresh()
        self.pictures.refresh()

    def recipe(self, select: dict[str, str]) -> Recipe:
        """What was chosen, as a recipe.

        Raises:
            PristineError: A setting is not allowed, or the model does not fit.
        """
        settings = self.form.values()
        if self.pictures.pictures:
            settings[SETTING] = self.pictures.text()
        fields = {
            "axes": self.choice.image().axes, "together": self.choice.together.value or "", "select": select,
            "mask": "" if self.choice.mask.layer is None else self.choice.mask.layer.name,
            "device": self.device.value, **self.models.fields(),
        }  # fmt: skip
        model = self.models.model
        return make_recipe(model, self.method.key, "" if model else self.preset.value, settings, fields)

    def stored_recipe(self) -> Recipe:
        """What Run would do, as a recipe for other images: layers in it give way to the files that they came from.

        Raises:
            PristineError: A setting is not allowed, or there is no file for something.
        """
        if self.pictures.pictures:
            raise SettingError(
                "a recipe cannot hold the layers of further pictures of the scene; leave them out with ✕, or restore "
                "files by 'pristine restore' with --set extra_images=..."
            )
        if self.models.chosen is not None and not self.models.chosen.file:
            raise SettingError(
                "the network is in no file yet; save it first (Save model…), so that the recipe finds it"
            )
        mask = self.choice.mask.layer
        if mask is not None and not mask.source.path:
            raise SettingError(
                f"the mask '{mask.name}' is in no file yet; save the layer to a TIFF file and choose that as the mask"
            )
        recipe = self.recipe(self.choice.select())
        return recipe if mask is None else recipe.model_copy(update={"mask": str(Path(mask.source.path).absolute())})

    def visible(self) -> dict[str, str]:
        """The part of the image that can be seen, as ranges."""
        choice = self.choice
        return view_of(choice.layer, choice.image(), choice.together.value or "", self.viewer.dims)

    def examples(self) -> list[Image]:
        """What to learn from.

        Raises:
            PristineError: Axes or ranges do not fit.
        """
        this = self.choice.image().select(self.choice.select())
        if self.models.source.value != SELECTED:
            return [this]
        layers = [layer for layer in self.viewer.layers.selection if isinstance(layer, ImageLayer)]
        return [this if layer == self.choice.layer else image_of(layer, axes_of(layer)) for layer in layers]

    def _foretell(self) -> None:
        """Say how large the result will be, where it is on a finer grid."""
        try:
            part = self.choice.image().select(self.choice.select())
            finer = finer_by(part, self.choice.together.value or "", make(self.method.params, self.form.values()))
        except PristineError:
            finer = (1,)
        self.outcome.setVisible(max(finer) > 1)
        if max(finer) > 1:
            sizes = [f"{a} {n * f}" for a, n, f in zip(part.axes, part.shape, finer, strict=True) if f > 1]
            self.outcome.setText(f"The result is {max(finer)} times finer: {' × '.join(sizes)}.")

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """As wide as what is inside: there is no scrolling sideways."""
        hint = super().minimumSizeHint()
        if self.widget() is not None:
            around = self.verticalScrollBar().sizeHint().width() + self.width() - self.contentsRect().width()
            hint.setWidth(max(self.widget().minimumSizeHint().width() + around, _NARROWEST))
        return hint

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """What is inside may become wider when it is unfolded."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def _use_preset(self) -> None:
        self.form.set(self.method.settings(self.preset.value).model_dump())

    def _follow_model(self) -> None:
        """The settings that a network has learned with are those to restore with."""
        if self.models.model is not None:
            recipe = self.models.model.recipe
            with self.preset.changed.blocked():
                self.preset.value = recipe.preset
            self.form.set(recipe.settings)

    def _lay_out(self) -> None:
        inside = QWidget()
        rows = QVBoxLayout(inside)
        rows.setContentsMargins(0, 0, 6, 0)
        parts = (self.choice, self.outcome, self.pictures, self.models, _row("Preset", self.preset), self.form)
        for part in (*parts, _row("Device", self.device)):
            rows.addWidget(part)
        rows.addStretch()
        self.models.setVisible(self.method.learn is not None)
        self.pictures.setVisible(SETTING in self.method.params.model_fields)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(inside)


def _row(label: str, field: ComboBox) -> QWidget:
    row = QWidget()
    sheet_in(row).addRow(label_for(field.native, label), field.native)
    return row


def _devices() -> list[str]:
    """The devices that are there."""
    kinds = get_args(Device)
    return [kind for kind in kinds if kind == "auto" or pick_device(cast("Device", kind))[1] is None]
