"""Training: what every loop that trains a network does beside its own steps, and the U-Nets that learn from crops."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from napari_pristine.image.noise import is_correlated
from napari_pristine.methods.method import CropSource, NoisyBlock, StopReason
from napari_pristine.nets.unet import Plan, UNet, small_plan
from napari_pristine.settings import Params, setting

_NOISELESS = 2e-6
"""Noise level up to which a channel has no noise, such as the opacity of a picture from the screen."""
_UNSEEN = 1e-3
"""Share of pixels without a value from which a result shows them."""


class TrainingParams(Params):
    """The settings of a U-Net that learns from random crops."""

    steps: int = setting(400, "Optimiser steps at most.", ge=1, le=10_000_000)
    batch: int = setting(4, "Crops per step.", ge=1, le=1024)
    side: int = setting(64, "Side of the crops.", unit="pixels", ge=8, le=4096)
    turns: bool = setting(True, "Flip and turn the crops at random.", advanced=True)
    unet: Literal["small", "paper"] = setting(
        "small", "Kind of U-Net: equally wide on all levels, or as published.", advanced=True
    )
    width: int = setting(32, "Channels of the network's first level.", ge=3, le=512, advanced=True)
    levels: int = setting(3, "How many times the U-Net halves the picture.", ge=1, le=6, advanced=True)
    learning_rate: float = setting(1e-3, "Step size of Adam.", gt=0, le=1, advanced=True)
    cooling: float = setting(
        0.6, "Share of the steps, at the end, over which the step size falls to 2 %.", ge=0, le=1, advanced=True
    )
    averaging: float = setting(0.99, "Memory of the average over iterates; 0 uses the last.", ge=0, lt=1, advanced=True)
    brightness: bool = setting(True, "Give the result the mean brightness of the noisy image.", advanced=True)
    warm_steps: float = setting(
        0.4, "Share of the steps for a network that has learned before.", gt=0, le=1, advanced=True
    )

    def steps_of(self, warm: bool) -> int:
        """Steps of a fit that starts anew, or from a network that has learned before."""
        return max(1, round(self.steps * (self.warm_steps if warm else 1)))

    def memory(self, step: int) -> float:
        """Memory of the average after a step: short at first, so that the average is of use at any step."""
        return min(self.averaging, step / (step + 10))


def denoiser(params: TrainingParams, published: Plan, channels: int, space: tuple[int, ...]) -> UNet:
    """The U-Net of a method: a small one, or its own as `published`."""
    plan = published if params.unet == "paper" else small_plan(params.width, params.levels)
    return UNet(plan, channels, len(space))


def draw(source: CropSource, params: TrainingParams, generator: torch.Generator) -> Tensor:
    """The crops of one step, `(batch, C, *sides)`."""
    crops = source.crops(params.batch, params.side, generator)
    return augment(crops, generator) if params.turns else crops


def augment(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Each crop `(N, C, *sides)` flipped and turned at random along Y and X; no quarter turns if they differ."""
    step = 1 if crops.shape[-1] == crops.shape[-2] else 2
    turns = step * torch.randint(4 // step, (len(crops),), generator=generator)
    flips = torch.randint(2, (len(crops),), generator=generator)
    return torch.stack(
        [
            (crop.flip(-1) if flip else crop).rot90(turn, (-2, -1))
            for crop, turn, flip in zip(crops, turns.tolist(), flips.tolist(), strict=True)
        ]
    )


def anneal_lr(optimisers: Iterable[torch.optim.Optimizer], progress: float, cooling: float, halvings: int = 0) -> None:
    """Lower the step size linearly to 2 % over the last `cooling` of the steps; `progress` is the share done.

    Or halve it so many times, at even distances.
    """
    late = max(0.0, progress - 1 + cooling) / cooling if cooling else 0.0
    halved = 0.5 ** min(int(progress * (halvings + 1)), halvings)
    _slow(optimisers, (1 - 0.98 * late) * halved)


def anneal_lr_cosine(optimisers: Iterable[torch.optim.Optimizer], progress: float) -> None:
    """Lower the step size to 0 along half a wave of a cosine; `progress` is the share of the steps done."""
    _slow(optimisers, 0.5 + 0.5 * math.cos(math.pi * progress))


def _slow(optimisers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * factor


def match_mean(restored: Tensor, noisy: Tensor, valid: Tensor) -> Tensor:
    """Restored pixels `(C, *space)` with the mean of the noisy ones in each channel.

    That mean has almost no noise, while the brightness of what a network says jitters from step to step.
    """
    weight = valid.float() / valid.float().sum().clamp(min=1)
    missing = ((noisy - restored) * weight).flatten(1).sum(dim=1)
    return restored + missing.reshape(-1, *[1] * (noisy.dim() - 1))


def finished(title: str, steps: int, source: CropSource) -> StopReason:
    """The end of a fit that took all steps, for methods that need independent noise and pixels without gaps."""
    doubts: list[str] = []
    if is_correlated(source.correlation_length):
        doubts.append(
            f"the noise of neighbouring pixels is correlated (correlation length {source.correlation_length:.1f}, 1 if "
            f"independent): {title} takes it for structure; use inr or sampling"
        )
    unseen = 1 - float(source.valid.float().mean()) if isinstance(source, NoisyBlock) else 0.0
    if unseen > _UNSEEN:
        doubts.append(
            f"{unseen:.1%} of the pixels are without a value (masked, NaN or stuck), and those are not filled in well "
            "by this method; use inr or linr"
        )
    return StopReason(", but ".join([f"took all {steps} steps", *doubts]), warning=bool(doubts))


def variances(source: CropSource, ndim: int) -> Tensor:
    """Noise variance of each channel, `(C, 1, …)` with `ndim` axes of space, to measure residuals in.

    Channels without noise, such as a constant one, do not count: theirs is infinite, and the others' such that the
    mean over all channels is that over those with noise.
    """
    square, noisy = source.sigma.square(), source.sigma > _NOISELESS
    share = noisy.float().mean()
    square = torch.where(noisy, share * square, torch.where(share > 0, torch.inf, square))  # as they are if none has
    return square.reshape(-1, *[1] * ndim)
