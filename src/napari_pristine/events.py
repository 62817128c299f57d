"""What a running job says, and what it may be told.

A job is a generator. Each thing it yields is one of the frozen values below;
what is sent into it is `None` or a `Wish`. Closing it cancels it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np


class Command(Enum):
    """What a running job may be told."""

    KEEP = "keep"
    """Stop fitting here and use what there is."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    `place` of `places` blocks is being fitted (counted from 0) and has taken `done` of at most `total` steps.
    `residual` is the root mean square of fit minus input in noise levels: 1 means that what was removed is as
    strong as the noise. `remaining` is an estimate in seconds, `None` before there is one.
    """

    place: int
    places: int
    done: int
    total: int
    residual: float
    seconds: float
    remaining: float | None

    @property
    def fraction(self) -> float:
        """Share of the whole job that is done, 0 to 1."""
        return (self.place + self.done / max(self.total, 1)) / max(self.places, 1)


@dataclass(frozen=True, eq=False)
class Preview:
    """What the result would be if the job were kept now: one block of it.

    `data` is in the units and axes order of the image that is restored; write it to `result[index]`.
    """

    index: tuple[int | slice, ...]
    data: np.ndarray


@dataclass(frozen=True)
class Note:
    """Something that the user should know about how the job went."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class BlockDone:
    """A block is restored and written, or left as it was; what is known of it, as plain values.

    `judged` holds noise level, residual, whiteness and structure of each channel, see `Quality`; `hot` and `invalid`
    count the values that were filled in, `stops` how many fits each rule has ended. `notes` are those since the block
    before. `left` says why a pane of a large plane was left as it was; of all of them one note tells in the end.
    """

    place: tuple[int, ...]
    judged: tuple[tuple[float, float, float, float], ...] = ()
    hot: int = 0
    invalid: int = 0
    stops: tuple[tuple[str, int], ...] = ()
    notes: tuple[Note, ...] = ()
    left: str = ""


Event: TypeAlias = Progress | Preview | Note | BlockDone
