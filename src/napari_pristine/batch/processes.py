"""Restore work items in several processes on this machine.

They are started by this process and communicate with it through pipes. No port is opened to which other users could
connect.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

from napari_pristine.batch.executors import (
    POLL_SECONDS,
    QUEUE_LENGTH,
    Executor,
    Finished,
    Messages,
    WorkerMessage,
    run_in_this_process,
)
from napari_pristine.batch.work_item import WorkItem
from napari_pristine.batch.worker_process import serve
from napari_pristine.errors import ComputeError
from napari_pristine.events import Note
from napari_pristine.resources import thread_count

_ATTEMPTS = 3
"""Maximum number of times that a work item is started, if the processes that restore it die."""
_STOP_SECONDS = 10.0
"""Seconds that processes have to stop, before they are killed."""
_START = multiprocessing.get_context("spawn")
"""Spawned processes; forked ones could not use CUDA."""


def local_executor(workers: int, threads: int | None = None) -> Executor:
    """Make the executor of this process, or of several processes on this machine, which end with the batch.

    A work item whose process dies is repeated by another one.

    Args:
        workers: Number of processes.
        threads: Number of threads of each; an equal part of the CPUs if `None`.
    """
    if workers == 1:
        return run_in_this_process

    def execute(items: Iterator[WorkItem | None]) -> Messages:
        with _Pool(workers, threads or thread_count(workers)) as pool:
            for item in items:
                if item is None:
                    yield pool.next_message(0)
                    continue
                pool.add(item)
                while pool.size >= QUEUE_LENGTH * workers:
                    yield pool.next_message(POLL_SECONDS)
            while pool.size:
                yield pool.next_message(POLL_SECONDS)

    return execute


@dataclass
class _Attempt:
    """A work item, and the number of times that it was started."""

    item: WorkItem
    count: int = 0


class _Worker:
    """A process, and the work item that it restores."""

    def __init__(self, number: int, threads: int) -> None:
        self.number = number
        self.attempt: _Attempt | None = None
        self.pipe, theirs = _START.Pipe()
        # a daemon ends with this process
        self.process = _START.Process(
            target=serve, args=(theirs, number, threads), name=f"pristine-worker-{number}", daemon=True
        )
        with _without_interrupts():
            self.process.start()
        theirs.close()  # else the end of the process would not close the pipe

    def close(self, seconds: float) -> None:
        """Wait for the end of the process, and kill it then: whole blocks are kept, as after a power cut."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()

    def give(self, attempt: _Attempt) -> None:
        """Let the process restore a work item."""
        self.attempt = attempt
        attempt.count += 1
        with suppress(OSError):  # it has died; `Connection.recv` finds out
            self.pipe.send((replace(attempt.item, opened=None), os.getcwd()))


class _Pool:
    """Processes, which are started when there is work for them, and the work items that wait for one of them."""

    def __init__(self, workers: int, threads: int) -> None:
        self._most, self._threads = workers, threads
        self._waiting: deque[_Attempt] = deque()
        self._workers: list[_Worker] = []

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        end = time.monotonic() + _STOP_SECONDS
        for worker in self._workers:
            worker.close(max(end - time.monotonic(), 0))

    @property
    def size(self) -> int:
        """Number of work items that are not finished."""
        return len(self._waiting) + sum(worker.attempt is not None for worker in self._workers)

    def add(self, item: WorkItem) -> None:
        """Queue a work item."""
        self._waiting.append(_Attempt(item))
        self._distribute()

    def _distribute(self) -> None:
        """Give work items that wait to processes that are free."""
        while self._waiting:
            worker = next((worker for worker in self._workers if worker.attempt is None), None)
            if worker is None:
                if len(self._workers) == self._most:
                    return
                number = min(set(range(self._most)) - {worker.number for worker in self._workers})
                self._workers.append(worker := _Worker(number, self._threads))
            worker.give(self._waiting.popleft())

    def next_message(self, seconds: float) -> WorkerMessage | Note | None:
        """The next finished work item, or a note on a process that died; `None` if there is none for these seconds."""
        self._distribute()
        busy: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers if worker.attempt is not None}
        for pipe in wait(list(busy), seconds):
            return self._receive(busy[pipe])
        return None

    def _receive(self, worker: _Worker) -> WorkerMessage | Note:
        attempt, worker.attempt = worker.attempt, None
        assert attempt is not None
        item, error = attempt.item, None
        try:
            error = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)  # another one takes its number
            worker.process.join()
            cause = f"a worker process ended ({_describe_exit(worker.process.exitcode)})"
            worker.close(0)
            if attempt.count < _ATTEMPTS:
                self._waiting.appendleft(attempt)
                return Note(f"'{item.task.source}': {cause}; its work is repeated", warning=True)
            error = ComputeError(
                f"'{item.task.source}': {cause}, {_ATTEMPTS} times; if the memory ran out, use fewer "
                "workers or less memory for each (--memory), and continue with --resume"
            )
        return WorkerMessage(item, Finished(error))


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let processes that are started here ignore Ctrl-C, which the batch gets as well, from their first moment on."""
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is None:  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # it would lift the mask if the first process started it
    before = mask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        mask(signal.SIG_SETMASK, before)


def _describe_exit(code: int | None) -> str:
    """Describe how a process ended: by a signal such as SIGKILL, or with an exit code."""
    if code is None or code >= 0:
        return f"exit code {code}"
    return next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
