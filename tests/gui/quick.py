"""Images and settings that take no time."""

from __future__ import annotations

from typing import Any

import numpy as np

_FIELD = {"steps": 40, "patch": 64, "width": 16, "batch": 256}
_NET = {"steps": 10, "side": 32, "batch": 2, "width": 8, "levels": 2}
QUICK: dict[str, dict[str, Any]] = {
    "inr": _FIELD,
    "linr": _FIELD,
    "sampling": {**_NET, "steps": 4, "patch": 64, "function_width": 16, "function_batch": 256},
    "iddp": _NET,
    "blind2unblind": _NET,
}
ENDLESS = {"steps": 100_000}


def noisy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A bright disc in Poisson noise, in all planes of an image."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    disc = 20 + 80 * (np.hypot(y - shape[-2] / 2, x - shape[-1] / 2) < min(shape[-2:]) / 4)
    return np.random.default_rng(seed).poisson(np.broadcast_to(disc, shape)).astype(np.uint16)
