"""Run jobs in a worker thread, and the base class of the panels that do so."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from threading import Event as Flag
from threading import Thread
from typing import Any, TypeAlias

import torch
from napari import Viewer
from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QEvent, QObject, QThreadPool, Signal
from superqt.utils import GeneratorWorker

from napari_pristine.device import leave_a_core
from napari_pristine.errors import ComputeError, PristineError
from napari_pristine.events import Command
from napari_pristine.gui.widgets import DockPanel

_LAST_WAIT = 3000
"""Milliseconds to wait for threads when Python ends."""
_threads: weakref.WeakSet[Thread] = weakref.WeakSet()
"""The threads of `LatestCall`."""


@atexit.register
def _wait_for_threads() -> None:
    """Wait for all threads: Qt and torch abort if one of theirs ends after Python has."""
    QThreadPool.globalInstance().waitForDone(_LAST_WAIT)
    for thread in list(_threads):
        thread.join(_LAST_WAIT / 1000)


Job: TypeAlias = Generator[object, "Command | None", object]
"""A generator that yields events and returns a result; closing it cancels it."""


class JobRunner(QObject):  # type: ignore[misc]
    """Runs one job at a time in a worker thread.

    Signals (all received in the thread of the window):
        yielded: An event of the job.
        returned: The result of the job.
        errored: The exception that ended the job.
        finished: The job is closed and its memory is free; always emitted, and last.
    """

    yielded = Signal(object)
    returned = Signal(object)
    errored = Signal(object)
    finished = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._worker: GeneratorWorker[Any, Any, Any] | None = None
        self._job: Job | None = None
        self._cancelled = Flag()

    @property
    def running(self) -> bool:
        """True while there is a job, including a cancelled one that has not ended yet."""
        return self._worker is not None

    @property
    def active(self) -> bool:
        """True while there is a job that is not cancelled."""
        return self.running and not self._cancelled.is_set()

    def start(self, job: Job) -> None:
        """Run a job; there must be no other."""
        if self.running:
            raise TypeError("a job is running already")
        self._cancelled = Flag()
        # superqt's worker, since napari's shows each error a second time, with a traceback
        worker = create_worker(
            _run, job, self._cancelled, torch.get_num_threads(), _worker_class=GeneratorWorker, _ignore_errors=True
        )
        # slots of this object, which lives in the thread of the window; plain functions run in the worker thread
        worker.yielded.connect(self._on_yielded)
        worker.returned.connect(self._on_returned)
        worker.errored.connect(self._on_errored)
        worker.finished.connect(self._on_finished)
        self._worker, self._job = worker, job
        worker.start()

    def keep(self) -> None:
        """Ask the job to stop now and return the result so far."""
        if self._worker is not None:
            self._worker.send(Command.KEEP)

    def cancel(self) -> None:
        """Close the job at its next event; of all signals only `finished` is emitted after this."""
        self._cancelled.set()

    def _on_yielded(self, event: object) -> None:
        if self.active:
            self.yielded.emit(event)

    def _on_returned(self, result: object) -> None:
        if self.active:
            self.returned.emit(result)

    def _on_errored(self, error: object) -> None:
        if self.active:
            self.errored.emit(error)

    def _on_finished(self) -> None:
        if self._job is not None:
            self._job.close()  # closed already, unless napari has quit the worker since its window was closed
        self._worker = self._job = None
        self.finished.emit()


class LatestCall(QObject):  # type: ignore[misc]
    """Calls one function at a time in a thread; of those that come meanwhile, only the last one is called.

    Signals:
        returned: The value that the function returned; not if another function waits.
        errored: The exception that it raised.
    """

    returned = Signal(object)
    errored = Signal(object)
    _ended = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.running = False
        """True while a function is called or waits."""
        self._next: Callable[[], object] | None = None
        self._ended.connect(self._on_ended)

    def start(self, function: Callable[[], object]) -> None:
        """Call a function, after the one that is being called."""
        self._next = function
        if not self.running:
            self._start()

    def stop(self) -> None:
        """Call no more functions."""
        self._next = None

    def _start(self) -> None:
        function, self._next = self._next, None
        self.running = function is not None
        if function is not None:
            # a daemon, so that it does not keep a closed window waiting; a list, so that it does not keep the function
            thread = Thread(target=self._call, args=([function],), daemon=True)
            _threads.add(thread)
            thread.start()

    def _call(self, functions: list[Callable[[], object]]) -> None:
        """Call the only function of a list, in the thread."""
        outcome: tuple[object, Exception | None]
        try:
            outcome = functions.pop()(), None
        except Exception as error:  # noqa: BLE001 - it is passed on, whatever it is
            outcome = None, error
        with suppress(RuntimeError):  # the window was closed meanwhile
            self._ended.emit(outcome)

    def _on_ended(self, outcome: tuple[object, Exception | None]) -> None:
        value, error = outcome
        if error is not None:
            self.errored.emit(error)
        elif self._next is None:
            self.returned.emit(value)
        self._start()


def _run(job: Job, cancelled: Flag, threads: int) -> Job:
    """Run a job in the worker thread until it returns or is cancelled, and close it there.

    `GeneratorWorker.quit` would leave the generator suspended, with all its memory; closing it from the window would
    block the window.

    Args:
        job: The job.
        cancelled: Set to cancel it.
        threads: Number of torch's threads to restore at the end; a job uses all cores but one, for the window.
    """
    leave_a_core()
    command: Command | None = None
    try:
        while not cancelled.is_set():
            try:
                event = job.send(command)
            except StopIteration as end:
                return end.value
            except RuntimeError as error:  # which GeneratorWorker would swallow
                raise ComputeError(f"the computation failed: {error}") from error
            command = yield event
    finally:
        try:
            job.close()
        finally:
            torch.set_num_threads(threads)
    return None


class JobPanel(DockPanel):
    """Base class of dock panels that run jobs, one at a time; closing the panel or the viewer stops the job."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.runner = JobRunner()
        self.runner.yielded.connect(self.on_event)
        self.runner.returned.connect(self.on_result)
        self.runner.errored.connect(self.on_error)
        self.runner.finished.connect(self.on_finished)
        self.destroyed.connect(self.runner.cancel)  # closing the viewer deletes the panel

    def event(self, event: QEvent) -> bool:
        # closing the panel removes it from the window but does not delete it
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.stop()
        return bool(super().event(event))

    def on_event(self, event: object) -> None:
        """Show an event of the job."""
        raise NotImplementedError

    def on_result(self, result: object) -> None:
        """Show the result of the job."""
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """Show the error that ended the job."""
        raise NotImplementedError

    def on_finished(self) -> None:
        """Update the panel after the job has ended, however it ended."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the job, if there is one."""
        raise NotImplementedError


def report_error(error: Exception, message: str) -> None:
    """Show an error as a notification; with its traceback if it is not one of ours."""
    if isinstance(error, PristineError):
        show_error(message)
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)
