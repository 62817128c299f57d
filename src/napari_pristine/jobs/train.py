"""Learn from many images once, to restore others often: as a job that can be watched and stopped, or in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from napari_pristine.device import is_out_of_memory
from napari_pristine.errors import ComputeError, OutOfMemory
from napari_pristine.events import Command, Event
from napari_pristine.image.image import Image
from napari_pristine.jobs.crops import ROOM
from napari_pristine.jobs.training_images import Sample
from napari_pristine.jobs.training_job import Learning, TrainingJob
from napari_pristine.model import Model
from napari_pristine.recipe import Recipe
from napari_pristine.settings import make

__all__ = ["Learning", "Sample", "follow", "learn", "training_job"]


def learn(
    images: Sequence[Sample] | Sample,
    method: str = "blind2unblind",
    *,
    preset: str = "balanced",
    settings: Mapping[str, Any] | None = None,
    axes: str = "",
    together: str = "",
    device: str = "auto",
    seed: int = 0,
    start: Model | str | os.PathLike[str] | None = None,
    on_event: Callable[[Event], Command | None] | None = None,
) -> Model:
    """Learn from noisy images and wait for the model, which restores these and others like them.

    Args:
        images: Images, arrays or paths of files. What is on disk is read when it is needed: it may be larger than
            memory.
        method: Name of a method that learns from many images.
        preset: Named settings, `fast`, `balanced` or `paper`.
        settings: Settings that differ from the preset.
        axes: One letter per dimension, such as `"TZCYX"`; needed for arrays with more than two dimensions.
        together: Axes that are restored together, such as `"ZYX"`; Y and X if empty. All along the others are examples.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of all random numbers: the same seed gives the same model on one device.
        start: A model, or its file, that learns on from these images; fewer steps are taken.
        on_event: Called with each event; may return `Wish.KEEP` to stop early and keep what there is.

    Raises:
        PristineError: Something does not fit; the message says what to do.
    """
    fields = {
        "method": method, "preset": preset, "settings": dict(settings or {}), "axes": axes.upper(),
        "together": together.upper(), "device": device, "seed": seed,
        "model": "" if start is None or isinstance(start, Model) else os.fspath(start),
    }  # fmt: skip
    several = not (isinstance(images, (str, os.PathLike, Image)) or hasattr(images, "shape"))
    samples: Any = images if several else [images]
    return follow(training_job(samples, make(Recipe, fields), start if isinstance(start, Model) else None), on_event)


def follow(job: Learning, on_event: Callable[[Event], Command | None] | None = None) -> Model:
    """Run a job to its end, handing each event to `on_event` and what that returns back to the job."""
    wish: Command | None = None
    try:
        while True:
            event = job.send(wish)
            wish = on_event(event) if on_event else None
    except StopIteration as end:
        model: Model = end.value
        return model
    finally:
        job.close()


def training_job(images: Sequence[Sample], recipe: Recipe, start: Model | None = None, room: int = ROOM) -> Learning:
    """Learn from noisy images.

    Everything that can be known without reading pixels is checked before the first event. Images and blocks that
    cannot be learned from are left out, and a note says so. A job that is told `Wish.KEEP` returns what it has learned.

    Args:
        images: Images, arrays or paths of files.
        recipe: How; a file of a model in it is learned on from.
        start: The same, as a model.
        room: Bytes of pixels that are kept in memory.

    Raises:
        PristineError: Axes, settings, images or device do not allow it; the message says what to do.
    """
    try:
        return (yield from TrainingJob(images, recipe, start, room).job())
    except (RuntimeError, MemoryError) as error:  # torch has no class of its own; generator workers swallow this one
        if is_out_of_memory(error):
            raise OutOfMemory(f"the memory ran out: {error}; take smaller steps (batch, side) or blocks") from error
        raise ComputeError(f"the computation failed: {error}") from error
