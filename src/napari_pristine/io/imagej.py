"""Metadata of ImageJ hyperstacks: an image read from one is written as one, so that Fiji shows it as before."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import tifffile

from napari_pristine.image.image import AxisValues, Image
from napari_pristine.io.metadata import (
    PROVENANCE,
    FileMetadata,
    Provenance,
    WriteSpec,
    imagej_spelling,
    is_calibrated,
    map_texts,
    number,
    parse_json,
    provenance_to_json,
    unit_name,
)
from napari_pristine.io.tiff_series import Series
from napari_pristine.io.tiff_vendors import is_placeholder
from napari_pristine.text import valid_unicode

FORMAT = "imagej"
_AXES = "TZCYXS"
_INCHES = {"inch": 1.0, "centimeter": 2.54}
"""Units of resolutions that programs write without knowing a pixel size, and pixels per inch at one per unit."""
_FUNCTION = ("cf", "c0", "c1", "c2", "c3", "c4", "vunit")
"""Keys of the function from stored values to calibrated ones, such as optical density, and of its unit."""
_DISPLAY = ("min", "max")
"""Keys of the display range."""
_VIEW = ("mode", "loop", "fps")
"""Keys of how channels and times are shown, which other formats need not hold."""
_OF_PLANE = ("ROI", "Overlays")
"""Keys of what lies on pixels of certain planes."""
_TEXT = ("Info", "Properties")


def can_hold(image: Image) -> bool:
    """True if ImageJ opens such an image: it has few types, and RGB of 8 bits only."""
    dtypes = ("uint8",) if "S" in image.axes else ("uint8", "uint16", "float32")
    pixel_size = [image.scale[image.axes.index(axis)] for axis in "YX"]
    # the resolution, their inverse, is a fraction of 32-bit integers
    return set(image.axes) <= set(_AXES) and image.dtype.name in dtypes and all(1e-9 < d < 1e9 for d in pixel_size)


def read_metadata(tif: tifffile.TiffFile, image: Series) -> FileMetadata:
    """Read all that ImageJ states: spacing, channels, calibration of values, display, ROIs, labels and provenance."""
    stated = tif.imagej_metadata or {}
    info = str(stated.get("Info", ""))
    first_line, _, rest = info.partition("\n")
    provenance = {key: value for key, value in parse_json(first_line).items() if key == PROVENANCE}
    kept = {key: stated[key] for key in (*_OF_PLANE, *_TEXT) if key in stated} | {"Info": rest if provenance else info}
    kept |= {
        name: {key: stated[key] for key in keys if key in stated}
        for name, keys in (("calibration", _FUNCTION), ("display", _DISPLAY), ("view", _VIEW))
    }
    if {*kept.get("Properties", ())} == {"UniqueName"}:  # which each file of newer versions has
        del kept["Properties"]
    kept = {key: value for key, value in kept.items() if len(value)}
    if any(key in kept for key in _OF_PLANE):
        kept["shape"] = dict(zip(image.axes, image.shape, strict=True))
    sizes = {axis: n for axis, n in zip(image.axes, image.shape, strict=True) if axis in "TZC"}
    details = _read_details(stated, "".join(sizes), tuple(sizes.values()))
    return FileMetadata(
        _read_spacing(tif, stated), _channel_names(details.get("Labels")), {FORMAT: kept} | provenance, details=details
    )


def _read_details(stated: dict[str, Any], axes: str, shape: tuple[int, ...]) -> dict[str, AxisValues]:
    """Labels of planes, and colours and display ranges of channels, if there are as many as planes and channels."""
    details: dict[str, AxisValues] = {}
    channel_count = dict(zip(axes, shape, strict=True)).get("C", 1)
    labels, ranges, colours = (stated.get(key) for key in ("Labels", "Ranges", "LUTs"))
    if isinstance(labels, str):  # tifffile gives a single element as such
        labels = [labels]
    if isinstance(colours, np.ndarray):
        colours = [colours]
    if isinstance(labels, (list, tuple)) and len(labels) == math.prod(shape) and any(labels):
        details["Labels"] = AxisValues(axes, np.array([str(label) for label in labels], object).reshape(shape))
    if isinstance(ranges, tuple) and len(ranges) == 2 * channel_count:
        details["Ranges"] = AxisValues("C", np.array(ranges, float).reshape(channel_count, 2))
    colours = colours if isinstance(colours, (list, tuple)) else []
    if len(colours) == channel_count and all(np.shape(each) == (3, 256) for each in colours):
        details["LUTs"] = AxisValues("C", np.array(colours, np.uint8))
    return details


def write_spec(image: Image, provenance: Provenance) -> WriteSpec:
    """Express an image in ImageJ's keys."""
    axes = "".join(axis for axis in _AXES if axis in image.axes)
    spacing = dict(zip(image.axes, zip(image.scale, image.units, strict=True), strict=True))
    original = image.metadata.get(FORMAT, {})
    metadata: dict[str, Any] = {"axes": axes} | _calibration(spacing)
    for key in ("calibration", "display", "view"):
        metadata |= original.get(key, {})
    if image.size("C") == 1:
        metadata.pop("mode", None)
    kept = {"calibration", "display", *_TEXT}
    if original.get("shape") == dict(zip(image.axes, image.shape, strict=True)):
        metadata |= {key: original[key] for key in _OF_PLANE if key in original}
        kept |= {*_OF_PLANE}
    for key, detail in image.details.items():
        if detail.fits(image) and key in ("Labels", "Ranges", "LUTs"):
            metadata[key] = _write_detail(detail, axes)
            kept.add(key)
    if image.channels and len(image.channels) == image.size("C") and "Labels" not in metadata:
        metadata["Labels"] = list(image.channels) * (image.size("T") * image.size("Z"))
    info = [provenance_to_json({PROVENANCE: provenance})] if provenance else []
    info += [original["Info"]] if original.get("Info") else []
    if info:
        metadata["Info"] = "\n".join(info)
    if "Properties" in original:
        metadata["Properties"] = original["Properties"]
    resolution = (1 / spacing["X"][0], 1 / spacing["Y"][0]) if "unit" in metadata else None
    texts = {key: map_texts(metadata[key], valid_unicode) for key in (*_TEXT, "Labels") if key in metadata}
    # all other keys are lines of ASCII, with escapes as in Java
    lines = map_texts(metadata, lambda text: json.dumps(text)[1:-1] if not text.isascii() else text)
    return WriteSpec("imagej", axes, lines | texts, resolution, frozenset(kept))


def _write_detail(detail: AxisValues, axes: str) -> Any:
    """Labels in the order in which planes are written, or colours and ranges of channels, as tifffile takes them."""
    if detail.axes != "C" or detail.values.ndim == 1:
        order = [detail.axes.index(axis) for axis in axes if axis in detail.axes]
        order += [n for n in range(detail.values.ndim) if n not in order]
        return list(detail.values.transpose(order).ravel())
    return [*detail.values] if detail.values.ndim == 3 else tuple(detail.values.ravel().tolist())


def _read_spacing(tif: tifffile.TiffFile, stated: dict[str, Any]) -> dict[str, tuple[float, str]]:
    spacing: dict[str, tuple[float, str]] = {}
    if step := _absolute(stated.get("finterval")):
        spacing["T"] = (step, unit_name(str(stated.get("tunit", "sec"))))
    unit = str(stated.get("unit", "")).strip()
    if not unit:  # then the resolution is that of a printer, mostly 72 per inch
        return spacing
    tags = tif.pages.first.tags
    for axis in "XY":
        pixels, units = tags.valueof(f"{axis}Resolution", (0, 1))
        if pixels > 0 and units > 0:
            spacing[axis] = (units / pixels, unit_name(str(stated.get(f"{axis.lower()}unit", unit))))
    inches = [_INCHES[unit] / distance for distance, unit in spacing.values() if unit in _INCHES]
    if len(inches) == 2 and is_placeholder(*inches):  # taken over from a file of another program
        return {axis: step for axis, step in spacing.items() if axis == "T"}
    if depth := _absolute(stated.get("spacing")):
        spacing["Z"] = (depth, unit_name(str(stated.get("zunit", unit))))
    return spacing


def _absolute(value: Any) -> float:
    """Absolute value of a number, as ImageJ counts slices in either direction; 0 if it is none."""
    return abs(number(value))


def _channel_names(labels: AxisValues | None) -> tuple[str, ...]:
    """Labels of the planes where they name channels: one for each, the same at all times and depths."""
    if labels is None or "C" not in labels.axes:
        return ()
    by_channel = np.moveaxis(labels.values, labels.axes.index("C"), -1)
    by_channel = by_channel.reshape(-1, by_channel.shape[-1])
    names = tuple(by_channel[0])
    return names if (by_channel == by_channel[0]).all() and len(set(names)) == len(names) else ()


def _calibration(spacing: dict[str, tuple[float, str]]) -> dict[str, Any]:
    """Unit, depth and time step; ImageJ has one unit for X, Y and Z unless others are stated."""
    metadata: dict[str, Any] = {}
    space = [axis for axis in "XYZ" if axis in spacing and (axis != "Z" or is_calibrated(*spacing["Z"]))]
    if any(is_calibrated(*spacing[axis]) for axis in space):
        unit = unit_name(spacing["X"][1])
        metadata["unit"] = imagej_spelling(unit)
        for axis in space:
            if unit_name(spacing[axis][1]) != unit:
                metadata[f"{axis.lower()}unit"] = imagej_spelling(spacing[axis][1])
        if "Z" in space:
            metadata["spacing"] = float(spacing["Z"][0])
    if "T" in spacing and is_calibrated(*spacing["T"]):
        step, unit = spacing["T"]
        metadata["finterval"] = float(step)
        if unit_name(unit) != "second":
            metadata["tunit"] = imagej_spelling(unit)
    return metadata
