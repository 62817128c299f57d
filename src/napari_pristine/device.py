"""Choose and describe the compute device; seed random numbers; translate out-of-memory errors."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache

import numpy as np
import torch

from napari_pristine import __version__
from napari_pristine.errors import OutOfMemory, SettingError
from napari_pristine.events import Note
from napari_pristine.resources import Device, cpu_count, thread_count
from napari_pristine.text import counted

_SYSTEM: str = sys.platform
_VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Variable of the environment that lists the GPUs that CUDA may use, by number; -1 ends the list."""


def pick_device(wanted: Device) -> tuple[torch.device, Note | None]:
    """Pick the device to compute on.

    Args:
        wanted: A kind of device; `"auto"` prefers CUDA, then MPS, then the CPU.

    Returns:
        The device, and a note with the reason if it is the CPU although another one is wanted, or is there.
    """
    kinds: tuple[Device, ...] = ("cuda", "mps", "cpu") if wanted == "auto" else (wanted, "cpu")
    kind = next(kind for kind in kinds if not why_missing(kind))
    note = None
    if kind != wanted != "auto":
        note = Note(f"there is no {wanted} device here, computing on the CPU: {why_missing(wanted)}", warning=True)
    elif kind == "cpu" != wanted and not _is_built_for_gpus() and _has_nvidia_driver():
        note = Note(f"the NVIDIA GPU of this computer is not used: {why_missing('cuda')}")
    return torch.device(kind), note


def why_missing(kind: Device) -> str:
    """The reason why PyTorch cannot compute on a kind of device here, and what to do; empty if it can."""
    torch_build = f"this PyTorch ({torch.__version__})"
    if kind == "mps" and not torch.backends.mps.is_available():
        if _SYSTEM != "darwin":
            return "only Macs have it"
        return f"{torch_build} cannot use the GPU of this Mac; update macOS and PyTorch"
    if kind != "cuda" or torch.cuda.is_available():
        return ""
    if _SYSTEM == "darwin":
        return "Macs have none; their GPU is mps"
    if not _is_built_for_gpus():
        return (
            f"{torch_build} is a build for CPUs only; install the one for your GPU, with the command from pytorch.org"
        )
    if not os.environ.get(_VISIBLE, "0").split(",")[0].strip().removeprefix("-1"):
        return f"{_VISIBLE} is set to '{os.environ[_VISIBLE]}', which hides all GPUs; remove this variable"
    return (
        f"{torch_build} finds no GPU; 'nvidia-smi' must list one, and its driver must be new enough for this PyTorch: "
        "update the driver"
    )


def gpu_advice() -> str:
    """A sentence with the reason why no GPU can be used, and what to do; empty if one can."""
    reason = why_missing("mps" if _SYSTEM == "darwin" else "cuda")
    return f"No GPU is used: {reason}." if reason else ""


def _is_built_for_gpus() -> bool:
    return bool(torch.backends.cuda.is_built())  # type: ignore[no-untyped-call]  # true for those of AMD, too


@cache
def _has_nvidia_driver() -> bool:
    """True if the driver of an NVIDIA GPU is installed, whatever PyTorch can use."""
    return shutil.which("nvidia-smi") is not None


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
