"""Noise of each channel and brightness of large planes, measured once for all blocks of an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.axes import AxesPlan, BlockIndex, sample_squares
from napari_pristine.image.intensity import Intensity, fill_invalid
from napari_pristine.image.noise import Noise, measure_noise
from napari_pristine.jobs.block import check_numbers, is_constant, make_block
from napari_pristine.methods.method import MethodParams

_MAX_PLANES = 8
"""Planes of a stack from which the noise is measured."""
_MAX_READ = 144
"""Squares that are read of planes that are cut into chunks; many of them may be empty, as on slides."""
_MAX_SQUARES = 64
"""Squares that are measured, at most; fewer if there are several channels."""


_COARSE = 0.75
"""Noise level of the brightest parts, in grey values, below which rounding would cost more than the noise that is left
in a result."""
_BIAS = 0.02
"""Relative change of the mean above which a result is not rounded."""


class Sample(NamedTuple):
    """Some values `(C, *space)` of an image, and where they are masked, `(*space)`."""

    values: NDArray[Any]
    masked: NDArray[np.bool_] | None


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
        self._noise: dict[BlockIndex, list[Noise]] = {}
        self._intensities: dict[BlockIndex, tuple[Intensity, ...]] = {}

    def masked(self, index: BlockIndex) -> NDArray[np.bool_] | None:
        """Pixels `(*space)` of a block that are masked in any channel."""
        return None if self._mask is None else np.asarray(self._blocks.read(self._mask, index).any(axis=0))

    def noise(self, index: BlockIndex) -> list[Noise]:
        """Noise of each channel of a block; the same for all blocks of the same channels."""
        channel = self._blocks.channel(index)
        if channel not in self._noise:
            samples = self._samples(index)
            for sample in [_concatenate(samples)] if self._blocks.chunks else samples:
                check_numbers(sample.values)
            self._noise[channel] = _measure_samples(samples)
        return self._noise[channel]

    @cached_property
    def too_coarse(self) -> bool:
        """True if whole numbers are too coarse for a result: coarser than the noise that is left, or biased.

        Images of few photons are: smooth values below 0.5 would all become 0.
        """
        if self._data.dtype.kind not in "ui":
            return False
        for channel in {self._blocks.channel(index): index for index in self._blocks.indices}.values():
            for noise, sample in zip(self.noise(channel), self._samples(channel)[0].values, strict=True):
                smooth = ndimage.gaussian_filter(np.asarray(sample, np.float64), (0,) * (sample.ndim - 2) + (2, 2))
                bias = abs(float(np.rint(smooth).mean()) - float(smooth.mean()))
                brightest = noise.gain * float(np.quantile(smooth, 0.99)) + noise.variance
                if 0 < max(noise.sigma**2, brightest) < _COARSE**2 or bias > _BIAS * abs(float(smooth.mean())):
                    return True
        return False

    def intensities(self, index: BlockIndex) -> tuple[Intensity, ...]:
        """Normalisation of each channel, the same for all chunks of a plane, or seams would show.

        Empty if blocks are not chunks, or if the plane is too empty: then each chunk is normalised by itself.
        """
        if not self._blocks.chunks:
            return ()
        plane = index[1:]
        if plane not in self._intensities:
            samples = self._sample_squares([(number, *plane) for number in range(len(self._blocks.chunks))])
            values, masked = _concatenate(samples)
            try:
                block = make_block(values, self.noise(index), self._params, masked=masked)
                self._intensities[plane] = block.intensities
            except ImageError:  # (almost) empty: each chunk is measured by itself
                self._intensities[plane] = ()
        return self._intensities[plane]

    def _samples(self, index: BlockIndex) -> list[Sample]:
        """Samples of all blocks of the channels of a block."""
        channel = self._blocks.channel(index)
        same_channel = [other for other in self._blocks.indices if self._blocks.channel(other) == channel]
        return self._sample_squares(same_channel) if self._blocks.chunks else self._sample_blocks(same_channel)

    def _sample_blocks(self, indices: Sequence[BlockIndex]) -> list[Sample]:
        """Read blocks that are spread over `indices`; if all of them are constant, the first block that is not."""
        first = self._read(indices[0])
        count = min(len(indices), max(1, _MAX_PLANES // math.prod(first.values.shape[1:-2])))
        spread = [indices[i] for i in np.linspace(0, len(indices) - 1, count).astype(int)]
        samples = [first if index == indices[0] else self._read(index) for index in spread]
        if varied := [sample for sample in samples if not is_constant(sample.values)]:
            return varied
        return [self._first_varied(indices) or first]

    def _sample_squares(self, indices: Sequence[BlockIndex]) -> list[Sample]:
        """Read squares spread over all planes that are cut into chunks, and keep those that are not empty.

        Most of a stitched slide may be empty: only what was recorded is measured.
        """
        planes = [index for index in indices if self._blocks.chunk_number(index) == 0]
        spread = [planes[i] for i in np.linspace(0, len(planes) - 1, min(len(planes), _MAX_PLANES)).astype(int)]
        samples = [sample for index in spread for sample in self._squares_of(index, _MAX_READ // len(spread))]
        varied = [sample for sample in samples if not is_constant(sample.values)]
        if not varied and (first := self._first_varied(indices)):
            varied = [sample for sample in _squares(first) if not is_constant(sample.values)] or [first]
        count = max(_MAX_SQUARES // len(samples[0].values), 1)
        kept = np.linspace(0, len(varied) - 1, min(len(varied), count)).astype(int)
        return [varied[i] for i in kept] or samples[:1]

    def _squares_of(self, index: BlockIndex, count: int) -> Iterator[Sample]:
        assert self._blocks.chunks is not None
        for part in sample_squares(self._blocks.chunks.shape, count):
            mask = None if self._mask is None else self._blocks.read_part(self._mask, index, part)
            masked = None if mask is None else np.asarray(mask.any(axis=0))
            yield Sample(self._blocks.read_part(self._data, index, part), masked)

    def _first_varied(self, indices: Sequence[BlockIndex]) -> Sample | None:
        return next((sample for sample in map(self._read, indices) if not is_constant(sample.values)), None)

    def _read(self, index: BlockIndex) -> Sample:
        return Sample(self._blocks.read(self._data, index), self.masked(index))


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
    valid = [np.isfinite(values).all(axis=0) & (True if masked is None else ~masked) for values, masked in samples]
    filled = [fill_invalid(sample.values, v) for sample, v in zip(samples, valid, strict=True) if v.any()]
    good = np.stack([v for v in valid if v.any()]) if filled else np.ones((1, 1), bool)
    channels = np.stack(filled, axis=1) if filled else np.zeros((len(samples[0].values), 1, 1))
    return [measure_noise(channel, good) for channel in channels]
