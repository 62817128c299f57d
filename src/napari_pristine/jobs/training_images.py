"""Examples: images to learn from, in memory or on disk, cut into blocks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import AxesError, FileError, ImageError
from napari_pristine.image.axes import AxesPlan, plan
from napari_pristine.image.image import Image, check_axes, check_restorable
from napari_pristine.io.registry import read
from napari_pristine.jobs.block import Block, prepare
from napari_pristine.jobs.restore import as_image
from napari_pristine.jobs.statistics import ImageStatistics
from napari_pristine.methods.method import MethodParams
from napari_pristine.recipe import Recipe


class Lazy(Protocol):
    """An array of which parts can be read, such as those of dask and zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""

    @property
    def dtype(self) -> Any:
        """Type of the values."""

    def __getitem__(self, index: Any) -> Any: ...


Sample: TypeAlias = "Image | NDArray[Any] | Lazy | str | os.PathLike[str]"
"""An image, an array, or the path of a file."""


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """An image to learn from, and how it is cut into blocks."""

    name: str
    image: Image
    cut: AxesPlan
    measured: ImageStatistics

    @classmethod
    def of(cls, sample: Sample, recipe: Recipe, name: str) -> TrainingImage:
        """An image ready to be cut; what is on disk stays there. `name` is for what has none.

        Raises:
            PristineError: It cannot be read, or not be learned from.
        """
        if isinstance(sample, (str, os.PathLike)):
            image, name = read(sample, axes=recipe.axes, lazy=True), Path(sample).name
        else:
            image = _as_image(sample, recipe.axes)
            name = image.name or name
        try:
            if recipe.axes:
                check_axes(recipe.axes, image.shape)
                image = replace(image, axes=recipe.axes)
            image = replace(image, name=name).select(recipe.select)
            check_restorable(image)
            cut = plan(image, recipe.together).in_chunks()
            return cls(name, image, cut, ImageStatistics(cut, image.data, None, recipe.params))
        except AxesError as error:
            raise AxesError(f"'{name}': {error}") from None

    def check_alike(self, other: TrainingImage) -> None:
        """Raise an `AxesError` unless both are cut into blocks of the same kind."""
        kinds = [(example.cut.block_shape[0], example.cut.space) for example in (self, other)]
        if kinds[0][0] != kinds[1][0] or sorted(kinds[0][1]) != sorted(kinds[1][1]):
            texts = [f"blocks {space} of {count} channel{'s' if count != 1 else ''}" for count, space in kinds]
            raise AxesError(
                f"'{other.name}' is cut into {texts[1]}, '{self.name}' into {texts[0]}; learn from images that are "
                "alike, or say which axes are restored together (together)"
            )

    def block(self, place: tuple[int, ...], params: MethodParams) -> Block:
        """Read and prepare the block at a place.

        Raises:
            ImageError: It cannot be learned from, or no longer be read.
        """
        try:
            return prepare(
                self._read(place),
                self.measured.noise(place),
                params,
                axes=self.cut.space,
                spacing=self.image.spacing(self.cut.space),
                like=self.measured.intensities(place),
            )
        except FileError as error:  # was there when it was opened
            raise ImageError(str(error)) from error
        except OSError as error:
            raise ImageError(f"it cannot be read: {error.strerror or error}") from error

    def _read(self, place: tuple[int, ...]) -> NDArray[Any]:
        values = self.cut.read(self.image.data, place)
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def _as_image(sample: Image | NDArray[Any] | Lazy, axes: str) -> Image:
    """What is in memory, or can be read in parts, as an image."""
    if isinstance(sample, (Image, np.ndarray)):
        return as_image(sample, axes)
    if not hasattr(sample, "dtype"):  # nested lists
        return as_image(np.asarray(sample), axes)
    stand_in = np.broadcast_to(np.zeros((), sample.dtype), sample.shape)  # takes no memory
    return replace(as_image(stand_in, axes), data=sample)
