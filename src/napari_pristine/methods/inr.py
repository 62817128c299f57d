"""INR: a continuous function fitted to the noisy pixels (Kim, Lee & Shin 2022, "Zero-shot blind image denoising via
implicit neural representations", arXiv 2204.02405).

The `paper` preset is one SIREN for the whole picture, stopped when its residual is as strong as the noise.
The others fit many small SIRENs to overlapping patches of the variance-stabilised picture, on random pixels, with a
penalty on the slope of the function whose weight follows the noise, and use the average of the iterates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from napari_pristine.image.tiles import Tiling
from napari_pristine.methods.method import Fit, Method, MethodParams, Noisy, Step, Stop
from napari_pristine.nets.average import Averaged
from napari_pristine.nets.muon import Muon
from napari_pristine.nets.siren import OMEGA, Siren
from napari_pristine.settings import setting

_BLOCK = {1: 32, 2: 8, 3: 4}
"""Side of the small blocks in which random pixels are drawn, by number of dimensions: neighbours give the slope."""
_CHUNK = 1 << 23
"""Activations of one layer that are computed at once when nothing is to be kept for a way back."""
_EDGE = 0.03
"""Slopes below this share of the noise level count as flat."""
_REACH_POWER = 2.0
"""How the slope penalty grows with the reach of correlated noise."""
_PATIENCE = 100
"""Steps without progress after which a fit is stopped."""
_EARLY = 30
"""Steps before which reaching the noise level means that the estimate is too high (texture taken for noise)."""


class InrParams(MethodParams):
    """Fits a continuous function to each image; nothing to train beforehand."""

    steps: int = setting(1200, "Optimiser steps at most.", ge=1, le=100_000)
    smoothness: float = setting(
        0.85, "Weight of the slope penalty; it follows the measured noise.", unit="noise levels", ge=0, le=100
    )
    stop_at: float = setting(
        0.0, "Stop when the residual is this strong; 0 takes all steps.", unit="noise levels", ge=0, le=10
    )
    stabilise: bool = setting(True, "Make the noise of photons equally strong everywhere before fitting.")
    refine: bool = setting(True, "Return to the result what the noisy image holds of the structures found.")
    fits: int = setting(1, "Independent fits that are averaged.", ge=1, le=64)
    patch: int | None = setting(
        96, "Side of the patches with a network each; none fits one network to all.", unit="pixels", ge=24, le=1024, advanced=True
    )
    overlap: int = setting(32, "Least overlap of neighbouring patches.", unit="pixels", ge=0, le=512, advanced=True)
    width: int | None = setting(
        48, "Units per layer; none follows the paper: 256 for 512 × 512 pixels, in proportion.", ge=4, le=1024, advanced=True
    )
    layers: int = setting(3, "Sine layers.", ge=1, le=16, advanced=True)
    frequency: float | None = setting(
        0.3, "Highest frequency at the start; none gives the image the paper's 15 radians per half side.",
        unit="radians per pixel", gt=0, le=4, advanced=True,
    )
    batch: int | None = setting(
        1024, "Pixels per patch and step; none takes all of them.", unit="pixels", ge=64, advanced=True
    )
    optimiser: Literal["adam", "muon"] = setting("muon", "Optimiser of the hidden layers.", advanced=True)
    learning_rate: float = setting(1e-3, "Step size of Adam.", gt=0, le=1, advanced=True)
    muon_rate: float = setting(5e-4, "Step size of Muon.", gt=0, le=1, advanced=True)
    cooling: float = setting(
        0.6, "Share of the steps, at the end, over which the step size falls to 2 %.", ge=0, le=1, advanced=True
    )
    averaging: float = setting(0.99, "Memory of the average over iterates; 0 uses the last.", ge=0, lt=1, advanced=True)
    weight_decay: float = setting(
        0.0, "Decay of the weights of the last two sine layers.", ge=0, le=1, advanced=True
    )
    holdout: float = setting(
        0.0, "Share of pixels kept from the fit; their error decides when to stop.", ge=0, le=0.5, advanced=True
    )
    warm_steps: float = setting(
        0.4, "Share of the steps for a frame that starts from its neighbour's network.", gt=0, le=1, advanced=True
    )


def network(params: InrParams, channels: int, space: tuple[int, ...]) -> Averaged[Siren]:
    """One SIREN for each patch and fit."""
    patches = patches_of(params, space)
    half_side = (max(patches.side) - 1) / 2
    siren = Siren(
        ndim=len(space),
        channels=channels,
        width=params.width or paper_width(patches.side),
        layers=params.layers,
        copies=len(patches.corners) * params.fits,
        frequency=OMEGA / len(space) if params.frequency is None else params.frequency * half_side,
        scatter=params.frequency is not None,
    )
    return Averaged(siren)


def paper_width(space: tuple[int, ...]) -> int:
    """256 · H·W / 512² (section 4.1), rounded to a multiple of 8 and kept within 64 and 512.

    Without these limits the width would be 16 for 128² pixels, too few to reach the noise level,
    and 4096 for 2048² pixels, impossible.
    """
    return min(max(8 * round(256 * math.prod(space) / 512**2 / 8), 64), 512)


def patches_of(params: InrParams, space: tuple[int, ...]) -> Tiling:
    """The patches with a network each; just one if `patch` is none."""
    return Tiling.of(space, params.patch or max(space), params.overlap)


def fit(net: Averaged[Siren], noisy: Noisy, params: InrParams, warm: bool) -> Fit:
    """Minimise squared error + smoothness · noise level · mean slope."""
    patches = patches_of(params, tuple(noisy.pixels.shape[1:]))
    generator = torch.Generator().manual_seed(noisy.seed)
    targets = _targets(noisy, patches, params, generator)
    optimisers = _optimisers(net.live, params)
    rules = _Rules(params)
    steps = max(1, round(params.steps * (params.warm_steps if warm else 1)))
    net.train()
    for step in range(1, steps + 1):
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        misfit = sum(_backward(net.live, at, targets) for at in _batches(patches.side, params, generator))
        # before the update: the function whose residual met the rule is the one to return (section 3.3)
        if stop := rules.met(step, misfit):
            return stop
        _cool(optimisers, step / steps, params.cooling)
        for optimiser in optimisers:
            optimiser.step()
        net.update(min(params.averaging, step / (step + 10)))
        yield Step(step, steps, misfit[0])
    return Stop(f"took all {steps} steps")


def restore(net: Averaged[Siren], noisy: Noisy, params: InrParams) -> Tensor:
    """The function at the pixel centres, patches blended and fits averaged: `(C, *space)`."""
    patches = patches_of(params, tuple(noisy.pixels.shape[1:]))
    device, channels = noisy.pixels.device, len(noisy.pixels)
    at = _coordinates(_grid(patches.side).reshape(-1, len(patches.side)), patches.side).to(device)
    rows = max(1, _CHUNK // (net.steady.copies * net.steady.weights[0].shape[-1]))
    values = torch.cat([net.steady(part) for part in at.split(rows)], dim=1)
    fits = values.reshape(params.fits, len(patches.corners), *patches.side, channels).mean(dim=0)
    tiles = fits.movedim(-1, 1).cpu().numpy()
    return torch.from_numpy(patches.blend(list(tiles))).to(device)


@dataclass(frozen=True, eq=False)
class _Targets:
    """What the networks are to say at the pixels of their patches.

    Attributes:
        values: `(copies, *side, C)`.
        weights: `(copies, *side, 1)`: 1 where a pixel counts, 0 where it has no value or is held out.
        held_out: The same, 1 for pixels held out.
        sigma: Noise level in the units of the values, and `penalty` the weight of the slope.
    """

    values: Tensor
    weights: Tensor
    held_out: Tensor
    sigma: float
    penalty: float


def _targets(noisy: Noisy, patches: Tiling, params: InrParams, generator: torch.Generator) -> _Targets:
    def cut(channels: Tensor) -> Tensor:
        parts = torch.stack([channels[(slice(None), *part)] for part in patches.slices])
        return parts.movedim(1, -1).repeat(params.fits, *[1] * channels.dim())

    valid = noisy.valid[None].float()
    held_out = valid * (torch.rand(valid.shape, generator=generator) < params.holdout).to(valid)
    sigma = float(noisy.sigma.square().mean().sqrt())
    penalty = params.smoothness * sigma * noisy.reach**_REACH_POWER
    return _Targets(cut(noisy.pixels), cut(valid - held_out), cut(held_out), sigma, penalty)


def _grid(side: tuple[int, ...]) -> Tensor:
    """All pixels of a patch, `(*side, ndim)`."""
    return torch.stack(torch.meshgrid(*[torch.arange(n) for n in side], indexing="ij"), dim=-1)


def _coordinates(pixels: Tensor, side: tuple[int, ...]) -> Tensor:
    """Pixels to coordinates: the longest side spans [-1, 1], and a pixel is as long in all directions."""
    last = torch.tensor([n - 1 for n in side])
    return (2 * pixels - last).float() / max(max(side) - 1, 1)


def _batches(side: tuple[int, ...], params: InrParams, generator: torch.Generator) -> Iterator[Tensor]:
    """The pixels of one step, as blocks `(blocks, *block, ndim)`: a random few, or all of them slab by slab."""
    if params.batch is None:
        rows = max(1, _CHUNK // (max(params.width or paper_width(side), 1) * 2 * math.prod(side[1:])))
        yield from (slab[None] for slab in _grid(side).split(rows))
        return
    edge = _BLOCK[len(side)]
    block = tuple(min(edge, n) for n in side)
    count = max(1, params.batch // math.prod(block))
    room = torch.tensor([n - b + 1 for n, b in zip(side, block, strict=True)])
    corners = (torch.rand((count, len(side)), generator=generator) * room).long()
    yield corners.reshape(count, *[1] * len(side), len(side)) + _grid(block)


def _backward(net: Siren, pixels: Tensor, targets: _Targets) -> Tensor:
    """Add the gradients of these pixels' share of the loss.

    Returns:
        Mean squared error of the pixels that count and of those held out, in noise variances; each times the share
        of `pixels` in all pixels of this step. Shape `(2,)`.
    """
    side = targets.values.shape[1:-1]
    device = targets.values.device
    index = (slice(None), *pixels.to(device).unbind(-1))
    at = _coordinates(pixels.reshape(-1, len(side)), tuple(side)).to(device)
    values = net(at).reshape(net.copies, *pixels.shape[:-1], -1)
    square = (values - targets.values[index]).square().mean(dim=-1, keepdim=True)
    share = pixels[..., 0].numel() / math.prod(side) if len(pixels) == 1 else 1.0
    weights, held_out = targets.weights[index], targets.held_out[index]
    misfit = (square * weights).sum() / weights.sum().clamp(min=1)
    loss = misfit
    if targets.penalty:
        loss = loss + targets.penalty * _slope(values, _EDGE * targets.sigma)
    # each network sees the gradient it would see alone, however many there are
    (loss * share * net.copies).backward()
    hidden = (square.detach() * held_out).sum() / held_out.sum().clamp(min=1)
    return torch.stack([misfit.detach(), hidden]) * share / targets.sigma**2


def _slope(values: Tensor, flat: float) -> Tensor:
    """Mean length of the gradient over blocks `(copies, blocks, *block, C)`, in units per pixel.

    Channels share their edges: one length for all of them.
    """
    axes = range(2, values.dim() - 1)
    inner = values[(slice(None), slice(None), *[slice(None, -1) for _ in axes])]
    square = torch.full_like(inner[..., 0], flat**2)
    for axis in axes:
        ahead = [slice(1, None) if a == axis else slice(None, -1) for a in axes]
        square = square + (values[(slice(None), slice(None), *ahead)] - inner).square().mean(dim=-1)
    return square.sqrt().mean()


def _optimisers(net: Siren, params: InrParams) -> list[torch.optim.Optimizer]:
    """Adam for all, or Muon for the matrices between sine layers and Adam for the rest."""
    hidden = list(net.weights)[1:-1]
    by_muon = hidden if params.optimiser == "muon" else []
    decayed = [] if by_muon else list(net.weights)[-3:-1]
    rest = [p for p in net.parameters() if not any(p is q for q in [*by_muon, *decayed])]
    groups = [{"params": rest}, {"params": decayed, "weight_decay": params.weight_decay}]
    adam = torch.optim.Adam([group for group in groups if group["params"]], lr=params.learning_rate, betas=(0.9, 0.99) if by_muon else (0.9, 0.999))
    return [adam, Muon(by_muon, lr=params.muon_rate)] if by_muon else [adam]


def _cool(optimisers: list[torch.optim.Optimizer], progress: float, cooling: float) -> None:
    """Lower the step size linearly to 2 % over the last `cooling` of the steps."""
    late = max(0.0, progress - 1 + cooling) / cooling if cooling else 0.0
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * (1 - 0.98 * late)


class _Rules:
    """When to stop before all steps are taken."""

    def __init__(self, params: InrParams) -> None:
        self.params = params
        self.memory = 0.0 if params.batch is None else 0.95
        self.mean: Tensor | None = None
        self.best: list[tuple[float, int]] = [(math.inf, 0), (math.inf, 0)]

    def met(self, step: int, misfit: Tensor) -> Stop | None:
        """The rule that the misfit at this step meets, `(2,)` as `_backward` returns it."""
        if not self.params.stop_at and not self.params.holdout:
            return None
        self.mean = misfit if self.mean is None else misfit.lerp(self.mean, self.memory)
        level, hidden = self.mean.tolist()
        if self.params.stop_at and level <= self.params.stop_at**2:
            return self._noise_level(step)
        if self.params.stop_at and self._stuck(0, level * 1.001, step):
            return Stop(f"the residual no longer fell after {step} steps, at {level**0.5:.2f} noise levels", warning=True)
        if self.params.holdout and self._stuck(1, hidden, step):
            return Stop(f"the error of the pixels held out no longer fell after {step} steps")
        return None

    def _noise_level(self, step: int) -> Stop:
        if step < _EARLY:
            return Stop(
                f"reached the noise level after only {step} steps: texture was probably taken for noise and is lost; "
                "set sigma to a lower value",
                warning=True,
            )
        return Stop(f"reached the noise level after {step} steps")

    def _stuck(self, which: int, value: float, step: int) -> bool:
        """Whether the value has not fallen for `_PATIENCE` steps."""
        best, since = self.best[which]
        if value < best:
            self.best[which] = (value, step)
        return step - since > _PATIENCE


INR = Method(
    key="inr",
    title="INR denoise",
    summary="Fits a continuous function to each image and keeps what is smooth; for independent and correlated noise.",
    cite="Kim, Lee & Shin (2022), Zero-shot blind image denoising via implicit neural representations, arXiv 2204.02405",
    learns_from="image",
    params=InrParams,
    presets={
        "balanced": {},
        "fast": {"steps": 500},
        "paper": {
            "steps": 2000, "stop_at": 1.0, "smoothness": 0.0, "stabilise": False, "refine": False, "patch": None, "width": None,
            "layers": 6, "frequency": None, "batch": None, "optimiser": "adam", "learning_rate": 1e-4, "cooling": 0.0,
            "averaging": 0.0, "weight_decay": 1e-3, "warm_steps": 1.0, "tile": 512,
        },
    },
    network=network,
    fit=fit,
    restore=restore,
)
