"""Recipe: everything that decides a result, apart from the image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from napari_pristine import __version__
from napari_pristine.errors import SettingError
from napari_pristine.methods import METHODS, find_method
from napari_pristine.methods.method import MethodParams
from napari_pristine.resources import Device
from napari_pristine.settings import Params, did_you_mean, make, setting, shorten

PRETRAINED_MODEL = "pretrained"
"""Name, in place of a file, of the network that comes with the package: a method starts from it and trains it on."""


class InputFile(Params):
    """A file, or an object given in Python, that a result depends on apart from the image."""

    path: str = setting("", "File as the recipe names it; empty for an object given in Python.")
    sha256: str = setting("", "SHA-256 of its content, in hexadecimal digits.")


class Choice(Params):
    """The method that was chosen for an image, and how its result is mixed."""

    method: str = setting("pretrained", "Name of the method.")
    preset: str = setting("fast", "Its preset.")
    weights: list[float] = setting(
        [], "Weight of the restored pixels of each channel, the rest is that of the refined ones; empty if measured."
    )
    error: float | None = setting(None, "Its estimated mean squared error, in noise variances.", none="not known")


class Recipe(Params):
    """Everything that decides a result, apart from the image.

    `settings` may name only what differs from the preset; they are completed when the recipe is made, so that a
    stored recipe gives the same result when a later version changes a preset.

    `inputs` is the record of all files and objects that the result depends on apart from the image, by role: `model`,
    `mask`, `psf`, `extra_image_1`, `extra_image_1_psf`, … It is completed when they are opened, see `jobs.inputs`.
    """

    method: str = setting("auto", "Name of the method.")
    preset: str = setting("balanced", "Effort, or 'paper': which settings of the method are the start.")
    settings: dict[str, Any] = setting({}, "Settings of the method.")
    axes: str = setting("", "Axes of the image, one letter each; empty for those that the file states.")
    series: int | None = setting(
        None, "Number of the image in a file that holds several, from 0.", none="the one that was measured", ge=0
    )
    together: str = setting("", "Axes that are restored jointly; empty for Y and X, with the samples of RGB.")
    select: dict[str, str] = setting({}, "Ranges to restore, such as {'T': '0:10'}; the rest is left out.")
    mask: str = setting("", "File of a mask, not zero where pixels are to be filled in.")
    model: str = setting(
        "", "File of a trained network to restore with; or 'pretrained', to start from the one of the package."
    )
    adapt: bool = setting(False, "Train the model some more on the image before it restores it.")
    device: Device = setting("auto", "Where to compute.")
    seed: int = setting(0, "Seed of all random numbers.", ge=0, le=2**32 - 1)
    format: Literal["same", "ome-tiff", "ome-zarr", "ome-zarr-0.4"] = setting(
        "same", "Format of the result: that of the image, or another."
    )
    value_type: Literal["auto", "same", "float32"] = setting(
        "auto", "Type of the values of the result; auto is that of the image, or float32 if that is too coarse."
    )
    strength: list[float] = setting(
        [], "How much of the noise is removed, 0 to 1: one number, or one for each channel; all of it if empty."
    )
    choice: Choice | None = setting(
        None, "The method that 'auto' has chosen; it is chosen again if there is none.", none="not yet"
    )
    uncertainty: bool = setting(
        False, "Also give half the width of the interval that holds the truth of each pixel with 90 % probability."
    )
    inputs: dict[str, InputFile] = setting({}, "Checksums of the files that the result depends on, by role.")
    version: str = setting(__version__, "Version of the software.")

    @field_validator("strength", mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        return [value] if isinstance(value, (int, float, str)) else value

    @field_validator("strength")
    @classmethod
    def _check_strength(cls, value: list[float]) -> list[float]:
        if not all(0 <= number <= 1 for number in value):
            raise SettingError(f"strength is {value}; give numbers from 0 (the noisy image) to 1 (the restored one)")
        return value

    @model_validator(mode="before")
    @classmethod
    def _complete_settings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if not isinstance(values.get("settings", {}), Mapping):
            return values  # pydantic reports it
        fields = {name: field.default for name, field in cls.model_fields.items()} | values
        method, preset = str(fields["method"]), str(fields["preset"])
        try:
            if fields["model"] == PRETRAINED_MODEL:  # not a file: settings say it, which later versions read, too
                values = {**values, "model": "", "adapt": False}
                fields["settings"] = {**from_pretrained(method), **fields["settings"]}
            params = find_method(method).settings(preset, fields["settings"])
        except SettingError as error:
            raise SettingError(f"{error}{_suggestion(method, preset)}") from error
        _check_nesting(values.keys() - cls.model_fields.keys(), method, params)
        return {**values, "settings": params.model_dump()}

    @cached_property
    def params(self) -> MethodParams:
        """The settings of the method, validated."""
        params: MethodParams = find_method(self.method).params.model_validate(self.settings)
        return params

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a validated copy with some fields changed.

        Raises:
            SettingError: A setting is unknown or out of range.
        """
        return make(type(self), {**_fields(self), **(update or {})})


def from_pretrained(method: str) -> Mapping[str, Any]:
    """Settings with which a method starts from the pretrained network.

    Raises:
        SettingError: It cannot.
    """
    if settings := find_method(method).from_pretrained:
        return settings
    able = ", ".join(key for key, other in METHODS.items() if other.from_pretrained)
    raise SettingError(
        f"{method} cannot start from the pretrained network; use one of {able}, or the method pretrained itself"
    )


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute paths for all files that exist, so that it works from any folder."""

    def absolute(path: str) -> str:
        return str(Path(path).absolute()) if path and Path(path).exists() else path

    values = _fields(recipe)
    values["settings"] = map_paths(values["settings"], absolute)
    return recipe.model_copy(update=map_paths(values, absolute))


def _fields(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in type(recipe).model_fields}


def map_paths(values: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Apply a function to all values of a recipe, or of its settings, that are names of files."""
    return {name: _map_path(name, value, change) for name, value in values.items()}


def _map_path(name: str, value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        # files of extra images are not changed: each image may have its own beside it
        return change(value) if name in ("mask", "model") or name.endswith("_file") else value
    if isinstance(value, (list, tuple)):  # extra images, each with files of its own
        return [map_paths(item, change) if isinstance(item, Mapping) else item for item in value]
    return value


def newer_version_hint(version: object) -> str:
    """Text that asks for an update if a recipe was made by a newer version than this; else empty."""
    if _version_numbers(version) <= _version_numbers(__version__):
        return ""
    return f"; the recipe was made by a newer version ({shorten(str(version))}, this is {__version__}): update"


def _suggestion(method: str, preset: str) -> str:
    """Name of a method or preset that an unknown one may be a misspelling of."""
    if method not in METHODS:
        return did_you_mean(shorten(method), METHODS)
    presets = METHODS[method].presets
    return "" if preset in presets else did_you_mean(shorten(preset), presets)


def _check_nesting(unknown: Iterable[str], method: str, params: MethodParams) -> None:
    """Raise a `SettingError` for settings of the method that are written outside `settings`."""
    if misplaced := sorted(set(unknown) & set(type(params).model_fields)):
        names = ", ".join(f"'{name}'" for name in misplaced)
        kind = "is a setting" if len(misplaced) == 1 else "are settings"
        raise SettingError(f"{names} {kind} of the method {method}; write it under 'settings:', indented")


def _version_numbers(version: object) -> tuple[int, ...]:
    first = re.match(r"\d{1,9}(\.\d{1,9})*", str(version))
    return tuple(int(part) for part in first[0].split(".")) if first else ()
