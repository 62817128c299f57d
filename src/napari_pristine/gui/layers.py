"""Convert layers to images and masks, and results to layers that look like the original one."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari import Viewer
from napari.components import Dims
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from napari_pristine.errors import AxesError
from napari_pristine.events import Preview
from napari_pristine.image.image import AXIS_NAMES, Image, check_axes, guess_axes
from napari_pristine.image.tiling import repeat
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import Restored

_PREVIEW_MARGIN = 4
"""Slices on either side of the current one that a preview includes along axes that are fitted together with Y and X."""
_MIN_PREVIEW_SIZE = 64
"""Pixels along Y and X that a preview has at least."""


def layer_data(layer: ImageLayer | Labels) -> Any:
    """The data of a layer at full resolution; they may be lazy."""
    return layer.data[0] if layer.multiscale else layer.data


def layer_axes(layer: ImageLayer) -> str:
    """Axes of a layer: from its axis labels if they are letters or known words, else guessed from its shape."""
    shape = tuple(layer_data(layer).shape)
    labels = [str(label).strip().upper() for label in layer.axis_labels]
    axes = "".join(AXIS_NAMES.get(label.lower(), label) for label in labels) + ("S" if layer.rgb else "")
    try:
        check_axes(axes, shape)
    except AxesError:
        return guess_axes(shape[:-1]) + "S" if layer.rgb else guess_axes(shape)
    return axes


def image_from_layer(layer: ImageLayer, axes: str) -> Image:
    """Make an image of a layer; no pixels are read.

    Raises:
        AxesError: The axes do not fit the layer.
    """
    rgb = 1 if layer.rgb else 0
    return Image(
        data=layer_data(layer),
        axes=axes,
        scale=(*(float(step) for step in layer.scale), *[1.0] * rgb),
        units=(*(str(unit) for unit in layer.units), *["pixel"] * rgb),
        translate=(*(float(offset) for offset in layer.translate), *[0.0] * rgb),
        name=layer.name,
    )


def mask_from_layer(layer: ImageLayer | Labels, image: Image) -> Image | None:
    """Make a mask of a layer that has the shape of the image, of the image without colours, or of one Y-X plane.

    Returns:
        The mask; `None` if the layer has another shape.
    """
    shape = tuple(int(size) for size in layer_data(layer).shape)
    plane = "".join(axis for axis in image.axes if axis in "YX")
    for axes in (image.axes, image.axes.replace("S", ""), plane):
        if shape == tuple(map(image.size, axes)):
            return Image(layer_data(layer), axes, name=layer.name)
    return None


def layer_arguments(layer: ImageLayer, image: Image, part: Image) -> dict[str, Any]:
    """Arguments of `add_image`, apart from data and name, for a layer that lies exactly over the original one.

    Args:
        layer: The original layer, whose orientation, units and colours the new one takes over.
        image: The original layer as an image.
        part: The image of the new layer: a part of `image`, possibly on a finer grid.
    """
    ndim = layer.ndim
    step = (np.array(part.scale) / np.array(image.scale))[:ndim]
    start = ((np.array(part.translate) - np.array(image.translate)) / np.array(image.scale))[:ndim]
    arguments: dict[str, Any] = {
        "scale": np.array(layer.scale) * step,
        # napari applies the translation after rotation and shear, but before the affine transform
        "translate": layer.affine.inverse(np.array(layer.data_to_world(start))),
        "metadata": dict(layer.metadata),
        "rgb": layer.rgb,
        "multiscale": False,
    }
    same = [
        "rotate", "shear", "affine", "units", "axis_labels", "blending", "opacity", "gamma",
        "interpolation2d", "interpolation3d", "rendering",
    ]  # fmt: skip
    if not layer.rgb:
        same += ["colormap", "contrast_limits"]
    return arguments | {name: getattr(layer, name) for name in same}


def visible_ranges(layer: ImageLayer, image: Image, together: str, dims: Dims) -> dict[str, str]:
    """The visible part of a layer, as ranges for `Image.select`.

    Along Y and X it is the part on the canvas, at least 64 pixels; along other axes it is the current slice, with some
    neighbours (or all channels) if they are fitted together with it.

    Args:
        layer: The layer.
        image: The layer as an image.
        together: Axes that are fitted together.
        dims: Dimensions of the viewer.
    """
    current = np.rint(layer.world_to_data(dims.point)).astype(int)
    low, high = np.array(layer.corner_pixels, dtype=float)
    if layer.multiscale:
        factors = np.array(layer.downsample_factors[layer.data_level])[: layer.ndim]
        low, high = low * factors, (high + 1) * factors - 1
    offset = dims.ndim - layer.ndim
    displayed = [axis - offset for axis in dims.displayed] if dims.ndisplay == 2 else []
    ranges = {}
    for axis, letter in enumerate(image.axes[: layer.ndim]):
        size = image.shape[axis]
        index = int(np.clip(current[axis], 0, size - 1))
        if letter in "YX":
            start, stop = (int(low[axis]), int(high[axis]) + 1) if axis in displayed else (0, size)
            start, stop = _widen(start, stop, size)
        elif letter == "C" and letter in together:
            start, stop = 0, size
        else:
            margin = _PREVIEW_MARGIN if letter in together else 0
            start, stop = max(index - margin, 0), min(index + margin + 1, size)
        ranges[letter] = f"{start}:{stop}"
    return ranges


def _widen(start: int, stop: int, size: int, minimum: int = _MIN_PREVIEW_SIZE) -> tuple[int, int]:
    """Widen a range to a minimum length about the same centre, within 0 and `size`."""
    start, stop = max(0, start), min(size, stop)
    missing = max(0, minimum - (stop - start))
    start = max(0, min(start - missing // 2, size - minimum))
    return start, min(size, max(stop, start + minimum))


class ResultLayer:
    """The layer of one job, which shows its previews and then its result.

    Args:
        viewer: The napari viewer.
        source: The layer that is restored.
        image: The same layer as an image.
        name: Name of the new layer.
        is_preview: True if only the visible part is restored.
    """

    def __init__(self, viewer: Viewer, source: ImageLayer, image: Image, name: str, *, is_preview: bool) -> None:
        self.viewer = viewer
        self.name = name
        self.is_preview = is_preview
        self.layer: ImageLayer | None = None
        self._source: tuple[ImageLayer, Image] | None = (source, image)
        self._plan: RestorationPlan | None = None
        self._arguments: dict[str, Any] = {}

    def set_plan(self, plan: RestorationPlan) -> None:
        """Set the plan of the job, which determines position and size of the layer."""
        if self._source is not None:
            self._arguments = layer_arguments(*self._source, plan.result_image(plan.image.data))
            self._plan = plan

    def show_preview(self, preview: Preview) -> None:
        """Write a block to the layer, which is added with the first one."""
        if self.layer is None and self._plan is not None:
            self._add(self._background(self._plan))
        if layer := self._layer_in_viewer():
            layer.data[preview.index] = preview.data
            layer.refresh()

    def show_result(self, restored: Restored) -> None:
        """Show the result, even if the user has deleted the layer."""
        if layer := self._layer_in_viewer():
            layer.data = restored.data
        else:
            layer = self._add(restored.data)
        layer.metadata = {**self._arguments["metadata"], "pristine": restored.provenance()}
        if restored.uncertainty is not None and not self.is_preview:
            self._add_uncertainty(restored.uncertainty)
        self._source = self._plan = None  # they hold the data of the original layer

    def remove(self) -> None:
        """Remove the layer; previews that arrive later do not add it again."""
        if layer := self._layer_in_viewer():
            layers, was_active = self.viewer.layers, self.viewer.layers.selection.active is layer
            layers.remove(layer)
            if was_active and self._source is not None and self._source[0] in layers:
                layers.selection.active = self._source[0]  # the controls show it again, as before the job
        self.layer = self._source = self._plan = None

    def _layer_in_viewer(self) -> ImageLayer | None:
        return self.layer if self.layer is not None and self.layer in self.viewer.layers else None

    def _add(self, data: Any) -> ImageLayer:
        self.layer = self.viewer.add_image(data, name=self.name, **self._arguments)
        return self.layer

    def _add_uncertainty(self, uncertainty: Image) -> None:
        """Add a layer with the uncertainty, under the result; of colours, the largest of all samples is shown."""
        shown, data = self.viewer.layers.selection.active, uncertainty.data
        if self._arguments["rgb"]:
            data = data.max(axis=-1)
        arguments = {key: value for key, value in self._arguments.items() if key not in ("contrast_limits", "gamma")}
        top = float(np.nanmax(data)) if np.isfinite(data).any() else 0.0
        arguments |= {"rgb": False, "colormap": "magma", "contrast_limits": (0, top or 1.0), "visible": False}
        arguments["metadata"] = {}
        self.viewer.add_image(data, name=f"{self.name}, uncertainty", **arguments)
        self.viewer.layers.selection.active = shown

    @staticmethod
    def _background(plan: RestorationPlan) -> np.ndarray:
        """Pixels where nothing is restored yet: the image if it is in memory, else zeros, which take no memory."""
        shape = plan.output_blocks.shape
        if type(plan.image.data) is not np.ndarray:  # lazy, or a memory map
            return np.zeros(shape, plan.dtype)
        factors = tuple(fine // coarse for fine, coarse in zip(shape, plan.image.shape, strict=True))
        return repeat(plan.image.data, factors) if max(factors) > 1 else plan.image.data.copy()
