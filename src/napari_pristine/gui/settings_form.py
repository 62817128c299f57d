"""Form for the settings that a `Params` class declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, LineEdit
from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_pristine.errors import SettingError
from napari_pristine.gui.layer_select import LayerComboBox
from napari_pristine.gui.layers import image_from_layer, layer_axes, layer_data
from napari_pristine.gui.widgets import FileField, FloatBox, collapsible, form_layout, label_for, show_unit
from napari_pristine.image.image import Image
from napari_pristine.settings import Params, Setting, settings_of

_MAXIMUM = 2**31 - 1
_MAX_UNIT_LENGTH = 12
"""Characters of a unit for which there is room behind the number; longer units are only in the tooltip."""
_FILE_SUFFIX = "_file"
"""End of the names of settings that hold a path."""
_PSF = "psf_file"
"""Setting for a measured point spread function, which can be a layer as well."""
_MAX_PSF_SIDE = 512
"""Pixels along the longest side of a layer that is offered as point spread function."""


@dataclass(frozen=True, eq=False)
class Row:
    """One setting in a form: its label and widget, and functions that read and set the value."""

    setting: Setting
    widget: QWidget
    get: Callable[[], Any]
    set: Callable[[Any], None]
    label: QLabel


class SettingsForm(QWidget):  # type: ignore[misc]
    """Form for the settings of a `Params` class; `changed` is emitted when a value changes.

    Settings that have no effect, given the values of the others, are hidden; they keep their values. Lists are left
    out: the only one, `extra_images`, has a widget of its own.

    Args:
        params: The class.
        viewer: The napari viewer, of which a layer can be the measured point spread function; only files if none.
    """

    changed = Signal()

    def __init__(self, params: type[Params], viewer: Viewer | None = None) -> None:
        super().__init__()
        self.psf_select: PsfSelect | None = None
        self.rows: dict[str, Row] = {}
        for setting in settings_of(params):
            if setting.type is not list:
                self.rows[setting.name] = self._make_row(setting, viewer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(_lay_out([row for row in self.rows.values() if not row.setting.advanced]))
        self.advanced = collapsible(
            "Advanced settings", _lay_out([row for row in self.rows.values() if row.setting.advanced])
        )
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
        self._on_changed()

    def psf(self) -> Image | None:
        """The layer that is chosen as point spread function, as an image; `None` if none is needed, or a file is.

        Raises:
            SettingError: One is needed, and neither a layer nor a file is chosen.
        """
        if _PSF not in self.rows or not self.rows[_PSF].setting.applies(self.values()):
            return None
        layer = None if self.psf_select is None else self.psf_select.layer
        if layer is not None:
            return image_from_layer(layer, layer_axes(layer))
        if not self.rows[_PSF].get():
            raise SettingError(
                "the blur is that of a measured PSF, and none is chosen; choose a layer or a file as PSF"
            )
        return None

    def values_for_files(self) -> dict[str, Any]:
        """The values for a recipe that is applied to files: the point spread function is named by its file.

        Raises:
            SettingError: It is a layer that has no file, or none is chosen.
        """
        values, image = self.values(), self.psf()
        if image is not None and self.psf_select is not None and self.psf_select.layer is not None:
            path = self.psf_select.layer.source.path
            if not path:
                raise SettingError(
                    f"the PSF '{image.name}' is not saved; save the layer as a TIFF file, and choose that file as PSF"
                )
            values[_PSF] = str(Path(path).absolute())
        return values

    def refresh(self) -> None:
        """Update the entries to the layers of the viewer."""
        if self.psf_select is not None:
            self.psf_select.refresh()

    def _make_row(self, setting: Setting, viewer: Viewer | None) -> Row:
        """Make the widget of a setting, with its label and tooltip."""
        if setting.name == _PSF and viewer is not None:
            self.psf_select = PsfSelect(viewer)
            self.psf_select.changed.connect(self._on_changed)
            field: _Field = self.psf_select, self.psf_select.path, self.psf_select.set_path
        else:
            field = _make_field(setting, self._on_changed)
        widget, get, set_value = _with_none(setting, field, self._on_changed) if setting.optional else field
        widget.setToolTip(setting.help)
        return Row(setting, widget, get, set_value, label_for(widget, setting.title))

    def _on_changed(self, *_: object) -> None:
        """Show the settings that have an effect."""
        if self.signalsBlocked():
            return
        values = self.values()
        for row in self.rows.values():
            applies = row.setting.applies(values)
            row.widget.setVisible(applies)
            row.label.setVisible(applies)
        self.advanced.setVisible(any(r.setting.advanced and r.setting.applies(values) for r in self.rows.values()))
        self.changed.emit()


class PsfSelect(QWidget):  # type: ignore[misc]
    """Choice of a measured point spread function, a layer or a file; `changed` is emitted when it changes.

    Args:
        viewer: The napari viewer.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.layer_box = LayerComboBox(viewer, _can_be_psf, "", none="from a file")
        self.file = FileField(placeholder="TIFF or .npy file")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.layer_box.box.native)
        layout.addWidget(self.file)
        self.setFocusProxy(self.layer_box.box.native)
        self.layer_box.box.changed.connect(self._on_changed)
        self.file.changed.connect(self._on_changed)

    @property
    def layer(self) -> ImageLayer | None:
        """The chosen layer; `None` if a file is to be chosen."""
        return self.layer_box.layer

    def path(self) -> str:
        """The chosen file; empty if a layer is chosen."""
        return "" if self.layer is not None else self.file.path()

    def set_path(self, path: str) -> None:
        """Choose a file; an empty path leaves a chosen layer as it is."""
        if path:
            self.layer_box.box.value = ""
            self.file.set_path(path)
        elif self.layer is None:
            self.file.set_path("")

    def refresh(self) -> None:
        """Update the entries to the layers of the viewer."""
        self.layer_box.refresh()
        self.file.setVisible(self.layer is None)

    def _on_changed(self, *_: object) -> None:
        self.file.setVisible(self.layer is None)
        self.changed.emit()


def _can_be_psf(layer: Layer) -> bool:
    if not isinstance(layer, ImageLayer) or layer.rgb or layer.multiscale:
        return False
    return layer.ndim in (2, 3) and max(layer_data(layer).shape) <= _MAX_PSF_SIDE


_Field = tuple[QWidget, Callable[[], Any], Callable[[Any], None]]
"""A widget, and functions that read and set its value."""


def _lay_out(rows: list[Row]) -> QWidget:
    widget = QWidget()
    layout = form_layout(widget)
    for row in rows:
        layout.addRow(row.label, row.widget)
    return widget


def _make_field(setting: Setting, changed: Callable[..., None]) -> _Field:
    if setting.type in (int, float) and not setting.choices:
        return _number_field(setting, changed)
    if setting.type is str and setting.name.endswith(_FILE_SUFFIX):
        file = FileField()
        file.changed.connect(changed)
        return file, file.path, file.set_path
    if setting.choices:
        field = ComboBox(choices=[(setting.labels.get(str(choice), str(choice)), choice) for choice in setting.choices])
    elif setting.type is bool:
        field = CheckBox()
    elif setting.type is str:
        field = LineEdit()
    else:
        raise TypeError(f"there is no field for settings of type {setting.type}, such as '{setting.name}'")
    field.changed.connect(changed)
    return field.native, lambda: field.value, lambda value: setattr(field, "value", value)


def _number_field(setting: Setting, changed: Callable[..., None]) -> _Field:
    """Make a number field; magicgui's fields round 1e-4 to 0 and show no units."""
    low = setting.bounds.get("ge", setting.bounds.get("gt", -_MAXIMUM))
    high = setting.bounds.get("le", setting.bounds.get("lt", _MAXIMUM))
    box: QAbstractSpinBox = FloatBox(low, high) if setting.type is float else QSpinBox()
    if setting.type is int:
        box.setRange(int(low), int(high))
    if setting.unit and len(setting.unit) <= _MAX_UNIT_LENGTH:
        show_unit(box, setting.unit)
    box.setValue(1)  # shown when 'none' is unticked; Qt takes the nearest allowed value
    box.setMinimumWidth(90)
    box.valueChanged.connect(changed)

    def value() -> Any:
        box.interpretText()  # a number that is still being typed
        return box.value()

    return box, value, box.setValue


def _with_none(setting: Setting, field: _Field, changed: Callable[..., None]) -> _Field:
    """Put a tick box for `None` before a field; while it is ticked, the field is hidden."""
    inner, get, set_inner = field
    widget = QWidget()
    layout = QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    none = QCheckBox(setting.none)
    layout.addWidget(none)
    layout.addWidget(inner, stretch=1)
    layout.addStretch()
    widget.setFocusProxy(none)
    none.toggled.connect(inner.setHidden)
    none.toggled.connect(changed)

    def set_value(value: Any) -> None:
        none.setChecked(value is None)
        if value is not None:
            set_inner(value)

    return widget, lambda: None if none.isChecked() else get(), set_value
