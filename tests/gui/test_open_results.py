"""Results on disk, opened in napari: by its own reader, by that of OME-Zarr, and as the panel sees them afterwards."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManager

from napari_pristine.gui.layers import image_from_layer, layer_axes
from napari_pristine.image.image import Image
from napari_pristine.io.registry import read, write

pytestmark = pytest.mark.gui

UM, PX, S = "micrometer", "pixel", "second"
STACK = Image(
    np.random.default_rng(0).integers(0, 200, (2, 3, 2, 40, 50), np.uint16), "TZCYX",
    scale=(5, 0.5, 1, 0.1, 0.2), units=(S, UM, PX, UM, UM), channels=("GFP", "DAPI"),
)  # fmt: skip
LARGE = Image(
    np.random.default_rng(0).integers(0, 200, (2, 2300, 700), np.uint16), "CYX",
    scale=(1, 0.1, 0.2), units=(PX, UM, UM), channels=("GFP", "DAPI"),
)  # fmt: skip
COLOUR = Image(np.random.default_rng(0).integers(0, 200, (40, 50, 3), np.uint8), "YXS")

LARGE_COLOUR = Image(np.random.default_rng(0).integers(0, 200, (2300, 700, 3), np.uint8), "YXS")


def of_version(image: Image, version: str) -> Image:
    return replace(image, metadata={"format": "zarr", "version": version})


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("stack.ome.tif", STACK), ("of imagej.tif", replace(STACK, metadata={"format": "imagej"})),
        ("large.ome.tif", LARGE), ("colour.tif", COLOUR), ("large colour.ome.tif", LARGE_COLOUR),
    ],
)  # fmt: skip
def test_tiff_by_the_reader_that_comes_with_napari(
    napari_readers: None, viewer: Any, tmp_path: Path, name: str, image: Image
) -> None:
    """It takes the values alone: no spacing and no names, of whatever TIFF."""
    write(tmp_path / name, image)
    viewer.open(str(tmp_path / name), plugin="napari")
    (layer,) = viewer.layers
    assert layer.rgb == ("S" in image.axes)
    assert not layer.multiscale
    found = read(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(layer.data), found.data)
    np.testing.assert_array_equal(found.data.transpose([found.axes.index(axis) for axis in image.axes]), image.data)


@pytest.mark.parametrize("name", ["x.ome.tif", "imagej.tif", "new.zarr", "old.zarr"])
@pytest.mark.parametrize("image", [STACK, LARGE], ids=["stack", "large"])
def test_what_is_read_makes_a_layer_at_the_right_scale(viewer: Any, tmp_path: Path, name: str, image: Image) -> None:
    """Scale, units and axis labels go into a layer and come back as the axes and spacing of the panel."""
    if name == "imagej.tif":
        image = replace(image, metadata={"format": "imagej"})
    write(tmp_path / name, of_version(image, "0.4") if name == "old.zarr" else image)
    found = read(tmp_path / name, lazy=True)
    layer = viewer.add_image(
        found.data, name=found.name, scale=found.scale, units=found.units, translate=found.translate,
        axis_labels=tuple(found.axes),
    )  # fmt: skip
    assert found.channels == ("GFP", "DAPI")
    size = dict(zip(image.axes, zip(image.shape, image.scale, image.units, strict=True), strict=True))
    spacing = zip(layer.data.shape, layer.scale, map(str, layer.units), strict=True)
    shown = dict(zip(layer.axis_labels, spacing, strict=True))
    assert {axis: (n, pytest.approx(float(d)), unit) for axis, (n, d, unit) in size.items()} == shown
    again = image_from_layer(layer, layer_axes(layer))
    assert (again.axes, again.units, again.shape) == (found.axes, found.units, found.shape)
    assert again.scale == pytest.approx(found.scale)
    np.testing.assert_array_equal(np.asarray(again.data), np.asarray(found.data))


@pytest.mark.skipif(find_spec("napari_ome_zarr") is None, reason="needs napari-ome-zarr, which is not installed")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("image", [STACK, LARGE], ids=["stack", "large"])
def test_ome_zarr_by_its_reader(viewer: Any, tmp_path: Path, image: Image, version: str) -> None:
    """A layer for each channel, with its name, spacing and units, and coarser levels of large pictures."""
    order = [image.axes.index(axis) for axis in "TCZYX" if axis in image.axes]
    write(tmp_path / "x.zarr", of_version(image, version))
    PluginManager.instance().discover()
    viewer.open(str(tmp_path / "x.zarr"), plugin="napari-ome-zarr")
    assert [layer.name for layer in viewer.layers] == ["GFP", "DAPI"]
    kept = [place for place in order if image.axes[place] != "C"]
    for number, layer in enumerate(viewer.layers):
        assert [label.upper() for label in layer.axis_labels] == [image.axes[place] for place in kept]
        assert tuple(layer.scale) == pytest.approx([image.scale[place] for place in kept])
        assert [str(unit) for unit in layer.units] == [image.units[place] for place in kept]
        assert layer.multiscale == (image is LARGE)
        finest = layer.data[0] if layer.multiscale else layer.data
        expected = np.take(image.data, number, image.axes.index("C"))
        np.testing.assert_array_equal(np.asarray(finest), expected)
