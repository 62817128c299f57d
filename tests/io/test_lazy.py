"""Lazy reading: values stay on disk until they are indexed."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from tests.batches import peak_memory

from napari_pristine import read, write
from napari_pristine.errors import FileError
from napari_pristine.image.image import Image, LazySlice
from napari_pristine.io.tiff import TiffArray

STACK = np.random.default_rng(0).integers(0, 999, (3, 2, 20, 24)).astype(np.uint16)
COLOUR = np.random.default_rng(0).integers(0, 255, (4, 20, 24, 3)).astype(np.uint8)
AXES = {"axes": "TCYX"}


def write_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for plane in STACK[:, 0]:
            file.write(plane, compression="zlib", metadata=None, contiguous=False)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "ours.tif": lambda path: write(path, Image(STACK, "TCYX")),
    "imagej.tif": lambda path: tifffile.imwrite(path, STACK, imagej=True, metadata=AXES),
    "packed imagej.tif": lambda path: tifffile.imwrite(path, STACK, imagej=True, metadata=AXES, compression="zlib"),
    "packed.ome.tif": lambda path: tifffile.imwrite(path, STACK, metadata=AXES, compression="zlib"),
    "tiled.ome.tif": lambda path: tifffile.imwrite(path, STACK, metadata=AXES, tile=(16, 16)),
    "other order.tif": lambda path: tifffile.imwrite(path, STACK, metadata=AXES, byteorder=">", compression="lzw"),
    "pages.tif": write_pages,
    "colour.tif": lambda path: tifffile.imwrite(path, COLOUR, photometric="rgb", compression="zlib"),
    "planar.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(COLOUR[0], -1, 0).copy(), photometric="rgb", planarconfig="separate"
    ),
    "planar stack.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(COLOUR, -1, 1).copy(), photometric="rgb", planarconfig="separate", compression="zlib"
    ),
    "one strip.tif": lambda path: tifffile.imwrite(path, STACK, metadata=AXES, compression="zlib", rowsperstrip=20),
    "one plane.tif": lambda path: tifffile.imwrite(path, STACK[0, 0], compression="zlib"),
    "picture.png": lambda path: PIL.Image.fromarray(STACK[0, 0]).save(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_lazy_and_eager_reading_agree(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    eager, lazy = read(tmp_path / name), read(tmp_path / name, lazy=True)
    assert (lazy.axes, lazy.shape, lazy.dtype.newbyteorder("=")) == (eager.axes, eager.shape, eager.dtype)
    assert (lazy.scale, lazy.units, lazy.channels, lazy.metadata) == (
        eager.scale, eager.units, eager.channels, eager.metadata,
    )  # fmt: skip
    rest = (slice(None),) * (eager.data.ndim - 2)
    for index in (0, *range(eager.shape[0]), slice(0, 2), (*rest, slice(3, 9, 2), 1), (-1, *rest[1:], 4)):
        assert np.array_equal(lazy.data[index], eager.data[index])
    if isinstance(lazy.data, TiffArray):
        assert np.array_equal(np.asarray(lazy.data), eager.data)
    gc.collect()  # a file left open would warn, and warnings are errors


def test_only_indexed_pages_are_read(tmp_path: Path) -> None:
    """Broken pages of other planes do not matter."""
    path = tmp_path / "stack.tif"
    write_pages(path)
    with tifffile.TiffFile(path) as file:
        start, count = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start : start + count] = bytes(count)
    path.write_bytes(data)
    lazy = read(path, lazy=True)
    assert np.array_equal(lazy.data[2], STACK[2, 0])
    with pytest.raises(FileError, match=r"stack\.tif' cannot be read"):
        lazy.data[1]


@pytest.mark.parametrize("content", [b"", b"no picture at all", "cut"])
def test_broken_files_are_an_error_when_they_are_opened(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "stack.tif"
    write_pages(path)
    path.write_bytes(path.read_bytes()[:-300] if content == "cut" else content)
    with pytest.raises(FileError, match=r"stack\.tif"):
        read(path, lazy=True)


def test_no_file_stays_open(tmp_path: Path) -> None:
    """A system limits the number of open files, and a series may have thousands."""
    resource = pytest.importorskip("resource")
    paths = [tmp_path / f"{number}.tif" for number in range(60)]
    for number, path in enumerate(paths):
        tifffile.imwrite(path, np.full((2, 5, 6), number, np.uint16), metadata={"axes": "TYX"})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(open_now + 30, soft), hard))
    try:
        images = [read(path, lazy=True) for path in paths]
        values = [image.data[1] for image in images]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [int(value[0, 0]) for value in values] == list(range(60))


def test_one_page_is_kept_however_many_files_are_open(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.tif" for number in range(12)]
    for path in paths:
        tifffile.imwrite(path, np.zeros((2, 2048, 2048), np.uint16), metadata={"axes": "TYX"}, compression="zlib")
    images = [read(path, lazy=True) for path in paths]
    assert images[0].data[0, 0, 0] == 0  # imports are not counted
    with peak_memory() as peak:
        for image in images:
            assert image.data[0, 0, 0] == 0
    assert peak() < 6 * 2048 * 2048 * 2


def test_a_file_that_was_cut_off_since_it_was_opened_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, metadata=AXES)
    lazy = read(path, lazy=True)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(FileError, match=r"stack\.tif"):
        lazy.data[2]


SOURCES: dict[str, Callable[[Path], Any]] = {
    "pages.tif": lambda path: tifffile.imwrite(path, STACK, metadata=AXES, compression="zlib"),
    "tiles.tif": lambda path: tifffile.imwrite(path, STACK, metadata=AXES, compression="zlib", tile=(16, 16)),
    "one piece.tif": lambda path: tifffile.imwrite(path, STACK, metadata=AXES),
    "chunks.zarr": lambda path: write(path, Image(STACK, "TCYX")),
}
SLICES = st.slices(30) | st.builds(slice, *[st.none() | st.integers(-30, 30)] * 2, st.integers(1, 4))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    folder = tmp_path_factory.mktemp("sources")
    for name, make in SOURCES.items():
        make(folder / name)
    return {name: read(folder / name, axes="TCYX", lazy=True) for name in SOURCES}


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(sorted(SOURCES)), data=st.data())
def test_slices_of_slices_are_those_of_numpy(sources: dict[str, Image], name: str, data: st.DataObject) -> None:
    """Any integers and slices, one after the other."""
    found, expected = sources[name].data, STACK
    for _ in range(data.draw(st.integers(1, 3))):
        index = tuple(
            data.draw(SLICES | st.integers(-size, size - 1) if size else SLICES)
            for size in expected.shape[: data.draw(st.integers(0, expected.ndim))]
        )
        index += (...,) if data.draw(st.booleans()) else ()
        found, expected = LazySlice(found, index), expected[index]
        assert (found.shape, found.ndim, found.dtype) == (expected.shape, expected.ndim, expected.dtype)
        if expected.ndim == 0:
            break
    np.testing.assert_array_equal(found[...], expected)
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("name", SOURCES)
def test_a_selection_stays_on_disk(sources: dict[str, Image], name: str) -> None:
    part = sources[name].select({"T": "1:", "Y": "2:14:3", "C": "1"})
    whole = Image(STACK, "TCYX").select({"T": "1:", "Y": "2:14:3", "C": "1"})
    assert isinstance(part.data, LazySlice)
    assert (part.shape, part.axes, part.scale[2]) == ((2, 1, 4, 24), "TCYX", sources[name].scale[2] * 3)
    np.testing.assert_array_equal(part.data[1, 0], whole.data[1, 0])
    np.testing.assert_array_equal(part.select({"T": "1"}).data[0], whole.data[1])


def test_only_the_planes_of_a_slice_are_read() -> None:
    class Recorder:
        shape, dtype, ndim = STACK.shape, STACK.dtype, STACK.ndim
        asked: list[Any] = []  # noqa: RUF012

        def __getitem__(self, index: Any) -> Any:
            self.asked.append(index)
            return STACK[index]

    image = Image(Recorder(), "TCYX").select({"T": "::2"})
    assert Recorder.asked == []
    np.testing.assert_array_equal(image.data[1, :, ::-1, 3:5], STACK[2, :, ::-1, 3:5])
    assert Recorder.asked == [(2, slice(0, 2, 1), slice(0, 20, 1), slice(3, 5, 1))]


@pytest.mark.parametrize("index", [[0, 1], None, True, "0", (0, 0, 0, 0, 0), (..., ...), 3, -4, (0, 2)])
def test_other_indices_are_refused(index: Any) -> None:
    with pytest.raises(IndexError):
        LazySlice(STACK, ...)[index]
