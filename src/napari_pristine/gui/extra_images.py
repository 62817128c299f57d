"""Further pictures of the same scene, and how each came about."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from napari.layers import Image as ImageLayer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_pristine.errors import ImageError
from napari_pristine.gui.form import Form, label_for
from napari_pristine.gui.layer_combo_box import LayerBox
from napari_pristine.gui.layers import axes_of, image_of, values_of
from napari_pristine.image.image import Image
from napari_pristine.methods.degradation import Degradation

SETTING = "extra_images"
"""The setting of methods that restore several pictures together; it says how each of the others came about."""


class Pictures(QWidget):  # type: ignore[misc]
    """A list of layers, each with a form of its own; `changed` is emitted when there are more or fewer.

    Args:
        viewer: The napari viewer.
        first: The layer that is restored.
    """

    changed = Signal()

    def __init__(self, viewer: Any, first: Callable[[], Any]) -> None:
        super().__init__()
        self.viewer = viewer
        self.first = first
        self.pictures: list[Picture] = []
        self.more = QPushButton("Add another picture of the same scene")
        self.more.setToolTip("Restore several pictures of one scene together, such as blurred, coarse and noisy ones.")
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.addWidget(self.more)
        self.more.clicked.connect(lambda: self.add())

    def add(self) -> Picture:
        """One more picture: the first layer that is not among them yet, if there is one."""
        picture = Picture(self.viewer, self._fits)
        used = [other.layers.layer for other in self.pictures]
        free = [layer for layer in self.viewer.layers if self._fits(layer) and layer not in used]
        if free:
            picture.layers.choose(free[0])
        self.pictures.append(picture)
        self._rows.insertWidget(self._rows.count() - 1, picture)
        picture.drop.clicked.connect(lambda: self.remove(picture))
        self.changed.emit()
        return picture

    def remove(self, picture: Picture) -> None:
        """One picture less."""
        self.pictures.remove(picture)
        self._rows.removeWidget(picture)
        picture.setParent(None)
        picture.deleteLater()
        self.changed.emit()

    def refresh(self) -> None:
        """Follow the layers of the viewer."""
        for picture in self.pictures:
            picture.layers.refresh()

    def images(self, axes: str) -> list[Image]:
        """The pictures; `axes` are those of the image, for layers with as many.

        Raises:
            ImageError: For one of them no layer is chosen.
        """
        return [picture.image(axes) for picture in self.pictures]

    def text(self) -> str:
        """How they came about, as the setting wants it."""
        return "; ".join(picture.text() for picture in self.pictures)

    def _fits(self, layer: Any) -> bool:
        return isinstance(layer, ImageLayer) and layer != self.first()


class Picture(QWidget):  # type: ignore[misc]
    """One more picture of the scene."""

    def __init__(self, viewer: Any, fits: Callable[[Any], bool]) -> None:
        super().__init__()
        self.layers = LayerBox(viewer, fits, "choose a layer", "Another picture of the same scene.")
        self.drop = QPushButton("✕")
        self.drop.setFixedWidth(30)
        self.drop.setToolTip("Leave this picture out.")
        self.form = Form(Degradation)
        self.fold = QCollapsible("How this picture came about", expandedIcon="▾", collapsedIcon="▸")
        for part in (self.fold, self.fold.content()):
            part.layout().setContentsMargins(8, 4, 0, 0)
        self.fold.addWidget(self.form)
        line = QHBoxLayout()
        line.setSpacing(4)
        line.addWidget(label_for(self.layers.box.native, "And"))
        line.addWidget(self.layers.box.native, stretch=1)
        line.addWidget(self.drop)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(2)
        rows.addLayout(line)
        rows.addWidget(self.fold)

    def image(self, axes: str) -> Image:
        """The chosen layer as an image.

        Raises:
            ImageError: There is none.
        """
        layer = self.layers.layer
        if layer is None:
            raise ImageError("no layer is chosen for another picture of the scene; choose one, or leave it out with ✕")
        return image_of(layer, axes if len(axes) == values_of(layer).ndim else axes_of(layer))

    def text(self) -> str:
        """The name of the layer, and all settings that differ from their defaults."""
        name = "" if self.layers.layer is None else re.sub('[;="]', "_", self.layers.layer.name)
        default = Degradation().model_dump()
        changed = {key: value for key, value in self.form.values().items() if value != default[key]}
        quoted = [f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}" for key, value in changed.items()]
        return " ".join([name, *quoted])
