"""Zarr stores of several images: plates and wells, series as bioformats2raw writes them, groups of images.

A store is listed from its metadata, without opening its images. Metadata are not trusted: paths that lead out of the
store are errors, and the list is no longer than the metadata.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from napari_pristine.errors import FileError
from napari_pristine.io.atomic import is_zarr_node
from napari_pristine.io.ngff import Version
from napari_pristine.text import one_line

SERIES_LAYOUT = "bioformats2raw.layout"
"""Attribute of a store of several series."""
OME_XML = "METADATA.ome.xml"
"""File in the group `OME` of such a store, which describes all series."""
_IMAGE_ELEMENT = re.compile(rb"<(?:\w+:)?Image[\s>]")


@dataclass(frozen=True)
class Member:
    """An image of a store.

    Attributes:
        path: Its path in the store, such as `A/1/0`.
        problem: Reason why it cannot be read, if the metadata of the store show one; else empty.
    """

    path: str
    problem: str = ""


@dataclass(frozen=True)
class Node:
    """A Zarr group or array, with the metadata from its files.

    Attributes:
        path: Its folder.
        file: File of its attributes.
        array: Metadata of the array; empty for a group.
        attributes: Its attributes.
    """

    path: Path
    file: Path
    array: Mapping[str, Any]
    attributes: Mapping[str, Any]

    @cached_property
    def ome(self) -> Mapping[str, Any]:
        """The attributes that OME-Zarr defines."""
        ome = self.attributes.get("ome", self.attributes)
        return ome if isinstance(ome, dict) else {}

    @property
    def is_image(self) -> bool:
        """True for an image with its levels, or an array."""
        return bool(self.array) or "multiscales" in self.ome

    @property
    def version(self) -> Version:
        """Version of OME-Zarr that goes with the version of Zarr."""
        return "0.5" if self.file.name == "zarr.json" else "0.4"

    def wrong(self, key: str, problem: str) -> FileError:
        """Error that names a key of the attributes."""
        prefix = ("attributes." if self.version == "0.5" else "") + ("ome." if "ome" in self.attributes else "")
        return FileError(f"'{self.file}' is not valid OME-Zarr: {prefix}{key} {problem}; give the path of an image")


def read_node(path: Path) -> Node:
    """Read the metadata of a group or array.

    Raises:
        FileError: They cannot be read, or there are none.
    """
    if not is_zarr_node(path):
        children = sorted(path.iterdir()) if path.is_dir() else []
        inside = ", ".join(f"'{child}'" for child in [child for child in children if is_zarr_node(child)][:3])
        raise FileError(
            f"'{path}' is not a Zarr group or array{f'; it contains {inside}' if inside else ''}; "
            "give the path of an image"
        )
    file = path / "zarr.json"
    if file.is_file():
        metadata = _read_json(file)
        attributes = metadata.get("attributes")
        array = metadata if metadata.get("node_type") == "array" else {}
        return Node(path, file, array, attributes if isinstance(attributes, dict) else {})
    file = path / ".zattrs"
    array = _read_json(path / ".zarray") if (path / ".zarray").is_file() else {}
    return Node(path, file, array, _read_json(file) if file.is_file() else {})


def list_images(path: Path) -> list[Member]:
    """List the images of a plate, well, store of series or other group; none for an image.

    Raises:
        FileError: The metadata are damaged, lead out of the store, or name no image.
    """
    node = read_node(path)
    if node.is_image:
        return []
    found = {member.path: member for member in _images_of(node)}
    if not found:
        kind = "a group of labels" if "labels" in node.ome else "a Zarr group without an image"
        inside = [str(path / name) for name in _names(node, "labels", "labels")[:3]] if "labels" in node.ome else []
        raise FileError(f"'{path}' is {kind}; give the path of an image{f', such as {inside}' if inside else ''}")
    return list(found.values())


def find_store(path: Path) -> Path:
    """The outermost group that contains a group or array; itself if there is none."""
    here = store = Path(os.path.abspath(path))
    for parent in here.parents:
        if is_zarr_node(parent):
            store = parent
        elif not is_zarr_node(parent.parent):  # a row of a plate may be a plain folder
            break
    return store


def is_level(path: Path, store: Path) -> bool:
    """True if a group or array of a store is part of an image: a level, or its labels."""
    between = [parent for parent in Path(os.path.abspath(path)).parents if parent.is_relative_to(store)]
    return any(read_node(parent).is_image for parent in between if is_zarr_node(parent))


def join_inside(path: Path, name: str) -> Path:
    """Path of a group or array that the metadata of a group name.

    Raises:
        FileError: It is not inside the group.
    """
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    is_absolute = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)
    if not parts or ".." in parts or is_absolute:
        raise FileError(
            f"the metadata of '{path}' name the image or level '{name}', which is not inside it; convert it again, or "
            "give the path of an image"
        )
    return path / PurePosixPath(name)


def listed(node: Node, kind: str, key: str) -> list[dict[str, Any]]:
    """Entries of a plate (`wells`) or well (`images`), each with a path.

    Raises:
        FileError: They are not in the metadata, or have no path.
    """
    content = node.ome[kind]
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise node.wrong(f"{kind}.{key}", "is missing" if entries is None else "is not a list")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise node.wrong(f"{kind}.{key}[{number}].path", "is missing or not a string")
        join_inside(node.path, entry["path"])
    return entries


def list_series(path: Path) -> list[str]:
    """Names of the series of a store: as listed, else as numbered from 0 by its OME-XML and its folders."""
    ome = path / "OME"
    node = read_node(ome) if is_zarr_node(ome) else None
    if node and isinstance(node.ome.get("series"), list) and node.ome["series"]:
        return [str(join_inside(path, name).relative_to(path).as_posix()) for name in _names(node, "series", "series")]
    numbers = {int(folder.name) for folder in path.iterdir() if folder.name.isdecimal() and len(folder.name) < 10}
    if (ome / OME_XML).is_file():
        numbers |= set(range(len(_IMAGE_ELEMENT.findall((ome / OME_XML).read_bytes()))))
    return [str(number) for number in sorted(numbers)]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"'{file}' is damaged: it is not JSON ({one_line(error)[:80]}); copy it again") from None
    except OSError as error:
        raise FileError(f"'{file}' cannot be read: {error.strerror or error}") from error
    if not isinstance(value, dict):
        raise FileError(f"'{file}' is damaged: it is not a JSON object; copy it again")
    return value


def _names(node: Node, key: str, shown: str) -> list[str]:
    names = node.ome[key]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise node.wrong(shown, "is not a list of strings")
    return names


def _images_of(node: Node) -> Iterator[Member]:
    """All images of a group, by the kind of its metadata."""
    path = node.path
    if "plate" in node.ome and "well" not in node.ome:
        for entry in listed(node, "plate", "wells"):
            name = PurePosixPath(entry["path"]).as_posix()
            well = read_node(path / name) if is_zarr_node(path / name) else None
            if well is None:
                yield Member(name, "missing, although the plate lists this well")
            elif "well" not in well.ome:  # groups are not followed from here: they may lead in circles
                yield Member(name, "a well without the metadata of a well; give the path of an image in it")
            else:
                for member in _images_of(well):
                    yield Member(f"{name}/{member.path}", member.problem)
    elif "well" in node.ome:
        for entry in listed(node, "well", "images"):
            yield _member(path, PurePosixPath(entry["path"]).as_posix(), "the well")
    elif SERIES_LAYOUT in node.ome:
        for name in list_series(path):
            yield _member(path, name, "the store")
    elif not _is_described(node):
        yield from _images_below(path)


def _member(path: Path, name: str, what: str) -> Member:
    there = is_zarr_node(path / name)
    return Member(name, "" if there else f"missing, although {what} lists this image")


def _images_below(path: Path) -> list[Member]:
    """Images in a group whose metadata list none: OME-Zarr images, else arrays of at least two dimensions."""
    images: list[Member] = []
    arrays: list[Member] = []

    unreadable: list[Member] = []
    waiting = [path]  # not by recursion: folders may be nested deeper than that can go
    while waiting:
        child = waiting.pop()
        inside = child.relative_to(path).as_posix()
        node = read_node(child) if child != path and is_zarr_node(child) else None
        if node and node.array:
            shape = node.array.get("shape")
            arrays.extend([Member(inside)] if isinstance(shape, list) and len(shape) > 1 else [])
        elif node and node.is_image:
            images.extend([] if "image-label" in node.ome else [Member(inside)])
        elif node and _is_described(node):
            images.extend(Member(f"{inside}/{member.path}", member.problem) for member in _images_of(node))
        elif node is None or "encoding-type" not in node.attributes:  # tables of AnnData
            try:
                names = sorted((entry.name for entry in os.scandir(child) if _is_folder(entry)), key=_natural)
            except OSError as error:
                unreadable.append(Member(inside, f"a folder that cannot be read ({error.strerror or error})"))
                continue
            waiting += [child / name for name in reversed(names)]
    return (images or arrays) + unreadable


def _is_described(node: Node) -> bool:
    """True for a group whose metadata list its images or labels."""
    return any(key in node.ome for key in ("plate", "well", SERIES_LAYOUT, "labels"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")


def _natural(name: str) -> tuple[bool, int, str]:
    """Sort key: numbers by value, before other names."""
    return (False, int(name), name) if name.isdecimal() and len(name) < 10 else (True, 0, name)
