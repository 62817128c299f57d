"""Demand: how much memory the restoration of a file takes, before anything of it is read."""

from __future__ import annotations

import math

import numpy as np

from napari_pristine.batch.options import OpenedImage
from napari_pristine.errors import OutOfMemory
from napari_pristine.image.tiling import OVERLAP, Tiling
from napari_pristine.io.lazy import Unread
from napari_pristine.jobs.crops import ROOM
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.resources import free

BASE = 500 * 2**20
"""Bytes of Python, torch and their libraries."""
_BLOCK = 120
"""Bytes for each value of a block, while it is measured, restored and refined."""


def memory_estimate(opened: OpenedImage) -> int:
    """Bytes that a process takes at most, about; it does not depend on the number of blocks."""
    resolved = opened.resolved
    channels, *space = resolved.out.block_shape
    block = channels * math.prod(space) * opened.count
    tile = min(block, channels * _tile(resolved) * opened.count)
    learning = ROOM if resolved.learns else 0
    written = block * resolved.image.dtype.itemsize  # while the next one is computed, see `Behind`
    return BASE + _BLOCK * block + written + resolved.method.memory * tile + _whole(opened) + learning


def _tile(resolved: RestorationPlan) -> int:
    """Pixels of the largest tile."""
    side, cut = resolved.params.tile, resolved.cut
    return math.prod(Tiling.of(cut.block_shape[1:], side, OVERLAP).tightened().side) if cut.chunks else side**2


def _whole(opened: OpenedImage) -> int:
    """Bytes of what is held in memory as a whole: masks, further pictures, and files that cannot be read in parts."""
    resolved = opened.resolved
    arrays = [other.data for other, _ in resolved.others] + [resolved.masked, opened.image.data]
    return sum(_bytes(array) for array in arrays if isinstance(array, (np.ndarray, Unread)))


def _bytes(array: np.ndarray | Unread) -> int:
    """Bytes of an array; the mask of a picture is one picture, however many frames it is for."""
    steps = array.strides if isinstance(array, np.ndarray) else array.shape
    values: int = math.prod(n for n, step in zip(array.shape, steps, strict=True) if step)
    return values * int(array.dtype.itemsize)


def memory_for(given: int | None, workers: int | None) -> int | None:
    """Bytes that each process may use; several on one machine have equal parts of what is free, if nothing is given."""
    return free() // workers if given is None and workers is not None and workers > 1 else given


def check_memory(opened: OpenedImage, allowed: int | None) -> None:
    """Raise an `OutOfMemory` if a block takes more than is allowed, or than is free."""
    limit = free() if allowed is None else allowed
    needed = memory_estimate(opened)
    if needed > limit:
        there = "are free" if allowed is None else "may be used by a process (--memory)"
        block = " × ".join(map(str, opened.resolved.cut.block_shape))
        raise OutOfMemory(
            f"'{opened.image.name}' takes about {needed / 1e9:.3g} GB, {limit / 1e9:.3g} GB {there}; restore less at "
            f"once: one block is {block} values (tile, together, select)"
        )
