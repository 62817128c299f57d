"""Arrays of numpy, torch, dask and xarray as images, with the coordinates of xarray, and results as they came."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import AxesError, ImageError
from napari_pristine.image.image import Image, axes_from_names, check_axes, guess_axes, parse_range
from napari_pristine.io.metadata import PIXEL, unit_name
from napari_pristine.text import counted, one_line

_EVEN = 1e-3
"""Largest deviation, in steps, of coordinates that count as evenly spaced."""


def as_image(image: Any, axes: str = "", *, default: str = "") -> Image:
    """Return an array with axes as an `Image`, and an `Image` as it is.

    A `DataArray` of xarray brings its axes, spacing, units, position and names of channels in its dimensions and
    coordinates.

    Args:
        image: An `Image`, a `DataArray`, or anything that numpy can make an array of numbers of.
        axes: One letter per dimension; needed for arrays with more than two dimensions.
        default: Axes of arrays with more than two dimensions that state none.

    Raises:
        AxesError: An array with more than two dimensions needs axes, or they do not fit.
        ImageError: It is none of these.
    """
    if isinstance(image, (str, os.PathLike)):
        raise ImageError(
            f"an array or an Image is needed, not the name of a file ('{os.fspath(image)}'); "
            "read it first: napari_pristine.read(...)"
        )
    if isinstance(image, np.ma.MaskedArray):
        raise ImageError("masked arrays are not supported; set masked values to NaN: image.astype(float).filled(nan)")
    if isinstance(image, Image):
        return image
    if is_dataarray(image):
        return _from_dataarray(image, axes)
    kind = type(image).__name__
    try:
        values = np.asarray(image)
    except Exception as error:  # tensors on a GPU or with a gradient, lists of unequal length
        reason = one_line(error)[:200]
        raise ImageError(f"an object of type {kind} cannot be made an array ({reason}); give a numpy array") from error
    if values.dtype.kind not in "biufc":
        raise ImageError(
            f"an object of type {kind} with values of type {values.dtype} is no image; give an array of numbers"
        )
    axes = axes or ("YX" if values.ndim == 2 else default)
    if not axes:
        raise AxesError(
            f"an array with {counted(values.ndim, 'dimension')} (shape {values.shape}) needs axes; "
            f"give one letter per dimension, e.g. axes='{guess_axes(values.shape)}'"
        )
    return Image(values, axes)


def is_dataarray(image: Any) -> bool:
    """True if an object is a `DataArray` of xarray."""
    return all(hasattr(image, name) for name in ("dims", "coords", "attrs", "isel", "dtype", "data"))


def _from_dataarray(array: Any, axes: str) -> Image:
    """Make an image of a `DataArray`; its values may be lazy."""
    letters = axes or axes_from_names(array.dims, guess=True)
    try:
        check_axes(letters, array.shape)
    except AxesError as error:
        dims = ", ".join(map(str, array.dims))
        raise AxesError(f"{error} (the dimensions are called {dims}; axes=... says which is which)") from None
    scale, units, translate, notes = [], [], [], []
    channels: tuple[str, ...] = ()
    coordinates = dict(array.coords)  # asked for others, xarray counts
    for letter, dim in zip(letters, array.dims, strict=True):
        coordinate = coordinates.get(dim)
        step, unit, start = 1.0, PIXEL, 0.0
        if coordinate is not None and letter == "C":
            channels = tuple(str(value) for value in np.asarray(coordinate.values).ravel())
        elif coordinate is not None and letter != "S" and coordinate.size > 1:
            unit = unit_name(str(coordinate.attrs.get("units") or coordinate.attrs.get("unit") or ""))
            positions = np.asarray(coordinate.values)
            if positions.dtype.kind in "mM":
                unit, positions = "second", (positions - positions[:1]) / np.timedelta64(1, "s")
            if (found := _spacing(positions)) is None:
                unit = PIXEL
                notes.append(f"the coordinates along {dim} are not evenly spaced; the distance counts as unknown")
            else:
                step, start = found
        scale.append(step)
        units.append(unit)
        translate.append(start)
    name = "" if array.name is None else str(array.name)
    return Image(
        array.data, letters, tuple(scale), tuple(units), tuple(translate), name, channels, notes=tuple(notes)
    )  # fmt: skip


def _spacing(positions: NDArray[Any]) -> tuple[float, float] | None:
    """Distance between neighbours and lowest position; None if these are no numbers at even distances."""
    numbers = positions.ndim == 1 and positions.size and positions.dtype.kind in "iuf"
    if not numbers or not np.isfinite(positions).all():
        return None
    values = positions.astype(np.float64)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if step == 0 or np.abs(np.diff(values) - step).max() > _EVEN * abs(step):
        return None
    return abs(float(step)), float(values.min())


def like_dataarray(original: Any, result: Image, ranges: Mapping[str, str]) -> Image:
    """Return a result with its values as a `DataArray` like the original: dimensions, coordinates, attributes, name.

    Args:
        original: The `DataArray` that was restored.
        result: The result; its grid may be finer.
        ranges: Ranges that were restored, by axis.
    """
    dims = dict(zip(result.axes, original.dims, strict=True))
    sizes = dict(zip(result.axes, original.shape, strict=True))
    part = original.isel({dims[axis]: parse_range(axis, text, sizes[axis]) for axis, text in ranges.items()})
    finer = {dim: new // old for dim, new, old in zip(part.dims, result.shape, part.shape, strict=True)}
    if set(finer.values()) == {1}:
        return replace(result, data=part.copy(data=result.data))
    coordinates = {name: (each.dims, _refine(each, finer), each.attrs) for name, each in part.coords.items()}
    data = type(original)(result.data, coords=coordinates, dims=part.dims, attrs=part.attrs, name=part.name)
    return replace(result, data=data)


def _refine(coordinate: Any, finer: Mapping[Any, int]) -> NDArray[Any]:
    """Values of a coordinate on a finer grid over the same field: numbers on a line, anything else repeated."""
    values = np.asarray(coordinate.values)
    for axis, dim in enumerate(coordinate.dims):
        factor = finer[dim]
        if factor > 1 and values.ndim == 1 and values.dtype.kind in "iuf" and len(values) > 1:
            places = (np.arange(len(values) * factor) + 0.5) / factor - 0.5
            below = np.clip(np.floor(places).astype(int), 0, len(values) - 2)
            values = values[below] + (places - below) * np.diff(values.astype(np.float64))[below]
        else:
            values = np.repeat(values, factor, axis)
    return values
