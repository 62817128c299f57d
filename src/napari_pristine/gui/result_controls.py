"""Controls for the result that is shown: its strength, the steps of its fit, and the way to the comparison."""

from __future__ import annotations

from napari import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_pristine.gui.mixture import MIXED_AT_ONCE
from napari_pristine.gui.result_layer import ResultLayer
from napari_pristine.gui.widgets import button, side_by_side


class ResultControls(QWidget):  # type: ignore[misc]
    """Lower end of the restore panel; hidden while there is no result.

    Signals:
        step_chosen: The fit is to end after this step.
        compare_clicked: The result is to be compared with the noisy image.

    Args:
        viewer: The napari viewer.
    """

    step_chosen = Signal(int)
    compare_clicked = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.result: ResultLayer | None = None
        self._steps, self._stopped = 0, False
        self.strength = QSlider(Qt.Orientation.Horizontal)
        self.strength.setRange(0, 100)
        self.strength.setValue(100)
        self.strength.setToolTip("Share of the restored image in the result, in %; the rest is the noisy image.")
        self.strength_label = QLabel("100 %")
        self.channel_box = QCheckBox("only this channel")
        self.channel_box.setToolTip(
            "Change the strength of the channel that is shown; the others keep theirs. If unticked, all have the same."
        )
        self.step = QSlider(Qt.Orientation.Horizontal)
        self.step.setToolTip("The fit as it was after some of its steps; the right end is the result.")
        self.step_label = QLabel()
        self.step_button = button(
            "&Use this step",
            "Restore again with a fit that ends after this step, and refine it. The step is kept in the settings "
            "(End after step), so that recipes and code repeat it.",
            self._on_step_chosen,
        )
        self.compare_button = button(
            "Compare…",
            "Noisy, restored and removed side by side, with figures and plots.",
            self.compare_clicked.emit,
        )
        labels = QLabel("Fit"), QLabel("Strength")
        for label, slider in zip(labels, (self.step, self.strength), strict=True):
            label.setBuddy(slider)  # screen readers name the slider by it
            label.setToolTip(slider.toolTip())
            label.setMinimumWidth(labels[1].sizeHint().width())
        self.step_row = side_by_side(labels[0], self.step, self.step_label, self.step_button)
        self.strength_row = side_by_side(labels[1], self.strength, self.strength_label)
        last_row = QHBoxLayout()
        last_row.addWidget(self.channel_box)
        last_row.addStretch()
        last_row.addWidget(self.compare_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.step_row)
        layout.addWidget(self.strength_row)
        layout.addLayout(last_row)
        self.strength.valueChanged.connect(self._on_strength)
        self.strength.sliderMoved.connect(self._label_strength)  # of large planes, only the last value is applied
        self.channel_box.toggled.connect(self._on_channel_box)
        self.step.valueChanged.connect(self._on_step)
        viewer.dims.events.current_step.connect(self._show_strength)

    def show_result(self, result: ResultLayer | None, steps: int, *, stopped: bool) -> None:
        """Show the strength and the steps of a result.

        Args:
            result: The result; none if there is none, or a job is running.
            steps: Number of steps of its fit.
            stopped: True if the fit has ended before, by a rule.
        """
        self.result, self._steps, self._stopped = result, steps, stopped
        last = 0 if result is None else max(len(result.snapshots) - 1, 0)
        blocked = self.step.blockSignals(True)
        self.step.setRange(0, last)
        self.step.setValue(last)
        self.step.blockSignals(blocked)
        self.step_row.setVisible(last > 0)
        self.strength_row.setVisible(result is not None and result.can_mix)
        self._label_step()
        self._show_strength()

    def _show_strength(self, _: object = None) -> None:
        """Show the strength of the channel that is shown."""
        result = self.result
        if result is None or result.mixture is None:
            return
        self.strength.setTracking(result.mixture.plane_size <= MIXED_AT_ONCE)
        blocked = self.strength.blockSignals(True)
        self.strength.setValue(round(100 * result.strengths[result.channel]))
        self.strength.blockSignals(blocked)
        self._label_strength(self.strength.value())
        self.channel_box.setVisible(len(result.strengths) > 1)

    def _label_strength(self, percent: int) -> None:
        self.strength_label.setText(f"{percent} %")

    def _on_strength(self, percent: int) -> None:
        self._label_strength(percent)
        if self.result is not None:
            shares = [percent / 100] * len(self.result.strengths)
            if self.channel_box.isChecked():
                shares = [*self.result.strengths]
                shares[self.result.channel] = percent / 100
            self.result.mix(shares)

    def _on_channel_box(self, alone: bool) -> None:
        if not alone:
            self._on_strength(self.strength.value())  # for all channels

    def _on_step(self, number: int) -> None:
        if self.result is not None:
            self.result.show_snapshot(number)
            self._label_step()

    def _on_step_chosen(self) -> None:
        if self.result is not None:
            self.step_chosen.emit(self.result.snapshots[self.step.value()][0])

    def _label_step(self) -> None:
        """Name the step that is shown, or the end of the fit."""
        if self.result is None or not self.result.snapshots:
            return
        number = self.step.value()
        last = number == self.step.maximum()
        end = "automatic stop" if self._stopped else "result"
        self.step_label.setText(end if last else f"step {self.result.snapshots[number][0]} of {self._steps}")
        self.step_button.setEnabled(not last)
