"""Demand: how much memory the restoration of a file takes, before anything of it is read."""

from __future__ import annotations

from napari_pristine.batch.options import OpenedImage
from napari_pristine.errors import OutOfMemory
from napari_pristine.resources import free_memory

BASE = 500 * 2**20
"""Bytes of Python, torch and their libraries."""
_BLOCK = 120
"""Bytes for each value of a block, while it is measured, restored and refined."""


def memory_estimate(opened: OpenedImage) -> int:
    """Bytes that a process takes at most, about; it does not depend on the number of blocks."""
    return opened.resolved.memory


def memory_for(given: int | None, workers: int | None) -> int | None:
    """Bytes that each process may use; several on one machine have equal parts of what is free, if nothing is given."""
    return free_memory() // workers if given is None and workers is not None and workers > 1 else given


def check_memory(opened: OpenedImage, allowed: int | None) -> None:
    """Raise an `OutOfMemory` if a block takes more than is allowed, or than is free."""
    limit = free_memory() if allowed is None else allowed
    needed = memory_estimate(opened)
    if needed > limit:
        there = "are free" if allowed is None else "may be used by a process (--memory)"
        block = " × ".join(map(str, opened.resolved.blocks.block_shape))
        raise OutOfMemory(
            f"'{opened.image.name}' takes about {needed / 1e9:.3g} GB, {limit / 1e9:.3g} GB {there}; restore less at "
            f"once: one block is {block} values (tile, together, select)"
        )
