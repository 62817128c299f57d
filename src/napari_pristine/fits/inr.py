"""INR: fit a continuous function to the noisy pixels.

After Kim, Lee & Shin (2022), "Zero-shot blind image denoising via implicit neural representations", arXiv 2204.02405.

As published, it is one SIREN for the whole image, stopped when its residual is as strong as the noise. Here, it is many
small SIRENs for overlapping patches, fitted to random pixels with a penalty on the slope of the function whose weight
follows the noise; the average of the iterates is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_pristine.fits.fields import (
    Targets,
    accumulate_gradients,
    adapt_frequency,
    boxes_per_step,
    draw_positions,
    optimisers,
    paper_width,
    pixels_per_step,
    stop_rules,
)
from napari_pristine.fits.optimisation import Optimisation, linear_decay
from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.inr import InrParams
from napari_pristine.methods.method import Fit, NoisyBlock, Step, StopReason
from napari_pristine.nets.field import Field, combine_fields


def network(params: InrParams, channels: int, space: tuple[int, ...]) -> Field:
    """One SIREN for each patch and fit; one for all if `patch` is none."""
    patches = Tiling.of(space, params.patch or max(space), params.overlap)
    width = params.width or paper_width(patches.side)
    return Field(patches, channels, width, params.layers, params.frequency, params.fits)


def fit(net: Field, block: NoisyBlock, params: InrParams, warm: bool) -> Fit:
    """Minimise squared error + smoothness · noise level · mean slope."""
    return fit_batch([net], [block], params, warm)


def fit_batch(nets: Sequence[Field], blocks: Sequence[NoisyBlock], params: InrParams, warm: bool) -> Fit:
    """Fit several blocks at once, each as in `fit`; those with equally many pixels per step are fitted as one field."""
    groups: dict[int, list[tuple[Field, NoisyBlock]]] = {}
    for net, block in zip(nets, blocks, strict=True):
        batch = pixels_per_step(block, params)
        groups.setdefault(0 if batch is None else boxes_per_step(net, batch), []).append((net, block))
    fits = [_fit_group(group, params, warm) for group in groups.values()]
    while True:
        for running in list(fits):
            try:
                step = next(running)
            except StopIteration as end:
                fits.remove(running)
                reason: StopReason = end.value
        if not fits:
            return reason
        yield step


def _fit_group(group: Sequence[tuple[Field, NoisyBlock]], params: InrParams, warm: bool) -> Fit:
    """Fit the combined field of several blocks, which share the random positions of each step."""
    if not warm:
        for net, block in group:
            adapt_frequency(net, block, params)
    generators = [torch.Generator().manual_seed(block.seed) for _, block in group]
    targets = Targets.concatenate(
        [Targets.of(net, block, params, g) for (net, block), g in zip(group, generators, strict=True)]
    )
    net, generator = combine_fields([net for net, _ in group]), generators[0]
    batch = pixels_per_step(group[0][1], params)
    optimisation = Optimisation(
        net.siren,
        optimisers(net.siren.model, params),
        schedule=linear_decay(params.cooling),
        averaging=params.averaging,
    )
    rules, steps = stop_rules(params, warm), params.steps_of(warm)
    residual = (targets.values.square().flatten(1).mean(dim=1) / targets.sigma**2).mean()
    net.train()
    for step in range(1, steps + 1):
        optimisation.zero_grad()
        misfit = torch.zeros(2, device=targets.values.device)
        for positions, fraction in draw_positions(net, batch, generator):
            misfit += accumulate_gradients(net, positions, fraction, targets)
            if fraction < 1:  # a whole step may take long, and should not delay a cancel
                yield Step(step - 1, steps, residual)
        residual = misfit[0]
        # before the update: the function whose residual met the rule is the result (section 3.3)
        if reason := rules.check(step, misfit):
            return reason
        optimisation.step(step / steps)
        yield Step(step, steps, residual)
    return rules.all_steps_taken(steps)


def networks_per_block(params: InrParams, space: tuple[int, ...]) -> int:
    """Networks of a block of this shape; 0 where each block may stop at another step."""
    if params.stop_at or params.holdout or params.patch is None:
        return 0
    return len(Tiling.of(space, params.patch, params.overlap).corners) * params.fits


def restore(net: Field, block: NoisyBlock, params: InrParams) -> Tensor:
    """The function at the pixel centres, `(C, *space)`."""
    return net.render()
