"""OME-Zarr in words: the attributes of an image, versions 0.4 and 0.5. See https://ngff.openmicroscopy.org."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaozarrs

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.metadata import PROVENANCE, FileMetadata, Provenance, from_json, to_json
from napari_pristine.io.units import PIXEL, ome_symbol, unit_name

Version = Literal["0.4", "0.5"]
OWN = "napari-pristine"
"""Attribute for what OME-Zarr has no word for: samples of RGB pixels, and units of other kinds."""
_ORDER = "TCZYX"
_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
Window = tuple[float, float]


@dataclass(frozen=True)
class Multiscale:
    """What a group says of its image: where its finest level is, its axes and spacing."""

    path: str
    axes: str
    notes: FileMetadata


def stored_axes(name: str, axes: str) -> str:
    """The axes in the order that OME-Zarr demands; the samples `S` of RGB pixels take the place of channels.

    Raises:
        FileError: OME-Zarr has no word for them.
    """
    others = set(axes) - {*_ORDER, "S"}
    if others or {"C", "S"} <= set(axes):
        what = f"an axis {min(others)}" if others else "both channels (C) and samples of RGB pixels (S)"
        raise FileError(f"'{name}': OME-Zarr cannot hold {what} (axes {axes}); select one along it, or write '.tif'")
    samples = "S" in axes
    found = "".join(axis for axis in _ORDER if axis in axes or (axis == "C" and samples))
    return found.replace("C", "S") if samples else found


def attributes(image: Image, levels: int, windows: Sequence[Window], provenance: Provenance, version: Version) -> Any:
    """The attributes of the group of an image.

    `windows` are the darkest and brightest value to show, of each channel.
    """
    axes = stored_axes(image.name, image.axes)
    multiscale: dict[str, Any] = {"name": image.name} if image.name else {}
    multiscale |= {
        "axes": [_axis(axis, image) for axis in axes.replace("S", "C")],
        "datasets": [_dataset(image, axes, level) for level in range(levels)],
        "type": "mean",
    }
    said: dict[str, Any] = {"omero": {"channels": _channels(image, windows)}}
    if version == "0.4":
        found = said | {"multiscales": [multiscale | {"version": version}]}
    else:
        found = {"ome": said | {"version": version, "multiscales": [multiscale]}}
    found |= {PROVENANCE: from_json(to_json(provenance))} if provenance else {}
    units = [unit_name(image.units[image.axes.index(axis)]) for axis in axes]
    if "S" in axes or any(unit != PIXEL and not _word(unit, axis) for unit, axis in zip(units, axes, strict=True)):
        found[OWN] = {"axes": axes, "units": units}
    return found


def multiscale(group: str, said: Mapping[str, Any]) -> Multiscale:
    """What the attributes of a group say of its (first) image.

    Raises:
        FileError: They are not as OME-Zarr 0.4 or 0.5 has them.
    """
    model = _validated(group, said)
    axes = _letters(model.axes)
    own = said.get(OWN)
    own = own if isinstance(own, dict) and str(own.get("axes")).replace("S", "C") == axes else {}
    axes = str(own.get("axes", axes))
    units = own.get("units")
    if not isinstance(units, list) or len(units) != len(axes):
        units = [unit_name(axis.unit or PIXEL) for axis in model.axes]
    scale, start = _placed(model)
    spacing = {axis: (_positive(d), str(unit)) for axis, d, unit in zip(axes, scale, units, strict=True)}
    metadata = {PROVENANCE: said[PROVENANCE]} if isinstance(said.get(PROVENANCE), dict) else {}
    position = {axis: d if math.isfinite(d) else 0.0 for axis, d in zip(axes, start, strict=True)}
    return Multiscale(model.datasets[0].path, axes, FileMetadata(spacing, _labels(said), metadata, position))


def _positive(distance: float) -> float:
    """A distance that is one; 1 for all that neither files nor viewers can do anything with."""
    return float(distance) if math.isfinite(distance) and distance > 0 else 1.0


def _word(unit: str, axis: str) -> bool:
    """Whether OME-Zarr knows this unit for an axis."""
    return axis in "TZYX" and unit != PIXEL and ome_symbol(unit, axis) is not None


def _axis(axis: str, image: Image) -> dict[str, str]:
    unit = unit_name(image.units[image.axes.index(axis)]) if axis in image.axes else PIXEL
    return {"name": axis.lower(), "type": _TYPES[axis]} | ({"unit": unit} if _word(unit, axis) else {})


def _dataset(image: Image, axes: str, level: int) -> dict[str, Any]:
    """A level: its pixels are 2^level times as large, and their centres lie in the middle of what they cover."""
    scale, start = [], []
    for axis in axes:
        place = image.axes.index(axis)
        distance, first = _positive(image.scale[place]), float(image.translate[place])
        factor = 2**level if axis in "YX" else 1
        scale.append(distance * factor)
        start.append((first if math.isfinite(first) else 0.0) + distance * (factor - 1) / 2)
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    steps += [{"type": "translation", "translation": start}] if any(start) else []
    return {"path": str(level), "coordinateTransformations": steps}


def _channels(image: Image, windows: Sequence[Window]) -> list[dict[str, Any]]:
    """How viewers are to show each channel."""
    colours = ("FF0000", "00FF00", "0000FF", "FFFFFF") if "S" in image.axes else _COLOURS
    named = len(image.channels) == len(windows)
    found = []
    for number, (dark, bright) in enumerate(windows):
        short = image.dtype.kind == "u" and image.dtype.itemsize < 4  # all values of the type make a slider of use
        ends = (0.0, float(2 ** (8 * image.dtype.itemsize) - 1)) if short else (dark, bright)
        colour = "FFFFFF" if len(windows) == 1 else colours[number % len(colours)]
        window = {"min": ends[0], "max": ends[1], "start": dark, "end": bright}
        label = {"label": image.channels[number]} if named else {}
        found.append(label | {"color": colour, "window": window, "active": True})
    return found


def _validated(group: str, said: Mapping[str, Any]) -> Any:
    """The first multiscale, as a model of yaozarrs."""
    ome = said.get("ome", said)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units that it does not know
            model = yaozarrs.v05.Image if "ome" in said else yaozarrs.v04.Image
            plain = {key: ome[key] for key in ("version", "multiscales") if key in ome}
            return model.model_validate(plain).multiscales[0]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FileError(
            f"'{group}' is not OME-Zarr 0.4 or 0.5 as it should be: {reason}; "
            "convert it anew, or give the path of an array in it and its axes"
        ) from error


def _letters(axes: Sequence[Any]) -> str:
    """One capital letter for each axis, by its name or its type."""
    found = ""
    for axis in axes:
        kind = {"time": "T", "channel": "C"}.get(axis.type, "")
        name = axis.name.upper()
        wanted = [name] if len(name) == 1 else [kind, name[:1]]
        spare = [*wanted, *"CTZQRPONMLKJIHG"]
        found += next(letter for letter in spare if letter and letter not in found and letter.isascii())
    return found


def _placed(model: Any) -> tuple[list[float], list[float]]:
    """Spacing and position of the finest level, first by its own transformations, then by those of all levels."""
    scale, start = [1.0] * len(model.axes), [0.0] * len(model.axes)
    for step in [*model.datasets[0].coordinateTransformations, *(model.coordinateTransformations or [])]:
        if step.type == "scale":
            scale = [a * b for a, b in zip(scale, step.scale, strict=True)]
            start = [a * b for a, b in zip(start, step.scale, strict=True)]
        else:
            start = [a + b for a, b in zip(start, step.translation, strict=True)]
    return scale, start


def _labels(said: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of channels; none if they are not as they should be, as they matter to no pixel."""
    omero = said.get("ome", said).get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list) or not all(isinstance(channel, dict) for channel in channels):
        return ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if all(names) else ()
