"""A result that is mixed with the noisy image, by the strength of each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_pristine.image.image import Image
from napari_pristine.image.intensity import cast

MIXED_AT_ONCE = 2**21
"""Values that are mixed while a slider is dragged; of a larger image, only the planes that are shown are mixed."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A result and the noisy image, which are mixed where values are read.

    Attributes:
        image: The result.
        noisy: The image, of the same shape; it may be lazy. None if its grid is coarser: they cannot be mixed.
        filled: True where the image had no value that counts, such as in hot pixels; these stay restored.
        strengths: Share of the result, for each channel.
    """

    image: Image
    noisy: Any
    filled: NDArray[np.bool_] | None
    strengths: tuple[float, ...]

    @property
    def restored(self) -> NDArray[Any]:
        """The values of the result."""
        return np.asarray(self.image.data)

    @property
    def axes(self) -> str:
        """The axes of both."""
        return self.image.axes

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.restored.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""
        return self.restored.dtype

    @property
    def ndim(self) -> int:
        """Number of its axes."""
        return self.restored.ndim

    @property
    def plane_size(self) -> int:
        """Number of values that are shown at once."""
        return int(np.prod([size for axis, size in zip(self.axes, self.shape, strict=True) if axis in "YXS"]))

    def __getitem__(self, index: Any) -> NDArray[Any]:
        restored, noisy = self.restored[index], np.asarray(self.noisy[index])
        along = [len(self.strengths) if axis == "C" else 1 for axis in self.axes]
        share = np.broadcast_to(np.array(self.strengths, np.float32).reshape(along), self.shape)[index]
        mixed = noisy + share * (restored.astype(np.result_type(self.dtype, np.float32)) - noisy)
        return cast(mixed if self.filled is None else np.where(self.filled[index], restored, mixed), self.dtype)

    def values(self) -> Any:
        """The values for a layer: mixed now, or those of a large image plane by plane when they are shown."""
        if min(self.strengths) == 1:
            return self.restored
        if self.restored.size <= MIXED_AT_ONCE:
            return self[...]
        chunks = tuple(-1 if axis in "YXS" else 1 for axis in self.axes)
        return da.from_array(self, chunks=chunks, name=False, asarray=True)  # type: ignore[no-untyped-call]
