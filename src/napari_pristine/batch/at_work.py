"""A file at work: claimed, its shares handed out, until the last of them is over."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from napari_pristine.batch.claim import Claim
from napari_pristine.batch.demand import check_memory
from napari_pristine.batch.order import Changed, Opened, Order, check_unchanged, growing, identity, open_task
from napari_pristine.batch.result import finish
from napari_pristine.batch.share import Share, shares_of
from napari_pristine.batch.standing import done_before
from napari_pristine.batch.tasks import Task, check_format
from napari_pristine.errors import FileError, PristineError
from napari_pristine.events import Event, Progress
from napari_pristine.files.bands import Beat


@dataclass(frozen=True)
class Settled:
    """A file of which the result is there already.

    Attributes:
        text: How that came about.
        facts: Its sidecar.
    """

    text: str
    facts: dict[str, Any]


@dataclass(eq=False)
class AtWork:
    """A file of which shares are handed out.

    Attributes:
        blocks, done, within: Blocks of the file, those of them that are written, and those of which a part is.
        over: Number of its shares that are over.
        error: What ended one of them, the first if several were.
    """

    task: Task
    order: Order
    claim: Claim
    opened: Opened
    identity: dict[str, Any]
    shares: list[Share]
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

    def follow(self, share: Share, event: Event) -> None:
        """Keep up with a share."""
        if isinstance(event, Progress):
            self.within = event.fraction * self._blocks(share)

    def end(self, share: Share, error: PristineError | None) -> bool:
        """A share is over.

        Returns:
            Whether it was the last.
        """
        self.over += 1
        self.within = 0.0
        self.done += self._blocks(share)
        self.error = self.error or error
        return self.over >= len(self.shares)

    def finish(self, beat: Beat) -> dict[str, Any]:
        """Give the result its name, with a `beat` now and then; returns its sidecar.

        Raises:
            PristineError: A share failed, the input was changed meanwhile, or the result cannot be written.
        """
        if self.error:
            raise self.error
        check_unchanged(self.task, self.order.recipe, self.opened.stamp)
        return finish(self.task, self.opened, self.identity, self.started, beat)

    def give_up(self) -> None:
        """Keep what there is of the result if going on with it would save time."""
        try:
            check_unchanged(self.task, self.order.recipe, self.opened.stamp)
        except Changed:  # some of what was written may belong to another file
            with suppress(OSError):  # what cannot be removed now is when the file is next taken up
                self.claim.work.clear()
        except FileError:  # its disk is gone, and may come back
            pass
        clear_unless_begun(self.claim)

    def _blocks(self, share: Share) -> int:
        return sum(len(self.opened.units[number]) for number in share.units)


def take_up(task: Task, order: Order, opened: Opened, claim: Claim, since: datetime, beat: Beat) -> AtWork | Settled:
    """Make the place where a result grows, or go on with the one that is there.

    Args:
        task: The file.
        order: What is wanted of it.
        opened: The file, opened.
        claim: On its result.
        since: When the batch began.
        beat: Called now and then, since the input is read to know it again; what it raises ends this.

    Raises:
        PristineError: It cannot be restored like this, or not be written there.
    """
    mine, work = identity(task, order, opened, beat), claim.work
    if found := done_before(task, order, mine, since):
        return Settled(*found)
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
    return AtWork(task, order, claim, opened, mine, shares_of(task, order, opened, claim.turn))


def clear_unless_begun(claim: Claim) -> None:
    """Throw away what there is of a result of which no block is written."""
    with suppress(OSError):
        if not claim.work.has_blocks:
            claim.work.clear()
