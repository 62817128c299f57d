"""How anything that can be set is declared: once.

From a field made by `setting()` come its validation, the row of the form, the command-line option, the key in
recipes and the row in the documentation. Nothing else may name a setting's range, default or text.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from napari_pristine.errors import SettingError

_LONGEST = 80
"""Letters of what was given that a message repeats."""


class Params(BaseModel):
    """Base of everything that holds settings: immutable, and no unknown names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        """The word `none` is no value where that is allowed, and no value is the word where that is a choice."""
        if not isinstance(values, dict):
            return values
        return {name: _none_in(cls.model_fields.get(name), value) for name, value in values.items()}


def _none_in(field: Any, value: Any) -> Any:
    if field is None or not (value is None or (isinstance(value, str) and value.lower() == "none")):
        return value
    options = get_args(field.annotation)
    if type(None) in options:
        return None
    return "none" if "none" in options else value


def setting(
    default: Any, text: str, *, unit: str = "", none: str = "none", advanced: bool = False, **bounds: float
) -> Any:
    """Declare a setting of a `Params` class.

    `text` is one sentence for the user, `none` what no value means, `bounds` are pydantic's `ge`, `gt`, `le`, `lt`;
    `advanced` settings are folded away in forms.
    """
    extra: dict[str, JsonValue] = {"unit": unit, "none": none, "advanced": advanced}
    limits: dict[str, Any] = dict(bounds)
    return Field(default, description=text, json_schema_extra=extra, **limits)


@dataclass(frozen=True)
class Setting:
    """One declared setting, as forms, the shell and the docs see it."""

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
        """The name as a label: words, first letter capital, unit in brackets."""
        words = self.name.replace("_", " ").capitalize()
        return f"{words} ({self.unit})" if self.unit else words

    @property
    def allowed(self) -> str:
        """What values are allowed, in words, such as `0 < x ≤ 1` or `auto, on, off`."""
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        below = " and ".join(f"{sign} {self.bounds[key]:.10g}" for key, sign in _SIGNS.items() if key in self.bounds)
        return below or self.type.__name__

    @property
    def wanted(self) -> str:
        """What a value has to be, in words, such as `a whole number ≥ 1 (in pixels), or none (measured)`."""
        kind = "one of" if self.choices else _KINDS.get(self.type, "names with values")
        within = f" {self.allowed}" if self.choices or self.bounds else ""
        unit = f" (in {self.unit})" if self.unit else ""
        none = f", or none ({self.none})".replace(" (none)", "") if self.optional else ""
        return f"{kind}{within}{unit}{none}"


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def settings_of(params: type[Params]) -> tuple[Setting, ...]:
    """All settings that a `Params` class declares, in the order of its fields."""
    return tuple(_setting_of(name, field) for name, field in params.model_fields.items())


def _setting_of(name: str, field: Any) -> Setting:
    options = get_args(field.annotation) if get_origin(field.annotation) in (Union, types.UnionType) else ()
    plain = next((option for option in options if option is not type(None)), field.annotation)
    choices = get_args(plain) if get_origin(plain) is Literal else ()
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
    """Build validated `params` from plain values or strings.

    Raises:
        SettingError: A name is unknown or a value out of range; the message names the setting.
    """
    try:
        return params.model_validate(dict(values))
    except ValidationError as error:
        raise SettingError(_first_complaint(params, error)) from error


def _first_complaint(params: type[BaseModel], error: ValidationError) -> str:
    complaint = error.errors()[0]
    name = shorten(".".join(str(part) for part in complaint["loc"]) or params.__name__)
    if complaint["type"] == "extra_forbidden":
        return f"there is no setting '{name}'; {_known(params.model_fields)}{meant(name, params.model_fields)}"
    got = f"got {shorten(repr(complaint['input']))}"
    field = params.model_fields.get(name)
    # what stands within names with values has no field of its own
    wanted = "a text" if field is None else _setting_of(name, field).wanted
    return f"setting '{name}' must be {wanted}; {got}"


def shorten(text: str) -> str:
    """What a user or a file has given, as it fits into a message."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def meant(given: str, names: Iterable[str]) -> str:
    """Which of the names that are known is like the one given, as the end of a message; empty if none is."""
    known = {name.lower(): name for name in names}
    alike = difflib.get_close_matches(given.lower(), known, n=1)
    return f"; did you mean '{known[alike[0]]}'?" if alike else ""


def _known(names: Iterable[str]) -> str:
    return f"the settings are {', '.join(sorted(names))}"
