"""INR: a continuous function fitted to the noisy pixels.

After Kim, Lee & Shin (2022), "Zero-shot blind image denoising via implicit neural representations", arXiv 2204.02405.

The `paper` preset is one SIREN for the whole picture, stopped when its residual is as strong as the noise.
The others fit many small SIRENs to overlapping patches of the variance-stabilised picture, on random pixels, with a
penalty on the slope of the function whose weight follows the noise, and use the average of the iterates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.fit_inr import (
    FieldParams,
    Targets,
    backward,
    batch_of,
    draw_pixels,
    draws,
    joined,
    optimisers,
    paper_width,
    slow_down,
    targets_of,
)
from napari_pristine.methods.fit_unet import anneal_lr
from napari_pristine.methods.method import Fit, Method, MethodParams, NoisyBlock, Step, StopReason
from napari_pristine.methods.stopping import EARLY, StopRules
from napari_pristine.nets.field import Field, side_by_side
from napari_pristine.settings import setting


class InrParams(FieldParams, MethodParams):
    """Fits a continuous function to each image; nothing to train beforehand."""

    stabilise: bool = setting(True, "Make the noise of photons equally strong everywhere before fitting.")
    hot_pixels: bool = setting(True, "Take single pixels that outshine all around them for faults, and fill them.")
    refine: bool = setting(True, "Return to the result what the noisy image holds of the structures found.")


def network(params: InrParams, channels: int, space: tuple[int, ...]) -> Field:
    """One SIREN for each patch and fit; one for all if `patch` is none."""
    patches = Tiling.of(space, params.patch or max(space), params.overlap)
    width = params.width or paper_width(patches.side)
    return Field(patches, channels, width, params.layers, params.frequency, params.fits)


def fit(net: Field, noisy: NoisyBlock, params: InrParams, warm: bool) -> Fit:
    """Minimise squared error + smoothness · noise level · mean slope."""
    return fit_batch([net], [noisy], params, warm)


def fit_batch(nets: Sequence[Field], noisies: Sequence[NoisyBlock], params: InrParams, warm: bool) -> Fit:
    """Do so for several blocks at once; those that take as many pixels for a step all see the same ones."""
    alike: dict[int, list[tuple[Field, NoisyBlock]]] = {}
    for net, noisy in zip(nets, noisies, strict=True):
        batch = batch_of(noisy, params)
        alike.setdefault(0 if batch is None else draws(net, batch), []).append((net, noisy))
    fits = [_joined(pairs, params, warm) for pairs in alike.values()]
    while True:
        for under_way in list(fits):
            try:
                step = next(under_way)
            except StopIteration as end:
                fits.remove(under_way)
                stop: StopReason = end.value
        if not fits:
            return stop
        yield step


def _joined(pairs: Sequence[tuple[Field, NoisyBlock]], params: InrParams, warm: bool) -> Fit:
    """The fit to several blocks in one batched network."""
    if not warm:
        for net, noisy in pairs:
            slow_down(net, noisy, params)
    generators = [torch.Generator().manual_seed(noisy.seed) for _, noisy in pairs]
    targets = joined([targets_of(*pair, params, g) for pair, g in zip(pairs, generators, strict=True)])
    net, noisy = side_by_side([net for net, _ in pairs]), pairs[0][1]
    return _fit(net, targets, params, warm, batch_of(noisy, params), generators[0])


def _fit(
    net: Field, targets: Targets, params: InrParams, warm: bool, batch: int | None, generator: torch.Generator
) -> Fit:
    """The loop."""
    optims = optimisers(net.siren.model, params)
    memory = 0.0 if params.batch is None else 0.95
    rules = StopRules(params.stop_at, params.holdout > 0, memory, early=0 if warm else EARLY)
    steps = max(1, round(params.steps * (params.warm_steps if warm else 1)))
    level = (targets.values.square().flatten(1).mean(dim=1) / targets.sigma**2).mean()
    net.train()
    for step in range(1, steps + 1):
        for optimiser in optims:
            optimiser.zero_grad(set_to_none=True)
        misfit = torch.zeros(2, device=targets.values.device)
        for pixels, share in draw_pixels(net, batch, generator):
            misfit += backward(net, pixels, share, targets)
            if share < 1:  # a whole step may take long, and someone may wish to stop
                yield Step(step - 1, steps, level)
        level = misfit[0]
        # before the update: the function whose residual met the rule is the one to return (section 3.3)
        if stop := rules.met(step, misfit):
            return stop
        anneal_lr(optims, step / steps, params.cooling)
        for optimiser in optims:
            optimiser.step()
        net.siren.update(min(params.averaging, step / (step + 10)))
        yield Step(step, steps, level)
    return StopReason(f"took all {steps} steps")


def networks_per_block(params: InrParams, space: tuple[int, ...]) -> int:
    """Networks of a block of this shape; 0 where each block may stop at another step."""
    if params.stop_at or params.holdout or params.patch is None:
        return 0
    return len(Tiling.of(space, params.patch, params.overlap).corners) * params.fits


def restore(net: Field, noisy: NoisyBlock, params: InrParams) -> Tensor:
    """The function at the pixel centres, `(C, *space)`."""
    return net.render()


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
    fit_batch=fit_batch,
    networks_per_block=networks_per_block,
    restore=restore,
)
