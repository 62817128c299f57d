"""A choice among layers of the viewer, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import ComboBox
from qtpy.QtWidgets import QComboBox


class LayerBox:
    """Holds a layer, not its name: it may be renamed. What is removed or no longer fits is let go.

    Args:
        viewer: The napari viewer.
        fits: Which layers can be chosen.
        none: The word for no layer.
        tooltip: What it is for.
    """

    def __init__(self, viewer: Any, fits: Callable[[Any], bool], none: str, tooltip: str) -> None:
        self.viewer = viewer
        self.layer: Any = None
        self._fits = fits
        self._none = none
        # by name: layers that plugins see are wrapped, and Qt does not find wrapped objects in its lists
        self.box = ComboBox(choices=lambda _: self._choices(), tooltip=tooltip)
        self.box.changed.connect(self._take)
        narrow(self.box)
        self.refresh()

    def refresh(self) -> None:
        """Follow the layers of the viewer; the chosen one stays, whatever its name is now."""
        fits = self.layer is not None and self.layer in self.viewer.layers and self._fits(self.layer)
        self.layer = self.layer if fits else None
        with self.box.changed.blocked():
            self.box.reset_choices()
            self.box.value = self.layer.name if fits else ""

    def choose(self, layer: Any) -> None:
        """Choose a layer that fits."""
        self.box.value = layer.name

    def _choices(self) -> list[tuple[str, str]]:
        names = [layer.name for layer in self.viewer.layers if self._fits(layer)]
        return [(self._none, ""), *((name, name) for name in names)]

    def _take(self, name: str | None) -> None:
        self.layer = self.viewer.layers[name] if name else None


def narrow(box: ComboBox) -> None:
    """Let a long choice not widen the panel."""
    box.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.native.setMinimumContentsLength(12)
