"""Blind2Unblind: train a network to predict each pixel from its neighbours; its result also uses the pixel itself.

After Wang, Liu, Li & Han (2022), "Blind2Unblind: self-supervised image denoising with visible blind spots", CVPR.

A step takes all masked copies of its crops, as in the released code, or a few of them, drawn at random: their mean is
that of all, at a fraction of the cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_pristine.fits.optimisation import Optimisation, halvings, linear_decay
from napari_pristine.fits.unets import (
    Denoiser,
    check_source,
    describe_noise,
    draw_crops,
    make_denoiser,
    match_mean,
    noise_variances,
)
from napari_pristine.methods.blind2unblind import Blind2UnblindParams
from napari_pristine.methods.method import CropSource, Fit, NoisyBlock, Step, StopReason
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.masks import cell_masks, fill_hidden, gather_hidden
from napari_pristine.nets.optimiser import Adam
from napari_pristine.nets.unet import blind2unblind_config

_PART = 1 << 16
"""Pixels that a CPU processes at once: a whole step may take long, and would delay a cancel."""


class Blind2UnblindNet(EmaModel[Denoiser]):
    """A U-Net with averaged weights, and the weight of the visible error that its training has reached (λ)."""

    reached: Tensor

    def __init__(self, net: Denoiser) -> None:
        super().__init__(net)
        self.register_buffer("reached", torch.zeros(()))


def network(params: Blind2UnblindParams, channels: int, space: tuple[int, ...]) -> Blind2UnblindNet:
    """A U-Net for any size."""
    return Blind2UnblindNet(make_denoiser(params, blind2unblind_config(params.width, params.levels), channels, space))


def fit(net: Blind2UnblindNet, source: CropSource, params: Blind2UnblindParams, warm: bool) -> Fit:
    """Minimise |d + λ·e|² + η·|d|², with d and e the errors without and with seeing the pixel (eq. 12)."""
    generator = torch.Generator().manual_seed(source.seed)
    cooling, halving = linear_decay(params.cooling), halvings(params.halvings)
    optimisation = Optimisation(
        net,
        Adam(net.model.parameters(), lr=params.learning_rate, weight_decay=1e-8),
        schedule=lambda progress: cooling(progress) * halving(progress),
        averaging=params.averaging,
        mixed_precision=params.mixed_precision,
    )
    steps = params.steps_of(warm)
    residual = torch.ones(())
    describe_noise(net, source)
    net.train()
    for step in range(1, steps + 1):
        weight = params.visible_end if warm else params.visible_weight(step / steps)
        crops = draw_crops(source, params, generator)
        masks = draw_masks(crops, params, generator)
        on_cpu = crops.device.type == "cpu"
        at_once = max(1, _PART * crops.shape[1] // crops.numel()) if on_cpu else len(masks)
        optimisation.zero_grad()
        with optimisation.autocast():
            visible = visible_residual(net.model, crops) if weight else torch.zeros_like(crops)
        squares: list[Tensor] = []
        for part in torch.split(masks, at_once):
            if squares:
                yield Step(step - 1, steps, residual)
            with optimisation.autocast():
                blind = blind_residuals(net.model, crops, part)
                loss = revisible_loss(blind, visible[:, None], part, weight, params.blind_weight)
            torch.autograd.backward(loss * len(part) / len(masks))
            squares.append((blind.detach().square() * part[:, None] / noise_variances(source, crops.dim() - 2)).sum())
        residual = torch.stack(squares).sum() / (len(crops) * crops.shape[1] * masks.sum())
        optimisation.step((step - 1) / steps)
        net.reached.fill_(weight)
        yield Step(step, steps, residual)
    return check_source("Blind2Unblind", source) or StopReason()


def restore(net: Blind2UnblindNet, block: NoisyBlock, params: Blind2UnblindParams) -> Tensor:
    """The output of the averaged network, `(C, *space)`: without seeing the pixel, with seeing it, or mixed by λ."""
    describe_noise(net, block)
    pixels, weight = block.pixels[None], net.reached
    visible = net.ema(pixels) if params.output != "blind" else torch.zeros_like(pixels)
    blind = predict_blind(net.ema, pixels, params.cell) if params.output != "visible" else visible
    restored = {"blind": blind, "visible": visible, "mixed": (blind + weight * visible) / (1 + weight)}[params.output]
    return match_mean(restored[0], block.pixels, block.valid) if params.brightness else restored[0]


def draw_masks(crops: Tensor, params: Blind2UnblindParams, generator: torch.Generator) -> Tensor:
    """The masks of one step, `(copies, *sides)`, true where hidden: all of them, or some at random."""
    masks = cell_masks(tuple(crops.shape[2:]), params.cell)
    masks = masks[masks.flatten(1).any(dim=1)]  # crops smaller than a cell have no pixel for some of them
    if params.copies is not None:
        masks = masks[torch.randperm(len(masks), generator=generator)[: params.copies]]
    return masks.to(crops.device)


@torch.no_grad()
def visible_residual(net: Denoiser, crops: Tensor) -> Tensor:
    """e: the error of the network for pixels that it sees, `(N, C, *sides)`, without a gradient."""
    residual: Tensor = net(crops) - crops
    return residual


def blind_residuals(net: Denoiser, crops: Tensor, masks: Tensor) -> Tensor:
    """d: the error of the network in each masked copy of the crops, `(N, copies, C, *sides)`.

    Only errors of hidden pixels count.
    """
    copies = fill_hidden(crops[:, None], masks[:, None])
    predicted: Tensor = net(copies.flatten(0, 1))
    return predicted.reshape(copies.shape) - crops[:, None]


def revisible_loss(blind: Tensor, visible: Tensor, masks: Tensor, weight: float, blind_weight: float) -> Tensor:
    """Mean over the hidden pixels of |d + λ·e|² + η·|d|²."""
    square = (blind + weight * visible).square() + blind_weight * blind.square()
    hidden = masks[:, None].expand_as(blind[0])
    return (square * hidden).sum() / (len(blind) * hidden.sum())


def predict_blind(net: Denoiser, pixels: Tensor, cell: int) -> Tensor:
    """Predict each pixel `(1, C, *space)` without seeing it, one masked copy after the other."""
    masks = cell_masks(tuple(pixels.shape[2:]), cell).to(pixels.device)
    predicted = torch.zeros_like(pixels)
    for mask in masks:
        predicted += gather_hidden(net(fill_hidden(pixels, mask))[:, None], mask[None])
    return predicted
