"""Apart: calls that take their time, in a thread of their own, so that whoever waits for them can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event as Flag
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Waiting: TypeAlias = Generator[None, Any, T]
"""Gives way until there is a result."""

_MOMENT = 0.05
"""Seconds between two looks at whether there is a result."""


class Stopped(Exception):
    """Nobody waits for the result any more."""


class Apart:
    """One call after the other, always in the same thread.

    What has no beat to end at, as `batch.aside` wants it, can still be left alone: workers that do not start, libraries
    that take seconds to load.

    Args:
        stop: Set by whoever wishes to end it.
    """

    def __init__(self, stop: Flag) -> None:
        self._stop = stop
        self._thread = ThreadPoolExecutor(1)

    def do(self, call: Callable[[], T]) -> Waiting[T]:
        """What a call returns.

        Raises:
            Stopped: That is no longer wanted.
        """
        if self._stop.is_set():
            raise Stopped
        result = self._thread.submit(call)
        while _lasts(result):
            yield
            if self._stop.is_set():
                raise Stopped
        return result.result()

    def end(self, call: Callable[[], object]) -> Waiting[None]:
        """Wait for a last call, whoever wishes to end it."""
        result = self._thread.submit(call)
        while _lasts(result):
            yield
        result.result()

    def leave(self, call: Callable[[], object]) -> None:
        """Have a last call made when the one under way is over, and do not wait for it."""
        self._thread.submit(call)
        self._thread.shutdown(wait=False)


def _lasts(result: Future[Any]) -> bool:
    """Whether a result is still to come, in a moment."""
    return bool(wait([result], _MOMENT).not_done)
