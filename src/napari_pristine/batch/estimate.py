"""Plan: what each file of a batch is, what its restoration takes, and what cannot be restored and why."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from napari_pristine.batch.executors import limit_threads
from napari_pristine.batch.format_error import format_error
from napari_pristine.batch.memory_estimate import check_memory, memory_estimate
from napari_pristine.batch.options import BatchOptions, OpenedImage, open_task, told
from napari_pristine.batch.store import read_sidecar
from napari_pristine.batch.tasks import Task, check_format
from napari_pristine.errors import FileError
from napari_pristine.events import BlockDone, Job, Progress
from napari_pristine.image.axes import BlockIndex
from napari_pristine.jobs.restore import Restored, run_plan
from napari_pristine.threads import CheckCancelled, run_in_thread

_PROBE = 5.0
"""Seconds that a probe takes, about; a short one says little, since the first steps are slower."""


@dataclass(frozen=True)
class FileEstimate:
    """What is known of a file before it is restored.

    Attributes:
        task: The file, and where its result goes.
        axes, shape, dtype: Of what is restored of it.
        blocks: How many parts are restored one after the other.
        loops: What is fitted together and what is looped over, in words.
        memory: Bytes that a process takes for it, about.
        seconds: How long it takes one process, about; none if it was not measured.
        problem: Why it cannot be restored; empty if it can.
        done: Whether there is a result by this recipe, which `--resume` leaves if the file is the same.
    """

    task: Task
    axes: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    blocks: int = 0
    loops: str = ""
    memory: int = 0
    seconds: float | None = None
    problem: str = ""
    done: bool = False


def estimate_files(tasks: Sequence[Task], order: BatchOptions, *, probe: bool = True) -> Iterator[FileEstimate | None]:
    """One forecast for each file, in order; nothing is written. In between, it gives way: closing it ends it.

    Args:
        tasks: The files.
        order: What is wanted of them.
        probe: Whether to measure how long a block takes, once for all blocks alike.
    """
    measured: dict[Any, float | None] = {}
    limit_threads(order.threads)
    for task in tasks:
        if task.problem:
            yield FileEstimate(task, problem=task.problem)
            continue
        try:
            opened = yield from run_in_thread(partial(_opened, task, order))
            _check_free(task, order)
            check_memory(opened, order.memory)
            check_format(task.target, opened.like)
            if order.resume and _is_done(task, order):
                yield replace(_forecast(task, opened, 0.0), done=True)
                continue
            kind = opened.resolved.blocks.block_shape, str(opened.resolved.image.dtype), len(_middle_rank(opened))
            if probe and measured.get(kind) is None:
                yield from _warm_up(opened, warm=bool(measured))
                measured[kind] = yield from _probe(opened)
        except Exception as error:  # noqa: BLE001 - one file, whatever is wrong with it, must not end the plan
            yield FileEstimate(task, problem=str(format_error(error, task.source)))
            continue
        yield _forecast(task, opened, measured.get(kind))


def _opened(task: Task, order: BatchOptions, check_cancelled: CheckCancelled) -> OpenedImage:
    """A file, opened; it may be a folder with a million files, on a disk far away."""
    check_cancelled()
    return open_task(task, order.recipe)


def _check_free(task: Task, order: BatchOptions) -> None:
    """Raise a `FileError` if there is a result, and nobody said what to do with it."""
    if task.target.exists() and not (order.overwrite or order.resume):
        raise FileError(f"'{task.target}' exists already; --overwrite replaces it, --resume leaves what is done")


def _is_done(task: Task, order: BatchOptions) -> bool:
    """Whether there is a result by this recipe; whether from the same file, only reading all of it would tell."""
    found = read_sidecar(task.target).get("identity") if task.target.exists() else None
    return isinstance(found, dict) and found.get("recipe") == told(order.recipe)


def _forecast(task: Task, opened: OpenedImage, block: float | None) -> FileEstimate:
    resolved = opened.resolved
    return FileEstimate(
        task=task,
        axes=resolved.image.axes,
        shape=resolved.image.shape,
        dtype=resolved.image.dtype.name,
        blocks=len(resolved.indices),
        loops=resolved.blocks.describe(),
        memory=memory_estimate(opened),
        seconds=None if block is None else block * (1 if resolved.needs_training else _blocks(opened)),
    )


def _blocks(opened: OpenedImage) -> float:
    """How many blocks that start anew would take as long."""
    return sum(
        opened.resolved.params.model_dump().get("warm_steps", 1.0) if opened.resolved.starts_warm(index) else 1.0
        for index in opened.resolved.indices
    )


def _warm_up(opened: OpenedImage, *, warm: bool) -> Generator[None, Any, None]:
    """A first step, unless one was done: it takes seconds to load libraries, which no later one does."""
    job = _middle(opened)
    try:
        while not warm:
            event = next(job, None)
            yield
            warm = event is None or (isinstance(event, Progress) and event.fraction > 0)
    finally:
        job.close()


def _probe(opened: OpenedImage) -> Generator[None, Any, float | None]:
    """Seconds that a block in the middle takes; with the time to learn from all blocks, which is far longer.

    Returns:
        None if this block is left as it is; others may not be.

    Raises:
        ImageError: It is the only one, and there is nothing to restore in it.
    """
    blocks = len(_middle_rank(opened))
    job, began, left = _middle(opened), time.monotonic(), False
    try:
        for event in job:
            yield
            seconds = time.monotonic() - began
            if isinstance(event, Progress) and event.fraction > 0 and seconds > _PROBE:
                return seconds / event.fraction / blocks
            left = left or (isinstance(event, BlockDone) and not event.quality)
    finally:
        job.close()
    return None if left else (time.monotonic() - began) / blocks


def _middle(opened: OpenedImage) -> Job[Restored]:
    """Their restoration, to nowhere."""
    return run_plan(opened.resolved, into=opened.like.data, indices=_middle_rank(opened))


def _middle_rank(opened: OpenedImage) -> list[BlockIndex]:
    """The blocks in the middle that are fitted at once, most often a single one."""
    found = opened.resolved.batches(list(chain(*opened.units)))
    return found[len(found) // 2]
