"""OME-TIFF spread over several files, with its metadata elsewhere, or with broken metadata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pristine.errors import FileError
from napari_pristine.io.registry import read

PLANES = np.random.default_rng(0).poisson(50, (6, 20, 24)).astype(np.uint16)
"""Three times of two channels."""
NAMESPACE = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def ome(*content: str, uuid: str = "") -> str:
    own = f' UUID="{uuid}"' if uuid else ""
    return f'<?xml version="1.0"?><OME {NAMESPACE}{own}>{"".join(content)}</OME>'


def image(*planes: str, number: int = 0, times: int = 3) -> str:
    channels = "".join(f'<Channel ID="Channel:{number}:{c}" SamplesPerPixel="1"/>' for c in (0, 1))
    return (
        f'<Image ID="Image:{number}" Name="Pos {number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" '
        f'Type="uint16" SizeX="24" SizeY="20" SizeC="2" SizeZ="1" SizeT="{times}" PhysicalSizeX="0.325">'
        f"{channels}{''.join(planes)}</Pixels></Image>"
    )


def plane(number: int, file: str, ifd: int, uuid: str = "") -> str:
    return (
        f'<TiffData FirstC="{number % 2}" FirstT="{number // 2}" FirstZ="0" IFD="{ifd}" PlaneCount="1">'
        f'<UUID FileName="{file}">{uuid or file}</UUID></TiffData>'
    )


def spread(per_file: int = 3, name: str = "m_{}.ome.tif") -> list[str]:
    """The planes, so many in each file."""
    return [plane(n, name.format(n // per_file), n % per_file) for n in range(6)]


def save(path: Path, planes: np.ndarray, description: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, planes, description=description, metadata=None, photometric="minisblack")
    return path


def micro_manager(folder: Path, per_file: int = 3) -> list[Path]:
    """A set of which each file holds all metadata."""
    return [
        save(
            folder / f"m_{n}.ome.tif",
            PLANES[n * per_file : (n + 1) * per_file],
            ome(image(*spread(per_file)), uuid=f"m_{n}.ome.tif"),
        )
        for n in range(6 // per_file)
    ]


def companion(folder: Path, *, named: bool = True) -> list[Path]:
    """A set whose metadata are in a file of their own, which the others name or not."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "set.companion.ome").write_text(ome(image(*spread()), uuid="urn:uuid:c"))
    only = ome('<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:c"/>') if named else "a camera"
    return [save(folder / f"m_{n}.ome.tif", PLANES[3 * n : 3 * n + 3], only) for n in (0, 1)]


def master(folder: Path) -> list[Path]:
    """A set of which only the second file, by name, holds the metadata."""
    only = ome('<BinaryOnly MetadataFile="m_1.ome.tif" UUID="urn:uuid:1"/>')
    return [
        save(folder / "m_0.ome.tif", PLANES[:3], only),
        save(folder / "m_1.ome.tif", PLANES[3:], ome(image(*spread()))),
    ]


def check(path: Path, planes: np.ndarray = PLANES, series: int | None = None) -> tuple[str, ...]:
    """Check the planes of a file, also if they are read lazily; returns the notes."""
    found, lazy = read(path, series=series), read(path, series=series, lazy=True)
    np.testing.assert_array_equal(found.data.reshape(-1, 20, 24), planes)
    np.testing.assert_array_equal(np.asarray(lazy.data), found.data)
    assert found.notes == lazy.notes
    return found.notes


class TestSets:
    @pytest.mark.parametrize("make", [micro_manager, companion, master])
    def test_each_file_stands_for_the_whole_set(self, tmp_path: Path, make: Any) -> None:
        paths = make(tmp_path)
        extra = ("set.companion.ome",) if make is companion else ()
        for path in paths:
            assert check(path) == ()
            found = read(path, lazy=True)
            assert (found.axes, found.shape) == ("TCYX", (3, 2, 20, 24))
            assert (found.units[-1], found.scale[-1]) == ("micrometer", 0.325)
            assert found.metadata["files"] == found.metadata["members"] == (*(p.name for p in paths), *extra)

    def test_a_companion_that_the_files_do_not_name(self, tmp_path: Path) -> None:
        assert check(companion(tmp_path, named=False)[1]) == ()
        assert "files" not in read(save(tmp_path / "alone.tif", PLANES, "a camera")).metadata

    def test_a_companion_that_is_missing(self, tmp_path: Path) -> None:
        paths = companion(tmp_path)
        (tmp_path / "set.companion.ome").unlink()
        (note,) = check(paths[1], PLANES[3:])
        assert note == "the file 'set.companion.ome' with its metadata is missing; its pages are read in order"

    @pytest.mark.parametrize(("gone", "left"), [(2, PLANES[:4]), (0, PLANES[2:])])
    def test_a_file_that_is_missing_is_named_and_the_rest_is_read(
        self, tmp_path: Path, gone: int, left: np.ndarray
    ) -> None:
        paths = micro_manager(tmp_path, per_file=2)
        paths[gone].unlink()
        read_, left_out = ("0 to 1", "2") if gone else ("1 to 2", "0")
        assert check(paths[1], left) == (
            f"2 of its 6 planes are missing, as the file 'm_{gone}.ome.tif' of this set is not there: T {read_} is "
            f"read, T {left_out} is left out (counted from 0), nothing is filled in",
        )

    def test_an_incomplete_frame_is_left_out(self, tmp_path: Path) -> None:
        paths = micro_manager(tmp_path)
        paths[1].unlink()
        (note,) = check(paths[0], PLANES[:2])
        assert "'m_1.ome.tif' of this set is not there: T 0 is read, T 1 to 2 is left out (counted from 0)" in note

    def test_files_in_the_middle_are_missing(self, tmp_path: Path) -> None:
        paths = micro_manager(tmp_path, per_file=1)
        for path in paths[1:5]:
            path.unlink()
        names = r"'m_1.ome.tif', 'm_2.ome.tif', 'm_3.ome.tif' and 1 more"
        with pytest.raises(FileError, match=f"has only 2 of its 6 planes, with gaps .* the missing files {names} into"):
            read(paths[0])

    def test_a_gap_is_an_error(self, tmp_path: Path) -> None:
        paths = micro_manager(tmp_path, per_file=2)
        paths[1].unlink()
        with pytest.raises(FileError, match=r"only 4 of its 6 planes, .* put the missing file 'm_1.ome.tif' into"):
            read(paths[0])

    def test_positions_in_files_of_their_own_are_images_of_their_own(self, tmp_path: Path) -> None:
        both = [image(*(plane(n, f"p{i}.ome.tif", n) for n in range(6)), number=i) for i in (0, 1)]
        paths = [save(tmp_path / f"p{i}.ome.tif", PLANES + 1000 * i, ome(*both, uuid=f"p{i}.ome.tif")) for i in (0, 1)]
        for i, path in enumerate(paths):
            assert check(path, PLANES + 1000 * i) == ()
            assert "members" not in read(path).metadata
            check(path, PLANES + 1000, series=1)
        assert read(paths[0], series=1).metadata["members"] == ("p0.ome.tif", "p1.ome.tif")
        with pytest.raises(FileError, match=r"has no image 2 .--series.: it holds 2 images"):
            read(paths[0], series=2)

    def test_an_image_of_which_no_file_is_there(self, tmp_path: Path) -> None:
        both = [image(*(plane(n, f"p{i}.ome.tif", n) for n in range(6)), number=i) for i in (0, 1)]
        path = save(tmp_path / "p0.ome.tif", PLANES, ome(*both))
        assert check(path) == ()
        with pytest.raises(FileError, match=r"has no planes of image 1 .--series., .*; put all files of the set into"):
            read(path, series=1)

    def test_a_single_plane_in_another_file(self, tmp_path: Path) -> None:
        both = [
            image(plane(0, f"p{i}.ome.tif", 0), number=i, times=1).replace('SizeC="2"', 'SizeC="1"') for i in (0, 1)
        ]
        for i in (0, 1):
            save(tmp_path / f"p{i}.ome.tif", PLANES[i], ome(*both))
        check(tmp_path / "p0.ome.tif", PLANES[1:2], series=1)

    def test_an_image_that_begins_in_the_middle_of_a_file(self, tmp_path: Path) -> None:
        """Two images in three files: the second begins in the second file, which therefore is not only of the first."""
        values = np.concatenate([PLANES, PLANES + 1000])
        both = [
            image(*(plane(n, f"f{(n + 6 * i) // 5}.ome.tif", (n + 6 * i) % 5) for n in range(6)), number=i)
            for i in (0, 1)
        ]
        paths = [save(tmp_path / f"f{n}.ome.tif", values[5 * n : 5 * n + 5], ome(*both)) for n in range(3)]
        members = [read(path).metadata["members"] for path in paths]
        assert members == [("f0.ome.tif",), *[("f1.ome.tif", "f2.ome.tif")] * 2]
        for path, shift in zip(paths, (0, 1000, 1000), strict=True):
            check(path, PLANES + shift)

    def test_a_renamed_file(self, tmp_path: Path) -> None:
        planes = [plane(n, "old.ome.tif", n) for n in range(6)]
        assert check(save(tmp_path / "new.ome.tif", PLANES, ome(image(*planes), uuid="urn:uuid:other"))) == ()

    @pytest.mark.parametrize("name", ["../m_1.ome.tif", "/etc/m_1.ome.tif", "C:\\m_1.ome.tif", "sub/m_1.ome.tif", ".."])
    def test_names_that_lead_elsewhere_are_not_followed(self, tmp_path: Path, name: str) -> None:
        for folder in (tmp_path, tmp_path / "in" / "sub"):
            save(folder / "m_1.ome.tif", PLANES[3:], "")
        names = ["m_0.ome.tif", name]
        planes = [plane(n, names[n // 3], n % 3) for n in range(6)]
        notes = check(save(tmp_path / "in" / "m_0.ome.tif", PLANES[:3], ome(image(*planes))), PLANES[:2])
        assert notes[0] == "its metadata name files outside its folder, which are ignored"
        (tmp_path / "in" / "m_0.ome.tif").unlink()
        only = ome(f'<BinaryOnly MetadataFile="{name}" UUID="urn:uuid:1"/>')
        assert "is missing" in check(save(tmp_path / "in" / "m_0.ome.tif", PLANES[:3], only), PLANES[:3])[0]


GOOD = ome(image("<TiffData/>"))
MENDED: Sequence[tuple[str, str, str | bytes, str, str]] = (
    ("comma", "TCYX", GOOD.replace("0.325", "0,325"), "its PhysicalSizeX '0,325' is read as 0.325", ""),
    ("word", "TCYX", GOOD.replace("0.325", "unknown"), "its PhysicalSizeX 'unknown' is ignored", "pixel"),
    ("unit", "TCYX", GOOD.replace('X="0.325"', 'X="1" PhysicalSizeXUnit="furlong"'), "unknown unit 'furlong'", "pixel"),
    ("cut off", "TCYX", GOOD[:-30], "its OME-XML is broken; only the readable part is used", ""),
    ("tag left open", "TCYX", GOOD.replace("</Image>", ""), "its OME-XML is broken", ""),
    ("cut off early", "TYX", GOOD[:200], "its OME-XML is broken", "pixel"),
    ("encoding", "TCYX", GOOD.replace("Pos 0", "\xb5").encode("latin-1"), "", ""),
    ("mark of order", "TCYX", ("\ufeff" + GOOD).encode(), "", ""),
    ("prefix", "TCYX", GOOD.replace("<OME xmlns", "<o:OME xmlns:o").replace("</OME>", "</o:OME>"), "", ""),
    ("no SizeC", "TCYX", GOOD.replace('SizeC="2"', ""), "does not state the size along C", ""),
    ("no SizeT", "TCYX", GOOD.replace('SizeT="3"', 'SizeT="three"'), "does not state the size along T", ""),
    ("no sizes", "TYX", GOOD.replace('SizeT="3"', "").replace('SizeC="2"', ""), "the size along C, T", ""),
    ("more times", "TCYX", GOOD.replace('SizeT="3"', 'SizeT="5"'), "states 10 planes, but it holds 6", ""),
    ("fewer times", "TCYX", GOOD.replace('SizeT="3"', 'SizeT="1"'), "states 2 planes, but it holds 6", ""),
    ("more channels", "TYX", GOOD.replace('SizeC="2"', 'SizeC="4"'), "states 12 planes, but it holds 6", ""),
    ("no SizeX", "TYX", GOOD.replace('SizeX="24"', ""), "does not match its pages, which are read in order", ""),
    ("other SizeX", "TYX", GOOD.replace('SizeX="24"', 'SizeX="23"'), "does not match its pages", ""),
    ("samples", "TYX", GOOD.replace('SamplesPerPixel="1"', 'SamplesPerPixel="3"'), "does not match its pages", ""),
    ("order", "TCYX", GOOD.replace("XYCZT", "XYZ"), "", ""),
    ("no such page", "TYX", ome(image(plane(99, "a", 7))), "does not match its pages", ""),
)  # fmt: skip


@pytest.mark.parametrize(
    ("axes", "xml", "note", "unit"), [case[1:] for case in MENDED], ids=[case[0] for case in MENDED]
)
def test_broken_metadata_do_not_keep_the_pixels(tmp_path: Path, axes: str, xml: Any, note: str, unit: str) -> None:
    path = save(tmp_path / "a.ome.tif", PLANES, xml)
    notes = check(path)
    found = read(path)
    assert found.axes == axes
    assert (found.units[-1], found.scale[-1]) == ((unit, 1) if unit else ("micrometer", 0.325))
    assert note in " ".join(notes)
    assert bool(notes) == bool(note)


@pytest.mark.parametrize(
    "xml", [GOOD[:-30], GOOD.replace("Pos 0", "\x01\x1b"), GOOD.replace("Size", "Sise"), "\0<OME>"]
)
def test_the_log_of_tifffile_stays_with_us(tmp_path: Path, caplog: pytest.LogCaptureFixture, xml: str) -> None:
    check(save(tmp_path / "a.ome.tif", PLANES, xml))
    companion(tmp_path)[0].unlink()
    micro_manager(tmp_path / "set")[1].unlink()
    for path in (tmp_path / "m_1.ome.tif", tmp_path / "set" / "m_0.ome.tif"):
        read(path)
        read(path, lazy=True).data[0]
    assert caplog.records == []


def test_a_claim_of_planes_in_one_element_is_not_believed(tmp_path: Path) -> None:
    xml = ome(image('<TiffData IFD="0" PlaneCount="1000000000000"/>'))
    check(save(tmp_path / "a.ome.tif", PLANES, xml))
