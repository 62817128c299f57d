"""Sampling: a continuous function fills in the pixels that a network is not shown and is to predict.

After Quan, Zheng, Ma & Ji (CVPR 2025), "Zero-shot blind-spot image denoising via implicit neural sampling".

Each step shows the network a random part of the pixels; those that are near none of them it has to predict. The gaps
are filled with what a SIREN, fitted to the shown pixels at the same time, says there. With few pixels shown this works
for noise that is correlated from pixel to pixel; with most of them shown it is best for noise that is not.

The `paper` preset shows a tenth. The others choose by the measured reach of the noise, fit two SIRENs with a cost on
their slope to each of many overlapping patches, each to half of the pixels, and let each pixel be filled in by the one
that has not seen it, so that no noise finds its way round the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from napari_pristine.image.noise import is_correlated
from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.fit_inr import draw_pixels, mean_slope, noise_level, slope_weight
from napari_pristine.methods.fit_unet import (
    TrainingParams,
    anneal_lr,
    anneal_lr_cosine,
    augment,
    denoiser,
    match_mean,
    variances,
)
from napari_pristine.methods.method import Fit, Method, MethodParams, NoisyBlock, Step, StopReason, random_crops
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.field import Field
from napari_pristine.nets.masks import dilate, visible_mask
from napari_pristine.nets.unet import UNet, noise2noise_plan
from napari_pristine.settings import setting

_FOR_INDEPENDENT = (0.8, 0, 16)
_FOR_CORRELATED = (0.3, 1, 16)
"""Share of the pixels shown, margin and passes, by the noise."""
_OVERLAP = 16
"""Least overlap of neighbouring patches, in pixels."""


class SamplingParams(TrainingParams, MethodParams):
    """Fits a function and a network to each image at once; nothing to train beforehand."""

    steps: int = setting(400, "Optimiser steps at most.", ge=1, le=100_000)
    visible: float | None = setting(
        None, "Share of the pixels that the network is shown.", none="by the noise", gt=0, lt=1
    )
    margin: int | None = setting(
        None, "Pixels around a shown one that are not predicted.", none="by the noise", unit="pixels", ge=0, le=3
    )
    passes: int | None = setting(
        None,
        "Masks that the result is averaged over; 0 shows the network the whole picture.",
        none="by the noise",
        ge=0,
        le=10_000,
    )
    smoothness: float = setting(
        0.85, "Weight of the function's slope; it follows the measured noise.", unit="noise levels", ge=0, le=100
    )
    stabilise: bool = setting(True, "Make the noise of photons equally strong everywhere before fitting.")
    hot_pixels: bool = setting(True, "Take single pixels that outshine all around them for faults, and fill them.")
    refine: bool = setting(True, "Return to the result what the noisy image holds of the structures found.")
    loss: Literal["squared", "absolute"] = setting(
        "squared", "What is minimised; squared errors have the mean for their optimum.", advanced=True
    )
    consistency: float = setting(
        0.0, "Weight of the difference of function and network between pixels.", ge=0, le=100, advanced=True
    )
    answers: Literal["unseen", "all"] = setting(
        "unseen",
        "Which of the network's answers are averaged: of pixels that it was not shown, or of all.",
        advanced=True,
    )
    folds: int = setting(
        2, "Parts of the pixels; each is filled in by a function fitted to the others.", ge=1, le=16, advanced=True
    )
    cadence: int = setting(3, "The function takes a step in every so many of the network.", ge=1, le=100, advanced=True)
    refresh: int = setting(60, "Steps after which the gaps are filled anew.", ge=1, le=1000, advanced=True)
    patch: int | None = setting(
        96,
        "Side of the patches with a function each.",
        none="one for all",
        unit="pixels",
        ge=24,
        le=1024,
        advanced=True,
    )
    function_width: int = setting(48, "Units per layer of the function.", ge=4, le=256, advanced=True)
    function_layers: int = setting(3, "Sine layers of the function.", ge=2, le=16, advanced=True)
    frequency: float | None = setting(
        0.5,
        "Highest frequency of the function at the start.",
        none="as in the paper",
        unit="radians per pixel",
        gt=0,
        le=4,
        advanced=True,
    )
    function_batch: int | None = setting(
        512,
        "Pixels per patch and step that the function is fitted to.",
        none="all",
        unit="pixels",
        ge=64,
        advanced=True,
    )
    cosine: bool = setting(
        False, "Let the step size fall to 0 along a cosine, whatever the cooling says.", advanced=True
    )
    function_rate: float = setting(2e-3, "Step size of Adam for the function.", gt=0, le=1, advanced=True)
    dropout: float = setting(
        0.0, "Share of the values inside the published network that are dropped.", ge=0, lt=1, advanced=True
    )
    dilation: int = setting(
        1, "Spread of the published network's convolutions.", unit="pixels", ge=1, le=4, advanced=True
    )


class Sampler(nn.Module):
    """The functions that fill in, and the network that predicts."""

    def __init__(self, field: Field, denoiser: UNet) -> None:
        super().__init__()
        self.field = field
        self.denoiser = EmaModel(denoiser)


def network(params: SamplingParams, channels: int, space: tuple[int, ...]) -> Sampler:
    """A SIREN for each patch and fold, and a U-Net."""
    patches = Tiling.of(space, params.patch or max(space), _OVERLAP if params.patch else 0)
    field = Field(patches, channels, params.function_width, params.function_layers, params.frequency, params.folds)
    published = noise2noise_plan(
        channels, params.width, params.levels, dropout=params.dropout, dilation=params.dilation, start="torch"
    )
    return Sampler(field, denoiser(params, published, channels, space))


def fit(net: Sampler, noisy: NoisyBlock, params: SamplingParams, warm: bool) -> Fit:
    """Fit the functions to the pixels shown, and the network to predict those that are not."""
    task = _Task.of(noisy, params)
    adam = torch.optim.Adam(net.denoiser.model.parameters(), lr=params.learning_rate)
    function_adam = torch.optim.Adam(net.field.siren.model.parameters(), lr=params.function_rate)
    steps, residual = params.steps_of(warm), torch.ones(())
    filling = noisy.pixels
    net.train()
    for step in range(1, steps + 1):
        shown, due = task.show(), (step - 1) % params.refresh == 0
        if due and params.consistency:  # as published: function and network learn from what they say of one mask
            filling = task.filling(net.field)
        if (step - 1) % params.cadence == 0:
            clean = task.say(net.denoiser, filling, shown) if params.consistency else filling
            function_adam.zero_grad(set_to_none=True)
            for share in _fit_functions(net.field, task, shown, clean):
                if share < 1:  # a whole step may take long, and someone may wish to stop
                    yield Step(step - 1, steps, residual)
            function_adam.step()
            net.field.siren.update(params.memory(1 + step // params.cadence))
        if due and not params.consistency:
            filling = task.filling(net.field)
        adam.zero_grad(set_to_none=True)
        loss, residual = task.blind_loss(net.denoiser, filling, shown)
        torch.autograd.backward(loss)
        task.anneal_lr([adam, function_adam], step / steps)
        adam.step()
        net.denoiser.update(params.memory(step))
        yield Step(step, steps, residual)
    return StopReason(f"took all {steps} steps")


def _fit_functions(field: Field, task: _Task, shown: Tensor, clean: Tensor) -> Iterator[float]:
    """Add the gradients of the functions' loss, part by part: the share of each.

    Loss: distance to the pixels shown + consistency · distance, a fraction of a pixel further on, to what the network
    says of them + smoothness · mean slope.
    """
    params, noisy = task.params, task.noisy
    values, fitted = task.targets(field)
    fitted = fitted * field.cut(shown[None].float())
    said = field.cut(clean) if params.consistency else values
    for drawn, share in draw_pixels(field, params.function_batch, task.generator):
        pixels = drawn.to(values.device)
        index: Any = (slice(None), *pixels.unbind(-1))
        weight = fitted[index] / fitted.mean().clamp(min=1e-6)
        here = field(pixels)
        loss = (task.distance(here - values[index]) * weight).mean()
        if params.consistency:
            near = field(pixels + torch.rand(pixels.shape, generator=task.generator).to(here))
            loss = loss + params.consistency * (task.distance(near - said[index]) * weight).mean()
        if params.smoothness:
            loss = loss + params.smoothness * slope_weight(noisy) * mean_slope(here, noise_level(noisy))
        # times the copies: each function sees the gradient that it would see alone
        torch.autograd.backward(share * len(here) * loss)
        yield share


def restore(net: Sampler, noisy: NoisyBlock, params: SamplingParams) -> Tensor:
    """What the network predicts, averaged over masks or seeing the whole picture, `(C, *space)`."""
    task = _Task.of(noisy, params)
    restored = task.predict(net.denoiser, task.filling(net.field))
    return match_mean(restored, noisy.pixels, noisy.valid) if params.brightness else restored


@dataclass(frozen=True, eq=False)
class _Task:
    """One block and what is to be done with it.

    Attributes:
        noisy: The block.
        params: The settings.
        generator: Where the random numbers come from.
        visible: Share of the pixels that the network is shown.
        margin: Pixels around a shown one that are not predicted.
        passes: Masks that the result is averaged over.
        fold: Which part of the pixels each belongs to, `(*space)`.
    """

    noisy: NoisyBlock
    params: SamplingParams
    generator: torch.Generator
    visible: float
    margin: int
    passes: int
    fold: Tensor

    @classmethod
    def of(cls, noisy: NoisyBlock, params: SamplingParams) -> _Task:
        """The task for a block; what the settings leave open follows the noise."""
        generator = torch.Generator().manual_seed(noisy.seed)
        fold = torch.randint(params.folds, noisy.valid.shape, generator=generator).to(noisy.valid.device)
        visible, margin, passes = _FOR_CORRELATED if is_correlated(noisy.correlation_length) else _FOR_INDEPENDENT
        return cls(
            noisy,
            params,
            generator,
            visible if params.visible is None else params.visible,
            margin if params.margin is None else params.margin,
            passes if params.passes is None else params.passes,
            fold,
        )

    def show(self) -> Tensor:
        """A new random choice of the pixels to show, `(*space)`."""
        return visible_mask(self.fold.shape, self.visible, self.generator).to(self.fold.device) & self.noisy.valid

    def targets(self, field: Field) -> tuple[Tensor, Tensor]:
        """Pixels and whether they are fitted by each of the functions, both cut into patches."""
        parts = [self.noisy.valid & ((self.fold != i) | (self.params.folds == 1)) for i in range(self.params.folds)]
        one = len(field.patches.corners)
        fitted = [field.cut(part[None].float())[i * one : (i + 1) * one] for i, part in enumerate(parts)]
        return field.cut(self.noisy.pixels), torch.cat(fitted)

    def filling(self, field: Field) -> Tensor:
        """What the functions say, each where it was not fitted, `(C, *space)`."""
        said = field.renders()
        return said.gather(0, self.fold.expand(1, *said.shape[1:]))[0]

    def blind_loss(self, net: EmaModel[UNet], filling: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Mean error where the network is not shown the pixels, and its mean square in noise variances."""
        pixels, count = self.noisy.pixels, len(self.noisy.pixels)
        stack = torch.cat([pixels, filling, shown[None].to(pixels), self.noisy.valid[None].to(pixels)])
        sides = Tiling.of(tuple(self.fold.shape), self.params.side, 0).side
        crops = random_crops(stack, self.params.batch, sides, self.generator)
        crops = augment(crops, self.generator) if self.params.turns else crops
        target, filled, seen, valid = torch.split(crops, [count, count, 1, 1], dim=1)
        predicted = net(torch.where(seen > 0, target, filled), self._dropping)
        asked = (1 - dilate(seen > 0, self.margin).to(pixels)) * valid
        error = predicted - target
        share = (asked.sum() * count).clamp(min=1)
        residual = (error.detach().square() / variances(self.noisy, pixels.dim() - 1) * asked).sum() / share
        return (self.distance(error) * asked).sum() / share, residual

    @torch.no_grad()
    def say(self, net: EmaModel[UNet], filling: Tensor, shown: Tensor) -> Tensor:
        """What the network that learns makes of the picture with this mask, `(C, *space)`."""
        said: Tensor = net.model(torch.where(shown, self.noisy.pixels, filling)[None], self._dropping)[0]
        return said

    @torch.no_grad()
    def predict(self, net: EmaModel[UNet], filling: Tensor) -> Tensor:
        """What the network makes of the picture, `(C, *space)`: the mean over masks of what it says where not shown."""
        pixels = self.noisy.pixels
        if not self.passes:
            restored: Tensor = net.ema(torch.where(self.noisy.valid, pixels, filling)[None])[0]
            return restored
        unseen, everywhere = torch.zeros_like(pixels), torch.zeros_like(pixels)
        times = torch.zeros_like(pixels[:1])
        for _ in range(self.passes):
            shown = self.show()
            said = net.ema(torch.where(shown, pixels, filling)[None], self._dropping)[0]
            asked = (~dilate(shown, self.margin))[None].to(pixels)
            unseen, everywhere, times = unseen + said * asked, everywhere + said, times + asked
        mean = everywhere / self.passes
        return mean if self.params.answers == "all" else torch.where(times > 0, unseen / times.clamp(min=1), mean)

    def anneal_lr(self, optimisers: list[torch.optim.Optimizer], progress: float) -> None:
        """Lower the step size as the settings say; `progress` is the share of the steps done."""
        if self.params.cosine:
            anneal_lr_cosine(optimisers, progress)
        else:
            anneal_lr(optimisers, progress, self.params.cooling)

    def distance(self, error: Tensor) -> Tensor:
        """The loss of single values."""
        return error.square() if self.params.loss == "squared" else error.abs()

    @property
    def _dropping(self) -> torch.Generator | None:
        return self.generator if self.params.dropout else None


SAMPLING = Method(
    key="sampling",
    title="Neural sampling denoise",
    summary="Predicts hidden pixels from distant ones and a continuous function; for independent and correlated noise.",
    cite="Quan, Zheng, Ma & Ji (2025), Zero-shot blind-spot image denoising via implicit neural sampling, CVPR",
    params=SamplingParams,
    presets={
        "balanced": {},
        "fast": {"steps": 100},
        "paper": {
            "steps": 1200,
            "visible": 0.1,
            "margin": 1,
            "passes": 400,
            "smoothness": 0.0,
            "stabilise": False,
            "refine": False,
            "hot_pixels": False,
            "warm_start": False,
            "loss": "absolute",
            "consistency": 1.0,
            "answers": "all",
            "folds": 1,
            "cadence": 1,
            "refresh": 1,
            "patch": None,
            "function_width": 32,
            "function_layers": 6,
            "frequency": None,
            "function_batch": None,
            "function_rate": 1e-4,
            "unet": "paper",
            "width": 48,
            "levels": 5,
            "dropout": 0.5,
            "dilation": 2,
            "learning_rate": 4e-4,
            "cosine": True,
            "batch": 1,
            "side": 4096,
            "turns": False,
            "averaging": 0.0,
            "brightness": False,
            "tile": 512,
        },
    },
    network=network,
    fit=fit,
    restore=restore,
)
