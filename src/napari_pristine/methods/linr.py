"""LINR: one continuous function behind one or several degraded pictures of a scene.

After Xu & Jiao (2023), "Revisiting implicit neural representations in low-level vision", Neural Fields workshop of
ICLR. Denoises, resolves finer, fills in, deblurs, and joins pictures of one scene: the function is fitted so that,
blurred and sampled as each picture was, it gives that picture.

The `paper` preset is one SIREN for the whole scene and a fixed number of steps. The others fit many small SIRENs to
overlapping patches, on random blocks, with a penalty on the slope, and use the average of the iterates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch
from pydantic import field_validator
from torch import Tensor

from napari_pristine.errors import SettingError
from napari_pristine.image.refine import denoise_consensus, refine_channels
from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.degradation import Degradation, ExtraImage, parse_extra_images
from napari_pristine.methods.finer import render_finer
from napari_pristine.methods.fit_inr import (
    FieldParams,
    backward,
    batch_of,
    draw_pixels,
    noise_level,
    optimisers,
    paper_width,
    slope_weight,
    slow_down,
    targets_of,
)
from napari_pristine.methods.fit_unet import anneal_lr
from napari_pristine.methods.method import Fit, Method, MethodParams, NoisyBlock, Step, StopReason
from napari_pristine.methods.scene import LEAST, Balance, build, cell_of, least_noise, look, relative_spacing
from napari_pristine.methods.stopping import EARLY, StopRules
from napari_pristine.nets.field import Field
from napari_pristine.physics.operator import degrade
from napari_pristine.physics.recover import View, closest, recover
from napari_pristine.settings import setting

_FEWEST = 8
"""Cells along a patch at least."""

_FIRST, _LAST = 0.9, 0.1
"""Noise levels that the refinement begins and ends with, in spreads of the values."""

_TRUST, _TRUST_IF_BLURRED, _TRUST_IF_COARSE = 1.0, 0.5, 0.3
"""Weight of the denoised scene; less where no picture shows it as it is, since it then holds less noise than they."""

_BELIEF = 0.8
"""Weight, beside that scene, of what a picture that shows all of it holds of it: both err, in different ways."""

_DETAIL = 3
"""How many times smaller patches are where the picture does not show all of the scene."""


class LinrParams(FieldParams, MethodParams, Degradation):
    """Fits a continuous function to degraded pictures of a scene; nothing to train beforehand."""

    also: str = setting(
        "", "More pictures of the scene: FILE NAME=VALUE …, with semicolons between; how each came about."
    )
    stabilise: bool = setting(True, "Make the noise of photons equally strong everywhere before fitting.")
    hot_pixels: bool = setting(True, "Take single pixels that outshine all around them for faults, and fill them.")
    refine: bool = setting(True, "Return to the result what the noisy image holds of the structures found.")
    rounds: int = setting(20, "Rounds of refinement, if the image is more than noisy.", ge=1, le=1000, advanced=True)
    rough_steps: int = setting(
        60, "Optimiser steps at most before rounds of refinement, which do the rest.", ge=1, le=100_000, advanced=True
    )
    scaling: Literal["spread", "range"] = setting(
        "spread", "What spans the unit of the networks: the spread of the values, or half their range.", advanced=True
    )

    @field_validator("also")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse_extra_images(text)
        return text

    @property
    def others(self) -> tuple[ExtraImage, ...]:
        """The further pictures of the scene."""
        return parse_extra_images(self.also)

    def finer_by(self, axes: str) -> tuple[int, ...]:
        """How many times finer the grid of the result is, along each of the axes of space."""
        return self.times(axes)

    @property
    def degraded(self) -> bool:
        """Whether the image is taken for more than noisy: blurred, too coarse, one of several pictures."""
        return self.finer > 1 or self.blur != "none" or bool(self.others)

    @property
    def refinements(self) -> int:
        """How many rounds of refinement there are."""
        return self.rounds if self.refine and self.degraded else 0

    @property
    def input_files(self) -> dict[str, str]:
        """Files that the settings name, by role; extra images without a file are given in Python."""
        files = {"psf": self.psf_file} if self.blur == "file" else {}
        for number, extra in enumerate(self.others, 1):
            files |= {f"extra_image_{number}": extra.file} if extra.file else {}
            files |= {f"extra_image_{number}_psf": extra.psf_file} if extra.blur == "file" else {}
        return files

    def check(self, axes: str, others: int) -> None:
        """Raise a `SettingError` unless there is a description for each of so many more pictures.

        Blocks without an axis Z cannot be finer along it.
        """
        if others != len(self.others):
            raise SettingError(
                f"'also' describes {len(self.others)} further pictures of the scene, and {others} are given; "
                "write one description for each, with semicolons between"
            )
        if any(how.finer > 1 and not set(how.finer_axes) <= set(axes) for how in (self, *self.others)):
            raise SettingError(
                f"finer_axes '{self.finer_axes}' name axes that are not restored together ({axes}); "
                "set together, such as ZYX"
            )


def network(params: LinrParams, channels: int, space: tuple[int, ...]) -> Field:
    """One SIREN for each patch and fit; one for all if `patch` is none.

    Raises:
        SettingError: The pixels of all pictures do not fit into whole cells.
    """
    axes = "ZYX"[-len(space) :]
    cell, times = cell_of([params, *params.others], axes), params.times(axes)
    if any(n * k % c for n, k, c in zip(space, times, cell, strict=True)):
        raise SettingError(
            f"an image of {space} pixels does not hold a whole number of pixels of the other pictures; crop it, so "
            f"that its sides are multiples of {tuple(c // k for c, k in zip(cell, times, strict=True))}"
        )
    cells = tuple(n * k // c for n, k, c in zip(space, times, cell, strict=True))
    coarse = max(cell)
    # what is hidden by blur or sampling, and is almost free of noise, takes more networks to hold
    few = 1 if all(how.shows_all(axes) for how in (params, *params.others)) else _DETAIL
    side = max(cells) if params.patch is None else max(params.patch // few // coarse, _FEWEST)
    patches = Tiling.of(cells, side, math.ceil(params.overlap / few / coarse))
    # on a finer grid neighbouring pixels are more alike
    frequency = None if params.frequency is None else params.frequency * coarse / math.sqrt(params.finer)
    return Field(patches, channels, params.width or paper_width(patches.side), params.layers, frequency, params.fits)


def fit(net: Field, noisy: NoisyBlock, params: LinrParams, warm: bool) -> Fit:
    """Minimise the sum over pictures of squared error, plus smoothness · noise level · mean slope."""
    generator = torch.Generator().manual_seed(noisy.seed)
    if not warm:
        _make_isotropic(net, noisy, params)
        if not params.degraded:
            slow_down(net, noisy, params)
    parts = _parts(net, noisy, params, generator)
    optims = optimisers(net.siren.model, params)
    memory = 0.0 if params.batch is None else 0.95
    rules = StopRules(params.stop_at, params.holdout > 0, memory, early=0 if warm else EARLY)
    most = min(params.steps, params.rough_steps) if params.degraded and params.refine else params.steps
    steps = max(1, round(most * (params.warm_steps if warm else 1)))
    level = (noisy.pixels / noisy.sigma.reshape(-1, *[1] * (noisy.pixels.dim() - 1))).square().mean()
    net.train()
    for step in range(1, steps + 1):
        for optimiser in optims:
            optimiser.zero_grad(set_to_none=True)
        misfit = torch.zeros(2, device=noisy.pixels.device)
        for part in parts():
            misfit += part
            yield Step(step - 1, steps, level)  # a whole step may take long, and someone may wish to stop
        level = misfit[0]
        if stop := rules.met(step, misfit):
            return stop
        anneal_lr(optims, step / steps, params.cooling)
        for optimiser in optims:
            optimiser.step()
        net.siren.update(min(params.averaging, step / (step + 10)))
        yield Step(step, steps, level)
    return StopReason(f"took all {steps} steps")


def restore(net: Field, noisy: NoisyBlock, params: LinrParams) -> Tensor:
    """The scene at the pixel centres of the finer grid, `(C, *space)`."""
    centre, unit = _scale(noisy, params)
    return render_finer(net, cell_of([params, *params.others], noisy.axes)) * unit + centre


def seen(params: LinrParams, restored: Tensor, noisy: NoisyBlock) -> Tensor:
    """What a picture of the restored scene would be, taken as the noisy one was."""
    operators, scene = params.way(noisy)
    return degrade(restored, operators, scene)


def refine(params: LinrParams, restored: Tensor, noisy: NoisyBlock) -> Iterator[Tensor]:
    """Turns of denoising the scene and of making it fit the pictures, from what the function said.

    At the end the scene says how much to believe of each picture that shows all of it, and so of all its noise.
    """
    pictures = _views(noisy, params)
    least = max(least_noise([picture for picture, _ in pictures]), LEAST)
    views = [_view(picture, how, least) for picture, how in pictures]
    strengths = (_FIRST, min(max(_LAST, least), _FIRST))
    scene = restored
    for scene in recover(restored, views, _denoise, params.rounds, strengths, _trust(pictures)):
        yield scene
    full = [how.shows_all(picture.axes) and bool(picture.valid.all()) for picture, how in pictures]
    if any(full):
        whole = [picture for (picture, _), shows in zip(pictures, full, strict=True) if shows]
        weights = torch.tensor([noise_level(picture) ** -2 for picture in whole])
        said = torch.stack([_believed(picture, scene) for picture in whole])
        mean = (said * (weights / weights.sum()).to(said).reshape(-1, *[1] * scene.dim())).sum(dim=0)
        rest = [view for view, shows in zip(views, full, strict=True) if not shows]
        yield closest(scene.lerp(mean, _BELIEF), rest, _TRUST * float(weights.sum()))


def _believed(picture: NoisyBlock, scene: Tensor) -> Tensor:
    """What a picture that shows all of the scene holds of it, beyond its noise; the scene being what is known."""
    level = picture.sigma.reshape(-1, *[1] * picture.valid.dim())
    unit = level if picture.variance is None else picture.variance.sqrt()
    noisy, pilot = ((pixels / unit).cpu().numpy() for pixels in (picture.pixels, scene))
    return torch.from_numpy(refine_channels(noisy, pilot, 1.0)).to(scene) * unit


def _trust(pictures: list[tuple[NoisyBlock, Degradation]]) -> float:
    if any(how.shows_all(picture.axes) for picture, how in pictures):
        return _TRUST
    coarse = all(how.finer > 1 for _, how in pictures)
    return _TRUST_IF_COARSE if coarse else _TRUST_IF_BLURRED


def _view(picture: NoisyBlock, how: Degradation, least: float) -> View:
    """A picture with its degradation, each pixel weighted by its noise unless the settings say how."""
    everywhere = picture.sigma.square().reshape(-1, *[1] * picture.valid.dim())
    variance = everywhere if picture.variance is None else picture.variance
    weights = picture.valid / variance.clamp(min=least**2)
    if how.weight is not None:
        weights = picture.valid * torch.full_like(everywhere, how.weight / least**2)
    return View(picture.pixels, weights, *how.way(picture))


def _denoise(scene: Tensor, pilot: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(denoise_consensus(scene.cpu().numpy(), pilot.cpu().numpy(), sigma)).to(scene)


def _views(noisy: NoisyBlock, params: LinrParams) -> list[tuple[NoisyBlock, Degradation]]:
    """The pictures with their degradations.

    Raises:
        SettingError: There are more or fewer pictures than settings for them.
    """
    if len(noisy.others) != len(params.others):
        raise SettingError(f"also names {len(params.others)} pictures, and {len(noisy.others)} came with the image")
    return [(noisy, params), *zip(noisy.others, params.others, strict=True)]


def _scale(noisy: NoisyBlock, params: LinrParams) -> tuple[float, float]:
    """What the networks call 0 and 1, in units of the pixels."""
    if params.scaling == "spread":
        return 0.0, 1.0
    seen = noisy.pixels[:, noisy.valid]
    low, high = float(seen.min()), float(seen.max())
    return (low + high) / 2, max((high - low) / 2, 1e-6)


@torch.no_grad()
def _make_isotropic(net: Field, noisy: NoisyBlock, params: LinrParams) -> None:
    """Let the function vary as fast along each axis in µm, where pixels are not as long as wide.

    A first weight k times larger is a coordinate k times longer.
    """
    pixels = [n / c for n, c in zip(noisy.pixels.shape[1:], net.patches.shape, strict=True)]
    lengths = [d * p for d, p in zip(relative_spacing(noisy), pixels, strict=True)]
    longest = max((n - 1) * d for n, d in zip(net.patches.side, lengths, strict=True))
    whole = max(longest, 1e-6) / max(max(net.patches.side) - 1, 1)
    shortest = min(lengths) if params.frequency else whole
    most = math.pi / params.frequency if params.frequency else math.inf  # no more than half a turn from pixel to pixel
    for siren in (net.siren.model, net.siren.ema):
        weight = siren.weights[0]
        stretch = torch.tensor([min(d / shortest, most) for d in lengths], device=weight.device)
        weight.mul_(stretch[None, :, None])


def _parts(
    net: Field, noisy: NoisyBlock, params: LinrParams, generator: torch.Generator
) -> Callable[[], Iterator[Tensor]]:
    """The gradients of one step, part by part; each is told by its misfit.

    A picture that shows the scene as it is can be fitted pixel by pixel; else all of the scene is needed at once.
    """
    centre, unit = _scale(noisy, params)
    views = [(replace(picture, pixels=picture.pixels - centre), how) for picture, how in _views(noisy, params)]
    if len(views) == 1 and params.shows_all(noisy.axes):
        shown = replace(views[0][0], pixels=views[0][0].pixels / unit, sigma=noisy.sigma / unit)
        targets, batch = targets_of(net, shown, params, generator), batch_of(noisy, params)
        return lambda: (backward(net, pixels, share, targets) for pixels, share in draw_pixels(net, batch, generator))
    pictures = look(net, views, unit, params.holdout, generator)
    steps = tuple(d / k for d, k in zip(relative_spacing(noisy), params.times(noisy.axes), strict=True))
    all_shown = all(how.shows_all(noisy.axes) for _, how in views)
    least = least_noise([picture for picture, _ in views]) / unit
    penalty = params.smoothness * least * slope_weight(noisy) / noise_level(noisy)
    scene = build(net, pictures, cell_of([how for _, how in views], noisy.axes), penalty, steps)
    balance = Balance()
    floor = min(1.0, min(picture.sigma for picture in pictures) / least) ** 2

    def whole() -> Iterator[Tensor]:
        misfit = scene.backward(net, balance.value)
        if not all_shown:
            balance.follow(float(misfit[0]) * floor)
        yield misfit

    return whole


LINR = Method(
    key="linr",
    title="LINR restore",
    summary="Fits a continuous function behind degraded pictures: denoises, deblurs, fills in, resolves finer.",
    cite="Xu & Jiao (2023), Revisiting implicit neural representations in low-level vision, ICLR workshop on "
    "neural fields",
    params=LinrParams,
    presets={
        "balanced": {},
        "fast": {"steps": 200, "rounds": 10},
        "paper": {
            "steps": 500,
            "smoothness": 0.0,
            "stabilise": False,
            "refine": False,
            "hot_pixels": False,
            "warm_start": False,
            "scaling": "range",
            "patch": None,
            "width": 256,
            "layers": 7,
            "frequency": None,
            "batch": None,
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "cooling": 0.0,
            "averaging": 0.0,
            "tile": 16384,
        },
    },
    network=network,
    fit=fit,
    restore=restore,
    forward_model=seen,
    refine=refine,
    memory=900,
)
