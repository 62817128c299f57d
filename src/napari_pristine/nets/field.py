"""Field: an image as a continuous function of position, one small SIREN for each of its patches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_pristine.image.tiling import Tiling
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.siren import OMEGA, Siren

_CHUNK = 1 << 20
"""Activations of one layer that are computed at once: 4 MiB, which stay in the cache of a CPU."""
_GPU_CHUNKS = 16
"""Factor by which chunks are larger on a GPU, which computes small ones no faster."""


class Field(nn.Module):
    """SIRENs side by side, one for each patch of a block and each of several fits, with averaged weights.

    The cost of a step is proportional to the number of pixels; for one network whose width grows with the image it is
    proportional to the cube of that number. Overlapping patches are blended without seams.

    Args:
        patches: Patches of the block; one that covers it all for a single SIREN.
        channels: Values per pixel.
        width: Units of each sine layer.
        layers: Number of sine layers.
        frequency: Highest initial frequency, in radians per pixel; `None` takes SIREN's own, which is in radians
            per half side of the patch whatever its size.
        fits: Independent fits, to be averaged.

    Attributes:
        positions: Positions of all pixels of a patch, `(*side, ndim)`.
        siren: The networks: all patches of the first fit, then those of the second, and so on.
    """

    def __init__(
        self, patches: Tiling, channels: int, width: int, layers: int, frequency: float | None, fits: int = 1
    ) -> None:
        super().__init__()
        self.patches, self.channels, self.fits = patches, channels, fits
        self.positions = torch.stack(torch.meshgrid(*[torch.arange(n) for n in patches.side], indexing="ij"), dim=-1)
        self.siren = EmaModel(
            Siren(
                ndim=self.ndim,
                channels=channels,
                width=width,
                layers=layers,
                networks=len(patches.corners) * fits,
                frequency=OMEGA / self.ndim if frequency is None else frequency * (max(patches.side) - 1) / 2,
                random_phase=frequency is not None,
            )
        )

    @property
    def ndim(self) -> int:
        """Number of axes of space."""
        return len(self.patches.side)

    @property
    def chunk_size(self) -> int:
        """Positions to evaluate at once, so that activations of all networks stay in the cache."""
        weight: Tensor = self.siren.ema.weights[0]
        chunk = _CHUNK if weight.device.type == "cpu" else _CHUNK * _GPU_CHUNKS
        return max(1, chunk // (len(weight) * weight.shape[-1]))

    def cut_patches(self, pixels: Tensor) -> Tensor:
        """The patches of pixels `(C, *space)`, once for each fit: `(networks, *side, C)`."""
        patches = torch.stack([pixels[(slice(None), *part)] for part in self.patches.slices])
        return patches.movedim(1, -1).repeat(self.fits, *[1] * pixels.dim())

    def forward(self, positions: Tensor) -> Tensor:
        """Values `(networks, *points, C)` at positions `(*points, ndim)` in every patch.

        Positions are in pixels from the centre of the first pixel of the patch; they may lie between pixel centres.
        """
        values: Tensor = self.siren(self._coordinates(positions.reshape(-1, self.ndim)))
        return values.reshape(len(values), *positions.shape[:-1], self.channels)

    @torch.no_grad()
    def render(self, upsampling: Sequence[int] = ()) -> Tensor:
        """Evaluate the averaged networks at all pixels, blend patches and average fits: `(C, *space)`.

        Args:
            upsampling: Factor by which the grid is finer along each axis of space; the pixel grid if empty. The
                outer borders of both grids are the same.
        """
        return self.render_fits(upsampling).mean(dim=0)

    @torch.no_grad()
    def render_fits(self, upsampling: Sequence[int] = ()) -> Tensor:
        """The same for each of the fits by itself, `(fits, C, *space)`."""
        factors = tuple(upsampling) or (1,) * self.ndim
        side = tuple(n * k for n, k in zip(self.patches.side, factors, strict=True))
        ema = self.siren.ema
        coordinates = self._coordinates(pixel_centres(side, factors).reshape(-1, self.ndim)).to(ema.weights[0].device)
        values = torch.cat([ema(chunk) for chunk in torch.split(coordinates, self.chunk_size)], dim=1)
        patches = values.reshape(self.fits, -1, *side, self.channels).movedim(-1, 2)
        return blend(self.patches, patches.unbind(dim=1))

    def _coordinates(self, positions: Tensor) -> Tensor:
        """Positions as coordinates of the SIRENs: the longest side spans [-1, 1], with one scale for all axes."""
        last = torch.tensor([n - 1 for n in self.patches.side], device=positions.device)
        return (2 * positions - last).float() / max(max(self.patches.side) - 1, 1)


def pixel_centres(shape: Sequence[int], upsampling: Sequence[int]) -> Tensor:
    """Centres of the pixels of an upsampled grid of this shape, in pixels of the coarse grid: `(*shape, ndim)`."""
    lines = [(torch.arange(n) + 0.5) / k - 0.5 for n, k in zip(shape, upsampling, strict=True)]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)


def blend(tiling: Tiling, tiles: Sequence[Tensor]) -> Tensor:
    """Blend overlapping tiles into one block, weighted by the window of the tiling, on the device of the tiles.

    On the CPU the values are exactly those of `Tiling.blend`.

    Args:
        tiling: The positions of the tiles in the block.
        tiles: `(…, *side)` each, float32; their grid may be finer than that of the tiling, by whole factors.

    Returns:
        `(…, *shape)`, on the grid of the tiles.
    """
    ndim, first = len(tiling.shape), tiles[0]
    sides = tuple(first.shape[-ndim:])
    factors = [fine // coarse for fine, coarse in zip(sides, tiling.side, strict=True)]
    window = torch.from_numpy(tiling.window_of(sides)).to(first)
    weight = window.new_zeros([n * k for n, k in zip(tiling.shape, factors, strict=True)])
    total = first.new_zeros((*first.shape[:-ndim], *weight.shape))
    for tile, part in zip(tiles, fine_slices(tiling, factors), strict=True):
        inside: Any = (..., *part)
        total[inside] += tile * window
        weight[part] += window
    return total / weight


def fine_slices(tiling: Tiling, upsampling: Sequence[int]) -> list[tuple[slice, ...]]:
    """The part of an upsampled block that each tile covers."""
    return [
        tuple(slice(one.start * k, one.stop * k) for one, k in zip(part, upsampling, strict=True))
        for part in tiling.slices
    ]


@torch.no_grad()
def combine_fields(fields: Sequence[Field]) -> Field:
    """Fields of blocks of one shape as one field, whose networks are all evaluated in one batched product.

    The weights of the fields become views of those of the combined one: training it trains them.
    The combined field cannot render, since its networks belong to several blocks.
    """
    first, *more = fields
    if not more:
        return first
    combined = copy.deepcopy(first)
    for joint, *parts in zip(combined.parameters(), *(field.parameters() for field in fields), strict=True):
        joint.data = torch.cat([part.data for part in parts])
        for part, view in zip(parts, joint.data.split([len(part) for part in parts]), strict=True):
            part.data = view
    return combined
