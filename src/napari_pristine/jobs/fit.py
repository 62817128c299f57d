"""Fitting: a network for each tile of a block, or one that has learned for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from napari_pristine.device import memory, seeded
from napari_pristine.errors import FileError, ModelError, OutOfMemory
from napari_pristine.events import Note, Preview
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.intensity import cast
from napari_pristine.image.tiling import OVERLAP, Tiling, repeat
from napari_pristine.jobs.block import Block, Pixels
from napari_pristine.jobs.context import JobContext, Part
from napari_pristine.jobs.crops import CropSampler
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.methods.method import Fit, NoisyBlock, Step
from napari_pristine.weights import SUFFIX, read_weights, write_weights

_SMALLEST_TILE = 128


Show = Callable[[Sequence[nn.Module]], list[Preview]]
"""Makes previews of what networks are."""


@dataclass(eq=False)
class Fitted:
    """A block that is fitted.

    Attributes:
        place: Of the block.
        block: What is fitted.
        nets: Networks of its tiles: before, those to start from, none to start anew; after it, those fitted.
        pixels: The restored pixels `(C, *space)`; the noisy ones before.
    """

    place: BlockIndex
    block: Block
    nets: list[nn.Module]
    pixels: Pixels


class _Tiles:
    """The tiles of a block: noisy, then restored; and the networks that restored them."""

    def __init__(self, fitted: Fitted, tiling: Tiling, finer: tuple[int, ...]) -> None:
        self.fitted, self.tiling = fitted, tiling
        self.parts = [repeat(fitted.block.pixels[(slice(None), *part)], finer) for part in tiling.slices]
        self.nets: list[nn.Module] = []


@dataclass(frozen=True, eq=False)
class _Tile:
    """One of them, as a method sees it."""

    of: _Tiles
    index: int
    noisy: NoisyBlock


class Fitting:
    """The fits of one job.

    Args:
        resolved: What is restored, and how.
        talk: What is said meanwhile.
        ranks: Which blocks are restored, and which of them at once.
        shelf: Folder where networks that have learned are kept, and looked for; nowhere if none is given.
    """

    def __init__(
        self,
        resolved: RestorationPlan,
        talk: JobContext,
        ranks: Sequence[Sequence[BlockIndex]],
        shelf: Path | None = None,
    ) -> None:
        self.resolved, self.talk, self.ranks, self.shelf = resolved, talk, len(ranks), shelf
        self.params, self.method, self.device = resolved.params, resolved.method, resolved.device
        self.groups = len({resolved.channel(place) for rank in ranks for place in rank})
        self.tile = self.params.tile
        self.learned: dict[BlockIndex, nn.Module] = {}

    def rank(self, number: int, rank: Sequence[Fitted]) -> Part[None]:
        """Fit the blocks of a rank; with less at once where the memory does not suffice, and that helps.

        Args:
            number: Of the rank, in the order in which they are restored.
            rank: Its blocks, of one shape if they are several.
        """
        anew, warm = [f for f in rank if not f.nets], [f for f in rank if f.nets]
        for alike in filter(None, (anew, warm)):
            if not (yield from self._fits(number, alike)):
                yield from self._less(number, alike)

    def _fits(self, number: int, rank: Sequence[Fitted]) -> Part[bool]:
        """Fit the blocks of a rank; whether there was memory for it, and if not, none of it is held any more."""
        try:
            with memory():
                yield from self._tiles(number, rank)
        except OutOfMemory:
            if len(rank) == 1 and not self._smaller(rank[0]):
                raise
            return False
        return True

    def _less(self, number: int, rank: Sequence[Fitted]) -> Part[None]:
        """Fit the blocks of a rank for which the memory did not suffice."""
        for fitted in rank:
            fitted.nets = []  # the fit may have changed them
        less = "one block after the other" if len(rank) > 1 else f"tiles of {self.tile} pixels"
        yield from self.talk.warn(f"the memory ran out; going on with {less}")
        for fitted in rank:
            yield from self.rank(number, [fitted])

    def _smaller(self, fitted: Fitted) -> bool:
        """Go on with smaller tiles, if that helps."""
        largest = min(self.tile, round(math.prod(fitted.block.space) ** 0.5))
        # several pictures are fitted whole, and what learns takes crops of whole blocks
        learns = self.method.learn and self.resolved.channel(fitted.place) not in self.learned
        if largest <= _SMALLEST_TILE or fitted.block.others or learns:
            return False
        self.tile = max(largest // 2, _SMALLEST_TILE)
        return True

    def preview(self, place: BlockIndex, block: Block, pixels: Pixels) -> Preview:
        """The block as it is now; not refined, which would take longer than a live view may."""
        values = cast(block.values(pixels), self.resolved.image.dtype)
        return Preview(self.resolved.out.index(place), self.resolved.out.unfold(values, place))

    def _tiles(self, number: int, rank: Sequence[Fitted]) -> Part[None]:
        """Fit and restore each tile of the blocks of a rank, and blend them."""
        block = rank[0].block
        # pictures on other grids have no tiles that go with these
        tiling = Tiling.of(block.space, math.prod(block.space) if block.others else self.tile, OVERLAP).tightened()
        if any(len(fitted.nets) != len(tiling.slices) for fitted in rank):  # of larger tiles, which needed too much
            for fitted in rank:
                fitted.nets = []
        blocks = [_Tiles(fitted, tiling, self.resolved.finer) for fitted in rank]
        for index, part in enumerate(tiling.slices):
            if self.talk.keep:
                yield from self.talk.warn(f"kept early: only {index} of {len(tiling.slices)} tiles are restored")
                break
            tiles = [
                _Tile(one, index, one.fitted.block.noisy(part, self.device, self.resolved.recipe.seed))
                for one in blocks
            ]
            nets = yield from self._nets(number, tiles)
            for tile, net in zip(tiles, nets, strict=True):
                tile.of.parts[index] = self._render(net, tile.noisy)
                tile.of.nets.append(net)
        for one in blocks:
            one.fitted.pixels, one.fitted.nets = tiling.blend(one.parts), one.nets

    def _nets(self, number: int, tiles: Sequence[_Tile]) -> Part[list[nn.Module]]:
        """The networks that restore the tiles of a rank."""
        first = tiles[0]
        index, count = first.index, len(first.of.parts)
        if self.method.learn:
            net = yield from self._learned(first.of.fitted.place, first.noisy, partial(self._shown, tiles))
            yield from self._count(number * count + index, self.ranks * count)
            return [net]
        pieces = count + (self.params.refinements > 0)
        self.talk.clock.begin(number * pieces + index, self.ranks * pieces)
        return (yield from self._fitted(tiles))

    def _shown(self, tiles: Sequence[_Tile], nets: Sequence[nn.Module]) -> list[Preview]:
        """The blocks of a rank as they are now."""
        shown = []
        for tile, net in zip(tiles, nets, strict=True):
            parts = list(tile.of.parts)
            parts[tile.index] = self._render(net, tile.noisy)
            fitted = tile.of.fitted
            shown.append(self.preview(fitted.place, fitted.block, tile.of.tiling.blend(parts)))
        return shown

    def _fitted(self, tiles: Sequence[_Tile]) -> Part[list[nn.Module]]:
        """A network fitted to each of the tiles."""
        starts = [tile.of.fitted.nets[tile.index : tile.index + 1] for tile in tiles]
        nets = [(start or [self._network(tile.noisy)])[0] for tile, start in zip(tiles, starts, strict=True)]
        noisies, warm = [tile.noisy for tile in tiles], bool(starts[0])
        if len(tiles) == 1:
            fit = self.method.fit(nets[0], noisies[0], self.params, warm)
        else:
            assert self.method.fit_batch is not None
            fit = self.method.fit_batch(nets, noisies, self.params, warm)
        yield from self._follow(fit, partial(self._shown, tiles, nets), len(tiles))
        return nets

    def _learned(self, place: BlockIndex, noisy: NoisyBlock, show: Show) -> Part[nn.Module]:
        """The network of a channel: that of the model, or one that learns from all its blocks when first asked for."""
        key, model = self.resolved.channel(place), self.resolved.model
        if key not in self.learned:
            net = self._network(noisy) if model is None else model.network(self.device)
            if self.resolved.learns and not self._taken(key, net):
                yield from self._learn(key, net, partial(show, [net]))
            self.learned[key] = net
        return self.learned[key]

    def _learn(self, channel: BlockIndex, net: nn.Module, show: Callable[[], list[Preview]]) -> Part[None]:
        """Let a network learn from all blocks of a channel, and keep it."""
        assert self.method.learn is not None
        self.talk.clock.begin(2 * len(self.learned), 2 * self.groups)
        load = [partial(self.resolved.noisy, place) for place in self.resolved.alike(channel)]
        stream = CropSampler(load, self.resolved.recipe.seed)
        fit = self.method.learn(net, stream, self.params, self.resolved.model is not None)
        yield from self._follow(fit, show)
        if self.shelf is not None and not self.talk.keep:
            write_weights(self._kept(self.shelf, channel), net.state_dict(), {}, overwrite=True)
        self.talk.keep = False  # the learning was to stop; what it has learned restores all blocks

    def _taken(self, channel: BlockIndex, net: nn.Module) -> bool:
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
    def _kept(shelf: Path, channel: BlockIndex) -> Path:
        return shelf / f"channel-{'-'.join(map(str, channel)) or 'all'}{SUFFIX}"

    def _count(self, done: int, total: int) -> Part[None]:
        """Say how many tiles are restored by a network that has learned."""
        share = max(total // self.groups, 1)
        self.talk.clock.begin(2 * (done // share) + 1, 2 * self.groups)
        if self.talk.clock.speaks():
            yield from self.talk.tell(Step(done % share, share, self.talk.residual()))

    def _follow(self, fit: Fit, show: Callable[[], list[Preview]], blocks: int = 1) -> Part[None]:
        """A fit of so many blocks to its end, or to where someone wishes to keep it: after the first step, or later."""
        step: Step | None = None
        talk = self.talk
        try:
            while not (talk.keep and step and step.done):
                step = next(fit)
                yield from talk.progress(step)
                if talk.clock.shows():
                    for preview in show():
                        yield from talk.say(preview)
                    talk.clock.showed()
        except StopIteration as end:
            yield from talk.stopped(end.value, blocks)
            return
        finally:
            fit.close()
        yield from talk.note(Note(f"kept after {step.done} of {step.total} steps"))

    def _network(self, noisy: NoisyBlock) -> nn.Module:
        """An untrained network for a tile; the seed alone decides its weights."""
        with seeded(self.resolved.recipe.seed):
            net: nn.Module = self.method.network(self.params, len(noisy.pixels), tuple(noisy.pixels.shape[1:]))
        return net.to(self.device)

    def _render(self, net: nn.Module, noisy: NoisyBlock) -> Pixels:
        """What the network makes of a tile, `(C, *space)`."""
        with torch.no_grad():
            pixels: Pixels = self.method.restore(net, noisy, self.params).cpu().numpy()
        return pixels
