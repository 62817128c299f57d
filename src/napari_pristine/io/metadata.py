"""What the dialects of TIFF (OME, ImageJ, plain with a JSON description) have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_pristine.errors import AxesError
from napari_pristine.image.image import Image, check_axes
from napari_pristine.io.units import PIXEL

Provenance = Mapping[str, Any] | None
PROVENANCE = "pristine"
"""Key under which files and `Image.metadata` hold what a result came from."""


@dataclass(frozen=True)
class FileMetadata:
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
class WriteSpec:
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


def to_json(provenance: Mapping[str, Any]) -> str:
    """Provenance as one line of ASCII."""
    return json.dumps(provenance, default=str)


def from_json(text: str | None) -> dict[str, Any]:
    """The object in `text`; empty where there is none, as anybody may write anything there."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def image_of(
    path: Path, data: Any, axes: str, notes: FileMetadata, metadata: Mapping[str, Any], name: str = ""
) -> Image:
    """The image in a file, with what is said of it.

    Raises:
        AxesError: The axes do not fit the array.
    """
    try:
        check_axes(axes, data.shape)
    except AxesError as error:
        raise AxesError(f"'{path.name}': {error}") from None
    spacing = [notes.spacing.get(axis, (1.0, PIXEL)) for axis in axes]
    size = dict(zip(axes, data.shape, strict=True)).get("C", 1)
    return Image(
        data,
        axes,
        scale=tuple(distance for distance, _ in spacing),
        units=tuple(unit for _, unit in spacing),
        translate=tuple(notes.position.get(axis, 0.0) for axis in axes),
        name=name or stem_of(path),
        channels=notes.channels if len(notes.channels) == size else (),
        metadata={**metadata, **notes.metadata},
    )


def stem_of(path: Path) -> str:
    """The name of a file without its suffix, and without the `.ome` before it."""
    return path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem
