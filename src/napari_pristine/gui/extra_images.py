"""Extra images of the same scene, each with the settings of its degradation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pristine.errors import ImageError
from napari_pristine.gui.layer_select import LayerComboBox
from napari_pristine.gui.layers import image_from_layer, layer_axes, layer_data
from napari_pristine.gui.settings_form import SettingsForm
from napari_pristine.gui.widgets import button, collapsible, label_for, set_enabled, side_by_side
from napari_pristine.image.image import Image
from napari_pristine.io.metadata import PROVENANCE
from napari_pristine.methods.degradation import Degradation

SETTING = "extra_images"
"""Name of the setting that holds the extra images, in methods that restore several images together."""
_MAX_FINER = 16
"""Factor by which the grid of the scene can be finer than that of an image."""
_LIKELY_FINER = 4
"""Factor up to which a layer on a coarser or finer grid is proposed unasked."""


class ExtraImages(QWidget):  # type: ignore[misc]
    """List of layers, each with a form; `changed` is emitted when the list changes.

    Args:
        viewer: The napari viewer.
        first: Returns the layer that is restored, which cannot be chosen again.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, first: Callable[[], Layer | None]) -> None:
        super().__init__()
        self.viewer = viewer
        self.rows: list[ExtraImage] = []
        self._first = first
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.add_button = button(
            "Add another image of the same scene",
            "Restore several images of one scene together, such as a blurred, a coarse and a noisy one.",
            self.add,
        )
        self._layout.addWidget(self.add_button)
        self.refresh()

    def add(self) -> ExtraImage:
        """Add a row, with the first layer that is likely to show the same scene and is in none of the rows."""
        row = ExtraImage(self.viewer, self._accept)
        used = [other.layer_box.layer for other in self.rows]
        for layer in self.viewer.layers:
            if self._accept(layer) and layer not in used and max(grids := self._grids(layer)) <= _LIKELY_FINER:
                row.layer_box.choose(layer)
                row.settings.set_values({"finer": grids[0] if grids[1] == 1 else 1})
                break
        row.removed.connect(self._remove_sender)
        self.rows.append(row)
        self._layout.insertWidget(self._layout.count() - 1, row)
        self.changed.emit()
        return row

    def remove(self, row: ExtraImage) -> None:
        """Remove a row."""
        self.rows.remove(row)
        self._layout.removeWidget(row)
        row.setParent(None)
        row.deleteLater()
        self.changed.emit()

    def refresh(self) -> None:
        """Update the entries to the layers of the viewer."""
        for row in self.rows:
            row.layer_box.refresh()
            row.settings.refresh()
        fitting = any(self._accept(layer) for layer in self.viewer.layers)
        set_enabled(self.add_button, "" if fitting else "There is no other layer whose pixels fit those of the image.")

    def images(self, axes: str) -> list[Image]:
        """The chosen layers as images.

        Args:
            axes: Axes of the image that is restored; taken for layers with as many dimensions.

        Raises:
            ImageError: No layer is chosen in one of the rows.
        """
        return [row.image(axes) for row in self.rows]

    def setting(self) -> list[dict[str, Any]]:
        """The value of the setting: the degradation of each image."""
        return [row.settings.values() for row in self.rows]

    def psfs(self) -> list[Image | None]:
        """The layer that is chosen as point spread function for each image; `None` for those that need none.

        Raises:
            SettingError: One is needed, and neither a layer nor a file is chosen.
        """
        return [row.settings.psf() for row in self.rows]

    def _accept(self, layer: Layer) -> bool:
        """Tell whether a layer can show the same scene: its grid fits, and it is no result of a restoration."""
        if not isinstance(layer, ImageLayer) or layer == self._first() or PROVENANCE in layer.metadata:
            return False
        return max(self._grids(layer)) <= _MAX_FINER

    def _grids(self, layer: ImageLayer) -> tuple[int, int]:
        """Factors by which the common grid along Y and X is finer than those of a layer and of the restored image.

        They are large where the grids have nothing to do with each other, as of an image and a point spread function.
        """
        first = self._first()
        if first is None:
            return 1, 1
        own, other = (_plane(each) for each in (layer, first))
        factors = {(b // (g := math.gcd(a, b)), a // g) for a, b in zip(own, other, strict=True)}
        return factors.pop() if len(factors) == 1 else (max(own), max(other))

    def _remove_sender(self) -> None:
        self.remove(self.sender())


def _plane(layer: ImageLayer) -> list[int]:
    """Size of a layer along Y and X."""
    return [n for axis, n in zip(layer_axes(layer), layer_data(layer).shape, strict=True) if axis in "YX"]


class ExtraImage(QWidget):  # type: ignore[misc]
    """One extra image: its layer and its degradation; `removed` is emitted when ✕ is clicked."""

    removed = Signal()

    def __init__(self, viewer: Viewer, accept: Callable[[Layer], bool]) -> None:
        super().__init__()
        self.layer_box = LayerComboBox(viewer, accept, "Another image of the same scene.", none="choose a layer")
        self.settings = SettingsForm(Degradation, viewer)
        self.remove_button = button("✕", "Remove this image from the list.", self._emit_removed)
        self.remove_button.setFixedWidth(30)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        box = self.layer_box.box.native
        layout.addWidget(side_by_side(label_for(box, "Together with"), box, self.remove_button))
        layout.addWidget(collapsible("How this image was taken", self.settings, indent=8))

    def image(self, axes: str) -> Image:
        """The chosen layer as an image.

        Raises:
            ImageError: No layer is chosen.
        """
        layer = self.layer_box.layer
        if layer is None:
            raise ImageError(
                "no layer is chosen for another image of the same scene; choose one, or remove it from the list with ✕"
            )
        return image_from_layer(layer, axes if len(axes) == layer_data(layer).ndim else layer_axes(layer))

    def _emit_removed(self) -> None:
        self.removed.emit()
