"""Mask: which pixels of a picture were seen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from napari_pristine.physics.operator import Grid


@dataclass(frozen=True, eq=False)
class Mask:
    """Keeps what was seen and sets the rest to zero; always the last stage.

    Attributes:
        valid: `(*space)` of the picture, true where a pixel was seen.
    """

    valid: Tensor

    def times(self, axes: str) -> tuple[int, ...]:
        """The grid stays the same."""
        return (1,) * len(axes)

    def halo(self, grid: Grid) -> tuple[int, ...]:
        """A pixel sees itself alone."""
        return (0,) * len(grid.axes)

    def apply(self, scene: Tensor, grid: Grid) -> Tensor:
        """Multiply."""
        return scene * self.valid.to(scene)
