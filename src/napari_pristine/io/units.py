"""Spelling of units: the full name in an `Image` (as in pint and napari), a symbol in files."""

from __future__ import annotations

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
