"""Inputs of a batch: what is taken from a folder, what is left there, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.batches import restore, stack

from napari_pristine.batch.spec import find_inputs


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


def test_the_planes_of_an_olympus_file_are_no_images_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "cells.oif").write_bytes(b"x")
    stack(tmp_path / "cells.oif.files" / "s_C001.tif", 8, 8)
    stack(tmp_path / "other.files" / "a.tif", 8, 8)
    assert list(problems(tmp_path)) == ["cells.oif", "other.files/a.tif"]
