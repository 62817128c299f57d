"""Metadata of OME-TIFF, the format that TIFF is written in by default.

See https://docs.openmicroscopy.org/ome-model/ for the attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from napari_pristine.image.image import AxisValues, Image
from napari_pristine.io.metadata import (
    PROVENANCE,
    TITLE,
    FileMetadata,
    Provenance,
    WriteSpec,
    is_calibrated,
    map_texts,
    number,
    ome_symbol,
    parse_json,
    plane_last,
    provenance_to_json,
    unit_name,
)
from napari_pristine.io.ome_xml import OmeXml
from napari_pristine.text import valid_xml

FORMAT = "ome"
CREATOR = "napari-pristine"
"""Positions are read from our own files only: those of a stage would move apart layers that belong together."""
NAMESPACE = "napari-pristine/provenance"
_DTYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
_SPACING = {axis: f"PhysicalSize{axis}" for axis in "ZYX"} | {"T": "TimeIncrement"}
_CHANNEL = {
    "Color": True, "EmissionWavelength": True, "EmissionWavelengthUnit": False, "ExcitationWavelength": True,
    "ExcitationWavelengthUnit": False, "Fluor": False, "AcquisitionMode": False, "IlluminationType": False,
    "ContrastMethod": False, "PinholeSize": True, "PinholeSizeUnit": False, "PockelCellSetting": True,
}  # fmt: skip
"""Attributes of channels that a result keeps, and if they are numbers."""
_PLANE_OF_OWN = {"DeltaT": True, "DeltaTUnit": False, "ExposureTime": True, "ExposureTimeUnit": False}
"""The same of planes, in our own files, whose positions are those of `Image.translate`."""
_PLANE = _PLANE_OF_OWN | {f"Position{axis}{unit}": not unit for axis in "XYZ" for unit in ("", "Unit")}
_DROPPED = {
    "Project", "Dataset", "Folder", "Experiment", "Plate", "Screen", "Experimenter", "ExperimenterGroup", "Instrument",
    "ROI", "ROIRef", "Rights", "MicrobeamManipulationRef", "ImagingEnvironment", "StageLabel",
}  # fmt: skip
"""Elements that a result does not keep."""
_DEFAULT_UNIT = {"Z": "µm", "Y": "µm", "X": "µm", "T": "s"}


def can_hold(image: Image) -> bool:
    """True if OME can express the axes and the type of the values."""
    return set(image.axes) <= set("TZCYXS") and image.dtype.name in _DTYPES


def read_metadata(
    xml: OmeXml, which: int, axes: str, shape: tuple[int, ...], first: Mapping[str, int] | None
) -> FileMetadata:
    """Read pixel size, time step, channels, planes, position and provenance from the OME-XML.

    Args:
        xml: The OME-XML.
        which: Number of the image in it.
        axes: Axes of its values.
        shape: Their shape.
        first: Number of the first plane along axes of which a part is read; None if the planes do not follow the XML.
    """
    provenance = {}
    for annotation in xml.root.findall("{*}StructuredAnnotations/{*}CommentAnnotation"):
        if annotation.get("Namespace") == NAMESPACE:
            provenance = {PROVENANCE: parse_json(annotation.findtext("{*}Value"))}
            break
    image = xml.images[which]
    pixels = image.find("{*}Pixels")
    if pixels is None:
        return FileMetadata(metadata=provenance)
    names = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    sizes = {axis: dict(zip(axes, shape, strict=True)).get(axis, 1) for axis in "TZC"}
    if first is None and all(sizes[axis] == number(pixels.get(f"Size{axis}", 1)) for axis in "TZC"):
        first = {}
    is_own = xml.root.get("Creator") == CREATOR
    position: dict[str, float] = {}
    plane = pixels.find("{*}Plane")
    if plane is not None and is_own:
        position = {axis: number(plane.get(f"Position{axis}")) for axis in "ZYX"}
    details: dict[str, AxisValues | None] = {}
    if first is not None:
        details["channels"] = _read_elements(pixels, "Channel", _CHANNEL, "C", sizes, first)
        details["planes"] = _read_elements(pixels, "Plane", _PLANE_OF_OWN if is_own else _PLANE, "TZC", sizes, first)
        names = names[first.get("C", 0) :][: sizes["C"]]
    text = {name: found for name in ("AcquisitionDate", "Description") if (found := image.findtext(f"{{*}}{name}"))}
    dropped = {element.tag.rpartition("}")[2] for element in (*xml.root, *image)} & _DROPPED
    if any(annotation.get("Namespace") != NAMESPACE for annotation in xml.root.iterfind("{*}StructuredAnnotations/*")):
        dropped.add("StructuredAnnotations")
    extra: dict[str, Any] = {FORMAT: {"text": text}} if text else {}
    if dropped:
        extra["dropped"] = tuple(sorted(dropped))
    spacing = _read_spacing(pixels)
    unknown = sorted({unit for axis, (_, unit) in spacing.items() if not ome_symbol(unit, axis)})
    notes = [f"distances in the unknown unit '{unit}' are ignored" for unit in unknown]
    for key in _SPACING.values():
        if not _is_number(stated := pixels.get(key, "")):
            notes.append(f"its {key} '{stated}' is {f'read as {number(stated):g}' if number(stated) else 'ignored'}")
    return FileMetadata(
        {axis: stated for axis, stated in spacing.items() if stated[1] not in unknown},
        names if all(names) else (),
        provenance | extra,
        position,
        {key: values for key, values in details.items() if values is not None},
        tuple(notes),
    )


def _read_elements(
    pixels: Element,
    name: str,
    attributes: Mapping[str, bool],
    axes: str,
    sizes: Mapping[str, int],
    first: Mapping[str, int],
) -> AxisValues | None:
    """Attributes of each channel or plane, as mappings; None if there are none.

    Args:
        pixels: The element that contains them.
        name: Name of their elements.
        attributes: Attributes to read, and if they are numbers.
        axes: The axes along which there is one element each.
        sizes: Size along these axes.
        first: Number of the first element that is read along them, if not 0.
    """
    values = np.empty([sizes[axis] for axis in axes], object)
    for n, element in enumerate(pixels.findall(f"{{*}}{name}")):
        stated_at = [n] if axes == "C" else [int(number(element.get(f"The{axis}"))) for axis in axes]
        place = tuple(at - first.get(axis, 0) for axis, at in zip(axes, stated_at, strict=True))
        stated = {key: str(text) for key in attributes if (text := element.get(key)) is not None}
        if all(0 <= at < size for at, size in zip(place, values.shape, strict=True)):
            stated = {key: f"{number(text):.15g}" if attributes[key] else text for key, text in stated.items()}
            values[place] = {key: text for key, text in stated.items() if key.removesuffix("Unit") in stated}
    return AxisValues(axes, values) if any(values.ravel()) else None


def write_spec(image: Image, provenance: Provenance) -> WriteSpec:
    """Express an image in OME's attributes."""
    axes = plane_last(image.axes)
    metadata: dict[str, Any] = {"axes": axes, "Creator": CREATOR}
    if name := image.metadata.get(TITLE, image.name):
        metadata["Name"] = name
    start_of: dict[str, str] = {}
    kept = {"text"}
    for axis, distance, start, unit in zip(image.axes, image.scale, image.translate, image.units, strict=True):
        symbol = ome_symbol(unit, axis)
        if axis in _SPACING and symbol and is_calibrated(distance, unit):
            metadata |= {_SPACING[axis]: float(distance), _SPACING[axis] + "Unit": symbol}
        if axis in "ZYX" and symbol and start:
            start_of |= {f"Position{axis}": str(float(start)), f"Position{axis}Unit": symbol}
    planes = _planes(image, axes)
    has_stage = any("Position" in key for plane in planes for key in plane)
    if start_of:  # the positions of a stage would hide it
        planes = [{key: text for key, text in plane.items() if "Position" not in key} | start_of for plane in planes]
    elif has_stage:
        metadata["Creator"] = f"{CREATOR}, with positions of the stage"
    if any(planes):
        metadata["Plane"] = planes
    if "planes" in image.details and image.details["planes"].fits(image) and not (start_of and has_stage):
        kept.add("planes")
    channels: list[dict[str, str]] = [{} for _ in range(image.size("C"))]
    if (stated := image.details.get("channels")) and stated.fits(image):
        channels = [dict(value or {}) for value in stated.values]
        kept.add("channels")
    if image.channels and len(image.channels) == image.size("C"):
        channels = [{"Name": name, **channel} for name, channel in zip(image.channels, channels, strict=True)]
    if any(channels):
        metadata["Channel"] = channels
    metadata |= image.metadata.get(FORMAT, {}).get("text", {})
    if provenance:
        metadata["CommentAnnotation"] = {"Namespace": NAMESPACE, "Value": provenance_to_json(provenance)}
    return WriteSpec("ome", axes, map_texts(metadata, valid_xml), kept=frozenset(kept))


def _planes(image: Image, axes: str) -> list[dict[str, str]]:
    """Times, positions and exposure of each plane, as far as they are known, in the order in which they are written."""
    stated = image.details.get("planes")
    if stated is None or not stated.fits(image):
        count = math.prod(n for axis, n in zip(image.axes, image.shape, strict=True) if axis not in "YXS")
        return [{} for _ in range(count)]
    order = [axis for axis in axes if axis in stated.axes] + [axis for axis in stated.axes if axis not in axes]
    return [plane or {} for plane in stated.values.transpose([stated.axes.index(axis) for axis in order]).ravel()]


def _read_spacing(pixels: Element) -> dict[str, tuple[float, str]]:
    """Distance and unit of each axis that states one.

    Without a time step it is the mean time between planes, which often state their time since the start.
    """
    spacing: dict[str, tuple[float, str]] = {}
    for axis, key in _SPACING.items():
        distance = number(pixels.get(key))
        if distance > 0:
            spacing[axis] = (distance, unit_name(pixels.get(key + "Unit", _DEFAULT_UNIT[axis])))
    if "T" in spacing:
        return spacing
    planes = [plane for plane in pixels.findall("{*}Plane") if plane.get("TheC") == plane.get("TheZ") == "0"]
    times = sorted((number(plane.get("TheT")), number(plane.get("DeltaT"))) for plane in planes if plane.get("DeltaT"))
    if len(times) > 1:
        (first, start), *_, (last, end) = times
        step = (end - start) / max(last - first, 1)
        if step > 0:
            spacing["T"] = (step, unit_name(planes[0].get("DeltaTUnit", "s")))
    return spacing


def _is_number(text: str) -> bool:
    """True for a number, or no text at all."""
    with suppress(ValueError):
        float(text or 0)
        return True
    return False
