"""The list of pages of a TIFF file, checked before tifffile follows it: for ever, if it runs in a circle.

A page says where the next one lies, and where its coarser levels do, which are pages themselves.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from napari_pristine.errors import FileError

_LEVELS = 330
"""Tag in which a page lists its coarser levels: SubIFDs."""
_PLACES = {4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types of the values of a tag that can be places in a file, in the words of `struct`."""
_MOST_TAGS = 4096
"""Of a page, beyond which tifffile takes it for none."""
_CLASSIC, _BIG = ("H", "HHI4s", "I"), ("Q", "HHQ8s", "Q")
_KINDS = {b"II*\0": ("<", *_CLASSIC), b"MM\0*": (">", *_CLASSIC), b"II+\0": ("<", *_BIG), b"MM\0+": (">", *_BIG)}
"""Byte order, number of tags, one tag, and a place, by how a file begins."""


def check_pages(path: Path) -> None:
    """Raise a `FileError` if a page of the list is not in the file, or comes twice, or twice as a level.

    Takes about one short read for each page.
    """
    with path.open("rb") as file:
        kind = _KINDS.get(file.read(4))
        if kind is None:
            return
        tiff = _Tiff(file, os.fstat(file.fileno()).st_size, *kind)
        (page,) = tiff.numbers(struct.calcsize("=" + tiff.place), tiff.place, 1) or (0,)
        pages: set[int] = set()
        levels: set[int] = set()
        while page:
            _add(path, pages, page)
            found = tiff.page(page)
            if found is None:
                raise cut_off(path)
            page, below = found
            while below:
                level = below.pop()
                _add(path, levels, level)
                below += (tiff.page(level) or (0, []))[1]  # tifffile does without those that are not there


def cut_off(path: Path) -> FileError:
    """The error for files that end before their last plane."""
    return FileError(f"'{path}' is incomplete: it ends before its last plane; copy it again from where it came")


def _add(path: Path, seen: set[int], page: int) -> None:
    if page in seen:
        raise FileError(f"'{path}' is damaged: its list of pages runs in a circle; copy it again from where it came")
    seen.add(page)


@dataclass(frozen=True)
class _Tiff:
    """A file, and how numbers are laid out in it, in the words of `struct`."""

    file: IO[bytes]
    size: int
    order: str
    count: str
    tag: str
    place: str

    def page(self, at: int) -> tuple[int, list[int]] | None:
        """Where the page after the one at this place lies, 0 if nowhere, and its levels; None if there is no page."""
        (count,) = self.numbers(at, self.count, 1) or (_MOST_TAGS + 1,)
        size = count * struct.calcsize("=" + self.tag)
        start = at + struct.calcsize("=" + self.count)
        after = self.numbers(start + size, self.place, 1)
        if count > _MOST_TAGS or not after:
            return None
        self.file.seek(start)
        return after[0], self.levels(self.file.read(size))

    def levels(self, tags: bytes) -> list[int]:
        """The places in the tags that list levels; most pages have none."""
        found: list[int] = []
        if struct.pack(self.order + "H", _LEVELS) in tags:
            for code, kind, count, value in struct.iter_unpack(self.order + self.tag, tags):
                if code == _LEVELS and kind in _PLACES:
                    found += self.listed(_PLACES[kind], count, value)
        return [level for level in found if level]

    def listed(self, kind: str, count: int, value: bytes) -> tuple[int, ...]:
        """The values of a tag; if they are too many to stand in it, it says where they are."""
        if count * struct.calcsize("=" + kind) <= len(value):
            return struct.unpack_from(f"{self.order}{count}{kind}", value)
        (at,) = struct.unpack(self.order + self.place, value)
        return self.numbers(at, kind, count)

    def numbers(self, at: int, kind: str, count: int) -> tuple[int, ...]:
        """Numbers from a place on: `count`, or none if the file ends before."""
        size = count * struct.calcsize("=" + kind)
        if at + size > self.size:
            return ()
        self.file.seek(at)
        data = self.file.read(size)
        return struct.unpack(f"{self.order}{count}{kind}", data) if len(data) == size else ()
