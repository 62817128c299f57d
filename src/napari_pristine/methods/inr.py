"""INR: a continuous function fitted to the noisy pixels.

After Kim, Lee & Shin (2022), "Zero-shot blind image denoising via implicit neural representations", arXiv 2204.02405.

The `paper` preset is one SIREN for the whole picture, stopped when its residual is as strong as the noise.
The others fit many small SIRENs to overlapping patches of the variance-stabilised picture, on random pixels, with a
penalty on the slope of the function whose weight follows the noise, and use the average of the iterates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from napari_pristine.image.tiles import Tiling
from napari_pristine.methods.method import Fit, Method, MethodParams, Noisy, Step, Stop
from napari_pristine.methods.stopping import EARLY, StopRules
from napari_pristine.nets.field import Field
from napari_pristine.nets.muon import Muon
from napari_pristine.nets.siren import Siren
from napari_pristine.settings import setting

_BLOCK = {1: 32, 2: 8, 3: 4}
"""Side of the small blocks in which random pixels are drawn, by number of dimensions: neighbours give the slope."""
_CHUNK = 1 << 20
"""Activations of one layer that are computed at once: 4 MiB, which stay in a processor's cache."""
_FLAT = 0.03
"""Slopes below this share of the noise level count as flat."""
_REACH_POWER = 2.0
"""How the weight of the slope grows with the reach of correlated noise."""


class InrParams(MethodParams):
    """Fits a continuous function to each image; nothing to train beforehand."""

    steps: int = setting(600, "Optimiser steps at most.", ge=1, le=100_000)
    smoothness: float = setting(
        0.85, "Weight of the slope penalty; it follows the measured noise.", unit="noise levels", ge=0, le=100
    )
    stop_at: float = setting(
        0.0, "Stop when the residual is this strong; 0 takes all steps.", unit="noise levels", ge=0, le=10
    )
    stabilise: bool = setting(True, "Make the noise of photons equally strong everywhere before fitting.")
    hot_pixels: bool = setting(True, "Take single pixels that outshine all around them for faults, and fill them.")
    refine: bool = setting(True, "Return to the result what the noisy image holds of the structures found.")
    fits: int = setting(1, "Independent fits that are averaged.", ge=1, le=64)
    patch: int | None = setting(
        96,
        "Side of the patches with a network each.",
        none="one for all",
        unit="pixels",
        ge=24,
        le=1024,
        advanced=True,
    )
    overlap: int = setting(16, "Least overlap of neighbouring patches.", unit="pixels", ge=0, le=512, advanced=True)
    width: int | None = setting(
        48,
        "Units per layer; the paper: 256 for 512 × 512 pixels, and in proportion.",
        none="as in the paper",
        ge=4,
        le=1024,
        advanced=True,
    )
    layers: int = setting(3, "Sine layers.", ge=2, le=16, advanced=True)
    frequency: float | None = setting(
        0.5,
        "Highest frequency at the start; the paper: 15 radians per half side.",
        none="as in the paper",
        unit="radians per pixel",
        gt=0,
        le=4,
        advanced=True,
    )
    batch: int | None = setting(512, "Pixels per patch and step.", none="all", unit="pixels", ge=64, advanced=True)
    optimiser: Literal["adam", "muon"] = setting("muon", "Optimiser of the hidden layers.", advanced=True)
    learning_rate: float = setting(1e-3, "Step size of Adam.", gt=0, le=1, advanced=True)
    muon_rate: float = setting(1e-3, "Step size of Muon.", gt=0, le=1, advanced=True)
    cooling: float = setting(
        0.6, "Share of the steps, at the end, over which the step size falls to 2 %.", ge=0, le=1, advanced=True
    )
    averaging: float = setting(0.99, "Memory of the average over iterates; 0 uses the last.", ge=0, lt=1, advanced=True)
    weight_decay: float = setting(0.0, "Decay of the weights of the last two sine layers.", ge=0, le=1, advanced=True)
    holdout: float = setting(
        0.0, "Share of pixels kept from the fit; their error decides when to stop.", ge=0, le=0.5, advanced=True
    )
    warm_steps: float = setting(
        0.4, "Share of the steps for a frame that starts from its neighbour's network.", gt=0, le=1, advanced=True
    )


def network(params: InrParams, channels: int, space: tuple[int, ...]) -> Field:
    """One SIREN for each patch and fit; one for all if `patch` is none."""
    patches = Tiling.of(space, params.patch or max(space), params.overlap)
    width = params.width or paper_width(patches.side)
    return Field(patches, channels, width, params.layers, params.frequency, params.fits)


def paper_width(space: tuple[int, ...]) -> int:
    """256 · H·W / 512² (section 4.1), rounded to a multiple of 8 and kept within 64 and 512.

    Without these limits the width would be 16 for 128² pixels, too few to reach the noise level,
    and 4096 for 2048² pixels, impossible.
    """
    return min(max(8 * round(256 * math.prod(space) / 512**2 / 8), 64), 512)


def fit(net: Field, noisy: Noisy, params: InrParams, warm: bool) -> Fit:
    """Minimise squared error + smoothness · noise level · mean slope."""
    generator = torch.Generator().manual_seed(noisy.seed)
    targets = _targets(net, noisy, params, generator)
    optimisers = _optimisers(net.siren.live, params)
    memory = 0.0 if params.batch is None else 0.95
    rules = StopRules(params.stop_at, params.holdout > 0, memory, early=0 if warm else EARLY)
    steps = max(1, round(params.steps * (params.warm_steps if warm else 1)))
    level = (noisy.pixels / noisy.sigma.reshape(-1, *[1] * (noisy.pixels.dim() - 1))).square().mean()
    net.train()
    for step in range(1, steps + 1):
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        misfit = torch.zeros(2, device=noisy.pixels.device)
        for pixels, share in _batch(net, params, generator):
            misfit += _backward(net, pixels, share, targets)
            if share < 1:  # a whole step may take long, and someone may wish to stop
                yield Step(step - 1, steps, level)
        level = misfit[0]
        # before the update: the function whose residual met the rule is the one to return (section 3.3)
        if stop := rules.met(step, misfit):
            return stop
        _cool(optimisers, step / steps, params.cooling)
        for optimiser in optimisers:
            optimiser.step()
        net.siren.update(min(params.averaging, step / (step + 10)))
        yield Step(step, steps, level)
    return Stop(f"took all {steps} steps")


def restore(net: Field, noisy: Noisy, params: InrParams) -> Tensor:
    """The function at the pixel centres, `(C, *space)`."""
    return net.render()


@dataclass(frozen=True, eq=False)
class _Targets:
    """What the networks are to say at the pixels of their patches.

    Attributes:
        values: `(copies, *side, C)`.
        fitted: `(copies, *side, 1)`: 1 where a pixel counts, 0 where it has no value or is held out.
        held_out: The same, 1 where a pixel is held out.
        sigma: Noise level in the units of the values.
        penalty: Weight of the slope.
    """

    values: Tensor
    fitted: Tensor
    held_out: Tensor
    sigma: float
    penalty: float


def _targets(net: Field, noisy: Noisy, params: InrParams, generator: torch.Generator) -> _Targets:
    valid = noisy.valid[None].float()
    held_out = valid * (torch.rand(valid.shape, generator=generator) < params.holdout).to(valid)
    sigma = float(noisy.sigma.square().mean().sqrt())
    penalty = params.smoothness * sigma * noisy.reach**_REACH_POWER
    return _Targets(net.cut(noisy.pixels), net.cut(valid - held_out), net.cut(held_out), sigma, penalty)


def _batch(net: Field, params: InrParams, generator: torch.Generator) -> Iterator[tuple[Tensor, float]]:
    """The pixels of one step, in parts that fit the cache, and the share of each part.

    A part is `(blocks, *block, ndim)`: a slab of the patch where all pixels are fitted, else small blocks at random.
    """
    side = net.patches.side
    steady = net.siren.steady
    # a GPU has no use for small parts
    room_for = _CHUNK * (1 if steady.weights[0].device.type == "cpu" else 16)
    points = max(1, room_for // (steady.copies * steady.weights[0].shape[-1]))
    if params.batch is None:
        # slopes between slabs are not seen: no slabs thinner than the blocks
        slabs = torch.split(net.pixels(), max(_BLOCK[len(side)], points // math.prod(side[1:])))
        yield from ((slab[None], len(slab) / side[0]) for slab in slabs)
        return
    block = tuple(min(_BLOCK[len(side)], n) for n in side)
    count = max(1, params.batch // math.prod(block))
    room = torch.tensor([n - b + 1 for n, b in zip(side, block, strict=True)])
    corners = (torch.rand((count, len(side)), generator=generator) * room).long()
    inside = net.pixels()[tuple(slice(b) for b in block)]
    blocks = corners.reshape(count, *[1] * len(side), len(side)) + inside
    yield from ((part, len(part) / count) for part in torch.split(blocks, max(1, points // math.prod(block))))


def _backward(net: Field, pixels: Tensor, share: float, targets: _Targets) -> Tensor:
    """Add the gradients of these pixels' part of the loss.

    Returns:
        Mean squared error of the pixels fitted and of those held out, in noise variances, times `share`: `(2,)`.
    """
    pixels = pixels.to(targets.values.device)
    index: Any = (slice(None), *pixels.unbind(-1))
    fitted, held_out = targets.fitted[index], targets.held_out[index]
    values = net(pixels)
    square = (values - targets.values[index]).square().mean(dim=-1, keepdim=True)
    whole = square.numel() / share  # the pixels of all parts of this step
    misfit = (square * fitted).sum() / (whole * targets.fitted.mean().clamp(min=1e-6))
    loss = misfit
    if targets.penalty:
        loss = loss + share * targets.penalty * _slope(values, _FLAT * targets.sigma)
    # times the copies: each network sees the gradient that it would see alone
    (loss * len(values)).backward()
    hidden = (square.detach() * held_out).sum() / (whole * targets.held_out.mean().clamp(min=1e-6))
    return torch.stack([misfit.detach(), hidden]) / targets.sigma**2


def _slope(values: Tensor, flat: float) -> Tensor:
    """Mean length of the gradient over blocks `(copies, blocks, *block, C)`, in units per pixel.

    The mean over positions of √(∂y² + ∂x²) is the total variation (Rudin, Osher & Fatemi 1992) of the function.
    Channels share their edges: one length for all of them.
    """
    last = values.dim() - 1
    values = values.reshape([n for axis, n in enumerate(values.shape) if n > 1 or axis in (0, 1, last)])
    axes = range(2, values.dim() - 1)
    inner = values[(slice(None), slice(None), *[slice(None, -1) for _ in axes])]
    square = torch.full_like(inner[..., 0], flat**2)
    for axis in axes:
        ahead = [slice(1, None) if a == axis else slice(None, -1) for a in axes]
        square = square + (values[(slice(None), slice(None), *ahead)] - inner).square().mean(dim=-1)
    return square.sqrt().mean()


def _optimisers(net: Siren, params: InrParams) -> list[torch.optim.Optimizer]:
    """Adam for all, or Muon for the matrices between sine layers and Adam for the rest."""
    matrices = list(net.weights)
    if params.optimiser == "muon":
        hidden = matrices[1:-1]
        rest = [matrices[0], matrices[-1], *net.biases]
        return [torch.optim.Adam(rest, lr=params.learning_rate, betas=(0.9, 0.99)), Muon(hidden, lr=params.muon_rate)]
    groups: list[dict[str, Any]] = [
        {"params": [*matrices[:-3], matrices[-1], *net.biases]},
        {"params": matrices[-3:-1], "weight_decay": params.weight_decay},  # coupled, as an L2 term of the loss is
    ]
    return [torch.optim.Adam(groups, lr=params.learning_rate)]


def _cool(optimisers: list[torch.optim.Optimizer], progress: float, cooling: float) -> None:
    """Lower the step size linearly to 2 % over the last `cooling` of the steps."""
    late = max(0.0, progress - 1 + cooling) / cooling if cooling else 0.0
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * (1 - 0.98 * late)


INR = Method(
    key="inr",
    title="INR denoise",
    summary="Fits a continuous function to each image and keeps what is smooth; for independent and correlated noise.",
    cite="Kim, Lee & Shin (2022), Zero-shot blind image denoising via implicit neural representations, "
    "arXiv 2204.02405",
    params=InrParams,
    presets={
        "balanced": {},
        "fast": {"steps": 200},
        "paper": {
            "steps": 2000,
            "stop_at": 1.0,
            "smoothness": 0.0,
            "stabilise": False,
            "refine": False,
            "hot_pixels": False,
            "warm_start": False,
            "patch": None,
            "width": None,
            "layers": 6,
            "frequency": None,
            "batch": None,
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "cooling": 0.0,
            "averaging": 0.0,
            "weight_decay": 1e-3,
            "tile": 512,
        },
    },
    network=network,
    fit=fit,
    restore=restore,
)
