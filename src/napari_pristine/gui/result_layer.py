"""The layer that shows a result, and what is known of how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari import Viewer
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QTimer

from napari_pristine.events import Preview
from napari_pristine.gui.grid_view import grid_of
from napari_pristine.gui.layers import layer_arguments, layer_data
from napari_pristine.gui.mixture import Mixture
from napari_pristine.gui.origin import is_result_of, result_facts, result_metadata
from napari_pristine.gui.progress_view import Report
from napari_pristine.image.image import Image
from napari_pristine.image.tiling import repeat
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import Restored
from napari_pristine.recipe import Recipe
from napari_pristine.settings import settings_of

_MOST_NAMED = 2
"""Number of settings that the name of a layer has at most."""
_SNAPSHOT_BYTES = 2**28
"""Memory for the snapshots of a fit; when it is full, every other one is dropped."""
_DRAWN = 200
"""Milliseconds after which the canvas has drawn a layer."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A layer as it was before a job, to show it again if the job is cancelled."""

    layer: ImageLayer
    is_preview: bool
    mixture: Mixture | None
    snapshots: list[tuple[int, np.ndarray]]
    attributes: Mapping[str, Any]


class ResultLayer:
    """The layer that shows the results of one image: previews of a job, then what it has restored.

    The image is hidden meanwhile, as additive layers would add up. The next job on it uses the same layer, unless the
    layer holds a result under another name. A job that is cancelled leaves the layer as it was before.

    Args:
        viewer: The napari viewer.
        source: The layer that is restored.

    Attributes:
        layer: The layer; none before there is something to show.
        is_preview: True if only the visible part was restored.
        mixture: The result and the image, with the share of each in what is shown; none before there is a result.
        snapshots: The fit after some of its steps, with their number; the last is the result.
        steps: Number of steps of the fit, if there is only one.
        stopped: True if a rule has ended it before the last of them.
        report: The words about the last job.
    """

    def __init__(self, viewer: Viewer, source: ImageLayer) -> None:
        self.viewer, self.source = viewer, source
        self.layer: ImageLayer | None = None
        self.is_preview = True
        self.mixture: Mixture | None = None
        self.snapshots: list[tuple[int, np.ndarray]] = []
        self.steps, self.stopped = 0, False
        self.report: Report | None = None
        self._name = ""
        self._image: Image | None = None
        self._plan: RestorationPlan | None = None
        self._arguments: dict[str, Any] = {}
        self._steps: tuple[int, ...] = ()
        self._restored: Any = None
        self._shown: Any = None
        self._filled: Any = None
        self._before: Shown | None = None
        self._retired: list[ImageLayer] = []
        self._home: tuple[int, ...] = ()
        self._outside = False
        viewer.dims.events.current_step.connect(self._on_moved)

    def begin(self, image: Image, name: str, *, is_preview: bool) -> None:
        """Begin a job.

        Args:
            image: The source as an image.
            name: Name of the layer.
            is_preview: True if only the visible part is restored.
        """
        own = None if self.deleted else self.layer
        known, preview = self._result_named(name), own if self.is_preview else None
        self.layer = known or preview  # a result under another name stays as it is
        if preview is not None and preview is not self.layer:
            self._retire(preview)
        self._before = None
        if (shown := self.layer or own) is not None:
            mine = shown is own
            mixture, snapshots = (self.mixture, self.snapshots) if mine else (None, [])
            attributes = {key: getattr(shown, key) for key in ("data", "scale", "translate", "name")}
            attributes["metadata"] = dict(shown.metadata)  # the layer keeps one that it changes
            self._before = Shown(shown, mine and self.is_preview, mixture, snapshots, attributes)
        self._image, self._name, self.is_preview = image, name, is_preview
        self._plan = self._restored = self._filled = self.mixture = None
        self.snapshots = []
        self._steps = self._home = self.viewer.dims.current_step

    def distinct(self, name: str, recipe: Recipe) -> str:
        """A name for a result: with the settings that differ from those of a result of that name, which stays."""
        known = self._result_named(name)
        if known is None:
            return name
        before, now = result_facts(known)["recipe"]["settings"], recipe.model_dump(mode="json")["settings"]
        titles = {setting.name: setting.title.lower() for setting in settings_of(type(recipe.params))}
        changed = [f"{titles[key]} {now[key]}" for key in titles if before.get(key, now[key]) != now[key]]
        return ", ".join([name, *changed[:_MOST_NAMED]])

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
            step: Step of the only fit of the job, which is kept as a snapshot; 0 if there are several.
        """
        if self._plan is None or self.deleted:
            return
        if self._restored is None:
            self._restored = self._background(self._plan)
            self._show(self._restored)
        assert self.layer is not None
        self._restored[preview.index] = preview.data
        if preview.filled is not None:
            if self._filled is None:
                self._filled = np.zeros(self._restored.shape, bool)  # memory is taken only where it is written
            self._filled[preview.index] = preview.filled
        if step:
            self._add_snapshot(step, np.reshape(preview.data, self._restored.shape).copy())
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
            box = _box(image, done)
            if self._filled is not None:
                self._filled = replace(image, data=self._filled).select(box).data
            image, noisy = _restored_part(image, done), noisy.select(box)
        self._arguments = layer_arguments(self.source, self._image, image)
        self._show(image.data)
        assert self.layer is not None
        if self.viewer.dims.current_step == self._steps and len(self._home) == len(self._steps):
            self._steps = self.viewer.dims.current_step = self._home  # back to where the user was
        self._go_to(tuple(0 for _ in image.shape), only_if_outside=True)
        self.layer.metadata = self._metadata(restored.provenance())
        if restored.uncertainty is not None and not self.is_preview:
            self._add_uncertainty(restored.uncertainty if done is None else _restored_part(restored.uncertainty, done))
        if self.snapshots:  # of these, the last may be the result, too
            last, values = self.snapshots[-1]
            fits = self.snapshots[:-1] if np.array_equal(values, image.data) else self.snapshots
            self.snapshots = [*fits, (last, image.data)]
        noisy_data = noisy.data if noisy.shape == image.shape else None
        self.mixture = Mixture(image, noisy_data, self._filled, (1.0,) * image.size("C"))
        self._shown = self.layer.data
        # they hold the data of the original layer
        self._image = self._plan = self._restored = self._filled = self._before = None

    @property
    def can_mix(self) -> bool:
        """True if the result can be mixed with the noisy image."""
        return self.mixture is not None and self.mixture.noisy is not None and self.is_own

    @property
    def is_own(self) -> bool:
        """True if the layer shows the result, which another panel may have replaced by its own."""
        return self.layer is not None and not self.deleted and self.layer.data is self._shown

    @property
    def strengths(self) -> tuple[float, ...]:
        """Share of the result in what is shown, for each channel."""
        return self.mixture.strengths if self.mixture is not None else (1.0,)

    @property
    def channel(self) -> int:
        """The channel that the viewer shows; 0 if there is only one."""
        if self.mixture is None or self.layer is None or "C" not in self.mixture.axes:
            return 0
        axis = self.mixture.axes.index("C")
        place = self.layer.world_to_data(self.viewer.dims.point)[-self.layer.ndim :][axis]
        return int(np.clip(np.rint(place), 0, len(self.strengths) - 1))

    def show_snapshot(self, number: int) -> None:
        """Show a snapshot of the fit in place of the result, which is the last of them."""
        if self.layer is None or self.mixture is None or not self.is_own:
            return
        step, restored = self.snapshots[number]
        self.mixture = replace(self.mixture, image=replace(self.mixture.image, data=restored))
        known = {name: value for name, value in result_facts(self.layer).items() if name != "snapshot"}
        if number < len(self.snapshots) - 1:
            known["snapshot"] = f"step {step}, not refined"
        self.layer.data, self.layer.metadata = self.mixture.values(), self._metadata(known)
        self._shown = self.layer.data

    def mix(self, strengths: Sequence[float]) -> None:
        """Show the result mixed with the noisy image, by its share in each channel."""
        if self.layer is None or self.mixture is None or not self.can_mix:
            return
        self.mixture = replace(self.mixture, strengths=tuple(strengths))
        known = result_facts(self.layer)
        recipe = {**known["recipe"], "strength": self.recipe_strength}
        self.layer.data, self.layer.metadata = self.mixture.values(), self._metadata({**known, "recipe": recipe})
        self._shown = self.layer.data

    @property
    def recipe_strength(self) -> list[float]:
        """The strengths as a recipe names them: none if they are full, one if they are equal."""
        different = set(self.strengths)
        if len(different) == 1:
            return [] if different == {1.0} else list(different)
        samples = layer_data(self.source).shape[-1] if self.source.rgb else 1
        return [share for share in self.strengths for _ in range(samples)]

    def _on_moved(self, _: object = None) -> None:
        """Show the image where there is no slice of the result, such as beside the frame of a preview."""
        if self.layer is None or self.deleted or not self.layer.visible:
            return
        dims, layer = self.viewer.dims, self.layer
        place = layer.world_to_data(dims.point)[-layer.ndim :]
        hidden = [axis for axis in range(layer.ndim) if axis + dims.ndim - layer.ndim not in dims.displayed]
        outside = any(not -0.5 <= place[axis] < layer_data(layer).shape[axis] - 0.5 for axis in hidden)
        if outside != self._outside and self.source in self.viewer.layers:
            self.source.visible = self._outside = outside

    def discard(self) -> None:
        """Show at once what there was before the job, if there is one; events that arrive later change nothing."""
        if self._image is None and not self.deleted:
            return
        self._image = self._plan = self._restored = self._filled = self.mixture = None
        self.snapshots = []
        before, self._before = self._before, None
        if self.layer is not None and not self.deleted and (before is None or self.layer is not before.layer):
            self._retire(self.layer)
        if before is not None and before.layer in self.viewer.layers:
            self.layer = before.layer
            for name, value in before.attributes.items():
                setattr(self.layer, name, value)
            self.is_preview, self.mixture, self.snapshots = before.is_preview, before.mixture, before.snapshots
            self.layer.visible = True
        else:
            self.layer, self.is_preview = None, True
        if self.source in self.viewer.layers:
            self.source.visible = self.layer is None
        self._outside = False
        self._on_moved()

    def remove(self) -> None:
        """Remove the layers that were hidden.

        Before, each is shown with nothing to see in it: with Mesa's drivers, napari crashes if a layer is removed that
        was hidden, or in another slice, when the canvas was drawn last.
        """
        retired, self._retired = [layer for layer in self._retired if layer in self.viewer.layers], []
        for layer in retired:
            layer.opacity = 0
            layer.data = np.broadcast_to(np.zeros((), layer.dtype), layer_data(self.source).shape)
            layer.scale, layer.translate = self.source.scale, self.source.translate
            layer.visible = True
        if retired:
            QTimer.singleShot(_DRAWN, lambda: _remove(self.viewer, retired, self.source))

    def _result_named(self, name: str) -> ImageLayer | None:
        """The layer of this name with a result of the source, of this panel or another one."""
        for layer in self.viewer.layers:
            if layer.name == name and is_result_of(layer, self.source) and "recipe" in result_facts(layer):
                return layer
        return None

    def _retire(self, layer: ImageLayer) -> None:
        """Hide a layer; it is removed when the job has ended, as that takes a while."""
        layer.visible = False
        layer.metadata = result_metadata(self.source, {})
        self._retired.append(layer)

    def _add_snapshot(self, step: int, values: np.ndarray) -> None:
        if self.snapshots and values.nbytes * len(self.snapshots) > _SNAPSHOT_BYTES:
            del self.snapshots[-2::-2]
        self.snapshots.append((step, values))

    def _show(self, data: Any) -> None:
        """Show data in the layer with its position; it is made if there is none, and the source is hidden."""
        arguments = {**self._arguments, "metadata": self._metadata({})}
        if self.layer is None:
            chosen = self.viewer.layers.selection.active
            self.layer = self.viewer.add_image(data, name=self._name, **arguments)
            if chosen is not self.source and chosen in self.viewer.layers and not is_result_of(chosen, self.source):
                self.viewer.layers.selection.active = chosen  # the user is at another image already
        else:
            self.layer.data = data
            for name in ("scale", "translate", "metadata"):
                setattr(self.layer, name, arguments[name])
            self.layer.name = self._name
            self.layer.visible = True
        if not grid_of(self.viewer).enabled:
            for other in self.viewer.layers:  # which would lie above, or add up
                if other is not self.layer and is_result_of(other, self.source):
                    other.visible = False
        self.source.visible = self._outside = False

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
        name = f"{self._name}, uncertainty"
        for layer in self.viewer.layers:
            if layer.name == name and is_result_of(layer, self.source):
                layer.data, layer.scale, layer.translate = data, arguments["scale"], arguments["translate"]
                layer.contrast_limits = arguments["contrast_limits"]
                return
        self.viewer.add_image(data, name=name, **arguments)
        self.viewer.layers.selection.active = shown

    @staticmethod
    def _background(plan: RestorationPlan) -> np.ndarray:
        """Pixels where nothing is restored yet: the image if it is in memory, else zeros, which take no memory."""
        shape = plan.output_blocks.shape
        if type(plan.image.data) is not np.ndarray:  # lazy, or a memory map
            return np.zeros(shape, plan.dtype)
        factors = tuple(fine // coarse for fine, coarse in zip(shape, plan.image.shape, strict=True))
        return repeat(plan.image.data, factors) if max(factors) > 1 else plan.image.data.copy()


def _remove(viewer: Viewer, layers: list[ImageLayer], source: ImageLayer) -> None:
    """Remove layers that are made of a source; it is selected if one of them was."""
    for layer in [layer for layer in layers if layer in viewer.layers]:
        was_active = viewer.layers.selection.active is layer
        viewer.layers.remove(layer)
        if was_active and source in viewer.layers:
            viewer.layers.selection.active = source  # the controls show it again, as before the job


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
