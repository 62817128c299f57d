"""Image files as layers, read lazily with their scale, units, channels and resolution levels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.utils.notifications import show_info

from napari_pristine.gui.layers import stated_axes
from napari_pristine.gui.samples import LayerData
from napari_pristine.image.image import Image
from napari_pristine.io.lazy import WholeFile
from napari_pristine.io.registry import read
from napari_pristine.io.zarr import ZarrArray

_CHUNK = 1024
"""Pixels along Y and X of the chunks in which images without chunks of their own are read."""


def show_pair(viewer: Viewer, source: Path, result: Path | None) -> None:
    """Show an image and its result, if there is one, with the same contrast limits, in place of what is shown now.

    Raises:
        PristineError: One of them cannot be read.
    """
    shown = [layer for layer in viewer.layers if layer.visible]
    layers = add_file(viewer, source)
    for layer in shown:
        layer.visible = False
    viewer.reset_view()  # which may be zoomed in on what was shown
    if result is None:
        return
    add_file(viewer, result, "restored", [layer.contrast_limits for layer in layers])
    for layer in layers:  # channels of image and result would be mixed; a single layer is covered by its result
        layer.visible = len(layers) == 1


def add_file(
    viewer: Viewer, path: Path, suffix: str = "", contrast_limits: list[tuple[float, float]] | None = None
) -> list[ImageLayer]:
    """Add an image file to the viewer, whose pixels are read when they are shown.

    There is a layer for each channel, unless an image with the same axes is open, whose channels are in one layer: axes
    of layers with fewer dimensions would not be where its axes are.

    Args:
        viewer: The napari viewer.
        path: The file.
        suffix: Appended to the name of the image in the names of the layers.
        contrast_limits: Contrast limits of each layer; from the pixels if none are given.

    Raises:
        PristineError: The file cannot be read.
    """
    image = read(path, lazy=True)
    images = [layer for layer in viewer.layers if isinstance(layer, ImageLayer)]
    split = "C" in image.axes and image.axes not in map(stated_axes, images)
    data, arguments = _layer(image, suffix, split=split)
    channels = image.size("C") if split else 0
    if contrast_limits and len(contrast_limits) == (channels or 1) and "S" not in image.axes:
        arguments["contrast_limits"] = contrast_limits if channels else contrast_limits[0]
    added = viewer.add_image(data, **arguments)
    return list(added) if channels else [added]


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """The reader that the manifest gives napari, of microscope files; none for several files, which are no stack."""
    return _read_layers if isinstance(path, str) else None


def _read_layers(path: str) -> list[LayerData]:
    """Read a file as layers; the notes on how it was read are shown.

    Raises:
        FileError: The file cannot be read.
    """
    image = read(path, lazy=True)
    for note in image.notes:
        show_info(f"{image.name}: {note}")
    return [(*_layer(image, split="C" in image.axes), "image")]


def _layer(image: Image, suffix: str = "", *, split: bool) -> tuple[Any, dict[str, Any]]:
    """Data and other arguments of `add_image` that show an image; one layer per channel if they are `split`."""
    channels = image.size("C") if split else 0
    name = " · ".join(filter(None, (image.name, suffix)))
    names = image.channels or [f"channel {number}" for number in range(channels)]
    shown = [number for number, axis in enumerate(image.axes) if axis not in ("CS" if split else "S")]
    coarser = image.data.coarser_levels() if isinstance(image.data, ZarrArray) and "S" not in image.axes else []
    levels = [_lazy(data, image.axes) for data in (image.data, *_smaller(image.data, coarser))]
    several = len(levels) > 1
    return levels if several else levels[0], {
        "name": [f"{name} · {channel}" for channel in names] if channels else name,
        "scale": [image.scale[axis] for axis in shown],
        "translate": [image.translate[axis] for axis in shown],
        "units": [image.units[axis] for axis in shown],
        "axis_labels": [image.axes[axis] for axis in shown],
        "rgb": "S" in image.axes,
        "channel_axis": image.axes.index("C") if channels else None,
        "metadata": dict(image.metadata),
        "multiscale": several,
    }


def _lazy(data: Any, axes: str) -> Any:
    """Make data that napari can slice: a numpy array, or a dask array, whose chunks napari caches."""
    if isinstance(data, (np.ndarray, WholeFile)):
        return np.asarray(data[...])
    planes = tuple(
        min(size, _CHUNK) if axis in "YX" else size if axis == "S" else 1
        for axis, size in zip(axes, data.shape, strict=True)
    )
    chunks = getattr(data, "chunks", planes)
    return da.from_array(  # type: ignore[no-untyped-call]
        data, chunks=chunks, name=f"file-{uuid4().hex}", asarray=True
    )


def _smaller(finest: Any, levels: list[ZarrArray]) -> list[ZarrArray]:
    """The levels before the first that is not smaller than the level before it; no viewer can use that one."""
    shapes = [finest.shape, *(level.shape for level in levels)]
    usable = [len(b) == len(a) and b < a for a, b in pairwise(shapes)]
    return levels[: usable.index(False)] if False in usable else levels
