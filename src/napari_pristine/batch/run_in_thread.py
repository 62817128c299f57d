"""Aside: what takes its time is done in a thread of its own, so that who waits for it can be told, and can stop it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event as Flag
from typing import TypeAlias, TypeVar

from napari_pristine.io.row_chunks import CheckCancelled

T = TypeVar("T")
Waiting: TypeAlias = Generator[None, None, T]
"""Gives way until something is done, and returns it. Closing it ends that."""

_MOMENT = 0.1
"""Seconds between two moments to stop."""


class _Unwanted(Exception):
    """Nobody waits for it any more."""


def aside(work: Callable[[CheckCancelled], T]) -> Waiting[T]:
    """Do something; when this is closed, it ends at its next beat, and that is waited for."""
    closed = Flag()

    def check_cancelled() -> None:
        if closed.is_set():
            raise _Unwanted

    with ThreadPoolExecutor(1, thread_name_prefix="aside") as thread:
        result = thread.submit(work, check_cancelled)
        try:
            while wait([result], _MOMENT).not_done:
                yield
        finally:
            closed.set()
    return result.result()
