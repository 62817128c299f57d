"""What the Batch panel asks for, and the two jobs that follow: to plan it, and to do it."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias

from napari_pristine.batch.estimate import FileEstimate, estimate_files
from napari_pristine.batch.executors import Executor, on_this_machine
from napari_pristine.batch.report import write_report
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchSpec, begin
from napari_pristine.batch.store import WorkDir
from napari_pristine.batch.tasks import make_folder
from napari_pristine.batch.worker_monitor import Notice
from napari_pristine.device import pick_device
from napari_pristine.errors import PristineError
from napari_pristine.events import BatchProgress, Command, ItemDone, Note
from napari_pristine.gui.run_in_thread import Apart, Stopped
from napari_pristine.settings import Params, setting

_CORES = os.cpu_count() or 1
_WORDS = {"--overwrite": "'Replace results'", "--resume": "'Resume'", "(--memory)": "('Memory')"}


class Options(Params):
    """How a batch is done; the same result whatever is chosen, but for the last digits with other threads."""

    resume: bool = setting(False, "Leave what is done, and go on where a batch was interrupted.")
    replace_results: bool = setting(False, "Replace results that exist.")
    workers: int = setting(1, "Processes side by side on this machine.", ge=1, le=_CORES)
    threads: int = setting(
        1,
        "Threads of each process; results of networks that learn have other last digits with another number.",
        ge=1,
        le=_CORES,
        advanced=True,
    )
    memory: float | None = setting(
        None, "Most memory of a process.", unit="GB", none="what is free", gt=0, advanced=True
    )


@dataclass(frozen=True)
class Asked:
    """What is to be done.

    Attributes:
        recipe: File of the recipe.
        inputs: Files, folders and patterns.
        output: Folder for the results and the report.
        options: How it is done.
        stop: Set by whoever wishes to end it.
    """

    recipe: Path
    inputs: tuple[str, ...]
    output: Path
    options: Options = field(default_factory=Options)
    stop: Flag = field(default_factory=Flag)

    def begin(self) -> BatchSpec:
        """What is wanted, and of which files.

        Raises:
            PristineError: See `begin`.
        """
        options = self.options
        return begin(
            self.recipe, self.inputs, self.output, resume=options.resume, overwrite=options.replace_results,
            memory=None if options.memory is None else int(options.memory * 1e9), workers=options.workers,
            threads=options.threads,
        )  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A batch is over.

    Attributes:
        rows: What became of the files.
        of_files: How many there are.
        stopped: Whether someone has ended it.
        kept: Files of whose results a part is done and kept.
    """

    rows: Sequence[ItemDone]
    of_files: int
    stopped: bool
    kept: frozenset[Path] = frozenset()


_OVER = Ended((), 0, stopped=False)
Planning: TypeAlias = Generator["BatchSpec | Note | FileEstimate | None", "Command | None", None]
Doing: TypeAlias = Generator[object, "Command | None", Ended]


def planning(asked: Asked) -> Planning:
    """All files, and then what is known of each; when it is stopped, the step under way is left alone.

    Raises:
        PristineError: The recipe cannot be read, or there are no files.
    """
    apart, steps = Apart(asked.stop), _plan(asked)
    try:
        while not isinstance(said := (yield from apart.do(lambda: next(steps, _OVER))), Ended):
            yield said
    except Stopped:
        pass
    finally:
        apart.leave(steps.close)


def _plan(asked: Asked) -> Generator[BatchSpec | Note | FileEstimate | None, None, None]:
    begun = asked.begin()
    yield begun
    yield pick_device(begun.order.recipe.device)[1]
    yield from estimate_files(begun.tasks, begun.order)


def doing(asked: Asked) -> Doing:
    """All files, and how the batch goes: `Stand`, `Row`, `Note`, `Notice` or words; a report, whatever ends it.

    Raises:
        PristineError: It cannot begin, or the report cannot be written.
    """
    apart, workers = Apart(asked.stop), ExitStack()
    count = asked.options.workers
    try:
        begun = yield from apart.do(asked.begin)
        yield begun
        yield pick_device(begun.order.recipe.device)[1]
        make_folder(asked.output)
        if count > 1:
            yield f"Starting {count} workers …"
        pool = yield from apart.do(lambda: workers.enter_context(on_this_machine(count)))
        ended = yield from _restoring(asked, begun, pool)
        if count > 1:
            yield "The workers are ending …"
            yield from apart.end(workers.close)
    except Stopped:
        return Ended((), 0, stopped=True)
    finally:
        apart.leave(workers.close)
    return ended


def _restoring(asked: Asked, begun: BatchSpec, pool: Executor) -> Doing:
    batch = Batch(begun.tasks, begun.order, pool)
    job, at_work = batch.job(), frozenset[Path]()
    try:
        for event in job:
            if isinstance(event, (BatchProgress, ItemDone, Notice)):
                yield event
            if isinstance(event, BatchProgress):
                at_work = frozenset(source for source, _ in event.active)
            if asked.stop.is_set():
                break
    except BaseException:  # the window is closed, or the workers are lost
        job.close()
        with suppress(PristineError):
            _write_report(asked, batch)
        raise
    finally:
        job.close()
    _write_report(asked, batch)
    left = at_work - {row.source for row in batch.rows}
    kept = (task.source for task in begun.tasks if task.source in left and WorkDir(task.target).has_blocks)
    return Ended(batch.rows, len(begun.tasks), asked.stop.is_set(), frozenset(kept))


def in_words_of_the_panel(text: str) -> str:
    """A message that names options of the shell, with the names that they have in the panel."""
    for option, words in _WORDS.items():
        text = text.replace(option, words)
    return text


def _write_report(asked: Asked, batch: Batch) -> None:
    """Write what happened, if anything did."""
    if batch.rows:
        write_report(asked.output, batch.rows, title=f"{asked.recipe.stem}: {len(batch.rows)} files", since=batch.since)
