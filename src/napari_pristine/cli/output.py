"""What the shell shows: lines for people, lines of JSON for programs, and a progress bar. Nothing is computed here."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_pristine.events import Event, Note, Progress
from napari_pristine.settings import settings_of
from napari_pristine.text import duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from napari_pristine.diagnosis import ChannelNoise, Diagnosis
    from napari_pristine.image.quality import Comparison
    from napari_pristine.jobs.restore import Restored
    from napari_pristine.methods.method import Method
    from napari_pristine.model import Model

_WIDTH = 100


def describe_result(source: object, target: object, result: Restored) -> str:
    """One line on a restored file."""
    quality = result.quality
    stopped = f"{'; '.join(quality.stopped)}; " if quality.stopped else ""
    return (
        f"{source} → {target}: noise level {quality.sigma:.4g}, removed {quality.residual:.2f} noise levels; "
        f"{stopped}{duration(result.seconds)} on {result.device}"
    )


def describe_model(target: object, model: Model) -> str:
    """One line on a network that has learned."""
    facts = model.facts
    images = f"{facts.count} image{'s' if facts.count != 1 else ''}"
    blocks = f" ({facts.blocks} blocks)" if facts.blocks > facts.count else ""
    removed = "" if facts.residual is None else f"removes {facts.residual:.2f} noise levels; "
    return (
        f"{target}: {model.recipe.method} learned from {images}{blocks}; {removed}{facts.stopped}; "
        f"{duration(facts.seconds)} on {facts.device}"
    )


def describe_comparison(found: Comparison, chosen: str) -> str:
    """The figures of a comparison, and the data range they refer to."""
    rows = [
        ("PSNR", f"{found.psnr:.2f} dB"),
        ("PSNR, best gain and offset", f"{found.psnr_affine:.2f} dB"),
        ("SSIM, uniform 7 × 7 window", f"{found.ssim:.4f}"),
        ("SSIM, Gaussian window", f"{found.ssim_gaussian:.4f}"),
        ("NRMSE", f"{found.nrmse:.4f}"),
        ("data range", f"{found.data_range:g} ({chosen})"),
    ]
    return "\n".join(f"{name:28}{value}" for name, value in rows)


def describe_diagnosis(found: Diagnosis) -> str:
    """The figures of each channel side by side, and the advice."""
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
    """What is declared about a method, for JSON; with its settings if wished."""
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
    """All settings of a method: type, allowed range, unit, value in each preset, and what it is."""
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
def progress_bar(name: str, tell: Callable[[str], None]) -> Iterator[Callable[[Event], None]]:
    """A bar on the terminal, on stderr, and nothing where stderr is no terminal; notes are handed to `tell`.

    Yields:
        What to call with each event of the job.
    """
    if not sys.stderr.isatty():
        yield lambda event: _tell_notes(event, tell)
        return
    with bar() as shown:
        task = shown.add_task(name, total=1.0, now="starting")

        def show(event: Event) -> None:
            if isinstance(event, Progress):
                shown.update(task, completed=event.fraction, now=_now(event))
            _tell_notes(event, tell)

        yield show


def bar() -> Bar:
    """A bar that goes when it is done."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns: Sequence[Any] = (
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[now]}", markup=False),
    )  # fmt: skip
    # stdout stays as it is: what is piped from it must not land on the terminal
    return Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)


def _tell_notes(event: Event, tell: Callable[[str], None]) -> None:
    if isinstance(event, Note):
        tell(event.text)


def _now(event: Progress) -> str:
    """Where the job is, how much noise it takes away, and how long it will go on."""
    place = f"{event.block + 1}/{event.blocks}, " if event.blocks > 1 else ""
    left = f", {duration(event.remaining)} left" if event.remaining is not None else ""
    return f"{place}residual {event.residual:.2f}{left}"
