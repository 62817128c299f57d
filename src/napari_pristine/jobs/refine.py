"""Refining: what is made of a fit with the noisy picture at hand; as far as there is memory for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from napari_pristine.device import memory
from napari_pristine.errors import OutOfMemory
from napari_pristine.events import Note, Preview
from napari_pristine.image.tiling import OVERLAP, Tiling
from napari_pristine.jobs.block import Block, Pixels
from napari_pristine.jobs.context import JobContext, Part
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.methods.method import Step

_SIDE = 512
"""Side of the tiles in which a fit is refined, in pixels."""

Show = Callable[[Pixels], Preview]


class Refining:
    """The refinement of the fits of one job; a fit is not lost where the memory does not suffice.

    Args:
        resolved: What is restored, and how.
        talk: What is said meanwhile.
    """

    def __init__(self, resolved: RestorationPlan, talk: JobContext) -> None:
        self.resolved, self.talk = resolved, talk
        self.params, self.method = resolved.params, resolved.method

    def refined(self, block: Block, pixels: Pixels, show: Show) -> Part[Pixels]:
        """The pixels of a fitted block `(C, *space)`, refined if wished; `show` makes a preview of pixels."""
        if not self.params.refine:
            return pixels
        if self.params.degraded:
            return (yield from self._rounds(block, pixels, show))
        try:
            with memory():
                return (yield from self._parts(block, pixels))
        except OutOfMemory:
            yield from self.talk.warn("the memory ran out; the fit is not refined")
        return pixels

    def seen(self, block: Block, pixels: Pixels) -> Pixels | None:
        """What a picture of the result would be, taken as the block was; `None` if there is no memory for it."""
        for device in dict.fromkeys((self.resolved.device, torch.device("cpu"))):
            try:
                with memory(), torch.no_grad():
                    scene = torch.from_numpy(pixels).to(device)
                    seen = self.method.seen(self.params, scene, self.resolved.whole(block, device))
                    return np.asarray(seen.cpu().numpy())
            except OutOfMemory:
                continue
        return None

    def _parts(self, block: Block, pixels: Pixels) -> Part[Pixels]:
        """Refined tile by tile, so that someone may stop it."""
        tiling = Tiling.of(block.space, _SIDE, OVERLAP)
        parts = []
        for part in tiling.slices:
            parts.append(block.refined(pixels, part))
            yield from self.talk.again()
        return tiling.blend(parts)

    def _rounds(self, block: Block, pixels: Pixels, show: Show) -> Part[Pixels]:
        """Refined as a whole, round by round, by the method, which knows how the pictures came about."""
        if self.method.refine is None:
            return pixels
        done, total, why = 0, self.params.refinements, ""
        clock = self.talk.clock
        clock.begin(clock.piece + 1, clock.pieces)
        try:
            with memory():
                start = torch.from_numpy(pixels).to(self.resolved.device)
                rounds = self.method.refine(self.params, start, self.resolved.whole(block))
                while not self.talk.keep and (better := next(rounds, None)) is not None:
                    pixels, done = better.cpu().numpy(), done + 1
                    yield from self.talk.tell(Step(done, max(done, total), self.talk.residual()))
                    yield from self._show(pixels, show)
            why = "kept" if self.talk.keep and done < total else ""
        except OutOfMemory:
            why = "the memory ran out"
        if why:
            text = f"{why} after {done} of {total} rounds of refinement"
            yield from self.talk.note(Note(text, warning=why != "kept"))
        return pixels

    def _show(self, pixels: Pixels, show: Show) -> Part[None]:
        """Show what came of a round, if it is time to."""
        if not self.talk.keep and self.talk.clock.shows():
            yield from self.talk.say(show(pixels))
            self.talk.clock.showed()
