"""Metadata of ImageJ hyperstacks: an image read from one is written as one, so that Fiji shows it as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile

from napari_pristine.image.image import Image
from napari_pristine.io.metadata import (
    PROVENANCE,
    FileMetadata,
    Provenance,
    WriteSpec,
    imagej_spelling,
    is_calibrated,
    parse_json,
    provenance_to_json,
    unit_name,
)

FORMAT = "imagej"
_AXES = "TZCYXS"
_DISPLAY = ("mode", "LUTs", "Ranges")
"""Keys of colours and contrast of the channels."""


def can_hold(image: Image) -> bool:
    """True if ImageJ opens such an image: it has few types, and RGB of 8 bits only."""
    dtypes = ("uint8",) if "S" in image.axes else ("uint8", "uint16", "float32")
    pixel_size = [image.scale[image.axes.index(axis)] for axis in "YX"]
    # the resolution, their inverse, is a fraction of 32-bit integers
    return set(image.axes) <= set(_AXES) and image.dtype.name in dtypes and all(1e-9 < d < 1e9 for d in pixel_size)


def read_metadata(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> FileMetadata:
    """Read pixel size, time step, channel names, display settings and provenance."""
    stated = tif.imagej_metadata or {}
    info = str(stated.get("Info", ""))
    first_line, _, rest = info.partition("\n")
    provenance = {key: value for key, value in parse_json(first_line).items() if key == PROVENANCE}
    kept = {key: stated[key] for key in _DISPLAY if key in stated} | {"Info": rest if provenance else info}
    kept = {key: value for key, value in kept.items() if len(value)}
    return FileMetadata(_read_spacing(tif, stated), _read_channels(series, stated), {FORMAT: kept} | provenance)


def write_spec(image: Image, provenance: Provenance) -> WriteSpec:
    """Express an image in ImageJ's keys."""
    axes = "".join(axis for axis in _AXES if axis in image.axes)
    spacing = dict(zip(image.axes, zip(image.scale, image.units, strict=True), strict=True))
    metadata: dict[str, Any] = {"axes": axes} | _calibration(spacing)
    original = image.metadata.get(FORMAT, {})
    if len(original.get("LUTs", ())) == image.size("C") > 1:  # as many channels as before
        metadata |= {key: original[key] for key in _DISPLAY if key in original}
    if image.channels and len(image.channels) == image.size("C"):
        metadata["Labels"] = list(image.channels) * (image.size("T") * image.size("Z"))
    info = [provenance_to_json({PROVENANCE: provenance})] if provenance else []
    info += [original["Info"]] if original.get("Info") else []
    if info:
        metadata["Info"] = "\n".join(info)
    resolution = (1 / spacing["X"][0], 1 / spacing["Y"][0]) if "unit" in metadata else None
    return WriteSpec("imagej", axes, metadata, resolution)


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
    if depth := _absolute(stated.get("spacing")):
        spacing["Z"] = (depth, unit_name(str(stated.get("zunit", unit))))
    return spacing


def _absolute(number: Any) -> float:
    """Absolute value of a number, as ImageJ counts slices in either direction; 0 if it is none."""
    return abs(float(number)) if isinstance(number, (int, float)) and np.isfinite(number) else 0.0


def _read_channels(series: tifffile.TiffPageSeries, stated: dict[str, Any]) -> tuple[str, ...]:
    """Labels of the planes where they name channels: one for each, the same at all times and depths."""
    labels = stated.get("Labels")
    axes = [axis for axis in series.axes if axis in "TZC"]
    shape = [size for axis, size in zip(series.axes, series.shape, strict=True) if axis in axes]
    if not isinstance(labels, list) or "C" not in axes or len(labels) != np.prod(shape, dtype=int):
        return ()
    by_channel = np.moveaxis(np.array(labels, object).reshape(shape), axes.index("C"), -1)
    by_channel = by_channel.reshape(-1, by_channel.shape[-1])
    names = tuple(str(label) for label in by_channel[0])
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
