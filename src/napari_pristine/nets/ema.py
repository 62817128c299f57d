"""A network together with the exponential moving average (EMA) of its weights."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


class EmaModel(nn.Module, Generic[N]):
    """A network to train (`model`) and the exponential moving average of its weights to restore with (`ema`).

    Single iterates of a fit to noisy pixels fluctuate; their average does not (Polyak & Juditsky 1992).
    Call `update` after each optimiser step.
    """

    def __init__(self, net: N) -> None:
        super().__init__()
        self.model = net
        self.ema = copy.deepcopy(net).requires_grad_(False)

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move the average towards the trained weights; a decay of 0 copies them, 0.99 averages about 100 steps."""
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)

    def forward(self, *args: Any) -> Any:
        """Evaluate the trained network in training mode, else the averaged one."""
        return (self.model if self.training else self.ema)(*args)
