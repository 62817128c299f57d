"""Form for the settings that a `Params` class declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, LineEdit
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QHBoxLayout, QSpinBox, QVBoxLayout, QWidget

from napari_pristine.gui.widgets import FileField, FloatBox, collapsible, form_layout, label_for
from napari_pristine.settings import Params, Setting, settings_of

_MAXIMUM = 2**31 - 1
_MAX_UNIT_LENGTH = 12
"""Characters of a unit for which there is room behind the number; longer units are only in the tooltip."""
_FILE_SUFFIX = "_file"
"""End of the names of settings that hold a path."""


@dataclass(frozen=True, eq=False)
class Row:
    """One setting in a form: its widget, and functions that read and set the value."""

    setting: Setting
    widget: QWidget
    get: Callable[[], Any]
    set: Callable[[Any], None]


class SettingsForm(QWidget):  # type: ignore[misc]
    """Form for the settings of a `Params` class; `changed` is emitted when a value changes.

    Lists are left out: the only one, `extra_images`, has a widget of its own.
    """

    changed = Signal()

    def __init__(self, params: type[Params]) -> None:
        super().__init__()
        shown = [setting for setting in settings_of(params) if setting.type is not list]
        self.rows = {setting.name: _make_row(setting, self.changed.emit) for setting in shown}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(_lay_out([row for row in self.rows.values() if not row.setting.advanced]))
        advanced = [row for row in self.rows.values() if row.setting.advanced]
        self.advanced = collapsible("Advanced settings", _lay_out(advanced))
        self.advanced.setVisible(bool(advanced))
        layout.addWidget(self.advanced)
        self.set_values({name: row.setting.default for name, row in self.rows.items()})

    def values(self) -> dict[str, Any]:
        """The values of all settings, by name."""
        return {name: row.get() for name, row in self.rows.items()}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show these values and emit `changed` once; settings that are not named keep their values."""
        blocked = self.blockSignals(True)
        for name in self.rows.keys() & values.keys():
            self.rows[name].set(values[name])
        self.blockSignals(blocked)
        self.changed.emit()


def _lay_out(rows: list[Row]) -> QWidget:
    widget = QWidget()
    layout = form_layout(widget)
    for row in rows:
        setting = row.setting
        allowed = " ".join(filter(None, (setting.allowed, setting.unit))) + (", or none" if setting.optional else "")
        row.widget.setToolTip(f"{setting.text}\nAllowed: {allowed}")
        # the unit stands behind the number
        layout.addRow(label_for(row.widget, setting.title.removesuffix(f" ({setting.unit})")), row.widget)
    return widget


def _make_row(setting: Setting, changed: Callable[[], None]) -> Row:
    if setting.type in (int, float) and not setting.choices:
        number = _number_box(setting)
        number.valueChanged.connect(lambda _: changed())
        row = Row(setting, number, number.value, number.setValue)
    elif setting.type is str and setting.name.endswith(_FILE_SUFFIX):
        file = FileField()
        file.changed.connect(changed)
        row = Row(setting, file, file.path, file.set_path)
    else:
        if setting.choices:
            field = ComboBox(choices=setting.choices)
        elif setting.type is bool:
            field = CheckBox()
        elif setting.type is str:
            field = LineEdit()
        else:
            raise TypeError(f"there is no field for settings of type {setting.type}, such as '{setting.name}'")
        field.changed.connect(lambda _: changed())
        row = Row(setting, field.native, lambda: field.value, lambda value: setattr(field, "value", value))
    return _with_none(row, changed) if setting.optional else row


def _number_box(setting: Setting) -> QAbstractSpinBox:
    """Make a number field; magicgui's fields round 1e-4 to 0 and show no units."""
    low = setting.bounds.get("ge", setting.bounds.get("gt", -_MAXIMUM))
    high = setting.bounds.get("le", setting.bounds.get("lt", _MAXIMUM))
    box = FloatBox(low, high) if setting.type is float else QSpinBox()
    if setting.type is int:
        box.setRange(int(low), int(high))
    if setting.unit and len(setting.unit) <= _MAX_UNIT_LENGTH:
        box.setSuffix(f" {setting.unit}")
    box.setValue(1)  # shown when 'none' is unticked; Qt takes the nearest allowed value
    box.setMinimumWidth(90)
    return box


def _with_none(row: Row, changed: Callable[[], None]) -> Row:
    """Put a tick box for `None` before a field; while it is ticked, the field is hidden."""
    widget = QWidget()
    layout = QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    none = QCheckBox(row.setting.none)
    layout.addWidget(none)
    layout.addWidget(row.widget, stretch=1)
    layout.addStretch()
    none.toggled.connect(row.widget.setHidden)
    none.toggled.connect(lambda _: changed())

    def set_value(value: Any) -> None:
        none.setChecked(value is None)
        if value is not None:
            row.set(value)

    return Row(row.setting, widget, lambda: None if none.isChecked() else row.get(), set_value)
