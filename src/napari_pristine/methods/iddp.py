"""IDDP: a network learns to restore what it has restored already, made noisy anew by its own residual.

After Lin, Zhuang, Ding, Zeng, Huang, Tu & Paisley (2023), "Self-supervised image denoising using implicit deep denoiser
prior", AAAI. The residual of the noisy image, with random signs, is noise of the right strength everywhere; a weak pull
towards the blurred image keeps the network from saying just what it sees.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from napari_pristine.methods.fit_unet import TrainingParams, anneal_lr, denoiser, draw, finished, match_mean, variances
from napari_pristine.methods.method import CropSource, Fit, Method, MethodParams, NoisyBlock, Step
from napari_pristine.methods.stopping import EARLY, StopRules
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.unet import UNet, noise2grad_plan
from napari_pristine.settings import setting

_MEMORY = 0.95
"""Of the running mean of the residual, which differs from crop to crop."""
_TOLERANCE = 0.05
"""Noise levels by which the residual may leave the best it was."""


class IddpParams(TrainingParams, MethodParams):
    """Learns from the noisy images alone; for noise that is independent from pixel to pixel."""

    stabilise: bool = setting(True, "Make the noise of photons equally strong everywhere before learning.")
    hot_pixels: bool = setting(True, "Take single pixels that outshine all around them for faults, and fill them.")
    refine: bool = setting(True, "Return to the result what the noisy image holds of the structures found.")
    stop_at: float = setting(
        0.0,
        "Stop when the residual is this strong, or no longer falls; 0 takes all steps.",
        unit="noise levels",
        ge=0,
        le=10,
    )
    keep_best: bool = setting(
        True,
        "Return to the network whose residual was closest to the noise level, if the fit leaves it.",
        advanced=True,
    )
    blur_weight: float = setting(0.005, "Weight of the likeness to the blurred image (α).", ge=0, le=10)
    renoised_weight: float = setting(
        1.0, "Weight of restoring what was made noisy anew (β).", ge=0, le=10, advanced=True
    )
    blur: int = setting(
        5, "Side of the squares that the blur averages over.", unit="pixels", ge=3, le=15, advanced=True
    )
    clamp: bool = setting(False, "Keep what is made noisy anew within the range of the noisy image.", advanced=True)
    stop_gradient: bool = setting(True, "Do not learn from how the first result could ease the second.", advanced=True)
    momentum: float = setting(0.9, "Memory of Adam for gradients (β₁).", ge=0, lt=1, advanced=True)


def network(params: IddpParams, channels: int, space: tuple[int, ...]) -> EmaModel[UNet]:
    """A U-Net for any size."""
    return EmaModel(denoiser(params, noise2grad_plan(params.width, params.levels), channels, space))


def fit(net: EmaModel[UNet], source: CropSource, params: IddpParams, warm: bool) -> Fit:
    """Minimise α·|F(y) − blurred y|² + β·|F(F(y) ± residual) − F(y)|²."""
    generator = torch.Generator().manual_seed(source.seed)
    optimiser = torch.optim.Adam(net.model.parameters(), lr=params.learning_rate, betas=(params.momentum, 0.999))
    steps = params.steps_of(warm)
    rules = StopRules(params.stop_at, held_out=False, memory=_MEMORY)
    best = _Best(net)
    net.train()
    try:
        for step in range(1, steps + 1):
            crops = draw(source, params, generator)
            anneal_lr([optimiser], (step - 1) / steps, params.cooling)
            optimiser.zero_grad(set_to_none=True)
            likeness, again, residual = losses(net.model, crops, signs(crops, generator), params)
            torch.autograd.backward(params.blur_weight * likeness + params.renoised_weight * again)
            optimiser.step()
            net.update(params.memory(step))
            square = (residual.square() / variances(source, crops.dim() - 2)).mean()
            if stop := rules.met(step, torch.stack([square, torch.zeros_like(square)])):
                return stop
            if params.keep_best:
                best.watch(step, square)
            yield Step(step, steps, square)
        return finished("IDDP", steps, source)
    finally:
        best.bring_back()


def restore(net: EmaModel[UNet], noisy: NoisyBlock, params: IddpParams) -> Tensor:
    """What the averaged network says, `(C, *space)`."""
    restored: Tensor = net.ema(noisy.pixels[None])[0]
    return match_mean(restored, noisy.pixels, noisy.valid) if params.brightness else restored


def losses(net: UNet, crops: Tensor, flips: Tensor, params: IddpParams) -> tuple[Tensor, Tensor, Tensor]:
    """Likeness of F(y) to the blurred image, error of restoring it anew, and the residual y − F(y) `(N, C, *sides)`.

    The second pass is fed with, and compared to, the first one's result as a fixed number (eq. 16 and 17): else the
    network would ease its own task, by blurring.
    """
    first = net(crops)
    residual = crops - first.detach()
    target = first.detach() if params.stop_gradient else first
    anew = target + flips * (crops - target)
    if params.clamp:
        axes = [0, *range(2, crops.dim())]
        anew = torch.minimum(torch.maximum(anew, crops.amin(axes, keepdim=True)), crops.amax(axes, keepdim=True))
    likeness = functional.mse_loss(first, blurred(crops, params.blur))
    return likeness, functional.mse_loss(net(anew), target), residual


def signs(crops: Tensor, generator: torch.Generator) -> Tensor:
    """A random sign for each element."""
    flips = 2 * torch.randint(2, crops.shape, generator=generator) - 1
    return flips.to(crops)


def blurred(pixels: Tensor, side: int) -> Tensor:
    """The mean over squares in the plane of pixels `(N, C, *space)`, mirrored at the ends."""
    planes = pixels.reshape(-1, 1, *pixels.shape[-2:])
    for axis in (-2, -1):
        n = planes.shape[axis]
        places = torch.arange(-(side // 2), n + side // 2, device=pixels.device) % max(2 * n - 2, 1)
        planes = planes.index_select(axis, torch.minimum(places, (2 * n - 2 - places).abs()))
    return functional.avg_pool2d(planes, side // 2 * 2 + 1, stride=1).reshape(pixels.shape)


class _Best:
    """Remembers the averaged network whose residual was closest to the noise level.

    A network that begins to say what it sees leaves a weaker residual, one that smooths away detail a stronger one.
    """

    def __init__(self, net: EmaModel[UNet]) -> None:
        self.net = net
        self.mean: float | None = None
        self.distance = math.inf
        self.weights: list[Tensor] = []

    def watch(self, step: int, square: Tensor) -> None:
        """Take note of the mean squared residual after a step, in noise variances."""
        value = float(square)
        self.mean = value if self.mean is None else _MEMORY * self.mean + (1 - _MEMORY) * value
        if step >= EARLY and self.now < self.distance:
            self.distance = self.now
            self.weights = [weight.detach().clone() for weight in self.net.ema.parameters()]

    @property
    def now(self) -> float:
        """Distance of the residual from the noise level, in noise levels."""
        return abs(math.sqrt(self.mean or 0.0) - 1)

    @torch.no_grad()
    def bring_back(self) -> None:
        """Return to the best network if the fit has left it for good; smaller changes are the crops' own."""
        stayed = self.now <= self.distance + _TOLERANCE  # a fit that has diverged, to NaN, has not
        if self.weights and not stayed:
            for weight, best in zip(self.net.ema.parameters(), self.weights, strict=True):
                weight.copy_(best)


IDDP = Method(
    key="iddp",
    title="IDDP denoise",
    summary="Learns from one or many noisy images to undo their own noise, shuffled; for independent noise.",
    cite="Lin, Zhuang, Ding, Zeng, Huang, Tu & Paisley (2023), Self-supervised image denoising using implicit deep "
    "denoiser prior, AAAI",
    params=IddpParams,
    presets={
        "balanced": {"steps": 600},
        "fast": {"steps": 120},
        "paper": {
            "steps": 2_000_000,
            "batch": 1,
            "side": 128,
            "turns": False,
            "unet": "paper",
            "width": 32,
            "levels": 3,
            "learning_rate": 2e-4,
            "cooling": 0.5,
            "momentum": 0.5,
            "averaging": 0.0,
            "blur_weight": 0.001,
            "clamp": True,
            "keep_best": False,
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
