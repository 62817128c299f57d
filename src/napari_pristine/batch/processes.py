"""Restore work items in several processes on this machine.

They are started by this process and communicate with it through pipes. No port is opened to which other users could
connect.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from napari_pristine.batch.executors import (
    POLL_SECONDS,
    QUEUE_LENGTH,
    Executor,
    Finished,
    Messages,
    WorkerMessage,
    restore_in_folder,
    run_in_this_process,
)
from napari_pristine.batch.work_item import WorkItem
from napari_pristine.errors import ComputeError, PristineError
from napari_pristine.events import Note
from napari_pristine.resources import thread_count

_ATTEMPTS = 3
"""Maximum number of times that a work item is started, if the processes that restore it die."""
_STOP_SECONDS = 10.0
"""Seconds to wait for a process to stop before it is killed."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that numpy and torch read when they are imported."""
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
        self.number, self.threads = number, threads
        self.attempt: _Attempt | None = None
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.pipe, theirs = _START.Pipe()
        # a daemon ends with this process
        self.process = _START.Process(
            target=_serve, args=(theirs, self.number, self.threads), name=f"pristine-worker-{self.number}", daemon=True
        )
        with _inherited(self.threads):
            self.process.start()
        theirs.close()  # else the end of the process would not close the pipe

    def stop(self) -> None:
        """End the process even if it does not respond; finished blocks are kept."""
        self.process.terminate()
        self.process.join(_STOP_SECONDS)
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
    """Processes, and the work items that wait for one of them."""

    def __init__(self, workers: int, threads: int) -> None:
        self._waiting: deque[_Attempt] = deque()
        self._workers = [_Worker(number, threads) for number in range(workers)]

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.stop()

    @property
    def size(self) -> int:
        """Number of work items that are not finished."""
        return len(self._waiting) + sum(worker.attempt is not None for worker in self._workers)

    def add(self, item: WorkItem) -> None:
        """Queue a work item."""
        self._waiting.append(_Attempt(item))

    def next_message(self, seconds: float) -> WorkerMessage | Note | None:
        """The next finished work item or note on a process that died; `None` if there is none after these seconds."""
        for worker in self._workers:
            if worker.attempt is None and self._waiting:
                worker.give(self._waiting.popleft())
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
            worker.process.join()
            cause = f"a worker process ended ({_describe_exit(worker.process.exitcode)})"
            worker.stop()
            worker.start()
            if attempt.count < _ATTEMPTS:
                self._waiting.appendleft(attempt)
                return Note(f"'{item.task.source}': {cause}; its work is repeated", warning=True)
            error = ComputeError(
                f"'{item.task.source}': {cause}, {_ATTEMPTS} times; if the memory ran out, use fewer "
                "workers or less memory for each (--memory), and continue with --resume"
            )
        return WorkerMessage(item, Finished(error))


def _serve(pipe: Connection, number: int, threads: int) -> None:
    """Restore work items until the batch ends; the main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        item, folder = pipe.recv()
        error: PristineError | None = restore_in_folder(item, folder, item.threads or threads, number)
        pipe.send(error)


def _stop(*_: object) -> None:
    """End this process by an exception, only once, so that open files are closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def _end_with_parent() -> None:
    """Wait until the batch has ended, for whatever reason, and end this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """Let processes started in this context ignore Ctrl-C, which the batch handles, and use this many threads."""
    mask = getattr(signal, "pthread_sigmask", None)  # there is none on Windows
    blocked = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else None
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        if mask:
            mask(signal.SIG_SETMASK, blocked)


def _describe_exit(code: int | None) -> str:
    """Describe how a process ended: by a signal such as SIGKILL, or with an exit code."""
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
