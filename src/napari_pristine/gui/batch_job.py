"""What the Batch panel asks for, and the two jobs that follow: to plan it, and to do it."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias

from napari_pristine.batch.demand import memory_for
from napari_pristine.batch.engine import Batch, Stand
from napari_pristine.batch.inputs import inputs_of
from napari_pristine.batch.order import Order, model_of
from napari_pristine.batch.plan import Forecast, forecasts
from napari_pristine.batch.pools import on_this_machine
from napari_pristine.batch.report import write_report
from napari_pristine.batch.rows import Row
from napari_pristine.batch.tasks import Task, assign, make_folder
from napari_pristine.errors import FileError, PristineError
from napari_pristine.events import Wish
from napari_pristine.recipe_file import load_recipe
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

    def order(self) -> Order:
        """What is wanted.

        Raises:
            PristineError: The recipe or its network cannot be read.
        """
        options = self.options
        memory = memory_for(None if options.memory is None else int(options.memory * 1e9), options.workers)
        order = Order(load_recipe(self.recipe), options.resume, options.replace_results, memory, options.threads)
        model_of(order.recipe)
        return order

    def tasks(self, order: Order) -> list[Task]:
        """The files.

        Raises:
            FileError: There are none, or their results cannot go to the folder.
        """
        found = assign(inputs_of(self.inputs, self.output), self.output, order.recipe)
        if not found:
            raise FileError("there are no files in what was named; add images, or folders of images")
        return found


@dataclass(frozen=True)
class Ended:
    """A batch is over.

    Attributes:
        rows: What became of the files.
        of_files: How many there are.
        stopped: Whether someone has ended it.
        report: The page that tells of it.
    """

    rows: Sequence[Row]
    of_files: int
    stopped: bool
    report: Path | None


Planning: TypeAlias = Generator["list[Task] | Forecast", "Wish | None", None]
Doing: TypeAlias = Generator[object, "Wish | None", Ended]


def planning(asked: Asked) -> Planning:
    """All files, and then what is known of each.

    Raises:
        PristineError: The recipe cannot be read, or there are no files.
    """
    order = asked.order()
    tasks = asked.tasks(order)
    yield tasks
    for forecast in forecasts(tasks, order):
        if asked.stop.is_set():
            return
        yield forecast


def doing(asked: Asked) -> Doing:
    """All files, and then how the batch goes: `Stand`, `Row` or words; the report is written, whoever ends it.

    Raises:
        PristineError: It cannot begin, or the report cannot be written.
    """
    order = asked.order()
    tasks = asked.tasks(order)
    yield tasks
    make_folder(asked.output)
    if asked.options.workers > 1:
        yield f"Starting {asked.options.workers} workers …"
    with on_this_machine(asked.options.workers) as pool:
        batch = Batch(tasks, order, pool)
        job = batch.job()
        try:
            for event in job:
                if isinstance(event, (Stand, Row)):
                    yield event
                if asked.stop.is_set():
                    break
        except GeneratorExit:  # the window is closed
            job.close()
            with suppress(PristineError):
                _report(asked, batch)
            raise
        finally:
            job.close()
    return Ended(batch.rows, len(tasks), asked.stop.is_set(), _report(asked, batch))


def in_words_of_the_panel(text: str) -> str:
    """A message that names options of the shell, with the names that they have in the panel."""
    for option, words in _WORDS.items():
        text = text.replace(option, words)
    return text


def _report(asked: Asked, batch: Batch) -> Path | None:
    """Write what happened, if anything did."""
    if not batch.rows:
        return None
    title = f"{asked.recipe.stem}: {len(batch.rows)} files"
    return write_report(asked.output, batch.rows, title=title, since=batch.since)[1]
