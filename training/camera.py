"""Simulated cameras: crops of scenes become noisy pixels as the network sees them, many at once, on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_pristine.image.intensity import stabilised_level
from napari_pristine.image.noise import length_of_ratio

_TAPS = 4
"""Reach of the kernels of correlated noise, in pixels."""
_BRIGHTEST = 3.0
"""Brightness at which crops are cut; single spots of a few scenes would be a hundred times as bright as the rest."""
_RATIOS = np.linspace(-1, 5, 3001)
"""Logarithms of the ratio of powers of the noise at which its correlation length is tabulated."""
_READ = np.linspace(0, 3, 13)
_PHOTONS = np.linspace(0, 4, 61) ** 3
"""Read noise and mean signal, in photons, at which the level of the stabilised noise is tabulated."""


def _demosaic_kernels() -> Tensor:
    """Kernels `(8, 1, 5, 5)` that interpolate a colour from four, two or two neighbours, or four on the diagonals.

    First the means of the neighbours, then the corrections of Malvar, He & Cutler (2004).
    """
    means, corrections = torch.zeros(2, 4, 5, 5)
    means[0, [1, 3, 2, 2], [2, 2, 1, 3]] = 1 / 4
    means[1, 2, [1, 3]] = 1 / 2
    means[2] = means[1].T
    means[3, [1, 1, 3, 3], [1, 3, 1, 3]] = 1 / 4
    corrections[[0, 3], 2, 2] = torch.tensor([4.0, 6.0]) / 8
    for number, weight in ((0, 1.0), (3, 1.5)):
        corrections[number, [0, 4, 2, 2], [2, 2, 0, 4]] = -weight / 8
    corrections[1, 2, 2] = 5 / 8
    corrections[1, [1, 1, 3, 3, 2, 2], [1, 3, 1, 3, 0, 4]] = -1 / 8
    corrections[1, [0, 4], 2] = 1 / 16
    corrections[2] = corrections[1].T
    return torch.stack([means, corrections]).reshape(8, 1, 5, 5)


_DEMOSAIC = _demosaic_kernels()


@dataclass(frozen=True)
class Pairs:
    """Noisy crops and their truth, in units of the noise.

    Attributes:
        noisy: `(N, 1, Y, X)`: stabilised pixels minus their mean.
        maps: `(N, 2, Y, X)`, see `nets.residual_unet`.
        target: What the network should say, `(N, 1, Y, X)`.
        mean: Mean that was subtracted, `(N, 1, 1, 1)`.
        scale: True over measured noise level, `(N, 1, 1, 1)`.
        offset: 3/8 + s² of the transform with a read noise of s photons, `(N, 1, 1, 1)`.
        photons: True for crops of photons, whose target is a root, `(N, 1, 1, 1)`.
    """

    noisy: Tensor
    maps: Tensor
    target: Tensor
    mean: Tensor
    scale: Tensor
    offset: Tensor
    photons: Tensor

    def light(self, pixels: Tensor) -> Tensor:
        """Convert pixels of the network to light: photons where they are counted, else as they are."""
        transformed = (pixels + self.mean) / self.scale
        return torch.where(self.photons, transformed.clamp(min=0) ** 2 / 4 - self.offset, transformed)

    @property
    def light_level(self) -> Tensor:
        """Level of the noise of the light, `(N, 1, 1, 1)`."""
        variance = (self.light(self.target) + self.offset).mean((1, 2, 3), keepdim=True)
        return torch.where(self.photons, variance, torch.ones_like(variance)).sqrt()


class Camera:
    """Draws crops from scenes and takes noisy pictures of them.

    Args:
        seed: Of all random numbers.
        device: Where everything is computed.
        correlated: Fraction of crops whose noise is correlated.
    """

    def __init__(self, seed: int, device: torch.device, correlated: float = 0.4) -> None:
        self.device = device
        self.random = torch.Generator(device).manual_seed(seed)
        self._correlated = correlated

    def crops(self, scenes: Tensor, count: int, side: int) -> Tensor:
        """Cut turned crops `(count, 1, side, side)` from scenes `(N, Y, X)`, some of them binned by two."""
        number = torch.randint(len(scenes), (count, 1, 1), generator=self.random, device=self.device)
        factor = torch.where(self._draw(count) < 0.15, 2, 1).long()
        room = scenes.shape[-1] - factor * side
        along = torch.arange(side, device=self.device).expand(count, side)
        rows, columns = (
            (torch.where(self._draw(count) < 0.5, along, side - 1 - along) * factor)
            + (self._draw(count) * (room + 1)).long()
            for _ in range(2)
        )
        crop = torch.zeros((count, side, side), device=self.device)
        for dy in (0, 1):
            for dx in (0, 1):
                y, x = rows + dy * (factor - 1), columns + dx * (factor - 1)
                crop += scenes[number, y[:, :, None], x[:, None, :]].float() / 4
        crop = torch.where(self._draw(count)[..., None] < 0.5, crop, crop.mT)
        contrast = torch.where(self._draw(count) < 0.3, self._draw(count, 0.7, 1.6), torch.ones((), device=self.device))
        return (crop.clamp(max=_BRIGHTEST) ** contrast[..., None])[:, None]

    def picture(self, crops: Tensor) -> Pairs:
        """Take noisy pictures of crops `(N, 1, Y, X)` with brightness 0 to 1."""
        n = len(crops)

        def draw(low: float = 0.0, high: float = 1.0) -> Tensor:
            return self._draw(n, low, high)[:, :, None, None]

        photons = draw() < 0.5
        correlated = draw() < torch.where(photons, 0.5, 1.5) * self._correlated
        # photons, with read noise in half of the cameras
        read = torch.where(draw() < 0.5, draw(0, 3), torch.zeros_like(draw()))
        light = crops * 10 ** draw(0.3, 2.9) + 10 ** draw(-1, 1)
        # pictures whose noise is the same everywhere, or was made so
        bright = 10 ** draw(0.2, 1.9)
        flat = torch.where(draw() < 0.6, (crops + draw(0, 0.3) ** 2).sqrt(), crops) * bright
        signal = torch.where(photons, light, flat)
        white = torch.where(
            photons,
            torch.poisson(light, generator=self.random) - light + read * self._normal(light),
            self._normal(light),
        )
        noise = torch.where(correlated, self._correlate(white), white)
        length = _correlation_length(torch.where(photons, noise / light.sqrt().clamp(min=0.3), noise))
        values = signal + noise
        # stripes that are left, rounding, clipping, compression
        rows = self._normal(values[..., :1]) * draw(0.1, 0.4) * torch.where(draw() < 0.08, 1.0, 0.0)
        values = values + rows * torch.where(photons, light.mean((2, 3), keepdim=True).sqrt(), torch.ones_like(light))
        level = torch.where(photons, (light.mean((2, 3), keepdim=True) + read**2).sqrt(), torch.ones_like(light))
        step = torch.where(draw() < 0.5, 10 ** draw(-2, -0.1), torch.full_like(draw(), 1e-3)) * level[..., :1, :1]
        values = torch.where(step > 2e-3 * level, (values / step).round() * step, values)
        values = torch.where((draw() < 0.03) & ~photons, self._compress(values, draw(0.3, 2)), values)
        top = torch.quantile(signal.flatten(1), 0.99, dim=1)[:, None, None, None] * draw(0.8, 1.1)
        clipped = draw() < 0.1
        values = torch.where(clipped, values.minimum(top), values)
        signal = torch.where(clipped, signal.minimum(top), signal)
        values = torch.where((draw() < 0.1) & photons, values.clamp(min=0), values)
        # what is measured is wrong by some per cent
        scale = torch.exp(0.08 * self._normal(draw()))
        told = torch.where(length < 1.15, torch.ones_like(length), length * torch.exp(0.08 * self._normal(length)))
        told = torch.where(draw() < 0.03, draw(1, 2.5), told).clamp(min=1)
        offset = 0.375 + read**2
        noisy, target = (
            torch.where(photons, 2 * (v + offset).clamp(min=0).sqrt(), v) * scale for v in (values, signal)
        )
        mean = noisy.mean((2, 3), keepdim=True)
        around = functional.avg_pool2d(values, 5, 1, 2, count_include_pad=False)
        levels = torch.where(photons, _stabilised_level(around, read), torch.ones_like(around))
        maps = torch.cat([levels - 1, (told - 1).expand_as(levels)], dim=1)
        return Pairs(noisy - mean, maps, target - mean, mean, scale, offset, photons)

    def _draw(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform random numbers `(count, 1)`."""
        return torch.rand((count, 1), generator=self.random, device=self.device) * (high - low) + low

    def _normal(self, like: Tensor) -> Tensor:
        """Normal random numbers of the shape of a tensor."""
        return torch.randn(like.shape, generator=self.random, device=self.device)

    def _correlate(self, white: Tensor) -> Tensor:
        """Correlate white noise `(N, 1, Y, X)` without a change of its variance: by kernels, or on another grid."""
        n, _, height, width = white.shape
        rows, columns = self._kernels(n)
        flat = functional.pad(white.transpose(0, 1), (_TAPS,) * 4, mode="circular")
        flat = functional.conv2d(flat, rows[:, None, :, None], groups=n)
        filtered = functional.conv2d(flat, columns[:, None, None, :], groups=n).transpose(0, 1)
        # pictures that were enlarged, or turned and shifted, by cubic or linear interpolation
        zoom, shift = self._draw(n, 0.5, 1.0), self._draw(n, 0.0, 1.0)
        steps = torch.arange(height, device=white.device)[None] * zoom + shift
        along = (2 * steps + 1) / height - 1
        grid = torch.stack([along[:, None, :].expand(n, height, width), along[:, :, None].expand(n, height, width)], -1)
        deviation = white.flatten(1).std(dim=1)[:, None, None, None]
        chosen = self._draw(n)[:, :, None, None]
        cubic, linear = (
            functional.grid_sample(white, grid, mode, "reflection", align_corners=False)
            for mode in ("bicubic", "bilinear")
        )
        enlarged = torch.where(chosen < 0.2, cubic, linear)
        resampled = torch.where(chosen < 0.35, enlarged, self._demosaic(white))
        resampled = resampled * (deviation / resampled.flatten(1).std(dim=1)[:, None, None, None].clamp(min=1e-6))
        return torch.where(chosen < 0.65, resampled, filtered)

    def _demosaic(self, white: Tensor) -> Tensor:
        """Noise of one colour of a colour camera, with filters in squares of 2 × 2 pixels (green, red, blue, green).

        The missing colours are interpolated, with corrections by the other colours (Malvar, He & Cutler 2004) from
        none to all of it.
        """
        n, _, height, width = white.shape
        kernels = _DEMOSAIC.to(white.device)
        padded = functional.pad(white, (2,) * 4, mode="circular")
        filtered = functional.conv2d(padded, kernels)
        means, corrections = filtered[:, :4], filtered[:, 4:]
        interpolated = means + self._draw(n)[:, :, None, None] * corrections
        rows, columns = (
            (torch.arange(side, device=white.device) + (2 * self._draw(n)).long()) % 2 for side in (height, width)
        )
        odd_row, odd_column = rows[:, None, :, None].bool(), columns[:, None, None, :].bool()
        cross, across, along, diagonal = (interpolated[:, number, None] for number in range(4))
        green = torch.where(odd_row == odd_column, white, cross)
        elsewhere = torch.where(odd_column, diagonal, along)
        red = torch.where(odd_row, elsewhere, torch.where(odd_column, across, white))
        return torch.where(self._draw(n)[:, :, None, None] < 0.5, green, red)

    def _kernels(self, n: int) -> tuple[Tensor, Tensor]:
        """Kernels `(n, taps)` along Y and X, of unit norm: Gaussian, exponential, neighbours, half pixels, cubic."""
        at = torch.arange(-_TAPS, _TAPS + 1, device=self.device, dtype=torch.float32)[None]
        kind = (5 * self._draw(n)).long()
        width = self._draw(n)
        axes = []
        for ratio in (torch.ones_like(width), torch.exp(0.15 * self._normal(width))):
            w = width * ratio
            cubic = torch.sinc(at / (1 + w)) * torch.exp(-((at / (2.2 + w)) ** 2))
            kernels = torch.stack(
                [
                    torch.exp(-(at**2) / (2 * (0.25 + 0.85 * w) ** 2)),
                    torch.exp(-at.abs() / (0.1 + 0.9 * w)),
                    torch.where(at == 0, 1.0, torch.where(at.abs() == 1, 0.05 + 0.6 * w, 0.0)),
                    torch.where(at == 0, 1.0, torch.where(at == 1, 0.1 + 0.9 * w, 0.0)),
                    cubic,
                ]
            )
            axes.append(kernels.gather(0, kind[None].expand(1, n, at.shape[1]))[0])
        single = torch.where(at == 0, 1.0, 0.0).expand_as(axes[0])
        one_axis, which = self._draw(n) < 0.3, self._draw(n) < 0.3
        rows = torch.where(one_axis & which, single, axes[0])
        columns = torch.where(one_axis & ~which, single, axes[1])
        return rows / rows.norm(dim=1, keepdim=True), columns / columns.norm(dim=1, keepdim=True)

    def _compress(self, values: Tensor, step: Tensor) -> Tensor:
        """Round the cosine coefficients of squares of 8 × 8 pixels, high frequencies more than low ones."""
        side = 8
        k = torch.arange(side, device=values.device)
        cosines = torch.cos(math.pi * (2 * k + 1) * k[:, None] / (2 * side)) * math.sqrt(2 / side)
        cosines[0] /= math.sqrt(2)
        n, _, height, width = values.shape
        squares = values.reshape(n, height // side, side, width // side, side).transpose(2, 3)
        coefficients = cosines @ squares @ cosines.mT
        steps = step[:, :, :, None] * (0.5 + (k + k[:, None]) / 6)
        squares = cosines.mT @ ((coefficients / steps).round() * steps) @ cosines
        return squares.transpose(2, 3).reshape(values.shape)


def _correlation_length(noise: Tensor) -> Tensor:
    """Correlation length of noise `(N, 1, Y, X)` as it is measured in images, `(N, 1, 1, 1)`."""
    powers = []
    for lag in (1, 2):
        for axis in (2, 3):
            length = noise.shape[axis] - 2 * lag
            a, b, c = (noise.narrow(axis, start, length) for start in (0, lag, 2 * lag))
            powers.append((a - 2 * b + c).square().mean((1, 2, 3), keepdim=True))
    ratio = powers[2] * powers[3] / (powers[0] * powers[1]).clamp(min=1e-12)
    # from a table on the device: to ask a GPU for numbers would have it wait for the next step
    lengths = _lengths(noise.device)
    at = ratio.log().sub(_RATIOS[0]).div(_RATIOS[1] - _RATIOS[0]).clamp(0, len(lengths) - 1.001)
    low = at.long()
    return torch.lerp(lengths[low], lengths[low + 1], at - low)


@lru_cache(maxsize=4)
def _lengths(device: torch.device) -> Tensor:
    """Correlation length of noise for each of `_RATIOS`."""
    return torch.tensor(length_of_ratio(np.exp(_RATIOS)), dtype=torch.float32, device=device)


@lru_cache(maxsize=4)
def _levels(device: torch.device) -> Tensor:
    """Level of stabilised noise for each `_READ` and `_PHOTONS`."""
    return torch.tensor([[stabilised_level(p, r) for p in _PHOTONS] for r in _READ], dtype=torch.float32, device=device)


def _stabilised_level(photons: Tensor, read: Tensor) -> Tensor:
    """Level of stabilised noise at each pixel, interpolated linearly."""
    table = _levels(photons.device)
    y = read / 3 * (len(_READ) - 1)
    x = (photons.clamp(min=0) ** (1 / 3) / 4 * (len(_PHOTONS) - 1)).clamp(max=len(_PHOTONS) - 1.001)
    row, column = y.long().clamp(max=len(_READ) - 2), x.long()
    y, x = y - row, x - column
    upper = table[row, column] * (1 - x) + table[row, column + 1] * x
    lower = table[row + 1, column] * (1 - x) + table[row + 1, column + 1] * x
    return upper * (1 - y) + lower * y
