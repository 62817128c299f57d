"""Recover: the scene behind degraded pictures, by turns of denoising it and of making it fit the pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_pristine.physics.operator import Grid, Operators, degrade

_ITERATIONS = 30
"""Of conjugate gradients in each round, at most."""


@dataclass(frozen=True, eq=False)
class View:
    """A picture of the scene.

    Attributes:
        values: `(C, *space)`.
        weights: Inverse variances of their noise, 0 where a pixel was not seen; broadcast over the values.
        operators: From the scene to the picture.
        grid: Of the scene.
    """

    values: Tensor
    weights: Tensor
    operators: Operators
    grid: Grid


def recover(
    start: Tensor,
    views: Sequence[View],
    denoise: Callable[[Tensor, Tensor, float], Tensor],
    rounds: int,
    strengths: tuple[float, float],
    trust: float,
) -> Iterator[Tensor]:
    """Half-quadratic splitting with a denoiser in the place of a prior.

    After Venkatakrishnan, Bouman & Wohlberg (2013), plug-and-play priors, with the schedule of Zhang et al. (CVPR
    2017): what is taken for noise is strong at first, so that large errors go, and falls to what is left at the end.

    Args:
        start: The scene to begin with, `(C, *space)`.
        views: The pictures.
        denoise: `(scene, pilot, noise level) -> scene`, the pilot being what it said the time before.
        rounds: How many.
        strengths: Noise level of the first round and of the last.
        trust: Weight of the denoised scene beside the pictures, in inverse variances of what was taken from it.

    Yields:
        The scene after each round.
    """
    scene = pilot = start
    for strength in np.geomspace(*strengths, rounds):
        pilot = denoise(scene, pilot, float(strength))
        scene = closest(pilot, views, trust / float(strength) ** 2)
        yield scene


def closest(scene: Tensor, views: Sequence[View], weight: float) -> Tensor:
    """The scene that fits the pictures and stays near this one: conjugate gradients on a quadratic form.

    Args:
        scene: `(C, *space)`.
        views: The pictures; with none of them the scene stays as it is.
        weight: Of the scene beside them, an inverse variance.
    """
    if not views:
        return scene
    still = [View(torch.zeros_like(v.values), v.weights, v.operators, v.grid) for v in views]
    residual = -_slope(scene, views)
    direction, power = residual, residual.square().sum()
    enough = 1e-6 * float(power)
    for _ in range(_ITERATIONS):
        if float(power) <= enough:
            break
        bent = _slope(direction, still) + weight * direction
        step = power / (direction * bent).sum()
        scene, residual = scene + step * direction, residual - step * bent
        before, power = power, residual.square().sum()
        direction = residual + power / before * direction
    return scene


def _slope(scene: Tensor, views: Sequence[View]) -> Tensor:
    """Gradient of half the weighted squared misfit; of a picture of zeros it is the form that the pictures make."""
    with torch.enable_grad():
        scene = scene.detach().requires_grad_()
        misfit = torch.stack(
            [
                (view.weights * (degrade(scene, view.operators, view.grid) - view.values).square()).sum()
                for view in views
            ]
        ).sum()
        (slope,) = torch.autograd.grad(misfit / 2, scene)
    return slope
