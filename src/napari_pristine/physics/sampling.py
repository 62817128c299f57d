"""Downsample: several pixels of the scene become one of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from napari_pristine.errors import SettingError
from napari_pristine.physics.operator import Grid

Kind = Literal["box", "lanczos"]
_LOBES = 2
"""Lobes of the Lanczos window on each side."""


@dataclass(frozen=True)
class Downsample:
    """Every `factor` pixels along some axes become one.

    Attributes:
        factor: How many.
        axes: Letters of the axes that become coarser; others stay.
        kind: `box`, the mean, as a camera bins; `lanczos`, the windowed sinc by which pictures are resized.
    """

    factor: int
    axes: str = "YX"
    kind: Kind = "box"

    def times(self, axes: str) -> tuple[int, ...]:
        """`factor` along the axes that become coarser."""
        return tuple(self.factor if axis in self.axes else 1 for axis in axes)

    def halo(self, grid: Grid) -> tuple[int, ...]:
        """A box sees what it becomes, a sinc more."""
        beyond = 0 if self.kind == "box" else (len(_lanczos(self.factor)) - self.factor) // 2
        return tuple(beyond if k > 1 else 0 for k in self.times(grid.axes))

    def apply(self, scene: Tensor, grid: Grid) -> Tensor:
        """One axis after the other, as both kinds are products over axes.

        Raises:
            SettingError: A side is no multiple of the factor.
        """
        for axis, times in enumerate(self.times(grid.axes), start=scene.dim() - len(grid.axes)):
            if scene.shape[axis] % times:
                raise SettingError(f"a scene of {scene.shape[axis]} pixels cannot be made {times} times coarser")
            if times > 1:
                scene = self._along(scene.movedim(axis, -1)).movedim(-1, axis)
        return scene

    def _along(self, scene: Tensor) -> Tensor:
        """Downsample the last axis."""
        if self.kind == "box":
            return scene.reshape(*scene.shape[:-1], -1, self.factor).mean(dim=-1)
        taps = torch.tensor(_lanczos(self.factor), dtype=scene.dtype, device=scene.device)
        beyond = (len(taps) - self.factor) // 2
        lines = scene.reshape(-1, 1, scene.shape[-1])
        lines = nn.functional.pad(lines, (beyond, beyond), mode="replicate")
        lines = nn.functional.conv1d(lines, taps[None, None], stride=self.factor)
        return lines.reshape(*scene.shape[:-1], -1)


@cache
def _lanczos(factor: int) -> tuple[float, ...]:
    """Lanczos-2 weights for one pixel, symmetric about its centre, with the sum 1.

    An even factor takes an even number of them, four per pixel: deep image prior's downsampler with phase ½.
    """
    count = 2 * _LOBES * factor + factor % 2
    at = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) / factor
    weights = torch.sinc(at) * torch.sinc(at / _LOBES)
    return tuple((weights / weights.sum()).tolist())
