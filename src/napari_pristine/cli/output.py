"""Output of the commands: text, JSON, progress, errors, exit codes, and the log."""

from __future__ import annotations

import logging
import math
import re
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from napari_pristine.errors import FileError, PristineError
from napari_pristine.events import BatchProgress, Event, ItemDone, ItemEvent, Note, Progress
from napari_pristine.settings import settings_of
from napari_pristine.text import counted, duration, one_line, printable, short_name

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from napari_pristine.batch.estimate import FileEstimate
    from napari_pristine.diagnosis import ChannelNoise, Diagnosis
    from napari_pristine.image.quality import Comparison
    from napari_pristine.methods.method import Method
    from napari_pristine.model import Model

SUCCESS, SOME_FAILED, UNUSABLE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
_WIDTH = 100


_LINE_SECONDS, _FILE_SECONDS = 30.0, 10.0
"""Minimum seconds between lines of progress on one file, and on different files."""
_LOG_START = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d pristine ")
_log: TextIO | None = None


def say(*lines: object) -> None:
    """Print lines to stdout."""
    for line in lines:
        _print(sys.stdout, line)


def report_error(text: object) -> None:
    """Print one line to stderr."""
    _print(sys.stderr, f"pristine: {one_line(text)}")


def explain(error: PristineError, debug: bool, about: str = "") -> None:
    """Print an error on one line, after its traceback if `debug` is set."""
    if debug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            _print(sys.stderr, line)
    report_error(f"{about}: {error}" if about and about not in str(error) else error)


def _print(stream: TextIO, line: object) -> None:
    """Print one line with control characters escaped, and write it to the log."""
    shown, encoding = printable(line), stream.encoding or "utf-8"
    stream.write(f"{shown.encode(encoding, 'backslashreplace').decode(encoding)}\n")
    stream.flush()
    _record(shown)


def _record(line: str) -> None:
    """Write one line to the log, if there is one, with the time."""
    global _log
    try:
        if _log is not None:
            _log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")
            _log.flush()
    except OSError as error:  # the job must not end because of the log
        _log = None
        report_error(f"the log can no longer be written: {error.strerror or error}; continuing without it")


@contextmanager
def log_to(path: Path | None, command: str) -> Iterator[None]:
    """Append all printed lines to a file, each with its time; log nothing without a path.

    Warnings of libraries are printed like those of this package.

    Raises:
        FileError: The file cannot be opened, or is or would become anything else than a log.
    """
    global _log
    messages = _LibraryMessages(logging.WARNING)
    logging.getLogger().addHandler(messages)
    logging.captureWarnings(True)
    try:
        if path is None:
            yield
            return
        try:
            _check_log(path)
            opened = path.open("a", encoding="utf-8")
        except OSError as error:
            raise FileError(f"the log '{path}' cannot be written: {error.strerror}; choose another file") from error
        with opened as _log:
            _record(printable(command))
            yield
    finally:
        _log = None
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(messages)


def _check_log(path: Path) -> None:
    """Raise a `FileError` if a file has the name of an image, or is there and does not begin like a log."""
    from napari_pristine.io.registry import SUFFIXES

    is_log = path.suffix.lower() not in SUFFIXES
    if is_log and path.is_file() and path.stat().st_size:  # pipes and devices take anything
        with path.open("rb") as file:
            is_log = _LOG_START.match(file.read(100)) is not None
    if not is_log:
        raise FileError(f"'{path}' is no log, and nothing is appended to it; give --log a file of its own")


class _LibraryMessages(logging.Handler):
    """Prints what libraries log, but for tifffile: our notes and errors say what is wrong with a file."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "tifffile":
            report_error(record.getMessage())


def describe_item(item: ItemDone) -> str:
    """One line on a file that was restored or skipped."""
    if item.status == "skipped":
        return f"{item.source}: skipped, {item.text}"
    quality = item.facts.get("quality", {})
    stopped = "".join(f"{reason}; " for reason in quality.get("stopped", ()))
    chosen = ""
    if choice := item.facts.get("recipe", {}).get("choice"):
        error = "" if choice["error"] is None else f", estimated error {choice['error'] ** 0.5:.2f} noise levels"
        chosen = f"{choice['method']} ({choice['preset']}){error}; "
    return (
        f"{item.source} → {item.target}: {chosen}noise level {quality.get('sigma', 0):.4g}, removed "
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


def describe_plan(found: Sequence[FileEstimate]) -> list[str]:
    """Lines of a table of all files, and the time and memory they take together."""
    rows = [_plan_row(estimate) for estimate in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    usable = [estimate for estimate in found if not estimate.problem and not estimate.done]
    done = sum(estimate.done for estimate in found)
    seconds = [estimate.seconds for estimate in usable if estimate.seconds is not None]
    total = f", about {duration(sum(seconds))} for one process" if seconds else ""
    memory = f", {max(estimate.memory for estimate in usable) / 1e9:.2g} GB of memory" if usable else ""
    before = f", {done} are done" if done else ""
    return [*lines, f"{len(usable)} of {counted(len(found), 'file')} can be restored{before}{total}{memory}"]


def _plan_row(estimate: FileEstimate) -> tuple[str, ...]:
    source = str(estimate.task.source)
    if estimate.problem:
        return (source, "–", "", "", "", estimate.problem)
    sizes = " × ".join(f"{axis} {size}" for axis, size in zip(estimate.axes, estimate.shape, strict=True))
    if estimate.done:
        return (source, sizes, estimate.dtype, "", "", "done before, with the same recipe")
    seconds = "?" if estimate.seconds is None else duration(estimate.seconds)
    facts = "; ".join(filter(None, (estimate.loops, estimate.note)))
    return (source, sizes, estimate.dtype, f"{estimate.memory / 1e9:.2g} GB", seconds, facts)


def describe_model(target: object, model: Model) -> str:
    """One line on a trained network."""
    facts = model.facts
    images = counted(facts.count, "image")
    blocks = f" ({facts.blocks} blocks)" if facts.blocks > facts.count else ""
    stopped = f"{facts.stopped}; " if facts.stopped else ""
    removed = "" if facts.residual is None else f"removes {facts.residual:.2f} noise levels; "
    return (
        f"{target}: {model.recipe.method} trained on {images}{blocks}; {removed}{stopped}"
        f"{duration(facts.seconds)} on {facts.device}"
    )


def describe_comparison(found: Comparison, origin: str) -> list[str]:
    """Lines with the figures of a comparison, with the data range they refer to."""
    rows = [
        ("PSNR", "infinite: both have the same values" if found.identical else f"{found.psnr:.2f} dB"),
        ("PSNR, best gain and offset", "infinite" if math.isinf(found.psnr_affine) else f"{found.psnr_affine:.2f} dB"),
        ("SSIM, uniform 7 × 7 window", f"{found.ssim:.4f}"),
        ("SSIM, Gaussian window", f"{found.ssim_gaussian:.4f}"),
        ("NRMSE", f"{found.nrmse:.4f}"),
        ("data range", f"{found.data_range:g} ({origin})"),
    ]
    return [f"{name:28}{value}" for name, value in rows]


def describe_diagnosis(found: Diagnosis) -> list[str]:
    """Lines with the figures of all channels side by side, and the advice."""
    sizes = " × ".join(f"{axis} {size}" for axis, size in zip(found.axes, found.shape, strict=True))
    columns = [_channel_rows(channel) for channel in found.channels]
    names = [f"{channel.name:>16}" for channel in found.channels]
    lines = [f"{found.name}: {sizes}, {found.dtype}", *([" " * 40 + "".join(names)] if len(names) > 1 else [])]
    lines += [f"{title:40}" + "".join(f"{column[title]:>16}" for column in columns) for title in columns[0]]
    for name, error in found.recommendation.errors.items():
        lines.append(f"{f'estimated error, {name}':40}{error:>16.2f}")
    return [*lines, *(line for sentence in found.advice for line in textwrap.wrap(sentence, _WIDTH))]


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
        "offsets of rows, grey values": f"{channel.rows:.3g}",
        "offsets of columns, grey values": f"{channel.columns:.3g}",
        "hot and cold pixels": f"{sum(channel.defects.values())}",
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
                "advanced": setting.advanced, "title": setting.title, "text": setting.text, "higher": setting.higher,
                "condition": setting.condition,
            }
            for setting in settings_of(method.params)
        ]  # fmt: skip
    return facts


def describe_method(method: Method[Any, Any]) -> list[str]:
    """A method in a few lines."""
    text = textwrap.wrap(method.summary, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return [f"{method.key}  {method.title}", *text, f"    presets: {', '.join(method.presets)}", f"    {method.cite}"]


def describe_settings(method: Method[Any, Any]) -> list[str]:
    """Lines on all settings of a method: title, type, range, unit, meaning, condition, and value in each preset."""
    lines = [*describe_method(method), ""]
    for setting in settings_of(method.params):
        kind = setting.type.__name__ + (" or none" if setting.optional else "")
        allowed = f", {setting.allowed}" if setting.choices or setting.bounds else ""
        unit = f" [{setting.unit}]" if setting.unit else ""
        values = _values(method, setting.name)
        presets = ", ".join(f"{name} {_shown(value)}" for name, value in zip(method.presets, values, strict=True))
        lines += [f"{setting.name}: {setting.title} · {kind}{allowed}{unit}", f"    {setting.text}"]
        lines += [f"    higher: {setting.higher}"] if setting.higher else []
        lines += [f"    {setting.condition}"] if setting.condition else []
        lines += [f"    {presets}"]
    return lines


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
    """Show the progress of a job; notes are passed to `report`.

    Yields:
        Function to be called with each event of the job.
    """
    with _progress(name) as update:

        def show(event: Event) -> None:
            if isinstance(event, Progress):
                now = _describe_step(event)
                update(name, event.fraction, now, f"{name} {event.fraction * 100:.0f} %, {now}")
            elif isinstance(event, Note):
                report(event.text)

        yield show


@contextmanager
def item_bar(total: int) -> Iterator[Callable[[Event], None]]:
    """Show the progress of a batch that restores one file after the other.

    Args:
        total: Number of files.

    Yields:
        Function to be called with each event of the batch.
    """
    with _progress("") as update:
        step = name = ""

        def show(event: Event) -> None:
            nonlocal step, name
            if isinstance(event, BatchProgress):
                if event.name != name:
                    name, step = event.name, ""
                number = f" ({min(event.items + 1, total)}/{total})" if total > 1 else ""
                fraction = event.active[0][1] if event.active else 0.0
                update(f"{name}{number}", fraction, step or f"{event.phase} …", _describe_batch(event))
            elif isinstance(event, ItemEvent) and isinstance(event.event, Progress):
                step = _describe_step(event.event)

        yield show


@contextmanager
def batch_bar() -> Iterator[Callable[[Event], None]]:
    """Show the progress of a whole batch.

    Yields:
        Function to be called with each event of the batch.
    """
    with _progress("batch") as update:

        def show(event: Event) -> None:
            if isinstance(event, BatchProgress):
                title, now = (
                    f"batch ({event.items}/{event.total})",
                    f"{event.phase} {event.name}{_left(event.remaining)}",
                )
                update(title, event.fraction, now, _describe_batch(event))

        yield show


@contextmanager
def reading_bar(total: int) -> Iterator[Callable[[Path], None]]:
    """Show the progress of reading all files, for a plan or before the first is restored.

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
            show(BatchProgress(done, total, short_name(source), done / total, seconds, phase="reading"))

        yield count


@contextmanager
def _progress(title: str) -> Iterator[Callable[[str, float, str, str], None]]:
    """Show progress on stderr: on a terminal a bar, which disappears at the end, else a line at intervals.

    The log gets the lines in both cases.

    Yields:
        Function that takes a title, the fraction that is done, the text beside the bar, and the line.
    """
    terminal, written, subject = sys.stderr.isatty(), time.monotonic(), ""
    with _bar(visible=terminal) as bar:
        task = bar.add_task(title, total=1.0, now="starting")

        def update(title: str, fraction: float, now: str, line: str) -> None:
            nonlocal written, subject
            bar.update(task, description=printable(title), completed=fraction, now=printable(now))
            # short jobs write none
            if time.monotonic() - written > (_FILE_SECONDS if subject and title != subject else _LINE_SECONDS):
                written, subject = time.monotonic(), title
                if terminal:
                    _record(printable(line))
                else:
                    _print(sys.stderr, f"{datetime.now():%H:%M:%S} {line}")

        yield update


def _bar(*, visible: bool) -> Bar:
    """A progress bar on stderr."""
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
        disable=not visible,
    )  # fmt: skip


def _describe_batch(event: BatchProgress) -> str:
    """Position of a batch on one line: files done, those that are being restored, time left."""
    active = ", ".join(f"{short_name(path)} {fraction * 100:.0f} %" for path, fraction in event.active)
    now = active or f"{event.phase} {event.name}"
    return f"{event.items} of {counted(event.total, 'file')}, {now}{_left(event.remaining)}"


def _describe_step(event: Progress) -> str:
    """Position of a job, noise that is removed, and time left."""
    position = f"{event.block + 1}/{event.blocks}, " if event.blocks > 1 else ""
    done = f"step {event.step} of {event.steps}" if math.isnan(event.residual) else f"residual {event.residual:.2f}"
    return f"{position}{done}{_left(event.remaining)}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", {duration(seconds)} left"
