"""Sampling: a network predicts hidden pixels from distant visible ones; a continuous function fills the gaps.

After Quan, Zheng, Ma & Ji (CVPR 2025), "Zero-shot blind-spot image denoising via implicit neural sampling".

Each step shows the network a random part of the pixels, and it has to predict those that are near none of them. The
gaps are filled with the values of a SIREN that is fitted to the visible pixels at the same time. With few visible
pixels this works for noise that is correlated between neighbours; with many it is best for independent noise.

Two SIRENs with a slope penalty are fitted to each of many overlapping patches, each to half of the pixels; each pixel
is filled by the one that was not fitted to it, so that no noise leaks round the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from napari_pristine.fits.fields import draw_positions, mean_slopes, noise_level, slope_weight
from napari_pristine.fits.optimisation import Optimisation, cosine_decay, linear_decay
from napari_pristine.fits.unets import (
    augment,
    make_unet,
    match_mean,
    noise_variances,
)
from napari_pristine.image.noise import is_correlated
from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.method import Fit, NoisyBlock, Step, StopReason, random_crops
from napari_pristine.methods.sampling import SamplingParams
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.field import Field
from napari_pristine.nets.masks import dilate, visible_mask
from napari_pristine.nets.optimiser import Adam
from napari_pristine.nets.unet import UNet, noise2noise_config

_FOR_INDEPENDENT = (0.8, 0, 16)
_FOR_CORRELATED = (0.3, 1, 16)
"""Fraction of visible pixels, margin and passes, by the noise."""
_OVERLAP = 16
"""Minimum overlap of neighbouring patches, in pixels."""


class SamplingNet(nn.Module):
    """The functions that fill the gaps, and the network that predicts."""

    def __init__(self, field: Field, denoiser: UNet) -> None:
        super().__init__()
        self.field = field
        self.denoiser = EmaModel(denoiser)


def network(params: SamplingParams, channels: int, space: tuple[int, ...]) -> SamplingNet:
    """A SIREN for each patch and fold, and a U-Net."""
    patches = Tiling.of(space, params.patch or max(space), _OVERLAP if params.patch else 0)
    field = Field(patches, channels, params.function_width, params.function_layers, params.frequency, params.folds)
    published = noise2noise_config(
        channels, params.width, params.levels, dropout=params.dropout, dilation=params.dilation, init="torch"
    )
    return SamplingNet(field, make_unet(params, published, channels, space))


def fit(net: SamplingNet, block: NoisyBlock, params: SamplingParams, warm: bool) -> Fit:
    """Fit the functions to the visible pixels, and the network to predict the hidden ones."""
    masking = MaskedBlock.of(block, params)
    cooling = linear_decay(params.cooling)
    unet = Optimisation(
        net.denoiser,
        Adam(net.denoiser.model.parameters(), lr=params.learning_rate),
        schedule=cosine_decay if params.cosine else cooling,
        averaging=params.averaging,
        mixed_precision=params.mixed_precision,
    )
    function = Optimisation(
        net.field.siren,
        Adam(net.field.siren.model.parameters(), lr=params.function_rate),
        schedule=(lambda _: 1.0) if params.cosine else cooling,
        averaging=params.averaging,
    )
    steps, residual = params.steps_of(warm), torch.ones(())
    filling = block.pixels
    net.train()
    for step in range(1, steps + 1):
        visible, refill = masking.draw_visible(), (step - 1) % params.refresh == 0
        if refill and params.consistency:  # as published: function and network learn from each other for one mask
            filling = masking.fill(net.field)
        if (step - 1) % params.cadence == 0:
            clean = masking.predict_once(net.denoiser, filling, visible) if params.consistency else filling
            function.zero_grad()
            for fraction in accumulate_field_gradients(net.field, masking, visible, clean):
                if fraction < 1:  # a whole step may take long, and should not delay a cancel
                    yield Step(step - 1, steps, residual)
            function.step((step - 1) / steps)
        if refill and not params.consistency:
            filling = masking.fill(net.field)
        unet.zero_grad()
        with unet.autocast():
            loss, residual = masking.blind_loss(net.denoiser, filling, visible)
        torch.autograd.backward(loss)
        unet.step(step / steps)
        yield Step(step, steps, residual)
    return StopReason()


def accumulate_field_gradients(field: Field, masking: MaskedBlock, visible: Tensor, clean: Tensor) -> Iterator[float]:
    """Add the gradients of the functions' loss, part by part, and yield the fraction of the step that each part is.

    Loss: distance to the visible pixels + consistency · distance, at positions shifted by a fraction of a pixel, to the
    network's prediction of them + smoothness · mean slope.

    Args:
        field: The functions.
        masking: The block.
        visible: Mask of the visible pixels, `(*space)`.
        clean: The network's prediction, `(C, *space)`; used with `consistency` alone.
    """
    params, block = masking.params, masking.block
    values, fitted = masking.field_targets(field)
    fitted = fitted * field.cut_patches(visible[None].float())
    predicted = field.cut_patches(clean) if params.consistency else values
    for positions, fraction in draw_positions(field, params.function_batch, masking.generator):
        positions = positions.to(values.device)
        index: Any = (slice(None), *positions.unbind(-1))
        weight = fitted[index] / fitted.mean().clamp(min=1e-6)
        output = field(positions)
        loss = (masking.distance(output - values[index]) * weight).mean()
        if params.consistency:
            shifted = field(positions + torch.rand(positions.shape, generator=masking.generator).to(output))
            loss = loss + params.consistency * (masking.distance(shifted - predicted[index]) * weight).mean()
        if params.smoothness:
            slope = mean_slopes(output, noise_level(block)).mean()
            loss = loss + params.smoothness * slope_weight(block) * slope
        # times the number of networks: each gets the gradient that it would get alone
        torch.autograd.backward(fraction * len(output) * loss)
        yield fraction


def restore(net: SamplingNet, block: NoisyBlock, params: SamplingParams) -> Tensor:
    """The network's prediction, averaged over masks or with the whole image visible, `(C, *space)`."""
    masking = MaskedBlock.of(block, params)
    restored = masking.predict(net.denoiser, masking.fill(net.field))
    return match_mean(restored, block.pixels, block.valid) if params.brightness else restored


@dataclass(frozen=True, eq=False)
class MaskedBlock:
    """A block with the random masks that decide which pixels are visible.

    Attributes:
        block: The block.
        params: The settings.
        generator: Source of the random numbers.
        visible: Fraction of the pixels that the network sees.
        margin: Pixels around a visible one that are not predicted.
        passes: Masks that the result is averaged over.
        fold: Number of the fold that each pixel belongs to, `(*space)`.
    """

    block: NoisyBlock
    params: SamplingParams
    generator: torch.Generator
    visible: float
    margin: int
    passes: int
    fold: Tensor

    @classmethod
    def of(cls, block: NoisyBlock, params: SamplingParams) -> MaskedBlock:
        """The masks for a block; settings that are none follow the noise."""
        generator = torch.Generator().manual_seed(block.seed)
        fold = torch.randint(params.folds, block.valid.shape, generator=generator).to(block.valid.device)
        visible, margin, passes = _FOR_CORRELATED if is_correlated(block.correlation_length) else _FOR_INDEPENDENT
        return cls(
            block,
            params,
            generator,
            visible if params.visible is None else params.visible,
            margin if params.margin is None else params.margin,
            passes if params.passes is None else params.passes,
            fold,
        )

    def draw_visible(self) -> Tensor:
        """A new random mask of the visible pixels, `(*space)`."""
        return visible_mask(self.fold.shape, self.visible, self.generator).to(self.fold.device) & self.block.valid

    def field_targets(self, field: Field) -> tuple[Tensor, Tensor]:
        """The pixels, and 1 where each of the functions is fitted to them, both cut into patches."""
        folds, patches = self.params.folds, len(field.patches.corners)
        parts = [self.block.valid & ((self.fold != i) | (folds == 1)) for i in range(folds)]
        fitted = [field.cut_patches(p[None].float())[i * patches : (i + 1) * patches] for i, p in enumerate(parts)]
        return field.cut_patches(self.block.pixels), torch.cat(fitted)

    def fill(self, field: Field) -> Tensor:
        """The values of the functions, each where it was not fitted, `(C, *space)`."""
        values = field.render_fits()
        return values.gather(0, self.fold.expand(1, *values.shape[1:]))[0]

    def blind_loss(self, net: EmaModel[UNet], filling: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Mean error of the hidden pixels in random crops, and its mean square in noise variances."""
        pixels, channels = self.block.pixels, len(self.block.pixels)
        stack = torch.cat([pixels, filling, visible[None].to(pixels), self.block.valid[None].to(pixels)])
        sides = Tiling.of(tuple(self.fold.shape), self.params.side, 0).side
        crops = random_crops(stack, self.params.batch, sides, self.generator)
        crops = augment(crops, self.generator) if self.params.turns else crops
        target, filled, seen, valid = torch.split(crops, [channels, channels, 1, 1], dim=1)
        predicted = net(torch.where(seen > 0, target, filled), self._dropout)
        hidden = (1 - dilate(seen > 0, self.margin).to(pixels)) * valid
        error = predicted - target
        count = (hidden.sum() * channels).clamp(min=1)
        residual = (error.detach().square() / noise_variances(self.block, pixels.dim() - 1) * hidden).sum() / count
        return (self.distance(error) * hidden).sum() / count, residual

    @torch.no_grad()
    def predict_once(self, net: EmaModel[UNet], filling: Tensor, visible: Tensor) -> Tensor:
        """The output of the network in training for one mask, `(C, *space)`."""
        predicted: Tensor = net.model(torch.where(visible, self.block.pixels, filling)[None], self._dropout)[0]
        return predicted

    @torch.no_grad()
    def predict(self, net: EmaModel[UNet], filling: Tensor) -> Tensor:
        """The averaged network's mean prediction over random masks, of hidden pixels alone or of all: `(C, *space)`."""
        pixels = self.block.pixels
        if not self.passes:
            restored: Tensor = net.ema(torch.where(self.block.valid, pixels, filling)[None])[0]
            return restored
        unseen, everywhere = torch.zeros_like(pixels), torch.zeros_like(pixels)
        count = torch.zeros_like(pixels[:1])
        for _ in range(self.passes):
            visible = self.draw_visible()
            predicted = net.ema(torch.where(visible, pixels, filling)[None], self._dropout)[0]
            hidden = (~dilate(visible, self.margin))[None].to(pixels)
            unseen, everywhere, count = unseen + predicted * hidden, everywhere + predicted, count + hidden
        mean = everywhere / self.passes
        return mean if self.params.answers == "all" else torch.where(count > 0, unseen / count.clamp(min=1), mean)

    def distance(self, error: Tensor) -> Tensor:
        """The loss of single values."""
        return error.square() if self.params.loss == "squared" else error.abs()

    @property
    def _dropout(self) -> torch.Generator | None:
        return self.generator if self.params.dropout else None
