"""Extra images of a scene as texts, mappings and objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_pristine import Recipe
from napari_pristine.errors import SettingError
from napari_pristine.methods.degradation import ExtraImage, parse_extra_images
from napari_pristine.methods.linr import LINR
from napari_pristine.recipe_file import load_recipe, save_recipe

COARSE = ExtraImage(file="my dish/coarse.tif", finer=4, downsampling="lanczos", weight=0.1)
BLURRED = ExtraImage(file="b;c.tif", blur="file", psf_file="/my beads/a.tif")
TEXT = 'my dish/coarse.tif finer=4 downsampling=lanczos weight=0.1; "b;c.tif" blur=file psf_file="/my beads/a.tif";'


def test_a_text_names_images_and_their_settings() -> None:
    assert parse_extra_images(TEXT) == (COARSE, BLURRED)
    assert parse_extra_images("finer=2; weight=0.5") == (ExtraImage(finer=2), ExtraImage(weight=0.5))
    assert parse_extra_images(" ; ") == ()


@pytest.mark.parametrize(
    "given",
    [
        {"also": TEXT},  # of version 0.1
        {"extra_images": TEXT},
        {"extra_images": [COARSE, BLURRED]},
        {"extra_images": TEXT.removesuffix(";").split("; ")},
        {"extra_images": [COARSE.model_dump(), BLURRED.model_dump(exclude_defaults=True)]},
        {"extra_images": (COARSE, *parse_extra_images(TEXT)[1:]), "also": ""},
    ],
    ids=["also", "text", "objects", "texts", "mappings", "empty also"],
)
def test_a_recipe_takes_them_in_every_form(given: dict[str, object], tmp_path: Path) -> None:
    recipe = Recipe(method="linr", settings=given)
    assert recipe.params.extra_images == (COARSE, BLURRED)
    assert "also" not in recipe.settings
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    save_recipe(tmp_path / "r.yaml", recipe)
    assert load_recipe(tmp_path / "r.yaml").params == recipe.params


def test_files_are_named_by_their_roles() -> None:
    params = LINR.settings(changes={"blur": "file", "psf_file": "bead.tif", "extra_images": [COARSE, BLURRED, {}]})
    assert params.input_files == {
        "psf": "bead.tif",
        "extra_image_1": "my dish/coarse.tif",
        "extra_image_2": "b;c.tif",
        "extra_image_2_psf": "/my beads/a.tif",
    }
    assert LINR.settings(changes={"psf_file": "unused.tif"}).input_files == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a.tif finer=0", "setting 'finer' must be .* ≥ 1.*in 'a.tif finer=0'"),
        ("a.tif finest=2", "no setting 'finest'"),
        ("a.tif finer=2 what", "cannot read 'what'"),
        ("a.tif file=b.tif", "write the file first"),
        ([{}, {"file": "a.tif", "finer": 0}], "setting 'finer' must be .* ≥ 1.*image 2 of the list"),
        (3, "setting 'extra_images' must be a list; got 3"),
        ([3], "extra_images"),
    ],
)
def test_errors_say_what_cannot_be_read(value: object, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        LINR.settings(changes={"extra_images": value})


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(SettingError, match="leave out 'also'"):
        LINR.settings(changes={"extra_images": "a.tif", "also": "b.tif"})
