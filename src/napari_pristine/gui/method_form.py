"""Upper part of the restore panel: image, method and settings, from which it makes the recipe and the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from magicgui.widgets import CheckBox, ComboBox
from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFileDialog, QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_pristine.batch.inputs import find_images
from napari_pristine.device import gpu_advice, pick_device
from napari_pristine.errors import PristineError, SettingError
from napari_pristine.gui.effort import EffortSelect, effort_title
from napari_pristine.gui.extra_images import SETTING, ExtraImages
from napari_pristine.gui.job_runner import LatestCall
from napari_pristine.gui.layer_select import LayerSelect
from napari_pristine.gui.layers import current_position, describe_image, describe_origin, image_from_layer, layer_axes
from napari_pristine.gui.models import FOLDER, SELECTED_LAYERS, ModelSelect
from napari_pristine.gui.preferences import read_preferences
from napari_pristine.gui.probe import Measured, measure_image, middle
from napari_pristine.gui.settings_form import SettingsForm
from napari_pristine.gui.widgets import collapsible, form_layout, label_for, wrapped_label
from napari_pristine.image.image import Image
from napari_pristine.jobs.inputs import RecipeInputs, make_recipe
from napari_pristine.jobs.plan import RestorationPlan, make_plan
from napari_pristine.methods import METHODS, find_method
from napari_pristine.methods.method import Method, MethodParams
from napari_pristine.recipe import Recipe
from napari_pristine.resources import Device
from napari_pristine.text import rough_duration, sentence

_NOT_SHOWN = ("seed", "value_type", "format")
"""Fields of a recipe that cannot be chosen here, but are kept from a recipe that was loaded."""
_TELLING = 2.0
"""Seconds from which a job tells how fast this machine is."""
_PER_BLOCK = 0.05
"""Seconds that a block takes apart from its pixels, on the machine of `Method.seconds`; measured."""
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
        preferences = read_preferences()
        preferred = [preset for preset in self.method.presets if effort_title(preset) == preferences.effort]
        self.effort = EffortSelect(list(self.method.presets), *preferred)
        self.device_box = ComboBox(
            choices=_available_devices(), value="auto", tooltip=f"Processor that computes. {gpu_advice()}".strip()
        )
        if preferences.device in self.device_box.choices:
            self.device_box.value = preferences.device
        self.uncertainty_box = CheckBox(
            text="Uncertainty",
            tooltip="Add a layer with half the width of the interval that holds the truth of each pixel with 90 % "
            "probability.",
        )
        self.settings = QWidget()
        self.facts, self.noise, self.summary = wrapped_label(), wrapped_label(), wrapped_label()
        self.probe = LatestCall()
        self._probed: tuple[ImageLayer | None, str] = (None, "")
        self.loaded: Recipe | None = None
        self._busy = 1.0  # time of the last job, relative to the expected one
        self.measured: Measured | None = None
        self.pixels = self.block_count = 0
        self.memory: dict[str, int] = {}
        self.problem = ""
        self._layout_sections()
        self._show_method()
        self.layer_select.changed.connect(self._on_layer)
        self.extra_images.changed.connect(self._on_changed)
        self.model_select.changed.connect(self._on_model)
        self.method_box.changed.connect(self._on_method)
        self.effort.changed.connect(self._apply_preset)
        self.effort.clicked.connect(self._apply_preset)  # the same preset again, to undo changes
        self.probe.returned.connect(self._on_measured)
        self.probe.errored.connect(self._on_not_measured)
        self.layer_select.refresh()
        self.measure()

    def refresh(self) -> None:
        """Update the entries to the layers of the viewer."""
        self.layer_select.refresh()
        self.extra_images.refresh()
        self.settings.refresh()

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
            **self.model_select.recipe_fields(), **self._loaded_fields(),
        }  # fmt: skip
        if self.method.restore_with_error is not None:
            fields["uncertainty"] = self.uncertainty_box.value
        model = self.model_select.model
        return make_recipe(model, self.method.key, "" if model else self.effort.value, settings, fields)

    def _loaded_fields(self) -> dict[str, Any]:
        """Fields of the recipe that was loaded, as far as they are not chosen here."""
        loaded = self.loaded
        if loaded is None:
            return {}
        same = (loaded.method, loaded.preset) == (self.method.key, self.effort.value)
        return {name: getattr(loaded, name) for name in _NOT_SHOWN} | ({"choice": loaded.choice} if same else {})

    def forget_strength(self) -> None:
        """Forget the strength of a loaded recipe, as the user has chosen another."""
        if self.loaded is not None:
            self.loaded = self.loaded.model_copy(update={"strength": []})

    def deferred_plan(self, select: dict[str, str]) -> Callable[[], RestorationPlan]:
        """A function that makes the plan for a part of the image; it may read files, and computes checksums.

        Raises:
            PristineError: A setting is not allowed, or no layer is chosen. The function may raise one, too.
        """
        image = self.layer_select.image()
        return partial(
            make_plan, image, self.recipe(select), mask=self.layer_select.mask_image(),
            extra_images=self.extra_images.images(image.axes), psfs=self._psfs(), model=self.model_select.model,
        )  # fmt: skip

    def _psfs(self) -> list[Image | None]:
        """The layers that are chosen as point spread functions, of the image and of the extra ones.

        Raises:
            SettingError: One is needed, and neither a layer nor a file is chosen.
        """
        return [self.settings.psf(), *self.extra_images.psfs()]

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
        changes: dict[str, Any] = {"settings": self.settings.values_for_files()}
        if not self.layer_select.axes_entered:
            changes["axes"] = ""
        if mask is not None:
            changes["mask"] = str(Path(mask.source.path).absolute())
        return self.recipe(self.layer_select.selected_ranges()).model_copy(update=changes)

    def show_recipe(self, recipe: Recipe) -> None:
        """Show the method and the settings of a recipe, and its axes if they fit; range and mask stay as they are.

        Raises:
            PristineError: It needs a model that cannot be opened, or cannot be shown here.
        """
        if getattr(recipe.params, SETTING, ()):
            raise SettingError("the recipe restores several images of one scene; choose their layers here instead")
        self.set_method(recipe.method)
        if recipe.model:
            self.model_select.load(recipe.model)
            self.model_select.adapt.value = recipe.adapt
        else:
            self.model_select.start.value = ""
            if recipe.preset in self.method.presets:
                self.effort.value = recipe.preset
        self.settings.set_values(recipe.settings)
        self.layer_select.enter_axes(recipe.axes)
        self.uncertainty_box.value = recipe.uncertainty
        if recipe.device in self.device_box.choices:
            self.device_box.value = recipe.device
        if recipe.together in self.layer_select.together.choices:
            self.layer_select.together.value = recipe.together
        self.loaded = recipe

    def training_images(self) -> Sequence[Image | Path]:
        """The images to train on; none if the user is asked for a folder and names none.

        Raises:
            PristineError: Axes or ranges do not fit, or the folder holds no image.
        """
        if self.model_select.source.value == FOLDER:
            folder = QFileDialog.getExistingDirectory(self, "Folder of images to train on")
            return find_images([folder]) if folder else []
        chosen = self.layer_select.image().select(self.layer_select.selected_ranges())
        if self.model_select.source.value != SELECTED_LAYERS:
            return [chosen]
        layers = [layer for layer in self.viewer.layers.selection if isinstance(layer, ImageLayer)]
        return [
            chosen if layer == self.layer_select.layer else image_from_layer(layer, layer_axes(layer))
            for layer in layers
        ]

    def sizeHint(self) -> QSize:  # noqa: N802
        """As high as the content is at this width, so that no room is left between it and what is below."""
        hint = super().sizeHint()
        if self.widget() is not None:
            view = self.viewport()
            hint.setHeight(self.widget().heightForWidth(view.width()) + self.height() - view.height())
        return hint

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self.updateGeometry()

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """As wide as the content, since there is no horizontal scroll bar."""
        hint = super().minimumSizeHint()
        if self.widget() is not None:
            frame = self.verticalScrollBar().sizeHint().width() + self.width() - self.contentsRect().width()
            hint.setWidth(max(self.widget().minimumSizeHint().width() + frame, _MIN_WIDTH))
        return hint

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Adapt to the size of the content, which changes when a section is opened."""
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Resize):
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def _on_method(self, key: str) -> None:
        """Show another method; settings that all methods have keep the values that the user gave them."""
        before = self._preset_values()
        kept = {
            name: value
            for name, value in self.settings.values().items()
            if name in MethodParams.model_fields and name != "last_step" and value != before[name]
        }
        self.method = find_method(key)
        self.effort.set_presets(list(self.method.presets))
        blocked = self.model_select.blockSignals(True)
        self.model_select.set_method(self.method)
        self.model_select.blockSignals(blocked)
        for row in list(self.extra_images.rows):
            self.extra_images.remove(row)
        self._show_method(kept)

    def _show_method(self, kept: dict[str, Any] | None = None) -> None:
        """Show the settings of the method, with the values of the preset and `kept`."""
        self.method_box.native.setToolTip(self.method.summary)
        self.summary.setText(self.method.summary)
        form = SettingsForm(self.method.params, self.viewer)
        form.set_values(self._preset_values() | (kept or {}))
        form.changed.connect(self._on_changed)
        self._details.replaceWidget(self.settings, form)
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
        return dict(self.method.settings(self.effort.value, start).model_dump())

    def _apply_preset(self) -> None:
        self.settings.set_values(self._scratch_values())

    def _on_model(self) -> None:
        """Show the settings that the model was trained with, or those by which the method starts anew."""
        if self.model_select.model is not None:
            blocked = self.effort.blockSignals(True)
            self.effort.value = self.model_select.model.recipe.preset
            self.effort.blockSignals(blocked)
            self.settings.set_values(self._preset_values())
        else:
            values = self._scratch_values()
            self.settings.set_values({name: values[name] for name in self.method.from_pretrained})
        self._on_changed()

    def _on_layer(self) -> None:
        self.extra_images.refresh()
        self._on_changed()
        chosen = self.layer_select.layer, self.layer_select.axes.value
        if chosen != self._probed:  # and not only another range, region or mask
            self.measure()

    def measure(self) -> None:
        """Measure the noise of the chosen image in the background."""
        self.measured = None
        self._probed = self.layer_select.layer, self.layer_select.axes.value
        try:
            image = self.layer_select.image()
        except PristineError:
            self.probe.stop()
            self.noise.clear()
            return
        self.noise.setText("Measuring the noise …")
        layer = self.layer_select.layer
        assert layer is not None
        self.probe.start(partial(measure_image, middle(image, current_position(layer, image, self.viewer.dims))))

    def _on_measured(self, measured: Measured) -> None:
        if self._probed != (self.layer_select.layer, self.layer_select.axes.value) or not self.noise.text():
            return  # of an image that was removed, or with other axes
        self.measured = measured
        self.noise.setText(measured.text)
        self._show_costs()

    def _on_not_measured(self, error: Exception) -> None:
        self.noise.setText(str(error) if isinstance(error, PristineError) else "")

    def seconds(self, preset: str) -> float | None:
        """Approximate time that a preset takes for the region here; none if it is not known."""
        known = self.method.seconds.get(preset)
        if known is None or self.measured is None:
            return None
        return self._busy * self.measured.slowness * (known * self.pixels / 512**2 + _PER_BLOCK * self.block_count)

    def learn_time(self, expected: float, taken: float) -> None:
        """Correct the times that are shown by the seconds that a job was expected to take, and has taken."""
        if expected > _TELLING:
            self._busy = min(max(self._busy * taken / expected, 0.2), 10.0)
            self._show_costs()

    def _show_costs(self) -> None:
        """Show time and memory of each effort for the chosen region."""
        costs = {}
        for preset, memory in self.memory.items():
            seconds = self.seconds(preset)
            time = [] if seconds is None else [f"≈ {rough_duration(seconds)}"]
            costs[preset] = "\n".join([*time, f"{memory / 1e9:.2g} GB"])
        self.effort.show_costs(costs)

    def _memory_of(self, preset: str, plan: RestorationPlan) -> int:
        """Approximate memory of this program while it restores the region by a preset, in bytes."""
        if preset != self.effort.value:
            plan = replace(plan, params=self.method.settings(preset))
        result = math.prod(plan.output_blocks.shape) * plan.stated_dtype.itemsize
        return plan.memory + 2 * result  # that of the previews, and the one that replaces it

    def _on_changed(self) -> None:
        """Describe the blocks, and the size of the result if it is on a finer grid."""
        self.pixels, self.problem, self.memory = 0, "", {}
        try:
            image = self.layer_select.image()
            guessed = " (axes guessed)" if self.layer_select.axes_guessed and len(image.axes) > 2 else ""
            self.facts.setText("\n".join(filter(None, (describe_image(image) + guessed, describe_origin(image)))))
            recipe = self.recipe(self.layer_select.region_ranges()).model_copy(update={"adapt": False})
            # no files are opened for this plan
            self._psfs()  # an error says which is missing
            plan = make_plan(image, RecipeInputs(recipe, extra_images=tuple(self.extra_images.images(image.axes))))
        except PristineError as error:
            if self.layer_select.layer is None:
                self.facts.clear()
            self.problem = sentence(str(error))
            self.description.setText(self.problem)
            self.description.setStyleSheet(f"color: {get_theme(self.viewer.theme).warning.as_hex()}")
        else:
            self.pixels, self.block_count = math.prod(plan.image.shape), len(plan.indices)
            self.memory = {preset: self._memory_of(preset, plan) for preset in self.method.presets}
            grids = zip(plan.image.axes, plan.image.shape, plan.output_blocks.shape, strict=True)
            sizes = [f"{axis} {fine}" for axis, coarse, fine in grids if fine > coarse]
            finer = f" The result has a {max(plan.upscaling)} times finer grid: {' × '.join(sizes)}." if sizes else ""
            self.description.setText(f"{sentence(plan.blocks.describe())}.{finer}")
            self.description.setStyleSheet("")
        self._show_costs()
        self.changed.emit()

    def _layout_sections(self) -> None:
        content, details = QWidget(), QWidget()
        self._sections, self._details = QVBoxLayout(content), QVBoxLayout(details)
        for layout, margin in ((self._sections, 6), (self._details, 0)):
            layout.setContentsMargins(0, 0, margin, 0)
        for section in (
            self.layer_select, self.model_select, self.settings, self.uncertainty_box.native,
            _row("Device", self.device_box.native),
        ):  # fmt: skip
            self._details.addWidget(section)
        self.more = collapsible("More settings", details)
        for section in (
            _row("Image", self.layer_select.image_box.box.native), self.facts, self.noise,
            _row("Method", self.method_box.native), self.summary, self.extra_images, _row("Effort", self.effort),
            _row("Region", self.layer_select.region.native), self.description, self.more,
        ):  # fmt: skip
            self._sections.addWidget(section)
        self._sections.addStretch()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)


def _row(label: str, field: QWidget) -> QWidget:
    row = QWidget()
    form_layout(row).addRow(label_for(field, label), field)
    return row


def _available_devices() -> list[str]:
    kinds = get_args(Device)
    return [kind for kind in kinds if kind == "auto" or pick_device(cast("Device", kind))[1] is None]
