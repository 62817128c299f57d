"""Layers beside each other, in the grid of napari."""

from __future__ import annotations

from typing import Any

from napari import Viewer
from napari.layers import Layer


class SideBySide:
    """Shows some layers of a viewer beside each other, with one camera for all; then what was shown before.

    Args:
        viewer: The napari viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._before: dict[Layer, tuple[bool, bool]] = {}
        self._grid: dict[str, Any] = {}

    @property
    def shown(self) -> bool:
        """True while layers are beside each other."""
        return bool(self._grid)

    def show(self, layers: list[Layer]) -> None:
        """Show these layers and no others, each with its name."""
        grid = self._canvas_grid()
        if not self.shown:
            self._before = {layer: (layer.visible, _name_is_shown(layer)) for layer in self.viewer.layers}
            self._grid = {name: getattr(grid, name) for name in ("enabled", "stride", "shape")}
        for layer in self.viewer.layers:
            layer.visible = layer in layers
            _show_name(layer, shown=layer in layers)
        grid.stride, grid.shape = -1, (-1, -1)  # from the lowest layer on: noisy, then its results
        grid.enabled = True
        self.viewer.reset_view()

    def hide(self) -> None:
        """Show what was shown before; layers that are new stay hidden."""
        if not self.shown:
            return
        grid = self._canvas_grid()
        for name, value in self._grid.items():
            setattr(grid, name, value)
        for layer in self.viewer.layers:
            visible, named = self._before.get(layer, (False, False))
            layer.visible = visible
            _show_name(layer, shown=named)
        self._before, self._grid = {}, {}
        self.viewer.reset_view()

    def _canvas_grid(self) -> Any:
        canvas = getattr(self.viewer, "canvas", None)  # napari 0.9; before, the viewer had the grid
        return self.viewer.grid if canvas is None else canvas.grid


def _name_is_shown(layer: Layer) -> bool:
    overlay = getattr(layer, "name_overlay", None)  # new in napari 0.9
    return bool(overlay is not None and overlay.visible)


def _show_name(layer: Layer, *, shown: bool) -> None:
    overlay = getattr(layer, "name_overlay", None)
    if overlay is not None:
        overlay.visible = shown
