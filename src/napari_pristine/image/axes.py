"""Axes: cut an image into blocks, and large blocks into chunks, and put all of them together again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from napari_pristine.errors import AxesError
from napari_pristine.image.image import COLOUR, Image, LazySequence, check_axes, is_stored
from napari_pristine.image.tiling import Tiling
from napari_pristine.text import counted

BlockIndex: TypeAlias = tuple[int, ...]
"""Index of a block along the loop axes; where blocks are chunks, the number of the chunk comes first."""
Region: TypeAlias = tuple[int | slice, ...]
"""Index into an image, in the order of its axes."""
Part: TypeAlias = Mapping[str, slice]
"""Part of an image: a slice with start and stop along some of its axes, everything along the others."""


@dataclass(frozen=True)
class AxesPlan:
    """Plan for cutting an image into blocks: axes that are restored jointly, and axes that are looped over.

    A block has the shape `(C, *space)`: its first axis holds all joint colour axes (size 1 if there are none), the
    other joint axes follow, Y and X last. Blocks that would be too large are chunks: they overlap, and only their
    interiors are written.

    Attributes:
        axes: Axes of the image, one letter each.
        shape: Shape of the image.
        joint_axes: Axes that are restored jointly, in the order of the image.
        chunks: The chunks of all that is restored jointly, if it is cut.
    """

    axes: str
    shape: tuple[int, ...]
    joint_axes: str
    chunks: ChunkGrid | None = None

    @cached_property
    def loop_axes(self) -> str:
        """Axes that are looped over, channels outermost, so that neighbours in time or depth follow each other."""
        rest = [axis for axis in self.axes if axis not in self.joint_axes]
        return "".join(sorted(rest, key=lambda axis: (axis not in COLOUR, self.axes.index(axis))))

    @cached_property
    def colour(self) -> str:
        """Joint colour axes, in the order of the image."""
        return "".join(axis for axis in self.axes if axis in self.joint_axes and axis in COLOUR)

    @cached_property
    def space(self) -> str:
        """The other joint axes, Y and X last."""
        rest = [axis for axis in self.axes if axis in self.joint_axes and axis not in COLOUR]
        return "".join(sorted(rest, key=lambda axis: axis in "YX"))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Size of the image along each axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    @cached_property
    def block_shape(self) -> tuple[int, ...]:
        """Shape `(C, *space)` of a block; of the largest, if blocks are chunks."""
        size = self.sizes
        space = self.chunks.max_shape if self.chunks else tuple(size[axis] for axis in self.space)
        return (math.prod(size[axis] for axis in self.colour), *space)

    @property
    def indices(self) -> LazySequence[BlockIndex]:
        """Index of each block, in the order of restoration: channel by channel, chunk by chunk."""
        return self._indices([range(count) for count in self._counts])

    def indices_within(self, part: Part) -> LazySequence[BlockIndex]:
        """Indices of all blocks that read values in a part of the image, in the order of `indices`."""
        parts = {axis: part.get(axis, slice(0, size)) for axis, size in self.sizes.items()}
        loops = [range(parts[axis].start, parts[axis].stop) for axis in self.loop_axes]
        chunks = self.chunks.touched([parts[axis] for axis in self.space]) if self.chunks else []
        colours = len(self._colour_loops)
        return self._indices([*loops[:colours], *chunks, *loops[colours:]])

    def part_of(self, channel: BlockIndex) -> Part:
        """The part of the image that consists of one channel."""
        return {axis: slice(n, n + 1) for axis, n in zip(self._colour_loops, channel, strict=True)}

    @property
    def channel_count(self) -> int:
        """Number of channels that are looped over."""
        return math.prod(self._counts[: len(self._colour_loops)])

    @cached_property
    def _colour_loops(self) -> str:
        """Colour axes that are looped over; they come first in `loop_axes`."""
        return "".join(axis for axis in self.loop_axes if axis in COLOUR)

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        """Number of positions of blocks, in the order of restoration: channels, chunks along each axis, other loops."""
        size, colours = self.sizes, len(self._colour_loops)
        loops = [size[axis] for axis in self.loop_axes]
        return (*loops[:colours], *(self.chunks.counts if self.chunks else ()), *loops[colours:])

    def _indices(self, loops: Sequence[range]) -> LazySequence[BlockIndex]:
        """Indices of the blocks at some positions, given in the order of `_counts`."""
        chunks = self.chunks
        first = len(self._colour_loops)
        last = first + (len(chunks.counts) if chunks else 0)

        def index(number: int) -> BlockIndex:
            at = []
            for loop in reversed(loops):
                number, n = divmod(number, len(loop))
                at.append(loop[n])
            at.reverse()
            return (chunks.number(at[first:last]), *at[:first], *at[last:]) if chunks else tuple(at)

        return LazySequence(range(math.prod(map(len, loops))), index)

    def number(self, index: BlockIndex) -> int:
        """Number of a block in `indices`."""
        at = index
        if self.chunks:
            first = 1 + len(self._colour_loops)
            at = (*index[1:first], *self.chunks.position(index[0]), *index[first:])
        number = 0
        for n, count in zip(at, self._counts, strict=True):
            number = number * count + n
        return number

    def position(self, index: BlockIndex) -> dict[str, int]:
        """Position of a block along each loop axis."""
        return dict(zip(self.loop_axes, index[1:] if self.chunks else index, strict=True))

    def chunk_number(self, index: BlockIndex) -> int:
        """Number of the chunk of a block; 0 if blocks are not chunks."""
        return index[0] if self.chunks else 0

    def channel(self, index: BlockIndex) -> BlockIndex:
        """Channel of a block: its position along the colour axes that are looped over."""
        return tuple(n for axis, n in self.position(index).items() if axis in COLOUR)

    def runs(self, length: int) -> LazySequence[LazySequence[BlockIndex]]:
        """Blocks in runs of at most `length` neighbours in time or depth; channels and chunks are not neighbours."""
        indices, row = self.indices, self._row
        per_row = -(-row // length)

        def run(number: int) -> LazySequence[BlockIndex]:
            start = number // per_row * row
            first = start + number % per_row * length
            return indices[first : min(first + length, start + row)]

        return LazySequence(range(len(indices) // row * per_row), run)

    def run_number(self, index: BlockIndex, length: int) -> int:
        """Number of the run of a block, see `runs`."""
        number, at = divmod(self.number(index), self._row)
        return number * -(-self._row // length) + at // length

    def run_position(self, index: BlockIndex, length: int) -> int:
        """Number of blocks before this one in its run, see `runs`."""
        return index[-1] % length if self._row > 1 else 0

    @property
    def _row(self) -> int:
        """Number of consecutive blocks that are neighbours in time or depth."""
        inner = self.loop_axes[-1:]
        return 1 if not inner or inner in COLOUR else self.sizes[inner]

    def region(self, index: BlockIndex) -> Region:
        """Region of the image that a block restores."""
        return self._region(index, self.chunks.interior_slices(index[0]) if self.chunks else ())

    def _region(self, index: BlockIndex, space: tuple[slice, ...]) -> Region:
        at: dict[str, Any] = {**self.position(index), **dict(zip(self.space, space, strict=bool(space)))}
        return tuple(at.get(axis, slice(None)) for axis in self.axes)

    def read(self, data: Any, index: BlockIndex) -> np.ndarray:
        """Read a block `(C, *space)` of an array with the shape of the image; a chunk with its halo."""
        return self.read_part(data, index, self.chunks.outer_slices(index[0]) if self.chunks else ())

    def is_stored(self, data: Any, index: BlockIndex) -> bool:
        """False if a block, as `read` reads it, is known to contain only the fill value of its file."""
        return is_stored(data, self._region(index, self.chunks.outer_slices(index[0]) if self.chunks else ()))

    def read_part(self, data: Any, index: BlockIndex, space: tuple[slice, ...]) -> np.ndarray:
        """Read a part `(C, *space)` of all that is restored jointly with a block, across the borders of chunks.

        Args:
            data: Array with the shape of the image.
            index: Index of any block of it.
            space: Slices along the axes of space; everything if there are none.
        """
        part = np.asarray(data[self._region(index, space)])
        kept = [axis for axis in self.axes if axis in self.joint_axes]
        ordered = part.transpose([kept.index(axis) for axis in self.colour + self.space])
        return ordered.reshape(-1, *ordered.shape[len(self.colour) :])

    def interior(self, index: BlockIndex) -> tuple[slice, ...]:
        """Slices of a block, without channels, that are written: the interior of a chunk, or everything."""
        return self.chunks.local_slices(index[0]) if self.chunks else (slice(None),) * len(self.space)

    def unfold(self, block: np.ndarray, index: BlockIndex) -> np.ndarray:
        """Turn a block `(C, *space)` into the values of its region, axes in the order of the image."""
        size = self.sizes
        order = self.colour + self.space
        interior = block[(slice(None), *self.interior(index))]
        part = interior.reshape([*(size[axis] for axis in self.colour), *interior.shape[1:]])
        kept = [axis for axis in self.axes if axis in self.joint_axes]
        return part.transpose([order.index(axis) for axis in kept])

    def in_chunks(self, values_per_pixel: int = 1) -> AxesPlan:
        """The same plan in chunks, if blocks are too large to be restored as a whole.

        Args:
            values_per_pixel: Number of pixels of the result per pixel.
        """
        size = self.sizes
        channels = math.prod(size[axis] for axis in self.colour)
        return replace(self, chunks=ChunkGrid.of(tuple(size[axis] for axis in self.space), channels * values_per_pixel))

    def partition(self, axis: str) -> Sequence[slice]:
        """Slices along an axis of the image that belong to different blocks."""
        size = self.sizes[axis]
        if axis in self.loop_axes:
            return LazySequence(range(size), lambda n: slice(n, n + 1))
        if self.chunks and axis in self.space:
            return self.chunks.interiors(self.space.index(axis))
        return [slice(0, size)]

    def index_of(self, part: dict[str, int]) -> BlockIndex:
        """Index of the block that restores the given number in the `partition` of each axis."""
        chunk = (self.chunks.number([part[axis] for axis in self.space]),) if self.chunks else ()
        return (*chunk, *(part[axis] for axis in self.loop_axes))

    @property
    def chunk_sides(self) -> dict[str, int]:
        """Sides of the interiors of chunks along the axes that are cut."""
        if not self.chunks:
            return {}
        sides = zip(self.space, self.chunks.interior, self.chunks.shape, strict=True)
        return {axis: interior for axis, interior, size in sides if interior < size}

    def upscaled(self, factors: tuple[int, ...]) -> AxesPlan:
        """The same plan on a grid that is `factors` times finer along each axis of `space`."""
        by = dict(zip(self.space, factors, strict=True))
        shape = tuple(n * by.get(axis, 1) for axis, n in zip(self.axes, self.shape, strict=True))
        return replace(self, shape=shape, chunks=self.chunks and self.chunks.upscaled(factors))

    def describe(self) -> str:
        """Describe the axes that are restored jointly, and those that are looped over, for users."""
        size = self.sizes
        joint = " × ".join(f"{axis} {size[axis]}" for axis in self.axes if axis in self.joint_axes)
        loops = " × ".join(f"{axis} {size[axis]}" for axis in self.loop_axes if size[axis] > 1)
        chunks = f", in {len(self.chunks)} overlapping chunks" if self.chunks else ""
        if not loops:
            return f"restores {joint} at once{chunks}"
        count = math.prod(size[axis] for axis in self.loop_axes)
        kind = {"": "planes", "Z": "volumes"}.get(
            "".join(axis for axis in self.joint_axes if axis not in "YXS"), "blocks"
        )
        return f"restores {count} {kind} of {joint} one by one ({loops}){chunks}"


def plan_axes(image: Image, together: str = "") -> AxesPlan:
    """Plan how to cut an image into blocks.

    Args:
        image: The image.
        together: Axes that are restored jointly, such as `"ZYX"` or `"CYX"`; if empty, Y and X, with the samples of
            RGB pixels.

    Raises:
        AxesError: `together` names axes that the image lacks, or lacks Y or X.
    """
    check_axes(image.axes, image.shape)
    wanted = together or ("YXS" if "S" in image.axes else "YX")
    unknown = [axis for axis in wanted if axis not in image.axes]
    if unknown or not {"Y", "X"} <= set(wanted):
        raise AxesError(
            f"cannot fit the axes '{wanted}' together: the image has '{image.axes}'; "
            "name Y and X and any other of its axes, e.g. 'ZYX'"
        )
    space = [axis for axis in wanted if axis not in COLOUR]
    if len(space) > 3:
        raise AxesError(f"cannot fit {len(space)} axes of space together ('{wanted}'); at most three, e.g. 'ZYX'")
    return AxesPlan(image.axes, image.shape, "".join(axis for axis in image.axes if axis in wanted))


def align_mask(image: Image, mask: Image) -> np.ndarray:
    """Broadcast a mask to the shape and the axes of an image; true where the mask is not zero.

    Raises:
        AxesError: It has axes that the image lacks, or another size.
    """
    if foreign := [axis for axis in mask.axes if axis not in image.axes]:
        raise AxesError(f"the mask has the axis {foreign[0]}, which the image ({image.axes}) lacks")
    for axis in mask.axes:
        if mask.size(axis) != image.size(axis):
            raise AxesError(
                f"the mask has {counted(mask.size(axis), 'element')} along {axis}, the image {image.size(axis)}; "
                f"give a mask of the shape of the image (axes {image.axes}, shape {image.shape}), or of its plane YX"
            )
    order = [axis for axis in image.axes if axis in mask.axes]
    data = np.asarray(mask.data).transpose([mask.axes.index(axis) for axis in order]) != 0
    return np.broadcast_to(data[tuple(slice(None) if axis in order else None for axis in image.axes)], image.shape)


MAX_BLOCK_VALUES = 4096**2
"""Maximum number of values of a block that is restored as a whole; constant, so that no result depends on a machine."""
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

    def interiors(self, axis: int) -> LazySequence[slice]:
        """Interiors along one axis."""
        size, side = self.shape[axis], self.interior[axis]
        return LazySequence(range(self.counts[axis]), lambda n: slice(n * side, min((n + 1) * side, size)))

    def number(self, position: Sequence[int]) -> int:
        """Number of the chunk at a position along each axis."""
        return int(np.ravel_multi_index(tuple(position), self.counts))

    def position(self, number: int) -> tuple[int, ...]:
        """Position of a chunk along each axis."""
        return tuple(int(n) for n in np.unravel_index(number, self.counts))

    def touched(self, part: Sequence[slice]) -> list[range]:
        """Positions along each axis of all chunks that read values in a part of the block."""
        sides = zip(part, self.interior, self.counts, strict=True)
        return [range(max(p.start // n - 1, 0), min((p.stop - 1) // n + 2, count)) for p, n, count in sides]

    def interior_slices(self, number: int) -> tuple[slice, ...]:
        """Part of the block that a chunk restores."""
        return tuple(self.interiors(axis)[n] for axis, n in enumerate(self.position(number)))

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
