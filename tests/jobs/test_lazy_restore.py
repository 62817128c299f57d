"""A result that is computed where it is looked at equals the one that is computed at once."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_pristine import read, write
from napari_pristine.errors import ModelError, SettingError
from napari_pristine.image.image import Image, ranges
from napari_pristine.jobs.lazy import lazy_restore
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.restore import run, wait
from napari_pristine.methods import METHODS
from napari_pristine.model import Facts, Model, untrained
from napari_pristine.recipe import Recipe
from tiny import TINY, noisy

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # on results of networks that learned nothing


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "tiny", TINY)


def model(channels: int = 1, axes: str = "YX") -> Model:
    """A network that has learned something, or at least has weights."""
    torch.manual_seed(3)
    recipe = Recipe(method="tiny", device="cpu")
    net = untrained(TINY, recipe.params, channels, axes)
    return Model(recipe, channels, axes, net.state_dict(), Facts())


class Counted:
    """An array that remembers which planes were read."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.planes: list[int] = []

    def __getitem__(self, index: Any) -> Any:
        first = ranges(index, self.shape)[0]
        self.planes += [first] if isinstance(first, int) else list(first)
        return self.data[index]


@pytest.mark.parametrize(
    ("axes", "shape", "together", "channels"),
    [
        ("TYX", (4, 32, 40), "", 1),
        ("CZYX", (2, 3, 32, 24), "", 1),
        ("ZCYX", (3, 2, 24, 32), "CYX", 2),
        ("TZYX", (2, 4, 24, 32), "ZYX", 1),
        ("YX", (32, 40), "", 1),
        ("TYXS", (2, 24, 32, 3), "", 3),
        ("TYXS", (2, 24, 32, 4), "YX", 1),
    ],
)
def test_it_equals_what_is_restored_at_once(axes: str, shape: tuple[int, ...], together: str, channels: int) -> None:
    values = noisy((shape[-1], *shape[:-1])) if "S" in axes else noisy(shape)
    values = np.moveaxis(values, 0, -1) if "S" in axes else values
    image = Image(np.ascontiguousarray(values), axes, scale=tuple(range(1, len(axes) + 1)), name="cells")
    net = model(channels, "ZYX" if "Z" in together else "YX")
    recipe = net.recipe.model_copy(update={"together": together})
    expected = wait(run(image, recipe, model=net)).image
    found = lazy_restore(make_plan(image, recipe, model=net))
    np.testing.assert_array_equal(found.data.compute(), expected.data)
    assert (found.dtype, found.axes, found.scale, found.name) == (image.dtype, axes, expected.scale, "cells")


def test_only_what_is_looked_at_is_computed() -> None:
    counted = Counted(noisy((40, 32, 32)))
    found = lazy_restore(make_plan(Image(counted, "TYX"), model().recipe, model=model()))
    assert len(set(counted.planes)) <= 8  # the noise is measured
    counted.planes.clear()
    np.asarray(found.data[21])
    assert counted.planes == [21]
    np.asarray(found.data[33])
    np.asarray(found.data[5, 3:6])
    assert counted.planes == [21, 33, 5]


def test_ranges_and_masks_are_those_of_the_recipe() -> None:
    image = Image(noisy((6, 32, 32)), "TYX")
    mask = Image(np.zeros((32, 32), bool), "YX")
    mask.data[4, 5] = True
    recipe = model().recipe.model_copy(update={"select": {"T": "1:6:2", "X": "4:30"}})
    expected = wait(run(image, recipe, mask=mask, model=model()))
    found = lazy_restore(make_plan(image, recipe, mask=mask, model=model()))
    np.testing.assert_array_equal(found.data.compute(), expected.data)
    assert found.translate == expected.image.translate == (1, 0, 4)


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_files_are_read_by_the_plane(tmp_path: Path, suffix: str) -> None:
    image = Image(noisy((2, 3, 32, 40)), "TCYX", channels=("a", "b", "c"))
    write(tmp_path / f"cells{suffix}", image)
    lazy = read(tmp_path / f"cells{suffix}", lazy=True)
    assert not isinstance(lazy.data, np.ndarray)
    expected = wait(run(image, model().recipe, model=model()))
    found = lazy_restore(make_plan(lazy, model().recipe, model=model()))
    np.testing.assert_array_equal(np.asarray(found.data[1, 2]), expected.data[1, 2])
    write(tmp_path / "restored.zarr", found)
    np.testing.assert_array_equal(read(tmp_path / "restored.zarr").data, expected.data)
    assert found.channels == ("a", "b", "c")


def test_many_may_look_at_once() -> None:
    image = Image(noisy((12, 32, 32)), "TYX")
    expected = wait(run(image, model().recipe, model=model())).data
    found = lazy_restore(make_plan(image, model().recipe, model=model())).data
    with ThreadPoolExecutor(6) as pool:
        planes = list(pool.map(lambda frame: np.asarray(found[frame]), range(12)))
    np.testing.assert_array_equal(planes, expected)


def test_empty_frames_are_left_as_they_are() -> None:
    values = noisy((3, 32, 32))
    values[1] = 7
    found = lazy_restore(make_plan(Image(values, "TYX"), model().recipe, model=model()))
    with pytest.warns(UserWarning, match="left unchanged at T = 1: all pixels have the value 7"):
        np.testing.assert_array_equal(np.asarray(found.data[1]), values[1])
    assert not np.array_equal(np.asarray(found.data[2]), values[2])


def test_few_photons_are_not_rounded_to_zero() -> None:
    counts = np.random.default_rng(0).poisson(0.25, (3, 48, 48)).astype(np.uint8)
    settings = {"warm_start": False}
    found = lazy_restore(make_plan(Image(counts, "TYX"), Recipe(preset="fast", settings=settings, device="cpu")))
    assert found.dtype == found.data[1].compute().dtype == np.float32
    assert found.data[1].compute().mean() == pytest.approx(counts[1].mean(), rel=0.1)


def test_fits_that_each_start_anew_can_be_applied_on_a_finer_grid_too() -> None:
    image = Image(noisy((2, 24, 24)), "TYX", scale=(1, 0.5, 0.5))
    settings = {"steps": 5, "width": 16, "patch": 32, "finer": 2, "warm_start": False}
    recipe = Recipe(method="linr", preset="fast", settings=settings, device="cpu")
    expected = wait(run(image, recipe)).image
    found = lazy_restore(make_plan(image, recipe))
    np.testing.assert_array_equal(found.data.compute(), expected.data)
    assert (found.scale, found.translate) == (expected.scale, expected.translate)


def test_what_needs_the_whole_image_is_refused() -> None:
    image = Image(noisy((3, 32, 32)), "TYX")
    with pytest.raises(ModelError, match="give a trained network"):
        lazy_restore(make_plan(image, Recipe(method="tiny")))
    with pytest.raises(ModelError, match="leave adapt out"):
        lazy_restore(make_plan(image, model().recipe.model_copy(update={"adapt": True}), model=model()))
    with pytest.raises(SettingError, match="set warm_start to false"):
        lazy_restore(make_plan(image, Recipe(method="inr")))


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(SettingError, match="pip install"):
        lazy_restore(make_plan(Image(noisy((3, 32, 32)), "TYX"), model().recipe, model=model()))


def test_the_pretrained_network_is_applied_while_scrolling() -> None:
    image = Image(np.random.default_rng(0).poisson(20, (3, 40, 48)).astype(np.uint16), "TYX")
    recipe = Recipe(method="pretrained", preset="fast", device="cpu")
    found = lazy_restore(make_plan(image, recipe))
    at_once = wait(run(image, recipe))
    np.testing.assert_array_equal(np.asarray(found.data[2]), at_once.data[2])
