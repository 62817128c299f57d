"""Files: metadata survive, errors are clear, and a file is written completely or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from ome_types import from_xml, validate_xml

import napari_pristine
from napari_pristine.errors import AxesError, FileError
from napari_pristine.image.image import AxisValues, Image
from napari_pristine.io import registry
from napari_pristine.io.atomic import atomic_write, write_json
from napari_pristine.io.metadata import unit_name
from napari_pristine.io.registry import read, write

LENGTHS = ("nanometer", "micrometer", "millimeter", "meter")
TIMES = ("millisecond", "second", "minute", "hour")
UM, PX, S = "micrometer", "pixel", "second"
GOLGI = "neubias/xyt_calibrated_16bit__golgi_bfa_sum_projection.tif"
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@st.composite
def images(draw: st.DrawFn, letters: str = "TZC", dtypes: tuple[str, ...] = (), colour: bool = True) -> Image:
    """Images with axes in any order, any spacing, and names for their channels."""
    extra = draw(st.lists(st.sampled_from(letters), unique=True, max_size=4))
    extra += ["S"] if colour and draw(st.booleans()) else []
    axes = "".join(draw(st.permutations([*extra, "Y", "X"])))
    shape = tuple(draw(st.integers(3, 4) if axis == "S" else st.integers(2, 5)) for axis in axes)
    dtype = draw(st.sampled_from(dtypes))
    data = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    known = dict.fromkeys("ZYX", LENGTHS) | {"T": TIMES}
    sizes = [draw(st.floats(1e-3, 1e3)) if axis in known else 1.0 for axis in axes]
    units = [draw(st.sampled_from(known[axis])) if axis in known else "pixel" for axis in axes]
    count = shape[axes.index("C")] if "C" in axes else 0
    channels = tuple(draw(st.lists(NAMES, min_size=count, max_size=count, unique=True)))
    return Image(data, axes, tuple(sizes), tuple(units), name=draw(NAMES), channels=channels)


def image_index(ranges: dict[str, str]) -> tuple[slice, slice]:
    """Index along T and C."""
    parts = [[int(part) for part in ranges[axis].split(":")] if axis in ranges else [0, 9] for axis in "TC"]
    first, second = (slice(part[0], part[1] if len(part) > 1 else part[0] + 1) for part in parts)
    return first, second


def assert_same(found: Image, image: Image, exactly: bool = True) -> None:
    """Check that images are the same, apart from the order of its axes and (in ImageJ) rounding of its pixel size."""
    order = [found.axes.index(axis) for axis in image.axes]
    assert sorted(found.axes) == sorted(image.axes)
    assert found.dtype == image.dtype
    np.testing.assert_array_equal(found.data.transpose(order), image.data)
    np.testing.assert_allclose([found.scale[i] for i in order], image.scale, rtol=0 if exactly else 1e-6)
    assert tuple(found.units[i] for i in order) == image.units
    assert found.channels == image.channels


class TestRoundTrip:
    @settings(max_examples=40, deadline=None)
    @given(images(dtypes=("uint8", "uint16", "uint32", "int16", "float32", "float64")))
    def test_ome(self, folder: Path, image: Image) -> None:
        path = folder / "image.ome.tif"
        write(path, image, provenance={"method": "inr", "note": "a < b & µ {}"}, overwrite=True)
        found = read(path)
        assert_same(found, image)
        assert found.metadata == {"format": "ome", "pristine": {"method": "inr", "note": "a < b & µ {}"}}
        with tifffile.TiffFile(path) as tif:
            assert tif.is_ome
            assert tif.series[0].axes == found.axes

    @settings(max_examples=40, deadline=None)
    @given(images(dtypes=("uint8", "uint16", "float32"), colour=False))
    def test_imagej(self, folder: Path, image: Image) -> None:
        path = folder / "imagej.tif"
        write(path, Image(**vars(image) | {"metadata": {"format": "imagej"}}), provenance={"a": 1}, overwrite=True)
        found = read(path)
        assert_same(found, image, exactly=False)
        assert found.metadata["format"] == "imagej"
        assert found.metadata["pristine"] == {"a": 1}
        assert found.axes == "".join(axis for axis in "TZCYX" if axis in image.axes)

    @settings(max_examples=40, deadline=None)
    @given(images(letters="TZCQRPI", dtypes=("float16", "int64", "uint64")))
    def test_plain_tiff_for_types_and_axes_beyond_ome(self, folder: Path, image: Image) -> None:
        path = folder / "plain.tif"
        write(path, image, provenance={"a": 1}, overwrite=True)
        found = read(path)
        assert_same(found, image)
        assert found.metadata == {"format": "tiff", "pristine": {"a": 1}}

    @pytest.mark.parametrize("imagej", [False, True])
    def test_axes_beyond_ome(self, tmp_path: Path, imagej: bool) -> None:
        image = Image(np.zeros((2, 3, 4, 5), np.uint8), "RYQX", metadata={"format": "imagej"} if imagej else {})
        write(tmp_path / "x.tif", image)
        assert_same(read(tmp_path / "x.tif"), image)

    def test_colour_of_8_bits_stays_imagej(self, tmp_path: Path) -> None:
        for dtype, expected in ((np.uint8, "imagej"), (np.uint16, "ome")):
            image = Image(np.ones((4, 5, 3), dtype), "YXS", metadata={"format": "imagej"})
            write(tmp_path / "x.tif", image, overwrite=True)
            assert_same(read(tmp_path / "x.tif"), image)
            assert read(tmp_path / "x.tif").metadata["format"] == expected

    @pytest.mark.parametrize("suffix", [".btf", ".tf8"])
    def test_big_tiff(self, tmp_path: Path, suffix: str) -> None:
        image = Image(np.ones((4, 5), np.uint16), "YX", metadata={"format": "imagej"})
        write(tmp_path / f"x{suffix}", image)
        assert_same(read(tmp_path / f"x{suffix}"), image)
        with tifffile.TiffFile(tmp_path / f"x{suffix}") as tif:
            assert tif.is_bigtiff

    @pytest.mark.parametrize(("axes", "dtype"), [("YX", "uint8"), ("XY", "uint16"), ("YXS", "uint8"), ("SYX", "uint8")])
    def test_png(self, tmp_path: Path, axes: str, dtype: str) -> None:
        shape = tuple({"Y": 20, "X": 30, "S": 3}[axis] for axis in axes)
        image = Image(np.random.default_rng(0).integers(0, 256, shape).astype(dtype), axes)
        write(tmp_path / "x.png", image, provenance={"a": [1, "µ"]})
        assert_same(read(tmp_path / "x.png"), image)
        assert read(tmp_path / "x.png").metadata == {"format": "picture", "pristine": {"a": [1, "µ"]}}

    def test_a_lazy_array_is_written(self, tmp_path: Path) -> None:
        values = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)

        class Lazy:
            shape, dtype, ndim = values.shape, values.dtype, values.ndim

            def __getitem__(self, index: Any) -> np.ndarray:
                return values[index]

        write(tmp_path / "x.tif", Image(Lazy(), "TYX"))
        np.testing.assert_array_equal(read(tmp_path / "x.tif").data, values)

    def test_a_spacing_that_no_file_can_hold_does_not_stop_writing(self, tmp_path: Path) -> None:
        for scale in ((0.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0), (1e-30, 1e-30), (1e30, 1.0)):
            for metadata in ({}, {"format": "imagej"}):
                image = Image(np.ones((4, 5), np.uint8), "YX", scale, ("meter",) * 2, metadata=metadata)
                write(tmp_path / "x.tif", image, overwrite=True)
                np.testing.assert_array_equal(read(tmp_path / "x.tif").data, image.data)


class TestImageJ:
    """Fiji shows the result as it shows the original."""

    LUTS = tuple(np.full((3, 256), value, np.uint8) for value in (10, 20))

    def original(self, path: Path) -> Path:
        metadata = {
            "axes": "TCYX", "unit": "\\u00B5m", "finterval": 250.0, "tunit": "ms",
            "mode": "composite", "LUTs": list(self.LUTS), "Ranges": (0.0, 9.0, 0.0, 5.0),
            "Labels": ["GFP", "DAPI"] * 3, "Info": "Objective = 63x\nNA = 1.4",
        }  # fmt: skip
        data = np.arange(3 * 2 * 8 * 9, dtype=np.uint16).reshape(3, 2, 8, 9)
        tifffile.imwrite(path, data, imagej=True, resolution=(10, 5), metadata=metadata)
        return path

    def test_everything_is_read(self, tmp_path: Path) -> None:
        image = read(self.original(tmp_path / "a.b.tif"))
        assert (image.axes, image.name, image.channels) == ("TCYX", "a.b", ("GFP", "DAPI"))
        assert image.scale == (250.0, 1.0, 0.2, 0.1)
        assert image.units == ("millisecond", "pixel", "micrometer", "micrometer")

    def test_display_settings_and_info_survive_two_round_trips(self, tmp_path: Path) -> None:
        path = self.original(tmp_path / "x.tif")
        for round_ in (1, 2):
            write(path, read(path), provenance={"round": round_}, overwrite=True)
        with tifffile.TiffFile(path) as tif:
            stated = tif.imagej_metadata
        assert stated is not None
        assert stated["Info"] == '{"pristine": {"round": 2}}\nObjective = 63x\nNA = 1.4'
        assert (stated["mode"], stated["Ranges"]) == ("composite", (0.0, 9.0, 0.0, 5.0))
        np.testing.assert_array_equal(stated["LUTs"], self.LUTS)

    def test_what_belongs_to_a_channel_or_plane_is_selected_with_it(self, tmp_path: Path) -> None:
        image = read(self.original(tmp_path / "x.tif")).select({"C": "1", "T": "1:3"})
        stated = self.rewritten(tmp_path, image)
        np.testing.assert_array_equal(stated["LUTs"], self.LUTS[1])
        assert (stated["Ranges"], stated["Labels"]) == ((0.0, 5.0), ["DAPI"] * 2)
        assert registry.loss(tmp_path / "y.tif", image) == ""

    def rewritten(self, folder: Path, image: Image) -> dict[str, Any]:
        """What ImageJ reads of the image after it is written."""
        write(folder / "y.tif", image, overwrite=True)
        with tifffile.TiffFile(folder / "y.tif") as tif:
            return tif.imagej_metadata or {}

    @pytest.mark.parametrize(
        "function",
        [
            {"c0": -32768.0, "c1": 1.0, "vunit": "Gray Value"},  # 16 bits with a sign
            {"cf": 0, "c0": 1.5, "c1": -0.25, "vunit": "mV"},
            {"cf": 20, "c0": 1.0, "c1": 2.0, "c2": 3.0, "vunit": "OD"},
            {"cf": 3, "c0": 0.5, "c1": 2.0, "c2": 3.0, "c3": 4.0, "vunit": "Conc"},
        ],
    )
    def test_calibrated_values(self, tmp_path: Path, function: dict[str, Any]) -> None:
        data = np.arange(72, dtype=np.uint16).reshape(8, 9)
        text = "".join(f"{key}={value}\n" for key, value in function.items())
        tifffile.imwrite(tmp_path / "x.tif", data, description=f"ImageJ=1.53t\n{text}", metadata=None)
        image = read(tmp_path / "x.tif")
        np.testing.assert_array_equal(image.data, data)
        stated = self.rewritten(tmp_path, image)
        assert {key: stated.get(key) for key in function} == function
        assert "lacks the calibration of values" in registry.loss(tmp_path / "y.ome.tif", image)

    MARKS: ClassVar[dict[str, Any]] = {
        "ROI": b"Iout1", "Overlays": [b"Iout2", b"Iout3"], "Labels": ["top", "middle", "bottom"], "Info": "a\nb",
        "Ranges": (3.0, 90.0), "Properties": {"a": "b"}, "min": 3.0, "max": 90.0,
    }  # fmt: skip

    def marked(self, path: Path) -> Image:
        """A stack of one channel with everything that ImageJ can put on it."""
        metadata = {"axes": "ZYX", "LUTs": [self.LUTS[0]], **self.MARKS}
        tifffile.imwrite(path, np.zeros((3, 8, 9), np.uint16), imagej=True, metadata=metadata)
        return read(path)

    def test_marks_survive(self, tmp_path: Path) -> None:
        image = self.marked(tmp_path / "x.tif")
        stated = self.rewritten(tmp_path, image)
        assert {key: stated[key] for key in self.MARKS} == self.MARKS
        np.testing.assert_array_equal(stated["LUTs"], self.LUTS[0])
        assert registry.loss(tmp_path / "y.tif", image) == ""

    def test_marks_of_other_planes_are_dropped_with_a_word(self, tmp_path: Path) -> None:
        image = self.marked(tmp_path / "x.tif").select({"Z": "1:3"})
        stated = self.rewritten(tmp_path, image)
        assert stated["Labels"] == ["middle", "bottom"]
        assert not {"ROI", "Overlays"} & stated.keys()
        assert registry.loss(tmp_path / "y.tif", image).endswith("; it lacks the ROI, the overlay")

    @pytest.mark.parametrize("name", ["y.ome.tif", "y.btf", "y.ome.zarr"])
    def test_marks_that_another_format_lacks_are_named_once(self, tmp_path: Path, name: str) -> None:
        assert registry.loss(tmp_path / name, self.marked(tmp_path / "x.tif")) == (
            "the result cannot hold all metadata of the file; it lacks the display range, the ROI, the overlay, the "
            "info text, the properties, the labels of slices, the colours (LUTs) of channels, the display ranges of "
            "channels"
        )

    def test_an_ome_suffix_makes_it_ome(self, tmp_path: Path) -> None:
        image = read(self.original(tmp_path / "x.tif"))
        write(tmp_path / "x.ome.tif", image)
        assert_same(read(tmp_path / "x.ome.tif"), image)
        assert read(tmp_path / "x.ome.tif").metadata == {"format": "ome"}

    def test_negative_slice_distance(self, tmp_path: Path) -> None:
        metadata = {"axes": "ZYX", "unit": "micron", "spacing": -0.5, "zunit": "nm"}
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((2, 8, 9), np.uint8), imagej=True, metadata=metadata)
        image = read(tmp_path / "x.tif")
        assert (image.scale[0], image.units[0]) == (0.5, "nanometer")

    def test_labels_of_slices_name_no_channels(self, tmp_path: Path) -> None:
        data = np.zeros((2, 2, 8, 9), np.uint8)
        metadata = {"axes": "ZCYX", "Labels": ["c1 z1", "c2 z1", "c1 z2", "c2 z2"]}
        tifffile.imwrite(tmp_path / "x.tif", data, imagej=True, metadata=metadata)
        assert read(tmp_path / "x.tif").channels == ()

    def test_a_resolution_without_a_unit_is_ignored(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 9), np.uint8), imagej=True, resolution=(72, 72))
        assert read(tmp_path / "x.tif").scale == (1.0, 1.0)

    def test_big_endian_values_get_native_byte_order(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.arange(20, dtype=">u2").reshape(4, 5), byteorder=">", imagej=True)
        image = read(tmp_path / "x.tif")
        assert image.data.dtype.isnative
        assert image.data.max() == 19


class TestOme:
    XML = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="9" SizeY="8" SizeC="1" SizeZ="1" SizeT="{}" '
        'PhysicalSizeX="0.25" PhysicalSizeY="250" PhysicalSizeYUnit="nm"><Channel ID="Channel:0:0" Name="GFP" '
        'SamplesPerPixel="1"/><TiffData/><Plane TheC="0" TheZ="0" TheT="0" DeltaT="1"/><Plane TheC="0" TheZ="0" '
        'TheT="1" DeltaT="3.5"/><Plane TheC="0" TheZ="0" TheT="2" DeltaT="5"/></Pixels></Image></OME>'
    )

    def file(self, path: Path, times: int) -> Path:
        data = np.zeros((3, 8, 9), np.uint8)
        tifffile.imwrite(path, data, metadata=None, description=self.XML.format(times), photometric="minisblack")
        return path

    def test_default_units_and_times_of_planes(self, tmp_path: Path) -> None:
        image = read(self.file(tmp_path / "x.ome.tif", 3))
        assert (image.axes, image.name, image.channels) == ("TYX", "x", ("GFP",))
        assert image.scale == (2.0, 250.0, 0.25)
        assert image.units == ("second", "nanometer", "micrometer")

    def test_planes_that_are_there_are_read(self, tmp_path: Path) -> None:
        image = read(self.file(tmp_path / "x.ome.tif", 5))
        assert (image.shape, image.notes) == (
            (3, 8, 9), ("its OME-XML states 5 planes, but it holds 3, which are read in order as T 3",)
        )  # fmt: skip

    CHANNEL: ClassVar[dict[str, Any]] = {
        "Name": ["GFP", "RFP"], "Color": [16711935, 65535], "EmissionWavelength": [525.5, 610],
        "EmissionWavelengthUnit": ["nm"] * 2, "Fluor": ["a", "b"],
    }  # fmt: skip
    PLANE: ClassVar[dict[str, Any]] = {
        "DeltaT": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5], "ExposureTime": [0.1] * 6, "PositionX": [1234.5] * 6,
        "PositionXUnit": ["µm"] * 6,
    }  # fmt: skip

    def microscope(self, path: Path) -> Image:
        """A file with channels and planes as a microscope describes them."""
        metadata = {
            "axes": "TCYX", "PhysicalSizeX": 0.1, "Channel": self.CHANNEL, "Plane": self.PLANE, "Description": "a < b",
        }  # fmt: skip
        tifffile.imwrite(path, np.zeros((3, 2, 8, 9), np.uint16), metadata=metadata)
        return read(path)

    def rewritten(self, folder: Path, image: Image) -> Any:
        """The OME metadata after it is written."""
        write(folder / "y.ome.tif", image, provenance={"a": 1}, overwrite=True)
        with tifffile.TiffFile(folder / "y.ome.tif") as tif:
            validate_xml(tif.ome_metadata)
            return from_xml(tif.ome_metadata)

    @pytest.mark.parametrize("select", [{}, {"T": "1:3"}, {"C": "1"}, {"T": "2", "C": "0"}])
    def test_channels_and_planes_survive(self, tmp_path: Path, select: dict[str, str]) -> None:
        image = self.microscope(tmp_path / "x.ome.tif").select(select)
        kept = np.arange(6).reshape(3, 2)[image_index(select)]
        for _ in (1, 2):
            found = self.rewritten(tmp_path, image).images[0]
            image = read(tmp_path / "y.ome.tif")
            channels = [self.CHANNEL["EmissionWavelength"][n % 2] for n in kept[0]]
            assert [channel.emission_wavelength for channel in found.pixels.channels] == channels
            assert [plane.delta_t for plane in found.pixels.planes] == [self.PLANE["DeltaT"][n] for n in kept.ravel()]
            assert {plane.position_x for plane in found.pixels.planes} == {1234.5}
            assert found.description == "a < b"
            assert image.translate[-2:] == (0, 0)
        assert registry.loss(tmp_path / "z.ome.tif", image) == ""

    def test_the_position_of_a_finer_grid_replaces_that_of_the_stage(self, tmp_path: Path) -> None:
        image = self.microscope(tmp_path / "x.ome.tif").select({"X": "2:9"})
        found = self.rewritten(tmp_path, image).images[0].pixels.planes
        assert [plane.delta_t for plane in found] == self.PLANE["DeltaT"]
        assert read(tmp_path / "y.ome.tif").translate == pytest.approx((0, 0, 0, 0.2))
        assert "lacks times and positions of planes" in registry.loss(tmp_path / "y.ome.tif", image)

    def test_what_a_result_lacks_is_named(self, tmp_path: Path) -> None:
        xml = self.XML.format(3).replace("<Image", '<Instrument ID="Instrument:0"/><Image')
        tifffile.imwrite(
            tmp_path / "x.ome.tif", np.zeros((3, 8, 9), "u1"), metadata=None, description=xml, photometric="minisblack"
        )
        image = read(tmp_path / "x.ome.tif")
        assert registry.loss(tmp_path / "y.ome.tif", image).endswith("; it lacks <Instrument>")

    def test_an_ome_suffix_refuses_other_types(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match=r"OME-TIFF cannot hold float16 values .* write a '\.tif' file"):
            write(tmp_path / "x.ome.tif", Image(np.zeros((4, 5), np.float16), "YX"))
        with pytest.raises(FileError, match="cannot hold complex64"):
            write(tmp_path / "x.tif", Image(np.zeros((4, 5), np.complex64), "YX"))
        assert not list(tmp_path.iterdir())


class TestPlainFiles:
    @pytest.mark.parametrize(
        ("shape", "axes"),
        [
            ((8, 9), "YX"),
            ((7, 8, 9), "TYX"),
            ((2, 7, 8, 9), "TZYX"),
            ((7, 2, 8, 9), "TCYX"),
            ((2, 3, 4, 8, 9), "TZCYX"),
        ],
    )
    def test_unnamed_axes_are_guessed(self, tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.zeros(shape, np.uint16), photometric="minisblack")
        assert read(tmp_path / "x.tif").axes == axes

    @pytest.mark.parametrize(("planar", "count"), [("separate", 3), ("contig", 3), ("contig", 4)])
    def test_colour_pages(self, tmp_path: Path, planar: str, count: int) -> None:
        data = np.random.default_rng(0).integers(0, 255, (2, 8, 9, count)).astype(np.uint8)
        stored = np.moveaxis(data, -1, 1) if planar == "separate" else data
        tifffile.imwrite(tmp_path / "x.tif", stored, photometric="rgb", planarconfig=planar, metadata=None)
        image = read(tmp_path / "x.tif")
        assert image.axes == "TYXS"
        np.testing.assert_array_equal(image.data, data)

    def test_five_samples_are_channels(self, tmp_path: Path) -> None:
        data = np.zeros((8, 9, 5), np.uint8)
        tifffile.imwrite(tmp_path / "x.tif", data, photometric="minisblack", planarconfig="contig")
        assert read(tmp_path / "x.tif").axes == "YXC"

    def test_given_axes_replace_those_of_the_file(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((7, 8, 9), np.uint8), photometric="minisblack")
        assert read(tmp_path / "x.tif", axes="zyx").axes == "ZYX"
        with pytest.raises(AxesError, match=r"'x\.tif': axes 'TZYX' name 4 dimensions but the image has 3"):
            read(tmp_path / "x.tif", axes="TZYX")

    def test_a_resolution_of_printers_is_ignored(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 9), np.uint8), resolution=(72, 72), resolutionunit="inch")
        image = read(tmp_path / "x.tif")
        assert (image.scale, image.units) == ((1.0, 1.0), ("pixel", "pixel"))

    @pytest.mark.parametrize(
        ("resolution", "unit", "size"),
        [
            (50_000, "CENTIMETER", 0.2), (127_000, "INCH", 0.2), (97_692.3, "CENTIMETER", 0.10236),
            (100, "CENTIMETER", 100), (28.35, "CENTIMETER", 0), (37.8, "CENTIMETER", 0), (118.11, "CENTIMETER", 0),
            (1, "CENTIMETER", 0), (96, "INCH", 0), (300, "INCH", 0), (1, "INCH", 0), (50_000, "NONE", 0),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("lazy", [True, False])
    def test_a_resolution_that_is_a_pixel_size(
        self, tmp_path: Path, resolution: float, unit: str, size: float, lazy: bool
    ) -> None:
        for options in ({"metadata": None}, {}, {"metadata": None, "description": "ImageJ=1.53t\n"}):
            options |= {"resolution": (resolution,) * 2, "resolutionunit": unit}
            tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 9), np.uint16), **options)
            image = read(tmp_path / "x.tif", lazy=lazy)
            assert image.scale == pytest.approx((size or 1,) * 2, rel=1e-4)
            assert image.units == ("micrometer" if size else "pixel",) * 2

    @pytest.mark.parametrize(("unit", "resolution"), [("inch", 72), ("inch", 300), ("cm", 28.35), ("cm", 1)])
    def test_a_resolution_of_printers_that_imagej_took_over(self, tmp_path: Path, unit: str, resolution: float) -> None:
        options = {"resolution": (resolution,) * 2, "metadata": {"unit": unit}}
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 9), np.uint16), imagej=True, **options)
        assert read(tmp_path / "x.tif").units == ("pixel", "pixel")

    @pytest.mark.parametrize(
        ("stated", "size"),
        [
            ({"x": "0.325", "y": "0.325", "units": "um"}, 0.325),
            ({"x": "0,325", "y": "0,325", "units": "um"}, 0.325),
            ({"x": "325", "y": "325", "units": "nm"}, 325),
            ({"x": "1", "y": "1", "state": "off"}, 0),
        ],
    )
    def test_the_pixel_size_of_metaseries(self, tmp_path: Path, stated: dict[str, str], size: float) -> None:
        properties = "".join(f'<prop id="spatial-calibration-{key}" value="{text}"/>' for key, text in stated.items())
        for software in ("MetaSeries", "another"):
            tifffile.imwrite(
                tmp_path / "x.tif", np.zeros((8, 9), np.uint16), metadata=None, software=software,
                description=f"<MetaData><PlaneInfo>{properties}</PlaneInfo></MetaData>",
                resolution=(72, 72), resolutionunit="INCH",
            )  # fmt: skip
            image = read(tmp_path / "x.tif")
            unit = {"nm": "nanometer"}.get(stated.get("units", ""), "micrometer") if size else "pixel"
            assert (image.scale, image.units) == ((size or 1,) * 2, (unit,) * 2)

    def test_the_pixel_size_of_electron_microscopes(self, tmp_path: Path) -> None:
        headers = {
            34680: b"[Scan]\r\nPixelWidth=2.5e-008\r\nPixelHeight=2.5e-008\r\n",
            34118: b"AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 25 nm\r\n",
        }
        for tag, text in headers.items():
            extratags = [(tag, "s", 0, text.decode(), True)]
            tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 9), np.uint16), metadata=None, extratags=extratags)
            image = read(tmp_path / "x.tif")
            assert image.scale == pytest.approx({"micrometer": (0.025,) * 2, "nanometer": (25,) * 2}[image.units[0]])

    @pytest.mark.parametrize("name", ["y.tif", "y.ome.tif", "y.btf", "y.ome.zarr"])
    @pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
    @pytest.mark.parametrize("text", [None, "ImageJ=1.53t\nunit=micron\n"])
    def test_white_as_zero_stays_so(self, tmp_path: Path, name: str, dtype: str, text: str | None) -> None:
        data = np.arange(72).reshape(8, 9).astype(dtype)
        tifffile.imwrite(
            tmp_path / "x.tif", data, photometric="miniswhite", metadata=None, description=text, resolution=(5, 5)
        )
        image = read(tmp_path / "x.tif")
        write(tmp_path / name, image)
        found = read(tmp_path / name)
        np.testing.assert_array_equal(found.data, data)
        assert found.metadata["white_is_zero"]
        assert registry.loss(tmp_path / name, image) == ""
        assert "MinIsWhite" in registry.loss(tmp_path / "y.png", image)
        if "zarr" not in name:
            with tifffile.TiffFile(tmp_path / name) as tif:
                assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE

    def test_white_as_zero_in_a_pyramid(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.ones((2100, 16), "u1"), photometric="miniswhite", metadata=None)
        write(tmp_path / "y.tif", read(tmp_path / "x.tif"))
        with tifffile.TiffFile(tmp_path / "y.tif") as tif:
            assert {level.keyframe.photometric for level in tif.series[0].levels} == {tifffile.PHOTOMETRIC.MINISWHITE}

    def test_the_largest_of_several_images_is_read(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
            tif.write(np.zeros((4, 5), np.uint8))
            tif.write(np.ones((8, 9), np.uint8))
        image = read(tmp_path / "x.tif")
        assert image.shape == (8, 9)
        assert image.metadata["images"] == 2

    def test_palette_images_are_their_values(self, tmp_path: Path) -> None:
        data = np.arange(72, dtype=np.uint8).reshape(8, 9)
        colours = np.arange(768, dtype=np.uint16).reshape(3, 256)
        for options in ({"photometric": "palette"}, {"imagej": True}):
            tifffile.imwrite(tmp_path / "x.tif", data, colormap=colours, **options)
            np.testing.assert_array_equal(read(tmp_path / "x.tif").data, data)
            write(tmp_path / "y.tif", read(tmp_path / "x.tif"), overwrite=True)
            with tifffile.TiffFile(tmp_path / "y.tif") as tif:
                np.testing.assert_array_equal(tif.pages.first.colormap, colours)
            assert "lacks the colour table" in registry.loss(tmp_path / "y.png", read(tmp_path / "y.tif"))

    def test_lzw(self, tmp_path: Path) -> None:
        data = np.arange(72, dtype=np.uint8).reshape(8, 9)
        PIL.Image.fromarray(data).save(tmp_path / "x.tif", compression="tiff_lzw")
        np.testing.assert_array_equal(read(tmp_path / "x.tif").data, data)


class TestPictures:
    def png(self, path: Path, depth: int, kind: int, samples: int) -> Path:
        """A PNG of 2 × 2 pixels, by hand: Pillow cannot write all kinds."""

        def chunk(name: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

        row = b"\0" + b"\x12\x34"[: depth // 8] * samples * 2
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, depth, kind, 0, 0, 0))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b""))
        return path

    def test_grey_of_16_bits_is_read_in_full(self, tmp_path: Path) -> None:
        image = read(self.png(tmp_path / "x.png", 16, 0, 1))
        assert (image.axes, image.dtype, image.data.max()) == ("YX", np.uint16, 0x1234)

    @pytest.mark.parametrize(("kind", "samples"), [(2, 3), (4, 2), (6, 4)])
    def test_colour_of_16_bits_is_refused(self, tmp_path: Path, kind: int, samples: int) -> None:
        with pytest.raises(FileError, match="16 bits"):
            read(self.png(tmp_path / "x.png", 16, kind, samples))

    def test_grey_with_transparency_is_grey(self, tmp_path: Path) -> None:
        assert read(self.png(tmp_path / "x.png", 8, 4, 2)).axes == "YX"

    @pytest.mark.parametrize(("mode", "axes"), [("L", "YX"), ("RGB", "YXS"), ("CMYK", "YXS")])
    def test_jpeg(self, tmp_path: Path, mode: str, axes: str) -> None:
        PIL.Image.new(mode, (20, 30)).save(tmp_path / "x.jpg")
        image = read(tmp_path / "x.jpg")
        assert (image.axes, image.shape) == (axes, (30, 20, 3)[: len(axes)])

    def test_png_refuses_other_types_and_axes(self, tmp_path: Path) -> None:
        for image in (Image(np.zeros((8, 9), np.float32), "YX"), Image(np.zeros((3, 8, 9), np.uint8), "TYX")):
            with pytest.raises(FileError, match=r"PNG cannot hold .* write '\.tif'"):
                write(tmp_path / "x.png", image)
        with pytest.raises(FileError, match=r"JPEG files can be read but not written; use one of \.tif"):
            write(tmp_path / "x.jpg", Image(np.zeros((8, 9), np.uint8), "YX"))


class TestFormats:
    @pytest.fixture
    def qbi(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A format that is only read, as a newcomer would add it."""

        def read_qbi(path: Path, axes: str, series: int | None) -> Image:
            return Image(np.full((3, 20, 30), path.read_bytes()[0], np.uint8), axes or "TYX", name=path.stem)

        monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, registry.Format("QBI", (".qbi",), read_qbi)))

    @pytest.mark.usefixtures("qbi")
    def test_a_format_that_is_only_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.b.QBI"
        path.write_bytes(b"7")
        image, lazy = read(path, axes="zyx"), read(path, lazy=True)
        assert (image.axes, image.data[0, 0, 0], lazy.axes) == ("ZYX", ord("7"), "TYX")
        assert not isinstance(lazy.data, np.ndarray)
        np.testing.assert_array_equal(lazy.data[1:, 3], image.data[1:, 3])
        with pytest.raises(FileError, match=r"QBI files can be read but not written; use one of \.tif, .*\.zarr"):
            write(path, image, overwrite=True)
        assert registry.result_name(path) == "a.b.ome.tif"
        write(tmp_path / registry.result_name(path), image)
        assert read(tmp_path / "a.b.ome.tif").metadata == {"format": "ome"}
        assert path.read_bytes() == b"7"

    @pytest.mark.usefixtures("qbi")
    @pytest.mark.parametrize("error", [AttributeError("x"), MemoryError(), OSError(5, "Input/output error")])
    def test_any_error_of_a_library_is_one_about_the_file(
        self, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(path: Path, axes: str) -> Image:
            raise error

        monkeypatch.setattr(registry, "FORMATS", (registry.Format("QBI", (".qbi",), fail),))
        (tmp_path / "x.qbi").write_bytes(b"7")
        for lazy in (True, False):
            with pytest.raises(FileError, match=r"x\.qbi' (cannot be read|does not fit into memory)"):
                read(tmp_path / "x.qbi", lazy=lazy)

    @pytest.mark.parametrize(
        ("name", "result"),
        [("a.tif", "a.tif"), ("a.ome.tif", "a.ome.tif"), ("a.zarr", "a.zarr"), ("a.PNG", "a.PNG"), ("a.jpg", "a.tif")],
    )
    def test_results_have_the_format_of_the_input_if_it_can_be_written(self, name: str, result: str) -> None:
        assert registry.result_name(Path("folder") / name) == result


class TestUnusable:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("missing.tif", None, "does not exist"),
            ("empty.tif", b"", "is empty"),
            ("text.tif", b"I am not an image, though my name says so.\n" * 9, "cannot be read as TIFF .not a TIFF"),
            ("text.png", b"I am not an image\n" * 9, "cannot identify"),
            ("image.dv", b"x", r"suffix '\.dv', which is not a known format; use one of \.tif"),
            ("image.zarr", b"x", "is a file, but an OME-Zarr is a folder"),
        ],
    )
    def test_no_image(self, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=message) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "x.tif").mkdir()
        with pytest.raises(FileError, match="is a folder"):
            read(tmp_path / "x.tif")
        with pytest.raises(FileError, match="is a folder"):
            write(tmp_path / "x.tif", Image(np.zeros((4, 5)), "YX"), overwrite=True)
        with pytest.raises(FileError, match=r"is a folder; give the files in it"):
            read(tmp_path)

    def test_advice_on_export_is_for_inputs(self, tmp_path: Path) -> None:
        (tmp_path / "x.vsi").write_bytes(b"x")
        with pytest.raises(FileError, match=r"suffix '\.vsi', which is not a known format; .*; export it as OME-TIFF"):
            read(tmp_path / "x.vsi")
        for name in ("x.czi", "x.nd2", "x.vsi", "x.dv", "x.oir", "x.stk"):
            with pytest.raises(FileError, match=r"; use one of \.tif, \.tiff, \.btf, \.tf8, \.png, \.zarr$"):
                write(tmp_path / name, Image(np.zeros((4, 5), np.uint8), "YX"), overwrite=True)

    def test_no_suffix(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match=r"has no suffix to tell its format; use one of \.tif"):
            write(tmp_path / "restored", Image(np.zeros((4, 5)), "YX"))

    def test_an_image_larger_than_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "x.tif"
        tile, tiles = (1 << 22, 1 << 22), iter([b"x"] * 4)  # 512 TiB of nothing
        shape = (1 << 23, 1 << 23)
        with tifffile.TiffWriter(path, bigtiff=True) as tif:
            tif.write(tiles, shape=shape, dtype=np.float64, tile=tile, compression="zlib", photometric="minisblack")
        with pytest.raises(FileError, match=r"claims .* GB of values in a page .* but holds 4 bytes"):
            read(path)


def whole_files() -> Iterator[tuple[str, bytes]]:
    """Make a file of each kind; all values differ from zero and from each other."""
    data = np.arange(1, 4 * 3 * 8 * 9 + 1, dtype=np.uint16).reshape(4, 3, 8, 9)
    pages: dict[str, dict[str, Any]] = {
        "ome": {"ome": True, "metadata": {"axes": "TCYX"}},
        "imagej": {"imagej": True, "metadata": {"axes": "TCYX"}},
        "json": {"metadata": {"axes": "TCYX"}},
        "compressed": {"compression": "zlib", "metadata": {"axes": "TCYX"}},
    }
    for name, options in pages.items():
        file = io.BytesIO()
        tifffile.imwrite(file, data, photometric="minisblack", **options)
        yield name, file.getvalue()
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        for page in data.reshape(12, 8, 9):
            tif.write(page, metadata=None, photometric="minisblack")
    yield "pages", file.getvalue()


WHOLE = dict(whole_files())


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(sorted(WHOLE)), part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_an_error_or_the_image(folder: Path, name: str, part: float) -> None:
    path = folder / "cut.tif"
    path.write_bytes(WHOLE[name])
    whole = read(path)
    path.write_bytes(WHOLE[name][: max(1, int(part * len(WHOLE[name])))])
    with contextlib.suppress(FileError):
        found = read(path)
        if not found.notes:  # a file may be cut off exactly after a plane
            assert found.axes == whole.axes
            np.testing.assert_array_equal(found.data, whole.data)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(["ome", "imagej", "json", "pages"]), place=st.integers(8, 400), value=st.integers(0, 255))
def test_a_damaged_file_raises_nothing_unexpected(folder: Path, name: str, place: int, value: int) -> None:
    path = folder / "damaged.tif"
    path.write_bytes(WHOLE[name][:place] + bytes([value]) + WHOLE[name][place + 1 :])
    with contextlib.suppress(FileError, AxesError):
        read(path)


FORBIDDEN = "\x00\x01\x08\x0b\x0c\x0e\x1b\x1f\ufffe\uffff\udcff\ud800"
"""Characters that XML 1.0 forbids; the surrogates are found in names of files that are not valid Unicode."""


@pytest.mark.parametrize("name", ["x.tif", "x.ome.tif", "x.btf", "x.ome.zarr"])
def test_any_character_may_be_in_any_text(tmp_path: Path, name: str) -> None:
    text = f"a{FORBIDDEN}\x7f\tb\nc µ"
    planes = np.array([{"DeltaT": "1", "DeltaTUnit": "s"}, None], object).reshape(1, 1, 2)
    metadata = {
        "format": "imagej",
        "imagej": {"Info": text, "Properties": {text: text}, "calibration": {"vunit": f"µ{FORBIDDEN}"}},
        "ome": {"text": {"Description": text}},
    }
    details = {
        "channels": AxisValues("C", np.array([{"Fluor": text}, None], object)),
        "planes": AxisValues("TZC", planes),
        "Labels": AxisValues("C", np.array([text, "d"], object)),
    }
    image = Image(
        np.zeros((2, 8, 9), np.int64 if name == "x.btf" else np.uint16), "CYX", name=text, channels=(text, "d"),
        units=(text, "micrometer", "micrometer"), metadata=metadata, details=details,
    )  # fmt: skip
    write(tmp_path / name, image, provenance={"source": text, text: text})
    found = read(tmp_path / name)
    assert (found.notes, found.metadata["pristine"]) == ((), {"source": text, text: text})
    if name == "x.ome.tif":
        xml = from_xml(tifffile.tiffcomment(tmp_path / name))
        mended = f"a{chr(0xFFFD) * len(FORBIDDEN)}\x7f\tb\nc µ"
        assert xml.images[0].description == mended
        assert xml.images[0].pixels.channels[0].name == " ".join(mended.split())


def test_control_characters_in_ome_xml_do_not_break_it(tmp_path: Path) -> None:
    for number, letter in enumerate("\x01\x0b\x1f\x7f\ufffe"):
        path = tmp_path / f"{number}.ome.tif"
        write(path, Image(np.zeros((2, 8, 9), np.uint16), "CYX", channels=("one", "t@o")))
        path.write_bytes(path.read_bytes().replace(b"t@o", f"t{letter}o".encode()[:3].ljust(3, b"o")))
        found = read(path)
        assert (found.notes, found.axes, found.channels[0]) == ((), "CYX", "one")


def test_nothing_is_written_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "cut.tif").write_bytes(WHOLE["pages"][:-100])
    (tmp_path / "whole.tif").write_bytes(WHOLE["pages"])
    code = (
        "from napari_pristine.errors import FileError\nfrom napari_pristine.io.registry import read\n"
        "read('whole.tif')\ntry:\n    read('cut.tif')\nexcept FileError:\n    raise SystemExit(7)\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(napari_pristine.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert not logging.getLogger("tifffile").handlers


def stop_after(written: int, error: Any) -> None:
    raise error


class TestWriting:
    IMAGE = Image(np.ones((400, 500), np.uint16), "YX")

    def test_a_file_is_replaced_only_if_allowed(self, tmp_path: Path) -> None:
        path = tmp_path / "x.tif"
        path.write_bytes(b"precious")
        with pytest.raises(FileError, match="already exists"):
            write(path, self.IMAGE)
        assert path.read_bytes() == b"precious"
        write(path, self.IMAGE, overwrite=True)
        assert read(path).shape == (400, 500)

    def test_the_file_it_was_read_from_may_be_overwritten(self, tmp_path: Path) -> None:
        write(tmp_path / "x.tif", self.IMAGE)
        write(tmp_path / "x.tif", read(tmp_path / "x.tif"), overwrite=True)
        assert_same(read(tmp_path / "x.tif"), self.IMAGE)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path: Path, error: Any) -> None:
        path = tmp_path / "x.tif"
        path.write_bytes(b"precious")
        with pytest.raises((KeyboardInterrupt, MemoryError, FileError)), atomic_write(path, overwrite=True) as part:
            stop_after(part.write_bytes(b"half"), error)
        assert [file.name for file in tmp_path.iterdir()] == ["x.tif"]
        assert path.read_bytes() == b"precious"

    @pytest.mark.parametrize("name", ["x.tif", "x.ome.tif", "x.png"])
    def test_disk_full(self, tmp_path: Path, name: str) -> None:
        resource = pytest.importorskip("resource", reason="needs a limit on the size of files")
        noise = np.random.default_rng(0).integers(0, 60_000, (400, 500)).astype(np.uint16)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(FileError, match=r"cannot be written: .*disk full"):
                write(tmp_path / name, Image(noise, "YX"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not list(tmp_path.iterdir())

    def test_json_replaces_the_old_file(self, tmp_path: Path) -> None:
        for value in ({"a": [1, float("nan")]}, {"b": "µ", "path": Path("c")}):
            write_json(tmp_path / "x.json", value)
        assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"b": "µ", "path": "c"}
        assert [file.name for file in tmp_path.iterdir()] == ["x.json"]

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="there is no folder"):
            write(tmp_path / "nowhere" / "x.tif", self.IMAGE)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_protected_folder(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o555)
        with pytest.raises(FileError, match="Permission denied"):
            write(tmp_path / "x.tif", self.IMAGE)
        tmp_path.chmod(0o755)

    def test_the_file_has_the_usual_permissions(self, tmp_path: Path) -> None:
        (tmp_path / "usual").touch()
        write(tmp_path / "x.tif", self.IMAGE)
        assert (tmp_path / "x.tif").stat().st_mode == (tmp_path / "usual").stat().st_mode

    def test_an_empty_image(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="empty"):
            write(tmp_path / "x.tif", Image(np.zeros((0, 4, 5)), "TYX"))


@pytest.mark.parametrize("spelling", ["µm", "μm", "um", "micron", "Microns", "\\u00B5m", "micrometer"])
def test_units_have_one_name(spelling: str) -> None:
    assert unit_name(spelling) == "micrometer"


def test_unknown_units_are_unchanged() -> None:
    assert unit_name("furlong") == "furlong"
    assert unit_name(" ") == "pixel"


@pytest.mark.data
class TestRealFiles:
    def test_a_five_dimensional_time_lapse(self, data_folder: Path, tmp_path: Path) -> None:
        image = read(data_folder / "microscopy" / "composed" / "mitosis_TZCYX_first4T.tif")
        assert (image.axes, image.shape, image.dtype) == ("TZCYX", (4, 5, 2, 196, 171), np.uint16)
        write(tmp_path / "out.tif", image)
        with tifffile.TiffFile(tmp_path / "out.tif") as tif:
            assert tif.is_imagej
            assert tif.series[0].axes == "TZCYX"

    def test_every_file_survives_a_round_trip(self, data_folder: Path, tmp_path: Path) -> None:
        paths = sorted(data_folder.glob("microscopy/**/*.tif*")) + sorted(data_folder.glob("microscopy/**/*.png"))
        assert paths
        for path in paths:
            image = read(path)
            out = tmp_path / f"out{'.png' if path.suffix == '.png' else '.tif'}"
            write(out, image, provenance={"from": path.name}, overwrite=True)
            assert_same(read(out), image, exactly=False)
            assert read(out).metadata["pristine"] == {"from": path.name}
            if image.metadata["format"] == "imagej":
                assert read(out).metadata["format"] == "imagej"

    @pytest.mark.parametrize(
        ("name", "axes", "scale", "units"),
        [
            ("neubias/xyzc_16bit__spots.tif", "ZCYX", (0.4, 1, 0.0941345, 0.0941345), (UM, PX, UM, UM)),
            (GOLGI, "TYX", (59.86, 0.351435, 0.351435), (S, UM, UM)),
            ("lysosome_confocal_live_tyx/1.tif", "TYX", (1, 0.129201, 0.129201), (PX, UM, UM)),
            ("neubias/xy_rgb__cells.tif", "YXS", (1, 1, 1), (PX, PX, PX)),
            ("calcium/sima_example.tif", "TYX", (1, 1, 1), (PX, PX, PX)),
            ("odd/multipage_rgb.tif", "TYXS", (1, 1, 1, 1), (PX, PX, PX, PX)),
        ],
    )  # fmt: skip
    def test_metadata_of_microscopes(self, data_folder: Path, name: str, axes: str, scale: Any, units: Any) -> None:
        image = read(data_folder / "microscopy" / name)
        assert image.axes == axes
        np.testing.assert_allclose(image.scale, scale, rtol=1e-5)
        assert image.units == units


def test_ome_tiff_keeps_the_position_of_a_finer_grid(tmp_path: Path) -> None:
    data = np.zeros((2, 3, 8, 9), np.uint16)
    fine = Image(data, "CZYX", (1, 0.5, 0.1, 0.1), ("pixel", *["micrometer"] * 3), (0, 0.1, -0.05, -0.05))
    write(tmp_path / "fine.ome.tif", fine)
    assert read(tmp_path / "fine.ome.tif").translate == (0, 0.1, -0.05, -0.05)


def test_the_position_of_a_stage_is_ignored(tmp_path: Path) -> None:
    plane = {"PositionX": [1234.5], "PositionXUnit": ["µm"]}
    tifffile.imwrite(tmp_path / "stage.ome.tif", np.zeros((8, 9), np.uint16), metadata={"axes": "YX", "Plane": plane})
    assert read(tmp_path / "stage.ome.tif").translate == (0, 0)


def test_files_behind_links_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "a" / "x.ome.tif", np.arange(72, dtype=np.uint16).reshape(8, 9))
    (tmp_path / "link.ome.tif").symlink_to(tmp_path / "a" / "x.ome.tif")
    monkeypatch.chdir(tmp_path / "a" / "b")
    for path in (Path("../x.ome.tif"), tmp_path / "link.ome.tif"):
        assert read(path).shape == read(path, lazy=True).shape == (8, 9)
