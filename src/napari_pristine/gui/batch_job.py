"""Input of the Batch panel, and the two jobs that follow from it: planning and restoring."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from napari_pristine.batch.estimate import estimate_files
from napari_pristine.batch.processes import local_executor
from napari_pristine.batch.report import write_report
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchSpec, make_folder, resolve_batch
from napari_pristine.device import pick_device
from napari_pristine.gui.job_runner import Job
from napari_pristine.methods import find_method
from napari_pristine.recipe import Recipe
from napari_pristine.resources import cpu_count, thread_count
from napari_pristine.settings import Params, setting
from napari_pristine.text import counted
from napari_pristine.threads import run_in_thread

_MAX_PROCESSES = cpu_count()
_OPTION_LABELS = {"--overwrite": "'Replace results'", "--resume": "'Run'", "(--memory)": "('Memory')"}


class BatchSettings(Params):
    """Settings of a batch run."""

    replace_results: bool = setting(
        False, "Replace results that were made by another recipe or are incomplete; the others are kept in any case."
    )
    workers: int = setting(1, "Processes that restore files at the same time.", ge=1, le=_MAX_PROCESSES)
    threads: int | None = setting(
        None,
        "Threads of each process; the last digits of results of trained networks depend on it.",
        none="all CPUs but one, shared",
        ge=1,
        le=_MAX_PROCESSES,
        advanced=True,
    )
    memory: float | None = setting(
        None, "Memory that a process may use.", unit="GB", none="all free memory", gt=0, advanced=True
    )


@dataclass(frozen=True)
class BatchRequest:
    """The input of the Batch panel.

    Attributes:
        recipe: The recipe, or its path.
        inputs: Files, folders and patterns.
        output: Folder for the results and the report.
        settings: Settings of the run.
        axes: Axes of the files with as many dimensions; empty for those that they state.
    """

    recipe: Path | Recipe
    inputs: tuple[str, ...]
    output: Path
    settings: BatchSettings = field(default_factory=BatchSettings)
    axes: str = ""

    @property
    def name(self) -> str:
        """Name of the recipe, for the report: that of its file, or its method."""
        return self.recipe.stem if isinstance(self.recipe, Path) else find_method(self.recipe.method).title

    def resolve(self) -> BatchSpec:
        """Read the recipe and find the files.

        Raises:
            PristineError: See `resolve_batch`.
        """
        settings = self.settings
        # one CPU is left for the window, as in the restore panel, which gives the same pixels
        threads = settings.threads or thread_count(settings.workers, spare=1)
        return resolve_batch(
            self.recipe, self.inputs, self.output, axes=self.axes, resume=True, overwrite=settings.replace_results,
            memory=None if settings.memory is None else int(settings.memory * 1e9), workers=settings.workers,
            threads=threads,
        )  # fmt: skip


def plan_batch(request: BatchRequest) -> Job:
    """Find the files and estimate each of them; yields a `BatchSpec`, notes, and a `FileEstimate` per file.

    Raises:
        PristineError: The recipe cannot be read, or there are no files.
    """
    spec = yield from _resolve(request)
    yield from estimate_files(spec.tasks, spec.options)
    return None


def run_batch(request: BatchRequest) -> Job:
    """Restore the files and write the report, even if the batch is stopped or fails.

    Yields a `BatchSpec` and the events of the batch.

    Raises:
        PristineError: The batch cannot start, or the report cannot be written.
    """
    spec = yield from _resolve(request)
    make_folder(request.output)
    batch = Batch(spec.tasks, spec.options, local_executor(request.settings.workers, spec.options.threads))
    try:
        yield from batch.job()
    finally:
        if batch.rows:
            title = f"{request.name}: {counted(len(batch.rows), 'file')}"
            write_report(request.output, batch.rows, title=title, since=batch.since)
    return None


def _resolve(request: BatchRequest) -> Generator[object, None, BatchSpec]:
    spec = yield from run_in_thread(lambda _: request.resolve())
    yield spec
    if note := pick_device(spec.options.recipe.device)[1]:
        yield note
    return spec


def use_panel_labels(message: str) -> str:
    """Replace command-line options in a message by the labels that they have in the panel."""
    for option, label in _OPTION_LABELS.items():
        message = message.replace(option, label)
    return message
