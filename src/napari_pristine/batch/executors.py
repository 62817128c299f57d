"""Pools: where shares are done, here or on a dask cluster."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from napari_pristine.batch.clusters import joined_client, local_client, slurm_client
from napari_pristine.batch.format_error import format_error
from napari_pristine.batch.slurm import Jobs, stopped_by_signals
from napari_pristine.batch.work_item import WorkItem, restore_work_item
from napari_pristine.batch.worker_monitor import Advice, Notice, Tend, WorkerMonitor
from napari_pristine.errors import ComputeError, FileError, PristineError
from napari_pristine.events import Event

_MOMENT = 0.1
"""Seconds between two looks at what a cluster has done."""
_FETCH = 1.0
"""Seconds to wait for what a worker says of a share that is over; it may have died since, and another does it again."""
_AHEAD = 2
"""Shares that wait at each worker, so that none is idle between two of them."""


@dataclass(frozen=True)
class Finished:
    """A share is over; with the error that ended it, if one did."""

    error: PristineError | None = None


@dataclass(frozen=True, eq=False)
class WorkerMessage:
    """What is said of a share: how it goes on, or that it is over."""

    share: WorkItem
    said: Event | Finished


WorkerMessages: TypeAlias = "Iterator[WorkerMessage | Notice | None]"
Executor: TypeAlias = "Callable[[Iterator[WorkItem | None]], WorkerMessages]"
"""Does shares, as they are handed out; says how each goes on, and when it is over. None is handed out, and on, where
there is something to tell of a file of which nothing is to be done."""


def here(shares: Iterator[WorkItem | None]) -> WorkerMessages:
    """One share after the other, in this process."""
    for share in shares:
        if share is None:
            yield None
            continue
        limit_threads(share.order.threads)
        error: PristineError | None = None
        try:
            for event in restore_work_item(share):
                yield WorkerMessage(share, event)
        except Exception as caught:  # noqa: BLE001 - one file, whatever is wrong with it, must not end the batch
            error = format_error(caught, share.task.source)
        yield WorkerMessage(share, Finished(error))


def on(client: Any, advice: Advice = lambda: "they are being started", tend: Tend = lambda workers: "") -> Executor:
    """The pool of a client of dask.distributed.

    A share whose worker dies is given to another one; all is written by the workers, which see the same files.

    Args:
        client: The client.
        advice: What to say where there are no workers.
        tend: Looks after the workers, now and then.
    """

    def answers(shares: Iterator[WorkItem | None]) -> WorkerMessages:
        under_way, crew = _UnderWay(client), WorkerMonitor(client, advice, tend)
        try:
            for share in shares:
                if share is None:
                    yield under_way.wait(0) or crew.news()
                    continue
                under_way.add(share)
                while len(under_way.shares) >= _AHEAD * max(crew.count(), 1):
                    yield under_way.wait() or crew.news()
            while under_way.shares:
                yield under_way.wait() or crew.news()
        finally:
            with suppress(Exception):  # what is lost cannot be cancelled, and the files must be left to others
                client.cancel(list(under_way.shares))

    return answers


class _UnderWay:
    """The shares that were given to a cluster and are not over."""

    def __init__(self, client: Any) -> None:
        from distributed import as_completed

        self.shares: dict[Any, WorkItem] = {}
        self._client, self._completed = client, as_completed(with_results=False)
        self._over: deque[Any] = deque()

    def add(self, share: WorkItem) -> None:
        future = self._client.submit(_do, share, os.getcwd(), pure=False)
        self.shares[future] = share
        self._completed.add(future)

    def wait(self, seconds: float = _MOMENT) -> WorkerMessage | None:
        """The next one that is over; none if that takes longer than a moment, so that the batch can be stopped."""
        while self._completed.has_ready():
            self._over.append(next(self._completed))
        if not self._over:
            time.sleep(seconds)
            return None
        future = self._over.popleft()
        try:
            error = _error(future)
        except TimeoutError:
            self._over.append(future)
            return None
        return WorkerMessage(self.shares.pop(future), Finished(error))


_ALONE = threading.Lock()
"""A process does one share at a time, however many threads a worker has: so much memory was asked for."""


def _do(share: WorkItem, folder: str) -> PristineError | None:
    """A share, on a worker; names of files are those of the folder that the batch was started in."""
    if not os.path.isdir(folder):
        return FileError(
            f"'{share.task.source}': the worker on '{socket.gethostname()}' does not see the folder '{folder}'; "
            "start workers where all files can be seen under the same names"
        )
    try:
        with _ALONE, chdir(folder):
            limit_threads(share.order.threads)
            _take_gpu()
            for _ in restore_work_item(share):
                pass
    except Exception as error:  # noqa: BLE001 - the door to the report
        return format_error(error, share.task.source)
    return None


def _take_gpu() -> None:
    """Let each worker of a machine compute on a GPU of its own, where there are several."""
    if torch.cuda.is_available():
        from distributed import get_worker

        number = re.fullmatch(r"(?:\d+-)?(\d+)", str(get_worker().name))  # 3 here, 1234 or 1234-3 in a job of Slurm
        torch.cuda.set_device((int(number[1]) if number else 0) % torch.cuda.device_count())


def _error(future: Any) -> PristineError | None:
    """What ended a share; raises a `TimeoutError` if that cannot be had now."""
    try:
        error: PristineError | None = future.result(timeout=_FETCH)
    except Exception as lost:  # a scheduler that dies takes its futures with it, in many ways
        if isinstance(lost, TimeoutError) and future.status != "error":
            raise
        return ComputeError(f"a worker failed: {lost}; see its log, and go on with --resume")
    return error


def limit_threads(threads: int) -> None:
    """Let this process compute with so many threads, 1 at least."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@contextmanager
def on_this_machine(workers: int) -> Iterator[Executor]:
    """The pool of this process, or of several on this machine.

    Raises:
        SettingError: There are to be several, and dask.distributed is not installed.
    """
    if workers == 1:
        yield here
        return
    with local_client(workers) as client:
        yield on(client)


@contextmanager
def joined_cluster(address: str) -> Iterator[Executor]:
    """The pool of a cluster that is there already.

    Raises:
        SettingError: dask.distributed is not installed, or nobody answers at the address.
    """
    with joined_client(address) as client:
        yield on(client, lambda: f"start one with 'dask worker {address}'")


@contextmanager
def slurm_cluster(jobs: int, threads: int = 1) -> Iterator[Executor]:
    """A pool of jobs that Slurm starts, as dask's configuration (jobqueue.slurm) describes them.

    Args:
        jobs: How many.
        threads: Of each process.

    Raises:
        SettingError: dask-jobqueue or Slurm is not there, or the jobs are not such as Slurm takes.
    """
    with stopped_by_signals(), slurm_client(threads) as (client, script), Jobs(script, jobs) as found:
        yield on(client, found.advice, found.look)
