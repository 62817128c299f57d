"""Sampling of a scene by a camera: downsampling to coarser pixels, and missing pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from napari_pristine.errors import SettingError
from napari_pristine.physics.operator import Grid
from napari_pristine.text import counted

Kind = Literal["box", "lanczos"]
_LOBES = 2
"""Lobes of the Lanczos window on each side."""


@dataclass(frozen=True)
class Downsample:
    """Combine every `factor` pixels along some axes into one.

    Attributes:
        factor: Pixels of the input along one of the output.
        downsampled_axes: Letters of the axes that become coarser.
        kind: `box`, the mean, as a camera bins; `lanczos`, the windowed sinc by which images are resized.
    """

    factor: int
    downsampled_axes: str = "YX"
    kind: Kind = "box"

    def factors(self, axes: str) -> tuple[int, ...]:
        """`factor` along the axes that become coarser, else 1."""
        return tuple(self.factor if axis in self.downsampled_axes else 1 for axis in axes)

    def apply(self, scene: Tensor, grid: Grid) -> Tensor:
        """Downsample one axis after the other: both kinds are separable.

        Raises:
            SettingError: A side is not a multiple of the factor.
        """
        for axis, factor in enumerate(self.factors(grid.axes), start=scene.dim() - len(grid.axes)):
            if scene.shape[axis] % factor:
                raise SettingError(
                    f"a scene of {counted(scene.shape[axis], 'pixel')} cannot be made {factor} times "
                    f"coarser; crop it to a "
                    f"multiple of {factor} pixels"
                )
            if factor > 1:
                scene = self._downsample_last_axis(scene.movedim(axis, -1)).movedim(-1, axis)
        return scene

    def _downsample_last_axis(self, scene: Tensor) -> Tensor:
        """Downsample the last axis."""
        if self.kind == "box":
            return scene.reshape(*scene.shape[:-1], -1, self.factor).mean(dim=-1)
        taps = torch.tensor(_lanczos(self.factor), dtype=scene.dtype, device=scene.device)
        padding = (len(taps) - self.factor) // 2
        lines = scene.reshape(-1, 1, scene.shape[-1])
        lines = nn.functional.pad(lines, (padding, padding), mode="replicate")
        lines = nn.functional.conv1d(lines, taps[None, None], stride=self.factor)
        return lines.reshape(*scene.shape[:-1], -1)


@cache
def _lanczos(factor: int) -> tuple[float, ...]:
    """Lanczos-2 weights for one pixel, symmetric about its centre, with the sum 1.

    Four weights per pixel of the input, and one more for odd factors: deep image prior's downsampler with phase ½.
    """
    count = 2 * _LOBES * factor + factor % 2
    distances = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) / factor
    weights = torch.sinc(distances) * torch.sinc(distances / _LOBES)
    return tuple((weights / weights.sum()).tolist())


@dataclass(frozen=True, eq=False)
class Mask:
    """Keep valid pixels and set all others to zero; always the last operator.

    Attributes:
        valid: `(*space)` of the image, true where a pixel has a value.
    """

    valid: Tensor

    def factors(self, axes: str) -> tuple[int, ...]:
        """The grid stays the same."""
        return (1,) * len(axes)

    def apply(self, scene: Tensor, grid: Grid) -> Tensor:
        """Multiply by the mask."""
        return scene * self.valid.to(scene)
