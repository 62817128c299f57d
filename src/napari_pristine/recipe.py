"""Recipe: all that decides a result."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import model_validator

from napari_pristine import __version__
from napari_pristine.device import Device
from napari_pristine.methods import find_method
from napari_pristine.methods.method import MethodParams
from napari_pristine.settings import Params, setting


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
        params = find_method(str(fields["method"])).settings(str(fields["preset"]), fields["settings"])
        return {**values, "settings": params.model_dump()}

    @cached_property
    def params(self) -> MethodParams:
        """The settings of the method, validated."""
        params: MethodParams = find_method(self.method).params.model_validate(self.settings)
        return params
