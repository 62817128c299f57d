"""Tally: what is known of all blocks of a result together, counted block by block, however many there are."""

from __future__ import annotations

from collections import Counter

import numpy as np

from napari_pristine.events import BlockDone, Note
from napari_pristine.image.quality import Quality


class QualitySummary:
    """What is known of the blocks so far.

    Attributes:
        blocks: How many.
    """

    def __init__(self) -> None:
        self.blocks = 0
        self._figures, self._judged = np.zeros(4), 0
        self._hot = self._invalid = 0
        self._stops: Counter[str] = Counter()
        self._left: Counter[str] = Counter()

    def add(self, done: BlockDone) -> None:
        """One more block."""
        self.blocks += 1
        for figures in done.quality:
            self._figures += figures
            self._judged += 1
        self._hot += done.hot
        self._invalid += done.invalid
        self._stops.update(dict(done.stops))
        if done.unchanged:
            self._left[done.unchanged] += 1

    @property
    def nothing(self) -> str:
        """Why all panes were left as they were; empty unless they were."""
        return next(iter(self._left)) if self.blocks and self._left.total() == self.blocks else ""

    def quality(self) -> Quality:
        """The figures of all of them."""
        sigma, residual, whiteness, structure = (self._figures / max(self._judged, 1)).tolist()
        stopped = tuple(f"{count} × {text}" if count > 1 else text for text, count in self._stops.items())
        return Quality(sigma, residual, whiteness, structure, self._invalid, stopped)

    def notes(self) -> list[Note]:
        """What is to be said of the panes that were left as they were, and of the values that were filled in."""
        notes = [
            Note(f"{count} of {self.blocks} panes were left unchanged: {why}", warning=True)
            for why, count in self._left.items()
        ]
        if self._hot:
            notes.append(Note(f"{self._hot} hot pixels were filled from the fit (hot_pixels)"))
        if self._invalid:
            notes.append(
                Note(f"{self._invalid} pixels without a value (NaN, infinite or masked) were filled from the fit")
            )
        return notes
