"""Linear forward operators: how an image comes from a scene, `y = A x`.

Operators act on the last axes of a tensor `(…, *space)`; autograd supplies their adjoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Position and size of pixels.

    Attributes:
        axes: Letters of the axes of space, such as `"YX"` or `"ZYX"`.
        shape: Number of pixels along each.
        spacing: Distance of neighbours along each, in µm where known, else in pixels of the image.
    """

    axes: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def upsampled(self, factors: Sequence[int]) -> Grid:
        """The grid with the same outer borders that has `factors` times as many pixels along each axis."""
        return Grid(
            self.axes,
            tuple(n * k for n, k in zip(self.shape, factors, strict=True)),
            tuple(d / k for d, k in zip(self.spacing, factors, strict=True)),
        )

    def downsampled(self, factors: Sequence[int]) -> Grid:
        """The grid with the same outer borders on which `factors` pixels of this one are one pixel."""
        return Grid(
            self.axes,
            tuple(n // k for n, k in zip(self.shape, factors, strict=True)),
            tuple(d * k for d, k in zip(self.spacing, factors, strict=True)),
        )


class Operator(Protocol):
    """One linear step from scene to image; a frozen value."""

    def factors(self, axes: str) -> tuple[int, ...]:
        """Pixels of the input that become one pixel of the output, along each of `axes`."""

    def apply(self, scene: Tensor, grid: Grid) -> Tensor:
        """The output `(…, *space)` for an input; of `grid`, that of the input, axes and spacing are used."""


Operators: TypeAlias = tuple[Operator, ...]
"""Operators in the order in which they are applied, from scene to image."""


def scene_grid(operators: Operators, image: Grid) -> Grid:
    """The grid of the scene, from that of the image."""
    for operator in reversed(operators):
        image = image.upsampled(operator.factors(image.axes))
    return image


def degrade(scene: Tensor, operators: Operators, grid: Grid) -> Tensor:
    """Apply operators to a scene `(…, *space)` with this grid, or to a part of it: the image `(…, *space)`."""
    for operator in operators:
        scene = operator.apply(scene, grid)
        grid = grid.downsampled(operator.factors(grid.axes))
    return scene
