"""Panes: large blocks are restored in overlapping parts, of which only the cores are kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_pristine.image.tiling import Tiling

WHOLE = 4096**2
"""Values of a block that is restored as one, at most. A constant, so that no result depends on a machine."""
SIDE = 2176
"""Side of the largest pane: of a square of as many values as a pane may have, or of a box."""
MARGIN = 64
"""Pixels around the core of a pane, as far as a network looks, or a fit is felt; in volumes fewer, as their tiles."""
STEP = 32
"""The cores of panes are as many pixels long along Y and X, or twice, three times …, so that chunks may be, too."""

SQUARE = 256
"""Side of the squares by which large blocks are measured."""


@dataclass(frozen=True)
class ChunkGrid:
    """Parts of a block that cover it with their cores, and see a margin around them.

    Attributes:
        shape: Shape of the block, without channels.
        core: Sides of a core; those at the end of the block are smaller.
        margin: Width of the margin along each axis, a third of the core at most; 0 where the block is not cut.
    """

    shape: tuple[int, ...]
    core: tuple[int, ...]
    margin: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], values: int) -> ChunkGrid | None:
        """The panes of a block whose last axes are Y and X; none if it is restored as one.

        Args:
            shape: Its shape, without channels.
            values: Of each pixel: channels, and points on the finer grid of the result.
        """
        if values * math.prod(shape) <= WHOLE:
            return None
        seen = Tiling.of(shape, round(SIDE / math.sqrt(values)), MARGIN)
        steps = [1] * (len(shape) - 2) + [STEP, STEP]
        cuts = [_cut(n, side, seen.overlap, step) for n, side, step in zip(shape, seen.side, steps, strict=True)]
        if not any(margin for _, margin in cuts):  # thousands of channels: there are no smaller panes
            return None
        return cls(shape, tuple(core for core, _ in cuts), tuple(margin for _, margin in cuts))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of panes along each axis."""
        return tuple(-(-n // core) for n, core in zip(self.shape, self.core, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def cores(self, axis: int) -> list[slice]:
        """The cores along one axis."""
        size, core = self.shape[axis], self.core[axis]
        return [slice(start, min(start + core, size)) for start in range(0, size, core)]

    def number(self, at: Sequence[int]) -> int:
        """The pane that is the so-many-th along each axis."""
        return int(np.ravel_multi_index(tuple(at), self.counts))

    def kept(self, number: int) -> tuple[slice, ...]:
        """The part of the block that a pane is to restore: its core."""
        at = np.unravel_index(number, self.counts)
        return tuple(self.cores(axis)[int(n)] for axis, n in enumerate(at))

    def seen(self, number: int) -> tuple[slice, ...]:
        """The part that it sees: with the margin; a core that is narrow, at the end of the block, with more of it."""
        parts = zip(self.kept(number), self.margin, self.shape, strict=True)
        return tuple(
            slice(max(min(core.start - margin, core.stop - 4 * margin), 0), min(core.stop + margin, size))
            for core, margin, size in parts
        )

    def inner(self, number: int) -> tuple[slice, ...]:
        """Where its core lies in what it sees."""
        parts = zip(self.kept(number), self.seen(number), strict=True)
        return tuple(slice(core.start - seen.start, core.stop - seen.start) for core, seen in parts)

    @property
    def largest(self) -> tuple[int, ...]:
        """Sides of what a pane sees, at most."""
        sides = zip(self.core, self.margin, self.shape, strict=True)
        return tuple(min(core + 2 * margin, n) for core, margin, n in sides)

    def finer(self, factors: tuple[int, ...]) -> ChunkGrid:
        """The same on a finer grid; one factor for each axis."""
        scaled = (tuple(n * f for n, f in zip(p, factors, strict=True)) for p in (self.shape, self.core, self.margin))
        return ChunkGrid(*scaled)


def _cut(size: int, side: int, margin: int, step: int) -> tuple[int, int]:
    """Core and margin along an axis, if a pane has this side."""
    margin = min(margin, side // 8)
    core = max((side - 2 * margin) // step, 1) * step
    return (size, 0) if side >= size or core >= size else (core, margin)


def squares(shape: tuple[int, ...], most: int) -> list[tuple[slice, ...]]:
    """About as many small squares, at most, that are evenly spread over a block; its last axes are Y and X.

    Few parts of a file have to be read for each: they lie at multiples of their side.
    """
    sides = [1] * (len(shape) - 2) + [min(SQUARE, n) for n in shape[-2:]]
    rooms = [n // side for n, side in zip(shape, sides, strict=True)]
    starts, left, places = [np.zeros(1, int)] * len(shape), most, math.prod(rooms)
    for rank, axis in enumerate(sorted(range(len(shape)), key=lambda axis: rooms[axis])):
        share = min(left / places, 1) ** (1 / (len(shape) - rank))
        count = min(max(round(rooms[axis] * share), 1), rooms[axis])
        starts[axis] = np.linspace(0, rooms[axis] - 1, count).astype(int) * sides[axis]
        left, places = max(left // count, 1), places // rooms[axis]
    return [
        tuple(slice(int(a), int(a) + side) for a, side in zip(corner, sides, strict=True))
        for corner in itertools.product(*starts)
    ]
