"""Metadata that all formats share: axes, distances and their units, notes on how a result was made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_pristine.errors import AxesError, FileError
from napari_pristine.image.image import AxisValues, Image, check_axes
from napari_pristine.text import to_json

Provenance = Mapping[str, Any] | None
PROVENANCE = "pristine"
"""Key under which files and `Image.metadata` hold the provenance, the origin of a result: its recipe and more."""

TITLE = "title"
"""Key of `Image.metadata`: name that the metadata of an OME-Zarr give the image; results keep it, whatever their files
are called."""

AXES_GUESSED = "axes_guessed"
"""Key of `Image.metadata`: true if the file does not name all axes of its values."""


@dataclass(frozen=True)
class FileMetadata:
    """Metadata of an image as its file states them.

    Attributes:
        spacing: Distance between neighbours and its unit, for the axes that have one.
        channels: Names along `C`.
        metadata: Everything else that goes to `Image.metadata`.
        position: Position of the first element in units of the spacing, for the axes that have one.
        details: See `Image.details`.
        notes: Sentences for the user, see `Image.notes`.
    """

    spacing: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    position: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, AxisValues] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WriteSpec:
    """Arguments for tifffile to write an image.

    Attributes:
        kind: Kind of TIFF, in tifffile's word: `shaped` is plain TIFF with a JSON description.
        axes: Order in which the axes are written.
        metadata: Content of the description.
        resolution: Pixels per unit along X and Y.
        kept: Keys of `EXTRAS` that the description holds.
    """

    kind: Literal["ome", "imagej", "shaped"]
    axes: str
    metadata: Mapping[str, Any]
    resolution: tuple[float, float] | None = None
    kept: frozenset[str] = frozenset()


WHITE_IS_ZERO = "white_is_zero"
"""Key of `Image.metadata`: true if viewers show low values bright, as the file says (MinIsWhite)."""
COLOUR_TABLE = "colour_table"
"""Key of `Image.metadata`: colours of all values, `(3, n)` numbers of 16 bits, of a palette image."""
EXTRAS = {
    WHITE_IS_ZERO: "the inverted grey scale (MinIsWhite)",
    COLOUR_TABLE: "the colour table",
    "calibration": "the calibration of values",
    "display": "the display range",
    "ROI": "the ROI",
    "Overlays": "the overlay",
    "Info": "the info text",
    "Properties": "the properties",
    "Labels": "the labels of slices",
    "LUTs": "the colours (LUTs) of channels",
    "Ranges": "the display ranges of channels",
    "channels": "colours, wavelengths and settings of channels",
    "planes": "times and positions of planes",
    "text": "the description and date of acquisition",
}
"""Names, for notes, of all metadata of a file other than pixels, spacing and channel names, by the key in
`Image.details`, in `Image.metadata`, or in a mapping there."""


def lost_extras(image: Image, kept: frozenset[str]) -> str:
    """Describe the metadata of an image that its result does not hold; empty if there are none.

    Args:
        image: The image, or the part of it that is restored.
        kept: Keys of `EXTRAS` that the result holds.
    """
    stated = {key for part in image.metadata.values() if isinstance(part, Mapping) for key in part} | {*image.metadata}
    lost = [words for key, words in EXTRAS.items() if key in stated | {*image.details} and key not in kept]
    lost += [f"<{name}>" for name in image.metadata.get("dropped", ())]
    return f"the result cannot hold all metadata of the file; it lacks {', '.join(lost)}" if lost else ""


def number(text: object) -> float:
    """Parse a number, possibly with a decimal comma; 0 if it is not a finite number."""
    try:
        found = float(str(text).strip().replace(",", "."))
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def check_series(path: Path, series: int | None, count: int, sizes: str = "") -> None:
    """Raise a `FileError` if a file holds no image with this number, counted from 0.

    Args:
        path: The file.
        series: The number.
        count: Number of images in the file.
        sizes: Axes and sizes of the image, if there is one.
    """
    if series is not None and not 0 <= series < count:
        those = "one image, number 0" if count == 1 else f"{count} images, numbered from 0 to {count - 1}"
        if count == 1 and sizes:
            axis = sizes[0]
            part = (
                f"; --select {axis}={series}:{series + 1} restores a part of it"
                if series > 0 and axis not in "YX"
                else ""
            )
            those += f" ({sizes}){part}"
        raise FileError(f"'{path}' has no image {series} (--series): it holds {those}")


def plane_last(axes: str) -> str:
    """Axes with those of a plane, `YX` or `YXS`, at the end, as TIFF pages have it."""
    return "".join(axis for axis in axes if axis not in "YXS") + "YX" + ("S" if "S" in axes else "")


def samples_last(axes: str) -> str:
    """Axes with the samples `S` of RGB pixels at the end; some files store them as planes."""
    return axes.replace("S", "") + "S" if "S" in axes else axes


def is_calibrated(distance: float, unit: str) -> bool:
    """True if a spacing is valid and more than the default of one pixel."""
    return 0 < distance < float("inf") and (distance, unit) != (1.0, PIXEL)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Apply a function to all texts in mappings and lists, and to the keys; other values are unchanged."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {map_texts(key, change): map_texts(item, change) for key, item in value.items()}
    return [map_texts(item, change) for item in value] if isinstance(value, list) else value


def provenance_to_json(provenance: Mapping[str, Any]) -> str:
    """Provenance as one line of ASCII."""
    return to_json(provenance, ascii_only=True)


def parse_json(text: str | None) -> dict[str, Any]:
    """The JSON object in a text; empty if it is anything else, as other programs write anything there."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def make_image(
    path: Path, data: Any, axes: str, stated: FileMetadata, extra: Mapping[str, Any], name: str = ""
) -> Image:
    """Combine values and metadata of a file into an image.

    Args:
        path: The file.
        data: The values, an array or lazy array.
        axes: One letter per dimension.
        stated: Metadata that the file states.
        extra: More for `Image.metadata`.
        name: Name of the image; that of the file if empty.

    Raises:
        AxesError: The axes do not fit the array.
    """
    try:
        check_axes(axes, data.shape)
    except AxesError as error:
        raise AxesError(f"'{path.name}': {error}") from None
    spacing = [stated.spacing.get(axis, (1.0, PIXEL)) for axis in axes]
    channel_count = data.shape[axes.index("C")] if "C" in axes else 1
    return Image(
        data,
        axes,
        scale=tuple(distance for distance, _ in spacing),
        units=tuple(unit for _, unit in spacing),
        translate=tuple(stated.position.get(axis, 0.0) for axis in axes),
        name=name or stem_of(path),
        channels=stated.channels if len(stated.channels) == channel_count else (),
        metadata={**extra, **stated.metadata},
        details=stated.details,
        notes=stated.notes,
    )


def stem_of(path: Path) -> str:
    """File name without its suffix, and without an `.ome` before it."""
    return path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem


PIXEL = "pixel"

# name: symbol in OME-XML, spelling of ImageJ, other spellings found in files
_LENGTHS = {
    "picometer": ("pm", "pm", ""),
    "angstrom": ("Å", "angstrom", "Å ångström"),
    "nanometer": ("nm", "nm", "nanometre nanometers nanometres"),
    "micrometer": ("µm", "micron", "μm um microns micrometre micrometers micrometres \\u00b5m \\u03bcm"),
    "millimeter": ("mm", "mm", "millimetre millimeters millimetres"),
    "centimeter": ("cm", "cm", "centimetre centimeters centimetres"),
    "meter": ("m", "m", "metre meters metres"),
    "inch": ("in", "inch", "inches"),
    PIXEL: (PIXEL, PIXEL, "pixels px"),
}
_TIMES = {
    "nanosecond": ("ns", "ns", "nsec nanoseconds"),
    "microsecond": ("µs", "us", "μs usec microseconds \\u00b5s"),
    "millisecond": ("ms", "ms", "msec milliseconds"),
    "second": ("s", "sec", "seconds secs"),
    "minute": ("min", "min", "minutes mins"),
    "hour": ("h", "hour", "hours hr hrs"),
    "day": ("d", "day", "days"),
}
_NAMES = {
    spelling: name
    for name, (symbol, imagej, others) in (_LENGTHS | _TIMES).items()
    for spelling in (name, symbol, imagej, *others.split())
}


def unit_name(spelling: str) -> str:
    """Full name of a unit: `"micrometer"` for `µm`, `um` or `micron`; `"pixel"` for none; unknown ones unchanged."""
    spelling = spelling.strip()
    return _NAMES.get(spelling) or _NAMES.get(spelling.lower()) or spelling or PIXEL


def ome_symbol(unit: str, axis: str) -> str | None:
    """Symbol of a unit of length, or of time along `T`, in OME-XML; None if it has none."""
    symbols = _TIMES if axis == "T" else _LENGTHS
    return symbols[name][0] if (name := unit_name(unit)) in symbols else None


def imagej_spelling(unit: str) -> str:
    """Unit as ImageJ spells it, in ASCII."""
    name = unit_name(unit)
    spelling = (_LENGTHS | _TIMES)[name][1] if name in _LENGTHS | _TIMES else name
    return spelling.encode("ascii", "replace").decode()
