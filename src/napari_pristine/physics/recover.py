"""Plug-and-play restoration: alternate between denoising a scene and fitting it to degraded images of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_pristine.physics.operator import Grid, Operators, degrade

_ITERATIONS = 30
"""Maximum number of conjugate gradient iterations in each round."""
_TOLERANCE = 1e-6
"""Conjugate gradients stop when the squared residual has fallen to this fraction."""


@dataclass(frozen=True, eq=False)
class Observation:
    """A degraded image of the scene.

    Attributes:
        values: `(C, *space)`.
        weights: Inverse noise variances, 0 where a pixel has no value; broadcast over the values.
        operators: Operators from the scene to the image.
        grid: Grid of the scene.
    """

    values: Tensor
    weights: Tensor
    operators: Operators
    grid: Grid


def recover(
    start: Tensor,
    observations: Sequence[Observation],
    denoise: Callable[[Tensor, Tensor, float], Tensor],
    rounds: int,
    noise_levels: tuple[float, float],
    prior_weight: float,
) -> Iterator[Tensor]:
    """Half-quadratic splitting with a denoiser as the prior.

    After Venkatakrishnan, Bouman & Wohlberg (2013), plug-and-play priors, with the schedule of Zhang et al. (CVPR
    2017): the assumed noise level is high at first, to remove large errors, and falls to that of the remaining noise.

    Args:
        start: The scene to begin with, `(C, *space)`.
        observations: The images to fit.
        denoise: `(scene, pilot, noise level) -> scene`; the pilot is the result of the round before.
        rounds: Number of rounds.
        noise_levels: Assumed noise level of the scene in the first round and in the last; geometric in between.
        prior_weight: Weight of the denoised scene relative to the images, in units of 1 / noise level².

    Yields:
        The scene after each round.
    """
    scene = pilot = start
    for noise_level in np.geomspace(*noise_levels, rounds):
        pilot = denoise(scene, pilot, float(noise_level))
        scene = fit_observations(pilot, observations, prior_weight / float(noise_level) ** 2)
        yield scene


def fit_observations(scene: Tensor, observations: Sequence[Observation], weight: float) -> Tensor:
    """Find the scene that minimises weighted squared residuals plus `weight` times its squared distance to this one.

    Conjugate gradients on the quadratic form.

    Args:
        scene: `(C, *space)`.
        observations: The images to fit; without any the scene is returned as it is.
        weight: Inverse variance of the scene given.
    """
    if not observations:
        return scene
    homogeneous = [Observation(torch.zeros_like(o.values), o.weights, o.operators, o.grid) for o in observations]
    residual = -_gradient(scene, observations)
    direction, power = residual, residual.square().sum()
    enough = _TOLERANCE * float(power)
    for _ in range(_ITERATIONS):
        if float(power) <= enough:
            break
        product = _gradient(direction, homogeneous) + weight * direction
        step = power / (direction * product).sum()
        scene, residual = scene + step * direction, residual - step * product
        previous, power = power, residual.square().sum()
        direction = residual + power / previous * direction
    return scene


def _gradient(scene: Tensor, observations: Sequence[Observation]) -> Tensor:
    """Gradient of half the weighted squared residuals; for images of zeros a linear function of the scene."""
    with torch.enable_grad():
        scene = scene.detach().requires_grad_()
        misfit = torch.stack(
            [(o.weights * (degrade(scene, o.operators, o.grid) - o.values).square()).sum() for o in observations]
        ).sum()
        (gradient,) = torch.autograd.grad(misfit / 2, scene)
    return gradient
