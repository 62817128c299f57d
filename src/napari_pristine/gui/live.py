"""The layer that clears up while a job runs, and is its result in the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_pristine.events import Preview
from napari_pristine.image.axes import plan_axes
from napari_pristine.image.image import Image
from napari_pristine.image.tiling import repeat
from napari_pristine.jobs.restore import Restored
from napari_pristine.methods.method import MethodParams


class LiveLayer:
    """Shows previews and the result of one job as one layer.

    Args:
        viewer: The napari viewer.
        image: What is restored.
        finer: How many times finer the grid of the result is, along each axis.
        look: Arguments of `add_image`, apart from the data and the name.
        name: Name of the layer.
    """

    def __init__(self, viewer: Any, image: Image, finer: tuple[int, ...], look: dict[str, Any], name: str) -> None:
        self.viewer = viewer
        self.image = image
        self.finer = finer
        self.look = look
        self.name = name
        self.layer: Any = None
        self.closed = False

    def show(self, preview: Preview) -> None:
        """Put a block where it belongs; the layer is made for the first one."""
        if self.layer is None and not self.closed:
            self._add(self._canvas())
        if not self._there():
            return
        self.layer.data[preview.index] = preview.data
        self.layer.refresh()

    def settle(self, restored: Restored) -> None:
        """Make the layer the result."""
        if self._there():
            self.layer.data = restored.data
        else:
            self._add(restored.data)
        self.layer.metadata = {**self.look["metadata"], "pristine": restored.provenance()}

    def discard(self) -> None:
        """Take the layer away."""
        if self._there():
            self.viewer.layers.remove(self.layer)
        self.layer, self.closed = None, True

    def _there(self) -> bool:
        """Whether there is a layer; the user may have deleted it."""
        return self.layer is not None and self.layer in self.viewer.layers

    def _add(self, data: Any) -> None:
        self.layer = self.viewer.add_image(data, name=self.name, **self.look)

    def _canvas(self) -> np.ndarray:
        """What is shown where nothing is restored yet: the image, or black where that would have to be read first.

        Zeros take no memory until they are written to.
        """
        if type(self.image.data) is np.ndarray:  # and not mapped to a file
            return repeat(self.image.data, self.finer) if max(self.finer) > 1 else self.image.data.copy()
        shape = tuple(n * f for n, f in zip(self.image.shape, self.finer, strict=True))
        return np.zeros(shape, self.image.dtype)


def finer_by(image: Image, together: str, params: MethodParams) -> tuple[int, ...]:
    """How many times finer the grid of the result is than that of an image, along each of its axes.

    Raises:
        AxesError: The axes that are fitted together do not fit the image.
    """
    blocks = plan_axes(image, together)
    finer = blocks.upscaled(params.finer_by(blocks.space)).shape
    return tuple(mine // theirs for mine, theirs in zip(finer, blocks.shape, strict=True))
