"""Resolved: all that is settled before a restoration starts, and the blocks that it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pristine.device import pick_device
from napari_pristine.errors import AxesError, SettingError
from napari_pristine.image.axes import AxesPlan, BlockIndex, align, plan
from napari_pristine.image.image import Image, check_axes, check_restorable
from napari_pristine.jobs.block import Block, Other, prepare
from napari_pristine.jobs.statistics import ImageStatistics
from napari_pristine.methods import find_method
from napari_pristine.methods.method import Method, MethodParams, NoisyBlock
from napari_pristine.model import Model, load_model
from napari_pristine.recipe import Recipe
from napari_pristine.threads import Prefetcher


class RestorationPlan:
    """An image and how it is to be restored, checked as far as that goes without reading pixels.

    Args:
        image: What is to be restored.
        recipe: How.
        mask: Not zero where pixels are to be filled in; its axes are some or all of those of the image.
        others: More pictures of the same scene, on other grids maybe.
        model: A network that has learned already; that of the recipe's file if none is given.

    Attributes:
        cut: How the image is cut into blocks; large ones into panes.
        out: The same on the grid of the result.
        places: Of all blocks.
        finer: How many times finer the grid of the result is, along the axes of space.

    Raises:
        PristineError: Axes, settings or images do not fit.
    """

    def __init__(
        self,
        image: Image,
        recipe: Recipe,
        mask: Image | None = None,
        others: Sequence[Image] = (),
        model: Model | None = None,
    ) -> None:
        if recipe.axes:
            check_axes(recipe.axes, image.shape)
            image = replace(image, axes=recipe.axes)
        check_restorable(image)
        self.masked = None if mask is None else replace(image, data=align(image, mask)).select(recipe.select).data
        self.image = image.select(recipe.select)
        check_restorable(self.image)
        self.recipe = recipe
        self.params: MethodParams = recipe.params
        self.method: Method[Any, Any] = find_method(recipe.method)
        self.cut: AxesPlan = plan(self.image, recipe.together)
        self.others = [self._other(other) for other in others]
        self.params.check(self.cut.space, len(self.others))
        self.finer = self.params.finer_by(self.cut.space)
        if not self.others:  # these lie on grids of their own, and show all of the scene
            self.cut = self.cut.in_chunks(math.prod(self.finer))
        self.places = self.cut.places
        self.out = self.cut.finer(self.finer)
        self.model = self._model(model)
        self.device, self.device_note = pick_device(recipe.device)
        self._measured = ImageStatistics(self.cut, self.image.data, self.masked, self.params)
        self._ahead = Prefetcher(self.read)

    @property
    def learns(self) -> bool:
        """Whether a network is to learn from all blocks of a channel before any of them is restored."""
        return self.method.learn is not None and (self.model is None or self.recipe.adapt)

    @property
    def chained(self) -> bool:
        """Whether blocks start from the networks of their neighbours."""
        return self.params.warm_start and self.method.learn is None

    def restored(self, data: Any) -> Image:
        """The image with the values of the result."""
        return self.image.on_finer_grid(data, self.out.finer_than(self.cut))

    def channel(self, place: BlockIndex) -> BlockIndex:
        """The channel of a block."""
        return self.cut.channel(place)

    def alike(self, channel: BlockIndex) -> list[BlockIndex]:
        """The places of all blocks of a channel."""
        return [place for place in self.places if self.channel(place) == channel]

    def read(self, place: BlockIndex) -> NDArray[Any]:
        """The values at a place, `(C, *space)`."""
        return self.cut.read(self.image.data, place)

    def expect(self, place: BlockIndex) -> None:
        """This block is wanted next: read it meanwhile, if it is on disk."""
        if not isinstance(self.image.data, np.ndarray):
            self._ahead.start(place)

    def block(self, place: BlockIndex) -> Block:
        """The block at a place, with its noise.

        Raises:
            ImageError: There is nothing to restore in it.
        """
        index = self.cut.at(place)
        others = []
        for other, cut in self.others:
            # one that is single along an axis goes with all of the image
            at = tuple(min(index.get(axis, 0), other.size(axis) - 1) for axis in cut.loop_axes)
            others.append(Other(cut.read(other.data, at), other.spacing(cut.space)))
        return prepare(
            self._ahead.get(place),
            self._measured.noise(place),
            self.params,
            masked=self._measured.masked(place),
            axes=self.cut.space,
            spacing=self.image.spacing(self.cut.space),
            others=others,
            like=self._measured.intensities(place),
        )

    def noisy(self, place: BlockIndex) -> NoisyBlock:
        """The block at a place as a method sees it."""
        return self.whole(self.block(place))

    def whole(self, block: Block, device: torch.device | None = None) -> NoisyBlock:
        """All of a block as a method sees it."""
        return block.noisy((slice(None),) * len(block.space), device or self.device, self.recipe.seed)

    def _other(self, other: Image) -> tuple[Image, AxesPlan]:
        """One more picture of the scene, and how it is cut: as the image is, on its own grid."""
        if parts := set(self.recipe.select) & set(self.cut.space):
            raise SettingError(f"cannot select along {', '.join(parts)} where several pictures are restored together")
        ranges = {axis: text for axis, text in self.recipe.select.items() if other.size(axis) > 1}
        other = other.select(ranges)
        cut = plan(other, "".join(axis for axis in self.cut.together if axis in other.axes))
        if cut.space != self.cut.space or cut.block_shape[0] != self.cut.block_shape[0]:
            raise AxesError(
                f"'{other.name}' is cut into blocks of {cut.block_shape[0]} channels along {cut.space}, the image into "
                f"blocks of {self.cut.block_shape[0]} along {self.cut.space}; give pictures with the same axes"
            )
        for axis in cut.loop_axes:
            mine = self.image.size(axis) if axis in self.cut.loop_axes else 1
            if other.size(axis) not in (1, mine):
                raise AxesError(
                    f"'{other.name}' has {other.size(axis)} elements along {axis}, the image {mine}; "
                    "give a picture with as many, or with a single one, which then goes with all"
                )
        return other, cut

    def _model(self, model: Model | None) -> Model | None:
        """The network that has learned, if there is one; it fits."""
        if model is None and self.recipe.model:
            model = load_model(self.recipe.model)
        if model is not None:
            model.check_fits(self.cut.block_shape[0], self.cut.space, self.recipe.method)
        elif self.recipe.adapt:
            raise SettingError(
                "adapt lets a model learn some more from the image, and no model is given; give one, or leave adapt out"
            )
        return model
