"""Estimate of a batch: type, memory and time of each file, or the reason why it cannot be restored."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from napari_pristine.batch.executors import set_threads
from napari_pristine.batch.identity import ResultExists, read_identity, recipe_identity, same_recipe
from napari_pristine.batch.spec import BatchOptions, FormatChecker, Task, leave_out
from napari_pristine.batch.store import read_sidecar
from napari_pristine.batch.work_item import DummyArray, open_task
from napari_pristine.errors import OutOfMemory, format_error
from napari_pristine.events import BlockDone, Progress
from napari_pristine.image.axes import BlockIndex
from napari_pristine.io.fingerprint import FileSets
from napari_pristine.jobs.inputs import InputCache
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import run_plan
from napari_pristine.resources import free_memory, thread_count
from napari_pristine.threads import CheckCancelled, WorkerThread

_PROBE_SECONDS = 5.0
"""Seconds for which a block is restored to measure the speed; the first steps are slower, so a short probe misleads."""

_READ_SECONDS = 0.1
"""Seconds for which small files are read before they are reported together: waiting for the thread takes time."""


@dataclass(frozen=True)
class FileEstimate:
    """Facts about a file before it is restored.

    Attributes:
        task: The file, and where its result goes.
        axes, shape, dtype: Axes, shape and type of what is restored.
        blocks: Number of its blocks.
        loops: Axes that are restored jointly and axes that are looped over, as text.
        memory: Approximate memory of a process that restores it, in bytes.
        seconds: Approximate time of one process, in seconds; `None` if that was not measured.
        problem: Reason that it cannot be restored; empty if it can.
        note: Sentence for the user on what could not be found out; empty in most cases.
        done: True if there is a result by this recipe, which is kept if the input has not changed.
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
    note: str = ""
    done: bool = False


def estimate_files(
    tasks: Sequence[Task], options: BatchOptions, *, probe: bool = True
) -> Generator[FileEstimate | None, None, None]:
    """Estimate each file, in order; nothing is written. Yields `None` often, so that it can be closed at any time.

    Args:
        tasks: The files.
        options: Recipe and options of the batch.
        probe: Measure the time that a block takes, once for all blocks of the same shape.
    """
    measured: dict[Any, float | None] = {}
    reader, thread = _Reader(options), WorkerThread()
    set_threads(options.threads or thread_count())
    done = 0
    try:
        while done < len(tasks):
            some = yield from thread.run(partial(reader.read_some, tasks, done))
            for estimate, plan, index in some:
                try:
                    if plan is not None and index is not None:
                        kind = plan.blocks.block_shape, plan.image.dtype, min(plan.batch_size, len(plan.indices))
                        if probe and measured.get(kind) is None:
                            varied = list(filter(plan.statistics.is_varied, plan.batch_of(index)))
                            measured[kind] = yield from _measure_batch(plan, varied, first=not measured)
                        estimate = replace(estimate, seconds=_extrapolate(plan, measured.get(kind)))
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one file must not end the plan
                    estimate = FileEstimate(estimate.task, problem=str(format_error(error, estimate.task.source)))
                yield estimate
            done += len(some)
    finally:
        thread.close()


_Read: TypeAlias = tuple[FileEstimate, RestorationPlan | None, BlockIndex | None]
"""Estimate of a file without its time; if it can be restored, also its plan and a block to measure the time with."""


class _Reader:
    """Collects the facts about files that are known without restoring any part of them.

    Args:
        options: Recipe and options of the batch.
    """

    def __init__(self, options: BatchOptions) -> None:
        self._options, self._cache, self._formats, self._sets = options, InputCache(), FormatChecker(), FileSets()
        self._free = free_memory()

    def read_some(self, tasks: Sequence[Task], first: int, check_cancelled: CheckCancelled) -> list[_Read]:
        """Read as many files as can be read in `_READ_SECONDS`, at least one."""
        started, found = time.monotonic(), list[_Read]()
        while first + len(found) < len(tasks) and (not found or time.monotonic() - started < _READ_SECONDS):
            check_cancelled()
            task = tasks[first + len(found)]
            try:
                found.append(self._read(task))
            except Exception as error:  # noqa: BLE001 - as above
                found.append((FileEstimate(task, problem=str(format_error(error, task.source))), None, None))
        return found

    def _read(self, task: Task) -> _Read:
        task = leave_out(task, self._sets)
        if task.problem:
            return FileEstimate(task, problem=task.problem), None, None
        options, target = self._options, task.target
        opened = open_task(task, options.recipe, self._cache)
        self._sets.add(task.source, opened.plan.image)
        plan = opened.plan
        if task.result_store:
            task.result_store.check()
        # whether the input has changed is not checked: that would take reading all of it
        wanted = {**recipe_identity(plan.recipe), "axes": plan.image.axes}
        existing = read_identity(read_sidecar(target).get("identity"), task.source) if target.exists() else {}
        done = bool(existing) and same_recipe(existing, wanted) and existing["axes"] == plan.image.axes
        if target.exists() and not (options.overwrite or done):
            raise ResultExists(target, existing, wanted)
        check_memory(plan, options.memory, self._free)
        self._formats.check(target, opened.result_like)
        estimate = FileEstimate(
            task, plan.image.axes, plan.image.shape, plan.image.dtype.name, len(plan.indices),
            plan.blocks.describe(), plan.memory,
        )  # fmt: skip
        if done and options.keeps_equal:
            return replace(estimate, seconds=0.0, done=True), None, None
        index, note = plan.statistics.find_varied()
        return replace(estimate, note=note), plan, index


def _extrapolate(plan: RestorationPlan, seconds: float | None) -> float | None:
    """Estimate the seconds of a file from those of a block that starts from random weights."""
    if seconds is None:
        return None
    if plan.needs_training:  # which takes longer than to restore the other blocks
        return seconds * plan.blocks.channel_count
    warm = getattr(plan.params, "warm_steps", 1.0)  # not a setting of all methods
    return seconds * (plan.cold_starts + warm * (len(plan.indices) - plan.cold_starts))


def check_memory(plan: RestorationPlan, allowed: int | None, free: int | None = None) -> None:
    """Raise an `OutOfMemory` if a block needs more memory than is allowed or free; `free` is measured if not given."""
    limit = allowed if allowed is not None else free_memory() if free is None else free
    if plan.memory > limit:
        available = "are free" if allowed is None else "may be used by a process (--memory)"
        block = " × ".join(map(str, plan.blocks.block_shape))
        raise OutOfMemory(
            f"'{plan.image.name}' takes about {plan.memory / 1e9:.3g} GB, {limit / 1e9:.3g} GB {available}; restore "
            f"less at once: one block is {block} values (tile, together, select)"
        )


def _measure_batch(
    plan: RestorationPlan, blocks: list[BlockIndex], *, first: bool
) -> Generator[None, Any, float | None]:
    """Measure the seconds per block, including those of training if a network is trained on all blocks.

    Args:
        plan: The file.
        blocks: The blocks to restore, which are fitted at once.
        first: True if nothing was computed before: loading libraries takes seconds, in the first step only.

    Returns:
        `None` if the block is left unchanged; others may not be.

    Raises:
        ImageError: It is the only block, and there is nothing to restore in it.
    """
    nowhere = DummyArray(plan.output_blocks.shape, plan.image.dtype)
    for warm_up in (True, False) if first else (False,):
        job, started, unchanged = run_plan(plan, into=nowhere, units=[blocks]), time.monotonic(), False
        try:
            for event in job:
                yield
                seconds = time.monotonic() - started
                if isinstance(event, Progress) and event.fraction > 0:
                    if warm_up:
                        break
                    if seconds > _PROBE_SECONDS:
                        return seconds / event.fraction / len(blocks)
                unchanged = unchanged or (isinstance(event, BlockDone) and not event.quality)
        finally:
            job.close()
    return None if unchanged else (time.monotonic() - started) / len(blocks)
