"""U-Nets of the papers, and a small one for processors: one module, four plans.

In three dimensions the convolutions are 3 × 3 × 3, and pooling and up-sampling act along Y and X only: stacks are thin.
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

_CONV: dict[int, Callable[..., nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True)
class Plan:
    """What makes one U-Net differ from another.

    Attributes:
        down: The blocks before each pooling, from the finest level on.
        bottom: The block at the coarsest level.
        up: The blocks after each up-sampling and concatenation, from the coarsest level on.
        tail: Convolutions of single pixels at the end.
        skip: What is handed across: what `enters` a block of `down` (the raw input on the finest level), or what
            `leaves` it.
        slope: Of the activations for negative values.
        upsampling: `linear` puts the corners of both grids on each other.
        last: Side of the last convolution, which has no activation.
        start: Weights at the start: normal after `he`, as `torch` sets them, or normal with spread `0.02`.
        dilation: Of all 3 × 3 convolutions but the last.
        dropout: Share of elements dropped wherever the forward pass is given a generator.
    """

    down: tuple[Widths, ...]
    bottom: Widths
    up: tuple[Widths, ...]
    tail: Widths = ()
    skip: Literal["enters", "leaves"] = "enters"
    slope: float = 0.1
    upsampling: Literal["nearest", "linear"] = "nearest"
    last: Literal[1, 3] = 3
    start: Literal["he", "torch", "0.02"] = "torch"
    dilation: int = 1
    dropout: float = 0.0


def noise2noise_plan(
    channels: int,
    width: int = 48,
    levels: int = 5,
    *,
    dropout: float = 0.0,
    dilation: int = 1,
    start: Literal["he", "torch"] = "he",
) -> Plan:
    """Lehtinen et al. (2018); `dropout`, `dilation` and torch's start as in Implicit Neural Sampling."""
    down, up = _noise2noise_sides(width, levels)
    final = (width * 4 // 3, width * 2 // 3)
    return Plan(down, (width,), (*up, final), start=start, dilation=dilation, dropout=dropout)


def blind2unblind_plan(width: int = 48, levels: int = 5) -> Plan:
    """Wang et al. (2022): as Noise2Noise, but for the end."""
    down, up = _noise2noise_sides(width, levels)
    final = (2 * width, 2 * width)
    return Plan(down, (width,), (*up, final), tail=final, last=1)


def noise2grad_plan(width: int = 32, levels: int = 3) -> Plan:
    """Lin et al. (2021), for the "simple U-Net" of the Implicit Deep Denoiser Prior by the same authors."""
    widths = [width * 2**level for level in range(levels)]
    back = [width, *widths[:-1]]
    return Plan(
        down=tuple((w, w) for w in widths),
        bottom=(widths[-1],) * 2,
        up=tuple((w, w) for w in reversed(back)),
        skip="leaves",
        slope=0.0,
        upsampling="linear",
        start="0.02",
    )


def small_plan(width: int = 32, levels: int = 3) -> Plan:
    """Two convolutions of equal width per level: what a processor fits to one image within a minute."""
    return Plan(((width, width),) * levels, (width, width), ((width, width),) * levels)


def _noise2noise_sides(width: int, levels: int) -> tuple[tuple[Widths, ...], tuple[Widths, ...]]:
    return ((width, width), *((width,),) * (levels - 1)), ((2 * width, 2 * width),) * (levels - 1)


class UNet(nn.Module):
    """A U-Net from pixels `(N, C, *space)` of any size to as many, by a `plan`."""

    def __init__(self, plan: Plan, channels: int, ndim: int = 2) -> None:
        super().__init__()
        self.plan, self.ndim = plan, ndim
        skips = [block[-1] for block in plan.down]
        if plan.skip == "enters":
            skips = [channels, *skips[:-1]]
        entering = [channels, *(block[-1] for block in plan.down)]
        self.down = nn.ModuleList(self._block(n, block) for n, block in zip(entering, plan.down, strict=False))
        self.bottom = self._block(entering[-1], plan.bottom)
        rising = [plan.bottom[-1], *(block[-1] for block in plan.up)]
        self.up = nn.ModuleList(
            self._block(n + skip, block) for n, skip, block in zip(rising, reversed(skips), plan.up, strict=False)
        )
        self.tail = self._block(rising[-1], plan.tail, side=1)
        self.last = self._conv((plan.tail or plan.up[-1])[-1], channels, plan.last, 1)
        self._initialise()
        for weight in self.parameters():
            if weight.dim() == 4:  # a quarter faster on processors
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor, dropping: torch.Generator | None = None) -> Tensor:
        """Evaluate; `dropping` draws what is dropped out, without it nothing is."""
        values, skips = self._padded(pixels), []
        if self.ndim == 2 and values.device.type == "cpu":  # as the weights are; else torch turns them back
            values = values.to(memory_format=torch.channels_last)
        for block in self.down:
            inside = block(values)
            skips.append(values if self.plan.skip == "enters" else inside)
            values = self._drop(self._pool(inside), dropping)
        values = self._drop(self.bottom(values), dropping)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            values = self._drop(block(torch.cat([self._upsampled(values), skip], dim=1)), dropping)
        restored: Tensor = self.last(self.tail(values))
        return restored[..., : pixels.shape[-2], : pixels.shape[-1]]

    def _conv(self, fan_in: int, fan_out: int, side: int, dilation: int) -> nn.Conv2d | nn.Conv3d:
        return _CONV[self.ndim](fan_in, fan_out, side, padding=dilation * (side // 2), dilation=dilation)

    def _block(self, fan_in: int, widths: Widths, side: int = 3) -> nn.Sequential:
        dilation = self.plan.dilation if side > 1 else 1
        convs = [self._conv(a, b, side, dilation) for a, b in itertools.pairwise((fan_in, *widths))]
        activation = nn.LeakyReLU(self.plan.slope, inplace=True)
        return nn.Sequential(*(layer for conv in convs for layer in (conv, activation)))

    @torch.no_grad()
    def _initialise(self) -> None:
        if self.plan.start == "torch":
            return
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
                gain = 1 if layer is self.last else math.sqrt(2)
                spread = gain / math.sqrt(layer.weight[0].numel()) if self.plan.start == "he" else 0.02
                layer.weight.normal_(0, spread)
                if layer.bias is not None:
                    layer.bias.zero_()

    def _padded(self, pixels: Tensor) -> Tensor:
        """Pixels with Y and X mirrored at their ends to what `levels` poolings divide."""
        multiple = 2 ** len(self.plan.down)
        for axis in (-2, -1):
            n = pixels.shape[axis]
            if n % multiple:
                # torch's own padding does not mirror what is shorter than the pad
                wave = torch.arange(n + -n % multiple, device=pixels.device) % max(2 * n - 2, 1)
                pixels = pixels.index_select(axis, torch.minimum(wave, (2 * n - 2 - wave).abs()))
        return pixels

    def _pool(self, values: Tensor) -> Tensor:
        if self.ndim == 2:
            return functional.max_pool2d(values, 2)
        return functional.max_pool3d(values, (1, 2, 2))

    def _upsampled(self, values: Tensor) -> Tensor:
        scale = (1.0,) * (self.ndim - 2) + (2.0, 2.0)
        if self.plan.upsampling == "nearest":
            return functional.interpolate(values, scale_factor=scale)
        mode = "bilinear" if self.ndim == 2 else "trilinear"
        return functional.interpolate(values, scale_factor=scale, mode=mode, align_corners=True)

    def _drop(self, values: Tensor, dropping: torch.Generator | None) -> Tensor:
        """Drop single elements and scale up the rest; drawn where the generator is, to be the same on all devices."""
        if dropping is None or not self.plan.dropout:
            return values
        kept = torch.empty(values.shape, device=dropping.device).bernoulli_(1 - self.plan.dropout, generator=dropping)
        return values * kept.to(values.device) / (1 - self.plan.dropout)
