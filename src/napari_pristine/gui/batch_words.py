"""What the Batch panel says of a whole batch: while it is at work, when it is planned, and when it is over."""

from __future__ import annotations

from collections.abc import Sequence

from napari_pristine.batch.estimate import FileEstimate
from napari_pristine.batch.file_result import counted
from napari_pristine.events import BatchProgress
from napari_pristine.gui.batch_job import Ended
from napari_pristine.text import duration


def at_work(stand: BatchProgress) -> str:
    """How far a batch is."""
    names = [source.name for source, _ in stand.active]
    now = stand.name if stand.phase == "reading" else names[0] if len(names) == 1 else ""
    doing = f"{stand.phase} " if stand.phase != "restoring" and now else ""
    left = f"{duration(stand.remaining)} left" if stand.remaining is not None else ""
    return " · ".join(filter(None, (f"{stand.items} of {stand.total} files", f"{doing}{_shortened(now)}", left)))


def planned(found: Sequence[FileEstimate], of_files: int, *, stopped: bool) -> str:
    """What files of a batch take together."""
    usable = [forecast for forecast in found if not forecast.problem]
    times = [forecast.seconds for forecast in usable if forecast.seconds is not None]
    time = f", about {duration(sum(times))} for one process" if times else ""
    memory = f", {max(f.memory for f in usable) / 1e9:.2g} GB of memory" if usable else ""
    said = f"{len(usable)} of {len(found)} files can be restored{time}{memory}."
    if not stopped:
        return said
    return f"Stopped: {of_files - len(found)} of {of_files} files were not looked at. " + (said if found else "")


def over(ended: Ended) -> str:
    """What became of a batch, and how to go on."""
    if ended.stopped and not ended.rows and not ended.kept:
        return "Stopped before anything was written."
    counts = counted(ended.rows) | {"begun": len(ended.kept)}
    parts = [f"{count} {name}" for name, count in counts.items() if count or name == "restored"]
    said = f"{', '.join(parts)}, of {ended.of_files} files."
    if ended.stopped:
        return f"Stopped: {said} What is done is kept; 'Resume' is ticked now, so that 'Run' goes on from there."
    return f"Done: {said} Double-click a line to see image and result."


def _shortened(name: str) -> str:
    """A name that fits into a line."""
    return name if len(name) <= 44 else f"{name[:26]}…{name[-17:]}"
