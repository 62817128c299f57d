"""Clock: when a job speaks, when it shows, and how long it will take. It never decides when to stop."""

from __future__ import annotations

import time

from napari_pristine.events import Progress
from napari_pristine.methods.method import Step

_SPEAK = 0.1
"""Seconds between two reports of progress."""
_SHOW = 2.0
"""Seconds between two previews; more where a preview takes long."""
_PATIENCE = 10.0
"""How many times longer than a preview took the next one waits, so that previews cost little."""


class ProgressClock:
    """Watches one job of several pieces."""

    def __init__(self) -> None:
        self.started = self.spoke = self.shown = time.monotonic()
        self.asked = self.started
        self.pause = _SHOW
        self.piece, self.pieces = 0, 1

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def begin(self, piece: int, pieces: int) -> None:
        """A piece begins, counted from 0."""
        self.piece, self.pieces = piece, pieces

    def speaks(self) -> bool:
        """Whether it is time for a word."""
        now = time.monotonic()
        due = now - self.spoke >= _SPEAK
        self.spoke = now if due else self.spoke
        return due

    def shows(self) -> bool:
        """Whether it is time for a preview."""
        self.asked = time.monotonic()
        return self.asked - self.shown >= self.pause

    def showed(self) -> None:
        """A preview is done."""
        self.shown = time.monotonic()
        self.pause = max(_SHOW, _PATIENCE * (self.shown - self.asked))

    def progress(self, step: Step) -> Progress:
        """How far the job is after a step of the current piece."""
        share = (self.piece + step.done / step.total) / self.pieces
        return Progress(
            block=self.piece,
            blocks=self.pieces,
            step=step.done,
            steps=step.total,
            residual=float(step.residual) ** 0.5,
            seconds=self.seconds,
            remaining=self.seconds * (1 - share) / share if self.seconds > 1 and share else None,
        )
