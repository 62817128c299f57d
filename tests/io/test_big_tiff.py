"""TIFF files larger than memory, written plane by plane and read tile by tile; hostile TIFF files."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from ome_types import validate_xml

import napari_pristine
from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.planes import halve
from napari_pristine.io.registry import read, write
from napari_pristine.io.tiff import TiffArray
from napari_pristine.io.tiff_checks import check_page_list


class Counting:
    """An array that records the largest number of values read at once."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim
        self.most = 0

    def __getitem__(self, index: Any) -> np.ndarray:
        found = self.values[index]
        self.most = max(self.most, found.size)
        return found


def picture(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


class TestLevels:
    @pytest.mark.parametrize(
        ("axes", "shape", "dtype"),
        [
            ("YX", (2100, 700), "uint16"), ("TCYX", (2, 2, 600, 2050), "float32"), ("YXZ", (700, 2051, 2), "int16"),
            ("YXS", (2060, 520, 3), "uint8"), ("SZYX", (3, 2, 2060, 520), "uint8"),
        ],
    )  # fmt: skip
    def test_large_planes_are_tiled_and_have_coarser_levels(
        self, tmp_path: Path, axes: str, shape: tuple[int, ...], dtype: str
    ) -> None:
        image = Image(picture(shape, dtype), axes, tuple(0.5 if axis in "ZYX" else 1.0 for axis in axes))
        write(tmp_path / "x.tif", image, provenance={"note": "µ <"})
        eager, lazy = read(tmp_path / "x.tif"), read(tmp_path / "x.tif", lazy=True)
        order, back = [eager.axes.index(axis) for axis in axes], [axes.index(axis) for axis in eager.axes]
        np.testing.assert_array_equal(eager.data.transpose(order), image.data)
        np.testing.assert_array_equal(np.asarray(lazy.data), eager.data)
        assert (eager.scale, eager.metadata["pristine"]) == (tuple(image.scale[i] for i in back), {"note": "µ <"})
        with tifffile.TiffFile(tmp_path / "x.tif") as tif:
            validate_xml(tif.ome_metadata)
            levels, found = tif.series[0].levels, tif.series[0].axes
            assert len(tif.series) == 1
            assert all(level.keyframe.tile == (512, 512) for level in levels)
            assert max(levels[-1].shape[found.index("Y")], levels[-1].shape[found.index("X")]) <= 512
            for fine, coarse in itertools.pairwise(levels):
                values = np.moveaxis(fine.asarray(), (found.index("Y"), found.index("X")), (0, 1))
                again = np.moveaxis(coarse.asarray(), (found.index("Y"), found.index("X")), (0, 1))
                np.testing.assert_array_equal(again, halve(values))
        assert [p.name for p in tmp_path.iterdir()] == ["x.tif"]

    @pytest.mark.parametrize("metadata", [{}, {"format": "imagej"}])
    def test_usual_planes_are_not_tiled(self, tmp_path: Path, metadata: dict[str, str]) -> None:
        write(tmp_path / "x.tif", Image(picture((2, 2048, 16), "uint8"), "TYX", metadata=metadata))
        with tifffile.TiffFile(tmp_path / "x.tif") as tif:
            assert not tif.pages.first.is_tiled
            assert tif.series[0].dataoffset is not None

    def test_a_large_imagej_stack_stays_one(self, tmp_path: Path) -> None:
        """Fiji alone opens no tiles and ignores levels."""
        write(tmp_path / "x.tif", Image(picture((2, 2304, 16), "uint8"), "TYX", metadata={"format": "imagej"}))
        with tifffile.TiffFile(tmp_path / "x.tif") as tif:
            assert tif.is_imagej

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint64", "int64"])
    def test_means_of_whole_numbers_are_rounded_and_never_overflow(self, dtype: str) -> None:
        limits = np.iinfo(dtype)
        values = np.random.default_rng(0).integers(limits.min, limits.max, (6, 8), dtype=dtype, endpoint=True)
        values[:2, :2], values[2:4, :2] = limits.max, limits.min
        exact = [
            [int(sum(int(v) for v in values[y : y + 2, x : x + 2].ravel()) + 2) // 4 for x in (0, 2, 4, 6)]
            for y in (0, 2, 4)
        ]
        np.testing.assert_array_equal(halve(values), np.array(exact, dtype))

    def test_the_largest_floats_do_not_overflow(self) -> None:
        assert halve(np.full((3, 3), np.finfo("f4").max)).max() == np.finfo("f4").max
        assert halve(np.full((3, 3), np.finfo("f2").max)).dtype == np.float16


class TestStreaming:
    @pytest.mark.parametrize(
        ("axes", "metadata", "dtype"),
        [("TCYX", {}, "u2"), ("CTYX", {"format": "imagej"}, "u1"), ("QYXR", {}, "u1"), ("TYXC", {}, "f2")],
    )
    def test_one_plane_at_a_time(self, tmp_path: Path, axes: str, metadata: dict[str, str], dtype: str) -> None:
        shape = tuple({"Y": 20, "X": 30}.get(axis, 3) for axis in axes)
        values = Counting(picture(shape, dtype))
        write(tmp_path / "x.tif", Image(values, axes, metadata=metadata))
        assert values.most == 600
        found = read(tmp_path / "x.tif")
        np.testing.assert_array_equal(found.data.transpose([found.axes.index(axis) for axis in axes]), values.values)

    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        """252 MB of values, computed when they are read, written to both formats."""
        code = (
            "import resource, sys, pathlib, numpy as np\nfrom napari_pristine.io.registry import read, write\n"
            "from napari_pristine.image.image import Image\nfrom napari_pristine.image.image import LazySlice\n"
            "import zarr, tifffile, imagecodecs\n"
            "class Ramp:\n    shape, dtype, ndim = (2, 7000, 9000), np.dtype('u2'), 3\n"
            "    def __getitem__(self, index):\n"
            "        plane, rows, columns = index\n"
            "        return np.broadcast_to(np.arange(*rows.indices(7000), dtype='u2')[:, None] // 9 + plane, "
            "(len(range(*rows.indices(7000))), 9000))\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "write('x.tif', Image(Ramp(), 'TYX'))\nwrite('x.zarr', read('x.tif', lazy=True))\n"
            "assert (read('x.zarr', lazy=True).data[1, 6999, :9] == 777 + 1).all()\n"
            "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
        )
        env = {"PYTHONPATH": str(Path(napari_pristine.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 300


class TestTiles:
    @pytest.mark.parametrize("options", [{"tile": (64, 32)}, {"rowsperstrip": 16}])
    def test_only_indexed_tiles_are_read(
        self, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("napari_pristine.io.tiff._LARGE_PAGE", 1000)  # pages of strips that are long
        data = picture((3, 200, 160), "uint16")
        path = tmp_path / "x.tif"
        tifffile.imwrite(path, data, compression="zlib", photometric="minisblack", metadata={"axes": "TYX"}, **options)
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[1]
            start, count = page.dataoffsets[-1], page.databytecounts[-1]
        content = bytearray(path.read_bytes())
        content[start : start + count] = bytes(count)
        path.write_bytes(content)
        lazy = read(path, lazy=True)
        assert isinstance(lazy.data, TiffArray)
        for index in ((1, slice(5, 100, 3), slice(None)), (1, 7), (..., 4, 5), (slice(2, None, -2), slice(3, 60), 7)):
            np.testing.assert_array_equal(lazy.data[index], data[index])
        with pytest.raises(FileError, match=r"x\.tif' cannot be read as TIFF"):
            lazy.data[1]

    def test_a_file_that_is_replaced_meanwhile_is_an_error(self, tmp_path: Path) -> None:
        for name in ("x.tif", "y.tif"):
            tifffile.imwrite(tmp_path / name, picture((3, 64, 64), "u2"), tile=(32, 32), photometric="minisblack")
        lazy = read(tmp_path / "x.tif", lazy=True)
        (tmp_path / "y.tif").replace(tmp_path / "x.tif")
        with pytest.raises(FileError, match=r"x\.tif' has been replaced or changed"):
            lazy.data[0]
        (tmp_path / "x.tif").unlink()
        with pytest.raises(FileError, match=r"x\.tif' no longer exists"):
            lazy.data[0]


def pages_that_claim(path: Path, compression: str, tile: int) -> None:
    tiles, side = iter([b"x"] * 4), 2 * tile
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(
            tiles, shape=(side, side), dtype="u2", tile=(tile, tile), compression=compression, photometric="minisblack"
        )


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="9" SizeY="8" SizeC="1" SizeZ="1" '
    'SizeT="1000000000"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
)


class TestBombs:
    """Small files that claim enormous shapes."""

    @pytest.mark.parametrize("lazy", [True, False])
    @pytest.mark.parametrize(
        "claim", ["zlib", "lzw", "packbits", "zstd", "jpeg 2000", "json", "imagej", "ome", "strips", "uncompressed"]
    )
    def test_a_false_claim_is_refused_at_once(self, tmp_path: Path, claim: str, lazy: bool) -> None:
        path, start = tmp_path / "bomb.tif", time.process_time()
        small: dict[str, Any] = {"data": np.zeros((3, 8, 9), "u1"), "photometric": "minisblack", "metadata": None}
        if claim == "ome":
            tifffile.imwrite(path, **small, description=OME)
        elif claim in ("json", "imagej"):
            description = {
                "json": '{"shape": [1000000000000, 8, 9]}',
                "imagej": "ImageJ=1.11a\nimages=99999999\nframes=99999999\n",
            }[claim]
            tifffile.imwrite(path, **small, description=description)
        elif claim in ("strips", "uncompressed"):
            compression = "zlib" if claim == "strips" else None
            tifffile.imwrite(path, np.zeros((70, 90), "u1"), rowsperstrip=1, compression=compression)
            with tifffile.TiffFile(path, mode="r+") as tif:
                for name in ("ImageLength", "ImageWidth"):
                    tif.pages.first.tags[name].overwrite(60_000)
        else:
            pages_that_claim(path, {"jpeg 2000": "jpeg2000"}.get(claim, claim), 1 << 20)
        with pytest.raises(FileError, match=r"bomb\.tif' (claims|is incomplete|does not fit into memory)"):
            read(path, lazy=lazy).data[0]
        assert time.process_time() - start < 5

    def test_an_image_larger_than_memory(self, tmp_path: Path) -> None:
        """Some programs leave out empty tiles: this file is valid, though far larger than the memory."""
        path = tmp_path / "sparse.tif"
        with tifffile.TiffWriter(path, bigtiff=True) as tif:
            tif.write(
                iter([b""] * 4), shape=(1 << 21,) * 2, dtype="u2", tile=(1 << 20,) * 2, compression="zlib",
                photometric="minisblack",
            )  # fmt: skip
        with pytest.raises(FileError, match=r"does not fit into memory: it needs 8796 GB and .* GB are free"):
            read(path)
        with pytest.raises(FileError, match="does not fit into memory"):
            read(path, lazy=True).data[:, ::2]

    def test_an_image_of_one_value_is_accepted(self, tmp_path: Path) -> None:
        for compression in ("zlib", "lzw", "packbits", "zstd"):
            tifffile.imwrite(tmp_path / "x.tif", np.zeros((3000, 3000), "u2"), compression=compression)
            assert read(tmp_path / "x.tif", lazy=True).data[5:9].sum() == 0


def pages_of(path: Path, count: int = 3, **options: Any) -> None:
    """Write pages that only their list connects."""
    big, byteorder = options.pop("bigtiff", False), options.pop("byteorder", "<")
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=byteorder) as tif:
        for _ in range(count):
            tif.write(np.ones((8, 9), "u1"), contiguous=False, metadata=None, **options)


def tie(path: Path, page: int, to: int) -> None:
    """Let the list of pages continue, after `page`, with the page `to`."""
    with tifffile.TiffFile(path) as tif:
        tiff, offsets = tif.tiff, [page.offset for page in tif.pages]
    content = bytearray(path.read_bytes())
    (tags,) = struct.unpack_from(tiff.tagnoformat, content, offsets[page])
    place = offsets[page] + tiff.tagnosize + tags * tiff.tagsize
    struct.pack_into(tiff.offsetformat, content, place, offsets[to])
    path.write_bytes(content)


@pytest.mark.timeout(30)
class TestCircles:
    """Circular lists of pages: tifffile would follow them for ever."""

    @pytest.mark.parametrize("lazy", [True, False])
    @pytest.mark.parametrize(("page", "to"), [(2, 0), (2, 1), (2, 2), (0, 0)])
    @pytest.mark.parametrize(
        "options",
        [{}, {"bigtiff": True}, {"byteorder": ">"}, {"extratags": [(34412, 1, 4, b"zlsm", True)], "compression": 8}],
        ids=["classic", "big", "other order", "LSM"],
    )
    def test_of_pages(self, tmp_path: Path, options: dict[str, Any], page: int, to: int, lazy: bool) -> None:
        pages_of(tmp_path / "x.tif", **options)
        tie(tmp_path / "x.tif", page, to)
        with pytest.raises(FileError, match=r"x\.tif' is damaged: its list of pages is circular; copy it again"):
            read(tmp_path / "x.tif", lazy=lazy)

    @pytest.mark.parametrize("big", [True, False])
    @pytest.mark.parametrize("count", [1, 2])
    def test_of_levels(self, tmp_path: Path, big: bool, count: int) -> None:
        """Each level lists itself and its neighbour as its levels: reading all would take 2^n steps."""
        path = tmp_path / "x.tif"
        with tifffile.TiffWriter(path, bigtiff=big) as tif:
            tif.write(np.ones((2, 8, 9), "u1"), subifds=count, photometric="minisblack")
            for level in range(count):
                tif.write(np.ones((2, 4, 5), "u1"), subfiletype=1, photometric="minisblack", metadata={"level": level})
        assert read(path).shape == (2, 8, 9)
        with tifffile.TiffFile(path) as tif:
            page, tag = tif.pages.first, tif.pages.first.tags[330]
        content = bytearray(path.read_bytes())
        for level in page.subifds:  # its first tag becomes that of its page
            start = level + tif.tiff.tagnosize
            content[start : start + tif.tiff.tagsize] = content[tag.offset : tag.offset + tif.tiff.tagsize]
        path.write_bytes(content)
        for lazy in (True, False):
            with pytest.raises(FileError, match="is circular"):
                read(path, lazy=lazy)

    def test_in_another_file_of_the_image(self, tmp_path: Path) -> None:
        description = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:a">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="9" SizeY="8" '
            'SizeC="1" SizeZ="1" SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            '<TiffData IFD="0" FirstT="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:a</UUID></TiffData>'
            '<TiffData IFD="0" FirstT="1" PlaneCount="1"><UUID FileName="b.ome.tif">urn:b</UUID></TiffData>'
            "</Pixels></Image></OME>"
        )
        pages_of(tmp_path / "a.ome.tif", 1, description=description)
        pages_of(tmp_path / "b.ome.tif")
        assert read(tmp_path / "a.ome.tif").shape == (2, 8, 9)
        tie(tmp_path / "b.ome.tif", 2, 0)
        with pytest.raises(FileError, match=r"b\.ome\.tif' is damaged: its list of pages is circular"):
            read(tmp_path / "a.ome.tif")

    @pytest.mark.parametrize("big", [True, False])
    def test_the_check_is_fast(self, tmp_path: Path, big: bool) -> None:
        pages_of(tmp_path / "x.tif", 10_000, bigtiff=big)
        start = time.process_time()
        check_page_list(tmp_path / "x.tif")
        assert time.process_time() - start < 1

    @pytest.mark.parametrize("place", [8, 2**31, 2**32 - 1])
    def test_a_list_that_leaves_the_file(self, tmp_path: Path, place: int) -> None:
        """tifffile would read the last bytes of the file as a page."""
        path = tmp_path / "x.tif"
        pages_of(path, 1)
        content = path.read_bytes()
        start = len(content) - 4 if place == 8 else place
        path.write_bytes(content[:4] + struct.pack("<I", start) + content[8:-4] + b"\2\0\x08\0")
        with pytest.raises(FileError, match=r"x\.tif' is incomplete"):
            read(path)


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"rowsperstrip": 8}], ids=["tiles", "strips"])
def test_tiles_and_strips_that_are_not_listed_are_an_error(
    tmp_path: Path, options: dict[str, Any], lazy: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """tifffile takes them for zeros and only logs it."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, picture((32, 32), "u2"), compression="zlib", **options)
    assert read(path, lazy=lazy).data[31].any()
    with tifffile.TiffFile(path) as tif:
        tags = [tag for tag in tif.pages.first.tags if tag.code in (273, 279, 324, 325)]  # offsets and sizes
    assert len(tags) == 2
    content = bytearray(path.read_bytes())
    for tag in tags:
        struct.pack_into("<I", content, tag.offset + 4, tag.count - 1)
    path.write_bytes(content)
    with pytest.raises(FileError, match="is incomplete"):
        read(path, lazy=lazy).data[31]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("side", "message"), [(10**5, "cannot be read as PNG .*bomb"), (13_000, "cannot be read")])
def test_a_png_that_claims_too_much(tmp_path: Path, side: int, message: str) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 99)
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND"))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    for lazy in (True, False):
        with pytest.raises(FileError, match=message):
            read(tmp_path / "x.png", lazy=lazy)
