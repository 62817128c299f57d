"""Crew: the workers of a cluster, and what is to be said when there are none."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

_PATIENCE = 5.0
"""Seconds without a worker before that is told of; one that has just died may be started again."""
_LOOKS = 1.0
"""Seconds between two looks at how many workers there are."""


@dataclass(frozen=True)
class Notice:
    """Something that the user should know about the whole batch."""

    text: str


class Crew:
    """The workers of a cluster, which come and go."""

    def __init__(self, client: Any, advice: str) -> None:
        self._client, self._advice = client, advice
        self._found, self._looked, self._seen = 0, -_LOOKS, time.monotonic()
        self._lacking = False

    def count(self) -> int:
        """How many there are, now or a moment ago."""
        now = time.monotonic()
        if now - self._looked >= _LOOKS:
            self._found, self._looked = len(self._client.scheduler_info(n_workers=-1)["workers"]), now
        if self._found:
            self._seen = now
        return self._found

    def news(self) -> Notice | None:
        """What is to be said when there have been none for a while, and when there are some again."""
        lacking = not self.count() and (self._lacking or time.monotonic() - self._seen > _PATIENCE)
        if lacking == self._lacking:
            return None
        self._lacking = lacking
        address = self._client.scheduler.address
        if lacking:
            return Notice(f"the cluster at {address} has no workers; {self._advice}; waiting")
        return Notice(f"the cluster at {address} has workers now; going on")
