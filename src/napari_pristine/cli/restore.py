"""The command `pristine restore`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.tasks import Task, load, pair, save
from napari_pristine.cli.main import GOOD, SOME_FAILED, UNUSABLE, Json, explain, report_error, say
from napari_pristine.cli.options import (
    DEFAULT,
    Axes,
    Debug,
    DeviceName,
    Overwrite,
    SaveRecipe,
    Seed,
    Settings,
    Together,
    option,
    read_pairs,
    read_settings,
)
from napari_pristine.cli.output import describe_result, progress_bar
from napari_pristine.errors import ComputeError, PristineError
from napari_pristine.jobs.restore import make_recipe, run, wait
from napari_pristine.model import Model, load_model
from napari_pristine.recipe import Recipe, with_absolute_paths
from napari_pristine.recipe_file import save_recipe
from napari_pristine.text import to_json


def restore(
    inputs: Annotated[list[str], Parameter(help="Images to restore: TIFF, OME-Zarr, PNG or JPEG.", negative=())],
    /,
    *,
    output: Annotated[str, Parameter(alias="-o", help="File for the result; with several inputs a folder.")],
    method: Annotated[
        str, Parameter(help=f"Name of the method, see 'pristine methods'. [default: {DEFAULT['method']}]")
    ] = "",
    preset: Annotated[
        str, Parameter(help=f"Named settings to start from; a model has its own. [default: {DEFAULT['preset']}]")
    ] = "",
    axes: Axes = DEFAULT["axes"],
    together: Together = DEFAULT["together"],
    select: Annotated[
        list[str] | None, Parameter(help="Range to restore, such as T=0:10; may be repeated.", negative=())
    ] = None,
    mask: Annotated[str, option("mask")] = DEFAULT["mask"],
    model: Annotated[str, option("model", "Made by 'pristine learn'.")] = DEFAULT["model"],
    adapt: Annotated[bool, Parameter(help="Let the model learn some more from each image first.", negative=())] = False,
    device: DeviceName = DEFAULT["device"],
    seed: Seed = DEFAULT["seed"],
    settings: Settings = None,
    save_recipe: SaveRecipe = None,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Restore images, all with the same settings."""
    ranges = {axis.upper(): text for axis, text in read_pairs("--select", select, "T=0:10").items()}
    fields = {
        "axes": axes.upper(), "together": together.upper(), "select": ranges, "mask": mask, "model": model,
        "adapt": adapt, "device": device, "seed": seed,
    }  # fmt: skip
    learned = load_model(model) if model else None
    recipe = make_recipe(learned, method, preset, read_settings(settings), fields)
    tasks = pair(find_inputs(inputs), output, overwrite=overwrite)
    return _Batch(tasks, recipe, learned, overwrite, json, debug).run(save_recipe)


class _Batch:
    """Files that are restored one after the other; one that fails does not stop the rest."""

    def __init__(
        self, tasks: Sequence[Task], recipe: Recipe, model: Model | None, overwrite: bool, json: bool, debug: bool
    ) -> None:
        self.tasks = tasks
        self.recipe = recipe
        self.model = model
        self.overwrite = overwrite
        self.json = json
        self.debug = debug
        self.failures: dict[Task, Exception] = {}

    def run(self, recipe_file: Path | None = None) -> int:
        """Check all files before the first is restored, then restore those that can be.

        Args:
            recipe_file: Where the recipe is written in between; nowhere if nothing can be restored.

        Returns:
            The exit code.
        """
        self.each(self.check)
        if recipe_file and len(self.failures) < len(self.tasks):
            save_recipe(recipe_file, with_absolute_paths(self.recipe), overwrite=self.overwrite)
        self.each(self.restore)
        if not self.failures:
            return GOOD
        errors = self.failures.values()
        usable = any(isinstance(error, ComputeError) or not isinstance(error, PristineError) for error in errors)
        return SOME_FAILED if usable or len(errors) < len(self.tasks) else UNUSABLE

    def each(self, step: Callable[[Task], None]) -> None:
        """Do it to all files that have not failed."""
        for task in self.tasks:
            if task in self.failures:
                continue
            try:
                step(task)
            except BrokenPipeError:  # nobody reads on; `main` knows what to do
                raise
            except Exception as error:  # noqa: BLE001 - the door of the batch: the next file may be fine
                self.fail(task, error)

    def check(self, task: Task) -> None:
        """Whether a file can be restored, as far as that can be told without a fit."""
        given = load(task, self.recipe, self.model)
        if (count := given.image.metadata.get("images", 1)) > 1:
            report_error(f"{task.source}: holds {count} images; only the largest is restored, the others are left out")

    def restore(self, task: Task) -> None:
        """Restore a file and say how it went."""
        given = load(task, self.recipe, self.model)
        number = f" ({self.tasks.index(task) + 1}/{len(self.tasks)})" if len(self.tasks) > 1 else ""
        with progress_bar(task.source.name + number, lambda text: report_error(f"{task.source}: {text}")) as show:
            result = wait(
                run(given.image, self.recipe, mask=given.mask, extra_images=given.others, model=self.model), show
            )
        provenance = {"input": task.source.name, **result.provenance()}
        save(task, result.image, provenance, overwrite=self.overwrite)
        facts = {**provenance, "input": task.source, "output": task.target}
        say(to_json(facts) if self.json else describe_result(task.source, task.target, result))

    def fail(self, task: Task, error: Exception) -> None:
        """Say why a file was not restored."""
        self.failures[task] = error
        explain(error, self.debug, about=str(task.source))
        if self.json:
            say(to_json({"input": task.source, "output": None, "error": str(error)}))
