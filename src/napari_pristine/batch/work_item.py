"""WorkItem: some work units of one file, restored by one process into the work folder of its result."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from napari_pristine.batch.spec import Task
from napari_pristine.batch.store import BlockRecord, LockedElsewhere, WorkDir
from napari_pristine.device import describe_device
from napari_pristine.errors import AxesError, FileError
from napari_pristine.events import BlockDone, Event, Note
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.image import Image, LazySequence
from napari_pristine.io import zarr
from napari_pristine.io.atomic import flush_to_disk
from napari_pristine.io.fingerprint import Fingerprint, fingerprint, path_key
from napari_pristine.io.registry import loss, read
from napari_pristine.io.zarr import ZarrArray
from napari_pristine.jobs.inputs import InputCache, find_file, open_inputs
from napari_pristine.jobs.plan import RestorationPlan, make_plan
from napari_pristine.jobs.restore import run_plan
from napari_pristine.recipe import Recipe
from napari_pristine.threads import AsyncWriter

_CHECK_SECONDS = 1.0
"""Seconds between two checks whether a work item is still wanted."""


@dataclass(frozen=True)
class DummyArray:
    """Stand-in for an array: it has a shape and a type, and discards what is assigned to it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __setitem__(self, index: Any, values: Any) -> None:
        pass


@dataclass(frozen=True, eq=False)
class OpenedTask:
    """A file whose pixels are on disk, and the plan of its restoration.

    Attributes:
        task: The file, and where its result goes.
        recipe: The recipe of the batch, with the axes of this file if they are not those that it states; that of the
            plan also holds the checksums of its inputs.
        plan: Plan of its restoration.
        fingerprint: State of all files that the result depends on.
    """

    task: Task
    recipe: Recipe
    plan: RestorationPlan
    fingerprint: Fingerprint

    @property
    def digest(self) -> str:
        """Digest of the fingerprint, which may be of ten thousand files."""
        return hashlib.blake2b(repr(self.fingerprint).encode(errors="surrogateescape"), digest_size=16).hexdigest()

    @property
    def result_like(self) -> Image:
        """The result with all its metadata, without values; it may become float32 when the noise is measured."""
        return self._result_of(self.plan.stated_dtype)

    def _result_of(self, dtype: np.dtype[Any]) -> Image:
        return self.plan.result_image(DummyArray(self.plan.output_blocks.shape, dtype))

    def open_array(self) -> ZarrArray:
        """Open the array of the unfinished result; it is created if there is none."""
        work, sides = WorkDir(self.task.target), self.plan.output_blocks.chunk_sides
        only_whole = self.task.target.suffix.lower() == ".png"  # it holds no fractions
        like = self.result_like if only_whole else self._result_of(self.plan.dtype)
        if not self.task.is_zarr:
            return zarr.create_array(work.array, like, block_sides=sides)
        store = self.task.result_store
        version = store.version if store else self.task.version or self.plan.image.metadata.get("version", "0.5")
        return zarr.create_image(work.array, like, version=version, block_sides=sides)

    @property
    def uncertainty_like(self) -> Image:
        """The uncertainty of the result with all its metadata, without values."""
        return self._result_of(np.dtype(np.float32))

    def open_uncertainty(self) -> ZarrArray | None:
        """Open the array of the uncertainty, if it is wanted; it is created if there is none."""
        if self.task.uncertainty is None:
            return None
        sides = self.plan.output_blocks.chunk_sides
        return zarr.create_array(WorkDir(self.task.target).uncertainty, self.uncertainty_like, block_sides=sides)

    def with_batch_size(self, batch_size: int) -> OpenedTask:
        """The same file, with another number of blocks fitted at once."""
        return replace(self, plan=replace(self.plan, batch_size=batch_size))


def open_task(task: Task, recipe: Recipe, cache: InputCache) -> OpenedTask:
    """Open a file without reading its pixels, and plan its restoration.

    Args:
        task: The file.
        recipe: Recipe of the batch.
        cache: Files beside the image that were opened before.

    Raises:
        PristineError: The file cannot be read, or cannot be restored with this recipe; or its result would replace a
            file that it depends on.
    """
    if task.clash:
        raise FileError(task.clash)
    if task.store is not None:  # the number of the image has been heeded: its path says which one it is
        recipe = recipe.model_copy(update={"series": None})
    state = task_fingerprint(task, recipe) if task.source.exists() else ()  # `read` says what is wrong
    image, unused = _read_input(task, recipe)
    if task.axes and not unused:
        recipe = recipe.model_copy(update={"axes": task.axes})
    for file in files_of_set(task, image):
        state += fingerprint(file) if file != task.source else ()
    _check_files_are_kept(task, state)
    plan = make_plan(image, open_inputs(recipe, task.source, cache=cache))
    if unused:
        plan = replace(plan, notes=(*plan.notes, *unused))
    opened = OpenedTask(task, recipe, plan, state)
    with suppress(FileError):  # `check_format` says what is wrong
        if lost := loss(task.target, opened.result_like):
            plan = replace(plan, notes=(*plan.notes, Note(lost, warning=True)))
    return replace(opened, plan=plan)


def _read_input(task: Task, recipe: Recipe) -> tuple[Image, list[Note]]:
    """Read the input of a task lazily; with a note if the axes of the task do not fit it, and its own are taken."""
    try:
        return read(task.source, axes=task.axes or recipe.axes, series=recipe.series, lazy=True), []
    except AxesError:
        if not task.axes:
            raise
        image = read(task.source, series=recipe.series, lazy=True)
        if len(task.axes) == len(image.axes):  # letters that name no axes
            raise
        return image, [Note(f"the axes {task.axes} do not fit its {len(image.axes)} dimensions; read as {image.axes}")]


def _check_files_are_kept(task: Task, files: Fingerprint) -> None:
    """Raise a `FileError` if the result would replace a file that it depends on, or one would lie in the other."""
    for written, (name, *_) in product(task.files, files):
        target, file = Path(path_key(written)), Path(path_key(Path(name)))
        if target.is_relative_to(file) or file.is_relative_to(target):
            raise FileError(
                f"the result '{written}' would replace '{name}', which is read for it; give another name or folder"
            )


def files_of_set(task: Task, image: Image) -> list[Path]:
    """All files that an image is read from, if it is a set of several in one folder; else none."""
    return [task.source.parent / name for name in image.metadata.get("files", ())]


def task_fingerprint(task: Task, recipe: Recipe, *, folder: bool = True) -> Fingerprint:
    """Fingerprint of all files that a result depends on, without reading them.

    Args:
        task: The file.
        recipe: The recipe, which may name more files.
        folder: Include the input if it is a folder.

    Raises:
        FileError: A file does not exist.
    """
    names = [name for name in (recipe.model, recipe.mask, *recipe.params.input_files.values()) if name]
    source = fingerprint(task.source) if folder or not task.source.is_dir() else ()
    return (*source, *(entry for name in names for entry in fingerprint(find_file(name, task.source))))


class InputChanged(FileError):
    """A file has changed since it was opened."""

    @classmethod
    def of(cls, name: object) -> InputChanged:
        """The error for this file."""
        return cls(f"'{name}' was changed while it was being restored; restore it again when it is complete")


def check_unchanged(opened: OpenedTask, *, named_only: bool = False) -> None:
    """Compare the files of a task with their state when it was opened.

    Args:
        opened: The file.
        named_only: Leave out other files of a set, and the content of folders, which may be a hundred thousand files.

    Raises:
        InputChanged: A file has changed.
        FileError: A file no longer exists.
    """
    now = task_fingerprint(opened.task, opened.recipe, folder=not named_only)
    if not named_only:
        known = {name for name, *_ in now}
        now += tuple(each for name, *_ in opened.fingerprint if name not in known for each in fingerprint(Path(name)))
    if changed := sorted(set(now) - set(opened.fingerprint)):
        raise InputChanged.of(changed[0][0])


@dataclass(frozen=True, eq=False)
class WorkItem:
    """Work for one process; it can be done in any process, at any time, and repeated.

    Attributes:
        task: The file.
        recipe: Recipe of the batch.
        threads: Number of threads to compute with; as many as the process may use if `None`.
        batch_size: Number of blocks fitted at once, wherever that is done.
        units: Numbers of the work units; there may be millions.
        digest: Digest of the state of the files when the work was planned.
        token: Token of the lock of the result.
        opened: The opened file, for the process that has planned the work; other processes open it themselves.
    """

    task: Task
    recipe: Recipe
    threads: int | None
    batch_size: int
    units: range
    digest: str
    token: str
    opened: OpenedTask | None = field(default=None, repr=False)


def work_items(opened: OpenedTask, token: str, threads: int | None) -> Iterator[WorkItem]:
    """All work items of a file, whether done or not; they do not depend on the number of workers.

    A network that has yet to be trained on all blocks would be trained once for each item, so these make one item.
    So do the samples of RGB that are looped over: they share chunks of the result.
    """
    plan, digest = opened.plan, opened.digest
    count = len(plan.work_units)
    size, step = 1, count  # number of units of an item, and their distance
    if plan.needs_training:
        size, step = count, 1
    elif "S" in plan.blocks.loop_axes:
        size, step = plan.blocks.sizes["S"], plan.units_per_sample
    for number in range(count // size):
        first = number // step * step * size + number % step
        units = range(first, first + size * step, step)
        yield WorkItem(opened.task, opened.recipe, threads, plan.batch_size, units, digest, token, opened)


def remaining_blocks(opened: OpenedTask, number: int) -> list[BlockIndex]:
    """Blocks of a work unit to be restored: all of it, where blocks start from each other or are fitted at once."""
    plan = opened.plan
    unit = plan.work_units[number]
    written = WorkDir(opened.task.target).records(number, unit)
    missing = [index for index in unit if index not in written]
    inseparable = plan.warm_starts or len(plan.batches(unit)) < len(unit)
    return unit if missing and inseparable else missing


class _GuardedArray:
    """Array of an unfinished result: writes in a background thread, and only as long as this process may write.

    A batch that was killed may leave workers behind, which must not write into the work of the next one.

    Args:
        array: The array.
        work: The work folder that holds it.
        token: Token of the lock that this process works for.
        writer: Runs the write operations; at most one block waits to be written.
    """

    def __init__(self, array: ZarrArray, work: WorkDir, token: str, writer: AsyncWriter) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self._work, self._token, self._writer, self._checked = work, token, writer, 0.0

    def __setitem__(self, index: Any, values: Any) -> None:
        self._writer.wait()
        self._writer.submit(partial(self._write, index, values))

    def _write(self, index: Any, values: Any) -> None:
        self.check(0.0)
        self.array[index] = values
        flush_to_disk(self.array.files(index))  # a block is recorded after it is on disk

    def check(self, seconds: float = _CHECK_SECONDS) -> None:
        """Raise an error if this process may no longer write, unless that was checked in the last seconds."""
        if time.monotonic() - self._checked >= seconds:
            self._checked = time.monotonic()
            _check_allowed(self._work, self._token)


def _check_allowed(work: WorkDir, token: str) -> None:
    if not work.folder.exists() and not work.target.exists():
        raise FileError(f"the work folder '{work.folder}' no longer exists; check that its disk is connected")
    if not work.allows(token):
        raise LockedElsewhere(f"'{work.target}' is now being restored by another process")


def restore_work_item(item: WorkItem, opened: OpenedTask) -> Iterator[Event]:
    """Restore the blocks of a work item that are not written yet; each is recorded after it is written.

    Args:
        item: The work.
        opened: Its file, opened in this process.

    Raises:
        PristineError: It cannot be done; blocks that are written stay.
    """
    work, plan = WorkDir(item.task.target), opened.plan
    _check_allowed(work, item.token)  # before any file is created that would not be removed
    units = LazySequence(item.units, lambda number: remaining_blocks(opened, number))
    notes: list[Note] = []  # since the last other event; those after the last block are summaries of this item
    device, writer_name = describe_device(plan.device), secrets.token_hex(4)
    try:
        with AsyncWriter() as writer:
            array = _GuardedArray(opened.open_array(), work, item.token, writer)
            stored = opened.open_uncertainty()
            widths = None if stored is None else _GuardedArray(stored, work, item.token, writer)
            started = time.monotonic()
            known = plan.statistics.choice = plan.statistics.choice or work.choice
            for event in run_plan(
                plan, into=array, uncertainty_into=widths, units=units, checkpoint_dir=work.checkpoint_dir
            ):
                array.check()
                if known is None and plan.statistics.choice is not None:
                    known = plan.statistics.choice
                    work.keep_choice(known)
                if isinstance(event, BlockDone):
                    now = time.monotonic()
                    record = BlockRecord(event, now - started, device)
                    writer.submit(partial(work.record, plan.unit_of(event.index), writer_name, record))
                    started = now
                if isinstance(event, Note):
                    notes.append(event)
                    continue
                yield from notes
                notes.clear()
                yield event
    except OSError as error:
        raise FileError(
            f"'{item.task.target}' cannot be written: {error.strerror or error}; is the disk full or disconnected? "
            "Finished blocks are kept: --resume continues from there"
        ) from error
