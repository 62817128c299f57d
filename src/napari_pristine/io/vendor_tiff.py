"""Metadata that microscopes write into TIFF files of their own: MetaMorph stacks (.stk) and Zeiss LSM (.lsm)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile

from napari_pristine.io.metadata import FileMetadata, unit_name


def read_stk(tif: tifffile.TiffFile) -> FileMetadata:
    """Read pixel size, distance of planes, time step and wavelength from MetaMorph's tags."""
    stated: dict[str, Any] = tif.stk_metadata or {}
    spacing: dict[str, tuple[float, str]] = {}
    unit = unit_name(str(stated.get("CalibrationUnits", "")))
    for axis in "XY":
        if stated.get("SpatialCalibration") and (step := _step(stated.get(f"{axis}Calibration"))):
            spacing[axis] = (step, unit)
    if step := _step(stated.get("ZDistance")):
        spacing["Z"] = (step, "micrometer")
    times = np.ravel(stated.get("TimeCreated", ())).astype(float)
    if len(times) > 1 and (step := _step((times[-1] - times[0]) / (len(times) - 1))):  # milliseconds since midnight
        spacing["T"] = (step / 1000, "second")
    wavelength = _step(stated.get("Wavelengths"))
    return FileMetadata(spacing, (f"{wavelength:g} nm",) if wavelength else ())


def read_lsm(tif: tifffile.TiffFile) -> FileMetadata:
    """Read pixel size, time step and names of the channels."""
    stated: dict[str, Any] = tif.lsm_metadata or {}
    spacing: dict[str, tuple[float, str]] = {}
    for axis in "XYZ":
        if step := _step(stated.get(f"VoxelSize{axis}")):
            spacing[axis] = (float(f"{step * 1e6:.10g}"), "micrometer")
    if step := _step(stated.get("TimeIntervall")):
        spacing["T"] = (step, "second")
    colours = stated.get("ChannelColors", {})
    return FileMetadata(spacing, tuple(str(name) for name in colours.get("ColorNames", ())))


def _step(value: Any) -> float:
    """The first number, without its sign; 0 if there is none."""
    numbers = np.ravel(value if value is not None else ())
    if not numbers.size or numbers.dtype.kind not in "uif" or not np.isfinite(numbers[0]):
        return 0.0
    return abs(float(numbers[0]))
