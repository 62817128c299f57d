"""How a job goes: progress, time left, the residual as a curve, and what came of it."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ProgressBar
from napari.utils.theme import get_theme
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_pristine.events import Note, Progress
from napari_pristine.jobs.restore import Restored
from napari_pristine.model import Model

_FULL = 1000
"""Ticks of the progress bar."""


class ProgressView(QWidget):  # type: ignore[misc]
    """The lower part of the panel."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.bar = ProgressBar(min=0, max=_FULL, value=0)
        self.text = QLabel()
        self.curve = ResidualCurve(viewer)
        self.summary = QLabel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.bar.native, self.text, self.curve, self.summary):
            layout.addWidget(part)
        self.text.setWordWrap(True)
        # room for two lines, so that nothing jumps when the job starts
        self.text.setMinimumHeight(2 * self.text.fontMetrics().lineSpacing())
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.summary.setWordWrap(True)
        self.summary.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.reset()

    def reset(self, text: str = "") -> None:
        """Forget the job before."""
        self.bar.value = 0
        self.text.setText(text)
        self.summary.clear()
        self.summary.setVisible(False)
        self.curve.clear()

    def follow(self, progress: Progress) -> None:
        """Show how far a job is."""
        self.bar.value = round(_FULL * progress.fraction)
        self.text.setText(format_error(progress))
        self.curve.add(progress)

    def note(self, note: Note) -> None:
        """Show something that the user should know."""
        self._tell(note.text)

    def conclude(self, restored: Restored) -> None:
        """Show what came of it."""
        self.bar.value = _FULL
        self.text.setText(f"Done in {duration(restored.seconds)} on {restored.device}")
        self.summary.clear()
        for line in (verdict(restored), *(note.text for note in restored.notes)):
            self._tell(line)

    def conclude_learning(self, model: Model) -> None:
        """Show that it has learned; how is said beside the model."""
        self.bar.value = _FULL
        self.text.setText(f"Learned in {duration(model.facts.seconds)} on {model.facts.device}")

    def _tell(self, line: str) -> None:
        self.summary.setVisible(True)
        self.summary.setText("\n".join([*self.summary.text().splitlines(), line[0].upper() + line[1:]]))


def format_error(progress: Progress) -> str:
    """Two lines that tell how far a job is."""
    parts = [f"part {progress.block + 1} of {progress.blocks}"] if progress.blocks > 1 else []
    parts.append(f"step {progress.step}/{progress.steps}")
    if progress.remaining is not None:
        parts.append(f"{duration(progress.remaining)} left")
    return " · ".join(parts) + f"\nresidual {progress.residual:.2f} noise levels"


def verdict(restored: Restored) -> str:
    """One line that tells how good a result is."""
    quality = restored.quality
    parts = [f"noise level {quality.sigma:.3g}", f"residual {quality.residual:.2f} noise levels", *quality.stopped]
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in words: `12 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class ResidualCurve(QWidget):  # type: ignore[misc]
    """Residual against step, in the colours of napari's theme, with a line where it is as strong as the noise."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.place = 0
        self.total = 1
        self.points: list[tuple[int, float]] = []
        self.setFixedHeight(110)
        self.setToolTip("What the fit takes away, in noise levels. At 1 it takes away as much as there is noise.")

    def clear(self) -> None:
        """Start anew."""
        self.points = []
        self.update()

    def add(self, progress: Progress) -> None:
        """One more point; each part of the image has a curve of its own."""
        if progress.block != self.place:
            self.points = []
        self.place, self.total = progress.block, max(progress.steps, 1)
        self.points.append((progress.step, progress.residual))
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:  # noqa: N802
        theme = get_theme(self.viewer.theme)
        text, back, ink = (QColor(color.as_hex("long")) for color in (theme.text, theme.foreground, theme.current))
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(font.pointSizeF() * 0.85, 7))
        painter.setFont(font)
        metrics = painter.fontMetrics()
        area = QRectF(self.rect()).adjusted(metrics.horizontalAdvance("0.0") + 8, 6, -6, -metrics.height() - 4)
        painter.fillRect(area, back)
        top = self._top()
        painter.setPen(text)
        left = QRectF(0, 0, area.left() - 4, metrics.height())
        for value in (0, 1, top):
            left.moveBottom(self._at(area, 0, value).y() + metrics.height() / 2)
            painter.drawText(left, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{value:g}")
        below = QRectF(area.left(), area.bottom() + 2, area.width(), metrics.height())
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, "residual (noise levels) by step")
        if self.points:
            painter.drawText(below, Qt.AlignmentFlag.AlignRight, str(self.total))
        text.setAlphaF(0.6)
        painter.setPen(QPen(text, 1, Qt.PenStyle.DashLine))
        painter.drawLine(self._at(area, 0, 1), self._at(area, self.total, 1))
        painter.setPen(QPen(ink, 1.8))
        painter.drawPolyline(QPolygonF([self._at(area, step, value) for step, value in self.points]))
        painter.end()

    def _top(self) -> float:
        """Upper end of the scale: 2, or 5 or 10 where the curve goes above."""
        highest = max((value for _, value in self.points[-len(self.points) * 4 // 5 :]), default=0.0)
        return next((top for top in (2, 5) if highest <= top), 10)

    def _at(self, area: QRectF, step: int, value: float) -> QPointF:
        across = area.left() + area.width() * step / self.total
        return QPointF(across, area.bottom() - area.height() * min(value / self._top(), 1.0))
