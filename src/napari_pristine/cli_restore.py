"""The command `pristine restore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from napari_pristine.batch import Task, find_inputs, load, pair, save
from napari_pristine.cli import GOOD, SOME_FAILED, UNUSABLE, Json, complain, explain, say
from napari_pristine.device import Device
from napari_pristine.errors import ComputeError, PristineError, SettingError
from napari_pristine.recipe import Recipe
from napari_pristine.report import as_json, describe_result, progress_bar
from napari_pristine.restoration import run, wait
from napari_pristine.settings import make, settings_of

_FIELDS = {field.name: field for field in settings_of(Recipe)}
_DEFAULT = {name: field.default for name, field in _FIELDS.items()}


def _option(name: str, text: str = "") -> Parameter:
    """An option with the help text of the recipe's field."""
    field = _FIELDS[name]
    return Parameter(help=f"{field.text} {text}".strip(), show_default=field.default != "")


def restore(
    inputs: Annotated[list[str], Parameter(help="Images to restore: TIFF, PNG or JPEG.", negative=())],
    /,
    *,
    output: Annotated[str, Parameter(alias="-o", help="File for the result; with several inputs a folder.")],
    method: Annotated[str, _option("method", "See 'pristine methods'.")] = _DEFAULT["method"],
    preset: Annotated[str, _option("preset")] = _DEFAULT["preset"],
    axes: Annotated[str, _option("axes")] = _DEFAULT["axes"],
    together: Annotated[str, _option("together")] = _DEFAULT["together"],
    select: Annotated[
        list[str] | None, Parameter(help="Range to restore, such as T=0:10; may be repeated.", negative=())
    ] = None,
    device: Annotated[Device, _option("device")] = _DEFAULT["device"],
    seed: Annotated[int, _option("seed")] = _DEFAULT["seed"],
    settings: Annotated[
        list[str] | None,
        Parameter(name="--set", help="Setting of the method, NAME=VALUE; may be repeated.", negative=()),
    ] = None,
    overwrite: Annotated[bool, Parameter(help="Replace results that exist.", negative=())] = False,
    json: Json = False,
    debug: Annotated[bool, Parameter(parse=False)] = False,
) -> int:
    """Restore images, all with the same settings."""
    chosen = {"method": method, "preset": preset, "axes": axes.upper(), "together": together.upper(), "device": device}
    ranges = {axis.upper(): text for axis, text in _pairs("--select", select, "T=0:10").items()}
    values = {name: _value(text) for name, text in _pairs("--set", settings, "steps=500").items()}
    recipe = make(Recipe, {**chosen, "seed": seed, "select": ranges, "settings": values})
    tasks = pair(find_inputs(inputs), output, overwrite=overwrite)
    return _Batch(tasks, recipe, overwrite, json, debug).run()


def _pairs(option: str, texts: Sequence[str] | None, example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, sign, value = (part.strip() for part in text.partition("="))
        if not (name and sign):
            raise SettingError(f"cannot read {option} '{text}'; write it like {option} {example}")
        pairs[name] = value
    return pairs


def _value(text: str) -> str | None:
    """A value as the shell has it; its type is the setting's business."""
    return None if text.lower() == "none" else text


class _Batch:
    """Files that are restored one after the other; one that fails does not stop the rest."""

    def __init__(self, tasks: Sequence[Task], recipe: Recipe, overwrite: bool, json: bool, debug: bool) -> None:
        self.tasks = tasks
        self.recipe = recipe
        self.overwrite = overwrite
        self.json = json
        self.debug = debug
        self.failures: dict[Task, Exception] = {}

    def run(self) -> int:
        """Check all files before the first is restored, then restore those that can be.

        Returns:
            The exit code.
        """
        for step in (self.check, self.restore):
            for task in self.tasks:
                if task in self.failures:
                    continue
                try:
                    step(task)
                except BrokenPipeError:  # nobody reads on; `main` knows what to do
                    raise
                except Exception as error:  # noqa: BLE001 - the door of the batch: the next file may be fine
                    self.fail(task, error)
        if not self.failures:
            return GOOD
        errors = self.failures.values()
        usable = any(isinstance(error, ComputeError) or not isinstance(error, PristineError) for error in errors)
        return SOME_FAILED if usable or len(errors) < len(self.tasks) else UNUSABLE

    def check(self, task: Task) -> None:
        """Whether a file can be restored, as far as that can be told without a fit."""
        image = load(task, self.recipe)
        if (count := image.metadata.get("images", 1)) > 1:
            complain(f"{task.source}: holds {count} images; only the largest is restored, the others are left out")

    def restore(self, task: Task) -> None:
        """Restore a file and say how it went."""
        image = load(task, self.recipe)
        number = f" ({self.tasks.index(task) + 1}/{len(self.tasks)})" if len(self.tasks) > 1 else ""
        with progress_bar(task.source.name + number, lambda text: complain(f"{task.source}: {text}")) as show:
            result = wait(run(image, self.recipe), show)
        provenance = {"input": task.source.name, **result.provenance()}
        save(task, result.image, provenance, overwrite=self.overwrite)
        facts = {**provenance, "input": task.source, "output": task.target}
        say(as_json(facts) if self.json else describe_result(task.source, task.target, result))

    def fail(self, task: Task, error: Exception) -> None:
        """Say why a file was not restored."""
        self.failures[task] = error
        explain(error, self.debug, about=str(task.source))
        if self.json:
            say(as_json({"input": task.source, "output": None, "error": str(error)}))
