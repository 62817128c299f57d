"""Format values as text: durations, numbers with nouns, single lines, JSON."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode: control and format characters, surrogates, separators of lines and paragraphs."""
_FORBIDDEN_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def duration(seconds: float) -> str:
    """Format seconds, such as `3.2 s`, `4 min 10 s`, `2 h 5 min`, `12 days` or `30 years`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    days = rounded // 86400
    if days < 3:
        return f"{rounded // 3600} h {rounded % 3600 // 60} min"
    return f"{days} days" if days < 2 * 365 else f"{days // 365} years"


def rough_duration(seconds: float) -> str:
    """Format an estimate of seconds with one digit, such as `3 s`, `40 min` or `9 days`."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{float(f'{seconds / length:.1g}'):.0f} {unit}"
    return f"{float(f'{max(seconds, 1):.1g}'):.0f} s"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun, such as `1 file` and `2 files`.

    Args:
        count: The number.
        noun: The noun in the singular.
        plural: The noun in the plural; by default the singular with an s.
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def singular(plural: str) -> str:
    """Singular of a unit that is written in the plural, such as `pixel`; units without a plural stay as they are."""
    return plural.removesuffix("s") if len(plural) > 2 else plural


def sentence(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def one_line(text: object) -> str:
    """Put a text on one line, with single spaces."""
    return " ".join(str(text).split())


def short_name(path: Path) -> str:
    """Name of a file; for an image in an OME-Zarr, the path from the name of the OME-Zarr on."""
    zarr = next((parent for parent in path.parents if parent.name.lower().endswith(".zarr")), None)
    return path.name if zarr is None or path.suffix else path.relative_to(zarr.parent).as_posix()


def valid_unicode(text: str) -> str:
    """Escape characters that are not valid Unicode: file names on Linux may hold them, no file can be written with."""
    return text.encode(errors="backslashreplace").decode()


def valid_xml(text: str) -> str:
    """Replace the characters that XML 1.0 forbids, even as references, by the replacement character."""
    return _FORBIDDEN_IN_XML.sub("\ufffd", text)


def printable(text: object) -> str:
    """Escape the characters that a terminal obeys or hides instead of showing them, as JSON would.

    File names may hold any: line ends, sequences that move the cursor or set the title of the window, characters that
    turn the direction of the text, bytes that are not valid Unicode.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        json.dumps(letter)[1:-1]
        if unicodedata.category(letter) in _UNPRINTABLE or _FORBIDDEN_IN_XML.match(letter)
        else letter
        for letter in plain
    )


def to_json(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Format a value as JSON; infinite numbers and NaN become null.

    Args:
        value: Mappings, sequences, dataclasses, texts, numbers; unknown objects become their text.
        indent: Spaces per level; one line if None.
        ascii_only: Escape all other characters.
    """
    return json.dumps(_plain(value), ensure_ascii=ascii_only, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    """Reduce dataclasses, mappings and tuples to the types that JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float)) or value is None else str(value)
