"""What to restore: layer, axes, what is fitted together, and which part."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ComboBox, LineEdit
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.utils.theme import get_theme
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QWidget

from napari_pristine.errors import AxesError, PristineError
from napari_pristine.gui.form import label_for, sheet_in
from napari_pristine.gui.layer_combo_box import LayerBox, narrow
from napari_pristine.gui.layers import axes_of, image_of, mask_of, values_of
from napari_pristine.image.axes import plan_axes
from napari_pristine.image.image import Image

_KINDS = {"Z": "volumes", "T": "with time", "C": "with all channels"}


class ImageChoice(QWidget):  # type: ignore[misc]
    """The upper part of the panel; `changed` is emitted whenever what will be restored is another."""

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self._layer: Any = None
        # by name: layers that plugins see are wrapped, and Qt does not find wrapped objects in its lists
        self.name = ComboBox(choices=lambda _: self._names(), tooltip="The image to restore.")
        self.axes = LineEdit(tooltip="One letter per dimension: T time, Z depth, C channel, Y, X, S colours of RGB.")
        self.together = ComboBox(choices=[("", "")], tooltip="What one network is fitted to. All else is looped over.")
        self.mask = LayerBox(
            viewer,
            self._masks,
            "none",
            "Labels, or an image of the same shape: not zero where pixels are to be filled in, such as dead ones.",
        )
        self.plan = QLabel()
        self.plan.setWordWrap(True)
        self.ranges: dict[str, LineEdit] = {}
        self._sheet = sheet_in(self)
        for label, field in (("Image", self.name), ("Axes", self.axes), ("Fit together", self.together)):
            self._sheet.addRow(label_for(field.native, label), field.native)
        self._sheet.addRow(label_for(self.mask.box.native, "Mask"), self.mask.box.native)
        self._sheet.addRow(self.plan)
        for box in (self.name, self.together):
            narrow(box)
        self.name.changed.connect(self._take)
        self.axes.changed.connect(self._follow_axes)
        self.together.changed.connect(self._describe)
        self._propose()
        self._take()

    @property
    def layer(self) -> Any:
        """The chosen layer; `None` if there is none."""
        return self._layer

    def image(self) -> Image:
        """The chosen layer as an image, all of it.

        Raises:
            AxesError: There is no layer, or the axes do not fit it.
        """
        if self._layer is None:
            raise AxesError("there is no image layer; open an image first")
        return image_of(self._layer, self.axes.value.strip().upper())

    def select(self) -> dict[str, str]:
        """The ranges that were entered."""
        return {axis: field.value.strip() for axis, field in self.ranges.items() if field.value.strip()}

    def masked(self) -> Image | None:
        """The chosen mask; `None` if there is none.

        Raises:
            AxesError: There is no image, or its axes do not fit it.
        """
        return None if self.mask.layer is None else mask_of(self.mask.layer, self.image())

    def refresh(self) -> None:
        """Follow the layers of the viewer; the chosen one stays, whatever its name is now."""
        kept = self._layer if self._layer is not None and self._layer in self.viewer.layers else None
        with self.name.changed.blocked():
            self.name.reset_choices()
            if kept is not None:
                self.name.value = kept.name
        if kept is None:
            self._propose()
            self._take()
        self.mask.refresh()

    def _masks(self, layer: Any) -> bool:
        """Whether a layer can be the mask of the chosen one."""
        if layer == self._layer or not isinstance(layer, (Labels, ImageLayer)):
            return False
        try:
            return mask_of(layer, self.image()) is not None
        except AxesError:
            return False

    def _propose(self) -> None:
        """Choose the selected layer, or the topmost that can be seen."""
        shown = [layer for layer in self.viewer.layers if isinstance(layer, ImageLayer) and layer.visible]
        active = self.viewer.layers.selection.active
        if shown:
            with self.name.changed.blocked():
                self.name.value = active.name if active in shown else shown[-1].name

    def _names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers if isinstance(layer, ImageLayer)]

    def _take(self) -> None:
        self._layer = self.viewer.layers[self.name.value] if self.name.value in self._names() else None
        with self.axes.changed.blocked():
            self.axes.value = axes_of(self._layer) if self._layer is not None else ""
        self._follow_axes()

    def _follow_axes(self) -> None:
        """Offer what there is to choose with these axes."""
        axes = self.axes.value.strip().upper()
        plane = "".join(axis for axis in axes if axis in "YXS")
        others = [axis for axis in axes if axis not in plane]
        groups = ["".join(axis for axis in axes if axis in plane + other) for other in others]
        choices = [(f"{plane}: each plane alone", "")]
        choices += [(f"{g}: {_KINDS.get(o, f'with all of {o}')}", g) for o, g in zip(others, groups, strict=True)]
        if "S" in axes:
            choices.append(("YX: each colour alone", "YX"))
        with self.together.changed.blocked():
            self.together.choices = choices
            self.together.value = ""
        self._offer_ranges(others)
        self.mask.refresh()
        self._describe()

    def _offer_ranges(self, axes: list[str]) -> None:
        for field in self.ranges.values():
            self._sheet.removeRow(field.native)
        self.ranges = {}
        shape = () if self._layer is None else values_of(self._layer).shape
        sizes = dict(zip(self.axes.value.strip().upper(), shape, strict=False))
        for axis in dict.fromkeys(axes):
            field = LineEdit(tooltip=f"Which of {axis} to restore: 3, 0:10 or 0:10:2, counted from 0; empty for all.")
            field.native.setPlaceholderText(f"all: 0 to {sizes[axis] - 1}" if axis in sizes else "all")
            field.changed.connect(self._describe)
            label = label_for(field.native, f"Range of {axis}")
            self._sheet.insertRow(self._sheet.rowCount() - 2, label, field.native)
            self.ranges[axis] = field

    def _describe(self) -> None:
        try:
            text = plan_axes(self.image().select(self.select()), self.together.value or "").describe()
            self.plan.setText(text[0].upper() + text[1:] + ".")
            self.plan.setStyleSheet("")
        except PristineError as error:
            self.plan.setText(str(error))
            self.plan.setStyleSheet(f"color: {get_theme(self.viewer.theme).warning.as_hex()}")
        self.changed.emit()
