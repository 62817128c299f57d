"""Upper part of the restore panel: image, method and settings, from which it makes the recipe and the plan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from magicgui.widgets import CheckBox, ComboBox
from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_pristine.device import pick_device
from napari_pristine.errors import PristineError, SettingError
from napari_pristine.gui.extra_images import SETTING, ExtraImages
from napari_pristine.gui.layer_select import LayerSelect
from napari_pristine.gui.layers import image_from_layer, layer_axes, visible_ranges
from napari_pristine.gui.models import SELECTED_LAYERS, ModelSelect
from napari_pristine.gui.settings_form import SettingsForm
from napari_pristine.gui.widgets import form_layout, label_for, wrapped_label
from napari_pristine.image.image import Image
from napari_pristine.jobs.inputs import RecipeInputs, make_recipe
from napari_pristine.jobs.plan import RestorationPlan, make_plan
from napari_pristine.methods import METHODS, find_method
from napari_pristine.methods.method import Method, MethodParams
from napari_pristine.recipe import Recipe
from napari_pristine.resources import Device

_MIN_WIDTH = 352
"""Pixels; wide enough that the panel does not change its width when sections are opened."""


class MethodForm(QScrollArea):  # type: ignore[misc]
    """Everything that can be chosen for a restoration; `changed` is emitted when any of it changes.

    Args:
        viewer: The napari viewer.
        method: Key of the method that is chosen first.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, method: str) -> None:
        super().__init__()
        self.viewer = viewer
        self.method: Method[Any, Any] = find_method(method)
        self.method_box = ComboBox(choices=[(known.title, key) for key, known in METHODS.items()], value=method)
        for row, known in enumerate(METHODS.values()):
            self.method_box.native.setItemData(row, known.summary, Qt.ItemDataRole.ToolTipRole)
        self.layer_select = LayerSelect(viewer)
        self.description = wrapped_label()
        self.extra_images = ExtraImages(viewer, lambda: self.layer_select.layer)
        self.model_select = ModelSelect(self.method)
        self.preset_box = ComboBox(
            choices=list(self.method.presets), value="balanced", tooltip="Named settings; a choice sets all fields."
        )
        self.device_box = ComboBox(choices=_available_devices(), value="auto", tooltip="Processor that computes.")
        self.uncertainty_box = CheckBox(
            text="Uncertainty",
            tooltip="Add a layer with half the width of the interval that holds the truth of each pixel with 90 % "
            "probability.",
        )
        self.settings = QWidget()
        self._layout_sections()
        self._show_method()
        self.layer_select.changed.connect(self._on_layer)
        self.extra_images.changed.connect(self._on_changed)
        self.model_select.changed.connect(self._on_model)
        self.method_box.changed.connect(self._on_method)
        self.preset_box.changed.connect(self._apply_preset)
        self.preset_box.native.activated.connect(self._apply_preset)  # the same preset again, to undo changes

    def refresh(self) -> None:
        """Update the entries to the layers of the viewer."""
        self.layer_select.refresh()
        self.extra_images.refresh()

    def set_method(self, method: str) -> None:
        """Choose a method by its key."""
        self.method_box.value = method

    def recipe(self, select: dict[str, str]) -> Recipe:
        """The recipe for a part of the image.

        Args:
            select: Ranges by axis; empty for the whole image.

        Raises:
            PristineError: A setting is not allowed, or the model does not fit.
        """
        settings = self.settings.values()
        if self.extra_images.rows:
            settings[SETTING] = self.extra_images.setting()
        mask = self.layer_select.mask_box.layer
        fields = {
            "axes": self.layer_select.image().axes, "together": self.layer_select.together.value or "",
            "select": select, "mask": "" if mask is None else mask.name, "device": self.device_box.value,
            **self.model_select.recipe_fields(),
        }  # fmt: skip
        if self.method.restore_with_error is not None:
            fields["uncertainty"] = self.uncertainty_box.value
        model = self.model_select.model
        return make_recipe(model, self.method.key, "" if model else self.preset_box.value, settings, fields)

    def deferred_plan(self, select: dict[str, str]) -> Callable[[], RestorationPlan]:
        """A function that makes the plan for a part of the image; it may read files, and computes checksums.

        Raises:
            PristineError: A setting is not allowed, or no layer is chosen. The function may raise one, too.
        """
        image = self.layer_select.image()
        return partial(
            make_plan, image, self.recipe(select), mask=self.layer_select.mask_image(),
            extra_images=self.extra_images.images(image.axes), model=self.model_select.model,
        )  # fmt: skip

    def recipe_for_files(self) -> Recipe:
        """The recipe for other images: it names files in place of layers.

        Raises:
            PristineError: A setting is not allowed, or something is not saved to a file.
        """
        if self.extra_images.rows:
            raise SettingError(
                "a recipe file cannot name layers as extra images of the scene; remove them with ✕, or restore "
                "files in the shell: pristine restore --set extra_images=..."
            )
        if self.model_select.named_model is not None and not self.model_select.named_model.path:
            raise SettingError("the network is not saved; save it first (Save model…), so that the recipe can name it")
        mask = self.layer_select.mask_box.layer
        if mask is not None and not mask.source.path:
            raise SettingError(
                f"the mask '{mask.name}' is not saved; save the layer as a TIFF file, open that and choose it as mask"
            )
        recipe = self.recipe(self.layer_select.selected_ranges())
        return recipe if mask is None else recipe.model_copy(update={"mask": str(Path(mask.source.path).absolute())})

    def visible_part(self) -> dict[str, str]:
        """The visible part of the image, as ranges by axis."""
        select = self.layer_select
        return visible_ranges(select.layer, select.image(), select.together.value or "", self.viewer.dims)

    def training_images(self) -> list[Image]:
        """The images to train on.

        Raises:
            PristineError: Axes or ranges do not fit.
        """
        chosen = self.layer_select.image().select(self.layer_select.selected_ranges())
        if self.model_select.source.value != SELECTED_LAYERS:
            return [chosen]
        layers = [layer for layer in self.viewer.layers.selection if isinstance(layer, ImageLayer)]
        return [
            chosen if layer == self.layer_select.layer else image_from_layer(layer, layer_axes(layer))
            for layer in layers
        ]

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """As wide as the content, since there is no horizontal scroll bar."""
        hint = super().minimumSizeHint()
        if self.widget() is not None:
            frame = self.verticalScrollBar().sizeHint().width() + self.width() - self.contentsRect().width()
            hint.setWidth(max(self.widget().minimumSizeHint().width() + frame, _MIN_WIDTH))
        return hint

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Adapt to the width of the content, which changes when a section is opened."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def _on_method(self, key: str) -> None:
        """Show another method; settings that all methods have keep the values that the user gave them."""
        before = self._preset_values()
        kept = {
            name: value
            for name, value in self.settings.values().items()
            if name in MethodParams.model_fields and value != before[name]
        }
        self.method = find_method(key)
        preset = self.preset_box.value if self.preset_box.value in self.method.presets else "balanced"
        with self.preset_box.changed.blocked():
            self.preset_box.choices = list(self.method.presets)
            self.preset_box.value = preset
        blocked = self.model_select.blockSignals(True)
        self.model_select.set_method(self.method)
        self.model_select.blockSignals(blocked)
        for row in list(self.extra_images.rows):
            self.extra_images.remove(row)
        self._show_method(kept)

    def _show_method(self, kept: dict[str, Any] | None = None) -> None:
        """Show the settings of the method, with the values of the preset and `kept`."""
        self.method_box.native.setToolTip(self.method.summary)
        form = SettingsForm(self.method.params)
        form.set_values(self._preset_values() | (kept or {}))
        form.changed.connect(self._on_changed)
        self._sections.replaceWidget(self.settings, form)
        self.settings.setParent(None)
        self.settings.deleteLater()
        self.settings = form
        self.uncertainty_box.native.setVisible(self.method.restore_with_error is not None)
        self.extra_images.setVisible(SETTING in self.method.params.model_fields)
        self._on_changed()

    def _preset_values(self) -> dict[str, Any]:
        """The settings of the chosen preset, or those that the chosen model was trained with."""
        if self.model_select.model is not None:
            return dict(self.model_select.model.recipe.params.model_dump())
        return self._scratch_values()

    def _scratch_values(self) -> dict[str, Any]:
        """The settings of the chosen preset, with those by which the method starts from the pretrained network."""
        start = self.model_select.start_settings
        return dict(self.method.settings(self.preset_box.value, start).model_dump())

    def _apply_preset(self) -> None:
        self.settings.set_values(self._scratch_values())

    def _on_model(self) -> None:
        """Show the settings that the model was trained with, or those by which the method starts anew."""
        if self.model_select.model is not None:
            with self.preset_box.changed.blocked():
                self.preset_box.value = self.model_select.model.recipe.preset
            self.settings.set_values(self._preset_values())
        else:
            values = self._scratch_values()
            self.settings.set_values({name: values[name] for name in self.method.from_pretrained})
        self._on_changed()

    def _on_layer(self) -> None:
        self.extra_images.refresh()
        self._on_changed()

    def _on_changed(self) -> None:
        """Describe the blocks, and the size of the result if it is on a finer grid."""
        try:
            image = self.layer_select.image()
            recipe = self.recipe(self.layer_select.selected_ranges()).model_copy(update={"adapt": False})
            # no files are opened for this plan
            plan = make_plan(image, RecipeInputs(recipe, extra_images=tuple(self.extra_images.images(image.axes))))
        except PristineError as error:
            self.description.setText(str(error))
            self.description.setStyleSheet(f"color: {get_theme(self.viewer.theme).warning.as_hex()}")
        else:
            text = plan.blocks.describe()
            grids = zip(plan.image.axes, plan.image.shape, plan.output_blocks.shape, strict=True)
            sizes = [f"{axis} {fine}" for axis, coarse, fine in grids if fine > coarse]
            finer = f" The result has a {max(plan.upscaling)} times finer grid: {' × '.join(sizes)}." if sizes else ""
            self.description.setText(f"{text[0].upper()}{text[1:]}.{finer}")
            self.description.setStyleSheet("")
        self.changed.emit()

    def _layout_sections(self) -> None:
        content = QWidget()
        self._sections = QVBoxLayout(content)
        self._sections.setContentsMargins(0, 0, 6, 0)
        for section in (
            _row("Method", self.method_box), self.layer_select, self.description, self.extra_images, self.model_select,
            _row("Preset", self.preset_box), self.settings, self.uncertainty_box.native,
            _row("Device", self.device_box),
        ):  # fmt: skip
            self._sections.addWidget(section)
        self._sections.addStretch()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)


def _row(label: str, field: ComboBox) -> QWidget:
    row = QWidget()
    form_layout(row).addRow(label_for(field.native, label), field.native)
    return row


def _available_devices() -> list[str]:
    kinds = get_args(Device)
    return [kind for kind in kinds if kind == "auto" or pick_device(cast("Device", kind))[1] is None]
