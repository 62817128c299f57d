"""Files of version 0.1: recipes, models and results are read, finished results are recognised, others restarted."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_pristine import load_model, read
from napari_pristine.cli.main import main
from napari_pristine.io.atomic import files_in
from napari_pristine.recipe_file import load_recipe

DATA = Path(__file__).parent / "data" / "version_0_1"
EXPECTED = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
RECIPES = ("inr", "cold", "cold_zarr", "zarr_0_4", "blind2unblind", "linr", "model_and_mask", "model_and_mask_short")
FINISHED = [
    ("inr.yaml", "channels.tif flat.tif stack.ome.tif", "done"),
    ("zarr_0_4.yaml", "flat.tif", "done_zarr_0_4"),
    ("model_and_mask.yaml", "flat.tif stack.ome.tif", "done_model"),
    ("linr.yaml", "flat.tif", "done_linr"),
]
OLD_HIDDEN = ".pristine"


@pytest.fixture
def disk(tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files as if it had been made where it lies, as the working directory."""
    folder = tmp_path / "copy"
    shutil.copytree(DATA, folder)
    for file in (*folder.glob("*/*.json"), *folder.glob(f"*/{OLD_HIDDEN}/*/*.json")):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(EXPECTED["recorded_in"], str(folder)), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def resume(recipe: str, inputs: str, output: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Resume a batch; gives the exit code, stdout and stderr."""
    capsys.readouterr()
    code = main(["batch", recipe, *(f"inputs/{name}" for name in inputs.split()), "-o", output, "--resume"])
    return code, *capsys.readouterr()


def digest(data: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_read(name: str) -> None:
    recipe = load_recipe(DATA / f"{name}.yaml")
    assert recipe.method == {"blind2unblind": "blind2unblind", "linr": "linr"}.get(
        name, "blind2unblind" if "model" in name else "inr"
    )
    assert recipe.device == "cpu"
    assert recipe.params.steps in (20, 30)


def test_recipes_mean_the_same_in_each_form() -> None:
    long, short = (load_recipe(DATA / f"model_and_mask{end}.yaml") for end in ("", "_short"))
    assert long.model_dump(exclude={"version"}) == short.model_dump(exclude={"version"})
    assert load_recipe(DATA / "done" / "flat.tif.json") == load_recipe(DATA / "inr.yaml")


def test_models_and_results_are_read() -> None:
    assert load_model(DATA / "model.safetensors").fingerprint == EXPECTED["model"]["model.safetensors"]
    assert read(DATA / "restored.tif").metadata["pristine"]["recipe"]["method"] == "inr"
    for name, expected in EXPECTED["finished"].items():
        image = read(DATA / name)
        assert (digest(image.data), image.axes) == (expected["sha256"], expected["axes"])


@pytest.mark.parametrize(("recipe", "inputs", "output"), FINISHED, ids=lambda value: value.split()[0])
def test_finished_results_are_recognised_and_left_as_they_are(
    disk: Path, capsys: pytest.CaptureFixture[str], recipe: str, inputs: str, output: str
) -> None:
    files = {file: file.read_bytes() for file in files_in(disk / output) if "report" not in file.name}
    code, out, err = resume(recipe, inputs, output, capsys)
    assert (code, err) == (0, "")
    assert out.count("skipped, done before") == len(inputs.split())
    assert {file: file.read_bytes() for file in files_in(disk / output) if "report" not in file.name} == files


def test_a_copy_in_another_folder_is_recognised_by_the_content_of_mask_and_model(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DATA / "done_model", disk / "moved")
    code, out, err = resume("model_and_mask.yaml", "flat.tif stack.ome.tif", "moved", capsys)
    assert (code, err, out.count("skipped, done before")) == (0, "", 2)


def test_results_of_another_mask_are_not_taken_for_the_same(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("inputs/flat.tif", "mask.tif")
    code, _, err = resume("model_and_mask.yaml", "flat.tif", "done_model", capsys)
    assert (code, "made with another mask" in err) == (1, True)


def test_what_an_old_report_says_of_skipped_files_is_kept(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resume("inr.yaml", "flat.tif", "done", capsys)
    with (disk / "done" / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["input"]: row["message"] for row in csv.DictReader(file)}
    assert rows["inputs/flat.tif"] == "done before"
    assert rows["inputs/stack.ome.tif"] == rows["inputs/channels.tif"] == "restored before"


@pytest.mark.parametrize("name", EXPECTED["resumed"])
def test_unfinished_results_are_started_again(disk: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Blocks and networks of another algorithm are not mixed with ours; what is complete but for its name is kept."""
    expected, target = EXPECTED["resumed"][name], disk / name
    code, out, err = resume(expected["recipe"], Path(expected["input"]).name, target.parent.name, capsys)
    complete = name == "interrupted_unnamed/flat.tif"
    assert (code, "done before" in out) == (0, complete)
    assert err.count("was begun by another version, which gives other pixels; it is restored from its start") == (
        not complete
    )
    data = np.asarray(read(target).data)
    if complete:
        assert digest(data) == expected["sha256"]
    else:
        assert resume(expected["recipe"], Path(expected["input"]).name, "fresh", capsys)[::2] == (0, "")
        assert np.array_equal(data, read(disk / "fresh" / target.name).data)
    assert not list(target.parent.glob(f"{OLD_HIDDEN}*"))
