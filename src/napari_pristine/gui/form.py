"""Params → form, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, LineEdit
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_pristine.gui.file_field import FileField
from napari_pristine.settings import Params, Setting, settings_of

_DECIMALS = 12
"""Digits behind the point that a number keeps: enough for a float32 image whose values are about 1e-6."""
_LARGEST = 2**31 - 1
_LONGEST_UNIT = 12
"""Letters of a unit for which there is room beside the number."""
_FILE = "_file"
"""How the names of settings end that name a file."""


class FloatBox(QDoubleSpinBox):  # type: ignore[misc]
    """A number field that shows 0.0001 as 0.0001, neither as 0.00 nor as 0.000100000000, whatever the locale."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.setDecimals(_DECIMALS)
        self.setRange(low, high)
        self.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)

    def textFromValue(self, value: float) -> str:  # noqa: N802
        return f"{value:.10g}"

    def valueFromText(self, text: str) -> float:  # noqa: N802
        return float(self._bare(text))

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        try:
            inside = self.minimum() <= self.valueFromText(text) <= self.maximum()
        except ValueError:
            begun = set(self._bare(text)) <= set("0123456789.-+eE")
            return (QValidator.State.Intermediate if begun else QValidator.State.Invalid), text, position
        return (QValidator.State.Acceptable if inside else QValidator.State.Intermediate), text, position

    def _bare(self, text: str) -> str:
        return text.removesuffix(self.suffix()).strip().replace(",", ".")


@dataclass(frozen=True, eq=False)
class FormRow:
    """One setting on the screen."""

    setting: Setting
    widget: QWidget
    get: Callable[[], Any]
    put: Callable[[Any], None]


class Form(QWidget):  # type: ignore[misc]
    """A form for the settings of a `Params` class; `changed` is emitted whenever the user changes one."""

    changed = Signal()

    def __init__(self, params: type[Params]) -> None:
        super().__init__()
        # lists are made elsewhere
        declared = [setting for setting in settings_of(params) if setting.type is not list]
        self.rows = {setting.name: _row(setting, self.changed.emit) for setting in declared}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(_sheet([row for row in self.rows.values() if not row.setting.advanced]))
        advanced = [row for row in self.rows.values() if row.setting.advanced]
        self.fold = QCollapsible("Advanced settings", expandedIcon="▾", collapsedIcon="▸")
        for part in (self.fold, self.fold.content()):
            part.layout().setContentsMargins(0, 4, 0, 0)
        self.fold.addWidget(_sheet(advanced))
        self.fold.setVisible(bool(advanced))
        layout.addWidget(self.fold)
        self.set({name: row.setting.default for name, row in self.rows.items()})

    def values(self) -> dict[str, Any]:
        """The values of all settings, as they stand in the form."""
        return {name: row.get() for name, row in self.rows.items()}

    def set(self, values: Mapping[str, Any]) -> None:
        """Show these values; settings that are not named stay as they are."""
        blocked = self.blockSignals(True)
        for name, row in self.rows.items():
            if name in values:
                row.put(values[name])
        self.blockSignals(blocked)
        self.changed.emit()


def sheet_in(parent: QWidget) -> QFormLayout:
    """An empty form in the look of the panel: labels on the left, fields as wide as there is room."""
    layout = QFormLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return layout


def label_for(field: QWidget, text: str) -> QLabel:
    """A label as wide as those of all other forms in the panel, so that the fields stand in line."""
    label = QLabel(text)
    label.setMinimumWidth(label.fontMetrics().horizontalAdvance("Refractive index    "))
    label.setToolTip(field.toolTip())
    return label


def _sheet(rows: list[FormRow]) -> QWidget:
    sheet = QWidget()
    layout = sheet_in(sheet)
    for row in rows:
        row.widget.setToolTip(_tip(row.setting))
        # the unit stands behind the number
        layout.addRow(label_for(row.widget, row.setting.title.removesuffix(f" ({row.setting.unit})")), row.widget)
    return sheet


def _tip(setting: Setting) -> str:
    unit = f" {setting.unit}" if setting.unit else ""
    return f"{setting.text}\nAllowed: {setting.allowed}{unit}" + (", or none" if setting.optional else "")


def _row(setting: Setting, changed: Callable[[], None]) -> FormRow:
    widget, get, put = _field(setting, changed)
    return (
        FormRow(setting, *_optional(setting.none, widget, get, put, changed))
        if setting.optional
        else FormRow(setting, widget, get, put)
    )


def _field(setting: Setting, changed: Callable[[], None]) -> tuple[QWidget, Callable[[], Any], Callable[[Any], None]]:
    if setting.type in (int, float) and not setting.choices:
        box = _number(setting)
        box.valueChanged.connect(changed)
        return box, box.value, box.setValue
    if setting.type is str and setting.name.endswith(_FILE):
        file = FileField()
        file.changed.connect(changed)
        return file, file.name, file.set_name
    if setting.choices:
        field = ComboBox(choices=setting.choices)
    elif setting.type is bool:
        field = CheckBox()
    elif setting.type is str:
        field = LineEdit()
    else:
        raise TypeError(f"there is no field for settings of type {setting.type}, as '{setting.name}' is")
    field.changed.connect(lambda _: changed())
    return field.native, lambda: field.value, lambda value: setattr(field, "value", value)


def _number(setting: Setting) -> QAbstractSpinBox:
    """A number field; those of magicgui round 1e-4 to 0 and know no units."""
    low = setting.bounds.get("ge", setting.bounds.get("gt", -_LARGEST))
    high = setting.bounds.get("le", setting.bounds.get("lt", _LARGEST))
    box = FloatBox(low, high) if setting.type is float else QSpinBox()
    if setting.type is int:
        box.setRange(int(low), int(high))
    if len(setting.unit) <= _LONGEST_UNIT:  # there is no room for others; they stand in the tooltip
        box.setSuffix(f" {setting.unit}" if setting.unit else "")
    box.setValue(1)  # what appears when 'none' is unticked, or the nearest that is allowed
    box.setMinimumWidth(90)
    return box


def _optional(
    word: str, widget: QWidget, get: Callable[[], Any], put: Callable[[Any], None], changed: Callable[[], None]
) -> tuple[QWidget, Callable[[], Any], Callable[[Any], None]]:
    """A field with a tick box for `None`, which stands for `word`."""
    both = QWidget()
    layout = QHBoxLayout(both)
    layout.setContentsMargins(0, 0, 0, 0)
    none = QCheckBox(word)
    layout.addWidget(none)
    layout.addWidget(widget, stretch=1)
    layout.addStretch()
    none.toggled.connect(widget.setHidden)
    none.toggled.connect(lambda _: changed())

    def put_or_none(value: Any) -> None:
        none.setChecked(value is None)
        if value is not None:
            put(value)

    return both, lambda: None if none.isChecked() else get(), put_or_none
