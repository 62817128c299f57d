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
    default: Any, text: str, *, unit: str = "", none: str = "none", advanced: bool = False, **bounds: float
) -> Any:
    """Declare a setting of a `Params` class.

    Args:
        default: Default value.
        text: One sentence of help for the user.
        unit: Unit of the value.
        none: Meaning of None for optional settings, in a few words.
        advanced: Show the setting only in a collapsed section of forms.
        **bounds: Range, as pydantic's `ge`, `gt`, `le`, `lt`.
    """
    extra: dict[str, JsonValue] = {"unit": unit, "none": none, "advanced": advanced}
    limits: dict[str, Any] = dict(bounds)
    return Field(default, description=text, json_schema_extra=extra, **limits)


@dataclass(frozen=True)
class Setting:
    """One declared setting, for forms, the command line and the documentation.

    Attributes:
        name: Name in recipes and on the command line.
        type: Type of the values; that of the choices if there are any.
        default: Default value.
        text: One sentence of help.
        unit: Unit of the value; may be empty.
        none: Meaning of None, in a few words.
        advanced: Shown only in a collapsed section of forms.
        optional: None is allowed.
        choices: All allowed values, if they can be listed.
        bounds: Range, with pydantic's `ge`, `gt`, `le`, `lt` as keys.
    """

    name: str
    type: type
    default: Any
    text: str
    unit: str
    none: str
    advanced: bool
    optional: bool
    choices: tuple[Any, ...]
    bounds: Mapping[str, float]

    @property
    def title(self) -> str:
        """Label in forms: the name as words, with the unit in brackets."""
        words = self.name.replace("_", " ").capitalize().replace("Psf", "PSF")
        return f"{words} ({self.unit})" if self.unit else words

    @property
    def allowed(self) -> str:
        """Allowed values as text, such as `> 0 and ≤ 1` or `auto, on, off`."""
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        below = " and ".join(f"{sign} {self.bounds[key]:.10g}" for key, sign in _SIGNS.items() if key in self.bounds)
        return below or self.type.__name__

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
        type=type(choices[0]) if choices else plain,
        default=field.default,
        text=field.description or "",
        unit=extra.get("unit", ""),
        none=extra.get("none", "none"),
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
