"""Progress of a job: bar, remaining time, curve of the residual, and a summary of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isnan

from magicgui.widgets import ProgressBar
from napari import Viewer
from napari.utils.theme import get_theme
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pristine.events import Note, Progress
from napari_pristine.gui.widgets import wrapped_label
from napari_pristine.image.quality import ChannelQuality
from napari_pristine.image.verdict import Verdict
from napari_pristine.jobs.restore import Restored
from napari_pristine.model import Model
from napari_pristine.text import duration, sentence

_GOOD, _CAUTION = {"dark": "#56B4E9", "light": "#0072B2"}, {"dark": "#E69F00", "light": "#B34700"}
"""Colours of the marks of verdicts on dark and light themes, which also differ for those who are colour-blind."""
_LIGHT = 127
"""Lightness of the background from which a theme counts as light."""
_ALL = 0.995
"""Share of an image from which all of it was looked at."""
BAR_MAXIMUM = 1000
"""Value of a progress bar when the job is done."""


@dataclass(frozen=True)
class Report:
    """What is said about a job that has ended."""

    status: str
    verdict: str
    summary: str


class ProgressView(QWidget):  # type: ignore[misc]
    """Lower part of the restore panel."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.bar = ProgressBar(min=0, max=BAR_MAXIMUM, value=0)
        self.status = wrapped_label()
        self.curve = ResidualCurve(viewer)
        self.verdict = wrapped_label()
        self.summary = wrapped_label()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.bar.native, self.status, self.curve, self.verdict, self.summary):
            layout.addWidget(widget)
        # room for two lines, so that the panel keeps its layout when a job starts
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing())
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.reset()

    def reset(self, status: str = "") -> None:
        """Clear everything that the previous job has shown."""
        self.bar.value = 0
        self.status.setText(status)
        self.summary.clear()
        self.summary.setVisible(False)
        self.verdict.clear()
        self.verdict.setVisible(False)
        self.bar.native.setVisible(bool(status))
        self.curve.clear()
        self.curve.setVisible(False)

    @property
    def report(self) -> Report:
        """What is said now, to be shown again."""
        return Report(self.status.text(), self.verdict.text(), self.summary.text())

    def show_report(self, report: Report | None) -> None:
        """Show a report again, or none."""
        self.reset("" if report is None else report.status)
        if report is not None:
            self.bar.native.setVisible(False)
            for label, text in ((self.verdict, report.verdict), (self.summary, report.summary)):
                label.setText(text)
                label.setVisible(bool(text))

    def show_progress(self, progress: Progress, done: int = 0, planes: int = 1) -> None:
        """Show the progress of a job, of whose planes some are done."""
        parts = [f"{done} of {planes} planes done"] if planes > 1 else []
        if not isnan(progress.residual):
            parts.append(f"step {progress.step} of {progress.steps}")
        if progress.remaining is not None:
            parts.append(f"{duration(progress.remaining)} left")
        self.status.setText(" · ".join(parts))
        self.bar.value = round(BAR_MAXIMUM * progress.fraction)
        if not isnan(progress.residual):
            self.curve.setVisible(True)
            self.curve.add(progress)

    def add_note(self, note: Note) -> None:
        """Show a note below the curve."""
        self._add_line(note.text)

    def show_result(self, restored: Restored, title: str = "") -> None:
        """Summarise a result, whose title names method and effort."""
        self.bar.value = BAR_MAXIMUM
        self.curve.setVisible(False)  # it shows the fit, the result is refined
        done = f"done in {duration(restored.seconds)} on {restored.device}"
        self.status.setText(f"{title}: {done}" if title else sentence(done))
        self.summary.clear()
        quality = restored.quality
        several = len(quality.channels) > 1
        for figures in quality.channels if several else (quality,):
            name = f"{figures.name}: " if isinstance(figures, ChannelQuality) else ""
            self._add_line(f"{name}removed {figures.residual:.2f} × the noise level ({figures.sigma:.3g}).")
        for line in (*quality.stopped, *(note.text for note in restored.notes)):
            self._add_line(line)

    def show_verdicts(self, verdicts: Sequence[Verdict], share: float = 1.0) -> None:
        """Show what a result did to each channel, with a mark, and the share of the image that was looked at."""
        lines, theme = [], get_theme(self.viewer.theme)
        ground = "light" if QColor(theme.background.as_hex()).lightness() > _LIGHT else "dark"
        for verdict in verdicts:
            mark, colour = ("✓", _GOOD[ground]) if verdict.good else ("⚠", _CAUTION[ground])
            name = f"{verdict.name}: " if verdict.name else ""
            lines.append(f'<span style="color: {colour}">{mark}</span> {escape(name + verdict.sentence)}')
        if share < _ALL:
            lines.append(f"({100 * share:.2g} % of the image was looked at)")
        self.verdict.setText("<br>".join(lines))
        self.verdict.setVisible(True)

    def show_model(self, model: Model) -> None:
        """Show that training is done; the facts about the model are shown where it is chosen."""
        self.bar.value = BAR_MAXIMUM
        self.status.setText(f"Trained in {duration(model.facts.seconds)} on {model.facts.device}")

    def _add_line(self, line: str) -> None:
        self.summary.setVisible(True)
        self.summary.setText("\n".join([*self.summary.text().splitlines(), sentence(line)]))


class ResidualCurve(QWidget):  # type: ignore[misc]
    """Residual by step in the colours of napari's theme, with a dashed line where it equals the noise level."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.points: list[tuple[int, float]] = []
        self._block = 0
        self._steps = 1
        self.setFixedHeight(110)
        self.setToolTip(
            "Residual: difference between the image and the fit, in noise levels.\n"
            "At 1, as much was removed as there is noise."
        )

    def clear(self) -> None:
        """Remove all points."""
        self.points = []
        self.update()

    def add(self, progress: Progress) -> None:
        """Add a point; the curve starts again with each block."""
        if progress.block != self._block:
            self.points = []
        self._block, self._steps = progress.block, max(progress.steps, 1)
        self.points.append((progress.step, progress.residual))
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:  # noqa: N802
        theme = get_theme(self.viewer.theme)
        text, background, line = (QColor(color.as_hex()) for color in (theme.text, theme.foreground, theme.current))
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(font.pointSizeF() * 0.85, 7))
        painter.setFont(font)
        metrics = painter.fontMetrics()
        area = QRectF(self.rect()).adjusted(metrics.horizontalAdvance("0.0") + 8, 6, -6, -metrics.height() - 4)
        painter.fillRect(area, background)
        # the first steps, with far larger residuals, do not decide the scale
        highest = max((value for _, value in self.points[-len(self.points) * 4 // 5 :]), default=0.0)
        top = next((top for top in (2, 5) if highest <= top), 10)

        def position(step: int, value: float) -> QPointF:
            x = area.left() + area.width() * step / self._steps
            return QPointF(x, area.bottom() - area.height() * min(value / top, 1.0))

        painter.setPen(text)
        left = QRectF(0, 0, area.left() - 4, metrics.height())
        for value in (0, 1, top):
            left.moveBottom(position(0, value).y() + metrics.height() / 2)
            painter.drawText(left, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{value:g}")
        below = QRectF(area.left(), area.bottom() + 2, area.width(), metrics.height())
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, "what the fit leaves out, in noise levels, by step")
        if self.points:
            painter.drawText(below, Qt.AlignmentFlag.AlignRight, str(self._steps))
        text.setAlphaF(0.6)
        painter.setPen(QPen(text, 1, Qt.PenStyle.DashLine))
        painter.drawLine(position(0, 1), position(self._steps, 1))
        painter.setPen(QPen(line, 1.8))
        painter.drawPolyline(QPolygonF([position(step, value) for step, value in self.points]))
        painter.end()
