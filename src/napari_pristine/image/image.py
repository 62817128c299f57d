"""Image: an array with names, spacing and units for its axes; its values may be on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_uppercase
from types import EllipsisType
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import AxesError, ImageError, SettingError
from napari_pristine.text import counted

T = TypeVar("T")
COLOUR = "CS"
"""Axes of colour: channels, and the samples of RGB pixels."""
_MICROMETRES = {
    "picometer": 1e-6, "angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4,
    "meter": 1e6,
}  # fmt: skip
_MAX_CHANNELS = 6  # up to which an axis without a name may be one of channels
AXIS_NAMES = {
    name: letter
    for letter, names in {
        "T": "time times timepoint timepoints frame frames",
        "C": "channel channels ch wavelength band",
        "Z": "depth slice slices plane planes level",
        "Y": "height row rows lat latitude",
        "X": "width column columns col cols lon longitude",
        "S": "sample samples rgb rgba",
    }.items()
    for name in names.split()
}
"""Letters of axes by the long names that other programs use, in lower case."""
MIN_SIDE = 16
"""Minimum number of pixels along Y and X for an image to be restored."""


@dataclass(frozen=True, eq=False)
class AxisValues:
    """Values that a file states for each element along some axes, such as the label of each plane.

    Attributes:
        axes: The axes; an image may lack those of size 1. Empty if the value is of the image as a whole.
        values: The values, with a dimension for each axis, and possibly more dimensions.
    """

    axes: str
    values: NDArray[Any]

    def fits(self, image: Image) -> bool:
        """True if there is a value for each element of the image along these axes."""
        return self.values.shape[: len(self.axes)] == tuple(image.size(axis) for axis in self.axes)

    def select(self, chosen: Mapping[str, slice]) -> AxisValues:
        """The values for a part of the image."""
        return replace(self, values=self.values[tuple(chosen.get(axis, slice(None)) for axis in self.axes)])


@dataclass(frozen=True, eq=False)
class Image:
    """An array with names, spacing and units for its axes.

    Attributes:
        data: A numpy array, or anything with shape, dtype and basic slicing (dask, zarr), which is read lazily,
            block by block.
        axes: One capital letter per dimension, as in tifffile: `T` time, `Z` depth, `C` channel, `Y`, `X`,
            `S` samples of RGB; any other letter for any other axis.
        scale: Distance between neighbours along each axis.
        units: Unit of `scale` and `translate` for each axis; `"pixel"` if unknown.
        translate: Position of the first element along each axis.
        name: Name for messages, layers and files.
        channels: Names of the channels along `C`, if known.
        metadata: Anything else that the file says about the image.
        details: Other metadata of elements along some axes, such as the labels of planes.
        notes: Sentences for the user on how the file was read, such as which of its images was read.

    Raises:
        AxesError: The axes do not fit the array, or there is not one scale, unit and translation per axis.
        ImageError: `data` is not an array.
    """

    data: Any
    axes: str
    scale: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    translate: tuple[float, ...] = ()
    name: str = ""
    channels: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, AxisValues] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            np.dtype(self.data.dtype)
            ndim = len(self.data.shape)
        except (AttributeError, TypeError):
            kind = type(self.data).__name__
            raise ImageError(
                f"the data of an Image must be an array with a shape and numpy dtype, not {kind}"
            ) from None
        check_axes(self.axes, self.data.shape)
        for name, default in (("scale", 1.0), ("units", "pixel"), ("translate", 0.0)):
            values = tuple(getattr(self, name)) or (default,) * ndim
            if len(values) != ndim:
                raise AxesError(
                    f"{name} has {counted(len(values), 'value')} but the image has "
                    f"{counted(ndim, 'axis', 'axes')} ({self.axes}); give one per axis"
                )
            object.__setattr__(self, name, values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""
        return tuple(int(n) for n in self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    def size(self, axis: str) -> int:
        """Size along the axis with this letter; 1 if the image lacks it."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    def select(self, ranges: Mapping[str, str]) -> Image:
        """Select a part of the image, which keeps all axes, spacing and position.

        Args:
            ranges: Range along each axis, as one index or `start:stop:step`, such as `{"T": "0:10", "C": "1"}`.

        Raises:
            SettingError: An axis is unknown, or a range is empty or malformed.
        """
        if not ranges:
            return self
        slices = [slice(None)] * self.data.ndim
        for axis, text in ranges.items():
            if len(axis) != 1 or axis not in self.axes:
                raise SettingError(f"cannot select along '{axis}': the image has the axes {self.axes}")
            slices[self.axes.index(axis)] = parse_range(axis, text, self.size(axis))
        index = tuple(slices)
        starts, _, steps = zip(*(s.indices(n) for s, n in zip(slices, self.shape, strict=True)), strict=True)
        channels = self.channels
        if channels and "C" in ranges:
            channels = channels[slices[self.axes.index("C")]]
        return replace(
            self,
            data=self.data[index] if isinstance(self.data, np.ndarray) else LazySlice(self.data, index),
            scale=tuple(d * step for d, step in zip(self.scale, steps, strict=True)),
            translate=tuple(t + d * start for t, d, start in zip(self.translate, self.scale, starts, strict=True)),
            channels=channels,
            details={
                key: detail.select(dict(zip(self.axes, slices, strict=True))) for key, detail in self.details.items()
            },
        )

    def spacing(self, axes: str) -> tuple[float, ...]:
        """Distance between neighbours along some axes: in µm if all have units of length, else as in `scale`.

        All distances are 1 if the units differ and are not all of length, such as time and length.
        """
        scales = [self.scale[self.axes.index(axis)] for axis in axes]
        units = [self.units[self.axes.index(axis)] for axis in axes]
        lengths = [_MICROMETRES.get(unit) for unit in units]
        if all(lengths):
            return tuple(scale * length for scale, length in zip(scales, lengths, strict=True) if length)
        return tuple(scales) if len(set(units)) == 1 else (1.0,) * len(axes)

    def on_finer_grid(self, data: Any, factors: tuple[int, ...]) -> Image:
        """Copy of the image with `data` on a grid `factors` times finer along each axis, over the same field."""
        return replace(
            self,
            data=data,
            scale=tuple(d / f for d, f in zip(self.scale, factors, strict=True)),
            # the edges of the field stay, so the centre of the first pixel moves towards its edge
            translate=tuple(
                t + d * (1 / f - 1) / 2 for t, d, f in zip(self.translate, self.scale, factors, strict=True)
            ),
        )


def check_axes(axes: str, shape: tuple[int, ...]) -> None:
    """Check that `axes` names each dimension of `shape` once, `Y` and `X` among them.

    Raises:
        AxesError: It does not.
    """
    check_text(axes)
    if len(shape) < 2:
        raise AxesError(f"an image needs at least two dimensions, Y and X; this array has the shape {tuple(shape)}")
    if len(axes) != len(shape):
        raise AxesError(
            f"axes '{axes}' name {counted(len(axes), 'dimension')} but the image has {len(shape)} (shape "
            f"{tuple(shape)}); give one letter per dimension, e.g. '{guess_axes(tuple(shape))}'"
        )
    if not (axes.isascii() and axes.isalpha() and axes.isupper()) or len(set(axes)) != len(axes):
        raise AxesError(f"axes '{axes}' are not distinct capital letters; use T, Z, C, Y, X and S, e.g. 'TCYX'")
    if not {"Y", "X"} <= set(axes):
        raise AxesError(f"axes '{axes}' lack Y or X; name the two axes of the image plane Y and X, e.g. 'TYX'")
    if "S" in axes and dict(zip(axes, shape, strict=True))["S"] not in (3, 4):
        size = dict(zip(axes, shape, strict=True))["S"]
        raise AxesError(f"axis S holds the samples of RGB(A) pixels, 3 or 4, but has {size}; name it C or T")


def check_text(axes: object, name: str = "axes") -> None:
    """Raise an `AxesError` if axes are not a string."""
    if not isinstance(axes, str):
        letters = "".join(map(str, axes)) if isinstance(axes, (list, tuple)) else "TYX"
        raise AxesError(f"{name} must be a string with one letter per axis, such as {name}='{letters}', not {axes!r}")


def axes_from_names(names: Sequence[str], types: Sequence[str | None] = (), *, guess: bool = False) -> str:
    """One capital letter for each axis by its name, such as `TCYX` for time, channel, y, x.

    Args:
        names: Names of the axes; single letters stand for themselves.
        types: Types of the axes, `time`, `channel` or any other, for names that are not known.
        guess: Give an axis with an unknown or repeated name an unused letter, its first one if possible.

    Raises:
        AxesError: A name is unknown, or two axes get the same letter.
    """
    axes: list[str] = []
    for name, kind in zip(map(str, names), types or [None] * len(names), strict=True):
        letter = name.upper() if len(name) == 1 and name.isascii() and name.isalpha() else ""
        letter = letter or AXIS_NAMES.get(name.lower(), "") or {"time": "T", "channel": "C"}.get(kind or "", "")
        if guess:
            axes.append("" if letter in axes else letter)
        elif not letter or letter in axes:
            wrong = f"more than one axis is {letter}" if letter else f"the axis '{name}' is unknown"
            example = guess_axes((2,) * max(len(names), 2))
            raise AxesError(
                f"the axes are named {', '.join(map(str, names))}: {wrong}; give one letter per axis (--axes), "
                f"e.g. '{example}'"
            )
        else:
            axes.append(letter)
    for number, name in enumerate(names):
        if not axes[number]:
            wanted = (*str(name)[:1].upper(), *"ABDEFGHIJKLMNOPQRUVW")
            axes[number] = next((x for x in wanted if x in ascii_uppercase and x not in (*axes, *"TZCYXS")), "?")
    return "".join(axes)


def guess_axes(shape: tuple[int, ...]) -> str:
    """Guess axes from a shape alone: `YXS` for RGB(A) images, else `YX`, `TYX`, `TCYX` or `TZCYX`; channels are few."""
    if len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4:
        return guess_axes(shape[:-1]) + "S"
    few = [size <= _MAX_CHANNELS for size in shape]
    third = {4: "TCYX" if few[1] else "TZYX", 5: "TCZYX" if few[1] > few[2] else "TZCYX"} if len(shape) > 3 else {}
    usual = {2: "YX", 3: "TYX", **third}
    return usual.get(len(shape)) or "QRPONMLKJIHG"[: len(shape) - 5] + "TZCYX"


def check_restorable(image: Image) -> None:
    """Check that an image can be restored by any method, without reading its pixels.

    Raises:
        ImageError: It cannot; the message says why.
    """
    name = f"'{image.name}'" if image.name else "the image"
    kind = image.dtype.kind
    if kind == "c":
        raise ImageError(
            f"{name} has complex values ({image.dtype}); restore its magnitude, or real and imaginary part"
        )
    if kind == "b":
        raise ImageError(f"{name} is boolean, like a mask; give the image that it was made from")
    if kind not in "uif":
        raise ImageError(f"{name} has values of type {image.dtype}; an image needs integers or floats")
    if 0 in image.shape:
        raise ImageError(f"{name} is empty (shape {image.shape}); there is nothing to restore")
    small = [axis for axis in "YX" if image.size(axis) < MIN_SIDE]
    if small:
        raise ImageError(
            f"{name} has {image.size('Y')} × {image.size('X')} pixels along Y and X, too few to tell noise "
            f"from signal; at least {MIN_SIDE} × {MIN_SIDE} are needed (are the axes '{image.axes}' right?)"
        )


def parse_range(axis: str, text: str, size: int) -> slice:
    """Parse one index or `start:stop:step` along an axis of this size.

    Raises:
        SettingError: The range is empty or malformed.
    """
    try:
        parts = [int(part) if part.strip() else None for part in str(text).split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or (len(parts) == 3 and parts[2] is not None and parts[2] < 1):
        raise SettingError(
            f"the range '{text}' along {axis} is malformed; write one number, start:stop or start:stop:step"
        )
    if len(parts) == 1:
        index = parts[0]
        if index is None or not -size <= index < size:
            raise SettingError(f"there is no {axis} = {text}: the image has size {size} there, counted from 0")
        return slice(index % size, index % size + 1)
    chosen = slice(*parts)
    if not len(range(*chosen.indices(size))):
        raise SettingError(f"the range '{text}' along {axis} is empty: the image has size {size} there, counted from 0")
    return chosen


Range = int | range
"""Selection along one axis: one element, which drops the axis, or elements at a constant distance."""


def ranges(index: Any, shape: Sequence[int]) -> list[Range]:
    """Resolve a basic index of numpy (integers, slices, an ellipsis) into one selection per axis.

    Raises:
        IndexError: The index has another kind of item, too many items, or an item out of range.
    """
    index = index if isinstance(index, tuple) else (index,)
    ellipses = [number for number, item in enumerate(index) if isinstance(item, EllipsisType)]
    if len(ellipses) > 1 or len(index) - len(ellipses) > len(shape):
        raise IndexError(f"the index {index} does not fit an array with the shape {tuple(shape)}")
    gap = ellipses[0] if ellipses else len(index)
    missing = (slice(None),) * (len(shape) - len(index) + len(ellipses))
    selected: list[Range] = []
    for item, size in zip((*index[:gap], *missing, *index[gap + 1 :]), shape, strict=True):
        if isinstance(item, slice):
            selected.append(range(size)[item])
        elif isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            selected.append(range(size)[int(item)])
        else:
            raise IndexError(f"{item!r} is not an integer, slice or ellipsis; make a numpy array for other indices")
    return selected


def read(array: Any, selected: Sequence[Range]) -> NDArray[Any]:
    """Read a selection from an array that may support no negative steps; they are applied after reading."""
    forward = [item if isinstance(item, int) or item.step > 0 else item[::-1] for item in selected]
    flips = (slice(None, None, -1 if item.step < 0 else 1) for item in selected if isinstance(item, range))
    return np.asarray(array[tuple(item if isinstance(item, int) else slice_of(item) for item in forward)])[tuple(flips)]


def slice_of(selected: range) -> slice:
    """Slice that selects the elements of a range."""
    stop = selected.stop if selected.stop >= 0 else None  # a negative step down to index 0
    return slice(selected.start, stop, selected.step) if len(selected) else slice(0, 0)


@dataclass(frozen=True)
class LazySequence(Sequence[T], Generic[T]):
    """A sequence whose items are computed when they are needed, since an image may have, or claim to have, 10⁹ blocks.

    Attributes:
        numbers: Numbers of the items.
        item: Computes the item of a number.
    """

    numbers: range
    item: Callable[[int], T]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> LazySequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | LazySequence[T]:
        if isinstance(index, slice):
            return LazySequence(self.numbers[index], self.item)
        return self.item(self.numbers[index])

    def __iter__(self) -> Iterator[T]:
        return map(self.item, self.numbers)


def stored_parts(array: Any) -> Sequence[tuple[slice, ...]] | None:
    """Parts of an array outside of which all values are equal, as its file tells; `None` if it does not tell.

    The slices have a start and a stop, and no step; parts may be empty.
    """
    find = getattr(array, "stored_parts", None)
    return find() if find else None


def is_stored(array: Any, index: Any) -> bool:
    """False if an array is known to contain only its fill value at a basic numpy index."""
    find = getattr(array, "is_stored", None)
    return bool(find(index)) if find else True


class LazySlice:
    """Part of an array-like that reads only the elements asked for; supports integers, slices and an ellipsis.

    Args:
        array: Anything with shape, dtype and basic slicing.
        index: Integers, slices with steps, or an ellipsis, as in numpy.
    """

    def __init__(self, array: Any, index: Any) -> None:
        self._array, self._selected = array, ranges(index, tuple(int(n) for n in array.shape))
        self.shape = tuple(len(item) for item in self._selected if isinstance(item, range))
        self.dtype, self.ndim = np.dtype(array.dtype), len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return read(self._array, self._selection(index))

    def _selection(self, index: Any) -> list[Range]:
        """Selection of the array that corresponds to an index of this object."""
        wanted = iter(ranges(index, self.shape))
        selected: list[Range] = []
        for item in self._selected:
            if isinstance(item, int):
                selected.append(item)
            else:
                part = next(wanted)
                selected.append(item[part] if isinstance(part, int) else item[slice_of(part)])
        return selected

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def is_stored(self, index: Any) -> bool:
        """See the function of this name."""
        return is_stored(self._array, tuple(n if isinstance(n, int) else slice_of(n) for n in self._selection(index)))

    def stored_parts(self) -> Sequence[tuple[slice, ...]] | None:
        """See the function of this name."""
        parts = stored_parts(self._array)
        if parts is None:
            return None
        return LazySequence(range(len(parts)), lambda n: self._selected_part(parts[n]))

    def _selected_part(self, stored: tuple[slice, ...]) -> tuple[slice, ...]:
        """The selected elements of a part of the array, in the axes of this object."""
        part: list[slice] = []
        for selected, along in zip(self._selected, stored, strict=True):
            if isinstance(selected, int):
                if not along.start <= selected < along.stop:
                    return (slice(0, 0),) * self.ndim
                continue
            ends = ((n - selected.start) / selected.step for n in (along.start, along.stop - 1))
            first, last = sorted(ends)
            start, stop = max(math.ceil(first), 0), min(math.floor(last) + 1, len(selected))
            part.append(slice(start, max(start, stop)))
        return tuple(part)
