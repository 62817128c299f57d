"""The layer that shows a result, and what is known of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from napari import Viewer
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from napari_pristine.events import Preview
from napari_pristine.gui.layers import layer_arguments
from napari_pristine.image.image import Image
from napari_pristine.image.intensity import cast
from napari_pristine.image.tiling import repeat
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import Restored

_PRISTINE, _SOURCE = "pristine", "source"
"""Keys of a result's metadata: its facts, and among them the name of the layer that it was made of."""
_MAX_SNAPSHOTS = 100
"""Maximum number of snapshots of a fit that are kept."""
_HOT = 8.0
"""Noise levels from which a pixel counts as an outlier, which is not mixed in again."""


def result_facts(layer: Layer) -> dict[str, Any]:
    """Facts on the origin of a layer, such as its recipe; empty for layers that are not made by this software."""
    known = layer.metadata.get(_PRISTINE) if isinstance(layer, ImageLayer) else None
    return known if isinstance(known, dict) else {}


def source_name(layer: Layer) -> str:
    """Name of the layer that a layer is a result of; empty for layers that are no results."""
    return str(result_facts(layer).get(_SOURCE, ""))


def result_metadata(source: ImageLayer, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata by which a layer is known as a result of another one, with the facts on how it was made."""
    return {_PRISTINE: {**facts, _SOURCE: source.name}}


class ResultLayer:
    """The layer that shows the results of one image: previews of a job, then what it has restored.

    The image is hidden meanwhile, as additive layers would add up. The next job on it uses the same layer, unless the
    layer holds a result under another name.

    Args:
        viewer: The napari viewer.
        source: The layer that is restored.
    """

    def __init__(self, viewer: Viewer, source: ImageLayer) -> None:
        self.viewer, self.source = viewer, source
        self.layer: ImageLayer | None = None
        self.is_preview = True
        self._name = ""
        self._image: Image | None = None
        self._plan: RestorationPlan | None = None
        self._arguments: dict[str, Any] = {}
        self._steps: tuple[int, ...] = ()
        self._noisy: Any = None
        self._restored: Any = None
        self._sigma = 0.0
        self.snapshots: list[tuple[int, np.ndarray]] = []

    def begin(self, image: Image, name: str, *, is_preview: bool) -> None:
        """Begin a job.

        Args:
            image: The source as an image.
            name: Name of the layer.
            is_preview: True if only the visible part is restored.
        """
        if not self.is_preview and name != self._name:
            self.layer = None  # it stays as it is
        self._image, self._name, self.is_preview = image, name, is_preview
        self._plan = self._noisy = self._restored = None
        self.snapshots = []
        self._steps = self.viewer.dims.current_step

    def set_plan(self, plan: RestorationPlan) -> None:
        """Set the plan of the job, which determines position and size of the layer."""
        if self._image is not None:
            self._arguments = layer_arguments(self.source, self._image, plan.result_image(plan.image.data))
            self._plan = plan

    @property
    def deleted(self) -> bool:
        """True if the user has deleted the layer."""
        return self.layer is not None and self.layer not in self.viewer.layers

    def show_preview(self, preview: Preview, step: int = 0) -> None:
        """Write a block to the layer, and go to the slice that it is in, unless the user has moved since.

        Args:
            preview: The block.
            step: Step of the fit; of an image with a single block, the previews are kept as snapshots.
        """
        if self._plan is None or self.deleted:
            return
        if self._restored is None:
            self._restored = self._background(self._plan)
            self._show(self._restored)
        assert self.layer is not None
        self._restored[preview.index] = preview.data
        if len(self._plan.indices) == 1 and step and len(self.snapshots) < _MAX_SNAPSHOTS:
            self.snapshots.append((step, np.reshape(preview.data, self._restored.shape).copy()))
        self._go_to(preview.index)
        self.layer.refresh()

    def show_result(self, restored: Restored, done: list[tuple[int | slice, ...]] | None = None) -> None:
        """Show the result.

        Args:
            restored: The result.
            done: Regions that are restored, if they are not all; only the box around them is shown, and what is not
                restored inside of it is empty.
        """
        if self._plan is None or self._image is None or self.deleted:
            return
        image, noisy = restored.image, self._plan.image
        if done is not None:
            image, noisy = _restored_part(image, done), noisy.select(_box(image, done))
        self._arguments = layer_arguments(self.source, self._image, image)
        self._show(image.data)
        assert self.layer is not None
        self._go_to(tuple(0 for _ in image.shape), only_if_outside=True)
        self.layer.metadata = self._metadata(restored.provenance())
        if restored.uncertainty is not None and not self.is_preview:
            self._add_uncertainty(restored.uncertainty if done is None else _restored_part(restored.uncertainty, done))
        self.snapshots = [*self.snapshots[:-1], (self.snapshots[-1][0], image.data)] if self.snapshots else []
        same_grid = noisy.shape == image.shape
        self._restored, self._noisy = image.data, noisy.data if same_grid else None
        self._sigma = restored.quality.sigma
        self._image = self._plan = None  # they hold the data of the original layer

    @property
    def can_mix(self) -> bool:
        """True if the result can be mixed with the noisy image."""
        return self._noisy is not None and isinstance(self._restored, np.ndarray) and not self.deleted

    def show_snapshot(self, number: int) -> None:
        """Use a snapshot of the fit in place of the result, which is the last of them."""
        if self.layer is None or self.deleted:
            return
        step, self._restored = self.snapshots[number]
        self.layer.data = self._restored
        known = {name: value for name, value in result_facts(self.layer).items() if name != "snapshot"}
        if number < len(self.snapshots) - 1:
            known["snapshot"] = f"step {step}"
        self.layer.metadata = self._metadata(known)

    def mix(self, strength: float) -> None:
        """Show the result mixed with the noisy image; outliers stay restored."""
        if not self.can_mix or self.layer is None:
            return
        restored, noisy = self._restored, np.asarray(self._noisy)
        if strength < 1:
            difference = restored.astype(np.float32) - noisy
            outlier = ~(np.abs(difference) < _HOT * self._sigma) if self._sigma else np.zeros(noisy.shape, bool)
            shown = cast(np.where(outlier, restored, noisy + strength * difference), restored.dtype)
        else:
            shown = restored
        self.layer.data = shown
        known = result_facts(self.layer)
        recipe = {**known["recipe"], "strength": [] if strength == 1 else [strength]}
        self.layer.metadata = self._metadata({**known, "recipe": recipe})

    def show_source(self, *, shown: bool) -> None:
        """Show the noisy image in place of the result, or the result again."""
        self.source.visible = shown
        if self.layer is not None and not self.deleted:
            self.layer.visible = not shown

    def discard(self) -> None:
        """Hide the layer at once, and show the image again; events that arrive later change nothing."""
        self._image = self._plan = self._restored = self._noisy = None
        self.snapshots = []
        if self.source in self.viewer.layers:
            self.source.visible = True
        if self.layer is not None and not self.deleted:
            self.layer.visible = False

    def remove(self) -> None:
        """Remove the layer that was hidden."""
        if self.layer is not None and not self.deleted and not self.layer.visible:
            layers, was_active = self.viewer.layers, self.viewer.layers.selection.active is self.layer
            layers.remove(self.layer)
            if was_active and self.source in layers:
                layers.selection.active = self.source  # the controls show it again, as before the job
        if self.layer is not None and self.layer not in self.viewer.layers:
            self.layer = None

    def _show(self, data: Any) -> None:
        """Show data in the layer with its position; it is made if there is none, and the source is hidden."""
        arguments = {**self._arguments, "metadata": self._metadata({})}
        if self.layer is None:
            self.layer = self.viewer.add_image(data, name=self._name, **arguments)
        else:
            # the same layer again: removing one while another is added crashes some graphics drivers
            self.layer.data = data
            for name in ("scale", "translate", "metadata"):
                setattr(self.layer, name, arguments[name])
            self.layer.name = self._name
            self.layer.visible = True
        self.source.visible = False

    def _metadata(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._arguments["metadata"], **result_metadata(self.source, facts)}

    def _go_to(self, index: tuple[int | slice, ...], *, only_if_outside: bool = False) -> None:
        """Show the slice in which a block begins, unless it is shown, or the user has moved since the last time."""
        dims, layer = self.viewer.dims, self.layer
        if layer is None or dims.current_step != self._steps:
            return
        offset = dims.ndim - layer.ndim
        first = np.array([part.start or 0 if isinstance(part, slice) else part for part in index[: layer.ndim]])
        stop = [part.stop if isinstance(part, slice) else part + 1 for part in index[: layer.ndim]]
        current = layer.world_to_data(dims.point)[-layer.ndim :]
        start = layer.data_to_world(first)
        for axis in range(layer.ndim):
            last = layer.data.shape[axis] if only_if_outside or stop[axis] is None else stop[axis]
            if axis + offset not in dims.displayed and not first[axis] - 0.5 <= current[axis] < last - 0.5:
                dims.set_point(axis + offset, start[axis])
        self._steps = dims.current_step

    def _add_uncertainty(self, uncertainty: Image) -> None:
        """Add a layer with the uncertainty, under the result; of colours, the largest of all samples is shown."""
        shown, data = self.viewer.layers.selection.active, uncertainty.data
        if self._arguments["rgb"]:
            data = data.max(axis=-1)
        arguments = {key: value for key, value in self._arguments.items() if key not in ("contrast_limits", "gamma")}
        top = float(np.nanmax(data)) if np.isfinite(data).any() else 0.0
        arguments |= {"rgb": False, "colormap": "magma", "contrast_limits": (0, top or 1.0), "visible": False}
        arguments["metadata"] = result_metadata(self.source, {})
        self.viewer.add_image(data, name=f"{self._name}, uncertainty", **arguments)
        self.viewer.layers.selection.active = shown

    @staticmethod
    def _background(plan: RestorationPlan) -> np.ndarray:
        """Pixels where nothing is restored yet: the image if it is in memory, else zeros, which take no memory."""
        shape = plan.output_blocks.shape
        if type(plan.image.data) is not np.ndarray:  # lazy, or a memory map
            return np.zeros(shape, plan.dtype)
        factors = tuple(fine // coarse for fine, coarse in zip(shape, plan.image.shape, strict=True))
        return repeat(plan.image.data, factors) if max(factors) > 1 else plan.image.data.copy()


def _box(image: Image, regions: list[tuple[int | slice, ...]]) -> dict[str, str]:
    """The box around regions of an image, as ranges by axis."""
    ranges = {}
    for axis, letter in enumerate(image.axes):
        parts = [region[axis] for region in regions]
        spans = [part.indices(image.shape[axis])[:2] if isinstance(part, slice) else (part, part + 1) for part in parts]
        ranges[letter] = f"{min(start for start, _ in spans)}:{max(stop for _, stop in spans)}"
    return ranges


def _restored_part(image: Image, done: list[tuple[int | slice, ...]]) -> Image:
    """The box around the regions of a result that are restored; what else lies in it is empty."""
    kept = np.zeros(image.shape, bool)
    for region in done:
        kept[region] = True
    empty = np.array(np.nan if image.dtype.kind == "f" else 0, image.dtype)
    return replace(image, data=np.where(kept, image.data, empty)).select(_box(image, done))
