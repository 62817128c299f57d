"""Compare results with their noisy layer: planes of layers, their figures, the table, and what was removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from napari.components import Dims
from napari.layers import Image as ImageLayer
from numpy.typing import NDArray

from napari_pristine.errors import AxesError, PristineError
from napari_pristine.gui.layers import PIXELS, current_position, image_from_layer, layer_axes, layer_data
from napari_pristine.image.figures import (
    Curve,
    Figures,
    NoisyPlane,
    line_profile,
    measure_figures,
    noise_level,
    prepare_plane,
)
from napari_pristine.image.image import Image

MAX_SIDE = 2048
"""Side, in pixels, of the middle of a plane that is measured, if the plane is larger."""
_IN_MEMORY = 2**26
"""Values up to which an image of what was removed is computed at once; a larger one is when it is shown."""
_SAME_STEP = 1e-3
"""Relative difference of pixel sizes that counts as equal."""

Line = tuple[tuple[float, float], tuple[float, float]]
"""Y and X of both ends of a line, in pixels of the noisy layer."""


@dataclass(frozen=True)
class Box:
    """Rows and columns of the noisy layer, without their stops."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.bottom - self.top, self.right - self.left

    def within(self, other: Box) -> Box:
        """The part that both have."""
        return Box(
            max(self.top, other.top), max(self.left, other.left),
            min(self.bottom, other.bottom), min(self.right, other.right),
        )  # fmt: skip

    def middle(self) -> Box:
        """The middle, of at most `MAX_SIDE` pixels along each axis."""
        (top, bottom), (left, right) = (
            (start + max(stop - start - MAX_SIDE, 0) // 2, stop - max(stop - start - MAX_SIDE + 1, 0) // 2)
            for start, stop in ((self.top, self.bottom), (self.left, self.right))
        )
        return Box(top, left, bottom, right)


@dataclass(frozen=True, eq=False)
class LayerPlane:
    """The current plane of a layer, and where it lies on the grid of the noisy layer.

    Attributes:
        data: Values of the layer; they may be lazy.
        axes: Their axes.
        index: Index of the plane along each axis; it is not used for Y, X and colours.
        start: Row and column of the noisy layer in which the plane begins.
        factors: Factors by which its grid is finer along Y and X.
    """

    data: Any
    axes: str
    index: tuple[int, ...]
    start: tuple[int, int] = (0, 0)
    factors: tuple[int, int] = (1, 1)

    @property
    def box(self) -> Box:
        """The part of the noisy layer that it covers."""
        rows, columns = (
            int(self.data.shape[self.axes.index(axis)]) // factor
            for axis, factor in zip("YX", self.factors, strict=True)
        )
        return Box(*self.start, self.start[0] + rows, self.start[1] + columns)

    def read(self, box: Box) -> NDArray[Any]:
        """Read a part `(Y, X)`; finer pixels and colours are averaged."""
        spans = ((box.top, box.bottom), (box.left, box.right))
        rows, columns = (
            slice((first - start) * factor, (stop - start) * factor)
            for (first, stop), start, factor in zip(spans, self.start, self.factors, strict=True)
        )
        chosen = {"Y": rows, "X": columns, "S": slice(0, 3)}
        index = tuple(chosen.get(axis, place) for axis, place in zip(self.axes, self.index, strict=True))
        plane = np.asarray(self.data[index])
        if "S" in self.axes:
            plane = plane.mean(axis=[axis for axis in self.axes if axis in "YXS"].index("S"))
        if self.axes.index("Y") > self.axes.index("X"):
            plane = plane.T
        if self.factors != (1, 1):
            (fine_rows, fine_columns), (height, width) = self.factors, box.shape
            plane = plane.reshape(height, fine_rows, width, fine_columns).mean(axis=(1, 3))
        return plane


def noisy_plane(layer: ImageLayer, dims: Dims) -> LayerPlane:
    """The current plane of the noisy layer."""
    axes = layer_axes(layer)
    current = current_position(layer, image_from_layer(layer, axes), dims)
    return LayerPlane(layer_data(layer), axes, tuple(current.get(axis, 0) for axis in axes))


def plane_over(layer: ImageLayer, noisy: ImageLayer, dims: Dims) -> LayerPlane:
    """The current plane of a layer that lies over the noisy one: of the same shape, a part of it, or on a finer grid.

    Raises:
        AxesError: It does not hold the current plane, or lies on another grid.
    """
    axes, data = layer_axes(layer), layer_data(layer)
    if data.shape[: layer.ndim] == layer_data(noisy).shape[: noisy.ndim]:
        index = noisy_plane(noisy, dims).index[: layer.ndim]
        return LayerPlane(data, axes, (*index, *[0] * (len(axes) - layer.ndim)))
    place = np.array(layer.world_to_data(dims.point), dtype=float)[-layer.ndim :]
    rows, noisy_axes = [axes.index(axis) for axis in "YX"], layer_axes(noisy)
    noisy_rows = [noisy_axes.index(axis) for axis in "YX"]
    index = np.rint(place).astype(int)
    for axis, letter in enumerate(axes[: layer.ndim]):
        if letter not in "YX" and not 0 <= index[axis] < data.shape[axis]:
            raise AxesError(f"'{layer.name}' does not hold the plane that is shown; move to one that it has")
    ratios = np.array(noisy.scale)[noisy_rows] / np.array(layer.scale)[rows]
    factors = np.maximum(np.rint(ratios).astype(int), 1)
    if np.any(np.abs(ratios / factors - 1) > _SAME_STEP):
        raise AxesError(
            f"the pixels of '{layer.name}' do not fit those of '{noisy.name}'; give both the same pixel size"
        )
    place = index.astype(float)
    place[rows] = (factors - 1) / 2  # the centre of those that one pixel of the noisy layer covers
    start = np.rint(np.array(noisy.world_to_data(layer.data_to_world(place)))[noisy_rows]).astype(int)
    return LayerPlane(data, axes, (*map(int, index), *[0] * (len(axes) - layer.ndim)), tuple(start), tuple(factors))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A result that is compared.

    Attributes:
        name: Name of its layer.
        facts: Recipe, quality and versions, from the metadata of the layer; empty if it is no result of ours.
        plane: Its current plane; none if it cannot be compared.
        problem: Reason why it cannot be compared.
    """

    name: str
    facts: Mapping[str, Any]
    plane: LayerPlane | None = None
    problem: str = ""

    @property
    def error(self) -> float | None:
        """Estimated root mean square error, in noise levels."""
        error = ((self.facts.get("recipe") or {}).get("choice") or {}).get("error")
        return None if error is None else float(max(error, 0.0) ** 0.5)


@dataclass(frozen=True, eq=False)
class Request:
    """All that is compared, taken from the layers at once.

    Attributes:
        name: Name of the noisy layer.
        noisy: Its current plane.
        candidates: The results.
        reference: Current plane of the reference, if there is one.
        line: The line of the profile.
        pixel: Pixel size.
        unit: Unit of it; `PIXELS` if it is not known.
        contrast: Contrast limits of the noisy layer.
    """

    name: str
    noisy: LayerPlane
    candidates: tuple[Candidate, ...]
    reference: LayerPlane | None = None
    line: Line | None = None
    pixel: float = 1.0
    unit: str = PIXELS
    contrast: tuple[float, float] = (0.0, 1.0)

    @property
    def position(self) -> str:
        """Index of the plane along each axis, such as `T 3 · C 1`."""
        places = zip(self.noisy.axes, self.noisy.index, strict=True)
        return " · ".join(f"{axis} {place}" for axis, place in places if axis not in "YXS")


@dataclass(frozen=True, eq=False)
class Compared:
    """A result with its figures; none if it could not be compared.

    Attributes:
        candidate: The result.
        figures: Its figures.
        box: The part that was measured.
        noisy, restored, reference: Planes `(Y, X)`.
        profiles: Values along the line, by the names of the planes.
    """

    candidate: Candidate
    figures: Figures | None = None
    box: Box | None = None
    noisy: NDArray[Any] | None = None
    restored: NDArray[Any] | None = None
    reference: NDArray[Any] | None = None
    profiles: Mapping[str, Curve] | None = None

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.candidate.name


@dataclass(frozen=True, eq=False)
class Comparisons:
    """All results, compared on one plane."""

    request: Request
    results: tuple[Compared, ...]

    @property
    def usable(self) -> list[Compared]:
        """Results with figures."""
        return [result for result in self.results if result.figures is not None]

    def label(self, result: Compared) -> str:
        """Name of a result without what it shares with the noisy image and the other results."""
        names = [other.name for other in self.results]
        words = [name.removeprefix(self.request.name).strip(" ·,").split() for name in names]
        shared = 0
        if len(words) > 1:
            same = [len(set(column)) == 1 for column in zip(*words, strict=False)]
            shared = same.index(False) if False in same else len(same)
        own = words[names.index(result.name)]
        return " ".join(own[shared:] or own) or result.name


def compare_layers(request: Request) -> Comparisons:
    """Read the planes and measure them; what cannot be compared says why."""
    prepared: dict[Box, tuple[NDArray[Any], NoisyPlane]] = {}
    results = []
    for candidate in request.candidates:
        try:
            results.append(_compare_one(request, candidate, prepared))
        except PristineError as error:
            results.append(Compared(replace(candidate, problem=str(error))))
    return Comparisons(request, tuple(results))


def _compare_one(
    request: Request, candidate: Candidate, prepared: dict[Box, tuple[NDArray[Any], NoisyPlane]]
) -> Compared:
    if candidate.plane is None:
        return Compared(candidate)
    box = request.noisy.box.within(candidate.plane.box)
    if request.reference is not None:
        box = box.within(request.reference.box)
    box = box.middle()
    if min(box.shape) <= 0:
        raise AxesError(f"'{candidate.name}' lies beside the noisy image")
    if box not in prepared:
        plane = request.noisy.read(box)
        prepared[box] = plane, prepare_plane(plane)
    noisy, known = prepared[box]
    restored = candidate.plane.read(box)
    reference = None if request.reference is None else request.reference.read(box)
    profiles = None
    if request.line is not None:
        start, stop = ((y - box.top, x - box.left) for y, x in request.line)
        planes = {"noisy": noisy, "restored": restored, "reference": reference}
        profiles = {name: line_profile(plane, start, stop) for name, plane in planes.items() if plane is not None}
    figures = measure_figures(known, restored, reference)
    return Compared(candidate, figures, box, noisy, restored, reference, profiles)


@dataclass(frozen=True, eq=False)
class Removal:
    """Both planes that are needed to compute what a result has removed, taken from the layers at once.

    Attributes:
        noisy, restored: Current planes of both layers.
        starts: Index of the noisy layer along each axis at which the result begins.
        stops: The same for its end.
        part: The part of the noisy layer that the result covers, for the position of a layer.
    """

    noisy: LayerPlane
    restored: LayerPlane
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    part: Image

    @classmethod
    def of(cls, noisy: ImageLayer, result: ImageLayer, dims: Dims) -> Removal:
        """Take it from the layers.

        Raises:
            AxesError: The result does not lie over the noisy layer.
        """
        image, over = image_from_layer(noisy, layer_axes(noisy)), plane_over(result, noisy, dims)
        if over.axes != image.axes:
            raise AxesError(
                f"'{result.name}' has the axes {over.axes}, '{noisy.name}' {image.axes}; give both the same"
            )
        factors = dict(zip("YX", over.factors, strict=True))
        sizes = [size // factors.get(axis, 1) for axis, size in zip(over.axes, over.data.shape, strict=True)]
        starts = [0] * len(sizes)
        if tuple(sizes) != image.shape:
            first = np.array([(factors.get(axis, 1) - 1) / 2 for axis in over.axes[: result.ndim]])
            starts[: noisy.ndim] = map(int, np.rint(noisy.world_to_data(result.data_to_world(first))))
        stops = [start + size for start, size in zip(starts, sizes, strict=True)]
        if min(starts) < 0 or any(stop > size for stop, size in zip(stops, image.shape, strict=True)):
            raise AxesError(f"'{result.name}' reaches beyond '{noisy.name}'")
        spans = zip(image.axes, starts, stops, strict=True)
        part = image.select({axis: f"{start}:{stop}" for axis, start, stop in spans})
        return cls(noisy_plane(noisy, dims), over, tuple(starts), tuple(stops), part)

    def compute(self) -> Any:
        """Noisy minus restored, in noise levels at the brightness of the result; colours are averaged.

        The noise is measured on the current plane of each channel. A large image is computed plane by plane when it is
        shown.
        """
        axes, factors = self.noisy.axes, dict(zip("YX", self.restored.factors, strict=True))
        raw = _as_dask(self.noisy)[tuple(map(slice, self.starts, self.stops))]
        restored = _as_dask(self.restored)
        if self.restored.factors != (1, 1):
            coarse = {axes.index(axis): factor for axis, factor in factors.items()}
            restored = da.coarsen(np.mean, restored, coarse, trim_excess=True)
        if "S" in axes:
            raw, restored = (part[..., :3].mean(axis=-1) for part in (raw, restored))
        channel = axes.find("C")
        parts = []
        for number in range(raw.shape[channel]) if channel >= 0 else [0]:
            here = (slice(None),) * channel + (slice(number, number + 1),) if channel >= 0 else ()
            index = list(self.noisy.index)
            if channel >= 0:
                index[channel] = self.starts[channel] + number
            plane = replace(self.noisy, index=tuple(index))
            noise = prepare_plane(plane.read(plane.box.middle())).noise
            level = np.maximum(noise_level(restored[here], noise), np.finfo(np.float32).tiny)
            parts.append(((raw[here] - restored[here].astype(np.float32)) / level).astype(np.float32))
        removed = da.concatenate(parts, axis=max(channel, 0))  # type: ignore[no-untyped-call]
        return removed.compute() if removed.size <= _IN_MEMORY else removed


def _as_dask(plane: LayerPlane) -> Any:
    """The data of a layer, plane by plane."""
    if isinstance(plane.data, da.Array):
        return plane.data
    chunks = tuple(-1 if axis in "YXS" else 1 for axis in plane.axes)
    return da.from_array(plane.data, chunks=chunks, name=False, asarray=True)  # type: ignore[no-untyped-call]
