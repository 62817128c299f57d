"""`pristine learn`: images in, a model out, and the model restores."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.batches import plate

from napari_pristine import read, write
from napari_pristine.image.image import Image
from napari_pristine.jobs.train import learn
from napari_pristine.methods import METHODS
from napari_pristine.model import load_model
from tiny import TINY, noisy

FEW = ("--method", "tiny", "--set", "steps=3")
ENDLESS = ("--method", "tiny", "--set", "steps=100000000")
Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "tiny", TINY)


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A folder with three images, and things that are none."""
    folder = tmp_path / "cells"
    folder.mkdir()
    for seed in range(3):
        write(folder / f"{seed}.tif", Image(noisy((32, 32), seed), "YX"))
    (folder / "notes.txt").write_text("no image")
    (folder / ".0.tif").write_bytes(b"hidden")
    return folder


def test_a_model_is_learned_from_all_images_in_a_folder(shell: Shell, cells: Path) -> None:
    code, out, err = shell("learn", cells, "-o", "model.safetensors", *FEW)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"model.safetensors: tiny trained on 3 images; .* noise levels; .* s on \w+ \(.*\)\n", out)
    model = load_model("model.safetensors")
    assert model.facts.images == ("0.tif", "1.tif", "2.tif")
    assert model.recipe.params.steps == 3


def test_folders_patterns_and_files_may_be_mixed(shell: Shell, cells: Path, movie: Path) -> None:
    code, out, _ = shell("learn", cells, movie, "cells/[01].tif", "-o", "model.safetensors", *FEW)
    assert code == 0
    assert "on 6 images (9 blocks)" in out


def test_shell_and_python_learn_the_same(shell: Shell, cells: Path) -> None:
    shell("learn", "cells/*.tif", "-o", "model.safetensors", *FEW, "--seed", 7, "--preset", "fast")
    python = learn(sorted(cells.glob("[0-9].tif")), "tiny", preset="fast", seed=7, settings={"steps": 3})
    assert load_model("model.safetensors").fingerprint == python.fingerprint


def test_axes_and_together_are_heard(shell: Shell, tmp_path: Path) -> None:
    write(tmp_path / "stack.tif", Image(noisy((4, 32, 32)), "TYX"))
    assert shell("learn", "stack.tif", "-o", "m.safetensors", *FEW, "--axes", "zyx", "--together", "zyx")[0] == 0
    assert load_model("m.safetensors").axes == "ZYX"


def test_json_is_one_object(shell: Shell, cells: Path) -> None:
    code, out, _ = shell("learn", cells, "-o", "model.safetensors", *FEW, "--json")
    said = json.loads(out)
    assert code == 0
    assert said["output"] == "model.safetensors"
    assert said["fingerprint"] == load_model("model.safetensors").fingerprint
    assert said["facts"]["count"] == 3


def test_a_model_learns_on(shell: Shell, cells: Path) -> None:
    shell("learn", cells, "-o", "first.safetensors", *FEW)
    code, _, _ = shell("learn", cells, "-o", "second.safetensors", *FEW, "--model", "first.safetensors")
    assert code == 0
    assert load_model("second.safetensors").facts.start == load_model("first.safetensors").fingerprint


def test_what_was_left_out_goes_to_stderr(shell: Shell, cells: Path) -> None:
    (cells / "broken.tif").write_bytes(b"no picture at all")
    write(cells / "flat.tif", Image(np.full((32, 32), 7, np.uint16), "YX"))
    code, out, err = shell("learn", cells, "-o", "model.safetensors", *FEW)
    assert code == 0
    assert "on 3 images" in out
    assert [name in line for name, line in zip(("broken.tif", "flat.tif"), err.splitlines(), strict=True)] == [True] * 2


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", int)() == 0, reason="nothing is forbidden here")
def test_a_named_file_that_may_not_be_read_is_told_before_the_first_step(shell: Shell, cells: Path) -> None:
    (cells / "1.tif").chmod(0)
    code, _, err = shell("learn", "cells/0.tif", "cells/1.tif", "-o", "m.safetensors", *ENDLESS)
    assert code == 2
    assert "1.tif' cannot be read" in err


def test_a_zarr_is_one_image_by_itself_and_in_a_folder(shell: Shell, cells: Path) -> None:
    write(cells / "3.zarr", Image(noisy((32, 32), 3), "YX"))
    assert shell("learn", "cells/3.zarr", "-o", "one.safetensors", *FEW)[0] == 0
    assert load_model("one.safetensors").facts.images == ("3.zarr",)
    assert shell("learn", "cells", "-o", "all.safetensors", *FEW)[0] == 0
    assert load_model("all.safetensors").facts.count == 4


def test_all_images_of_a_plate_are_learned_from(shell: Shell, tmp_path: Path) -> None:
    plate(tmp_path / "in" / "p.zarr", wells=("A/1", "B/2"))
    for name in ("in", "in/p.zarr"):
        assert shell("learn", name, "-o", "model.safetensors", *FEW, "--overwrite")[0] == 0
        names = ("p.zarr/A/1/0", "p.zarr/A/1/1", "p.zarr/B/2/0", "p.zarr/B/2/1")
        assert load_model("model.safetensors").facts.images == names


WRONG = [
    (("learn",), "INPUTS"),
    (("learn", "cells"), "--output"),
    (("learn", "cells", "-o", "m.pt"), r"models are .safetensors files"),
    (("learn", "cells", "-o", "no/m.safetensors"), "no folder 'no'"),
    (("learn", "cells", "-o", "taken.safetensors"), "exists already"),
    (("learn", "cells", "-o", "m.safetensors", "--method", "inr"), "inr is fitted to each image by itself"),
    (("learn", "cells", "-o", "m.safetensors", "--method", "magic"), "no method 'magic'"),
    (("learn", "cells", "-o", "m.safetensors", "--method", "tiny", "--set", "stops=3"), "no setting 'stops'"),
    (("learn", "cells", "-o", "m.safetensors", "--model", "nowhere.safetensors"), "does not exist"),
    (("learn", "cells", "-o", "m.safetensors", "--model", "cells/0.tif"), "is not a .safetensors file"),
    (("learn", "cells", "-o", "m.safetensors", "--axes", "TYX"), "axes 'TYX'"),
    (("learn", "cells", "-o", "m.safetensors", "--together", "ZYX"), "'ZYX'"),
    (("learn", "nowhere.tif", "-o", "m.safetensors"), "'nowhere.tif' does not exist"),
    (("learn", "cells", "nowhere.tif", "-o", "m.safetensors"), "'nowhere.tif' does not exist"),
    (("learn", "cells", "nowhere/*.tif", "-o", "m.safetensors"), "nothing matches 'nowhere/*.tif'"),
    (("learn", "empty", "-o", "m.safetensors"), "no images in the folder 'empty'"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_use_is_told_on_one_line_before_the_first_step(
    shell: Shell, cells: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.safetensors").write_bytes(b"precious")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    # the learning would not end before the test's time is up
    code, out, err = shell(*words, *(() if "--method" in words else ENDLESS))
    assert (code, out) == (2, "")
    assert re.fullmatch(r"pristine: .*\n", err)
    assert said in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == files


def test_a_model_is_replaced_only_on_demand(shell: Shell, cells: Path) -> None:
    shell("learn", cells, "-o", "model.safetensors", *FEW)
    first = load_model("model.safetensors").fingerprint
    again = ("learn", cells, "-o", "model.safetensors", *FEW, "--seed", 1)
    assert shell(*again)[0] == 2
    assert load_model("model.safetensors").fingerprint == first
    assert shell(*again, "--overwrite")[0] == 0
    assert load_model("model.safetensors").fingerprint != first


def test_the_images_are_left_as_they_are(shell: Shell, cells: Path) -> None:
    before = {path: path.read_bytes() for path in cells.iterdir()}
    shell("learn", cells, "-o", "cells/model.safetensors", *FEW)
    assert {path: path.read_bytes() for path in before} == before
    assert read(cells / "0.tif").shape == (32, 32)


def test_a_preset_does_not_go_with_a_model(shell: Shell, cells: Path) -> None:
    shell("learn", cells, "-o", "model.safetensors", *FEW)
    with_model = ("restore", "cells/0.tif", "-o", "x.tif", "--model", "model.safetensors")
    code, _, err = shell(*with_model, "--preset", "balanced")
    assert code == 2
    assert "preset 'balanced' cannot be used with a model" in err
    assert shell(*with_model)[0] == 0
