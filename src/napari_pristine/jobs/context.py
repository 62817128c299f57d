"""The context of a running job: events, throttled progress, notes, and the command to keep."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, TypeVar

import torch

from napari_pristine.events import Command, Event, Note, Preview, Progress
from napari_pristine.methods.method import Fit, Step, StopReason
from napari_pristine.text import counted

T = TypeVar("T")
JobPart: TypeAlias = Generator[Event, Command | None, T]
"""A part of a job that returns a `T`: yields events, accepts commands."""

_PROGRESS_SECONDS = 0.1
"""Seconds between two progress events."""
_PREVIEW_SECONDS = 2.0
"""Minimum number of seconds between two previews."""
_PREVIEW_PAUSE = 10.0
"""Pause after a preview, as a multiple of the time it took, so that previews cost at most a tenth of the job."""
_SURE_SECONDS = 2.0
"""Seconds after the first step, which loads libraries, before the remaining time is estimated."""
_RESIDUAL_DECAY = 0.95
"""Decay of the running mean of residuals, which depend on the crops of a step."""


class JobContext:
    """State that all parts of one job share.

    The clock decides when events are sent, never when a fit stops: results do not depend on the speed of the machine.

    Attributes:
        keep: True if the user asked to stop fitting and to keep the result so far.
        notes: All notes so far.
        stops: Reasons why fits ended, and the number of blocks of each.
        last_progress: The last progress event.
        mean_residual: Running mean of the squared residuals of the fit, in noise variances.
    """

    def __init__(self) -> None:
        self.keep = False
        self.notes: list[Note] = []
        self.stops: Counter[str] = Counter()
        self.last_progress: Progress | None = None
        self.mean_residual: torch.Tensor | None = None
        self._stage, self._stages = 0, 1
        self._first: tuple[float, float] | None = None
        self._started = self._last_progress_time = self._last_preview_time = time.monotonic()
        self._preview_pause, self._previewed = _PREVIEW_SECONDS, False

    @property
    def seconds(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._started

    def emit(self, event: Event) -> JobPart[None]:
        """Yield an event, and store the command that is sent in reply."""
        if isinstance(event, Note):
            self.notes.append(event)
        command = yield event
        self.keep = self.keep or command is Command.KEEP

    def warn(self, text: str) -> JobPart[None]:
        """Add a warning to the notes of the job."""
        yield from self.emit(Note(text, warning=True))

    def begin_stage(self, stage: int, stages: int) -> None:
        """Begin a stage, counted from 0; progress events give it as the number of the block."""
        self._stage, self._stages = stage, stages

    def next_stage(self) -> None:
        """Begin the stage after the current one."""
        self._stage += 1

    def progress_due(self) -> bool:
        """Tell whether a progress event is due; if so, its interval starts again."""
        now = time.monotonic()
        due = now - self._last_progress_time >= _PROGRESS_SECONDS
        if due:
            self._last_progress_time = now
        return due

    def preview_due(self) -> bool:
        """Tell whether a preview is due."""
        return time.monotonic() - self._last_preview_time >= self._preview_pause

    def progress(self, step: Step) -> JobPart[None]:
        """Report the progress of the current stage."""
        done = (self._stage + step.done / step.total) / self._stages
        if self._first is None:
            self._first = self.seconds, done
        since, before = self.seconds - self._first[0], self._first[1]
        self.last_progress = Progress(
            block=self._stage,
            blocks=self._stages,
            step=step.done,
            steps=step.total,
            residual=float(step.residual) ** 0.5,
            seconds=self.seconds,
            remaining=since * (1 - done) / (done - before) if since > _SURE_SECONDS and done > before else None,
        )
        yield from self.emit(self.last_progress)

    def repeat_progress(self) -> JobPart[None]:
        """Report the last progress once more, so that long work between steps can be stopped."""
        if self.last_progress is not None:
            yield from self.emit(self.last_progress)

    def last_residual(self) -> torch.Tensor:
        """Squared residual of the last progress event, for steps that measure none."""
        return torch.tensor(self.last_progress.residual**2 if self.last_progress else 1.0)

    def preview(self, make_previews: Callable[[], Sequence[Preview]], *, at_once: bool = False) -> JobPart[None]:
        """Send previews if they are due, or `at_once` if there were none before."""
        if not (at_once and not self._previewed) and not self.preview_due():
            return
        self._previewed = True
        started = time.monotonic()
        for preview in make_previews():
            yield from self.emit(preview)
        self._last_preview_time = time.monotonic()
        self._preview_pause = max(_PREVIEW_SECONDS, _PREVIEW_PAUSE * (self._last_preview_time - started))

    def run_fit(
        self,
        fit: Fit,
        make_previews: Callable[[], Sequence[Preview]] = tuple,
        blocks: int = 1,
        last: int | None = None,
    ) -> JobPart[StopReason]:
        """Run a fit until it stops, or until the user keeps the result so far; at least one step is taken.

        Args:
            fit: The fit.
            make_previews: Makes previews of the networks as they are.
            blocks: Number of blocks that are fitted at once.
            last: Step after which the fit is ended; none if it takes all of its steps.

        Returns:
            Reason why the fit ended; users get it as a note if it is a warning or their own command.
        """
        step: Step | None = None
        try:
            while not (step and step.done and (self.keep or last == step.done < step.total)):
                step = next(fit)
                mean = step.residual if self.mean_residual is None else self.mean_residual
                # first residuals may be on the CPU; sums may mix it with other devices, unlike `torch.lerp`
                self.mean_residual = _RESIDUAL_DECAY * mean + (1 - _RESIDUAL_DECAY) * step.residual
                if self.progress_due() or self.preview_due() or step.done in (last, step.total):
                    yield from self.progress(step)
                yield from self.preview(make_previews)
        except StopIteration as end:
            reason: StopReason = end.value
            if reason.text:
                self.stops[reason.text] += blocks
            if reason.warning:
                yield from self.warn(reason.text)
            return reason
        finally:
            fit.close()
        if last == step.done < step.total:
            reason = StopReason(f"ended after {step.done} of {counted(step.total, 'step')} (last_step)")
            self.stops[reason.text] += blocks
            return reason
        reason = StopReason(f"kept after {step.done} of {counted(step.total, 'step')}")
        yield from self.emit(Note(reason.text))
        return reason
