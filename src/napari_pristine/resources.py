"""Kinds of devices; CPUs and memory that this process may use, within all limits that were set for it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from napari_pristine.errors import FileError

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
"""Kind of device to compute on."""

BASE_MEMORY = 500 * 2**20
"""Bytes that Python, torch and their libraries take."""
_UNLIMITED = 2**62
_UNCHECKED = 2**24
"""Bytes that are taken to be free: to find out takes longer than to read them."""


def cpu_count(root: Path = Path("/")) -> int:
    """Number of CPUs that this process may use, at least 1.

    The smallest of: CPUs of the affinity mask, CPU quota of the control groups, SLURM_CPUS_PER_TASK.

    Args:
        root: Folder below which `proc` and `sys` lie; another one in tests.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [affinity, _number_from_environment("SLURM_CPUS_PER_TASK")]
    for folder in _cgroup_folders(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")  # version 2
        if not period:
            quota, period = (_read(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        if quota.isdigit() and period.isdigit() and int(period):
            limits.append(math.ceil(int(quota) / int(period)))
    return max(min(limits), 1)


def thread_count(processes: int = 1, spare: int = 0) -> int:
    """Number of threads for each of some processes that share the CPUs, at least 1; at most OMP_NUM_THREADS.

    Args:
        processes: Number of processes.
        spare: Number of CPUs that are left to others.
    """
    return max(min((cpu_count() - spare) // processes, _number_from_environment("OMP_NUM_THREADS")), 1)


def _number_from_environment(name: str) -> int:
    first = os.environ.get(name, "").partition(",")[0].strip()  # OMP_NUM_THREADS may list a number for each level
    return int(first) if first.isdecimal() and int(first) else _UNLIMITED


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process can still take; a very large number if the system does not report it.

    The smallest of what the machine has available and what the limits of the control groups of this process leave,
    such as those of containers, Slurm and systemd.

    Args:
        root: Folder below which `proc` and `sys` lie; another one in tests.
    """
    free = [_machine_memory(root)]
    for folder in _cgroup_folders(root, "memory"):
        for limit_file, usage_file, reclaimable in (
            ("memory.max", "memory.current", "inactive_file "),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
        ):
            limit, used = _read(folder / limit_file).strip(), _read(folder / usage_file).strip()
            if limit.isdigit() and used.isdigit():
                lines = _read(folder / "memory.stat").splitlines()
                cache = next((int(line.split()[1]) for line in lines if line.startswith(reclaimable)), 0)
                free.append(max(int(limit) - int(used) + cache, 0))
    return min(free)


def check_fits(path: Path, needed: int) -> None:
    """Raise a `FileError` if the values of a file do not fit into the memory that is free."""
    if needed <= _UNCHECKED:
        return
    free = free_memory()
    if needed > free:
        raise FileError(
            f"'{path}' does not fit into memory: it needs {needed / 1e9:.4g} GB and {free / 1e9:.4g} GB are free; "
            "restore it in parts (fewer frames or a crop), or block by block as a batch"
        )


def _machine_memory(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    names: dict[str, int] = getattr(os, "sysconf_names", {})
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):  # macOS reports only the total
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _UNLIMITED


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups of this process and of all groups around them; each may set a limit.

    `/proc/self/cgroup` has lines such as `0::/user.slice/session.scope` (version 2) and `4:memory:/slurm/job_7`.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = mount / name.strip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
