"""BatchSpec: which files a batch restores, how, and where each result goes; the same for the shell and the panel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_pristine.batch.inputs import IMAGE_FOLDERS, Input, find_inputs
from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.metadata import stem_of
from napari_pristine.io.ngff import Version
from napari_pristine.io.registry import result_name, write
from napari_pristine.model import load_model
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import load_recipe
from napari_pristine.resources import cpu_count, free_memory

_VERSIONS: dict[str, Version] = {"ome-zarr": "0.5", "ome-zarr-0.4": "0.4"}


@dataclass(frozen=True)
class Task:
    """A file to restore, and the file that its result goes to.

    Attributes:
        source: The input.
        target: The result.
        version: Version of OME-Zarr of the result; if none is given, that of the input, or the newest.
        problem: Reason that the input cannot be restored, if its name or kind tells; else empty.
        clash: Reason that the result cannot go there; else empty.
    """

    source: Path
    target: Path
    version: Version | None = None
    problem: str = ""
    clash: str = ""

    @property
    def is_zarr(self) -> bool:
        """True if the result is an OME-Zarr."""
        return self.target.suffix.lower() == ".zarr"


@dataclass(frozen=True)
class BatchOptions:
    """Recipe and options for all files of a batch.

    Attributes:
        recipe: The recipe.
        resume: Continue an interrupted batch, and skip results that exist.
        overwrite: Replace results that exist.
        memory: Bytes that a process may use; all that are free if `None`.
        threads: Threads of each process; if `None`, as many as there are CPUs. Networks that are trained differ in
            the last digits with another number of threads.
    """

    recipe: Recipe
    resume: bool = False
    overwrite: bool = False
    memory: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class BatchSpec:
    """A batch that can be started.

    Attributes:
        options: Recipe and options for all files.
        tasks: The files, and the place for the result of each.
    """

    options: BatchOptions
    tasks: list[Task]


def resolve_batch(
    recipe: Path,
    inputs: Sequence[str],
    output: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    memory: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
) -> BatchSpec:
    """Read the recipe and find the files; nothing is written.

    Args:
        recipe: File of the recipe.
        inputs: Files, folders and patterns.
        output: Folder for the results.
        resume: Continue an interrupted batch, and skip results that exist.
        overwrite: Replace results that exist.
        memory: Bytes that a process may use; if `None`, an equal part of the free memory for each worker.
        workers: Number of processes on this machine; `None` if they are elsewhere.
        threads: Threads of each process; if `None`, an equal part of the CPUs for each worker.

    Raises:
        PristineError: The recipe or its model cannot be read, there are no files, or their results cannot go to
            `output`.
    """
    loaded = load_recipe(recipe)
    if loaded.model:
        load_model(loaded.model)
    tasks = assign_targets(find_inputs(inputs, output), output, loaded)
    if not tasks:
        raise FileError(f"there are no files in {', '.join(inputs)}; give images, or folders or patterns of them")
    if workers is not None:
        threads = threads or max(cpu_count() // workers, 1)
        if workers > 1:
            memory = memory or free_memory() // workers
    return BatchSpec(BatchOptions(loaded, resume, overwrite, memory, threads), tasks)


def assign_targets(inputs: Sequence[Input], folder: Path, recipe: Recipe) -> list[Task]:
    """Assign the result of each input its place in a folder: where the input is in the folder that was named.

    Inputs whose results would replace each other get a `clash`, and cannot be restored.

    Raises:
        FileError: The results cannot go to this folder or would replace an input, or there is no mask.
    """
    if recipe.mask and not Path(recipe.mask).exists():
        raise FileError(f"the mask '{recipe.mask}' of the recipe does not exist; check the name")
    if folder.exists() and not folder.is_dir():
        raise FileError(f"'{folder}' is a file; give a folder for the results")
    tasks = []
    for each in inputs:
        suffix = {"same": "", "ome-tiff": ".ome.tif"}.get(recipe.format, ".ome.zarr")
        name = stem_of(each.path) + suffix if suffix else result_name(each.path)
        target = folder / each.inside.parent / name
        tasks.append(Task(each.path, target, _VERSIONS.get(recipe.format), each.problem))
    _check_inputs_are_kept([task for task in tasks if not task.problem])
    return _mark_clashes(tasks)


def assign_names(sources: Sequence[Path], output: str, *, replace_results: bool) -> list[Task]:
    """Assign results as `pristine restore` does: `output` is a file for one input, and a folder for several.

    Raises:
        FileError: A result would replace an input, another result, or a file that may not be replaced.
    """
    folder = Path(output)
    image = folder.suffix.lower() in IMAGE_FOLDERS
    inside = len(sources) > 1 or output.endswith(("/", os.sep)) or (folder.is_dir() and not image)
    if inside and folder.exists() and not folder.is_dir():
        raise FileError(f"'{output}' is a file; for {len(sources)} inputs give a folder")
    if not inside and not folder.parent.is_dir():
        raise FileError(f"there is no folder '{folder.parent}' for the result '{output}'; make it first")
    tasks = [Task(source, folder / result_name(source) if inside else folder) for source in sources]
    _check_inputs_are_kept(tasks)
    for task in _mark_clashes(tasks):
        if task.clash:
            raise FileError(task.clash)
    existing = [str(task.target) for task in tasks if task.target.exists()]
    if existing and not replace_results:
        those = f"'{existing[0]}' exists" if len(existing) == 1 else f"{len(existing)} results exist, '{existing[0]}',"
        raise FileError(f"{those} already; give another name, --overwrite to replace what is there, or --resume")
    return tasks


def _check_inputs_are_kept(tasks: Sequence[Task]) -> None:
    """Raise a `FileError` if a result would replace an input."""
    sources = {path_key(task.source) for task in tasks}
    for task in tasks:
        if path_key(task.target) in sources:
            raise FileError(f"the result would replace the input '{task.target}'; give another name or folder")


def _mark_clashes(tasks: Sequence[Task]) -> list[Task]:
    """The same tasks; those that would write to the same place get a `clash`."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        if not task.problem:
            groups.setdefault(path_key(task.target), []).append(task)
    clashes: dict[Task, str] = {}
    for group in groups.values():
        for task in group if len(group) > 1 else ():
            other = group[1] if task is group[0] else group[0]
            clashes[task] = (
                f"'{task.source}' and '{other.source}' would both be written to '{task.target}'; "
                "rename one of them, or restore them into different folders"
            )
    return [replace(task, clash=clashes.get(task, "")) for task in tasks]


def path_key(path: Path) -> str:
    """A text that is the same for all names of a file; also for links in a circle."""
    return os.path.normcase(os.path.realpath(path))


def check_format(target: Path, result: Image) -> None:
    """Write the corner of a result to a temporary file: a fit takes too long to find out after it.

    Args:
        target: The file that the result goes to.
        result: The result; only its metadata, axes, shape and type are used.

    Raises:
        FileError: The format cannot hold such an image, or the folder cannot be written to.
    """
    corner = tuple(n if axis in "CS" else min(n, 2) for axis, n in zip(result.axes, result.shape, strict=True))
    small = replace(result, data=np.zeros(corner, result.dtype))
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / target.name
        try:
            write(part, small)
        except FileError as error:
            raise FileError(str(error).replace(str(part), str(target))) from None
    existing = next(parent for parent in target.absolute().parents if parent.exists())
    if not os.access(existing, os.W_OK):
        raise FileError(f"'{target}' cannot be written: you may not write to '{existing}'; choose another folder")


def make_folder(folder: Path) -> None:
    """Make a folder for results, unless it exists.

    Raises:
        FileError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder '{folder}': {error.strerror}; choose another") from error
    if not os.access(folder, os.W_OK):
        raise FileError(f"you may not write to '{folder}'; choose another folder")
