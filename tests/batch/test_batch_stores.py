"""Plates and series go to stores of the same layout, which list what is there at every moment."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from tests.batches import (
    OME_XML,
    became,
    block_done,
    ended,
    field_of_view,
    group,
    inside,
    plate,
    process,
    quick,
    restore,
    saved,
    series,
)

from napari_pristine import read, write
from napari_pristine import restore as restore_one
from napari_pristine.batch import store as batch_store
from napari_pristine.batch.estimate import estimate_files
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchOptions, Task, assign_targets
from napari_pristine.batch.store import HIDDEN, read_sidecar
from napari_pristine.errors import FileError
from napari_pristine.events import ItemDone
from napari_pristine.io import collection_writer
from napari_pristine.io.collection import list_images, read_node
from napari_pristine.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
VERSIONS = ["0.4", "0.5"]


def ome(path: Path) -> Any:
    """The attributes of OME-Zarr of a group."""
    return read_node(path).ome


def listed(path: Path) -> list[str]:
    """The images that a store lists; all of them are there, with their metadata."""
    members = list_images(path)
    assert not any(member.problem for member in members)
    assert all("multiscales" in read_node(path / member.path).ome for member in members)
    return [member.path for member in members]


def hidden(folder: Path) -> list[str]:
    """Names in a folder that no finished result has."""
    names = [name for name in inside(folder) if Path(name).name not in (".zgroup", ".zattrs", ".zarray")]
    return [name for name in names if any(part.startswith(".") for part in Path(name).parts) or name.endswith(".part")]


def tasks_of(source: Path, output: Path, recipe: Recipe | None = None) -> list[Task]:
    recipe = recipe or quick()
    return assign_targets(find_inputs([str(source)], output, series=recipe.series), output, recipe)


def run(source: Path, output: Path, recipe: Recipe | None = None, **options: Any) -> dict[str, ItemDone]:
    """What became of each image, by its path in the folder of results."""
    recipe = recipe or quick()
    rows = Batch(tasks_of(source, output, recipe), BatchOptions(recipe, **options)).job()
    items = [event for event in rows if isinstance(event, ItemDone)]
    return {item.target.relative_to(output).as_posix(): item for item in items}


@pytest.mark.parametrize("form", ["same", "ome-zarr", "ome-zarr-0.4"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_plate_becomes_a_plate(tmp_path: Path, version: str, form: str) -> None:
    source = plate(tmp_path / "p.zarr", version)
    rows = run(tmp_path, tmp_path / "out", quick(format=form))
    result = tmp_path / "out" / ("p.zarr" if form == "same" else "p.ome.zarr")
    names = [f"{well}/{field}" for well in ("A/1", "A/2", "B/1") for field in "01"]
    assert became(rows) == {f"{result.name}/{name}": "restored" for name in names}
    assert listed(result) == names
    yaozarrs.validate_zarr_store(str(result))
    written = {"same": version, "ome-zarr": "0.5", "ome-zarr-0.4": "0.4"}[form]
    assert zarr.open_group(result, mode="r").metadata.zarr_format == (2 if written == "0.4" else 3)
    before, after = ome(source), ome(result)
    assert {**after["plate"], "version": ""} == {**before["plate"], "version": ""}
    assert ome(result / "A" / "2")["well"]["images"] == ome(source / "A" / "2")["well"]["images"]
    image = read(source / "A" / "2" / "1")
    alone = restore_one(image, "inr", preset="fast", settings={"steps": 5}, device="cpu")
    np.testing.assert_array_equal(read(result / "A" / "2" / "1").data, alone.data)
    assert hidden(tmp_path / "out") == []
    facts = read_sidecar(result / "A" / "2" / "1")
    assert (facts["input"], facts["output"]) == ("p.zarr/A/2/1", f"{result.name}/A/2/1")
    assert facts["checksum"] == read(result / "A" / "2" / "1").metadata["pristine"]["checksum"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [result.name, f"{result.name}.sidecars"]
    assert {row.text for row in run(tmp_path, tmp_path / "out", quick(format=form), resume=True).values()} == {
        "done before"
    }


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_series_become_series(tmp_path: Path, version: str, is_listed: bool) -> None:
    source = series(tmp_path / "s.zarr", version, listed=is_listed)
    rows = run(source, tmp_path / "out")
    assert became(rows) == {"s.zarr/0": "restored", "s.zarr/1": "restored"}
    result = tmp_path / "out" / "s.zarr"
    assert listed(result) == ["0", "1"]
    assert (ome(result)["bioformats2raw.layout"], ome(result / "OME")["series"]) == (3, ["0", "1"])
    assert (result / "OME" / "METADATA.ome.xml").read_text() == OME_XML
    yaozarrs.validate_zarr_store(str(result))
    assert read(result).size("C") == 2
    assert read(result, series=1).size("C") == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_series_keep_their_names(tmp_path: Path, version: str) -> None:
    source, names = series(tmp_path / "s.zarr", version), ["s0", "µ / cells"]
    for number, name in enumerate(names):
        file = source / str(number) / ("zarr.json" if version == "0.5" else ".zattrs")
        attributes = json.loads(file.read_text())
        attributes.get("attributes", {}).get("ome", attributes)["multiscales"][0]["name"] = name
        file.write_text(json.dumps(attributes))
    run(source, tmp_path / "out")
    result = tmp_path / "out" / "s.zarr"
    assert [ome(result / str(number))["multiscales"][0]["name"] for number in (0, 1)] == names
    write(tmp_path / "one.ome.tif", read(result, series=1))
    assert 'Name="µ / cells"' in tifffile.tiffcomment(tmp_path / "one.ome.tif")


def test_the_ome_xml_is_left_out_where_it_does_not_fit(tmp_path: Path) -> None:
    source = series(tmp_path / "s.zarr")
    xml = Path("s.zarr", "OME", "METADATA.ome.xml")
    run(source / "1", tmp_path / "some")
    assert listed(tmp_path / "some" / "s.zarr") == ["1"]
    assert not (tmp_path / "some" / xml).exists()
    run(source / "0", tmp_path / "some")
    assert (tmp_path / "some" / xml).exists()
    run(source, tmp_path / "part", quick(select={"Y": "0:20"}))
    assert listed(tmp_path / "part" / "s.zarr") == ["0", "1"]
    assert not (tmp_path / "part" / xml).exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_images_that_fail_are_not_listed_and_are_added_later(tmp_path: Path, version: str) -> None:
    source = plate(tmp_path / "in" / "p.zarr", version)
    broken = source / "A" / "2" / "0"
    kept = tmp_path / "kept"
    shutil.move(broken, kept)
    shutil.copytree(kept, broken)
    for file in [file for file in broken.rglob("*") if file.is_file() and file.parent.name == "0"]:
        file.write_bytes(b"damaged")
    shutil.move(source / "B" / "1", tmp_path / "well")
    rows = run(tmp_path / "in", tmp_path / "out")
    status = {name: row.status for name, row in rows.items()}
    assert (status.pop("p.zarr/A/2/0"), status.pop("p.zarr/B/1")) == ("failed", "skipped")
    assert set(status.values()) == {"restored"}
    result = tmp_path / "out" / "p.zarr"
    assert listed(result) == ["A/1/0", "A/1/1", "A/2/1"]
    assert [well["path"] for well in ome(result)["plate"]["wells"]] == ["A/1", "A/2"]
    yaozarrs.validate_zarr_store(str(result))
    shutil.rmtree(broken)
    shutil.move(kept, broken)
    shutil.move(tmp_path / "well", source / "B" / "1")
    rows = run(tmp_path / "in", tmp_path / "out", resume=True)
    assert sum(row.status == "restored" for row in rows.values()) == 3
    assert listed(result) == [f"{well}/{field}" for well in ("A/1", "A/2", "B/1") for field in "01"]
    assert hidden(tmp_path / "out") == []


def test_parts_of_a_plate_are_put_together_in_its_order(tmp_path: Path) -> None:
    source, result = plate(tmp_path / "p.zarr"), tmp_path / "out" / "p.zarr"
    for part, names in (
        ("B/1/1", ["B/1/1"]),
        ("A/1", ["A/1/0", "A/1/1", "B/1/1"]),
        ("B/1/0", ["A/1/0", "A/1/1", "B/1/0", "B/1/1"]),
    ):
        run(source / part, tmp_path / "out")
        assert listed(result) == names
        yaozarrs.validate_zarr_store(str(result))


def test_an_image_is_chosen_by_its_number(tmp_path: Path) -> None:
    source = series(tmp_path / "s.zarr")
    rows = run(source, tmp_path / "out", quick(series=1))
    assert became(rows) == {"s.zarr/1": "restored"}
    assert read(tmp_path / "out" / "s.zarr" / "1").size("C") == 3
    # the same result as without a number
    rows = run(source, tmp_path / "out", resume=True)
    assert [row.text for row in rows.values()] == ["", "done before"]
    (row,) = run(source, tmp_path / "out2", quick(series=5)).values()
    assert (row.status, "has no image 5" in row.text) == ("failed", True)


def test_tiff_files_have_the_names_of_store_and_image(tmp_path: Path) -> None:
    plate(tmp_path / "in" / "deeper" / "p.ome.zarr", wells=("A/1", "H/12"), fields=1)
    series(tmp_path / "in" / "s.zarr")
    field_of_view(tmp_path / "in" / "cells")
    rows = run(tmp_path / "in", tmp_path / "out", quick(format="ome-tiff"))
    assert list(rows) == [
        "cells.ome.tif", "s_0.ome.tif", "s_1.ome.tif", "deeper/p_A_1_0.ome.tif", "deeper/p_H_12_0.ome.tif",
    ]  # fmt: skip
    assert read(tmp_path / "out" / "deeper" / "p_H_12_0.ome.tif").name == "p_H_12_0"


@pytest.mark.parametrize("version", VERSIONS)
def test_at_every_moment_a_store_lists_only_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Also while results are replaced."""
    plate(tmp_path / "in" / "p.zarr", version, ("A/1", "A/2"))
    series(tmp_path / "in" / "s.zarr", version)
    out, looks = tmp_path / "out", []

    def replace(source: Any, target: Any, move: Any = os.replace) -> None:
        for moment in (0, 1):
            move(source, target) if moment else None
            for store in out.glob("*.zarr"):
                plain = not {"plate", "bioformats2raw.layout"} & ome(store).keys()
                looks.append(() if plain else listed(store))

    monkeypatch.setattr(batch_store.os, "replace", replace)
    assert collection_writer.os.replace is replace
    run(tmp_path / "in", out)
    assert ["A/1/0", "A/1/1", "A/2/0"] in looks
    looks.clear()
    run(tmp_path / "in", out, quick(seed=1), overwrite=True)
    assert ["A/1/1", "A/2/0", "A/2/1"] in looks
    assert listed(out / "p.zarr") == ["A/1/0", "A/1/1", "A/2/0", "A/2/1"]
    assert listed(out / "s.zarr") == ["0", "1"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_batch_that_is_killed_leaves_a_store_that_can_be_read_and_resumed(tmp_path: Path, version: str) -> None:
    source = plate(tmp_path / "p.zarr", version, ("A/1", "B/1"), fields=1)
    recipe, whole = saved(tmp_path), tmp_path / "whole"
    run(source, whole)
    command = ["batch", recipe, source, "-o", tmp_path / "out", "--resume"]
    kills, code = 0, -9
    while code == -9:  # the steps from the first finished block to the last renaming
        code = ended(process(*command, dies_at=(25, 33, 41, 8, 5, 6, 7, 9, 11, 0)[kills]))
        kills += code == -9
        if (tmp_path / "out" / "p.zarr").exists() and "plate" in ome(tmp_path / "out" / "p.zarr"):
            listed(tmp_path / "out" / "p.zarr")
    assert (code, kills > 3) == (0, True)
    for name in ("report.csv", "report.html"):
        (tmp_path / "out" / name).unlink()
    assert inside(tmp_path / "out") == inside(whole)
    assert ome(tmp_path / "out" / "p.zarr") == ome(whole / "p.zarr")
    for image in listed(whole / "p.zarr"):
        np.testing.assert_array_equal(
            read(tmp_path / "out" / "p.zarr" / image).data, read(whole / "p.zarr" / image).data
        )


def test_batches_at_the_same_time_share_a_plate(tmp_path: Path) -> None:
    source = plate(tmp_path / "p.zarr", wells=("A/1", "A/2", "B/1"))
    recipe = saved(tmp_path)
    both = [process("batch", recipe, source, "-o", tmp_path / "out", "--resume") for _ in range(3)]
    assert [ended(one) for one in both] == [0, 0, 0]
    assert len(listed(tmp_path / "out" / "p.zarr")) == 6
    assert hidden(tmp_path / "out") == []
    with (tmp_path / "out" / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["input"] for row in rows) == sorted(str(task.source) for task in tasks_of(source, tmp_path / "x"))
    assert all(row["sigma"] for row in rows)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('alt="after"') == 6
    assert "p.zarr/A/2/1" in page


def test_stores_of_others_are_left_alone(tmp_path: Path) -> None:
    source = series(tmp_path / "s.zarr")
    for name, make in (
        ("plate", lambda path: plate(path, fields=1)),
        ("image", field_of_view),
        ("thesis", lambda path: (path / "thesis").mkdir(parents=True)),
    ):
        make(tmp_path / name / "s.zarr")
        before = inside(tmp_path / name)
        rows = run(source, tmp_path / name, overwrite=True)
        assert {row.status for row in rows.values()} == {"failed"}
        assert "is not a store of results of this program" in rows["s.zarr/0"].text
        (estimate, _) = filter(None, estimate_files(tasks_of(source, tmp_path / name), BatchOptions(quick())))
        assert "is not a store of results" in estimate.problem
        assert inside(tmp_path / name) == before
    run(plate(tmp_path / "other" / "s.zarr"), tmp_path / "out")
    rows = run(source, tmp_path / "out")
    assert "results of another store" in rows["s.zarr/0"].text
    run(source, tmp_path / "v5")
    shutil.rmtree(source)
    rows = run(series(source, "0.4"), tmp_path / "v5", overwrite=True)
    assert "is OME-Zarr 0.5, but the new images would be 0.4" in rows["s.zarr/0"].text


def test_no_result_replaces_an_input_or_lies_in_one(tmp_path: Path) -> None:
    source = plate(tmp_path / "p.zarr", fields=1)
    field_of_view(tmp_path / "cells")
    for names, output in (
        ([source], tmp_path),
        ([source / "A"], tmp_path),
        ([tmp_path / "cells"], tmp_path / "cells"),
        ([tmp_path / "cells"], tmp_path / "cells" / "results"),
    ):
        with pytest.raises(FileError, match=r"would (replace|lie in) the input|would be written"):
            assign_targets(find_inputs([str(name) for name in names]), output, quick())
    for output in (source, source / "results"):
        with pytest.raises(FileError, match="has the name of an OME-Zarr"):
            tasks_of(source, output)


def test_results_of_a_plate_are_known_as_such(tmp_path: Path) -> None:
    """They are left out beside other images, and restored where they are alone."""
    source = plate(tmp_path / "in" / "p.zarr", wells=("A/1",))
    run(source, tmp_path / "in" / "clean")
    found = find_inputs([str(tmp_path / "in")])
    assert [("clean" in one.path.parts) == ("earlier batch" in one.problem) for one in found] == [True] * 4
    assert [one.problem for one in find_inputs([str(tmp_path / "in")], tmp_path / "in" / "clean")] == ["", ""]
    again = run(tmp_path / "in" / "clean", tmp_path / "second")
    assert became(again) == {"p.zarr/A/1/0": "restored", "p.zarr/A/1/1": "restored"}
    recipe = tmp_path / "in" / "clean" / "p.zarr.sidecars" / "A" / "1" / "0.json"
    assert json.loads(recipe.read_text())["recipe"]["method"] == "inr"


def test_unfinished_results_lie_beside_their_store(tmp_path: Path) -> None:
    """Other programs may open the store at any time."""
    source = plate(tmp_path / "p.zarr", wells=("A/1",))
    job = Batch(tasks_of(source, tmp_path / "out"), BatchOptions(quick())).job()
    while not (tmp_path / "out" / "p.zarr").exists():
        next(job)
    while not block_done(next(job)):
        pass
    assert (tmp_path / "out" / HIDDEN).is_dir()
    assert hidden(tmp_path / "out" / "p.zarr") == []
    job.close()


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_old_plates_become_valid_ones(tmp_path: Path, version: str) -> None:
    content = {"rows": 2, "columns": 1, "wells": [{"path": "A/1"}, {"path": "B/1"}], "version": version}
    source = group(tmp_path / "p.zarr", {"plate": content}, "0.4")
    for well in ("A/1", "B/1"):
        group(source / well, {"well": {"images": [{"path": "0"}], "version": version}}, "0.4")
        field_of_view(source / well / "0", "0.4", shape=(1, 1, 1, 24, 24))
        attributes = json.loads((source / well / "0" / ".zattrs").read_text())
        image = attributes["multiscales"][0]
        image["version"], image["datasets"] = version, [{"path": "0"}]
        axes = image.pop("axes")
        image |= {"axes": [axis["name"] for axis in axes]} if version == "0.3" else {}
        (source / well / "0" / ".zattrs").write_text(json.dumps(attributes))
    rows = run(source, tmp_path / "out")
    assert became(rows) == {"p.zarr/A/1/0": "restored", "p.zarr/B/1/0": "restored"}
    assert f"this is OME-Zarr {version}; results in OME-Zarr are written as 0.4" in rows["p.zarr/A/1/0"].facts["notes"]
    yaozarrs.validate_zarr_store(str(tmp_path / "out" / "p.zarr"))
    assert ome(tmp_path / "out" / "p.zarr")["plate"]["wells"][1] == {"path": "B/1", "rowIndex": 1, "columnIndex": 0}


def test_groups_of_images_of_any_program(tmp_path: Path) -> None:
    folder = group(tmp_path / "tracking", {})
    group(folder / "day 1", {})
    field_of_view(folder / "day 1" / "raw")
    zarr.create_array(tmp_path / "arrays.zarr" / "b", data=read(folder / "day 1" / "raw").data)
    group(tmp_path / "arrays.zarr", {})
    rows = run(tmp_path, tmp_path / "out")
    assert became(rows) == {"arrays.zarr/b": "restored", "tracking.zarr/day 1/raw": "restored"}
    assert read(tmp_path / "out" / "tracking.zarr").name == "tracking"
    assert read(tmp_path / "out" / "arrays.zarr" / "b").shape == (24, 24)


@pytest.mark.slow
@pytest.mark.acceptance
def test_work_of_workers_in_a_plate(tmp_path: Path) -> None:
    source = plate(tmp_path / "p.zarr", wells=("A/1",))
    pytest.importorskip("distributed")
    assert ended(process("batch", saved(tmp_path), source, "-o", tmp_path / "out", "--workers", 2)) == 0
    assert listed(tmp_path / "out" / "p.zarr") == ["A/1/0", "A/1/1"]
    assert restore(source, tmp_path / "out", resume=True)["0"].text == "done before"
