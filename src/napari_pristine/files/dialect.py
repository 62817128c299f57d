"""What the dialects of TIFF (OME, ImageJ, plain with a JSON description) have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_pristine.files.units import PIXEL

Provenance = Mapping[str, Any] | None
PROVENANCE = "pristine"
"""Key under which files and `Image.metadata` hold what a result came from."""


@dataclass(frozen=True)
class Notes:
    """What a file says about its values.

    Attributes:
        spacing: Distance between neighbours and its unit, for the axes about which the file says something.
        channels: Names along `C`.
        position: Where the first element lies, along the axes about which the file says so, in units of the spacing.
        metadata: All else that is kept in `Image.metadata`.
    """

    spacing: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    position: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """How tifffile is to write an image: the order of its axes, and what stands in its description.

    `resolution` is in pixels per unit, along X and Y.
    """

    dialect: str
    axes: str
    metadata: Mapping[str, Any]
    resolution: tuple[float, float] | None = None


def picture_last(axes: str) -> str:
    """The axes with the picture, `YX` or `YXS`, at the end, as TIFF pages have it."""
    return "".join(axis for axis in axes if axis not in "YXS") + "YX" + ("S" if "S" in axes else "")


def tells(distance: float, unit: str) -> bool:
    """Whether a spacing says more than that neighbours are one pixel apart."""
    return 0 < distance < float("inf") and (distance, unit) != (1.0, PIXEL)


def as_json(provenance: Mapping[str, Any]) -> str:
    """Provenance as one line of ASCII."""
    return json.dumps(provenance, default=str)


def from_json(text: str | None) -> dict[str, Any]:
    """The object in `text`; empty where there is none, as anybody may write anything there."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
