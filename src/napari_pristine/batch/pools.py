"""Pools: where shares are done, here or on a dask cluster."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from napari_pristine.batch.crew import Crew, Notice
from napari_pristine.batch.faults import in_words
from napari_pristine.batch.share import Share, restore_share
from napari_pristine.errors import ComputeError, FileError, PristineError, SettingError
from napari_pristine.events import Event

_MOMENT = 0.1
"""Seconds between two looks at what a cluster has done."""
_AHEAD = 2
"""Shares that wait at each worker, so that none is idle between two of them."""


@dataclass(frozen=True)
class Over:
    """A share is over; with the error that ended it, if one did."""

    error: PristineError | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What is said of a share: how it goes on, or that it is over."""

    share: Share
    said: Event | Over


Answers: TypeAlias = "Iterator[Answer | Notice | None]"
Pool: TypeAlias = "Callable[[Iterator[Share | None]], Answers]"
"""Does shares, as they are handed out; says how each goes on, and when it is over. None is handed out, and on, where
there is something to tell of a file of which nothing is to be done."""


def here(shares: Iterator[Share | None]) -> Answers:
    """One share after the other, in this process."""
    for share in shares:
        if share is None:
            yield None
            continue
        limit_threads(share.order.threads)
        error: PristineError | None = None
        try:
            for event in restore_share(share):
                yield Answer(share, event)
        except Exception as caught:  # noqa: BLE001 - one file, whatever is wrong with it, must not end the batch
            error = in_words(caught, share.task.source)
        yield Answer(share, Over(error))


def on(client: Any, advice: str = "they are being started") -> Pool:
    """The pool of a client of dask.distributed.

    A share whose worker dies is given to another one; all is written by the workers, which see the same files.

    Args:
        client: The client.
        advice: What to say where there are no workers.
    """

    def answers(shares: Iterator[Share | None]) -> Answers:
        under_way, crew = _UnderWay(client), Crew(client, advice)
        try:
            for share in shares:
                if share is None:
                    yield None
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

        self.shares: dict[Any, Share] = {}
        self._client, self._completed = client, as_completed(with_results=False)

    def add(self, share: Share) -> None:
        future = self._client.submit(_do, share, os.getcwd(), pure=False)
        self.shares[future] = share
        self._completed.add(future)

    def wait(self) -> Answer | None:
        """The next one that is over; none if that takes longer than a moment, so that the batch can be stopped."""
        if not self._completed.has_ready():
            time.sleep(_MOMENT)
            return None
        future = next(self._completed)
        return Answer(self.shares.pop(future), Over(_error(future)))


_LOCAL = {
    # dask's own would have workers give memory back at once, and take it anew for each step: a third of their time
    "distributed.nanny.pre-spawn-environ": dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), 1),
}
_ALONE = threading.Lock()
"""A process does one share at a time, however many threads a worker has: so much memory was asked for."""


def _do(share: Share, folder: str) -> PristineError | None:
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
            for _ in restore_share(share):
                pass
    except Exception as error:  # noqa: BLE001 - the door to the report
        return in_words(error, share.task.source)
    return None


def _take_gpu() -> None:
    """Let each worker of a machine compute on a GPU of its own, where there are several."""
    if torch.cuda.is_available():
        from distributed import get_worker

        name = str(get_worker().name)
        torch.cuda.set_device((int(name) if name.isdigit() else 0) % torch.cuda.device_count())


def _error(future: Any) -> PristineError | None:
    """What ended a share."""
    try:
        found = future.exception()
        error: PristineError | None = None if found else future.result()
    except Exception as lost:  # noqa: BLE001 - a scheduler that dies takes its futures with it, in many ways
        found, error = lost, None
    return error if found is None else ComputeError(f"a worker failed: {found}; see its log, and go on with --resume")


def limit_threads(threads: int) -> None:
    """Let this process compute with so many threads, 1 at least."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@contextmanager
def on_this_machine(workers: int) -> Iterator[Pool]:
    """The pool of this process, or of several on this machine.

    Raises:
        SettingError: There are to be several, and dask.distributed is not installed.
    """
    if workers == 1:
        yield here
        return
    with local_cluster(workers) as pool:
        yield pool


@contextmanager
def local_cluster(workers: int) -> Iterator[Pool]:
    """A pool of processes on this machine.

    Raises:
        SettingError: dask.distributed is not installed.
    """
    distributed = _distributed()
    with (
        _settings(_LOCAL),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,  # dask would pause a worker for good that holds much of it
            preload=["napari_pristine.batch.worker"],
            silence_logs=logging.ERROR,  # that a worker takes its time to end is no news to the user
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield on(client)


@contextmanager
def joined_cluster(address: str) -> Iterator[Pool]:
    """The pool of a cluster that is there already.

    Raises:
        SettingError: dask.distributed is not installed, or nobody answers at the address.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout="5s")
    except (OSError, ValueError, TimeoutError) as error:
        raise SettingError(
            f"no dask scheduler answers at '{address}' ({error}); start one with 'dask scheduler', "
            "and give the address that it prints"
        ) from error
    with client:
        yield on(client, f"start one with 'dask worker {address}'")


@contextmanager
def slurm_cluster(workers: int) -> Iterator[Pool]:
    """A pool of jobs that Slurm starts, as dask's configuration (jobqueue.slurm) describes them.

    Raises:
        SettingError: dask-jobqueue is not installed, or not told what jobs to ask for.
    """
    distributed = _distributed()
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise SettingError("--slurm needs dask-jobqueue; pip install 'napari-pristine[slurm]'") from None
    try:
        found = SLURMCluster()
    except ValueError as error:
        raise SettingError(
            f"--slurm needs to know what to ask Slurm for ({str(error).splitlines()[0]}); set jobqueue.slurm.cores "
            "and jobqueue.slurm.memory in ~/.config/dask/jobqueue.yaml"
        ) from error
    with found as cluster, distributed.Client(cluster) as client:
        cluster.scale(jobs=workers)
        yield on(client, "its jobs wait in the queue of Slurm, or ended at once (see 'squeue', and their logs)")


def _settings(values: dict[str, Any]) -> Any:
    """Settings of dask, for a while."""
    import dask

    return dask.config.set(values)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise SettingError("workers need dask.distributed; pip install 'napari-pristine[cluster]'") from None
    return distributed
