"""Write the metadata of a store of results, which has the layout of the store of the inputs.

At every moment the groups list only finished images: an image is added to the lists of its groups after it has got
its final name, the outermost group last, and is removed from them before it is replaced, the outermost group first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from napari_pristine.errors import FileError
from napari_pristine.io.atomic import flush_directory, flush_to_disk, is_zarr_node, remove
from napari_pristine.io.collection import OME_XML, SERIES_LAYOUT, Node, list_series, listed, read_node
from napari_pristine.io.metadata import PROVENANCE
from napari_pristine.io.ngff import Version, read_multiscale
from napari_pristine.text import to_json, valid_unicode

_LISTS = (("plate", "wells"), ("well", "images"))
_OME_KEYS = ("plate", "well", SERIES_LAYOUT, "series", "omero", "version")
"""Attributes of groups that hold images; they lie under `ome` since version 0.5."""


@dataclass(frozen=True)
class ResultStore:
    """A store of results. Only one process may change its metadata at a time.

    Attributes:
        path: Its folder.
        source: The store of the inputs.
        version: Its version of OME-Zarr.
    """

    path: Path
    source: Path
    version: Version

    def check(self) -> None:
        """Check that results may be added.

        Raises:
            FileError: The folder holds anything but results of the same store in the same version of OME-Zarr.
        """
        if not os.path.lexists(self.path) or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        node = read_node(self.path) if is_zarr_node(self.path) else None
        if node is None or node.is_image or not isinstance(node.attributes.get(PROVENANCE), dict):
            raise FileError(
                f"'{self.path}' is not a store of results of this program, so nothing is added to it; choose another "
                "folder, or remove it"
            )
        if node.version != self.version:
            raise FileError(
                f"'{self.path}' is OME-Zarr {node.version}, but the new images would be {self.version}; choose another "
                "folder, or the same format"
            )
        source = read_node(self.source)
        others = _shown(node, self.path) - {path for kind, key in _LISTS for path in _paths(source, kind, key)}
        if SERIES_LAYOUT in source.ome:
            others -= set(list_series(self.source))
        if others:
            raise FileError(
                f"'{self.path}' holds images that '{self.source}' does not list, such as '{min(others)}': results of "
                "another store; choose another folder"
            )

    def prepare(self, image: str, scratch: Path) -> None:
        """Make the groups that contain an image; images that are already listed stay.

        Args:
            image: Path of the image in the store.
            scratch: Folder for incomplete files, on the same disk.

        Raises:
            OSError: They cannot be written.
        """
        for group in _groups(image):
            if not is_zarr_node(self.path / group):
                self._write(group, self._as_version(group, {}), scratch)

    def add(self, image: str, scratch: Path) -> None:
        """Add a finished image to the lists; arguments and errors as of `prepare`."""
        for group in reversed(_groups(image)):
            for name, attributes in self._changes(group, image, present=True)[0]:
                self._write(name, attributes, scratch)
            self._copy_ome_xml(group, scratch)

    def remove(self, image: str, scratch: Path) -> None:
        """Remove an image from the lists, before it is replaced; arguments and errors as of `prepare`."""
        changes: list[tuple[str, dict[str, Any]]] = []
        present = False
        for group in reversed(_groups(image)):
            remove(self.path / group / "OME" / OME_XML)
            found, anything = self._changes(group, image, present=present)
            changes += found
            present = present or anything
        for name, attributes in reversed(changes):
            self._write(name, attributes, scratch)

    def _changes(self, group: str, image: str, *, present: bool) -> tuple[list[tuple[str, dict[str, Any]]], bool]:
        """New attributes of a group, preceded by those of its list of series; and True if they list anything.

        Args:
            group: Path of the group in the store.
            image: Path of the image in the store.
            present: True if the group lists the image, or the well with it.
        """
        if not is_zarr_node(self.source / group):
            return [], False
        source = read_node(self.source / group)
        shown = _shown(read_node(self.path / group), self.path / group)
        inner = PurePosixPath(image).relative_to(group)

        def keeps(path: str) -> bool:
            return present if inner.is_relative_to(path) else path in shown

        lists: dict[str, Any] = {}
        changes: list[tuple[str, dict[str, Any]]] = []
        for kind, key in _LISTS:
            if kind in source.ome:
                entries = [entry for entry in listed(source, kind, key) if keeps(_path(entry))]
                content = {**source.ome[kind], key: entries}
                lists |= {kind: _complete_plate(content) if kind == "plate" else content} if entries else {}
        if SERIES_LAYOUT in source.ome:
            series = [name for name in list_series(source.path) if keeps(name)]
            lists |= {SERIES_LAYOUT: source.ome[SERIES_LAYOUT]} if series else {}
            name = f"{group}/OME".lstrip("/")
            changes.append((name, self._as_version(name, {"series": series} if series else {})))
        changes.append((group, self._as_version(group, lists)))
        return changes, bool(lists)

    def _as_version(self, group: str, lists: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes of a group: what the source says, with these lists in place of its own."""
        source = read_node(self.source / group) if is_zarr_node(self.source / group) else None
        attributes = dict(source.attributes) if source else {}
        nested = attributes.pop("ome", None)
        ome = (
            dict(nested)
            if isinstance(nested, dict)
            else {key: attributes[key] for key in _OME_KEYS if key in attributes}
        )
        kinds = {kind for kind, _ in _LISTS}
        ome = {key: value for key, value in ome.items() if key not in {*kinds, SERIES_LAYOUT, "series", "version"}}
        rest = {key: value for key, value in attributes.items() if key not in _OME_KEYS}
        if not group:
            rest[PROVENANCE] = {"input": valid_unicode(self.source.name)}
        for key, value in lists.items():
            if key in kinds:
                value = {k: v for k, v in value.items() if k != "version"}
                value |= {"version": self.version} if self.version == "0.4" else {}
            ome[key] = value
        if self.version == "0.4":
            return {**rest, **ome}
        return {**rest, "ome": {**ome, "version": self.version}} if ome else rest

    def _write(self, group: str, attributes: Mapping[str, Any], scratch: Path) -> None:
        """Write the attributes of a group, atomically; the group is made if there is none."""
        folder, new = self.path / group, scratch / "group"
        is_new = not is_zarr_node(folder)
        remove(new)
        new.mkdir()
        if self.version == "0.4":
            files = {".zattrs": attributes, **({".zgroup": {"zarr_format": 2}} if is_new else {})}
        else:
            files = {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": attributes}}
        for name, content in files.items():
            (new / name).write_text(to_json(content, indent=2, ascii_only=True), encoding="ascii")
        flush_to_disk(new / name for name in files)
        if is_new:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                folder.rmdir()  # an empty one, which Windows does not replace
            os.replace(new, folder)
            flush_directory(folder.parent)
        else:
            (name,) = files
            os.replace(new / name, folder / name)
            flush_directory(folder)

    def _copy_ome_xml(self, group: str, scratch: Path) -> None:
        """Copy the OME-XML that describes all series, if all are present with unchanged shapes."""
        xml, ours = (root / group / "OME" / OME_XML for root in (self.source, self.path))
        if not xml.is_file() or ours.exists() or SERIES_LAYOUT not in read_node(self.path / group).ome:
            return
        series = list_series(self.source / group)
        if set(series) <= _shown(read_node(self.path / group), self.path / group) and all(
            _finest_array(self.source / group / name) == _finest_array(self.path / group / name) for name in series
        ):
            part = scratch / OME_XML
            part.write_bytes(xml.read_bytes())
            flush_to_disk([part], names=False)
            os.replace(part, ours)
            flush_directory(ours.parent)


def _groups(image: str) -> list[str]:
    """Paths of the groups around an image, the outermost first."""
    parts = PurePosixPath(image).parts
    return ["/".join(parts[:count]) for count in range(len(parts))]


def _path(entry: Mapping[str, Any]) -> str:
    return PurePosixPath(entry["path"]).as_posix()


def _paths(node: Node, kind: str, key: str) -> list[str]:
    return [_path(entry) for entry in listed(node, kind, key)] if kind in node.ome else []


def _shown(node: Node, path: Path) -> set[str]:
    """Paths that a group of results lists."""
    shown = {path for kind, key in _LISTS for path in _paths(node, kind, key)}
    series = read_node(path / "OME").ome.get("series") if is_zarr_node(path / "OME") else None
    return shown.union(series if isinstance(series, list) else ())


def _complete_plate(plate: Mapping[str, Any]) -> dict[str, Any]:
    """Add rows, columns and their indices to the metadata of a plate; versions before 0.4 do not require them."""
    plate = dict(plate)
    for number, (key, index) in enumerate((("rows", "rowIndex"), ("columns", "columnIndex"))):
        names = [PurePosixPath(entry["path"]).parts[number : number + 1] for entry in plate["wells"]]
        if not isinstance(plate.get(key), list):
            plate[key] = [{"name": name} for name in dict.fromkeys(name for found in names for name in found)]
        order = {line.get("name"): n for n, line in enumerate(plate[key]) if isinstance(line, dict)}
        plate["wells"] = [
            {index: order[found[0]], **entry} if found and found[0] in order else entry
            for found, entry in zip(names, plate["wells"], strict=True)
        ]
    return plate


def _finest_array(image: Path) -> tuple[Any, ...]:
    """Shape and type of the finest level of an image; empty if it cannot be read."""
    try:
        node = read_node(image)
        level = read_multiscale(node.file, node.attributes).levels[0]
        array = read_node(image / level).array
        dtype = np.dtype(array["dtype"] if "dtype" in array else array["data_type"])
        return (*array["shape"], dtype.newbyteorder("="))
    except (FileError, KeyError, TypeError, ValueError):
        return ()
