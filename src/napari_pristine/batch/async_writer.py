"""Behind: what was computed is written to disk while the processor is busy with what comes next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class AsyncWriter:
    """Does what it is given in a thread of its own, one thing after the other; once one fails, no other is begun.

    Leaving its `with` waits for all that was given, and raises what went wrong, unless something else did.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="behind")
        self._given: list[Future[None]] = []
        self._failed = False

    def __enter__(self) -> AsyncWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self.wait()

    def give(self, work: Callable[[], None]) -> None:
        """Do this when all that was given before is done."""
        self._given.append(self._thread.submit(self._do, work))

    def wait(self) -> None:
        """Until all that was given is done; raises what went wrong."""
        given, self._given = self._given, []
        for one in given:
            one.result()

    def _do(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except BaseException:
            self._failed = True
            raise
