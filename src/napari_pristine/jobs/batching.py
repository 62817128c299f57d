"""Ranks: which blocks start from each other, and which are fitted at once, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from napari_pristine.image.axes import AxesPlan, BlockIndex
from napari_pristine.jobs.plan import RestorationPlan

RUN = 16
"""Most blocks in a row of which each starts from the network of the one before. The next run starts anew, wherever it
is computed: so that a stack can be continued, or shared by several machines, and the result is the same."""
_ROOM = 8
"""Small networks that a processor trains at once. A step of one or two is mostly overhead: with 8, a frame of 64²
pixels takes 0.4 of the time; those of frames of 128² pixels are enough to keep it busy."""
_ROOM_OF_GPU = 256
"""The same for a GPU, which computes hundreds in the time of one."""
_MOST = 32
"""Most blocks that are fitted at once: what is fitted at once is done again at once if it was interrupted, and by one
process."""


def starts_warm(resolved: RestorationPlan, place: BlockIndex) -> bool:
    """Whether a block starts from the network of its neighbour."""
    return resolved.chained and resolved.cut.step(place, RUN) > 0


def batch_size(resolved: RestorationPlan) -> int:
    """How many blocks are fitted at once; one unless they are so small that there is room for several."""
    method, cut, params = resolved.method, resolved.cut, resolved.params
    space = cut.block_shape[1:]
    if method.fit_batch is None or resolved.others or cut.chunks or max(space) > params.tile:
        return 1
    if "S" in cut.loop_axes:  # the samples of a picture share chunks of the result, and so must be in one share
        return 1
    copies = method.copies(params, space)
    room = _ROOM if resolved.device.type == "cpu" else _ROOM_OF_GPU
    return max(1, min(room // copies, _MOST)) if copies else 1


def units(cut: AxesPlan, count: int) -> list[list[BlockIndex]]:
    """All blocks in units that can be restored by themselves, each in the order in which it is restored.

    Args:
        cut: How the image is cut into blocks.
        count: How many are fitted at once: a unit is so many runs, the first blocks of all of them, then the second.
    """
    runs = cut.runs(RUN)
    together = [runs[first : first + count] for first in range(0, len(runs), count)]
    return [[place for rank in zip_longest(*unit) for place in rank if place is not None] for unit in together]


def ranks(cut: AxesPlan, count: int, places: Sequence[BlockIndex]) -> list[list[BlockIndex]]:
    """Places, in the order of their units, as those that are fitted at once: they are as far in their runs."""
    found: list[list[BlockIndex]] = []
    for place in places:
        last = found[-1] if found else []
        if last and len(last) < count and cut.step(last[0], RUN) == cut.step(place, RUN):
            last.append(place)
        else:
            found.append([place])
    return found
