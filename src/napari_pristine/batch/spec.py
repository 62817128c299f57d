"""BatchSpec: which files a batch restores, how, and where each result goes; the same for the shell and the panel."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_pristine.batch.store import HIDDEN, SIDECAR, read_sidecar
from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.metadata import stem_of
from napari_pristine.io.ngff import Version
from napari_pristine.io.registry import SUFFIXES, export_advice, is_zarr, result_name, write
from napari_pristine.model import load_model
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import load_recipe
from napari_pristine.resources import free_memory, thread_count

_CHANNELS_TRIED = 16
"""Maximum number of channels of an image that is written to try its format."""
_TRIED = "\0"
"""Stands for the path of a result in an error that is the same for all files of a kind."""
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
        tasks: The files, and the path of the result of each.
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
        PristineError: The recipe or its model cannot be read, there are no files, or their results cannot be
            written to `output`.
    """
    loaded = load_recipe(recipe)
    if loaded.model:
        load_model(loaded.model)
    tasks = assign_targets(find_inputs(inputs, output), output, loaded)
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
    if not inside and not folder.suffix and not is_zarr(folder):
        raise FileError(f"'{output}' has no suffix to tell its format; add one, such as .tif, or end a folder with /")
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
    """Add a `clash` to all tasks that would write to the same file."""
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
    """A key that is the same for all paths of a file; circular links are allowed."""
    return os.path.normcase(os.path.realpath(path))


class FormatChecker:
    """Checks that results can be written before the first is made: each kind of image and each folder once."""

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
        kind = repr([target.suffixes[-2:], result.axes, sides, result.dtype, result.units, channels, form, metadata])
        if kind not in self._errors:
            corner = replace(result, data=np.zeros(sides, result.dtype), channels=channels)
            self._errors[kind] = _try_format(target.name, corner)
        if target.parent not in self._folders:
            existing = next(parent for parent in target.absolute().parents if parent.exists())
            denied = "" if os.access(existing, os.W_OK) else f"you may not write to '{existing}'; choose another folder"
            self._folders[target.parent] = denied
        if error := self._errors[kind]:
            raise FileError(error.replace(_TRIED, str(target)))
        if denied := self._folders[target.parent]:
            raise FileError(f"'{target}' cannot be written: {denied}")


def _try_format(name: str, image: Image) -> str:
    """Write an image to a temporary file; returns what is wrong, with `_TRIED` for the path of the file."""
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


IMAGE_FOLDERS = (".zarr",)
"""Suffixes of folders that are one image each."""
REPORTS = ("report.csv", "report.html")
"""Names of the reports beside the results."""
_FOLDER_LINK = "a link to a folder, which is not followed; name that folder"
_NOT_A_FILE = "a pipe, a socket or a device, which cannot be read as an image"
_EARLIER_RESULT = "a result of an earlier batch; name the file itself, or a pattern, to restore it again"


@dataclass(frozen=True)
class Input:
    """A file to restore.

    Attributes:
        path: The file.
        inside: Path of its result inside the folder of results: that inside the folder that was named, with the name
            of this folder if several were named; the name of the file if the file itself was named.
        problem: Reason why it cannot be restored, by its name and type; empty if there is none.
    """

    path: Path
    inside: Path
    problem: str = ""


def expand_patterns(names: Sequence[str]) -> list[Path]:
    """Paths from the command line; patterns such as `*.tif` are expanded if the shell has not done so."""
    found: list[Path] = []
    for name in names:
        matches = sorted(glob.glob(name)) if glob.has_magic(name) and not Path(name).exists() else []
        found += [Path(match) for match in matches] or [Path(name)]
    return found


def find_inputs(names: Sequence[str], output: Path | None = None) -> list[Input]:
    """List all files that are named, match a pattern, or lie in a named folder or its subfolders; each once, in order.

    If a file in a folder is not an image, or is a result of an earlier batch, it is listed with this problem; a folder
    that holds nothing but results is listed without problems. Hidden files, sidecars, reports and the results in
    `output` are left out.

    Args:
        names: Files, folders and patterns.
        output: Folder for the results.

    Raises:
        FileError: A name does not exist, or a pattern matches nothing.
    """
    paths = expand_patterns(names)
    missing = [path for path in paths if not os.path.lexists(path)]  # a broken link is reported like a damaged file
    if missing:
        more = f" (and {len(missing) - 1} more names)" if len(missing) > 1 else ""
        pattern = glob.has_magic(str(missing[0]))
        text = f"nothing matches '{missing[0]}'" if pattern else f"'{missing[0]}' does not exist"
        raise FileError(f"{text}{more}; check the name")
    folders = {path for path in paths if path.is_dir() and path.suffix.lower() not in IMAGE_FOLDERS}
    several = sum(path in folders for path in paths) > 1
    found = dict[str, Input]()
    for path in paths:
        inputs = _search(path, output) if path in folders else [Input(path, Path(path.name), _special_file(path))]
        parent = Path(os.path.abspath(path)).name if several and path in folders else ""
        for each in inputs:
            found.setdefault(os.path.abspath(each.path), replace(each, inside=parent / each.inside))
    return list(found.values())


def _search(folder: Path, output: Path | None) -> list[Input]:
    """List all files in a folder; results are only restored if there is nothing else."""
    inputs = list(_walk(folder, output))
    if all(each.problem == _EARLIER_RESULT for each in inputs):
        return [replace(each, problem="") for each in inputs]
    return inputs


def _walk(folder: Path, output: Path | None) -> Iterator[Input]:
    """List all files in a folder; links to folders are not followed, since they may lead in circles."""
    errors: list[OSError] = []
    real_output = None if output is None else Path(os.path.realpath(output))
    for here, folders, files in os.walk(folder, onerror=errors.append):
        parent = Path(here)
        images = [name for name in folders if name.lower().endswith(IMAGE_FOLDERS)]
        links = [name for name in folders if (parent / name).is_symlink() and name not in images]
        inner = [name for name in folders if name not in images + links and not name.startswith(".")]
        folders[:] = sorted(name for name in inner if Path(os.path.realpath(parent / name)) != real_output)
        sidecars = [name.removesuffix(SIDECAR) for name in os.listdir(parent) if name.endswith(SIDECAR)]
        results = {name for name in sidecars if _is_image(Path(name)) and "identity" in read_sidecar(parent / name)}
        ignored = {f"{name}{SIDECAR}" for name in results}.union(REPORTS)
        if real_output is not None and Path(os.path.realpath(parent)).is_relative_to(real_output):
            unfinished = os.listdir(parent / HIDDEN) if (parent / HIDDEN).is_dir() else []
            ignored |= results.union(unfinished)
        for name in sorted(files + images + links):
            if not name.startswith(".") and name not in ignored:
                path = parent / name
                problem = _EARLIER_RESULT if name in results else _FOLDER_LINK if name in links else _problem(path)
                yield Input(path, path.relative_to(folder), problem)
    for error in errors:  # reported when it is opened
        path = Path(os.fsdecode(error.filename))
        yield Input(path, path.relative_to(folder))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in (*SUFFIXES, *IMAGE_FOLDERS)


def _special_file(path: Path) -> str:
    return _NOT_A_FILE if path.exists() and not path.is_file() and not path.is_dir() else ""


def _problem(path: Path) -> str:
    """Reason why a file in a folder cannot be restored, by its name and type; empty if there is none."""
    suffix = path.suffix.lower()
    if not _is_image(path):
        kind = f"suffix '{suffix}'" if suffix else "no suffix"
        return f"not an image that can be read ({kind}){export_advice(suffix)}"
    return _special_file(path)
