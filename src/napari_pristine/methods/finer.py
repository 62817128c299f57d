"""Finer: a field of networks on a grid that is finer than its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.fit_inr import points_at_once
from napari_pristine.nets.field import Field


@dataclass(frozen=True)
class FinerTiling(Tiling):
    """The tiles of another tiling on a grid that is `times` finer along each axis."""

    coarse: Tiling
    times: tuple[int, ...]

    @classmethod
    def over(cls, coarse: Tiling, times: tuple[int, ...]) -> FinerTiling:
        """These tiles; their corners and sides are multiples of `times`."""
        shape, side = (tuple(n * k for n, k in zip(sizes, times, strict=True)) for sizes in (coarse.shape, coarse.side))
        return cls(shape, side, coarse.overlap, coarse, times)

    def starts(self, axis: int) -> list[int]:
        """First pixel of each tile along an axis."""
        return [self.times[axis] * start for start in self.coarse.starts(axis)]


@torch.no_grad()
def render_finer(net: Field, times: tuple[int, ...]) -> Tensor:
    """The averaged function on a grid `times` finer, patches blended and fits averaged: `(C, *space)`.

    The centres of the fine pixels lie inside the coarse ones.
    """
    if set(times) == {1}:
        return net.render()
    fine = FinerTiling.over(net.patches, times)
    device, training = net.siren.ema.weights[0].device, net.training
    at = finer_points(torch.zeros(1, net.ndim), fine.side, times).reshape(-1, net.ndim).to(device)
    net.eval()
    values = torch.cat([net(part) for part in torch.split(at, points_at_once(net))], dim=1)
    net.train(training)
    fits = values.reshape(net.fits, len(fine.corners), *fine.side, net.channels).mean(dim=0)
    return torch.from_numpy(fine.blend(list(fits.movedim(-1, 1).cpu().numpy()))).to(device)


def finer_points(corners: Tensor, side: tuple[int, ...], times: tuple[int, ...]) -> Tensor:
    """Centres, in coarse pixels, of `side` fine pixels from each corner `(blocks, ndim)`: `(blocks, *side, ndim)`."""
    lines = [(torch.arange(n, device=corners.device) + 0.5) / k - 0.5 for n, k in zip(side, times, strict=True)]
    inside = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
    return corners.reshape(len(corners), *[1] * len(side), len(side)) + inside
