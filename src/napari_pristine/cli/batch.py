"""The command `pristine batch`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_pristine.cli.options import (
    INPUTS,
    Json,
    Log,
    Memory,
    Overwrite,
    Resume,
    Threads,
    check_count,
    check_threads,
    read_bytes,
)
from napari_pristine.cli.output import (
    SOME_FAILED,
    SUCCESS,
    batch_bar,
    describe_counts,
    describe_item,
    describe_plan,
    item_facts,
    reading_bar,
    report_error,
    say,
)
from napari_pristine.errors import FileError, SettingError
from napari_pristine.events import ItemDone, Note
from napari_pristine.text import counted, to_json

if TYPE_CHECKING:
    from napari_pristine.batch.estimate import FileEstimate
    from napari_pristine.batch.runner import Batch
    from napari_pristine.batch.spec import BatchSpec


def batch(
    recipe: Annotated[Path, Parameter(help="Recipe, a .yaml file: 'Save recipe…' of a panel writes one.")],
    inputs: Annotated[list[str], Parameter(help=INPUTS, negative=())],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", help="Folder for the results and the report.")],
    axes: Annotated[
        str,
        Parameter(
            help="Axes of the files with as many dimensions, such as ZYX; the others have those that they state.",
            show_default=False,
        ),
    ] = "",
    plan: Annotated[
        bool, Parameter(help="Only list the files, with the time and memory they take; write nothing.", negative=())
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    uncertainty: Annotated[
        bool,
        Parameter(
            help="Also write half the width of the 90 % interval of each pixel, NAME.uncertainty.ome.tif, beside each "
            "result.",
            negative=(),
        ),
    ] = False,
    workers: Annotated[int | None, Parameter(help="Processes on this machine. [default: this process alone]")] = None,
    threads: Threads = None,
    scheduler: Annotated[
        str, Parameter(help="Address of the scheduler of a dask cluster to use.", show_default=False)
    ] = "",
    memory: Memory = "",
    log: Log = None,
    json: Json = False,
) -> int:
    """Restore files, folders and patterns by a recipe; finished blocks survive any interruption."""
    if scheduler and workers is not None:
        raise SettingError("--scheduler joins a cluster that has its own workers; leave --workers out")
    check_count("--workers", workers)
    check_threads(threads, processes=None if scheduler else workers or 1)
    most = read_bytes(memory)
    # here, as they import torch
    from napari_pristine.batch.executors import scheduler_executor
    from napari_pristine.batch.processes import local_executor
    from napari_pristine.batch.runner import Batch
    from napari_pristine.batch.spec import make_folder, resolve_batch
    from napari_pristine.device import pick_device

    spec = resolve_batch(
        recipe, inputs, output, axes=axes, resume=resume, overwrite=overwrite, memory=most, threads=threads,
        workers=None if scheduler else workers or 1, uncertainty=uncertainty,
    )  # fmt: skip
    note = None if scheduler else pick_device(spec.options.recipe.device)[1]
    if note:  # the devices of a cluster are in the report
        report_error(note.text)
    if plan:
        return _print_plan(spec, json)

    local = nullcontext(local_executor(workers or 1, spec.options.threads))
    with scheduler_executor(scheduler) if scheduler else local as execute:
        make_folder(output)
        work = Batch(spec.tasks, spec.options, execute)
        job = work.job()
        try:
            with batch_bar() as show:
                for event in job:
                    show(event)
                    if isinstance(event, ItemDone):
                        if json:
                            say(to_json(item_facts(event)))
                        elif event.is_error:
                            where = "" if str(event.source) in event.text else f"{event.source}: "
                            report_error(f"{where}{event.text}")
                        else:
                            say(describe_item(event))
                    elif isinstance(event, Note):
                        report_error(event.text)
        except BaseException as error:  # interrupted, or the cluster is lost
            job.close()
            if isinstance(error, KeyboardInterrupt):
                done = sum(not row.is_error for row in work.rows)
                report_error(f"{done} of {counted(len(work.tasks), 'file')} done; --resume continues")
            if work.rows:
                _report(output, work, recipe.stem, json)
            raise
        finally:
            job.close()
    return _report(output, work, recipe.stem, json)


def _report(output: Path, work: Batch, name: str, json: bool) -> int:
    """Write the report, and return the exit code: success if all that can be restored is, or is being restored."""
    from napari_pristine.batch.report import write_report

    failed = any(row.is_error for row in work.rows)
    restored = any(row.facts for row in work.rows) or bool(work.locked_elsewhere)
    if not json:
        say(describe_counts(work.rows))
    try:
        _, page = write_report(output, work.rows, title=f"{name}: {counted(len(work.rows), 'file')}", since=work.since)
    except FileError as error:  # the results are there
        report_error(error)
        return SOME_FAILED
    if not json:
        say(f"report: {page}")
    return SOME_FAILED if failed or not restored else SUCCESS


def _print_plan(spec: BatchSpec, json: bool) -> int:
    """List all files with what they take; returns the exit code."""
    from napari_pristine.batch.estimate import estimate_files

    found: list[FileEstimate] = []
    with reading_bar(len(spec.tasks)) as count:
        for estimate in filter(None, estimate_files(spec.tasks, spec.options)):
            found.append(estimate)
            count(estimate.task.source)
            if json:
                facts = {key: value for key, value in vars(estimate).items() if key != "task"}
                output = None if estimate.problem else estimate.task.target
                say(to_json({"input": estimate.task.source, "output": output, **facts}))
    if not json:
        say(*describe_plan(found))
    failed = any(estimate.problem and not estimate.task.problem for estimate in found)
    return SOME_FAILED if failed or all(estimate.problem for estimate in found) else SUCCESS
