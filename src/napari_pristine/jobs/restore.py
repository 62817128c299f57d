"""Restore an image: as a job that can be watched and stopped, or in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pristine.device import memory
from napari_pristine.errors import AxesError, ComputeError, ImageError, SettingError
from napari_pristine.events import Command, Event
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.image import Image, guess_axes
from napari_pristine.jobs.job import Job, RestorationJob, Restored
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.model import Model, load_model
from napari_pristine.recipe import Recipe
from napari_pristine.settings import make

__all__ = ["Job", "Restored", "check", "recipe_for", "restore", "run", "wait"]


def run(
    image: Image,
    recipe: Recipe,
    *,
    mask: Image | None = None,
    others: Sequence[Image] = (),
    model: Model | None = None,
) -> Job:
    """Restore an image.

    Everything is checked before the first event. A job that is told `Wish.KEEP` stops fitting and returns what there
    is: blocks that it has not come to are left as they were, and a note says so.

    Args:
        image: What is to be restored.
        recipe: How; files that it names are for the shell to read, apart from that of a model.
        mask: Not zero where pixels are to be filled in; its axes are some or all of those of the image.
        others: More pictures of the same scene, for methods that restore several together.
        model: A network that has learned; that of the recipe's file if none is given.

    Raises:
        PristineError: Axes, settings, image or device do not allow it; the message says what to do.
    """
    return (yield from run_plan(RestorationPlan(image, recipe, mask, others, model)))


def run_plan(
    resolved: RestorationPlan,
    *,
    into: Any = None,
    places: Sequence[BlockIndex] | None = None,
    shelf: Path | None = None,
    count: int | None = None,
) -> Job:
    """Restore what is resolved already.

    Args:
        resolved: What is restored, and how.
        into: Array that the result is written to, block by block; a new one in memory if none is given.
        places: Blocks to restore, see `Life`; all if none are given.
        shelf: Folder where networks that have learned are kept, and looked for; nowhere if none is given.
        count: How many blocks are fitted at once; as many as there is room for if it is not said.

    Raises:
        PristineError: It cannot be done; the message says what to do.
    """
    try:
        with memory():
            return (yield from RestorationJob(resolved, into, places, shelf, count).job())
    except RuntimeError as error:  # generator workers swallow this one
        raise ComputeError(f"the computation failed: {error}") from error


def restore(
    image: NDArray[Any] | Image,
    method: str = "",
    *,
    axes: str = "",
    preset: str = "",
    settings: Mapping[str, Any] | None = None,
    together: str = "",
    select: Mapping[str, str] | None = None,
    mask: NDArray[Any] | Image | None = None,
    also: Sequence[NDArray[Any] | Image] = (),
    model: Model | str | Path | None = None,
    adapt: bool = False,
    device: str = "auto",
    seed: int = 0,
    on_event: Callable[[Event], Command | None] | None = None,
) -> Restored:
    """Restore an image and wait for the result.

    Args:
        image: An array, or an `Image`, whose axes and spacing the result keeps.
        method: Name of the method; `inr`, or that of the model.
        axes: One letter per dimension, such as `"TZCYX"`; needed for arrays with more than two dimensions.
        preset: Named settings, `fast`, `balanced` (if empty) or `paper`; not with a model, which has its own.
        settings: Settings that differ from the preset, or from those of the model.
        together: Axes that are fitted together, such as `"ZYX"`; Y and X if empty. All others are looped over.
        select: Ranges to restore, such as `{"T": "0:10"}`.
        mask: Not zero where pixels are to be filled in; of the shape of the image, or of its picture.
        also: More pictures of the same scene, for methods that restore several together.
        model: A network that has learned, or its file.
        adapt: Let the model learn some more from the image before it restores it.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of all random numbers: the same seed gives the same pixels on one device.
        on_event: Called with each event; may return `Wish.KEEP` to stop early and keep what there is.

    Raises:
        PristineError: Something does not fit; the message says what to do.
    """
    axes, together = axes.upper(), together.upper()
    image = as_image(image, axes)
    fields: dict[str, Any] = {
        "axes": axes, "together": together, "select": dict(select or {}), "adapt": adapt, "device": device,
        "seed": seed,
    }  # fmt: skip
    learned = load_model(model) if isinstance(model, (str, Path)) else model
    if isinstance(model, (str, Path)):
        fields["model"] = str(model)
    recipe = recipe_for(learned, method, preset, settings or {}, fields)
    masked = None if mask is None else _as_mask(mask, image.axes)
    others = [as_image(other, image.axes) for other in also]
    return wait(run(image, recipe, mask=masked, others=others, model=learned), on_event)


def recipe_for(
    model: Model | None, method: str, preset: str, settings: Mapping[str, Any], fields: Mapping[str, Any]
) -> Recipe:
    """How to restore, by a model or without one; an empty method or preset is that of the model, or the default.

    Raises:
        PristineError: A setting is unknown or out of range, or does not go with the model.
    """
    if model is not None:
        if preset:
            raise SettingError(
                f"preset '{preset}' does not go with a model, which has the settings that it learned with; "
                "leave preset out, and change single settings if need be"
            )
        return model.recipe_with(method, settings, fields)
    chosen = {"method": method, "preset": preset}
    return make(Recipe, {**{k: v for k, v in chosen.items() if v}, "settings": dict(settings), **fields})


def as_image(image: NDArray[Any] | Image, axes: str = "") -> Image:
    """An array with axes as an `Image`; an `Image` as it is.

    Raises:
        AxesError: An array with more than two dimensions needs axes.
        ImageError: It is a masked array, or the name of a file.
    """
    if isinstance(image, (str, os.PathLike)):
        raise ImageError(
            f"an array or an Image is needed, not the name of a file ('{os.fspath(image)}'); "
            "read it first: napari_pristine.read(...)"
        )
    if isinstance(image, np.ma.MaskedArray):
        raise ImageError("masks of arrays are not seen; set what is masked to NaN: image.astype(float).filled(np.nan)")
    if isinstance(image, Image):
        return image
    return Image(np.asarray(image), axes or ("YX" if np.ndim(image) == 2 else _ask_for_axes(np.shape(image))))


def _as_mask(mask: Any, axes: str) -> Image:
    """A mask of the shape of an image with these axes, or of its picture."""
    return as_image(mask, "" if np.ndim(mask) == 2 else axes)


def wait(job: Job, on_event: Callable[[Event], Command | None] | None = None) -> Restored:
    """Run a job to its end, handing each event to `on_event` and what that returns back to the job."""
    wish: Command | None = None
    try:
        while True:
            event = job.send(wish)
            wish = on_event(event) if on_event else None
    except StopIteration as end:
        restored: Restored = end.value
        return restored
    finally:
        job.close()


def _ask_for_axes(shape: tuple[int, ...]) -> str:
    raise AxesError(
        f"an array with {len(shape)} dimensions (shape {shape}) needs axes; "
        f"give one letter per dimension, e.g. axes='{guess_axes(shape)}'"
    )


def check(
    image: Image, recipe: Recipe, *, mask: Image | None = None, others: Sequence[Image] = (), model: Model | None = None
) -> None:
    """Check all that can be checked of a job without reading the pixels.

    Raises:
        PristineError: Axes, settings or image do not allow it; the message says what to do.
    """
    RestorationPlan(image, recipe, mask, others, model)
