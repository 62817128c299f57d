"""When a fit should stop before it has taken all its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from napari_pristine.methods.method import StopReason

EARLY = 30
"""Steps before which reaching the noise level means that the estimate is too high (texture taken for noise)."""
PATIENCE = 100
"""Steps without progress after which a fit is stopped."""
PROGRESS = 1e-3
"""Share by which the residual must fall to count as progress."""


@dataclass
class StopRules:
    """Watches a fit; counts steps, never seconds, so that the result does not depend on the machine.

    Attributes:
        residual: Stop when the residual is this strong, in noise levels; 0 never.
        held_out: Whether pixels are held out, so that their error tells when to stop.
        memory: Memory of the running mean of what is watched, for fits that see a few pixels at a time.
        early: Steps before which reaching the noise level is suspicious.
    """

    residual: float
    held_out: bool
    memory: float
    early: int = EARLY
    _mean: Tensor | None = None
    _best: dict[str, tuple[float, int]] = field(default_factory=dict)

    def met(self, step: int, misfit: Tensor) -> StopReason | None:
        """The rule that is met at this step, if any.

        Args:
            step: Number of the step, from 1.
            misfit: Mean squared error of the pixels fitted and of those held out, in noise variances, `(2,)`.
        """
        if not self.residual and not self.held_out:
            return None
        self._mean = misfit if self._mean is None else misfit.lerp(self._mean, self.memory)
        fitted, hidden = self._mean.tolist()
        if self.residual and fitted <= self.residual**2:
            return _noise_level(step, self.early)
        if self.residual and self._stuck("fitted", fitted, step):
            level = math.sqrt(fitted)
            return StopReason(
                f"the residual no longer fell after {step} steps, at {level:.2f} noise levels", warning=True
            )
        if self.held_out and self._stuck("hidden", hidden, step):
            return StopReason(f"the error of the pixels held out no longer fell after {step} steps")
        return None

    def _stuck(self, what: str, value: float, step: int) -> bool:
        best, since = self._best.get(what, (math.inf, step))
        if value < best * (1 - PROGRESS):
            self._best[what] = (value, step)
        return step - since > PATIENCE


def _noise_level(step: int, early: int) -> StopReason:
    if step >= early:
        return StopReason(f"reached the noise level after {step} steps")
    return StopReason(
        f"reached the noise level after only {step} steps: texture was probably taken for noise and is lost; "
        "set sigma to a lower value",
        warning=True,
    )
