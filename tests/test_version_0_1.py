"""Files of version 0.1: recipes, models and results are read, finished results are recognised, batches are resumed."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from napari_pristine import load_model, read
from napari_pristine.batch.store import HIDDEN
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
CHUNKS = {
    "interrupted_cold/stack.ome.tif": ("c/0", "c/1"),
    "interrupted_zarr/stack.ome.zarr": ("0/c/0", "0/c/1"),
    "interrupted_warm/channels.tif": ("c/0/0", "c/0/1"),
    "interrupted_learned/stack.ome.tif": ("c/0", "c/1"),
    "interrupted_model/stack.ome.tif": ("c/0", "c/1"),
}
"""Two chunks of finished blocks of each interrupted result."""


@pytest.fixture
def disk(tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files as if it had been made where it lies, as the working directory."""
    folder = tmp_path / "copy"
    shutil.copytree(DATA, folder)
    for file in (*folder.glob("*/*.json"), *folder.glob(f"*/{HIDDEN}/*/*.json")):
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


def swap(first: Path, second: Path) -> None:
    spare = first.with_name("spare")
    first.rename(spare)
    second.rename(first)
    spare.rename(second)


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
    assert (code, "was made with another mask" in err) == (1, True)


def test_what_an_old_report_says_of_skipped_files_is_kept(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resume("inr.yaml", "flat.tif", "done", capsys)
    with (disk / "done" / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["input"]: row["message"] for row in csv.DictReader(file)}
    assert rows["inputs/flat.tif"] == "done before"
    assert rows["inputs/stack.ome.tif"] == rows["inputs/channels.tif"] == "restored before"


@pytest.mark.parametrize("name", EXPECTED["resumed"])
def test_interrupted_batches_are_resumed(disk: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Chunks of two finished blocks are exchanged before: if the blocks are kept, they are so in the result."""
    expected, target = EXPECTED["resumed"][name], disk / name
    exchanged = [target.parent / HIDDEN / target.name / "values.zarr" / chunk for chunk in CHUNKS.get(name, ())]
    if exchanged:
        swap(*exchanged)
    code, out, err = resume(expected["recipe"], Path(expected["input"]).name, target.parent.name, capsys)
    assert (code, err) == (0, "")
    assert ("done before" in out) == (name == "interrupted_unnamed/flat.tif")
    data = np.asarray(read(target).data).copy()
    if exchanged:
        first, second = ((0, 0), (0, 1)) if "c/0/0" in CHUNKS[name] else (0, 1)
        data[first], data[second] = data[second].copy(), data[first].copy()
    wanted = np.load(DATA / "expected.npz")[name]
    if digest(data) != expected["sha256"]:  # on another processor, or by another torch
        # or by another estimate of the noise, which makes little difference
        difference = np.abs(data.astype(float) - wanted.astype(float))
        assert difference.mean() < 0.5
        assert difference.max() < 20
    assert not (target.parent / HIDDEN).exists()


def test_a_network_that_was_trained_is_not_trained_again(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With weights of 0 it restores other frames than with its own; frames that were restored before are kept."""
    name = "interrupted_learned/stack.ome.tif"
    (file,) = (disk / "interrupted_learned" / HIDDEN / "stack.ome.tif" / "learned").iterdir()
    with safetensors.safe_open(file, "pt") as stored:
        metadata = stored.metadata()
    weights = {key: torch.zeros_like(value) for key, value in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(weights, file, metadata)
    assert resume("blind2unblind.yaml", "stack.ome.tif", "interrupted_learned", capsys)[0] == 0
    data, wanted = np.asarray(read(disk / name).data), np.load(DATA / "expected.npz")[name]
    assert np.array_equal(data[:2], wanted[:2])
    assert not any(np.array_equal(data[t], wanted[t]) for t in range(2, 6))
