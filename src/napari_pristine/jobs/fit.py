"""Fitting: a network for each tile of a block, or one trained network for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_pristine.device import out_of_memory_as_error, seeded
from napari_pristine.errors import FileError, ModelError, OutOfMemory
from napari_pristine.events import Note, Preview
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.image import LazySequence
from napari_pristine.image.intensity import cast
from napari_pristine.image.tiling import OVERLAP, Tiling, repeat
from napari_pristine.jobs.block import Block, Pixels
from napari_pristine.jobs.context import JobContext, JobPart
from napari_pristine.jobs.crops import CropSampler
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.methods.method import NoisyBlock, Step
from napari_pristine.model import SUFFIX, read_weights, write_weights
from napari_pristine.nets.field import blend
from napari_pristine.text import counted

_SMALLEST_TILE = 128
_REFINED_TILE = 512
"""Side of the tiles in which a fit is refined, in pixels."""


@dataclass(eq=False)
class FittedBlock:
    """A block and its fit.

    Attributes:
        index: Index of the block.
        block: The block.
        networks: Before the fit, the networks to start from (empty for random weights); after it, one for each tile.
        restored: The restored pixels `(C, *space)`, on the device.
        half_widths: Half the width of the 90 % interval of each of them, in the units of the pixels, if it is known.
        kept: After refinement, the share of the noise that the pixels keep, `(C, *space)`; none if that is not known.
        weights: Weight of the restored pixels of each channel in the mixture with the refined ones, if there is one.
    """

    index: BlockIndex
    block: Block
    networks: list[nn.Module]
    restored: Tensor
    half_widths: Tensor | None = None
    kept: Pixels | None = None
    weights: tuple[float, ...] = ()


class BlockFitter:
    """Fits the blocks of one job; uses smaller batches and tiles, then the CPU, if the memory runs out.

    Args:
        plan: What is restored, and how.
        context: The context of the job.
        batches: Number of batches of blocks that are restored; for the progress.
        channels: Number of their channels that are looped over; for the progress.
        checkpoint_dir: Folder of checkpoints of trained networks; none are read or written without it.
    """

    def __init__(
        self,
        plan: RestorationPlan,
        context: JobContext,
        batches: int,
        channels: int,
        checkpoint_dir: Path | None = None,
    ) -> None:
        self.plan, self.context, self.checkpoint_dir = plan, context, checkpoint_dir
        self.batches, self.channels = batches, channels
        self.tile, self.device = plan.params.tile, plan.device
        self.trained: dict[BlockIndex, nn.Module] = {}

    def fit(self, number: int, blocks: Sequence[FittedBlock]) -> JobPart[None]:
        """Fit a batch of blocks at once; if the memory runs out one by one, then in smaller tiles, then on the CPU.

        Args:
            number: Number of the batch.
            blocks: Blocks of one shape.
        """
        remaining = [list(blocks)]
        while remaining:
            batch = remaining.pop(0)
            try:
                with out_of_memory_as_error():
                    yield from self._fit_tiles(number, batch)
                continue
            except OutOfMemory:
                smaller = "with one block after the other" if len(batch) > 1 else self._reduce(batch[0])
                if not smaller:
                    raise
            for fitted in batch:
                fitted.networks = []  # the fit may have changed them
            yield from self.context.warn(f"the memory ran out; continuing {smaller}")
            remaining = [[fitted] for fitted in batch] + remaining

    def previews(self, fitted: FittedBlock, restored: Tensor) -> list[Preview]:
        """Preview of a block, not refined, as that is too slow for a live view; none while a light blur is better."""
        block, blocks = fitted.block, self.plan.output_blocks
        values = block.denormalise(restored.cpu().numpy())
        if not self.plan.params.degraded and not block.is_useful(values):
            return []
        shown = cast(block.keep_empty(values), self.plan.dtype)
        return [Preview(blocks.region(fitted.index), blocks.unfold(shown, fitted.index))]

    def _fit_tiles(self, number: int, batch: Sequence[FittedBlock]) -> JobPart[None]:
        """Fit and restore the tiles of a batch one after the other, and blend them."""
        plan, context, block = self.plan, self.context, batch[0].block
        # extra images have grids whose tiles would not match
        side = math.prod(block.space) if block.others else self.tile
        tiling = Tiling.of(block.space, side, OVERLAP).tightened()
        if any(len(fitted.networks) != len(tiling.slices) for fitted in batch):
            for fitted in batch:  # none, or those of larger tiles, which needed too much memory
                fitted.networks = []
        tiles = [self._initial_tiles(fitted, tiling) for fitted in batch]
        half_widths = [[torch.full_like(tile, torch.nan) for tile in parts] for parts in tiles]
        networks: list[list[nn.Module]] = [[] for _ in batch]
        for index, part in enumerate(tiling.slices):
            if context.keep:
                yield from context.warn(f"kept early: only {index} of {len(tiling.slices)} tiles are restored")
                break
            noisy_tiles = [fitted.block.noisy(self.device, plan.recipe.seed, part) for fitted in batch]

            def previews(
                nets: Sequence[nn.Module], noisy_tiles: list[NoisyBlock] = noisy_tiles, tile: int = index
            ) -> list[Preview]:
                made = []
                for fitted, parts, net, noisy in zip(batch, tiles, nets, noisy_tiles, strict=True):
                    current = [*parts[:tile], self._render(net, noisy), *parts[tile + 1 :]]
                    made += self.previews(fitted, blend(tiling, current))
                return made

            if plan.method.learn is not None:
                nets = [(yield from self._trained_network(batch[0].index, noisy_tiles[0], previews))]
                yield from self._report_restored(number * len(tiling.slices) + index, self.batches * len(tiling.slices))
            else:
                stages = len(tiling.slices) + (plan.params.refinements > 0)
                context.begin_stage(number * stages + index, self.batches * stages)
                warm = bool(batch[0].networks)
                nets = [
                    fitted.networks[index].to(self.device) if warm else self._new_network(noisy)
                    for fitted, noisy in zip(batch, noisy_tiles, strict=True)
                ]
                if len(batch) == 1:
                    fit = plan.method.fit(nets[0], noisy_tiles[0], plan.params, warm)
                else:
                    assert plan.method.fit_batch is not None
                    fit = plan.method.fit_batch(nets, noisy_tiles, plan.params, warm)
                yield from context.run_fit(fit, partial(previews, nets), len(batch), plan.params.last_of(warm))
            for fitted, parts, widths, net, noisy in zip(batch, tiles, half_widths, nets, noisy_tiles, strict=True):
                make = partial(self._previews_of_tiles, fitted, tiling, parts)
                yield from self._restore_tile(net, noisy, parts, widths, index, make)
            for tile_networks, net in zip(networks, nets, strict=True):
                tile_networks.append(net)
        for fitted, parts, widths, tile_networks in zip(batch, tiles, half_widths, networks, strict=True):
            fitted.restored, fitted.networks = blend(tiling, parts), tile_networks
            fitted.half_widths = blend(tiling, widths) if plan.method.restore_with_error is not None else None

    def _previews_of_tiles(self, fitted: FittedBlock, tiling: Tiling, parts: list[Tensor]) -> list[Preview]:
        return self.previews(fitted, blend(tiling, parts))

    def _restore_tile(
        self,
        net: nn.Module,
        noisy: NoisyBlock,
        parts: list[Tensor],
        widths: list[Tensor],
        index: int,
        make_previews: Callable[[], list[Preview]],
    ) -> JobPart[None]:
        """Restore one of the tiles `parts`, and how wrong it may be; the first version of a block is shown at once."""
        if self.plan.method.restore_with_error is None:
            parts[index] = self._render(net, noisy)
            return
        for estimate in self.plan.method.restore_with_error(net, noisy, self.plan.params):
            parts[index], widths[index] = estimate.pixels, estimate.half_widths
            if self.context.progress_due() or estimate.done < estimate.total:
                # one step more, as the result is refined after it
                yield from self.context.progress(Step(estimate.done, estimate.total + 1, torch.tensor(torch.nan)))
            if estimate.done == estimate.total:
                return
            yield from self.context.preview(make_previews, at_once=index == 0 and estimate.done == 1)
            if self.context.keep:
                yield from self.context.emit(Note(f"kept after {estimate.done} of {estimate.total} orientations"))
                return

    def _initial_tiles(self, fitted: FittedBlock, tiling: Tiling) -> list[Tensor]:
        """Tiles of a block before the fit: the noisy pixels, on the grid of the result."""
        pixels = fitted.block.pixels
        return [
            torch.from_numpy(repeat(pixels[(slice(None), *part)], self.plan.upscaling)).to(self.device)
            for part in tiling.slices
        ]

    def _reduce(self, fitted: FittedBlock) -> str:
        """Need less memory of the device, and say how; returns an empty text if that is not possible."""
        if self._reduce_tile(fitted):
            return f"with tiles of {self.tile} pixels"
        if self.device.type == "cpu":
            return ""
        self.tile, self.device = self.plan.params.tile, torch.device("cpu")
        return "on the CPU"

    def _reduce_tile(self, fitted: FittedBlock) -> bool:
        """Make the tiles smaller; returns `False` if they cannot be."""
        largest = min(self.tile, round(math.prod(fitted.block.space) ** 0.5))
        # extra images are fitted as a whole, and training takes crops of whole blocks
        trains = self.plan.method.learn and self.plan.blocks.channel(fitted.index) not in self.trained
        if largest <= _SMALLEST_TILE or fitted.block.others or trains:
            return False
        self.tile = max(largest // 2, _SMALLEST_TILE)
        return True

    def _trained_network(
        self, index: BlockIndex, noisy: NoisyBlock, previews: Callable[[Sequence[nn.Module]], list[Preview]]
    ) -> JobPart[nn.Module]:
        """Return the network of a channel: that of the model, or one that the first call trains on all its blocks."""
        plan, context = self.plan, self.context
        channel = plan.blocks.channel(index)
        if channel in self.trained:
            return self.trained[channel].to(self.device)
        net = self._new_network(noisy) if plan.model is None else plan.model.network(self.device)
        if plan.needs_training and not self._load_checkpoint(channel, net):
            assert plan.method.learn is not None
            context.begin_stage(2 * len(self.trained), 2 * self.channels)
            indices = plan.channel_indices(channel)
            loaders = LazySequence(range(len(indices)), lambda n: partial(plan.noisy_block, indices[n], self.device))
            crops = CropSampler(loaders, plan.recipe.seed)
            fit = plan.method.learn(net, crops, plan.params, plan.model is not None)
            last = plan.params.last_of(plan.model is not None)
            yield from context.run_fit(fit, partial(previews, [net]), last=last)
            if self.checkpoint_dir is not None and not context.keep:
                write_weights(self._checkpoint(channel), net.state_dict(), {}, overwrite=True)
            context.keep = False  # it ended the training only; the network restores all blocks
        self.trained[channel] = net
        return net

    def _load_checkpoint(self, channel: BlockIndex, net: nn.Module) -> bool:
        """Load the network that was trained before an interruption; returns `False` if none fits."""
        if self.checkpoint_dir is None or not self._checkpoint(channel).exists():
            return False
        try:
            weights = read_weights(self._checkpoint(channel))
        except (ModelError, FileError):
            return False
        shapes = [{name: weight.shape for name, weight in each.items()} for each in (weights, net.state_dict())]
        if shapes[0] != shapes[1]:  # torch would load what fits of them
            return False
        net.load_state_dict(weights)
        return True

    def _checkpoint(self, channel: BlockIndex) -> Path:
        assert self.checkpoint_dir is not None
        return self.checkpoint_dir / f"channel-{'-'.join(map(str, channel)) or 'all'}{SUFFIX}"

    def _report_restored(self, done: int, total: int) -> JobPart[None]:
        """Report the number of tiles that a trained network has restored."""
        per_channel, stages = max(total // self.channels, 1), 1 + self.plan.needs_training
        self.context.begin_stage(stages * (done // per_channel) + stages - 1, stages * self.channels)
        if self.context.progress_due():
            yield from self.context.progress(Step(done % per_channel, per_channel, self.context.last_residual()))

    def _new_network(self, noisy: NoisyBlock) -> nn.Module:
        """An untrained network for a tile; the seed alone decides its weights."""
        with seeded(self.plan.recipe.seed):
            net: nn.Module = self.plan.method.network(
                self.plan.params, len(noisy.pixels), tuple(noisy.pixels.shape[1:])
            )
        return net.to(self.device)

    def _render(self, net: nn.Module, noisy: NoisyBlock) -> Tensor:
        """Restore a tile: `(C, *space)`, on the device."""
        with torch.no_grad():
            return self.plan.method.restore(net, noisy, self.plan.params)


def refine_block(
    plan: RestorationPlan, context: JobContext, fitter: BlockFitter, fitted: FittedBlock
) -> JobPart[Pixels]:
    """Refine a fit with the noisy image, as long as the memory suffices, and move it to the CPU.

    Returns:
        The restored pixels `(C, *space)`.
    """
    block, restored = fitted.block, fitted.restored
    if plan.method.noise_kept is not None and fitted.half_widths is not None:
        noisy = block.noisy(restored.device, plan.recipe.seed)
        with torch.no_grad():
            kept_by_net = plan.method.noise_kept(fitted.networks[0], noisy, plan.params, fitted.half_widths)
        fitted.kept = kept_by_net.cpu().numpy()
    if not plan.params.refine or (plan.params.degraded and plan.method.refine is None):
        return restored.cpu().numpy()
    if not plan.params.degraded:
        pixels: Pixels = restored.cpu().numpy()
        try:
            with out_of_memory_as_error():
                tiling, parts = Tiling.of(block.space, _REFINED_TILE, OVERLAP), []
                for part in tiling.slices:
                    refined = block.refine(pixels, part)
                    parts.append(refined.reshape(-1, *refined.shape[2:]))
                    yield from context.repeat_progress()
                refined, kept = tiling.blend(parts).reshape(2, *pixels.shape)
            if fitted.kept is None:
                pixels, fitted.kept = refined, kept
            else:
                known = plan.weights(fitted.index)
                weights = block.weights_of(pixels, refined, fitted.kept, kept) if known is None else known
                fitted.weights = tuple(weights.ravel().tolist())
                pixels, fitted.kept = (
                    weights * a + (1 - weights) * b for a, b in ((pixels, refined), (fitted.kept, kept))
                )
        except OutOfMemory:
            yield from context.warn("the memory ran out; the fit is not refined")
        return pixels
    assert plan.method.refine is not None
    rounds, total, reason = 0, plan.params.refinements, ""
    context.next_stage()
    try:
        with out_of_memory_as_error():
            noisy = block.noisy(restored.device, plan.recipe.seed)
            refinement = plan.method.refine(plan.params, restored, noisy)
            while not context.keep and (improved := next(refinement, None)) is not None:
                restored, rounds = improved, rounds + 1
                yield from context.progress(Step(rounds, max(rounds, total), context.last_residual()))
                if not context.keep:
                    yield from context.preview(partial(_preview_list, fitter, fitted, restored))
        reason = "kept" if context.keep and rounds < total else ""
    except OutOfMemory:
        reason = "the memory ran out"
    if reason:
        text = f"{reason} after {rounds} of {counted(total, 'round')} of refinement"
        yield from (context.warn(text) if reason != "kept" else context.emit(Note(text)))
    return restored.cpu().numpy()


def _preview_list(fitter: BlockFitter, fitted: FittedBlock, restored: Tensor) -> list[Preview]:
    return fitter.previews(fitted, restored)
