"""Executors: restore work items in this process or on a dask cluster; `processes` has the local ones."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import torch

from napari_pristine.batch.work_item import (
    InputChanged,
    OpenedTask,
    WorkItem,
    check_unchanged,
    open_task,
    restore_work_item,
)
from napari_pristine.errors import ComputeError, FileError, PristineError, SettingError, format_error
from napari_pristine.events import Event, Note
from napari_pristine.jobs.inputs import InputCache
from napari_pristine.recipe import Recipe
from napari_pristine.resources import thread_count
from napari_pristine.text import one_line

POLL_SECONDS = 0.1
_WORKER_POLL_SECONDS = 1.0
_RESULT_SECONDS = 1.0
"""Seconds to wait for the outcome of a finished work item; if its worker has died since, another one repeats it."""
_WITHOUT_WORKERS_SECONDS = 5.0
"""Seconds without workers before the user is notified; a worker that has just died may be restarted."""
QUEUE_LENGTH = 2
"""Work items queued for each worker, so that none is idle between two of them."""
_CERTIFICATES = tuple(f"distributed.comm.tls.{key}" for key in ("ca-file", "client.cert", "client.key"))
"""Settings of dask that name the files with which client and scheduler authenticate each other."""


@dataclass(frozen=True)
class Finished:
    """A work item is finished, or was ended by an error."""

    error: PristineError | None = None


@dataclass(frozen=True, eq=False)
class WorkerMessage:
    """An event of a work item."""

    item: WorkItem
    event: Event | Finished


Messages: TypeAlias = Generator[WorkerMessage | Note | None, None, None]
Executor: TypeAlias = Callable[[Iterator[WorkItem | None]], Messages]
"""Restores work items as they arrive, and yields their events. For each `None` among them, it yields a message or
`None` at once, since the batch has events of its own to report; it also yields `None` while it waits."""


def run_in_this_process(items: Iterator[WorkItem | None]) -> Messages:
    """Restore one work item after the other in this process."""
    for item in items:
        if item is None:
            yield None
            continue
        assert item.opened is not None
        set_threads(item.threads or thread_count())
        error: PristineError | None = None
        try:
            check_unchanged(item.opened, named_only=True)
            for event in restore_work_item(item, item.opened):
                yield WorkerMessage(item, event)
        except Exception as caught:  # noqa: BLE001 - whatever is wrong with one file must not end the batch
            error = format_error(caught, item.task.source)
        yield WorkerMessage(item, Finished(error))


def set_threads(threads: int) -> None:
    """Set the number of threads that torch computes with in this process."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def dask_executor(client: Any, advice: str = "start some") -> Executor:
    """The executor of a client of dask.distributed.

    A work item whose worker dies is repeated by another one. Results are written by the workers, which see the same
    files as this process.

    Args:
        client: The client.
        advice: Text for the user while there are no workers.
    """
    from distributed import as_completed

    def execute(items: Iterator[WorkItem | None]) -> Messages:
        running: dict[Any, WorkItem] = {}
        completed, ready = as_completed(with_results=False), deque[Any]()
        monitor = _WorkerMonitor(client, advice)

        def next_message(seconds: float) -> WorkerMessage | Note | None:
            """The next finished work item or note on the workers; `None` if there is none after these seconds."""
            while completed.has_ready():
                ready.append(next(completed))
            if ready:
                future = ready.popleft()
                with suppress(TimeoutError):
                    error = _outcome(future)
                    return WorkerMessage(running.pop(future), Finished(error))
                ready.append(future)
            else:
                time.sleep(seconds)
            return monitor.change()

        try:
            for item in items:
                if item is None:
                    yield next_message(0)
                    continue
                future = client.submit(_run_on_worker, replace(item, opened=None), os.getcwd(), pure=False)
                running[future] = item
                completed.add(future)
                while len(running) >= QUEUE_LENGTH * max(monitor.count(), 1):
                    yield next_message(POLL_SECONDS)
            while running:
                yield next_message(POLL_SECONDS)
        finally:
            with suppress(Exception):  # impossible if the cluster has stopped; the locks must be released anyway
                client.cancel(list(running))
                client.run(_forget_files, wait=False)

    return execute


def _outcome(future: Any) -> PristineError | None:
    """The error that ended a work item, if one did; raises a `TimeoutError` if that cannot be known now."""
    try:
        error: PristineError | None = future.result(timeout=_RESULT_SECONDS)
    except Exception as failure:  # a scheduler that dies takes its futures with it, in many ways
        if isinstance(failure, TimeoutError) and future.status != "error":
            raise
        return ComputeError(f"a worker failed: {failure}; see its log, and continue with --resume")
    return error


class _WorkerMonitor:
    """Counts the workers of a cluster, and reports when there are none."""

    def __init__(self, client: Any, advice: str) -> None:
        self._client, self._advice = client, advice
        self._count, self._polled, self._seen = 0, -_WORKER_POLL_SECONDS, time.monotonic()
        self._lacking = False

    def count(self) -> int:
        """Number of workers, updated every second."""
        now = time.monotonic()
        if now - self._polled >= _WORKER_POLL_SECONDS:
            self._count, self._polled = len(self._client.scheduler_info(n_workers=-1)["workers"]), now
        if self._count:
            self._seen = now
        return self._count

    def change(self) -> Note | None:
        """A note when there have been no workers for a while, and when there are some again."""
        lacking = not self.count() and (self._lacking or time.monotonic() - self._seen > _WITHOUT_WORKERS_SECONDS)
        if lacking == self._lacking:
            return None
        self._lacking = lacking
        address = self._client.scheduler.address
        if lacking:
            return Note(f"the cluster at {address} has no workers; {self._advice}; waiting", warning=True)
        return Note(f"the cluster at {address} has workers now; continuing")


_ITEM_LOCK = threading.Lock()
"""A process restores one work item at a time, even if its dask worker runs several tasks: the memory is for one."""


def _run_on_worker(item: WorkItem, folder: str) -> PristineError | None:
    """Restore a work item on a dask worker; see `restore_in_folder`."""
    from distributed import get_worker

    worker = get_worker()
    number = re.fullmatch(r"(?:.*-)?(\d+)", str(worker.name))
    with _ITEM_LOCK:
        return restore_in_folder(item, folder, item.threads or worker.state.nthreads, int(number[1]) if number else 0)


def restore_in_folder(item: WorkItem, folder: str, threads: int, number: int) -> PristineError | None:
    """Restore a work item in another process than the batch; returns the error that ended it.

    Args:
        item: The work.
        folder: Working directory of the batch, to which names of files are relative.
        threads: Number of threads to compute with.
        number: Number of this process on its machine: each uses a GPU of its own, where there are several.
    """
    if not os.path.isdir(folder):
        return FileError(
            f"'{item.task.source}': the worker on '{socket.gethostname()}' does not see the folder '{folder}'; "
            "start workers where all files can be seen under the same paths"
        )
    try:
        with chdir(folder):
            set_threads(threads)
            if torch.cuda.is_available():
                torch.cuda.set_device(number % torch.cuda.device_count())
            opened = _open_on_worker(item)
            check_unchanged(opened, named_only=True)
            for _ in restore_work_item(item, opened):
                pass
    except Exception as error:  # noqa: BLE001 - the error is reported by the batch
        return format_error(error, item.task.source)
    return None


def _open_on_worker(item: WorkItem) -> OpenedTask:
    """Open the file of a work item; the next one is often of the same file, whose noise has been measured."""
    opened = _opened(item.task, item.recipe.model_dump_json(), item.digest, item.batch_size)
    if opened.digest != item.digest:
        raise InputChanged.of(item.task.source)
    return opened


@lru_cache(maxsize=1)
def _opened(task: Any, recipe_json: str, digest: str, batch_size: int) -> OpenedTask:
    return open_task(task, Recipe.model_validate_json(recipe_json), _input_cache()).with_batch_size(batch_size)


@lru_cache(maxsize=1)
def _input_cache() -> InputCache:
    return InputCache()


async def _forget_files() -> None:
    """Release the memory of the last file of a batch; dask runs coroutines also on workers that are busy."""
    _opened.cache_clear()
    _input_cache.cache_clear()


@contextmanager
def scheduler_executor(address: str) -> Iterator[Executor]:
    """The executor of a dask cluster that is running.

    Args:
        address: Address of its scheduler; for `tls://`, the certificates are those of the configuration of dask.

    Raises:
        SettingError: dask.distributed is not installed, certificates are missing, or no scheduler answers.
    """
    distributed = _import_distributed()
    try:
        client = distributed.Client(address, timeout="5s")
    except (TypeError, FileNotFoundError, ssl.SSLError) as error:  # of `tls://`, before anything is sent
        reason = f"cannot be used ({one_line(error)})" if isinstance(error, OSError) else "are not named"
        raise SettingError(
            f"certificates for '{address}' {reason}; name their files in the configuration of dask: "
            f"{', '.join(_CERTIFICATES)}"
        ) from error
    except (OSError, ValueError, TimeoutError) as error:
        raise SettingError(
            f"no dask scheduler answers at '{address}' ({one_line(error)}); start one with 'dask scheduler', "
            "and give the address that it prints"
        ) from error
    with client:
        yield dask_executor(client, f"start one with 'dask worker {address}'")


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise SettingError("--scheduler needs dask.distributed; pip install 'napari-pristine[cluster]'") from None
    except ValueError as error:  # it reads its configuration as it is imported
        raise SettingError(str(error)) from None
    return distributed
