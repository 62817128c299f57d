"""Dock panel that compares results with the noisy image: side by side, in figures and in plots."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari import Viewer, current_viewer
from napari.layers import Image as ImageLayer
from napari.utils.colormaps import Colormap
from napari.utils.notifications import show_error
from napari.utils.theme import get_theme
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QTabBar, QVBoxLayout

from napari_pristine.errors import PristineError
from napari_pristine.gui.compare_form import CompareForm
from napari_pristine.gui.compare_job import Comparisons, Removal, compare_layers
from napari_pristine.gui.compare_table import FigureTable, write_csv
from napari_pristine.gui.grid_view import SideBySide
from napari_pristine.gui.job_runner import LatestCall, report_error
from napari_pristine.gui.layers import image_from_layer, layer_arguments, layer_axes, layer_data
from napari_pristine.gui.origin import result_facts, result_metadata, source_name
from napari_pristine.gui.plots import PLOTS, Colours, draw, save_figure
from napari_pristine.gui.widgets import (
    DockPanel,
    ask_save_path,
    button,
    copy_text,
    find_panel,
    side_by_side,
    wrapped_label,
)
from napari_pristine.recipe_code import methods_paragraph

_WAIT = 250
"""Milliseconds without a change after which the figures are measured again."""
_LIMITS = (-4.0, 4.0)
"""Contrast limits of what was removed, in noise levels."""
_DIVERGING = Colormap(
    ["#053061", "#4393c3", "#f7f7f7", "#d6604d", "#67001f"], name="removed", controls=[0, 0.25, 0.5, 0.75, 1]
)
"""Blue below zero, red above, which colour-blind people can tell apart."""
_LINES = "profile line"


class ComparePanel(DockPanel):
    """The dock panel that compares results of one noisy image, on the plane that is shown.

    Args:
        viewer: The napari viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.comparisons: Comparisons | None = None
        self.grid = SideBySide(viewer)
        self.form = CompareForm(viewer)
        self._grid_wanted = self._removed_wanted = False
        self._made_of: dict[ImageLayer, object] = {}
        self.grid_button = button(
            "&Side by side",
            "The noisy image, the reference, the results, what was removed and the uncertainty next to each other.",
            self.show_grid,
        )
        self.grid_button.setCheckable(True)
        self.removed_button = button(
            "Show &removed", "A layer with noisy minus restored, in noise levels: it should look like noise.",
            self.show_removed,
        )  # fmt: skip
        self.table = FigureTable()
        self.status = wrapped_label()
        self.tabs = QTabBar()
        self.tabs.setExpanding(False)
        self.tabs.setDrawBase(False)
        for name in PLOTS:
            self.tabs.addTab(name)
        self.canvas = FigureCanvasQTAgg(Figure(figsize=(4, 2.4)))
        self.canvas.setMinimumHeight(170)
        self.line_row = side_by_side(
            self.form.line_box.box.native,
            button("Draw a line", "Draw it over the image with the mouse.", self.draw_line),
        )
        self.csv_button = button(
            "Save &table…", "The figures as CSV, one row for each result.", self.ask_and_save_table
        )
        self.figure_button = button(
            "Save &figure…",
            "Images, plots and figures of a result on one page, as PDF or PNG.",
            self.ask_and_save_figure,
        )
        self.methods_button = button(
            "&Copy methods", "Copy a paragraph for the methods section of a paper.", self.copy_methods
        )
        self._calls = self._measuring, self._removing, self._saving = LatestCall(), LatestCall(), LatestCall()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WAIT)
        self._timer.timeout.connect(self.measure)
        self._lay_out()
        self._connect()
        self._draw()
        self._update_enabled()

    @property
    def busy(self) -> bool:
        """True while something is measured or written, or will be soon."""
        return self._timer.isActive() or any(call.running for call in self._calls)

    def choose(self, source: ImageLayer | None, result: ImageLayer | None) -> None:
        """Choose a noisy image, and a result to compare with it."""
        self.form.choose(source, result)

    def reset_choices(self, _: object = None) -> None:
        """Update to the layers of the viewer; napari calls this when they change."""
        self.form.refresh()

    def schedule(self, _: object = None) -> None:
        """Measure again soon, once nothing changes any more."""
        self._timer.start()

    def measure(self) -> None:
        """Measure the chosen results on the plane that is shown."""
        if not self.isVisible():
            return  # it is measured when it is shown
        request = self.form.request()
        if request is None or not request.candidates:
            self.comparisons = None
            self._show("Restore an image, or choose a result." if request else "Open an image first.")
            return
        self.status.setText("Measuring …")
        self._measuring.start(partial(compare_layers, request))

    def show_grid(self) -> None:
        """Show the layers side by side, or again what was shown before."""
        if self.grid.shown or self._grid_wanted:
            self._grid_wanted = False
            self.grid.hide()
        else:
            self._grid_wanted = True
            self._show_all()
        self._update_enabled()

    def show_removed(self) -> None:
        """Show what the selected result has removed, or the first one; hide it if it is shown."""
        if not self.form.results:
            return
        active = self.viewer.layers.selection.active
        result = active if active in self.form.results else self.form.results[0]
        layer = self._part(result, "removed")
        if layer is not None and layer.visible:
            layer.visible = False
        else:
            self._removed_wanted = self._start_removal(result)

    def draw_line(self) -> None:
        """Let the user draw a line over the image."""
        layer = self.form.line_box.layer
        if layer is None:
            arguments = {"ndim": 2, "name": _LINES, "edge_color": "#E69F00", "edge_width": 1}
            if self.form.noisy is not None:
                arguments |= {"scale": self.form.noisy.scale[-2:], "units": self.form.noisy.units[-2:]}
            layer = self.viewer.add_shapes(None, **arguments)
            self.form.line_box.choose(layer)
        self.viewer.layers.selection.active = layer
        layer.mode = "add_line"

    def save_table(self, path: str) -> None:
        """Write the figures as CSV; errors are shown."""
        if self.comparisons is None:
            return
        try:
            write_csv(Path(path), self.comparisons)
        except PristineError as error:
            show_error(str(error))

    def save_figure(self, path: str) -> None:
        """Write the figure of the result in whose column the table's cursor is, else of the first one."""
        if self.comparisons is None:
            return
        chosen = min(max(self.table.currentColumn() - 1, 0), len(self.comparisons.usable) - 1)
        self.status.setText("Drawing the figure …")
        self._saving.start(partial(_save_figure, Path(path), self.comparisons, chosen))

    def ask_and_save_table(self) -> None:
        """Ask for a path and write the figures there."""
        if path := ask_save_path(self, "Save the table", "comparison.csv", "Tables (*.csv)"):
            self.save_table(path)

    def ask_and_save_figure(self) -> None:
        """Ask for a path and write the figure there."""
        if path := ask_save_path(self, "Save the figure", "comparison.pdf", "Figures (*.png *.pdf)"):
            self.save_figure(path)

    def copy_methods(self) -> None:
        """Copy a paragraph on each result for the methods section of a paper."""
        made = [result_facts(layer) for layer in self.form.results if self.form.is_result(layer)]
        copy_text(lambda: "\n\n".join(map(methods_paragraph, made)), "A paragraph for the methods section")

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self.schedule()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setSpacing(4)
        layout.addWidget(self.form)
        layout.addWidget(side_by_side(self.grid_button, self.removed_button))
        layout.addWidget(self.table, stretch=3)
        layout.addWidget(self.tabs)
        layout.addWidget(self.canvas, stretch=2)
        layout.addWidget(self.line_row)
        layout.addWidget(self.status)
        layout.addWidget(side_by_side(self.csv_button, self.figure_button, self.methods_button))

    def _connect(self) -> None:
        self.form.changed.connect(self.schedule)
        self.tabs.currentChanged.connect(self._draw)
        self.viewer.dims.events.current_step.connect(self.schedule)
        self.viewer.events.theme.connect(self._draw)
        self._measuring.returned.connect(self._on_measured)
        self._removing.returned.connect(self._on_removed)
        self._saving.returned.connect(self._on_saved)
        for call in self._calls:
            call.errored.connect(self._on_error)
            self.destroyed.connect(call.stop)

    def _part(self, result: ImageLayer, kind: str) -> ImageLayer | None:
        """The layer with what was removed by a result, or with its uncertainty."""
        name = f"{result.name}, {kind}"
        return next((layer for layer in self.viewer.layers if layer.name == name and source_name(layer)), None)

    def _start_removal(self, result: ImageLayer) -> bool:
        """Start to compute what a result has removed; returns whether it can be computed."""
        assert self.form.noisy is not None
        try:
            removal = Removal.of(self.form.noisy, result, self.viewer.dims)
        except PristineError as error:
            show_error(str(error))
            return False
        self._removing.start(partial(_compute_removal, removal, self.form.noisy, result))
        return True

    def _on_removed(self, found: tuple[Any, Removal, ImageLayer, ImageLayer]) -> None:
        """Put what was removed into a layer above the result, which is shown if the user has asked for it."""
        data, removal, noisy, result = found
        shown, self._removed_wanted = self._removed_wanted, False
        if noisy not in self.viewer.layers or result not in self.viewer.layers:
            return
        layer = self._part(result, "removed")
        arguments = layer_arguments(noisy, image_from_layer(noisy, layer_axes(noisy)), removal.part)
        if layer is not None:
            layer.data, layer.scale, layer.translate = data, arguments["scale"], arguments["translate"]
            layer.visible = layer.visible or shown
        else:
            arguments |= {"rgb": False, "colormap": _DIVERGING, "contrast_limits": _LIMITS, "gamma": 1.0}
            arguments |= {"blending": "translucent", "metadata": result_metadata(noisy, {})}
            arguments |= {"name": f"{result.name}, removed", "visible": shown}
            active = self.viewer.layers.selection.active
            self.viewer.layers.insert(self.viewer.layers.index(result) + 1, ImageLayer(data, **arguments))
            if not shown:
                self.viewer.layers.selection.active = active
            layer = self._part(result, "removed")
        if shown:  # above all others, which would hide it
            self.viewer.layers.move(self.viewer.layers.index(layer), len(self.viewer.layers))
        self._made_of[result] = removal.restored.data
        if self._grid_wanted:
            self._show_all()
        self._update_enabled()

    def _show_all(self) -> None:
        """Show all layers side by side; those of what was removed are made first."""
        missing = next((result for result in self.form.results if self._part(result, "removed") is None), None)
        if missing is not None and self._start_removal(missing):
            self.status.setText("Computing what was removed …")
            return
        self._grid_wanted = False
        layers = [self.form.noisy, self.form.reference]
        for result in self.form.results:
            layers += [result, self._part(result, "removed"), self._part(result, "uncertainty")]
        self.grid.show([layer for layer in layers if layer is not None])
        self.status.setText("")

    def _on_measured(self, comparisons: Comparisons) -> None:
        self.comparisons = comparisons
        for layer in self.form.results:  # as with another strength
            if layer in self._made_of and self._made_of[layer] is not layer_data(layer):
                self._start_removal(layer)
        problems = [result.candidate.problem for result in comparisons.results if result.candidate.problem]
        self._show("\n".join(dict.fromkeys(problems)) or _where(comparisons))

    def _on_saved(self, path: Path) -> None:
        self.status.setText(f"Saved {path.name}.")

    def _on_error(self, error: Exception) -> None:
        self._grid_wanted = self._removed_wanted = False
        self._update_enabled()
        self.status.setText(f"Failed: {error}")
        report_error(error, str(error))

    def _show(self, status: str) -> None:
        self.status.setText(status)
        self.table.show_figures(self.comparisons)
        self._draw()
        self._update_enabled()

    def _draw(self, _: object = None) -> None:
        """Draw the plot of the current tab; the others are drawn when they are shown."""
        name = self.tabs.tabText(self.tabs.currentIndex())
        self.line_row.setVisible(name == "Profile")
        theme = get_theme(self.viewer.theme)
        colours = Colours(theme.text.as_hex(), theme.background.as_hex())
        figure = self.canvas.figure
        figure.clear()
        figure.set_facecolor(colours.background)
        if self.comparisons is not None and self.comparisons.usable:
            axes = figure.add_subplot()
            draw(axes, name, self.comparisons, colours, legend_above=True)
            figure.subplots_adjust(left=0.15, right=0.97, bottom=0.22, top=0.82)
        self.canvas.draw_idle()

    def _update_enabled(self) -> None:
        """Enable what can be used now."""
        measured = self.comparisons is not None and bool(self.comparisons.usable)
        self.grid_button.setEnabled(self.grid.shown or bool(self.form.results))
        self.grid_button.setChecked(self.grid.shown or self._grid_wanted)
        self.removed_button.setEnabled(bool(self.form.results))
        self.methods_button.setEnabled(any(map(self.form.is_result, self.form.results)))
        for widget in (self.csv_button, self.figure_button):
            widget.setEnabled(measured)


def _where(comparisons: Comparisons) -> str:
    """The part that was measured."""
    box = next(result.box for result in comparisons.results if result.box is not None)
    size = f"{box.shape[0]} × {box.shape[1]} pixels"
    return " · ".join(filter(None, (comparisons.request.position, size)))


def _compute_removal(removal: Removal, noisy: ImageLayer, result: ImageLayer) -> object:
    return removal.compute(), removal, noisy, result


def _save_figure(path: Path, comparisons: Comparisons, chosen: int) -> Path:
    save_figure(path, comparisons, chosen)
    return path


def open_compare(viewer: Viewer, source: ImageLayer | None = None, result: ImageLayer | None = None) -> ComparePanel:
    """Show the panel of a viewer, in a tab beside the others, with these layers chosen.

    Args:
        viewer: The napari viewer.
        source: The noisy layer.
        result: A result of it.
    """
    panel = find_panel(viewer, ComparePanel)
    if panel is None:
        panel = ComparePanel(viewer)
        viewer.window.add_dock_widget(panel, name="Compare", area="right", tabify=True)
    dock = panel.parentWidget()
    if dock is not None:
        dock.show()
        dock.raise_()
    panel.choose(source, result)
    return panel


def open_panel() -> ComparePanel:
    """Make a panel for the current viewer."""
    return ComparePanel(current_viewer())
