"""OME-TIFF: the dialect with the richest description, and the one written by default.

See https://docs.openmicroscopy.org/ome-model/ for the attributes.
"""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import tifffile

from napari_pristine.image.image import Image
from napari_pristine.io.metadata import (
    PROVENANCE,
    FileMetadata,
    Provenance,
    WriteSpec,
    from_json,
    picture_last,
    tells,
    to_json,
)
from napari_pristine.io.units import ome_symbol, unit_name

CREATOR = "napari-pristine"
"""Positions are read from our own files alone: those of a stage would tear layers apart that lie on each other."""
NAMESPACE = "napari-pristine/provenance"
_DTYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
_SPACING = {axis: f"PhysicalSize{axis}" for axis in "ZYX"} | {"T": "TimeIncrement"}
_DEFAULT_UNIT = {"Z": "µm", "Y": "µm", "X": "µm", "T": "s"}


def can_hold(image: Image) -> bool:
    """Whether OME-TIFF has a word for the axes and the type of the values."""
    return set(image.axes) <= set("TZCYXS") and image.dtype.name in _DTYPES


def describe(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> FileMetadata:
    """Pixel size, time step, channel names and provenance from the OME-XML."""
    root = ElementTree.fromstring(tif.ome_metadata or "<OME/>")
    pixels = _pixels(root, tif, series)
    if pixels is None:
        return FileMetadata(metadata=_provenance(root))
    channels = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    position = _position(pixels) if root.get("Creator") == CREATOR else {}
    return FileMetadata(_spacing(pixels), channels if all(channels) else (), _provenance(root), position)


def layout(image: Image, provenance: Provenance) -> WriteSpec:
    """The image in OME's words."""
    metadata: dict[str, Any] = {"axes": picture_last(image.axes), "Creator": CREATOR}
    metadata |= {"Name": _printable(image.name)} if image.name else {}
    for axis, distance, unit in zip(image.axes, image.scale, image.units, strict=True):
        symbol = ome_symbol(unit, axis)
        if axis in _SPACING and symbol and tells(distance, unit):
            metadata |= {_SPACING[axis]: float(distance), _SPACING[axis] + "Unit": symbol}
    if any(image.translate):
        metadata["Plane"] = _planes(image)
    if image.channels and len(image.channels) == image.size("C"):
        metadata["Channel"] = {"Name": [_printable(name) for name in image.channels]}
    if provenance:
        metadata["CommentAnnotation"] = {"Namespace": NAMESPACE, "Value": to_json(provenance)}
    return WriteSpec("ome", picture_last(image.axes), metadata)


def _pixels(root: Element, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Element | None:
    """The Pixels element that describes `series`; images without data in this file are no series of tifffile."""
    images = root.findall("{*}Image")
    if len(images) == len(tif.series):
        return images[tif.series.index(series)].find("{*}Pixels")
    return next((image.find("{*}Pixels") for image in images if image.get("Name") == series.name), None)


def _spacing(pixels: Element) -> dict[str, tuple[float, str]]:
    found = {}
    for axis, key in _SPACING.items():
        distance = float(pixels.get(key) or 0)
        if 0 < distance < float("inf"):
            found[axis] = (distance, unit_name(pixels.get(key + "Unit", _DEFAULT_UNIT[axis])))
    return {"T": found.pop("T")} | found if "T" in found else found | _time_step(pixels)


def _planes(image: Image) -> dict[str, list[Any]]:
    """The position of each plane."""
    planes = math.prod(n for axis, n in zip(image.axes, image.shape, strict=True) if axis not in "YXS")
    found: dict[str, list[Any]] = {}
    for axis, start, unit in zip(image.axes, image.translate, image.units, strict=True):
        symbol = ome_symbol(unit, axis)
        if axis in "ZYX" and start and symbol:
            found |= {f"Position{axis}": [float(start)] * planes, f"Position{axis}Unit": [symbol] * planes}
    return found


def _position(pixels: Element) -> dict[str, float]:
    plane = pixels.find("{*}Plane")
    said = {} if plane is None else {axis: plane.get(f"Position{axis}") for axis in "ZYX"}
    return {axis: float(text) for axis, text in said.items() if text}


def _time_step(pixels: Element) -> dict[str, tuple[float, str]]:
    """The mean time between frames: where no step is stated, planes often have their time since the start."""
    firsts = [plane for plane in pixels.findall("{*}Plane") if plane.get("TheC") == plane.get("TheZ") == "0"]
    times = [(int(plane.get("TheT", "0")), float(plane.get("DeltaT", "nan"))) for plane in firsts]
    if len(times) < 2:
        return {}
    (first, start), *_, (last, end) = sorted(times)
    step = (end - start) / max(last - first, 1)
    return {"T": (step, unit_name(firsts[0].get("DeltaTUnit", "s")))} if step > 0 else {}


def _provenance(root: Element) -> dict[str, Any]:
    for note in root.findall("{*}StructuredAnnotations/{*}CommentAnnotation"):
        if note.get("Namespace") == NAMESPACE:
            return {PROVENANCE: from_json(note.findtext("{*}Value"))}
    return {}


def _printable(text: str) -> str:
    """Without the control characters that XML has no way to hold."""
    return "".join(letter for letter in text if letter.isprintable())
