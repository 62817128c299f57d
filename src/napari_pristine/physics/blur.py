"""Blur: each point of the scene becomes a spot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_pristine.physics.operator import Grid

Boundary = Literal["reflect", "circular"]


class PSF(Protocol):
    """The picture of a point; a frozen value."""

    def __hash__(self) -> int:
        """Equal spots are computed once."""

    def values(self, grid: Grid) -> NDArray[np.float64]:
        """Its values on this grid: odd sides, the point in the middle, the sum 1."""


@dataclass(frozen=True)
class Blur:
    """Convolution with a spot.

    Attributes:
        spot: The picture of a point.
        boundary: What lies beyond the border: the mirrored scene, or its opposite side.
    """

    spot: PSF
    boundary: Boundary = "reflect"

    def times(self, axes: str) -> tuple[int, ...]:
        """The grid stays the same."""
        return (1,) * len(axes)

    def halo(self, grid: Grid) -> tuple[int, ...]:
        """Half the spot."""
        return tuple(n // 2 for n in _kernel(self.spot, grid.axes, grid.spacing).shape)

    def apply(self, scene: Tensor, grid: Grid) -> Tensor:
        """Convolve by Fourier transforms of the scene continued beyond its border."""
        kernel = _kernel(self.spot, grid.axes, grid.spacing).to(scene)
        space = range(-kernel.dim(), 0)
        half = [n // 2 for n in kernel.shape]
        size = list(scene.shape[-kernel.dim() :])
        for axis, beyond in zip(space, half, strict=True):
            around = torch.arange(-beyond, scene.shape[axis] + beyond, device=scene.device)
            scene = scene.index_select(axis, _fold(around, scene.shape[axis], self.boundary))
        shape = list(scene.shape[-kernel.dim() :])
        spectrum = torch.fft.rfftn(scene, dim=tuple(space)) * torch.fft.rfftn(kernel, shape)
        blurred: Tensor = torch.fft.irfftn(spectrum, shape, dim=tuple(space))
        for axis, beyond, n in zip(space, half, size, strict=True):
            blurred = blurred.narrow(axis, 2 * beyond, n)  # the kernel starts at its corner: all is shifted by half
        return blurred


def _fold(places: Tensor, size: int, boundary: Boundary) -> Tensor:
    """Places beyond the border as places within it; the mirror stands on the border, between pixels."""
    if boundary == "circular":
        return places % size
    folded = places % (2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)


@lru_cache(maxsize=32)
def _kernel(spot: PSF, axes: str, spacing: tuple[float, ...]) -> Tensor:
    return torch.from_numpy(spot.values(Grid(axes, (0,) * len(axes), spacing)))
