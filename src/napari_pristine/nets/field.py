"""Field: a picture as a continuous function of position, one small SIREN for each of its patches."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_pristine.image.tiling import Tiling
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.siren import OMEGA, Siren

_CHUNK = 1 << 20
"""Activations of one layer that are computed at once: 4 MiB, which stay in a processor's cache."""


class Field(nn.Module):
    """SIRENs side by side, one for each patch of a block and each of several fits, with averaged weights.

    The cost of a step grows with the number of pixels, not with its cube as for one network whose width follows
    the picture, and overlapping patches are blended without seams.

    Args:
        patches: The patches of the block; one that covers it all for a plain SIREN.
        channels: Values per pixel.
        width: Units of each sine layer.
        layers: Number of sine layers.
        frequency: Highest initial frequency, in radians per pixel; `None` takes SIREN's own, which is in radians
            per half side of the patch whatever its size.
        fits: Independent fits, to be averaged.
    """

    def __init__(
        self, patches: Tiling, channels: int, width: int, layers: int, frequency: float | None, fits: int = 1
    ) -> None:
        super().__init__()
        self.patches, self.channels, self.fits = patches, channels, fits
        sides = [torch.arange(n) for n in patches.side]
        self._pixels = torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1)
        self.siren = EmaModel(
            Siren(
                ndim=self.ndim,
                channels=channels,
                width=width,
                layers=layers,
                copies=len(patches.corners) * fits,
                frequency=OMEGA / self.ndim if frequency is None else frequency * (max(patches.side) - 1) / 2,
                scatter=frequency is not None,
            )
        )

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.patches.side)

    def cut(self, channels: Tensor) -> Tensor:
        """The patches of a block `(C, *space)`, once for each fit: `(copies, *side, C)`."""
        parts = torch.stack([channels[(slice(None), *part)] for part in self.patches.slices])
        return parts.movedim(1, -1).repeat(self.fits, *[1] * channels.dim())

    def pixels(self) -> Tensor:
        """All pixels of a patch, `(*side, ndim)`."""
        return self._pixels

    def forward(self, pixels: Tensor) -> Tensor:
        """Values `(copies, *points, C)` at pixels `(*points, ndim)` of every patch; they may lie between centres."""
        flat = self._coordinates(pixels.reshape(-1, self.ndim))
        values: Tensor = self.siren(flat)
        return values.reshape(len(values), *pixels.shape[:-1], self.channels)

    @torch.no_grad()
    def render(self) -> Tensor:
        """The averaged function at all pixels, patches blended and fits averaged: `(C, *space)`."""
        return self.renders().mean(dim=0)

    @torch.no_grad()
    def renders(self) -> Tensor:
        """The same for each of the fits by itself, `(fits, C, *space)`."""
        ema = self.siren.ema
        device, width = ema.weights[0].device, ema.weights[0].shape[-1]
        at = self._coordinates(self.pixels().reshape(-1, self.ndim)).to(device)
        rows = max(1, _CHUNK // (ema.copies * width))
        values = torch.cat([ema(part) for part in torch.split(at, rows)], dim=1)
        patches = values.reshape(self.fits, -1, *self.patches.side, self.channels).movedim(-1, 2).cpu().numpy()
        return torch.stack([torch.from_numpy(self.patches.blend(list(fit))) for fit in patches]).to(device)

    def _coordinates(self, pixels: Tensor) -> Tensor:
        """Pixels to coordinates: the longest side spans [-1, 1], and a pixel is as long in all directions."""
        last = torch.tensor([n - 1 for n in self.patches.side], device=pixels.device)
        return (2 * pixels - last).float() / max(max(self.patches.side) - 1, 1)


@torch.no_grad()
def side_by_side(fields: Sequence[Field]) -> Field:
    """Fields of blocks of one shape as one, whose networks are all evaluated in one batched product.

    The weights of the fields become views of those of the whole: what is learned by it is learned by them.
    It cannot render, since its networks belong to several blocks.
    """
    first, *more = fields
    if not more:
        return first
    whole = copy.deepcopy(first)
    for joint, *parts in zip(whole.parameters(), *(field.parameters() for field in fields), strict=True):
        joint.data = torch.cat([part.data for part in parts])
        for part, view in zip(parts, joint.data.split([len(part) for part in parts]), strict=True):
            part.data = view
    return whole


def blend(tiling: Tiling, tiles: Sequence[Tensor]) -> Tensor:
    """Blend tiles `(C, *side)` to one block `(C, *shape)`, weighted by the window of the tiling, on their device.

    Tiles on a grid that is finer by whole factors give a block on that grid.
    """
    sides = tuple(tiles[0].shape[1:])
    factors = [count // side for count, side in zip(sides, tiling.side, strict=True)]
    shape = tuple(n * f for n, f in zip(tiling.shape, factors, strict=True))
    window = torch.from_numpy(tiling.window if sides == tiling.side else tiling.window_of(sides)).to(tiles[0].device)
    total, weight = tiles[0].new_zeros((len(tiles[0]), *shape)), tiles[0].new_zeros(shape)
    for tile, part in zip(tiles, tiling.slices, strict=True):
        fine = tuple(slice(p.start * f, p.stop * f) for p, f in zip(part, factors, strict=True))
        total[(slice(None), *fine)] += tile * window
        weight[fine] += window
    return total / weight
