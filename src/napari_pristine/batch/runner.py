"""The batch as a job: open files, distribute their work units, finish results, and report each file."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeAlias

from napari_pristine.batch.estimate import check_memory
from napari_pristine.batch.executors import Executor, Finished, WorkerMessage, run_in_this_process
from napari_pristine.batch.identity import (
    ALGORITHM,
    Identity,
    ResultExists,
    find_existing,
    identify,
    read_identity,
    same_identity,
)
from napari_pristine.batch.results import finish_result
from napari_pristine.batch.spec import BatchOptions, FormatChecker, Task, leave_out
from napari_pristine.batch.store import LockedElsewhere, OutputLock
from napari_pristine.batch.work_item import (
    InputChanged,
    OpenedTask,
    WorkItem,
    check_unchanged,
    files_of_set,
    open_task,
    remaining_blocks,
    work_items,
)
from napari_pristine.errors import FileError, PristineError, format_error
from napari_pristine.events import BatchProgress, Event, ItemDone, ItemEvent, Note, Progress, Status
from napari_pristine.io.fingerprint import FileSets
from napari_pristine.jobs.inputs import InputCache
from napari_pristine.text import short_name
from napari_pristine.threads import CheckCancelled, WorkerThread

BatchJob: TypeAlias = Generator[Event, Any, list[ItemDone]]
"""A running batch: yields its progress, events of each file, and notes; returns the outcome of each file. Closing it
stops the batch: finished results and blocks are kept, and the batch can be resumed."""


@dataclass(eq=False)
class ActiveTask:
    """A file that is being restored: its result is locked, and its work items are sent to the executor one by one.

    Attributes:
        opened: The file.
        lock: Lock of its result.
        identity: Identity of the result.
        done: Number of blocks that are written.
        distributed: True if there are no more work items to distribute.
        unfinished: Number of work items that were distributed and are not finished.
        partial_blocks: Number of blocks of the current work item that are done, with the fraction of the last one.
        error: First error of a work item.
        notes: Texts of notes that were yielded.
        started: Time of the start, in ISO 8601.
    """

    opened: OpenedTask
    lock: OutputLock
    identity: Identity
    done: int = 0
    distributed: bool = False
    unfinished: int = 0
    partial_blocks: float = 0.0
    error: PristineError | None = None
    notes: set[str] = field(default_factory=set)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def fraction(self) -> float:
        """Fraction of its blocks that is done, 0 to 1."""
        return min((self.done + self.partial_blocks) / len(self.opened.plan.indices), 1.0)

    def count_blocks(self, item: WorkItem) -> int:
        """Number of blocks of a work item."""
        return self.opened.plan.count_blocks(item.units)


class Batch:
    """Files that are restored by one recipe; a file that fails does not stop the others.

    Args:
        tasks: The files, and where their results go.
        options: Recipe and options of the batch.
        executor: Does the work.
        opened: Files that are open already; removed when they are restored.
        cache: Files beside the images that were opened before.
        on_error: Called with each file that fails, and its error.

    Attributes:
        rows: Outcome of each finished file.
        locked_elsewhere: Files that other batches are restoring.
        since: Start of the batch.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        options: BatchOptions,
        executor: Executor = run_in_this_process,
        opened: dict[Task, OpenedTask] | None = None,
        cache: InputCache | None = None,
        on_error: Callable[[Task, PristineError], None] = lambda task, error: None,
    ) -> None:
        self.tasks, self.options, self.executor = tasks, options, executor
        self.rows: list[ItemDone] = []
        self.locked_elsewhere: list[Task] = []
        self.since = datetime.now(UTC)
        self._start_time = time.monotonic()
        self._opened = {} if opened is None else opened
        self._cache = cache or InputCache()
        self._on_error = on_error
        self._sets, self._formats = FileSets(), FormatChecker()
        self._thread = WorkerThread()
        self._current: Task | None = None
        self._phase: Literal["reading", "restoring", "writing"] = "restoring"
        self._active: dict[Task, ActiveTask] = {}
        self._notes = deque[Event]()

    def job(self) -> BatchJob:
        """Restore all files."""
        reported = 0
        items = self._work_items()
        messages = self.executor(items)
        try:
            for message in messages:
                if isinstance(message, WorkerMessage):
                    task, event = message.item.task, message.event
                    active = self._active[task]
                    if isinstance(event, Finished):
                        for _ in self._end_item(active, message.item, event.error):
                            yield self._progress()
                    elif not isinstance(event, Note) or event.text not in active.notes:
                        if isinstance(event, Note):
                            active.notes.add(event.text)
                        elif isinstance(event, Progress):
                            active.partial_blocks = event.fraction * active.count_blocks(message.item)
                        yield ItemEvent(task.source, event)
                elif message is not None:
                    yield message
                while self._notes:
                    yield self._notes.popleft()
                yield from self.rows[reported:]
                reported = len(self.rows)
                yield self._progress()
            yield from self.rows[reported:]
        finally:
            messages.close()
            items.close()
            for active in self._active.values():
                active.lock.discard_unless_useful()
                active.lock.release()
            self._thread.close()
        return self.rows

    def _work_items(self) -> Generator[WorkItem | None, None, None]:
        """Yield all work items, file by file; `None` if only the progress has changed."""
        for last in (False, True):
            tasks, self.locked_elsewhere = self.locked_elsewhere if last else self.tasks, []
            for task in tasks:  # in the end those that were locked: they are done by now, or their processes have died
                self._current, self._phase = task, "reading"
                try:
                    active = yield from self._start(task)
                except LockedElsewhere as error:
                    active = None
                    self.locked_elsewhere.append(task)
                    if last:
                        self._end(task, "skipped", str(error))
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one file must not end the batch
                    active = None
                    self._fail(task, error)
                self._phase = "restoring"
                if active:
                    yield from self._distribute(active)
                yield None

    def _distribute(self, active: ActiveTask) -> Generator[WorkItem | None, None, None]:
        """Yield the work items of a file that are not done yet, until one of them has failed."""
        for item in work_items(active.opened, active.lock.token, self.options.threads):
            if active.error:
                break
            try:
                remaining = yield from _has_remaining(item, active.opened)
            except OSError as error:  # the disk of the result is disconnected
                active.error = format_error(error, active.opened.task.target)
                break
            if remaining:
                active.unfinished += 1
                yield item
            else:
                active.done += active.count_blocks(item)
        active.distributed = True
        if not active.unfinished:
            yield from self._finish(active)

    def _start(self, task: Task) -> Generator[None, Any, ActiveTask | None]:
        """Open a file and the work folder of its result; returns `None` if there is nothing to do."""
        task = leave_out(task, self._sets)
        if task.problem:
            self._end(task, "skipped", task.problem)
            return None
        recipe = self.options.recipe
        opened = self._opened.pop(task, None)
        if opened is None:
            opened = yield from self._thread.run(lambda check_cancelled: open_task(task, recipe, self._cache))
        self._sets.add(task.source, opened.plan.image)
        lock = OutputLock(task.target)
        active = None
        try:
            prepared = yield from self._thread.run(partial(self._prepare, opened, lock))
            if isinstance(prepared, ActiveTask):
                self._active[task] = active = prepared
            else:
                self._end(task, "skipped", *prepared)
            return active
        finally:
            if active is None:
                lock.discard_unless_useful()
                lock.release()

    def _prepare(
        self, opened: OpenedTask, lock: OutputLock, check_cancelled: CheckCancelled
    ) -> ActiveTask | tuple[str, dict[str, Any]]:
        """Look for an existing result; if there is none, start its work folder or resume from it."""
        task, work = opened.task, lock.work
        check_unchanged(opened)
        sources = files_of_set(task, opened.plan.image) or [task.source]
        identity = identify(sources, opened.plan, check_cancelled)
        if existing := find_existing(task, self.options, identity, self.since):
            return existing
        opened.plan.statistics.find_varied()  # raises an error where nothing is to be restored
        check_memory(opened.plan, self.options.memory)
        self._formats.check(task.target, opened.result_like)
        if task.uncertainty is not None:
            self._formats.check(task.uncertainty, opened.uncertainty_like)
        state = work.state
        started = same_identity(read_identity(state.get("identity"), task.source), identity)
        if started and state.get("algorithm") == ALGORITHM:
            opened = opened.with_batch_size(int(state["count"]))  # that of the device on which the work was started
        else:
            if started:
                text = "was begun by another version, which gives other pixels; it is restored from its start"
                self._notes.append(Note(f"'{task.target}' {text}", warning=True))
            work.start({"identity": identity, "count": opened.plan.batch_size, "algorithm": ALGORITHM})
        work.allow(lock.token)
        opened.open_array()
        opened.open_uncertainty()
        work.flush()
        return ActiveTask(opened, lock, identity)

    def _end_item(self, active: ActiveTask, item: WorkItem, error: PristineError | None) -> Generator[None, Any, None]:
        """Count a finished work item; after the last one the result is finished."""
        active.unfinished -= 1
        active.partial_blocks = 0.0
        active.done += active.count_blocks(item)
        active.error = active.error or error
        if active.distributed and not active.unfinished:
            yield from self._finish(active)

    def _finish(self, active: ActiveTask) -> Generator[None, Any, None]:
        """Write the result of a file whose work items are all finished, or keep its finished blocks if it failed."""
        opened, task, self._phase = active.opened, active.opened.task, "writing"

        def finish(check_cancelled: CheckCancelled) -> tuple[dict[str, Any], list[Note]]:
            if active.error:
                raise active.error
            check_unchanged(opened)
            return finish_result(opened, active.identity, active.started, check_cancelled)

        try:
            facts, notes = yield from self._thread.run(finish)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(task, error, active)
        else:
            self._notes += [ItemEvent(task.source, note) for note in notes if note.text not in active.notes]
            self._end(task, "restored", "", facts)
        finally:
            self._phase = "restoring"
            del self._active[task]
            active.lock.release()

    def _fail(self, task: Task, error: Exception, active: ActiveTask | None = None) -> None:
        """Report a file that was not restored; blocks that are written are kept, unless an input has changed."""
        translated = format_error(error, task.source)
        text = str(translated)
        if active:
            text = active.lock.work.name_target(text)
            try:
                check_unchanged(active.opened)
            except InputChanged:  # some blocks may be those of another image
                with suppress(OSError):  # the rest is removed when the file is restored again
                    active.lock.work.clear()
            except FileError:  # the disk of the input is disconnected, perhaps for a moment
                pass
            active.lock.discard_unless_useful()
        self._on_error(task, translated)  # it is not kept: its traceback holds the block that was being restored
        if isinstance(error, ResultExists):
            self._end(task, "exists", text)
        else:
            self._end(task, "failed", text)

    def _end(self, task: Task, status: Status, text: str, facts: dict[str, Any] | None = None) -> None:
        self.rows.append(ItemDone(task.source, task.target, status, text, facts or {}))

    def _progress(self) -> BatchProgress:
        """Progress of the batch and of the files that are being restored."""
        active = tuple((task.source, state.fraction) for task, state in self._active.items())
        done, total = len(self.rows), len(self.tasks)
        fraction = min((done + math.fsum(part for _, part in active)) / max(total, 1), 1.0)
        name = short_name(self._current.source) if self._current else ""
        return BatchProgress(done, total, name, fraction, time.monotonic() - self._start_time, active, self._phase)


def _has_remaining(item: WorkItem, opened: OpenedTask) -> Generator[None, None, bool]:
    """Tell whether a block of a work item is not written yet; yields often, as there may be many units."""
    for number in item.units:
        if remaining_blocks(opened, number):
            return True
        yield None
    return False
