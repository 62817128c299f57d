"""Events that running jobs and batches yield, and the command that they accept.

A job is a generator. It yields one of the frozen values of `Event`; what is sent into it is `None` or a `Command`.
Closing the generator cancels the job.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
Status: TypeAlias = Literal["restored", "failed", "skipped", "exists"]
"""Outcome of a file of a batch, see `ItemDone`."""


class Command(Enum):
    """Commands for a running job."""

    KEEP = "keep"
    """Stop fitting now and keep the result so far."""


@dataclass(frozen=True)
class Progress:
    """Progress of a job.

    Block `block` of `blocks` (counted from 0) is being fitted and has taken `step` of at most `steps` optimiser steps,
    or is being restored in several orientations. `residual` is the root mean square of fit minus input in noise levels:
    at 1, as much was removed as there is noise; NaN if nothing is fitted.
    `remaining` is an estimate in seconds, `None` before there is one.
    """

    block: int
    blocks: int
    step: int
    steps: int
    residual: float
    seconds: float
    remaining: float | None

    @property
    def fraction(self) -> float:
        """Fraction of the whole job that is done, 0 to 1."""
        return (self.block + self.step / max(self.steps, 1)) / max(self.blocks, 1)


@dataclass(frozen=True, eq=False)
class Preview:
    """One block of the result as it would be if the job were kept now.

    `data` has the units and the order of axes of the image; write it to `result[index]`. Of a block that is finished,
    `filled` is true where the image had no value that counts, such as in hot pixels: there, it can only be restored.
    """

    index: tuple[int | slice, ...]
    data: np.ndarray
    filled: np.ndarray | None = None


@dataclass(frozen=True)
class Note:
    """Message to the user about a job or batch."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class BlockDone:
    """A block is restored and written, or was left unchanged.

    Attributes:
        index: Index of the block.
        quality: Noise level, residual, whiteness and structure of each channel, see `Quality`.
        defects: Number of hot and cold pixels, rows and columns that were filled in, by kind.
        invalid: Number of values that were missing and were filled.
        stops: Reasons why fits ended, each with the number of fits.
        notes: Notes since the block before.
        unchanged: Reason why the block was left unchanged; empty if it was restored.
        errors: For each channel, estimates of the mean squared error of the result and of the best light blur, in
            noise variances, the share of the result that was replaced by blurs or the noisy image, and the share of
            the contrast of fine structure that is missing, see `Safe`.
        stripes: Standard deviation of the offsets of rows and of columns that were removed, in noise levels.
        means: For each channel, mean of the result before and after it is converted to the type of its values.
        weights: Weight of the restored pixels of each channel in their mixture with the refined ones, if there is one.
        evidence: For each channel, mean square of what was removed, variance of the noise that was seen in it, and
            covariance of the noise and the result, in measured noise variances: to compare errors with those of others.
        below_zero: Number of values of the result below zero, if the block has none, and the lowest of them.
        patch_sigmas: For each channel, an independent estimate of the noise level, in the units of the image; 0 if it
            was not made.
    """

    index: tuple[int, ...]
    quality: tuple[tuple[float, float, float, float], ...] = ()
    defects: tuple[tuple[str, int], ...] = ()
    invalid: int = 0
    stops: tuple[tuple[str, int], ...] = ()
    notes: tuple[Note, ...] = ()
    unchanged: str = ""
    errors: tuple[tuple[float, float, float, float], ...] = ()
    stripes: tuple[float, float] = (0.0, 0.0)
    means: tuple[tuple[float, float], ...] = ()
    weights: tuple[float, ...] = ()
    evidence: tuple[tuple[float, float, float], ...] = ()
    below_zero: tuple[int, float] = (0, 0.0)
    patch_sigmas: tuple[float, ...] = ()


@dataclass(frozen=True)
class BatchProgress:
    """Progress of a batch.

    Attributes:
        items: Number of finished files, of `total`.
        total: Number of files.
        name: Name of the file that was started last.
        fraction: Fraction of the whole batch that is done, 0 to 1.
        seconds: Seconds since the batch began.
        active: Files that are being restored, and the fraction of each that is done.
        phase: Current activity of this process: reading an input, restoring, or writing a result.
    """

    items: int
    total: int
    name: str
    fraction: float
    seconds: float
    active: tuple[tuple[Path, float], ...] = ()
    phase: Literal["reading", "restoring", "writing"] = "restoring"

    @property
    def remaining(self) -> float | None:
        """Estimate of the seconds to go; `None` before there is one."""
        return self.seconds * (1 - self.fraction) / self.fraction if self.seconds > 1 and self.fraction else None


@dataclass(frozen=True)
class ItemDone:
    """A file of a batch is finished.

    Attributes:
        source: The input file.
        target: Path of the result, whether it exists or not.
        status: `skipped`: done before, done by another batch, or not an image. `exists`: not restored, because
            another result, by another recipe or of another input, already exists and may not be replaced.
        text: The error, or the reason why the file was skipped.
        facts: The sidecar of the result, of this batch or an earlier one; empty if there is none.
    """

    source: Path
    target: Path
    status: Status
    text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        """True if the file should have been restored but was not."""
        return self.status in ("failed", "exists")


@dataclass(frozen=True)
class ItemEvent:
    """An event of the job that restores one file of a batch."""

    source: Path
    event: Event


Event: TypeAlias = Progress | Preview | Note | BlockDone | BatchProgress | ItemDone | ItemEvent
Job: TypeAlias = Generator[Event, Command | None, T]
"""A running job that returns a `T`: yields events, accepts commands; closing it cancels it."""
