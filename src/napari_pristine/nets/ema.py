"""Averaged: a network with a running average of its weights."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


class EmaModel(nn.Module, Generic[N]):
    """A network to train (`live`) beside an exponential average of its weights to use (`steady`).

    Single iterates of a fit to noisy pixels jitter; their average does not (Polyak & Juditsky 1992).
    Call `update` after each step.
    """

    def __init__(self, net: N) -> None:
        super().__init__()
        self.model = net
        self.ema = copy.deepcopy(net).requires_grad_(False)

    @torch.no_grad()
    def update(self, memory: float) -> None:
        """Move the average towards the live weights; `memory` 0 copies them, 0.99 averages some 100 steps."""
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - memory)

    def forward(self, *args: Any) -> Any:
        """Evaluate the live network in training mode, else the averaged one."""
        return (self.model if self.training else self.ema)(*args)
