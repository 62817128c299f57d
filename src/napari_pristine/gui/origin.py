"""Facts on the origin of layers: results know the image that they were made of, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.layers import Layer

_PRISTINE, _SOURCE, _SOURCE_ID = "pristine", "source", "pristine source"
"""Keys of a result's metadata: its facts, among them the name of the layer that it was made of; and the latter's id."""


def result_facts(layer: Layer) -> dict[str, Any]:
    """Facts on the origin of a layer, such as its recipe; empty for layers that are not made by this software."""
    known = layer.metadata.get(_PRISTINE) if isinstance(layer, ImageLayer) else None
    return known if isinstance(known, dict) else {}


def source_name(layer: Layer) -> str:
    """Name of the layer that a layer is a result of; empty for layers that are no results."""
    return str(result_facts(layer).get(_SOURCE, ""))


def result_metadata(source: ImageLayer, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata by which a layer is known as a result of another one, with the facts on how it was made."""
    return {_PRISTINE: {**facts, _SOURCE: source.name}, _SOURCE_ID: str(source.unique_id)}


def is_result_of(layer: Layer, source: Layer) -> bool:
    """Tell whether a layer is a result of another one; names may have changed, or be those of another image."""
    name = source_name(layer)
    return bool(name) and layer.metadata.get(_SOURCE_ID, name) in (str(source.unique_id), source.name)


def source_of(layer: Layer, viewer: Viewer) -> Layer | None:
    """The layer in the viewer that a layer is a result of."""
    return next((other for other in viewer.layers if is_result_of(layer, other)), None)


def show_sources(viewer: Viewer) -> Callable[[], None]:
    """Show the noisy images in place of their results; returns a function that shows again what was shown."""
    shown = [(layer, source_of(layer, viewer)) for layer in viewer.layers if layer.visible]
    pairs = [(result, source) for result, source in shown if source is not None]
    before = [(layer, layer.visible) for pair in pairs for layer in pair]
    for result, source in pairs:
        result.visible, source.visible = False, True

    def show_again() -> None:
        for layer, visible in before:
            layer.visible = visible

    return show_again
