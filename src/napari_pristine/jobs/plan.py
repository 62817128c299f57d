"""RestorationPlan: everything that is decided before a restoration starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pristine.device import pick_device
from napari_pristine.errors import AxesError, SettingError
from napari_pristine.events import Note
from napari_pristine.image.axes import AxesPlan, BlockIndex, align_mask, plan_axes
from napari_pristine.image.image import COLOUR, Image, LazySequence, check_axes, check_restorable
from napari_pristine.image.tiling import OVERLAP, Tiling
from napari_pristine.jobs.block import Block, ExtraBlock, make_block
from napari_pristine.jobs.crops import MAX_BYTES
from napari_pristine.jobs.inputs import RecipeInputs, open_inputs
from napari_pristine.jobs.statistics import ImageStatistics
from napari_pristine.methods import METHODS, find_method
from napari_pristine.methods.method import Method, MethodParams, NoisyBlock
from napari_pristine.model import Model
from napari_pristine.physics.psf import MeasuredPSF
from napari_pristine.recipe import Recipe
from napari_pristine.resources import BASE_MEMORY
from napari_pristine.text import counted

RUN_LENGTH = 16
"""Maximum number of blocks in a run: each starts from the network of the one before. The first block of a run starts
from random weights, so that the result is the same if a stack is resumed or shared by several machines."""
_CPU_NETWORKS = 8
"""Small networks that a processor fits at once. A step of one or two is mostly overhead: with 8, a frame of 64² pixels
takes 0.4 of the time; those of frames of 128² pixels are enough to keep it busy."""
_GPU_NETWORKS = 256
"""Small networks that a GPU fits at once; it computes hundreds in the time of one."""
_MAX_BATCH = 32
"""Maximum number of blocks that are fitted at once; after an interruption, all of them are repeated by one process."""
_MAX_CHANNELS = 1000
_BYTES_PER_VALUE = 120
"""Bytes for each value of a block, while it is measured, restored and refined."""


@dataclass(frozen=True, eq=False)
class RestorationPlan:
    """An image and how it is restored: decided once, by `make_plan`, and used by panels, estimates and jobs.

    Attributes:
        image: The image, after selection; its values may be on disk.
        recipe: The recipe, with the checksums of all inputs.
        params: Settings of the method.
        method: The method.
        blocks: Division of the image into blocks.
        output_blocks: The same on the grid of the result.
        upscaling: Factor by which the grid of the result is finer, along each axis of space.
        mask: True where values do not count, in the shape of the image.
        extra_images: Extra images of the scene, each with its division into blocks.
        psfs: Measured point spread functions of the image and of each extra image.
        model: A trained network.
        device: Where to compute.
        notes: Notes on what was decided.
        batch_size: Number of blocks that are fitted at once.
        statistics: Noise and brightness of the image; measured at first use.
    """

    image: Image
    recipe: Recipe
    params: MethodParams
    method: Method[Any, Any]
    blocks: AxesPlan
    output_blocks: AxesPlan
    upscaling: tuple[int, ...]
    mask: NDArray[np.bool_] | None
    extra_images: tuple[tuple[Image, AxesPlan], ...]
    psfs: tuple[MeasuredPSF | None, ...]
    model: Model | None
    device: torch.device
    notes: tuple[Note, ...]
    batch_size: int
    statistics: ImageStatistics

    @property
    def indices(self) -> LazySequence[BlockIndex]:
        """Index of each block, in the order of the image."""
        return self.blocks.indices

    @property
    def work_units(self) -> LazySequence[list[BlockIndex]]:
        """All blocks, in units that can be restored independently, each in its order of restoration.

        A unit is a run, or `batch_size` runs: the first blocks of all of them, then the second, and so on.
        """
        runs, size = self.blocks.runs(RUN_LENGTH), self.batch_size

        def unit(number: int) -> list[BlockIndex]:
            rows = zip_longest(*runs[number * size : (number + 1) * size])
            return [index for row in rows for index in row if index is not None]

        return LazySequence(range(-(-len(runs) // size)), unit)

    def unit_of(self, index: BlockIndex) -> int:
        """Number of the work unit of a block."""
        return self.blocks.run_number(index, RUN_LENGTH) // self.batch_size

    @property
    def units_per_sample(self) -> int:
        """Distance between work units that differ only in the sample of RGB pixels, which is looped over."""
        loops = self.blocks.loop_axes
        inner = [axis for axis in loops[loops.index("S") + 1 :] if axis in COLOUR]
        per_channel = len(self.work_units) // self.blocks.channel_count
        return per_channel * math.prod(self.blocks.sizes[axis] for axis in inner)

    def count_blocks(self, units: Sequence[int]) -> int:
        """Number of blocks in some work units, given by their numbers."""
        if len(units) == len(self.work_units):
            return len(self.indices)
        return sum(len(self.work_units[number]) for number in units)

    def batch_of(self, index: BlockIndex) -> list[BlockIndex]:
        """The blocks that are fitted at once with a block, itself included."""
        return next(batch for batch in self.batches(self.work_units[self.unit_of(index)]) if index in batch)

    @property
    def batch_count(self) -> int:
        """Number of `batches` of all work units."""
        if self.batch_size == 1:
            return len(self.indices)
        units = self.work_units  # all but the last hold a run of full length, and have one batch for each block of it
        return (len(units) - 1) * len(self.batches(units[0])) + len(self.batches(units[-1]))

    @property
    def cold_starts(self) -> int:
        """Number of blocks that do not start from the network of their neighbour."""
        return len(self.blocks.runs(RUN_LENGTH)) if self.warm_starts else len(self.indices)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values of the result; measures the noise, to find out if the type of the image is too coarse.

        Pictures of red, green and blue keep theirs: floats between 0 and 255 are shown as white.
        """
        if self.recipe.value_type == "auto" and "S" not in self.image.axes and self.statistics.too_coarse:
            return np.dtype(np.float32)
        return self.stated_dtype

    @property
    def stated_dtype(self) -> np.dtype[Any]:
        """Type of the result before the noise is measured: float32 if the recipe says so, else that of the image."""
        wanted = self.recipe.value_type == "float32" and self.image.dtype.kind in "ui"
        return np.dtype(np.float32) if wanted else self.image.dtype

    @property
    def needs_training(self) -> bool:
        """True if a network is trained on all blocks of a channel before any of them is restored."""
        return self.method.learn is not None and (self.model is None or self.recipe.adapt)

    @property
    def is_choosing(self) -> bool:
        """True as long as the method is not chosen."""
        return bool(self.method.candidates) and self.recipe.choice is None and self.statistics.choice is None

    @property
    def has_one_fit(self) -> bool:
        """True if there is a single block, and steps are those of its fit, not the orientations that it is seen in."""
        choice = self.statistics.choice
        method = self.method if choice is None else find_method(choice.method)
        return len(self.indices) == 1 and method.restore_with_error is None

    @property
    def has_two_stages(self) -> bool:
        """True if something with progress of its own follows a fit: rounds of refinement, or restoring all blocks."""
        return self.needs_training or self.params.refinements > 0

    @property
    def warm_starts(self) -> bool:
        """True if blocks start from the networks of their neighbours."""
        return self.params.warm_start and self.method.learn is None

    @property
    def memory(self) -> int:
        """Approximate peak memory of a process, in bytes; does not depend on the number of blocks."""
        channels, *space = self.output_blocks.block_shape
        block = channels * math.prod(space) * self.batch_size
        side, sizes = self.params.tile, self.blocks.block_shape[1:]
        tile = math.prod(Tiling.of(sizes, side, OVERLAP).tightened().side) if self.blocks.chunks else side**2
        tile = min(block, channels * tile * self.batch_size)
        in_memory = [extra.data for extra, _ in self.extra_images] + [self.mask, self.image.data]
        inputs = sum(_bytes_in_memory(array) for array in in_memory)
        writing = block * (self.image.dtype.itemsize + 4 * self.recipe.uncertainty)  # while the next block is computed
        training = MAX_BYTES if self.needs_training else 0
        return BASE_MEMORY + _BYTES_PER_VALUE * block + writing + self.method.memory * tile + inputs + training

    def starts_warm(self, index: BlockIndex) -> bool:
        """Tell whether a block starts from the network of its neighbour."""
        return self.warm_starts and self.blocks.run_position(index, RUN_LENGTH) > 0

    def batches(self, indices: Sequence[BlockIndex]) -> list[list[BlockIndex]]:
        """Group the blocks of a work unit, in its order, into those that are fitted at once."""
        batches: list[list[BlockIndex]] = []
        for index in indices:
            position = self.blocks.run_position(index, RUN_LENGTH)
            last = batches[-1] if batches else []
            if last and len(last) < self.batch_size and self.blocks.run_position(last[0], RUN_LENGTH) == position:
                last.append(index)
            else:
                batches.append([index])
        return batches

    @property
    def first_of_channels(self) -> list[BlockIndex]:
        """Index of the first block of each channel, of at most a thousand."""
        return list(self.indices[:: len(self.indices) // self.blocks.channel_count][:_MAX_CHANNELS])

    def weights(self, index: BlockIndex) -> NDArray[np.float32] | None:
        """Weight of the restored pixels of each channel of a block, `(C, 1, …)`, if the recipe says it."""
        choice = self.recipe.choice
        return None if choice is None or not choice.weights else self._of_channels(index, choice.weights)

    def strength(self, index: BlockIndex) -> NDArray[np.float32] | None:
        """Share of the restored values of each channel of a block in its result, `(C, 1, …)`; none if it is all."""
        numbers = self.recipe.strength
        if all(number == 1 for number in numbers):
            return None
        count = self.blocks.channel_count * self.blocks.block_shape[0]
        return self._of_channels(index, numbers * count if len(numbers) == 1 else numbers)

    def _of_channels(self, index: BlockIndex, values: Sequence[float]) -> NDArray[np.float32]:
        """Those of all channels' values that belong to the channels of a block, `(C, 1, …)`."""
        sizes = [self.blocks.sizes[axis] for axis in self.blocks.loop_axes if axis in COLOUR]
        joint = self.blocks.block_shape[0]
        number = int(np.ravel_multi_index(self.blocks.channel(index), sizes)) if sizes else 0
        chosen = values[number * joint : (number + 1) * joint]
        return np.array(chosen, np.float32).reshape(-1, *[1] * len(self.blocks.space))

    def channel_indices(self, channel: BlockIndex) -> LazySequence[BlockIndex]:
        """Indices of all blocks of a channel."""
        return self.blocks.indices_within(self.blocks.part_of(channel))

    def result_image(self, data: Any) -> Image:
        """The image with other values, on the grid of the result."""
        factors = (mine // theirs for mine, theirs in zip(self.output_blocks.shape, self.blocks.shape, strict=True))
        return self.image.on_finer_grid(data, tuple(factors))

    def read(self, index: BlockIndex) -> NDArray[Any]:
        """Read the values `(C, *space)` of a block."""
        return self.blocks.read(self.image.data, index)

    def block(self, index: BlockIndex, values: NDArray[Any] | None = None) -> Block:
        """Measure and normalise a block.

        Args:
            index: Index of the block.
            values: Its values, if they were read before.

        Raises:
            ImageError: There is nothing to restore in it.
        """
        position, extra = self.blocks.position(index), []
        for (image, blocks), psf in zip(self.extra_images, self.psfs[1:], strict=True):
            # an extra image with one element along an axis is used for all positions
            extra_index = tuple(min(position.get(axis, 0), image.size(axis) - 1) for axis in blocks.loop_axes)
            extra.append(ExtraBlock(blocks.read(image.data, extra_index), image.spacing(blocks.space), psf))
        return make_block(
            self.read(index) if values is None else values,
            self.statistics.noise(index),
            self.params,
            masked=self.statistics.masked(index),
            axes=self.blocks.space,
            spacing=self.image.spacing(self.blocks.space),
            extra=extra,
            psf=self.psfs[0],
            like=self.statistics.intensities(index),
        )

    def noisy_block(self, index: BlockIndex, device: torch.device) -> NoisyBlock:
        """Read and normalise a block, as a method sees it on a device.

        Raises:
            ImageError: There is nothing to restore in it.
        """
        self.statistics.check_stored(index)
        return self.block(index).noisy(device, self.recipe.seed)


def make_plan(
    image: Image,
    recipe: Recipe | RecipeInputs,
    *,
    mask: Image | None = None,
    extra_images: Sequence[Image] = (),
    psfs: Sequence[Image | None] = (),
    model: Model | None = None,
    batch_size: int | None = None,
) -> RestorationPlan:
    """Decide how an image is restored, and check all that can be checked without reading its pixels.

    Args:
        image: The image.
        recipe: A recipe, whose files are opened here, or one whose files are open already.
        mask: A mask in place of that of a recipe, see `open_inputs`.
        extra_images: Extra images in place of those that the settings of a recipe name.
        psfs: Measured point spread functions in place of those that the settings name, see `open_inputs`.
        model: A trained network in place of that of a recipe.
        batch_size: Number of blocks that are fitted at once; by default as many as the device has room for.

    Raises:
        PristineError: Axes, settings, images, model or device do not fit.
    """
    if axes := (recipe.recipe if isinstance(recipe, RecipeInputs) else recipe).axes:
        check_axes(axes, image.shape)
        image = replace(image, axes=axes)
    check_restorable(image)
    inputs = recipe
    if isinstance(inputs, Recipe):
        inputs = open_inputs(inputs, mask=mask, extra_images=extra_images, psfs=psfs, model=model)
    recipe, params = inputs.recipe, inputs.recipe.params
    masked = None
    if inputs.mask is not None:
        masked = replace(image, data=align_mask(image, inputs.mask)).select(recipe.select).data
    image = image.select(recipe.select)
    check_restorable(image)
    method = find_method(recipe.method)
    if recipe.uncertainty and method.restore_with_error is None:
        known = ", ".join(key for key, each in METHODS.items() if each.restore_with_error is not None)
        raise SettingError(
            f"{recipe.method} does not know the uncertainty of its pixels; use {known}, or leave uncertainty out"
        )
    blocks = plan_axes(image, recipe.together)
    planned = tuple(_plan_extra_image(extra, image, blocks, recipe) for extra in inputs.extra_images)
    params.check(blocks.space, len(planned))
    upscaling = params.finer_by(blocks.space)
    if not planned:  # these have grids of their own, and are fitted as a whole
        blocks = blocks.in_chunks(math.prod(upscaling))
    if any(number < 1 for number in recipe.strength) and max(upscaling) > 1:
        raise SettingError("strength mixes the noisy and the restored image, whose grid is finer here; leave it out")
    if len(recipe.strength) not in (0, 1, blocks.channel_count * blocks.block_shape[0]):
        raise SettingError(
            f"strength has {len(recipe.strength)} numbers for {blocks.channel_count * blocks.block_shape[0]} channels; "
            "give one for all, or one for each"
        )
    model = inputs.model
    if model is not None:
        model.check_fits(blocks.block_shape[0], blocks.space, recipe.method)
        model.check(params)
    elif recipe.adapt:
        raise SettingError("adapt trains a model on the image first, but no model is given; give one, or drop adapt")
    device, note = pick_device(recipe.device)
    if batch_size is None:
        alone = bool(planned or blocks.chunks) or "S" in blocks.loop_axes  # samples share chunks of the result
        batch_size = 1 if alone else _batch_size(method, params, blocks.block_shape[1:], device)
    return RestorationPlan(
        image=image,
        recipe=recipe,
        params=params,
        method=method,
        blocks=blocks,
        output_blocks=blocks.upscaled(upscaling),
        upscaling=upscaling,
        mask=masked,
        extra_images=planned,
        psfs=inputs.psfs,
        model=model,
        device=device,
        notes=(*(Note(text, warning=True) for text in image.notes), *((note,) if note else ()), *inputs.notes),
        batch_size=batch_size,
        statistics=ImageStatistics(blocks, image.data, masked, params),
    )


def _batch_size(method: Method[Any, Any], params: MethodParams, space: tuple[int, ...], device: torch.device) -> int:
    """Number of blocks that are fitted at once; 1 unless they are so small that there is room for several."""
    if method.fit_batch is None or max(space) > params.tile:
        return 1
    networks = method.networks_per_block(params, space)
    room = _CPU_NETWORKS if device.type == "cpu" else _GPU_NETWORKS
    return max(1, min(room // networks, _MAX_BATCH)) if networks else 1


def _plan_extra_image(extra: Image, image: Image, blocks: AxesPlan, recipe: Recipe) -> tuple[Image, AxesPlan]:
    """Select a part of an extra image, and cut it into blocks, like the image but on its own grid.

    Raises:
        AxesError, SettingError: It does not fit the image.
    """
    if along := set(recipe.select) & set(blocks.space):
        raise SettingError(f"cannot select along {', '.join(along)} where several images are restored together")
    extra = extra.select({axis: text for axis, text in recipe.select.items() if extra.size(axis) > 1})
    own = plan_axes(extra, "".join(axis for axis in blocks.joint_axes if axis in extra.axes))
    if own.space != blocks.space or own.block_shape[0] != blocks.block_shape[0]:
        raise AxesError(
            f"'{extra.name}' is cut into blocks of {counted(own.block_shape[0], 'channel')} along "
            f"{own.space}, the image into "
            f"blocks of {blocks.block_shape[0]} along {blocks.space}; give images with the same axes"
        )
    for axis in own.loop_axes:
        size = image.size(axis) if axis in blocks.loop_axes else 1
        if extra.size(axis) not in (1, size):
            raise AxesError(
                f"'{extra.name}' has {counted(extra.size(axis), 'element')} along {axis}, the image {size}; "
                "give an image with as many, or with a single one, which is then used for all"
            )
    return extra, own


def _bytes_in_memory(array: Any) -> int:
    """Bytes of an array that is held in memory as a whole; the mask of one plane counts once, however many frames."""
    if isinstance(array, np.ndarray):
        values = math.prod(n for n, step in zip(array.shape, array.strides, strict=True) if step)
        return int(values * array.itemsize)
    if getattr(array, "read_as_a_whole", False):  # a file that cannot be read in parts
        return int(math.prod(array.shape) * array.dtype.itemsize)
    return 0
