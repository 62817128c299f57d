"""Building blocks for training a U-Net on random crops: crops, brightness, final warnings."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from napari_pristine.image.noise import is_correlated
from napari_pristine.methods.fit_settings import DenoiserParams, TrainingParams
from napari_pristine.methods.method import CropSource, NoisyBlock, StopReason
from napari_pristine.nets.residual_unet import PlaneByPlane, pretrained_network
from napari_pristine.nets.unet import UNet, UNetConfig, small_config

Denoiser: TypeAlias = UNet | PlaneByPlane
"""A network of normalised pixels `(N, C, *space)` that restores them."""

_NOISELESS = 2e-6
"""Noise level up to which a channel counts as free of noise, such as the opacity of a screenshot."""
_INVALID = 1e-3
"""Fraction of pixels without a value above which a warning is given."""


def make_unet(params: TrainingParams, published: UNetConfig, channels: int, space: tuple[int, ...]) -> UNet:
    """Make the U-Net that the setting `unet` chooses: the small one, or the `published` one."""
    config = published if params.unet == "paper" else small_config(params.width, params.levels)
    return UNet(config, channels, len(space))


def make_denoiser(params: DenoiserParams, published: UNetConfig, channels: int, space: tuple[int, ...]) -> Denoiser:
    """Make the network that the setting `unet` chooses: a U-Net of `make_unet`, or the pretrained network."""
    if params.unet != "pretrained":
        return make_unet(params, published, channels, space)
    return PlaneByPlane(pretrained_network(), channels)


def describe_noise(net: nn.Module, source: CropSource) -> None:
    """Tell the pretrained networks in `net`, if any, the noise of the pixels that they will see."""
    length = source.correlation_length if is_correlated(source.correlation_length) else 1.0
    for part in net.modules():
        if isinstance(part, PlaneByPlane):
            part.sigma, part.correlation_length = source.sigma, torch.full_like(source.sigma[0], length)


def draw_crops(source: CropSource, params: TrainingParams, generator: torch.Generator) -> Tensor:
    """The crops of one step, `(batch, C, *sides)`."""
    crops = source.crops(params.batch, params.side, generator)
    return augment(crops, generator) if params.turns else crops


def augment(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Flip and rotate each crop `(N, C, *sides)` at random in its plane; by 180° only where Y and X differ."""
    step = 1 if crops.shape[-1] == crops.shape[-2] else 2
    turns = step * torch.randint(4 // step, (len(crops),), generator=generator)
    flips = torch.randint(2, (len(crops),), generator=generator)
    return torch.stack(
        [
            (crop.flip(-1) if flip else crop).rot90(turn, (-2, -1))
            for crop, turn, flip in zip(crops, turns.tolist(), flips.tolist(), strict=True)
        ]
    )


def match_mean(restored: Tensor, noisy: Tensor, valid: Tensor) -> Tensor:
    """Shift restored pixels `(C, *space)` to the mean of the noisy ones, channel by channel.

    The mean of the noisy pixels has almost no noise; that of a network's output changes from step to step.
    """
    weight = valid.float() / valid.float().sum().clamp(min=1)
    missing = ((noisy - restored) * weight).flatten(1).sum(dim=1)
    return restored + missing.reshape(-1, *[1] * (noisy.dim() - 1))


def check_source(title: str, source: CropSource) -> StopReason | None:
    """Return a warning if the noise is correlated or pixels are missing, both of which spoil the trained network.

    Args:
        title: Title of the method.
        source: The pixels that it was trained on.
    """
    problems: list[str] = []
    if is_correlated(source.correlation_length):
        problems.append(
            f"the noise of neighbouring pixels is correlated (correlation length {source.correlation_length:.1f}, 1 if "
            f"independent): {title} takes it for structure; use inr or sampling"
        )
    invalid = 1 - float(source.valid.float().mean()) if isinstance(source, NoisyBlock) else 0.0
    if invalid > _INVALID:
        problems.append(
            f"{invalid:.1%} of the pixels have no value (masked, NaN or stuck), and this method does not fill them in "
            "well; use inr or linr"
        )
    return StopReason("; ".join(problems), warning=True) if problems else None


def noise_variances(source: CropSource, ndim: int) -> Tensor:
    """Noise variance of each channel, `(C, 1, …)` with `ndim` axes of space, to measure residuals in.

    Channels without noise, such as a constant one, do not count: theirs is infinite, and the others' is such that the
    mean over all channels is that over those with noise.
    """
    square, noisy = source.sigma.square(), source.sigma > _NOISELESS
    fraction = noisy.float().mean()
    # if no channel has noise they stay as they are
    square = torch.where(noisy, fraction * square, torch.where(fraction > 0, torch.inf, square))
    return square.reshape(-1, *[1] * ndim)
