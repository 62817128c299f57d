"""Declare settings once: their type, range, default, unit and help text.

A field made by `setting()` gives the validation, the row of the form, the command-line option, the key in recipes and
the row in the documentation. No other place may repeat the range, default or help text of a setting.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from napari_pristine.errors import SettingError
from napari_pristine.text import singular

_MAX_QUOTED = 80
"""Maximum number of characters of a wrong value that a message quotes."""


class Params(BaseModel):
    """Base of all classes that hold settings: immutable, without unknown names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        """Read the word `none` as None in optional settings, and None as the word where that is a choice."""
        if not isinstance(values, dict):
            return values
        read = dict(values)
        for name, value in values.items():
            field = cls.model_fields.get(name)
            if field and (value is None or (isinstance(value, str) and value.lower() == "none")):
                options = get_args(field.annotation)
                read[name] = None if type(None) in options else "none" if "none" in options else value
        return read


def setting(
    default: Any,
    text: str,
    *,
    title: str = "",
    unit: str = "",
    none: str = "none",
    higher: str = "",
    labels: Mapping[str, str] | None = None,
    only: tuple[Any, ...] = (),
    unless: tuple[Any, ...] = (),
    advanced: bool = False,
    **bounds: float,
) -> Any:
    """Declare a setting of a `Params` class.

    Args:
        default: Default value.
        text: One sentence of help for the user.
        title: Name for the user, without unit; by default the name in words.
        unit: Unit of the value, in the plural.
        none: Meaning of None for optional settings, in a few words.
        higher: Effect of a higher value, in a few words.
        labels: Names for the user of those choices that need one.
        only: Name of another setting, and the values of it with which this one has an effect.
        unless: Name of another setting, and the values of it with which this one has no effect.
        advanced: Show the setting only in a collapsed section of forms.
        **bounds: Range, as pydantic's `ge`, `gt`, `le`, `lt`.
    """
    extra: dict[str, JsonValue] = {
        "title": title, "unit": unit, "none": none, "higher": higher, "labels": dict(labels or {}),
        "only": list(only), "unless": list(unless), "advanced": advanced,
    }  # fmt: skip
    limits: dict[str, Any] = dict(bounds)
    return Field(default, description=text, json_schema_extra=extra, **limits)


@dataclass(frozen=True)
class Setting:
    """One declared setting, for forms, the command line and the documentation.

    Attributes:
        name: Name in recipes and on the command line.
        title: Name for the user, such as the label in forms; without unit.
        type: Type of the values; that of the choices if there are any.
        default: Default value.
        text: One sentence of help.
        unit: Unit of the value, in the plural; may be empty.
        none: Meaning of None, in a few words.
        higher: Effect of a higher value, in a few words; may be empty.
        labels: Names for the user of those choices that need one.
        only: Name of another setting, and the values of it with which this one has an effect; may be empty.
        unless: Name of another setting, and the values of it with which this one has no effect; may be empty.
        advanced: Shown only in a collapsed section of forms.
        optional: None is allowed.
        choices: All allowed values, if they can be listed.
        bounds: Range, with pydantic's `ge`, `gt`, `le`, `lt` as keys.
    """

    name: str
    title: str
    type: type
    default: Any
    text: str
    unit: str
    none: str
    higher: str
    labels: Mapping[str, str]
    only: tuple[Any, ...]
    unless: tuple[Any, ...]
    advanced: bool
    optional: bool
    choices: tuple[Any, ...]
    bounds: Mapping[str, float]

    def applies(self, values: Mapping[str, Any]) -> bool:
        """True if the setting has an effect, given the values of all settings."""
        return not (
            (self.only and values.get(self.only[0], self.only[1]) not in self.only[1:])
            or (self.unless and values.get(self.unless[0]) in self.unless[1:])
        )

    @property
    def condition(self) -> str:
        """When the setting has an effect, such as `only if blur is airy or gibson-lanni`; empty if always."""
        rules = (("only if", self.only), ("not if", self.unless))
        return ", ".join(f"{word} {rule[0]} is {' or '.join(map(_word, rule[1:]))}" for word, rule in rules if rule)

    @property
    def help(self) -> str:
        """All that a user needs to know beside the title: the text, what a higher value does, and the range."""
        higher = f"Higher: {self.higher}." if self.higher else ""
        return "\n".join(filter(None, (self.text, higher, self._range)))

    @property
    def _range(self) -> str:
        """Range and meaning of none, as a sentence; empty for choices, switches and texts."""
        limits = {key: f"{bound:,.10g}" for key, bound in self.bounds.items()}
        words = [f"{word} {limits[key]}" for key, word in _LIMITS.items() if key in limits]
        if {"ge", "le"} <= limits.keys():
            words = [f"from {limits['ge']} to {limits['le']}"]
        text = " and ".join(words)
        unit = singular(self.unit) if text.split()[-1:] == ["1"] else self.unit
        text = f"{text} {unit}".strip() if self.bounds else f"in {unit}" if unit else ""
        if self.optional:
            text += f"; or {self.none}" if text else f"May be left at: {self.none}"
        return f"{text[0].upper()}{text[1:]}." if text else ""

    @property
    def allowed(self) -> str:
        """Allowed values as text, such as `> 0 and ≤ 1` or `auto, on, off`."""
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        below = " and ".join(f"{sign} {self.bounds[key]:.10g}" for key, sign in _SIGNS.items() if key in self.bounds)
        return below or ("on or off" if self.type is bool else _KINDS.get(self.type, "names with values"))

    @property
    def requirement(self) -> str:
        """Requirement for messages, such as `a whole number ≥ 1 (in pixels), or none (measured)`."""
        kind = "one of" if self.choices else _KINDS.get(self.type, "names with values")
        within = f" {self.allowed}" if self.choices or self.bounds else ""
        unit = f" (in {self.unit})" if self.unit else ""
        none = f", or none ({self.none})".replace(" (none)", "") if self.optional else ""
        return f"{kind}{within}{unit}{none}"


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list"}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def _word(value: Any) -> str:
    """A value of a setting in a condition."""
    return str(value) if not isinstance(value, bool) else "on" if value else "off"


def settings_of(params: type[Params]) -> tuple[Setting, ...]:
    """List the settings that a `Params` class declares, in the order of its fields."""
    return tuple(_setting_of(name, field) for name, field in params.model_fields.items())


def _setting_of(name: str, field: Any) -> Setting:
    options = get_args(field.annotation) if get_origin(field.annotation) in (Union, types.UnionType) else ()
    plain = next((option for option in options if option is not type(None)), field.annotation)
    choices = get_args(plain) if get_origin(plain) is Literal else ()
    if get_origin(plain) is tuple:
        plain = list  # of values that are described by a text, or by names with values
    bounds = {key: getattr(m, key) for m in field.metadata for key in _SIGNS if hasattr(m, key)}
    extra = field.json_schema_extra or {}
    return Setting(
        name=name,
        title=extra.get("title") or name.replace("_", " ").capitalize(),
        type=type(choices[0]) if choices else plain,
        default=field.default,
        text=field.description or "",
        unit=extra.get("unit", ""),
        none=extra.get("none", "none"),
        higher=extra.get("higher", ""),
        labels=extra.get("labels", {}),
        only=tuple(extra.get("only", ())),
        unless=tuple(extra.get("unless", ())),
        advanced=extra.get("advanced", False),
        optional=type(None) in options,
        choices=choices,
        bounds=bounds,
    )


P = TypeVar("P", bound=BaseModel)


def make(params: type[P], values: Mapping[str, Any]) -> P:
    """Make validated settings from plain values or strings.

    Args:
        params: Class of the settings.
        values: Value of each setting that differs from its default.

    Raises:
        SettingError: A name is unknown or a value out of range; the message names the setting.
    """
    try:
        return params.model_validate(dict(values))
    except ValidationError as error:
        raise SettingError(_describe_error(params, error)) from error


def _describe_error(params: type[BaseModel], error: ValidationError) -> str:
    """Message for the first of the errors that pydantic found."""
    first = error.errors()[0]
    name = shorten(".".join(str(part) for part in first["loc"]) or params.__name__)
    fields = params.model_fields
    if first["type"] == "extra_forbidden":
        return f"there is no setting '{name}'; the settings are {', '.join(sorted(fields))}{did_you_mean(name, fields)}"
    # an item of a setting that is a mapping, such as `select.T`, has no field of its own
    wanted = _setting_of(name, fields[name]).requirement if name in fields else "a text"
    return f"setting '{name}' must be {wanted}; got {shorten(repr(first['input']))}"


def shorten(text: str) -> str:
    """Put a text of a user or a file on one line, short enough for a message."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_QUOTED else f"{line[:_MAX_QUOTED]}…"


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """Suggest the known name most like the given one, as the end of a message; empty if none is similar."""
    known = {name.lower(): name for name in names}
    similar = difflib.get_close_matches(given.lower(), known, n=1)
    return f"; did you mean '{known[similar[0]]}'?" if similar else ""
