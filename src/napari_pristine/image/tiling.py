"""Cut a block into overlapping tiles, and blend them without seams."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

OVERLAP = 32
"""Least overlap of neighbouring tiles, in pixels."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size, evenly spread over a block, at least `overlap` wide in common.

    Attributes:
        shape: Shape of the block, without channels.
        side: Sides of a tile.
        overlap: Least overlap between neighbours, in pixels.
    """

    shape: tuple[int, ...]
    side: tuple[int, ...]
    overlap: int

    @classmethod
    def of(cls, shape: tuple[int, ...], side: int, overlap: int) -> Tiling:
        """Tiles with sides of at most `side` pixels in two dimensions, and boxes of as many pixels in three."""
        if len(shape) < 3:
            return cls(shape, tuple(min(side, n) for n in shape), min(overlap, side // 2))
        sides, left = list(shape), float(side**2)
        for rank, axis in enumerate(sorted(range(len(shape)), key=lambda axis: shape[axis])):
            sides[axis] = min(shape[axis], max(round(left ** (1 / (len(shape) - rank))), 1))
            left /= sides[axis]  # what a thin axis leaves over goes to the others
        common = round(overlap ** (2 / len(shape)))
        cut = [part for part, whole in zip(sides, shape, strict=True) if part < whole]
        return cls(shape, tuple(sides), min([common, *(part // 2 for part in cut)]))

    def tightened(self) -> Tiling:
        """As many tiles, but none larger than it has to be."""
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
        """The part of the block that each tile covers."""
        return [tuple(slice(a, a + n) for a, n in zip(corner, self.side, strict=True)) for corner in self.corners]

    @cached_property
    def window(self) -> NDArray[np.float32]:
        """Weight of each pixel of a tile, highest in its middle and positive everywhere."""
        return self.window_of(self.side)

    def window_of(self, sides: tuple[int, ...]) -> NDArray[np.float32]:
        """The same for tiles on another grid, `sides` pixels long."""
        window = np.ones(sides, dtype=np.float32)
        for axis, (size, side, count) in enumerate(zip(self.shape, self.side, sides, strict=True)):
            if side < size:
                ramp = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
                window *= ramp.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(len(sides))])
        return np.maximum(window, 1e-4).astype(np.float32)

    def blend(self, tiles: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Tiles `(C, *side)` as one block `(C, *shape)`, weighted by the window.

        Tiles on a grid that is finer by whole numbers give a block on that grid.
        """
        sides = tiles[0].shape[1:]
        finer = [count // side for count, side in zip(sides, self.side, strict=True)]
        whole = tuple(n * f for n, f in zip(self.shape, finer, strict=True))
        window = self.window if sides == self.side else self.window_of(sides)
        total: NDArray[np.float32] = np.zeros((len(tiles[0]), *whole), dtype=np.float32)
        weight: NDArray[np.float32] = np.zeros(whole, dtype=np.float32)
        for tile, part in zip(tiles, self.slices, strict=True):
            fine = tuple(slice(p.start * f, p.stop * f) for p, f in zip(part, finer, strict=True))
            total[(slice(None), *fine)] += tile * window
            weight[fine] += window
        return np.divide(total, weight, dtype=np.float32)


def repeat(pixels: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    """Pixels `(..., *space)` on a grid that is `factors` times finer along the axes of space."""
    for axis, factor in enumerate(factors, pixels.ndim - len(factors)):
        pixels = np.repeat(pixels, factor, axis=axis) if factor > 1 else pixels
    return pixels
