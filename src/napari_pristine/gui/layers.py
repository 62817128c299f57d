"""Convert layers to images and masks, and show results in layers that look like the original one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from napari import Viewer
from napari.components import Dims
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer, Shapes

from napari_pristine.errors import AxesError
from napari_pristine.events import Preview
from napari_pristine.image.image import AXIS_NAMES, Image, check_axes, guess_axes
from napari_pristine.image.intensity import cast
from napari_pristine.image.tiling import repeat
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import Restored

_PRISTINE, _SOURCE = "pristine", "source"
"""Keys of a result's metadata: how it was made, and the name of the layer that it was made of."""
_PREVIEW_MARGIN = 4
"""Slices on either side of the current one that a preview includes along axes that are fitted together with Y and X."""
_MIN_PREVIEW_SIZE = 64
"""Pixels along Y and X that a preview has at least."""


_UNIT_SYMBOLS = {"micrometer": "µm", "micron": "µm", "um": "µm", "nanometer": "nm", "millimeter": "mm", "angstrom": "Å"}
_MAX_SNAPSHOTS = 100
"""Maximum number of snapshots of a fit that are kept."""
_HOT = 8.0
"""Noise levels from which a pixel counts as an outlier, which is not mixed in again."""


def layer_data(layer: ImageLayer | Labels) -> Any:
    """The data of a layer at full resolution; they may be lazy."""
    return layer.data[0] if layer.multiscale else layer.data


def layer_axes(layer: ImageLayer) -> str:
    """Axes of a layer: from its axis labels if they are letters or known words, else guessed from its shape."""
    shape = tuple(layer_data(layer).shape)
    labels = [str(label).strip().upper() for label in layer.axis_labels]
    axes = "".join(AXIS_NAMES.get(label.lower(), label) for label in labels) + ("S" if layer.rgb else "")
    try:
        check_axes(axes, shape)
    except AxesError:
        return guess_axes(shape[:-1]) + "S" if layer.rgb else guess_axes(shape)
    return axes


def is_guessed(layer: ImageLayer) -> bool:
    """True if the axes of a layer are guessed from its shape, as its axis labels say nothing."""
    labels = [str(label).strip().lower() for label in layer.axis_labels]
    return not all(label in AXIS_NAMES or label.upper() in "TZCYXS" for label in labels)


def describe_image(image: Image) -> str:
    """Axes with their sizes, type and pixel size of an image, such as `T 40 · Y 512 · X 512 · uint16 · 0.108 µm`."""
    parts = [f"{axis} {size}" for axis, size in zip(image.axes, image.shape, strict=True) if axis != "S"]
    parts.append(f"RGB {image.dtype}" if "S" in image.axes else str(image.dtype))
    step, unit = image.scale[image.axes.index("X")], image.units[image.axes.index("X")]
    if unit != "pixel":
        parts.append(f"{step:.3g} {_UNIT_SYMBOLS.get(unit, unit)}")
    return " · ".join(parts)


def source_name(layer: Layer) -> str:
    """Name of the layer that a layer is a result of; empty for layers that are no results."""
    known = layer.metadata.get(_PRISTINE) if isinstance(layer, ImageLayer) else None
    return str(known.get(_SOURCE, "")) if isinstance(known, dict) else ""


def image_from_layer(layer: ImageLayer, axes: str) -> Image:
    """Make an image of a layer; no pixels are read.

    Raises:
        AxesError: The axes do not fit the layer.
    """
    rgb = 1 if layer.rgb else 0
    return Image(
        data=layer_data(layer),
        axes=axes,
        scale=(*(float(step) for step in layer.scale), *[1.0] * rgb),
        units=(*(str(unit) for unit in layer.units), *["pixel"] * rgb),
        translate=(*(float(offset) for offset in layer.translate), *[0.0] * rgb),
        name=layer.name,
    )


def mask_from_layer(layer: ImageLayer | Labels, image: Image) -> Image | None:
    """Make a mask of a layer that has the shape of the image, of the image without colours, or of one Y-X plane.

    Returns:
        The mask; `None` if the layer has another shape.
    """
    shape = tuple(int(size) for size in layer_data(layer).shape)
    plane = "".join(axis for axis in image.axes if axis in "YX")
    for axes in (image.axes, image.axes.replace("S", ""), plane):
        if shape == tuple(map(image.size, axes)):
            return Image(layer_data(layer), axes, name=layer.name)
    return None


def layer_arguments(layer: ImageLayer, image: Image, part: Image) -> dict[str, Any]:
    """Arguments of `add_image`, apart from data and name, for a layer that lies exactly over the original one.

    Args:
        layer: The original layer, whose orientation, units and colours the new one takes over.
        image: The original layer as an image.
        part: The image of the new layer: a part of `image`, possibly on a finer grid.
    """
    ndim = layer.ndim
    step = (np.array(part.scale) / np.array(image.scale))[:ndim]
    start = ((np.array(part.translate) - np.array(image.translate)) / np.array(image.scale))[:ndim]
    arguments: dict[str, Any] = {
        "scale": np.array(layer.scale) * step,
        # napari applies the translation after rotation and shear, but before the affine transform
        "translate": layer.affine.inverse(np.array(layer.data_to_world(start))),
        "metadata": dict(layer.metadata),
        "rgb": layer.rgb,
        "multiscale": False,
    }
    same = [
        "rotate", "shear", "affine", "units", "axis_labels", "blending", "opacity", "gamma",
        "interpolation2d", "interpolation3d", "rendering",
    ]  # fmt: skip
    if not layer.rgb:
        same += ["colormap", "contrast_limits"]
    return arguments | {name: getattr(layer, name) for name in same}


def current_position(layer: ImageLayer, image: Image, dims: Dims) -> dict[str, int]:
    """Index of the current slice along each axis of a layer."""
    position = np.rint(layer.world_to_data(dims.point)).astype(int)
    return {
        axis: int(np.clip(position[number], 0, image.shape[number] - 1))
        for number, axis in enumerate(image.axes[: layer.ndim])
    }


def plane_ranges(layer: ImageLayer, image: Image, together: str, dims: Dims) -> dict[str, str]:
    """The current plane of a layer, all of Y and X; see `visible_ranges`."""
    whole = {axis: f"0:{image.size(axis)}" for axis in "YX"}
    return {**visible_ranges(layer, image, together, dims), **whole}


def shape_ranges(layer: ImageLayer, image: Image, shapes: Shapes) -> dict[str, str]:
    """The box along Y and X around the selected shapes of a layer, or around all of them if none is selected.

    Raises:
        AxesError: There are none, or they lie beside the image.
    """
    chosen = sorted(shapes.selected_data) or range(len(shapes.data))
    corners = [layer.world_to_data(shapes.data_to_world(corner)) for number in chosen for corner in shapes.data[number]]
    if not corners:
        raise AxesError(f"the layer '{shapes.name}' has no shape; draw a rectangle, or choose another region")
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    ranges = {}
    for axis, letter in enumerate(image.axes[: layer.ndim]):
        if letter in "YX":
            start, stop = round(float(low[axis])), round(float(high[axis])) + 1
            if stop <= 0 or start >= image.size(letter):
                raise AxesError(f"the shapes of '{shapes.name}' lie beside the image; draw them over it")
            start, stop = _widen(start, stop, image.size(letter))
            ranges[letter] = f"{start}:{stop}"
    return ranges


def visible_ranges(layer: ImageLayer, image: Image, together: str, dims: Dims) -> dict[str, str]:
    """The visible part of a layer, as ranges for `Image.select`.

    Along Y and X it is the part on the canvas, at least 64 pixels; along other axes it is the current slice, with some
    neighbours (or all channels) if they are fitted together with it.

    Args:
        layer: The layer.
        image: The layer as an image.
        together: Axes that are fitted together.
        dims: Dimensions of the viewer.
    """
    current = current_position(layer, image, dims)
    low, high = np.array(layer.corner_pixels, dtype=float)
    if layer.multiscale:
        factors = np.array(layer.downsample_factors[layer.data_level])[: layer.ndim]
        low, high = low * factors, (high + 1) * factors - 1
    offset = dims.ndim - layer.ndim
    displayed = [axis - offset for axis in dims.displayed] if dims.ndisplay == 2 else []
    ranges = {}
    for axis, letter in enumerate(image.axes[: layer.ndim]):
        size = image.shape[axis]
        index = current[letter]
        if letter in "YX":
            start, stop = (int(low[axis]), int(high[axis]) + 1) if axis in displayed else (0, size)
            start, stop = _widen(start, stop, size)
        elif letter == "C" and letter in together:
            start, stop = 0, size
        else:
            margin = _PREVIEW_MARGIN if letter in together else 0
            start, stop = max(index - margin, 0), min(index + margin + 1, size)
        ranges[letter] = f"{start}:{stop}"
    return ranges


def _widen(start: int, stop: int, size: int, minimum: int = _MIN_PREVIEW_SIZE) -> tuple[int, int]:
    """Widen a range to a minimum length about the same centre, within 0 and `size`."""
    start, stop = max(0, start), min(size, stop)
    missing = max(0, minimum - (stop - start))
    start = max(0, min(start - missing // 2, size - minimum))
    return start, min(size, max(stop, start + minimum))


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
        self.layer.metadata = {**self._arguments["metadata"], _PRISTINE: self._described(restored.provenance())}
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
        known = {name: value for name, value in self.layer.metadata[_PRISTINE].items() if name != "snapshot"}
        if number < len(self.snapshots) - 1:
            known["snapshot"] = f"step {step}"
        self.layer.metadata = {**self.layer.metadata, _PRISTINE: known}

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
        known = dict(self.layer.metadata[_PRISTINE])
        known["recipe"] = {**known["recipe"], "strength": [] if strength == 1 else [strength]}
        self.layer.metadata = {**self.layer.metadata, _PRISTINE: known}

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
        metadata = {**self._arguments["metadata"], _PRISTINE: self._described({})}
        if self.layer is None:
            self.layer = self.viewer.add_image(data, name=self._name, **{**self._arguments, "metadata": metadata})
        else:
            # the same layer again: removing one while another is added crashes some graphics drivers
            self.layer.data = data
            for name in ("scale", "translate", "metadata"):
                setattr(self.layer, name, {**self._arguments, "metadata": metadata}[name])
            self.layer.name = self._name
            self.layer.visible = True
        self.source.visible = False

    def _described(self, provenance: dict[str, Any]) -> dict[str, Any]:
        return {**provenance, _SOURCE: self.source.name}

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
        arguments["metadata"] = {_PRISTINE: self._described({})}
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
