"""CPUs and memory: the tightest limit that was set for this process counts, wherever it was set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from napari_pristine.device import leave_a_core
from napari_pristine.resources import cpu_count, free_memory, thread_count


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 64 CPUs and 100 GB of available memory, without limits."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 200000000 kB\nMemAvailable:   100000000 kB\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def group(machine: Path, line: str, folder: str, **files: str) -> None:
    """Put this process into a control group whose folder holds some files."""
    with (machine / "proc/self/cgroup").open("a") as file:
        file.write(f"{line}\n")
    path = machine / "sys/fs/cgroup" / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(f"{text}\n")


def test_without_limits_all_of_the_machine_counts(machine: Path) -> None:
    assert cpu_count(machine) == 64
    assert free_memory(machine) == 100_000_000 * 1024


def test_no_more_cpus_than_the_affinity_mask_or_the_environment_give(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert cpu_count(machine) == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert cpu_count(machine) == 2


@pytest.mark.parametrize(
    ("variable", "processes", "spare", "threads"),
    [("", 1, 0, 8), ("", 3, 0, 2), ("", 1, 1, 7), ("", 20, 0, 1), ("2", 1, 1, 2), ("16", 2, 0, 4), ("2,1", 1, 0, 2)],
)
def test_processes_share_the_cpus_and_none_has_more_threads_than_were_given(
    variable: str, processes: int, spare: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_pristine.resources.cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert thread_count(processes, spare) == threads


def test_no_more_threads_are_set_than_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = torch.get_num_threads()
    try:
        leave_a_core()
        assert torch.get_num_threads() <= 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("quota", "cpus"), [("200000 100000", 2), ("150000 100000", 2), ("max 100000", 64)])
def test_quota_of_a_control_group_above_this_process(machine: Path, quota: str, cpus: int) -> None:
    group(machine, "0::/system.slice/job.scope", "system.slice", cpu__max=quota)
    assert cpu_count(machine) == cpus


def test_limits_of_a_slurm_job_and_of_systemd_are_seen_below_the_root(machine: Path) -> None:
    limits = {"memory__max": "4000", "memory__current": "1500", "memory__stat": "file 700\ninactive_file 500"}
    group(machine, "0::/slurmstepd.scope/job_7/step_0", "slurmstepd.scope/job_7", **limits)
    assert free_memory(machine) == 3000
    group(machine, "", "slurmstepd.scope/job_7/step_0", memory__max="2000", memory__current="1500")
    assert free_memory(machine) == 500


def test_control_groups_of_version_1(machine: Path) -> None:
    limits = {"memory__limit_in_bytes": "9000", "memory__usage_in_bytes": "8000"}
    group(machine, "4:memory:/slurm/uid_1/job_7", "memory/slurm/uid_1/job_7", **limits)
    group(machine, "3:cpu,cpuacct:/slurm", "cpu/slurm", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert free_memory(machine) == 1000
    assert cpu_count(machine) == 3
