"""Layers beside each other, in the grid of napari."""

from __future__ import annotations

from typing import Any

from napari import Viewer
from napari.layers import Layer

_MAX_IN_TWO = 6
"""Number of layers up to which they stand in two columns."""
_FONT_SIZE = 7
"""Size of the names, in points: names of results are long."""


def grid_of(viewer: Viewer) -> Any:
    """The grid of a viewer, which belongs to its canvas since napari 0.9."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.grid if canvas is None else canvas.grid


class SideBySide:
    """Shows some layers of a viewer beside each other, with one camera for all; then what was shown before.

    Args:
        viewer: The napari viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._before: dict[Layer, tuple[bool, dict[str, Any]]] = {}
        self._grid: dict[str, Any] = {}

    @property
    def shown(self) -> bool:
        """True while layers are beside each other."""
        return bool(self._grid)

    def show(self, layers: list[Layer]) -> None:
        """Show these layers and no others, from the lowest on, each with its name."""
        grid = grid_of(self.viewer)
        if not self.shown:
            self._before = {layer: (layer.visible, _overlay(layer)) for layer in self.viewer.layers}
            self._grid = {name: getattr(grid, name) for name in ("enabled", "stride", "shape")}
        for layer in self.viewer.layers:
            layer.visible = layer in layers
            _set_overlay(layer, {"visible": layer in layers, "font_size": _FONT_SIZE})
        grid.stride = 1 if hasattr(self.viewer, "canvas") else -1  # the order of napari 0.6 is another
        grid.shape = (-1, 2 if len(layers) <= _MAX_IN_TWO else -1)
        grid.enabled = True
        self.viewer.reset_view()

    def hide(self) -> None:
        """Show what was shown before; layers that are new are hidden."""
        if not self.shown:
            return
        grid = grid_of(self.viewer)
        for name, value in self._grid.items():
            setattr(grid, name, value)
        for layer in self.viewer.layers:
            layer.visible, overlay = self._before.get(layer, (False, {"visible": False}))
            _set_overlay(layer, overlay)
        self._before, self._grid = {}, {}
        self.viewer.reset_view()


def _overlay(layer: Layer) -> dict[str, Any]:
    """Visibility and size of the name of a layer over it, which napari has since 0.9."""
    overlay = getattr(layer, "name_overlay", None)
    return {} if overlay is None else {name: getattr(overlay, name) for name in ("visible", "font_size")}


def _set_overlay(layer: Layer, values: dict[str, Any]) -> None:
    if (overlay := getattr(layer, "name_overlay", None)) is not None:
        for name, value in values.items():
            setattr(overlay, name, value)
