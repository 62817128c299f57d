"""Blur: convolution of the scene with a point spread function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from napari_pristine.physics.operator import Grid
from napari_pristine.physics.psf import PSF

Boundary = Literal["reflect", "circular"]


@dataclass(frozen=True)
class Blur:
    """Convolution with a point spread function.

    Attributes:
        psf: The point spread function.
        boundary: Continuation of the scene beyond its border: mirrored, or periodic.
        upsampling: Factor by which the grid of the scene is finer than that of the image, along each axis; the
            same grid if empty.
    """

    psf: PSF
    boundary: Boundary = "reflect"
    upsampling: tuple[int, ...] = ()

    def factors(self, axes: str) -> tuple[int, ...]:
        """The grid stays the same."""
        return (1,) * len(axes)

    def apply(self, scene: Tensor, grid: Grid) -> Tensor:
        """Convolve by Fourier transforms of the continued scene."""
        kernel = self.psf.kernel(grid, self.upsampling or (1,) * len(grid.axes)).to(scene)
        space = range(-kernel.dim(), 0)
        half = [n // 2 for n in kernel.shape]
        size = list(scene.shape[-kernel.dim() :])
        for axis, margin in zip(space, half, strict=True):
            index = torch.arange(-margin, scene.shape[axis] + margin, device=scene.device)
            scene = scene.index_select(axis, _fold(index, scene.shape[axis], self.boundary))
        shape = list(scene.shape[-kernel.dim() :])
        spectrum = torch.fft.rfftn(scene, dim=tuple(space)) * torch.fft.rfftn(kernel, shape)
        blurred: Tensor = torch.fft.irfftn(spectrum, shape, dim=tuple(space))
        for axis, margin, n in zip(space, half, size, strict=True):
            # the kernel's centre is not its first element, which shifts everything by another margin
            blurred = blurred.narrow(axis, 2 * margin, n)
        return blurred


def _fold(index: Tensor, size: int, boundary: Boundary) -> Tensor:
    """Indices beyond the border as indices within it; a mirror image repeats the pixels at the border."""
    if boundary == "circular":
        return index % size
    folded = index % (2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)
