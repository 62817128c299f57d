"""What `pristine batch` shows: a line for each file, a table of the plan, a bar of the whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from napari_pristine.batch.estimate import FileEstimate
from napari_pristine.batch.file_result import counted
from napari_pristine.cli.output import bar
from napari_pristine.events import BatchProgress, ItemDone
from napari_pristine.text import duration


def describe_row(row: ItemDone) -> str:
    """One line on a file of a batch that was restored, or left."""
    if row.status == "skipped":
        return f"{row.source}: left, {row.text}"
    quality = row.facts.get("quality", {})
    return (
        f"{row.source} → {row.target}: noise level {quality.get('sigma', 0):.4g}, removed "
        f"{quality.get('residual', 0):.2f} noise levels; {duration(row.facts.get('seconds', 0))}"
    )


def describe_all(rows: Sequence[ItemDone]) -> str:
    """What became of all files of a batch, in numbers."""
    return ", ".join(f"{count} {word}" for word, count in counted(rows).items() if count or word == "restored")


def describe_plan(found: Sequence[FileEstimate]) -> str:
    """A table of all files, and what they take together."""
    rows = [_plan_row(forecast) for forecast in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    usable = [forecast for forecast in found if not forecast.problem and not forecast.done]
    done = sum(forecast.done for forecast in found)
    seconds = [forecast.seconds for forecast in usable if forecast.seconds is not None]
    total = f", about {duration(sum(seconds))} for one process" if seconds else ""
    memory = max((forecast.memory for forecast in usable), default=0)
    peak = f", {memory / 1e9:.2g} GB of memory" if usable else ""
    before = f", {done} are done" if done else ""
    return "\n".join([*lines, f"{len(usable)} of {len(found)} files can be restored{before}{total}{peak}"])


def _plan_row(forecast: FileEstimate) -> tuple[str, ...]:
    if forecast.problem:
        return (str(forecast.task.source), "–", "", "", "", forecast.problem)
    sizes = " × ".join(f"{axis} {size}" for axis, size in zip(forecast.axes, forecast.shape, strict=True))
    if forecast.done:
        return (str(forecast.task.source), sizes, forecast.dtype, "", "", "done before, by the same recipe")
    seconds = "?" if forecast.seconds is None else duration(forecast.seconds)
    memory = f"{forecast.memory / 1e9:.2g} GB"
    return (str(forecast.task.source), sizes, forecast.dtype, memory, seconds, forecast.loops)


@contextmanager
def batch_bar() -> Iterator[Callable[[BatchProgress], None]]:
    """A bar of a whole batch on the terminal, on stderr, and nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda stand: None
        return
    with bar() as shown:
        task = shown.add_task("batch", total=1.0, now="starting")

        def show(stand: BatchProgress) -> None:
            left = f", {duration(stand.remaining)} left" if stand.remaining is not None else ""
            now = f"{stand.items} of {stand.total} files, {stand.phase} {stand.name}{left}"
            shown.update(task, completed=stand.fraction, now=now)

        yield show
