"""Plots of comparisons, in the colours of a theme, and a figure with all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_pristine.errors import FileError
from napari_pristine.gui.compare_job import Compared, Comparisons, Request
from napari_pristine.gui.compare_table import ROWS, describe_resolution
from napari_pristine.gui.layers import PIXELS
from napari_pristine.image.figures import Curve

NOISY, REMOVED = "#999999", "#E69F00"
RESULTS = ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#F0E442", "#0072B2")
"""Colours of Okabe & Ito, which colour-blind people can tell apart."""
_MAX_NAME = 34
_MAX_POINTS = 2000
_WIDTH, _PLOTS_HEIGHT, _TITLE_HEIGHT = 7.1, 4.4, 0.25
"""Width of the figure in inches, two columns of a journal; height of its plots, and of the title of an image."""
_FONT = 7
_HALF = 0.5
"""Threshold of the correlation with a reference; that of two halves is 1/7."""
_LETTERS = "abcdefghi"


@dataclass(frozen=True)
class Colours:
    """Colours of text, which are those of the reference, and of the background."""

    text: str = "#000000"
    background: str = "#ffffff"


def draw_histogram(axes: Axes, comparisons: Comparisons, colours: Colours) -> None:
    """The residual in noise levels, with the normal curve that noise alone has."""
    for result, figures, colour in _shown(comparisons):
        axes.step(figures.histogram.x, figures.histogram.y, where="mid", color=colour, label=comparisons.label(result))
    x = np.linspace(-5, 5, 201)
    axes.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=colours.text, ls="--", lw=1, label="noise alone")
    axes.set(xlim=(-5, 5), ylim=(0, None), xlabel="removed (noise levels)", ylabel="density")


def draw_spectrum(axes: Axes, comparisons: Comparisons, colours: Colours) -> None:
    """Power of noisy, restored and removed at each spatial frequency."""
    request, several = comparisons.request, len(comparisons.usable) > 1
    for number, (result, figures, colour) in enumerate(_shown(comparisons)):
        noisy, restored, removed = (
            _per_unit(figures.spectra[name], request.pixel) for name in ("noisy", "restored", "removed")
        )
        label = comparisons.label(result)
        if number == 0:
            _plot(axes, noisy, color=NOISY, label="noisy")
        _plot(axes, restored, color=colour, label=label)
        _plot(axes, removed, color=colour, ls=":", label=None if several else "removed")
    if several:
        axes.plot(
            [], [], color=NOISY, ls=":", label="removed"
        )  # one entry for all, as the legend would hide the curves
    axes.axhline(1, color=colours.text, ls="--", lw=1)
    axes.set(yscale="log", xlabel=f"spatial frequency (1/{request.unit})", ylabel="power (white noise = 1)")


def draw_means(axes: Axes, comparisons: Comparisons, colours: Colours) -> None:
    """Means of small squares of the restored image by those of the noisy one."""
    for result, figures, colour in _shown(comparisons):
        step = max(len(figures.means.x) // _MAX_POINTS, 1)
        points = figures.means.x[::step], figures.means.y[::step]
        axes.plot(*points, ".", ms=2.5, color=colour, label=comparisons.label(result), alpha=0.7, rasterized=True)
    for _, figures, _ in _shown(comparisons)[:1]:
        ends = [min(figures.means.x.min(), figures.means.y.min()), max(figures.means.x.max(), figures.means.y.max())]
        axes.plot(ends, ends, color=colours.text, ls="--", lw=1, label="same brightness")
    axes.set(xlabel="noisy, means of 8 × 8 pixels", ylabel="restored")


def draw_resolution(axes: Axes, comparisons: Comparisons, colours: Colours) -> None:
    """Fourier ring correlation of noisy and restored."""
    request = comparisons.request
    for number, (result, figures, colour) in enumerate(_shown(comparisons)):
        if number == 0:
            _plot(axes, _per_unit(figures.before.curve, request.pixel), color=NOISY, label="noisy")
            label = "1/7" if figures.before.threshold < _HALF else "1/2"
            axes.axhline(figures.before.threshold, color=colours.text, ls="--", lw=1, label=label)
        if figures.after is not None:
            _plot(axes, _per_unit(figures.after.curve, request.pixel), color=colour, label=comparisons.label(result))
    what = "of two halves" if request.reference is None else "with the reference"
    axes.set(ylim=(-0.1, 1.02), xlabel=f"spatial frequency (1/{request.unit})", ylabel=f"correlation {what}")


def draw_profile(axes: Axes, comparisons: Comparisons, colours: Colours) -> None:
    """Values along the line."""
    request = comparisons.request
    known = [(result, colour) for result, _, colour in _shown(comparisons) if result.profiles]
    for number, (result, colour) in enumerate(known):
        profiles = result.profiles or {}
        if number == 0:
            _plot(axes, _scaled(profiles["noisy"], request.pixel), color=NOISY, lw=0.8, label="noisy")
        _plot(axes, _scaled(profiles["restored"], request.pixel), color=colour, label=comparisons.label(result))
        if number == len(known) - 1 and "reference" in profiles:
            curve = _scaled(profiles["reference"], request.pixel)
            _plot(axes, curve, color=colours.text, ls="--", lw=1, label="reference")
    if not known:
        axes.text(0.5, 0.5, "Draw a line to see the grey values along it.", color=colours.text, ha="center", fontsize=8)
    axes.set(xlabel=f"distance ({request.unit})", ylabel="grey value")


PLOTS: dict[str, Callable[[Axes, Comparisons, Colours], None]] = {
    "Histogram": draw_histogram,
    "Spectrum": draw_spectrum,
    "Brightness": draw_means,
    "Resolution": draw_resolution,
    "Profile": draw_profile,
}
"""All plots by their names."""
_TITLES = {
    "Histogram": "what was removed", "Spectrum": "power spectra", "Brightness": "brightness",
    "Resolution": "Fourier ring correlation", "Profile": "profile along the line",
}  # fmt: skip


def draw(
    axes: Axes, name: str, comparisons: Comparisons, colours: Colours, *, size: float = 8, legend_above: bool = False
) -> None:
    """Draw a plot on empty axes, with its legend: above the plot, or in it, which suits short names only."""
    PLOTS[name](axes, comparisons, colours)
    axes.set_facecolor(colours.background)
    axes.tick_params(colors=colours.text, labelsize=size - 1)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=colours.text, fontsize=size)
    for name_, spine in axes.spines.items():
        spine.set(color=colours.text, visible=name_ in ("left", "bottom"))
    if axes.get_legend_handles_labels()[0]:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2} if legend_above else {}
        style = {"frameon": False, "fontsize": size - 1, "labelcolor": colours.text}
        axes.legend(handlelength=1.5, borderaxespad=0.2, **style, **place)


def save_figure(path: Path, comparisons: Comparisons, chosen: int = 0) -> None:
    """Save a figure of one result: images with the same contrast, plots, figures.

    Args:
        path: File, whose suffix gives the format, such as `.pdf` or `.png`.
        comparisons: The comparisons.
        chosen: Number of the result, of those with figures.

    Raises:
        FileError: The file cannot be written, or its format is unknown.
    """
    result = comparisons.usable[chosen]
    figure = make_figure(comparisons.request, result)
    try:
        with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):  # text stays text, as journals want it
            figure.savefig(path, dpi=300, facecolor="white")
    except (OSError, ValueError) as error:
        raise FileError(f"'{path}' cannot be written: {error}") from error


def make_figure(request: Request, result: Compared) -> Figure:
    """The figure of `save_figure`."""
    comparisons = Comparisons(request, (replace(result, candidate=replace(result.candidate, name="restored")),))
    assert result.noisy is not None
    assert result.restored is not None
    low, high = request.contrast
    half = (high - low) / 2
    images: list[tuple[str, Any, tuple[float, float]]] = [
        ("noisy", result.noisy, (low, high)),
        ("restored", result.restored, (low, high)),
        (f"removed (±{half:.3g})", result.noisy.astype(np.float64) - result.restored, (-half, half)),
    ]
    if result.reference is not None:
        images.append(("reference", result.reference, (low, high)))
    height = _WIDTH / len(images) * result.noisy.shape[0] / result.noisy.shape[1] + _TITLE_HEIGHT
    figure = Figure(figsize=(_WIDTH, height + _PLOTS_HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=(height, _PLOTS_HEIGHT))
    top, below = parts
    for number, (axes, (name, plane, limits)) in enumerate(
        zip(np.atleast_1d(top.subplots(1, len(images))), images, strict=True)
    ):
        axes.imshow(plane, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
        axes.set_title(f"{_LETTERS[number]}  {name}", fontsize=_FONT + 1, loc="left")
        axes.set_axis_off()
        if number == 0:
            _add_scale_bar(axes, plane.shape, request.pixel, request.unit)
            if request.line is not None and result.box is not None:
                (y0, x0), (y1, x1) = request.line
                axes.plot((x0 - result.box.left, x1 - result.box.left), (y0 - result.box.top, y1 - result.box.top),
                          color=REMOVED, lw=1, scalex=False, scaley=False)  # fmt: skip
    names = [name for name in PLOTS if name != "Profile" or result.profiles]
    cells = below.subplots(2, 3).ravel()
    for number, (axes, name) in enumerate(zip(cells, names, strict=False)):
        draw(axes, name, comparisons, Colours(), size=_FONT)
        axes.set_title(f"{_LETTERS[len(images) + number]}  {_TITLES[name]}", fontsize=_FONT + 1, loc="left")
    for axes in cells[len(names) :]:
        axes.set_axis_off()
    listed = cells[len(names)].text(0, 1, _listed(request, result), fontsize=_FONT - 0.5, va="top", linespacing=1.25)
    listed.set_in_layout(False)  # else the plots would shrink to its height
    return figure


def _listed(request: Request, result: Compared) -> str:
    """Figures of a result, line by line."""
    figures = result.figures
    assert figures is not None
    low, high = request.contrast
    lines = [_short(request.name), _short(result.name), request.position, f"Contrast: {low:.4g} to {high:.4g}"]
    for row in ROWS:
        values = [row.text(value) for value in (row.noisy(figures), row.value(figures))]
        if values[1] != "–":
            lines.append(f"{row.title}: {' → '.join(value for value in values if value != '–')}")
    detail = [describe_resolution(found, request.pixel, request.unit) for found in (figures.before, figures.after)]
    lines.append(f"Finest detail: {' → '.join(text for text in detail if text != '–')}")
    if result.candidate.error is not None:
        lines.append(f"Estimated error (noise levels): 1 → {result.candidate.error:.2f}")
    if version := (result.candidate.facts.get("recipe") or {}).get("version"):
        lines.append(f"napari-pristine {version}")
    return "\n".join(filter(None, lines))


def _add_scale_bar(axes: Axes, shape: tuple[int, ...], pixel: float, unit: str) -> None:
    """A scale bar of about a fifth of the image, if the pixel size is known."""
    if unit == PIXELS:
        return
    most = shape[1] * pixel / 4
    power = 10 ** np.floor(np.log10(most))
    length = power * max(step for step in (1, 2, 5) if step * power <= most)
    right, bottom = shape[1] * 0.95, shape[0] * 0.93
    axes.plot((right - length / pixel, right), (bottom, bottom), color="white", lw=2.5, solid_capstyle="butt")
    axes.text(right - length / pixel / 2, bottom - shape[0] * 0.02, f"{length:g} {unit}", color="white",
              ha="center", va="bottom", fontsize=_FONT)  # fmt: skip


def _shown(comparisons: Comparisons) -> list[tuple[Compared, Any, str]]:
    """Results with their figures and colours."""
    shown = []
    for number, result in enumerate(comparisons.results):
        if result.figures is not None:
            shown.append((result, result.figures, RESULTS[number % len(RESULTS)]))
    return shown


def _plot(axes: Axes, curve: Curve, **style: Any) -> None:
    axes.plot(curve.x, curve.y, **{"lw": 1.3, **style})


def _per_unit(curve: Curve, pixel: float) -> Curve:
    """Frequencies per unit of length in place of per pixel."""
    return Curve(curve.x / pixel, curve.y)


def _scaled(curve: Curve, pixel: float) -> Curve:
    return Curve(curve.x * pixel, curve.y)


def _short(name: str) -> str:
    """A name that fits a legend."""
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME // 2]}…{name[-_MAX_NAME // 2 :]}"
