"""The batch as a job: opens files, hands out their blocks, names finished results, and says what became of each."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeAlias

from napari_pristine.batch.active_task import ActiveTask, ExistingResult, clear_unless_begun, take_up
from napari_pristine.batch.executors import Executor, Finished, WorkerMessage, here
from napari_pristine.batch.file_result import Status
from napari_pristine.batch.format_error import format_error
from napari_pristine.batch.options import BatchOptions, open_task
from napari_pristine.batch.output_lock import LockedElsewhere, OutputLock
from napari_pristine.batch.tasks import Task
from napari_pristine.batch.work_item import WorkItem
from napari_pristine.batch.worker_monitor import Notice
from napari_pristine.errors import PristineError
from napari_pristine.events import BatchProgress, Event, ItemDone
from napari_pristine.threads import run_in_thread

Batching: TypeAlias = Generator["BatchProgress | ItemDone | Notice | Event", None, list[ItemDone]]
"""A batch under way: yields how far it is and what became of each file, returns the latter. Closing it stops it;
what is finished stays, and what is not can be resumed."""


class Batch:
    """Files that are restored alike; one that fails does not stop the rest.

    Args:
        tasks: Which files, and where their results go.
        order: What is wanted.
        pool: Where it is done.

    Attributes:
        rows: What became of the files that are over.
        since: When it began.
    """

    def __init__(self, tasks: Sequence[Task], order: BatchOptions, pool: Executor = here) -> None:
        self.tasks, self.order, self.pool = tasks, order, pool
        self.rows: list[ItemDone] = []
        self.since = datetime.now(UTC)
        self._began = time.monotonic()
        self._now: Task | None = None
        self._doing: Literal["reading", "restoring", "writing"] = "restoring"
        self._at_work: dict[Task, ActiveTask] = {}
        self._elsewhere: list[Task] = []

    def job(self) -> Batching:
        """All files."""
        told = 0
        shares = self._shares()
        answers = self.pool(shares)
        try:
            for answer in answers:
                if isinstance(answer, WorkerMessage):
                    yield from self._heard(answer)
                elif answer:
                    yield answer
                yield from self.rows[told:]
                told = len(self.rows)
                yield self._stand()
            yield from self.rows[told:]
        finally:
            if isinstance(answers, Generator):
                answers.close()
            shares.close()
            for at_work in self._at_work.values():
                at_work.claim.release()
        return self.rows

    def _heard(self, answer: WorkerMessage) -> Iterator[BatchProgress | Event]:
        """Keep up with a share; what is to be passed on of what it says."""
        said = answer.said
        if isinstance(said, Finished):
            for _ in self._over(answer.share, said.error):
                yield self._stand()
        else:
            self._at_work[answer.share.task].follow(answer.share, said)
            yield said

    def _shares(self) -> Generator[WorkItem | None, None, None]:
        """All that is to be done, file by file as it is asked for; none where there is something to tell."""
        for task in self.tasks:
            yield from self._file(task, self._elsewhere)
        for task in self._elsewhere:  # by now they are done, or those who were at work on them have died
            yield from self._file(task, None)

    def _file(self, task: Task, later: list[Task] | None) -> Iterator[WorkItem | None]:
        self._now = task
        shares = yield from self._begin(task, later)
        for share in shares:
            if self._at_work[task].error is None:
                yield share
            else:  # another share has failed
                yield from self._over(share, None)
        if not shares:
            yield None

    def _begin(self, task: Task, later: list[Task] | None) -> Generator[None, Any, list[WorkItem]]:
        """Open a file and make the place where its result grows; what remains to be done, if anything.

        Args:
            task: The file.
            later: Where to put it if another batch is at work on it; if there is none, it is left to that.
        """
        self._doing = "reading"
        try:
            if task.problem:
                self._add(task, "skipped", task.problem)
                return []
            found = yield from self._taken_up(task)
        except LockedElsewhere as error:
            if later is None:
                self._add(task, "skipped", str(error))
            else:
                later.append(task)
        except Exception as error:  # noqa: BLE001 - one file, whatever is wrong with it, must not end the batch
            self._add(task, "failed", str(format_error(error, task.source)))
        else:
            if isinstance(found, ActiveTask):
                return found.shares
            self._add(task, "skipped", found.text, found.facts)
        finally:
            self._doing = "restoring"
        return []

    def _taken_up(self, task: Task) -> Generator[None, Any, ActiveTask | ExistingResult]:
        opened = yield from run_in_thread(lambda check_cancelled: open_task(task, self.order.recipe))
        claim = OutputLock(task.target)
        try:
            found = yield from run_in_thread(partial(take_up, task, self.order, opened, claim, self.since))
        except BaseException:
            clear_unless_begun(claim)
            claim.release()
            raise
        if isinstance(found, ExistingResult):
            claim.release()
            return found
        self._at_work[task] = found
        if not found.shares:  # all its blocks are written
            yield from self._conclude(found)
        return found

    def _over(self, share: WorkItem, error: PristineError | None) -> Generator[None, Any, None]:
        """A share is over; maybe it was the last of its file."""
        at_work = self._at_work[share.task]
        if at_work.end(share, error):
            yield from self._conclude(at_work)

    def _conclude(self, at_work: ActiveTask) -> Generator[None, Any, None]:
        """All shares of a file are over."""
        task, self._doing = at_work.task, "writing"
        try:
            facts = yield from run_in_thread(at_work.finish)
        except Exception as error:  # noqa: BLE001 - as above
            at_work.give_up()
            self._add(task, "failed", at_work.claim.work.told(str(format_error(error, task.target))))
        else:
            self._add(task, "restored", "", facts)
        finally:
            self._doing = "restoring"
            del self._at_work[task]
            at_work.claim.release()

    def _add(self, task: Task, status: Status, text: str, facts: dict[str, Any] | None = None) -> None:
        """Remember what became of a file."""
        self.rows.append(ItemDone(task.source, task.target, status, text, facts or {}))

    def _stand(self) -> BatchProgress:
        """How far the batch is."""
        at_work = tuple((task.source, found.fraction) for task, found in self._at_work.items())
        done, of_files = len(self.rows), len(self.tasks)
        name = self._now.source.name if self._now else ""
        fraction = min((done + math.fsum(part for _, part in at_work)) / max(of_files, 1), 1.0)
        return BatchProgress(done, of_files, name, fraction, time.monotonic() - self._began, at_work, self._doing)
