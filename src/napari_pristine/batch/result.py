"""Result: from the blocks of a file, all written, to its final format under its final name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_pristine.batch.options import OpenedImage, growing
from napari_pristine.batch.store import BlockRecord, WorkDir
from napari_pristine.batch.tasks import Task
from napari_pristine.device import versions
from napari_pristine.errors import FileError, ImageError
from napari_pristine.io import zarr
from napari_pristine.io.atomic import files_in, flush_to_disk, size_on_disk
from napari_pristine.io.registry import write
from napari_pristine.jobs.summary import QualitySummary
from napari_pristine.text import printable
from napari_pristine.threads import CheckCancelled

_NOTES = 1000
"""Different notes that are kept with a result, at most: a stack may have a million blocks, each with one of its own."""


@dataclass
class Written:
    """What is known of the blocks that are written, and what they took."""

    tally: QualitySummary
    seconds: float = 0.0
    devices: set[str] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)
    more: int = 0

    def add(self, entry: BlockRecord) -> None:
        """One more."""
        self.tally.add(entry.done)
        self.seconds += entry.seconds
        self.devices.add(entry.device)
        for note in entry.done.notes:
            if note.text in self.notes or len(self.notes) < _NOTES:
                self.notes[note.text] = None
            else:
                self.more += 1

    def texts(self) -> list[str]:
        """What was noted, each text once."""
        more = [f"{self.more} more notes on single blocks are not kept"] if self.more else []
        return list(dict.fromkeys([*self.notes, *more, *(note.text for note in self.tally.notes())]))


def written(work: WorkDir, opened: OpenedImage, check_cancelled: CheckCancelled) -> Written:
    """All blocks of a file, in the order of the plan; unit by unit, so that memory does not grow with their number.

    Raises:
        FileError: Some are missing.
    """
    found = Written(QualitySummary.of(opened.resolved.blocks, opened.resolved.image))
    for number, unit in enumerate(opened.units):
        check_cancelled()
        for entry in work.entries(number, unit).values():
            found.add(entry)
    if missing := sum(map(len, opened.units)) - found.tally.count:
        raise FileError(f"{missing} blocks of '{work.target}' were not written; --resume goes on from there")
    return found


def finish(
    task: Task, opened: OpenedImage, identity: dict[str, Any], started: str, check_cancelled: CheckCancelled
) -> dict[str, Any]:
    """Give the result its format and its name, and lay its sidecar beside it.

    Returns:
        What the sidecar says.

    Raises:
        ImageError: There was nothing to restore in it.
        FileError: It cannot be written.
    """
    work = WorkDir(task.target)
    blocks = written(work, opened, check_cancelled)
    if blocks.tally.nothing_restored:
        work.clear()
        raise ImageError(blocks.tally.nothing_restored)
    facts = facts_of(task, opened, identity, started, blocks)
    like = opened.like
    try:
        if task.is_zarr:
            zarr.complete_image(work.array, like, facts, check_cancelled)
            flush_to_disk(_unflushed(work.array))
        else:
            image = replace(like, data=growing(task, work, opened))
            write(work.part, image, provenance=facts, overwrite=True, check_cancelled=check_cancelled)
        made = work.array if task.is_zarr else work.part
        facts |= {"source": printable(str(task.source)), "bytes": size_on_disk(made)}
        work.prepare_sidecar(facts)
        work.appear(made)
    except OSError as error:
        raise FileError(f"'{task.target}' cannot be written: {error.strerror or error}; is the disk full?") from error
    return facts


def _unflushed(array: Path) -> Iterator[Path]:
    """What is not on disk for sure: all but the chunks of the finest level, which went there with their blocks."""
    for file in files_in(array):
        if file.relative_to(array).parts[0] != "0" or not file.name.isdigit():
            yield file


def facts_of(
    task: Task, opened: OpenedImage, identity: dict[str, Any], started: str, blocks: Written
) -> dict[str, Any]:
    """All that is known of a result, as plain JSON values."""
    return {
        "input": printable(task.source.name),
        "checksum": identity["checksum"],
        "output": printable(task.target.name),
        "axes": opened.like.axes,
        "shape": list(opened.like.shape),
        "dtype": opened.like.dtype.name,
        "recipe": identity["recipe"],
        "quality": blocks.tally.quality().to_dict(),
        "seconds": round(blocks.seconds, 3),
        "device": ", ".join(sorted(blocks.devices)),
        "notes": blocks.texts(),
        "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": versions(),
        "identity": identity,
    }
