"""Layer → Image or mask, and what a new layer takes over from the one it was made from."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer

from napari_pristine.errors import AxesError
from napari_pristine.image.image import Image, check_axes, guess_axes

_WORDS = {"TIME": "T", "FRAME": "T", "DEPTH": "Z", "PLANE": "Z", "CHANNEL": "C", "CHANNELS": "C"}
_AROUND = 4
"""Slices on either side that a preview takes along axes other than Y and X that are fitted together."""
_SMALLEST_VIEW = 64


def values_of(layer: ImageLayer) -> Any:
    """The data of a layer at full resolution; they may be lazy."""
    return layer.data[0] if layer.multiscale else layer.data


def axes_of(layer: ImageLayer) -> str:
    """Axes of a layer: its axis labels where they are letters or known words, else a guess from its shape."""
    shape = tuple(values_of(layer).shape)
    labels = [str(label).strip().upper() for label in layer.axis_labels]
    axes = "".join(_WORDS.get(label, label) for label in labels) + ("S" if layer.rgb else "")
    try:
        check_axes(axes, shape)
    except AxesError:
        return guess_axes(shape[:-1]) + "S" if layer.rgb else guess_axes(shape)
    return axes


def image_of(layer: ImageLayer, axes: str) -> Image:
    """A layer as an image; nothing is read.

    Raises:
        AxesError: The axes do not fit the layer.
    """
    rgb = 1 if layer.rgb else 0
    return Image(
        data=values_of(layer),
        axes=axes,
        scale=(*(float(s) for s in layer.scale), *[1.0] * rgb),
        units=(*(str(unit) for unit in layer.units), *["pixel"] * rgb),
        translate=(*(float(t) for t in layer.translate), *[0.0] * rgb),
        name=layer.name,
    )


def mask_of(layer: Any, image: Image) -> Image | None:
    """A layer as a mask for an image: of its shape, without colours, or of its picture; `None` if it has another."""
    shape = tuple(int(n) for n in values_of(layer).shape)
    grey, plane = image.axes.replace("S", ""), "".join(axis for axis in image.axes if axis in "YX")
    axes = next((axes for axes in (image.axes, grey, plane) if shape == tuple(map(image.size, axes))), "")
    return Image(values_of(layer), axes, name=layer.name) if axes else None


def look_of(layer: ImageLayer, whole: Image, part: Image) -> dict[str, Any]:
    """What a new layer with `part` of the image takes over, as arguments of `add_image`.

    Position and spacing follow from the part, the rest is the same: orientation, units, names and colours.
    """
    ndim = layer.ndim
    step = (np.array(part.scale) / np.array(whole.scale))[:ndim]
    start = ((np.array(part.translate) - np.array(whole.translate)) / np.array(whole.scale))[:ndim]
    settings: dict[str, Any] = {
        "scale": np.array(layer.scale) * step,
        # translation comes after rotation and shear but before the affine transform
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
    return settings | {name: getattr(layer, name) for name in same}


def view_of(layer: ImageLayer, image: Image, together: str, dims: Any) -> dict[str, str]:
    """The part of an image that can be seen, as ranges for `Image.select`.

    Args:
        layer: The layer that shows the image.
        image: The layer as an image.
        together: Axes that are fitted together.
        dims: The viewer's dims.

    Along Y and X what is on the canvas, at least 64 pixels; along others the slice that is shown, and some about it
    where they are fitted together.
    """
    here = np.rint(layer.world_to_data(dims.point)).astype(int)
    low, high = _corners(layer)
    offset = dims.ndim - layer.ndim
    flat = [axis - offset for axis in dims.displayed] if dims.ndisplay == 2 else []
    ranges = {}
    for axis, letter in enumerate(image.axes[: layer.ndim]):
        size = image.shape[axis]
        at = int(np.clip(here[axis], 0, size - 1))
        if letter in "YX":
            span = (low[axis], high[axis] + 1) if axis in flat else (0, size)
            start, stop = _at_least(_SMALLEST_VIEW, *span, size)
        elif letter == "C" and letter in together:
            start, stop = 0, size
        else:
            around = _AROUND if letter in together else 0
            start, stop = max(at - around, 0), min(at + around + 1, size)
        ranges[letter] = f"{start}:{stop}"
    return ranges


def _corners(layer: ImageLayer) -> tuple[list[int], list[int]]:
    """First and last pixel on the canvas, at full resolution."""
    low, high = np.array(layer.corner_pixels, dtype=float)
    if layer.multiscale:
        factors = np.array(layer.downsample_factors[layer.data_level])[: layer.ndim]
        low, high = low * factors, (high + 1) * factors - 1
    return [int(v) for v in low], [int(v) for v in high]


def _at_least(least: int, start: int, stop: int, size: int) -> tuple[int, int]:
    """A range within 0 and `size` that holds `start:stop` and at least `least`, about the same middle."""
    start, stop = max(0, start), min(size, stop)
    missing = max(0, least - (stop - start))
    start = max(0, min(start - missing // 2, size - least))
    return start, min(size, max(stop, start + least))
