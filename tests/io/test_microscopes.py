"""Files of microscopes: values, axes, calibration, several images in a file, damaged files, libraries that are missing.

The CZI is written by Zeiss' own library; the others are put together as their readers expect them.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microscopes
from napari_pristine import read, write
from napari_pristine.errors import FileError, PristineError
from napari_pristine.io import registry, vendors

Writer = Callable[[Path, Any], None]
VALUES = np.random.default_rng(0).integers(1, 4000, (2, 3, 3, 24, 32), dtype=np.uint16)
NAMES = ("DAPI", "EGFP", "Cy5")
WRITERS: dict[str, Writer] = {
    ".czi": lambda path, values: microscopes.write_czi(path, [values], "TZCYX", channels=NAMES),
    ".lif": lambda path, values: microscopes.write_lif(path, [("cells", "TZCYX", values)], luts=NAMES),
    ".lof": lambda path, values: microscopes.write_lif(path, [("cells", "TZCYX", values)], luts=NAMES),
    ".nd2": lambda path, values: microscopes.write_nd2(path, values, "TZCYX", NAMES),
    ".oif": lambda path, values: microscopes.write_oif(path, values, "TZCYX", NAMES),
    ".lsm": lambda path, values: microscopes.write_lsm(path, values, NAMES),
}
LIBRARIES = {suffix: kind.library for kind in vendors.KINDS for suffix in kind.suffixes}


@pytest.fixture(params=sorted(WRITERS))
def suffix(request: pytest.FixtureRequest) -> str:
    """A suffix whose library is installed."""
    if request.param in LIBRARIES:
        pytest.importorskip(LIBRARIES[request.param], reason="reads the format; pip install 'napari-pristine[formats]'")
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, suffix: str) -> Path:
    WRITERS[suffix](tmp_path / f"cells{suffix}", VALUES)
    return tmp_path / f"cells{suffix}"


def test_values_axes_and_calibration(path: Path) -> None:
    whole, lazy = read(path), read(path, lazy=True)
    assert not isinstance(lazy.data, np.ndarray)
    time = (1.0, "pixel") if path.suffix == ".czi" else (2.0, "second")  # the writer of CZI states no time step
    for image in (whole, lazy):
        assert (image.axes, image.shape, image.dtype) == ("TZCYX", VALUES.shape, VALUES.dtype)
        assert list(zip(image.scale, image.units, strict=True)) == [
            time, (0.5, "micrometer"), (1.0, "pixel"), (0.1, "micrometer"), (0.1, "micrometer")
        ]  # fmt: skip
        assert (image.channels, image.name, image.notes) == (NAMES, "cells", ())
    np.testing.assert_array_equal(whole.data, VALUES)
    for index in (..., 1, (0, slice(None, None, 2), 1), (slice(None, None, -1), -1, slice(1), slice(20, 3, -4), 7)):
        np.testing.assert_array_equal(lazy.data[index], VALUES[index])
    assert read(path, axes="ABCYX", lazy=True).axes == "ABCYX"
    with pytest.raises(PristineError, match=r"axes 'YX' name 2 dimensions but the image has 5"):
        read(path, axes="YX")


def test_threads_read_side_by_side(path: Path) -> None:
    image = read(path, lazy=True)
    places = [(t, z, c) for t in range(2) for z in range(3) for c in range(3)] * 3
    with ThreadPoolExecutor(4) as pool:
        for place, plane in zip(places, pool.map(lambda place: image.data[place], places), strict=True):
            np.testing.assert_array_equal(plane, VALUES[place])


def test_results_are_ome_tiff_with_all_calibration(path: Path, tmp_path: Path) -> None:
    image = read(path, lazy=True)
    result = tmp_path / registry.result_name(path)
    assert result.name == "cells.ome.tif"
    write(result, image)
    again = read(result)
    np.testing.assert_array_equal(again.data, VALUES)
    assert (again.axes, again.scale, again.units, again.channels) == (
        image.axes, image.scale, image.units, image.channels
    )  # fmt: skip


def test_no_file_stays_open_and_a_changed_one_is_an_error(path: Path) -> None:
    open_now = len(os.listdir("/proc/self/fd"))
    images = [read(path, lazy=True) for _ in range(20)]
    assert all(image.data[0, 0, 0, 0, 0] == VALUES[0, 0, 0, 0, 0] for image in images)
    assert len(os.listdir("/proc/self/fd")) == open_now
    os.utime(path, (1, 1))
    with pytest.raises(FileError, match=rf"cells\{path.suffix}' has been replaced or changed"):
        images[0].data[0]
    path.unlink()
    with pytest.raises(FileError, match=rf"cells\{path.suffix}'"):
        images[1].data[0]


def test_a_file_that_is_cut_off_is_an_error_or_the_image(path: Path) -> None:
    whole = path.read_bytes()
    for number in range(1, 24):
        path.write_bytes(whole[: len(whole) * number // 24])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            message = problem(path)
        assert path.name in message or not message
        assert "\n" not in message


def test_a_damaged_file_is_an_error_or_has_its_shape(path: Path) -> None:
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for _ in range(12):
        part = bytearray(whole)
        for place in rng.integers(min(3000, len(part)), size=9):
            part[int(place)] = int(rng.integers(256))
        path.write_bytes(bytes(part))
        with warnings.catch_warnings(), suppress(PristineError):
            warnings.simplefilter("ignore")
            image = read(path, lazy=True)
            assert np.asarray(image.data).shape == image.shape


def problem(path: Path) -> str:
    """Read a file; the message if that fails."""
    try:
        image = read(path, lazy=True)
        np.testing.assert_array_equal(image.data[...], VALUES)
    except PristineError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", vendors.KINDS, ids=lambda kind: kind.format_name)
def test_a_library_that_is_missing_is_named(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind.library, None)
    file = tmp_path / f"x{kind.suffixes[0]}"
    file.write_bytes(b"x")
    with pytest.raises(FileError, match=rf"pip install 'napari-pristine\[{kind.extra}\]'$"):
        read(file, lazy=True)


def write_scenes(path: Path, values: list[Any]) -> None:
    """Write three `TCYX` images; in ND2 they have the same size."""
    if path.suffix == ".czi":
        microscopes.write_czi(path, values, "TCYX")
    elif path.suffix == ".lif":
        microscopes.write_lif(path, [(f"well {n}", "TCYX", v) for n, v in enumerate(values)])
    else:
        microscopes.write_nd2(path, np.stack([values[0]] * 2 + [values[0] + 7], 1), "TPCYX")


@pytest.mark.parametrize("name", ["a.czi", "a.lif", "a.nd2"])
def test_several_images_in_a_file(tmp_path: Path, name: str) -> None:
    pytest.importorskip(LIBRARIES[Path(name).suffix], reason="reads the format")
    first = VALUES[:, 0]
    values = [first[..., :20], first, first[..., :16, :]]
    if name == "a.nd2":
        values = [first] * 3
    write_scenes(tmp_path / name, values)
    found = read(tmp_path / name, lazy=True)
    largest = 0 if name == "a.nd2" else 1
    np.testing.assert_array_equal(np.asarray(found.data), values[largest])
    assert f"the file holds 3 images: {largest} (" in found.notes[0]
    assert "--series chooses another" in found.notes[0]
    chosen = read(tmp_path / name, series=2)
    np.testing.assert_array_equal(chosen.data, values[2] + 7 if name == "a.nd2" else values[2])
    assert (chosen.notes, chosen.metadata["images"]) == ((), 3)
    assert chosen.name == "a " + ("scene 2" if name == "a.czi" else "well 2")
    with pytest.raises(FileError, match=r"has no image 3 \(--series\): it holds 3 images, numbered from 0 to 2"):
        read(tmp_path / name, series=3)


@pytest.mark.parametrize("name", ["a.czi", "a.nd2"])
def test_colours(tmp_path: Path, name: str) -> None:
    pytest.importorskip(LIBRARIES[Path(name).suffix], reason="reads the format")
    rgb = np.random.default_rng(2).integers(0, 255, (2, 24, 20, 3), dtype=np.uint8)
    if name == "a.czi":
        microscopes.write_czi(tmp_path / name, [rgb], "TYXS")
    else:
        microscopes.write_nd2(tmp_path / name, rgb, "TYXS")
    image = read(tmp_path / name, lazy=True)
    assert (image.axes, image.dtype) == ("TYXS", np.uint8)
    for index in (..., (1, slice(3, 20, 5), 7, slice(None, None, 2)), (0, 2, slice(None, None, -3), 1)):
        np.testing.assert_array_equal(image.data[index], rgb[index])


def test_single_planes_floats_and_odd_axes(tmp_path: Path) -> None:
    for library in ("pylibCZIrw.czi", "liffile", "nd2"):
        pytest.importorskip(library, reason="reads the format")
    plane = VALUES[0, 0, 0]
    microscopes.write_czi(tmp_path / "f.czi", [plane.astype(np.float32)], "YX")
    microscopes.write_nd2(tmp_path / "one.nd2", plane, "YX", pixel=0.0)
    microscopes.write_lif(tmp_path / "m.lif", [("tiles", "MTYX", VALUES[:, :, 0]), ("one", "MYX", VALUES[0, :, 0])])
    assert read(tmp_path / "f.czi").dtype == np.float32
    one = read(tmp_path / "one.nd2")
    np.testing.assert_array_equal(one.data, plane)
    assert one.units == ("pixel", "pixel")
    tiles = read(tmp_path / "m.lif", series=1)
    assert (tiles.axes, tiles.notes) == ("TYX", ("axis M is read as T",))
    assert read(tmp_path / "m.lif", series=0).axes == "ZTYX"


def test_pixels_are_read_although_the_metadata_are_broken(tmp_path: Path) -> None:
    pytest.importorskip("nd2", reason="reads the format")
    path = tmp_path / "a.nd2"
    microscopes.write_nd2(path, VALUES[:, 0, 0], "TYX")
    path.write_bytes(path.read_bytes().replace(b"pFluorescentProbe", b"pFluorescentQrobe"))  # nd2 fails without one
    image = read(path)
    np.testing.assert_array_equal(image.data, VALUES[:, 0, 0])
    assert "pixel size and channel names cannot be read" in image.notes[0]


def cell(*place: int) -> int:
    """Value of the plane at a place along T, Z and C."""
    return 100 + int(np.dot(place, (100, 10, 1)))


@pytest.mark.parametrize(
    ("sizes", "missing", "note"),
    [
        ((3, 4, 1), [(2, 2, 0), (2, 3, 0)], "2 of its 12 planes are missing: T 0 to 1 is read, T 2 is left out"),
        ((3, 2, 2), [(2, 1, 1)], "1 of its 12 planes are missing: "),
        ((1, 3, 1), [(0, 2, 0)], ""),
        ((3, 1, 1), [(1, 0, 0)], "has only 2 of its 3 planes, with gaps between them"),
        ((3, 1, 2), [(1, 0, 1)], "1 of its 6 planes are missing: C 0 is read, C 1 is left out"),
        ((3, 2, 2), [(0, 0, 0), (1, 1, 0), (2, 0, 1)], "has only 9 of its 12 planes"),
    ],
)
@pytest.mark.parametrize("start", [(0, 0, 0), (3, 0, 1), (2, 5, 3)])
def test_planes_that_are_missing_in_czi(
    tmp_path: Path, sizes: tuple[int, ...], missing: list[tuple[int, ...]], note: str, start: tuple[int, ...]
) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi", reason="reads the format")
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path)) as file:
        for place in np.ndindex(sizes):
            if place not in missing:
                values = np.full((16, 20, 1), cell(*place), np.uint16)
                file.write(values, plane={axis: at + n for axis, at, n in zip("TZC", place, start, strict=True)})
    if note.startswith("has only"):
        with pytest.raises(FileError, match=note):
            read(path)
        return
    for image in (read(path), read(path, lazy=True)):
        values = np.asarray(image.data)[..., 0, 0]
        there = [cell(*place) for place in np.ndindex(sizes) if place not in missing]
        assert set(values.ravel()) <= set(there)
        assert values.size >= len(there) // 2
        assert note in " ".join(image.notes)
        assert bool(image.notes) == bool(note)
        for n, axis in enumerate(image.axes[:-2]):
            assert (np.diff(values.astype(int), axis=n) == {"T": 100, "Z": 10, "C": 1}[axis]).all()


def test_scenes_of_a_czi_of_different_depth(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi", reason="reads the format")
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path)) as file:
        for scene, depths in enumerate(((0, 1, 2), (1,), (1, 2))):
            for z in depths:
                values = np.full((16, 20, 1), 10 * scene + z, np.uint16)
                file.write(values, plane={"T": 0, "Z": z, "C": 0}, location=(100 * scene, 0), scene=scene)
    for scene, (axes, values) in enumerate((("ZYX", [0, 1, 2]), ("YX", [11]), ("ZYX", [21, 22]))):
        image = read(path, series=scene)
        assert (image.axes, image.notes) == (axes, ())
        assert image.data[..., 0, 0].ravel().tolist() == values


@pytest.mark.parametrize(
    ("axes", "gone", "axis", "kept"),
    [
        ("TYX", [3], "T", [0, 1, 2]),
        ("TYX", [0], "T", [1, 2, 3]),
        ("TYX", [1], "T", []),
        ("TZYX", [7], "T", [0, 1, 2]),
        ("TZYX", [1, 5], "Z", [0]),
        ("TZYX", [6, 7], "T", [0, 1, 2]),
        ("TPYX", [7], "T", [0, 1, 2]),
    ],
)
def test_planes_that_are_missing_in_nd2(tmp_path: Path, axes: str, gone: list[int], axis: str, kept: list[int]) -> None:
    pytest.importorskip("nd2", reason="reads the format")
    values = np.random.default_rng(3).integers(1, 99, (4, *(2,) * (len(axes) - 3), 24, 32), dtype=np.uint16)
    path = tmp_path / "a.nd2"
    microscopes.write_nd2(path, values, axes)
    content = path.read_bytes()
    for number in gone:
        content = content.replace(f"ImageDataSeq|{number}!".encode(), f"ImageDataXeq|{number}!".encode())
    path.write_bytes(content)
    if axes == "TPYX":
        first = read(path, series=0)
        np.testing.assert_array_equal(first.data, values[:, 0])
        assert first.notes == ()
        values = values[:, 1]
    series = 1 if axes == "TPYX" else None
    if not kept:
        with pytest.raises(FileError, match="has only 3 of its 4 planes, with gaps"):
            read(path, series=series)
        return
    image = read(path, series=series)
    np.testing.assert_array_equal(image.data, values.take(kept, image.axes.index(axis)))
    (note,) = image.notes
    assert f"planes are missing: {axis} " in note


def test_an_image_of_a_lif_file_that_is_cut_off(tmp_path: Path) -> None:
    pytest.importorskip("liffile", reason="reads the format")
    path = tmp_path / "a.lif"
    microscopes.write_lif(path, [("one", "ZYX", VALUES[0, :, 0]), ("two", "TZYX", VALUES[:, :, 1])])
    path.write_bytes(path.read_bytes()[:-100])
    np.testing.assert_array_equal(read(path, series=0).data, VALUES[0, :, 0])
    for series in (None, 1):
        with pytest.raises(FileError, match=r"it is cut off, and '.*two' is incomplete; copy it again"):
            read(path, series=series)


def test_planes_of_an_olympus_file_that_are_missing(tmp_path: Path) -> None:
    pytest.importorskip("oiffile", reason="reads the format")
    path = tmp_path / "a.oif"
    microscopes.write_oif(path, VALUES[0], "ZCYX")
    (tmp_path / "a.oif.files" / "s_Z002C003.tif").unlink()
    with pytest.raises(FileError, match="lacks 1 of its 9 planes; copy all of it again"):
        read(path)
    for file in (tmp_path / "a.oif.files").iterdir():
        file.unlink()
    with pytest.raises(FileError, match=r"has no planes; an \.oif file needs the folder 'a\.oif\.files'"):
        read(path)
    (tmp_path / "a.oif.files").rmdir()
    with pytest.raises(FileError, match=r"a\.oif\.files"):
        read(path)


@pytest.mark.parametrize(("axis", "step"), [("Z", (0.5, "micrometer")), ("T", (2.0, "second"))])
def test_metamorph_stacks(tmp_path: Path, axis: str, step: tuple[float, str]) -> None:
    path = tmp_path / "a.stk"
    microscopes.write_stk(path, VALUES[0, :, 0], axis)
    for image in (read(path), read(path, lazy=True)):
        assert image.axes == f"{axis}YX"
        assert (image.scale[0], image.units[0]) == step
        assert (image.scale[1:], image.units[1:]) == ((0.25, 0.25), ("micrometer", "micrometer"))
        assert image.channels == ("525 nm",)
        np.testing.assert_array_equal(np.asarray(image.data), VALUES[0, :, 0])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match=r"a\.stk"):
        np.asarray(read(path, lazy=True).data)


def test_every_suffix_is_told_once() -> None:
    assert len(set(registry.SUFFIXES)) == len(registry.SUFFIXES)
    assert not set(registry.SUFFIXES) & set(registry._MICROSCOPE_SUFFIXES)
