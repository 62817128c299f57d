"""TIFF with tifffile's JSON description: plain for others, and for us the dialect that holds what OME cannot."""

from __future__ import annotations

from typing import Any

import tifffile

from napari_pristine.errors import AxesError
from napari_pristine.image.image import Image, check_axes
from napari_pristine.io.metadata import (
    PROVENANCE,
    FileMetadata,
    Provenance,
    WriteSpec,
    from_json,
    picture_last,
    to_json,
)
from napari_pristine.io.units import unit_name


def can_hold(image: Image) -> bool:
    """Whether the values are numbers."""
    return image.dtype.kind in "uif"


def stated_axes(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> str:
    """The axes in the JSON description; empty if it has none that fit."""
    axes = str(_said(tif).get("axes", "")).upper()
    try:
        check_axes(axes, series.shape)
    except AxesError:
        return ""
    return axes


def describe(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> FileMetadata:
    """What we wrote there; nothing for files of others, as a resolution of 72 per inch says nothing of microscopes."""
    said = _said(tif)
    axes, scale, units = stated_axes(tif, series), said.get("scale", ()), said.get("units", ())
    if not len(axes) == len(scale) == len(units):
        return FileMetadata()
    spacing = {axis: (float(d), unit_name(str(unit))) for axis, d, unit in zip(axes, scale, units, strict=True)}
    metadata = {PROVENANCE: said[PROVENANCE]} if PROVENANCE in said else {}
    return FileMetadata(spacing, tuple(str(name) for name in said.get("channels", ())), metadata)


def layout(image: Image, provenance: Provenance) -> WriteSpec:
    """The image in JSON."""
    axes = picture_last(image.axes)
    order = [image.axes.index(axis) for axis in axes]
    metadata: dict[str, Any] = {
        "axes": axes,
        "scale": [float(image.scale[i]) for i in order],
        "units": [unit_name(image.units[i]) for i in order],
        "channels": list(image.channels),
    }
    if provenance:
        metadata[PROVENANCE] = from_json(to_json(provenance))
    return WriteSpec("shaped", axes, metadata)


def _said(tif: tifffile.TiffFile) -> dict[str, Any]:
    return from_json(tif.pages.first.shaped_description)
