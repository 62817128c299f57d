"""ImageJ hyperstacks: what is read from one is written as one, so that it opens in Fiji as the original did."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile

from napari_pristine.image.image import Image
from napari_pristine.io.metadata import PROVENANCE, FileMetadata, Provenance, WriteSpec, from_json, tells, to_json
from napari_pristine.io.units import imagej_spelling, unit_name

FORMAT = "imagej"
_ORDER = "TZCYXS"
_DISPLAY = ("mode", "LUTs", "Ranges")
"""How ImageJ shows each channel: its colours and contrast."""


def can_hold(image: Image) -> bool:
    """Whether ImageJ opens such an image; it has no other types, and RGB of 8 bits only."""
    dtypes = ("uint8",) if "S" in image.axes else ("uint8", "uint16", "float32")
    pixel = [image.scale[image.axes.index(axis)] for axis in "YX"]
    fits = all(1e-9 < size < 1e9 for size in pixel)  # its inverse has to be a fraction of 32-bit numbers
    return set(image.axes) <= set(_ORDER) and image.dtype.name in dtypes and fits


def describe(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> FileMetadata:
    """Pixel size, time step, channel names, colours and provenance."""
    said = tif.imagej_metadata or {}
    info = str(said.get("Info", ""))
    first, _, rest = info.partition("\n")
    provenance = {k: v for k, v in from_json(first).items() if k == PROVENANCE}
    kept = {key: said[key] for key in _DISPLAY if key in said} | {"Info": rest if provenance else info}
    kept = {key: value for key, value in kept.items() if len(value)}
    return FileMetadata(_spacing(tif, said), _channels(series, said), {FORMAT: kept} | provenance)


def layout(image: Image, provenance: Provenance) -> WriteSpec:
    """The image in ImageJ's words."""
    axes = "".join(axis for axis in _ORDER if axis in image.axes)
    spacing = dict(zip(image.axes, zip(image.scale, image.units, strict=True), strict=True))
    metadata = {"axes": axes} | _calibration(spacing) | _display(image)
    if image.channels and len(image.channels) == image.size("C"):
        metadata["Labels"] = list(image.channels) * (image.size("T") * image.size("Z"))
    resolution = (1 / spacing["X"][0], 1 / spacing["Y"][0]) if "unit" in metadata else None
    info = image.metadata.get(FORMAT, {}).get("Info", "")
    lines = ([to_json({PROVENANCE: provenance})] if provenance else []) + ([info] if info else [])
    if lines:
        metadata["Info"] = "\n".join(lines)
    return WriteSpec(FORMAT, axes, metadata, resolution)


def _spacing(tif: tifffile.TiffFile, said: dict[str, Any]) -> dict[str, tuple[float, str]]:
    unit = str(said.get("unit", "")).strip()
    step = _positive(said.get("finterval"))
    found = {"T": (step, unit_name(str(said.get("tunit", "sec"))))} if step else {}
    if not unit:  # without a unit the resolution means nothing: 72 per inch, mostly
        return found
    tags = tif.pages.first.tags
    for axis in "XY":
        pixels, units = tags.valueof(f"{axis}Resolution", (0, 1))
        if pixels > 0 and units > 0:
            found[axis] = (units / pixels, unit_name(str(said.get(f"{axis.lower()}unit", unit))))
    if depth := _positive(said.get("spacing")):
        found["Z"] = (depth, unit_name(str(said.get("zunit", unit))))
    return found


def _positive(number: Any) -> float:
    """The size of a number that may be absent, negative (ImageJ counts slices either way) or not a number at all."""
    return abs(float(number)) if isinstance(number, (int, float)) and np.isfinite(number) else 0.0


def _channels(series: tifffile.TiffPageSeries, said: dict[str, Any]) -> tuple[str, ...]:
    """The labels of planes, where they name channels: one for each, the same at all times and depths."""
    labels = said.get("Labels")
    order = [axis for axis in series.axes if axis in "TZC"]
    shape = [size for axis, size in zip(series.axes, series.shape, strict=True) if axis in order]
    if not isinstance(labels, list) or "C" not in order or len(labels) != np.prod(shape, dtype=int):
        return ()
    rows = np.moveaxis(np.array(labels, object).reshape(shape), order.index("C"), -1)
    rows = rows.reshape(-1, rows.shape[-1])
    names = tuple(str(label) for label in rows[0])
    return names if (rows == rows[0]).all() and len(set(names)) == len(names) else ()


def _calibration(spacing: dict[str, tuple[float, str]]) -> dict[str, Any]:
    """Unit, depth and time step; ImageJ has one unit for X, Y and Z, unless it is told others."""
    metadata: dict[str, Any] = {}
    space = [axis for axis in "XYZ" if axis in spacing and (axis != "Z" or tells(*spacing["Z"]))]
    if any(tells(*spacing[axis]) for axis in space):
        unit = unit_name(spacing["X"][1])
        metadata["unit"] = imagej_spelling(unit)
        others = [axis for axis in space if unit_name(spacing[axis][1]) != unit]
        metadata |= {f"{axis.lower()}unit": imagej_spelling(spacing[axis][1]) for axis in others}
        metadata |= {"spacing": float(spacing["Z"][0])} if "Z" in space else {}
    if "T" in spacing and tells(*spacing["T"]):
        step, unit = spacing["T"]
        metadata["finterval"] = float(step)
        metadata |= {} if unit_name(unit) == "second" else {"tunit": imagej_spelling(unit)}
    return metadata


def _display(image: Image) -> dict[str, Any]:
    """Colours and contrast of the original, if the channels are still the same in number."""
    display = image.metadata.get(FORMAT, {})
    same = len(display.get("LUTs", ())) == image.size("C") > 1
    return {key: display[key] for key in _DISPLAY if key in display} if same else {}
