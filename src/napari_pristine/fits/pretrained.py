"""Pretrained: apply the network that has learned from simulated scenes, or adapt it to an image first.

The network sees planes whose noise has level 1, with maps of the level where few photons weaken it, and of the
correlation length. It says the transform of the signal, not the mean of noisy transforms: see `Intensity.expected`.

Adapting changes few numbers, the gain of each feature and the offsets (Mohan, Vincent, Manzorro, Crozier,
Fernandez-Granda & Simoncelli 2021, "Adaptive denoising via GainTuning"). The loss needs no clean image: noise is added
to the noisy planes, the same noise is subtracted from them, and the network learns to predict the second from the
first, whose noise is independent of it (Pang, Zheng, Quan & Ji 2021, "Recorrupted-to-recorrupted").
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_pristine.fits.optimisation import linear_decay
from napari_pristine.image.noise import correlate, is_correlated
from napari_pristine.methods.method import Fit, NoisyBlock, Step, StopReason, random_crops
from napari_pristine.methods.pretrained import PretrainedParams
from napari_pristine.nets.residual_unet import ResidualUNet, pretrained_network

_PROBE = 0.3
"""Strength of the noise that is added to find out how much of it is kept, in noise levels."""
_PROBED_SIDE, _JUDGED_SIDE = 256, 512
"""Side of the part of each plane where that is done, in pixels, and of the part where errors are estimated."""
_ADDED = 0.5
"""Strength of the noise that is added to what a network sees while it is adapted, in noise levels."""


def network(params: PretrainedParams, channels: int, space: tuple[int, ...]) -> ResidualUNet:
    """The network with the weights of the package; it takes planes one by one."""
    return pretrained_network()


def fit(net: ResidualUNet, block: NoisyBlock, params: PretrainedParams, warm: bool) -> Fit:
    """Adapt the network to the block; it returns to the weights of the package unless they are estimated to be worse.

    The noise of neighbouring pixels must be independent: of correlated noise, the spectrum is known too little.
    """
    steps = params.steps_of(warm)
    if not steps:
        return StopReason()
    if is_correlated(block.correlation_length):
        return StopReason("not adapted: the noise is correlated")
    planes, maps = _to_planes(block)
    mean, valid = planes.mean((2, 3), keepdim=True), block.valid.expand(block.pixels.shape).reshape(planes.shape)
    stack = torch.cat([planes, maps, mean.expand_as(planes), valid.to(planes)], dim=1)
    stack = stack.reshape(len(block.pixels), -1, *stack.shape[1:]).transpose(1, 2)  # channel, part, plane, Y, X
    sides = (1, *(min(n, params.side) for n in planes.shape[2:]))
    generator, random = torch.Generator().manual_seed(block.seed), np.random.default_rng(block.seed)
    start = {name: w.detach().clone() for name, w in net.named_parameters() if not name.startswith("error.")}
    gains = {n: (torch.ones_like(w[:, :1, :1, :1]) if w.dim() > 1 else w.clone()) for n, w in start.items()}
    optimiser = torch.optim.Adam([gain.requires_grad_() for gain in gains.values()], betas=(0.9, 0.99))
    cooling, scale = linear_decay(1.0), (1 + _ADDED**2) ** -0.5
    try:
        for step in range(1, steps + 1):
            channel = step % len(stack)
            crops = random_crops(stack[channel], params.batch, sides, generator)[:, :, 0]
            noisy, level, average, counts = crops[:, :1], 1 + crops[:, 1:2], crops[:, 3:4], crops[:, 4:]
            noise = torch.from_numpy(random.normal(size=noisy.shape).astype(np.float32)).to(noisy) * level
            weights = {name: start[name] * gain if gain.dim() > 1 else gain for name, gain in gains.items()}
            seen = scale * (noisy + _ADDED * noise - average)  # its noise has level 1 again
            restored = torch.func.functional_call(net, weights, (seen, crops[:, 1:3]))[0] / scale + average
            error = _expected(restored, block, channel) - (noisy - noise / _ADDED)
            residual = (error.square() * counts).sum() / counts.sum().clamp(min=1)
            optimiser.zero_grad()
            torch.autograd.backward(residual)
            optimiser.param_groups[0]["lr"] = params.learning_rate * cooling((step - 1) / steps)
            optimiser.step()
            with torch.no_grad():
                for name, gain in gains.items():
                    net.get_parameter(name).copy_(start[name] * gain if gain.dim() > 1 else gain)
            yield Step(step, steps, residual.detach() / (1 + _ADDED**-2))
    finally:
        shipped = pretrained_network().to(planes.device)
        if not estimated_error(net, block) < estimated_error(shipped, block):
            net.load_state_dict(shipped.state_dict())
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
    probe, _, _, outputs = _probe(net, block, _PROBED_SIDE)
    kept = (probe * (outputs[1] - outputs[0])).flatten(1).mean(dim=1) / _PROBE
    return kept.reshape(len(block.pixels), -1).mean(dim=1)


@torch.no_grad()
def estimated_error(net: ResidualUNet, block: NoisyBlock) -> float:
    """Unbiased estimate of the mean squared error in noise variances, from the noisy image alone (Stein 1981)."""
    probe, noisy, level, outputs = _probe(net, block, _JUDGED_SIDE)
    per_channel = len(noisy) // len(block.pixels)
    expected = [
        torch.cat([_expected(o, block, n) for n, o in enumerate(torch.split(output, per_channel))])
        for output in outputs
    ]
    kept = probe * (expected[1] - expected[0]) / _PROBE
    return float(((expected[0] - noisy).square() - level.square() + 2 * kept).mean())


def _probe(net: ResidualUNet, block: NoisyBlock, side: int) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Restore the centre of each plane, without and with a probe added to its noise.

    Returns:
        The probe, the noisy planes, their noise level, and both restored, each `(N, 1, Y, X)`.
    """
    planes, maps = _to_planes(block)
    sides = [min(n, side) for n in planes.shape[2:]]
    y, x = ((n - s) // 2 for n, s in zip(planes.shape[2:], sides, strict=True))
    planes, maps = (t[..., y : y + sides[0], x : x + sides[1]] for t in (planes, maps))
    white = np.random.default_rng(block.seed).normal(size=planes.shape).astype(np.float32)
    level = 1 + maps[:, :1]
    probe = torch.from_numpy(correlate(white, block.correlation_length)).to(planes) * level
    return probe, planes, level, [predict(net, p, maps, 1)[0] for p in (planes, planes + _PROBE * probe)]


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
    channels = planes.reshape(block.pixels.shape)
    expected = torch.stack([_expected(channel, block, number) for number, channel in enumerate(channels)])
    return expected * block.sigma.reshape(-1, *[1] * (expected.dim() - 1))


def _expected(restored: Tensor, block: NoisyBlock, channel: int) -> Tensor:
    """`Intensity.expected` for restored planes of a channel, with a gradient."""
    transform = block.intensities[channel].anscombe if block.intensities else None
    if transform is None:
        return restored
    intensity, sigma = block.intensities[channel], block.sigma[channel]
    expected, photons = transform.inverse_table
    transformed = restored * (sigma * intensity.std) + intensity.mean
    signal = transformed.clamp(min=0).square() / 4 - 0.375 - transform.read_photons**2
    return (interpolate(signal, photons, expected) - intensity.mean) / (sigma * intensity.std)


def interpolate(values: Tensor, positions: NDArray[np.float64], results: NDArray[np.float64]) -> Tensor:
    """Linear interpolation in a table, as `numpy.interp`, with a gradient.

    Args:
        values: Where.
        positions: Ascending.
        results: The value at each of them.
    """
    x, y = (torch.from_numpy(column.astype(np.float32)).to(values.device) for column in (positions, results))
    upper = torch.searchsorted(x, values.detach().contiguous()).clamp(1, len(x) - 1)
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
