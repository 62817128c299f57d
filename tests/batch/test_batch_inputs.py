"""Inputs of a batch: what is taken from a folder, what is left there, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.batches import became, noisy, quick, restore, stack

import microscopes
from napari_pristine import read
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
    assert any("the file holds 2 images; 1 ('stack') is read" in note for note in notes)
    one = restore(folder / "b.lif", tmp_path / "one", quick(series=0))["b.lif"]
    assert one.status == "restored"
    assert read(tmp_path / "one" / "b.ome.tif").shape == (24, 32)
