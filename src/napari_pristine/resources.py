"""How much memory there is, so that a file which claims more is refused before any is taken."""

from __future__ import annotations

import os
from pathlib import Path

from napari_pristine.errors import FileError

_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file "),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat", "total_inactive_file ",
    ),
)  # fmt: skip
"""Of containers and clusters, in both versions: limit, use, and how much of that the system gives back on demand."""


def check_fits(path: Path, needed: int) -> None:
    """Raise a `FileError` if the values of a file do not fit into the memory that is free."""
    there = free()
    if needed > there:
        raise FileError(
            f"'{path}' does not fit into memory: it needs {needed / 1e9:.4g} GB and {there / 1e9:.4g} GB are free; "
            "restore it in parts (fewer frames or a crop), or block by block as a batch"
        )


def free() -> int:
    """Bytes that can be had; as many as there can be where the system does not say."""
    return min(_of_machine(), *(_of_group(*names) for names in _GROUPS))


def _of_machine() -> int:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    names: dict[str, int] = getattr(os, "sysconf_names", {})
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):  # macOS tells only how much there is in all
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**62


def _of_group(limit: str, used: str, statistics: str, given_back: str) -> int:
    limits, uses = _text(limit).strip(), _text(used).strip()
    if not limits.isdigit() or not uses.isdigit():
        return 2**62
    lines = (line.split()[1] for line in _text(statistics).splitlines() if line.startswith(given_back))
    return max(int(limits) - int(uses) + int(next(lines, 0)), 0)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
