"""Output of the commands: text, JSON, progress bars, errors, exit codes."""

from __future__ import annotations

import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pristine.errors import PristineError
from napari_pristine.events import BatchProgress, Event, ItemDone, ItemEvent, Note, Progress
from napari_pristine.settings import settings_of
from napari_pristine.text import duration, one_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from napari_pristine.batch.estimate import FileEstimate
    from napari_pristine.diagnosis import ChannelNoise, Diagnosis
    from napari_pristine.image.quality import Comparison
    from napari_pristine.methods.method import Method
    from napari_pristine.model import Model

SUCCESS, SOME_FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
_WIDTH = 100


def say(text: object) -> None:
    """Print to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def report_error(text: object) -> None:
    """Print one line to stderr."""
    sys.stderr.write(f"pristine: {one_line(text)}\n")
    sys.stderr.flush()


def explain(error: PristineError, debug: bool, about: str = "") -> None:
    """Print an error on one line, after its traceback if `debug` is set."""
    if debug:
        traceback.print_exception(error)
    report_error(f"{about}: {error}" if about and about not in str(error) else error)


def describe_item(item: ItemDone) -> str:
    """One line on a file that was restored or skipped."""
    if item.status == "skipped":
        return f"{item.source}: skipped, {item.text}"
    quality = item.facts.get("quality", {})
    stopped = "".join(f"{reason}; " for reason in quality.get("stopped", ()))
    return (
        f"{item.source} → {item.target}: noise level {quality.get('sigma', 0):.4g}, removed "
        f"{quality.get('residual', 0):.2f} noise levels; {stopped}{duration(item.facts.get('seconds', 0))} on "
        f"{item.facts.get('device', '')}"
    )


def item_facts(item: ItemDone) -> dict[str, Any]:
    """Outcome of a file, for JSON."""
    output, error = item.target if item.facts else None, item.text or None
    return {**item.facts, "input": item.source, "output": output, "status": item.status, "error": error}


def describe_counts(items: Sequence[ItemDone]) -> str:
    """Number of files by outcome."""
    from napari_pristine.batch.results import count_outcomes

    return ", ".join(f"{count} {word}" for word, count in count_outcomes(items).items() if count or word == "restored")


def describe_plan(found: Sequence[FileEstimate]) -> str:
    """A table of all files, and the time and memory they take together."""
    rows = [_plan_row(estimate) for estimate in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    usable = [estimate for estimate in found if not estimate.problem and not estimate.done]
    done = sum(estimate.done for estimate in found)
    seconds = [estimate.seconds for estimate in usable if estimate.seconds is not None]
    total = f", about {duration(sum(seconds))} for one process" if seconds else ""
    memory = f", {max(estimate.memory for estimate in usable) / 1e9:.2g} GB of memory" if usable else ""
    before = f", {done} are done" if done else ""
    return "\n".join([*lines, f"{len(usable)} of {len(found)} files can be restored{before}{total}{memory}"])


def _plan_row(estimate: FileEstimate) -> tuple[str, ...]:
    source = str(estimate.task.source)
    if estimate.problem:
        return (source, "–", "", "", "", estimate.problem)
    sizes = " × ".join(f"{axis} {size}" for axis, size in zip(estimate.axes, estimate.shape, strict=True))
    if estimate.done:
        return (source, sizes, estimate.dtype, "", "", "done before, by the same recipe")
    seconds = "?" if estimate.seconds is None else duration(estimate.seconds)
    facts = "; ".join(filter(None, (estimate.loops, estimate.note)))
    return (source, sizes, estimate.dtype, f"{estimate.memory / 1e9:.2g} GB", seconds, facts)


def describe_model(target: object, model: Model) -> str:
    """One line on a trained network."""
    facts = model.facts
    images = f"{facts.count} image{'s' if facts.count != 1 else ''}"
    blocks = f" ({facts.blocks} blocks)" if facts.blocks > facts.count else ""
    removed = "" if facts.residual is None else f"removes {facts.residual:.2f} noise levels; "
    return (
        f"{target}: {model.recipe.method} trained on {images}{blocks}; {removed}{facts.stopped}; "
        f"{duration(facts.seconds)} on {facts.device}"
    )


def describe_comparison(found: Comparison, origin: str) -> str:
    """The figures of a comparison, with the data range they refer to."""
    rows = [
        ("PSNR", f"{found.psnr:.2f} dB"),
        ("PSNR, best gain and offset", f"{found.psnr_affine:.2f} dB"),
        ("SSIM, uniform 7 × 7 window", f"{found.ssim:.4f}"),
        ("SSIM, Gaussian window", f"{found.ssim_gaussian:.4f}"),
        ("NRMSE", f"{found.nrmse:.4f}"),
        ("data range", f"{found.data_range:g} ({origin})"),
    ]
    return "\n".join(f"{name:28}{value}" for name, value in rows)


def describe_diagnosis(found: Diagnosis) -> str:
    """The figures of all channels side by side, and the advice."""
    sizes = " × ".join(f"{axis} {size}" for axis, size in zip(found.axes, found.shape, strict=True))
    columns = [_channel_rows(channel) for channel in found.channels]
    names = [f"{channel.name:>16}" for channel in found.channels]
    lines = [f"{found.name}: {sizes}, {found.dtype}", *([" " * 40 + "".join(names)] if len(names) > 1 else [])]
    lines += [f"{title:40}" + "".join(f"{column[title]:>16}" for column in columns) for title in columns[0]]
    return "\n".join([*lines, *(textwrap.fill(sentence, _WIDTH) for sentence in found.advice)])


def _channel_rows(channel: ChannelNoise) -> dict[str, str]:
    return {
        "noise level (Chen, Zhu & Heng)": "–" if channel.sigma is None else f"{channel.sigma:.4g}",
        "noise level (fit of photons and camera)": f"{channel.sigma_fit:.4g}",
        "gain, grey values per photon": f"{channel.gain:.4g}" if channel.photon_noise else "–",
        "offset, grey values": f"{channel.offset:.4g}" if channel.photon_noise else "–",
        "read noise, grey values": f"{channel.read:.4g}",
        "photons per pixel (median)": "–" if channel.photons is None else f"{channel.photons:.3g}",
        "correlation of neighbours": f"{channel.correlation:.2f}",
        "correlation length of the noise, pixels": f"{channel.correlation_length:.2f}",
        "contrast, noise levels": f"{channel.contrast:.1f}",
        "saturated": f"{channel.saturated:.3%}",
        "invalid": f"{channel.invalid:.3%}",
    }


def method_facts(method: Method[Any, Any], *, settings: bool) -> dict[str, Any]:
    """Facts about a method for JSON, with its settings if wished."""
    facts: dict[str, Any] = {
        "key": method.key, "title": method.title, "summary": method.summary, "cite": method.cite,
        "presets": list(method.presets),
    }  # fmt: skip
    if settings:
        facts["settings"] = [
            {
                "name": setting.name, "type": setting.type.__name__, "optional": setting.optional,
                "presets": dict(zip(method.presets, _values(method, setting.name), strict=True)),
                "choices": list(setting.choices), "bounds": dict(setting.bounds), "unit": setting.unit,
                "advanced": setting.advanced, "text": setting.text,
            }
            for setting in settings_of(method.params)
        ]  # fmt: skip
    return facts


def describe_method(method: Method[Any, Any]) -> str:
    """A method in a few lines."""
    text = textwrap.fill(method.summary, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"{method.key}  {method.title}\n{text}\n    presets: {', '.join(method.presets)}\n    {method.cite}"


def describe_settings(method: Method[Any, Any]) -> str:
    """All settings of a method, each with type, allowed range, unit, meaning, and value in each preset."""
    lines = [describe_method(method), ""]
    for setting in settings_of(method.params):
        kind = setting.type.__name__ + (" or none" if setting.optional else "")
        allowed = f", {setting.allowed}" if setting.allowed != setting.type.__name__ else ""
        unit = f" [{setting.unit}]" if setting.unit else ""
        values = _values(method, setting.name)
        presets = ", ".join(f"{name} {_shown(value)}" for name, value in zip(method.presets, values, strict=True))
        lines += [f"{setting.name}: {kind}{allowed}{unit}", f"    {setting.text}", f"    {presets}"]
    return "\n".join(lines)


def _values(method: Method[Any, Any], name: str) -> list[Any]:
    return [getattr(method.settings(preset), name) for preset in method.presets]


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


@contextmanager
def job_bar(name: str, report: Callable[[str], None]) -> Iterator[Callable[[Event], None]]:
    """A progress bar of a job on stderr if that is a terminal; notes are passed to `report`.

    Yields:
        Function to be called with each event of the job.
    """
    with _bar() as bar:
        task = bar.add_task(name, total=1.0, now="starting")

        def show(event: Event) -> None:
            if isinstance(event, Progress):
                bar.update(task, completed=event.fraction, now=_describe_step(event))
            elif isinstance(event, Note):
                report(event.text)

        yield show


@contextmanager
def item_bar(total: int) -> Iterator[Callable[[Event], None]]:
    """A progress bar for a batch that restores one file after the other; on stderr, if that is a terminal.

    Args:
        total: Number of files.

    Yields:
        Function to be called with each event of the batch.
    """
    with _bar() as bar:
        task = bar.add_task("", total=1.0, now="starting")
        step = name = ""

        def show(event: Event) -> None:
            nonlocal step, name
            if isinstance(event, BatchProgress):
                if event.name != name:
                    name, step = event.name, ""
                number = f" ({min(event.items + 1, total)}/{total})" if total > 1 else ""
                fraction = event.active[0][1] if event.active else 0.0
                bar.update(task, description=f"{name}{number}", completed=fraction, now=step or f"{event.phase} …")
            elif isinstance(event, ItemEvent) and isinstance(event.event, Progress):
                step = _describe_step(event.event)

        yield show


@contextmanager
def batch_bar() -> Iterator[Callable[[Event], None]]:
    """A progress bar of a whole batch on stderr, if that is a terminal.

    Yields:
        Function to be called with each event of the batch.
    """
    with _bar() as bar:
        task = bar.add_task("batch", total=1.0, now="starting")

        def show(event: Event) -> None:
            if isinstance(event, BatchProgress):
                left = f", {duration(event.remaining)} left" if event.remaining is not None else ""
                now = f"{event.items} of {event.total} files, {event.phase} {event.name}{left}"
                bar.update(task, completed=event.fraction, now=now)

        yield show


@contextmanager
def reading_bar(total: int) -> Iterator[Callable[[Path], None]]:
    """Progress of reading all files of a plan, or before the first is restored.

    Args:
        total: Number of files.

    Yields:
        Function to be called with each file that was read.
    """
    started, done = time.monotonic(), 0
    with batch_bar() as show:

        def count(source: Path) -> None:
            nonlocal done
            done += 1
            seconds = time.monotonic() - started
            show(BatchProgress(done, total, source.name, done / total, seconds, phase="reading"))

        yield count


def _bar() -> Bar:
    """A progress bar on stderr that disappears when it is done; invisible where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns: Sequence[Any] = (
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[now]}", markup=False),
    )  # fmt: skip
    # stdout stays as it is: what is piped from it must not go to the terminal
    return Bar(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=True,
        disable=not sys.stderr.isatty(),
    )  # fmt: skip


def _describe_step(event: Progress) -> str:
    """Position of a job, noise that is removed, and time left."""
    position = f"{event.block + 1}/{event.blocks}, " if event.blocks > 1 else ""
    left = f", {duration(event.remaining)} left" if event.remaining is not None else ""
    return f"{position}residual {event.residual:.2f}{left}"
