"""Share: some units of one file, restored by one process into the place where the result grows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from napari_pristine.batch.options import BatchOptions, OpenedImage, check_unchanged, growing, open_task
from napari_pristine.batch.output_lock import LockedElsewhere
from napari_pristine.batch.store import BlockRecord, WorkDir
from napari_pristine.batch.tasks import Task
from napari_pristine.device import describe_device
from napari_pristine.errors import FileError
from napari_pristine.events import BlockDone, Event
from napari_pristine.image.axes import BlockIndex
from napari_pristine.io.atomic import flush_to_disk
from napari_pristine.io.fingerprint import Fingerprint
from napari_pristine.jobs.restore import run_plan
from napari_pristine.threads import AsyncWriter

_LOOKS = 1.0
"""Seconds between two looks at whether a share is still wanted."""


@dataclass(frozen=True)
class WorkItem:
    """Work for one process: it can be done anywhere, at any time, and again.

    Attributes:
        task: The file.
        order: What is wanted of it.
        count: How many of its blocks are fitted at once, wherever that is.
        units: Numbers of its units.
        stamp: Of the files that it was planned by.
        turn: Of the claim that it belongs to.
    """

    task: Task
    order: BatchOptions
    count: int
    units: tuple[int, ...]
    fingerprint: Fingerprint
    turn: str


class _Turn:
    """The array that a result grows in, for as long as it is our turn: a batch that was killed may have left workers.

    What is assigned to it is written behind the back of who goes on computing; one block at most waits for that.

    Args:
        array: The array.
        work: Where it lies.
        share: What is done.
        behind: Who writes.
    """

    def __init__(self, array: Any, work: WorkDir, share: WorkItem, behind: AsyncWriter) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self._work, self._turn, self._seen, self._behind = work, share.turn, 0.0, behind

    def __setitem__(self, index: Any, values: Any) -> None:
        self._behind.wait()
        self._behind.submit(partial(self._write, index, values))

    def _write(self, index: Any, values: Any) -> None:
        self.check()
        self.array[index] = values
        flush_to_disk(self.array.files(index))  # what is recorded must be there, even if the power fails

    def look(self) -> None:
        """Check it, if that was not done just now."""
        if time.monotonic() - self._seen > _LOOKS:
            self.check()

    def check(self) -> None:
        """Raise an `Elsewhere` if it is no longer our turn."""
        self._seen = time.monotonic()
        _check_turn(self._work, self._turn)


def _check_turn(work: WorkDir, turn: str) -> None:
    if not work.folder.exists() and not work.target.exists():
        raise FileError(f"the folder '{work.folder}', in which the result grows, is gone; is its disk still there?")
    if not work.has_turn(turn):
        raise LockedElsewhere(f"'{work.target}' is no longer wanted from this process")


def work_items_of(task: Task, order: BatchOptions, opened: OpenedImage, turn: str) -> list[WorkItem]:
    """What remains to be done of a file, in shares that do not depend on how many there are to do them.

    A network that has yet to learn from all blocks would have to do so in each share: these make one. So do the
    samples of an RGB picture that are looped over.
    """
    work = WorkDir(task.target)
    left = [number for number in range(len(opened.units)) if places_left(work, opened, number)]
    together: dict[Any, list[int]] = {}
    for number in left:
        key = () if opened.resolved.needs_training else _picture(opened, number)
        together.setdefault(key, []).append(number)
    return [
        WorkItem(task, order, opened.count, tuple(numbers), opened.fingerprint, turn) for numbers in together.values()
    ]


def _picture(opened: OpenedImage, number: int) -> BlockIndex:
    """Where a unit begins, whichever of the samples of a picture it is of: these share the chunks of the result."""
    blocks, first = opened.resolved.blocks, opened.units[number][0]
    return (blocks.chunk_number(first), *(at for axis, at in blocks.position(first).items() if axis != "S"))


def places_left(work: WorkDir, opened: OpenedImage, number: int) -> list[BlockIndex]:
    """The blocks of a unit that are to be restored: all, where they start from each other or are fitted at once."""
    unit, resolved = opened.units[number], opened.resolved
    written = work.entries(number, unit)
    missing = [place for place in unit if place not in written]
    batch_size = len(resolved.batches(unit)) < len(unit)
    return unit if missing and (resolved.warm_starts or batch_size) else missing


def restore_work_item(share: WorkItem) -> Iterator[Event]:
    """Restore the blocks of a share that are not written yet.

    Raises:
        PristineError: It cannot be done; what was written so far stays.
    """
    task, work = share.task, WorkDir(share.task.target)
    _check_turn(work, share.turn)  # before anything is made that nobody would remove
    check_unchanged(task, share.order.recipe, share.fingerprint, fresh=False)
    opened = open_task(task, share.order.recipe, fresh=False, count=share.count)
    try:
        with AsyncWriter() as behind:
            yield from _restored(share, work, opened, behind)
    except OSError as error:
        raise FileError(
            f"'{task.target}' cannot be written: {error.strerror or error}; is the disk full or gone? "
            "What is done is kept: --resume goes on from there"
        ) from error


def _restored(share: WorkItem, work: WorkDir, opened: OpenedImage, behind: AsyncWriter) -> Iterator[Event]:
    """Restore what is left of a share; a block that is written is recorded, in this order."""
    places = {place: number for number in share.units for place in places_left(work, opened, number)}
    turn = _Turn(growing(share.task, work, opened), work, share, behind)
    device, began, writer = describe_device(opened.resolved.device), time.monotonic(), secrets.token_hex(4)
    for event in run_plan(opened.resolved, into=turn, indices=list(places), checkpoint_dir=work.shelf):
        turn.look()
        if isinstance(event, BlockDone):
            now = time.monotonic()
            behind.submit(partial(work.record, places[event.index], writer, BlockRecord(event, now - began, device)))
            began = now
        yield event
