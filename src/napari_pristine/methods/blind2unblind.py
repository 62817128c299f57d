"""Blind2Unblind: a network learns to predict each pixel from its neighbours, and in the end sees the pixel too.

After Wang, Liu, Li & Han (2022), "Blind2Unblind: self-supervised image denoising with visible blind spots", CVPR.

The `paper` preset is that of the released code for fluorescence. The others fit a small network with averaged weights
to a few of the masked copies per step, drawn at random: their mean is that of all, at a fraction of the cost.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from napari_pristine.methods.fit_unet import (
    TrainingParams,
    all_steps_taken,
    draw_crops,
    make_unet,
    match_mean,
    noise_variances,
)
from napari_pristine.methods.method import CropSource, Fit, Method, MethodParams, NoisyBlock, Step
from napari_pristine.methods.optimisation import Optimisation, halvings, linear_decay
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.masks import cell_masks, fill_hidden, gather_hidden
from napari_pristine.nets.unet import UNet, blind2unblind_config
from napari_pristine.settings import setting

_PART = 1 << 16
"""Pixels that a CPU takes at once: a whole step may take long, and should not delay a cancel."""


class Blind2UnblindParams(TrainingParams, MethodParams):
    """Learns from the noisy images alone; for noise that is independent from pixel to pixel."""

    output: Literal["mixed", "blind", "visible"] = setting(
        "mixed", "Result: predicted without seeing the pixel, with seeing it, or a mixture of both."
    )
    cell: int = setting(4, "Side of the cells in which one pixel at a time is hidden.", unit="pixels", ge=2, le=8)
    copies: int | None = setting(
        1, "Masked copies of each crop per step, of as many as a cell has pixels.", none="all", ge=1, advanced=True
    )
    visible_start: float = setting(2.0, "Weight of the visible error at the start.", ge=0, le=1000, advanced=True)
    visible_end: float = setting(20.0, "Weight of the visible error at the end.", ge=0, le=1000, advanced=True)
    visible_from: float = setting(
        0.4, "Fraction of the steps after which that weight grows.", ge=0, lt=1, advanced=True
    )
    blind_weight: float = setting(1.0, "Weight of the blind error alone.", ge=0, le=100, advanced=True)
    halvings: int = setting(
        0, "Number of times that the learning rate is halved, at equal intervals.", ge=0, le=20, advanced=True
    )

    def visible_weight(self, progress: float) -> float:
        """λ after this fraction of the steps."""
        late = max(0.0, progress - self.visible_from) / (1 - self.visible_from)
        return self.visible_start + late * (self.visible_end - self.visible_start)


class Blind2UnblindNet(EmaModel[UNet]):
    """A U-Net with averaged weights, and the weight of the visible error that its training has reached (λ)."""

    reached: Tensor

    def __init__(self, net: UNet) -> None:
        super().__init__(net)
        self.register_buffer("reached", torch.zeros(()))


def network(params: Blind2UnblindParams, channels: int, space: tuple[int, ...]) -> Blind2UnblindNet:
    """A U-Net for any size."""
    return Blind2UnblindNet(make_unet(params, blind2unblind_config(params.width, params.levels), channels, space))


def fit(net: Blind2UnblindNet, source: CropSource, params: Blind2UnblindParams, warm: bool) -> Fit:
    """Minimise |d + λ·e|² + η·|d|², with d and e the errors without and with seeing the pixel (eq. 12)."""
    generator = torch.Generator().manual_seed(source.seed)
    cooling, halving = linear_decay(params.cooling), halvings(params.halvings)
    optimisation = Optimisation(
        net,
        torch.optim.Adam(net.model.parameters(), lr=params.learning_rate, weight_decay=1e-8),
        schedule=lambda progress: cooling(progress) * halving(progress),
        averaging=params.averaging,
        mixed_precision=params.mixed_precision,
    )
    steps = params.steps_of(warm)
    residual = torch.ones(())
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
    return all_steps_taken("Blind2Unblind", steps, source)


def restore(net: Blind2UnblindNet, block: NoisyBlock, params: Blind2UnblindParams) -> Tensor:
    """The output of the averaged network, `(C, *space)`: without seeing the pixel, with seeing it, or mixed by λ."""
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
def visible_residual(net: UNet, crops: Tensor) -> Tensor:
    """e: the error of the network for pixels that it sees, `(N, C, *sides)`, without a gradient."""
    residual: Tensor = net(crops) - crops
    return residual


def blind_residuals(net: UNet, crops: Tensor, masks: Tensor) -> Tensor:
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


def predict_blind(net: UNet, pixels: Tensor, cell: int) -> Tensor:
    """Predict each pixel `(1, C, *space)` without seeing it, one masked copy after the other."""
    masks = cell_masks(tuple(pixels.shape[2:]), cell).to(pixels.device)
    predicted = torch.zeros_like(pixels)
    for mask in masks:
        predicted += gather_hidden(net(fill_hidden(pixels, mask))[:, None], mask[None])
    return predicted


BLIND2UNBLIND = Method(
    key="blind2unblind",
    title="Blind2Unblind denoise",
    summary="Learns from one or many noisy images to predict each pixel from its neighbours; for independent noise.",
    cite="Wang, Liu, Li & Han (2022), Blind2Unblind: self-supervised image denoising with visible blind spots, CVPR",
    params=Blind2UnblindParams,
    presets={
        # smaller cells hide more pixels at once, so that a step learns more; after that many steps the result does not
        # gain by the refinement
        "balanced": {"cell": 3, "steps": 1200, "refine": False},
        "fast": {"cell": 3, "steps": 200},
        "paper": {
            "steps": 23_700,
            "side": 128,
            "copies": None,
            "turns": False,
            "unet": "paper",
            "width": 48,
            "levels": 5,
            "learning_rate": 1e-4,
            "cooling": 0.0,
            "halvings": 4,
            "averaging": 0.0,
            "brightness": False,
            "stabilise": False,
            "hot_pixels": False,
            "stripes": False,
            "safeguard": False,
            "refine": False,
        },
    },
    test_settings={"steps": 40, "width": 16, "levels": 2, "side": 32, "batch": 2},
    network=network,
    fit=fit,
    restore=restore,
    learn=fit,
    needs_independent_noise=True,
)
