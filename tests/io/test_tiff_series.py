"""TIFF files with several images, or with another number of planes than they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.registry import read

RNG = np.random.default_rng(0)
FRAMES = RNG.poisson(50, (6, 32, 40)).astype(np.uint16)
FRAME, SMALL = FRAMES[0], FRAMES[0, :16, :16]
RGB = RNG.integers(0, 255, (5, 32, 40, 3)).astype(np.uint8)
VOLUMES = RNG.integers(0, 255, (4, 5, 32, 40)).astype(np.uint16)


def append(path: Path, images: Sequence[np.ndarray], *options: dict[str, Any]) -> Path:
    """Write images one after the other, as `imwrite(append=True)` does, with options by turns."""
    for n, values in enumerate(images):
        photometric = "rgb" if values.shape[-1] == 3 else "minisblack"
        tifffile.imwrite(
            path, values, append=n > 0, photometric=photometric, **(options[n % len(options)] if options else {})
        )
    return path


def check(path: Path, axes: str, values: np.ndarray) -> Image:
    """Check an image, also if it is read lazily."""
    found, lazy = read(path), read(path, lazy=True)
    assert (found.axes, lazy.axes, found.dtype, found.notes) == (axes, axes, values.dtype, lazy.notes)
    np.testing.assert_array_equal(found.data, values)
    np.testing.assert_array_equal(np.asarray(lazy.data), values)
    return found


class TestStacks:
    @pytest.mark.parametrize(
        ("images", "options", "axes"),
        [
            (FRAMES, [{}], "TYX"),
            (FRAMES, [{"metadata": None}], "TYX"),
            (FRAMES, [{"compression": "zlib"}], "TYX"),
            (FRAMES, [{"compression": "zlib"}, {}], "TYX"),
            (FRAMES, [{"tile": (16, 16)}], "TYX"),
            (FRAMES.astype("f4"), [{}], "TYX"),
            (RGB, [{}], "TYXS"),
            (VOLUMES, [{"metadata": {"axes": "ZYX"}}], "TZYX"),
            (VOLUMES[:, :2], [{"metadata": {"axes": "CYX"}}], "TCYX"),
        ],
    )
    def test_equal_images_are_one_stack(self, tmp_path: Path, images: np.ndarray, options: Any, axes: str) -> None:
        path = append(tmp_path / "x.tif", images, *options)
        assert check(path, axes, images).notes == ()
        for lazy in (True, False):
            np.testing.assert_array_equal(read(path, series=3, lazy=lazy).data[...], images[3])
        with pytest.raises(FileError, match=f"it holds {len(images)} images, numbered from 0 to {len(images) - 1}"):
            read(path, series=len(images))

    def test_parts_of_a_movie_follow_each_other(self, tmp_path: Path) -> None:
        check(append(tmp_path / "x.tif", VOLUMES), "TYX", VOLUMES.reshape(-1, 32, 40))

    def test_a_large_stack_in_bigtiff(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "x.tif", bigtiff=True) as tif:
            for frame in FRAMES:
                tif.write(frame)
        check(tmp_path / "x.tif", "TYX", FRAMES)

    @pytest.mark.parametrize("place", [0, 3, 6])
    @pytest.mark.parametrize("other", [SMALL, RGB[0]])
    def test_one_that_differs_is_left_out_and_named(self, tmp_path: Path, place: int, other: np.ndarray) -> None:
        images = [*FRAMES]
        images.insert(place, other)
        (note,) = check(append(tmp_path / "x.tif", images), "TYX", FRAMES).notes
        assert note.startswith("the file holds 7 images: 6 equal images were read as one stack along T, not ")
        assert f"not {place} (Y {other.shape[0]} ×" in note

    def test_pages_without_a_description_are_numbered_in_their_order(self, tmp_path: Path) -> None:
        images = [FRAME, SMALL, FRAMES[1], RGB[0], FRAMES[2], SMALL + 1]
        path = append(tmp_path / "x.tif", images, {"metadata": None}, {"metadata": None, "compression": "zlib"})
        (note,) = check(path, "TYX", FRAMES[:3]).notes
        assert note.startswith("the file holds 6 images: 3 equal images were read as one stack along T, not 1 (Y 16")
        for number, values in enumerate(images):
            np.testing.assert_array_equal(read(path, series=number).data, values)
            np.testing.assert_array_equal(read(path, series=number, lazy=True).data[...], values)
        with pytest.raises(FileError, match=r"has no image 6 .--series.: it holds 6 images, numbered from 0 to 5"):
            read(path, series=6)

    @pytest.mark.parametrize("options", [{"imagej": True}, {"metadata": {"axes": "TYX"}}, {"ome": True}])
    def test_a_described_stack_is_one_image(self, tmp_path: Path, options: dict[str, Any]) -> None:
        tifffile.imwrite(tmp_path / "x.tif", FRAMES, photometric="minisblack", **options)
        assert read(tmp_path / "x.tif", series=0).shape == FRAMES.shape
        with pytest.raises(FileError, match="it holds one image, number 0") as caught:
            read(tmp_path / "x.tif", series=2)
        assert "=2:3 restores a part of it" in str(caught.value) or "ome" in options

    def test_levels_of_a_pyramid_are_no_frames(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
            for frame in FRAMES:
                tif.write(frame, subifds=1, metadata=None)
                tif.write(frame[::2, ::2], subfiletype=1, metadata=None)
        assert check(tmp_path / "x.tif", "TYX", FRAMES).notes == ()

    def test_images_of_an_ome_file_are_scenes(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "x.ome.tif") as tif:
            for n in range(3):
                tif.write(FRAMES[:2] + n, metadata={"axes": "TYX", "Name": f"Pos {n}"}, photometric="minisblack")
        (note,) = check(tmp_path / "x.ome.tif", "TYX", FRAMES[:2]).notes
        assert note == (
            "the file holds 3 images: image 0 'Pos 0' (T 2 × Y 32 × X 40, uint16) was read, not 1 'Pos 1' "
            "(T 2 × Y 32 × X 40, uint16), 2 'Pos 2' (T 2 × Y 32 × X 40, uint16); --series chooses another"
        )
        np.testing.assert_array_equal(read(tmp_path / "x.ome.tif", series=2).data, FRAMES[:2] + 2)


class TestChoice:
    @pytest.mark.parametrize(
        ("images", "taken"),
        [
            ([RGB[0], FRAME], 1),
            ([FRAME, RGB[0]], 0),
            ([RGB[0], FRAME.astype("u1")], 1),
            ([RGB[0], FRAME.astype("f4")], 1),
            ([np.pad(RGB[0], ((0, 12), (0, 0), (0, 0))), FRAME], 1),  # with a bar below
            ([np.kron(RGB[0], np.ones((3, 3, 1), "u1")), FRAME], 1),  # enlarged
            ([*RGB, FRAME], 5),
            ([FRAME.astype("u1"), FRAME], 1),
            ([FRAME, FRAME.astype("f4"), FRAME.astype("u1")], 1),
            ([FRAMES, FRAME], 0),  # a projection
            ([FRAMES.mean(0).astype("f4"), FRAMES], 1),
            ([SMALL, FRAME.astype("u1")], 1),
            ([RGB[0], SMALL[:6, :6].astype("u1")], 0),
        ],
    )
    def test_what_was_measured_is_taken(self, tmp_path: Path, images: list[np.ndarray], taken: int) -> None:
        path = append(tmp_path / "x.tif", images)
        (note,) = read(path).notes
        np.testing.assert_array_equal(read(path).data, images[taken])
        assert f"the file holds {len(images)} images: image {taken} (" in note
        for number, values in enumerate(images):
            np.testing.assert_array_equal(read(path, series=number, lazy=True).data[...], values)
        with pytest.raises(FileError, match=f"has no image {len(images)} .--series."):
            read(path, series=len(images))

    @pytest.mark.parametrize("name", ["label image", "Macro", "thumbnail", "Overview 1"])
    def test_pictures_of_the_slide_are_not(self, tmp_path: Path, name: str) -> None:
        with tifffile.TiffWriter(tmp_path / "x.ome.tif") as tif:
            tif.write(np.kron(FRAME, np.ones((3, 3), "u2")), metadata={"axes": "YX", "Name": name})
            tif.write(FRAME, metadata={"axes": "YX", "Name": "Sample"})
        assert read(tmp_path / "x.ome.tif").shape == FRAME.shape

    def test_a_reduced_version_needs_no_word(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
            tif.write(np.zeros((64, 64), "u2"), subfiletype=1, metadata=None)
            tif.write(FRAME, metadata=None)
        assert check(tmp_path / "x.tif", "YX", FRAME).notes == ()


class TestCounts:
    """ImageJ's description states the number of images, which other programs do not correct."""

    @pytest.mark.parametrize(
        ("text", "axes", "note"),
        [
            ("images=6\nslices=6\n", "ZYX", ""),
            ("", "TYX", ""),
            ("images=10\nslices=10\n", "ZYX", "its description states 10 images, but it holds 6, which are read"),
            ("images=4\nslices=4\n", "ZYX", "its description states 4 images, but it holds 6, which are read"),
            ("images=9\n", "TYX", "its description states 9 images, but it holds 6, which are read"),
            ("images=10\nchannels=2\nframes=5\nhyperstack=true\n", "TCYX", "its description states 10 images"),
            ("images=4\nchannels=2\nframes=2\nhyperstack=true\n", "TCYX", "its description states 4 images"),
            ("images=2\nchannels=2\nhyperstack=true\n", "TCYX", "its description states 2 images"),
        ],
    )
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_all_pages_are_read(self, tmp_path: Path, text: str, axes: str, note: str, compression: str | None) -> None:
        tifffile.imwrite(
            tmp_path / "x.tif", FRAMES, description=f"ImageJ=1.53t\n{text}", metadata=None, compression=compression,
            photometric="minisblack",
        )  # fmt: skip
        values = FRAMES.reshape(3, 2, 32, 40) if "C" in axes else FRAMES
        assert note in " ".join(check(tmp_path / "x.tif", axes, values).notes)
        assert bool(read(tmp_path / "x.tif").notes) == bool(note)

    def test_an_incomplete_frame_at_the_end_is_left_out(self, tmp_path: Path) -> None:
        text = "ImageJ=1.53t\nimages=8\nchannels=2\nframes=4\nhyperstack=true\n"
        tifffile.imwrite(tmp_path / "x.tif", FRAMES[:5], description=text, metadata=None, photometric="minisblack")
        check(tmp_path / "x.tif", "TCYX", FRAMES[:4].reshape(2, 2, 32, 40))

    def test_a_single_plane_of_a_stack(self, tmp_path: Path) -> None:
        text = "ImageJ=1.53t\nimages=6\nslices=6\n"
        tifffile.imwrite(tmp_path / "x.tif", FRAME, description=text, metadata=None)
        assert check(tmp_path / "x.tif", "YX", FRAME).notes
