"""Metadata of OME-Zarr 0.4 and 0.5: the attributes of an image's group. See https://ngff.openmicroscopy.org."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaozarrs

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.metadata import (
    PIXEL,
    PROVENANCE,
    WHITE_IS_ZERO,
    FileMetadata,
    Provenance,
    ome_symbol,
    provenance_to_json,
    unit_name,
)

Version = Literal["0.4", "0.5"]
OWN = "napari-pristine"
"""Attribute for what OME-Zarr cannot express: samples of RGB pixels, and units other than of length and time."""
_AXES = "TCZYX"
_AXIS_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_COLOURS: tuple[str, ...] = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
_RGBA_COLOURS: tuple[str, ...] = ("FF0000", "00FF00", "0000FF", "FFFFFF")
ContrastLimits = tuple[float, float]


@dataclass(frozen=True)
class Multiscale:
    """Metadata of an image: path of its finest level within the group, its axes, spacing and more."""

    path: str
    axes: str
    stated: FileMetadata


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
    multiscale: dict[str, Any] = {"name": image.name} if image.name else {}
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


def read_multiscale(group: str, attributes: Mapping[str, Any]) -> Multiscale:
    """Read the metadata of the (first) image of a group from its attributes.

    Args:
        group: Path of the group, for messages.
        attributes: Its attributes.

    Raises:
        FileError: They are not valid OME-Zarr 0.4 or 0.5.
    """
    ome = attributes.get("ome", attributes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about units that yaozarrs does not know
            schema = yaozarrs.v05.Image if "ome" in attributes else yaozarrs.v04.Image
            required = {key: ome[key] for key in ("version", "multiscales") if key in ome}
            model: Any = schema.model_validate(required).multiscales[0]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FileError(
            f"'{group}' is not valid OME-Zarr 0.4 or 0.5: {reason}; "
            "convert it again, or give the path of an array in it and its axes"
        ) from error
    axes = _letters(model.axes)
    own = attributes.get(OWN)
    own = own if isinstance(own, dict) and str(own.get("axes")).replace("S", "C") == axes else {}
    axes = str(own.get("axes", axes))
    units = own.get("units")
    if not isinstance(units, list) or len(units) != len(axes):
        units = [unit_name(axis.unit or PIXEL) for axis in model.axes]
    # the transformations of the finest level come before those of all levels
    scale, start = [1.0] * len(axes), [0.0] * len(axes)
    for step in [*model.datasets[0].coordinateTransformations, *(model.coordinateTransformations or [])]:
        if step.type == "scale":
            scale = [a * b for a, b in zip(scale, step.scale, strict=True)]
            start = [a * b for a, b in zip(start, step.scale, strict=True)]
        else:
            start = [a + b for a, b in zip(start, step.translation, strict=True)]
    stated = FileMetadata(
        spacing={axis: (_valid_distance(d), str(unit)) for axis, d, unit in zip(axes, scale, units, strict=True)},
        channels=_read_channels(ome.get("omero")),
        metadata=_read_metadata(attributes, ome.get("omero")),
        position={axis: d if math.isfinite(d) else 0.0 for axis, d in zip(axes, start, strict=True)},
    )
    return Multiscale(model.datasets[0].path, axes, stated)


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


def _letters(axes: Sequence[Any]) -> str:
    """One capital letter for each axis, by its name or its type."""
    letters = ""
    for axis in axes:
        type_letter = {"time": "T", "channel": "C"}.get(axis.type, "")
        name = axis.name.upper()
        wanted = [name] if len(name) == 1 else [type_letter, name[:1]]
        candidates = [*wanted, *"CTZQRPONMLKJIHG"]
        letters += next(letter for letter in candidates if letter and letter not in letters and letter.isascii())
    return letters


def _read_metadata(attributes: Mapping[str, Any], omero: Any) -> dict[str, Any]:
    """The provenance, and whether low values are shown bright."""
    metadata = {PROVENANCE: attributes[PROVENANCE]} if isinstance(attributes.get(PROVENANCE), dict) else {}
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
