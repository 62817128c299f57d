"""OME-Zarr: valid, survives round trips and kills while it is written; broken files are clear errors."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import hypothesis.strategies as st
import numcodecs
import numpy as np
import ome_zarr_models.v04.image as v04
import ome_zarr_models.v05.image as v05
import pydantic_zarr.v2
import pytest
import tifffile
import yaozarrs
import zarr
import zarr.codecs.numcodecs
from hypothesis import given, settings
from ome_types import validate_xml
from tests.batches import field_of_view, group, peak_memory, plate

import napari_pristine
from napari_pristine.errors import AxesError, FileError, PristineError
from napari_pristine.image.image import Image, LazySlice
from napari_pristine.io.registry import read, write
from napari_pristine.io.zarr import ZarrArray, complete_image, create_array, create_image

v04.Image.model_rebuild(_types_namespace={**vars(pydantic_zarr.v2), **vars(v04)})
UM, PX, NM = "micrometer", "pixel", "nanometer"
VERSIONS = ("0.4", "0.5")
SIZES = {"T": 3, "C": 2, "Z": 4, "Y": 20, "X": 30, "S": 3}
UNITS = {"T": "second", "C": PX, "Z": UM, "Y": UM, "X": NM, "S": PX}


def image_of(axes: str, version: str = "0.5", dtype: str = "uint16", **sizes: int) -> Image:
    """An image with another scale and position along each axis."""
    shape = tuple((SIZES | sizes)[axis] for axis in axes)
    data = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    scale = tuple(1.0 if axis in "CS" else 0.25 + number for number, axis in enumerate(axes))
    start = tuple(0.5 * number if axis in "ZYX" else 0.0 for number, axis in enumerate(axes))
    names = ("GFP", "DAPI") if "C" in axes else ()
    units = tuple(UNITS[axis] for axis in axes)
    return Image(data, axes, scale, units, start, "cells", names, {"format": "zarr", "version": version})


@pytest.mark.parametrize("layout", ["2.", "2/", "3.", "3/", "shards"])
def test_a_store_tells_what_it_holds(tmp_path: Path, layout: str) -> None:
    kind = {"name": "v2" if layout[0] == "2" else "default", "separator": layout[-1]} if layout != "shards" else None
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(100, 6, 20, 30), chunks=(1, 2, 16, 16), dtype="u2", fill_value=5,
        zarr_format=2 if layout[0] == "2" else 3, chunk_key_encoding=kind,  # type: ignore[arg-type]
        shards=(2, 2, 32, 32) if layout == "shards" else None,
    )  # fmt: skip
    (tmp_path / "a.zarr" / "notes 1.2.3.4.txt").write_text("of another program")
    array[50, 3, 18, 20] = 7
    lazy = ZarrArray(tmp_path / "a.zarr", [3, 0, 1, 2])  # X T Z Y
    deep, wide = (2, (0, 30)) if layout == "shards" else (1, (16, 30))
    (part,) = lazy.stored_parts()
    assert part == (slice(*wide), slice(50, 50 + deep), slice(2, 4), slice(0 if layout == "shards" else 16, 20))
    assert lazy.is_stored((slice(None), 50, 3, slice(None)))
    assert not lazy.is_stored((slice(None), 49, 3, slice(None)))
    for at in (
        (2, slice(40, 60, 2), 3),
        (slice(None), slice(60, 39, -5), slice(None)),
        (29, slice(50, 51), slice(3, 4)),
    ):
        values = LazySlice(lazy, at)
        parts = LazySlice(lazy, at).stored_parts()
        assert parts is not None
        outside = np.array(values[...])
        for found in parts:
            outside[found] = 5
        assert (outside == 5).all()
        assert values.is_stored(...) == any(all(s.start < s.stop for s in found) for found in parts)


def assert_same(found: Image, image: Image) -> None:
    order = [found.axes.index(axis) for axis in image.axes]
    np.testing.assert_array_equal(np.asarray(found.data).transpose(order), image.data)
    assert found.dtype == image.dtype
    for name in ("scale", "units", "translate"):
        assert tuple(getattr(found, name)[i] for i in order) == getattr(image, name), name
    assert found.channels == image.channels


def assert_valid(path: Path, version: str) -> None:
    """Check an OME-Zarr by two validators, of metadata and of arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yaozarrs.validate_zarr_store(str(path))
        group = zarr.open_group(path, mode="r")
        (v04 if version == "0.4" else v05).Image.from_zarr(group)
    assert group.metadata.zarr_format == (2 if version == "0.4" else 3)


def files_of(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def rewrite(path: Path, change: Any) -> None:
    """Change the attributes of a group."""
    file = next(path / name for name in (".zattrs", "zarr.json") if (path / name).exists())
    attributes = json.loads(file.read_text())
    change(attributes if file.name == ".zattrs" else attributes["attributes"])
    file.write_text(json.dumps(attributes))


class TestRoundTrip:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("axes", ["YX", "XY", "TYX", "CYX", "ZYX", "TCZYX", "XCTYZ", "YXS", "TSZYX", "YXC"])
    def test_everything_survives(self, tmp_path: Path, axes: str, version: str) -> None:
        image = image_of(axes, version)
        write(tmp_path / "ä b.ome.zarr", image, provenance={"method": "inr", "note": "µ"})
        found = read(tmp_path / "ä b.ome.zarr")
        assert_same(found, image)
        assert found.name == "ä b"
        assert found.metadata == {
            "format": "zarr", "version": version, "pristine": {"method": "inr", "note": "µ"}, "title": image.name,
        }  # fmt: skip
        assert "S" not in axes or found.axes.endswith("S")
        assert_valid(tmp_path / "ä b.ome.zarr", version)

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("axes", ["TCZYX", "ZTYX", "YX", "CYX", "TYXS"])
    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_from_ome_tiff_to_ome_zarr_and_back(self, tmp_path: Path, axes: str, version: str, dtype: str) -> None:
        image = image_of(axes, version, dtype)
        write(tmp_path / "a.ome.tif", image)
        lazy = read(tmp_path / "a.ome.tif", lazy=True)
        write(tmp_path / "b.zarr", replace(lazy, metadata=image.metadata))
        write(tmp_path / "c.ome.tif", read(tmp_path / "b.zarr", lazy=True), provenance={"a": 1})
        assert_same(read(tmp_path / "c.ome.tif"), image)
        assert_valid(tmp_path / "b.zarr", version)
        with tifffile.TiffFile(tmp_path / "c.ome.tif") as tif:
            validate_xml(tif.ome_metadata)

    @pytest.mark.parametrize("dtype", ["int8", "uint32", "int64", "uint64", "float16", "float64", ">u2"])
    def test_types(self, tmp_path: Path, dtype: str) -> None:
        image = image_of("TYX", dtype=dtype)
        write(tmp_path / "x.zarr", image)
        assert read(tmp_path / "x.zarr").dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(read(tmp_path / "x.zarr").data, image.data)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_units_beyond_ome_zarr(self, tmp_path: Path, version: str) -> None:
        image = Image(np.ones((4, 5), np.uint8), "YX", (1, 2), ("furlong", PX), metadata={"version": version})
        write(tmp_path / "x.zarr", image)
        assert read(tmp_path / "x.zarr").units == ("furlong", PX)
        assert_valid(tmp_path / "x.zarr", "0.5")

    def test_an_invalid_spacing_is_replaced(self, tmp_path: Path) -> None:
        write(tmp_path / "x.zarr", Image(np.ones((4, 5)), "YX", (float("nan"), -1), translate=(float("inf"), 0)))
        assert read(tmp_path / "x.zarr").scale == (1, 1)
        assert_valid(tmp_path / "x.zarr", "0.5")

    @pytest.mark.parametrize(("axes", "what"), [("QYX", "an axis Q"), ("CYXS", "both channels")])
    def test_axes_beyond_ome_zarr(self, tmp_path: Path, axes: str, what: str) -> None:
        shape = tuple({"Q": 2, "C": 2, "S": 3}.get(axis, 9) for axis in axes)
        with pytest.raises(FileError, match=f"x.zarr': OME-Zarr cannot hold {what}"):
            write(tmp_path / "x.zarr", Image(np.zeros(shape), axes))
        assert not list(tmp_path.iterdir())


class TestLevels:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_coarser_levels_lie_on_the_finest(self, tmp_path: Path, version: str) -> None:
        image = image_of("TYX", version, Y=1101, X=1300)
        write(tmp_path / "x.zarr", image)
        assert_valid(tmp_path / "x.zarr", version)
        group = zarr.open_group(tmp_path / "x.zarr", mode="r")
        attributes: Any = dict(group.attrs)
        datasets = attributes.get("ome", attributes)["multiscales"][0]["datasets"]
        assert [group[d["path"]].shape for d in datasets] == [(3, 1101, 1300), (3, 551, 650), (3, 276, 325)]
        for level, dataset in enumerate(datasets):
            scale, move = dataset["coordinateTransformations"]
            assert scale["scale"] == [0.25, 1.25 * 2**level, 2.25 * 2**level]
            # the middle of the first pixel is that of the pixels it was made from
            middle = (2**level - 1) / 2
            assert move["translation"] == [0.0, 0.5 + 1.25 * middle, 1.0 + 2.25 * middle]
        fine = image.data[:, :1100].reshape(3, 550, 2, 650, 2).mean((2, 4))
        assert np.abs(group["1"][:, :550] - fine).max() <= 0.5
        last = image.data[:, 1100].reshape(3, 650, 2).mean(2)
        np.testing.assert_array_equal(group["1"][:, 550], np.round(last + 0.1))

    def test_empty_chunks_are_not_written(self, tmp_path: Path) -> None:
        data = np.zeros((3, 1500, 3000), np.float32)
        data[1, 1200:1210, 2100] = 4
        write(tmp_path / "x.zarr", Image(data, "ZYX"))
        chunks = {str(p.relative_to(tmp_path / "x.zarr")) for p in tmp_path.rglob("c/**/*") if p.is_file()}
        assert chunks == {"0/c/1/1/2", "1/c/1/0/1", "2/c/1/0/0", "3/c/1/0/0"}
        np.testing.assert_array_equal(read(tmp_path / "x.zarr").data, data)


class TestIncremental:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("axes", ["TCYX", "XTY", "YXS"])
    def test_block_by_block(self, tmp_path: Path, axes: str, version: Any) -> None:
        image = image_of(axes, version)
        out = create_image(tmp_path / "out", image, version=version)
        assert (out.shape, out.dtype, out.ndim) == (image.shape, image.dtype, image.data.ndim)
        for place in range(image.shape[1]):
            out[:, place] = image.data[:, place]
        out[0, ..., 1:3] = image.data[0, ..., 1:3]
        out[..., -1] = image.data[..., -1]
        np.testing.assert_array_equal(out[:, 1], image.data[:, 1])
        for _ in range(2):  # as after a kill
            np.testing.assert_array_equal(create_image(tmp_path / "out", image, version=version), image.data)
            complete_image(tmp_path / "out", image, {"a": 1})
        (tmp_path / "out").rename(tmp_path / "x.zarr")
        assert_same(read(tmp_path / "x.zarr"), image)
        assert_valid(tmp_path / "x.zarr", version)

    def test_a_chunk_lies_in_one_plane(self, tmp_path: Path) -> None:
        assert create_image(tmp_path / "a", image_of("YTXZ")).chunks == (20, 1, 30, 1)
        assert create_image(tmp_path / "b", image_of("SYX", Y=1200)).chunks == (3, 1024, 30)

    def test_a_plain_array_has_any_axes(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 9, (2, 20, 3, 30))
        like = Image(values, "RYQX")
        out = create_array(tmp_path / "a", like)
        assert out.chunks == (1, 20, 1, 30)
        out[1, :, 2] = values[1, :, 2]
        again = create_array(tmp_path / "a", like)
        assert again[0].sum() == 0
        again[0], again[1] = values[0], values[1]
        write(tmp_path / "x.tif", Image(again, "RYQX"))
        found = read(tmp_path / "x.tif")
        np.testing.assert_array_equal(found.data.transpose([found.axes.index(axis) for axis in "RYQX"]), values)

    def test_another_image_is_not_overwritten(self, tmp_path: Path) -> None:
        create_image(tmp_path / "a", image_of("TYX"))
        for other in (image_of("ZYX"), image_of("TYX", dtype="u1")):
            with pytest.raises(FileError, match="holds another image"):
                create_image(tmp_path / "a", other)
        with pytest.raises(FileError, match="holds another image"):
            create_image(tmp_path / "a", image_of("TYX"), version="0.4")

    def test_a_killed_write_can_be_resumed(self, tmp_path: Path) -> None:
        code = (
            "import sys, pathlib, numpy as np\nfrom napari_pristine.io.zarr import complete_image, create_image\n"
            "from napari_pristine.image.image import Image\npath = pathlib.Path(sys.argv[1])\n"
            "data = np.random.default_rng(0).integers(0, 9, (4, 1100, 1100)).astype('u2')\n"
            "like = Image(data, 'TYX')\nprint('ready', flush=True)\nout = create_image(path, like)\n"
            "for t in range(4):\n    out[t] = data[t]\ncomplete_image(path, like, {'a': 1})\n"
        )
        env = os.environ | {"PYTHONPATH": str(Path(napari_pristine.__file__).parents[1])}
        arguments = [sys.executable, "-c", code]
        for number in range(3):
            job = subprocess.Popen([*arguments, str(tmp_path / "x.zarr")], env=env, stdout=subprocess.PIPE)
            assert job.stdout is not None
            job.stdout.readline()
            time.sleep(0.05 + 0.1 * number)
            job.send_signal(signal.SIGKILL)
            job.wait()
            job.stdout.close()
        for name in ("x.zarr", "y.zarr"):
            subprocess.run([*arguments, str(tmp_path / name)], env=env, check=True, stdout=subprocess.DEVNULL)
        assert files_of(tmp_path / "x.zarr") == files_of(tmp_path / "y.zarr")


class TestWriting:
    def test_an_image_is_replaced_only_if_allowed(self, tmp_path: Path) -> None:
        write(tmp_path / "x.zarr", image_of("TYX"))
        with pytest.raises(FileError, match="already exists"):
            write(tmp_path / "x.zarr", image_of("YX"))
        write(tmp_path / "x.zarr", image_of("YX"), overwrite=True)
        assert read(tmp_path / "x.zarr").axes == "YX"
        write(tmp_path / "x.zarr", read(tmp_path / "x.zarr", lazy=True), overwrite=True)  # what it was read from
        assert_same(read(tmp_path / "x.zarr"), image_of("YX"))
        assert [p.name for p in tmp_path.iterdir()] == ["x.zarr"]

    def test_no_other_folder_is_ever_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "x.zarr").mkdir()
        (tmp_path / "x.zarr" / "thesis.docx").write_bytes(b"precious")
        with pytest.raises(FileError, match="it is a folder"):
            write(tmp_path / "x.zarr", image_of("YX"), overwrite=True)
        assert (tmp_path / "x.zarr" / "thesis.docx").read_bytes() == b"precious"

    def test_an_error_leaves_the_old_image(self, tmp_path: Path) -> None:
        write(tmp_path / "x.zarr", image_of("TYX"))
        source = read(tmp_path / "x.zarr", lazy=True)
        next(p for p in (tmp_path / "x.zarr").rglob("c/1/0/0")).write_bytes(b"broken")
        with pytest.raises(FileError, match=r"x\.zarr/0' cannot be read as Zarr"):
            write(tmp_path / "x.zarr", source, overwrite=True)
        assert [p.name for p in tmp_path.iterdir()] == ["x.zarr"]
        assert read(tmp_path / "x.zarr", lazy=True).shape == (3, 20, 30)

    def test_disk_full(self, tmp_path: Path) -> None:
        resource = pytest.importorskip("resource", reason="needs a limit on the size of files")
        noise = np.random.default_rng(0).integers(0, 60_000, (2, 400, 500)).astype(np.uint16)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(FileError, match=r"cannot be written: .*disk full"):
                write(tmp_path / "x.zarr", Image(noise, "TYX"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not list(tmp_path.iterdir())


class TestLazy:
    @pytest.mark.parametrize("axes", ["TCYX", "TSZYX"])
    def test_only_indexed_chunks_are_read(self, tmp_path: Path, axes: str) -> None:
        write(tmp_path / "x.zarr", image_of(axes))
        lazy, eager = read(tmp_path / "x.zarr", lazy=True), read(tmp_path / "x.zarr")
        rest = (slice(None),) * (eager.data.ndim - 2)
        for index in (0, -1, slice(2, None, -1), (..., 2), (1, *rest, slice(1, 9, 2)), (-1, *rest[1:], 4, 2), ...):
            assert np.array_equal(lazy.data[index], eager.data[index])
        next(p for p in (tmp_path / "x.zarr" / "0" / "c" / "1").rglob("*") if p.is_file()).write_bytes(b"\2\1")
        assert np.array_equal(lazy.data[2], eager.data[2])
        with pytest.raises(FileError, match=r"x\.zarr/0' cannot be read as Zarr .*damaged"):
            lazy.data[1]
        assert np.array_equal(pickle.loads(pickle.dumps(lazy.data))[0], eager.data[0])

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_removed_array_is_not_read_as_zeros(self, tmp_path: Path, version: str) -> None:
        write(tmp_path / "x.zarr", image_of("TYX", version))
        lazy = read(tmp_path / "x.zarr", lazy=True)
        shutil.rmtree(tmp_path / "x.zarr")
        with pytest.raises(FileError, match=r"x\.zarr/0' no longer exists"):
            lazy.data[1]

    def test_an_image_larger_than_memory(self, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "x.zarr", shape=(10**6, 10**4, 10**4), chunks=(1, 99, 99), dtype="f8")
        with pytest.raises(FileError, match=r"needs 8e\+05 GB and .* GB are free"):
            read(tmp_path / "x.zarr")
        assert read(tmp_path / "x.zarr", lazy=True).data[5, :3, :3].sum() == 0
        zarr.create_array(tmp_path / "y.zarr", shape=(10**6, 10**6), chunks=(10**6, 10**6), dtype="f8")
        with pytest.raises(FileError, match="does not fit into memory"):
            read(tmp_path / "y.zarr", lazy=True)


class TestOthers:
    """Files of other programs."""

    def collection(self, path: Path, version: str, listed: bool) -> Path:
        attributes = {"bioformats2raw.layout": 3}
        group = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
        group.attrs.put(attributes if version == "0.4" else {"ome": attributes | {"version": version}})
        for number in range(2):
            write(path / f"{number}.zarr", image_of("TYX", version, T=number + 2))
            (path / f"{number}.zarr").rename(path / str(number))
        if listed:
            series = group.create_group("OME").attrs
            series.put({"series": ["1", "0"]} if version == "0.4" else {"ome": {"series": ["1", "0"]}})
        return path

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(("listed", "first"), [(False, 2), (True, 3)])
    def test_a_collection_of_images(self, tmp_path: Path, version: str, listed: bool, first: int) -> None:
        path = self.collection(tmp_path / "x.zarr", version, listed)
        image = read(path)
        assert (image.size("T"), image.metadata["images"], image.name) == (first, 2, "x")
        assert (read(path / "1").size("T"), read(path / "1").name) == (3, "x 1")

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(
        "name", ["../secret.zarr", "0/../../secret.zarr", "..\\secret.zarr", "/secret.zarr", ".", ""]
    )
    def test_no_metadata_lead_out_of_the_folder(self, tmp_path: Path, name: str, version: str) -> None:
        write(tmp_path / "secret.zarr", image_of("YX", version))
        name = str(tmp_path / "secret.zarr") if name == "/secret.zarr" else name
        path = self.collection(tmp_path / "x.zarr", version, True)
        rewrite(path / "OME", lambda attributes: attributes.get("ome", attributes).update(series=[name]))
        write(tmp_path / "y.zarr", image_of("YX", version))

        def change(attributes: Any) -> None:
            attributes.get("ome", attributes)["multiscales"][0]["datasets"][0]["path"] = name

        rewrite(tmp_path / "y.zarr", change)
        for lazy in (True, False):
            for file in (path, tmp_path / "y.zarr"):
                with pytest.raises(FileError, match=r"(not inside it|is not valid OME-Zarr)"):
                    read(file, lazy=lazy)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_collection_in_a_collection_is_not_followed(self, tmp_path: Path, version: str) -> None:
        path = self.collection(tmp_path / "x.zarr", version, False)
        shutil.rmtree(path / "0")
        (path / "0").symlink_to(path)
        with pytest.raises(FileError, match=r"x\.zarr/0' is a collection of images inside another one"):
            read(path)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_an_image_of_a_collection_is_chosen_by_its_number(self, tmp_path: Path, version: str) -> None:
        path = self.collection(tmp_path / "x.zarr", version, True)
        assert "image 0 of 2 (1) was read" in read(path).notes[-1]
        found = read(path, series=1, lazy=True)
        assert (found.size("T"), found.name, found.notes) == (2, "x 0", ())
        with pytest.raises(FileError, match=r"no image 2 \(--series\): it holds 2 images, numbered from 0 to 1"):
            read(path, series=2)
        with pytest.raises(FileError, match=r"no image 1 .* one image, number 0"):
            read(path / "1", series=1)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_plates_and_wells_are_read_as_their_first_image(self, tmp_path: Path, version: str) -> None:
        path = plate(tmp_path / "plate.zarr", version)
        image = read(path)
        assert image.notes == (read(path).notes[0],)
        assert "image 0 of 6 (A/1/0) was read" in image.notes[0]
        np.testing.assert_array_equal(read(path, series=3).data, read(path / "A" / "2" / "1").data)
        assert read(path, series=3).name == "plate A 2 1"
        assert "image 0 of 2 (0) was read" in read(path / "B" / "1").notes[0]
        shutil.rmtree(path / "A" / "1" / "0")
        assert "image 1 of 6 (A/1/1) was read" in read(path).notes[0]
        with pytest.raises(FileError, match="missing, although the well lists this image"):
            read(path, series=0)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_any_folder_with_metadata_is_an_image(self, tmp_path: Path, version: str) -> None:
        field_of_view(tmp_path / "no suffix", version)
        field_of_view(tmp_path / "cells.2024", version)
        assert read(tmp_path / "no suffix").shape == read(tmp_path / "cells.2024").shape == (24, 24)
        assert read(plate(tmp_path / "screen", version) / "A" / "1" / "0").shape == (24, 24)
        folder = group(tmp_path / "of images", {}, version)
        field_of_view(folder / "10", version)
        field_of_view(folder / "9", version, shape=(3, 24, 24))
        group(folder / "labels", {"labels": ["cells"]}, version)
        assert read(folder).shape == (3, 24, 24)  # by number
        assert "image 0 of 2 (9)" in read(folder).notes[0]
        with pytest.raises(FileError, match=r"a group of labels.*labels/cells'"):
            read(folder / "labels")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"plate": 7}, r"(attributes\.ome\.|')plate\.wells is missing|: plate\.wells is missing"),
            (
                {"plate": {"wells": [{"path": "A/1"}, {"name": 3}]}},
                r"plate\.wells\[1\]\.path is missing or not a string",
            ),
            ({"plate": {"wells": [{"path": "../A"}]}}, "not inside it"),
            ({"well": {"images": {}}}, r"well\.images is not a list"),
            ({"multiscales": []}, r"multiscales is \[\], but list should have at least 1"),
            ({"multiscales": [{"datasets": [{}]}]}, r"multiscales\[0\]\.datasets\[0\]\.path is missing"),
            ({"multiscales": [{"datasets": [{"path": 0}], "axes": 5}]}, r"multiscales\[0\]\.axes is 5, but .* list"),
            ({"multiscales": "all"}, r"multiscales is 'all', but"),
        ],
    )
    @pytest.mark.parametrize("version", VERSIONS)
    def test_wrong_metadata_are_one_sentence_that_names_the_key(
        self, tmp_path: Path, version: str, change: dict[str, Any], message: str
    ) -> None:
        group(tmp_path / "x.zarr", change, version)
        with pytest.raises(FileError, match=message) as caught:
            read(tmp_path / "x.zarr")
        text = str(caught.value)
        assert ("zarr.json" if version == "0.5" else ".zattrs") in text or "not inside" in text
        assert not any(word in text for word in ("pydantic", "validation error", "type=", "\n"))

    def test_a_level_inside_knows_its_axes(self, tmp_path: Path) -> None:
        image = image_of("TYX")
        write(tmp_path / "x.zarr", image)
        assert_same(read(tmp_path / "x.zarr" / "0"), image)
        assert read(tmp_path / "x.zarr" / "0").name == "x 0"

    @pytest.mark.parametrize("fmt", [2, 3])
    def test_a_zarr_array(self, tmp_path: Path, fmt: Any) -> None:
        data = np.arange(120, dtype=">u2").reshape(4, 5, 6)
        zarr.create_array(tmp_path / "x.zarr", data=data, zarr_format=fmt)
        image = read(tmp_path / "x.zarr")
        assert (image.axes, image.dtype) == ("TYX", np.dtype("u2"))
        np.testing.assert_array_equal(image.data, data)
        assert read(tmp_path / "x.zarr", axes="zyx").axes == "ZYX"
        for axes in ("YX", "YYX", "ZTCYX", "ABC"):
            with pytest.raises(AxesError, match=r"'x\.zarr': axes"):
                read(tmp_path / "x.zarr", axes=axes)

    def test_named_dimensions(self, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "a.zarr", data=np.ones((4, 5, 6)), dimension_names=["z", "y", "x"])
        other = zarr.create_array(tmp_path / "b.zarr", data=np.ones((4, 5, 6)), zarr_format=2)
        other.attrs["_ARRAY_DIMENSIONS"] = ["z", "y", "x"]
        assert read(tmp_path / "a.zarr").axes == read(tmp_path / "b.zarr").axes == "ZYX"

    def test_transformations_of_all_levels_and_long_names_of_axes(self, tmp_path: Path) -> None:
        write(tmp_path / "x.zarr", image_of("TCYX"))

        def change(attributes: Any) -> None:
            multiscale = attributes["ome"]["multiscales"][0]
            steps = [{"type": "scale", "scale": [60, 1, 2, 2]}, {"type": "translation", "translation": [0, 0, 1, 1]}]
            multiscale["coordinateTransformations"] = steps
            multiscale["axes"][0]["name"], multiscale["axes"][1]["name"] = "time", "channel"
            attributes["ome"]["omero"] = {"channels": "none"}

        rewrite(tmp_path / "x.zarr", change)
        image = read(tmp_path / "x.zarr")
        assert (image.axes, image.channels) == ("TCYX", ())
        assert (image.scale, image.translate) == ((15, 1, 4.5, 6.5), (0, 0, 3, 4))

    @pytest.mark.parametrize("separator", [".", "/"])
    @pytest.mark.parametrize(
        ("version", "axes"),
        [("0.1", None), ("0.2", None), ("0.3", "tczyx"), ("0.3", "czyx"), ("0.3", "yx"), ("0.3", "ctzyx")],
    )
    def test_old_versions(self, tmp_path: Path, version: str, axes: str | None, separator: Any) -> None:
        letters = (axes or "tczyx").upper()
        values = np.random.default_rng(0).integers(0, 99, [SIZES[axis] for axis in letters], np.uint16)
        multiscale = {"version": version, "datasets": [{"path": "0"}, {"path": "1"}]} | (
            {"axes": [*axes]} if axes else {}
        )
        path = group(tmp_path / "x.zarr", {"multiscales": [multiscale]}, "0.4")
        for name in "01":
            data = values if name == "0" else values[..., ::2, ::2]
            zarr.create_array(
                path / name, data=data, zarr_format=2, chunk_key_encoding={"name": "v2", "separator": separator}
            )
        image = read(path)
        assert (image.axes, set(image.scale)) == (letters, {1.0})
        assert image.notes == (f"this is OME-Zarr {version}; results in OME-Zarr are written as 0.4",)
        np.testing.assert_array_equal(image.data, values)
        np.testing.assert_array_equal(read(path, axes=letters).data, values)
        np.testing.assert_array_equal(read(path / "1", axes=letters).data, values[..., ::2, ::2])
        assert [level.shape for level in read(path, lazy=True).data.coarser_levels()] == [values[..., ::2, ::2].shape]
        write(tmp_path / "y.zarr", image)
        assert_same(read(tmp_path / "y.zarr"), image)
        assert_valid(tmp_path / "y.zarr", "0.4")

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("axes", ["ctzyx", "zyxc", "xyz", "tyxc"])
    def test_axes_in_any_order(self, tmp_path: Path, axes: str, version: str) -> None:
        values = np.random.default_rng(0).integers(0, 99, [SIZES[axis.upper()] for axis in axes], np.uint16)
        scale = [float(number + 1) for number in range(len(axes))]
        dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        multiscale = {"axes": [{"name": axis} for axis in axes], "datasets": [dataset]}
        old = {"version": "0.4"} if version == "0.4" else {}
        path = group(tmp_path / "x.zarr", {"multiscales": [multiscale | old]}, version)
        zarr.create_array(path / "0", data=values, zarr_format=2 if old else 3)
        image = read(path)
        assert (image.axes, image.scale) == (axes.upper(), tuple(scale))
        np.testing.assert_array_equal(image.data, values)
        np.testing.assert_array_equal(read(path, lazy=True).data[0], values[0])

    @pytest.mark.parametrize(
        ("names", "axes"),
        [
            (["time", "channel", "y", "x"], "TCYX"),
            (["Channel", "depth", "height", "width"], "CZYX"),
            (["frame", "z", "row", "col"], "TZYX"),
            (["x", "y", "time", "c"], "XYTC"),
            (["dim_0", "dim_1", "dim_2", "dim_3"], "TCYX"),
            ([None, None, None, None], "TCYX"),
        ],
    )
    @pytest.mark.parametrize("fmt", [2, 3])
    def test_long_names_of_dimensions(self, tmp_path: Path, names: list[Any], axes: str, fmt: Any) -> None:
        values = np.arange(4 * 5 * 6 * 7).reshape(4, 5, 6, 7)
        path = tmp_path / "x.zarr"
        array = zarr.create_array(path, data=values, zarr_format=fmt, dimension_names=names if fmt == 3 else None)
        if fmt == 2 and names[0] is not None:
            array.attrs["_ARRAY_DIMENSIONS"] = names
        assert read(path).axes == axes
        # as xarray writes an array with its coordinates
        dataset = zarr.open_group(tmp_path / "dataset.zarr", mode="w", zarr_format=fmt)
        shutil.copytree(path, tmp_path / "dataset.zarr" / "intensity")
        dataset.create_array("time", data=np.arange(4))
        assert (read(tmp_path / "dataset.zarr").axes, read(tmp_path / "dataset.zarr").name) == (axes, "dataset")

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            (["time", "well", "y", "x"], "time, well, y, x: the axis 'well' is unknown"),
            (["lat", "lon", "y", "x"], "lat, lon, y, x: more than one axis is Y"),
            (["t", "time", "y", "x"], "t, time, y, x: more than one axis is T"),
        ],
    )
    @pytest.mark.parametrize("kind", ["array", "image"])
    def test_unknown_names_of_axes_are_named(self, tmp_path: Path, names: list[str], found: str, kind: str) -> None:
        path = tmp_path / "x.zarr"
        if kind == "image":
            group(path, {"multiscales": [{"axes": [{"name": n} for n in names], "datasets": [{"path": "0"}]}]})
        array = path / "0" if kind == "image" else path
        zarr.create_array(array, data=np.ones((4, 5, 6, 7)), dimension_names=names)
        with pytest.raises(AxesError, match=found) as caught:
            read(path)
        assert "give one letter per axis (--axes), e.g. 'TCYX'" in str(caught.value)
        assert read(path, axes="TQYX").axes == "TQYX"

    @pytest.mark.parametrize(
        ("version", "message"),
        [
            ("0.4", r"is not valid OME-Zarr: multiscales\[0\].axes is missing; .*give the path of an array"),
            ("0.6", r"is OME-Zarr 0\.6; versions 0\.1 to 0\.5 can be read; .*give the path of an array"),
            ("2", "is OME-Zarr 2; versions"),
            (["x"], "is OME-Zarr .*; versions"),
        ],
    )
    def test_other_versions(self, tmp_path: Path, version: Any, message: str) -> None:
        image = image_of("TCYX", "0.4" if version == "0.4" else "0.5")
        write(tmp_path / "x.zarr", image)

        def change(attributes: Any) -> None:
            if version == "0.4":
                del attributes["multiscales"][0]["axes"]
            else:
                attributes["ome"]["version"] = version

        rewrite(tmp_path / "x.zarr", change)
        with pytest.raises(FileError, match=message):
            read(tmp_path / "x.zarr")
        found = read(tmp_path / "x.zarr" / "0", axes="TCYX")  # as the message says
        np.testing.assert_array_equal(found.data, image.data)
        assert version == "0.4" or "its spacing and units are not read" in found.notes[0]

    def test_transformations_that_are_not_known_are_said(self, tmp_path: Path) -> None:
        write(tmp_path / "x.zarr", image_of("YX"))

        def change(attributes: Any) -> None:
            steps = attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
            steps += [{"type": "affine"}, {"type": "identity"}]

        rewrite(tmp_path / "x.zarr", change)
        assert read(tmp_path / "x.zarr").scale == (0.25, 1.25)
        assert read(tmp_path / "x.zarr").notes == (
            "the transformation 'affine' in its metadata is unknown and ignored",
        )

        def shorten(attributes: Any) -> None:
            attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [1, 2, 3]

        rewrite(tmp_path / "x.zarr", shorten)
        with pytest.raises(FileError, match="a scale has 3 values for 2 axes"):
            read(tmp_path / "x.zarr")

    def test_no_code_is_run(self, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "x.zarr", data=np.ones((4, 5)), zarr_format=2)
        attributes = json.loads((tmp_path / "x.zarr" / ".zarray").read_text())
        (tmp_path / "x.zarr" / ".zarray").write_text(json.dumps(attributes | {"filters": [{"id": "pickle"}]}))
        with pytest.raises(FileError, match="pickle"):
            read(tmp_path / "x.zarr", lazy=True)

    @pytest.mark.parametrize("kind", ["missing", "empty", "no zarr", "missing level", "text", "loop"])
    def test_no_image(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "x.zarr"
        if kind in ("empty", "no zarr", "text"):
            path.mkdir()
        if kind == "no zarr":
            (path / "a.tif").touch()
        if kind == "text":
            (path / "zarr.json").write_text("I am no JSON")
        if kind == "missing level":
            write(path, image_of("YX"))
            shutil.rmtree(path / "0")
        if kind == "loop":
            path.symlink_to(path)
        for lazy in (True, False):
            with pytest.raises(FileError, match=r"x\.zarr") as caught:
                read(path, lazy=lazy)
            assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zarrs")
    for version in VERSIONS:
        write(folder / f"{version}.zarr", image_of("TCYX", version))
    return folder


@settings(max_examples=60, deadline=None)
@given(version=st.sampled_from(VERSIONS), data=st.data())
def test_a_damaged_folder_raises_nothing_unexpected(written: Path, version: str, data: st.DataObject) -> None:
    path = written / f"{version}.zarr"
    file = data.draw(st.sampled_from(sorted(p for p in path.rglob("*") if p.is_file())))
    whole = file.read_bytes()
    place, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    cut = data.draw(st.booleans())
    file.write_bytes(whole[:place] if cut else whole[:place] + bytes([value]) + whole[place + 1 :])
    try:
        with contextlib.suppress(PristineError):
            read(path)
    finally:
        file.write_bytes(whole)


def rle_zstd(blocks: int) -> bytes:
    """A zstd frame without a stated size, of blocks of 128 KiB of zeros that take 4 bytes each."""
    heads = [(1 << 20) | 2 | (n == blocks - 1) for n in range(blocks)]
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(struct.pack("<I", head)[:3] + b"\0" for head in heads)


BOMB = bytes(1 << 28)
BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(BOMB, 1),
    "zlib": lambda: zlib.compress(BOMB, 1),
    "bz2": lambda: bz2.compress(BOMB),
    "lzma": lambda: lzma.compress(BOMB, preset=0),
    "zstd": lambda: bytes(numcodecs.Zstd().encode(BOMB)),
    "lz4": lambda: bytes(numcodecs.LZ4().encode(BOMB)),
    "blosc": lambda: bytes(numcodecs.Blosc().encode(BOMB)),
    "zstd without size": lambda: rle_zstd(1 << 11),
    "gzip in parts": lambda: gzip.compress(BOMB[: 1 << 20]) * 256,
}


class TestChunksThatUnpackToMore:
    VALUES = np.random.default_rng(0).integers(0, 999, (3, 64, 48), dtype=np.uint16)

    def store(self, path: Path, version: int, name: str, **options: Any) -> list[Path]:
        """An array of one chunk per plane; returns the files of its chunks."""
        named = {"gzip": zarr.codecs.GzipCodec(), "zstd": zarr.codecs.ZstdCodec(), "blosc": zarr.codecs.BloscCodec()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # LZMA takes 8 MiB for each chunk, several of which are unpacked at once, unless told otherwise
            settings = {"preset": 0} if name == "lzma" else {}
            codec = numcodecs.get_codec({"id": name, **settings})
            if version == 3:
                other = name.upper().replace("ZLIB", "Zlib")
                codec = named[name] if name in named else getattr(zarr.codecs.numcodecs, other)(**settings)
            array = zarr.create_array(
                path, shape=self.VALUES.shape, chunks=(1, 64, 48), dtype="u2", zarr_format=version, compressors=codec,
                **options,
            )  # fmt: skip
            array[:] = self.VALUES
        return [file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr.json"))]

    @pytest.mark.parametrize("bomb", BOMBS)
    @pytest.mark.parametrize("version", [2, 3])
    def test_are_refused(self, tmp_path: Path, version: int, bomb: str) -> None:
        name = bomb.split(maxsplit=1)[0]
        chunks = self.store(tmp_path / "a.zarr", version, name)
        np.testing.assert_array_equal(read(tmp_path / "a.zarr").data, self.VALUES)
        chunks[-1].write_bytes(BOMBS[bomb]())
        refused = pytest.raises(FileError, match=r"a\.zarr' has a chunk that would take more than 6144 bytes")
        with peak_memory() as peak, refused:
            read(tmp_path / "a.zarr")
        assert peak() < len(BOMB) / 4

    def test_are_refused_in_shards(self, tmp_path: Path) -> None:
        (shard,) = self.store(tmp_path / "a.zarr", 3, "gzip", shards=(3, 64, 48))
        np.testing.assert_array_equal(read(tmp_path / "a.zarr").data, self.VALUES)
        np.testing.assert_array_equal(read(tmp_path / "a.zarr", lazy=True).data[1], self.VALUES[1])
        bomb = BOMBS["gzip"]()
        index = struct.pack("<6Q", *[0, len(bomb)] * 3)
        shard.write_bytes(bomb + index + struct.pack("<I", google_crc32c.value(index)))
        for lazy in (False, True):
            with pytest.raises(FileError, match="has a chunk that would take more than"):
                np.asarray(read(tmp_path / "a.zarr", lazy=lazy).data[1])

    def test_filters_may_widen_the_values(self, tmp_path: Path) -> None:
        filters = [numcodecs.FixedScaleOffset(0, 1, "u2", "f8")]
        self.store(tmp_path / "a.zarr", 2, "zlib", filters=filters)
        np.testing.assert_array_equal(read(tmp_path / "a.zarr").data, self.VALUES)


@pytest.mark.parametrize("name", ["s0", "a\tb  c", "\x01 <b>&", " ", 7, None])
def test_the_name_in_the_metadata_is_kept(tmp_path: Path, name: Any) -> None:
    write(tmp_path / "a.zarr", Image(np.zeros((8, 9), np.uint8), "YX"))
    rewrite(
        tmp_path / "a.zarr", lambda attributes: attributes.get("ome", attributes)["multiscales"][0].update(name=name)
    )
    found = read(tmp_path / "a.zarr")
    expected = " ".join(name.split()) if isinstance(name, str) else ""
    assert (found.name, found.metadata.get("title", "")) == ("a", expected)
    write(tmp_path / "b.zarr", found)
    assert read(tmp_path / "b.zarr").metadata["title"] == (expected or "a")
    write(tmp_path / "c.ome.tif", found)
    assert read(tmp_path / "c.ome.tif").shape == (8, 9)
