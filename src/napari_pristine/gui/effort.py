"""Choice of the effort: one button for each preset, with the time and the memory that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QSizePolicy, QWidget

_TITLES = {"fast": "Quick", "balanced": "Balanced", "best": "Best", "paper": "As published"}
_ORDER = list(_TITLES)
_TOOLTIPS = {
    "fast": "A first look: one pass, or few steps.",
    "balanced": "What suits most images.",
    "best": "Tries more, and takes the result with the least estimated error.",
    "paper": "The settings of the publication; without a GPU it may take hours.",
}


_COSTS = "On the button: about how long the chosen region takes, and how much memory this program then uses."


def effort_title(preset: str) -> str:
    """Title of a preset as an effort, such as `Quick`."""
    return _TITLES.get(preset, preset.capitalize())


class EffortSelect(QWidget):  # type: ignore[misc]
    """Buttons of which one is chosen; `changed` is emitted when another is, `clicked` also for the same one."""

    changed = Signal()
    clicked = Signal()

    def __init__(self, presets: Sequence[str], first: str = "balanced") -> None:
        super().__init__()
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QPushButton] = {}
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._chosen = first
        self._group.buttonClicked.connect(self._on_clicked)
        self.set_presets(presets)

    @property
    def value(self) -> str:
        """The chosen preset."""
        return self._chosen

    @value.setter
    def value(self, preset: str) -> None:
        if preset not in self._buttons:
            raise ValueError(f"there is no preset '{preset}'; choose from {', '.join(self._buttons)}")
        self._buttons[preset].setChecked(True)
        if preset != self._chosen:
            self._chosen = preset
            self.changed.emit()

    def set_presets(self, presets: Sequence[str]) -> None:
        """Offer other presets; the chosen one is kept if it is among them, else `balanced` is chosen, silently."""
        for button in self._buttons.values():
            self._group.removeButton(button)
            self._layout.removeWidget(button)
            button.setParent(None)
            button.deleteLater()
        self._buttons = {}
        for preset in sorted(presets, key=lambda preset: _ORDER.index(preset) if preset in _ORDER else len(_ORDER)):
            button = QPushButton(effort_title(preset))
            button.setCheckable(True)
            button.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)  # all of one height
            button.setToolTip("\n".join(filter(None, (_TOOLTIPS.get(preset, ""), _COSTS))))
            self._group.addButton(button)
            self._layout.addWidget(button)
            self._buttons[preset] = button
        if self._chosen not in self._buttons:
            self._chosen = "balanced"
        self._buttons[self._chosen].setChecked(True)

    def show_costs(self, costs: Mapping[str, str]) -> None:
        """Show the time and the memory that each preset takes; of those that are not named, they are not known."""
        for preset, button in self._buttons.items():
            title = effort_title(preset)
            button.setText(f"{title}\n{costs[preset]}" if preset in costs else title)

    def title(self) -> str:
        """Title of the chosen preset, in lower case."""
        return effort_title(self._chosen).lower()

    def _on_clicked(self, button: QPushButton) -> None:
        self.value = next(preset for preset, known in self._buttons.items() if known is button)
        self.clicked.emit()
