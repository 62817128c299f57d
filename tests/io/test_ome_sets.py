"""OME-TIFF spread over several files, with its metadata elsewhere, or with broken metadata."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import microscopes
from napari_pristine.errors import FileError
from napari_pristine.io.registry import read, write

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

    @pytest.mark.parametrize("name", ["../secret.tif", "..\\secret.tif", "sub/../../secret.tif", "{}/secret.tif"])
    @pytest.mark.parametrize("wrapping", ["comment", "prefix", "mark", "instruction", "declaration", "spaces"])
    def test_nor_are_those_in_xml_of_another_look(self, tmp_path: Path, wrapping: str, name: str) -> None:
        """tifffile looks for OME-XML by the end of the description."""
        save(tmp_path / "secret.tif", PLANES[3:], "")
        xml = image(*(plane(n, ["m.tif", name.format(tmp_path)][n // 3], n % 3) for n in range(6)))
        root = f"<OME {NAMESPACE}>{xml}</OME>"
        text = {
            "comment": f"<!--{'x' * 6000}-->{root}",
            "prefix": re.sub("<(/?)", rf"<\1{25 * 'p'}:", root).replace("xmlns", f"xmlns:{25 * 'p'}"),
            "mark": "\ufeff" + root,
            "instruction": f"<?x {'y' * 6000}?>{root}",
            "declaration": f"<?xml version='1.0' encoding='UTF-16'?>{root}",
            "spaces": f"{' ' * 6000}{root.replace('OME>', 'OME >')}OME>",
        }[wrapping]
        path = save(tmp_path / "in" / "m.tif", PLANES[:3], text.encode())
        for lazy in (False, True):
            found = np.asarray(read(path, lazy=lazy).data).reshape(-1, 20, 24)
            np.testing.assert_array_equal(found, PLANES[: len(found)])

    def test_claims_in_xml_of_another_look(self, tmp_path: Path) -> None:
        xml = f"<!--{'x' * 6000}--><OME {NAMESPACE}>{image('<TiffData/>', times=100_000_000)}</OME>"
        with pytest.raises(FileError, match=r"claims to have 2e\+08 planes"):
            read(save(tmp_path / "a.tif", PLANES, xml))

    @pytest.mark.parametrize("lazy", [False, True])
    def test_an_index_of_micro_manager_that_leads_elsewhere(self, tmp_path: Path, lazy: bool) -> None:
        (tmp_path / "in").mkdir()
        microscopes.write_ndtiff(tmp_path / "secret.tif", PLANES)
        path = tmp_path / "in" / "a_NDTiffStack.tif"
        microscopes.write_ndtiff(path, PLANES)
        np.testing.assert_array_equal(np.asarray(read(path, lazy=lazy).data), PLANES)
        for name in ("../secret.tif", str(tmp_path / "secret.tif"), "sub/../../secret.tif"):
            microscopes.write_ndtiff(path, PLANES, other=name)
            with pytest.raises(FileError, match=r"a file in another folder, which is not read"):
                read(path, lazy=lazy)
        for last in (10**9, -(10**9)):
            microscopes.write_ndtiff(path, PLANES, last=last)
            with pytest.raises(FileError, match=r"claims to have 1e\+09 planes"):
                read(path, lazy=lazy)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a b.tif", "'a b.tif'"),
        ("a&b.tif", '"a&amp;b.tif"'),
        ("it's.tif", '"it&apos;s.tif"'),
        ("µ.tif", '"&#181;.tif"'),
        ('q".tif', "'q&quot;.tif'"),
    ],
)
def test_names_in_a_companion_file(tmp_path: Path, name: str, written: str) -> None:
    planes = [plane(n, "NAME", n).replace('"NAME"', written) for n in range(6)]
    (tmp_path / "set.companion.ome").write_text(ome(image(*planes)))
    (tmp_path / "other.companion.ome").write_text(ome(image(*spread())))
    found = read(save(tmp_path / name, PLANES, "a camera"))
    assert (found.axes, found.metadata["files"]) == ("TCYX", tuple(sorted((name, "set.companion.ome"))))


def test_companion_files_are_read_once_for_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{letter}.companion.ome" for letter in "abc"]
    for name in names:
        (tmp_path / name).write_text(ome(image(*spread())))
    paths = [save(tmp_path / f"camera_{n}.tif", PLANES[0], "") for n in range(5)]
    opened: list[str] = []
    whole = Path.open

    def opening(path: Path, *args: Any) -> Any:
        opened.append(path.name)
        return whole(path, *args)

    monkeypatch.setattr(Path, "open", opening)
    for path in paths:
        assert "files" not in read(path, lazy=True).metadata
    assert sorted(name for name in opened if name in names) == names


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


@pytest.mark.parametrize(
    ("stated", "pages", "axes", "shape"),
    [
        ({"C": 4, "T": 3}, 6, "CYX", (4,)),
        ({"C": 2, "T": 5}, 3, "CYX", (2,)),
        ({"C": 2, "T": 5}, 5, "TCYX", (2, 2)),
        ({"C": 4}, 3, "CYX", (3,)),
        ({"Z": 3, "C": 2}, 5, "ZCYX", (2, 2)),
        ({"T": 2, "Z": 2, "C": 2}, 5, "ZCYX", (2, 2)),
        ({"T": 3, "Z": 2, "C": 2}, 3, "CYX", (2,)),
        ({"Z": 9}, 6, "ZYX", (6,)),
        ({"C": 2}, 6, "TCYX", (3, 2)),
        ({"Z": 3, "C": 2}, 1, "YX", ()),
    ],
)
@pytest.mark.parametrize("kind", ["OME", "ImageJ"])
def test_channels_and_depth_stay_what_they_are(
    tmp_path: Path, kind: str, stated: dict[str, int], pages: int, axes: str, shape: tuple[int, ...]
) -> None:
    """A wrong number of planes changes the number of times; with less than one time, what follows."""
    xml = ome(image("<TiffData/>", times=stated.get("T", 1)))
    for axis, old in (("C", 2), ("Z", 1)):
        xml = xml.replace(f'Size{axis}="{old}"', f'Size{axis}="{stated.get(axis, 1)}"')
    keys = {"T": "frames", "Z": "slices", "C": "channels"}
    count = int(np.prod([*stated.values()]))
    lines = [f"images={count}", *(f"{keys[axis]}={n}" for axis, n in stated.items()), "hyperstack=true"]
    text = xml if kind == "OME" else "ImageJ=1.53t\n" + "\n".join(lines) + "\n"
    path = save(tmp_path / "a.tif", PLANES[:pages], text)
    used = int(np.prod(shape))
    (note,) = check(path, PLANES[:used])
    found = read(path)
    assert (found.axes, found.shape[:-2]) == (axes, shape)
    how = " × ".join(f"{axis} {n}" for axis, n in zip(axes, shape, strict=False)) or "a single plane"
    left_out = f", without the last {pages - used}" if used < pages else ""
    of = f"{count} plane" if kind == "OME" else f"{count} image"
    assert f"states {of}s, but it holds {pages}, which are read " in note
    assert note.endswith(f" as {how}{left_out}")


@pytest.mark.parametrize(
    ("order", "pages", "planes"),
    [
        ((1, 0), 2, [1, 0]),
        ((1, 0), 3, [1, 0]),
        ((1, 0), 4, [1, 0]),
        ((1, 2), 4, [1, 2]),
        ((2, 0), 6, [2, 0]),
        ((0, 1), 3, [0, 1]),
        ((0, 1), 4, [0, 1, 2, 3]),
        ((0, 1), 6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_pages_that_are_not_described_do_not_move_the_others(
    tmp_path: Path, order: tuple[int, ...], pages: int, planes: list[int]
) -> None:
    """Such as a mask or snapshot: only whole frames after those that are described in order continue the image."""
    described = [f'<TiffData FirstC="{c}" IFD="{ifd}" PlaneCount="1"/>' for c, ifd in enumerate(order)]
    xml = ome(image(*described, times=1))
    for number, name in enumerate(("DAPI", "GFP")):
        xml = xml.replace(f'ID="Channel:0:{number}"', f'ID="Channel:0:{number}" Name="{name}"')
    path = save(tmp_path / "a.ome.tif", PLANES[:pages], xml)
    notes = check(path, PLANES[planes])
    assert read(path).channels == ("DAPI", "GFP")
    states = f"its OME-XML states 2 planes, but it holds {pages}"
    left_out = (f"{states}; those that it does not describe are left out",)
    taken = (f"{states}, which are read in order as T {pages // 2} × C 2",)
    assert notes == (() if pages == 2 else left_out if len(planes) == 2 else taken)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ((2, 1, 2), {"C": [1]}),
        ((3, 1, 1), {"T": [1, 2]}),
        ((3, 1, 1), {"T": [0, 1]}),
        ((1, 3, 2), {"Z": [1, 2]}),
        ((1, 1, 2), {"C": [0]}),
        ((2, 3, 2), {"T": [1], "C": [1]}),
    ],
)
def test_metadata_are_those_of_the_planes_that_are_there(
    tmp_path: Path, sizes: tuple[int, int, int], kept: dict[str, list[int]]
) -> None:
    everything = list(np.ndindex(sizes))
    there = [n for n in everything if all(n["TZC".index(axis)] in at for axis, at in kept.items())]

    def name(place: tuple[int, ...]) -> str:
        return "f{}{}{}.ome.tif".format(*place)

    def times(place: tuple[int, ...]) -> dict[str, str]:
        return {"DeltaT": str(1 + everything.index(place)), "ExposureTime": str(10 + everything.index(place))}

    data = [
        f'<TiffData FirstT="{t}" FirstZ="{z}" FirstC="{c}" IFD="0" PlaneCount="1">'
        + f'<UUID FileName="{name((t, z, c))}"/></TiffData>'
        + f'<Plane TheT="{t}" TheZ="{z}" TheC="{c}" '
        + " ".join(f'{key}="{text}"' for key, text in times((t, z, c)).items())
        + "/>"
        for t, z, c in everything
    ]
    xml = ome(image(*data, times=sizes[0]).replace('SizeZ="1"', f'SizeZ="{sizes[1]}"'))
    xml = xml.replace('SizeC="2"', f'SizeC="{sizes[2]}"')
    for number, (channel, wavelength) in enumerate((("DAPI", 460), ("GFP", 510))):
        named = f'ID="Channel:0:{number}" Name="{channel}" EmissionWavelength="{wavelength}"'
        xml = xml.replace(f'ID="Channel:0:{number}"', named)
    if sizes[2] == 1:
        xml = xml.replace('<Channel ID="Channel:0:1" Name="GFP" EmissionWavelength="510" SamplesPerPixel="1"/>', "")
    for n, place in enumerate(there):
        save(tmp_path / name(place), PLANES[n], xml)
    check(tmp_path / name(there[0]), PLANES[: len(there)])
    found = read(tmp_path / name(there[0]))
    channels = [("DAPI", "460"), ("GFP", "510")]
    channels = [channels[c] for c in sorted({c for *_, c in there})]
    write(tmp_path / "result.ome.tif", found)
    for image_ in (found, read(tmp_path / "result.ome.tif")):
        assert image_.channels == tuple(name for name, _ in channels)
        assert [value["EmissionWavelength"] for value in image_.details["channels"].values] == [w for _, w in channels]
        assert [*image_.details["planes"].values.ravel()] == [times(place) for place in there]


def test_metadata_of_planes_are_not_given_to_pages_that_do_not_match(tmp_path: Path) -> None:
    xml = ome(image("<TiffData/>", '<Plane TheT="0" TheZ="0" TheC="0" DeltaT="7"/>')).replace('X="24"', 'X="23"')
    found = read(save(tmp_path / "a.ome.tif", PLANES, xml.replace("SamplesPerPixel", 'Name="A" SamplesPerPixel')))
    assert (found.axes, found.channels, found.details) == ("TYX", (), {})


def test_a_claim_of_planes_in_one_element_is_not_believed(tmp_path: Path) -> None:
    xml = ome(image('<TiffData IFD="0" PlaneCount="1000000000000"/>'))
    check(save(tmp_path / "a.ome.tif", PLANES, xml))
