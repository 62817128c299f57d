"""The life of one image: read a block, fit, refine, write it back; say how it goes, listen for wishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import nn

from napari_pristine.device import describe_device, versions
from napari_pristine.errors import ComputeError, ImageError
from napari_pristine.events import BlockDone, Command, Event, Note, Preview
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.image import Image
from napari_pristine.image.intensity import cast
from napari_pristine.image.quality import Quality
from napari_pristine.image.tiling import repeat
from napari_pristine.jobs.batching import batch_size, ranks, starts_warm, units
from napari_pristine.jobs.block import Block, Pixels
from napari_pristine.jobs.context import JobContext, Part
from napari_pristine.jobs.fit import Fitted, Fitting
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.refine import Refining
from napari_pristine.jobs.summary import QualitySummary
from napari_pristine.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Restored:
    """A result with all that is known about it."""

    image: Image
    recipe: Recipe
    quality: Quality
    seconds: float
    device: str
    notes: tuple[Note, ...] = ()

    @property
    def data(self) -> Any:
        """The restored values, with shape and dtype of the input."""
        return self.image.data

    def provenance(self) -> dict[str, Any]:
        """How the result came about, as plain JSON values."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "quality": self.quality.facts(),
            "seconds": round(self.seconds, 3),
            "device": self.device,
            "notes": [note.text for note in self.notes],
            "versions": versions(),
        }


Job: TypeAlias = Generator[Event, "Command | None", Restored]
"""A job under way: yields events, takes wishes, returns the result. Closing it cancels it."""


class RestorationJob:
    """One job.

    Args:
        resolved: What is restored, and how.
        into: Where the result is written, an array with its shape; a new one if none is given.
        places: Which blocks, all if none are given: whole units of them (`units`), where blocks start from their
            neighbour or are fitted at once.
        shelf: Folder where networks that have learned are kept, and looked for; nowhere if none is given.
        count: How many blocks are fitted at once; as many as there is room for if it is not said.
    """

    def __init__(
        self,
        resolved: RestorationPlan,
        into: Any = None,
        places: Sequence[BlockIndex] | None = None,
        shelf: Path | None = None,
        count: int | None = None,
    ) -> None:
        self.resolved = resolved
        self.cut, self.out, self.image = resolved.cut, resolved.out, resolved.image
        self.result = np.empty(self.out.shape, self.image.dtype) if into is None else into
        count = count or batch_size(resolved)
        self.ranks = ranks(self.cut, count, list(chain(*units(self.cut, count))) if places is None else places)
        self.talk = JobContext()
        self.fitting = Fitting(resolved, self.talk, self.ranks, shelf)
        self.refining = Refining(resolved, self.talk)
        self.nets: dict[BlockIndex, list[nn.Module]] = {}
        self.tally = QualitySummary()
        self.noted = 0

    def job(self) -> Job:
        """All blocks, rank by rank."""
        if self.resolved.device_note:
            yield from self.talk.note(self.resolved.device_note)
        for number, rank in enumerate(self.ranks):
            if self.talk.keep:
                count = sum(map(len, self.ranks))
                yield from self.talk.warn(f"kept early: only {self.tally.blocks} of {count} blocks are restored")
                for place in chain.from_iterable(self.ranks[number:]):
                    self.leave(place)
                break
            yield from self.rank(number, rank)
        return (yield from self.finish())

    def rank(self, number: int, rank: list[BlockIndex]) -> Part[None]:
        """Blocks that are fitted at once, from the values of the image to those of the result."""
        blocks = {place: self.prepare(place) for place in rank}
        if number + 1 < len(self.ranks):
            self.resolved.expect(self.ranks[number + 1][0])
        fits = [
            Fitted(place, block, self.before(place), block.pixels)
            for place, block in blocks.items()
            if isinstance(block, Block)
        ]
        stops = Counter(self.talk.stops)
        if fits:
            yield from self.fitting.rank(number, fits)
        stopped = tuple((text, count // len(fits)) for text, count in (self.talk.stops - stops).items())
        self.nets = {fitted.place: fitted.nets for fitted in fits}
        for place, block in blocks.items():
            if isinstance(block, ImageError):
                yield from self.over((yield from self.left(place, block)))
        for fitted in fits:
            yield from self.over(replace((yield from self.written(fitted)), stops=stopped))

    def before(self, place: BlockIndex) -> list[nn.Module]:
        """The networks that a block starts from: those of its neighbour, or none."""
        return self.nets.get((*place[:-1], place[-1] - 1), []) if starts_warm(self.resolved, place) else []

    def written(self, fitted: Fitted) -> Part[BlockDone]:
        """Refine what was fitted, and write it."""
        place, block = fitted.place, fitted.block
        _check_finite(fitted.pixels)
        show = partial(self.fitting.preview, place, block)
        pixels = yield from self.refining.refined(block, fitted.pixels, show)
        values = block.values(pixels)
        _check_finite(values)
        yield from self.talk.say(self.write(place, cast(values, self.image.dtype)))
        return (yield from self.judged(place, block, pixels, values))

    def over(self, done: BlockDone) -> Part[None]:
        """Say that a block is done, and what was noted meanwhile."""
        done = replace(done, notes=tuple(self.talk.notes[self.noted :]))
        self.noted = len(self.talk.notes)
        self.tally.add(done)
        yield from self.talk.say(done)

    def prepare(self, place: BlockIndex) -> Block | ImageError:
        """The block at a place, or in a stack the reason for leaving it as it is."""
        try:
            return self.resolved.block(place)
        except ImageError as error:
            if len(self.resolved.places) == 1:
                raise
            return error

    def left(self, place: BlockIndex, reason: ImageError) -> Part[BlockDone]:
        """Leave a block as it is, and say why: of panes in the end, as half of a slide may be empty."""
        self.leave(place)
        if self.cut.chunks:
            return BlockDone(place, unchanged=str(reason))
        at = ", ".join(f"{axis} = {i}" for axis, i in self.cut.at(place).items())
        yield from self.talk.warn(f"left unchanged at {at}: {reason}")
        return BlockDone(place)

    def write(self, place: BlockIndex, values: NDArray[Any]) -> Preview:
        """Put the values of a block into the result."""
        part = self.out.unfold(values, place)
        if self.image.size("S") == 4:  # transparency is no colour
            part = self._with_alpha(place, part)
        self.result[self.out.index(place)] = part
        return Preview(self.out.index(place), part)

    def _with_alpha(self, place: BlockIndex, part: NDArray[Any]) -> NDArray[Any]:
        """A part of the result with the transparency of the image."""
        mine = self.out.unfold(repeat(self.resolved.read(place), self.resolved.finer), place)
        kept = [axis for axis in self.cut.axes if axis in self.cut.together]
        if "S" not in kept:
            return mine if self.cut.at(place)["S"] == 3 else part
        alpha = tuple(slice(3, 4) if axis == "S" else slice(None) for axis in kept)
        part = part.copy()
        part[alpha] = mine[alpha]
        return part

    def leave(self, place: BlockIndex) -> None:
        """Leave a block as it is, on the grid of the result."""
        self.write(place, repeat(self.resolved.read(place), self.resolved.finer))

    def judged(self, place: BlockIndex, block: Block, pixels: Pixels, values: NDArray[np.float64]) -> Part[BlockDone]:
        """How good a restored block is, and what of it was filled in."""
        inner = self.cut.inner(place)
        hot = int(block.hot[inner].sum())
        invalid = int((~block.valid[inner]).sum()) - hot
        if self.resolved.params.degraded:
            seen = self.refining.seen(block, pixels)
            if seen is None:
                yield from self.talk.warn("the memory ran out; the result is not judged")
                return BlockDone(place, (), hot, invalid)
            values = block.values(seen)
        return BlockDone(place, tuple(block.judge(values)), hot, invalid)

    def finish(self) -> Job:
        """The result with all that is known about it."""
        if self.tally.blocks == len(self.resolved.places) and self.tally.nothing:
            raise ImageError(self.tally.nothing)
        for note in self.tally.notes():
            yield from self.talk.note(note)
        return Restored(
            image=self.resolved.restored(self.result),
            recipe=self.resolved.recipe,
            quality=self.tally.quality(),
            seconds=self.talk.clock.seconds,
            device=describe_device(self.resolved.device),
            notes=tuple(self.talk.notes),
        )


def _check_finite(values: NDArray[Any]) -> None:
    """Raise a `ComputeError` for a result that is none: as integers it would be garbage."""
    if wrong := int((~np.isfinite(values)).sum()):
        raise ComputeError(
            f"the fit diverged: {wrong} of {values.size} restored values are not finite; "
            "take another seed, or a lower learning_rate"
        )
