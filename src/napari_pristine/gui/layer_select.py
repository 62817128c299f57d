"""Choice of the layer to restore, its axes, the axes that are restored together, the mask, the range and the region."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from magicgui.widgets import ComboBox, LineEdit
from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_pristine.errors import AxesError
from napari_pristine.gui.layers import (
    image_from_layer,
    layer_axes,
    layer_data,
    mask_from_layer,
    plane_ranges,
    shape_ranges,
    stated_axes,
    visible_ranges,
)
from napari_pristine.gui.origin import source_name, source_of
from napari_pristine.gui.source_file import SOURCE_FILES
from napari_pristine.gui.widgets import form_layout, label_for, limit_width
from napari_pristine.image.image import Image, check_axes

_ALL, _PLANE, _VIEW, _DRAW = ":all", ":plane", ":view", ":draw"
"""Values of the regions; those of shapes are the names of their layers."""
_EDGE = "#E69F00"
"""Colour of the rectangle that a user draws."""
_TOGETHER = {"Z": "volumes", "T": "with time", "C": "with all channels"}


class LayerComboBox:
    """Choice of a layer of the viewer.

    It holds the layer and not its name, which the user may change; a layer that is removed or is no longer accepted is
    no longer chosen.

    Attributes:
        layer: The chosen layer.
        accepts: Tells which layers can be chosen.

    Args:
        viewer: The napari viewer.
        accept: Tells which layers can be chosen.
        tooltip: Explains the choice.
        none: Entry for no layer; if empty, the first choice is the selected layer or the topmost visible one.
    """

    def __init__(self, viewer: Viewer, accept: Callable[[Layer], bool], tooltip: str, none: str = "") -> None:
        self.viewer = viewer
        self.layer: Layer | None = None
        self.accepts = accept
        self._none = none
        # entries are names: plugins get layers wrapped in proxies, which Qt does not find in its lists
        self.box = ComboBox(choices=lambda _: self._entries(), tooltip=tooltip)
        self.box.changed.connect(self._on_changed)
        limit_width(self.box)
        self.refresh()

    def refresh(self) -> None:
        """Update the entries to the layers of the viewer."""
        if self.layer is not None and not (self.layer in self.viewer.layers and self.accepts(self.layer)):
            self.layer = None
        if self.layer is None and not self._none:
            accepted = [layer for layer in self.viewer.layers if self.accepts(layer)]
            if accepted:
                shown = [layer for layer in accepted if layer.visible]
                self.layer = self._selected() or (shown or accepted)[-1]
        with self.box.changed.blocked():
            self.box.reset_choices()
            if self.layer is not None or self._none:
                self.box.value = "" if self.layer is None else self.layer.name

    def follow_selection(self) -> None:
        """Choose the layer that is selected in the viewer; the source of a result in place of the result."""
        if (layer := self._selected()) is not None and layer is not self.layer:
            self.choose(layer)

    def _selected(self) -> Layer | None:
        active = self.viewer.layers.selection.active
        if active is not None and source_name(active):
            active = source_of(active, self.viewer)
        return active if active is not None and self.accepts(active) else None

    def choose(self, layer: Layer) -> None:
        """Choose a layer that is accepted."""
        self.box.value = layer.name

    def _entries(self) -> list[tuple[str, str]]:
        names = [layer.name for layer in self.viewer.layers if self.accepts(layer)]
        return [*([(self._none, "")] if self._none else []), *((name, name) for name in names)]

    def _on_changed(self, name: str | None) -> None:
        self.layer = self.viewer.layers[name] if name else None


class LayerSelect(QWidget):  # type: ignore[misc]
    """Choice of the image to restore; `changed` is emitted when layer, axes, mask or range change."""

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.image_box = LayerComboBox(
            viewer,
            lambda layer: isinstance(layer, ImageLayer) and not source_name(layer),
            "The image to restore; follows the layer that is selected. Results are not offered.",
        )
        self.axes = LineEdit(
            tooltip="One letter per dimension: T time, Z depth, C channel, Y and X the plane, S colours of RGB."
        )
        self.together = ComboBox(
            choices=[("", "")],
            tooltip="Axes that are restored together; each position along the others is restored by itself.",
        )
        self.mask_box = LayerComboBox(
            viewer,
            self._accept_mask,
            "Pixels to fill in, such as dead ones: a labels layer, or an image of the same shape, that is not 0 there.",
            none="none",
        )
        self.region = ComboBox(
            choices=[("all", _ALL)], tooltip="The part of the image that Restore restores; Preview takes what you see."
        )
        limit_width(self.region)
        self.axes_entered = False  # by the user; a recipe for other images names no axes that were guessed
        self.ranges: dict[str, LineEdit] = {}
        self._rows = form_layout(self)
        for label, field in (("Axes", self.axes), ("Together", self.together), ("Mask", self.mask_box.box)):
            self._rows.addRow(label_for(field.native, label), field.native)
        limit_width(self.together)
        self.region.changed.connect(self._on_region)
        self.image_box.box.changed.connect(self._on_layer)
        self.axes.changed.connect(self._on_axes_entered)
        self.together.changed.connect(self._emit_changed)
        self.mask_box.box.changed.connect(self._emit_changed)
        SOURCE_FILES.late.connect(self._on_late_file)
        self._on_layer()

    @property
    def layer(self) -> ImageLayer | None:
        """The chosen layer; `None` if there is no image layer."""
        return self.image_box.layer

    @property
    def axes_guessed(self) -> bool:
        """True if neither the layer nor the user has stated the axes."""
        return self.layer is not None and not (self.axes_entered or stated_axes(self.layer))

    def image(self) -> Image:
        """The chosen layer as an image, all of it.

        Raises:
            AxesError: There is no layer, or the axes do not fit it.
        """
        if self.layer is None:
            raise AxesError("there is no image layer; open an image first")
        return image_from_layer(self.layer, self.axes.value.strip().upper())

    def selected_ranges(self) -> dict[str, str]:
        """The ranges that were entered, by axis."""
        return {axis: field.value.strip() for axis, field in self.ranges.items() if field.value.strip()}

    def region_ranges(self) -> dict[str, str]:
        """The part of the image that is to be restored, as ranges by axis; see `Image.select`.

        Raises:
            AxesError: The axes do not fit, or no shape says where the region is.
        """
        chosen, image, dims = self.region.value, self.image(), self.viewer.dims
        together = self.together.value or ""
        if chosen == _VIEW:
            return visible_ranges(self.layer, image, together, dims)
        if chosen == _PLANE:
            return plane_ranges(self.layer, image, together, dims)
        if chosen == _ALL:
            return self.selected_ranges()
        return {**self.selected_ranges(), **shape_ranges(self.layer, image, self.viewer.layers[chosen])}

    def visible_part(self) -> dict[str, str]:
        """The part on the canvas, as ranges by axis."""
        return visible_ranges(self.layer, self.image(), self.together.value or "", self.viewer.dims)

    def mask_image(self) -> Image | None:
        """The chosen mask; `None` if there is none.

        Raises:
            AxesError: There is no image, or its axes do not fit it.
        """
        layer = self.mask_box.layer
        return None if layer is None else mask_from_layer(layer, self.image())

    def refresh(self) -> None:
        """Update the entries to the layers of the viewer."""
        before = self.layer
        self.image_box.refresh()
        if self.layer is not before:
            self._on_layer()
        else:
            self.mask_box.refresh()
        self._offer_regions()

    def _offer_regions(self) -> None:
        """Offer the regions that there are: a plane only of stacks, and each layer of shapes."""
        axes = self.axes.value.strip().upper()
        entries = [("everything" if len(axes.replace("S", "")) > 2 else "the whole image", _ALL)]
        if len(axes.replace("S", "")) > 2:
            entries.append(("this plane", _PLANE))
        entries.append(("what I see", _VIEW))
        shapes = [layer.name for layer in self.viewer.layers if isinstance(layer, Shapes)]
        entries += [(f"the box around ‘{name}’", name) for name in shapes]
        if self.layer is not None:
            entries.append(("a rectangle that I draw…", _DRAW))
        before = self.region.value
        with self.region.changed.blocked():
            self.region.choices = entries
            self.region.value = before if before in [value for _, value in entries] else _ALL

    def _on_region(self, region: str) -> None:
        """Let the user draw a rectangle, if there is none yet."""
        if region == _DRAW and self.layer is not None:
            scale, units = self.layer.scale[-2:], self.layer.units[-2:]
            shapes = self.viewer.add_shapes(
                None, ndim=2, name="region", scale=scale, units=units, edge_color=_EDGE, face_color="transparent",
                edge_width=2,
            )  # fmt: skip
            self._offer_regions()
            self.viewer.layers.selection.active = shapes
            shapes.mode = "add_rectangle"
            self.region.value = shapes.name
        elif region in self.viewer.layers:
            self.viewer.layers[region].events.data.connect(self._emit_changed)
        self._emit_changed()

    def _accept_mask(self, layer: Layer) -> bool:
        if layer == self.layer or not isinstance(layer, (Labels, ImageLayer)) or source_name(layer):
            return False
        try:
            return mask_from_layer(layer, self.image()) is not None
        except AxesError:
            return False

    def _on_layer(self) -> None:
        self.axes_entered = False
        with self.axes.changed.blocked():
            self.axes.value = "" if self.layer is None else layer_axes(self.layer)
        self._on_axes()

    def enter_axes(self, axes: str) -> None:
        """Enter axes as the user would, if they are others and fit the layer."""
        if self.layer is not None and axes not in ("", self.axes.value):
            with suppress(AxesError):
                check_axes(axes, tuple(layer_data(self.layer).shape))
                self.axes.value = axes

    def _on_late_file(self, path: str) -> None:
        """Show what the file of the chosen layer says, which was not known when the layer was chosen."""
        if self.layer is not None and self.layer.source.path == path:
            if self.axes_entered or layer_axes(self.layer) == self.axes.value:
                self.changed.emit()
            else:
                self._on_layer()

    def _on_axes_entered(self) -> None:
        self.axes_entered = True
        self._on_axes()

    def _on_axes(self) -> None:
        """Update what can be chosen with these axes."""
        axes = self.axes.value.strip().upper()
        plane = "".join(axis for axis in axes if axis in "YXS")
        others = list(dict.fromkeys(axis for axis in axes if axis not in plane))
        choices = [(f"{plane}: each plane alone" if plane else "each plane alone", "")]
        for other in others:
            group = "".join(axis for axis in axes if axis in plane + other)
            choices.append((f"{group}: {_TOGETHER.get(other, f'with all of {other}')}", group))
        if "S" in axes:
            choices.append(("YX: each colour alone", "YX"))
        with self.together.changed.blocked():
            self.together.choices = choices
            self.together.value = ""
        for field in self.ranges.values():
            self._rows.removeRow(field.native)
        self.ranges = {axis: self._add_range(axis, axes) for axis in others}
        self.mask_box.refresh()
        self._offer_regions()
        self.changed.emit()

    def _add_range(self, axis: str, axes: str) -> LineEdit:
        field = LineEdit(
            tooltip=f"Part of {axis} to restore, such as 3, 0:10 or 0:10:2, counted from 0; empty for all of it."
        )
        shape = () if self.layer is None else layer_data(self.layer).shape
        sizes = dict(zip(axes, shape, strict=False))
        field.native.setPlaceholderText(f"all: 0 to {sizes[axis] - 1}" if axis in sizes else "all")
        field.changed.connect(self._emit_changed)
        self._rows.insertRow(self._rows.rowCount() - 1, label_for(field.native, f"Range of {axis}"), field.native)
        return field

    def _emit_changed(self) -> None:
        self.changed.emit()
