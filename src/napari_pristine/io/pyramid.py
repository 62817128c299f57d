"""Coarser levels of large pictures, each half of the one before along Y and X."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def count(height: int, width: int, largest: int) -> int:
    """Levels, the picture itself included, until the coarsest is at most `largest` pixels along Y and X."""
    return 1 + max(-(-max(height, width) // largest) - 1, 0).bit_length()


def halved(size: int) -> int:
    """Pixels of the next level; one that is half beyond the edge is kept."""
    return -(-size // 2)


def halve(values: NDArray[Any]) -> NDArray[Any]:
    """The mean of each 2 × 2 pixels along the first two axes, in the type of the values; at the edge, of those there.

    Whole numbers are rounded, exactly in any type: no sum of four is ever made.
    """
    odd = [(0, size % 2) for size in values.shape[:2]] + [(0, 0)] * (values.ndim - 2)
    if values.shape[0] % 2 or values.shape[1] % 2:
        values = np.pad(values, odd, mode="edge")
    corners = [values[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    if values.dtype.kind == "f":
        exact = np.promote_types(values.dtype, np.float32)
        quarters = [corner.astype(exact) * exact.type(0.25) for corner in corners]
        return np.asarray(quarters[0] + quarters[1] + (quarters[2] + quarters[3])).astype(values.dtype)
    whole = (corners[0] >> 2) + (corners[1] >> 2) + (corners[2] >> 2) + (corners[3] >> 2)
    rest = (corners[0] & 3) + (corners[1] & 3) + (corners[2] & 3) + (corners[3] & 3)
    return np.asarray(whole + ((rest + 2) >> 2)).astype(values.dtype)
