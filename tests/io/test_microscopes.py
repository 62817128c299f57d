"""Files of microscopes: values, axes, calibration, several images in a file, damaged files, libraries that are missing.

The CZI is written by Zeiss' own library; the others are put together as their readers expect them.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


def test_a_file_that_is_cut_off_or_damaged_is_an_error_or_the_image(path: Path) -> None:
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for number in range(24):
        part = bytearray(whole[: int(rng.integers(len(whole)))] if number % 2 else whole)
        for _ in range(0 if number % 2 else 9):
            part[int(rng.integers(min(3000, len(part))))] = int(rng.integers(256))
        path.write_bytes(bytes(part))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            message = problem(path)
        assert path.name in message or not message
        assert "\n" not in message


def problem(path: Path) -> str:
    """Read a file; the message if that fails."""
    try:
        image = read(path, lazy=True)
        assert np.asarray(image.data).shape == image.shape
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
