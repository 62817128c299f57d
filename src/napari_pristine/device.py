"""Where to compute, and with how much care for others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch

from napari_pristine import __version__
from napari_pristine.errors import OutOfMemory
from napari_pristine.events import Note
from napari_pristine.resources import cpu_count

Device = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(wanted: Device) -> tuple[torch.device, Note | None]:
    """The device to use for a wish, and a note if it is another one than wished for."""
    if wanted == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if _there_is(kind)), "cpu")), None
    if _there_is(wanted):
        return torch.device(wanted), None
    return torch.device("cpu"), Note(f"there is no {wanted} device here; computing on the CPU", warning=True)


def _there_is(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu"


def describe_device(device: torch.device) -> str:
    """Name of a device for reports, such as `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return _cpu(torch.get_num_threads()) if device.type == "cpu" else device.type


def _cpu(threads: int) -> str:
    return f"cpu ({threads} thread{'s' * (threads > 1)})"


def versions() -> dict[str, str]:
    """Of the software that results depend on."""
    return {"napari-pristine": __version__, "torch": torch.__version__, "numpy": np.__version__}


def leave_a_core() -> None:
    """Let torch use all CPUs of this process but one, so that a window stays responsive."""
    torch.set_num_threads(max(1, cpu_count() - 1))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of numpy or torch says that memory ran out; torch has no one class for it on CPUs."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


_DRAWING = threading.Lock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the weights of a network by a seed, and leave torch's random numbers as they were.

    These are one for all threads of a process: one network is drawn at a time.
    """
    with _DRAWING, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def out_of_memory_as_error(advice: str = "restore less at once (tile, together, select)") -> Iterator[None]:
    """Raise an `OutOfMemory` with advice where numpy or torch say, each in its own way, that memory ran out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"the memory ran out: {error}; {advice}") from error
