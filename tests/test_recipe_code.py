"""A recipe as Python code and as a shell command gives the pixels of the restoration; a paragraph describes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from tests.batches import noisy

import napari_pristine as pristine
from napari_pristine import Image, Recipe, read, write
from napari_pristine.cli.main import main
from napari_pristine.errors import SettingError
from napari_pristine.recipe import InputFile
from napari_pristine.recipe_code import as_python, as_shell, methods_paragraph
from napari_pristine.recipe_file import recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")
ODD = 'cell\'s "$HOME" `x`; #1 [2].tif'
INR = {"steps": 5, "width": 8, "batch": 128}
CASES = {
    "defaults": {},
    "settings": {"method": "inr", "preset": "fast", "settings": {**INR, "patch": None, "refine": False}, "seed": 3},
    "axes": {"method": "inr", "settings": INR, "axes": "ZYX", "together": "ZYX", "device": "cpu", "strength": 0.5},
    "range": {"select": {"T": "1:2"}, "value_type": "float32", "uncertainty": True, "format": "ome-zarr"},
    "files": {
        "method": "linr", "preset": "fast", "mask": "mask.tif", "select": {"T": "0"},
        "settings": {
            "steps": 3, "rough_steps": 3, "rounds": 1, "blur": "file", "psf_file": "bead.tif",
            "extra_images": [{"file": "second one.tif", "weight": 0.5}],
        },
    },
}  # fmt: skip


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with an awkward name, and others beside it."""
    monkeypatch.chdir(tmp_path)
    write("mask.tif", Image(np.eye(24, 26, dtype=np.uint8), "YX"))
    write("bead.tif", Image(np.outer(*[np.hanning(7)[1:-1]] * 2).astype(np.float32), "YX"))
    write("second one.tif", Image(noisy(1, 24, 26, seed=7), "TYX"))
    write(ODD, Image(noisy(3, 24, 26), "TYX"))
    return tmp_path / ODD


def restored(folder: Path, *, uncertainty: bool = False) -> list[np.ndarray]:
    """What was written beside the image."""
    (path,) = (path for path in folder.iterdir() if re.search(r" restored(\.ome)?\.(tif|zarr)$", path.name))
    both = [path, *folder.glob("* restored.uncertainty.ome.tif")] if uncertainty else [path]
    return [np.squeeze(read(each).data) for each in both]  # a TIFF of one frame has no axis T


def words(command: str) -> list[str]:
    """The words that bash makes of a command."""
    found = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    return found.stdout.split("\0")[:-1]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("written", [as_python, as_shell])
def test_what_is_written_gives_the_same_pixels(image: Path, name: str, written: Callable[[Recipe, Path], str]) -> None:
    recipe = Recipe(**CASES[name])  # type: ignore[arg-type]
    expected = pristine.restore(read(image, axes=recipe.axes), recipe=recipe)
    elsewhere = image.parent / "elsewhere"
    elsewhere.mkdir()
    text = written(expected.recipe, image)
    os.chdir(elsewhere)  # all names of files are absolute
    if written is as_python:
        exec(compile(text, "code", "exec"), {})
    else:
        assert main(words(text)[1:]) == 0
    found = restored(image.parent, uncertainty=recipe.uncertainty)
    assert np.array_equal(found[0], np.squeeze(expected.data))
    if expected.uncertainty is not None:
        assert np.array_equal(found[1], np.squeeze(expected.uncertainty.data), equal_nan=True)


def test_only_what_differs_from_the_preset_is_written(image: Path) -> None:
    recipe = Recipe(method="inr", preset="fast", settings={"steps": 7})
    assert words(as_shell(recipe, image))[5:] == ["--method", "inr", "--preset", "fast", "--set", "steps=7"]
    assert "settings={'steps': 7}" in as_python(recipe, image)


def test_every_field_of_a_recipe_is_an_option_of_the_shell(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or is said otherwise: a field that is added needs one."""
    main(["restore", "--help"])
    options = set(re.findall(r"--([a-z-]+)", capsys.readouterr().out))
    fields = {name.replace("_", "-") for name in Recipe.model_fields}
    assert fields - options == {"settings", "format", "choice", "inputs", "version"}


def test_the_command_runs_in_bash_and_a_model_is_named(image: Path, tmp_path: Path) -> None:
    settings = {"steps": 3, "side": 16, "batch": 2, "width": 8, "levels": 2}
    model = pristine.learn(read(image), "blind2unblind", settings=settings)
    pristine.save_model("my cells.safetensors", model)
    recipe = model.recipe_with("", {"stripes": False}, {"model": "my cells.safetensors", "seed": 4})
    expected = pristine.restore(read(image), recipe=recipe, model="my cells.safetensors")
    command = as_shell(expected.recipe, image, threads=1)
    assert "--set stripes=False" in command
    assert "steps=" not in command  # it was trained so
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "pristine").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m napari_pristine "$@"\n')
    (folder / "pristine").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", command], check=True, env=environment, cwd=folder, capture_output=True, timeout=250)
    (found,) = restored(tmp_path)
    assert np.array_equal(found, expected.data)


def test_a_layer_is_named_where_there_is_no_file() -> None:
    image = Image(noisy(2, 24, 26), "ZYX", scale=(1.0, 0.2, 0.2), units=("um",) * 3, name="my 'layer'")
    recipe = Recipe(method="inr", preset="fast", settings=INR)
    viewer = SimpleNamespace(layers={"my 'layer'": SimpleNamespace(data=image.data)})
    names: dict[str, object] = {"viewer": viewer}
    exec(compile(as_python(recipe, image, threads=1), "code", "exec"), names)
    assert np.array_equal(names["result"].data, pristine.restore(image, recipe=recipe).data)  # type: ignore[attr-defined]


@pytest.mark.parametrize("written", [as_python, as_shell])
def test_what_is_in_no_file_is_told(image: Path, written: Callable[[Recipe, Path], str]) -> None:
    recipe = Recipe(method="inr", inputs={"mask": InputFile(sha256="0" * 64)})
    with pytest.raises(SettingError, match="not in a file: the mask of this restoration"):
        written(recipe, image)


def test_a_paragraph_names_method_settings_versions_and_figures(image: Path) -> None:
    result = pristine.restore(read(image), "inr", preset="fast", settings={**INR, "patch": None}, select={"T": "0"})
    text = methods_paragraph({"pristine": result.provenance()})
    for part in ("napari-pristine ", "“INR” (preset “fast”; Kim, Lee & Shin (2022)", "select T 0", "steps 5",
                 "noise level measured in the image was ", "torch ", "numpy ", "on cpu (1 thread)"):  # fmt: skip
        assert part in text
    assert "device" not in text
    chosen = methods_paragraph(pristine.restore(read(image)).provenance())
    assert "“Pretrained” (preset “" in chosen
    assert re.search(r"estimated without a reference, is 0\.\d\d times the noise level", chosen)
    assert "Settings that differ" not in chosen
    assert methods_paragraph(Recipe(method="inr")).startswith("Noise was removed with napari-pristine ")
    with pytest.raises(SettingError, match="there is no recipe"):
        recipe_of({"name": "a layer of another plugin"})


def test_the_citation_has_what_the_format_asks_for() -> None:
    """Version 1.2.0 of the Citation File Format, which GitHub, Zenodo and Zotero read."""
    root = Path(__file__).parent.parent
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["cff-version"], citation["type"], citation["license"]) == ("1.2.0", "software", "BSD-3-Clause")
    assert citation["authors"] == [{"name": "The developers of napari-pristine"}]
    assert f'version = "{citation["version"]}"' in (root / "pyproject.toml").read_text()
