"""Implicit: what the methods that fit a continuous function to pixels have in common.

The settings of such a fit, and the pieces of its loop: targets, random pixels, loss, slope, optimisers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from napari_pristine.methods.method import NoisyBlock
from napari_pristine.nets.field import Field
from napari_pristine.nets.muon import Muon
from napari_pristine.nets.siren import Siren
from napari_pristine.settings import Params, setting

_BLOCK = {1: 32, 2: 8, 3: 4}
"""Side of the small blocks in which random pixels are drawn, by number of dimensions: neighbours give the slope."""
_CHUNK = 1 << 20
"""Activations of one layer that are computed at once: 4 MiB, which stay in a processor's cache."""
_FLAT = 0.03
"""Slopes below this share of the noise level count as flat."""
_REACH_POWER = 2.0
"""How the weight of the slope grows with the reach of correlated noise."""


class FieldParams(Params):
    """The settings of a fit of a continuous function to pixels."""

    steps: int = setting(600, "Optimiser steps at most.", ge=1, le=100_000)
    smoothness: float = setting(
        0.85, "Weight of the slope penalty; it follows the measured noise.", unit="noise levels", ge=0, le=100
    )
    stop_at: float = setting(
        0.0, "Stop when the residual is this strong; 0 takes all steps.", unit="noise levels", ge=0, le=10
    )
    fits: int = setting(1, "Independent fits that are averaged.", ge=1, le=64)
    patch: int | None = setting(
        96,
        "Side of the patches with a network each.",
        none="one for all",
        unit="pixels",
        ge=24,
        le=1024,
        advanced=True,
    )
    overlap: int = setting(16, "Least overlap of neighbouring patches.", unit="pixels", ge=0, le=512, advanced=True)
    width: int | None = setting(
        48,
        "Units per layer; the paper: 256 for 512 × 512 pixels, and in proportion.",
        none="as in the paper",
        ge=4,
        le=1024,
        advanced=True,
    )
    layers: int = setting(3, "Sine layers.", ge=2, le=16, advanced=True)
    frequency: float | None = setting(
        0.5,
        "Highest frequency at the start; the paper: 15 radians per half side.",
        none="as in the paper",
        unit="radians per pixel",
        gt=0,
        le=4,
        advanced=True,
    )
    batch: int | None = setting(512, "Pixels per patch and step.", none="all", unit="pixels", ge=64, advanced=True)
    optimiser: Literal["adam", "muon"] = setting("muon", "Optimiser of the hidden layers.", advanced=True)
    learning_rate: float = setting(1e-3, "Step size of Adam.", gt=0, le=1, advanced=True)
    muon_rate: float = setting(1e-3, "Step size of Muon.", gt=0, le=1, advanced=True)
    cooling: float = setting(
        0.6, "Share of the steps, at the end, over which the step size falls to 2 %.", ge=0, le=1, advanced=True
    )
    averaging: float = setting(0.99, "Memory of the average over iterates; 0 uses the last.", ge=0, lt=1, advanced=True)
    weight_decay: float = setting(0.0, "Decay of the weights of the last two sine layers.", ge=0, le=1, advanced=True)
    holdout: float = setting(
        0.0, "Share of pixels kept from the fit; their error decides when to stop.", ge=0, le=0.5, advanced=True
    )
    warm_steps: float = setting(
        0.4, "Share of the steps for a frame that starts from its neighbour's network.", gt=0, le=1, advanced=True
    )


def paper_width(space: tuple[int, ...]) -> int:
    """256 · H·W / 512² (Kim, Lee & Shin 2022, section 4.1), rounded to a multiple of 8 and kept within 64 and 512.

    Without these limits the width would be 16 for 128² pixels, too few to reach the noise level,
    and 4096 for 2048² pixels, impossible.
    """
    return min(max(8 * round(256 * math.prod(space) / 512**2 / 8), 64), 512)


@dataclass(frozen=True, eq=False)
class Targets:
    """What the networks are to say at the pixels of their patches.

    Attributes:
        values: `(copies, *side, C)`.
        fitted: `(copies, *side, 1)`: 1 where a pixel counts, 0 where it has no value or is held out.
        held_out: The same, 1 where a pixel is held out.
        shares: Shares of the pixels of the block that are fitted and that are held out, `(2, copies)`.
        sigma: Noise level in the units of the values, `(copies,)`.
        penalty: Weight of the slope, `(copies,)`; none if it has none.
    """

    values: Tensor
    fitted: Tensor
    held_out: Tensor
    shares: Tensor
    sigma: Tensor
    penalty: Tensor | None


def targets_of(net: Field, noisy: NoisyBlock, params: FieldParams, generator: torch.Generator) -> Targets:
    """What `net` is to learn of a block; some of its pixels are held out if the settings say so."""
    valid = noisy.valid[None].float()
    held_out = valid * (torch.rand(valid.shape, generator=generator) < params.holdout).to(valid)
    values, fitted, hidden = net.cut(noisy.pixels), net.cut(valid - held_out), net.cut(held_out)
    shares = torch.stack([fitted.mean(), hidden.mean()]).clamp(min=1e-6)
    sigma = values.new_full((len(values),), noise_level(noisy))
    penalty = torch.full_like(sigma, params.smoothness * slope_weight(noisy)) if params.smoothness else None
    return Targets(values, fitted, hidden, shares[:, None].expand(2, len(values)), sigma, penalty)


def joined(targets: Sequence[Targets]) -> Targets:
    """What fields side by side are to learn of their blocks, see `nets.field.side_by_side`."""
    penalties = [t.penalty for t in targets if t.penalty is not None]
    return Targets(
        values=torch.cat([t.values for t in targets]),
        fitted=torch.cat([t.fitted for t in targets]),
        held_out=torch.cat([t.held_out for t in targets]),
        shares=torch.cat([t.shares for t in targets], dim=1),
        sigma=torch.cat([t.sigma for t in targets]),
        penalty=torch.cat(penalties) if penalties else None,
    )


def noise_level(noisy: NoisyBlock) -> float:
    """One noise level for all channels: their root mean square."""
    return float(noisy.sigma.square().mean().sqrt())


def slope_weight(noisy: NoisyBlock) -> float:
    """Weight of the slope for a smoothness of 1: it follows the level of the noise and how far it is correlated."""
    return float(noise_level(noisy) * noisy.correlation_length**_REACH_POWER)


def seen_share(noisy: NoisyBlock) -> float:
    """Share of the pixels that have a value."""
    return max(float(noisy.valid.float().mean()), 1e-6)


@torch.no_grad()
def slow_down(net: Field, noisy: NoisyBlock, params: FieldParams) -> None:
    """Let the function vary as fast as the pixels that are seen can tell: their mean distance counts, not one pixel."""
    if params.frequency is None:  # as in the paper
        return
    for siren in (net.siren.model, net.siren.ema):
        siren.weights[0].mul_(seen_share(noisy) ** (1 / net.ndim))


def batch_of(noisy: NoisyBlock, params: FieldParams) -> int | None:
    """Pixels per patch and step, so many that as many are seen as where none is hidden; all if none."""
    return None if params.batch is None else math.ceil(params.batch / seen_share(noisy))


def points_at_once(net: Field) -> int:
    """Points per network whose activations fit the cache; a GPU has no use for small parts."""
    weight: Tensor = net.siren.ema.weights[0]
    return max(1, _CHUNK * (1 if weight.device.type == "cpu" else 16) // (len(weight) * weight.shape[-1]))


def draws(net: Field, batch: int) -> int:
    """Small blocks of pixels that are drawn for a step."""
    return max(1, batch // math.prod(_drawn(net)))


def _drawn(net: Field) -> tuple[int, ...]:
    """Sides of the small blocks."""
    side = net.patches.side
    return tuple(min(_BLOCK[len(side)], n) for n in side)


def draw_pixels(net: Field, batch: int | None, generator: torch.Generator) -> Iterator[tuple[Tensor, float]]:
    """The pixels of one step, in parts that fit the cache, and the share of each part.

    A part is `(blocks, *block, ndim)`: a slab of the patch where all pixels are fitted, else small blocks at random.

    Args:
        net: The networks; all of them see the same pixels of their patches.
        batch: Pixels per patch; all if none.
        generator: Where the random numbers come from.
    """
    side = net.patches.side
    points = points_at_once(net)
    if batch is None:
        # slopes between slabs are not seen: no slabs thinner than the blocks
        slabs = torch.split(net.pixels(), max(_BLOCK[len(side)], points // math.prod(side[1:])))
        yield from ((slab[None], len(slab) / side[0]) for slab in slabs)
        return
    sides, count = _drawn(net), draws(net, batch)
    room = torch.tensor([n - b + 1 for n, b in zip(side, sides, strict=True)])
    corners = (torch.rand((count, len(side)), generator=generator) * room).long()
    inside = net.pixels()[tuple(slice(b) for b in sides)]
    blocks = corners.reshape(count, *[1] * len(side), len(side)) + inside
    yield from ((part, len(part) / count) for part in torch.split(blocks, max(1, points // math.prod(sides))))


def backward(net: Field, pixels: Tensor, share: float, targets: Targets) -> Tensor:
    """Add the gradients of these pixels' part of the loss.

    Returns:
        Mean squared error of the pixels fitted and of those held out, in noise variances, times `share`: `(2,)`.
    """
    pixels = pixels.to(targets.values.device)
    index: Any = (slice(None), *pixels.unbind(-1))
    fitted, held_out = targets.fitted[index], targets.held_out[index]
    values = net(pixels)
    square = (values - targets.values[index]).square().mean(dim=-1, keepdim=True)
    whole = square[0].numel() / share * targets.shares  # the pixels of all parts of this step that count
    misfit = (square * fitted).flatten(1).sum(dim=1) / whole[0]
    loss = misfit
    if targets.penalty is not None:
        loss = loss + share * targets.penalty * slopes(values, targets.sigma)
    # the sum: each network sees the gradient that it would see alone
    loss.sum().backward()
    hidden = (square.detach() * held_out).flatten(1).sum(dim=1) / whole[1]
    return (torch.stack([misfit.detach(), hidden]) / targets.sigma**2).mean(dim=1)


def mean_slope(values: Tensor, sigma: float, steps: tuple[float, ...] | None = None) -> Tensor:
    """The mean of the slopes of all copies, for one noise level; see `slopes`."""
    return slopes(values, torch.full_like(values[:, 0].flatten(1)[:, 0], sigma), steps).mean()


def slopes(values: Tensor, sigma: Tensor, steps: tuple[float, ...] | None = None) -> Tensor:
    """Mean length of the gradient of each copy over its blocks `(copies, blocks, *block, C)`, in units per pixel.

    Neighbours are `steps` pixels apart, 1 if none is given.

    The mean over positions of √(∂y² + ∂x²) is the total variation (Rudin, Osher & Fatemi 1992) of the function.
    Channels share their edges: one length for all of them. Slopes far below the noise levels `sigma`, `(copies,)`,
    count as flat.
    """
    last = values.dim() - 1
    apart = [1.0 if steps is None else steps[axis - 2] for axis in range(2, last) if values.shape[axis] > 1]
    values = values.reshape([n for axis, n in enumerate(values.shape) if n > 1 or axis in (0, 1, last)])
    axes = range(2, values.dim() - 1)
    inner = values[(slice(None), slice(None), *[slice(None, -1) for _ in axes])]
    square = ((_FLAT * sigma) ** 2).reshape(-1, *[1] * (inner.dim() - 2)).expand(inner.shape[:-1])
    for axis, step in zip(axes, apart, strict=True):
        ahead = [slice(1, None) if a == axis else slice(None, -1) for a in axes]
        square = square + (values[(slice(None), slice(None), *ahead)] - inner).square().mean(dim=-1) / step**2
    return square.sqrt().flatten(1).mean(dim=1)


def optimisers(net: Siren, params: FieldParams) -> list[torch.optim.Optimizer]:
    """Adam for all, or Muon for the matrices between sine layers and Adam for the rest."""
    matrices = list(net.weights)
    if params.optimiser == "muon":
        hidden = matrices[1:-1]
        rest = [matrices[0], matrices[-1], *net.biases]
        return [torch.optim.Adam(rest, lr=params.learning_rate, betas=(0.9, 0.99)), Muon(hidden, lr=params.muon_rate)]
    groups: list[dict[str, Any]] = [
        {"params": [*matrices[:-3], matrices[-1], *net.biases]},
        {"params": matrices[-3:-1], "weight_decay": params.weight_decay},  # coupled, as an L2 term of the loss is
    ]
    return [torch.optim.Adam(groups, lr=params.learning_rate)]
