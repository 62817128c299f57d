"""Chunks: large blocks are restored in overlapping parts, of which only the interiors are kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_pristine.image.tiling import Tiling

MAX_BLOCK_VALUES = 4096**2
"""Values of a block that is restored as a whole, at most. A constant, so that no result depends on a machine."""
CHUNK_SIDE = 2176
"""Side of the largest chunk: of a square, or of a box of as many values."""
HALO = 64
"""Pixels around the interior of a chunk, as far as a network or a fit is influenced; fewer in volumes, as their tiles
have less overlap."""
INTERIOR_STEP = 32
"""Interiors are multiples of this long along Y and X, so that chunks of the zarr array of the result can be, too."""
SAMPLE_SIDE = 256
"""Side of the squares in which large blocks are measured."""


@dataclass(frozen=True)
class ChunkGrid:
    """Chunks whose interiors cover a block without overlap; around each interior is a halo.

    Attributes:
        shape: Shape of the block, without channels.
        interior: Sides of an interior; those at the end of the block are smaller.
        halo: Width of the halo along each axis, at most a third of the interior; 0 along axes that are not cut.
    """

    shape: tuple[int, ...]
    interior: tuple[int, ...]
    halo: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], values_per_pixel: int) -> ChunkGrid | None:
        """Cut a block into chunks; `None` if it is small enough to be restored as a whole.

        Args:
            shape: Shape of the block, without channels; the last axes are Y and X.
            values_per_pixel: Number of channels times the number of pixels of the result per pixel.
        """
        if values_per_pixel * math.prod(shape) <= MAX_BLOCK_VALUES:
            return None
        tiling = Tiling.of(shape, round(CHUNK_SIDE / math.sqrt(values_per_pixel)), HALO)
        interiors, halos = list(shape), [0] * len(shape)
        for axis, (size, side) in enumerate(zip(shape, tiling.side, strict=True)):
            step = INTERIOR_STEP if axis >= len(shape) - 2 else 1
            halo = min(tiling.overlap, side // 8)
            interior = max((side - 2 * halo) // step, 1) * step
            if side < size and interior < size:
                interiors[axis], halos[axis] = interior, halo
        if not any(halos):  # thousands of channels: there are no smaller chunks
            return None
        return cls(shape, tuple(interiors), tuple(halos))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-size // side) for size, side in zip(self.shape, self.interior, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def interiors(self, axis: int) -> list[slice]:
        """Interiors along one axis."""
        size, side = self.shape[axis], self.interior[axis]
        return [slice(start, min(start + side, size)) for start in range(0, size, side)]

    def number(self, position: Sequence[int]) -> int:
        """Number of the chunk at a position along each axis."""
        return int(np.ravel_multi_index(tuple(position), self.counts))

    def interior_slices(self, number: int) -> tuple[slice, ...]:
        """Part of the block that a chunk restores."""
        position = np.unravel_index(number, self.counts)
        return tuple(self.interiors(axis)[int(n)] for axis, n in enumerate(position))

    def outer_slices(self, number: int) -> tuple[slice, ...]:
        """Part of the block that is read for a chunk: interior and halo; a narrow interior at the end gets more."""
        parts = zip(self.interior_slices(number), self.halo, self.shape, strict=True)
        return tuple(
            slice(max(min(inner.start - halo, inner.stop - 4 * halo), 0), min(inner.stop + halo, size))
            for inner, halo, size in parts
        )

    def local_slices(self, number: int) -> tuple[slice, ...]:
        """Position of the interior within the part that is read."""
        parts = zip(self.interior_slices(number), self.outer_slices(number), strict=True)
        return tuple(slice(inner.start - outer.start, inner.stop - outer.start) for inner, outer in parts)

    @property
    def max_shape(self) -> tuple[int, ...]:
        """Sides of the largest part that is read for a chunk."""
        parts = zip(self.interior, self.halo, self.shape, strict=True)
        return tuple(min(inner + 2 * halo, size) for inner, halo, size in parts)

    def upscaled(self, factors: tuple[int, ...]) -> ChunkGrid:
        """The same chunks on a grid that is `factors` times finer along each axis."""
        return ChunkGrid(
            *(
                tuple(n * f for n, f in zip(sizes, factors, strict=True))
                for sizes in (self.shape, self.interior, self.halo)
            )
        )


def sample_squares(shape: tuple[int, ...], count: int) -> list[tuple[slice, ...]]:
    """Slices of about `count` small squares, at most, spread evenly over a block whose last axes are Y and X.

    They lie at multiples of their side, so that few chunks of a file have to be read for each.
    """
    sides = [1] * (len(shape) - 2) + [min(SAMPLE_SIDE, n) for n in shape[-2:]]
    rooms = [n // side for n, side in zip(shape, sides, strict=True)]
    starts, remaining, places = [np.zeros(1, int)] * len(shape), count, math.prod(rooms)
    for rank, axis in enumerate(sorted(range(len(shape)), key=lambda axis: rooms[axis])):
        fraction = min(remaining / places, 1) ** (1 / (len(shape) - rank))
        along = min(max(round(rooms[axis] * fraction), 1), rooms[axis])
        starts[axis] = np.linspace(0, rooms[axis] - 1, along).astype(int) * sides[axis]
        remaining, places = max(remaining // along, 1), places // rooms[axis]
    return [
        tuple(slice(int(start), int(start) + side) for start, side in zip(corner, sides, strict=True))
        for corner in itertools.product(*starts)
    ]
