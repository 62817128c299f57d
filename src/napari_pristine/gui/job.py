"""One running generator on one Qt thread."""

from __future__ import annotations

from typing import Any

import torch
from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal
from superqt.utils import GeneratorWorker

from napari_pristine.device import leave_a_core
from napari_pristine.events import Wish
from napari_pristine.run import Job


class JobRunner(QObject):  # type: ignore[misc]
    """Runs one job at a time in the background and tells the window about it.

    Signals:
        said: An event of the job.
        returned: The result, a `Restored`.
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
        worker.yielded.connect(lambda event: self._tell(self.said, event))
        worker.returned.connect(lambda result: self._tell(self.returned, result))
        worker.errored.connect(lambda error: self._tell(self.errored, error))
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

    def _tell(self, signal: Any, what: object) -> None:
        # what was on its way when the job was cancelled is of no interest any more
        if self._worker is not None and not self._worker.abort_requested:
            signal.emit(what)

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
