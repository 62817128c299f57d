"""Operator: one stage of how a picture came from its scene, `y = A x`; a tuple of them is the whole way.

Operators are linear, and act on the last axes of a tensor `(…, *space)`; the adjoint comes from autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Where pixels lie.

    Attributes:
        axes: Letters of the axes of space, such as `"YX"` or `"ZYX"`.
        shape: Number of pixels along each.
        spacing: Distance of neighbours along each, in µm where known, else in pixels of the picture.
    """

    axes: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def finer(self, times: Sequence[int]) -> Grid:
        """The grid that has `times` pixels along each axis where this has one; the outer borders are the same."""
        return Grid(
            self.axes,
            tuple(n * k for n, k in zip(self.shape, times, strict=True)),
            tuple(d / k for d, k in zip(self.spacing, times, strict=True)),
        )


class Operator(Protocol):
    """One stage; a frozen value."""

    def times(self, axes: str) -> tuple[int, ...]:
        """How many pixels of the scene lie along one of the picture, for each of `axes`."""

    def halo(self, grid: Grid) -> tuple[int, ...]:
        """How many pixels of the scene, whose grid this is, a pixel of the picture sees beyond its own borders."""

    def apply(self, scene: Tensor, grid: Grid) -> Tensor:
        """The picture `(…, *space)` of a scene; of `grid`, the scene's, axes and spacing count."""


Operators: TypeAlias = tuple[Operator, ...]
"""Stages in order, from the scene to the picture."""


def before(operators: Operators, grid: Grid) -> Grid:
    """The grid of the scene, from that of the picture."""
    for operator in reversed(operators):
        grid = grid.finer(operator.times(grid.axes))
    return grid


def degrade(scene: Tensor, operators: Operators, grid: Grid) -> Tensor:
    """The picture `(…, *space)` of a scene whose grid this is; the scene may be a part of that."""
    for operator in operators:
        scene = operator.apply(scene, grid)
        grid = after(operator, grid)
    return scene


def halo(operators: Operators, grid: Grid) -> tuple[int, ...]:
    """How many pixels of the scene, whose grid this is, a pixel of the picture sees beyond its own borders."""
    total, scale = [0] * len(grid.axes), [1] * len(grid.axes)
    for operator in operators:
        total = [t + s * r for t, s, r in zip(total, scale, operator.halo(grid), strict=True)]
        scale = [s * k for s, k in zip(scale, operator.times(grid.axes), strict=True)]
        grid = after(operator, grid)
    return tuple(total)


def after(operator: Operator, grid: Grid) -> Grid:
    """The grid of the picture that an operator makes, from that of its scene."""
    times = operator.times(grid.axes)
    return Grid(
        grid.axes,
        tuple(n // k for n, k in zip(grid.shape, times, strict=True)),
        tuple(d * k for d, k in zip(grid.spacing, times, strict=True)),
    )
