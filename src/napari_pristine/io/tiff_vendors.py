"""Metadata of microscopes in TIFF files: pixel size, time step, names of channels; and the resolution.

Other programs read and write these files, too, so everything may be missing or of another type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_pristine.io.metadata import FileMetadata, number, unit_name

Spacing = dict[str, tuple[float, str]]
_PER_INCH = {2: 1.0, 3: 2.54, 4: 25.4, 5: 25_400.0}
"""Inches in terms of TIFF's units of resolution: inch, centimetre, and in some programs millimetre and micrometre."""
_PRINTERS = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 220, 240, 300, 350, 360, 400, 600)
"""Dots per inch of screens and printers, which programs write if they do not know the pixel size."""
_TOLERANCE = 0.015
_LEAST_PER_INCH = 10.0
"""Dots per inch below which a resolution is a placeholder, such as 1."""


def read_vendor(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> FileMetadata:
    """Distance and unit of each axis for which the file states one, and names of its channels."""
    for is_kind, read in _READERS:
        if is_kind(tif):
            with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, SyntaxError):
                found = read(tif)
                stated = found if isinstance(found, FileMetadata) else FileMetadata(found)
                spacing = {axis: (size, unit) for axis, (size, unit) in stated.spacing.items() if 0 < size < 1e12}
                if spacing:
                    return FileMetadata(spacing, stated.channels)
    return FileMetadata(_resolution(series.keyframe))


def is_placeholder(*per_inch: float) -> bool:
    """True for a resolution (X and Y, dots per inch) of a screen or printer, or an impossible one."""
    is_printer = any(abs(per_inch[0] / dots - 1) < _TOLERANCE for dots in _PRINTERS)
    return is_printer or min(per_inch) < _LEAST_PER_INCH or max(per_inch) > 1e12 or max(per_inch) > 10 * min(per_inch)


def _resolution(page: tifffile.TiffPage) -> Spacing:
    """Pixel size by the resolution tags, in micrometres, unless it is that of a screen or printer."""
    per_inch: dict[str, float] = {}
    for axis in "XY":
        dots, units = page.tags.valueof(f"{axis}Resolution", (0, 1))
        scale = _PER_INCH.get(page.tags.valueof("ResolutionUnit", 2), 0.0)
        per_inch[axis] = dots / units * scale if units else 0.0
    if is_placeholder(*per_inch.values()):
        return {}
    return {axis: (25_400 / dots, "micrometer") for axis, dots in per_inch.items()}


def _lsm(tif: tifffile.TiffFile) -> FileMetadata:
    stated: Any = tif.lsm_metadata
    spacing = {axis: (float(f"{number(stated[f'VoxelSize{axis}']) * 1e6:.10g}"), "micrometer") for axis in "ZYX"}
    names = (stated.get("ChannelColors") or {}).get("ColorNames", ())
    return FileMetadata(spacing | {"T": (number(stated.get("TimeIntervall")), "second")}, tuple(map(str, names)))


def _fluoview(tif: tifffile.TiffFile) -> Spacing:
    stated: Any = tif.fluoview_metadata
    return {
        name.strip().upper(): (abs(number(size)), unit_name(unit))
        for name, _, _, size, unit in stated["Dimensions"]
        if name.strip().upper() in ("X", "Y", "Z", "T")
    }


def _stk(tif: tifffile.TiffFile) -> FileMetadata:
    """MetaMorph stacks."""
    stated: Any = tif.stk_metadata
    spacing: Spacing = {}
    if stated.get("SpatialCalibration", True):
        unit = unit_name(str(stated.get("CalibrationUnits", "")))
        spacing = {axis: (number(stated.get(f"{axis}Calibration")), unit) for axis in "XY"}
    distances = [abs(number(distance)) for distance in np.ravel(stated.get("ZDistance", ()))]
    times = [number(time) for time in np.ravel(stated.get("TimeCreated", ()))]  # milliseconds since midnight
    if distances:  # that of the first or the last plane may be 0
        spacing["Z"] = (max(distances), "micrometer")
    if len(times) > 1:
        spacing["T"] = ((times[-1] - times[0]) / (len(times) - 1) / 1000, "second")
    wavelengths = [number(length) for length in np.ravel(stated.get("Wavelengths", ()))[:1]]
    return FileMetadata(spacing, tuple(f"{length:g} nm" for length in wavelengths if length))


def _metaseries(tif: tifffile.TiffFile) -> Spacing:
    """MetaMorph and MetaXpress; tifffile gives up on some of their XML."""
    properties = {
        prop.get("id"): prop.get("value", "")
        for prop in ElementTree.fromstring(tif.pages.first.description).iter("prop")
    }
    if str(properties.get("spatial-calibration-state", "on")).lower() in ("off", "false", "0"):
        return {}
    unit = unit_name(str(properties.get("spatial-calibration-units", "um")))
    return {axis: (number(properties.get(f"spatial-calibration-{axis.lower()}")), unit) for axis in "XY"}


def _sis(tif: tifffile.TiffFile) -> Spacing:
    stated: Any = tif.sis_metadata
    return {axis: (1e6 * number(stated[f"pixelsize{axis.lower()}"]), "micrometer") for axis in "XY"}


def _fei(tif: tifffile.TiffFile) -> Spacing:
    stated: Any = tif.fei_metadata
    scan = stated.get("Scan", stated.get("EScan", {}))
    return {axis: (1e6 * number(scan[key]), "micrometer") for axis, key in (("X", "PixelWidth"), ("Y", "PixelHeight"))}


def _sem(tif: tifffile.TiffFile) -> Spacing:
    """Zeiss."""
    stated: Any = tif.sem_metadata
    _, size, unit = stated.get("ap_image_pixel_size") or stated["ap_pixel_size"]
    return {axis: (number(size), unit_name(unit)) for axis in "XY"}


def _tvips(tif: tifffile.TiffFile) -> Spacing:
    stated: Any = tif.tvips_metadata
    return {axis: (number(stated[f"PixelSize{axis}"]), "nanometer") for axis in "XY"}


def _svs(tif: tifffile.TiffFile) -> Spacing:
    """Aperio."""
    match = re.search(r"MPP\s*=\s*([0-9.,]+)", tif.pages.first.description)
    return {axis: (number(match[1]), "micrometer") for axis in "XY"} if match else {}


def _micromanager(tif: tifffile.TiffFile) -> Spacing:
    stated: Mapping[str, Any] = (tif.micromanager_metadata or {}).get("Summary", {})
    return {axis: (number(stated.get("PixelSize_um")), "micrometer") for axis in "XY"} | {
        "Z": (abs(number(stated.get("z-step_um"))), "micrometer"),
        "T": (number(stated.get("Interval_ms")), "millisecond"),
    }


_Reader = Callable[[tifffile.TiffFile], Spacing | FileMetadata]
_READERS: tuple[tuple[Callable[[tifffile.TiffFile], bool], _Reader], ...] = (
    (lambda tif: tif.is_lsm, _lsm),
    (lambda tif: tif.is_fluoview, _fluoview),
    (lambda tif: tif.is_stk, _stk),
    (lambda tif: tif.pages.first.description.startswith("<MetaData>"), _metaseries),
    (lambda tif: tif.pages.first.is_sis, _sis),
    (lambda tif: tif.is_fei, _fei),
    (lambda tif: tif.is_sem, _sem),
    (lambda tif: tif.is_tvips, _tvips),
    (lambda tif: tif.is_svs, _svs),
    (lambda tif: tif.is_micromanager, _micromanager),
)
"""Kinds of files, each with the function that reads what its maker wrote."""
