from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox

from napari_pristine.errors import SettingError
from napari_pristine.gui.settings_form import SettingsForm
from napari_pristine.gui.widgets import FileField, FloatBox
from napari_pristine.methods import METHODS
from napari_pristine.methods.degradation import Degradation
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
    maybe: float | None = setting(
        None, "A number or none.", title="Perhaps", unit="pixels", none="measured", higher="more", ge=0.5
    )
    number: int | None = setting(7, "A whole number or none.", ge=1, le=9)
    kind: Literal["a", "b"] = setting("b", "A choice.", labels={"a": "first"})
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
    assert row.widget.toolTip() == "A number or none.\nHigher: more.\nAt least 0.5 pixels; or measured."
    assert row.label.text() == "Perhaps"
    assert row.label.toolTip() == row.widget.toolTip()
    assert row.widget.findChild(FloatBox).minimum() == 0.5


def test_the_unit_of_one_is_in_the_singular(qtbot):
    form = SettingsForm(Odd)
    qtbot.addWidget(form)
    box = form.rows["maybe"].widget.findChild(FloatBox)
    shown = []
    for value in (1, 1.5, 0.5, 1):
        form.set_values({"maybe": value})
        shown.append(box.text())
    assert shown == ["1 pixel", "1.5 pixels", "0.5 pixels", "1 pixel"]


def test_a_number_that_is_being_typed_counts(qtbot):
    form = SettingsForm(Odd)
    qtbot.addWidget(form)
    form.set_values({"maybe": 1})
    box = form.rows["maybe"].widget.findChild(FloatBox)
    box.selectAll()
    qtbot.keyClicks(box, "1.05")
    assert box.text() == "1.05 pixel"  # nothing jumps while somebody types
    assert form.values()["maybe"] == 1.05
    assert box.text() == "1.05 pixels"


def test_switches_choices_and_texts_have_no_range(qtbot):
    form = SettingsForm(Odd)
    qtbot.addWidget(form)
    assert form.rows["yes"].widget.toolTip() == "A switch."
    assert form.rows["kind"].widget.toolTip() == "A choice."
    assert form.rows["name"].widget.toolTip() == "A text."


def test_choices_have_names_for_people(qtbot):
    form = SettingsForm(Odd)
    qtbot.addWidget(form)
    box = form.rows["kind"].widget.findChild(QComboBox) or form.rows["kind"].widget
    assert [box.itemText(row) for row in range(box.count())] == ["first", "b"]


def shown(form: SettingsForm) -> set[str]:
    return {name for name, row in form.rows.items() if not row.widget.isHidden() and not row.label.isHidden()}


@pytest.mark.parametrize("key", METHODS)
def test_only_settings_that_have_an_effect_are_shown(qtbot, key):
    form = SettingsForm(METHODS[key].params)
    qtbot.addWidget(form)
    conditional = {s.name for s in settings_of(METHODS[key].params) if s.only or s.unless}
    changes = [(name, value) for name, values in SWITCHES.items() for value in values]
    for name, value in changes:
        if name not in form.rows or not isinstance(value, form.rows[name].setting.type):
            continue
        form.set_values({name: value})
        hidden = {n for n, row in form.rows.items() if not row.setting.applies(form.values())}
        assert shown(form) == form.rows.keys() - hidden
        assert hidden <= conditional


SWITCHES: dict[str, list[Any]] = {
    "blur": ["gaussian", "airy", "gibson-lanni", "file", "none"],
    "finer": [2, 1], "steps": [30, 1], "optimiser": ["adam", "muon"], "unet": ["paper", "small"], "warm_start": [False],
}  # fmt: skip


def test_the_fields_of_the_optics_are_those_of_the_blur(qtbot):
    form = SettingsForm(Degradation)
    qtbot.addWidget(form)
    optics = {"blur_width", "blur_depth", "wavelength", "aperture", "refractive_index", "immersion", "depth"}
    optics |= {"pixel_size", "psf_file", "boundary"}
    wanted = {
        "none": set(),
        "gaussian": {"blur_width", "blur_depth", "boundary"},
        "airy": {"wavelength", "aperture", "refractive_index", "pixel_size", "boundary"},
        "gibson-lanni": optics - {"blur_width", "blur_depth", "psf_file"},
        "file": {"psf_file", "boundary"},
    }
    for blur, fields in wanted.items():
        form.set_values({"blur": blur})
        assert shown(form) & optics == fields, blur


def test_a_section_without_fields_is_hidden(qtbot):
    form = SettingsForm(WithFile)
    qtbot.addWidget(form)
    assert form.advanced.isHidden()


def test_tab_goes_from_top_to_bottom(qtbot):
    form = SettingsForm(METHODS["linr"].params)
    qtbot.addWidget(form)
    form.advanced.expand(animate=False)
    form.grab()  # which lays it out
    chain = [form]
    while (part := chain[-1].nextInFocusChain()) is not form:
        chain.append(part)
    parts = [p for p in chain if p.isVisibleTo(form) and p.focusPolicy() & Qt.FocusPolicy.TabFocus and p is not form]
    heights = [part.mapTo(form, part.rect().center()).y() for part in parts]
    assert len(heights) > 20
    assert all(below > above - 12 for above, below in itertools.pairwise(heights))


def test_a_layer_can_be_the_measured_psf(qtbot, viewer, tmp_path):
    form = SettingsForm(Degradation, viewer)
    qtbot.addWidget(form)
    assert form.psf() is None
    form.set_values({"blur": "file"})
    with pytest.raises(SettingError, match="none is chosen; choose a layer or a file"):
        form.psf()
    viewer.add_image(np.zeros((600, 600)), name="cells")
    bead = viewer.add_image(np.eye(9, dtype=np.float32), name="bead")
    form.refresh()
    box = form.psf_select.layer_box.box
    assert list(box.choices) == ["", "bead"]
    form.psf_select.layer_box.choose(bead)
    assert form.psf_select.file.isHidden()
    assert form.values()["psf_file"] == ""
    np.testing.assert_array_equal(form.psf().data, bead.data)
    with pytest.raises(SettingError, match="'bead' is not saved"):
        form.values_for_files()
    form.set_values({"psf_file": "bead.tif"})
    assert form.psf() is None
    assert form.values_for_files()["psf_file"] == "bead.tif"
    form.set_values({"blur": "none"})
    assert form.psf() is None


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
    for name in shown(form):
        row = form.rows[name]
        label = row.widget.parentWidget().layout().labelForField(row.widget)
        for widget in (label, row.widget):
            assert widget.width() >= widget.minimumSizeHint().width(), name
