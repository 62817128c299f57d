"""The command `pristine batch`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_pristine.batch.clusters import memory_of_job
from napari_pristine.batch.estimate import FileEstimate, estimate_files
from napari_pristine.batch.executors import Executor, here, joined_cluster, on_this_machine, slurm_cluster
from napari_pristine.batch.memory_estimate import BASE
from napari_pristine.batch.options import BatchOptions
from napari_pristine.batch.report import write_report
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchSpec, begin
from napari_pristine.batch.tasks import make_folder
from napari_pristine.batch.worker_monitor import Notice
from napari_pristine.cli.batch_output import batch_bar, describe_all, describe_plan, describe_row
from napari_pristine.cli.main import GOOD, SOME_FAILED, Json, report_error, say
from napari_pristine.cli.options import Overwrite
from napari_pristine.device import pick_device
from napari_pristine.errors import FileError, SettingError
from napari_pristine.events import BatchProgress, ItemDone
from napari_pristine.text import printable, to_json

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


Source = Annotated[Path, Parameter(help="Recipe, a .yaml file: 'Save recipe…' of a panel writes one.")]
Inputs = Annotated[list[str], Parameter(help="Images, folders of images or patterns.", negative=())]
Output = Annotated[Path, Parameter(alias="-o", help="Folder for the results and the report.")]
Plan = Annotated[
    bool, Parameter(help="Only say what would be done: what each file is, how long it takes.", negative=())
]
Resume = Annotated[bool, Parameter(help="Leave what is done, and go on where a batch was interrupted.", negative=())]
Workers = Annotated[
    int | None, Parameter(help="Processes on this machine, with --slurm jobs. [default: this process alone]")
]
Threads = Annotated[
    int,
    Parameter(
        help="Threads of each process; results of networks that learn have other last digits with another number."
    ),
]
Scheduler = Annotated[str, Parameter(help="Address of the scheduler of a dask cluster to use.")]
Slurm = Annotated[bool, Parameter(help="Start jobs by Slurm, as dask's configuration says.", negative=())]
Memory = Annotated[
    str, Parameter(help="Most memory of a process, such as 2GB. [default: what is free, or its part of it]")
]


def batch(
    recipe: Source,
    inputs: Inputs,
    /,
    *,
    output: Output,
    plan: Plan = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    workers: Workers = None,
    threads: Threads = 1,
    scheduler: Scheduler = "",
    slurm: Slurm = False,
    memory: Memory = "",
    json: Json = False,
) -> int:
    """Restore files, folders and patterns by a recipe: nothing is lost if it is interrupted, and it can be resumed."""
    _check_processes(workers, threads, scheduler, slurm)
    allowed = _bytes(memory) or (memory_of_job(threads) if slurm else None)
    begun = begin(
        recipe, inputs, output, resume=resume, overwrite=overwrite, memory=allowed, threads=threads,
        workers=None if slurm else workers,
    )  # fmt: skip
    if not (scheduler or slurm):  # for the machines of a cluster, the report says it
        _say_device(begun.order)
    if plan:
        return _plan(begun, json)
    with _pool(workers, threads, scheduler, slurm) as pool:
        make_folder(output)
        work = Batch(begun.tasks, begun.order, pool)
        try:
            _run(work, json)
        except BaseException:  # stopped, or the cluster is lost: what is done is done
            if work.rows:
                _report(output, work, recipe.stem, json)
            raise
    return _report(output, work, recipe.stem, json)


def _say_device(order: BatchOptions) -> None:
    """Say if it is computed on another device than wished for."""
    note = pick_device(order.recipe.device)[1]
    if note:
        report_error(note.text)


def _report(output: Path, batch: Batch, name: str, json: bool) -> int:
    """Write the report, say what there is and where, and return the exit code: whether all that could be is done."""
    failed = any(row.status == "failed" for row in batch.rows) or not any(row.facts for row in batch.rows)
    if not json:
        say(describe_all(batch.rows))
    try:
        _, page = write_report(output, batch.rows, title=f"{name}: {len(batch.rows)} files", since=batch.since)
    except FileError as error:  # the results are there
        report_error(error)
        return SOME_FAILED
    if not json:
        say(printable(f"report: {page}"))
    return SOME_FAILED if failed else GOOD


def _run(batch: Batch, json: bool) -> None:
    """Do it, and say what becomes of each file."""
    job = batch.job()
    with batch_bar() as show:
        try:
            for event in job:
                if isinstance(event, BatchProgress):
                    show(event)
                elif isinstance(event, ItemDone):
                    _tell(event, json)
                elif isinstance(event, Notice):
                    report_error(event.text)
        except KeyboardInterrupt:
            done = sum(row.status != "failed" for row in batch.rows)
            report_error(f"{done} of {len(batch.tasks)} files are done; --resume goes on from here")
            raise
        finally:
            job.close()


def _tell(row: ItemDone, json: bool) -> None:
    if json:
        output = row.target if row.facts else None
        error = row.text or None
        facts = {**row.facts, "input": row.source, "output": output, "status": row.status, "error": error}
        say(printable(to_json(facts)))
    elif row.status == "failed":
        report_error(printable(row.text if str(row.source) in row.text else f"{row.source}: {row.text}"))
    else:
        say(printable(describe_row(row)))


def _plan(begun: BatchSpec, json: bool) -> int:
    """Say what would be done."""
    found: list[FileEstimate] = []
    for forecast in filter(None, estimate_files(begun.tasks, begun.order)):
        found.append(forecast)
        if json:
            known = {key: value for key, value in vars(forecast).items() if key != "task"}
            output = None if forecast.problem else forecast.task.target
            say(printable(to_json({"input": forecast.task.source, "output": output, **known})))
    if not json:
        say(printable(describe_plan(found)))
    failed = any(forecast.problem and not forecast.task.problem for forecast in found)
    return SOME_FAILED if failed or all(forecast.problem for forecast in found) else GOOD


def _check_processes(workers: int | None, threads: int, scheduler: str, slurm: bool) -> None:
    """Raise a `SettingError` for processes that cannot be had."""
    if scheduler and (slurm or workers is not None):
        raise SettingError("--scheduler joins a cluster that has its workers; leave --workers and --slurm out")
    for name, count in (("workers", workers), ("threads", threads)):
        if count is not None and count < 1:
            raise SettingError(f"--{name} {count} cannot do anything; give 1 at least")


@contextmanager
def _pool(workers: int | None, threads: int, scheduler: str, slurm: bool) -> Iterator[Executor]:
    """Where it is done."""
    found: AbstractContextManager[Executor] = nullcontext(here)
    if scheduler:
        found = joined_cluster(scheduler)
    elif slurm:
        found = slurm_cluster(workers or 1, threads)
    elif workers is not None:
        found = on_this_machine(workers)
    with found as pool:
        yield pool


def _bytes(text: str) -> int | None:
    """Bytes of a text such as 2GB or 500 MiB; as many as the program itself takes, at least."""
    if not text:
        return None
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*((?:[KMGT]I?)?)(B?)\s*", text.upper())
    if match is None:
        raise SettingError(f"cannot read --memory '{text}'; write it like 2GB or 800MiB")
    if not match[2] + match[3]:
        raise SettingError(f"--memory {text} says no unit; give one, such as {text}GB")
    found = int(float(match[1]) * _UNITS[match[2]])
    if found < BASE:
        raise SettingError(f"--memory {text} is less than the program itself takes, {BASE / 1e6:.0f} MB; give more")
    return found
