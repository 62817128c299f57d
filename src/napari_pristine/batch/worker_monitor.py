"""Crew: the workers of a cluster, and what is to be said when there are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

_PATIENCE = 5.0
"""Seconds without a worker before that is told of; one that has just died may be started again."""
_LOOKS = 1.0
"""Seconds between two looks at how many workers there are."""


@dataclass(frozen=True)
class Notice:
    """Something that the user should know about the whole batch."""

    text: str


Advice: TypeAlias = "Callable[[], str]"
"""What the user should know where there are no workers."""
Tend: TypeAlias = "Callable[[Collection[str]], str]"
"""Looks after the workers, of which it is given the names, and returns what the user should know, if anything."""


class WorkerMonitor:
    """The workers of a cluster, which come and go."""

    def __init__(self, client: Any, advice: Advice, tend: Tend) -> None:
        self._client, self._advice, self._tend = client, advice, tend
        self._told: list[str] = []
        self._found, self._looked, self._seen = 0, -_LOOKS, time.monotonic()
        self._lacking = False

    def count(self) -> int:
        """How many there are, now or a moment ago."""
        now = time.monotonic()
        if now - self._looked >= _LOOKS:
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            self._found, self._looked = len(workers), now
            if told := self._tend([str(worker["name"]) for worker in workers]):
                self._told.append(told)
        if self._found:
            self._seen = now
        return self._found

    def news(self) -> Notice | None:
        """What is to be said: by who looks after them, when there are none for a while, when there are some again."""
        if self._told:
            return Notice(self._told.pop(0))
        lacking = not self.count() and (self._lacking or time.monotonic() - self._seen > _PATIENCE)
        if lacking == self._lacking:
            return None
        self._lacking = lacking
        address = self._client.scheduler.address
        if lacking:
            return Notice(f"the cluster at {address} has no workers; {self._advice()}; waiting")
        return Notice(f"the cluster at {address} has workers now; going on")
