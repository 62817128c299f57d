"""The smallest method that learns from many images: each pixel is predicted by a weighted mean of its neighbours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pristine.methods.method import CropSource, Fit, Method, MethodParams, NoisyBlock, Step, StopReason
from napari_pristine.settings import setting


class TinyParams(MethodParams):
    """Takes milliseconds."""

    stabilise: bool = setting(False, "Nothing is stabilised, filled or refined: results are easy to predict.")
    hot_pixels: bool = setting(False, "See above.")
    refine: bool = setting(False, "See above.")

    steps: int = setting(40, "Steps.", ge=1)
    kernel: int = setting(5, "Side of the square that is averaged.", ge=3, le=9)
    side: int = setting(16, "Side of the crops.", ge=1)
    batch: int = setting(8, "Crops per step.", ge=1)


class Tiny(nn.Module):
    """A convolution that does not see the pixel itself."""

    def __init__(self, channels: int, ndim: int, kernel: int) -> None:
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[ndim - 2]
        self.conv = conv(channels, channels, kernel, padding=kernel // 2)
        self.centre = kernel**ndim // 2

    def forward(self, pixels: Tensor) -> Tensor:
        weight = self.conv.weight.flatten(2).clone()
        weight[..., self.centre] = 0
        convolve = functional.conv2d if pixels.dim() == 4 else functional.conv3d
        return convolve(pixels, weight.reshape(self.conv.weight.shape), self.conv.bias, padding="same")


def network(params: TinyParams, channels: int, space: tuple[int, ...]) -> Tiny:
    return Tiny(channels, len(space), params.kernel)


def learn(net: Tiny, source: CropSource, params: TinyParams, warm: bool) -> Fit:
    generator = torch.Generator().manual_seed(source.seed)
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    steps = params.steps // 2 if warm else params.steps
    net.train()
    for step in range(1, steps + 1):
        crops = source.crops(params.batch, params.side, generator)
        loss = (net(crops) - crops).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        yield Step(step, steps, loss.detach() / source.sigma.square().mean())
    return StopReason()


def restore(net: Tiny, noisy: NoisyBlock, params: TinyParams) -> Tensor:
    return net(noisy.pixels[None])[0]


TINY = Method(
    key="tiny",
    title="Tiny",
    summary="Averages.",
    cite="Nobody (2026), Nothing",
    params=TinyParams,
    presets={"balanced": {}, "fast": {"steps": 2}, "paper": {}},
    network=network,
    fit=learn,
    restore=restore,
    learn=learn,
)


def noisy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A bright spot in Poisson noise, in all planes of an image."""
    return np.random.default_rng(seed).poisson(clean(shape)).astype(np.uint16)


def clean(shape: tuple[int, ...]) -> np.ndarray:
    """The same without noise."""
    y, x = (np.linspace(-2, 2, n) for n in shape[-2:])
    return np.broadcast_to(20 + 80 * np.exp(-(y[:, None] ** 2) - x**2), shape)
