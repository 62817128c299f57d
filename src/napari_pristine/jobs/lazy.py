"""Applied: the result of a restoration as an array that is computed where it is looked at, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import ModelError, SettingError
from napari_pristine.image.image import Image
from napari_pristine.jobs.batching import starts_warm
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import run_plan
from napari_pristine.model import Model
from napari_pristine.recipe import Recipe


def lazy_restore(
    image: Image,
    recipe: Recipe,
    *,
    model: Model | None = None,
    mask: Image | None = None,
    others: Sequence[Image] = (),
) -> Image:
    """The image as `run` would restore it; a block is read and restored when values of it are asked for.

    Args:
        image: What is restored; it may be larger than memory.
        recipe: How: by a network that has learned, or by fits of which each starts anew.
        model: A network that has learned; that of the recipe's file if none is given.
        mask: Not zero where pixels are to be filled in.
        others: More pictures of the same scene.

    Returns:
        An image whose data are a dask array with a chunk for each block. Blocks are restored one at a time, whoever
        asks; the noise is measured when the first of them is.

    Raises:
        PristineError: It cannot be restored like this.
    """
    resolved = RestorationPlan(image, recipe, mask, others, model)
    _check_separable(resolved)
    return resolved.restored(_array(resolved))


def _array(resolved: RestorationPlan) -> Any:
    """The result as a dask array."""
    out, dtype = resolved.out, resolved.image.dtype
    return _dask_array().map_blocks(
        _Applied(resolved).chunk,
        chunks=tuple(tuple(part.stop - part.start for part in out.parts(axis)) for axis in out.axes),
        dtype=dtype,
        meta=np.empty((0,) * len(out.shape), dtype),
        name=f"restored-{uuid4().hex}",  # of its own: dask would read the whole image to make one
    )


class _Applied:
    """A restoration, block by block.

    Args:
        resolved: What is restored, and how.
    """

    def __init__(self, resolved: RestorationPlan) -> None:
        self.resolved = resolved
        # one at a time: a block takes all the memory there is, and what was measured is kept for the next
        self._lock = threading.Lock()

    def chunk(self, block_id: tuple[int, ...]) -> NDArray[Any]:
        """The values of a block, with all axes of the image."""
        out = self.resolved.out
        into = _Caught(out.shape, self.resolved.image.dtype)
        place = out.place(dict(zip(out.axes, block_id, strict=True)))
        with self._lock:
            for _ in run_plan(self.resolved, into=into, places=[place]):
                pass
        loop_axes = tuple(axis for axis, letter in enumerate(out.axes) if letter in out.loop_axes)
        return np.expand_dims(into.part, loop_axes)


class _Caught:
    """What takes the place of a result of which a single block is written.

    Attributes:
        part: That block.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.part: NDArray[Any] = np.empty(0, dtype)

    def __setitem__(self, index: Any, values: NDArray[Any]) -> None:
        self.part = np.asarray(values, self.dtype)


def _check_separable(resolved: RestorationPlan) -> None:
    """Raise an error if no block can be restored without others."""
    if resolved.learns:
        how = "and leave adapt out" if resolved.model else "or restore all of it"
        raise ModelError(
            f"'{resolved.recipe.method}' would learn from all of the image before anything can be seen; "
            f"give a network that has learned, {how}"
        )
    if any(starts_warm(resolved, place) for place in resolved.places):
        raise SettingError(
            "each frame starts from the network of the one before, which would have to be restored first; "
            "set warm_start to false, or take a method whose network has learned"
        )


def _dask_array() -> Any:
    try:
        import dask.array
    except ImportError:
        raise SettingError("restoring while looking needs dask; pip install 'dask[array]'") from None
    return dask.array
