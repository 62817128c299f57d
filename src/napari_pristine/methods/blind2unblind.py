"""Blind2Unblind: a network learns to tell each pixel from its neighbours, and in the end is shown the pixel too.

After Wang, Liu, Li & Han (2022), "Blind2Unblind: self-supervised image denoising with visible blind spots", CVPR.

The `paper` preset is that of the released code for fluorescence. The others fit a small network with averaged weights
to few of the masked copies per step, drawn at random: their mean is that of all, at a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from napari_pristine.methods.fit_unet import TrainingParams, anneal_lr, denoiser, draw, finished, match_mean, variances
from napari_pristine.methods.method import CropSource, Fit, Method, MethodParams, NoisyBlock, Step
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.masks import cell_masks, fill, gather
from napari_pristine.nets.unet import UNet, blind2unblind_plan
from napari_pristine.settings import setting

_PART = 1 << 16
"""Pixels that a processor takes at once; a step may be longer, and someone may wish to stop."""


class Blind2UnblindParams(TrainingParams, MethodParams):
    """Learns from the noisy images alone; for noise that is independent from pixel to pixel."""

    stabilise: bool = setting(True, "Make the noise of photons equally strong everywhere before learning.")
    hot_pixels: bool = setting(True, "Take single pixels that outshine all around them for faults, and fill them.")
    refine: bool = setting(True, "Return to the result what the noisy image holds of the structures found.")
    output: Literal["mixed", "blind", "visible"] = setting(
        "mixed", "What is given out: what the network says without seeing the pixel, seeing it, or both mixed."
    )
    cell: int = setting(4, "Side of the cells in which one pixel at a time is hidden.", unit="pixels", ge=2, le=8)
    copies: int | None = setting(
        1, "Masked copies of each crop per step, out of one for each pixel of a cell.", none="all", ge=1, advanced=True
    )
    visible_start: float = setting(2.0, "Weight of what the network sees, at the start.", ge=0, le=1000, advanced=True)
    visible_end: float = setting(20.0, "Weight of what the network sees, at the end.", ge=0, le=1000, advanced=True)
    visible_from: float = setting(0.4, "Share of the steps after which that weight grows.", ge=0, lt=1, advanced=True)
    blind_weight: float = setting(1.0, "Weight of the error without seeing the pixel.", ge=0, le=100, advanced=True)
    halvings: int = setting(0, "How many times the step size is halved, at even distances.", ge=0, le=20, advanced=True)

    def visible_weight(self, progress: float) -> float:
        """λ after this share of the steps."""
        late = max(0.0, progress - self.visible_from) / (1 - self.visible_from)
        return self.visible_start + late * (self.visible_end - self.visible_start)


class Revisible(EmaModel[UNet]):
    """A U-Net with averaged weights that knows how much weight what it sees had reached (λ)."""

    reached: Tensor

    def __init__(self, net: UNet) -> None:
        super().__init__(net)
        self.register_buffer("reached", torch.zeros(()))


def network(params: Blind2UnblindParams, channels: int, space: tuple[int, ...]) -> Revisible:
    """A U-Net for any size."""
    return Revisible(denoiser(params, blind2unblind_plan(params.width, params.levels), channels, space))


def fit(net: Revisible, source: CropSource, params: Blind2UnblindParams, warm: bool) -> Fit:
    """Minimise |d + λ·e|² + η·|d|², where d and e are the errors without and with seeing the pixel."""
    generator = torch.Generator().manual_seed(source.seed)
    optimiser = torch.optim.Adam(net.model.parameters(), lr=params.learning_rate, weight_decay=1e-8)
    steps = params.steps_of(warm)
    residual = torch.ones(())
    net.train()
    for step in range(1, steps + 1):
        weight = params.visible_end if warm else params.visible_weight(step / steps)
        crops = draw(source, params, generator)
        masks = draw_masks(crops, params, generator)
        anneal_lr([optimiser], (step - 1) / steps, params.cooling, params.halvings)
        optimiser.zero_grad(set_to_none=True)
        seen = see(net.model, crops) if weight else torch.zeros_like(crops)
        squares: list[Tensor] = []
        for part in _parts(masks, crops):
            if squares:
                yield Step(step - 1, steps, residual)
            blind = blind_errors(net.model, crops, part)
            loss = revisible_loss(blind, seen[:, None], part, weight, params.blind_weight)
            torch.autograd.backward(loss * len(part) / len(masks))
            squares.append((blind.detach().square() * part[:, None] / variances(source, crops.dim() - 2)).sum())
        residual = torch.stack(squares).sum() / (len(crops) * crops.shape[1] * masks.sum())
        optimiser.step()
        net.update(params.memory(step))
        net.reached.fill_(weight)
        yield Step(step, steps, residual)
    return finished("Blind2Unblind", steps, source)


def restore(net: Revisible, noisy: NoisyBlock, params: Blind2UnblindParams) -> Tensor:
    """What the averaged network says, `(C, *space)`: without seeing the pixel, seeing it, or mixed by λ."""
    pixels, weight = noisy.pixels[None], net.reached
    visible = net.ema(pixels) if params.output != "blind" else torch.zeros_like(pixels)
    blind = predict_blind(net.ema, pixels, params.cell) if params.output != "visible" else visible
    restored = {"blind": blind, "visible": visible, "mixed": (blind + weight * visible) / (1 + weight)}[params.output]
    return match_mean(restored[0], noisy.pixels, noisy.valid) if params.brightness else restored[0]


def draw_masks(crops: Tensor, params: Blind2UnblindParams, generator: torch.Generator) -> Tensor:
    """The masks of one step, `(copies, *sides)`: all, or some at random."""
    masks = cell_masks(tuple(crops.shape[2:]), params.cell)
    masks = masks[masks.flatten(1).any(dim=1)]  # small pictures have no pixel for some of them
    if params.copies is not None:
        masks = masks[torch.randperm(len(masks), generator=generator)[: params.copies]]
    return masks.to(crops.device)


@torch.no_grad()
def see(net: UNet, crops: Tensor) -> Tensor:
    """e: the error of what the network says of pixels it sees, `(N, C, *sides)`; nothing is learned from it."""
    seen: Tensor = net(crops) - crops
    return seen


def blind_errors(net: UNet, crops: Tensor, masks: Tensor) -> Tensor:
    """d, where it counts: the error of each copy `(N, copies, C, *sides)` of the crops."""
    copies = fill(crops[:, None], masks[:, None])
    said: Tensor = net(copies.flatten(0, 1))
    return said.reshape(copies.shape) - crops[:, None]


def revisible_loss(blind: Tensor, seen: Tensor, masks: Tensor, weight: float, blind_weight: float) -> Tensor:
    """Mean over the hidden pixels of |d + λ·e|² + η·|d|²."""
    square = (blind + weight * seen).square() + blind_weight * blind.square()
    hidden = masks[:, None].expand_as(blind[0])
    return (square * hidden).sum() / (len(blind) * hidden.sum())


def predict_blind(net: UNet, pixels: Tensor, cell: int) -> Tensor:
    """What the network says of each pixel `(1, C, *space)` without seeing it, one masked copy after the other."""
    masks = cell_masks(tuple(pixels.shape[2:]), cell).to(pixels.device)
    said = torch.zeros_like(pixels)
    for mask in masks:
        said += gather(net(fill(pixels, mask))[:, None], mask[None])
    return said


def _parts(masks: Tensor, crops: Tensor) -> Iterator[Tensor]:
    """The masks in as many parts as keep a processor responsive; a GPU takes all at once."""
    room = max(1, _PART * crops.shape[1] // crops.numel()) if crops.device.type == "cpu" else len(masks)
    yield from torch.split(masks, room)


BLIND2UNBLIND = Method(
    key="blind2unblind",
    title="Blind2Unblind denoise",
    summary="Learns from one or many noisy images to tell each pixel from its neighbours; for independent noise.",
    cite="Wang, Liu, Li & Han (2022), Blind2Unblind: self-supervised image denoising with visible blind spots, CVPR",
    params=Blind2UnblindParams,
    presets={
        # smaller cells hide more at once: more is learned per step; and what is learned this long needs no refining
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
            "refine": False,
        },
    },
    network=network,
    fit=fit,
    restore=restore,
    learn=fit,
)
