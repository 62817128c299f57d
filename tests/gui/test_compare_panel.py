"""The Compare panel: choice of results, figures, plots, side by side, what was removed, export."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication

from napari_pristine.errors import AxesError
from napari_pristine.gui import compare_job
from napari_pristine.gui.compare_job import plane_over
from napari_pristine.gui.compare_panel import ComparePanel, open_compare
from napari_pristine.gui.plots import PLOTS, make_figure
from napari_pristine.recipe import Choice, Recipe
from napari_pristine.samples import simulate_image

pytestmark = pytest.mark.gui

UM = {"units": ("micrometer", "micrometer")}
NOISY, TRUTH = (np.asarray(image.data) for image in simulate_image((96, 128), photons=30))


def facts(source: str, error: float | None = None) -> dict[str, Any]:
    choice = None if error is None else Choice(error=error)
    return {"pristine": {"recipe": Recipe(choice=choice).model_dump(mode="json"), "source": source}}


def add_result(viewer: Any, data: Any, name: str, source: str = "cells", **arguments: Any) -> ImageLayer:
    return viewer.add_image(data, name=name, metadata=facts(source, arguments.pop("error", None)), **arguments)


def planes(truth: bool = False) -> np.ndarray:
    return np.stack([TRUTH if truth else NOISY] * 3)


@pytest.fixture
def compared(qtbot: Any, viewer: Any) -> Any:
    """Opens a panel on an image with two results; waits until they are measured."""
    source = viewer.add_image(NOISY, name="cells", scale=(0.2, 0.2), **UM)
    add_result(viewer, TRUTH, "cells · A, quick", scale=(0.2, 0.2), error=0.09, **UM)
    add_result(viewer, 0.5 * (NOISY + TRUTH), "cells · A, best", scale=(0.2, 0.2), **UM)
    viewer.add_image(TRUTH, name="long exposure", scale=(0.2, 0.2), **UM)
    panel = show(qtbot, viewer)
    panel.choose(source, None)
    wait_for_figures(qtbot, panel)
    return panel


def show(qtbot: Any, viewer: Any) -> ComparePanel:
    panel = ComparePanel(viewer)
    qtbot.addWidget(panel)
    for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
        event.connect(panel.reset_choices)
    panel.show()
    return panel


def wait(qtbot: Any, panel: ComparePanel) -> None:
    qtbot.waitUntil(lambda: not panel.busy, timeout=30_000)


def wait_for_figures(qtbot: Any, panel: ComparePanel) -> None:
    old = panel.comparisons
    qtbot.waitUntil(lambda: panel.comparisons is not old, timeout=30_000)
    wait(qtbot, panel)


def column(panel: ComparePanel, number: int) -> dict[str, str]:
    table = panel.table
    return {table.verticalHeaderItem(n).text(): table.item(n, number).text() for n in range(table.rowCount())}


def test_results_of_the_image_are_chosen_and_measured(compared: ComparePanel) -> None:
    titles = [compared.table.horizontalHeaderItem(number).text() for number in range(3)]
    assert titles == ["noisy", "quick", "best"]
    noisy, quick, best = (column(compared, number) for number in range(3))
    assert abs(float(quick["Removed (noise levels)"]) - 1) < 0.05
    assert abs(float(best["Removed (noise levels)"]) - 0.5) < 0.05
    assert abs(float(best["Noise level"]) / float(noisy["Noise level"]) - 0.5) < 0.1
    assert quick["Error (noise levels)"] == "0.30"
    assert best["Error (noise levels)"] == "–"
    assert noisy["Finest detail"].endswith("µm")
    assert quick["Finest detail"] == "–"
    assert "PSNR (dB)" not in noisy
    assert "96 × 128" in compared.status.text()


def test_a_reference_adds_its_figures(qtbot: Any, viewer: Any, compared: ComparePanel) -> None:
    compared.form.reference_box.choose(viewer.layers["long exposure"])
    wait_for_figures(qtbot, compared)
    noisy, quick, best = (column(compared, number) for number in range(3))
    assert list(quick).index("Error (noise levels)") == 4
    assert quick["PSNR (dB)"] == "∞"
    assert quick["SSIM"] == "1.000"
    assert float(noisy["PSNR (dB)"]) < float(best["PSNR (dB)"])
    assert quick["Finest detail"] == "≤ 0.4 µm"
    names = [compared.form.result_list.item(n).text() for n in range(compared.form.result_list.count())]
    assert "long exposure" not in names


def test_other_images_can_be_compared_and_results_left_out(qtbot: Any, compared: ComparePanel) -> None:
    items = {compared.form.result_list.item(n).text(): compared.form.result_list.item(n) for n in range(3)}
    items["cells · A, best"].setCheckState(Qt.CheckState.Unchecked)
    items["long exposure"].setCheckState(Qt.CheckState.Checked)
    wait_for_figures(qtbot, compared)
    compared.reset_choices()
    assert [layer.name for layer in compared.form.results] == ["cells · A, quick", "long exposure"]


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_drawn(qtbot: Any, viewer: Any, compared: ComparePanel, name: str) -> None:
    compared.tabs.setCurrentIndex(list(PLOTS).index(name))
    (axes,) = compared.canvas.figure.axes
    assert [text.get_text()[:11] for text in axes.texts] == ["Draw a line"] * (name == "Profile")
    compared.draw_line()
    shapes = compared.form.line_box.layer
    shapes.mode = "pan_zoom"
    shapes.add_lines(np.array([[10.0, 10.0], [40.0, 50.0]]))
    wait_for_figures(qtbot, compared)
    (axes,) = compared.canvas.figure.axes
    assert len(axes.lines) >= 2
    compared.canvas.draw()
    assert axes.get_legend().get_window_extent().y0 >= axes.bbox.y1, "the legend covers the curves"
    if name == "Profile":
        assert axes.lines[0].get_xdata()[-1] == pytest.approx(0.2 * 50)


def test_the_figures_follow_the_plane_and_the_strength(qtbot: Any, viewer: Any) -> None:
    viewer.add_image(planes(), name="cells")
    restored = planes(truth=True).astype(float)
    restored[1] = 0.5 * (TRUTH + NOISY)
    result = add_result(viewer, restored, "cells · A")
    panel = show(qtbot, viewer)
    viewer.dims.set_current_step(0, 0)
    wait_for_figures(qtbot, panel)
    assert abs(float(column(panel, 1)["Removed (noise levels)"]) - 1) < 0.05
    viewer.dims.set_current_step(0, 1)
    wait_for_figures(qtbot, panel)
    assert abs(float(column(panel, 1)["Removed (noise levels)"]) - 0.5) < 0.05
    result.data = planes()
    wait_for_figures(qtbot, panel)
    assert column(panel, 1)["Removed (noise levels)"] == "0.00"


def test_a_plane_that_the_result_lacks_is_said(qtbot: Any, viewer: Any) -> None:
    viewer.add_image(planes(), name="cells")
    add_result(viewer, planes(truth=True)[:1], "cells · A", translate=(1, 0, 0))
    panel = show(qtbot, viewer)
    viewer.dims.set_current_step(0, 1)
    wait_for_figures(qtbot, panel)
    assert panel.table.rowCount() > 0
    viewer.dims.set_current_step(0, 2)
    wait_for_figures(qtbot, panel)
    assert "does not hold the plane" in panel.status.text()
    assert panel.table.rowCount() == 0
    assert not panel.csv_button.isEnabled()


def test_parts_finer_grids_and_colours_lie_on_the_noisy_pixels(viewer: Any) -> None:
    noisy = viewer.add_image(NOISY, name="cells", scale=(0.5, 0.5))
    part = viewer.add_image(NOISY[16:80, 32:96], name="part", scale=(0.5, 0.5), translate=(8, 16))
    finer = np.kron(NOISY, np.ones((2, 2)))
    fine = viewer.add_image(finer, name="fine", scale=(0.25, 0.25), translate=(-0.125, -0.125))
    colour = viewer.add_image(np.stack([NOISY] * 3, axis=-1), name="colour", rgb=True, scale=(0.5, 0.5))
    for layer in (part, fine, colour):
        plane = plane_over(layer, noisy, viewer.dims)
        box = plane.box
        assert np.array_equal(plane.read(box), NOISY[box.top : box.bottom, box.left : box.right]), layer.name
    assert plane_over(part, noisy, viewer.dims).box == compare_job.Box(16, 32, 80, 96)
    other = viewer.add_image(NOISY[:40, :40], name="other", scale=(0.7, 0.7))
    with pytest.raises(AxesError, match="pixel size"):
        plane_over(other, noisy, viewer.dims)


def test_what_was_removed_is_a_layer_in_noise_levels(qtbot: Any, viewer: Any, compared: ComparePanel) -> None:
    compared.show_removed()
    qtbot.waitUntil(lambda: "cells · A, quick, removed" in viewer.layers, timeout=30_000)
    wait(qtbot, compared)
    layer = viewer.layers["cells · A, quick, removed"]
    assert abs(float(layer.data.std()) - 1) < 0.06
    assert layer.metadata["pristine"] == {"source": "cells"}
    assert tuple(layer.contrast_limits) == (-4, 4)
    assert np.allclose(layer.colormap.map(np.array([0.5]))[0, :3], 0.969, atol=0.01)
    assert layer not in compared.form.results
    viewer.layers["cells · A, quick"].data = NOISY
    qtbot.waitUntil(lambda: not np.any(viewer.layers["cells · A, quick, removed"].data), timeout=30_000)


def test_what_was_removed_from_a_large_movie_is_computed_when_it_is_shown(
    qtbot: Any, viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_job, "_IN_MEMORY", 1000)
    movie = np.stack([NOISY, 3 * NOISY])[None].repeat(2, axis=0)
    truth = np.stack([TRUTH, 3 * TRUTH])[None].repeat(2, axis=0)
    viewer.add_image(movie, name="cells", axis_labels=("t", "c", "y", "x"))
    add_result(viewer, truth[1:], "cells · A", translate=(1, 0, 0, 0), axis_labels=("t", "c", "y", "x"))
    panel = show(qtbot, viewer)
    viewer.dims.set_current_step(0, 1)
    panel.show_removed()
    qtbot.waitUntil(lambda: "cells · A, removed" in viewer.layers, timeout=30_000)
    wait(qtbot, panel)
    layer = viewer.layers["cells · A, removed"]
    assert not isinstance(layer.data, np.ndarray)
    assert layer.data.shape == (1, 2, 96, 128)
    assert tuple(layer.translate) == (1, 0, 0, 0)
    for channel in np.asarray(layer.data)[0]:
        assert abs(float(channel.std()) - 1) < 0.08


def test_side_by_side_and_back(qtbot: Any, viewer: Any, compared: ComparePanel) -> None:
    viewer.add_image(NOISY, name="unrelated", visible=False)
    before = {layer.name: layer.visible for layer in viewer.layers}
    compared.grid_button.click()
    qtbot.waitUntil(lambda: compared.grid.shown, timeout=30_000)
    wait(qtbot, compared)
    grid = getattr(viewer, "canvas", viewer).grid
    assert grid.enabled
    assert compared.grid_button.isChecked()
    shown = [layer.name for layer in viewer.layers if layer.visible]
    assert shown == ["cells", *(f"cells · A, {n}" for n in ("quick", "quick, removed", "best", "best, removed"))]
    compared.grid_button.click()
    assert not grid.enabled
    assert not compared.grid_button.isChecked()
    assert {name: viewer.layers[name].visible for name in before} == before
    assert viewer.layers.selection.active.name == "unrelated"
    removed = viewer.layers["cells · A, quick, removed"]
    viewer.layers["cells · A, quick"].data = NOISY  # as with another strength
    qtbot.waitUntil(lambda: not np.any(removed.data), timeout=30_000)
    assert not removed.visible
    compared.show_removed()
    qtbot.waitUntil(lambda: removed.visible, timeout=30_000)


def test_the_table_is_written_as_csv(tmp_path: Path, compared: ComparePanel) -> None:
    compared.save_table(str(tmp_path / "table.csv"))
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        noisy, quick, best = csv.DictReader(file)
    assert (noisy["kind"], quick["image"], best["method"]) == ("noisy", "cells · A, quick", "auto")
    assert abs(float(quick["removed_noise_levels"]) - 1) < 0.05
    assert float(quick["estimated_rms_error_noise_levels"]) == pytest.approx(0.3)
    assert best["estimated_rms_error_noise_levels"] == best["finest_detail_um"] == ""
    assert float(noisy["finest_detail_um"]) > 0.4


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_the_figure_is_written(
    qtbot: Any, viewer: Any, tmp_path: Path, compared: ComparePanel, notifications: list[Any], suffix: str
) -> None:
    compared.form.reference_box.choose(viewer.layers["long exposure"])
    wait_for_figures(qtbot, compared)
    path = tmp_path / f"figure.{suffix}"
    compared.save_figure(str(path))
    wait(qtbot, compared)
    assert path.read_bytes()[:4] == {"png": b"\x89PNG", "pdf": b"%PDF"}[suffix]
    assert b"/Type3" not in path.read_bytes()  # fonts that journals refuse, as their text cannot be edited
    assert "Saved" in compared.status.text()
    compared.save_figure(str(tmp_path / "figure.xyz"))
    wait(qtbot, compared)
    assert "cannot be written" in notifications[-1].message


def test_the_parts_of_a_figure_are_lettered_without_a_gap(compared: ComparePanel) -> None:
    figure = make_figure(compared.comparisons.request, compared.comparisons.usable[0])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "".join(title[0] for title in titles if title) == "abcdefg"
    assert all(len(title) > 3 for title in titles if title)
    (listed,) = [text.get_text() for axes in figure.axes for text in axes.texts if "Noise level" in text.get_text()]
    assert "Contrast: " in listed


def test_long_names_of_results_are_not_cut(qtbot: Any, viewer: Any) -> None:
    source = viewer.add_image(NOISY, name="cells")
    for name in ("Pretrained, quick", "INR, balanced"):
        add_result(viewer, TRUTH, f"cells · {name}")
    panel = show(qtbot, viewer)
    panel.choose(source, None)
    wait_for_figures(qtbot, panel)
    assert "Error (noise levels)" not in column(panel, 1)  # which nobody has estimated
    table = panel.table
    for number in range(table.columnCount()):
        widest = max(map(table.fontMetrics().horizontalAdvance, table.horizontalHeaderItem(number).text().split("\n")))
        assert widest <= table.columnWidth(number)


def test_the_methods_paragraph_is_copied(compared: ComparePanel) -> None:
    compared.copy_methods()
    assert "napari-pristine" in QGuiApplication.clipboard().text()


def test_without_images_or_results_the_panel_says_what_to_do(qtbot: Any, viewer: Any) -> None:
    panel = show(qtbot, viewer)
    wait(qtbot, panel)
    assert "Open an image" in panel.status.text()
    viewer.add_image(NOISY, name="cells")
    wait(qtbot, panel)
    assert "Restore an image" in panel.status.text()
    assert not panel.grid_button.isEnabled()


def test_the_panel_opens_once_with_the_layers_chosen(qtbot: Any, make_napari_viewer_proxy: Any) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    viewer.add_image(TRUTH, name="other")
    source = viewer.add_image(NOISY, name="cells")
    result = viewer.add_image(TRUTH, name="of another program")
    panel = open_compare(viewer, source, result)
    qtbot.waitUntil(lambda: panel.comparisons is not None, timeout=30_000)
    wait(qtbot, panel)
    assert panel.form.noisy.name == "cells"
    assert [layer.name for layer in panel.form.results] == ["of another program"]
    assert open_compare(viewer, source, result) is panel
    wait(qtbot, panel)
