"""A file at work: claimed, its shares handed out, until the last of them is over."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from napari_pristine.batch.existing_results import existing_result
from napari_pristine.batch.memory_estimate import check_memory
from napari_pristine.batch.options import (
    BatchOptions,
    Changed,
    OpenedImage,
    check_unchanged,
    growing,
    identity,
    open_task,
)
from napari_pristine.batch.output_lock import OutputLock
from napari_pristine.batch.result import finish
from napari_pristine.batch.tasks import Task, check_format
from napari_pristine.batch.work_item import WorkItem, work_items_of
from napari_pristine.errors import FileError, PristineError
from napari_pristine.events import Event, Progress
from napari_pristine.threads import CheckCancelled


@dataclass(frozen=True)
class ExistingResult:
    """A file of which the result is there already.

    Attributes:
        text: How that came about.
        facts: Its sidecar.
    """

    text: str
    facts: dict[str, Any]


@dataclass(eq=False)
class ActiveTask:
    """A file of which shares are handed out.

    Attributes:
        blocks, done, within: Blocks of the file, those of them that are written, and those of which a part is.
        over: Number of its shares that are over.
        error: What ended one of them, the first if several were.
    """

    task: Task
    order: BatchOptions
    claim: OutputLock
    opened: OpenedImage
    identity: dict[str, Any]
    shares: list[WorkItem]
    over: int = 0
    done: int = 0
    within: float = 0.0
    error: PristineError | None = None
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        self.blocks = sum(map(len, self.opened.units))
        self.done = self.blocks - sum(map(self._blocks, self.shares))

    @property
    def fraction(self) -> float:
        """Share of its blocks that is done."""
        return min((self.done + self.within) / max(self.blocks, 1), 1.0)

    def follow(self, share: WorkItem, event: Event) -> None:
        """Keep up with a share."""
        if isinstance(event, Progress):
            self.within = event.fraction * self._blocks(share)

    def end(self, share: WorkItem, error: PristineError | None) -> bool:
        """A share is over.

        Returns:
            Whether it was the last.
        """
        self.over += 1
        self.within = 0.0
        self.done += self._blocks(share)
        self.error = self.error or error
        return self.over >= len(self.shares)

    def finish(self, check_cancelled: CheckCancelled) -> dict[str, Any]:
        """Give the result its name, with a `beat` now and then; returns its sidecar.

        Raises:
            PristineError: A share failed, the input was changed meanwhile, or the result cannot be written.
        """
        if self.error:
            raise self.error
        check_unchanged(self.task, self.order.recipe, self.opened.fingerprint)
        return finish(self.task, self.opened, self.identity, self.started, check_cancelled)

    def give_up(self) -> None:
        """Keep what there is of the result if going on with it would save time."""
        try:
            check_unchanged(self.task, self.order.recipe, self.opened.fingerprint)
        except Changed:  # some of what was written may belong to another file
            with suppress(OSError):  # what cannot be removed now is when the file is next taken up
                self.claim.work.clear()
        except FileError:  # its disk is gone, and may come back
            pass
        clear_unless_begun(self.claim)

    def _blocks(self, share: WorkItem) -> int:
        return sum(len(self.opened.units[number]) for number in share.units)


def take_up(
    task: Task,
    order: BatchOptions,
    opened: OpenedImage,
    claim: OutputLock,
    since: datetime,
    check_cancelled: CheckCancelled,
) -> ActiveTask | ExistingResult:
    """Make the place where a result grows, or go on with the one that is there.

    Args:
        task: The file.
        order: What is wanted of it.
        opened: The file, opened.
        claim: On its result.
        since: When the batch began.
        check_cancelled: Called now and then, since the input is read to know it again; what it raises ends this.

    Raises:
        PristineError: It cannot be restored like this, or not be written there.
    """
    mine, work = identity(task, order, opened, check_cancelled), claim.work
    if found := existing_result(task, order, mine, since):
        return ExistingResult(*found)
    check_memory(opened, order.memory)
    check_format(task.target, opened.like)
    state = work.state()
    if state.get("identity") == mine:  # in the units that it was begun in, maybe for another kind of device
        opened = open_task(task, order.recipe, count=state["count"])
    else:
        work.begin({"identity": mine, "count": opened.count})
    work.give_turn(claim.turn)
    growing(task, work, opened)
    work.flush()
    return ActiveTask(task, order, claim, opened, mine, work_items_of(task, order, opened, claim.turn))


def clear_unless_begun(claim: OutputLock) -> None:
    """Throw away what there is of a result of which no block is written."""
    with suppress(OSError):
        if not claim.work.has_blocks:
            claim.work.clear()
