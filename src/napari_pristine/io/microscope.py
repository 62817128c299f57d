"""Files of microscopes, read plane by plane by libraries that are optional dependencies.

A kind of file is a class that says which images a file holds and reads one plane; everything else is here. The files
are only read; results are OME-TIFF.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.lazy import LazyArray
from napari_pristine.io.metadata import FileMetadata, check_series, make_image, samples_last, stem_of
from napari_pristine.io.planes import keep_whole
from napari_pristine.resources import check_fits
from napari_pristine.text import counted, one_line

_STATED = "XYZT"
"""Axes whose spacing is read."""


@dataclass(frozen=True)
class Scene:
    """One image in a file; its planes are read one by one.

    Attributes:
        name: Its name in the file.
        axes: One letter per dimension, in the order of the file.
        shape: Size along each axis.
        dtype: Type of the values.
        plane_ndim: Number of axes of a plane; they are the last ones.
        place: Place of the image in the file, for its reader.
        present: For each plane whether it is in the file; None if all are.
        first: Number of the first plane along each axis but those of a plane; all 0 if empty.
        problem: Reason for which it cannot be read, and what to do; empty if it can.
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    plane_ndim: int
    place: Any = None
    present: NDArray[np.bool_] | None = None
    first: tuple[int, ...] = ()
    problem: str = ""


class MicroscopeFile(ABC):
    """A file that can be opened and closed again and again; one thread at a time.

    Args:
        path: The file.
    """

    format_name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    library: ClassVar[str]
    """Module that reads such files."""
    extra: ClassVar[str]
    """Name of the optional dependencies that bring it."""
    reads_parts: ClassVar[bool] = False
    """True if a part of a plane can be read without the rest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files and folders of the image, which lie in one folder."""
        return (self.path.name,)

    @abstractmethod
    def open(self) -> None:
        """Open the file."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, if it is open."""

    @abstractmethod
    def scenes(self) -> list[Scene]:
        """List the images in the file."""

    @abstractmethod
    def metadata(self, scene: Scene) -> FileMetadata:
        """Read spacing, by the axes of the scene, and names of channels."""

    @abstractmethod
    def plane(self, scene: Scene, index: tuple[int, ...]) -> Any:
        """Read one plane at an index along the other axes: an array, or an object that reads what is indexed."""


def read(kind: type[MicroscopeFile], path: Path, axes: str, series: int | None = None) -> Image:
    """Read an image into memory; arguments as of `open_lazily`."""
    image = open_lazily(kind, path, axes, series)
    return replace(image, data=np.asarray(image.data))


def open_lazily(kind: type[MicroscopeFile], path: Path, axes: str, series: int | None = None) -> Image:
    """Open an image of a file without reading its values.

    Args:
        kind: Kind of file.
        path: The file.
        axes: One letter per dimension, in place of what the file states.
        series: Number of the image, from 0; by default the largest, and the first of equal ones.

    Raises:
        FileError: The library that reads such files is not installed, or the file cannot be read.
        AxesError: The axes do not fit the image.
    """
    try:
        import_module(kind.library)
    except ImportError as error:
        raise FileError(
            f"reading '{path}' needs {kind.library.partition('.')[0]}; pip install 'napari-pristine[{kind.extra}]'"
        ) from error
    file = kind(path)
    with _opened(file):
        scenes = file.scenes()
        if not scenes:
            raise FileError(f"'{path}' holds no image with the axes Y and X; open it in another program")
        check_series(path, series, len(scenes))
        number = series if series is not None else max(range(len(scenes)), key=lambda n: math.prod(scenes[n].shape))
        stated = _metadata(file, scenes[number])
        scene, stated = _whole_part(path, scenes[number], stated)
    if not kind.reads_parts:
        check_fits(path, math.prod(scene.shape[-scene.plane_ndim :]) * scene.dtype.itemsize)
    notes: list[str] = []
    extra: dict[str, Any] = {"format": kind.format_name}
    if len(file.files) > 1:
        extra["files"] = file.files
    name = ""
    if len(scenes) > 1:
        name = f"{stem_of(path)} {scene.name}"
        extra |= {"images": len(scenes), "image": scene.name}
        if series is None:
            notes.append(
                f"the file holds {len(scenes)} images: {number} ('{scene.name}') was read; --series chooses another"
            )
    letters = _axes_of_results(scene)
    notes += [f"axis {old} is read as {new}" for old, new in zip(scene.axes, letters, strict=True) if old != new]
    spacing = {axis: distance for axis, distance in stated.spacing.items() if axis in _STATED and axis in scene.axes}
    image_axes = axes or samples_last(letters)
    order = [] if axes else [letters.index(axis) for axis in image_axes]
    stated = replace(stated, spacing=spacing, notes=(*notes, *stated.notes))
    return make_image(path, MicroscopeArray(file, scene, order), image_axes, stated, extra, name)


def _whole_part(path: Path, scene: Scene, stated: FileMetadata) -> tuple[Scene, FileMetadata]:
    """The part of an image of which all planes are in the file, with a note on it.

    Raises:
        FileError: It is incomplete in another way.
    """
    if scene.problem:
        raise FileError(f"'{path}': {scene.problem}")
    if scene.present is None or scene.present.all():
        return scene, stated
    leading = scene.present.ndim
    box, note = keep_whole(scene.present, scene.axes[:leading])
    if not box:
        there = np.count_nonzero(scene.present)
        raise FileError(
            f"'{path}' has only {there} of its {counted(scene.present.size, 'plane')}, with gaps between them; copy it "
            "again from its source, or save the existing planes as a new file"
        )
    channels = stated.channels
    if "C" in scene.axes[:leading]:
        channels = tuple(channels[n] for n in box[scene.axes.index("C")] if n < len(channels))
    shape = (*map(len, box), *scene.shape[leading:])
    scene = replace(scene, shape=shape, first=tuple(n.start for n in box))
    return scene, replace(stated, channels=channels, notes=(*stated.notes, note))


def _metadata(file: MicroscopeFile, scene: Scene) -> FileMetadata:
    """Metadata of an image; if they are broken, none, with a note."""
    try:
        return file.metadata(scene)
    except Exception as error:  # noqa: BLE001 - libraries raise anything if a file is not as they expect
        reason = one_line(error)[:200] or type(error).__name__
        return FileMetadata(notes=(f"pixel size and channel names cannot be read ({reason})",))


class MicroscopeArray(LazyArray):
    """The values of an image, read plane by plane; its file is open only while it is read.

    Args:
        file: The file.
        scene: The image.
        order: See `LazyArray`.
    """

    def __init__(self, file: MicroscopeFile, scene: Scene, order: Sequence[int]) -> None:
        super().__init__(file.path, scene.shape, scene.dtype, order, watched=file.path)
        self.format_name = file.format_name
        self._file, self._scene, self._lock = file, scene, threading.Lock()

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._lock, _opened(self._file):
            yield _Planes(self._file, self._scene)


@dataclass(frozen=True)
class _Planes:
    """All planes of an image in an open file, as an array."""

    file: MicroscopeFile
    scene: Scene

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        outer = self.scene.shape[: -self.scene.plane_ndim]
        starts = self.scene.first or (0,) * len(outer)
        along = [range(at, at + n)[item] for item, n, at in zip(index, outer, starts, strict=False)]
        inner = index[len(outer) :]
        planes = [
            self.file.plane(self.scene, place)[inner]
            for place in product(*([item] if isinstance(item, int) else item for item in along))
        ]
        values = np.array(planes, self.scene.dtype)  # a copy: a plane may be part of a file that is closed after this
        return values.reshape([len(item) for item in along if isinstance(item, range)] + list(values.shape[1:]))


@contextmanager
def _opened(file: MicroscopeFile) -> Iterator[None]:
    try:
        file.open()
        yield
    finally:
        file.close()


def _axes_of_results(scene: Scene) -> str:
    """Rename axes that OME-TIFF, the format of results, does not have, to T, Z or C, if one is unused."""
    known = [axis in "TZCYX" or (axis == "S" and n in (3, 4)) for axis, n in zip(scene.axes, scene.shape, strict=True)]
    free = iter([axis for axis in "TZC" if axis not in scene.axes])
    return "".join(axis if keep else next(free, axis) for axis, keep in zip(scene.axes, known, strict=True))
