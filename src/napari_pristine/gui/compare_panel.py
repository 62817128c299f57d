"""Dock panel that compares results with the noisy image: side by side, in figures and in plots."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari import Viewer, current_viewer
from napari.layers import Image as ImageLayer
from napari.layers import Layer, Shapes
from napari.utils.colormaps import Colormap
from napari.utils.notifications import show_error, show_info
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QGuiApplication, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QListWidget,
    QListWidgetItem,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from napari_pristine.errors import PristineError
from napari_pristine.gui.compare_job import (
    Candidate,
    Comparisons,
    Line,
    Removal,
    Request,
    compare_layers,
    noisy_plane,
    plane_over,
)
from napari_pristine.gui.compare_table import FigureTable, write_csv
from napari_pristine.gui.grid_view import SideBySide
from napari_pristine.gui.job_runner import LatestCall, report_error
from napari_pristine.gui.layer_select import LayerComboBox
from napari_pristine.gui.layers import image_from_layer, layer_arguments, layer_axes, source_name
from napari_pristine.gui.plots import PLOTS, Colours, draw, save_figure
from napari_pristine.gui.widgets import ask_save_path, button, form_layout, label_for, side_by_side, wrapped_label
from napari_pristine.image.image import Image

try:
    from napari_pristine.recipe_code import methods_paragraph
except ImportError:
    methods_paragraph = None

_WAIT = 250
"""Milliseconds without a change after which the figures are measured again."""
_LIMITS = (-4.0, 4.0)
"""Contrast limits of what was removed, in noise levels."""
_DIVERGING = Colormap(
    ["#053061", "#4393c3", "#f7f7f7", "#d6604d", "#67001f"], name="removed", controls=[0, 0.25, 0.5, 0.75, 1]
)
"""Blue below zero, red above, which colour-blind people can tell apart."""
_LINES = "profile line"


class ComparePanel(QWidget):  # type: ignore[misc]
    """The dock panel that compares results of one noisy image, on the plane that is shown.

    Args:
        viewer: The napari viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.comparisons: Comparisons | None = None
        self.grid = SideBySide(viewer)
        self.noisy_box = LayerComboBox(
            viewer,
            lambda layer: isinstance(layer, ImageLayer) and not source_name(layer),
            "The image before restoring.",
        )
        self.reference_box = LayerComboBox(
            viewer,
            lambda layer: isinstance(layer, ImageLayer) and layer is not self.noisy and not source_name(layer),
            "A clean image of the same scene, if there is one, such as a long exposure.",
            none="none",
        )
        self.result_list = QListWidget()
        self.result_list.setToolTip("The results that are compared.")
        self.result_list.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.grid_button = button(
            "&Side by side", "Noisy, restored, removed and the others beside each other.", self.show_grid
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
        self.line_box = LayerComboBox(
            viewer, lambda layer: isinstance(layer, Shapes), "Layer with the line of the profile.", none="none"
        )
        self.line_row = side_by_side(
            self.line_box.box.native, button("Draw a line", "Draw it over the image with the mouse.", self.draw_line)
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
        self._unchecked: set[str] = set()
        self._added: set[str] = set()
        self._watched: list[Layer] = []
        self._measuring, self._removing, self._saving = LatestCall(), LatestCall(), LatestCall()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WAIT)
        self._timer.timeout.connect(self.measure)
        self._lay_out()
        self._connect()
        self.reset_choices()

    @property
    def noisy(self) -> ImageLayer | None:
        """The noisy layer; none if there is no image."""
        return self.noisy_box.layer

    @property
    def results(self) -> list[ImageLayer]:
        """The results that are compared."""
        items = [self.result_list.item(number) for number in range(self.result_list.count())]
        names = {item.text() for item in items if item.checkState() == Qt.CheckState.Checked}
        return [layer for layer in self._candidates() if layer.name in names]

    def choose(self, source: ImageLayer | None, result: ImageLayer | None) -> None:
        """Choose a noisy image, and a result to compare with it."""
        if source is not None and source in self.viewer.layers:
            self.noisy_box.choose(source)
        if result is not None:
            self._unchecked.discard(result.name)
            self._added.add(result.name)
        self.reset_choices()

    def reset_choices(self, _: object = None) -> None:
        """Update to the layers of the viewer; napari calls this when they change."""
        self.noisy_box.refresh()
        self.reference_box.refresh()
        self.line_box.refresh()
        blocked = self.result_list.blockSignals(True)
        self.result_list.clear()
        for layer in self._candidates():
            item = QListWidgetItem(layer.name)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            chosen = layer.name in self._added or (self._is_result(layer) and layer.name not in self._unchecked)
            item.setCheckState(Qt.CheckState.Checked if chosen else Qt.CheckState.Unchecked)
            self.result_list.addItem(item)
        self.result_list.blockSignals(blocked)
        self._watch()
        self.schedule()

    def schedule(self, _: object = None) -> None:
        """Measure again soon, once nothing changes any more."""
        self._timer.start()

    def measure(self) -> None:
        """Measure the chosen results on the plane that is shown."""
        if not self.isVisible():
            return  # it is measured when it is shown
        request = self._request()
        if request is None or not request.candidates:
            self.comparisons = None
            self._show("Restore an image, or choose a result." if request else "Open an image first.")
            return
        self.status.setText("Measuring …")
        self._measuring.start(partial(compare_layers, request))

    def show_grid(self) -> None:
        """Show the layers side by side, or again what was shown before."""
        if self.grid.shown:
            self.grid.hide()
        elif self.noisy is not None and self.results:
            missing = next((result for result in self.results if self._part(result, "removed") is None), None)
            if missing is not None and self._start_removal(missing):
                self.status.setText("Computing what was removed …")
                return  # they are shown when it is there
            self._show_all()
        self._update_enabled()

    def show_removed(self) -> None:
        """Show what the first chosen result has removed; the layer is made again if there is one."""
        if self.results:
            self._start_removal(self.results[0])

    def draw_line(self) -> None:
        """Let the user draw a line over the image."""
        layer = self.line_box.layer
        if layer is None:
            arguments = {"ndim": 2, "name": _LINES, "edge_color": "#E69F00", "edge_width": 1}
            if self.noisy is not None:
                arguments |= {"scale": self.noisy.scale[-2:], "units": self.noisy.units[-2:]}
            layer = self.viewer.add_shapes(None, **arguments)
            self.line_box.choose(layer)
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
        made = [layer.metadata["pristine"] for layer in self.results if self._is_result(layer)]
        try:
            text = "\n\n".join(_methods_text(facts) for facts in made)
        except PristineError as error:
            show_error(str(error))
            return
        QGuiApplication.clipboard().setText(text)
        show_info("A paragraph for the methods section is in the clipboard.")

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self.schedule()

    def _lay_out(self) -> None:
        choices = QWidget()
        rows = form_layout(choices)
        for text, field in (
            ("Noisy image", self.noisy_box.box.native),
            ("Results", self.result_list),
            ("Reference", self.reference_box.box.native),
        ):
            rows.addRow(label_for(field, text), field)
        line_height = self.fontMetrics().height()
        self.result_list.setFixedHeight(4 * line_height)
        layout = QVBoxLayout(self)
        layout.setSpacing(4)
        layout.addWidget(choices)
        layout.addWidget(side_by_side(self.grid_button, self.removed_button))
        layout.addWidget(self.table, stretch=3)
        layout.addWidget(self.tabs)
        layout.addWidget(self.canvas, stretch=2)
        layout.addWidget(self.line_row)
        layout.addWidget(self.status)
        layout.addWidget(side_by_side(self.csv_button, self.figure_button, self.methods_button))

    def _connect(self) -> None:
        self.noisy_box.box.changed.connect(self._on_noisy)
        for box in (self.reference_box.box, self.line_box.box):
            box.changed.connect(self._on_choice)
        self.result_list.itemChanged.connect(self._on_checked)
        self.tabs.currentChanged.connect(self._draw)
        self.viewer.dims.events.current_step.connect(self.schedule)
        self._measuring.returned.connect(self._on_measured)
        self._removing.returned.connect(self._on_removed)
        self._saving.returned.connect(self._on_saved)
        for call in (self._measuring, self._removing, self._saving):
            call.errored.connect(self._on_error)
            self.destroyed.connect(call.stop)

    def _candidates(self) -> list[ImageLayer]:
        """Layers that may be results: those of the noisy image first, then other images without a source."""
        others = [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, ImageLayer) and layer not in (self.noisy, self.reference_box.layer)
        ]
        mine = [layer for layer in others if self._is_result(layer)]
        return [*mine, *(layer for layer in others if not source_name(layer))]

    def _is_result(self, layer: Layer) -> bool:
        """True if a layer is a finished result of the noisy image."""
        if self.noisy is None or source_name(layer) != self.noisy.name:
            return False
        return "recipe" in layer.metadata["pristine"]

    def _part(self, result: ImageLayer, kind: str) -> ImageLayer | None:
        """The layer with what was removed by a result, or with its uncertainty."""
        name = f"{result.name}, {kind}"
        return next((layer for layer in self.viewer.layers if layer.name == name and source_name(layer)), None)

    def _request(self) -> Request | None:
        """All that is to be measured; none without a noisy image."""
        noisy, dims = self.noisy, self.viewer.dims
        if noisy is None:
            return None
        candidates = []
        for layer in self.results:
            facts = layer.metadata.get("pristine") if self._is_result(layer) else {}
            try:
                candidates.append(Candidate(layer.name, facts or {}, plane_over(layer, noisy, dims)))
            except PristineError as error:
                candidates.append(Candidate(layer.name, facts or {}, problem=str(error)))
        reference, problem = None, ""
        if self.reference_box.layer is not None:
            try:
                reference = plane_over(self.reference_box.layer, noisy, dims)
            except PristineError as error:
                problem = str(error)
        if problem:
            candidates = [Candidate(known.name, known.facts, problem=problem) for known in candidates]
        image = image_from_layer(noisy, layer_axes(noisy))
        pixel, unit = _pixel_size(image)
        limits = (0.0, 255.0) if noisy.rgb else tuple(map(float, noisy.contrast_limits))
        return Request(
            noisy.name, noisy_plane(noisy, dims), tuple(candidates), reference, self._line(noisy), pixel, unit,
            (limits[0], limits[1]),
        )  # fmt: skip

    def _line(self, noisy: ImageLayer) -> Line | None:
        """Both ends of the last line of the chosen layer of shapes, in pixels of the noisy image."""
        shapes = self.line_box.layer
        if shapes is None or not len(shapes.data):
            return None
        axes = layer_axes(noisy)
        rows = [axes.index("Y"), axes.index("X")]
        ends = [noisy.world_to_data(shapes.data_to_world(shapes.data[-1][end])) for end in (0, -1)]
        (y0, x0), (y1, x1) = ([float(place[row]) for row in rows] for place in ends)
        return (y0, x0), (y1, x1)

    def _start_removal(self, result: ImageLayer) -> bool:
        """Start to compute what a result has removed; returns whether it can be computed."""
        assert self.noisy is not None
        try:
            removal = Removal.of(self.noisy, result, self.viewer.dims)
        except PristineError as error:
            show_error(str(error))
            return False
        self._removing.start(partial(_compute_removal, removal, self.noisy, result))
        return True

    def _on_removed(self, found: tuple[Any, Removal, ImageLayer, ImageLayer]) -> None:
        """Show what was removed, in a layer above the others."""
        data, removal, noisy, result = found
        if noisy not in self.viewer.layers or result not in self.viewer.layers:
            return
        layer = self._part(result, "removed")
        if layer is not None:
            layer.data = data
            layer.visible = True
        else:
            image = image_from_layer(noisy, layer_axes(noisy))
            arguments = layer_arguments(noisy, image, removal.part)
            arguments |= {"rgb": False, "colormap": _DIVERGING, "contrast_limits": _LIMITS, "gamma": 1.0}
            arguments |= {"blending": "translucent", "metadata": {"pristine": {"source": noisy.name}}}
            self.viewer.add_image(data, name=f"{result.name}, removed", **arguments)
        if self.grid_button.isChecked():
            self.show_grid()  # the next one that is missing, or all

    def _show_all(self) -> None:
        layers = [self.noisy, self.reference_box.layer]
        for result in self.results:
            layers += [result, self._part(result, "removed"), self._part(result, "uncertainty")]
        self.grid.show([layer for layer in layers if layer is not None])
        self.status.setText("")

    def _on_measured(self, comparisons: Comparisons) -> None:
        self.comparisons = comparisons
        problems = [result.candidate.problem for result in comparisons.results if result.candidate.problem]
        self._show("\n".join(dict.fromkeys(problems)) or _where(comparisons))

    def _on_saved(self, path: Path) -> None:
        self.status.setText(f"Saved {path.name}.")

    def _on_error(self, error: Exception) -> None:
        self.grid_button.setChecked(self.grid.shown)
        self.status.setText(f"Failed: {error}")
        report_error(error, str(error))

    def _on_noisy(self, _: object = None) -> None:
        self._unchecked, self._added = set(), set()
        self.reset_choices()

    def _on_choice(self, _: object = None) -> None:
        self.reset_choices()

    def _on_checked(self, item: QListWidgetItem) -> None:
        chosen, others = self._added, self._unchecked
        if item.checkState() != Qt.CheckState.Checked:
            chosen, others = others, chosen
        chosen.add(item.text())
        others.discard(item.text())
        self._watch()
        self.schedule()

    def _watch(self) -> None:
        """Measure again when the values of a layer change, as with the strength of a result, or the line."""
        layers = [self.noisy, self.reference_box.layer, self.line_box.layer, *self.results]
        for layer in self._watched:
            layer.events.data.disconnect(self.schedule)
        self._watched = [layer for layer in layers if layer is not None]
        for layer in self._watched:
            layer.events.data.connect(self.schedule)

    def _show(self, status: str) -> None:
        self.status.setText(status)
        self.table.show_figures(self.comparisons)
        self._draw()
        self._update_enabled()

    def _draw(self, _: int = 0) -> None:
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
            draw(axes, name, self.comparisons, colours)
            figure.subplots_adjust(left=0.15, right=0.97, bottom=0.22, top=0.96)
        self.canvas.draw_idle()

    def _update_enabled(self) -> None:
        """Enable what can be used now."""
        measured = self.comparisons is not None and bool(self.comparisons.usable)
        self.grid_button.setEnabled(self.grid.shown or bool(self.results))
        self.grid_button.setChecked(self.grid.shown)
        for widget in (self.removed_button, self.methods_button):
            widget.setEnabled(bool(self.results))
        self.methods_button.setEnabled(any(map(self._is_result, self.results)))
        for widget in (self.csv_button, self.figure_button):
            widget.setEnabled(measured)


def _pixel_size(image: Image) -> tuple[float, str]:
    """Pixel size along X with its unit, `px` if it is not known."""
    unit = image.units[image.axes.index("X")]
    if unit == "pixel":
        return 1.0, "px"
    return image.scale[image.axes.index("X")], {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm"}.get(
        unit, unit
    )


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


def _methods_text(facts: dict[str, Any]) -> str:
    """A paragraph on how a result was made."""
    if methods_paragraph is not None:
        return str(methods_paragraph(facts))
    recipe, versions = facts["recipe"], facts.get("versions") or {}
    choice = recipe.get("choice") or recipe
    return (
        f"Noise was removed with napari-pristine {versions.get('napari-pristine', '')} by the method "
        f"'{choice['method']}' (preset '{choice['preset']}')."
    )


def open_compare(viewer: Viewer, source: ImageLayer | None = None, result: ImageLayer | None = None) -> ComparePanel:
    """Show the panel of a viewer, in a tab beside the others, with these layers chosen.

    Args:
        viewer: The napari viewer.
        source: The noisy layer.
        result: A result of it.
    """
    docked = getattr(viewer.window, "dock_widgets", {})  # new in napari 0.6.2
    panel = next((widget for widget in docked.values() if isinstance(widget, ComparePanel)), None)
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
