"""OME-Zarr, by zarr and yaozarrs: reading versions 0.4 and 0.5, and plain arrays of zarr; writing both versions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from napari_pristine.errors import AxesError, FileError
from napari_pristine.image.image import Image, check_axes, guess_axes
from napari_pristine.io import ngff
from napari_pristine.io import row_chunks as bands
from napari_pristine.io.incremental_zarr import complete, create, scratch
from napari_pristine.io.metadata import FileMetadata, Provenance, image_of, stem_of
from napari_pristine.io.ngff import Version
from napari_pristine.io.row_chunks import CheckCancelled
from napari_pristine.io.zarr_array import METADATA, ZarrArray, reading
from napari_pristine.resources import check_fits

__all__ = ["Version", "complete", "create", "open_lazily", "read", "scratch", "write"]

FORMAT = "zarr"
_MANY = 3
"""Paths that an error names, at most."""


def read(path: Path, axes: str) -> Image:
    """The image at full resolution, in memory."""
    image = open_lazily(path, axes)
    check_fits(path, math.prod(image.shape) * image.dtype.itemsize)
    return replace(image, data=np.asarray(image.data))


def open_lazily(path: Path, axes: str) -> Image:
    """The image at full resolution; its values stay on disk until they are asked for.

    Args:
        path: An OME-Zarr (of several images the first), a group or an array in one, or an array of zarr.
        axes: One letter per dimension, where the file says nothing or the wrong thing.

    Raises:
        FileError: There is no image, or it cannot be read.
        AxesError: `axes` do not fit the array.
    """
    node = _open(path)
    if isinstance(node, zarr.Group):
        return _of_group(path, node, axes)
    above = _said(path.parent) if any((path.parent / name).is_file() for name in METADATA) else {}
    found = ngff.multiscale(str(path.parent), above) if "multiscales" in above.get("ome", above) else None
    if found and found.path == path.name:
        return _image(path, path, found.axes, axes, found.notes, {})
    guess = _dimensions(node) or guess_axes(node.shape)
    return _image(path, path, guess, axes, FileMetadata(), {})


def write(part: Path, target: Path, image: Image, provenance: Provenance, check_cancelled: CheckCancelled) -> None:
    """Write `image` to the folder `part`, some rows of a picture at a time, in the version that it was read from."""
    was = image.metadata.get("version") if image.metadata.get("format") == FORMAT else None
    version: Version = "0.4" if was == "0.4" else "0.5"
    ngff.stored_axes(str(target), image.axes)
    out = create(part, image, version=version)
    for index in bands.indices(image, image.axes, bands.rows(image)):
        check_cancelled()
        out[index] = np.asarray(image.data[index])
    complete(part, image, provenance, check_cancelled)


def _open(path: Path) -> Any:
    """The group or array in a folder."""
    if not any((path / name).is_file() for name in METADATA):
        inside = f"; it holds {_some(path, path)}" if _some(path, path) else ""
        raise FileError(f"'{path}' is no group or array of zarr{inside}; give the path of an image")
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr warns of names and codecs of others
        return zarr.open(LocalStore(path, read_only=True), mode="r", use_consolidated=False)


def _said(path: Path) -> Mapping[str, Any]:
    """The attributes of a group, as far as they have the form that all have."""
    with reading(path):
        said = dict(_open(path).attrs)
    return said if isinstance(said.get("ome", {}), dict) else {}


def _of_group(path: Path, group: zarr.Group, axes: str) -> Image:
    said = _said(path)
    ome: Mapping[str, Any] = said.get("ome", said)
    if "multiscales" in ome:
        known = ngff.multiscale(str(path), said)
        version = "0.5" if "ome" in said else "0.4"
        return _image(path, path / known.path, known.axes, axes, known.notes, {"version": version})
    if "bioformats2raw.layout" in ome and "plate" not in ome:
        images = _series(path)
        image = open_lazily(path / images[0], axes)
        several = {"images": len(images)} if len(images) > 1 else {}
        return replace(image, name=_name(path), metadata={**image.metadata, **several})
    what = next((key for key in ("plate", "well", "labels") if key in ome), "")
    kind = {"plate": "a plate of many images", "well": "a well of some images", "labels": "a group of labels"}
    inside = _inside(path, ome) or _some(path, path) or "nothing"
    found = kind.get(what, "a group of zarr without an image")
    raise FileError(f"'{path}' is {found}; give the path of one inside, such as {inside}")


def _inside(path: Path, ome: Mapping[str, Any]) -> str:
    """Paths inside, as far as the metadata of plates, wells and labels tell."""
    try:
        wells = [f"{well['path']}/0" for well in ome["plate"]["wells"]] if "plate" in ome else []
        images = [str(image["path"]) for image in ome["well"]["images"]] if "well" in ome else []
        names = [str(name) for name in ome["labels"]] if "labels" in ome else []
    except (LookupError, TypeError):
        return ""
    return ", ".join(f"'{path / name}'" for name in [*wells, *images, *names][:_MANY])


def _some(path: Path, under: Path) -> str:
    """Some groups and arrays in a folder."""
    folders = sorted(p for p in under.iterdir() if p.is_dir() and not p.name.startswith(".")) if under.is_dir() else []
    found = [p for p in folders if any((p / name).is_file() for name in METADATA)]
    return ", ".join(f"'{path / p.name}'" for p in found[:_MANY])


def _series(path: Path) -> list[str]:
    """The images of a collection as bioformats2raw writes it; numbered from 0 where they are not listed."""
    listed: Any = []
    if any((path / "OME" / name).is_file() for name in METADATA):
        said = _said(path / "OME")
        listed = said.get("ome", said).get("series")
    if isinstance(listed, list) and listed:
        return [str(name) for name in listed]
    numbered = [p.name for p in path.iterdir() if p.name.isdigit()]
    return sorted(numbered, key=int) or ["0"]


def _dimensions(array: zarr.Array[Any]) -> str:
    """The axes by their names in the array, of zarr 3 or xarray; empty if they are no letters of ours."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    axes = "".join(str(name).upper() for name in names) if isinstance(names, (list, tuple)) else ""
    try:
        check_axes(axes, array.shape)
    except AxesError:
        return ""
    return axes


def _image(path: Path, array: Path, found: str, axes: str, notes: FileMetadata, metadata: Mapping[str, Any]) -> Image:
    """An image of what is in an array, with its samples of RGB pixels last."""
    stored = axes or found
    shown = stored.replace("S", "") + "S" if "S" in stored and not axes else stored
    data = ZarrArray(array)
    try:
        check_axes(stored, data.shape)
    except AxesError as error:
        raise AxesError(f"'{path.name}': {error}") from None
    data = data.turned(tuple(stored.index(axis) for axis in shown))
    return image_of(path, data, shown, notes, {"format": FORMAT, **metadata}, _name(path))


def _name(path: Path) -> str:
    """The name of the file, with what leads to an image inside."""
    parts = path.absolute().parts
    root = next((n for n, part in enumerate(parts) if part.lower().endswith(".zarr")), len(parts) - 1)
    return " ".join([stem_of(Path(parts[root])), *parts[root + 1 :]])
