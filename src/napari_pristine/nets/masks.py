"""Masks of hidden pixels, the values put in their place, and the predictions gathered from masked copies.

In stacks `(Z, Y, X)` the neighbours of a pixel are those in the same plane.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_WEIGHTS = ((1 / 12, 1 / 6, 1 / 12), (1 / 6, 0.0, 1 / 6), (1 / 12, 1 / 6, 1 / 12))
"""Weights of the eight neighbours of a hidden pixel (Blind2Unblind's released code)."""


def cell_masks(space: tuple[int, ...], width: int) -> Tensor:
    """Blind2Unblind's masks, true where hidden: each hides one pixel in every cell of width² pixels.

    The masks `(width², *space)` are disjoint and together hide every pixel once. From plane to plane of a stack the
    hidden pixel moves by half a cell down and one pixel to the right, so that its neighbours in Z are visible.
    """
    y, x = (torch.arange(n) % width for n in space[-2:])
    number = y[:, None] * width + x
    if len(space) == 3:
        # the step is coprime to the number of pixels of a cell: all of them are visited before one repeats
        step = width * (width // 2) + 1
        number = number + step * torch.arange(space[0])[:, None, None]
    return number % width**2 == torch.arange(width**2).reshape(-1, *[1] * len(space))


def fill_hidden(pixels: Tensor, hidden: Tensor) -> Tensor:
    """Replace the `hidden` ones of pixels `(N, C, *space)` by the weighted mean of their eight neighbours.

    At the border the mean is over the neighbours that exist, so that a constant image stays constant. Shapes are
    broadcast: `fill_hidden(pixels[:, None], masks[:, None])` is `(N, copies, C, *space)`.
    """
    kernel = torch.tensor(_WEIGHTS, dtype=pixels.dtype, device=pixels.device)[None, None]
    planes = pixels.reshape(-1, 1, *pixels.shape[-2:])
    weight = functional.conv2d(torch.ones_like(planes[:1]), kernel, padding=1)
    mean = functional.conv2d(planes, kernel, padding=1) / weight.clamp(min=1e-6)  # an image of one pixel has none
    return torch.where(hidden, mean.reshape(pixels.shape), pixels)


def gather_hidden(copies: Tensor, hidden: Tensor) -> Tensor:
    """From each masked copy take the pixels that were hidden in it, and put them together.

    Args:
        copies: Predictions for the masked copies, `(N, copies, C, *space)`.
        hidden: The mask of each copy, `(copies, *space)`.

    Returns:
        `(N, C, *space)`; 0 where no copy had the pixel hidden.
    """
    return torch.where(hidden[:, None], copies, torch.zeros((), device=copies.device)).sum(dim=1)


def visible_mask(shape: tuple[int, ...], fraction: float, generator: torch.Generator) -> Tensor:
    """A random mask, true for this fraction of the elements; drawn on the CPU, hence the same for all devices."""
    return torch.rand(shape, generator=generator) < fraction


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Dilate a mask `(…, Y, X)` by a cross of one pixel in its plane, `radius` times."""
    grown = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    for _ in range(radius):
        down = functional.max_pool2d(grown, (3, 1), stride=1, padding=(1, 0))
        across = functional.max_pool2d(grown, (1, 3), stride=1, padding=(0, 1))
        grown = torch.maximum(down, across)
    return (grown > 0).reshape(mask.shape)
