"""Pretrained: apply the network that has learned from simulated scenes, or adapt it to an image first.

The network sees planes whose noise has level 1, with maps of the level where few photons weaken it, and of the
correlation length. It says the transform of the signal, not the mean of noisy transforms: see `Intensity.expected`.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from napari_pristine.image.noise import correlate, is_correlated
from napari_pristine.methods.method import Fit, NoisyBlock, StopReason
from napari_pristine.methods.pretrained import PretrainedParams
from napari_pristine.nets.residual_unet import ResidualUNet

ERROR_SCALES = "error_scales"
"""Key of the metadata of the weights with the factors for the predicted errors, see `training.calibration`."""
NOISE_KINDS = ("independent", "correlated")
"""Kinds of noise whose predicted errors have a factor each."""
FEW_PHOTONS = "few_photons"
"""The same for pixels with hardly a photon, in stabilised noise of either kind."""
WEIGHTS = files("napari_pristine").joinpath("weights", "denoiser.safetensors")
_LAPLACE = math.log(10)
"""Half the width of the 90 % interval of Laplace's distribution, in expected absolute errors."""
_PROBE = 0.3
"""Strength of the noise that is added to find out how much of it is kept, in noise levels."""
_PROBED_SIDE = 256
"""Side of the part of each plane where that is done, in pixels."""


def network(params: PretrainedParams, channels: int, space: tuple[int, ...]) -> ResidualUNet:
    """The network with the weights of the package; it takes planes one by one."""
    net = ResidualUNet()
    net.load_state_dict(shipped_weights())
    return net.eval()


@lru_cache(maxsize=1)
def error_scales() -> dict[str, float]:
    """Half the width of the 90 % interval in expected absolute errors, from the file of the weights.

    One for each kind of noise, and one for `FEW_PHOTONS`: towards that it goes as the level of the noise falls to 0.
    """
    with as_file(WEIGHTS) as path, safetensors.safe_open(path, "pt") as file:
        stored = json.loads((file.metadata() or {}).get(ERROR_SCALES, "{}"))
    return {kind: float(stored.get(kind, _LAPLACE)) for kind in (*NOISE_KINDS, FEW_PHOTONS)}


@lru_cache(maxsize=1)
def shipped_weights() -> dict[str, Tensor]:
    """The weights in the package, as 32-bit floats."""
    return {name: weight.float() for name, weight in safetensors.torch.load(WEIGHTS.read_bytes()).items()}


def fit(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams, warm: bool) -> Fit:
    """Adapt the network to the block: not yet."""
    yield from ()
    return StopReason()


def restore(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams) -> Tensor:
    """The mean of the restored orientations, `(C, *space)`."""
    return _to_pixels(predict(net, *_to_planes(block), params.orientations)[0], block)


def restore_with_error(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams) -> tuple[Tensor, Tensor]:
    """The mean of the restored orientations, and half the width of the 90 % interval of each pixel, `(C, *space)`."""
    planes, maps = _to_planes(block)
    restored, errors = predict(net, planes, maps, params.orientations)
    unit = block.sigma.reshape(-1, *[1] * (block.pixels.dim() - 1))
    scales, level = error_scales(), (1 + maps[:, :1]).clamp(0, 1)
    many, few = scales[kind_of_noise(block.correlation_length)], scales[FEW_PHOTONS]
    half_widths = (few + (many - few) * level) * errors
    return _to_pixels(restored, block), half_widths.reshape(block.pixels.shape) * unit


def kind_of_noise(correlation_length: float) -> str:
    """Kind of noise with this correlation length, one of `NOISE_KINDS`."""
    return NOISE_KINDS[is_correlated(correlation_length)]


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
    side = [min(n, _PROBED_SIDE) for n in planes.shape[2:]]
    y, x = ((n - s) // 2 for n, s in zip(planes.shape[2:], side, strict=True))
    planes, maps = (t[..., y : y + side[0], x : x + side[1]] for t in (planes, maps))
    generator = np.random.default_rng(block.seed)
    white = generator.normal(size=planes.shape).astype(np.float32)
    probe = torch.from_numpy(correlate(white, block.correlation_length)).to(planes) * (1 + maps[:, :1])
    outputs = [predict(net, p, maps, 1)[0] for p in (planes, planes + _PROBE * probe)]
    kept = (probe * (outputs[1] - outputs[0])).flatten(1).mean(dim=1) / _PROBE
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
