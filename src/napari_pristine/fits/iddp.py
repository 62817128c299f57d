"""IDDP: a network learns to restore its own output, made noisy again by its own residual.

After Lin, Zhuang, Ding, Zeng, Huang, Tu & Paisley (2023), "Self-supervised image denoising using implicit deep denoiser
prior", AAAI. The residual of the noisy image, with random signs, is noise of the right strength everywhere; a weak pull
towards the blurred image keeps the network from the identity.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from napari_pristine.fits.optimisation import Optimisation, linear_decay
from napari_pristine.fits.stopping import EARLY, StopRules
from napari_pristine.fits.unets import (
    Denoiser,
    check_source,
    describe_noise,
    draw_crops,
    make_denoiser,
    match_mean,
    noise_variances,
)
from napari_pristine.methods.iddp import IddpParams
from napari_pristine.methods.method import CropSource, Fit, NoisyBlock, Step
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.optimiser import Adam
from napari_pristine.nets.unet import noise2grad_config

_DECAY = 0.95
"""Decay of the running mean of the residual, which differs from crop to crop."""
_TOLERANCE = 0.05
"""Noise levels by which the residual may end farther from the noise level than the best one."""


def network(params: IddpParams, channels: int, space: tuple[int, ...]) -> EmaModel[Denoiser]:
    """A U-Net for any size."""
    return EmaModel(make_denoiser(params, noise2grad_config(params.width, params.levels), channels, space))


def fit(net: EmaModel[Denoiser], source: CropSource, params: IddpParams, warm: bool) -> Fit:
    """Minimise α·|F(y) − blurred y|² + β·|F(F(y) ± residual) − F(y)|²."""
    generator = torch.Generator().manual_seed(source.seed)
    optimisation = Optimisation(
        net,
        Adam(net.model.parameters(), lr=params.learning_rate, betas=(params.momentum, 0.999)),
        schedule=linear_decay(params.cooling, params.final_rate),
        averaging=params.averaging,
        mixed_precision=params.mixed_precision,
    )
    steps = params.steps_of(warm)
    rules = StopRules(params.stop_at, held_out=False, decay=_DECAY)
    best = BestNetwork(net)
    describe_noise(net, source)
    net.train()
    try:
        for step in range(1, steps + 1):
            crops = draw_crops(source, params, generator)
            optimisation.zero_grad()
            with optimisation.autocast():
                blur_loss, renoised_loss, residual = losses(net.model, crops, random_signs(crops, generator), params)
            torch.autograd.backward(params.blur_weight * blur_loss + params.renoised_weight * renoised_loss)
            optimisation.step((step - 1) / steps)
            square = (residual.square() / noise_variances(source, crops.dim() - 2)).mean()
            if reason := rules.check(step, torch.stack([square, torch.zeros_like(square)])):
                return reason
            if params.keep_best:
                best.update(step, square)
            yield Step(step, steps, square)
        return check_source("IDDP", source) or rules.all_steps_taken(steps)
    finally:
        best.load_best()


def restore(net: EmaModel[Denoiser], block: NoisyBlock, params: IddpParams) -> Tensor:
    """The output of the averaged network, `(C, *space)`."""
    describe_noise(net, block)
    restored: Tensor = net.ema(block.pixels[None])[0]
    return match_mean(restored, block.pixels, block.valid) if params.brightness else restored


def losses(net: Denoiser, crops: Tensor, signs: Tensor, params: IddpParams) -> tuple[Tensor, Tensor, Tensor]:
    """The two losses and the residual.

    The second pass is fed with, and compared to, the first output as a constant (eq. 16 and 17): else the network
    would make its own task easier, by blurring.

    Args:
        net: F.
        crops: y, `(N, C, *sides)`.
        signs: A random sign for each element.
        params: The settings.

    Returns:
        Squared distance of F(y) to the blurred y, squared error of F(F(y) ± residual), and the residual y − F(y).
    """
    first = net(crops)
    residual = crops - first.detach()
    target = first.detach() if params.stop_gradient else first
    renoised = target + signs * (crops - target)
    if params.clamp:
        axes = [0, *range(2, crops.dim())]
        low, high = crops.amin(axes, keepdim=True), crops.amax(axes, keepdim=True)
        renoised = torch.minimum(torch.maximum(renoised, low), high)
    blur_loss = functional.mse_loss(first, box_blur(crops, params.blur))
    return blur_loss, functional.mse_loss(net(renoised), target), residual


def random_signs(crops: Tensor, generator: torch.Generator) -> Tensor:
    """A random sign for each element, on the device of the crops."""
    signs = 2 * torch.randint(2, crops.shape, generator=generator) - 1
    return signs.to(crops)


def box_blur(pixels: Tensor, side: int) -> Tensor:
    """The mean over squares in the plane of pixels `(N, C, *space)`, mirrored at the border."""
    planes = pixels.reshape(-1, 1, *pixels.shape[-2:])
    for axis in (-2, -1):
        n = planes.shape[axis]
        index = torch.arange(-(side // 2), n + side // 2, device=pixels.device) % max(2 * n - 2, 1)
        planes = planes.index_select(axis, torch.minimum(index, (2 * n - 2 - index).abs()))
    return functional.avg_pool2d(planes, side // 2 * 2 + 1, stride=1).reshape(pixels.shape)


class BestNetwork:
    """The averaged network whose residual was closest to the noise level.

    A network that begins to copy its input leaves a weaker residual, one that smooths away detail a stronger one.
    """

    def __init__(self, net: EmaModel[Denoiser]) -> None:
        self.net = net
        self.mean: float | None = None
        self.distance = math.inf
        self.weights: list[Tensor] = []

    def update(self, step: int, square: Tensor) -> None:
        """Keep the weights after a step if its mean squared residual, in noise variances, is the best so far."""
        value = float(square)
        self.mean = value if self.mean is None else _DECAY * self.mean + (1 - _DECAY) * value
        if step >= EARLY and self.current_distance < self.distance:
            self.distance = self.current_distance
            self.weights = [weight.detach().clone() for weight in self.net.ema.parameters()]

    @property
    def current_distance(self) -> float:
        """Distance of the running residual from the noise level, in noise levels."""
        return abs(math.sqrt(self.mean or 0.0) - 1)

    @torch.no_grad()
    def load_best(self) -> None:
        """Return to the best network if the fit has left it for good; smaller changes are due to the random crops."""
        close = self.current_distance <= self.distance + _TOLERANCE  # false for a fit that has diverged to NaN
        if self.weights and not close:
            for weight, best in zip(self.net.ema.parameters(), self.weights, strict=True):
                weight.copy_(best)
