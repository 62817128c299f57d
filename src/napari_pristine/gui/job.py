"""One running generator on one Qt thread."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

import torch
from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal
from superqt.utils import GeneratorWorker

from napari_pristine.device import leave_a_core
from napari_pristine.events import Event, Wish

Job: TypeAlias = Generator[Event, "Wish | None", Any]
"""A restoration or a learning under way."""


class JobRunner(QObject):  # type: ignore[misc]
    """Runs one job at a time in the background and tells the window about it.

    Signals:
        said: An event of the job.
        returned: The result: a `Restored`, or a `Model`.
        errored: What went wrong.
        finished: The job is over and all that it held is free; comes last, whatever happened.
    """

    said = Signal(object)
    returned = Signal(object)
    errored = Signal(object)
    finished = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._worker: Any = None

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return self._worker is not None

    @property
    def heeded(self) -> bool:
        """Whether a job is under way that was not cancelled."""
        return self.running and not self._cancelled()

    def start(self, job: Job) -> None:
        """Run a job; there must be none under way."""
        if self.running:
            raise TypeError("a job is under way")
        polite = _leaving_a_core(job)
        # superqt's worker and not napari's, which would announce each error a second time, with a traceback
        worker = create_worker(_play, polite, _worker_class=GeneratorWorker, _ignore_errors=True)
        # quitting leaves the generator suspended, with all its tensors
        worker.finished.connect(polite.close)
        worker.finished.connect(self._over)
        worker.yielded.connect(self._say)
        worker.returned.connect(self._return)
        worker.errored.connect(self._fail)
        self._worker = worker
        worker.start()

    def keep(self) -> None:
        """Stop fitting and take what there is."""
        if self._worker is not None:
            self._worker.send(Wish.KEEP)

    def cancel(self) -> None:
        """Stop, and throw away what there is; no event, result or error comes after this."""
        if self._worker is not None:
            self._worker.quit()

    # methods of this object and not functions: they are called in its thread, the window's
    def _say(self, event: object) -> None:
        if not self._cancelled():
            self.said.emit(event)

    def _return(self, result: object) -> None:
        if not self._cancelled():
            self.returned.emit(result)

    def _fail(self, error: object) -> None:
        if not self._cancelled():
            self.errored.emit(error)

    def _cancelled(self) -> bool:
        """Whether what comes from the worker was on its way when the job was cancelled."""
        return self._worker is None or bool(self._worker.abort_requested)

    def _over(self) -> None:
        self._worker = None
        self.finished.emit()


def _leaving_a_core(job: Job) -> Job:
    """The same job, with one core left to the window."""
    threads = torch.get_num_threads()
    leave_a_core()
    try:
        return (yield from job)
    finally:
        job.close()
        torch.set_num_threads(threads)


def _play(job: Job) -> Job:
    """Workers want a generator function; this one is of the generator that can also be closed from outside."""
    return (yield from job)
