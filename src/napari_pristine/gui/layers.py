"""Layers as images and masks, with their axes and visible parts; layers that look like another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from napari.components import Dims
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Shapes

from napari_pristine.errors import AxesError, SettingError
from napari_pristine.gui.effort import effort_title
from napari_pristine.gui.source_file import file_image
from napari_pristine.image.image import AXIS_NAMES, Image, check_axes, guess_axes
from napari_pristine.io.metadata import AXES_GUESSED
from napari_pristine.methods import find_method
from napari_pristine.recipe_file import recipe_of

T = TypeVar("T")
_PREVIEW_MARGIN = 4
"""Slices on either side of the current one that a preview includes along axes that are fitted together with Y and X."""
_MIN_PREVIEW_SIZE = 64
"""Pixels along Y and X that a preview has at least."""
_UNIT_SYMBOLS = {"micrometer": "µm", "micron": "µm", "um": "µm", "nanometer": "nm", "millimeter": "mm", "angstrom": "Å"}
PIXELS = "px"
"""Unit of lengths in images whose pixel size is not known."""


def layer_data(layer: ImageLayer | Labels) -> Any:
    """The data of a layer at full resolution; they may be lazy."""
    return layer.data[0] if layer.multiscale else layer.data


def layer_axes(layer: ImageLayer) -> str:
    """Axes of a layer: from its axis labels or its file, else guessed from its shape."""
    shape = tuple(layer_data(layer).shape)
    return stated_axes(layer) or (guess_axes(shape[:-1]) + "S" if layer.rgb else guess_axes(shape))


def stated_axes(layer: ImageLayer) -> str:
    """Axes of a layer from its axis labels, if these are letters or known words, else from its file; else empty."""
    labels = [str(label).strip().upper() for label in layer.axis_labels]
    axes = "".join(AXIS_NAMES.get(label.lower(), label) for label in labels) + ("S" if layer.rgb else "")
    try:
        check_axes(axes, tuple(layer_data(layer).shape))
    except AxesError:
        file = file_image(layer, layer_data(layer))
        return "" if file is None or AXES_GUESSED in file.metadata else file.axes
    return axes


def describe_image(image: Image) -> str:
    """Axes with their sizes, type and pixel size of an image, such as `T 40 · Y 512 · X 512 · uint16 · 0.108 µm`."""
    parts = [f"{axis} {size}" for axis, size in zip(image.axes, image.shape, strict=True) if axis != "S"]
    parts.append(f"RGB {image.dtype}" if "S" in image.axes else str(image.dtype))
    step, unit = pixel_size(image)
    return " · ".join([*parts, f"{step:.3g} {unit}"] if unit != PIXELS else parts)


def describe_origin(image: Image) -> str:
    """Say so if an image is a result, as its file tells."""
    try:
        recipe = recipe_of(image.metadata)
    except SettingError:
        return ""
    made = ", ".join(filter(None, (find_method(recipe.method).title, effort_title(recipe.preset).lower())))
    return f"This image is already a result ({made}); what is removed now is not the noise of a camera."


def pixel_size(image: Image) -> tuple[float, str]:
    """Pixel size along X and the symbol of its unit; 1 and `PIXELS` if it is not known."""
    step, unit = image.scale[image.axes.index("X")], image.units[image.axes.index("X")]
    return (1.0, PIXELS) if unit == "pixel" else (step, _UNIT_SYMBOLS.get(unit, unit))


def image_from_layer(layer: ImageLayer, axes: str) -> Image:
    """Make an image of a layer; no pixels are read.

    Pixel size, position and other metadata are those of the file if the layer itself has none.

    Raises:
        AxesError: The axes do not fit the layer.
    """
    rgb = 1 if layer.rgb else 0
    image = Image(
        data=layer_data(layer),
        axes=axes,
        scale=(*(float(step) for step in layer.scale), *[1.0] * rgb),
        units=(*(str(unit) for unit in layer.units), *["pixel"] * rgb),
        translate=(*(float(offset) for offset in layer.translate), *[0.0] * rgb),
        name=layer.name,
    )
    has_place = {*image.scale} != {1.0} or {*image.units} != {"pixel"} or any(image.translate)
    file = None if has_place else file_image(layer, image.data)
    return image if file is None else _with_metadata(image, file)


def _with_metadata(image: Image, file: Image) -> Image:
    """An image with the metadata of its file, as far as both give an axis the same letter."""
    same = [axis == stated for axis, stated in zip(image.axes, file.axes, strict=True)]
    axes = "".join(axis for axis, is_same in zip(image.axes, same, strict=True) if is_same)

    def chosen(stated: Sequence[T], own: Sequence[T]) -> tuple[T, ...]:
        return tuple(a if is_same else b for a, b, is_same in zip(stated, own, same, strict=True))

    return replace(
        image,
        scale=chosen(file.scale, image.scale),
        units=chosen(file.units, image.units),
        translate=chosen(file.translate, image.translate),
        channels=file.channels if "C" in axes else (),
        metadata=file.metadata,
        details={key: detail for key, detail in file.details.items() if set(detail.axes) <= set(axes)},
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


def current_position(layer: ImageLayer, image: Image, dims: Dims) -> dict[str, int]:
    """Index of the current slice along each axis of a layer."""
    position = np.rint(layer.world_to_data(dims.point)).astype(int)
    return {
        axis: int(np.clip(position[number], 0, image.shape[number] - 1))
        for number, axis in enumerate(image.axes[: layer.ndim])
    }


def plane_ranges(layer: ImageLayer, image: Image, together: str, dims: Dims) -> dict[str, str]:
    """The current plane of a layer, all of Y and X; see `visible_ranges`."""
    whole = {axis: f"0:{image.size(axis)}" for axis in "YX"}
    return {**visible_ranges(layer, image, together, dims), **whole}


def shape_ranges(layer: ImageLayer, image: Image, shapes: Shapes) -> dict[str, str]:
    """The box along Y and X around the selected shapes of a layer, or around all of them if none is selected.

    Raises:
        AxesError: There are none, or they lie beside the image.
    """
    chosen = sorted(shapes.selected_data) or range(len(shapes.data))
    corners = [layer.world_to_data(shapes.data_to_world(corner)) for number in chosen for corner in shapes.data[number]]
    if not corners:
        raise AxesError(f"the layer '{shapes.name}' has no shape; draw a rectangle, or choose another region")
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    ranges = {}
    for axis, letter in enumerate(image.axes[: layer.ndim]):
        if letter in "YX":
            start, stop = round(float(low[axis])), round(float(high[axis])) + 1
            if stop <= 0 or start >= image.size(letter):
                raise AxesError(f"the shapes of '{shapes.name}' lie beside the image; draw them over it")
            start, stop = _widen(start, stop, image.size(letter))
            ranges[letter] = f"{start}:{stop}"
    return ranges


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
    current = current_position(layer, image, dims)
    low, high = np.array(layer.corner_pixels, dtype=float)
    if layer.multiscale:
        factors = np.array(layer.downsample_factors[layer.data_level])[: layer.ndim]
        low, high = low * factors, (high + 1) * factors - 1
    offset = dims.ndim - layer.ndim
    displayed = [axis - offset for axis in dims.displayed] if dims.ndisplay == 2 else []
    ranges = {}
    for axis, letter in enumerate(image.axes[: layer.ndim]):
        size = image.shape[axis]
        index = current[letter]
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
