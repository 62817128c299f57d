"""Noise of each channel and brightness of large planes, measured once for all blocks of an image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.axes import SAMPLE_SIDE, AxesPlan, BlockIndex, Part, sample_squares
from napari_pristine.image.image import LazySequence, stored_parts
from napari_pristine.image.intensity import Intensity, fill_invalid, find_padding, find_valid, is_biased
from napari_pristine.image.noise import Noise, measure_noise, spread
from napari_pristine.jobs.block import check_numbers, is_constant, make_block, nothing_to_restore
from napari_pristine.methods.method import MethodParams

T = TypeVar("T")
_MAX_LOOKED = 64
"""Maximum number of blocks that are read to find one that can be restored; fewer if they are large."""
_MAX_LOOKED_VALUES = 2**27
"""Maximum number of values of all these blocks."""
_MAX_PLANES = 8
"""Planes of a stack from which the noise is measured."""
_MAX_READ = 144
"""Squares that are read of planes that are cut into chunks; many of them may be empty, as on slides."""
_MAX_KEPT = 10_000
"""Maximum number of channels or planes whose statistics are kept; a file may claim to have 10⁹."""
_MAX_SQUARES = 64
"""Squares that are measured, at most; fewer if there are several channels."""


_COARSE = 0.75
"""Noise level of the brightest parts, in grey values, below which rounding would add more error than the noise that is
left in a result."""


class Sample(NamedTuple):
    """Some values `(C, *space)` of an image, and where they are masked, `(*space)`."""

    values: NDArray[Any]
    masked: NDArray[np.bool_] | None

    @property
    def is_empty(self) -> bool:
        """True if what is not masked has a single value, or none."""
        return _is_empty(self.values if self.masked is None else self.values[:, ~self.masked])


class _Measured(NamedTuple):
    """Noise of each channel of a block, and whether whole numbers are too coarse for one of them."""

    noise: list[Noise]
    too_coarse: bool


class ImageStatistics:
    """Noise and brightness that many blocks of an image share; measured at first use.

    Args:
        blocks: Division of the image into blocks.
        data: Values of the image.
        mask: True where values do not count, in the shape of the image.
        params: Settings of the method.
    """

    def __init__(self, blocks: AxesPlan, data: Any, mask: Any, params: MethodParams) -> None:
        self._blocks, self._data, self._mask, self._params = blocks, data, mask, params
        self._measured: dict[BlockIndex, _Measured] = {}
        self._intensities: dict[BlockIndex, tuple[Intensity, ...]] = {}

    def masked(self, index: BlockIndex) -> NDArray[np.bool_] | None:
        """Pixels `(*space)` of a block that are masked in any channel."""
        return None if self._mask is None else np.asarray(self._blocks.read(self._mask, index).any(axis=0))

    def noise(self, index: BlockIndex) -> list[Noise]:
        """Noise of each channel of a block; the same for all blocks of the same channels."""
        return self._measure(index).noise

    @cached_property
    def too_coarse(self) -> bool:
        """True if whole numbers are too coarse for a result: coarser than the noise that is left, or biased.

        Images of few photons are: smooth values below 0.5 would all become 0.
        """
        if self._data.dtype.kind not in "ui":
            return False
        indices, channels = self._blocks.indices, self._blocks.channel_count
        first_blocks = _spread(indices[:: len(indices) // channels], _MAX_LOOKED)  # of each channel
        return any(self._measure(index).too_coarse for index in first_blocks)

    def intensities(self, index: BlockIndex) -> tuple[Intensity, ...]:
        """Normalisation of each channel, the same for all chunks of a plane, or seams would show.

        Empty if blocks are not chunks, or if the plane is too empty: then each chunk is normalised by itself.
        """
        if not self._blocks.chunks:
            return ()
        plane = index[1:]
        if plane not in self._intensities:
            if len(self._intensities) >= _MAX_KEPT:
                self._intensities.clear()
            position = self._blocks.position(index)
            samples = self._sample_squares({axis: slice(n, n + 1) for axis, n in position.items()})
            values, masked = _concatenate(samples)
            try:
                block = make_block(values, self.noise(index), self._params, masked=masked)
                self._intensities[plane] = block.intensities
            except ImageError:  # (almost) empty: each chunk is measured by itself
                self._intensities[plane] = ()
        return self._intensities[plane]

    def check_stored(self, index: BlockIndex) -> None:
        """Raise an `ImageError` for a block of which nothing is stored, without reading it."""
        if not self._blocks.is_stored(self._data, index):
            corner = self._blocks.read_part(self._data, index, (slice(0, 1),) * len(self._blocks.space))
            raise nothing_to_restore(corner)

    def find_varied(self) -> tuple[BlockIndex | None, str]:
        """Find a block that can be restored, the one in the middle if possible; reads at most `_MAX_LOOKED` others.

        Returns:
            Index of a block that is not empty, and an empty text; if there is none among the blocks that were read,
            `None` and a note for the user.

        Raises:
            ImageError: All blocks are empty.
        """
        indices = self._blocks.indices
        middle = indices[len(indices) // 2]
        if self.is_varied(middle):
            return middle, ""
        most = min(max(_MAX_LOOKED_VALUES // math.prod(self._blocks.block_shape), 1), _MAX_LOOKED)
        stored: Sequence[Sequence[BlockIndex]] | None = self._stored({})
        stored = [indices] if stored is None else stored
        most_each = max(most // max(len(stored), 1), 1)
        chosen = [index for blocks in _spread(stored, most) for index in _spread(blocks, most_each)]
        if found := next(filter(self.is_varied, chosen), None):
            return found, ""
        if len(stored) > most or any(len(blocks) > most_each for blocks in stored):
            looked, count = len({middle, *chosen}), len(indices)
            return None, f"{looked} of {count} blocks were read: the values in each of them are all equal"
        empty = [self._blocks.read(self._data, index) for index in (middle, *chosen)]
        find_valid(empty[0])
        if len({values.flat[0] for values in empty}) == 1:
            raise nothing_to_restore(empty[0])
        raise ImageError(f"the values in each of the {len(indices)} blocks are all equal; there is nothing to restore")

    def is_varied(self, index: BlockIndex) -> bool:
        """Tell whether a block is not empty; of a large one, a small part in the middle is read first."""
        chunks, space = self._blocks.chunks, self._blocks.space
        sizes = (self._blocks.sizes[axis] for axis in space)
        outer = chunks.outer_slices(index[0]) if chunks else tuple(slice(0, size) for size in sizes)
        sides = (1,) * (len(outer) - 2) + (SAMPLE_SIDE, SAMPLE_SIDE)
        starts = (
            max((part.start + part.stop - side) // 2, part.start) for part, side in zip(outer, sides, strict=True)
        )
        centre = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        if not _is_empty(self._blocks.read_part(self._data, index, centre)):
            return True
        return not _is_empty(self._blocks.read(self._data, index))

    def _measure(self, index: BlockIndex) -> _Measured:
        channel = self._blocks.channel(index)
        if channel not in self._measured:
            if len(self._measured) >= _MAX_KEPT:
                self._measured.clear()
            samples = self._samples(index)
            for sample in [_concatenate(samples)] if self._blocks.chunks else samples:
                check_numbers(sample.values)
            noise = _measure_samples(samples)
            coarse = self._data.dtype.kind in "ui" and any(map(_is_too_coarse, samples[0].values, noise))
            self._measured[channel] = _Measured(noise, coarse)
        return self._measured[channel]

    def _samples(self, index: BlockIndex) -> list[Sample]:
        """Samples of all blocks of the channels of a block."""
        part = self._blocks.part_of(self._blocks.channel(index))
        return self._sample_squares(part) if self._blocks.chunks else self._sample_blocks(part)

    def _sample_blocks(self, part: Part) -> list[Sample]:
        """Read blocks that are spread over a part of the image; if all of them are empty, the first that is not."""
        indices = self._blocks.indices_within(part)
        first = self._read(indices[0])
        count = max(1, _MAX_PLANES // math.prod(first.values.shape[1:-2]))
        spread = _spread(indices, count)
        samples = [first if index == indices[0] else self._read(index) for index in spread]
        if varied := [sample for sample in samples if not sample.is_empty]:
            return varied
        return [self._first_varied(part) or first]

    def _sample_squares(self, part: Part) -> list[Sample]:
        """Read squares spread over all planes that are cut into chunks, and keep those that are not empty.

        Most of a stitched slide may be empty: only what was recorded is measured.
        """
        assert self._blocks.chunks is not None
        indices = self._blocks.indices_within(part)
        planes = indices[: len(indices) // len(self._blocks.chunks)]  # the first chunk of each
        spread = _spread(planes, _MAX_PLANES)
        samples = [sample for index in spread for sample in self._squares_of(index, _MAX_READ // len(spread))]
        varied = [sample for sample in samples if not sample.is_empty]
        if not varied and (first := self._first_varied(part)):
            varied = [sample for sample in _squares(first) if not sample.is_empty] or [first]
        count = max(_MAX_SQUARES // len(samples[0].values), 1)
        return _spread(varied, count) or samples[:1]

    def _squares_of(self, index: BlockIndex, count: int) -> Iterator[Sample]:
        assert self._blocks.chunks is not None
        for part in sample_squares(self._blocks.chunks.shape, count):
            mask = None if self._mask is None else self._blocks.read_part(self._mask, index, part)
            masked = None if mask is None else np.asarray(mask.any(axis=0))
            yield Sample(self._blocks.read_part(self._data, index, part), masked)

    def _first_varied(self, part: Part) -> Sample | None:
        """The first block of a part of the image that is not empty; if the file tells, only stored blocks are read.

        All processes that restore some of the blocks find the same one.
        """
        indices: Iterable[BlockIndex] = self._blocks.indices_within(part)
        if (stored := self._stored(part)) is not None:
            first = sorted((self._blocks.number(blocks[0]), n) for n, blocks in enumerate(stored) if blocks)
            indices = (index for _, n in first for index in stored[n])
        return next((sample for sample in map(self._read, indices) if not sample.is_empty), None)

    def _stored(self, part: Part) -> Sequence[Sequence[BlockIndex]] | None:
        """Blocks of a part of the image of which something is stored, for each chunk of its file; `None` if unknown."""
        parts = stored_parts(self._data)
        if parts is None:
            return None

        def blocks(number: int) -> Sequence[BlockIndex]:
            stored = dict(zip(self._blocks.axes, parts[number], strict=True))
            for axis, along in part.items():
                stored[axis] = slice(max(along.start, stored[axis].start), min(along.stop, stored[axis].stop))
            is_empty = any(along.start >= along.stop for along in stored.values())
            return () if is_empty else self._blocks.indices_within(stored)

        return LazySequence(range(len(parts)), blocks)

    def _read(self, index: BlockIndex) -> Sample:
        return Sample(self._blocks.read(self._data, index), self.masked(index))


def _spread(items: Sequence[T], most: int) -> list[T]:
    """Up to `most` items, spread evenly from the first to the last."""
    return [items[n] for n in spread(len(items), most).tolist()]


def _is_empty(values: NDArray[Any]) -> bool:
    """Tell whether a block has a single value, or none."""
    return not values.size or is_constant(values) or not np.isfinite(values).any()


def _squares(sample: Sample) -> Iterator[Sample]:
    for part in sample_squares(sample.values.shape[1:], _MAX_READ):
        yield Sample(sample.values[(slice(None), *part)], None if sample.masked is None else sample.masked[part])


def _concatenate(samples: Sequence[Sample]) -> Sample:
    """Concatenate samples along Y."""
    width = samples[0].values.shape[-1]
    values = np.concatenate([sample.values.reshape(len(sample.values), -1, width) for sample in samples], axis=1)
    masks = [sample.masked.reshape(-1, width) for sample in samples if sample.masked is not None]
    return Sample(values, np.concatenate(masks) if masks else None)


def _measure_samples(samples: Sequence[Sample]) -> list[Noise]:
    """Measure the noise of each channel over all samples."""
    valid = [
        np.isfinite(values).all(axis=0) & ~find_padding(values) & (True if masked is None else ~masked)
        for values, masked in samples
    ]
    filled = [fill_invalid(sample.values, v) for sample, v in zip(samples, valid, strict=True) if v.any()]
    good = np.stack([v for v in valid if v.any()]) if filled else np.ones((1, 1), bool)
    channels = np.stack(filled, axis=1) if filled else np.zeros((len(samples[0].values), 1, 1))
    return [measure_noise(channel, good) for channel in channels]


def _is_too_coarse(sample: NDArray[Any], noise: Noise) -> bool:
    """Tell whether rounding would add more error to a channel `(*space)` than noise is left, or change its mean."""
    smooth = ndimage.gaussian_filter(np.asarray(sample, np.float64), (0,) * (sample.ndim - 2) + (2, 2))
    brightest = noise.gain * float(np.quantile(smooth, 0.99)) + noise.variance
    biased = is_biased(float(smooth.mean()), float(np.rint(smooth).mean()), noise.sigma)
    return 0 < max(noise.sigma**2, brightest) < _COARSE**2 or biased
