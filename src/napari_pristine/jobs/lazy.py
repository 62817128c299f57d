"""Lazy restoration: blocks are restored when they are viewed."""

from __future__ import annotations

import threading
import warnings
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import ModelError, SettingError
from napari_pristine.events import Note
from napari_pristine.image.image import Image
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import run_plan

_MAX_BLOCKS = 1_000_000
"""Maximum number of blocks; dask keeps all of them in a list."""


def lazy_restore(plan: RestorationPlan) -> Image:
    """Return the result of a plan as a lazy image; a block is read and restored when its values are needed.

    Blocks are restored one at a time, in whichever thread; the noise is measured before. What a
    job would warn of is a warning of Python, which napari shows, too.

    Args:
        plan: Plan of the restoration, by a trained network or by fits that do not start from each other.

    Returns:
        An image whose data are a dask array with one chunk for each block.

    Raises:
        PristineError: Blocks cannot be restored one by one.
    """
    if plan.needs_training:
        advice = "and leave adapt out" if plan.model else "or restore all of it"
        raise ModelError(
            f"'{plan.recipe.method}' would be trained on all of the image before any of it can be shown; "
            f"give a trained network, {advice}"
        )
    if plan.cold_starts < len(plan.indices):
        raise SettingError(
            "each frame starts from the network of the one before, which would have to be restored first; "
            "set warm_start to false, or use a method with a trained network"
        )
    if len(plan.indices) > _MAX_BLOCKS:
        raise SettingError(
            f"there are {len(plan.indices)} blocks, too many to be restored while scrolling (at most {_MAX_BLOCKS}); "
            "select a part of the image (select)"
        )
    try:
        import dask.array as da
    except ImportError:
        raise SettingError("restoring while scrolling needs dask; pip install 'dask[array]'") from None
    blocks, dtype = plan.output_blocks, plan.dtype
    lock = threading.Lock()  # a block takes all the memory there is, and the statistics are kept for the next

    def restore_chunk(block_id: tuple[int, ...]) -> NDArray[Any]:
        index = blocks.index_of(dict(zip(blocks.axes, block_id, strict=True)))
        into = _SingleBlock(blocks.shape, dtype)
        with lock:
            for event in run_plan(plan, into=into, units=[[index]]):
                if isinstance(event, Note) and event.warning:
                    warnings.warn(event.text, stacklevel=1)
        return np.expand_dims(into.values, tuple(n for n, axis in enumerate(blocks.axes) if axis in blocks.loop_axes))

    return plan.result_image(
        da.map_blocks(  # type: ignore[no-untyped-call]
            restore_chunk,
            chunks=tuple(tuple(part.stop - part.start for part in blocks.partition(axis)) for axis in blocks.axes),
            dtype=dtype,
            meta=np.empty((0,) * len(blocks.shape), dtype),
            name=f"restored-{uuid4().hex}",  # a name of its own: dask would read the whole image to make one
        )
    )


class _SingleBlock:
    """Stand-in for a result array of which a single block is written.

    Attributes:
        values: Values of that block.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.values: NDArray[Any] = np.empty(0, dtype)

    def __setitem__(self, index: Any, values: NDArray[Any]) -> None:
        self.values = np.asarray(values, self.dtype)
