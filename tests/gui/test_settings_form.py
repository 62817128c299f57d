from __future__ import annotations

from typing import Any, Literal

import pytest

from napari_pristine.gui.settings_form import SettingsForm
from napari_pristine.gui.widgets import FileField, FloatBox
from napari_pristine.methods import METHODS
from napari_pristine.settings import Params, setting, settings_of

pytestmark = pytest.mark.gui


def without_lists(values: dict[str, Any]) -> dict[str, Any]:
    """Lists, such as extra images, are made by a part of the panel of their own."""
    return {name: value for name, value in values.items() if not isinstance(value, (list, tuple))}


EVERY_PRESET = [(key, preset) for key, method in METHODS.items() for preset in method.presets]


@pytest.mark.parametrize("key", METHODS)
def test_a_new_form_holds_every_default_exactly(qtbot, key):
    form = SettingsForm(METHODS[key].params)
    qtbot.addWidget(form)
    assert form.values() == without_lists(METHODS[key].params().model_dump())


@pytest.mark.parametrize(("key", "preset"), EVERY_PRESET)
def test_the_form_gives_back_every_preset_exactly(qtbot, key, preset):
    method = METHODS[key]
    form = SettingsForm(method.params)
    qtbot.addWidget(form)
    wanted = method.settings(preset)
    form.set_values(wanted.model_dump())
    assert form.values() == without_lists(wanted.model_dump())
    assert method.params(**form.values()) == wanted


class Odd(Params):
    tiny: float = setting(1.5e-7, "A small number.", gt=0)
    maybe: float | None = setting(None, "A number or none.", unit="pixels", ge=0.5)
    number: int | None = setting(7, "A whole number or none.", ge=1, le=9)
    kind: Literal["a", "b"] = setting("b", "A choice.")
    count: Literal[1, 2, 4] = setting(2, "A choice of numbers.", advanced=True)
    name: str = setting("x y", "A text.", advanced=True)
    big: int = setting(2_000_000, "A large number.", ge=0)
    below: int = setting(-3, "A negative one.")
    yes: bool = setting(True, "A switch.")


def test_every_type_of_setting_survives_the_form(qtbot):
    form = SettingsForm(Odd)
    qtbot.addWidget(form)
    assert form.values() == Odd().model_dump()
    other = Odd(tiny=3e-5, maybe=2.25, number=None, kind="a", count=4, name="", big=5, below=9, yes=False)
    form.set_values(other.model_dump())
    assert form.values() == other.model_dump()


def test_rows_carry_label_text_unit_and_range(qtbot):
    form = SettingsForm(Odd)
    qtbot.addWidget(form)
    row = form.rows["maybe"]
    assert "A number or none." in row.widget.toolTip()
    assert "≥ 0.5 pixels, or none" in row.widget.toolTip()
    assert row.widget.findChild(FloatBox).suffix() == " pixels"
    assert row.widget.findChild(FloatBox).minimum() == 0.5


def test_advanced_settings_are_folded_away(qtbot):
    form = SettingsForm(Odd)
    qtbot.addWidget(form)
    assert not form.advanced.isExpanded()
    for name, row in form.rows.items():
        declared = next(s for s in settings_of(Odd) if s.name == name)
        assert form.advanced.isAncestorOf(row.widget) == declared.advanced


def test_the_form_says_so_once_when_a_setting_changes(qtbot):
    form = SettingsForm(Odd)
    qtbot.addWidget(form)
    with qtbot.waitSignal(form.changed):
        form.rows["tiny"].set(0.25)
    notifications = []
    form.changed.connect(lambda: notifications.append(1))
    form.set_values(Odd(tiny=0.5, big=1).model_dump())
    assert notifications == [1]


@pytest.mark.parametrize(("typed", "value"), [("0,5", 0.5), ("1e-4", 1e-4), ("2.5 pixels", 2.5)])
def test_a_number_can_be_typed_in_any_usual_way(qtbot, typed, value):
    box = FloatBox(0, 10)
    box.setSuffix(" pixels")
    qtbot.addWidget(box)
    box.lineEdit().setText(typed)
    box.interpretText()
    assert box.value() == value


def test_letters_cannot_be_typed_into_a_number(qtbot):
    box = FloatBox(0, 100)
    qtbot.addWidget(box)
    box.clear()
    qtbot.keyClicks(box, "4x2")
    box.interpretText()
    assert box.value() == 42


class WithFile(Params):
    psf_file: str = setting("", "A file.")


def test_a_setting_that_names_a_file_has_a_button_to_look_for_it(qtbot):
    form = SettingsForm(WithFile)
    qtbot.addWidget(form)
    field = form.rows["psf_file"].widget
    assert isinstance(field, FileField)
    field.line.setText(" a folder/spot.tif ")
    assert form.values() == {"psf_file": "a folder/spot.tif"}


@pytest.mark.parametrize("key", METHODS)
def test_nothing_in_a_form_is_cut_off(qtbot, key):
    form = SettingsForm(METHODS[key].params)
    qtbot.addWidget(form)
    form.advanced.expand(animate=False)
    form.resize(form.minimumSizeHint())
    form.show()
    qtbot.waitExposed(form)
    for name, row in form.rows.items():
        label = row.widget.parentWidget().layout().labelForField(row.widget)
        for widget in (label, row.widget):
            assert widget.width() >= widget.minimumSizeHint().width(), name
