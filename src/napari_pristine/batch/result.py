"""Result: from the blocks of a file, all written, to its final format under its final name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from napari_pristine.batch.order import Opened, growing
from napari_pristine.batch.share import written
from napari_pristine.batch.tasks import Task
from napari_pristine.batch.work import Entry, Work
from napari_pristine.device import versions
from napari_pristine.errors import FileError
from napari_pristine.events import Note
from napari_pristine.files import write, zarr
from napari_pristine.life import filled, quality_of
from napari_pristine.report import printable


def finish(task: Task, opened: Opened, identity: dict[str, Any], started: str) -> dict[str, Any]:
    """Give the result its format and its name, and lay its sidecar beside it.

    Returns:
        What the sidecar says.

    Raises:
        FileError: It cannot be written.
    """
    work = Work(task.target)
    entries = written(work, opened)
    facts = facts_of(task, opened, identity, started, entries)
    like = opened.like
    try:
        if task.is_zarr:
            zarr.complete(work.array, like, facts)
        else:
            write(work.part, replace(like, data=growing(task, work, opened)), provenance=facts, overwrite=True)
        work.prepare_sidecar(facts)
        work.appear(work.array if task.is_zarr else work.part)
    except OSError as error:
        raise FileError(f"'{task.target}' cannot be written: {error.strerror or error}; is the disk full?") from error
    return facts


def facts_of(
    task: Task, opened: Opened, identity: dict[str, Any], started: str, entries: Sequence[Entry]
) -> dict[str, Any]:
    """All that is known of a result, as plain JSON values."""
    blocks = [entry.done for entry in entries]
    notes = [note for block in blocks for note in block.notes] + filled(blocks)
    return {
        "input": printable(task.source.name),
        "checksum": identity["checksum"],
        "output": printable(task.target.name),
        "axes": opened.like.axes,
        "shape": list(opened.like.shape),
        "dtype": str(opened.like.dtype),
        "recipe": identity["recipe"],
        "quality": quality_of(blocks).facts(),
        "seconds": round(sum(entry.seconds for entry in entries), 3),
        "device": ", ".join(sorted({entry.device for entry in entries})),
        "notes": _texts(notes),
        "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": versions(),
        "identity": identity,
    }


def _texts(notes: Sequence[Note]) -> list[str]:
    """What was noted, each text once."""
    return list(dict.fromkeys(note.text for note in notes))
