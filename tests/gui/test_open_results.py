"""Results on disk, opened in napari: by its own reader, by that of OME-Zarr, and as the panel sees them afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from napari.errors import ReaderPluginError
from npe2 import PluginManager, PluginManifest
from tests.batches import group, plate, restore, series
from tests.microscopes import write_lif

import napari_pristine
from napari_pristine.gui.file_layers import add_file, show_pair
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


@pytest.fixture
def our_reader(npe2pm: Any) -> Iterator[None]:
    """The reader of our manifest, beside those of napari."""
    manifest = PluginManifest.from_file(Path(napari_pristine.__file__).parent / "napari.yaml")
    with npe2pm.tmp_plugin(manifest=manifest), npe2pm.tmp_plugin(package="napari"):
        yield


@pytest.mark.usefixtures("our_reader")
def test_microscope_files_are_opened_with_channels_axes_and_pixel_size(
    viewer: Any, tmp_path: Path, notifications: list[Any]
) -> None:
    scenes = [("small", "YX", STACK.data[0, 0, 0]), ("stack", "ZCYX", STACK.data[0])]
    write_lif(tmp_path / "cells.LIF", scenes, ["Green", "Red"])
    layers = viewer.open(str(tmp_path / "cells.LIF"), plugin=None)
    assert [layer.name for layer in layers] == ["cells stack · Green", "cells stack · Red"]
    for number, layer in enumerate(layers):
        assert layer.source.reader_plugin == "napari-pristine"
        assert layer.axis_labels == ("Z", "Y", "X")
        assert tuple(layer.scale) == pytest.approx((0.5, 0.1, 0.1))
        assert {str(unit) for unit in layer.units} == {UM}
        np.testing.assert_array_equal(np.asarray(layer.data), STACK.data[0, :, number])
    assert "the file holds 2 images: 1 ('stack') was read" in notifications[0].message


@pytest.mark.usefixtures("our_reader")
def test_without_the_library_of_its_microscope_a_file_says_what_to_install(
    viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lif(tmp_path / "cells.lif", [("stack", "ZYX", STACK.data[0, :, 0])], ["Green"])
    monkeypatch.setitem(sys.modules, "liffile", None)
    with pytest.raises(ReaderPluginError, match=r"needs liffile; pip install 'napari-pristine\[lif\]'"):
        viewer.open(str(tmp_path / "cells.lif"), plugin=None)


@pytest.fixture(scope="module")
def restored_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with a plate and a store of two series in both versions, and folders with what a batch made of them."""
    folder = tmp_path_factory.mktemp("stores")
    for version in ("0.4", "0.5"):
        plate(folder / version / "p.zarr", version)
        series(folder / version / "two.zarr", version)
        rows = restore(folder / version, folder / f"restored {version}")
        assert {row.status for row in rows.values()} == {"restored"}
    return folder


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_of_a_plate_and_of_series_in_a_window(window_viewer: Any, restored_stores: Path, version: str) -> None:
    """Each with its result, and a store as a whole as its first image."""
    before, after = restored_stores / version, restored_stores / f"restored {version}"
    show_pair(window_viewer, before / "p.zarr" / "A" / "2" / "1", after / "p.zarr" / "A" / "2" / "1")
    assert [layer.name for layer in window_viewer.layers] == ["p A 2 1", "p A 2 1 · restored"]
    shown = np.asarray(window_viewer.layers[-1].data)
    np.testing.assert_array_equal(shown, read(after / "p.zarr" / "A" / "2" / "1").data)
    window_viewer.layers.clear()
    for store, names in (("p.zarr", ["p"]), ("two.zarr", ["two · channel 0", "two · channel 1"])):
        assert [layer.name for layer in add_file(window_viewer, after / store)] == names
        assert not any(layer.multiscale for layer in window_viewer.layers)  # series are not levels


def test_a_result_takes_the_place_of_what_is_shown_and_its_axes(viewer: Any, tmp_path: Path) -> None:
    """Of an image with channels, too, which would otherwise have a layer for each, and its time where channels are."""
    image = Image(np.random.default_rng(0).poisson(20, (3, 2, 32, 32)).astype(np.uint16), "TCYX", name="cells")
    write(tmp_path / "cells.ome.tif", image)
    show_pair(viewer, tmp_path / "cells.ome.tif", tmp_path / "cells.ome.tif")
    assert [layer.data.shape for layer in viewer.layers] == [(3, 32, 32)] * 4
    viewer.layers.clear()
    open_one = viewer.add_image(image.data, name="open", axis_labels=("t", "c", "y", "x"))
    show_pair(viewer, tmp_path / "cells.ome.tif", tmp_path / "cells.ome.tif")
    assert [(layer.name, layer.visible) for layer in viewer.layers] == [
        ("open", False), ("cells", True), ("cells · restored", True)
    ]  # fmt: skip
    assert all(layer.data.shape == open_one.data.shape for layer in viewer.layers)


def test_levels_of_any_name_are_shown(viewer: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 200, (2, 64, 64), np.uint16)
    datasets = [{"path": name} for name in ("full", "half", "same")]
    path = group(tmp_path / "x.zarr", {"multiscales": [{"axes": [*"cyx"], "datasets": datasets}]})
    for name, step in (("full", 1), ("half", 2), ("same", 2)):
        zarr.create_array(path / name, data=values[:, ::step, ::step])
    layers = add_file(viewer, path)
    assert [[level.shape for level in layer.data] for layer in layers] == [[(64, 64), (32, 32)]] * 2


@pytest.mark.skipif(find_spec("napari_ome_zarr") is None, reason="needs napari-ome-zarr, which is not installed")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_by_the_reader_of_ome_zarr(window_viewer: Any, restored_stores: Path, version: str) -> None:
    """As their inputs: a plate as one large plane, an image in it, and all series."""
    PluginManager.instance().discover()

    def opened(path: Path) -> list[Any]:
        window_viewer.layers.clear()
        window_viewer.open(str(path), plugin="napari-ome-zarr")
        return [(np.shape(layer.data[0]), tuple(layer.scale)) for layer in window_viewer.layers]

    before, after = restored_stores / version, restored_stores / f"restored {version}"
    for path, count in (("p.zarr", 1), ("p.zarr/A/1/0", 1), ("two.zarr", 5), ("two.zarr/1", 3)):
        assert opened(after / path) == opened(before / path), path
        assert len(window_viewer.layers) == count, path


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
