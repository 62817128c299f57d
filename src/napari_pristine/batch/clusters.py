"""Clusters: the clients of dask.distributed that a batch is done by."""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from napari_pristine.errors import SettingError

_ENVIRONMENT: dict[str, int] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), 1)
"""Of each worker. Dask's own would have them give memory back at once, and take it anew for each step: a third of their
time."""
_JOB = {**_ENVIRONMENT, "MALLOC_TRIM_THRESHOLD_": None}
"""Of each worker in a job: this is put over dask's own, which only goes where it is none."""
_WORKER = ("--nthreads", "1", "--memory-limit", "0", "--no-dashboard")
"""One share at a time; Slurm alone limits memory: dask would pause a worker for good that holds much of it."""
SCHEDULER = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""Nobody looks at it, and its usual port is taken where there is another batch."""


@contextmanager
def local_client(workers: int) -> Iterator[Any]:
    """The client of processes on this machine.

    Raises:
        SettingError: dask.distributed is not installed.
    """
    distributed = _distributed()
    with (
        _settings({"distributed.nanny.pre-spawn-environ": _ENVIRONMENT}),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            scheduler_kwargs=SCHEDULER,
            memory_limit=0,  # dask would pause a worker for good that holds much of it
            preload=["napari_pristine.batch.worker"],
            silence_logs=logging.ERROR,  # that a worker takes its time to end is no news to the user
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def joined_client(address: str) -> Iterator[Any]:
    """The client of a cluster that is there already.

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
        yield client


@contextmanager
def slurm_client(threads: int) -> Iterator[tuple[Any, str]]:
    """The client of a cluster that has no workers yet, and the script of a job of Slurm that brings some.

    Args:
        threads: Of each process; a job has as many processes as have room on its cores, if nothing else is configured.

    Raises:
        SettingError: dask-jobqueue or Slurm is not there, or not told what jobs to ask for.
    """
    distributed = _distributed()
    if missing := [name for name in ("sbatch", "squeue", "scancel") if not shutil.which(name)]:
        raise SettingError(
            f"--slurm needs the commands of Slurm, and there is no '{missing[0]}' here; start the batch on a machine "
            "from which jobs are submitted, or do without --slurm"
        )
    with _slurm_cluster(threads) as cluster, distributed.Client(cluster) as client:
        yield client, cluster.job_script()


def memory_of_job(threads: int) -> int | None:
    """Bytes that each process of a job of Slurm may use, if dask's configuration says so.

    Args:
        threads: Of each process.

    Raises:
        SettingError: dask-jobqueue is not there.
    """
    _distributed()
    from dask.utils import parse_bytes

    _slurm_class()  # it brings its part of the configuration
    try:
        return parse_bytes(_told("memory")) // _processes(threads)
    except (ValueError, TypeError, AttributeError):  # whoever asks for jobs is told
        return None


def _processes(threads: int) -> int:
    """Processes of a job: as many as have room on its cores, if nothing else is configured."""
    return int(_told("processes") or max(int(_told("cores") or 1) // threads, 1))


def _slurm_cluster(threads: int) -> Any:
    cluster = _slurm_class()
    try:
        return cluster(
            processes=_processes(threads),
            worker_extra_args=[*_WORKER, *(_told("worker-extra-args") or []), "--name", "$SLURM_JOB_ID"],
            job_script_prologue=[
                f'export DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON="{_JOB}"',
                *(_told("job-script-prologue") or []),
            ],
            scheduler_options=SCHEDULER | (_told("scheduler-options") or {}),
        )
    except (ValueError, TypeError) as error:
        raise SettingError(
            f"--slurm needs to know what to ask Slurm for ({str(error).split(', for example')[0]}); set "
            "jobqueue.slurm.cores and jobqueue.slurm.memory in ~/.config/dask/jobqueue.yaml"
        ) from error
    except (OSError, RuntimeError) as error:
        raise SettingError(
            f"no scheduler of dask can be started here ({error}); see jobqueue.slurm.interface and scheduler-options"
        ) from error


def _slurm_class() -> Any:
    before = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise SettingError("--slurm needs dask-jobqueue; pip install 'napari-pristine[slurm]'") from None
    signal.signal(signal.SIGINT, before)  # dask-jobqueue has Ctrl-C end the process without a word, as if all were well
    return SLURMCluster


def _told(name: str) -> Any:
    """What dask's configuration says of jobs."""
    import dask

    return dask.config.get(f"jobqueue.slurm.{name}")


def _settings(values: dict[str, Any]) -> Any:
    """Settings of dask, for a while."""
    import dask

    return dask.config.set(values)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise SettingError("workers need dask.distributed; pip install 'napari-pristine[cluster]'") from None
    except ValueError as error:  # it reads its configuration as it is imported
        raise SettingError(str(error)) from None
    return distributed
