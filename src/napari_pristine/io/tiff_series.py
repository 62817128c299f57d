"""Choose an image in a TIFF file that holds several, or a different number of planes than it states."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import numpy as np
import tifffile

from napari_pristine.image.image import COLOUR
from napari_pristine.io.planes import MAX_PLANES, keep_whole
from napari_pristine.io.tiff_checks import name_files
from napari_pristine.text import counted

_STACKABLE = ("shaped", "generic", "uniform")
"""Kinds of series in tifffile's word that mean no more than that their pages follow each other; those of OME are
scenes, those of slide scanners different pictures of a slide."""
_UNDESCRIBED = ("generic", "uniform")
"""Those of them in which no description says how many pages belong together."""
_ASIDE = re.compile(r"(label|macro|thumb(nail)?|overview|preview|map|barcode)( image)?( ?\d+)?", re.IGNORECASE)
"""Names of images that show the slide, not the sample."""
_MAX_LISTED = 4
"""Number of images that a note describes."""
_KEEP_AXES: dict[str, Any] = {"squeeze": False} if "squeeze" in signature(tifffile.TiffPageSeries).parameters else {}
"""Argument for series with axes of length 1; since tifffile 2026.5 they are always kept."""
_REDUCED, _MASK = 1, 4
"""Bits of the tag NewSubfileType: a page is a smaller version, or a mask, of another one."""


@dataclass(frozen=True, eq=False)
class Series:
    """An image in a file, or several of them as a stack.

    Attributes:
        number: Its number in the file, from 0.
        pages: Its pages, as a series of tifffile.
        axes: One letter per dimension.
        name: Its name in the file.
    """

    number: int
    pages: tifffile.TiffPageSeries
    axes: str
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""
        return tuple(int(n) for n in self.pages.shape)

    @property
    def describe(self) -> str:
        """Number, name, shape and type, for messages."""
        name = f" '{self.name}'" if self.name else ""
        return f"{self.number}{name} ({self.sizes}, {self.pages.dtype})"

    @property
    def sizes(self) -> str:
        """Axes and shape, for messages."""
        return " × ".join(f"{axis} {n}" for axis, n in zip(self.axes, self.shape, strict=True))

    def _size(self, axes: str) -> int:
        return math.prod(n for axis, n in zip(self.axes, self.shape, strict=True) if axis in axes)

    @property
    def plane(self) -> int:
        """Number of pixels in a plane."""
        return self._size("YX")

    @property
    def pixels(self) -> int:
        """Number of pixels in all planes; those in colour count once."""
        return math.prod(self.shape) // self._size("S")

    @property
    def subfile_type(self) -> int:
        """The tag NewSubfileType."""
        return int(self.pages.keyframe.subfiletype)

    @property
    def is_for_display(self) -> bool:
        """True if it has colours of 8 bits, as copies with a scale bar have."""
        is_colour = "S" in self.axes or self.pages.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
        return is_colour and self.pages.dtype.itemsize == 1

    @property
    def is_beside(self) -> bool:
        """True if it is a thumbnail, a mask, or a picture of the slide."""
        return bool(self.subfile_type & (_REDUCED | _MASK)) or bool(_ASIDE.fullmatch(self.name.strip()))

    @property
    def depth(self) -> int:
        """Rank of the type of the values: floats, integers of more than 8 bits, of 8 bits, others."""
        if self.pages.dtype.kind == "f":
            return 3
        if self.pages.dtype.kind not in "ui" or self.pages.keyframe.bitspersample == 1:
            return 0
        return 2 if self.pages.dtype.itemsize > 1 else 1


def choose(found: Sequence[Series]) -> tuple[Series, list[str]]:
    """Choose the image that was measured, not copies for display, labels or thumbnails; with a note on the others.

    Equal images are one stack, such as a movie that was written frame by frame.
    """
    if len(found) == 1:
        return found[0], []
    best = _measured(found)
    equal = [each for each in found if _is_equal(each, best)]
    taken = _stack(equal) if len(equal) > 1 else best
    others = [each for each in found if each is not best and (taken is best or each not in equal)]
    if all(each.subfile_type & _REDUCED for each in others):
        return taken, []
    listed = ", ".join(each.describe for each in others[:_MAX_LISTED])
    more = f" and {len(others) - _MAX_LISTED} more" if len(others) > _MAX_LISTED else ""
    what = (
        f"image {best.describe} was read"
        if taken is best
        else f"{len(equal)} equal images were read as one stack along {taken.axes[0]}"
    )
    return taken, [f"the file holds {len(found)} images: {what}, not {listed}{more}; --series chooses another"]


def split_pages(found: Sequence[Series]) -> list[Series]:
    """One image per page, in their order in the file, if no description says which pages belong together."""
    for each in found:
        if each.pages.kind not in _UNDESCRIBED or len(each.pages.levels) > 1 or each.pages.transform:
            return list(found)
    pages: list[tuple[Any, Series]] = [(page, each) for each in found for page in each.pages]
    if not all(isinstance(page.index, int) for page, _ in pages):
        return list(found)
    pages.sort(key=lambda pair: pair[0].index)
    return [
        Series(n, series_of([page], each.pages.keyframe.shape, axes, each.pages), axes)
        for n, (page, each) in enumerate(pages)
        for axes in (each.axes[-len(each.pages.keyframe.shape) :],)
    ]


def _measured(found: Sequence[Series]) -> Series:
    """The image that was measured: of the highest depth and the most pixels among those that are not much smaller."""
    left = [each for each in found if not each.is_beside] or list(found)
    measured = [each for each in left if not each.is_for_display and each.depth > 0]
    if measured:
        largest = max(each.plane for each in measured)
        left = [each for each in left if each in measured or each.plane > 16 * largest]
    for size in ("plane", "pixels"):
        largest = max(getattr(each, size) for each in left)
        left = [each for each in left if 4 * getattr(each, size) >= largest]
    return max(left, key=lambda each: (each.depth, each.pixels, -each.number))


def _is_equal(one: Series, other: Series) -> bool:
    """True if two images are alike in all but their values, so that they may follow each other in a stack."""
    a, b = one.pages, other.pages
    return (
        a.kind == b.kind
        and a.kind in _STACKABLE
        and (one.axes, one.shape, a.dtype) == (other.axes, other.shape, b.dtype)
        and one.subfile_type == other.subfile_type
        and (a.keyframe.shape, a.keyframe.photometric) == (b.keyframe.shape, b.keyframe.photometric)
        and not (a.transform or b.transform)
        and len(a.levels) == len(b.levels) == 1
    )


def _stack(equal: Sequence[Series]) -> Series:
    """Equal images as one stack: along T if they begin with it, as parts of a movie do, else along a new axis."""
    first = equal[0]
    pages = [page for each in equal for page in each.pages]
    if first.axes.startswith("T"):
        axes, shape = first.axes, (len(equal) * first.shape[0], *first.shape[1:])
    else:
        axis = next(axis for axis in "TZCQRPONMLKJIHG" if axis not in first.axes)
        axes, shape = axis + first.axes, (len(equal), *first.shape)
    return replace(first, pages=series_of(pages, shape, axes, first.pages), axes=axes, name="")


def series_of(
    pages: Sequence[Any], shape: Sequence[int], axes: str, like: tifffile.TiffPageSeries
) -> tifffile.TiffPageSeries:
    """A series of pages with another shape."""
    return tifffile.TiffPageSeries(
        pages, shape, like.dtype, axes, kind=like.kind, name=like.name, parent=like.parent,
        multifile=like.is_multifile, **_KEEP_AXES,
    )  # fmt: skip


def drop_missing(
    series: tifffile.TiffPageSeries, files: Sequence[str] = ()
) -> tuple[tifffile.TiffPageSeries, dict[str, int], list[str]]:
    """Leave out the ends of axes where planes are missing, with a note on it; nothing if that leaves no plane.

    Args:
        series: The image.
        files: Names of the files with planes of the image that are missing.

    Returns:
        The image, the number of its first plane along each axis, and notes.
    """
    pages = list(series)
    if None not in pages:
        return series, {}, []
    leading = series.ndim - len(series.keyframe.shape)
    shape, axes = series.shape[:leading], series.axes[:leading]
    present = np.array([page is not None for page in pages]).reshape(shape)
    reason = f", as the {name_files(files)} of this set {'is' if len(files) == 1 else 'are'} not there" if files else ""
    box, note = keep_whole(present, axes, reason)
    if not box:
        return series, {}, []
    kept = [pages[n] for n in np.arange(len(pages)).reshape(shape)[np.ix_(*box)].ravel()]
    first = {axis: n.start for axis, n in zip(axes, box, strict=True)}
    return series_of(kept, (*map(len, box), *series.shape[leading:]), series.axes, series), first, [note]


def leading_shape(count: int, axes: str, sizes: Sequence[int]) -> tuple[str, tuple[int, ...], str]:
    """Axes and sizes for the number of planes in a file that states another, and how they are read, for a note.

    There may be more or fewer elements along the first axis; of less than one, fewer along the next. An incomplete
    element at the end is left out. Channels stay channels, of which there are never more.

    Args:
        count: Number of planes.
        axes: Axes that the file states, without those of a plane.
        sizes: Their sizes.
    """
    stated = {axis: n for axis, n in zip(axes, sizes, strict=True) if n > 1}
    if next(iter(stated), "C") in COLOUR and "T" not in stated:
        stated = {"T": 1} | stated
    found: dict[str, int] = {}
    inner = math.prod(stated.values())
    for axis, n in stated.items():
        inner //= n
        whole = n if found else count // inner
        if whole:
            found[axis] = min(whole, n) if axis in COLOUR else whole
    found = {axis: n for axis, n in found.items() if n > 1}
    left_out = count - math.prod(found.values())
    how = " × ".join(f"{axis} {n}" for axis, n in found.items()) or "a single plane"
    return "".join(found), tuple(found.values()), f"as {how}{f', without the last {left_out}' if left_out else ''}"


def mend_imagej(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, page_count: int
) -> tuple[tifffile.TiffPageSeries, list[str]]:
    """Read all planes in an ImageJ file, with a note if its description states another number.

    Args:
        tif: The file.
        series: Its image, as tifffile reads it.
        page_count: Number of pages in the file.
    """
    stated, page = tif.imagej_metadata or {}, tif.pages.first
    sizes = {axis: stated.get(key, 1) for axis, key in zip("TZC", ("frames", "slices", "channels"), strict=True)}
    if page.samplesperpixel > 1:  # they may be stated as channels
        del sizes["C"]
    sizes = {axis: n for axis, n in sizes.items() if isinstance(n, int) and n > 1}
    images = stated.get("images")
    if not sizes and not isinstance(images, int):
        return series, []
    images = images if isinstance(images, int) else 1
    claimed = math.prod(sizes.values()) if sizes else max(images, 1)
    is_whole = series.kind == "imagej" and series.dataoffset is not None and series.size >= claimed * page.size
    pages: list[Any] = [page]
    if page_count > 1:
        found = claimed if page_count < claimed and is_whole else page_count
    elif page.is_contiguous and claimed > 1:  # one page stands for all planes, which follow each other
        found, rest = divmod(tif.filehandle.size - page.dataoffsets[0], page.nbytes)
        found = claimed if rest > 1 else min(found, claimed)  # one that ends within a plane is cut off
    else:
        found = 1
    stale = [f"its description states {counted(max(images, claimed), 'image')}, but it holds {found}, which are read"]
    if found in (0, claimed) or claimed > MAX_PLANES:
        return series, stale if found == claimed and images not in (1, claimed) else []
    if page_count > 1:
        pages = _pages_like(tif, page)
        found = len(pages)
    axes, leading, how = leading_shape(found, "".join(sizes), tuple(sizes.values()))
    pages = pages[: math.prod(leading)]
    mended = series_of(pages, (*leading, *page.shape), axes + page.axes, series)
    mended.kind = "imagej"
    return mended, [f"{note} {how}" for note in stale]


def mend_ome(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, *, in_order: bool
) -> tuple[tifffile.TiffPageSeries, list[str]]:
    """Read all pages of an OME-TIFF file with a single image, with a note, if its metadata state another number.

    Pages that are not described are read only if they continue the image by whole frames; else they may be masks.

    Args:
        tif: The file.
        series: Its image, as tifffile reads it.
        in_order: The metadata do not tell the place of each plane, so that planes that are missing are the last ones.
    """
    keyframe, used = series.keyframe, [page.offset for page in series if page is not None]
    is_short = in_order and len(used) < len(series)
    if not is_short and not len(tif.pages) > len({*used}) == len(series):
        return series, []
    pages = _pages_like(tif, keyframe)
    leading = series.ndim - len(keyframe.shape)
    axes, sizes, how = leading_shape(len(pages), series.axes[:leading], series.shape[:leading])
    text = f"its OME-XML states {counted(len(series), 'plane')}, but it holds {len(pages)}"
    if not is_short:
        if len(pages) <= len(used):
            return series, []
        if used != [page.offset for page in pages[: len(used)]] or len(pages) != math.prod(sizes):
            return series, [f"{text}; those that it does not describe are left out"]
    pages = pages[: math.prod(sizes)]
    mended = series_of(pages, (*sizes, *keyframe.shape), axes + keyframe.axes, series)
    return mended, [f"{text}, which are read in order {how}"]


def _pages_like(tif: tifffile.TiffFile, keyframe: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """All pages of a file with the shape and type of one of them, which tifffile may have taken for granted."""
    pages = []
    for number, page in enumerate(tif.pages):
        tif.filehandle.seek(page.offset)
        pages.append(tifffile.TiffPage(tif, number))
    return [page for page in pages if page.hash == keyframe.hash]
