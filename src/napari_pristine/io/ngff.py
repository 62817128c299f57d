"""Metadata of OME-Zarr: the attributes of an image's group. See https://ngff.openmicroscopy.org.

Versions 0.1 to 0.5 are read, 0.4 and 0.5 are written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from napari_pristine.errors import AxesError, FileError
from napari_pristine.image.image import Image, axes_from_names
from napari_pristine.io.metadata import (
    PIXEL,
    PROVENANCE,
    TITLE,
    WHITE_IS_ZERO,
    FileMetadata,
    Provenance,
    ome_symbol,
    provenance_to_json,
    unit_name,
)
from napari_pristine.text import counted, one_line

Version = Literal["0.4", "0.5"]
OWN = "napari-pristine"
"""Attribute for what OME-Zarr cannot express: samples of RGB pixels, and units other than of length and time."""
_AXES = "TCZYX"
_AXIS_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_COLOURS: tuple[str, ...] = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
_RGBA_COLOURS: tuple[str, ...] = ("FF0000", "00FF00", "0000FF", "FFFFFF")
ContrastLimits = tuple[float, float]


_ADVICE = "convert it again, or give the path of an array in it and its axes (--axes)"


@dataclass(frozen=True)
class Multiscale:
    """Metadata of an image.

    Attributes:
        levels: Paths of its levels within the group, the finest first.
        axes: One letter per dimension; empty if they are not stated.
        stated: Spacing, position and more of one level.
        version: Version in which a result is written.
    """

    levels: tuple[str, ...]
    axes: str
    stated: FileMetadata
    version: Version


class _Axis(BaseModel):
    name: str
    type: str | None = None
    unit: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value  # as in version 0.3


class _Transformation(BaseModel):
    type: str
    scale: list[float] | None = None
    translation: list[float] | None = None


class _Dataset(BaseModel):
    path: str
    transformations: list[_Transformation] | None = Field(None, alias="coordinateTransformations")


class _Multiscale(BaseModel):
    """The keys that are read; others may be missing or wrong, as no pixel depends on them."""

    version: Any = None
    name: Any = None
    axes: list[_Axis] | None = None
    datasets: list[_Dataset] = Field(min_length=1)
    transformations: list[_Transformation] | None = Field(None, alias="coordinateTransformations")


class _ImageAttributes(BaseModel):
    version: Any = None
    multiscales: list[_Multiscale] = Field(min_length=1)


def stored_axes(name: str, axes: str) -> str:
    """Axes in the order that OME-Zarr demands; the samples `S` of RGB pixels take the place of channels.

    Raises:
        FileError: OME-Zarr cannot hold these axes.
    """
    others = set(axes) - {*_AXES, "S"}
    if others or {"C", "S"} <= set(axes):
        found = f"an axis {min(others)}" if others else "both channels (C) and samples of RGB pixels (S)"
        raise FileError(f"'{name}': OME-Zarr cannot hold {found} (axes {axes}); select one along it, or write '.tif'")
    stored = "".join(axis for axis in _AXES if axis in axes or (axis == "C" and "S" in axes))
    return stored.replace("C", "S") if "S" in axes else stored


def write_attributes(
    image: Image, levels: int, contrast: Sequence[ContrastLimits], provenance: Provenance, version: Version
) -> dict[str, Any]:
    """Attributes for the group of an image.

    Args:
        image: The image; its values are not read.
        levels: Number of pyramid levels.
        contrast: Darkest and brightest value to show, for each channel.
        provenance: Origin of the image.
        version: Version of OME-Zarr.
    """
    axes = stored_axes(image.name, image.axes)
    units = [unit_name(image.units[image.axes.index(axis)]) for axis in axes]
    described = []
    for axis, unit in zip(axes.replace("S", "C"), units, strict=True):
        described.append({"name": axis.lower(), "type": _AXIS_TYPES[axis]})
        if _has_symbol(unit, axis):
            described[-1]["unit"] = unit
    name = image.metadata.get(TITLE, image.name)
    multiscale: dict[str, Any] = {"name": name} if name else {}
    multiscale |= {
        "axes": described,
        "datasets": [_dataset(image, axes, level) for level in range(levels)],
        "type": "mean",
    }
    display = {"omero": {"channels": _display(image, contrast)}}
    attributes: dict[str, Any]
    if version == "0.4":
        attributes = {**display, "multiscales": [multiscale | {"version": version}]}
    else:
        attributes = {"ome": {**display, "version": version, "multiscales": [multiscale]}}
    if provenance:
        attributes[PROVENANCE] = json.loads(provenance_to_json(provenance))
    if "S" in axes or any(
        unit != PIXEL and not _has_symbol(unit, axis) for unit, axis in zip(units, axes, strict=True)
    ):
        attributes[OWN] = {"axes": axes, "units": units}
    return attributes


def read_multiscale(file: Path, attributes: Mapping[str, Any], level: str = "", axes: str = "") -> Multiscale:
    """Read the metadata of the (first) image of a group from its attributes.

    Args:
        file: File of the attributes, for messages.
        attributes: Attributes of the group.
        level: Path of the level to describe; the finest one if empty.
        axes: Axes given by the user, in place of names that are missing or unknown.

    Raises:
        FileError: They are not valid OME-Zarr 0.1 to 0.5; the message names the key.
        AxesError: The names of the axes are unknown.
    """
    nested = "ome" in attributes
    ome = attributes["ome"] if nested else attributes
    try:
        found = _ImageAttributes.model_validate(ome)
    except ValidationError as error:
        raise FileError(f"'{file}' is not valid OME-Zarr: {_describe(error, file, nested)}; {_ADVICE}") from None
    image = found.multiscales[0]
    version = found.version if nested else image.version
    minor = re.fullmatch(r"0\.([1-5])(\D.*)?", str(version))
    if version is not None and not minor:
        raise FileError(f"'{file}' is OME-Zarr {one_line(version)[:20]}; versions 0.1 to 0.5 can be read; {_ADVICE}")
    is_old = minor is not None and minor[1] in "123"
    dataset = next((dataset for dataset in image.datasets if dataset.path == level), image.datasets[0])
    letters, units = _read_axes(file, image, without_axes=not nested and (not minor or minor[1] in "12"), given=axes)
    own = attributes.get(OWN)
    own = own if isinstance(own, dict) and str(own.get("axes")).replace("S", "C") == letters else {}
    letters = str(own.get("axes", letters))
    own_units = own.get("units")
    if isinstance(own_units, list) and len(own_units) == len(letters):
        units = [str(unit) for unit in own_units]
    notes = [f"this is OME-Zarr {version}; results in OME-Zarr are written as 0.4"] if is_old else []
    if len(found.multiscales) > 1:
        notes.append(f"the first of {len(found.multiscales)} images in '{file.parent.name}' was read")
    scale, start = [1.0] * len(letters), [0.0] * len(letters)
    # the transformations of a level come before those of all levels
    for step in [*(dataset.transformations or []), *(image.transformations or [])]:
        values = step.scale if step.type == "scale" else step.translation if step.type == "translation" else None
        if values is None:
            if step.type != "identity":
                notes.append(f"the transformation '{one_line(step.type)[:20]}' in its metadata is unknown and ignored")
        elif len(values) != len(letters):
            raise FileError(
                f"'{file}' is not valid OME-Zarr: a {step.type} has {counted(len(values), 'value')} for "
                f"{counted(len(letters), 'axis', 'axes')}; "
                f"{_ADVICE}"
            )
        elif step.type == "scale":
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            start = [a * b for a, b in zip(start, values, strict=True)]
        else:
            start = [a + b for a, b in zip(start, values, strict=True)]
    stated = FileMetadata(
        spacing={axis: (_valid_distance(d), unit) for axis, d, unit in zip(letters, scale, units, strict=True)},
        channels=_read_channels(ome.get("omero")),
        metadata=_read_metadata(attributes, image.name, ome.get("omero")),
        position={axis: d if math.isfinite(d) else 0.0 for axis, d in zip(letters, start, strict=True)},
        notes=tuple(notes),
    )
    return Multiscale(tuple(d.path for d in image.datasets), letters, stated, "0.5" if nested else "0.4")


def _read_axes(file: Path, image: _Multiscale, *, without_axes: bool, given: str) -> tuple[str, list[str]]:
    """Letters and units of the axes; versions without a list of axes have all five."""
    if image.axes:
        units = [unit_name(axis.unit or PIXEL) for axis in image.axes]
        try:
            return axes_from_names([axis.name for axis in image.axes], [axis.type for axis in image.axes]), units
        except AxesError as error:
            if len(given) == len(image.axes):
                return given, units
            raise AxesError(f"'{file}': {error}") from None
    letters = _AXES if without_axes else given
    if not letters:
        raise FileError(f"'{file}' is not valid OME-Zarr: multiscales[0].axes is missing; {_ADVICE}")
    return letters, [PIXEL] * len(letters)


def _describe(error: ValidationError, file: Path, nested: bool) -> str:
    """The key of a file that is wrong, and what is wrong with it."""
    first = error.errors()[0]
    prefix = [*(["attributes"] if file.name == "zarr.json" else []), *(["ome"] if nested else [])]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*prefix, *first["loc"]))
    if first["type"] == "missing":
        return f"{key.lstrip('.')} is missing"
    found = one_line(repr(first["input"]))
    reason = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    return f"{key.lstrip('.')} is {found if len(found) < 40 else f'{found[:40]}…'}, but {reason}"


def _valid_distance(distance: float) -> float:
    """A distance between pixels; 1 in place of what no viewer can use."""
    return float(distance) if math.isfinite(distance) and distance > 0 else 1.0


def _has_symbol(unit: str, axis: str) -> bool:
    """True if OME-Zarr knows this unit for an axis."""
    return axis in "TZYX" and unit != PIXEL and ome_symbol(unit, axis) is not None


def _dataset(image: Image, axes: str, level: int) -> dict[str, Any]:
    """Describe a level: its pixels are 2^level times as large, and centred on the pixels that they average."""
    scale, start = [], []
    for axis in axes:
        index = image.axes.index(axis)
        distance, first = _valid_distance(image.scale[index]), float(image.translate[index])
        factor = 2**level if axis in "YX" else 1
        scale.append(distance * factor)
        start.append((first if math.isfinite(first) else 0.0) + distance * (factor - 1) / 2)
    transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(start):
        transformations.append({"type": "translation", "translation": start})
    return {"path": str(level), "coordinateTransformations": transformations}


def _display(image: Image, contrast: Sequence[ContrastLimits]) -> list[dict[str, Any]]:
    """Name, colour and contrast of each channel, for viewers."""
    colours = ("FFFFFF",) if len(contrast) == 1 else _RGBA_COLOURS if "S" in image.axes else _COLOURS
    # a slider over all values of the type is of use for 8 and 16 bits only
    full_range = image.dtype.kind == "u" and image.dtype.itemsize < 4
    channels: list[dict[str, Any]] = []
    for number, (dark, bright) in enumerate(contrast):
        low, high = (0.0, float(2 ** (8 * image.dtype.itemsize) - 1)) if full_range else (dark, bright)
        channels.append({"label": image.channels[number]} if len(image.channels) == len(contrast) else {})
        channels[-1] |= {
            "color": colours[number % len(colours)],
            "window": {"min": low, "max": high, "start": dark, "end": bright},
            "active": True,
        }
        if image.metadata.get(WHITE_IS_ZERO):
            channels[-1]["inverted"] = True
    return channels


def _read_metadata(attributes: Mapping[str, Any], name: Any, omero: Any) -> dict[str, Any]:
    """The provenance, the name of the image, and whether low values are shown bright."""
    metadata = {PROVENANCE: attributes[PROVENANCE]} if isinstance(attributes.get(PROVENANCE), dict) else {}
    if isinstance(name, str) and name.strip():
        metadata[TITLE] = one_line(name)
    channels = omero.get("channels") if isinstance(omero, dict) else None
    channels = channels if isinstance(channels, list) else []
    inverted = [channel.get("inverted") is True for channel in channels if isinstance(channel, dict)]
    if inverted and all(inverted):
        metadata[WHITE_IS_ZERO] = True
    return metadata


def _read_channels(omero: Any) -> tuple[str, ...]:
    """Names of the channels; none if the metadata for viewers are not valid, as no pixel depends on them."""
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list) or not all(isinstance(channel, dict) for channel in channels):
        return ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if all(names) else ()
