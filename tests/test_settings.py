"""Settings are declared once, refused with a clear message, and survive being stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given
from pydantic import ValidationError

from allowed import TUNABLE, allowed_values
from napari_pristine import METHODS
from napari_pristine.errors import SettingError
from napari_pristine.recipe import Recipe
from napari_pristine.settings import Params, Setting, make, setting, settings_of

PRESETS = [(method.key, preset) for method in METHODS.values() for preset in method.presets]
CLASSES: list[type[Params]] = [Recipe, *(method.params for method in METHODS.values())]
DECLARED = [(params, s) for params in CLASSES for s in settings_of(params)]
BEYOND: dict[str, Callable[[float], float]] = {
    "ge": lambda limit: limit - 1, "gt": lambda limit: limit, "le": lambda limit: limit + 1, "lt": lambda limit: limit,
}  # fmt: skip


class Example(Params):
    count: int = setting(3, "How many.", ge=1, le=9)
    rate: float | None = setting(None, "How fast; none measures it.", unit="pixels", gt=0, advanced=True)
    mode: str = setting("a", "Which.")
    flag: bool = setting(False, "Whether.")
    kind: Literal["none", "square"] = setting("square", "What kind.")


def complaint(params: type[Params], values: dict[str, Any]) -> str:
    """The message for values that are refused: one line."""
    with pytest.raises(SettingError) as caught:
        make(params, values)
    text = str(caught.value)
    assert "\n" not in text
    assert "pydantic" not in text
    return text


@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_every_preset_survives_json_and_yaml(method: str, preset: str) -> None:
    recipe = make(Recipe, {"method": method, "preset": preset, "select": {"T": "0:2"}, "seed": 7})
    assert recipe.params == METHODS[method].settings(preset)  # also: asking for it leaves the recipe equal to its copy
    plain = recipe.model_dump(mode="json")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert make(Recipe, json.loads(json.dumps(plain))) == recipe
    assert make(Recipe, yaml.safe_load(yaml.safe_dump(plain))).params == recipe.params


@given(data=st.data())
def test_any_allowed_value_survives_json(data: st.DataObject) -> None:
    method, declared = data.draw(st.sampled_from(TUNABLE))
    value = data.draw(allowed_values(declared))
    recipe = make(Recipe, {"method": method, "settings": {declared.name: value}})
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    assert getattr(again.params, declared.name) == value


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_json_cannot_hold_are_refused(value: float) -> None:
    assert "'rate'" in complaint(Example, {"rate": value})


@pytest.mark.parametrize("key", list(METHODS))
def test_a_stored_recipe_is_complete(key: str) -> None:
    stored = make(Recipe, {"method": key, "preset": "fast"}).model_dump()
    assert set(stored["settings"]) == set(METHODS[key].params.model_fields)
    # whatever becomes of the preset, what was stored decides
    assert make(Recipe, {**stored, "preset": "balanced"}).params == METHODS[key].settings("fast")


@pytest.mark.parametrize("key", list(METHODS))
def test_a_setting_overrides_its_preset_and_nothing_else(key: str) -> None:
    before, after = METHODS[key].settings("fast"), METHODS[key].settings("fast", {"tile": 128})
    assert after.model_dump() == {**before.model_dump(), "tile": 128}


@pytest.mark.parametrize(("params", "declared"), DECLARED, ids=lambda x: getattr(x, "name", ""))
def test_every_setting_says_what_it_is(params: type[Params], declared: Setting) -> None:
    assert declared.text.endswith(".")
    assert declared.title[0].isupper()
    assert declared.allowed
    assert params is Recipe or bool(declared.higher) == (declared.type in (int, float) and not declared.choices)
    assert set(declared.labels) <= set(map(str, declared.choices))
    assert declared.help.startswith(declared.text)
    assert make(params, {declared.name: declared.default}) == make(params, {})


@pytest.mark.parametrize(("params", "declared"), DECLARED, ids=lambda x: getattr(x, "name", ""))
def test_every_condition_names_a_setting_and_values_that_exist(params: type[Params], declared: Setting) -> None:
    values = params().model_dump()
    for name, *allowed in (rule for rule in (declared.only, declared.unless) if rule):
        for value in allowed:
            try:
                make(params, {name: value})
            except SettingError:
                # the pretrained network is a choice of some of the methods that share a setting
                assert (name, value) == ("unet", "pretrained")
        for value in allowed:
            assert declared.applies({**values, **_others(declared), name: value}) == (name == _first(declared.only))
    assert bool(declared.condition) == bool(declared.only or declared.unless)


def _first(rule: tuple[Any, ...]) -> Any:
    return rule[0] if rule else None


def _others(declared: Setting) -> dict[str, Any]:
    """Values with which the other condition holds."""
    only = {declared.only[0]: declared.only[1]} if declared.only else {}
    return only | ({declared.unless[0]: object()} if declared.unless else {})


def test_a_condition_is_told_in_words() -> None:
    declared = {s.name: s for s in settings_of(METHODS["linr"].params)}
    assert declared["aperture"].condition == "only if blur is airy or gibson-lanni"
    assert declared["rounds"].condition == "only if refine is on"
    assert declared["finer_axes"].condition == "not if finer is 1"
    assert declared["sigma"].condition == ""


OUTSIDE = [(params, s, bound) for params, s in DECLARED for bound in s.bounds]


@pytest.mark.parametrize(("params", "declared", "bound"), OUTSIDE, ids=lambda x: getattr(x, "name", str(x)[:2]))
def test_a_value_out_of_range_is_refused_by_name(params: type[Params], declared: Setting, bound: str) -> None:
    limit = declared.bounds[bound]
    text = complaint(params, {declared.name: BEYOND[bound](limit)})
    assert f"'{declared.name}'" in text
    assert f"{limit:g}" in text or str(limit) in text
    assert "got" in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"speed": 1}, ["no setting 'speed'", "count, flag, kind, mode, rate"]),
        ({"count": "many"}, ["'count'", "whole number ≥ 1 and ≤ 9", "'many'"]),
        ({"count": 1.5}, ["'count'", "whole number", "1.5"]),
        ({"count": "x" * 1000}, ["'count'", "xxx…"]),
        ({"rate": 0}, ["'rate'", "a number > 0 (in pixels), or none", "got 0"]),
        ({"rate": "fast"}, ["'rate'", "a number > 0", "'fast'"]),
        ({"mode": None}, ["'mode'", "a text", "None"]),
        ({"flag": "perhaps"}, ["'flag'", "true or false", "'perhaps'"]),
        ({"kind": "round"}, ["'kind'", "one of none, square", "'round'"]),
    ],
)
def test_a_refusal_names_the_setting_and_what_is_allowed(values: dict[str, Any], words: list[str]) -> None:
    text = complaint(Example, values)
    assert [word for word in words if word not in text] == []
    assert len(text) < 200


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "magic"}, ["'magic'", *METHODS]),
        ({"preset": "quick"}, ["'quick'", "balanced", "fast", "best"]),
        ({"presets": "fast"}, ["'presets'", "preset"]),
        ({"method": "inr", "settings": {"stpes": 3}}, ["'stpes'", "steps"]),
        ({"settings": {"tile": 1}}, ["'tile'", "64", "got 1"]),
        ({"settings": "fast"}, ["'settings'"]),
        ({"settings": ["steps"]}, ["'settings'"]),
        ({"device": "tpu"}, ["'device'", "auto", "cpu", "cuda", "'tpu'"]),
        ({"select": {"T": [1]}}, ["'select.T'", "a text", "[1]"]),
        ({"select": "T"}, ["'select'", "names with values", "'T'"]),
        ({"format": "png"}, ["'format'", "same, ome-tiff, ome-zarr", "'png'"]),
        ({"seed": -1}, ["'seed'", "0", "-1"]),
        ({"seed": 2**64}, ["'seed'"]),  # more than torch's generators take
    ],
    ids=str,
)
def test_a_recipe_says_what_is_wrong_with_it(values: dict[str, Any], words: list[str]) -> None:
    text = complaint(Recipe, values)
    assert [word for word in words if word not in text] == []


def test_strings_from_the_shell_become_values() -> None:
    assert make(Example, {"count": "4", "rate": "0.5"}) == Example(count=4, rate=0.5)


@pytest.mark.parametrize("word", ["none", "None", None])
def test_none_is_no_value_or_the_choice_of_that_name(word: str | None) -> None:
    example = make(Example, {"rate": word, "kind": word})
    assert (example.rate, example.kind) == (None, "none")
    assert make(Example, {"mode": "none"}).mode == "none"


def test_settings_cannot_change_once_made() -> None:
    example = Example()
    with pytest.raises(ValidationError, match="frozen"):
        example.count = 4


def test_a_declaration_is_all_that_forms_need() -> None:
    count, rate, mode, *_ = settings_of(Example)
    assert (count.name, count.type, count.default, count.text) == ("count", int, 3, "How many.")
    assert (count.allowed, count.optional, count.advanced) == ("≥ 1 and ≤ 9", False, False)
    assert (rate.type, rate.default, rate.optional, rate.advanced) == (float, None, True, True)
    assert (rate.title, rate.unit, rate.allowed, mode.allowed) == ("Rate", "pixels", "> 0", "a text")
