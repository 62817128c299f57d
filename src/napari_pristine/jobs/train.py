"""Train a network on many images, to restore these and others: as a job, or in one call."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_pristine.device import describe_device, out_of_memory_as_error, pick_device, seeded, versions
from napari_pristine.errors import AxesError, ComputeError, FileError, ImageError, PristineError, SettingError
from napari_pristine.events import Command, Event, Job, Note, Progress
from napari_pristine.image.axes import AxesPlan, BlockIndex, plan_axes
from napari_pristine.image.image import Image, LazySequence, check_axes, check_restorable
from napari_pristine.io.arrays import as_image, is_dataarray
from napari_pristine.io.fingerprint import FileSets
from napari_pristine.io.registry import read
from napari_pristine.jobs.block import Block, make_block
from napari_pristine.jobs.context import JobContext, JobPart
from napari_pristine.jobs.crops import MAX_BYTES, CropSampler
from napari_pristine.jobs.restore import wait
from napari_pristine.jobs.statistics import ImageStatistics
from napari_pristine.methods import METHODS, find_method
from napari_pristine.methods.method import MethodParams, NoisyBlock
from napari_pristine.model import Facts, Model, load_model, untrained
from napari_pristine.recipe import InputFile, Recipe
from napari_pristine.settings import make
from napari_pristine.text import short_name

_MAX_NAMES = 1000
"""Images whose names are kept in a model."""


class IndexableArray(Protocol):
    """An array of which parts can be read, such as those of dask and zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""

    @property
    def dtype(self) -> Any:
        """Type of the values."""

    def __getitem__(self, index: Any) -> Any: ...


TrainingData: TypeAlias = "Image | NDArray[Any] | IndexableArray | str | os.PathLike[str]"
"""An image, an array, or the path of a file."""


def learn(
    images: Sequence[TrainingData] | TrainingData,
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
    """Train on noisy images and wait for the model, which restores these and others like them.

    Args:
        images: Images, arrays or paths of files. What is on disk is read when it is needed: it may be larger than
            memory.
        method: Name of a method that is trained on many images.
        preset: Effort, `fast` or `balanced`, or `paper`, for the settings that were published.
        settings: Settings that differ from the preset.
        axes: One letter per dimension, such as `"TZCYX"`; needed for arrays with more than two dimensions.
        together: Axes that are restored jointly, such as `"ZYX"`; Y and X if empty. The others give examples.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of all random numbers: the same seed gives the same model on one device.
        start: A model to start from, or its file; takes fewer steps.
        on_event: Called with each event; may return `Command.KEEP` to stop early and keep the model so far.

    Raises:
        PristineError: Something does not fit; the message says what to do.
    """
    fields = {
        "method": method, "preset": preset, "settings": dict(settings or {}), "axes": axes.upper(),
        "together": together.upper(), "device": device, "seed": seed,
        "model": "" if start is None or isinstance(start, Model) else os.fspath(start),
    }  # fmt: skip
    several = not (isinstance(images, (str, os.PathLike, Image)) or hasattr(images, "shape"))
    data: Any = images if several else [images]
    return wait(training_job(data, make(Recipe, fields), start if isinstance(start, Model) else None), on_event)


def training_job(
    images: Sequence[TrainingData], recipe: Recipe, start: Model | None = None, max_bytes: int = MAX_BYTES
) -> Job[Model]:
    """Train on noisy images as a job.

    Everything that can be known without reading pixels is checked before the first event. Images and blocks that
    cannot be used are skipped with a note. A job that receives `Command.KEEP` returns the model so far.

    Args:
        images: Images, arrays or paths of files.
        recipe: Recipe of the training, which starts from the model that it names, if any.
        start: A model to start from, in place of the recipe's.
        max_bytes: Bytes of pixels that are kept in memory.

    Raises:
        PristineError: Axes, settings, images or device do not allow it; the message says what to do.
    """
    method, params, context = find_method(recipe.method), recipe.params, JobContext()
    if method.learn is None:
        others = ", ".join(other.key for other in METHODS.values() if other.learn) or "none yet"
        raise SettingError(
            f"{recipe.method} is fitted to each image by itself; there is nothing to train beforehand: restore the "
            f"images right away, or train another method ({others})"
        )
    training_images, skipped = _open_images(images, recipe)
    first = training_images[0].blocks
    channels, axes = first.block_shape[0], first.space.replace("XY", "YX")
    start = load_model(recipe.model) if start is None and recipe.model else start
    if start:
        start.check_fits(channels, axes, recipe.method)
        start.check(params)
        started_from = InputFile(path=recipe.model, sha256=start.sha256)
        recipe = recipe.model_copy(update={"inputs": {**recipe.inputs, "model": started_from}})
    device, device_note = pick_device(recipe.device)
    ends = list(accumulate(len(image.blocks.indices) for image in training_images))  # numbers of blocks

    def image_of(number: int) -> int:
        return bisect_right(ends, number)

    def load(number: int) -> NoisyBlock:
        image = training_images[image_of(number)]
        index = image.blocks.indices[number - ends[image_of(number)]]  # counted from the last block of the image
        return image.block(index, params).noisy(device, recipe.seed)

    crops = CropSampler(LazySequence(range(ends[-1]), lambda n: partial(load, n)), recipe.seed, max_bytes)
    reported = 0

    def report_skipped() -> JobPart[None]:
        """Warn of blocks that were skipped since the last time."""
        nonlocal reported
        new = list(crops.skipped.items())[reported:]
        reported += len(new)
        counts = Counter((training_images[image_of(number)].name, str(error)) for number, error in new)
        for (name, reason), count in counts.items():
            some = f"{count} blocks are" if count > 1 else "a block is"
            yield from context.warn(f"{name}: {some} left out: {reason}")

    try:
        with out_of_memory_as_error("take smaller steps (batch, side) or blocks"):
            for note in (*skipped, *((device_note,) if device_note else ())):
                yield from context.emit(note)
            for _ in crops.fill():
                if context.progress_due():
                    yield from context.emit(Progress(0, 1, 0, 1, 1.0, context.seconds, None))
            yield from report_skipped()
            if start:
                net = start.network(device)
            else:
                with seeded(recipe.seed):
                    net = untrained(method, params, channels, axes).to(device)
            last = params.last_of(start is not None)
            stop = yield from context.run_fit(method.learn(net, crops, params, start is not None), last=last)
            yield from report_skipped()
    except RuntimeError as error:  # generator workers swallow this one
        raise ComputeError(f"the computation failed: {error}") from error
    weights = {name: weight.detach().cpu().clone() for name, weight in net.state_dict().items()}
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise ComputeError("the training diverged: the weights are no longer finite; set a lower learning_rate")
    skipped_blocks = Counter(map(image_of, crops.skipped))
    used = [image for n, image in enumerate(training_images) if skipped_blocks[n] < len(image.blocks.indices)]
    names = list(dict.fromkeys(image.name for image in used))
    residual = float(context.mean_residual) ** 0.5 if context.mean_residual is not None else math.nan
    facts = Facts(
        images=tuple(names[:_MAX_NAMES]),
        count=len(used),
        blocks=ends[-1] - len(crops.skipped),
        sigma=tuple(crops.sigma.tolist()),
        residual=residual if math.isfinite(residual) else None,
        stopped=stop.text,
        start=start.fingerprint if start else "",
        seconds=round(context.seconds, 3),
        device=describe_device(device),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        notes=tuple(note.text for note in context.notes),
    )
    return Model(recipe, channels, axes, weights, facts)


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """An image to train on, and its division into blocks."""

    name: str
    image: Image
    blocks: AxesPlan
    statistics: ImageStatistics

    @classmethod
    def open(cls, data: TrainingData, recipe: Recipe, name: str) -> TrainingImage:
        """Open an image without reading its values; `name` is used if it has none.

        Raises:
            PristineError: It cannot be read, or not be trained on.
        """
        if isinstance(data, (str, os.PathLike)):
            image, name = read(data, axes=recipe.axes, series=recipe.series, lazy=True), short_name(Path(data))
        else:
            image = _as_lazy_image(data, recipe.axes)
            name = image.name or name
        try:
            if recipe.axes:
                check_axes(recipe.axes, image.shape)
                image = replace(image, axes=recipe.axes)
            image = replace(image, name=name).select(recipe.select)
            check_restorable(image)
            blocks = plan_axes(image, recipe.together).in_chunks()
            return cls(name, image, blocks, ImageStatistics(blocks, image.data, None, recipe.params))
        except AxesError as error:
            raise AxesError(f"'{name}': {error}") from None

    def check_alike(self, other: TrainingImage) -> None:
        """Raise an `AxesError` unless both images are cut into blocks of the same kind."""
        kinds = [(image.blocks.block_shape[0], image.blocks.space) for image in (self, other)]
        if kinds[0][0] != kinds[1][0] or sorted(kinds[0][1]) != sorted(kinds[1][1]):
            texts = [f"blocks {space} of {count} channel{'s' if count != 1 else ''}" for count, space in kinds]
            raise AxesError(
                f"'{other.name}' is cut into {texts[1]}, '{self.name}' into {texts[0]}; train on images that are "
                "alike, or say which axes are restored jointly (together)"
            )

    def block(self, index: BlockIndex, params: MethodParams) -> Block:
        """Read and normalise a block.

        Raises:
            ImageError: It cannot be trained on, or can no longer be read.
        """
        try:
            self.statistics.check_stored(index)
            values = self.blocks.read(self.image.data, index)
            return make_block(
                values.astype(values.dtype.newbyteorder("="), copy=False),
                self.statistics.noise(index),
                params,
                axes=self.blocks.space,
                spacing=self.image.spacing(self.blocks.space),
                like=self.statistics.intensities(index),
            )
        except FileError as error:  # it was there when it was opened
            raise ImageError(str(error)) from error
        except OSError as error:
            raise ImageError(f"it cannot be read: {error.strerror or error}") from error


def _open_images(images: Sequence[TrainingData], recipe: Recipe) -> tuple[list[TrainingImage], list[Note]]:
    """Open all images that can be trained on; each of the others gets a note.

    Raises:
        PristineError: There is none, or they cannot be trained on together.
    """
    opened: list[TrainingImage] = []
    notes: list[Note] = []
    sets = FileSets()
    last: PristineError = ImageError("there are no images to learn from; give at least one")
    for number, data in enumerate(images):
        path = Path(data) if isinstance(data, (str, os.PathLike)) else None
        if path and (first := sets.first_of(path)):
            notes.append(Note(f"left out: '{path}' belongs to '{first.name}', which is read as a whole"))
            continue
        try:
            opened.append(TrainingImage.open(data, recipe, f"image {number}"))
            if path:
                sets.add(path, opened[-1].image)
                notes += [Note(f"{path}: {text}", warning=True) for text in opened[-1].image.notes]
        except (FileError, ImageError) as error:
            last = error
            notes.append(Note(f"left out: {error}", warning=True))
    if not opened:
        raise last
    for other in opened[1:]:
        opened[0].check_alike(other)
    return opened, notes


def _as_lazy_image(data: Image | NDArray[Any] | IndexableArray, axes: str) -> Image:
    """Make an image of an array in memory, or of one that can be read in parts."""
    if isinstance(data, (Image, np.ndarray)) or is_dataarray(data):
        return as_image(data, axes)
    try:
        dtype = np.dtype(data.dtype)
    except (AttributeError, TypeError):  # nested lists, tensors
        return as_image(data, axes)
    stand_in = np.broadcast_to(np.zeros((), dtype), data.shape)  # takes no memory
    return replace(as_image(stand_in, axes), data=data)
