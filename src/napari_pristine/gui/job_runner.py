"""One running generator on one Qt thread."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeAlias

import torch
from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QEvent, QObject, Signal
from qtpy.QtWidgets import QWidget
from superqt.utils import GeneratorWorker

from napari_pristine.device import leave_a_core
from napari_pristine.errors import PristineError
from napari_pristine.events import Command, Event

Job: TypeAlias = Generator[Event, "Command | None", Any]
"""A restoration or a learning under way."""


class Hearer(Protocol):
    """A panel that waits for jobs."""

    destroyed: Any

    def installEventFilter(self, heeds: QObject) -> None: ...  # noqa: N802

    def hear(self, event: Any) -> None:
        """Something was said."""

    def finish(self, result: Any) -> None:
        """There is a result."""

    def fail(self, error: Exception) -> None:
        """It went wrong."""

    def enable(self) -> None:
        """It is over, whatever happened."""

    def stop(self) -> None:
        """The panel is closed."""


class JobRunner(QObject):  # type: ignore[misc]
    """Runs one job at a time in the background and tells the window about it.

    Signals:
        said: An event of the job.
        returned: The result: a `Restored`, or a `Model`.
        errored: What went wrong.
        finished: The job is over and all that it held is free; comes last, whatever happened.
        deserted: The panel that waits for the job was taken out of the window.
    """

    said = Signal(object)
    returned = Signal(object)
    errored = Signal(object)
    finished = Signal()
    deserted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._worker: Any = None

    def tell(self, panel: Hearer) -> None:
        """Tell a panel about each job; it hears, too, that it should stop one when it is closed."""
        self.said.connect(panel.hear)
        self.returned.connect(panel.finish)
        self.errored.connect(panel.fail)
        self.finished.connect(panel.enable)
        self.deserted.connect(panel.stop)
        # closing the viewer deletes the panel
        panel.destroyed.connect(self.cancel)
        # closing the panel takes it out of the window but does not close it
        panel.installEventFilter(self)

    def eventFilter(self, panel: QWidget, event: QEvent) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.ParentChange and panel.parent() is None:
            self.deserted.emit()
        return False

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
        polite = _leaving_a_core(job, torch.get_num_threads())
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
            self._worker.send(Command.KEEP)

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


def complain(error: Exception, message: str) -> None:
    """Have napari show what went wrong; a mistake of ours with its traceback."""
    if isinstance(error, PristineError):
        show_error(message)
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)


def _leaving_a_core(job: Job, threads: int) -> Job:
    """The same job, with one core left to the window, which has so many threads when it is over.

    Each thread has a number of its own: a job begins in that of the worker, and is closed in that of the window.
    """
    leave_a_core()
    try:
        return (yield from job)
    finally:
        job.close()
        torch.set_num_threads(threads)


def _play(job: Job) -> Job:
    """Workers want a generator function; this one is of the generator that can also be closed from outside."""
    return (yield from job)
