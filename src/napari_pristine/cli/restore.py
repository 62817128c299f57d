"""The command `pristine restore`: a batch by a recipe that is made from the options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from napari_pristine.cli.options import (
    DEFAULT,
    INPUTS,
    Axes,
    Debug,
    DeviceName,
    Json,
    Log,
    Memory,
    Overwrite,
    Resume,
    SaveRecipe,
    Seed,
    Series,
    Settings,
    Threads,
    Together,
    check_threads,
    option,
    read_bytes,
    read_pairs,
    read_settings,
)
from napari_pristine.cli.output import (
    SOME_FAILED,
    SUCCESS,
    UNUSABLE,
    describe_item,
    explain,
    item_bar,
    item_facts,
    reading_bar,
    report_error,
    say,
)
from napari_pristine.errors import ComputeError, PristineError, format_error
from napari_pristine.events import ItemDone, ItemEvent, Note
from napari_pristine.text import to_json

if TYPE_CHECKING:
    from napari_pristine.batch.spec import Task
    from napari_pristine.batch.work_item import OpenedTask


def restore(
    inputs: Annotated[
        list[str],
        Parameter(help=INPUTS, negative=()),
    ],
    /,
    *,
    output: Annotated[
        str,
        Parameter(alias="-o", help="File for the result; a name without a suffix, or that ends with /, is a folder."),
    ],
    method: Annotated[
        str,
        Parameter(
            help=f"Name of the method, see 'pristine methods'. [default: {DEFAULT['method']}]", show_default=False
        ),
    ] = "",
    preset: Annotated[
        str,
        Parameter(
            help="Effort: fast, balanced or best; or paper, for the settings that were published. Not with a model. "
            f"[default: {DEFAULT['preset']}]",
            show_default=False,
        ),
    ] = "",
    axes: Axes = DEFAULT["axes"],
    series: Series = None,
    together: Together = DEFAULT["together"],
    select: Annotated[
        list[str] | None, Parameter(help="Range to restore, such as T=0:10; may be repeated.", negative=())
    ] = None,
    mask: Annotated[str, option("mask")] = DEFAULT["mask"],
    model: Annotated[str, option("model", "Files are made by 'pristine learn'.")] = DEFAULT["model"],
    adapt: Annotated[bool, Parameter(help="Train the model some more on each image first.", negative=())] = False,
    value_type: Annotated[Literal["auto", "same", "float32"], option("value_type")] = DEFAULT["value_type"],
    strength: Annotated[list[float] | None, option("strength")] = None,
    uncertainty: Annotated[
        str,
        Parameter(
            help="File for half the width of the 90 % interval of each pixel, in the units of the image.",
            show_default=False,
        ),
    ] = "",
    device: DeviceName = DEFAULT["device"],
    seed: Seed = DEFAULT["seed"],
    settings: Settings = None,
    memory: Memory = "",
    threads: Threads = None,
    save_recipe: SaveRecipe = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    log: Log = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Restore images, all with the same settings."""
    check_threads(threads)
    most, texts = read_bytes(memory), read_settings(settings)
    ranges = {axis.upper(): text for axis, text in read_pairs("--select", select, "T=0:10").items()}
    fields = {
        "axes": axes.upper(), "together": together.upper(), "select": ranges, "mask": mask, "model": model,
        "series": series, "adapt": adapt, "value_type": value_type, "device": device, "seed": seed,
        "strength": strength or [], "uncertainty": bool(uncertainty),
    }  # fmt: skip
    # here, as they import torch
    from napari_pristine.batch.runner import Batch
    from napari_pristine.batch.spec import BatchOptions, FormatChecker, assign_results, leave_out
    from napari_pristine.batch.work_item import open_task
    from napari_pristine.io.fingerprint import FileSets
    from napari_pristine.jobs.inputs import InputCache, make_recipe
    from napari_pristine.jobs.restore import open_model
    from napari_pristine.recipe import with_absolute_paths
    from napari_pristine.recipe_file import save_recipe as write_recipe

    trained = open_model(model)
    # sidecars are recipes, too, and lie in other folders than this
    recipe = with_absolute_paths(make_recipe(trained, method, preset, texts, fields))
    tasks = assign_results(inputs, output, recipe, replace_results=overwrite or resume, uncertainty=uncertainty)

    # all files are checked before the first is restored
    opened: dict[Task, OpenedTask] = {}
    computed: list[bool] = []  # of each file that failed: did the computation fail?
    cache, sets = InputCache(), FileSets()

    def fail(task: Task, error: PristineError) -> None:
        computed.append(isinstance(error, ComputeError))
        explain(error, debug, about=str(task.source))
        if json:
            say(to_json(item_facts(ItemDone(task.source, task.target, "failed", str(error)))))

    formats = FormatChecker()
    with reading_bar(len(tasks)) as count:
        for number, each in enumerate(tasks):
            task = tasks[number] = leave_out(each, sets)
            if not task.problem:
                try:
                    opened[task] = open_task(task, recipe, cache)
                    sets.add(task.source, opened[task].plan.image)
                    formats.check(task.target, opened[task].result_like)
                    if task.uncertainty is not None:
                        formats.check(task.uncertainty, opened[task].uncertainty_like)
                except Exception as error:  # noqa: BLE001 - the next file may be fine
                    opened.pop(task, None)
                    fail(task, format_error(error, task.source))
            count(task.source)
    if save_recipe and opened:
        write_recipe(save_recipe, recipe, overwrite=overwrite)

    batch = Batch(
        [task for task in tasks if task in opened or task.problem],
        BatchOptions(recipe, resume, overwrite, most, threads),
        opened=opened,
        cache=cache,
        on_error=fail,
    )
    job = batch.job()
    with item_bar(len(tasks)) as show:
        try:
            for event in job:
                show(event)
                if isinstance(event, ItemEvent) and isinstance(event.event, Note):
                    report_error(f"{event.source}: {event.event.text}")
                elif isinstance(event, Note):
                    report_error(event.text)
                elif isinstance(event, ItemDone) and not event.is_error:
                    say(to_json(item_facts(event)) if json else describe_item(event))
        finally:
            job.close()
    if not computed:
        return SUCCESS
    usable = sum(not task.problem for task in tasks)
    return SOME_FAILED if any(computed) or len(computed) < usable else UNUSABLE
