"""Order: what is wanted of a batch; and Opened: one of its files with all that is settled before its restoration."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_pristine import __version__
from napari_pristine.batch.store import WorkDir
from napari_pristine.batch.tasks import Task, beside
from napari_pristine.errors import FileError
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.image import Image
from napari_pristine.io import zarr
from napari_pristine.io.fingerprint import Fingerprint, checksum, fingerprint
from napari_pristine.io.registry import read
from napari_pristine.jobs.inputs import open_inputs
from napari_pristine.jobs.plan import RestorationPlan, make_plan
from napari_pristine.model import Model, load_model
from napari_pristine.recipe import Recipe
from napari_pristine.threads import CheckCancelled

_MINUTE = 60.0
"""Seconds for which it is believed that nobody has written into the folder of an input."""


@dataclass(frozen=True)
class BatchOptions:
    """What is wanted of a batch.

    Attributes:
        recipe: How every file is restored.
        resume: Go on where an earlier batch was interrupted, and leave what is done.
        overwrite: Replace results that exist.
        memory: Bytes that a process may use; as much as is free if none is given.
        threads: Of each process. Networks that learn give other last digits with another number of them.
    """

    recipe: Recipe
    resume: bool = False
    overwrite: bool = False
    memory: int | None = None
    threads: int = 1


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """A file, its values on disk, and how it is to be restored.

    Attributes:
        image: The image, of which nothing is read.
        resolved: How it is restored.
        count: How many of its blocks are fitted at once.
        units: Its blocks as they can be restored by themselves: runs, or several that are fitted at once.
        stamp: Of all files that it depends on, as they were when it was opened.
    """

    image: Image
    resolved: RestorationPlan
    count: int
    units: list[list[BlockIndex]]
    fingerprint: Fingerprint

    @property
    def like(self) -> Image:
        """The result, as far as its values do not matter."""
        return self.resolved.result_image(Unmade(self.resolved.output_blocks.shape, self.resolved.image.dtype))


@dataclass(frozen=True)
class Unmade:
    """An array of which only shape and type are known, and into which anything vanishes."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __setitem__(self, index: Any, values: Any) -> None:
        pass


def open_task(task: Task, recipe: Recipe, *, fresh: bool = True, count: int | None = None) -> OpenedImage:
    """Open a file lazily and settle how it is restored; the last one is kept at hand, as long as it stays what it is.

    Args:
        task: The file.
        recipe: How it is restored.
        fresh: Whether to look closely, see `stamp_of`.
        count: How many blocks are fitted at once; as many as there is room for here if it is not said.

    Raises:
        PristineError: It cannot be read, not be restored like this, or its result cannot go where it should.
    """
    if task.clash:
        raise FileError(task.clash)
    before = fingerprint_of(task, recipe, fresh=fresh)
    image, resolved = _open(task, recipe.model_dump_json(), before, count)
    return OpenedImage(image, resolved, resolved.batch_size, resolved.work_units, before)


@lru_cache(maxsize=1)
def _open(task: Task, recipe_text: str, before: Fingerprint, count: int | None = None) -> tuple[Image, RestorationPlan]:
    """By the recipe as JSON, since recipes have no hash. The next share is often of the same file, its noise known."""
    recipe = Recipe.model_validate_json(recipe_text)
    image = read(task.source, axes=recipe.axes, lazy=True)
    inputs = open_inputs(recipe, task.source, model=model_of(recipe))
    return image, make_plan(image, inputs, batch_size=count)


def fingerprint_of(task: Task, recipe: Recipe, *, fresh: bool = True) -> Fingerprint:
    """What changes when one of the files is written to that a result depends on.

    Args:
        task: The file.
        recipe: It may name more files.
        fresh: Whether to look again into a folder that was looked into within the last minute; it may hold a file for
            each of a hundred thousand blocks.

    Raises:
        FileError: One is not there.
    """
    model = [Path(recipe.model)] if recipe.model else []
    now = int(time.monotonic() // _MINUTE)
    paths = (task.source, *_beside(task, recipe), *model)
    stamps = (fingerprint(path) if fresh or not path.is_dir() else _stamp_at(path, now) for path in paths)
    return tuple(entry for found in stamps for entry in found)


@lru_cache(maxsize=8)
def _stamp_at(path: Path, minute: int) -> Fingerprint:
    return fingerprint(path)


class Changed(FileError):
    """A file is not what it was when it was opened."""


def check_unchanged(task: Task, recipe: Recipe, before: Fingerprint, *, fresh: bool = True) -> None:
    """Raise a `Changed` if one of the files is not what it was, another `FileError` if that cannot be seen now."""
    now = fingerprint_of(task, recipe, fresh=fresh)
    changed = sorted({name for name, *_ in set(before) ^ set(now)})
    if changed:
        raise Changed(
            f"'{changed[0]}' was changed while it was being restored; restore it again when nothing writes to it "
            "any more"
        )


def _beside(task: Task, recipe: Recipe) -> list[Path]:
    """Files that a recipe names beside the image."""
    masks = [Path(recipe.mask)] if recipe.mask else []
    return masks + [beside(task.source, name) for name in recipe.params.input_files.values()]


def model_of(recipe: Recipe) -> Model | None:
    """The network that a recipe names; read once for all files.

    Raises:
        PristineError: It cannot be read.
    """
    if not recipe.model:
        return None
    return _model(recipe.model, fingerprint(Path(recipe.model)))


@lru_cache(maxsize=2)
def _model(path: str, changed: Fingerprint) -> Model:
    return load_model(path)


def told(recipe: Recipe) -> dict[str, Any]:
    """A recipe as this version of the software follows it, as plain JSON values."""
    return recipe.model_copy(update={"version": __version__}).model_dump(mode="json")


def identity(task: Task, order: BatchOptions, opened: OpenedImage, check_cancelled: CheckCancelled) -> dict[str, Any]:
    """All that the pixels of a result depend on; two results with the same identity are the same.

    The inputs are read as a whole for that, with a `beat` now and then.

    Raises:
        FileError: The input cannot be read.
    """
    recipe, model = order.recipe, opened.resolved.model
    return {
        "checksum": checksum(task.source, check_cancelled),
        "recipe": told(recipe),
        "beside": [checksum(path, check_cancelled) for path in _beside(task, recipe)],
        "model": model.fingerprint if model else "",
        "shape": list(opened.resolved.output_blocks.shape),
        "axes": opened.resolved.image.axes,
        "dtype": str(opened.resolved.image.dtype),
    }


def growing(task: Task, work: WorkDir, opened: OpenedImage) -> Any:
    """The array in which a result grows; made if it is not there yet."""
    sides = opened.resolved.output_blocks.chunk_sides
    if not task.is_zarr:
        return zarr.create_array(work.array, opened.like, block_sides=sides)
    version = task.version or opened.image.metadata.get("version", "0.5")
    return zarr.create_image(work.array, opened.like, version=version, block_sides=sides)
