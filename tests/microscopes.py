"""Write small files in the formats of microscopes.

No program for these is at hand but Zeiss' own library for CZI. LIF, ND2 and OIF are put together here, in as much of
each format as its reader asks for.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray


def write_czi(
    path: Path,
    scenes: Sequence[NDArray[Any]],
    axes: str = "TZCYX",
    pixel: float = 0.1e-6,
    depth: float = 0.5e-6,
    channels: Sequence[str] = (),
) -> None:
    """Write one scene per array; `axes` end in `YX`, or `YXS` for colours."""
    from pylibCZIrw import czi

    left = 0
    with czi.create_czi(str(path), exist_ok=True) as file:
        for number, values in enumerate(scenes):
            outer = axes.removesuffix("S")[:-2]
            for index in np.ndindex(values.shape[: len(outer)]):
                plane = values[index]
                plane = plane[..., ::-1] if axes.endswith("S") else plane[..., None]
                file.write(
                    np.ascontiguousarray(plane),
                    plane=dict(zip(outer, index, strict=True)),
                    location=(left, 0),
                    scene=number,
                )
            left += values.shape[len(outer) + 1] + 10
        file.write_metadata(
            document_name=path.stem,
            channel_names=dict(enumerate(channels)),
            scale_x=pixel,
            scale_y=pixel,
            scale_z=depth,
        )


_LIF_DIMENSIONS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "M": 10}


def write_lif(
    path: Path, images: Sequence[tuple[str, str, NDArray[Any]]], luts: Sequence[str] = ("Green", "Red", "Blue")
) -> None:
    """Write images as (name, axes, values): pixels of 0.1 µm, planes 0.5 µm apart, 2 s from frame to frame.

    A file with the suffix `.lof` holds one image, and its description comes last.
    """
    elements = []
    for number, (name, axes, values) in enumerate(images):
        values = np.ascontiguousarray(values)
        strides = dict(zip(axes, values.strides, strict=True))
        sizes = dict(zip(axes, values.shape, strict=True))
        steps = {"X": (1e-7, "m"), "Y": (1e-7, "m"), "Z": (5e-7, "m"), "T": (2.0, "s"), "M": (1.0, "")}
        dimensions = "".join(
            f'<DimensionDescription DimID="{_LIF_DIMENSIONS[axis]}" NumberOfElements="{sizes[axis]}" Origin="0" '
            f'Length="{steps[axis][0] * (sizes[axis] - 1)!r}" Unit="{steps[axis][1]}" BitInc="0" '
            f'BytesInc="{strides[axis]}"/>'
            for axis in reversed(axes)
            if axis != "C"
        )
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{8 * values.itemsize}" '
            f'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="{luts[c]}" IsLUTInverted="0" '
            f'BytesInc="{c * strides.get("C", 0)}" BitInc="0"/>'
            for c in range(sizes.get("C", 1))
        )
        elements.append(
            f'<Element Name="{name}" UniqueID="{number}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
            f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f'<Memory Size="{values.nbytes}" MemoryBlockID="MemBlock_{number}"/><Children/></Element>'
        )
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="experiment"><Data><Experiment/></Data>'
        f'<Memory Size="0" MemoryBlockID="MemBlock_none"/><Children>{"".join(elements)}</Children></Element>'
        "</LMSDataContainerHeader>"
    )
    if path.suffix == ".lof":
        xml = f'<LMSDataContainerHeader Version="2">{elements[0]}</LMSDataContainerHeader>'
        kind, data = "LMS_Object_File", np.ascontiguousarray(images[0][2]).tobytes()
        head = struct.pack("<IIBI", 0x70, 2 * len(kind) + 5, 0x2A, len(kind)) + kind.encode("utf-16-le")
        head += struct.pack("<BIBIBQ", 0x2A, 2, 0x2A, 1, 0x2A, len(data))
        tail = struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)) + xml.encode("utf-16-le")
        path.write_bytes(head + data + tail)
        return
    with path.open("wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)) + xml.encode("utf-16-le"))
        for number, (_, _, values) in enumerate(images):
            name = f"MemBlock_{number}"
            data = np.ascontiguousarray(values).tobytes()
            file.write(struct.pack("<II", 0x70, 2 * len(name) + 14))
            file.write(struct.pack("<BQBI", 0x2A, len(data), 0x2A, len(name)) + name.encode("utf-16-le") + data)


def write_nd2(path: Path, values: NDArray[Any], axes: str, channels: Sequence[str] = (), *, pixel: float = 0.1) -> None:
    """Write values with axes such as `TPZCYX` and pixels of 0.1 µm, planes 0.5 µm apart, 2 s from frame to frame."""
    sizes = dict(zip(axes, values.shape, strict=True))
    count = sizes.get("C", 1)
    names = list(channels) or [f"channel {n}" for n in range(count)]
    height, width, samples = sizes["Y"], sizes["X"], sizes.get("S", 1)
    loops = [_nd2_loop(axis, sizes[axis]) for axis in axes if axis in "TPZ"]
    planes = {
        f"a{n}": {
            "sDescription": name, "uiCompCount": samples, "uiColor": 255, "uiModalityMask": 1,
            "pFluorescentProbe": {"m_ExcitationSpectrum": {"pPoint": {"Point0": {"eType": 1, "dWavelength": 488.0}}}},
        }
        for n, name in enumerate(names)
    }  # fmt: skip
    chunks = {
        "ImageAttributes!": {
            "SLxImageAttributes": {
                "uiWidth": width, "uiWidthBytes": width * count * samples * values.itemsize, "uiHeight": height,
                "uiComp": count * samples, "uiBpcInMemory": 8 * values.itemsize,
                "uiBpcSignificant": 8 * values.itemsize, "uiSequenceCount": int(np.prod([loop["n"] for loop in loops])),
                "eCompression": 2, "dCompressionParam": 0.0, "uiTileWidth": width, "uiTileHeight": height,
                "uiVirtualComponents": count * samples,
            }
        },
        "ImageMetadataSeq|0!": {
            "SLxPictureMetadata": {
                "bCalibrated": pixel > 0, "dCalibration": pixel, "dZStep": 0.5, "ePictureXAxis": 1, "ePictureYAxis": 1,
                "sPicturePlanes": {"uiCount": count, "uiSampleCount": count, "sPlaneNew": planes},
            }
        },
    }  # fmt: skip
    nested: dict[str, Any] = {}
    for level, loop in enumerate(reversed(loops)):
        inner = {"uiNextLevelCount": 1, "ppNextLevelEx": {"i0000000000": nested}} if nested else {}
        nested = {"eType": loop["type"], "uiLevel": len(loops) - 1 - level, "uLoopPars": loop["pars"], **inner}
    if nested:
        chunks["ImageMetadata!"] = {"SLxExperiment": nested}

    with path.open("wb") as file:
        places: dict[str, tuple[int, int]] = {}

        def write_chunk(name: str, data: bytes, *, header: int | None = None) -> None:
            header = len(name) if header is None else header
            places[name] = file.tell(), len(data)
            file.write(struct.pack("<IIQ", 0x0ABECEDA, header, len(data)) + name.encode().ljust(header, b"\0") + data)

        write_chunk("ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.0".ljust(64, b"\0"))
        for name, content in chunks.items():
            write_chunk(name, b"<variant>" + "".join(_nd2_xml(content)).encode() + b"</variant>")
        inner_axes = [axis for axis in axes if axis in "CYXS"]
        frames = values.reshape(-1, *(sizes[axis] for axis in inner_axes))
        if "C" in inner_axes:
            frames = np.moveaxis(frames, 1 + inner_axes.index("C"), 3)
        for number, frame in enumerate(frames):
            # the values begin 24 + 4072 bytes after the chunk, 8 of them a time
            write_chunk(f"ImageDataSeq|{number}!", bytes(8) + np.ascontiguousarray(frame).tobytes(), header=4072)
        start = file.tell()
        table = b"".join(name.encode() + struct.pack("<QQ", *place) for name, place in places.items())
        table += b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", start)
        write_chunk("ND2 FILEMAP SIGNATURE NAME 0001!", table)
        file.write(b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", start))


def _nd2_loop(axis: str, count: int) -> dict[str, Any]:
    if axis == "T":
        period = {"dAvgPeriodDiff": 2000.0, "dMaxPeriodDiff": 2000.0, "dMinPeriodDiff": 2000.0}
        return {
            "n": count,
            "type": 1,
            "pars": {"uiCount": count, "dStart": 0.0, "dPeriod": 2000.0, "dDuration": 0.0, **period},
        }
    if axis == "Z":
        return {
            "n": count,
            "type": 4,
            "pars": {
                "uiCount": count,
                "dZStep": 0.5,
                "dZHome": 0.0,
                "bZInverted": False,
                "dZLow": 0.0,
                "dZHigh": 0.5 * (count - 1),
            },
        }
    points = {
        f"i{n:010}": {"dPosX": 10.0 * n, "dPosY": 0.0, "dPosZ": 0.0, "dPFSOffset": 0.0, "dPosName": f"well {n}"}
        for n in range(count)
    }  # fmt: skip
    return {"n": count, "type": 2, "pars": {"uiCount": count, "bUseZ": False, "Points": points}}


def _nd2_xml(values: dict[str, Any]) -> list[str]:
    kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f'<{name} runtype="CLxListVariant">', *_nd2_xml(value), f"</{name}>"]
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            lines.append(f'<{name} runtype="{kinds[type(value)]}" value="{text}"/>')
    return lines


def write_oif(path: Path, values: NDArray[Any], axes: str, dyes: Sequence[str] = ()) -> None:
    """Write planes as TIFF files in the folder beside `path`: pixels of 0.1 µm, planes 500 nm, frames 2000 ms apart."""
    folder = path.with_name(f"{path.name}.files")
    folder.mkdir()
    outer = axes[:-2]
    for index in itertools.product(*map(range, values.shape[: len(outer)])):
        place = "".join(f"{axis}{n + 1:03}" for axis, n in zip(outer, index, strict=True))
        tifffile.imwrite(folder / f"s_{place}.tif", values[index])
    sizes = dict(zip(axes, values.shape, strict=True))
    lines = ["[Axis Parameter Common]", f'AxisOrder="{axes[::-1]}"', f"AxisCount={len(axes)}", "[ProfileSaveInfo]"]
    lines += [f'Name="{path.name}"', 'Version="1.0.0.0"']
    steps = {"X": ("um", 0.1, 0), "Y": ("um", 0.1, 0), "C": ("Ch", 1, 0), "Z": ("nm", 500, 500), "T": ("ms", 2000, 0)}
    for number, (axis, (unit, step, interval)) in enumerate(steps.items()):
        count = sizes.get(axis, 0)
        lines += [
            f"[Axis {number} Parameters Common]", f'AxisCode="{axis}"', f"MaxSize={count}", f'PixUnit="{unit}"',
            "StartPosition=0.0", f"EndPosition={step * max(count - 1, 0)!r}", f"Interval={interval}",
        ]  # fmt: skip
    for number in range(sizes.get("C", 1)):
        dye = dyes[number] if dyes else "None"
        lines += [f"[Channel {number + 1} Parameters]", f'CH Name="CH{number + 1}"', f'DyeName="{dye}"']
    path.write_text("\r\n".join(lines) + "\r\n", "utf-16")


def write_ndtiff(path: Path, planes: NDArray[Any], other: str = "", last: int | None = None) -> None:
    """Write 16-bit planes along time as Micro-Manager's NDTiff, with its index.

    Args:
        path: The file.
        planes: Its planes.
        other: Name of the file that the index states for the last plane.
        last: Time that it states for the last plane.
    """
    text = json.dumps({"PixelType": "GRAY16"}).encode()
    count, height, width = planes.shape
    data = np.ascontiguousarray(planes, "<u2").tobytes()
    start = 28 + len(text)
    end = start + len(data)
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, start),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data) // count), (51123, 2, 8, end + 126),
    ]  # fmt: skip
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    ifd += b'{"a":1}\0'
    head = b"II*\0" + struct.pack("<IIIIII", end, 483729, 3, 0, 2355492, len(text))
    path.write_bytes(head + text + data + ifd)
    index = b""
    for number in range(count):
        is_last = number == count - 1
        place = json.dumps({"time": last if is_last and last is not None else number}).encode()
        name = (other if is_last and other else path.name).encode()
        offset = start + number * len(data) // count
        index += struct.pack("<I", len(place)) + place + struct.pack("<I", len(name)) + name
        index += struct.pack("<IiiiiIii", offset, width, height, 1, 0, 0, 0, 0)
    path.with_name("NDTiff.index").write_bytes(index)


def write_stk(path: Path, values: NDArray[Any], axis: str = "Z", wavelength: int = 525) -> None:
    """Write a MetaMorph stack along `Z` (0.5 µm apart) or `T` (2 s apart) with pixels of 0.25 µm."""
    count = len(values)
    unit = b"um\0"
    tags = struct.pack("<HI", 3, 1) + struct.pack("<HII", 4, 1, 4) + struct.pack("<HII", 5, 1, 4)
    tags += struct.pack("<HI", 6, len(unit)) + unit + struct.pack("<H", 0)
    tags = tags.ljust(-(-len(tags) // 4) * 4, b"\0")
    planes: list[int] = []
    for number in range(count):
        distance = (1, 2) if axis == "Z" else (0, 1)
        time = 36_000_000 + (2000 * number if axis == "T" else 0)
        planes += [*distance, 2_455_000, time, 2_455_000, time]
    tifffile.imwrite(
        path,
        values,
        truncate=True,
        photometric="minisblack",
        metadata=None,
        software=None,
        byteorder="<",
        extratags=[
            (33628, 4, 2, (3, 1), True),
            (33629, 5, 3 * count, planes, True),
            (33630, 5, count, [wavelength, 1] * count, True),
            (33631, 4, len(tags) // 4, struct.unpack(f"<{len(tags) // 4}I", tags), True),
        ],
    )
    data = path.read_bytes()  # a plane has three rational numbers, and counts as one
    path.write_bytes(data.replace(struct.pack("<HHI", 33629, 5, 3 * count), struct.pack("<HHI", 33629, 5, count)))


def write_lsm(path: Path, values: NDArray[Any], channels: Sequence[str]) -> None:
    """Write `TZCYX` as Zeiss LSM: pixels of 0.1 µm, planes 0.5 µm apart, 2 s from frame to frame."""
    frames, depth, colours, height, width = values.shape
    info = np.zeros(1, tifffile.TIFF.CZ_LSMINFO)
    stated = {
        "MagicNumber": 67127628, "StructureSize": info.nbytes, "DimensionX": width, "DimensionY": height,
        "DimensionZ": depth, "DimensionChannels": colours, "DimensionTime": frames, "VoxelSizeX": 1e-7,
        "VoxelSizeY": 1e-7, "VoxelSizeZ": 5e-7, "ScanType": 6, "TimeIntervall": 2.0, "OffsetChannelColors": 0xABCDEF,
    }  # fmt: skip
    for key, value in stated.items():
        info[key] = value
    with tifffile.TiffWriter(path, byteorder="<") as tif:
        for number, planes in enumerate(values.reshape(-1, colours, height, width)):
            first = [(34412, 1, info.nbytes, info.tobytes(), True)] if number == 0 else []
            options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "separate", "metadata": None}
            tif.write(planes, extratags=first, software=False, **options)
            tif.write(np.zeros((colours, 8, 8), np.uint8), subfiletype=1, software=False, **options)
    names = b"".join(struct.pack("<I", len(name) + 1) + name.encode() + b"\0" for name in channels)
    size = 24 + 4 * colours + len(names)
    record = struct.pack("<IIIIII", size, colours, colours, 24, 24 + 4 * colours, 0) + bytes(4 * colours) + names
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 0xABCDEF), struct.pack("<I", len(data)), 1) + record)
