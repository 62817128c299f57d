"""Talk: what a running job says to whoever runs it, and what it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import TypeAlias, TypeVar

import torch

from napari_pristine.events import Command, Event, Note, Progress
from napari_pristine.jobs.clock import ProgressClock
from napari_pristine.methods.method import Step, StopReason

T = TypeVar("T")
Part: TypeAlias = Generator[Event, "Command | None", T]
"""A part of a job: yields events, takes wishes, returns something."""


class JobContext:
    """The talk of one job.

    Attributes:
        keep: Whether someone wishes to stop fitting and keep what there is.
        last: The progress that was last told.
        notes: All that was noted so far.
        stops: Which rules ended fits so far, and how many.
        clock: When it speaks and shows.
    """

    def __init__(self) -> None:
        self.keep = False
        self.last: Progress | None = None
        self.notes: list[Note] = []
        self.stops: Counter[str] = Counter()
        self.clock = ProgressClock()

    def say(self, event: Event) -> Part[None]:
        """Say something, and listen: a wish is answered at whichever event comes next."""
        wish = yield event
        self.keep = self.keep or wish is Command.KEEP

    def note(self, note: Note) -> Part[None]:
        """Say something, and keep it with the result."""
        self.notes.append(note)
        yield from self.say(note)

    def warn(self, text: str) -> Part[None]:
        """Note something that is not as it should be."""
        yield from self.note(Note(text, warning=True))

    def again(self) -> Part[None]:
        """Say once more how far the job is, so that someone may stop it."""
        if self.last is not None:
            yield from self.say(self.last)

    def progress(self, step: Step) -> Part[None]:
        """Say how far the fit is, if it is time to."""
        if self.clock.speaks() or step.done == step.total:
            yield from self.tell(step)

    def tell(self, step: Step) -> Part[None]:
        """Say how far the fit is."""
        self.last = self.clock.progress(step)
        yield from self.say(self.last)

    def stopped(self, stop: StopReason, blocks: int = 1) -> Part[None]:
        """Remember which rule ended the fit of so many blocks, and say so where it matters."""
        self.stops[stop.text] += blocks
        if stop.warning:
            yield from self.warn(stop.text)

    def residual(self) -> torch.Tensor:
        """The mean squared residual that was last told, for steps that know of none."""
        return torch.tensor(self.last.residual**2 if self.last else 1.0)
