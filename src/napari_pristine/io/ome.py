"""Metadata of OME-TIFF, the format that TIFF is written in by default.

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
    is_calibrated,
    ome_symbol,
    parse_json,
    plane_last,
    provenance_to_json,
    unit_name,
)

CREATOR = "napari-pristine"
"""Positions are read from our own files only: those of a stage would move apart layers that belong together."""
NAMESPACE = "napari-pristine/provenance"
_DTYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
_SPACING = {axis: f"PhysicalSize{axis}" for axis in "ZYX"} | {"T": "TimeIncrement"}
_DEFAULT_UNIT = {"Z": "µm", "Y": "µm", "X": "µm", "T": "s"}


def can_hold(image: Image) -> bool:
    """True if OME can express the axes and the type of the values."""
    return set(image.axes) <= set("TZCYXS") and image.dtype.name in _DTYPES


def read_metadata(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> FileMetadata:
    """Read pixel size, time step, channel names, position and provenance from the OME-XML."""
    root = ElementTree.fromstring(tif.ome_metadata or "<OME/>")
    provenance = {}
    for annotation in root.findall("{*}StructuredAnnotations/{*}CommentAnnotation"):
        if annotation.get("Namespace") == NAMESPACE:
            provenance = {PROVENANCE: parse_json(annotation.findtext("{*}Value"))}
            break
    images = root.findall("{*}Image")
    if len(images) == len(tif.series):
        images = [images[tif.series.index(series)]]
    else:  # images without data in this file are no series of tifffile
        images = [image for image in images if image.get("Name") == series.name]
    pixels = images[0].find("{*}Pixels") if images else None
    if pixels is None:
        return FileMetadata(metadata=provenance)
    channels = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    position: dict[str, float] = {}
    plane = pixels.find("{*}Plane")
    if plane is not None and root.get("Creator") == CREATOR:
        texts = {axis: plane.get(f"Position{axis}") for axis in "ZYX"}
        position = {axis: float(text) for axis, text in texts.items() if text}
    return FileMetadata(_read_spacing(pixels), channels if all(channels) else (), provenance, position)


def write_spec(image: Image, provenance: Provenance) -> WriteSpec:
    """Express an image in OME's attributes."""
    axes = plane_last(image.axes)
    metadata: dict[str, Any] = {"axes": axes, "Creator": CREATOR}
    if image.name:
        metadata["Name"] = _printable(image.name)
    plane_count = math.prod(n for axis, n in zip(image.axes, image.shape, strict=True) if axis not in "YXS")
    planes: dict[str, list[Any]] = {}
    for axis, distance, start, unit in zip(image.axes, image.scale, image.translate, image.units, strict=True):
        symbol = ome_symbol(unit, axis)
        if axis in _SPACING and symbol and is_calibrated(distance, unit):
            metadata |= {_SPACING[axis]: float(distance), _SPACING[axis] + "Unit": symbol}
        if axis in "ZYX" and symbol and start:
            planes[f"Position{axis}"] = [float(start)] * plane_count
            planes[f"Position{axis}Unit"] = [symbol] * plane_count
    if any(image.translate):
        metadata["Plane"] = planes
    if image.channels and len(image.channels) == image.size("C"):
        metadata["Channel"] = {"Name": [_printable(name) for name in image.channels]}
    if provenance:
        metadata["CommentAnnotation"] = {"Namespace": NAMESPACE, "Value": provenance_to_json(provenance)}
    return WriteSpec("ome", axes, metadata)


def _read_spacing(pixels: Element) -> dict[str, tuple[float, str]]:
    """Distance and unit of each axis that states one.

    Without a time step it is the mean time between planes, which often state their time since the start.
    """
    spacing: dict[str, tuple[float, str]] = {}
    for axis, key in _SPACING.items():
        distance = float(pixels.get(key) or 0)
        if 0 < distance < float("inf"):
            spacing[axis] = (distance, unit_name(pixels.get(key + "Unit", _DEFAULT_UNIT[axis])))
    if "T" in spacing:
        return spacing
    planes = [plane for plane in pixels.findall("{*}Plane") if plane.get("TheC") == plane.get("TheZ") == "0"]
    times = sorted((int(plane.get("TheT", "0")), float(plane.get("DeltaT", "nan"))) for plane in planes)
    if len(times) > 1:
        (first, start), *_, (last, end) = times
        step = (end - start) / max(last - first, 1)
        if step > 0:
            spacing["T"] = (step, unit_name(planes[0].get("DeltaTUnit", "s")))
    return spacing


def _printable(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable())
