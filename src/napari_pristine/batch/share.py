"""Share: some runs of blocks of one file, restored by one process into the place where the result grows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from napari_pristine.batch.claim import Elsewhere
from napari_pristine.batch.identity import Stamp
from napari_pristine.batch.order import Opened, Order, check_unchanged, growing, open_task
from napari_pristine.batch.tasks import Task
from napari_pristine.batch.work import Entry, Work
from napari_pristine.device import describe_device
from napari_pristine.errors import FileError
from napari_pristine.events import Done, Event
from napari_pristine.image.axes import Place
from napari_pristine.restoration import run_resolved

_LOOKS = 1.0
"""Seconds between two looks at whether a share is still wanted."""


@dataclass(frozen=True)
class Share:
    """Work for one process: it can be done anywhere, at any time, and again.

    Attributes:
        task: The file.
        order: What is wanted of it.
        runs: Numbers of the runs of its blocks.
        stamp: Of the files that it was planned by.
        turn: Of the claim that it belongs to.
    """

    task: Task
    order: Order
    runs: tuple[int, ...]
    stamp: Stamp
    turn: str


class _Turn:
    """The array that a result grows in, for as long as it is our turn: a batch that was killed may have left workers.

    Args:
        array: The array.
        work: Where it lies.
        share: What is done.
    """

    def __init__(self, array: Any, work: Work, share: Share) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self._work, self._turn, self._seen = work, share.turn, 0.0

    def __setitem__(self, index: Any, values: Any) -> None:
        self.check()
        self.array[index] = values

    def look(self) -> None:
        """Check it, if that was not done just now."""
        if time.monotonic() - self._seen > _LOOKS:
            self.check()

    def check(self) -> None:
        """Raise an `Elsewhere` if it is no longer our turn."""
        self._seen = time.monotonic()
        _check_turn(self._work, self._turn)


def _check_turn(work: Work, turn: str) -> None:
    if not work.has_turn(turn):
        raise Elsewhere(f"'{work.target}' is no longer wanted from this process")


def shares_of(task: Task, order: Order, opened: Opened, turn: str) -> list[Share]:
    """What remains to be done of a file, in shares that do not depend on how many there are to do them.

    A network that has yet to learn from all blocks would have to do so in each share: these make one.
    """
    work = Work(task.target)
    left = [number for number in range(len(opened.runs)) if places_left(work, opened, number)]
    together: dict[Any, list[int]] = {}
    for number in left:
        key = () if opened.resolved.learns else _picture(opened, number)
        together.setdefault(key, []).append(number)
    return [Share(task, order, tuple(runs), opened.stamp, turn) for runs in together.values()]


def _picture(opened: Opened, number: int) -> Place:
    """Where a run begins, whichever of the samples of an RGB picture it is of: these share the chunks of the result."""
    looped = opened.resolved.cut.looped
    return tuple(at for axis, at in zip(looped, opened.runs[number][0], strict=True) if axis != "S")


def places_left(work: Work, opened: Opened, number: int) -> list[Place]:
    """The blocks of a run that are to be restored: all, where each starts from the one before."""
    run = opened.runs[number]
    written = work.entries(number, run)
    missing = [place for place in run if place not in written]
    chained = opened.resolved.params.warm_start and not opened.resolved.method.learn
    return run if missing and chained else missing


def restore_share(share: Share) -> Iterator[Event]:
    """Restore the blocks of a share that are not written yet.

    Raises:
        PristineError: It cannot be done; what was written so far stays.
    """
    task, work = share.task, Work(share.task.target)
    _check_turn(work, share.turn)  # before anything is made that nobody would remove
    check_unchanged(task, share.order.recipe, share.stamp, fresh=False)
    opened = open_task(task, share.order.recipe, fresh=False)
    places = {place: number for number in share.runs for place in places_left(work, opened, number)}
    turn = _Turn(growing(task, work, opened), work, share)
    device, began, writer = describe_device(opened.resolved.device), time.monotonic(), secrets.token_hex(4)
    try:
        for event in run_resolved(opened.resolved, into=turn, places=list(places), shelf=work.shelf):
            turn.look()
            if isinstance(event, Done):
                now = time.monotonic()
                work.record(places[event.place], writer, Entry(event, now - began, device))
                began = now
            yield event
    except OSError as error:
        raise FileError(
            f"'{task.target}' cannot be written: {error.strerror or error}; is the disk full or gone? "
            "What is done is kept: --resume goes on from there"
        ) from error


def written(work: Work, opened: Opened) -> list[Entry]:
    """All blocks of a file, as they are written, in the order of the plan.

    Raises:
        FileError: Some are missing.
    """
    found = [entry for number, run in enumerate(opened.runs) for entry in work.entries(number, run).values()]
    if missing := sum(map(len, opened.runs)) - len(found):
        raise FileError(f"{missing} blocks of '{work.target}' were not written; --resume goes on from there")
    return found
