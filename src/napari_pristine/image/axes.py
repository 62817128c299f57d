"""AxesPlan: cut an image into the blocks that are restored at once, and put them back."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from napari_pristine.errors import AxesError
from napari_pristine.image.chunks import ChunkGrid
from napari_pristine.image.image import COLOUR, Image, check_axes

BlockIndex: TypeAlias = tuple[int, ...]
"""Index of a block along the axes that are looped over; the number of its pane before it where there are panes."""
Index: TypeAlias = tuple[int | slice, ...]
"""A part of an image, in the order of its axes."""


@dataclass(frozen=True)
class AxesPlan:
    """Which axes are fitted together and which are looped over.

    A block has the shape `(C, *space)`: the colour axes that are fitted together are merged into its first axis
    (size 1 if there are none), the others follow, those of the picture last. Where all that is fitted together is more
    than should be restored at once, blocks are panes of it: they overlap, and only their cores are written.
    """

    axes: str
    shape: tuple[int, ...]
    together: str
    chunks: ChunkGrid | None = None

    @property
    def loop_axes(self) -> str:
        """Axes that are looped over, channels outermost so that neighbours in time or depth follow each other."""
        rest = [axis for axis in self.axes if axis not in self.together]
        return "".join(sorted(rest, key=lambda axis: (axis not in COLOUR, self.axes.index(axis))))

    @property
    def colour(self) -> str:
        """Colour axes that are fitted together, in the order of the image."""
        return "".join(axis for axis in self.axes if axis in self.together and axis in COLOUR)

    @property
    def space(self) -> str:
        """The other axes that are fitted together, those of the picture last."""
        rest = [axis for axis in self.axes if axis in self.together and axis not in COLOUR]
        return "".join(sorted(rest, key=lambda axis: axis in "YX"))

    @property
    def sizes(self) -> dict[str, int]:
        """Size along each axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def block_shape(self) -> tuple[int, ...]:
        """Shape of a block, `(C, *space)`; of the largest, if they are panes."""
        size = self.sizes
        space = self.chunks.largest if self.chunks else tuple(size[axis] for axis in self.space)
        return (math.prod(size[axis] for axis in self.colour), *space)

    @property
    def places(self) -> list[BlockIndex]:
        """Place of each block, in the order in which they are restored: channel by channel, pane by pane."""
        size = self.sizes
        channels = sum(axis in COLOUR for axis in self.loop_axes)
        loops = [range(size[axis]) for axis in self.loop_axes]
        if not self.chunks:
            return list(itertools.product(*loops))
        found = itertools.product(*loops[:channels], range(len(self.chunks)), *loops[channels:])
        return [(at[channels], *at[:channels], *at[channels + 1 :]) for at in found]

    def at(self, place: BlockIndex) -> dict[str, int]:
        """Index of a block along each of the looped axes."""
        return dict(zip(self.loop_axes, place[1:] if self.chunks else place, strict=True))

    def pane(self, place: BlockIndex) -> int:
        """Number of the pane that a block is."""
        return place[0] if self.chunks else 0

    def channel(self, place: BlockIndex) -> BlockIndex:
        """The channel of a block: its index along the looped axes of colour."""
        return tuple(n for axis, n in self.at(place).items() if axis in COLOUR)

    def runs(self, length: int) -> list[list[BlockIndex]]:
        """The places in runs of neighbours in time or depth, of `length` at most; channels and panes are none."""
        inner = self.loop_axes[-1:]
        if not inner or inner in COLOUR:
            return [[place] for place in self.places]
        return [
            list(group)
            for _, group in itertools.groupby(self.places, key=lambda place: (*place[:-1], place[-1] // length))
        ]

    def step(self, place: BlockIndex, length: int) -> int:
        """How many blocks of its run come before a place, see `runs`."""
        inner = self.loop_axes[-1:]
        return 0 if not inner or inner in COLOUR else place[-1] % length

    def index(self, place: BlockIndex) -> Index:
        """The index into the image of what the block at `place` is to restore."""
        return self._index(place, self.chunks.kept(place[0]) if self.chunks else ())

    def _index(self, place: BlockIndex, space: tuple[slice, ...]) -> Index:
        """The index into the image of a part of what is fitted together; of all of it if none is given."""
        at: dict[str, Any] = {**self.at(place), **dict(zip(self.space, space, strict=bool(space)))}
        return tuple(at.get(axis, slice(None)) for axis in self.axes)

    def read(self, data: Any, place: BlockIndex) -> np.ndarray:
        """The block at `place` of `data`, as an array of shape `(C, *space)`; a pane with its margin."""
        return self.read_part(data, place, self.chunks.seen(place[0]) if self.chunks else ())

    def read_part(self, data: Any, place: BlockIndex, space: tuple[slice, ...]) -> np.ndarray:
        """A part of all that is fitted together, `(C, *space)`, wherever panes end.

        Args:
            data: The image.
            place: Of any pane of it.
            space: Slices along the axes of space; all of it if there are none.
        """
        part = np.asarray(data[self._index(place, space)])
        kept = [axis for axis in self.axes if axis in self.together]
        turned = part.transpose([kept.index(axis) for axis in self.colour + self.space])
        return turned.reshape(-1, *turned.shape[len(self.colour) :])

    def inner(self, place: BlockIndex) -> tuple[slice, ...]:
        """The part of a block, without channels, that is written: the core of a pane."""
        return self.chunks.inner(place[0]) if self.chunks else (slice(None),) * len(self.space)

    def unfold(self, block: np.ndarray, place: BlockIndex) -> np.ndarray:
        """What is written of a block `(C, *space)`, as the part `index(place)` of the image, axes in its order."""
        size = self.sizes
        order = self.colour + self.space
        core = block[(slice(None), *self.inner(place))]
        part = core.reshape([*(size[axis] for axis in self.colour), *core.shape[1:]])
        kept = [axis for axis in self.axes if axis in self.together]
        return part.transpose([order.index(axis) for axis in kept])

    def write(self, data: Any, place: BlockIndex, block: np.ndarray) -> None:
        """Put a block of shape `(C, *space)` back into `data` at `place`."""
        data[self.index(place)] = self.unfold(block, place)

    def in_chunks(self, values: int = 1) -> AxesPlan:
        """The same in panes, if a block is too large to be restored as one.

        Args:
            values: Points on the grid of the result for each pixel.
        """
        size = self.sizes
        channels = math.prod(size[axis] for axis in self.colour)
        return replace(self, chunks=ChunkGrid.of(tuple(size[axis] for axis in self.space), channels * values))

    def parts(self, axis: str) -> list[slice]:
        """The parts of an axis that blocks restore: one by one where it is looped over, the cores of panes."""
        size = self.sizes[axis]
        if axis in self.loop_axes:
            return [slice(n, n + 1) for n in range(size)]
        if self.chunks and axis in self.space:
            return self.chunks.cores(self.space.index(axis))
        return [slice(0, size)]

    def place(self, at: dict[str, int]) -> BlockIndex:
        """The place of the block that restores the so-many-th of the `parts` of each axis."""
        pane = (self.chunks.number([at[axis] for axis in self.space]),) if self.chunks else ()
        return (*pane, *(at[axis] for axis in self.loop_axes))

    @property
    def sides(self) -> dict[str, int]:
        """Along which axes, and after how many pixels each, the block ends and the next begins."""
        if not self.chunks:
            return {}
        cores = zip(self.space, self.chunks.core, self.chunks.shape, strict=True)
        return {axis: core for axis, core, size in cores if core < size}

    def finer(self, factors: tuple[int, ...]) -> AxesPlan:
        """The same plan for an image on a finer grid; one factor for each axis of `space`."""
        by = dict(zip(self.space, factors, strict=True))
        shape = tuple(n * by.get(axis, 1) for axis, n in zip(self.axes, self.shape, strict=True))
        return replace(self, shape=shape, chunks=self.chunks and self.chunks.finer(factors))

    def finer_than(self, other: AxesPlan) -> tuple[int, ...]:
        """How many times finer the grid is than that of another plan of the same axes, for each axis."""
        return tuple(mine // theirs for mine, theirs in zip(self.shape, other.shape, strict=True))

    def describe(self) -> str:
        """What is looped and what is fitted together, in words."""
        size = self.sizes
        kept = " × ".join(f"{axis} {size[axis]}" for axis in self.axes if axis in self.together)
        loops = ", ".join(f"{axis} ({size[axis]})" for axis in self.loop_axes)
        chunks = f", in {len(self.chunks)} overlapping panes" if self.chunks else ""
        return f"fits {kept} together{chunks}" + (f", one after the other over {loops}" if loops else "")


def plan(image: Image, together: str = "") -> AxesPlan:
    """Plan how to cut `image`.

    Args:
        image: The image.
        together: Letters of the axes that are fitted together, such as `"ZYX"` or `"CYX"`;
            empty for Y and X, with the samples of RGB pixels.

    Raises:
        AxesError: `together` names axes that the image lacks, or not Y and X.
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


def align(image: Image, mask: Image) -> np.ndarray:
    """A mask with the shape and axes of an image, true where it is not zero; axes that it lacks are repeated.

    Raises:
        AxesError: It has axes that the image lacks, or another size.
    """
    if foreign := [axis for axis in mask.axes if axis not in image.axes]:
        raise AxesError(f"the mask has the axis {foreign[0]}, which the image ({image.axes}) lacks")
    for axis in mask.axes:
        if mask.size(axis) != image.size(axis):
            raise AxesError(
                f"the mask has {mask.size(axis)} elements along {axis}, the image {image.size(axis)}; "
                f"give a mask of the shape of the image (axes {image.axes}, shape {image.shape}), or of its picture YX"
            )
    order = [axis for axis in image.axes if axis in mask.axes]
    data = np.asarray(mask.data).transpose([mask.axes.index(axis) for axis in order]) != 0
    return np.broadcast_to(data[tuple(slice(None) if axis in order else None for axis in image.axes)], image.shape)
