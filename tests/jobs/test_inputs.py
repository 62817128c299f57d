"""Everything that a result depends on beside the image is in its recipe, with a checksum."""

from __future__ import annotations

import hashlib
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_pristine import Image, PristineError, Recipe, learn, load_recipe, restore, save_model, save_recipe, write
from napari_pristine.batch.spec import resolve_batch
from napari_pristine.errors import FileError, SettingError
from napari_pristine.jobs.inputs import InputCache, open_inputs
from napari_pristine.jobs.plan import make_plan
from napari_pristine.methods import METHODS
from napari_pristine.model import Model
from tiny import TINY

NOISY = np.random.default_rng(0).poisson(20, (32, 32)).astype(np.uint16)
MASK = np.zeros((32, 32), bool)
MASK[4:6, 5:9] = True
FEW = {"steps": 2, "width": 8, "patch": 32}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setitem(METHODS, "tiny", TINY)
    return learn(NOISY, "tiny", settings={"steps": 2}, device="cpu")


def test_a_recipe_stands_for_all_other_arguments(tmp_path: Path) -> None:
    first = restore(
        NOISY, preset="fast", method="inr", settings=FEW, seed=3, value_type="float32", select={"X": "0:24"}
    )
    save_recipe(tmp_path / "a.yaml", first.recipe)
    for recipe in (first.recipe, load_recipe(tmp_path / "a.yaml"), tmp_path / "a.yaml", str(tmp_path / "a.yaml")):
        again = restore(NOISY, recipe=recipe)
        assert again.recipe == first.recipe
        np.testing.assert_array_equal(again.data, first.data)
    assert first.data.dtype == np.float32


def test_arguments_count_instead_of_what_the_recipe_says() -> None:
    recipe = Recipe(preset="fast", method="inr", settings=FEW, axes="TYX", seed=3, device="cpu", select={"T": "1"})
    movie = np.stack([NOISY, NOISY.T])
    made = restore(movie, "inr", recipe=recipe, settings={"steps": 1}, seed=0, select={}, value_type="same").recipe
    assert (made.settings["steps"], made.settings["width"], made.seed, made.select) == (1, 8, 0, {})
    assert (made.preset, made.axes, made.value_type) == ("fast", "TYX", "same")
    assert restore(movie, recipe=recipe, axes="CYX", select={"C": "0"}).image.axes == "CYX"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"method": "linr"}, "method 'linr' contradicts the recipe, whose method is 'inr'"),
        ({"preset": "paper"}, "preset 'paper' contradicts the recipe"),
        ({"settings": {"magic": 1}}, "magic"),
        ({"recipe": {"method": "inr"}}, "give a Recipe or its file"),
        ({"recipe": "nowhere.yaml"}, "'nowhere.yaml' does not exist"),
        ({"value_type": "uint8"}, "value_type"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_what_does_not_go_with_a_recipe_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(PristineError, match=said):
        restore(NOISY, **{"recipe": Recipe(preset="fast", method="inr", settings=FEW), **arguments})


def test_threads_are_those_that_are_given_and_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    assert restore(NOISY, method="inr", settings=FEW, device="cpu", threads=2).device == "cpu (2 threads)"
    assert torch.get_num_threads() == before
    (note,) = [
        each
        for each in restore(NOISY, method="inr", settings=FEW, device="cpu", threads=99).notes
        if "CPU" in each.text
    ]
    assert note.warning
    assert note.text.startswith("99 threads on ")


def test_objects_given_in_python_leave_their_checksums(model: Model) -> None:
    result = restore(NOISY, mask=MASK, model=model, device="cpu")
    inputs = result.provenance()["recipe"]["inputs"]
    assert inputs["model"] == {"path": "", "sha256": model.sha256}
    assert inputs["mask"]["path"] == ""
    assert len(inputs["mask"]["sha256"]) == 64
    other = restore(NOISY, mask=MASK.T, model=model, device="cpu")
    assert other.recipe.inputs["mask"].sha256 != result.recipe.inputs["mask"].sha256


def test_files_leave_their_names_and_checksums(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "tiny.safetensors", model)
    write(tmp_path / "mask.tif", Image(MASK.astype(np.uint8), "YX"))
    recipe = model.recipe_with(
        "", {}, {"model": str(tmp_path / "tiny.safetensors"), "mask": str(tmp_path / "mask.tif")}
    )
    inputs = make_plan(Image(NOISY, "YX"), recipe).recipe.inputs
    assert inputs["model"].path == recipe.model
    assert inputs["model"].sha256 == model.sha256  # of its weights: the same as for the object
    assert inputs["mask"].sha256 == hashlib.sha256((tmp_path / "mask.tif").read_bytes()).hexdigest()


def test_extra_images_and_measured_psfs_have_roles_of_their_own(tmp_path: Path) -> None:
    spot = np.exp(-(np.hypot(*np.mgrid[-3:4, -3:4]) ** 2))
    np.save(tmp_path / "psf.npy", spot)
    write(tmp_path / "b.tif", Image(NOISY, "YX"))
    settings = {**FEW, "blur": "file", "psf_file": "psf.npy", "also": "b.tif blur=file psf_file=psf.npy"}
    inputs = open_inputs(Recipe(method="linr", settings=settings), tmp_path / "a.tif")
    assert sorted(inputs.recipe.inputs) == ["extra_image_1", "extra_image_1_psf", "psf"]
    assert [image.name for image in inputs.extra_images] == ["b"]
    assert not isinstance(inputs.extra_images[0].data, np.ndarray)  # it may be larger than the memory
    assert all(psf is not None for psf in inputs.psfs)
    np.save(tmp_path / "psf.npy", spot**2)
    again = open_inputs(inputs.recipe, tmp_path / "a.tif")
    assert again.recipe.inputs["psf"] != inputs.recipe.inputs["psf"]
    assert [note.text for note in again.notes if note.text.startswith("psf:")] == [
        "psf: 'psf.npy' has changed since the recipe was made"
    ]


def test_a_measured_psf_can_be_given_as_an_image_and_must_be_given() -> None:
    spot = Image(np.exp(-(np.hypot(*np.mgrid[-3:4, -3:4]) ** 2)), "YX")
    recipe = Recipe(method="linr", settings={**FEW, "blur": "file", "extra_images": [{"blur": "file"}]})
    also = [Image(NOISY, "YX")]
    inputs = open_inputs(recipe, extra_images=also, psfs=[spot, spot])
    assert sorted(inputs.recipe.inputs) == ["extra_image_1", "extra_image_1_psf", "psf"]
    assert (inputs.recipe.inputs["psf"].path, len(inputs.recipe.inputs["psf"].sha256)) == ("", 64)
    for psf in inputs.psfs:
        assert psf is not None
        np.testing.assert_array_equal(psf.image, spot.data)
    for given in ([], [spot], [None, spot]):
        with pytest.raises(SettingError, match="needs a measured point spread function; give its file as psf_file"):
            open_inputs(recipe, extra_images=also, psfs=given)
    sharp = Recipe(method="linr", settings=FEW)
    assert open_inputs(sharp, psfs=[spot]).psfs == (None,)  # chosen before, and not needed


def test_files_are_opened_once_for_many_images_unless_they_change(tmp_path: Path) -> None:
    write(tmp_path / "mask.tif", Image(MASK.astype(np.uint8), "YX"))
    recipe, cache = Recipe(mask=str(tmp_path / "mask.tif"), method="inr", settings=FEW), InputCache()
    first, second = (open_inputs(recipe, cache=cache) for _ in range(2))
    assert first.mask is second.mask
    write(tmp_path / "mask.tif", Image((~MASK).astype(np.uint8), "YX"), overwrite=True)
    assert open_inputs(recipe, cache=cache).recipe.inputs != first.recipe.inputs


def test_files_of_earlier_images_are_not_kept(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "mask.tif", Image(MASK.astype(np.uint8), "YX"))
    cache = InputCache()
    first = weakref.ref(open_inputs(Recipe(mask="mask.tif"), tmp_path / "a" / "x.tif", cache=cache).mask)
    assert first() is not None
    open_inputs(Recipe(mask="mask.tif"), tmp_path / "b" / "x.tif", cache=cache)
    assert first() is None


def test_what_a_recipe_was_made_with_and_is_not_given_is_told() -> None:
    made = restore(NOISY, mask=MASK, method="inr", settings=FEW, device="cpu").recipe
    again = restore(NOISY, method="inr", settings=FEW, device="cpu").recipe
    assert "mask" in made.inputs
    assert open_inputs(again).notes == ()
    (note,) = open_inputs(made).notes
    assert note.warning
    assert note.text == "mask: was given in Python, and is not given now; the result will differ"
    assert open_inputs(made, mask=Image(MASK, "YX")).notes == ()


def test_a_file_may_lie_in_the_home_folder(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save_model(tmp_path / "tiny.safetensors", model)
    write(tmp_path / "mask.tif", Image(MASK.astype(np.uint8), "YX"))
    write(tmp_path / "a.tif", Image(NOISY, "YX"))
    (tmp_path / "r.yaml").write_text("method: tiny\nmodel: ~/tiny.safetensors\nmask: ~/mask.tif\n")
    spec = resolve_batch(tmp_path / "r.yaml", [str(tmp_path / "a.tif")], tmp_path / "out")
    assert open_inputs(spec.options.recipe).recipe.inputs["model"].sha256 == model.sha256


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"'gone\.tif', which the recipe names, does not exist"):
        open_inputs(Recipe(mask="gone.tif"), tmp_path / "a.tif")


def test_a_copy_of_a_recipe_with_other_settings_has_their_params() -> None:
    recipe = Recipe(method="inr", settings={"steps": 5})
    assert recipe.params.model_dump()["steps"] == 5
    copy = recipe.model_copy(update={"settings": {**recipe.settings, "steps": 7}})
    assert (copy.params.model_dump()["steps"], recipe.params.model_dump()["steps"]) == (7, 5)


def test_quality_has_the_figures_of_each_channel_and_their_root_mean_square() -> None:
    rng = np.random.default_rng(0)
    clean = 500 + 50 * np.sin(np.arange(48) / 5)
    image = np.stack([clean + rng.normal(0, sigma, (48, 48)) for sigma in (3, 12)]).astype(np.float32)
    quality = restore(image, axes="CYX", method="inr", settings={**FEW, "stabilise": False}, device="cpu").quality
    assert [channel.name for channel in quality.channels] == ["C 0", "C 1"]
    levels = [channel.sigma for channel in quality.channels]
    assert levels[1] / levels[0] == pytest.approx(4, rel=0.2)
    assert quality.sigma == pytest.approx(np.sqrt(np.mean(np.square(levels))))
    assert quality.to_dict()["channels"][1]["sigma"] == levels[1]
