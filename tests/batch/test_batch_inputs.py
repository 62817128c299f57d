"""Inputs of a batch: what is taken from a folder, what is left there, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from tests.batches import became, field_of_view, group, noisy, plate, quick, restore, saved, series, stack

import microscopes
from napari_pristine import learn, read
from napari_pristine.batch.estimate import estimate_files
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.spec import Task, resolve_batch
from napari_pristine.batch.work_item import InputChanged, check_unchanged, open_task
from napari_pristine.cli.main import main
from napari_pristine.errors import FileError
from napari_pristine.events import Event, Note
from napari_pristine.jobs.inputs import InputCache


def problems(*names: Path | str, output: Path | None = None) -> dict[str, str]:
    """The inputs found, and what is wrong with each."""
    return {one.inside.as_posix(): one.problem for one in find_inputs([str(name) for name in names], output)}


def result(path: Path) -> Path:
    """A file as a batch leaves it, with what it says of it."""
    stack(path, 8, 8)
    path.with_name(f"{path.name}.json").write_text(json.dumps({"identity": {}, "recipe": {}}))
    return path


def test_results_among_images_are_left_unless_they_are_named(tmp_path: Path) -> None:
    stack(tmp_path / "a.tif", 8, 8)
    clean = result(tmp_path / "clean" / "a.tif")
    found = problems(tmp_path)
    assert list(found) == ["a.tif", "clean/a.tif"]
    assert found["a.tif"] == ""
    assert found["clean/a.tif"].startswith("a result of an earlier batch; name the file itself")
    assert problems(clean) == problems(tmp_path / "clean" / "*.tif") == {"a.tif": ""}
    assert problems(tmp_path, output=tmp_path / "clean") == {"a.tif": ""}


def test_the_results_of_a_real_batch_are_known_in_each_format(tmp_path: Path) -> None:
    stack(tmp_path / "in" / "a.tif", 24, 24)
    restore(tmp_path / "in", tmp_path / "in" / "clean")
    rows = restore(tmp_path / "in", tmp_path / "out")
    assert [(row.status, row.source.parent.name) for row in rows.values()] == [("skipped", "clean")]
    assert (tmp_path / "out" / "a.tif").exists()
    assert not (tmp_path / "out" / "clean").exists()


def test_an_ome_zarr_is_known_as_a_result(tmp_path: Path) -> None:
    stack(tmp_path / "b.tif", 8, 8)
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr.json").write_text('{"identity": {}}')
    found = problems(tmp_path)
    assert list(found) == ["a.ome.zarr", "b.tif"]
    assert "earlier batch" in found["a.ome.zarr"]


def test_a_folder_of_results_alone_is_restored_if_it_is_named(tmp_path: Path) -> None:
    result(tmp_path / "a.tif")
    result(tmp_path / "deeper" / "b.tif")
    assert problems(tmp_path) == {"a.tif": "", "deeper/b.tif": ""}


def test_what_others_have_written_beside_an_image_makes_it_no_result(tmp_path: Path) -> None:
    stack(tmp_path / "a.tif", 8, 8)
    (tmp_path / "a.tif.json").write_text('{"exposure": 3}')
    (tmp_path / "b.json").write_text("[" * 10)
    found = problems(tmp_path)
    assert list(found) == ["a.tif", "a.tif.json", "b.json"]
    assert found["a.tif"] == ""
    assert "suffix '.json'" in found["a.tif.json"]


@pytest.mark.parametrize("suffix", [".ims", ".VSI", ".dv", ".svs", ".oir", ".mvd2", ".sld", ".lei", ".tf2"])
def test_how_to_bring_files_of_microscopes_is_told(tmp_path: Path, suffix: str) -> None:
    stack(tmp_path / "a.tif", 8, 8)
    (tmp_path / f"b{suffix}").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    found = problems(tmp_path)
    assert f"(suffix '{suffix.lower()}'); export it as OME-TIFF or OME-Zarr" in found[f"b{suffix}"]
    assert found["notes.txt"] == "not an image that can be read (suffix '.txt')"


def set_of_files(folder: Path, count: int = 3, *, companion: bool = False) -> list[Path]:
    """A movie with a frame in each file, of which each holds all metadata, or names the file that does."""
    folder.mkdir(parents=True, exist_ok=True)
    planes = "".join(
        f'<TiffData FirstT="{n}" IFD="0" PlaneCount="1"><UUID FileName="m_{n}.ome.tif">urn:uuid:{n}</UUID></TiffData>'
        for n in range(count)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="24" SizeY="20" SizeC="1" SizeZ="1" '
        f'SizeT="{count}"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    if companion:
        (folder / "m.companion.ome").write_text(xml)
        xml = xml[: xml.index("<Image")] + '<BinaryOnly MetadataFile="m.companion.ome" UUID="urn:uuid:c"/></OME>'
    paths = [folder / f"m_{n}.ome.tif" for n in range(count)]
    for n, path in enumerate(paths):
        tifffile.imwrite(path, noisy(20, 24, seed=n), description=xml, metadata=None)
    return paths


BELONGS = "belongs to 'm_0.ome.tif', which is restored as a whole"


class TestSets:
    """Files that are one image are restored once."""

    def test_in_a_batch(self, tmp_path: Path) -> None:
        set_of_files(tmp_path / "in", companion=True)
        stack(tmp_path / "in" / "z.tif", 20, 24)
        rows = restore(tmp_path / "in", tmp_path / "out")
        assert became(rows) == {
            "m.companion.ome": "skipped", "m_0.ome.tif": "restored", "m_1.ome.tif": "skipped", "m_2.ome.tif": "skipped",
            "z.tif": "restored",
        }  # fmt: skip
        assert rows["m_1.ome.tif"].text == rows["m_2.ome.tif"].text == BELONGS
        assert rows["m.companion.ome"].text == "part of the OME-TIFF files beside it; it is read together with them"
        assert sorted(path.name for path in (tmp_path / "out").glob("*.tif")) == ["m_0.ome.tif", "z.tif"]
        assert read(tmp_path / "out" / "m_0.ome.tif").shape == (3, 20, 24)
        again = restore(tmp_path / "in", tmp_path / "out", resume=True)
        assert (again["m_0.ome.tif"].text, again["m_1.ome.tif"].text) == ("done before", BELONGS)

    @pytest.mark.parametrize("changed", ["m_2.ome.tif", "m.companion.ome"])
    def test_a_changed_file_of_the_set_is_noticed(self, tmp_path: Path, changed: str) -> None:
        set_of_files(tmp_path / "in", companion=True)
        restore(tmp_path / "in", tmp_path / "out")
        with (tmp_path / "in" / changed).open("ab") as file:
            file.write(b" ")
        rows = restore(tmp_path / "in", tmp_path / "out", resume=True)
        assert rows["m_0.ome.tif"].status == "exists"
        assert "made from another input of this name" in rows["m_0.ome.tif"].text

    def test_a_file_of_the_set_that_changes_meanwhile_is_noticed(self, tmp_path: Path) -> None:
        paths = set_of_files(tmp_path / "in")
        tasks = resolve_batch(saved(tmp_path), [str(tmp_path / "in")], tmp_path / "out").tasks
        opened = open_task(tasks[0], quick(), InputCache())
        check_unchanged(opened)
        with paths[2].open("ab") as file:
            file.write(b" ")
        with pytest.raises(InputChanged, match=r"m_2\.ome\.tif' was changed"):
            check_unchanged(opened)

    @pytest.mark.parametrize("target", ["m_1.ome.tif", "../in/m_2.ome.tif", "m.companion.ome"])
    def test_a_result_does_not_replace_another_file_of_the_set(self, tmp_path: Path, target: str) -> None:
        (first, *_) = set_of_files(tmp_path / "in", companion=True)
        with pytest.raises(FileError, match=r"would replace .*, which is read for it"):
            open_task(Task(first, tmp_path / "in" / target, None), quick(), InputCache())

    @pytest.mark.parametrize("role", ["mask", "model", "extra_images"])
    def test_a_result_does_not_replace_a_file_of_the_recipe(self, tmp_path: Path, role: str) -> None:
        other = stack(tmp_path / "other.tif", 24, 24)
        extra = role == "extra_images"
        recipe = quick(method="linr", settings={role: [str(other)]}) if extra else quick(**{role: str(other)})
        (tmp_path / "link.tif").symlink_to(other)
        source = stack(tmp_path / "a.tif", 24, 24)
        for target in (other, tmp_path / "link.tif"):
            with pytest.raises(FileError, match=r"would replace .*, which is read for it"):
                open_task(Task(source, target, None), recipe, InputCache())

    def test_whichever_file_comes_first_stands_for_the_set(self, tmp_path: Path) -> None:
        paths = set_of_files(tmp_path / "in")
        rows = restore([paths[2], paths[0]], tmp_path / "out")
        assert became(rows) == {"m_2.ome.tif": "restored", "m_0.ome.tif": "skipped"}

    def test_sets_in_several_folders_are_sets_of_their_own(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            set_of_files(tmp_path / "in" / name)
        spec = resolve_batch(saved(tmp_path), [str(tmp_path / "in")], tmp_path / "out")
        found = [each for each in estimate_files(spec.tasks, spec.options, probe=False) if each]
        assert [each.problem for each in found] == ["", BELONGS, BELONGS] * 2
        assert [each.shape for each in found if not each.problem] == [(3, 20, 24)] * 2

    def test_with_the_shell(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        paths = [str(path) for path in set_of_files(tmp_path / "in")]
        settings = ["--method", "inr", "--preset", "fast", "--set", "steps=5"]
        assert main(["batch", str(saved(tmp_path)), *paths, "-o", str(tmp_path / "out"), "--plan"]) == 0
        assert capsys.readouterr().out.count(BELONGS) == 2
        assert main(["restore", *paths, "-o", f"{tmp_path}/out/", *settings]) == 0
        assert capsys.readouterr().out.count(f"skipped, {BELONGS}") == 2
        assert main(["restore", *paths, "-o", f"{tmp_path}/out/", *settings, "--resume", "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["error"] for line in lines] == ["done before", BELONGS, BELONGS]
        assert not (tmp_path / "out" / "m_1.ome.tif").exists()

    @pytest.mark.parametrize("more", [[], ["set.companion.ome"]])
    def test_a_set_is_one_image_that_may_go_to_one_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
    ) -> None:
        paths = [str(path) for path in set_of_files(tmp_path / "in")]
        (tmp_path / "in" / "set.companion.ome").write_text("<OME/>")
        names = [*paths, *(f"{tmp_path}/in/{name}" for name in more)]
        words = ["--method", "inr", "--preset", "fast", "--set", "steps=2"]
        assert main(["restore", *names, "-o", f"{tmp_path}/x.ome.tif", *words]) == 0
        assert capsys.readouterr().out.count(f"skipped, {BELONGS}") == 2
        assert read(tmp_path / "x.ome.tif").shape[0] == 3
        for files in (names, paths[:1]):
            assert main(["restore", *files, "-o", paths[1], "--overwrite", *words]) == 2
            assert "would replace" in capsys.readouterr().err
        other = tmp_path / "other.tif"
        tifffile.imwrite(other, noisy(24, 24))
        assert main(["restore", *paths, str(other), "-o", f"{tmp_path}/y.ome.tif", *words]) == 2
        assert "for 4 images give a folder" in capsys.readouterr().err

    def test_it_is_learned_from_once(self, tmp_path: Path) -> None:
        paths = set_of_files(tmp_path / "in")
        notes: list[str] = []

        def collect(event: Event) -> None:
            notes.extend([event.text] if isinstance(event, Note) else [])

        settings = {"steps": 2}
        model = learn(paths, method="blind2unblind", preset="fast", settings=settings, on_event=collect)
        assert (model.facts.count, model.facts.blocks) == (1, 3)
        assert sum("belongs to 'm_0.ome.tif', which is read as a whole" in note for note in notes) == 2

    def test_a_missing_file_is_named_in_the_report(self, tmp_path: Path) -> None:
        set_of_files(tmp_path / "in")[2].unlink()
        rows = restore(tmp_path / "in", tmp_path / "out")
        assert became(rows) == {"m_0.ome.tif": "restored", "m_1.ome.tif": "skipped"}
        notes = rows["m_0.ome.tif"].facts["notes"]
        assert any("as the file 'm_2.ome.tif' of this set is not there: T 0 to 1 is read, T 2 is" in n for n in notes)


def test_what_a_result_cannot_hold_is_said_once(tmp_path: Path) -> None:
    text = "ImageJ=1.53t\nimages=2\nframes=2\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\n"
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in" / "x.tif", noisy(2, 24, 24), description=text, metadata=None, photometric="minisblack"
    )
    lacks = "the result cannot hold all metadata of the file; it lacks the calibration of values"
    kept = restore(tmp_path / "in", tmp_path / "a")
    lost = restore(tmp_path / "in", tmp_path / "b", quick(format="ome-tiff"))
    assert not any("lacks" in note for note in kept["x.tif"].facts["notes"])
    assert lost["x.tif"].facts["notes"].count(lacks) == 1


def test_the_planes_of_an_olympus_file_are_no_images_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "cells.oif").write_bytes(b"x")
    stack(tmp_path / "cells.oif.files" / "s_C001.tif", 8, 8)
    stack(tmp_path / "other.files" / "a.tif", 8, 8)
    assert list(problems(tmp_path)) == ["cells.oif", "other.files/a.tif"]


def test_a_changed_plane_of_an_olympus_file_is_noticed(tmp_path: Path) -> None:
    pytest.importorskip("oiffile", reason="reads the format; pip install 'napari-pristine[formats]'")
    (tmp_path / "in").mkdir()
    microscopes.write_oif(tmp_path / "in" / "d.oif", noisy(2, 24, 32), "ZYX")
    assert became(restore(tmp_path / "in", tmp_path / "out")) == {"d.oif": "restored"}
    assert became(restore(tmp_path / "in", tmp_path / "out", resume=True)) == {"d.oif": "skipped"}
    (plane, *_) = (tmp_path / "in" / "d.oif.files").glob("*.tif")
    tifffile.imwrite(plane, noisy(24, 32, seed=9))
    row = restore(tmp_path / "in", tmp_path / "out", resume=True)["d.oif"]
    assert (row.status, "made from another input of this name" in row.text) == ("exists", True)


def test_files_of_microscopes_are_restored_with_their_calibration(tmp_path: Path) -> None:
    """One of each kind in a folder; the planes of the OIF are no images of their own."""
    for library in ("pylibCZIrw.czi", "liffile", "nd2", "oiffile"):
        pytest.importorskip(library, reason="reads the format; pip install 'napari-pristine[formats]'")
    values = noisy(2, 2, 24, 32)
    folder = tmp_path / "in"
    folder.mkdir()
    microscopes.write_czi(folder / "a.czi", [values], "ZCYX")
    microscopes.write_lif(folder / "b.lif", [("small", "YX", values[0, 0]), ("stack", "ZCYX", values)])
    microscopes.write_nd2(folder / "c.nd2", values, "ZCYX")
    microscopes.write_oif(folder / "d.oif", values, "ZCYX")
    microscopes.write_lsm(folder / "e.lsm", noisy(1, 2, 3, 24, 32), ("a", "b", "c"))
    microscopes.write_stk(folder / "f.stk", values[:, 0])
    rows = restore(folder, tmp_path / "out")
    assert became(rows) == dict.fromkeys(["a.czi", "b.lif", "c.nd2", "d.oif", "e.lsm", "f.stk"], "restored")
    for name in "abcdef":
        image = read(tmp_path / "out" / f"{name}.ome.tif")
        assert image.units[0 if name != "e" else image.axes.index("Z")] == "micrometer"
        assert image.scale[image.axes.index("X")] == pytest.approx(0.25 if name == "f" else 0.1)
    assert became(restore(folder, tmp_path / "out", resume=True)) == dict.fromkeys(rows, "skipped")
    notes = json.loads((tmp_path / "out" / "b.ome.tif.json").read_text())["notes"]
    assert any("the file holds 2 images: 1 ('stack') was read" in note for note in notes)
    one = restore(folder / "b.lif", tmp_path / "one", quick(series=0))["b.lif"]
    assert one.status == "restored"
    assert read(tmp_path / "one" / "b.ome.tif").shape == (24, 32)


def found(*names: Path | str, **options: Any) -> dict[str, str]:
    """Paths of the inputs, relative to the working directory, and those of their results."""
    inputs = find_inputs([str(name) for name in names], **options)
    return {os.path.relpath(one.path): one.inside.as_posix() for one in inputs}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_wells_and_series_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.chdir(tmp_path)
    plate(tmp_path / "p.zarr", version, ("A/1", "B/12"))
    series(tmp_path / "s.zarr", version)
    field_of_view(tmp_path / "alone", version)
    every = {f"p.zarr/{well}/{field}": f"p.zarr/{well}/{field}" for well in ("A/1", "B/12") for field in "01"}
    two = {"s.zarr/0": "s.zarr/0", "s.zarr/1": "s.zarr/1"}
    assert found("p.zarr") == every
    assert found("s.zarr", "p.zarr/B/12", "p.zarr/A/1/1") == two | {
        name: name for name in ("p.zarr/B/12/0", "p.zarr/B/12/1", "p.zarr/A/1/1")
    }
    assert found("p.zarr/A") == {name: name for name in every if "/A/" in name}
    assert found(".") == {"alone": "alone.zarr"} | every | two
    assert found("p.zarr/A/1/0/0", "alone/0") == {"p.zarr/A/1/0/0": "p_A_1_0_0.zarr", "alone/0": "alone_0.zarr"}
    assert found("p.zarr", "s.zarr", "alone", series=0) == {"alone": "alone.zarr"} | {
        name: name for name in ("p.zarr/A/1/0", "s.zarr/0")
    }
    assert found("s.zarr", series=2) == {"s.zarr": "s.zarr"}  # there is no such image: said when it is opened
    monkeypatch.chdir(tmp_path / "p.zarr" / "A" / "1")
    assert found("0", ".", "../../B/12/1") == {
        "0": "p.zarr/A/1/0", "1": "p.zarr/A/1/1", "../../B/12/1": "p.zarr/B/12/1"
    }  # fmt: skip


def test_nothing_in_a_store_is_a_file_of_its_own(tmp_path: Path) -> None:
    """No line for each chunk, for labels, tables or text beside the images."""
    root = series(tmp_path / "in" / "s.zarr", "0.4")
    group(root / "0" / "labels", {"labels": ["nuclei"]}, "0.4")
    field_of_view(root / "0" / "labels" / "nuclei", "0.4")
    (root / "readme.txt").write_text("see the wiki")
    folder = group(tmp_path / "in" / "sample", {})
    field_of_view(folder / "images" / "stain")
    group(folder / "images", {})
    field_of_view(folder / "labels" / "cells")
    rewrite(folder / "labels" / "cells", {"image-label": {}})
    zarr.open_group(folder / "tables" / "table", mode="w", attributes={"encoding-type": "anndata"}).create_array(
        "X", data=np.ones((3, 4))
    )
    folder.joinpath("points").mkdir()
    zarr.create_array(folder / "points" / "xy", data=np.ones((9, 2)))
    assert list(problems(tmp_path / "in")) == ["s.zarr/0", "s.zarr/1", "sample.zarr/images/stain"]


def rewrite(path: Path, ome: dict[str, Any]) -> None:
    """Add attributes of OME-Zarr to a group."""
    attributes: Any = zarr.open_group(path, mode="r").attrs["ome"]
    group(path, {**attributes, **ome})


def test_images_that_are_listed_but_missing_are_said(tmp_path: Path) -> None:
    root = plate(tmp_path / "p.zarr", wells=("A/1", "A/2", "A/3"))
    shutil.rmtree(root / "A" / "2")
    shutil.rmtree(root / "A" / "3" / "1")
    listed = problems(root)
    assert list(listed) == ["p.zarr/A/1/0", "p.zarr/A/1/1", "p.zarr/A/2", "p.zarr/A/3/0", "p.zarr/A/3/1"]
    assert listed["p.zarr/A/2"] == "missing, although the plate lists this well"
    assert listed["p.zarr/A/3/1"] == "missing, although the well lists this image"
    missing = series(tmp_path / "s.zarr", listed=False)
    shutil.rmtree(missing / "0")
    assert problems(missing) == {"s.zarr/0": "missing, although the store lists this image", "s.zarr/1": ""}


@pytest.mark.parametrize("name", ["../secret", "/etc", "A/../../secret", "..\\secret"])
@pytest.mark.parametrize("kind", ["plate", "well", "series"])
def test_no_store_leads_elsewhere(tmp_path: Path, kind: str, name: str) -> None:
    field_of_view(tmp_path / "secret")
    lists = {
        "plate": {"plate": {"wells": [{"path": name}]}},
        "well": {"well": {"images": [{"path": name}]}},
        "series": {"bioformats2raw.layout": 3},
    }
    path = group(tmp_path / "in" / "x.zarr", lists[kind])
    if kind == "series":
        group(path / "OME", {"series": [name]})
    assert problems(tmp_path / "in") == {"x.zarr": ""}
    row = restore(tmp_path / "in", tmp_path / "out")["x.zarr"]
    assert (row.status, "not inside it" in row.text) == ("failed", True)
    assert not (tmp_path / "out").exists()


def test_stores_that_lead_in_circles_end(tmp_path: Path) -> None:
    path = group(tmp_path / "in" / "x.zarr", {"plate": {"wells": [{"path": "A"}, {"path": "B"}]}})
    (path / "A").symlink_to(path)
    (path / "B").symlink_to(path)
    assert set(problems(tmp_path / "in").values()) == {
        "a well without the metadata of a well; give the path of an image in it"
    }
    loop = group(tmp_path / "y.zarr", {})
    (loop / "a").symlink_to(loop)
    assert problems(loop) == {"y.zarr": ""}


def test_the_size_of_the_metadata_bounds_what_they_can_claim(tmp_path: Path) -> None:
    claims = {"rows": 10**6, "columns": 10**6, "field_count": 10**9, "maximumfieldcount": 10**9}
    path = group(tmp_path / "p.zarr", {"plate": {**claims, "wells": [{"path": "A/1"}, {"path": "A//1"}] * 50}})
    group(path / "A" / "1", {"well": {"images": [{"path": "0"}] * 99}})
    assert list(problems(path)) == ["p.zarr/A/1/0"]
    numbered = group(tmp_path / "s.zarr", {"bioformats2raw.layout": 3})
    (numbered / "1000000000").mkdir()
    (numbered / "99999999").mkdir()
    assert list(problems(numbered)) == ["s.zarr/99999999"]


def test_listing_a_plate_opens_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plate(tmp_path / "p.zarr", wells=("A/1",))
    for file in path.glob("A/1/*/**/zarr.json"):
        file.write_text("not read")
    assert problems(path) == {"p.zarr/A/1/0": "", "p.zarr/A/1/1": ""}


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(FileError, match="the name of an input is empty"):
        find_inputs([""])


def nested(store: Path) -> None:
    """More folders in each other than a function can call itself."""
    folder = os.open(store, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


def too_long(store: Path) -> None:
    """A path that the system does not take."""
    folder = os.open(store, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


def damaged(store: Path) -> None:
    (store / "0").mkdir()
    (store / "0" / "zarr.json").write_text("[" * 100_000)


@pytest.mark.parametrize("spoil", [nested, too_long, damaged])
def test_one_bad_store_does_not_end_the_search(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    group(tmp_path / "in" / "bad.zarr", {})
    spoil(tmp_path / "in" / "bad.zarr")
    stack(tmp_path / "in" / "good.tif", 24, 24)
    rows = restore(tmp_path / "in", tmp_path / "out")
    subprocess.run(["rm", "-rf", tmp_path / "in" / "bad.zarr"], check=True)  # Python cannot remove what is so deep
    assert rows.pop("good.tif").status == "restored"
    assert set(became(rows).values()) <= {"failed", "skipped"}


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(tmp_path / "a.zarr", {})
    for name in ("0", "1"):
        field_of_view(tmp_path / "a.zarr" / name)
    (tmp_path / "a.zarr" / "locked").mkdir()
    scan = os.scandir

    def scandir(path: Path) -> Any:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("napari_pristine.io.collection.os.scandir", scandir)
    found = {each.path.name: each.problem for each in find_inputs([str(tmp_path / "a.zarr")])}
    assert found == {"0": "", "1": "", "locked": "a folder that cannot be read (Permission denied)"}


@pytest.mark.parametrize("name", ["plate.zarr", "plate.zarr/A/1/0"])
def test_a_store_of_one_image_stays_a_store_with_the_shell(tmp_path: Path, name: str) -> None:
    """An image that is named is written by itself."""
    plate(tmp_path / "plate.zarr", wells=["A/1"], fields=1)
    assert (
        main(["restore", str(tmp_path / name), "-o", str(tmp_path / "out.zarr"), "--method", "inr", "--set", "steps=2"])
        == 0
    )
    expected = "out.zarr/A/1/0" if name == "plate.zarr" else "out.zarr"
    assert list(found(tmp_path / "out.zarr").values()) == [expected]
