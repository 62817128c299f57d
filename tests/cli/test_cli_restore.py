"""`pristine restore`: files in, files out."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.batches import ended, listing, peak_memory, plate, process, series, stack

from napari_pristine import read, restore, write
from napari_pristine.batch.store import HIDDEN
from napari_pristine.fits.optimisation import Optimisation
from napari_pristine.image.image import Image
from napari_pristine.jobs.plan import make_plan
from napari_pristine.recipe_file import load_recipe
from napari_pristine.samples import simulate_image, simulate_timelapse

FEW = ("--method", "inr", "--set", "steps=3")
Shell = Callable[..., tuple[int, str, str]]


def test_a_restored_file_has_all_that_the_original_had(shell: Shell, movie: Path) -> None:
    code, out, err = shell("restore", movie, "-o", "clean.ome.tif", *FEW)
    before, after = read(movie), read("clean.ome.tif")
    assert (code, err) == (0, "")
    assert re.fullmatch(r".*movie.ome.tif → clean.ome.tif: .*noise level.* on \w+ \(.*\)\n", out)
    assert (after.axes, after.shape, after.dtype) == (before.axes, before.shape, before.dtype)
    assert (after.scale, after.units, after.channels) == (before.scale, before.units, before.channels)
    assert not np.array_equal(after.data, before.data)


def test_shell_and_python_give_the_same_pixels(shell: Shell, cell: Path) -> None:
    shell("restore", cell, "-o", "clean.tif", "--preset", "fast", "--seed", 7, *FEW, "--set", "sigma=5e0")
    python = restore(read(cell), preset="fast", seed=7, method="inr", settings={"steps": 3, "sigma": 5.0})
    assert np.array_equal(read("clean.tif").data, python.data)
    said = read("clean.tif").metadata["pristine"]
    assert said["recipe"] == python.recipe.model_dump(mode="json")
    assert said["input"] == "cell.tif"


def test_none_is_a_value(shell: Shell, cell: Path) -> None:
    shell("restore", cell, "-o", "clean.tif", *FEW, "--set", "patch=none")
    assert read("clean.tif").metadata["pristine"]["recipe"]["settings"]["patch"] is None


def test_several_inputs_go_to_a_folder_that_is_made(shell: Shell, cell: Path, movie: Path, tmp_path: Path) -> None:
    code, out, _ = shell("restore", cell, movie, "-o", "new/clean", *FEW)
    assert code == 0
    names = {"cell.tif", "cell.tif.json", "movie.ome.tif", "movie.ome.tif.json"}
    assert {path.name for path in (tmp_path / "new" / "clean").iterdir()} == names
    assert len(out.splitlines()) == 2


def test_one_input_goes_to_a_folder_that_is_there(shell: Shell, cell: Path, tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    assert shell("restore", cell, "-o", "clean", *FEW)[0] == 0
    assert (tmp_path / "clean" / "cell.tif").exists()


def test_a_pattern_that_the_shell_left_is_resolved(shell: Shell, cell: Path, tmp_path: Path) -> None:
    write(tmp_path / "other.tif", read(cell))
    assert shell("restore", "*.tif", "-o", "clean", *FEW)[0] == 0
    assert {path.name for path in (tmp_path / "clean").glob("*.tif")} == {"cell.tif", "other.tif"}


def test_a_pattern_with_a_single_match_goes_to_a_folder_too(shell: Shell, cell: Path, tmp_path: Path) -> None:
    assert shell("restore", "*.tif", "-o", "clean", *FEW)[0] == 0
    assert (tmp_path / "clean" / "cell.tif").exists()
    assert shell("restore", cell, "-o", "clean", *FEW, "--resume")[1].endswith("skipped, done before\n")
    for name in ("run 1.5", "2024.05.01", "new/deep/er"):
        assert shell("restore", cell, "-o", name, *FEW)[0] == 0
        assert (tmp_path / name / "cell.tif").exists()


def test_a_folder_is_restored_as_in_a_batch(shell: Shell, movie: Path, tmp_path: Path) -> None:
    stack(tmp_path / "in" / "a.tif", 32, 32)
    stack(tmp_path / "in" / "deeper" / "b.ome.tif", 32, 32)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    series(tmp_path / "in" / "two.zarr")
    code, out, err = shell("restore", "in", "-o", "clean", *FEW)
    assert (code, len(out.splitlines())) == (0, 5)
    assert all("(safeguard)" in line for line in err.splitlines())  # so few steps are no good fit
    assert "notes.txt: skipped, not an image that can be read" in out
    assert shell("batch", "clean/a.tif.json", "in", "-o", "batch")[0] == 0
    ours, theirs = listing(tmp_path / "clean"), listing(tmp_path / "batch")
    assert ours == [name for name in theirs if not name.startswith("report.")]
    assert "two.zarr.sidecars/1.json" in ours
    assert shell("restore", "in", movie, "-o", "both", *FEW)[0] == 0
    assert {"a.tif", "deeper/b.ome.tif", "movie.ome.tif"} < set(listing(tmp_path / "both"))
    code, out, err = shell("restore", "in", "-o", "clean.tif", *FEW)
    assert (code, "'in' is a folder; give a folder for the results too, such as 'clean'" in err) == (2, True)


def test_a_plate_goes_to_a_plate_of_the_name_that_is_given(shell: Shell, tmp_path: Path) -> None:
    plate(tmp_path / "p.zarr", wells=("A/1", "B/2"))
    assert shell("restore", "p.zarr", "-o", "clean.zarr", *FEW)[0] == 0
    assert "image 0 of 4 (A/1/0) was read" in read("clean.zarr").notes[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.zarr", "clean.zarr.sidecars", "p.zarr"]
    code, out, _ = shell("restore", "p.zarr", "-o", "clean.zarr/", *FEW, "--resume")
    assert (code, out.count("skipped, done before")) == (0, 4)
    assert "4 results already exist" in shell("restore", "p.zarr", "-o", "clean.zarr", *FEW)[2]
    code, _, err = shell("restore", "p.zarr", "-o", "clean.tif", *FEW)
    assert (code, "is the name of a file; for 4 images give a folder" in err) == (2, True)


def test_an_image_of_a_store_by_its_path_or_number(shell: Shell, tmp_path: Path) -> None:
    series(tmp_path / "two.zarr")
    expected = restore(read("two.zarr/1"), method="inr", settings={"steps": 3}).data
    for words in (("two.zarr/1", "-o", "a.zarr"), ("two.zarr", "--series", 1, "-o", "b.ome.tif")):
        assert shell("restore", *words, *FEW)[0] == 0
        assert np.array_equal(read(words[-1]).data, expected)
    assert shell("restore", "two.zarr/1", "-o", "out", *FEW)[0] == 0
    assert np.array_equal(read("out/two.zarr/1").data, expected)
    code, _, err = shell("restore", "two.zarr", "--series", 2, "-o", "c.zarr", *FEW)
    assert (code, "has no image 2 (--series): it holds 2 images" in err) == (2, True)


def test_a_jpeg_is_not_written_back_as_one(shell: Shell, tmp_path: Path) -> None:
    import PIL.Image

    picture = (simulate_image((32, 32))[0].data - 90).clip(0, 255).astype(np.uint8)
    PIL.Image.fromarray(picture).save(tmp_path / "cell.jpg")
    (tmp_path / "clean").mkdir()
    assert shell("restore", "cell.jpg", "-o", "clean", *FEW)[0] == 0
    assert read(tmp_path / "clean" / "cell.tif").dtype == np.uint8


def test_a_part_can_be_selected(shell: Shell, movie: Path) -> None:
    shell("restore", movie, "-o", "clean.tif", *FEW, "--select", "T=1", "--select", "c=0:1")
    assert read("clean.tif").channels == read(movie).channels[:1]
    assert read("clean.tif").size("T") == read("clean.tif").size("C") == 1


def test_axes_can_be_given_in_small_letters(shell: Shell, tmp_path: Path) -> None:
    write(tmp_path / "stack.tif", Image(simulate_timelapse((32, 32), frames=3)[0].data[:, 0], "TYX"))
    shell("restore", "stack.tif", "-o", "clean.tif", *FEW, "--axes", "zyx", "--together", "zyx")
    assert read("clean.tif").axes == "ZYX"


def test_what_the_user_should_know_goes_to_stderr(shell: Shell, tmp_path: Path) -> None:
    data = simulate_image((32, 32))[0].data.astype(np.float32)
    data[3, 4:6] = np.nan
    write(tmp_path / "holes.tif", Image(data, "YX"))
    code, out, err = shell("restore", "holes.tif", "-o", "clean.tif", *FEW)
    assert code == 0
    assert re.fullmatch(r"pristine: holes.tif: 2 pixels without a value .*\n", err)
    assert "without a value" not in out


def test_json_is_one_object_per_file_and_nothing_else(shell: Shell, cell: Path, movie: Path) -> None:
    code, out, _ = shell("restore", cell, "nowhere.tif", movie, "-o", "clean", *FEW, "--json")
    said = {Path(line["input"]).name: line for line in map(json.loads, out.splitlines())}
    assert code == 1
    assert set(said) == {"cell.tif", "nowhere.tif", "movie.ome.tif"}
    assert "does not exist" in said["nowhere.tif"]["error"]
    assert said["cell.tif"]["output"] == str(Path("clean", "cell.tif"))
    assert said["cell.tif"]["recipe"]["settings"]["steps"] == 3
    assert said["movie.ome.tif"]["quality"]["sigma"] > 0


def test_the_recipe_that_was_used_can_be_saved_and_repeated(shell: Shell, cell: Path, tmp_path: Path) -> None:
    write("mask.tif", Image(np.zeros((32, 40), np.uint8), "YX"))
    (tmp_path / "recipes").mkdir()
    words = ("restore", cell, "-o", "clean.tif", *FEW, "--seed", "5", "--mask", "mask.tif", "--device", "cpu")
    assert shell(*words, "--save-recipe", "recipes/mine.yaml")[0] == 0
    recipe = load_recipe("recipes/mine.yaml")
    assert (recipe.seed, recipe.params.steps, recipe.mask) == (5, 3, str(tmp_path / "mask.tif"))
    assert shell("batch", "recipes/mine.yaml", cell, "-o", "again")[0] == 0
    assert np.array_equal(read("again/cell.tif").data, read("clean.tif").data)
    assert shell("batch", "again/cell.tif.json", cell, "-o", "third")[0] == 0
    assert np.array_equal(read("third/cell.tif").data, read("clean.tif").data)


def test_a_recipe_is_saved_before_all_is_done_and_replaced_only_on_demand(shell: Shell, cell: Path) -> None:
    Path("taken.yaml").write_text("precious")
    code, out, err = shell("restore", cell, "-o", "clean.tif", *FEW, "--save-recipe", "taken.yaml")
    assert (code, out, "already exists" in err) == (2, "", True)
    assert Path("taken.yaml").read_text() == "precious"
    assert not Path("clean.tif").exists()
    assert shell("restore", cell, "-o", "clean.tif", *FEW, "--save-recipe", "taken.tif")[0] == 2
    assert shell("restore", "nowhere.tif", "-o", "clean.tif", *FEW, "--save-recipe", "new.yaml")[0] == 2
    assert not Path("new.yaml").exists()
    assert shell("restore", cell, "-o", "clean.tif", *FEW, "--save-recipe", "taken.yaml", "--overwrite")[0] == 0
    assert load_recipe("taken.yaml").params.steps == 3


def test_what_was_interrupted_is_resumed(shell: Shell, tmp_path: Path) -> None:
    write(tmp_path / "stack.tif", simulate_timelapse((32, 32), frames=5)[0])
    words = ("restore", tmp_path / "stack.tif", *FEW, "--set", "warm_start=false", "--device", "cpu")
    assert shell(*words, "-o", "whole.tif")[0] == 0
    (tmp_path / "out").mkdir()
    assert ended(process(*words, "-o", tmp_path / "out", dies_at=48)) == -9
    assert list((tmp_path / "out").glob(f"{HIDDEN}/stack.tif/units/*/*.jsonl"))
    code, out, err = shell(*words, "-o", "out")
    assert (code, out, "is unfinished" in err, "--resume continues it" in err) == (2, "", True, True)
    assert shell(*words, "-o", "out", "--resume")[0] == 0
    assert np.array_equal(read("out/stack.tif").data, read("whole.tif").data)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["stack.tif", "stack.tif.json"]
    code, out, err = shell(*words, "-o", "out", "--resume")
    assert (code, out, err) == (0, f"{tmp_path / 'stack.tif'}: skipped, done before\n", "")


def test_a_file_is_not_read_as_a_whole(shell: Shell, tmp_path: Path) -> None:
    frames = tifffile.memmap(tmp_path / "long.tif", shape=(20_000, 128, 128), dtype=np.uint16, metadata={"axes": "TYX"})
    frames[:2] = simulate_image((128, 128))[0].data
    frames.flush()
    shell("methods")  # imports are not counted
    with peak_memory() as peak:
        code = shell("restore", "long.tif", "-o", "clean.tif", *FEW, "--preset", "fast", "--select", "T=0:2")[0]
    assert (code, read("clean.tif").shape) == (0, (2, 128, 128))
    assert peak() < frames.nbytes / 2


def test_an_ome_zarr_is_replaced_or_skipped_like_a_file(shell: Shell, cell: Path) -> None:
    told = {(): "noise level", ("--resume",): "skipped, done before", ("--overwrite",): "noise level"}
    for words, said in told.items():
        code, out, err = shell("restore", cell, "-o", "clean.zarr", *FEW, *words)
        assert (code, err, said in out) == (0, "", True)
    assert shell("restore", cell, "-o", "clean.zarr", *FEW)[0] == 2
    assert np.array_equal(read("clean.zarr").data, restore(read(cell), method="inr", settings={"steps": 3}).data)


def test_a_sidecar_repeats_a_restoration_from_any_folder(shell: Shell, cell: Path) -> None:
    write("mask.tif", Image(np.zeros((32, 40), np.uint8), "YX"))
    Path("out").mkdir()
    assert shell("restore", cell, "-o", "out/cell.tif", *FEW, "--mask", "mask.tif", "--device", "cpu")[0] == 0
    assert shell("batch", "out/cell.tif.json", cell, "-o", "again")[0] == 0
    assert np.array_equal(read("again/cell.tif").data, read("out/cell.tif").data)


def test_each_file_is_opened_and_planned_once(
    shell: Shell, cell: Path, movie: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    planned: list[str] = []

    def read_once(path: Path, **options: Any) -> Image:
        opened.append(path.name)
        return read(path, **options)

    def plan_once(image: Image, *arguments: Any, **options: Any) -> Any:
        planned.append(image.name)
        return make_plan(image, *arguments, **options)

    monkeypatch.setattr("napari_pristine.batch.work_item.read", read_once)
    monkeypatch.setattr("napari_pristine.batch.work_item.make_plan", plan_once)
    assert shell("restore", cell, movie, "-o", "clean", *FEW)[0] == 0
    assert opened == ["cell.tif", "movie.ome.tif"]
    assert planned == ["cell", "movie"]


def test_the_way_from_the_shell_to_an_optimiser_step_is_short(
    shell: Shell, cell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Optimisation.step
    frames: list[str] = []

    def count(self: Optimisation, progress: float) -> None:
        frames[:] = [frame.function for frame in inspect.stack(0) if "napari_pristine" in Path(frame.filename).parts]
        step(self, progress)

    monkeypatch.setattr(Optimisation, "step", count)
    assert shell("restore", cell, "-o", "clean.tif", *FEW)[0] == 0
    assert frames[-1] == "main"
    assert len(frames) + 1 <= 12, frames


def test_the_uncertainty_goes_to_a_file_of_its_own(shell: Shell, movie: Path, tmp_path: Path) -> None:
    pretrained = ("--method", "pretrained", "--preset", "fast")
    code, _, err = shell("restore", movie, "-o", "clean.ome.tif", *pretrained, "--uncertainty", "error.tif")
    assert (code, err) == (0, "")
    error, clean = read("error.tif"), read("clean.ome.tif")
    assert (error.axes, error.shape, error.dtype) == (clean.axes, clean.shape, np.float32)
    assert error.scale == clean.scale
    python = restore(read(movie), "pretrained", preset="fast", uncertainty=True)
    assert python.uncertainty is not None
    np.testing.assert_array_equal(error.data, python.uncertainty.data)
    said = json.loads((tmp_path / "clean.ome.tif.json").read_text())
    assert said["uncertainty"] == "error.tif"
    assert shell("restore", movie, "-o", "clean.ome.tif", *pretrained, "--uncertainty", "error.tif", "--resume")[0] == 0
    (tmp_path / "error.tif").unlink()
    again = shell("restore", movie, "-o", "clean.ome.tif", *pretrained, "--uncertainty", "error.tif", "--resume")
    assert "its uncertainty 'error.tif' is missing" in again[2]


@pytest.mark.parametrize(
    ("inputs", "uncertainty", "said"),
    [
        (["cell.tif", "movie.ome.tif"], "error.tif", "cannot hold the uncertainty of 2 images"),
        (["cell.tif"], "cell.tif", "would replace the input"),
        (["cell.tif"], "clean", "has no known suffix"),
        (["cell.tif"], "old.tif", "already exists"),
        (["cell.tif"], "clean.tif", "both the result and its uncertainty"),
        (["cell.tif"], "error.png", "error.png"),
    ],
)
def test_a_file_that_cannot_hold_the_uncertainty_is_refused_first(
    shell: Shell, cell: Path, movie: Path, inputs: list[str], uncertainty: str, said: str
) -> None:
    write("old.tif", read(cell))
    output = "clean.tif" if len(inputs) == 1 else "clean/"
    code, _, err = shell("restore", *inputs, "-o", output, "--method", "pretrained", "--uncertainty", uncertainty)
    assert code == 2
    assert said in err
    assert not Path(output).exists()


def test_a_method_that_knows_no_uncertainty_says_so(shell: Shell, cell: Path) -> None:
    code, _, err = shell("restore", cell, "-o", "clean.tif", *FEW, "--uncertainty", "error.tif")
    assert code == 2
    assert "does not know the uncertainty" in err
    assert not Path("error.tif").exists()
