"""Read the OME-XML of TIFF files, which may be broken, false, or in another file of a set.

tifffile takes it literally; here it is repaired first, and reduced to the images that may be read from a file.
"""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from napari_pristine.io.metadata import check_series, number
from napari_pristine.io.planes import check_plane_count
from napari_pristine.io.tiff_checks import check_page_list, is_plain
from napari_pristine.text import valid_xml

COMPANION = ".companion.ome"
"""Suffix of a file that holds the metadata of the OME-TIFF files beside it."""
_MAX_XML = 1 << 28
"""Bytes of a companion file that are read."""


@dataclass(frozen=True, eq=False)
class OmeXml:
    """The repaired OME-XML of a file.

    Attributes:
        root: All of it.
        images: The images that it describes; some may be in other files of the set.
        candidates: Numbers of the images that may be read from this file.
        text: XML of the candidates for tifffile, in which the name of an image is its number; empty if there is none.
        places: For each image the names of the files with its planes, that of the first plane first; some may be
            missing.
        metadata_file: Name of the file that the XML comes from, if that is another one.
        is_chosen: True if the user has named the image.
        notes: Sentences for the user on what was repaired or ignored.
    """

    root: Element
    images: tuple[Element, ...] = ()
    candidates: tuple[int, ...] = ()
    text: str = ""
    places: tuple[tuple[str, ...], ...] = ()
    metadata_file: str = ""
    is_chosen: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_in_order(self) -> bool:
        """True if the planes of the only image are the pages of the file in their order."""
        data = [*_planes_of(self.images[0])]
        keys = ("IFD", "FirstC", "FirstT", "FirstZ")
        return len(data) == 1 and not any(number(data[0].get(key)) for key in keys)

    def files(self, number: int) -> set[str]:
        """Names of the files that hold planes or metadata of an image."""
        return {*self.places[number], self.metadata_file} - {""}

    def members(self, number: int) -> set[str]:
        """Names of the files that are read as this image: those in which no other image begins."""
        if self.is_chosen:  # each file of the set would be read as the image that was named
            return {self.metadata_file, *(name for place in self.places for name in place)} - {""}
        return self.files(number) - {place[0] for n, place in enumerate(self.places) if n != number and place}


def read_xml(path: Path, description: str, page_count: int, series: int | None) -> OmeXml | None:
    """Read and repair the OME-XML of a TIFF file, or of the file beside it that holds its metadata.

    Args:
        path: The file.
        description: Description of its first page.
        page_count: Number of its pages.
        series: Number of the image that is wanted; by default one that begins in this file.

    Returns:
        `None` if there is none.

    Raises:
        FileError: It claims too many planes, or has no such image.
    """
    notes: list[str] = []
    root = _parse(description, notes) if re.search(r"<([\w.-]+:)?OME[\s>]", description) else None
    if root is not None and root.tag.rpartition("}")[2] != "OME":
        root = None
    own_id, metadata_file = "" if root is None else root.get("UUID", ""), ""
    if root is None and not notes:
        metadata_file = _find_companion(path)
    elif root is not None and (binary_only := root.find("{*}BinaryOnly")) is not None:
        metadata_file = binary_only.get("MetadataFile", "")
        if not _is_beside(path, metadata_file):
            notes.append(f"the file '{metadata_file}' with its metadata is missing; its pages are read in order")
            return OmeXml(root, notes=tuple(notes))
    if metadata_file:
        root = _parse(_xml_in(path.parent / metadata_file), notes)
    if root is None:
        return OmeXml(Element("OME"), notes=tuple(notes)) if notes else None
    images = tuple(root.findall("{*}Image"))
    check_series(path, series, max(len(images), 1))
    check_plane_count(path, sum(map(_plane_count, images)))
    if sum(map(_drop_outside, images)):
        notes.append("its metadata name files outside its folder, which are ignored")
    _name_files(path, images, own_id)
    if len(images) == 1:
        _mend_sizes(images[0], page_count, notes)
    places = tuple(_files_of(image, path.name) for image in images)
    candidates: tuple[int, ...] = () if series is None or not images else (series,)
    if series is None:
        candidates = tuple(
            [n for n, place in enumerate(places) if place[:1] == (path.name,)]
            or [n for n, place in enumerate(places) if path.name in place]
            or range(len(images))
        )
    text = _for_tifffile(path.name, root, images, candidates)
    return OmeXml(root, images, candidates, text, places, metadata_file, series is not None, tuple(notes))


def _parse(text: str, notes: list[str]) -> Element | None:
    """The root of an XML text; of a broken one, with the part before the error, and all planes in order."""
    parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(("start",))
    root: Element | None = None
    try:
        parser.feed(valid_xml(text.strip("\ufeff \r\n\t\0")))
        for _, element in cast("Iterator[tuple[str, Element]]", parser.read_events()):
            root = element if root is None else root
        parser.close()
    except (ElementTree.ParseError, ValueError):
        notes.append("its OME-XML is broken; only the readable part is used")
        images = [] if root is None else root.findall("{*}Image")
        for image in images:
            for pixels in image.findall("{*}Pixels"):
                for data in pixels.findall("{*}TiffData"):
                    pixels.remove(data)
                if len(images) == 1:
                    SubElement(pixels, pixels.tag.replace("Pixels", "TiffData"))
    return root


def _is_beside(path: Path, name: str) -> bool:
    """True if there is a file with this name, without a path, in the folder of a file."""
    return is_plain(name) and (path.parent / name).is_file()


def _find_companion(path: Path) -> str:
    """Name of the companion file that names a TIFF file without OME-XML; empty if there is none."""
    try:
        names = _companions(path.parent, os.stat(path.parent).st_mtime_ns)
        stats = [os.stat(path.parent / name) for name in names]
        states = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats, strict=True))
        return _named_files(path.parent, states).get(path.name, "")
    except OSError:
        return ""


@lru_cache(maxsize=8)
def _companions(folder: Path, changed: int) -> tuple[str, ...]:
    """Names of the companion files in a folder, listed once for all files in it."""
    return tuple(sorted(name for name in os.listdir(folder) if name.lower().endswith(COMPANION)))


@lru_cache(maxsize=8)
def _named_files(folder: Path, companions: tuple[tuple[str, int, int], ...]) -> dict[str, str]:
    """For each file that is named in companion files, given with size and time, the name of the first of these."""
    found: dict[str, str] = {}
    for companion, *_ in companions:
        for quoted in re.findall(r"""\sFileName\s*=\s*("[^"]*"|'[^']*')""", _xml_in(folder / companion)):
            found.setdefault(html.unescape(quoted[1:-1]), companion)
    return found


def _xml_in(file: Path) -> str:
    """The OME-XML in a companion file or the first page of a TIFF file."""
    stat = file.stat()
    return _cached_xml(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)
def _cached_xml(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        if stream.read(2) not in (b"II", b"MM"):
            stream.seek(0)
            return stream.read(_MAX_XML).decode(errors="replace")
    return check_page_list(file).description


def _planes_of(image: Element) -> Iterator[Element]:
    """The `TiffData` of an image, each one or several of its planes."""
    for pixels in image.findall("{*}Pixels"):
        yield from pixels.findall("{*}TiffData")


def _plane_count(image: Element) -> float:
    pixels = image.find("{*}Pixels")
    return 0 if pixels is None else math.prod(max(number(pixels.get(f"Size{axis}", 1)), 1) for axis in "CZT")


def _drop_outside(image: Element) -> int:
    """Remove planes in files that are named with a path; returns their number."""
    found = 0
    for pixels in image.findall("{*}Pixels"):
        for data in pixels.findall("{*}TiffData"):
            uuid = data.find("{*}UUID")
            name = None if uuid is None else uuid.get("FileName")
            if name is not None and not is_plain(name):
                pixels.remove(data)
                found += 1
    return found


def _name_files(path: Path, images: tuple[Element, ...], own_id: str) -> None:
    """Replace the UUID of each file by its name: UUIDs are often missing, repeated, or of a renamed file.

    Args:
        path: The file that is read.
        images: The images, whose planes name the files.
        own_id: UUID of the file, which identifies it if it was renamed.
    """
    uuids = [uuid for image in images for data in _planes_of(image) for uuid in data.findall("{*}UUID")]
    names = {uuid.get("FileName", path.name) for uuid in uuids}
    renamed = len(names) == 1 and not _is_beside(path, *names)
    is_named = any(name.casefold() == path.name.casefold() for name in names)
    for uuid in uuids:
        name = uuid.get("FileName", path.name)
        is_own = renamed or name.casefold() == path.name.casefold() or (not is_named and own_id and uuid.text == own_id)
        uuid.set("FileName", path.name if is_own else name)
        uuid.text = uuid.get("FileName")


def _files_of(image: Element, own_name: str) -> tuple[str, ...]:
    """Names of the files with planes of an image, that of its first plane first."""
    places: dict[str, tuple[float, ...]] = {}
    for data in _planes_of(image):
        uuid = data.find("{*}UUID")
        name = own_name if uuid is None else str(uuid.get("FileName"))
        position = tuple(number(data.get(f"First{axis}", 0)) for axis in "TZC")
        places[name] = min(places.get(name, position), position)
    return tuple(sorted(places, key=lambda name: places[name]))


def _mend_sizes(image: Element, page_count: int, notes: list[str]) -> None:
    """Fill in the order of the axes, and a size along C, Z or T that is missing, from the number of pages."""
    pixels = image.find("{*}Pixels")
    if pixels is None:
        return
    if sorted(pixels.get("DimensionOrder", "")) != sorted("XYCZT"):
        pixels.set("DimensionOrder", "XYCZT")
    missing = [axis for axis in "CZT" if number(pixels.get(f"Size{axis}")) < 1]
    rest = int(_plane_count(image))
    for axis in missing:
        fits = axis == missing[-1] and page_count % rest == 0
        pixels.set(f"Size{axis}", str(page_count // rest if fits else 1))
    if missing:
        notes.append(f"its OME-XML does not state the size along {', '.join(missing)}; the number of pages gives it")


def _for_tifffile(own_name: str, root: Element, images: tuple[Element, ...], candidates: tuple[int, ...]) -> str:
    """XML with only what tifffile needs; each image is named by its number, as tifffile may skip some."""
    short = Element(root.tag, UUID=own_name)
    short.extend(root.findall("{*}StructuredAnnotations"))
    for n in candidates:
        image, planes = images[n], str(int(_plane_count(images[n])))
        described = SubElement(short, image.tag, Name=str(n))
        described.extend(image.findall("{*}AnnotationRef"))
        for pixels in image.findall("{*}Pixels"):
            content = SubElement(described, pixels.tag, pixels.attrib)
            content.extend(pixels.findall("{*}Channel"))
            for data in pixels.findall("{*}TiffData"):
                if number(data.get("PlaneCount")) > int(planes):  # tifffile would make a list as long as it says
                    data.set("PlaneCount", planes)
                content.append(data)
    return ElementTree.tostring(short, encoding="unicode") if candidates else ""
