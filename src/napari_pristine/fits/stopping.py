"""Stopping rules: when a fit ends before it has taken all its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from napari_pristine.methods.method import StopReason
from napari_pristine.text import counted

EARLY = 30
"""Steps before which reaching the noise level means that the estimate is too high (texture taken for noise)."""
_PATIENCE = 100
"""Steps without progress after which a fit is stopped."""
_PROGRESS = 1e-3
"""Relative decrease of the residual that counts as progress."""


@dataclass
class StopRules:
    """Rules that stop a fit early; they count steps, never seconds, so that results do not depend on the machine.

    Attributes:
        residual: Stop when the residual is as low as this, in noise levels; 0 never.
        held_out: Stop when the error of the pixels held out no longer falls.
        decay: Decay of the running mean of both errors, for fits that use a few pixels at a time.
        early: Number of steps before which reaching the noise level gives a warning.
    """

    residual: float
    held_out: bool
    decay: float
    early: int = EARLY
    _mean: Tensor | None = None
    _best: dict[str, tuple[float, int]] = field(default_factory=dict)

    def check(self, step: int, misfit: Tensor) -> StopReason | None:
        """Return the reason to stop at this step, if a rule is met.

        Args:
            step: Number of the step, from 1.
            misfit: Mean squared error of the pixels fitted and of those held out, in noise variances, `(2,)`.
        """
        if not self.residual and not self.held_out:
            return None
        self._mean = misfit if self._mean is None else misfit.lerp(self._mean, self.decay)
        fitted, hidden = self._mean.tolist()
        if self.residual and fitted <= self.residual**2:
            if step >= self.early:
                return StopReason(f"reached the noise level after {counted(step, 'step')}")
            return StopReason(
                f"reached the noise level after only {counted(step, 'step')}: texture was probably taken "
                f"for noise and is lost; "
                "set sigma to a lower value",
                warning=True,
            )
        if self.residual and self._is_stuck("fitted", fitted, step):
            level = math.sqrt(fitted)
            return StopReason(
                f"the residual no longer fell after {counted(step, 'step')}, at {level:.2f} noise levels", warning=True
            )
        if self.held_out and self._is_stuck("held out", hidden, step):
            return StopReason(f"the error of the pixels held out no longer fell after {counted(step, 'step')}")
        return None

    def all_steps_taken(self, steps: int) -> StopReason:
        """Return the reason for the end after all steps; it has a text if the fit was to reach the noise level."""
        if not self.residual:
            return StopReason()
        return StopReason(
            f"the fit has taken all {counted(steps, 'step')} and has not reached the noise level; more may bring out "
            "more detail (steps)"
        )

    def _is_stuck(self, name: str, value: float, step: int) -> bool:
        best, since = self._best.get(name, (math.inf, step))
        if value < best * (1 - _PROGRESS):
            self._best[name] = (value, step)
        return step - since > _PATIENCE
