"""Table of comparisons: a column for the noisy image and each result, a row for each figure; the same as CSV."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_pristine.errors import FileError
from napari_pristine.gui.compare_job import Compared, Comparisons
from napari_pristine.gui.layers import PIXELS
from napari_pristine.image.figures import FINEST, Figures, Resolution, Scores

_HEADER = 11
"""Letters of a line in the title of a column."""
_ERROR_TIP = "Root mean square error that was estimated from the noisy image alone when the method was chosen."
_HALVES_TIP = (
    "Finest period at which two halves of the light of the noisy image agree (Fourier ring correlation, 1/7). A result "
    "cannot be split in halves, as its pixels share their errors: choose a reference to compare it with."
)
_REFERENCE_TIP = "Finest period at which an image agrees with the reference (Fourier ring correlation, 1/2)."


@dataclass(frozen=True)
class Row:
    """A figure in the table.

    Attributes:
        key: Name in a CSV file.
        title: Name in the panel, with its unit.
        tooltip: Explanation.
        digits: Format of the number.
        value: Its value of a result; none if it has none.
        noisy: Its value of the noisy image.
        needs_reference: True if it is shown only with a reference.
    """

    key: str
    title: str
    tooltip: str
    digits: str
    value: Callable[[Figures], float | None]
    noisy: Callable[[Figures], float | None] = lambda _: None
    needs_reference: bool = False

    def text(self, value: float | None) -> str:
        """Format a value for the table."""
        if value is None or np.isnan(value):
            return "–"
        return "∞" if np.isinf(value) else format(value, self.digits).replace("-", "−")


def _scored(key: str, title: str, tooltip: str, digits: str, value: Callable[[Scores], float]) -> Row:
    """A row of a comparison with the reference."""

    def of(scores: Scores | None) -> float | None:
        return None if scores is None else value(scores)

    return Row(
        key, title, tooltip, digits, lambda f: of(f.scores_after), lambda f: of(f.scores_before), needs_reference=True
    )


_FITTED = "after the gain and offset that fit the reference best, since brightness drifts between exposures."
ROWS = (
    Row(
        "noise_level", "Noise level", "Noise of the noisy image, and how much is left in the result, in grey values.",
        ".3g", lambda f: f.noise_after, lambda f: f.noise_before,
    ),
    Row(
        "removed_noise_levels", "Removed (noise levels)",
        "Root mean square of noisy minus restored: 1 if all noise was removed, above 1 structure may be missing.",
        ".2f", lambda f: f.residual,
    ),
    Row(
        "removed_neighbour_correlation", "Removed: neighbours",
        "Correlation between neighbouring pixels of what was removed: 0 for independent noise.",
        ".2f", lambda f: f.whiteness,
    ),
    Row("slope", "Brightness: slope", "Slope of restored over noisy, means of 8 × 8 pixels: 1 if the range is kept.",
        ".3f", lambda f: f.slope),
    Row("offset", "Brightness: offset", "Offset of the same line, in grey values: 0 if the background is kept.",
        ".3g", lambda f: f.offset),
    _scored("psnr_db", "PSNR (dB)", "Peak signal to noise ratio against the reference.", ".2f", lambda s: s.plain.psnr),
    _scored("psnr_fitted_db", "PSNR (dB), fitted", f"PSNR {_FITTED}", ".2f", lambda s: s.fitted.psnr),
    _scored("ssim", "SSIM", "Structural similarity to the reference, 7 × 7 window.", ".3f", lambda s: s.plain.ssim),
    _scored("ssim_fitted", "SSIM, fitted", f"SSIM {_FITTED}", ".3f", lambda s: s.fitted.ssim),
    _scored("nrmse", "NRMSE", "Root mean square error over the root mean square of the reference.",
            ".3f", lambda s: s.plain.nrmse),
    _scored("nrmse_fitted", "NRMSE, fitted", f"NRMSE {_FITTED}", ".3f", lambda s: s.fitted.nrmse),
)  # fmt: skip


def describe_resolution(resolution: Resolution | None, pixel: float, unit: str) -> str:
    """The finest resolved detail, such as `0.43 µm`."""
    if resolution is None:
        return "–"
    if np.isinf(resolution.pixels):
        return "none"
    length = f"{resolution.pixels * pixel:.3g} {unit}"
    return f"≤ {length}" if resolution.pixels <= FINEST else length


def write_csv(path: Path, comparisons: Comparisons) -> None:
    """Write one row for each result, and one for the noisy image, with the figures that have a value.

    Raises:
        FileError: The file cannot be written.
    """
    rows = [_csv_row(comparisons, comparisons.usable[0], noisy=True)] if comparisons.usable else []
    rows += [_csv_row(comparisons, result) for result in comparisons.usable]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["image"])
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise FileError(f"'{path}' cannot be written: {error}") from error


def _csv_row(comparisons: Comparisons, result: Compared, *, noisy: bool = False) -> dict[str, object]:
    """A row of the CSV file: of a result, or of its noisy image."""
    request, figures, box = comparisons.request, result.figures, result.box
    assert figures is not None
    assert box is not None
    recipe = {} if noisy else result.candidate.facts.get("recipe") or {}
    unit = {PIXELS: "pixels", "µm": "um"}.get(request.unit, request.unit)
    resolution = figures.before if noisy else figures.after
    row: dict[str, object] = {
        "image": request.name if noisy else result.name,
        "kind": "noisy" if noisy else "result",
        "method": recipe.get("method", ""),
        "preset": recipe.get("preset", ""),
        "plane": request.position,
        "rows": f"{box.top}:{box.bottom}",
        "columns": f"{box.left}:{box.right}",
    }
    row |= {known.key: known.noisy(figures) if noisy else known.value(figures) for known in ROWS}
    row["estimated_rms_error_noise_levels"] = None if noisy else result.candidate.error
    row[f"finest_detail_{unit}"] = None if resolution is None else resolution.pixels * request.pixel
    return row


class FigureTable(QTableWidget):  # type: ignore[misc]
    """The table."""

    def __init__(self) -> None:
        super().__init__()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 4)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)

    def show_figures(self, comparisons: Comparisons | None) -> None:
        """Show the figures of all results that have some; none empties the table."""
        usable = comparisons.usable if comparisons is not None else []
        lines = _lines(comparisons) if comparisons is not None and usable else []
        self.setRowCount(len(lines))
        self.setColumnCount(1 + len(usable) if lines else 0)
        if comparisons is None:
            return
        names = [("noisy", comparisons.request.name), *((comparisons.label(result), result.name) for result in usable)]
        for column, (label, name) in enumerate(names if lines else []):
            header = QTableWidgetItem(textwrap.fill(label, _HEADER))
            header.setToolTip(name)
            self.setHorizontalHeaderItem(column, header)
        for number, (title, tooltip, texts) in enumerate(lines):
            header = QTableWidgetItem(title)
            header.setToolTip(tooltip)
            self.setVerticalHeaderItem(number, header)
            for column, text in enumerate(texts):
                cell = QTableWidgetItem(text)
                cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                cell.setToolTip(tooltip)
                self.setItem(number, column, cell)


def _lines(comparisons: Comparisons) -> list[tuple[str, str, list[str]]]:
    """Title, explanation and values of each row, the value of the noisy image first."""
    request, usable = comparisons.request, comparisons.usable
    figures = [result.figures for result in usable if result.figures is not None]
    lines = [
        (row.title, row.tooltip, [row.text(value) for value in (row.noisy(figures[0]), *map(row.value, figures))])
        for row in ROWS
        if request.reference is not None or not row.needs_reference
    ]
    errors = [result.candidate.error for result in usable]
    texts = ["1", *("–" if error is None else f"{error:.2f}" for error in errors)]
    estimate = [("Error (noise levels)", _ERROR_TIP, texts)] if errors.count(None) < len(errors) else []
    resolutions = [figures[0].before, *(found.after for found in figures)]
    texts = [describe_resolution(resolution, request.pixel, request.unit) for resolution in resolutions]
    detail = ("Finest detail", _HALVES_TIP if request.reference is None else _REFERENCE_TIP, texts)
    return [*lines[:4], *estimate, detail, *lines[4:]]
