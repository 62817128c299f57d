"""Files as layers: read lazily, with their scale, units, channels and coarser levels."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from napari_pristine.errors import PristineError
from napari_pristine.image.image import Image
from napari_pristine.io.lazy import WholeFile
from napari_pristine.io.registry import read
from napari_pristine.io.zarr import ZarrArray

_SIDE = 1024
"""Pixels along Y and X that are read at once of images that have no chunks of their own."""


def add_file(viewer: Any, path: Path, title: str = "", limits: list[Any] | None = None) -> list[Any]:
    """Show an image that lies in a file: one layer for each channel; its values are read when they are looked at.

    Args:
        viewer: The napari viewer.
        path: The file.
        title: What its layers are called, beside the name of the image.
        limits: Contrast limits of each layer; from the values if there are none.

    Returns:
        The layers.

    Raises:
        PristineError: It cannot be read.
    """
    image = read(path, lazy=True)
    levels = [_dasked(data, image.axes) for data in (image.data, *_coarser(path, image))]
    split = "C" in image.axes
    settings = _look(image, " · ".join(filter(None, (image.name, title))))
    if limits and len(limits) == (image.size("C") if split else 1) and "S" not in image.axes:
        settings["contrast_limits"] = limits if split else limits[0]
    several = len(levels) > 1
    added = viewer.add_image(levels if several else levels[0], multiscale=several, **settings)
    return list(added) if split else [added]


def show_pair(viewer: Any, source: Path, target: Path | None) -> None:
    """Show an image and its result, if there is one, in the same contrast.

    Raises:
        PristineError: One of them cannot be read.
    """
    layers = add_file(viewer, source)
    if target is None:
        return
    add_file(viewer, target, "restored", [layer.contrast_limits for layer in layers])
    for layer in layers:  # several are mixed with those of the result; a single one lies below it
        layer.visible = len(layers) == 1


def _look(image: Image, name: str) -> dict[str, Any]:
    """Arguments of `add_image`, apart from the data."""
    split = "C" in image.axes
    kept = [number for number, axis in enumerate(image.axes) if axis not in "CS"]
    return {
        "scale": [image.scale[axis] for axis in kept],
        "translate": [image.translate[axis] for axis in kept],
        "units": [image.units[axis] for axis in kept],
        "axis_labels": [image.axes[axis].lower() for axis in kept],
        "name": [f"{name} · {channel}" for channel in _channels(image)] if split else name,
        "rgb": "S" in image.axes,
        "channel_axis": image.axes.index("C") if split else None,
        "metadata": dict(image.metadata),
    }


def _channels(image: Image) -> list[str]:
    return list(image.channels) or [f"channel {number}" for number in range(image.size("C"))]


def _dasked(data: Any, axes: str) -> Any:
    """Values for napari, which takes numpy and dask for arrays, and keeps what dask has read at hand."""
    if isinstance(data, (np.ndarray, WholeFile)):
        return np.asarray(data[...])
    array: Any = import_module("dask.array")
    planes = tuple(
        min(n, _SIDE) if axis in "YX" else n if axis == "S" else 1 for axis, n in zip(axes, data.shape, strict=True)
    )
    chunks = getattr(data, "chunks", planes)
    return array.from_array(data, chunks=chunks, name=f"file-{uuid4().hex}", asarray=True)


def _coarser(path: Path, image: Image) -> list[ZarrArray]:
    """The coarser levels of an OME-Zarr that is laid out as ours are."""
    if not isinstance(image.data, ZarrArray) or "S" in image.axes or not (path / "0").is_dir():
        return []
    found = [image.data]
    while (path / str(len(found))).is_dir():
        try:
            level = ZarrArray(path / str(len(found)))
        except PristineError:
            break
        if level.ndim != found[-1].ndim or not level.shape < found[-1].shape:
            break
        found.append(level)
    return found[1:]
