"""Recipes in files: what is saved comes back, people can read and write it, and no file can misuse it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from tests.batches import quick, restore, stack

from allowed import TUNABLE, allowed_values
from napari_pristine import METHODS, learn, read
from napari_pristine.errors import FileError, PristineError, SettingError
from napari_pristine.model import save_model
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import load_recipe, save_recipe
from napari_pristine.settings import make, settings_of

PRESETS = [(method.key, preset) for method in METHODS.values() for preset in method.presets]
LONG = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load(path: Path, text: str | bytes) -> Recipe:
    """The recipe in a file with this text."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_recipe(path)


def complaint(path: Path, text: str | bytes) -> str:
    """The message for a file that is refused: one short line that names it."""
    with pytest.raises((FileError, SettingError)) as caught:
        load(path, text)
    said = str(caught.value)
    assert f"'{path}'" in said
    assert "\n" not in said
    assert len(said) < 700
    return said


@pytest.mark.parametrize(("method", "preset"), PRESETS)
@LONG
@given(data=st.data())
def test_what_is_saved_comes_back(tmp_path: Path, method: str, preset: str, data: st.DataObject) -> None:
    changes = {
        declared.name: data.draw(allowed_values(declared))
        for declared in data.draw(st.lists(st.sampled_from([s for key, s in TUNABLE if key == method]), max_size=3))
        if not declared.name.endswith("_file")
    }
    fields = {
        "axes": data.draw(st.sampled_from(["", "TZCYX", "YX"])),
        "select": data.draw(st.dictionaries(st.text(), st.text(), max_size=3)),
        "mask": data.draw(st.sampled_from(["", "/my masks/ü # : 'α\".tif", "C:\\masks\\a.tif", "/\udcff.tif"])),
        "adapt": data.draw(st.booleans()),
        "device": data.draw(st.sampled_from(["auto", "cpu", "cuda"])),
        "seed": data.draw(st.integers(0, 2**32 - 1)),
        "format": data.draw(st.sampled_from(["same", "ome-tiff", "ome-zarr", "ome-zarr-0.4"])),
        "version": data.draw(st.text()),
    }
    recipe = make(Recipe, {"method": method, "preset": preset, "settings": changes, **fields})
    save_recipe(tmp_path / "recipe.yaml", recipe, overwrite=True)
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_a_recipe_is_the_same_to_other_readers_of_yaml_and_in_json(tmp_path: Path, method: str, preset: str) -> None:
    recipe = make(Recipe, {"method": method, "preset": preset, "select": {"T": "1:10"}})
    save_recipe(tmp_path / "recipe.yaml", recipe)
    text = (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    plain = recipe.model_dump(mode="json")
    assert yaml.safe_load(text) == plain
    assert load(tmp_path / "recipe.json", json.dumps(plain)) == recipe
    assert load(tmp_path / "tabs.json", json.dumps(plain, indent="\t")) == recipe


def test_a_file_says_what_it_is_and_what_each_setting_means(tmp_path: Path) -> None:
    save_recipe(tmp_path / "recipe.yaml", make(Recipe, {"method": "inr"}))
    first, *lines = (tmp_path / "recipe.yaml").read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    assert "pristine batch RECIPE INPUT... -o FOLDER" in first
    declared = [*settings_of(Recipe), *settings_of(METHODS["inr"].params)]
    assert len(lines) == len(declared)
    for setting in declared:
        line = next(line for line in lines if line.strip().startswith(f"{setting.name}:"))
        assert f"# {setting.text}" in line
        assert setting.unit in line


def test_what_people_write_is_understood(tmp_path: Path) -> None:
    settings = "settings:\n  sigma: 1e-4\n  patch: none\n  refine: True\n"
    recipe = load(tmp_path / "mine.yaml", f"method: inr\n{settings}select: {{T: 1:10}}  # the first\nseed: 007")
    assert (recipe.params.sigma, recipe.settings["patch"], recipe.params.refine) == (1e-4, None, True)
    assert (recipe.select, recipe.seed, recipe.preset) == ({"T": "1:10"}, 7, "balanced")
    assert load(tmp_path / "mine.yml", "\ufeffmethod: linr\r\nsettings: {blur: none}\r\n").settings["blur"] == "none"


def test_files_beside_a_recipe_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    text = "method: linr\nmask: masks/dead.tif\nsettings: {psf_file: psf.tif}"
    recipe = load(Path("there/recipe.yaml"), text)
    assert recipe.mask == str(tmp_path / "there" / "masks" / "dead.tif")
    assert recipe.settings["psf_file"] == str(tmp_path / "there" / "psf.tif")
    assert load(Path("there/recipe.yaml"), r"{method: inr, mask: 'C:\masks\a.tif'}").mask == r"C:\masks\a.tif"
    save_recipe("mine.yaml", make(Recipe, {"mask": "masks/dead.tif"}))
    assert "masks/dead.tif" in Path("mine.yaml").read_text(encoding="utf-8")
    assert str(tmp_path) not in Path("mine.yaml").read_text(encoding="utf-8")


BILLION = "a: &a [x, x]\nb: &b [*a, *a]\nmethod: *b"
WRONG: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", ["is not a recipe", "method: inr"]),
    "list": ("- a\n- b", ["is not a recipe", "method: inr"]),
    "text": ("Dear colleague,\nplease restore these", ["is not a recipe"]),
    "another yaml": ("services:\n  db: {image: x}", ["is not a recipe", "names no method"]),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", ["is not a recipe", "not text"]),
    "tiff": (b"II*\0\x08\0\0\0", ["cannot be read as a recipe"]),
    "twice": ("method: inr\nmethod: linr", ["'method' appears twice"]),
    "twice in json": ('{"method": "inr", "seed": 1, "seed": 2}', ["'seed' appears twice"]),
    "twice inside": ("method: inr\nsettings: {steps: 1, steps: 2}", ["'steps' appears twice"]),
    "broken": ("method: inr\nseed: [1", ["line 2"]),
    "two": ("method: inr\n---\nmethod: inr", ["line 2", "single document"]),
    "references": (BILLION, ["line 1, column 4", "references"]),
    "code": ("method: !!python/object/apply:os.mkdir [it_ran]", ["line 1, column 9", "tags"]),
    "deep": ("method: " + "[" * 50_000, ["nested too deeply"]),
    "deep json": ('{"method": ' * 10_000, ["nested too deeply"]),
    "large": ("method: inr\n" + "# more\n" * 50_000, ["too large"]),
    "number": ('{"method": "inr", "seed": ' + "9" * 5000 + "}", ["cannot be read as a recipe"]),
    "infinite": ('{"method": "inr", "settings": {"sigma": 1e999}}', ["'sigma'", "inf"]),
    "letter": ('method: "\\UFFFFFFFF"', ["cannot be read as a recipe"]),
    "name": ("method: inr\nsped: 3", ["no setting 'sped'", "seed"]),
    "setting": ("method: inr\nsettings: {setps: 3}", ["no setting 'setps'", "steps"]),
    "value": ("method: inr\nsettings: {steps: many}", ["'steps' must be a whole number ≥ 1", "'many'"]),
    "kind": ("method: inr\nsettings: fast", ["'settings' must be names with values", "'fast'"]),
    "method": ("method: magic", ["no method 'magic'", *METHODS]),
    "preset": ("method: inr\npreset: quick", ["no preset 'quick'", "balanced"]),
    "name nearly": ("method: inr\nsede: 3", ["no setting 'sede'", "did you mean 'seed'?"]),
    "setting nearly": ("method: inr\nsettings: {setps: 3}", ["did you mean 'steps'?"]),
    "setting capital": ("method: inr\nsettings: {Steps: 3}", ["did you mean 'steps'?"]),
    "method nearly": ("method: INR", ["no method 'INR'", "did you mean 'inr'?"]),
    "method with model": ("method: Blind2Unblind\nmodel: a.safetensors", ["did you mean 'blind2unblind'?"]),
    "method as list": ("method: [inr]\nmodel: a.safetensors", ["no method"]),
    "preset nearly": ("method: inr\npreset: Fast", ["no preset 'Fast'", "did you mean 'fast'?"]),
    "setting outside": ("method: inr\nsteps: 5", ["'steps' is a setting of the method inr", "under 'settings:'"]),
    "settings outside": ("method: inr\nsteps: 5\nsigma: 2", ["'sigma', 'steps' are settings of the method inr"]),
    "no recipe inside": ('{"recipe": {"seed": 1}}', ["names no method"]),
    "newer": ("method: inr\nsettings: {setps: 3}\nversion: 99.1", ["'setps'", "newer version (99.1", "update"]),
    "newer method": ("method: magic\nversion: 99.1.dev3", ["'magic'", "newer version", "update"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    text, words = WRONG[case]
    began = time.process_time()
    said = complaint(tmp_path / "a recipe.yaml", text)
    assert time.process_time() - began < 5
    assert [word for word in words if word not in said] == []
    assert os.listdir(tmp_path) == ["a recipe.yaml"]


def test_a_recipe_of_a_newer_version_runs_if_all_in_it_is_known(tmp_path: Path) -> None:
    assert load(tmp_path / "recipe.yaml", "method: inr\nversion: 99.1").version == "99.1"
    assert "newer version" not in complaint(tmp_path / "recipe.yaml", "method: magic\nversion: 0.0.1")


@pytest.mark.parametrize("name", ["nowhere.yaml", "folder", "no\0name.yaml", "device.yaml"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    with pytest.raises(PristineError, match=name.replace("\0", ".")):
        load_recipe(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("taken.yaml", "already exists; give another name, or overwrite=True"),
        ("recipe.tif", "'.tif'"),
        ("no/a.yaml", "no folder"),
    ],
)
def test_nothing_is_replaced_unless_it_is_wished(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "taken.yaml").write_text("precious")
    recipe: Any = make(Recipe, {})
    with pytest.raises(FileError, match=words):
        save_recipe(tmp_path / name, recipe)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("taken.yaml", "precious")]
    save_recipe(tmp_path / "taken.yaml", recipe, overwrite=True)
    assert load_recipe(tmp_path / "taken.yaml") == recipe


def test_a_recipe_with_a_model_has_the_settings_that_it_learned_with(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).poisson(30, (32, 32)).astype(np.uint16)
    model = learn(noisy, "blind2unblind", preset="fast", settings={"steps": 2})
    save_model(tmp_path / "cells.safetensors", model)
    text = "method: blind2unblind\nmodel: cells.safetensors\n"
    recipe = load(tmp_path / "mine.yaml", text)
    assert (recipe.preset, recipe.params) == ("fast", model.recipe.params)
    assert recipe.model == str(tmp_path / "cells.safetensors")
    assert load(tmp_path / "mine.yaml", f"{text}settings: {{output: visible}}").settings["output"] == "visible"
    assert load(tmp_path / "mine.yaml", "model: cells.safetensors") == recipe
    said = complaint(tmp_path / "mine.yaml", f"{text}preset: paper")
    assert "preset 'paper' does not fit the model" in said
    assert "leave preset out" in said
    said = complaint(tmp_path / "mine.yaml", text.replace("blind2unblind", "inr"))
    assert "method 'inr' does not fit the model, which was trained with blind2unblind" in said
    assert "write 'method: blind2unblind', or leave method out" in said
    assert "preset" not in said
    saved = tmp_path / "saved.yaml"
    save_recipe(saved, recipe)
    assert load_recipe(saved) == recipe


def test_what_lies_beside_a_result_is_a_recipe(tmp_path: Path) -> None:
    path = stack(tmp_path / "a.tif", 24, 24)
    (row,) = restore(path, tmp_path / "out", quick(seed=3)).values()
    assert load_recipe(tmp_path / "out" / "a.tif.json") == quick(seed=3)
    again = restore(path, tmp_path / "again", load_recipe(tmp_path / "out" / "a.tif.json"))["a.tif"]
    assert np.array_equal(read(row.target).data, read(again.target).data)


def test_many_notes_beside_a_result_do_not_matter(tmp_path: Path) -> None:
    notes = ["block left out, since it is constant"] * 20_000
    text = json.dumps({"notes": notes, "recipe": quick().model_dump(mode="json")})
    assert load(tmp_path / "a.tif.json", text) == quick()
    began = time.process_time()
    assert "too large" in complaint(tmp_path / "b.json", f"{text}, nonsense")
    assert "too large" in complaint(tmp_path / "b.json", json.dumps(notes))
    assert time.process_time() - began < 2
