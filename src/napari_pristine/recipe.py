"""Recipe: all that decides a result."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from napari_pristine import __version__
from napari_pristine.device import Device
from napari_pristine.errors import SettingError
from napari_pristine.methods import METHODS, find_method
from napari_pristine.methods.method import MethodParams
from napari_pristine.settings import Params, meant, setting, shorten


class Recipe(Params):
    """All that decides a result, apart from the image.

    `settings` may name only what differs from the preset; they are completed when the recipe is made, so that a
    stored recipe gives the same result when a later version changes a preset.
    """

    method: str = setting("inr", "Name of the method.")
    preset: str = setting("balanced", "Named settings to start from.")
    settings: dict[str, Any] = setting({}, "Settings of the method.")
    axes: str = setting("", "Axes of the image, one letter each; empty takes those that it comes with.")
    together: str = setting("", "Axes that are fitted together; empty for Y and X, with the samples of RGB.")
    select: dict[str, str] = setting({}, "Ranges to restore, such as {'T': '0:10'}; the rest is left out.")
    mask: str = setting("", "File of a mask, not zero where pixels are to be filled in.")
    model: str = setting("", "File of a network that has learned, to restore with.")
    adapt: bool = setting(False, "Let the model learn some more from the image before it restores it.")
    device: Device = setting("auto", "Where to compute.")
    seed: int = setting(0, "Seed of all random numbers.", ge=0, le=2**32 - 1)
    format: Literal["same", "ome-tiff", "ome-zarr", "ome-zarr-0.4"] = setting(
        "same", "Format of the result: that of the image, or another."
    )
    version: str = setting(__version__, "Version of the software.")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if not isinstance(values.get("settings", {}), Mapping):
            return values  # for pydantic to complain of
        fields = {name: field.default for name, field in cls.model_fields.items()} | values
        method, preset = str(fields["method"]), str(fields["preset"])
        try:
            params = find_method(method).settings(preset, fields["settings"])
        except SettingError as error:
            raise SettingError(f"{error}{_meant(method, preset)}") from error
        _check_place(values.keys() - cls.model_fields.keys(), method, params)
        return {**values, "settings": params.model_dump()}

    @cached_property
    def params(self) -> MethodParams:
        """The settings of the method, validated."""
        params: MethodParams = find_method(self.method).params.model_validate(self.settings)
        return params


def _meant(method: str, preset: str) -> str:
    """What may have been meant by a method or a preset that is unknown."""
    if method not in METHODS:
        return meant(shorten(method), METHODS)
    presets = METHODS[method].presets
    return "" if preset in presets else meant(shorten(preset), presets)


def _check_place(unknown: Iterable[str], method: str, params: MethodParams) -> None:
    """Raise a `SettingError` for settings of the method that stand beside it."""
    lost = sorted(set(unknown) & set(type(params).model_fields))
    if lost:
        names = ", ".join(f"'{name}'" for name in lost)
        what = "is a setting" if len(lost) == 1 else "are settings"
        raise SettingError(f"{names} {what} of the method {method}; write it under 'settings:', further in")


def absolute(recipe: Recipe) -> Recipe:
    """The same recipe for any folder: files that it names are those that these names lead to from here."""
    settings = {**recipe.settings, **_found(recipe.settings)}
    return recipe.model_copy(update={**_found(dict(recipe)), "settings": settings})


def _found(values: Mapping[str, Any]) -> dict[str, str]:
    """Those of the values that are names of files that are here, from the root."""
    names = {name: value for name, value in values.items() if names_file(name) and value and Path(value).exists()}
    return {name: str(Path(value).absolute()) for name, value in names.items()}


def names_file(name: str) -> bool:
    """Whether what has this name in a recipe is the name of a file."""
    return name in ("mask", "model") or name.endswith("_file")


def newer(version: object) -> str:
    """What to do about something unknown in what a newer version has made; empty if it is not newer than this one."""
    made, here = _numbers(version), _numbers(__version__)
    if made <= here:
        return ""
    return f"; the recipe was made by a newer version ({shorten(str(version))}, this is {__version__}): update"


def _numbers(version: object) -> tuple[int, ...]:
    first = re.match(r"\d{1,9}(\.\d{1,9})*", str(version))
    return tuple(int(part) for part in first[0].split(".")) if first else ()
