"""LINR: fit one continuous function to one or several degraded images of a scene.

After Xu & Jiao (2023), "Revisiting implicit neural representations in low-level vision", Neural Fields workshop of
ICLR. Denoises, upsamples, fills in, deblurs, and combines images of one scene: the function, blurred and
sampled like each of the images, is fitted to that image.

As published, it is one SIREN for the whole scene. Here, it is many small SIRENs for overlapping patches, fitted to
random boxes of pixels with a slope penalty; the average of the iterates is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from napari_pristine.errors import SettingError
from napari_pristine.fits.fields import (
    Targets,
    accumulate_gradients,
    adapt_frequency,
    draw_positions,
    noise_level,
    optimisers,
    paper_width,
    pixels_per_step,
    slope_weight,
    stop_rules,
)
from napari_pristine.fits.optimisation import Optimisation, linear_decay
from napari_pristine.fits.scene import (
    LEAST_NOISE,
    DegradedImage,
    Scene,
    SlopeBalance,
    cell_sides,
    forward_operators,
    lowest_noise,
    make_targets,
    relative_spacing,
)
from napari_pristine.image.refine import denoise_consensus, refine_channels
from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.linr import LinrParams
from napari_pristine.methods.method import Fit, NoisyBlock, Step
from napari_pristine.nets.field import Field
from napari_pristine.physics.operator import degrade
from napari_pristine.physics.recover import Observation, fit_observations, recover

_FEWEST_CELLS = 8
"""Cells along the side of a patch, at least."""
_SMALLER_PATCHES = 3
"""Patches are smaller by this factor if no image shows all of the scene: hidden detail takes more networks."""
_FIRST_NOISE, _LAST_NOISE = 0.9, 0.1
"""Noise levels assumed in the first and the last round of refinement, in standard deviations of the values."""
_PRIOR, _PRIOR_IF_BLURRED, _PRIOR_IF_COARSE = 1.0, 0.5, 0.3
"""Weight of the denoised scene; less where no image shows it as it is, since it then has less noise than the images."""
_SPECTRA = 0.8
"""Weight, beside the scene, of the denoised image where an image shows all of the scene: their errors differ."""


def network(params: LinrParams, channels: int, space: tuple[int, ...]) -> Field:
    """One SIREN for each patch and fit; one for all if `patch` is none.

    Raises:
        SettingError: The pixels of all images do not fit into whole cells.
    """
    axes = "ZYX"[-len(space) :]
    cell, factors = cell_sides(params.degradations, axes), params.factors(axes)
    if any(n * k % c for n, k, c in zip(space, factors, cell, strict=True)):
        raise SettingError(
            f"an image of {space} pixels does not hold a whole number of pixels of the other images; crop it, so "
            f"that its sides are multiples of {tuple(c // k for c, k in zip(cell, factors, strict=True))}"
        )
    cells = tuple(n * k // c for n, k, c in zip(space, factors, cell, strict=True))
    coarsest = max(cell)
    divisor = 1 if all(d.is_identity(axes) for d in params.degradations) else _SMALLER_PATCHES
    side = max(cells) if params.patch is None else max(params.patch // divisor // coarsest, _FEWEST_CELLS)
    patches = Tiling.of(cells, side, math.ceil(params.overlap / divisor / coarsest))
    # on a finer grid neighbouring pixels are more alike
    frequency = None if params.frequency is None else params.frequency * coarsest / math.sqrt(params.finer)
    return Field(patches, channels, params.width or paper_width(patches.side), params.layers, frequency, params.fits)


def fit(net: Field, block: NoisyBlock, params: LinrParams, warm: bool) -> Fit:
    """Minimise the sum over images of squared errors, plus smoothness · noise level · mean slope."""
    generator = torch.Generator().manual_seed(block.seed)
    if not warm:
        _make_isotropic(net, block, params)
        if not params.degraded:
            adapt_frequency(net, block, params)
    gradients = _make_gradient_step(net, block, params, generator)
    optimisation = Optimisation(
        net.siren,
        optimisers(net.siren.model, params),
        schedule=linear_decay(params.cooling),
        averaging=params.averaging,
    )
    rules = stop_rules(params, warm)
    steps = params.steps_of(warm, params.rough_steps if params.refinements else None)
    residual = (block.pixels / block.sigma.reshape(-1, *[1] * block.valid.dim())).square().mean()
    net.train()
    for step in range(1, steps + 1):
        optimisation.zero_grad()
        misfit = torch.zeros(2, device=block.pixels.device)
        for part in gradients():
            misfit += part
            yield Step(step - 1, steps, residual)  # a whole step may take long, and should not delay a cancel
        residual = misfit[0]
        if reason := rules.check(step, misfit):
            return reason
        optimisation.step(step / steps)
        yield Step(step, steps, residual)
    return rules.all_steps_taken(steps)


def _make_gradient_step(
    net: Field, block: NoisyBlock, params: LinrParams, generator: torch.Generator
) -> Callable[[], Iterator[Tensor]]:
    """Make the function that adds the gradients of one step, part by part, and yields the misfit of each part.

    A single image without blur or coarse pixels is fitted pixel by pixel; else the whole scene is computed at once.
    """
    centre, unit = _centre_and_unit(block, params)
    images = [
        DegradedImage(replace(image.block, pixels=image.block.pixels - centre), image.degradation)
        for image in _degraded_images(block, params)
    ]
    if len(images) == 1 and images[0].shows_all:
        scaled = replace(images[0].block, pixels=images[0].block.pixels / unit, sigma=block.sigma / unit)
        targets, batch = Targets.of(net, scaled, params, generator), pixels_per_step(block, params)

        def pixel_by_pixel() -> Iterator[Tensor]:
            for positions, fraction in draw_positions(net, batch, generator):
                yield accumulate_gradients(net, positions, fraction, targets)

        return pixel_by_pixel

    least = lowest_noise([image.block for image in images]) / unit
    all_targets = make_targets(net, images, unit, params.holdout, generator)
    scene = Scene.of(
        net,
        all_targets,
        cell_sides(params.degradations, block.axes),
        slope_weight=params.smoothness * least * slope_weight(block) / noise_level(block),
        spacing=tuple(d / k for d, k in zip(relative_spacing(block), params.factors(block.axes), strict=True)),
    )
    balance, adapt = SlopeBalance(), not all(image.shows_all for image in images)
    floor = min(1.0, min(target.sigma for target in all_targets) / least) ** 2

    def whole_scene() -> Iterator[Tensor]:
        misfit = scene.accumulate_gradients(net, balance.factor)
        if adapt:
            balance.update(float(misfit[0]) * floor)
        yield misfit

    return whole_scene


def restore(net: Field, block: NoisyBlock, params: LinrParams) -> Tensor:
    """The scene at the pixel centres of the finer grid, `(C, *space)`."""
    centre, unit = _centre_and_unit(block, params)
    return net.render(cell_sides(params.degradations, block.axes)) * unit + centre


def forward_model(params: LinrParams, restored: Tensor, block: NoisyBlock) -> Tensor:
    """Degrade the restored scene like the noisy image."""
    operators, grid = forward_operators(params, block)
    return degrade(restored, operators, grid)


def refine(params: LinrParams, restored: Tensor, block: NoisyBlock) -> Iterator[Tensor]:
    """Alternate between denoising the scene and fitting it to the images, starting from the fitted function.

    Images that show all of the scene are denoised once more at the end, with the scene as pilot.
    """
    images = _degraded_images(block, params)
    least = max(lowest_noise([image.block for image in images]), LEAST_NOISE)
    observations = [_observation(image, least) for image in images]
    noise_levels = (_FIRST_NOISE, min(max(_LAST_NOISE, least), _FIRST_NOISE))
    scene = restored
    for scene in recover(restored, observations, _denoise, params.rounds, noise_levels, _prior_weight(images)):
        yield scene
    complete = [image.shows_all and bool(image.block.valid.all()) for image in images]
    if any(complete):
        blocks = [image.block for image, is_complete in zip(images, complete, strict=True) if is_complete]
        weights = torch.tensor([noise_level(b) ** -2 for b in blocks])
        denoised = torch.stack([_denoise_by_spectra(b, scene) for b in blocks])
        mean = (denoised * (weights / weights.sum()).to(denoised).reshape(-1, *[1] * scene.dim())).sum(dim=0)
        others = [observed for observed, is_complete in zip(observations, complete, strict=True) if not is_complete]
        yield fit_observations(scene.lerp(mean, _SPECTRA), others, _PRIOR * float(weights.sum()))


def _denoise_by_spectra(block: NoisyBlock, scene: Tensor) -> Tensor:
    """An image that shows all of the scene, denoised by an empirical Wiener filter with the scene as pilot."""
    level = block.sigma.reshape(-1, *[1] * block.valid.dim())
    unit = level if block.variance is None else block.variance.sqrt()
    noisy, pilot = ((pixels / unit).cpu().numpy() for pixels in (block.pixels, scene))
    return torch.from_numpy(refine_channels(noisy, pilot, 1.0)).to(scene) * unit


def _denoise(scene: Tensor, pilot: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(denoise_consensus(scene.cpu().numpy(), pilot.cpu().numpy(), sigma)).to(scene)


def _prior_weight(images: list[DegradedImage]) -> float:
    if any(image.shows_all for image in images):
        return _PRIOR
    return _PRIOR_IF_COARSE if all(image.degradation.finer > 1 for image in images) else _PRIOR_IF_BLURRED


def _observation(image: DegradedImage, least: float) -> Observation:
    """An image with its operators, each pixel weighted by its noise unless a setting gives the weight."""
    block, weight = image.block, image.degradation.weight
    uniform = block.sigma.square().reshape(-1, *[1] * block.valid.dim())
    variance = uniform if block.variance is None else block.variance
    weights = block.valid / variance.clamp(min=least**2)
    if weight is not None:
        weights = block.valid * torch.full_like(uniform, weight / least**2)
    return Observation(block.pixels, weights, *forward_operators(image.degradation, block))


def _degraded_images(block: NoisyBlock, params: LinrParams) -> list[DegradedImage]:
    """All images with their degradations.

    Raises:
        SettingError: There are more or fewer images than settings for them.
    """
    params.check(block.axes, len(block.others))
    return [DegradedImage(b, d) for b, d in zip((block, *block.others), params.degradations, strict=True)]


def _centre_and_unit(block: NoisyBlock, params: LinrParams) -> tuple[float, float]:
    """The pixel values that the networks represent as 0, and as 1 above it."""
    if params.scaling == "spread":
        return 0.0, 1.0
    valid = block.pixels[:, block.valid]
    low, high = float(valid.min()), float(valid.max())
    return (low + high) / 2, max((high - low) / 2, 1e-6)


@torch.no_grad()
def _make_isotropic(net: Field, block: NoisyBlock, params: LinrParams) -> None:
    """Let the function vary as fast along each axis in µm, where pixels are deeper than wide.

    Multiplying the first weights by k stretches the coordinate by k.
    """
    pixels = [n / c for n, c in zip(block.pixels.shape[1:], net.patches.shape, strict=True)]
    lengths = [d * p for d, p in zip(relative_spacing(block), pixels, strict=True)]
    extent = max((n - 1) * d for n, d in zip(net.patches.side, lengths, strict=True))
    mean_length = max(extent, 1e-6) / max(max(net.patches.side) - 1, 1)
    reference = min(lengths) if params.frequency else mean_length
    limit = math.pi / params.frequency if params.frequency else math.inf  # at most half a turn from pixel to pixel
    for siren in (net.siren.model, net.siren.ema):
        weight = siren.weights[0]
        stretch = torch.tensor([min(d / reference, limit) for d in lengths], device=weight.device)
        weight.mul_(stretch[None, :, None])
