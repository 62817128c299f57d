"""Which pixels a network is not shown: masks that hide, what is put in their place, and how answers are gathered.

In stacks `(Z, Y, X)` neighbours are those of the same plane.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_WEIGHTS = ((1 / 12, 1 / 6, 1 / 12), (1 / 6, 0.0, 1 / 6), (1 / 12, 1 / 6, 1 / 12))
"""Weights of the neighbours of a hidden pixel (Blind2Unblind's released code)."""


def cell_masks(space: tuple[int, ...], width: int) -> Tensor:
    """Blind2Unblind's masks, true where hidden: each hides one pixel in each cell of width² pixels.

    They are disjoint and their union is everything: `(width², *space)`. From plane to plane of a stack the hidden
    pixel moves by half a cell down and one to the right, so that its neighbours above and below are shown.
    """
    y, x = (torch.arange(n) % width for n in space[-2:])
    place = y[:, None] * width + x
    if len(space) == 3:
        # this step has no factor in common with the number of places: all of them are passed before one comes again
        step = width * (width // 2) + 1
        place = place + step * torch.arange(space[0])[:, None, None]
    return place % width**2 == torch.arange(width**2).reshape(-1, *[1] * len(space))


def fill(pixels: Tensor, hidden: Tensor) -> Tensor:
    """Pixels `(N, C, *space)` with those `hidden` replaced by the weighted mean of their eight neighbours.

    At the border the mean is that of the neighbours there are: what is constant stays so. Shapes are broadcast:
    `fill(pixels[:, None], masks[:, None])` is `(N, copies, C, *space)`.
    """
    return torch.where(hidden, _neighbours(pixels), pixels)


def gather(copies: Tensor, hidden: Tensor) -> Tensor:
    """From copies `(N, copies, C, *space)` what each says where it was `hidden`, `(copies, *space)`: `(N, C, *space)`.

    0 where no copy was hidden.
    """
    return torch.where(hidden[:, None], copies, torch.zeros((), device=copies.device)).sum(dim=1)


def visible_mask(shape: tuple[int, ...], share: float, generator: torch.Generator) -> Tensor:
    """A random mask, true for this share of the elements; drawn by the generator, so the same on all devices."""
    return torch.rand(shape, generator=generator) < share


def dilate(mask: Tensor, radius: int) -> Tensor:
    """A mask `(…, Y, X)` grown `radius` times by a pixel to all four sides within its plane."""
    grown = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    for _ in range(radius):
        down = functional.max_pool2d(grown, (3, 1), stride=1, padding=(1, 0))
        across = functional.max_pool2d(grown, (1, 3), stride=1, padding=(0, 1))
        grown = torch.maximum(down, across)
    return (grown > 0).reshape(mask.shape)


def _neighbours(pixels: Tensor) -> Tensor:
    """The weighted mean of the eight neighbours of each pixel `(…, Y, X)`."""
    kernel = torch.tensor(_WEIGHTS, dtype=pixels.dtype, device=pixels.device)[None, None]
    planes = pixels.reshape(-1, 1, *pixels.shape[-2:])
    weight = functional.conv2d(torch.ones_like(planes[:1]), kernel, padding=1)
    mean: Tensor = functional.conv2d(planes, kernel, padding=1) / weight.clamp(min=1e-6)  # a lone pixel has none
    return mean.reshape(pixels.shape)
