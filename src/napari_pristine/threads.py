"""Work in threads: read ahead, write behind, and wait for a blocking call without blocking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

T = TypeVar("T")
K = TypeVar("K")

CheckCancelled: TypeAlias = Callable[[], None]
"""Callback that long computations call regularly; raises an exception to cancel them."""

_POLL_SECONDS = 0.1


class Cancelled(Exception):
    """Raised by a `CheckCancelled` callback, in the thread that is to be cancelled."""


class WorkerThread:
    """A thread that runs blocking calls one after the other, while others wait for them without blocking."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="worker-thread")

    def run(self, call: Callable[[CheckCancelled], T]) -> Generator[None, Any, T]:
        """Run a blocking call; yield until it finishes.

        Closing the generator cancels the call at its next `check_cancelled` and waits until it has ended.

        Args:
            call: Receives the `check_cancelled` callback.

        Returns:
            The result of the call.
        """
        closed = threading.Event()

        def check_cancelled() -> None:
            if closed.is_set():
                raise Cancelled

        future = self._executor.submit(call, check_cancelled)
        try:
            while not _is_finished(future, _POLL_SECONDS):
                yield
        finally:
            closed.set()
            wait([future])
        return future.result()

    def close(self) -> None:
        """End the thread, after the call that is running."""
        self._executor.shutdown()


def run_in_thread(call: Callable[[CheckCancelled], T]) -> Generator[None, Any, T]:
    """Run a blocking call in a thread of its own; yield until it finishes. See `WorkerThread.run`."""
    thread = WorkerThread()
    try:
        return (yield from thread.run(call))
    finally:
        thread.close()


def _is_finished(future: Future[Any], seconds: float) -> bool:
    """Wait for a call for some seconds; quicker than `concurrent.futures.wait`."""
    try:
        future.exception(seconds)
    except TimeoutError:
        return False
    return True


class Prefetcher(Generic[K]):
    """Reads one item ahead in a background thread.

    Args:
        read: Reads the item of a key.
    """

    def __init__(self, read: Callable[[K], Any]) -> None:
        self._read = read
        self._next: tuple[K, threading.Thread, list[Any]] | None = None

    def start(self, key: K) -> None:
        """Start reading the item that is needed next; an error is raised by `get`."""
        result: list[Any] = []
        thread = threading.Thread(target=self._try, args=(key, result), daemon=True)
        self._next = key, thread, result
        thread.start()

    def get(self, key: K) -> Any:
        """Return the item of a key: the one read ahead, or read now."""
        if self._next is not None and self._next[0] == key:
            _, thread, result = self._next
            self._next = None
            thread.join()
            if result:
                return result[0]
        return self._read(key)

    def _try(self, key: K, result: list[Any]) -> None:
        try:
            result.append(self._read(key))
        except Exception:  # noqa: BLE001 - `get` reads again and raises the error in the caller's thread
            return


class AsyncWriter:
    """Runs write operations one after the other in a background thread; after a failure no other is started.

    Leaving the `with` block waits for all operations and raises the first error, unless another one is being raised.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="async-writer")
        self._pending: list[Future[None]] = []
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True)
        if error is None:
            self.wait()

    def submit(self, write: Callable[[], None]) -> None:
        """Run a write operation after all those submitted before."""
        self._pending.append(self._executor.submit(self._run, write))

    def wait(self) -> None:
        """Wait for all submitted operations; raises the first error."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def _run(self, write: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            write()
        except BaseException:
            self._failed = True
            raise
