"""Tiling: cut a block into overlapping tiles, and blend them without seams."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

OVERLAP = 32
"""Minimum overlap of neighbouring tiles, in pixels."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size that are evenly spread over a block and overlap their neighbours.

    Attributes:
        shape: Shape of the block, without channels.
        side: Side of a tile along each axis, in pixels.
        overlap: Minimum overlap of neighbouring tiles along each axis that is cut, in pixels.
    """

    shape: tuple[int, ...]
    side: tuple[int, ...]
    overlap: int

    @classmethod
    def of(cls, shape: tuple[int, ...], side: int, overlap: int) -> Tiling:
        """Choose the tiles of a block.

        Args:
            shape: Shape of the block, without channels.
            side: Largest side of a tile in two dimensions; in three, a tile has about as many pixels as such a square.
            overlap: Minimum overlap in two dimensions, in pixels; in three, less, in proportion.
        """
        if len(shape) < 3:
            return cls(shape, tuple(min(side, n) for n in shape), min(overlap, side // 2))
        sides, remaining = list(shape), float(side**2)
        for done, axis in enumerate(sorted(range(len(shape)), key=lambda axis: shape[axis])):
            sides[axis] = min(shape[axis], max(round(remaining ** (1 / (len(shape) - done))), 1))
            remaining /= sides[axis]  # thin axes, which come first, leave more pixels to the others
        cut = [length for length, size in zip(sides, shape, strict=True) if length < size]
        return cls(shape, tuple(sides), min([round(overlap ** (2 / len(shape))), *(length // 2 for length in cut)]))

    def tightened(self) -> Tiling:
        """Tiling with as many tiles, as small as the overlap allows."""
        counts = [len(self.starts(axis)) for axis in range(len(self.shape))]
        sides = [-(-(n + (count - 1) * self.overlap) // count) for n, count in zip(self.shape, counts, strict=True)]
        return Tiling(self.shape, tuple(sides), self.overlap)

    def starts(self, axis: int) -> list[int]:
        """First pixel of each tile along an axis."""
        size, side = self.shape[axis], self.side[axis]
        if side >= size:
            return [0]
        count = math.ceil((size - side) / max(side - self.overlap, 1)) + 1
        return [round(start) for start in np.linspace(0, size - side, count)]

    @cached_property
    def corners(self) -> list[tuple[int, ...]]:
        """First pixel of each tile."""
        return list(itertools.product(*(self.starts(axis) for axis in range(len(self.shape)))))

    @property
    def slices(self) -> list[tuple[slice, ...]]:
        """Part of the block that each tile covers."""
        return [tuple(slice(a, a + n) for a, n in zip(corner, self.side, strict=True)) for corner in self.corners]

    @cached_property
    def window(self) -> NDArray[np.float32]:
        """Weight of each pixel of a tile when tiles are blended: highest in the middle, positive everywhere."""
        return self.window_of(self.side)

    def window_of(self, sides: tuple[int, ...]) -> NDArray[np.float32]:
        """Window for tiles on a finer grid, with `sides` pixels along each axis."""
        window = np.ones(sides, dtype=np.float32)
        for axis, (size, side, count) in enumerate(zip(self.shape, self.side, sides, strict=True)):
            if side < size:
                ramp = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
                window *= ramp.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(len(sides))])
        return np.maximum(window, 1e-4).astype(np.float32)

    def blend(self, tiles: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Blend tiles to one block, as their mean weighted by the window.

        Args:
            tiles: `(C, *side)` each; or on a grid that is finer by whole factors, which gives a block on that grid.

        Returns:
            `(C, *shape)`.
        """
        sides = tiles[0].shape[1:]
        factors = [count // side for count, side in zip(sides, self.side, strict=True)]
        shape = tuple(n * factor for n, factor in zip(self.shape, factors, strict=True))
        window = self.window if sides == self.side else self.window_of(sides)
        total: NDArray[np.float32] = np.zeros((len(tiles[0]), *shape), dtype=np.float32)
        weight: NDArray[np.float32] = np.zeros(shape, dtype=np.float32)
        for tile, covered in zip(tiles, self.slices, strict=True):
            part = tuple(slice(c.start * f, c.stop * f) for c, f in zip(covered, factors, strict=True))
            total[(slice(None), *part)] += tile * window
            weight[part] += window
        return np.divide(total, weight, dtype=np.float32)


def repeat(pixels: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    """Repeat pixels `(..., *space)` on a grid that is `factors` times finer along the axes of space."""
    for axis, factor in enumerate(factors, pixels.ndim - len(factors)):
        pixels = np.repeat(pixels, factor, axis=axis) if factor > 1 else pixels
    return pixels
