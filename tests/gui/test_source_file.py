"""Axes, pixel size and other metadata of the file of a layer of which napari has read only the values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import noisy, wait_until_idle

from napari_pristine.gui import source_file
from napari_pristine.gui.layers import image_from_layer, layer_axes, stated_axes
from napari_pristine.gui.source_file import SOURCE_FILES
from napari_pristine.image.image import AxisValues, Image
from napari_pristine.io.registry import write

pytestmark = [pytest.mark.gui, pytest.mark.usefixtures("napari_readers")]

UM, PX, S = "micrometer", "pixel", "second"
STACK = Image(
    noisy((5, 2, 32, 40)), "ZCYX", scale=(0.5, 1, 0.1, 0.2), units=(UM, PX, UM, UM), translate=(0, 0, 3, 4),
    channels=("GFP", "DAPI"), metadata={"format": "ome"},
)  # fmt: skip


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window waits for files, however busy this machine is."""
    monkeypatch.setattr(source_file, "_WAIT_SECONDS", 60)


@pytest.fixture
def open_image(viewer: Any, tmp_path: Path) -> Any:
    """Writes an image and opens the file with the reader of napari."""

    def open_one(image: Image, name: str = "cells.ome.tif") -> Any:
        write(tmp_path / name, image, overwrite=True)
        (layer,) = viewer.open(str(tmp_path / name), plugin="napari")
        assert set(layer.scale) == {1.0}  # else napari does by itself what is tested here
        return layer

    return open_one


def test_the_panel_shows_axes_and_pixel_size_of_the_file_and_restores_with_them(
    qtbot: Any, viewer: Any, open_panel: Any, open_image: Any
) -> None:
    open_image(STACK)
    panel = open_panel(viewer)
    assert panel.form.facts.text() == "Z 5 · C 2 · Y 32 · X 40 · uint16 · 0.2 µm"
    assert not panel.form.layer_select.axes_guessed
    image = panel.form.deferred_plan({})().image
    for name in ("axes", "scale", "units", "translate", "channels"):
        assert getattr(image, name) == getattr(STACK, name), name
    assert image.metadata["format"] == "ome"
    panel.form.layer_select.ranges["Z"].value = "2:4"
    panel.run()
    wait_until_idle(qtbot, panel)
    result = viewer.layers[-1]
    assert result.data.shape == (2, 2, 32, 40)
    assert (tuple(result.scale), tuple(result.translate)) == ((1,) * 4, (2, 0, 0, 0))  # it lies over the layer


@pytest.mark.parametrize(
    ("image", "name", "axes"),
    [
        (replace(STACK, metadata={"format": "imagej"}), "of imagej.tif", "ZCYX"),
        (Image(noisy((5, 32, 40)), "ZYX", (0.5, 0.1, 0.2), (UM, UM, UM)), "volume.ome.tif", "ZYX"),
        (Image(noisy((1, 5, 1, 32, 40)), "TZCYX", (2, 0.5, 1, 0.1, 0.2), (S, UM, PX, UM, UM)), "one.ome.tif", "ZYX"),
        (Image(noisy((32, 40, 3)).astype("u1"), "YXS", (0.1, 0.2, 1), (UM, UM, PX)), "colour.ome.tif", "YXS"),
        (Image(noisy((4, 32, 40, 3)).astype("u1"), "ZYXS", (0.5, 0.1, 0.2, 1), (UM,) * 3 + (PX,)), "c.ome.tif", "ZYXS"),
        (replace(STACK, metadata={"format": "zarr"}, translate=()), "levels.zarr", "CZYX"),
    ],
)  # fmt: skip
def test_files_of_all_kinds(open_image: Any, image: Image, name: str, axes: str) -> None:
    layer = open_image(image, name)
    found = image_from_layer(layer, layer_axes(layer))
    assert stated_axes(layer) == found.axes == axes
    for axis in found.axes:
        assert found.scale[found.axes.index(axis)] == pytest.approx(image.scale[image.axes.index(axis)])
        assert found.units[found.axes.index(axis)] == image.units[image.axes.index(axis)]


def test_a_layer_of_one_channel_has_the_axes_of_the_others(viewer: Any, tmp_path: Path) -> None:
    """As readers of OME-Zarr and of microscope files make it."""
    image = replace(STACK, details={"labels": AxisValues("C", np.array(["a", "b"]))})
    write(tmp_path / "cells.ome.tif", image)
    with source_file_of(tmp_path / "cells.ome.tif"):
        layer = viewer.add_image(image.data[:, 1])
    found = image_from_layer(layer, layer_axes(layer))
    assert (found.axes, found.scale, found.units) == ("ZYX", (0.5, 0.1, 0.2), (UM,) * 3)
    assert found.channels == ()
    assert found.details == {}


def source_file_of(path: Path) -> Any:
    """The layers that are made inside are of this file, as napari's readers say it."""
    from napari.layers._source import layer_source

    return layer_source(path=str(path))


def test_a_file_that_names_no_axes_gives_none(open_image: Any, tmp_path: Path, viewer: Any) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", noisy((5, 32, 40)), resolution=(1e5, 1e5), resolutionunit="CENTIMETER")
    (layer,) = viewer.open(str(tmp_path / "plain.tif"), plugin="napari")
    assert stated_axes(layer) == ""
    image = image_from_layer(layer, layer_axes(layer))
    assert (image.axes, image.units[-1], image.scale[-1]) == ("TYX", UM, pytest.approx(0.1))


def test_what_the_layer_says_comes_first(open_image: Any) -> None:
    layer = open_image(STACK)
    layer.axis_labels = ("t", "c", "y", "x")
    image = image_from_layer(layer, layer_axes(layer))
    assert image.axes == "TCYX"
    assert image.scale == (1, 1, 0.1, 0.2)  # the distance along Z is not that along T
    assert image.units == (PX, PX, UM, UM)
    layer.scale = (1, 1, 7, 7)
    image = image_from_layer(layer, layer_axes(layer))
    assert (image.scale, image.units, image.channels) == ((1, 1, 7, 7), (PX,) * 4, ())


def test_a_file_that_now_holds_another_image_says_nothing_on_the_layer(open_image: Any) -> None:
    layer = open_image(STACK)
    write(layer.source.path, replace(STACK, data=noisy((5, 2, 40, 32))), overwrite=True)
    assert stated_axes(layer) == ""
    again = open_image(STACK)
    assert stated_axes(again) == "ZCYX"
    Path(again.source.path).unlink()
    assert stated_axes(again) == "ZCYX"  # it is read once for each layer
    assert image_from_layer(layer, "TCYX").units == (PX,) * 4


@pytest.mark.parametrize("name", ["gone.tif", "text.txt", "https://example.org/cells.tif", "a folder.tif"])
def test_what_cannot_be_opened_gives_nothing(viewer: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("cells")
    (tmp_path / "a folder.tif").mkdir()
    with source_file_of(name if ":" in name else tmp_path / name):
        layer = viewer.add_image(noisy((5, 32, 40)))
    assert stated_axes(layer) == ""
    assert layer_axes(layer) == "TYX"


def slow_opening(monkeypatch: pytest.MonkeyPatch) -> tuple[Event, Event]:
    """Let files be opened in a thread that waits: events that it has begun, and that it may go on."""
    opened, answers, read = Event(), Event(), source_file.open_lazily

    def slow(path: Path) -> Image | None:
        opened.set()
        assert answers.wait(60)
        return read(path)

    monkeypatch.setattr(source_file, "open_lazily", slow)
    monkeypatch.setattr(source_file, "_WAIT_SECONDS", 0.001)
    return opened, answers


def test_the_window_does_not_wait_for_a_slow_file(
    qtbot: Any, viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, answers = slow_opening(monkeypatch)
    write(tmp_path / "cells.ome.tif", STACK)
    with source_file_of(tmp_path / "cells.ome.tif"):
        layer = viewer.add_image(STACK.data)
    assert layer_axes(layer) == "TCYX"
    assert opened.wait(60)
    assert image_from_layer(layer, "TCYX").units == (PX,) * 4
    with qtbot.waitSignal(SOURCE_FILES.late, timeout=60_000) as late:
        answers.set()
    assert late.args == [str(tmp_path / "cells.ome.tif")]
    assert layer_axes(layer) == "ZCYX"


def test_the_panel_shows_what_a_slow_file_says_when_it_is_read(
    qtbot: Any, viewer: Any, open_panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, answers = slow_opening(monkeypatch)
    write(tmp_path / "cells.ome.tif", STACK)
    with source_file_of(tmp_path / "cells.ome.tif"):
        viewer.add_image(STACK.data, name="cells")
    panel = open_panel(viewer)
    assert panel.form.facts.text() == "T 5 · C 2 · Y 32 · X 40 · uint16 (axes guessed)"
    answers.set()
    qtbot.waitUntil(lambda: panel.form.facts.text() == "Z 5 · C 2 · Y 32 · X 40 · uint16 · 0.2 µm", timeout=60_000)
