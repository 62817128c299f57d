"""Building blocks for fitting an implicit neural representation (INR), a continuous function, to pixels.

Targets, random positions, loss and gradients, optimisers, stopping rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_pristine.fits.stopping import EARLY, StopRules
from napari_pristine.methods.fit_settings import FieldParams
from napari_pristine.methods.method import NoisyBlock
from napari_pristine.nets.field import Field
from napari_pristine.nets.muon import Muon
from napari_pristine.nets.optimiser import Adam, Optimiser
from napari_pristine.nets.siren import Siren

_NEIGHBOURHOOD = {1: 32, 2: 8, 3: 4}
"""Side of the small boxes in which random pixels are drawn, by number of axes: differences of neighbours in a box give
the slope."""
_FLAT = 0.03
"""Slopes below this fraction of the noise level count as flat."""
_CORRELATION_POWER = 2.0
"""Exponent with which the weight of the slope grows with the correlation length of the noise."""


def paper_width(space: tuple[int, ...]) -> int:
    """256 · H·W / 512² (Kim, Lee & Shin 2022, section 4.1), rounded to a multiple of 8 and kept within 64 and 512.

    Without these limits the width would be 16 for 128² pixels, too few to reach the noise level,
    and 4096 for 2048² pixels, impossible.
    """
    return min(max(8 * round(256 * math.prod(space) / 512**2 / 8), 64), 512)


def stop_rules(params: FieldParams, warm: bool) -> StopRules:
    """The stopping rules of a fit that starts from random weights, or (`warm`) from a fitted network."""
    decay = 0.0 if params.batch is None else 0.95
    return StopRules(params.stop_at, params.holdout > 0, decay, early=0 if warm else EARLY)


def noise_level(block: NoisyBlock) -> float:
    """One noise level for all channels: their root mean square."""
    return float(block.sigma.square().mean().sqrt())


def slope_weight(block: NoisyBlock) -> float:
    """Weight of the slope for a smoothness of 1: it follows level and correlation length of the noise."""
    return float(noise_level(block) * block.correlation_length**_CORRELATION_POWER)


def valid_fraction(block: NoisyBlock) -> float:
    """Fraction of the pixels that have a value."""
    return max(float(block.valid.float().mean()), 1e-6)


@torch.no_grad()
def adapt_frequency(net: Field, block: NoisyBlock, params: FieldParams) -> None:
    """Lower the initial frequencies where pixels are missing: the mean distance of valid pixels limits the detail."""
    if params.frequency is None:  # as in the paper
        return
    for siren in (net.siren.model, net.siren.ema):
        siren.weights[0].mul_(valid_fraction(block) ** (1 / net.ndim))


def pixels_per_step(block: NoisyBlock, params: FieldParams) -> int | None:
    """Number of pixels to draw per patch and step, so that `batch` of them are valid on average; `None` for all."""
    return None if params.batch is None else math.ceil(params.batch / valid_fraction(block))


@dataclass(frozen=True, eq=False)
class Targets:
    """The pixels that the networks are fitted to, cut into patches.

    Attributes:
        values: `(networks, *side, C)`.
        fitted: `(networks, *side, 1)`: 1 where a pixel counts, 0 where it has no value or is held out.
        held_out: The same, 1 where a pixel is held out.
        fractions: Fractions of the pixels of the block that are fitted and that are held out, `(2, networks)`.
        sigma: Noise level in the units of the values, `(networks,)`.
        slope_weight: Weight of the slope, `(networks,)`; none if slopes cost nothing.
    """

    values: Tensor
    fitted: Tensor
    held_out: Tensor
    fractions: Tensor
    sigma: Tensor
    slope_weight: Tensor | None

    @classmethod
    def of(cls, net: Field, block: NoisyBlock, params: FieldParams, generator: torch.Generator) -> Targets:
        """The targets of a block; `generator` draws the pixels to hold out."""
        valid = block.valid[None].float()
        held_out = valid * (torch.rand(valid.shape, generator=generator) < params.holdout).to(valid)
        values, fitted, hidden = (net.cut_patches(p) for p in (block.pixels, valid - held_out, held_out))
        fractions = torch.stack([fitted.mean(), hidden.mean()]).clamp(min=1e-6)
        sigma = values.new_full((len(values),), noise_level(block))
        weight = torch.full_like(sigma, params.smoothness * slope_weight(block)) if params.smoothness else None
        return cls(values, fitted, hidden, fractions[:, None].expand(2, len(values)), sigma, weight)

    @classmethod
    def concatenate(cls, targets: Sequence[Targets]) -> Targets:
        """The targets of several blocks for their combined field, see `nets.field.combine_fields`."""
        weights = [t.slope_weight for t in targets if t.slope_weight is not None]
        return cls(
            values=torch.cat([t.values for t in targets]),
            fitted=torch.cat([t.fitted for t in targets]),
            held_out=torch.cat([t.held_out for t in targets]),
            fractions=torch.cat([t.fractions for t in targets], dim=1),
            sigma=torch.cat([t.sigma for t in targets]),
            slope_weight=torch.cat(weights) if weights else None,
        )


def boxes_per_step(net: Field, batch: int) -> int:
    """Small boxes of neighbouring pixels that are drawn for a step of `batch` pixels per patch."""
    return max(1, batch // math.prod(_box_sides(net)))


def _box_sides(net: Field) -> tuple[int, ...]:
    side = net.patches.side
    return tuple(min(_NEIGHBOURHOOD[len(side)], n) for n in side)


def draw_positions(net: Field, batch: int | None, generator: torch.Generator) -> Iterator[tuple[Tensor, float]]:
    """Draw the positions of one step, in parts that fit the cache.

    Args:
        net: The networks; all of them use the same positions in their patches.
        batch: Pixels per patch; all if none.
        generator: Source of the random numbers.

    Yields:
        Positions `(boxes, *box, ndim)` in pixels, small boxes at random places or slabs of the whole patch, and the
        fraction of all positions of the step that they make up.
    """
    side = net.patches.side
    if batch is None:
        # no slope is computed across the ends of a slab: slabs are no thinner than boxes
        thickness = max(_NEIGHBOURHOOD[len(side)], net.chunk_size // math.prod(side[1:]))
        yield from ((slab[None], len(slab) / side[0]) for slab in torch.split(net.positions, thickness))
        return
    sides, count = _box_sides(net), boxes_per_step(net, batch)
    room = torch.tensor([n - b + 1 for n, b in zip(side, sides, strict=True)])
    corners = (torch.rand((count, len(side)), generator=generator) * room).long()
    boxes = corners.reshape(count, *[1] * len(side), len(side)) + net.positions[tuple(slice(b) for b in sides)]
    for part in torch.split(boxes, max(1, net.chunk_size // math.prod(sides))):
        yield part, len(part) / count


def accumulate_gradients(net: Field, positions: Tensor, fraction: float, targets: Targets) -> Tensor:
    """Add the gradients of a part of the loss: squared error + weight · mean slope.

    Args:
        net: The networks.
        positions: Positions of this part of the step, see `draw_positions`.
        fraction: Fraction of all positions of the step that are in this part.
        targets: The pixels to fit.

    Returns:
        Mean squared error of the pixels fitted and of those held out, in noise variances, times `fraction`: `(2,)`.
    """
    positions = positions.to(targets.values.device)
    index: Any = (slice(None), *positions.unbind(-1))
    fitted, held_out = targets.fitted[index], targets.held_out[index]
    values = net(positions)
    square = (values - targets.values[index]).square().mean(dim=-1, keepdim=True)
    counts = square[0].numel() / fraction * targets.fractions  # pixels fitted and held out in all parts of the step
    misfit = (square * fitted).flatten(1).sum(dim=1) / counts[0]
    loss = misfit
    if targets.slope_weight is not None:
        loss = loss + fraction * targets.slope_weight * mean_slopes(values, targets.sigma)
    # the sum over networks: each gets the gradient that it would get alone
    loss.sum().backward()
    hidden = (square.detach() * held_out).flatten(1).sum(dim=1) / counts[1]
    return (torch.stack([misfit.detach(), hidden]) / targets.sigma**2).mean(dim=1)


def mean_slopes(values: Tensor, sigma: Tensor | float, spacing: Sequence[float] = ()) -> Tensor:
    """Mean length of the gradient of each network's function, in units per pixel: `(networks,)`.

    The mean over positions of √(∂y² + ∂x²) is the total variation (Rudin, Osher & Fatemi 1992) of the function.
    Channels share their edges: there is one length for all of them.

    Args:
        values: Values of the functions on boxes of neighbouring positions, `(networks, boxes, *box, C)`.
        sigma: Noise level, one for all or `(networks,)`; slopes far below it count as flat.
        spacing: Distance of neighbours along each axis, in pixels; 1 if empty.
    """
    last = values.dim() - 1
    distances = [spacing[axis - 2] if spacing else 1.0 for axis in range(2, last) if values.shape[axis] > 1]
    values = values.reshape([n for axis, n in enumerate(values.shape) if n > 1 or axis in (0, 1, last)])
    axes = range(2, values.dim() - 1)
    inner = values[(slice(None), slice(None), *[slice(None, -1) for _ in axes])]
    level = torch.as_tensor(sigma, dtype=values.dtype, device=values.device).expand(len(values))
    square = ((_FLAT * level) ** 2).reshape(-1, *[1] * (inner.dim() - 2)).expand(inner.shape[:-1])
    for axis, distance in zip(axes, distances, strict=True):
        shifted = [slice(1, None) if a == axis else slice(None, -1) for a in axes]
        difference = values[(slice(None), slice(None), *shifted)] - inner
        square = square + difference.square().mean(dim=-1) / distance**2
    return square.sqrt().flatten(1).mean(dim=1)


def optimisers(net: Siren, params: FieldParams) -> list[Optimiser]:
    """Adam for all weights, or Muon for the matrices between sine layers and Adam for the rest."""
    matrices = list(net.weights)
    if params.optimiser == "muon":
        rest = [matrices[0], matrices[-1], *net.biases]
        adam = Adam(rest, lr=params.learning_rate, betas=(0.9, 0.99))
        return [adam, Muon(matrices[1:-1], lr=params.muon_rate)]
    groups: list[dict[str, Any]] = [
        {"params": [*matrices[:-3], matrices[-1], *net.biases]},
        {"params": matrices[-3:-1], "weight_decay": params.weight_decay},  # coupled: an L2 term of the loss
    ]
    return [Adam(groups, lr=params.learning_rate)]
