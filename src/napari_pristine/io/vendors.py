"""The files of Zeiss (CZI), Leica (LIF, LOF), Nikon (ND2) and Olympus (OIB, OIF) microscopes."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from importlib import import_module
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, ClassVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import FileError
from napari_pristine.image.image import Range, axes_from_names, ranges
from napari_pristine.io.metadata import FileMetadata, number, unit_name
from napari_pristine.io.microscope import MicroscopeFile, Scene
from napari_pristine.io.planes import check_plane_count
from napari_pristine.text import counted

Spacing = tuple[float, str]
_LIF_AXES = {"1": "X", "2": "Y", "3": "Z", "4": "T"}
"""Axes with a spacing by their number in LIF."""


class CziFile(MicroscopeFile):
    """Zeiss CZI, read by libCZI, which also joins the tiles of a mosaic."""

    format_name, suffixes, library, extra = "CZI", (".czi",), "pylibCZIrw.czi", "czi"
    reads_parts = True
    _OUTER: ClassVar = "BVHIRTZC"
    """Letters of the axes other than those of a plane."""
    _TYPES: ClassVar[Mapping[str, str]] = {
        "Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4", "Bgr24": "u1", "Bgr48": "u2", "Bgr96Float": "f4",
    }  # fmt: skip

    def open(self) -> None:
        self._open = ExitStack()
        self._file = self._open.enter_context(import_module(self.library).open_czi(str(self.path)))

    def close(self) -> None:
        if self._file is not None:
            self._open.close()
            self._file = None

    def scenes(self) -> list[Scene]:
        planes: dict[int | None, dict[tuple[int, ...], str]] = {}

        def add(_: int, tile: Any) -> bool:
            place = tile.coordinate.to_dict()
            planes.setdefault(place.get("S"), {})[tuple(place.get(axis, 0) for axis in self._OUTER)] = (
                tile.pixelType.name
            )
            return True

        self._file.enumerate_subblocks_subset(add, only_layer0=True)
        rectangles = sorted(self._file.scenes_bounding_rectangle_no_pyramid.items())
        rectangles = rectangles or [(None, self._file.total_bounding_rectangle_no_pyramid)]
        elements = self._xml().findall(".//Information/Image/Dimensions/S/Scenes/Scene")
        names = {element.get("Index"): element.get("Name") for element in elements}
        return [
            self._scene(names.get(str(number)) or f"scene {number}", number, rectangle, planes[number])
            for number, rectangle in rectangles
        ]

    def _scene(self, name: str, number: int | None, rectangle: Any, types: Mapping[tuple[int, ...], str]) -> Scene:
        """A scene with the given planes, which need not begin at 0, and need not have one type of pixels."""
        found = {*types.values()}
        in_colour = {kind.startswith("Bgr") for kind in found}
        problem = ""
        if not found <= set(self._TYPES) or len(in_colour) > 1:
            problem = (
                f"it has pixels of the type {', '.join(sorted(found))}, which cannot be read; export it as OME-TIFF"
            )
        dtype = np.result_type(*(np.dtype(self._TYPES.get(kind, "u1")) for kind in found))
        samples = (3,) if in_colour == {True} else ()
        places = np.array([*types])
        start, sizes = places.min(0), np.ptp(places, 0) + 1
        check_plane_count(self.path, math.prod(map(float, sizes)))
        present = np.zeros(sizes, bool)
        present[tuple((places - start).T)] = True
        axes = "".join(axis for axis, size in zip(self._OUTER, sizes, strict=True) if size > 1)
        present = present.squeeze()
        return Scene(
            name,
            axes + "YXS"[: 2 + len(samples)],
            (*present.shape, rectangle.h, rectangle.w, *samples),
            dtype,
            2 + len(samples),
            (number, rectangle, dict(zip(self._OUTER, map(int, start), strict=True)), types),
            present,
            problem=problem,
        )

    def metadata(self, scene: Scene) -> FileMetadata:
        root = self._xml()
        spacing: dict[str, Spacing] = {}
        for distance in root.findall(".//Scaling/Items/Distance"):
            metres = number(distance.findtext("Value"))
            if metres > 0:
                spacing[distance.get("Id", "")] = _convert(metres, "meter")
        increment = root.findtext(".//Information/Image/Dimensions/T/Positions/Interval/Increment")
        if (step := number(increment)) > 0:
            spacing["T"] = (step, "second")
        channels = root.findall(".//Information/Image/Dimensions/Channels/Channel")
        shown = root.findall(".//DisplaySetting/Channels/Channel")
        names = {channel.get("Id"): channel.get("Name") for channel in [*shown, *channels] if channel.get("Name")}
        listed = [names.get(channel.get("Id")) for channel in channels or shown]
        first = scene.place[2]["C"]
        size = dict(zip(scene.axes, scene.shape, strict=True)).get("C", 1)
        return FileMetadata(spacing, _names(listed[first:][:size] if len(listed) > size else listed))

    def plane(self, scene: Scene, index: tuple[int, ...]) -> Any:
        return _CziPlane(self._file, scene, index)

    def _xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self._file.raw_metadata or "<ImageDocument/>")


class _CziPlane:
    """One plane of a CZI. Only the rectangle that is indexed is read: mosaics may be larger than the memory."""

    def __init__(self, file: Any, scene: Scene, index: tuple[int, ...]) -> None:
        self._file, (self._number, self._whole, start, types) = file, scene.place
        self._where = start | {axis: start[axis] + at for axis, at in zip(scene.axes, index, strict=False)}
        self._type = types[tuple(self._where.values())]
        self.shape = scene.shape[-scene.plane_ndim :]

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        rows, columns, *samples = ranges(index, self.shape)
        (top, height, y), (left, width, x) = _window(rows), _window(columns)
        part = (self._whole.x + left, self._whole.y + top, width, height)
        values = np.asarray(self._file.read(roi=part, plane=self._where, scene=self._number, pixel_type=self._type))
        # the last axis is always there; colours are stored as blue, green, red
        return values[..., ::-1][(y, x, *index[2:])] if samples else values[y, x, 0]


def _window(selected: Range) -> tuple[int, int, int | slice]:
    """Start and size of the part of an axis that holds a selection, and the selection within it."""
    if isinstance(selected, int):
        return selected, 1, 0
    return selected.start, selected[-1] + 1 - selected.start, slice(None, None, selected.step)


class LifFile(MicroscopeFile):
    """Leica LIF and LOF."""

    format_name, suffixes, library, extra = "LIF", (".lif", ".lof"), "liffile", "lif"

    def open(self) -> None:
        """Open the file; its description, which may be megabytes of XML, is parsed the first time only."""
        if self._file is None:
            self._stream = _ReopenedFile(self.path)
            self._file = import_module(self.library).LifFile(BufferedReader(self._stream))

    def close(self) -> None:
        self._stream.release()

    def scenes(self) -> list[Scene]:
        found = []
        for image in self._file.images:
            if image.is_flim or not {"Y", "X"} <= set(image.dims):  # photons of a lifetime image; lines and points
                continue
            block = image.memory_block
            is_cut_off = block.offset + block.size > self.path.stat().st_size
            inner = image.frames.frame_dims
            dims = [*(dim for dim in image.dims if dim not in inner), *inner]
            shape = tuple(int(image.sizes[dim]) for dim in dims)
            axes, dtype = axes_from_names(dims, guess=True), np.dtype(image.dtype)
            problem = f"it is cut off, and '{image.path}' is incomplete; copy it again from its source"
            found.append(
                Scene(image.path, axes, shape, dtype, len(inner), image, problem=problem if is_cut_off else "")
            )
        return found

    def metadata(self, scene: Scene) -> FileMetadata:
        description = scene.place.xml_element.find("./Data/Image/ImageDescription")
        spacing: dict[str, Spacing] = {}
        for dimension in description.findall("./Dimensions/DimensionDescription"):
            axis = _LIF_AXES.get(dimension.get("DimID"))
            length, count = number(dimension.get("Length")), number(dimension.get("NumberOfElements"))
            if axis and count > 1 and length:
                step, unit = abs(length) / (count - 1), unit_name(dimension.get("Unit", ""))
                spacing[axis] = _convert(step, unit)
        names = []
        for channel in description.findall("./Channels/ChannelDescription"):
            properties = {p.findtext("Key"): p.findtext("Value") for p in channel.findall("ChannelProperty")}
            names.append(properties.get("DyeName") or channel.get("LUTName"))
        return FileMetadata(spacing, _names(names))

    def plane(self, scene: Scene, index: tuple[int, ...]) -> Any:
        return scene.place.frames[index]


class _ReopenedFile(RawIOBase):
    """A file that is opened by each first read after `release`, which closes it."""

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0
        self._file: IO[bytes] | None = None

    def release(self) -> None:
        """Close the file until the next read."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        self.release()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (os.stat(self._path).st_size if origin is None else origin)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._file is None:
            self._file = self._path.open("rb")
        self._file.seek(self._position)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class Nd2File(MicroscopeFile):
    """Nikon ND2; each position of the stage is an image."""

    format_name, suffixes, library, extra = "ND2", (".nd2",), "nd2", "nd2"

    def open(self) -> None:
        if self._file is None:
            self._file = import_module(self.library).ND2File(self.path)
        else:
            self._file.open()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def scenes(self) -> list[Scene]:
        sizes = {dim: int(size) for dim, size in self._file.sizes.items()}
        count = sizes.pop("P", 1)
        inner = [dim for dim in sizes if dim in "CYXS"]
        dims = [*(dim for dim in sizes if dim not in inner), *inner]
        shape = tuple(sizes[dim] for dim in dims)
        loops = [loop for loop in self._file.experiment if loop.type == "XYPosLoop"]
        names = [point.name for loop in loops for point in loop.parameters.points] + [""] * count
        axes, dtype = axes_from_names(dims, guess=True), self._file.dtype
        present = self._present()
        return [Scene(names[n] or f"position {n}", axes, shape, dtype, len(inner), n, present[n]) for n in range(count)]

    def _present(self) -> NDArray[np.bool_]:
        """For each position, and each plane of it, whether it is in the file; nd2 reads zeros in place of others."""
        outer = {dim: size for dim, size in self._file.sizes.items() if dim not in "CYXS"}
        count = math.prod(outer.values())
        check_plane_count(self.path, count)
        offsets = getattr(self._file._rdr, "_frame_offsets", dict.fromkeys(range(count), 0))
        attributes = self._file.attributes
        is_raw = attributes.compressionType is None
        end = self.path.stat().st_size - (attributes.heightPx * (attributes.widthBytes or 0) if is_raw else 0)
        found = np.array([n in offsets and offsets[n] <= end for n in range(count)]).reshape([*outer.values()])
        return np.moveaxis(found, [*outer].index("P"), 0) if "P" in outer else found[None]

    def metadata(self, scene: Scene) -> FileMetadata:
        channels = self._file.metadata.channels or []
        spacing: dict[str, Spacing] = {}
        for channel in channels[:1]:
            stated = zip("XYZ", channel.volume.axesCalibration, channel.volume.axesCalibrated, strict=True)
            spacing = {axis: (float(um), "micrometer") for axis, um, calibrated in stated if calibrated}
        for loop in self._file.experiment:
            periods = {"TimeLoop": [loop.parameters]}.get(loop.type) or getattr(loop.parameters, "periods", [])
            steps = [getattr(period.periodDiff, "avg", 0) or period.periodMs for period in periods]
            if steps and max(steps) < 1.1 * min(steps):  # else there is no single frame rate
                spacing["T"] = (float(np.mean(steps)) / 1000, "second")
        return FileMetadata(spacing, _names(channel.channel.name for channel in channels))

    def plane(self, scene: Scene, index: tuple[int, ...]) -> Any:
        places, sizes = iter(index), self._file.sizes
        outer = [dim for dim in sizes if dim not in "CYXS"]
        where = [scene.place if dim == "P" else next(places) for dim in outer]
        frame = int(np.ravel_multi_index(where, [sizes[dim] for dim in outer])) if outer else 0
        return self._file.read_frame(frame).reshape(scene.shape[-scene.plane_ndim :])


class OlympusFile(MicroscopeFile):
    """Olympus OIB, and OIF with its folder of TIFF files."""

    format_name, suffixes, library, extra = "OIF", (".oib", ".oif"), "oiffile", "olympus"

    @property
    def files(self) -> tuple[str, ...]:
        planes = f"{self.path.name}.files"
        return (*super().files, *([planes] if self.path.with_name(planes).is_dir() else []))

    def open(self) -> None:
        self._file = import_module(self.library).OifFile(self.path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def scenes(self) -> list[Scene]:
        """The planes are TIFF files with their numbers in their names, such as `s_C001Z002.tif`."""
        found = [re.search(r"_((?:[A-Z]\d+)*)\.tif$", name) for name in self._file.glob("*.tif")]
        planes = {match.string: re.findall(r"([A-Z])(\d+)", match[1]) for match in found if match}
        if not planes:
            raise FileError(f"'{self.path}' has no planes; an .oif file needs the folder '{self.path.name}.files'")
        letters = [letter for letter, _ in next(iter(planes.values()))]
        numbers = {name: tuple(int(number) for _, number in plane) for name, plane in planes.items()}
        along = [sorted(set(column)) for column in zip(*numbers.values(), strict=True)]
        names = {tuple(map(list.index, along, place)): name for name, place in numbers.items()}
        counts = [len(column) for column in along]
        if len(names) != math.prod(counts):
            missing = math.prod(counts) - len(names)
            raise FileError(
                f"'{self.path}' lacks {missing} of its {counted(math.prod(counts), 'plane')}; copy all of it again"
            )
        first = self._file.asarray(min(names.values()))
        axes = axes_from_names([*letters, *"YXS"[: first.ndim]], guess=True)
        return [Scene("", axes, (*counts, *first.shape), first.dtype, first.ndim, names)]

    def metadata(self, scene: Scene) -> FileMetadata:
        settings = self._file.mainfile
        spacing: dict[str, Spacing] = {}
        for axis in (settings[key] for key in settings if re.fullmatch(r"Axis \d+ Parameters Common", key)):
            count, unit = number(axis.get("MaxSize")), unit_name(str(axis.get("PixUnit", "")))
            span = abs(number(axis.get("EndPosition")) - number(axis.get("StartPosition")))
            step = number(axis.get("Interval")) or (span / (count - 1) if count > 1 else 0.0)
            if count > 1 and step > 0:
                spacing[str(axis.get("AxisCode"))] = _convert(step, unit)
        channels = [settings[key] for key in settings if re.fullmatch(r"Channel \d+ Parameters", key)]
        dyes = [(str(channel.get("DyeName", "")), str(channel.get("CH Name", ""))) for channel in channels]
        return FileMetadata(spacing, _names(dye if dye not in ("", "None") else channel for dye, channel in dyes))

    def plane(self, scene: Scene, index: tuple[int, ...]) -> Any:
        return self._file.asarray(scene.place[index])


KINDS: tuple[type[MicroscopeFile], ...] = (CziFile, LifFile, Nd2File, OlympusFile)


def _convert(step: float, unit: str) -> Spacing:
    """Spacing in micrometres or seconds instead of metres, nanometres or milliseconds."""
    factor, name = {
        "meter": (1e6, "micrometer"), "nanometer": (1e-3, "micrometer"), "millisecond": (1e-3, "second"),
    }.get(unit, (1.0, unit))  # fmt: skip
    return float(f"{step * factor:.10g}"), name


def _names(names: Iterable[str | None]) -> tuple[str, ...]:
    """Names of the channels, if all of them have one."""
    found = tuple(name or "" for name in names)
    return found if all(found) else ()
