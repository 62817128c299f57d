"""Arrays of numpy, torch and xarray: axes and coordinates in, the same out; clear errors for anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_pristine as pristine
from napari_pristine.errors import AxesError, ImageError, PristineError, SettingError
from napari_pristine.image.image import Image, axes_from_names
from napari_pristine.io.arrays import as_image

FEW: dict[str, Any] = {"method": "inr", "preset": "fast", "settings": {"steps": 3}}
RNG = np.random.default_rng(0)
PLANE = RNG.poisson(30, (24, 32)).astype(np.uint16)


def movie(**coords: Any) -> Any:
    """Two channels at three times, with coordinates of all kinds."""
    xarray = pytest.importorskip("xarray", reason="pip install xarray")
    y = ("y", np.arange(24) * 0.2 + 5, {"units": "um"})
    return xarray.DataArray(
        RNG.poisson(30, (3, 2, 24, 32)).astype(np.uint16),
        dims=("time", "channel", "y", "x"),
        coords={
            "time": ("time", [10.0, 12.0, 14.0], {"units": "s"}),
            "channel": ["GFP", "RFP"],
            "y": y,
            "x": ("x", np.arange(32) * 0.1, {"units": "micrometer"}),
            "exposure": ("time", [5, 5, 6]),
            "well": "B3",
            **coords,
        },
        name="cells",
        attrs={"microscope": "confocal"},
    )


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("time", "channel", "z", "y", "x"), "TCZYX"),
        (("t", "c", "y", "x"), "TCYX"),
        (("Frame", "ROW", "Column"), "TYX"),
        (("depth", "latitude", "longitude"), "ZYX"),
        (("y", "x", "rgb"), "YXS"),
        (("position", "time", "y", "x"), "PTYX"),
        (("time", "frame", "y", "x"), "TFYX"),
        (("λ", "tile", "y", "x"), "ABYX"),
    ],
)
def test_axes_by_their_names(names: tuple[str, ...], axes: str) -> None:
    assert axes_from_names(names, guess=True) == axes


def test_a_dataarray_brings_axes_and_coordinates() -> None:
    image = as_image(movie())
    assert (image.axes, image.name, image.channels) == ("TCYX", "cells", ("GFP", "RFP"))
    assert image.scale == pytest.approx((2, 1, 0.2, 0.1))
    assert image.units == ("second", "pixel", "micrometer", "micrometer")
    assert image.translate == pytest.approx((10, 0, 5, 0))
    assert image.notes == ()


def test_other_coordinates(monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.datetime64("2026-01-01T12:00:00") + np.arange(3) * np.timedelta64(1500, "ms")
    image = as_image(movie(time=times, y=np.arange(24)[::-1] * 2.0, channel=[488, 561]))
    assert (image.scale[0], image.units[0], image.translate[0]) == (1.5, "second", 0.0)
    assert (image.scale[2], image.units[2], image.translate[2]) == (2.0, "pixel", 0.0)
    assert as_image(movie().isel(time=[1])).units[0] == "pixel"  # a single frame states no distance
    assert image.channels == ("488", "561")
    uneven = as_image(movie(time=[0.0, 1.0, 5.0]))
    assert (uneven.scale[0], uneven.units[0]) == (1.0, "pixel")
    assert "coordinates along time are not evenly spaced" in uneven.notes[0]
    without = as_image(movie().drop_vars(["x", "y", "time", "channel"]))
    assert (without.scale, without.channels) == ((1.0,) * 4, ())
    assert as_image(movie(), "ABYX").axes == "ABYX"


def test_a_dataarray_comes_back_with_all_it_had() -> None:
    xarray = pytest.importorskip("xarray", reason="pip install xarray")
    noisy = movie()
    result = pristine.restore(noisy, **FEW)
    assert isinstance(result.data, xarray.DataArray)
    xarray.testing.assert_identical(result.data.copy(data=noisy.data), noisy)
    assert result.data.dtype == noisy.dtype
    assert not np.array_equal(result.data, noisy)
    part = pristine.restore(noisy, select={"T": "1:", "C": "1", "X": "0:32:2"}, **FEW)
    expected = noisy.isel(time=slice(1, None), channel=slice(1, 2), x=slice(0, 32, 2))
    xarray.testing.assert_identical(part.data.copy(data=expected.data), expected)
    assert part.image.scale == pytest.approx((2, 1, 0.2, 0.2))


def test_a_dataarray_in_any_order_with_a_mask_beside_it(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="pip install xarray")
    noisy = movie().transpose("x", "time", "channel", "y")
    mask = xarray.DataArray(np.zeros((24, 32), bool), dims=("y", "x"))
    mask[3:5, 3:5] = True
    result = pristine.restore(noisy, mask=mask.astype(np.uint8), **FEW)
    assert result.data.dims == ("x", "time", "channel", "y")
    pristine.write(tmp_path / "a.ome.tif", result.image)
    again = pristine.read(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(again.data, result.data.transpose("time", "channel", "y", "x"))
    assert again.channels == ("GFP", "RFP")


def test_coordinates_of_a_finer_grid() -> None:
    plane = movie(label=(("y", "x"), np.arange(24 * 32).reshape(24, 32)))[0, 0]
    result = pristine.restore(plane, "linr", preset="fast", settings={"steps": 3, "finer": 2})
    assert result.data.shape == (48, 64)
    assert result.data.x.values[:3] == pytest.approx([-0.025, 0.025, 0.075])
    assert result.data.x.values == pytest.approx(result.image.translate[1] + np.arange(64) * result.image.scale[1])
    assert result.data.y.attrs == {"units": "um"}
    assert result.data.label.shape == (48, 64)
    assert (result.data.name, result.data.attrs, str(result.data.well.values)) == ("cells", plane.attrs, "B3")


def test_dimensions_without_y_and_x_are_asked_for() -> None:
    with pytest.raises(
        AxesError, match=r"lack Y or X.*\(the dimensions are named time, channel, a, b; give their letters with axes="
    ):
        pristine.restore(movie().rename(y="a", x="b"), **FEW)
    assert as_image(movie().rename(y="a", x="b"), "TCYX").axes == "TCYX"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(24, 32, requires_grad=True), r"Tensor cannot become an array \(.*requires grad"),
        (torch.zeros(24, 32, dtype=torch.bfloat16), r"Tensor cannot become an array \(.*BFloat16"),
        (PLANE.astype(object), "ndarray with values of type object is not an image"),
        (np.full((24, 32), "x"), "ndarray with values of type <U1 is not an image"),
        ([[1, 2], [3]], "list cannot become an array"),
        (None, "NoneType with values of type object is not an image"),
        ({"a": 1}, "dict with values of type object is not an image"),
        (PLANE.view([("a", "u2")]), "is not an image"),
        ("cells.tif", "read it first"),
    ],
)
@pytest.mark.parametrize("role", ["image", "mask", "also"])
def test_what_is_no_image(image: Any, words: str, role: str) -> None:
    if role == "mask" and image is None:
        pytest.skip("no mask")
    given: dict[str, Any] = {"image": PLANE} | {role: [image] if role == "also" else image}
    with pytest.raises(ImageError, match=words):
        pristine.restore(**given, **FEW)


@pytest.mark.parametrize("data", [[[1, 2], [3, 4]], torch.zeros(4, 4), None, "cells.tif"])
def test_the_data_of_an_image_are_an_array(data: Any) -> None:
    with pytest.raises(ImageError, match="an array with a shape and numpy dtype, not"):
        Image(data, "YX")


def test_tensors_and_lists_are_arrays() -> None:
    assert as_image(torch.zeros(24, 32)).axes == "YX"
    assert as_image([[1, 2], [3, 4]]).shape == (2, 2)
    assert as_image(np.zeros((2, 3, 4)), default="TYX").axes == "TYX"


@pytest.mark.parametrize("axes", [("Y", "X"), ["Y", "X"], 2, None, b"YX"])
def test_axes_are_a_text(axes: Any, tmp_path: Path) -> None:
    pristine.write(tmp_path / "a.tif", Image(PLANE, "YX"))
    for call in (
        lambda: pristine.restore(PLANE, axes=axes),
        lambda: pristine.read(tmp_path / "a.tif", axes=axes),
        lambda: Image(PLANE, axes),
        lambda: pristine.compare(PLANE, PLANE, axes=axes or 7),
    ):
        with pytest.raises(AxesError, match=r"axes must be a string with one letter per axis, such as axes='(YX|TYX)'"):
            call()
    with pytest.raises(AxesError, match=r"together must be a string .* such as together='YX', not \('Y', 'X'\)"):
        pristine.restore(PLANE, together=("Y", "X"))  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", ["stop", True, 1, object()])
def test_a_callback_returns_a_command_or_nothing(answer: Any) -> None:
    with pytest.raises(SettingError, match=r"on_event returned .*; it may return Command\.KEEP"):
        pristine.restore(PLANE, on_event=lambda event: answer, **FEW)
    with pytest.raises(SettingError, match="on_event must be a function that takes an event, not"):
        pristine.restore(PLANE, on_event=answer, **FEW)


def test_comparison_of_arrays_and_images() -> None:
    clean = np.add.outer(np.arange(24.0), np.arange(32.0))
    noisy = clean + RNG.normal(0, 1, clean.shape)
    found = pristine.compare(noisy, clean)
    assert isinstance(found, pristine.Comparison)
    assert found.data_range == 54
    assert found.psnr == pytest.approx(10 * np.log10(54**2 / np.mean((noisy - clean) ** 2)))
    assert pristine.compare(noisy, clean, 255).data_range == 255
    stack, transposed = np.stack([noisy, clean]), np.stack([noisy, clean], -1)
    same = pristine.compare(Image(stack, "TYX"), Image(transposed, "YXT"))
    assert (same.identical, same.psnr, same.psnr_affine, same.ssim) == (True, np.inf, np.inf, 1)
    assert pristine.compare(PLANE.astype(np.uint8), PLANE.astype(np.uint8)).data_range == 255
    with pytest.raises(AxesError, match=r"axes TYX \(shape \(2, 24, 32\)\), its reference YX"):
        pristine.compare(Image(stack, "TYX"), Image(noisy, "YX"))
    with pytest.raises(AxesError, match="needs axes"):
        pristine.compare(stack, stack)
    with pytest.raises(PristineError, match="read it first"):
        pristine.compare("a.tif", "b.tif")  # type: ignore[arg-type]


def test_recipes_are_saved_and_loaded(tmp_path: Path) -> None:
    recipe = pristine.restore(PLANE, **FEW).recipe
    pristine.save_recipe(tmp_path / "recipe.yaml", recipe)
    again = pristine.load_recipe(tmp_path / "recipe.yaml")
    assert (again.method, again.settings) == (recipe.method, recipe.settings)
