"""Fitting: a network for each tile of a block, or one that has learned for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from napari_pristine.block import Block, Pixels
from napari_pristine.device import memory, seeded
from napari_pristine.errors import FileError, ModelError, OutOfMemory
from napari_pristine.events import Note, Preview
from napari_pristine.image.axes import Place
from napari_pristine.image.intensity import cast
from napari_pristine.image.tiles import OVERLAP, Tiling, repeat
from napari_pristine.methods.method import Fit, Noisy, Step
from napari_pristine.resolved import Resolved
from napari_pristine.stream import Stream
from napari_pristine.talk import Part, Talk
from napari_pristine.weights import SUFFIX, read_weights, write_weights

_SMALLEST_TILE = 128


class Fitting:
    """The fits of one job.

    Args:
        resolved: What is restored, and how.
        talk: What is said meanwhile.
        places: Which blocks are restored.
        shelf: Folder where networks that have learned are kept, and looked for; nowhere if none is given.
    """

    def __init__(self, resolved: Resolved, talk: Talk, places: Sequence[Place], shelf: Path | None = None) -> None:
        self.resolved, self.talk, self.places, self.shelf = resolved, talk, places, shelf
        self.params, self.method, self.device = resolved.params, resolved.method, resolved.device
        self.groups = len({resolved.channel(place) for place in places})
        self.tile = self.params.tile
        self.learned: dict[Place, nn.Module] = {}

    def block(
        self, number: int, place: Place, block: Block, warm: list[nn.Module]
    ) -> Part[tuple[Pixels, list[nn.Module]]]:
        """One block; with smaller tiles where the memory does not suffice, and they help.

        Args:
            number: Of the block, in the order in which they are restored.
            place: Of the block.
            block: What is fitted.
            warm: The networks of the tiles of its neighbour, to start from; none to start anew.

        Returns:
            The restored pixels `(C, *space)`, and the networks of the tiles.
        """
        while True:
            try:
                with memory():
                    return (yield from self._tiles(number, place, block, warm))
            except OutOfMemory:
                largest = min(self.tile, round(math.prod(block.space) ** 0.5))
                # several pictures are fitted whole, and what learns takes crops of whole blocks
                whole = block.others or (self.method.learn and self.resolved.channel(place) not in self.learned)
                if largest <= _SMALLEST_TILE or whole:
                    raise
                self.tile, warm = max(largest // 2, _SMALLEST_TILE), []
            yield from self.talk.warn(f"the memory ran out; going on with tiles of {self.tile} pixels")

    def preview(self, place: Place, block: Block, pixels: Pixels) -> Preview:
        """The block as it is now; not refined, which would take longer than a live view may."""
        values = cast(block.values(pixels), self.resolved.image.dtype)
        return Preview(self.resolved.out.index(place), self.resolved.out.unfold(values))

    def _tiles(
        self, number: int, place: Place, block: Block, warm: list[nn.Module]
    ) -> Part[tuple[Pixels, list[nn.Module]]]:
        """Fit and restore each tile of a block, and blend them."""
        # pictures on other grids have no tiles that go with these
        tiling = Tiling.of(block.space, math.prod(block.space) if block.others else self.tile, OVERLAP)
        parts = [repeat(block.pixels[(slice(None), *part)], self.resolved.finer) for part in tiling.slices]
        nets: list[nn.Module] = []
        for index, part in enumerate(tiling.slices):
            if self.talk.keep:
                yield from self.talk.warn(f"kept early: only {index} of {len(parts)} tiles are restored")
                break
            noisy = block.noisy(part, self.device, self.resolved.recipe.seed)

            def show(net: nn.Module, index: int = index, noisy: Noisy = noisy) -> Preview:
                shown = [*parts[:index], self._render(net, noisy), *parts[index + 1 :]]
                return self.preview(place, block, tiling.blend(shown))

            if self.method.learn:
                net = yield from self._learned(place, noisy, show)
                yield from self._count(number * len(parts) + index, len(self.places) * len(parts))
            else:
                pieces = len(parts) + (self.params.refinements > 0)
                self.talk.clock.begin(number * pieces + index, len(self.places) * pieces)
                net = yield from self._fitted(noisy, warm[index] if index < len(warm) else None, show)
            parts[index] = self._render(net, noisy)
            nets.append(net)
        return tiling.blend(parts), nets

    def _fitted(self, noisy: Noisy, start: nn.Module | None, show: Callable[[nn.Module], Preview]) -> Part[nn.Module]:
        """A network fitted to a tile."""
        net = self._network(noisy) if start is None else start
        yield from self._follow(self.method.fit(net, noisy, self.params, start is not None), partial(show, net))
        return net

    def _learned(self, place: Place, noisy: Noisy, show: Callable[[nn.Module], Preview]) -> Part[nn.Module]:
        """The network of a channel: that of the model, or one that learns from all its blocks when first asked for."""
        key, model = self.resolved.channel(place), self.resolved.model
        if key not in self.learned:
            net = self._network(noisy) if model is None else model.network(self.device)
            if self.resolved.learns and not self._taken(key, net):
                yield from self._learn(key, net, partial(show, net))
            self.learned[key] = net
        return self.learned[key]

    def _learn(self, channel: Place, net: nn.Module, show: Callable[[], Preview]) -> Part[None]:
        """Let a network learn from all blocks of a channel, and keep it."""
        assert self.method.learn is not None
        self.talk.clock.begin(2 * len(self.learned), 2 * self.groups)
        load = [partial(self.resolved.noisy, place) for place in self.resolved.alike(channel)]
        stream = Stream(load, self.resolved.recipe.seed)
        fit = self.method.learn(net, stream, self.params, self.resolved.model is not None)
        yield from self._follow(fit, show)
        if self.shelf is not None and not self.talk.keep:
            write_weights(self._kept(self.shelf, channel), net.state_dict(), {}, overwrite=True)
        self.talk.keep = False  # the learning was to stop; what it has learned restores all blocks

    def _taken(self, channel: Place, net: nn.Module) -> bool:
        """Take what was learned from a channel before all was interrupted; not if it cannot be used."""
        if self.shelf is None or not (kept := self._kept(self.shelf, channel)).exists():
            return False
        try:
            weights = read_weights(kept)
            untold = net.load_state_dict(weights, strict=False)
        except (ModelError, FileError, RuntimeError):  # torch's for shapes that differ
            return False
        return not untold.missing_keys and not untold.unexpected_keys

    @staticmethod
    def _kept(shelf: Path, channel: Place) -> Path:
        return shelf / f"channel-{'-'.join(map(str, channel)) or 'all'}{SUFFIX}"

    def _count(self, done: int, total: int) -> Part[None]:
        """Say how many tiles are restored by a network that has learned."""
        share = max(total // self.groups, 1)
        self.talk.clock.begin(2 * (done // share) + 1, 2 * self.groups)
        if self.talk.clock.speaks():
            yield from self.talk.tell(Step(done % share, share, self.talk.residual()))

    def _follow(self, fit: Fit, show: Callable[[], Preview]) -> Part[None]:
        """A fit to its end, or to where someone wishes to keep it: after the first step, or later."""
        step: Step | None = None
        talk = self.talk
        try:
            while not (talk.keep and step and step.done):
                step = next(fit)
                yield from talk.progress(step)
                if talk.clock.shows():
                    yield from talk.say(show())
                    talk.clock.showed()
        except StopIteration as end:
            yield from talk.stopped(end.value)
            return
        finally:
            fit.close()
        yield from talk.note(Note(f"kept after {step.done} of {step.total} steps"))

    def _network(self, noisy: Noisy) -> nn.Module:
        """An untrained network for a tile; the seed alone decides its weights."""
        with seeded(self.resolved.recipe.seed):
            net: nn.Module = self.method.network(self.params, len(noisy.pixels), tuple(noisy.pixels.shape[1:]))
        return net.to(self.device)

    def _render(self, net: nn.Module, noisy: Noisy) -> Pixels:
        """What the network makes of a tile, `(C, *space)`."""
        with torch.no_grad():
            pixels: Pixels = self.method.restore(net, noisy, self.params).cpu().numpy()
        return pixels
