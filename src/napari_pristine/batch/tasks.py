"""Tasks: which files are restored, and where their results go; all that can be checked before the first fit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_pristine.batch.inputs import Input
from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.metadata import stem_of
from napari_pristine.io.ngff import Version
from napari_pristine.io.registry import read, write
from napari_pristine.jobs.inputs import open_inputs
from napari_pristine.jobs.plan import make_plan
from napari_pristine.model import Model
from napari_pristine.recipe import Recipe

_VERSIONS: dict[str, Version] = {"ome-zarr": "0.5", "ome-zarr-0.4": "0.4"}
_LOSSY = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Task:
    """A file to restore and the file for its result.

    Attributes:
        version: Of OME-Zarr, where the result is one; that of the input, if it has one, if none is given.
        problem: Why the file is none that can be restored, if that is known.
        clash: Why its result cannot go there, if it cannot.
    """

    source: Path
    target: Path
    version: Version | None = None
    problem: str = ""
    clash: str = ""

    @property
    def is_zarr(self) -> bool:
        """Whether the result is an OME-Zarr."""
        return self.target.suffix.lower() == ".zarr"


def pair(sources: Sequence[Path], output: str, *, overwrite: bool) -> list[Task]:
    """Where the result of each file goes: `output` is a file for one, a folder for several or if it is one.

    Raises:
        FileError: A result would replace an input, another result, or a file that may not be overwritten.
    """
    folder = Path(output)
    inside = len(sources) > 1 or folder.is_dir() or output.endswith(("/", os.sep))
    if inside and folder.exists() and not folder.is_dir():
        raise FileError(f"'{output}' is a file; for {len(sources)} inputs give a folder")
    if not inside and not folder.parent.is_dir():
        raise FileError(f"there is no folder '{folder.parent}' for the result '{output}'; make it first")
    tasks = [Task(source, folder / _name(source) if inside else folder) for source in sources]
    _check_inputs(tasks)
    for task in _apart(tasks):
        if task.clash:
            raise FileError(task.clash)
    taken = [str(task.target) for task in tasks if task.target.exists()]
    if taken and not overwrite:
        those = f"'{taken[0]}' exists" if len(taken) == 1 else f"{len(taken)} results exist, such as '{taken[0]}',"
        raise FileError(f"{those} already; give another name, or --overwrite to replace what is there")
    return tasks


def assign(inputs: Sequence[Input], folder: Path, recipe: Recipe) -> list[Task]:
    """Where the result of each input goes: to its place in the folder that it was found in.

    Files whose results would replace each other are told of it, and cannot be restored.

    Raises:
        FileError: The results cannot go to this folder or would replace an input, or there is no mask.
    """
    if recipe.mask and not Path(recipe.mask).exists():
        raise FileError(f"the mask '{recipe.mask}' of the recipe does not exist; check the name")
    if folder.exists() and not folder.is_dir():
        raise FileError(f"'{folder}' is a file; give a folder for the results")
    version = _VERSIONS.get(recipe.format)
    tasks = [Task(i.path, folder / i.inside.parent / _named(i.path, recipe.format), version, i.problem) for i in inputs]
    _check_inputs([task for task in tasks if not task.problem])
    return _apart(tasks)


def _named(source: Path, form: str) -> str:
    """Name of the result of a file in a format."""
    if form == "same":
        return _name(source)
    return stem_of(source) + (".ome.tif" if form == "ome-tiff" else ".ome.zarr")


def _name(source: Path) -> str:
    """Name of the result in a folder: that of the input, unless its format would throw away what was restored."""
    return source.stem + ".tif" if source.suffix.lower() in _LOSSY else source.name


def _check_inputs(tasks: Sequence[Task]) -> None:
    """Raise a `FileError` if a result would replace an input."""
    sources = {_key(task.source) for task in tasks}
    for task in tasks:
        if _key(task.target) in sources:
            raise FileError(f"the result would replace the input '{task.target}'; give another name or folder")


def _apart(tasks: Sequence[Task]) -> list[Task]:
    """Tasks that know which other one would write to the same place."""
    alike: dict[str, list[Task]] = {}
    for task in tasks:
        if not task.problem:
            alike.setdefault(_key(task.target), []).append(task)
    clashes: dict[Task, str] = {}
    for group in alike.values():
        for task in group if len(group) > 1 else ():
            other = group[1] if task is group[0] else group[0]
            clashes[task] = (
                f"'{task.source}' and '{other.source}' would both be written to '{task.target}'; "
                "rename one of them, or restore them into different folders"
            )
    return [replace(task, clash=clashes.get(task, "")) for task in tasks]


def _key(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))  # which does not mind links in a circle


@dataclass(frozen=True, eq=False)
class Given:
    """What is read for a task: the image, and what its recipe names beside it."""

    image: Image
    mask: Image | None = None
    others: tuple[Image, ...] = ()


def load(task: Task, recipe: Recipe, model: Model | None = None) -> Given:
    """Read the input of a task, after checking that it can be restored and the result written.

    Raises:
        PristineError: It cannot.
    """
    image = read(task.source, axes=recipe.axes)
    inputs = open_inputs(recipe, task.source, model=model)
    make_plan(image, inputs)
    check_format(task.target, image.select(recipe.select))
    _check_writable(task.target)
    return Given(image, inputs.mask, inputs.extra_images)


def beside(source: Path, name: str) -> Path:
    """A file as named, or of this name in the folder of the input."""
    return Path(name) if Path(name).exists() else source.parent / name


def check_format(target: Path, image: Image) -> None:
    """Write the corner of an image to a place of no consequence: a fit is too long to find out after it.

    Args:
        target: The file that the result is for.
        image: The result, as far as its values do not matter.

    Raises:
        FileError: The format cannot hold such an image.
    """
    corner = tuple(n if axis in "CS" else min(n, 2) for axis, n in zip(image.axes, image.shape, strict=True))
    small = replace(image, data=np.zeros(corner, image.dtype))
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / target.name
        try:
            write(part, small)
        except FileError as error:
            raise FileError(str(error).replace(str(part), str(target))) from None


def _check_writable(target: Path) -> None:
    """Raise a `FileError` unless files can be made where the result goes."""
    existing = next(parent for parent in target.absolute().parents if parent.exists())
    if not os.access(existing, os.W_OK):
        raise FileError(f"'{target}' cannot be written: you may not write to '{existing}'; choose another folder")


def save(task: Task, image: Image, provenance: dict[str, Any], *, overwrite: bool) -> None:
    """Write a result; its folder is made if there is none.

    Raises:
        FileError: It cannot be written.
    """
    _make(task.target.parent)
    write(task.target, image, provenance=provenance, overwrite=overwrite)


def make_folder(folder: Path) -> None:
    """Make a folder for results, unless it is there.

    Raises:
        FileError: It cannot be made or written to.
    """
    _make(folder)
    if not os.access(folder, os.W_OK):
        raise FileError(f"you may not write to '{folder}'; choose another folder")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder '{folder}': {error.strerror}; choose another") from error
