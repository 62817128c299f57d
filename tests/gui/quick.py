"""Images and settings that take no time."""

from __future__ import annotations

import numpy as np

QUICK = {"steps": 40, "patch": 64, "width": 16, "batch": 256}
ENDLESS = QUICK | {"steps": 100_000}


def noisy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A bright disc in Poisson noise, in all planes of an image."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    disc = 20 + 80 * (np.hypot(y - shape[-2] / 2, x - shape[-1] / 2) < min(shape[-2:]) / 4)
    return np.random.default_rng(seed).poisson(np.broadcast_to(disc, shape)).astype(np.uint16)
