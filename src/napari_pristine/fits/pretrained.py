"""Pretrained: apply the network that has learned from simulated scenes, or adapt it to an image first.

The network sees planes whose noise has level 1, with maps of the level where few photons weaken it, and of the
correlation length. It says the transform of the signal, not the mean of noisy transforms: see `_expected`.

Adapting changes few numbers, the gain of each feature and the offsets (Mohan, Vincent, Manzorro, Crozier,
Fernandez-Granda & Simoncelli 2021, "Adaptive denoising via GainTuning"), by two losses. The network learns to restore
its own result, the mean of all orientations, from that result with new noise; and to predict noisy pixels from others
with independent noise, which are made by adding noise to the pixels and subtracting it from them (Pang, Zheng, Quan &
Ji 2021, "Recorrupted-to-recorrupted"). Both count for fine structure alone: brightness stays as it was, since the noise
of real detectors is not quite what it is measured to be, and its mean would be learned from that.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import as_file
from types import EllipsisType

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_pristine.device import has_bfloat16
from napari_pristine.fits.optimisation import linear_decay
from napari_pristine.image.intensity import LEVEL_SIDE, AnscombeTransform
from napari_pristine.image.noise import correlate, is_correlated
from napari_pristine.methods.method import Estimate, Fit, NoisyBlock, Step, StopReason, random_crops
from napari_pristine.methods.pretrained import PretrainedParams
from napari_pristine.nets.optimiser import Adam
from napari_pristine.nets.residual_unet import WEIGHTS, ResidualUNet, pretrained_network

ERROR_SCALES = "error_scales"
"""Key of the metadata of the weights with the factors for the predicted errors, see `training.calibration`."""
NOISE_KINDS = ("independent", "correlated")
"""Kinds of noise whose predicted errors have a factor each."""
FEW_PHOTONS = "few_photons"
"""The same for pixels with hardly a photon, in stabilised noise of either kind."""
_LAPLACE = math.log(10)
"""Half the width of the 90 % interval of Laplace's distribution, in expected absolute errors."""
_PROBE = 0.3
"""Strength of the noise that is added to find out how much of it is kept, in noise levels."""
_PROBED_SIDE, _JUDGED_SIDE = 80, 512
"""Side of the four parts of each plane where that is done, in pixels, and of the part where errors are estimated."""

_MOST_ERROR = 6.0
"""Logarithm of the largest predicted error, in noise levels: where the network sees what it has never seen, such as
structure a thousand times stronger than the noise, it may predict any."""
_ADDED = 0.5
"""Strength of the noise that is added to the noisy planes while a network is adapted, in noise levels."""
_RECORRUPTED = 0.3
"""Weight of the error of noisy pixels that are predicted from others with independent noise."""
_COARSE = 9
"""Side of the squares over which brightness is kept, in pixels."""


def network(params: PretrainedParams, channels: int, space: tuple[int, ...]) -> ResidualUNet:
    """The network with the weights of the package; it takes planes one by one."""
    return pretrained_network()


@lru_cache(maxsize=1)
def error_scales() -> dict[str, float]:
    """Half the width of the 90 % interval in expected absolute errors, from the file of the weights.

    One for each kind of noise, and one for `FEW_PHOTONS`: towards that it goes as the level of the noise falls to 0.
    """
    with as_file(WEIGHTS) as path, safetensors.safe_open(path, "pt") as file:
        stored = json.loads((file.metadata() or {}).get(ERROR_SCALES, "{}"))
    return {kind: float(stored.get(kind, _LAPLACE)) for kind in (*NOISE_KINDS, FEW_PHOTONS)}


def fit(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams, warm: bool) -> Fit:
    """Adapt the network to the block; it returns to the weights of the package if they are estimated to be better.

    Not for correlated noise, whose spectrum is known too little.
    """
    steps = params.steps_of(warm)
    if not steps:
        return StopReason()
    if is_correlated(block.correlation_length):
        return StopReason("not adapted: the noise is correlated")
    planes, maps = _to_planes(block)
    with torch.no_grad():
        clean = predict(net, planes, maps, 8)[0]
    offsets = planes.mean((2, 3), keepdim=True).expand_as(planes)
    stack = torch.cat([planes, clean, _expected(clean, block), offsets, maps], dim=1).transpose(0, 1)
    stacks = stack.chunk(len(block.pixels), dim=1)  # of each channel: part, plane, Y, X
    sides = (1, *(min(n, params.side) for n in planes.shape[2:]))
    generator, random = torch.Generator().manual_seed(block.seed), np.random.default_rng(block.seed)
    start = {name: w.detach().clone() for name, w in net.named_parameters() if not name.startswith("error.")}
    gains = {n: (torch.ones_like(w[:, :1, :1, :1]) if w.dim() > 1 else w.clone()) for n, w in start.items()}
    optimiser = Adam([gain.requires_grad_() for gain in gains.values()], betas=(0.9, 0.99))
    cooling, scale = linear_decay(1.0), (1 + _ADDED**2) ** -0.5
    try:
        for step in range(1, steps + 1):
            channel = step % len(stacks)
            crops = random_crops(stacks[channel], params.batch, sides, generator)[:, :, 0]
            noisy, target, mean, offset = (crops[:, n : n + 1] for n in range(4))
            added, new = (_noise(random, noisy, block) * (1 + crops[:, 4:5]) for _ in range(2))
            # both have noise of level 1
            seen = torch.cat([scale * (noisy + _ADDED * added - offset), mean + new - offset])
            weights = {name: start[name] * gain if gain.dim() > 1 else gain for name, gain in gains.items()}
            output = torch.func.functional_call(net, weights, (seen, crops[:, 4:].repeat(2, 1, 1, 1)))[0]
            first, second = output.chunk(2)
            first = _expected_of(first / scale + offset, block, channel)
            loss = (
                _RECORRUPTED * _fine(first - (noisy - added / _ADDED)).square().mean()
                + _fine(second + offset - target).square().mean()
                + _coarse(first - mean).square().mean()
            )
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.param_groups[0]["lr"] = params.learning_rate * cooling((step - 1) / steps)
            optimiser.step()
            with torch.no_grad():
                for name, gain in gains.items():
                    net.get_parameter(name).copy_(start[name] * gain if gain.dim() > 1 else gain)
            yield Step(step, steps, (first.detach() - noisy).square().mean())
    finally:
        shipped = pretrained_network().to(planes.device)
        if not estimated_error(net, block) < estimated_error(shipped, block):
            net.load_state_dict(shipped.state_dict())
    return StopReason()


def restore(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams) -> Tensor:
    """The mean of the restored orientations, `(C, *space)`."""
    return deque(restore_with_error(net, block, params), maxlen=1).pop().pixels


@torch.no_grad()
def restore_with_error(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams) -> Iterator[Estimate]:
    """The mean of the orientations that are restored so far, after each of them."""
    planes, maps = _to_planes(block)
    unit = block.sigma.reshape(-1, *[1] * (block.pixels.dim() - 1))
    scales, level = error_scales(), (1 + maps[:, :1]).clamp(0, 1)
    many, few = scales[kind_of_noise(block.correlation_length)], scales[FEW_PHOTONS]
    scale = few + (many - few) * level
    for done, (restored, errors) in enumerate(predictions(net, planes, maps, params.orientations), start=1):
        pixels = _to_pixels(_keep_brightness(restored, planes, block), block)
        yield Estimate(done, params.orientations, pixels, (scale * errors).reshape(block.pixels.shape) * unit)


def kind_of_noise(correlation_length: float) -> str:
    """Kind of noise with this correlation length, one of `NOISE_KINDS`."""
    return NOISE_KINDS[is_correlated(correlation_length)]


def predict(net: ResidualUNet, planes: Tensor, maps: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
    """The last of `predictions`."""
    return deque(predictions(net, planes, maps, orientations), maxlen=1).pop()


def predictions(net: ResidualUNet, planes: Tensor, maps: Tensor, orientations: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Restore planes in several orientations, one after the other.

    Args:
        net: The network.
        planes: `(N, 1, Y, X)`, with noise of level 1.
        maps: `(N, 2, Y, X)`, see `ResidualUNet`.
        orientations: How many of the eight orientations are averaged.

    Yields:
        The mean of the planes that are restored so far, and their expected absolute errors, `(N, 1, Y, X)`.
    """
    mean = planes.mean((1, 2, 3), keepdim=True)
    sums = torch.zeros_like(planes), torch.zeros_like(planes)
    for index in range(orientations):
        number = 8 * index // orientations
        turned = [_turn(t, number) for t in (planes - mean, maps)]
        # the error of the shorter numbers is 0.005 noise levels, and they take half the time
        with torch.autocast(planes.device.type, torch.bfloat16, enabled=has_bfloat16(planes.device)):
            outputs = net(*turned)
        for total, output in zip(sums, outputs, strict=True):
            total += _turn_back(output, number)
        restored, errors = (total / (index + 1) for total in sums)
        yield restored + mean, errors.clamp(max=_MOST_ERROR).exp()


def noise_kept(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams, half_widths: Tensor) -> Tensor:
    """Covariance of the noise and the restored pixels in noise variances, `(C, *space)`.

    The covariance of the noise and the best estimate of a pixel is the variance of its error (Miyasawa 1961), so it
    follows the square of the predicted error. How much it is on average, a random probe tells (Ramani, Blu & Unser
    2008), which is correlated as the noise is.

    Args:
        net: The network.
        block: The block.
        params: Settings of the method.
        half_widths: Half the width of the 90 % interval of each pixel, in the units of the pixels, `(C, *space)`; NaN
            in tiles that are not restored, as the job was ended early: they keep all of their noise.
    """
    planes, maps = _to_planes(block)
    squared = (half_widths / block.sigma.reshape(-1, *[1] * (block.pixels.dim() - 1))).reshape(planes.shape).square()
    places = [(y, x) for y in (0.25, 0.75) for x in (0.25, 0.75)]
    parts = [_part(planes.shape, _PROBED_SIDE, place) for place in places]
    probe, _, _, outputs = _probe(net, block, *(torch.cat([t[part] for part in parts]) for t in (planes, maps)))
    expected = torch.cat([squared[part] for part in parts])
    found = (probe * (outputs[1] - outputs[0]) / _PROBE).where(expected.isfinite(), torch.nan)
    count = len(block.pixels)
    found, expected = (t.reshape(len(parts), count, -1).nanmean(dim=(0, 2)) for t in (found, expected))
    scale = (found / expected.clamp(min=1e-12)).repeat_interleave(len(planes) // count).reshape(-1, 1, 1, 1)
    # by its level, not by its variance: single photons pass less easily than a probe that is as weak as their noise
    kept = (scale * squared / (1 + maps[:, :1])).clamp(0, 1)
    return kept.nan_to_num(1.0).reshape(block.pixels.shape)


@torch.no_grad()
def estimated_error(net: ResidualUNet, block: NoisyBlock) -> float:
    """Unbiased estimate of the mean squared error in noise variances, from the noisy image alone (Stein 1981)."""
    planes, maps = _to_planes(block)
    part = _part(planes.shape, _JUDGED_SIDE, (0.5, 0.5))
    probe, noisy, level, outputs = _probe(net, block, planes[part], maps[part])
    expected = [_expected(output, block) for output in outputs]
    kept = probe * (expected[1] - expected[0]) / _PROBE
    return float(((expected[0] - noisy).square() - level.square() + 2 * kept).mean())


def _part(shape: Sequence[int], side: int, place: tuple[float, float]) -> tuple[slice | EllipsisType, ...]:
    """A square of planes of this shape; `place` along Y and X is 0 at one border, 1 at the other."""
    slices = []
    for length, fraction in zip(shape[-2:], place, strict=True):
        start = round(fraction * (length - min(length, side)))
        slices.append(slice(start, start + min(length, side)))
    return ..., *slices


def _probe(
    net: ResidualUNet, block: NoisyBlock, planes: Tensor, maps: Tensor
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Restore planes of a block, or a part of them, without and with a probe added to their noise.

    Returns:
        The probe, the noisy planes, their noise level, and both restored, each `(N, 1, Y, X)`.
    """
    level = 1 + maps[:, :1]
    probe = _noise(np.random.default_rng(block.seed), planes, block) * level
    both = predict(net, torch.cat([planes, planes + _PROBE * probe]), torch.cat([maps, maps]), 1)[0]
    return probe, planes, level, list(both.chunk(2))


def _to_planes(block: NoisyBlock) -> tuple[Tensor, Tensor]:
    """Planes of a block with noise of level 1, and the maps that describe it."""
    space = block.pixels.shape[1:]
    planes = (block.pixels / block.sigma.reshape(-1, *[1] * len(space))).reshape(-1, 1, *space[-2:])
    levels = []
    for intensity, channel in zip(block.intensities, block.pixels, strict=True) if block.intensities else ():
        pixels = channel.reshape(-1, 1, *space[-2:])
        level = torch.ones_like(pixels)
        if transform := intensity.anscombe:  # as in `Intensity.level`
            signal = _signal(transform, pixels * intensity.std + intensity.mean)
            margin = LEVEL_SIDE // 2
            around = functional.avg_pool2d(functional.pad(signal, (margin,) * 4, "replicate"), LEVEL_SIDE, 1)
            level = interpolate(around, *transform.level_table)
        levels.append(level)
    level = torch.cat(levels) if levels else torch.ones_like(planes)
    length = block.correlation_length if is_correlated(block.correlation_length) else 1.0
    return planes, torch.cat([level - 1, torch.full_like(planes, length - 1)], dim=1)


def _signal(transform: AnscombeTransform, transformed: Tensor) -> Tensor:
    """Signal in photons with this transform."""
    return transformed.clamp(min=0).square() / 4 - 0.375 - transform.read_photons**2


def _keep_brightness(restored: Tensor, noisy: Tensor, block: NoisyBlock) -> Tensor:
    """Shift the light of restored planes `(N, 1, Y, X)` to the mean of the noisy ones, channel by channel.

    The mean of the noisy planes has almost no noise; with few photons, that of the network may be off by a fifth.
    """
    weight = block.valid.float().reshape(-1, 1, *restored.shape[-2:])
    weight = weight / weight.sum().clamp(min=1)
    channels = []
    parts = zip(restored.chunk(len(block.pixels)), noisy.chunk(len(block.pixels)), strict=True)
    for number, (mine, theirs) in enumerate(parts):
        transform = block.intensities[number].anscombe if block.intensities else None
        if transform is None:
            channels.append(mine + ((theirs - mine) * weight).sum())
            continue
        scale, mean = block.sigma[number] * block.intensities[number].std, block.intensities[number].mean
        signal, seen = (_signal(transform, planes * scale + mean) for planes in (mine, theirs))
        signal = signal + ((seen - signal) * weight).sum()
        root = 2 * (signal + 0.375 + transform.read_photons**2).clamp(min=0).sqrt()
        channels.append((root - mean) / scale)
    return torch.cat(channels)


def _to_pixels(planes: Tensor, block: NoisyBlock) -> Tensor:
    """Turn restored planes into pixels `(C, *space)`."""
    expected = _expected(planes, block).reshape(block.pixels.shape)
    return expected * block.sigma.reshape(-1, *[1] * (expected.dim() - 1))


def _noise(random: np.random.Generator, like: Tensor, block: NoisyBlock) -> Tensor:
    """Noise of level 1 that is correlated as that of a block is."""
    white = random.normal(size=like.shape).astype(np.float32)
    return torch.from_numpy(correlate(white, block.correlation_length)).to(like)


def _expected(planes: Tensor, block: NoisyBlock) -> Tensor:
    """Convert restored planes `(N, 1, Y, X)`, which stand for a signal, to the mean of noisy planes with that signal.

    Only operations that torch can export.
    """
    channels = planes.chunk(len(block.pixels))
    return torch.cat([_expected_of(channel, block, number) for number, channel in enumerate(channels)])


def _expected_of(planes: Tensor, block: NoisyBlock, channel: int) -> Tensor:
    """The same for planes of one channel."""
    transform = block.intensities[channel].anscombe if block.intensities else None
    if transform is None:
        return planes
    intensity, (expected, photons) = block.intensities[channel], transform.inverse_table
    scale = block.sigma[channel] * intensity.std
    signal = _signal(transform, planes * scale + intensity.mean)
    return (interpolate(signal, photons, expected) - intensity.mean) / scale


def _coarse(planes: Tensor) -> Tensor:
    """Mean over squares of planes `(N, 1, Y, X)`."""
    return functional.avg_pool2d(planes, _COARSE, 1, _COARSE // 2, count_include_pad=False)


def _fine(planes: Tensor) -> Tensor:
    """Planes without their mean over squares."""
    return planes - _coarse(planes)


def interpolate(values: Tensor, positions: NDArray[np.float64], results: NDArray[np.float64]) -> Tensor:
    """Linear interpolation in a table, as `numpy.interp`.

    Args:
        values: Where.
        positions: Ascending.
        results: The value at each of them.
    """
    x, y = (torch.from_numpy(column.astype(np.float32)).to(values.device) for column in (positions, results))
    upper = torch.searchsorted(x, values.contiguous()).clamp(1, len(x) - 1)
    low, high = x[upper - 1], x[upper]
    weight = ((values - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    return torch.lerp(y[upper - 1], y[upper], weight)


def _turn(planes: Tensor, number: int) -> Tensor:
    """Turn planes to one of their eight orientations."""
    turned = planes.rot90(number // 2, (-2, -1))
    return turned.flip(-1) if number % 2 else turned


def _turn_back(planes: Tensor, number: int) -> Tensor:
    """Undo `_turn`."""
    return (planes.flip(-1) if number % 2 else planes).rot90(-(number // 2), (-2, -1))
