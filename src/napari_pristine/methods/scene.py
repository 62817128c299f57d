"""Scene: what several pictures have in common, as one field of networks, and how each picture sees it.

All of the scene is computed in each step, patches blended, so that operators find what lies beside each pixel.
Networks are laid out in cells, the smallest boxes that hold whole pixels of every picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from napari_pristine.errors import SettingError
from napari_pristine.methods.degradation import Degradation
from napari_pristine.methods.finer import FinerTiling, finer_points
from napari_pristine.methods.fit_inr import mean_slope, noise_level, points_at_once
from napari_pristine.methods.method import NoisyBlock
from napari_pristine.nets.field import Field
from napari_pristine.physics.mask import Mask
from napari_pristine.physics.operator import Grid, Operators, degrade

LEAST = 0.015
"""Least noise level, in spreads of the values, that the weight of the slope follows: where pictures do not tell all
of the scene, slopes cost even without noise."""
_ROOM = 64
"""How many times what fits the cache is kept for the way back; the rest is computed again."""


_RATE = 0.03
"""How fast the weight of the slope follows the residual, per step."""
_SPAN = 16.0
"""How many times more or less than at first the slope may weigh."""


def cell_of(pictures: Sequence[Degradation], axes: str) -> tuple[int, ...]:
    """Pixels of the scene along each side of a cell."""
    return tuple(math.lcm(*sides) for sides in zip(*(picture.times(axes) for picture in pictures), strict=True))


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, as the networks are to explain it.

    Attributes:
        values: `(C, *space)`, in the units of the networks.
        fitted: `(*space)`: 1 where a pixel counts, 0 where it has no value or is held out.
        held_out: The same, 1 where a pixel is held out.
        sigma: Noise level in the units of the values.
        weight: Of its misfit.
        operators: From the scene to the picture; the mask of what was seen is the last of them.
        grid: Of the scene.
    """

    values: Tensor
    fitted: Tensor
    held_out: Tensor
    sigma: float
    weight: float
    operators: Operators
    grid: Grid

    def misfit(self, scene: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error of all pixels `()`, and of those fitted and held out in noise variances `(2,)`.

        The first counts pixels that were not seen as right: where few were seen, the slope decides.
        """
        valid = self.fitted + self.held_out
        square = (degrade(scene, self.operators, self.grid) - self.values * valid).square().mean(dim=1)
        fitted = (square * self.fitted).mean()
        hidden = (square.detach() * self.held_out).mean()
        shares = torch.stack([self.fitted.mean(), self.held_out.mean()]).clamp(min=1e-6)
        return fitted, torch.stack([fitted.detach(), hidden]) / shares / self.sigma**2


@dataclass(frozen=True, eq=False)
class Scene:
    """All pictures of a scene, and how it is put together from patches.

    Attributes:
        pictures: At least one; the first is the one that is restored.
        shape: Of the scene, in its own pixels.
        points: The pixels of a patch, in cells: `(points, ndim)`.
        places: Where the pixels of each patch lie in the scene, `(patches · points,)`.
        shares: The share of each of them in its place, of the same shape.
        penalty: Weight of the slope.
        steps: Distance of neighbouring pixels along each axis, in pixels of the first picture.
    """

    pictures: tuple[Picture, ...]
    shape: tuple[int, ...]
    points: Tensor
    places: Tensor
    shares: Tensor
    penalty: float
    steps: tuple[float, ...]

    def backward(self, net: Field, balance: float = 1.0) -> Tensor:
        """Add the gradients of the loss; `balance` times the weight of the slope.

        Returns:
            Mean squared error of the pixels fitted and of those held out, in noise variances, `(2,)`; the mean over
            the pictures.
        """
        scene = self.compose(net)
        loss: Tensor = scene.new_zeros(())
        misfit = scene.new_zeros(2)
        for picture in self.pictures:
            part, relative = picture.misfit(scene)
            loss = loss + picture.weight * part
            misfit += relative / len(self.pictures)
        if self.penalty:
            slope = mean_slope(scene.movedim(1, -1)[:, None], self.pictures[0].sigma, self.steps)
            loss = loss + balance * self.penalty * slope
        # times the copies: each network sees the gradient that it would see alone
        torch.autograd.backward(loss * net.siren.model.copies)
        return misfit

    def compose(self, net: Field) -> Tensor:
        """The scene of each fit, patches blended: `(fits, C, *shape)`."""
        room = _ROOM * points_at_once(net)
        if len(self.points) <= room:
            values = net(self.points)
        else:  # what would not fit is computed again on the way back
            parts = torch.split(self.points, room)
            values = torch.cat([checkpoint(net, part, use_reentrant=False) for part in parts], dim=1)
        values = values.reshape(net.fits, -1, net.channels) * self.shares[:, None]
        whole: Tensor = values.new_zeros((net.fits, math.prod(self.shape), net.channels))
        whole = torch.index_add(whole, 1, self.places, values)
        return whole.movedim(-1, 1).reshape(net.fits, net.channels, *self.shape)


@dataclass
class Balance:
    """Lets the weight of the slope follow the residual, so that it ends at the noise level.

    Noise that was left in after blur and sampling says little about how strong slopes of the scene are.

    Attributes:
        value: What the weight is multiplied by.
        mean: Running mean of the misfit in noise variances.
    """

    value: float = 1.0
    mean: float = math.nan

    def follow(self, misfit: float) -> None:
        """Less weight where the residual is stronger than the noise, more where it is weaker."""
        self.mean = misfit if math.isnan(self.mean) else 0.9 * self.mean + 0.1 * misfit
        step = _RATE * min(max(math.log(max(self.mean, 1e-9)), -1.0), 1.0)
        self.value = min(max(self.value * math.exp(-step), 1 / _SPAN), _SPAN)


def look(
    net: Field, views: Sequence[tuple[NoisyBlock, Degradation]], unit: float, holdout: float, generator: torch.Generator
) -> tuple[Picture, ...]:
    """The pictures as the networks are to explain them.

    Args:
        net: The networks.
        views: Pictures with values in units of the first, and how they came about.
        unit: Unit of the networks, in that of the pictures.
        holdout: Share of the pixels that are held out.
        generator: Where the random numbers come from.

    Raises:
        SettingError: The pictures do not fit each other.
    """
    cell = cell_of([how for _, how in views], views[0][0].axes)
    least = least_noise([noisy for noisy, _ in views])
    weights = [
        (least / max(noise_level(noisy), least)) ** 2 if how.weight is None else how.weight for noisy, how in views
    ]
    return tuple(
        _picture(net, noisy, how, cell, unit, weight, holdout, generator)
        for (noisy, how), weight in zip(views, weights, strict=True)
    )


def build(
    net: Field, pictures: tuple[Picture, ...], cell: tuple[int, ...], penalty: float, steps: tuple[float, ...]
) -> Scene:
    """The scene of some pictures."""
    fine = FinerTiling.over(net.patches, cell)
    device = pictures[0].values.device
    numbers = torch.arange(math.prod(fine.shape)).reshape(fine.shape)
    places = torch.cat([numbers[part].reshape(-1) for part in fine.slices])
    weights = torch.from_numpy(fine.window).reshape(-1).repeat(len(fine.corners))
    total = torch.zeros(numbers.numel()).index_add(0, places, weights)
    points = finer_points(torch.zeros(1, net.ndim), fine.side, cell).reshape(-1, net.ndim)
    shares = weights / total[places]
    return Scene(pictures, fine.shape, points.to(device), places.to(device), shares.to(device), penalty, steps)


def least_noise(noisy: Sequence[NoisyBlock]) -> float:
    """Noise level of the picture that has least; the slope follows it, and other pictures weigh less than this one."""
    return max(min(noise_level(picture) for picture in noisy), LEAST)


def relative_spacing(noisy: NoisyBlock) -> tuple[float, ...]:
    """Distance of neighbouring pixels along each axis, the least in space being 1; a step in time counts as 1."""
    least = min(d for axis, d in zip(noisy.axes, noisy.spacing, strict=True) if axis in "ZYX")
    return tuple(d / least if axis in "ZYX" else 1.0 for axis, d in zip(noisy.axes, noisy.spacing, strict=True))


def _picture(
    net: Field,
    noisy: NoisyBlock,
    how: Degradation,
    cell: tuple[int, ...],
    unit: float,
    weight: float,
    holdout: float,
    generator: torch.Generator,
) -> Picture:
    shape = tuple(noisy.pixels.shape[1:])
    times = how.times(noisy.axes)
    needed = tuple(n * c // k for n, c, k in zip(net.patches.shape, cell, times, strict=True))
    if needed != shape:
        raise SettingError(
            f"a picture of {shape} pixels whose scene is {times} times finer does not show the same as the others; "
            f"{needed} pixels are needed (along {noisy.axes})"
        )
    valid = noisy.valid.float()
    held_out = valid * (torch.rand(valid.shape, generator=generator) < holdout).to(valid)
    operators, scene = how.way(noisy)
    sigma, seen = noise_level(noisy) / unit, (*operators, Mask(noisy.valid))
    return Picture(noisy.pixels / unit, valid - held_out, held_out, sigma, weight, seen, scene)
