"""The command `pristine restore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from napari_pristine.batch import Task, find_inputs, load, pair, save
from napari_pristine.cli import GOOD, SOME_FAILED, UNUSABLE, Json, complain, explain
from napari_pristine.device import Device
from napari_pristine.errors import ComputeError, PristineError, SettingError
from napari_pristine.recipe import Recipe
from napari_pristine.report import as_json, describe_result, progress_bar
from napari_pristine.run import Restored, run, wait
from napari_pristine.settings import make, settings_of

_FIELDS = {field.name: field for field in settings_of(Recipe)}


def _option(name: str, text: str = "", **spelling: Any) -> Parameter:
    """An option whose help is that of the recipe's field."""
    return Parameter(help=_FIELDS[name].text + text, **spelling)
