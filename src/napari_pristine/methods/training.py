"""Training: what every loop that trains a network does beside its own steps."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def cool(optimisers: Iterable[torch.optim.Optimizer], progress: float, cooling: float) -> None:
    """Lower the step size linearly to 2 % over the last `cooling` of the steps; `progress` is the share done."""
    late = max(0.0, progress - 1 + cooling) / cooling if cooling else 0.0
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * (1 - 0.98 * late)
