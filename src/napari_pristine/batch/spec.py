"""BatchSpec: which files a batch restores, how, and where each result goes; the same for the shell and the panel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_pristine.batch.inputs import Input, expand_patterns, find_inputs, is_zarr_name
from napari_pristine.batch.store import store_of
from napari_pristine.errors import FileError, PristineError
from napari_pristine.image.image import Image
from napari_pristine.io.atomic import ZARR_SUFFIX
from napari_pristine.io.collection import read_node
from napari_pristine.io.collection_writer import ResultStore
from napari_pristine.io.fingerprint import FileSets, path_key
from napari_pristine.io.metadata import stem_of
from napari_pristine.io.ngff import Version
from napari_pristine.io.registry import RESULT_SUFFIXES, SUFFIXES, is_zarr, read, result_name, write
from napari_pristine.model import load_model
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import load_recipe
from napari_pristine.resources import free_memory, thread_count
from napari_pristine.text import counted

_CHANNELS_TRIED = 16
"""Maximum number of channels of the image that is written to test a format."""
_TRIED = "\0"
"""Placeholder for the path of a result in an error that is the same for all files of a kind."""
_VERSIONS: dict[str, Version] = {"ome-zarr": "0.5", "ome-zarr-0.4": "0.4"}


@dataclass(frozen=True)
class Task:
    """A file to restore, and the file that its result goes to.

    Attributes:
        source: The input.
        target: The result.
        version: Version of OME-Zarr of the result; if none is given, that of the input, or the newest.
        problem: Reason why the input cannot be restored, by its name and type; empty if there is none.
        clash: Reason why the result cannot be written there; empty if there is none.
        store: The store that the input is an image of; None if it is a file by itself.
        uncertainty: File that the uncertainty of the result goes to, if the recipe asks for it.
        axes: Axes of the input if it has as many dimensions; else those that it states. Empty for those of the recipe.
    """

    source: Path
    target: Path
    version: Version | None = None
    problem: str = ""
    clash: str = ""
    store: Path | None = None
    uncertainty: Path | None = None
    axes: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are written."""
        return (self.target,) if self.uncertainty is None else (self.target, self.uncertainty)

    @property
    def is_zarr(self) -> bool:
        """True if the result is an OME-Zarr, or an image in one."""
        return self.target.suffix.lower() == ZARR_SUFFIX or store_of(self.target) is not None

    @property
    def result_store(self) -> ResultStore | None:
        """The store of several images that the result is added to; None if the result is a file by itself."""
        path = store_of(self.target)
        if path is None or self.store is None:
            return None
        return ResultStore(path, self.store, self.version or read_node(self.store).version)


@dataclass(frozen=True)
class BatchOptions:
    """Recipe and options for all files of a batch.

    Attributes:
        recipe: The recipe.
        resume: Continue an interrupted batch.
        overwrite: Replace results that exist; with `resume`, only those that differ from the requested ones.
        memory: Bytes that a process may use; all that are free if `None`.
        threads: Threads of each process; if `None`, as many as there are CPUs. Networks that are trained differ in
            the last digits with another number of threads.
    """

    recipe: Recipe
    resume: bool = False
    overwrite: bool = False
    memory: int | None = None
    threads: int | None = None

    @property
    def keeps_equal(self) -> bool:
        """True if results that were made from the same input by the same recipe are not made again."""
        return self.resume or not self.overwrite


@dataclass(frozen=True)
class BatchSpec:
    """A batch that can be started.

    Attributes:
        options: Recipe and options for all files.
        tasks: The files, and the path of the result of each.
    """

    options: BatchOptions
    tasks: list[Task]


def resolve_batch(
    recipe: Path | Recipe,
    inputs: Sequence[str],
    output: Path,
    *,
    axes: str = "",
    resume: bool = False,
    overwrite: bool = False,
    memory: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    uncertainty: bool = False,
) -> BatchSpec:
    """Read the recipe and find the files; nothing is written.

    Args:
        recipe: The recipe, or its file.
        inputs: Files, folders and patterns.
        output: Folder for the results.
        axes: Axes of the files with as many dimensions, in place of those of the recipe; the others keep their own.
        resume: Continue an interrupted batch.
        overwrite: Replace results that exist.
        memory: Bytes that a process may use; if `None`, an equal part of the free memory for each worker.
        workers: Number of processes on this machine; `None` if they are elsewhere.
        threads: Threads of each process; if `None`, an equal part of the CPUs for each worker.
        uncertainty: Also write the uncertainty of each result, whether the recipe asks for it or not.

    Raises:
        PristineError: The recipe or its model cannot be read, there are no files, or their results cannot be
            written to `output`.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if uncertainty:
        loaded = loaded.model_copy(update={"uncertainty": True})
    if loaded.model:
        load_model(loaded.model)
    axes = (axes or loaded.axes).upper()
    loaded = loaded.model_copy(update={"axes": ""})  # each file has its own
    tasks = assign_targets(find_inputs(inputs, output, series=loaded.series), output, loaded)
    tasks = [replace(task, axes=axes) for task in tasks]
    if not tasks:
        raise FileError(f"there are no files in {', '.join(inputs)}; give images, folders of images, or patterns")
    if workers is not None:
        threads = threads or thread_count(workers)
        if workers > 1:
            memory = memory or free_memory() // workers
    return BatchSpec(BatchOptions(loaded, resume, overwrite, memory, threads), tasks)


def assign_targets(inputs: Sequence[Input], folder: Path, recipe: Recipe) -> list[Task]:
    """Assign each input the path of its result: the same path within `folder` as within the folder that was named.

    Inputs whose results would replace each other get a `clash`, and cannot be restored.

    Raises:
        FileError: The results cannot go to this folder or would replace an input, or there is no mask.
    """
    if recipe.mask and not Path(recipe.mask).expanduser().exists():
        raise FileError(f"the mask '{recipe.mask}' of the recipe does not exist; check the name")
    if folder.exists() and not folder.is_dir():
        raise FileError(f"'{folder}' is a file; give a folder for the results")
    zarr = next((each for each in (folder, *folder.absolute().parents) if is_zarr_name(each)), None)
    if zarr is not None:
        raise FileError(f"the folder for the results '{folder}' has the name of an OME-Zarr, '{zarr}'; give another")
    tasks = []
    for each in inputs:
        target = folder / _result_path(each, recipe.format)
        tasks.append(Task(each.path, target, _VERSIONS.get(recipe.format), each.problem, store=each.store))
    tasks = _with_uncertainty(tasks, recipe)
    _check_inputs_are_kept([task for task in tasks if not task.problem])
    return _mark_clashes(tasks)


def _result_path(each: Input, form: str) -> Path:
    """Path of a result in the folder of results."""
    suffix = {"same": "", "ome-tiff": ".ome.tif"}.get(form, ".ome.zarr")
    if each.store is None:
        return each.inside.parent / (stem_of(each.inside) + suffix if suffix else result_name(each.inside))
    image = each.inside_store
    store = each.inside.parents[len(image.parts) - 1]
    if suffix == ".ome.tif":  # by its name alone a user has to know what is in a window of Fiji
        return store.parent / f"{'_'.join((stem_of(store), *image.parts))}{suffix}"
    return store.parent / (stem_of(store) + suffix if suffix else store.name) / image


def _with_uncertainty(tasks: Sequence[Task], recipe: Recipe, file: str = "") -> list[Task]:
    """The tasks with a file each for the uncertainty, if the recipe asks for it: beside the result, unless given.

    Raises:
        FileError: One file is given for the uncertainty of several images.
    """
    if not recipe.uncertainty:
        return list(tasks)
    restored = [task for task in tasks if not task.problem]
    if file and len(restored) > 1:
        raise FileError(
            f"'{file}' cannot hold the uncertainty of {counted(len(restored), 'image')}; restore one image, or use "
            "'pristine batch --uncertainty', which writes a file beside each result"
        )
    if file and Path(file).suffix.lower() not in SUFFIXES:
        raise FileError(f"the file for the uncertainty '{file}' has no known suffix; give it one, such as .tif")
    return [replace(task, uncertainty=Path(file) if file else _uncertainty_beside(task.target)) for task in tasks]


def _uncertainty_beside(target: Path) -> Path:
    """File beside a result, or beside the store that it is in, for its uncertainty: TIFF, which holds any floats."""
    store = store_of(target)
    parts = (stem_of(target),) if store is None else (stem_of(store), *target.relative_to(store).parts)
    return (store or target).with_name(f"{'_'.join(parts)}.uncertainty.ome.tif")


def assign_results(
    names: Sequence[str], output: str, recipe: Recipe, *, replace_results: bool, uncertainty: str = ""
) -> list[Task]:
    """Find images and assign results as `pristine restore` does.

    `output` is a folder if it ends with a slash, is there as one, or has no suffix; else it is the file for a single
    image, which may be spread over several files, or a store for the images of a single store. `uncertainty` is the
    file for that of a single image.

    Raises:
        FileError: There is nothing to restore, or a result would replace an input, another result, or a file that may
            not be replaced.
    """
    if not output.strip():
        raise FileError("the name of the output is empty; give a file or a folder")
    path = Path(output)
    is_folder = _is_folder(output)
    if not is_folder and path.suffix.lower() not in SUFFIXES:
        raise FileError(
            f"'{output}' has the suffix '{path.suffix}', which is not a known format; use one of "
            f"{', '.join(RESULT_SUFFIXES)}, or end the name of a folder with /"
        )
    folder = next((name for name in names if Path(name).is_dir() and not is_zarr(Path(name))), "")
    if folder and not is_folder:
        raise FileError(f"'{folder}' is a folder; give a folder for the results too, such as '{path.with_suffix('')}'")
    inputs = find_inputs(names, path if is_folder else None, series=recipe.series, must_exist=False)
    if not any(not each.problem for each in inputs):
        reasons = f": '{inputs[0].path}' is {inputs[0].problem}" if inputs else ""
        raise FileError(f"there is nothing to restore in {', '.join(names)}{reasons}")
    stores = {each.store for each in inputs}
    # an image that was chosen by its name or number is written by itself
    is_chosen = recipe.series is not None or any(each.path in expand_patterns(names) for each in inputs)
    whole_store = len(stores) == 1 and None not in stores and not is_chosen
    if not is_folder and whole_store and is_zarr_name(path):
        tasks = [Task(each.path, path / each.inside_store, None, each.problem, store=each.store) for each in inputs]
    elif not is_folder and len(inputs) == 1:
        if not path.parent.is_dir():
            raise FileError(f"there is no folder '{path.parent}' for the result '{output}'; make it first")
        tasks = [Task(inputs[0].path, path, None, store=inputs[0].store)]
    elif not is_folder and (found := _tasks_of_set(inputs, path, recipe)):
        tasks = found
    else:
        if path.exists() and not path.is_dir():
            raise FileError(f"'{output}' is a file; for {counted(len(inputs), 'image')} give a folder")
        if not is_folder:
            raise FileError(f"'{output}' is the name of a file; for {counted(len(inputs), 'image')} give a folder")
        tasks = assign_targets(inputs, path, recipe)
    tasks = _with_uncertainty(tasks, recipe, uncertainty)
    _check_inputs_are_kept([task for task in tasks if not task.problem])
    tasks = _mark_clashes(tasks)
    for task in tasks:
        if task.clash:
            raise FileError(task.clash)
    existing = [str(file) for task in tasks if not task.problem for file in task.files if file.exists()]
    if existing and not replace_results:
        those = f"'{existing[0]}' already exists"
        if len(existing) > 1:
            those = f"{len(existing)} results already exist (such as '{existing[0]}')"
        raise FileError(f"{those}; give another name, --overwrite to replace existing results, or --resume")
    return tasks


def _tasks_of_set(inputs: Sequence[Input], target: Path, recipe: Recipe) -> list[Task]:
    """Tasks for the files of a single image, of which the first stands for all; none if there are several images.

    Raises:
        FileError: The result would replace one of the files.
    """
    tasks, sets = [Task(each.path, target, None, each.problem, store=each.store) for each in inputs], FileSets()
    first = next(task for task in tasks if not task.problem)
    with suppress(PristineError):  # said again when it is opened
        sets.add(first.source, read(first.source, axes=recipe.axes, series=recipe.series, lazy=True))
    left = [leave_out(task, sets) for task in tasks]
    if sum(not task.problem for task in left) > 1:
        return []
    _check_inputs_are_kept(tasks)
    return left


def leave_out(task: Task, sets: FileSets) -> Task:
    """The task, with a `problem` if its file belongs to the image of an earlier one."""
    first = sets.first_of(task.source)
    return task if first is None else replace(task, problem=f"belongs to '{first.name}', which is restored as a whole")


def _is_folder(output: str) -> bool:
    """True if a name stands for a folder of results, however many there are."""
    path = Path(output)
    if is_zarr_name(path):
        return False
    is_there = path.is_dir() and not is_zarr(path)
    # what follows a dot in `run 1.5` or `2024.05.01` is no suffix
    return is_there or output.endswith(("/", os.sep)) or not path.suffix[1:2].isalpha()


def _check_inputs_are_kept(tasks: Sequence[Task]) -> None:
    """Raise a `FileError` if a result would replace an input, or lie in one, or in the store of one."""
    inputs = {path_key(task.source) for task in tasks} | {path_key(task.store) for task in tasks if task.store}
    around = {os.path.dirname(key) for key in inputs}
    while outer := {os.path.dirname(key) for key in around} - around:
        around |= outer
    for file in (file for task in tasks for file in task.files):
        key = path_key(file)
        if key in inputs or key in around:
            raise FileError(f"the result would replace the input '{file}'; give another name or folder")
        parents = Path(key).parents
        if inside := next((str(parent) for parent in parents if str(parent) in inputs), ""):
            raise FileError(f"the result '{file}' would lie in the input '{inside}'; give another name or folder")


def _mark_clashes(tasks: Sequence[Task]) -> list[Task]:
    """Add a `clash` to all tasks that would write to the same file."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        for file in task.files if not task.problem else ():
            groups.setdefault(path_key(file), []).append(task)
    clashes: dict[Task, str] = {}
    for name, group in groups.items():
        for task in group if len(group) > 1 else ():
            other = group[1] if task is group[0] else group[0]
            if other is task:
                clashes[task] = f"'{name}' would hold both the result and its uncertainty; give two names"
                continue
            clashes[task] = (
                f"'{task.source}' and '{other.source}' would both be written to "
                f"'{next(file for file in task.files if path_key(file) == name)}'; "
                "rename one of them, or restore them into different folders"
            )
    return [replace(task, clash=clashes.get(task, "")) for task in tasks]


class FormatChecker:
    """Checks, before the first file is restored, that results can be written: each kind of image and folder once."""

    def __init__(self) -> None:
        self._errors: dict[str, str] = {}
        self._folders: dict[Path, str] = {}

    def check(self, target: Path, result: Image) -> None:
        """Check that a format can hold a result, by writing a corner of one of its kind to a temporary file.

        Args:
            target: The file that the result goes to.
            result: The result; only its metadata, axes, shape and type are used.

        Raises:
            FileError: The format cannot hold such an image, or the folder cannot be written to.
        """
        sides = [min(n, _CHANNELS_TRIED if a in "CS" else 2) for a, n in zip(result.axes, result.shape, strict=True)]
        channels = result.channels[:_CHANNELS_TRIED]
        form = [result.metadata.get(key) for key in ("format", "version")]
        metadata = {key: sorted(value) if isinstance(value, Mapping) else "" for key, value in result.metadata.items()}
        name = f"image{ZARR_SUFFIX}" if store_of(target) else target.name
        kind = repr(
            [
                Path(name).suffixes[-2:], result.axes, sides, result.dtype, result.units, channels, form, metadata,
                sorted(result.details),
            ]
        )  # fmt: skip
        if kind not in self._errors:
            corner = replace(result, data=np.zeros(sides, result.dtype), channels=channels)
            self._errors[kind] = _try_format(name, corner)
        if target.parent not in self._folders:
            existing = next(parent for parent in target.absolute().parents if parent.exists())
            denied = "" if os.access(existing, os.W_OK) else f"you may not write to '{existing}'; choose another folder"
            self._folders[target.parent] = denied
        if error := self._errors[kind]:
            raise FileError(error.replace(_TRIED, str(target)))
        if denied := self._folders[target.parent]:
            raise FileError(f"'{target}' cannot be written: {denied}")


def _try_format(name: str, image: Image) -> str:
    """Write an image to a temporary file; returns the error, with `_TRIED` for the path, or an empty text."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / name
        try:
            write(part, image)
        except FileError as error:
            return str(error).replace(str(part), _TRIED)
    return ""


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
