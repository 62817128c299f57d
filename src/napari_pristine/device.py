"""Choose and describe the compute device; seed random numbers; translate out-of-memory errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

from napari_pristine import __version__
from napari_pristine.errors import OutOfMemory, SettingError
from napari_pristine.events import Note
from napari_pristine.resources import Device, cpu_count, thread_count
from napari_pristine.text import counted


def pick_device(wanted: Device) -> tuple[torch.device, Note | None]:
    """Pick the device to compute on.

    Args:
        wanted: A kind of device; `"auto"` prefers CUDA, then MPS, then the CPU.

    Returns:
        The device, and a warning if it is the CPU because the wanted one is missing.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(kind for kind, found in available.items() if found)), None
    if available[wanted]:
        return torch.device(wanted), None
    return torch.device("cpu"), Note(f"there is no {wanted} device here; computing on the CPU", warning=True)


def describe_device(device: torch.device) -> str:
    """Name a device for reports, such as `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({counted(threads, 'thread')})"
    return device.type


@lru_cache
def has_bfloat16(device: torch.device) -> bool:
    """True if a device computes products of 16-bit numbers with the range of float32 by itself, not by emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # new in torch 2.12
        found = torch.cpu.get_capabilities()
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return False


def versions() -> dict[str, str]:
    """Versions of the software that results depend on."""
    return {"napari-pristine": __version__, "torch": torch.__version__, "numpy": np.__version__}


@contextmanager
def compute_threads(count: int | None) -> Iterator[None]:
    """Set the number of threads that torch uses inside the context; `None` leaves it unchanged.

    Raises:
        SettingError: The number is less than 1.
    """
    if count is None:
        yield
        return
    if count < 1:
        raise SettingError(f"threads is {count}; give at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_warning(threads: int | None, processes: int = 1) -> str:
    """Return a warning if there are more threads than CPUs, which makes them wait for each other; else an empty text.

    Args:
        threads: Threads of each process; `None` divides the CPUs among the processes.
        processes: Number of processes on this machine.
    """
    cpus, total = cpu_count(), (threads or thread_count(processes)) * processes
    if total <= cpus:
        return ""
    those = counted(total, "thread") + (f" in {processes} processes" if processes > 1 else "")
    return (
        f"{those} on {counted(cpus, 'available CPU')} can make the computation many times slower; "
        f"use fewer threads{' or workers' * (processes > 1)}, or leave the number out"
    )


def leave_a_core() -> None:
    """Limit torch to all CPUs of this process but one, so that windows stay responsive."""
    torch.set_num_threads(thread_count(spare=1))


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""Parts of messages about lack of memory; the last is that of CUDA's libraries, such as CUBLAS_STATUS_ALLOC_FAILED."""


def is_out_of_memory(error: BaseException) -> bool:
    """Recognise errors of numpy and torch about lack of memory; torch has no class of its own for it on CPUs."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


_SEED_LOCK = threading.Lock()
"""torch's random numbers are shared by all threads of a process."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers on the CPU, for drawing the weights of a network, and restore their state afterwards.

    Only one thread at a time is inside.
    """
    with _SEED_LOCK, torch.random.fork_rng(devices=()):  # those of GPUs are not used, and stay as they are
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def out_of_memory_as_error(advice: str = "restore less at once (tile, together, select)") -> Iterator[None]:
    """Raise `OutOfMemory`, with advice, in place of the errors by which numpy and torch report lack of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"the memory ran out: {error}; {advice}") from error
