"""AxesPlan: cut an image into the blocks that are restored at once, and put them back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from napari_pristine.errors import AxesError
from napari_pristine.image.image import COLOUR, Image, check_axes

Place: TypeAlias = tuple[int, ...]
"""Index of a block along the axes that are looped over."""


@dataclass(frozen=True)
class AxesPlan:
    """Which axes are fitted together and which are looped over.

    A block has the shape `(C, *space)`: the colour axes that are fitted together are merged into its first axis
    (size 1 if there are none), the others follow, those of the picture last.
    """

    axes: str
    shape: tuple[int, ...]
    together: str

    @property
    def looped(self) -> str:
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
    def block_shape(self) -> tuple[int, ...]:
        """Shape of a block, `(C, *space)`."""
        size = dict(zip(self.axes, self.shape, strict=True))
        return (int(np.prod([size[axis] for axis in self.colour], dtype=int)), *(size[axis] for axis in self.space))

    @property
    def places(self) -> list[Place]:
        """Index along the looped axes of each block, in the order in which they are restored."""
        size = dict(zip(self.axes, self.shape, strict=True))
        return list(itertools.product(*(range(size[axis]) for axis in self.looped)))

    def runs(self, length: int) -> list[list[Place]]:
        """The places in runs of neighbours in time or depth, of `length` at most; channels have no neighbours."""
        inner = self.looped[-1:]
        if not inner or inner in COLOUR:
            return [[place] for place in self.places]
        return [
            list(group)
            for _, group in itertools.groupby(self.places, key=lambda place: (*place[:-1], place[-1] // length))
        ]

    def begins(self, place: Place, length: int) -> bool:
        """Whether a place is the first of its run, see `runs`."""
        inner = self.looped[-1:]
        return not inner or inner in COLOUR or place[-1] % length == 0

    def index(self, place: Place) -> tuple[int | slice, ...]:
        """The index into the image that cuts out the block at `place`, in the order of the image's axes."""
        at = dict(zip(self.looped, place, strict=True))
        return tuple(at.get(axis, slice(None)) for axis in self.axes)

    def read(self, data: Any, place: Place) -> np.ndarray:
        """The block at `place` of `data`, as an array of shape `(C, *space)`."""
        part = np.asarray(data[self.index(place)])
        kept = [axis for axis in self.axes if axis in self.together]
        return part.transpose([kept.index(axis) for axis in self.colour + self.space]).reshape(self.block_shape)

    def unfold(self, block: np.ndarray) -> np.ndarray:
        """A block `(C, *space)` as the part of the image it came from, axes in the order of the image."""
        size = dict(zip(self.axes, self.shape, strict=True))
        order = self.colour + self.space
        part = block.reshape([size[axis] for axis in order])
        kept = [axis for axis in self.axes if axis in self.together]
        return part.transpose([order.index(axis) for axis in kept])

    def write(self, data: Any, place: Place, block: np.ndarray) -> None:
        """Put a block of shape `(C, *space)` back into `data` at `place`."""
        data[self.index(place)] = self.unfold(block)

    def finer(self, factors: tuple[int, ...]) -> AxesPlan:
        """The same plan for an image on a finer grid; one factor for each axis of `space`."""
        by = dict(zip(self.space, factors, strict=True))
        return replace(self, shape=tuple(n * by.get(axis, 1) for axis, n in zip(self.axes, self.shape, strict=True)))

    def finer_than(self, other: AxesPlan) -> tuple[int, ...]:
        """How many times finer the grid is than that of another plan of the same axes, for each axis."""
        return tuple(mine // theirs for mine, theirs in zip(self.shape, other.shape, strict=True))

    def describe(self) -> str:
        """What is looped and what is fitted together, in words."""
        size = dict(zip(self.axes, self.shape, strict=True))
        kept = " × ".join(f"{axis} {size[axis]}" for axis in self.axes if axis in self.together)
        loops = ", ".join(f"{axis} ({size[axis]})" for axis in self.looped)
        return f"fits {kept} together" + (f", one after the other over {loops}" if loops else "")


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
