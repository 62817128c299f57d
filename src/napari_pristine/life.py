"""The life of one image: read a block, fit, refine, write it back; say how it goes, listen for wishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import nn

from napari_pristine.block import Block, Pixels
from napari_pristine.device import describe_device, versions
from napari_pristine.errors import ComputeError, ImageError
from napari_pristine.events import Done, Event, Note, Preview, Wish
from napari_pristine.fitting import Fitting
from napari_pristine.image.axes import Place
from napari_pristine.image.image import Image
from napari_pristine.image.intensity import cast
from napari_pristine.image.quality import Quality
from napari_pristine.image.tiles import repeat
from napari_pristine.recipe import Recipe
from napari_pristine.refining import Refining
from napari_pristine.resolved import Resolved
from napari_pristine.talk import Part, Talk

RUN = 16
"""Most blocks in a row of which each starts from the network of the one before. The next run starts anew, wherever it
is computed: so that a stack can be continued, or shared by several machines, and the result is the same."""


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


Job: TypeAlias = Generator[Event, "Wish | None", Restored]
"""A job under way: yields events, takes wishes, returns the result. Closing it cancels it."""


class Life:
    """One job.

    Args:
        resolved: What is restored, and how.
        into: Where the result is written, an array with its shape; a new one if none is given.
        places: Which blocks, all if none are given: whole runs of them (`AxesPlan.runs`), where blocks start from
            their neighbour.
        shelf: Folder where networks that have learned are kept, and looked for; nowhere if none is given.
    """

    def __init__(
        self,
        resolved: Resolved,
        into: Any = None,
        places: Sequence[Place] | None = None,
        shelf: Path | None = None,
    ) -> None:
        self.resolved = resolved
        self.cut, self.out, self.image = resolved.cut, resolved.out, resolved.image
        self.result = np.empty(self.out.shape, self.image.dtype) if into is None else into
        self.places = resolved.places if places is None else list(places)
        self.talk = Talk()
        self.fitting = Fitting(resolved, self.talk, self.places, shelf)
        self.refining = Refining(resolved, self.talk)
        self.done: list[Done] = []
        self.noted = 0

    def job(self) -> Job:
        """All blocks, one after the other."""
        if self.resolved.device_note:
            yield from self.talk.note(self.resolved.device_note)
        nets: list[nn.Module] = []
        for number, place in enumerate(self.places):
            if self.talk.keep:
                yield from self.talk.warn(f"kept early: only {number} of {len(self.places)} blocks are restored")
                for rest in self.places[number:]:
                    self.leave(rest)
                break
            warm = nets if self.resolved.params.warm_start and not self.cut.begins(place, RUN) else []
            nets = yield from self.block(number, place, warm)
        return (yield from self.finish())

    def block(self, number: int, place: Place, warm: list[nn.Module]) -> Part[list[nn.Module]]:
        """One block, from the values of the image to those of the result; returns the networks that were fitted."""
        stops = Counter(self.talk.stops)
        nets: list[nn.Module] = []
        block = self.prepare(place)
        if number + 1 < len(self.places):
            self.resolved.expect(self.places[number + 1])
        done = Done(place)
        if isinstance(block, Note):
            yield from self.talk.note(block)
            self.leave(place)
        else:
            pixels, nets = yield from self.fitting.block(number, place, block, warm)
            _check_finite(pixels)
            pixels = yield from self.refining.refined(block, pixels, partial(self.fitting.preview, place, block))
            values = block.values(pixels)
            _check_finite(values)
            yield from self.talk.say(self.write(place, cast(values, self.image.dtype)))
            done = yield from self.judged(place, block, pixels, values)
        stopped = tuple((self.talk.stops - stops).items())
        done = Done(place, done.judged, done.hot, done.invalid, stopped, tuple(self.talk.notes[self.noted :]))
        self.noted = len(self.talk.notes)
        self.done.append(done)
        yield from self.talk.say(done)
        return nets

    def prepare(self, place: Place) -> Block | Note:
        """The block at a place, or in a stack the reason for leaving it as it is."""
        try:
            return self.resolved.block(place)
        except ImageError as error:
            if len(self.resolved.places) == 1:
                raise
            at = ", ".join(f"{axis} = {i}" for axis, i in zip(self.cut.looped, place, strict=True))
            return Note(f"left unchanged at {at}: {error}", warning=True)

    def write(self, place: Place, values: NDArray[Any]) -> Preview:
        """Put the values of a block into the result."""
        part = self.out.unfold(values)
        if self.image.size("S") == 4:  # transparency is no colour
            part = self._with_alpha(place, part)
        self.result[self.out.index(place)] = part
        return Preview(self.out.index(place), part)

    def _with_alpha(self, place: Place, part: NDArray[Any]) -> NDArray[Any]:
        """A part of the result with the transparency of the image."""
        mine = self.out.unfold(repeat(self.resolved.read(place), self.resolved.finer))
        kept = [axis for axis in self.cut.axes if axis in self.cut.together]
        if "S" not in kept:
            return mine if place[self.cut.looped.index("S")] == 3 else part
        alpha = tuple(slice(3, 4) if axis == "S" else slice(None) for axis in kept)
        part = part.copy()
        part[alpha] = mine[alpha]
        return part

    def leave(self, place: Place) -> None:
        """Leave a block as it is, on the grid of the result."""
        self.write(place, repeat(self.resolved.read(place), self.resolved.finer))

    def judged(self, place: Place, block: Block, pixels: Pixels, values: NDArray[np.float64]) -> Part[Done]:
        """How good a restored block is, and what of it was filled in."""
        invalid = int((~block.valid).sum()) - block.hot
        if self.resolved.params.degraded:
            seen = self.refining.seen(block, pixels)
            if seen is None:
                yield from self.talk.warn("the memory ran out; the result is not judged")
                return Done(place, (), block.hot, invalid)
            values = block.values(seen)
        return Done(place, tuple(block.judge(values)), block.hot, invalid)

    def finish(self) -> Job:
        """The result with all that is known about it."""
        for note in filled(self.done):
            yield from self.talk.note(note)
        return Restored(
            image=self.resolved.restored(self.result),
            recipe=self.resolved.recipe,
            quality=quality_of(self.done),
            seconds=self.talk.clock.seconds,
            device=describe_device(self.resolved.device),
            notes=tuple(self.talk.notes),
        )


def quality_of(blocks: Sequence[Done]) -> Quality:
    """The figures of all blocks together."""
    judged = [figures for block in blocks for figures in block.judged]
    sigma, residual, whiteness, structure = np.mean(judged or [(0.0,) * 4], axis=0).tolist()
    stops: Counter[str] = Counter()
    for block in blocks:
        stops.update(dict(block.stops))
    stopped = tuple(f"{count} × {text}" if count > 1 else text for text, count in stops.items())
    return Quality(sigma, residual, whiteness, structure, sum(block.invalid for block in blocks), stopped)


def filled(blocks: Sequence[Done]) -> list[Note]:
    """What is to be said of the values that were filled in."""
    hot, invalid = sum(block.hot for block in blocks), sum(block.invalid for block in blocks)
    notes = [Note(f"{hot} hot pixels were filled from the fit (hot_pixels)")] if hot else []
    if invalid:
        notes.append(Note(f"{invalid} pixels without a value (NaN, infinite or masked) were filled from the fit"))
    return notes


def _check_finite(values: NDArray[Any]) -> None:
    """Raise a `ComputeError` for a result that is none: as integers it would be garbage."""
    if wrong := int((~np.isfinite(values)).sum()):
        raise ComputeError(
            f"the fit diverged: {wrong} of {values.size} restored values are not finite; "
            "take another seed, or a lower learning_rate"
        )
