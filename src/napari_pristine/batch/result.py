"""Result: from the blocks of a file, all written, to its final format under its final name."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_pristine import __version__
from napari_pristine.batch.order import Opened, growing
from napari_pristine.batch.share import written
from napari_pristine.batch.tasks import Task
from napari_pristine.batch.work import Entry, Work
from napari_pristine.errors import FileError
from napari_pristine.events import Note
from napari_pristine.files import write, zarr
from napari_pristine.image.image import Image
from napari_pristine.life import filled, quality_of


def check_writable(task: Task, like: Image) -> None:
    """Write the corner of an image to a place of no consequence: a fit is too long to find out after it.

    Raises:
        FileError: The format of the result cannot hold such an image.
    """
    corner = tuple(n if axis in "CS" else min(n, 2) for axis, n in zip(like.axes, like.shape, strict=True))
    small = replace(like, data=np.zeros(corner, like.dtype))
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / task.target.name
        try:
            write(part, small)
        except FileError as error:
            raise FileError(str(error).replace(str(part), str(task.target))) from None


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
    quality = quality_of(blocks)
    return {
        "input": _unicode(task.source.name),
        "checksum": identity["checksum"],
        "output": _unicode(task.target.name),
        "axes": opened.like.axes,
        "shape": list(opened.like.shape),
        "dtype": str(opened.like.dtype),
        "recipe": identity["recipe"],
        "quality": {**asdict(quality), "stopped": list(quality.stopped)},
        "seconds": round(sum(entry.seconds for entry in entries), 3),
        "device": ", ".join(sorted({entry.device for entry in entries})),
        "notes": _texts(notes),
        "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": {"napari-pristine": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "identity": identity,
    }


def _texts(notes: Sequence[Note]) -> list[str]:
    """What was noted, each text once."""
    return list(dict.fromkeys(note.text for note in notes))


def _unicode(name: str) -> str:
    """The name of a file, with escapes for what is no Unicode, which Linux allows."""
    return name.encode(errors="backslashreplace").decode()
