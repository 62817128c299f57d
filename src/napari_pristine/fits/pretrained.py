"""Pretrained: apply the network that has learned from simulated scenes, or adapt it to an image first.

The network sees planes whose noise has level 1, with maps of the level where few photons weaken it, and of the
correlation length. It says the transform of the signal, not the mean of noisy transforms: see `Intensity.expected`.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from napari_pristine.image.noise import correlate, is_correlated
from napari_pristine.methods.method import Fit, NoisyBlock, StopReason
from napari_pristine.methods.pretrained import PretrainedParams
from napari_pristine.nets.residual_unet import ResidualUNet

_PROBE = 0.3
"""Strength of the noise that is added to find out how much of it is kept, in noise levels."""
_PROBED_SIDE = 80
"""Side of the four parts of each plane where that is done, in pixels."""


def network(params: PretrainedParams, channels: int, space: tuple[int, ...]) -> ResidualUNet:
    """The network with the weights of the package; it takes planes one by one."""
    net = ResidualUNet()
    net.load_state_dict(shipped_weights())
    return net.eval()


@lru_cache(maxsize=1)
def shipped_weights() -> dict[str, Tensor]:
    """The weights in the package, as 32-bit floats."""
    data = files("napari_pristine").joinpath("weights", "denoiser.safetensors").read_bytes()
    return {name: weight.float() for name, weight in safetensors.torch.load(data).items()}


def fit(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams, warm: bool) -> Fit:
    """Adapt the network to the block: not yet."""
    yield from ()
    return StopReason()


def restore(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams) -> Tensor:
    """The mean of the restored orientations, `(C, *space)`."""
    return _to_pixels(predict(net, *_to_planes(block), params.orientations)[0], block)


def predict(net: ResidualUNet, planes: Tensor, maps: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
    """Restore planes in several orientations.

    Args:
        net: The network.
        planes: `(N, 1, Y, X)`, with noise of level 1.
        maps: `(N, 2, Y, X)`, see `ResidualUNet`.
        orientations: How many of the eight orientations are averaged.

    Returns:
        Restored planes and their expected absolute errors, `(N, 1, Y, X)`.
    """
    mean = planes.mean((1, 2, 3), keepdim=True)
    restored, errors = torch.zeros_like(planes), torch.zeros_like(planes)
    for number in range(0, 8, 8 // orientations):
        turned = [_turn(t, number) for t in (planes - mean, maps)]
        for total, output in zip((restored, errors), net(*turned), strict=True):
            total += _turn_back(output, number) / orientations
    return restored + mean, errors.exp()


def noise_kept(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams) -> Tensor:
    """Covariance of the noise and the restored pixels of each channel in noise variances, `(C,)`, by a random probe.

    Monte-Carlo estimate (Ramani, Blu & Unser 2008), with a probe that is correlated as the noise is.
    """
    planes, maps = _to_planes(block)
    height, width = (min(n, _PROBED_SIDE) for n in planes.shape[2:])
    white = np.random.default_rng(block.seed).normal(size=(len(planes), 1, height, width)).astype(np.float32)
    probe = torch.from_numpy(correlate(white, block.correlation_length)).to(planes)
    kept = torch.zeros_like(planes[:, 0, 0, 0])
    for y in (0.25, 0.75):
        for x in (0.25, 0.75):
            top, left = (round(p * (n - s)) for p, n, s in ((y, planes.shape[2], height), (x, planes.shape[3], width)))
            part, described = (t[..., top : top + height, left : left + width] for t in (planes, maps))
            noise = probe * (1 + described[:, :1])
            outputs = [predict(net, p, described, 1)[0] for p in (part, part + _PROBE * noise)]
            kept += (noise * (outputs[1] - outputs[0])).flatten(1).mean(dim=1) / (4 * _PROBE)
    return kept.reshape(len(block.pixels), -1).mean(dim=1)


def _to_planes(block: NoisyBlock) -> tuple[Tensor, Tensor]:
    """Planes of a block with noise of level 1, and the maps that describe it."""
    space = block.pixels.shape[1:]
    planes = (block.pixels / block.sigma.reshape(-1, *[1] * len(space))).reshape(-1, 1, *space[-2:])
    level = torch.ones_like(block.pixels)
    if block.intensities:
        pixels = block.pixels.cpu().numpy()
        levels = np.stack([i.level(p) for i, p in zip(block.intensities, pixels, strict=True)])
        level = torch.from_numpy(levels).to(block.pixels)
    length = block.correlation_length if is_correlated(block.correlation_length) else 1.0
    maps = torch.stack([level.reshape(-1, *space[-2:]) - 1, torch.full_like(planes[:, 0], length - 1)], dim=1)
    return planes, maps


def _to_pixels(planes: Tensor, block: NoisyBlock) -> Tensor:
    """Turn restored planes into pixels `(C, *space)`."""
    pixels = planes.reshape(block.pixels.shape) * block.sigma.reshape(-1, *[1] * (block.pixels.dim() - 1))
    if not any(intensity.anscombe for intensity in block.intensities):
        return pixels
    converted = [i.expected(p) for i, p in zip(block.intensities, pixels.cpu().numpy(), strict=True)]
    return torch.from_numpy(np.stack(converted)).to(block.pixels)


def _turn(planes: Tensor, number: int) -> Tensor:
    """Turn planes to one of their eight orientations."""
    turned = planes.rot90(number // 2, (-2, -1))
    return turned.flip(-1) if number % 2 else turned


def _turn_back(planes: Tensor, number: int) -> Tensor:
    """Undo `_turn`."""
    return (planes.flip(-1) if number % 2 else planes).rot90(-(number // 2), (-2, -1))
