"""The U-Nets of the papers and a small one for CPUs: one module, four configurations.

In three dimensions convolutions are 3 × 3 × 3, but pooling and upsampling act along Y and X only, as stacks are thin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Widths: TypeAlias = tuple[int, ...]
"""Output channels of successive convolutions, each with an activation."""


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a U-Net.

    Attributes:
        down: The blocks before each pooling, from the finest level on.
        bottom: The block at the coarsest level.
        up: The blocks after each upsampling and concatenation, from the coarsest level on.
        head: 1 × 1 convolutions at the end.
        skip: Skip connections carry the `input` of each `down` block (at the finest level the image), or its `output`.
        negative_slope: Negative slope of the leaky ReLUs.
        upsampling: `nearest` or `linear`, the latter with aligned corners.
        last_kernel: Side of the last convolution, which has no activation.
        init: Initial weights: He-normal, torch's default, or normal with standard deviation 0.02.
        dilation: Dilation of all 3 × 3 convolutions except the last.
        dropout: Probability of dropping an element; applied only if the forward pass gets a generator.
    """

    down: tuple[Widths, ...]
    bottom: Widths
    up: tuple[Widths, ...]
    head: Widths = ()
    skip: Literal["input", "output"] = "input"
    negative_slope: float = 0.1
    upsampling: Literal["nearest", "linear"] = "nearest"
    last_kernel: Literal[1, 3] = 3
    init: Literal["he", "torch", "0.02"] = "torch"
    dilation: int = 1
    dropout: float = 0.0


def noise2noise_config(
    channels: int,
    width: int = 48,
    levels: int = 5,
    *,
    dropout: float = 0.0,
    dilation: int = 1,
    init: Literal["he", "torch"] = "he",
) -> UNetConfig:
    """U-Net of Noise2Noise (Lehtinen et al. 2018); Implicit Neural Sampling sets dropout, dilation and `init`."""
    down, up = _noise2noise_blocks(width, levels)
    final = (width * 4 // 3, width * 2 // 3)
    return UNetConfig(down, (width,), (*up, final), init=init, dilation=dilation, dropout=dropout)


def blind2unblind_config(width: int = 48, levels: int = 5) -> UNetConfig:
    """U-Net of Blind2Unblind (Wang et al. 2022): that of Noise2Noise with another last block and a head."""
    down, up = _noise2noise_blocks(width, levels)
    final = (2 * width, 2 * width)
    return UNetConfig(down, (width,), (*up, final), head=final, last_kernel=1)


def noise2grad_config(width: int = 32, levels: int = 3) -> UNetConfig:
    """U-Net of Noise2Grad (Lin et al. 2021), taken as the "simple U-Net" of the same authors' deep denoiser prior."""
    widths = [width * 2**level for level in range(levels)]
    return UNetConfig(
        down=tuple((w, w) for w in widths),
        bottom=(widths[-1],) * 2,
        up=tuple((w, w) for w in reversed([width, *widths[:-1]])),
        skip="output",
        negative_slope=0.0,
        upsampling="linear",
        init="0.02",
    )


def small_config(width: int = 32, levels: int = 3) -> UNetConfig:
    """U-Net with two convolutions of equal width per level: a CPU fits it to one image within a minute."""
    return UNetConfig(((width, width),) * levels, (width, width), ((width, width),) * levels)


def _noise2noise_blocks(width: int, levels: int) -> tuple[tuple[Widths, ...], tuple[Widths, ...]]:
    """The blocks `down`, and all but the last of `up`."""
    return ((width, width), *((width,),) * (levels - 1)), ((2 * width, 2 * width),) * (levels - 1)


class UNet(nn.Module):
    """A U-Net that maps pixels `(N, C, *space)` of any size to pixels of the same shape.

    Args:
        config: Its architecture.
        channels: Channels of input and output.
        ndim: Number of axes of space, 2 or 3.
    """

    def __init__(self, config: UNetConfig, channels: int, ndim: int = 2) -> None:
        super().__init__()
        self.config, self.ndim = config, ndim
        inputs = [channels, *(block[-1] for block in config.down)]  # channels that enter each level
        skips = inputs[:-1] if config.skip == "input" else inputs[1:]
        from_below = [config.bottom[-1], *(block[-1] for block in config.up)]
        self.down = nn.ModuleList(self._block(n, block) for n, block in zip(inputs[:-1], config.down, strict=True))
        self.bottom = self._block(inputs[-1], config.bottom)
        self.up = nn.ModuleList(
            self._block(n + skip, block)
            for n, skip, block in zip(from_below[:-1], reversed(skips), config.up, strict=True)
        )
        # the names of 0.1: parts of the names of weights in model files
        self.tail = self._block(from_below[-1], config.head, kernel=1)
        self.last = self._conv((config.head or config.up[-1])[-1], channels, config.last_kernel, 1)
        self._initialise()
        for weight in self.parameters():
            if weight.dim() == 4:  # a quarter faster on CPUs
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """Evaluate the network; the generator `dropout` draws the elements to drop, none without it."""
        values, skips = self._pad(pixels), []
        if self.ndim == 2 and values.device.type == "cpu":  # as the weights are, or torch converts them back
            values = values.to(memory_format=torch.channels_last)
        for block in self.down:
            output = block(values)
            skips.append(values if self.config.skip == "input" else output)
            pooled = functional.max_pool2d(output, 2) if self.ndim == 2 else functional.max_pool3d(output, (1, 2, 2))
            values = self._drop(pooled, dropout)
        values = self._drop(self.bottom(values), dropout)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            values = self._drop(block(torch.cat([self._upsample(values), skip], dim=1)), dropout)
        restored: Tensor = self.last(self.tail(values))
        return restored[..., : pixels.shape[-2], : pixels.shape[-1]]

    def _conv(self, fan_in: int, fan_out: int, kernel: int, dilation: int) -> nn.Conv2d | nn.Conv3d:
        conv: Callable[..., nn.Conv2d | nn.Conv3d] = nn.Conv2d if self.ndim == 2 else nn.Conv3d
        return conv(fan_in, fan_out, kernel, padding=dilation * (kernel // 2), dilation=dilation)

    def _block(self, fan_in: int, widths: Widths, kernel: int = 3) -> nn.Sequential:
        dilation = self.config.dilation if kernel > 1 else 1
        convs = [self._conv(a, b, kernel, dilation) for a, b in itertools.pairwise((fan_in, *widths))]
        activation = nn.LeakyReLU(self.config.negative_slope, inplace=True)
        return nn.Sequential(*(layer for conv in convs for layer in (conv, activation)))

    @torch.no_grad()
    def _initialise(self) -> None:
        if self.config.init == "torch":
            return
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
                gain = 1 if layer is self.last else math.sqrt(2)
                std = gain / math.sqrt(layer.weight[0].numel()) if self.config.init == "he" else 0.02
                layer.weight.normal_(0, std)
                if layer.bias is not None:
                    layer.bias.zero_()

    def _pad(self, pixels: Tensor) -> Tensor:
        """Mirror Y and X at their ends, up to multiples of 2 to the number of poolings."""
        multiple = 2 ** len(self.config.down)
        for axis in (-2, -1):
            n = pixels.shape[axis]
            if n % multiple:
                # torch's own reflection padding fails where the padding is longer than the side
                wave = torch.arange(n + -n % multiple, device=pixels.device) % max(2 * n - 2, 1)
                pixels = pixels.index_select(axis, torch.minimum(wave, (2 * n - 2 - wave).abs()))
        return pixels

    def _upsample(self, values: Tensor) -> Tensor:
        scale = (1.0,) * (self.ndim - 2) + (2.0, 2.0)
        if self.config.upsampling == "nearest":
            return functional.interpolate(values, scale_factor=scale)
        mode = "bilinear" if self.ndim == 2 else "trilinear"
        return functional.interpolate(values, scale_factor=scale, mode=mode, align_corners=True)

    def _drop(self, values: Tensor, generator: torch.Generator | None) -> Tensor:
        """Drop single elements and scale up the rest; drawn on the generator's device, the same for all devices."""
        if generator is None or not self.config.dropout:
            return values
        kept = torch.empty(values.shape, device=generator.device).bernoulli_(
            1 - self.config.dropout, generator=generator
        )
        return values * kept.to(values.device) / (1 - self.config.dropout)
