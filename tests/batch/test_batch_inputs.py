"""Inputs of a batch: what is taken from a folder, what is left there, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from tests.batches import field_of_view, group, plate, restore, series, stack

from napari_pristine.batch.inputs import find_inputs
from napari_pristine.errors import FileError


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


@pytest.mark.parametrize("suffix", [".czi", ".ND2", ".lif", ".lsm", ".oif", ".oib", ".ims", ".vsi", ".dv", ".svs"])
def test_how_to_bring_files_of_microscopes_is_told(tmp_path: Path, suffix: str) -> None:
    stack(tmp_path / "a.tif", 8, 8)
    (tmp_path / f"b{suffix}").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    found = problems(tmp_path)
    assert f"(suffix '{suffix.lower()}'); export it as OME-TIFF or OME-Zarr" in found[f"b{suffix}"]
    assert found["notes.txt"] == "not an image that can be read (suffix '.txt')"


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
    assert listed["p.zarr/A/2"] == "a well that the plate lists, but that is not there"
    assert listed["p.zarr/A/3/1"] == "an image that the well lists, but that is not there"
    missing = series(tmp_path / "s.zarr", listed=False)
    shutil.rmtree(missing / "0")
    assert problems(missing) == {"s.zarr/0": "an image that the store lists, but that is not there", "s.zarr/1": ""}


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
    assert set(problems(tmp_path / "in").values()) == {"a well without the metadata of one; name an image in it"}
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
