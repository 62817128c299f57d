"""Choice of the noisy image, its results, a reference and the line of a profile."""

from __future__ import annotations

from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.layers import Layer, Shapes
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QWidget

from napari_pristine.errors import PristineError
from napari_pristine.gui.compare_job import Candidate, Line, Request, noisy_plane, plane_over
from napari_pristine.gui.layer_select import LayerComboBox
from napari_pristine.gui.layers import image_from_layer, layer_axes, pixel_size
from napari_pristine.gui.origin import is_result_of, result_facts, source_name
from napari_pristine.gui.widgets import form_layout, label_for

_LINES_SHOWN = 4
"""Height of the list of results, in lines."""


class CompareForm(QWidget):  # type: ignore[misc]
    """Choice of what is compared; `changed` is emitted when it changes, or the values of one of the layers.

    Args:
        viewer: The napari viewer.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.noisy_box = LayerComboBox(
            viewer,
            lambda layer: isinstance(layer, ImageLayer) and not source_name(layer),
            "The image before restoring.",
        )
        self.reference_box = LayerComboBox(
            viewer,
            lambda layer: isinstance(layer, ImageLayer) and layer != self.noisy and not source_name(layer),
            "A clean image of the same scene, if there is one, such as a long exposure.",
            none="none",
        )
        self.line_box = LayerComboBox(
            viewer, lambda layer: isinstance(layer, Shapes), "Layer with the line of the profile.", none="none"
        )
        self.result_list = QListWidget()
        self.result_list.setToolTip("The results that are compared.")
        self.result_list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.result_list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.result_list.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.result_list.setFixedHeight(_LINES_SHOWN * self.fontMetrics().height())
        self._unchecked: set[str] = set()
        self._added: set[str] = set()
        self._watched: list[Layer] = []
        rows = form_layout(self)
        for text, field in (
            ("Noisy image", self.noisy_box.box.native),
            ("Results", self.result_list),
            ("Reference", self.reference_box.box.native),
        ):
            rows.addRow(label_for(field, text), field)
        self.noisy_box.box.changed.connect(self._on_noisy)
        for box in (self.reference_box.box, self.line_box.box):
            box.changed.connect(self.refresh)
        self.result_list.itemChanged.connect(self._on_checked)
        self.refresh()

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

    @property
    def reference(self) -> ImageLayer | None:
        """The reference; none if there is none."""
        return self.reference_box.layer

    def choose(self, source: ImageLayer | None, result: ImageLayer | None) -> None:
        """Choose a noisy image, and a result to compare with it."""
        if source is not None and source in self.viewer.layers:
            self.noisy_box.choose(source)
        if result is not None:
            self._unchecked.discard(result.name)
            self._added.add(result.name)
        self.refresh()

    def refresh(self, _: object = None) -> None:
        """Update the choices to the layers of the viewer."""
        for box in (self.noisy_box, self.reference_box, self.line_box):
            box.refresh()
        blocked = self.result_list.blockSignals(True)
        self.result_list.clear()
        for layer in self._candidates():
            item = QListWidgetItem(layer.name)
            item.setToolTip(layer.name)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            chosen = layer.name in self._added or (self.is_result(layer) and layer.name not in self._unchecked)
            item.setCheckState(Qt.CheckState.Checked if chosen else Qt.CheckState.Unchecked)
            self.result_list.addItem(item)
        self.result_list.blockSignals(blocked)
        self._watch()
        self.changed.emit()

    def is_result(self, layer: Layer) -> bool:
        """True if a layer is a finished result of the noisy image."""
        if self.noisy is None or not is_result_of(layer, self.noisy):
            return False
        return "recipe" in result_facts(layer)

    def request(self) -> Request | None:
        """All that is to be measured; none without a noisy image."""
        noisy, dims = self.noisy, self.viewer.dims
        if noisy is None:
            return None
        candidates = []
        for layer in self.results:
            facts = result_facts(layer) if self.is_result(layer) else {}
            try:
                candidates.append(Candidate(layer.name, facts, plane_over(layer, noisy, dims)))
            except PristineError as error:
                candidates.append(Candidate(layer.name, facts, problem=str(error)))
        reference, problem = None, ""
        if self.reference is not None:
            try:
                reference = plane_over(self.reference, noisy, dims)
            except PristineError as error:
                problem = str(error)
        if problem:
            candidates = [Candidate(known.name, known.facts, problem=problem) for known in candidates]
        image = image_from_layer(noisy, layer_axes(noisy))
        pixel, unit = pixel_size(image)
        limits = (0.0, 255.0) if noisy.rgb else tuple(map(float, noisy.contrast_limits))
        return Request(
            noisy.name, noisy_plane(noisy, dims), tuple(candidates), reference, self._line(noisy), pixel, unit,
            (limits[0], limits[1]),
        )  # fmt: skip

    def _candidates(self) -> list[ImageLayer]:
        """Layers that may be results: those of the noisy image first, then other images without a source."""
        others = [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, ImageLayer) and layer not in (self.noisy, self.reference)
        ]
        mine = [layer for layer in others if self.is_result(layer)]
        return [*mine, *(layer for layer in others if not source_name(layer))]

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

    def _on_noisy(self, _: object = None) -> None:
        self._unchecked, self._added = set(), set()
        self.refresh()

    def _on_checked(self, item: QListWidgetItem) -> None:
        chosen, others = self._added, self._unchecked
        if item.checkState() != Qt.CheckState.Checked:
            chosen, others = others, chosen
        chosen.add(item.text())
        others.discard(item.text())
        self._watch()
        self.changed.emit()

    def _watch(self) -> None:
        """Measure again when the values of a layer change, as with the strength of a result, or the line."""
        layers = [self.noisy, self.reference, self.line_box.layer, *self.results]
        for layer in self._watched:
            layer.events.data.disconnect(self._on_data)
        self._watched = [layer for layer in layers if layer is not None]
        for layer in self._watched:
            layer.events.data.connect(self._on_data)

    def _on_data(self, _: object = None) -> None:
        self.changed.emit()
