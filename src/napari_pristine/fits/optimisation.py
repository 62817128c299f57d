"""One optimiser step, as all methods take it: learning rate, precision, gradient clipping, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch

from napari_pristine.methods.fit_settings import FINAL_RATE
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.optimiser import Optimiser

_WARM_UP = 10
"""Steps over which the average becomes longer, see `ema_decay`."""

Schedule: TypeAlias = Callable[[float], float]
"""Factor of the learning rate after a fraction of all steps."""


def linear_decay(fraction: float, final: float = FINAL_RATE) -> Schedule:
    """A constant learning rate that falls linearly to `final` over the last `fraction` of the steps."""

    def factor(progress: float) -> float:
        late = max(0.0, progress - 1 + fraction) / fraction if fraction else 0.0
        return 1 - (1 - final) * late

    return factor


def halvings(count: int) -> Schedule:
    """A learning rate that is halved `count` times, at equal intervals."""
    return lambda progress: float(0.5 ** min(int(progress * (count + 1)), count))


def cosine_decay(progress: float) -> float:
    """A learning rate that falls to 0 along half a wave of a cosine."""
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def ema_decay(averaging: float, step: int) -> float:
    """Decay of the averaged weights after a step, from 1: short at first, so that the average is usable at any step."""
    return min(averaging, step / (step + _WARM_UP))


class Optimisation:
    """The optimisers of a network and everything that belongs to one of their steps.

    The loop stays in the method's own file:

        optimisation.zero_grad()
        with optimisation.autocast():
            loss = ...
        loss.backward()
        optimisation.step(step / steps)

    Args:
        net: The network, with averaged weights.
        optimisers: One, or several that share the parameters of `net.model`.
        schedule: Schedule of the learning rate.
        averaging: Decay of the average over iterates; 0 keeps the last iterate alone.
        max_norm: Scale gradients down to this norm over all parameters; no limit if none.
        mixed_precision: Compute in bfloat16 where `autocast` is used, on CUDA devices only.
    """

    def __init__(
        self,
        net: EmaModel[Any],
        optimisers: Optimiser | Sequence[Optimiser],
        *,
        schedule: Schedule,
        averaging: float,
        max_norm: float | None = None,
        mixed_precision: bool = False,
    ) -> None:
        self.net = net
        self.optimisers = list(optimisers) if isinstance(optimisers, Sequence) else [optimisers]
        self.schedule, self.averaging, self.max_norm = schedule, averaging, max_norm
        self.mixed_precision = mixed_precision
        self.steps = 0
        self._groups = [(group, group["lr"]) for optimiser in self.optimisers for group in optimiser.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision within this context, if it is asked for and the network is on a CUDA device."""
        device = next(self.net.model.parameters()).device.type
        # bfloat16 has the range of float32: losses need no scaling
        return torch.autocast(device, torch.bfloat16) if self.mixed_precision and device == "cuda" else nullcontext()

    def step(self, progress: float) -> None:
        """Update the weights by their gradients, and the average; `progress` is the fraction of all steps done."""
        factor = self.schedule(progress)
        for group, rate in self._groups:
            group["lr"] = rate * factor
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.net.model.parameters(), self.max_norm)
        for optimiser in self.optimisers:
            optimiser.step()
        self.steps += 1
        self.net.update(ema_decay(self.averaging, self.steps))
