"""Ahead: what comes next is read from disk while the processor is busy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

K = TypeVar("K")


class Prefetcher(Generic[K]):
    """Reads one thing ahead, in a thread of its own.

    Args:
        read: Reads a thing by its key.
    """

    def __init__(self, read: Callable[[K], Any]) -> None:
        self._read = read
        self._next: tuple[K, threading.Thread, list[Any]] | None = None

    def begin(self, key: K) -> None:
        """Start reading what will be asked for; an error waits until it is."""
        found: list[Any] = []
        thread = threading.Thread(target=self._try, args=(key, found), daemon=True)
        self._next = key, thread, found
        thread.start()

    def take(self, key: K) -> Any:
        """What was read, or is read now."""
        if self._next is not None and self._next[0] == key:
            _, thread, found = self._next
            self._next = None
            thread.join()
            if found:
                return found[0]
        return self._read(key)

    def _try(self, key: K, found: list[Any]) -> None:
        try:
            found.append(self._read(key))
        except Exception:  # noqa: BLE001 - `take` reads again, and raises it where someone listens
            return
