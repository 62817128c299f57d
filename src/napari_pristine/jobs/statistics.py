"""Measured: the noise of a channel and the brightness of large planes, once for all blocks, from some of the values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pristine.errors import ImageError
from napari_pristine.image.axes import AxesPlan, BlockIndex
from napari_pristine.image.chunks import squares
from napari_pristine.image.intensity import Intensity, fill_invalid
from napari_pristine.image.noise import Noise, measure_noise
from napari_pristine.jobs.block import check_numbers, is_constant, prepare
from napari_pristine.methods.method import MethodParams

_SAMPLES = 8
"""Planes of a stack from which the noise is measured."""
_LOOKED_AT = 144
"""Squares of the planes that are cut into panes which are looked at; many are empty where a slide is."""
_TAKEN = 64
"""Squares of them that are measured at most; fewer of several channels."""


class Piece(NamedTuple):
    """Some values `(C, *space)`, and where they are masked, `(*space)`."""

    values: NDArray[Any]
    masked: NDArray[np.bool_] | None


class ImageStatistics:
    """What is the same for many blocks of an image; measured when it is first asked for.

    Args:
        cut: How the image is cut into blocks.
        data: Its values.
        masked: Where they do not count, in the shape of the image.
        params: Settings of the method.
    """

    def __init__(self, cut: AxesPlan, data: Any, masked: Any, params: MethodParams) -> None:
        self._cut, self._data, self._masked, self._params = cut, data, masked, params
        self._noise: dict[BlockIndex, list[Noise]] = {}
        self._intensities: dict[BlockIndex, tuple[Intensity, ...]] = {}

    def masked(self, place: BlockIndex) -> NDArray[np.bool_] | None:
        """Where the block at a place is masked in any channel, `(*space)`."""
        return None if self._masked is None else _any(self._cut.read(self._masked, place))

    def noise(self, place: BlockIndex) -> list[Noise]:
        """The noise of each channel of a block, the same for all blocks of the same channels."""
        key = self._cut.channel(place)
        if key not in self._noise:
            alike = [other for other in self._cut.places if self._cut.channel(other) == key]
            pieces = self._squares(alike) if self._cut.chunks else self._some(alike)
            for piece in [_joined(pieces)] if self._cut.chunks else pieces:
                check_numbers(piece.values)
            self._noise[key] = _noise_of(pieces)
        return self._noise[key]

    def intensities(self, place: BlockIndex) -> tuple[Intensity, ...]:
        """How the values of each channel of a pane become pixels: as in all other panes of the plane, or seams show.

        None where blocks are whole planes, or no more can be said of all panes than of each by itself.
        """
        if not self._cut.chunks:
            return ()
        key = place[1:]
        if key not in self._intensities:
            chunks = [(number, *key) for number in range(len(self._cut.chunks))]
            self._intensities[key] = self._alike(place, self._squares(chunks))
        return self._intensities[key]

    def _alike(self, place: BlockIndex, pieces: Sequence[Piece]) -> tuple[Intensity, ...]:
        whole = _joined(pieces)
        try:
            return prepare(whole.values, self.noise(place), self._params, masked=whole.masked).intensities
        except ImageError:  # empty, or almost; the panes will tell
            return ()

    def _some(self, places: Sequence[BlockIndex]) -> list[Piece]:
        """Blocks spread over all places; where these are all empty, the first of the others that is not."""
        first = self._piece(places[0])
        count = min(len(places), max(1, _SAMPLES // math.prod(first.values.shape[1:-2])))
        std = [places[i] for i in np.linspace(0, len(places) - 1, count).astype(int)]
        found = [first if place == places[0] else self._piece(place) for place in std]
        if varied := [piece for piece in found if not is_constant(piece.values)]:
            return varied
        return [self._first_varied(places) or first]

    def _squares(self, chunks: Sequence[BlockIndex]) -> list[Piece]:
        """Squares spread over all planes that are cut into panes; where they are empty, of the first pane that is not.

        Of stitched slides most may be empty: what is measured is what was recorded.
        """
        planes = [place for place in chunks if self._cut.pane(place) == 0]
        std = [planes[i] for i in np.linspace(0, len(planes) - 1, min(len(planes), _SAMPLES)).astype(int)]
        found = [piece for place in std for piece in self._squares_of(place, _LOOKED_AT // len(std))]
        varied = [piece for piece in found if not is_constant(piece.values)]
        if not varied and (first := self._first_varied(chunks)):
            varied = [piece for piece in _cut_up(first) if not is_constant(piece.values)] or [first]
        most = max(_TAKEN // len(found[0].values), 1)
        taken = np.linspace(0, len(varied) - 1, min(len(varied), most)).astype(int)
        return [varied[i] for i in taken] or found[:1]

    def _squares_of(self, place: BlockIndex, most: int) -> Iterator[Piece]:
        assert self._cut.chunks is not None
        for part in squares(self._cut.chunks.shape, most):
            masked = None if self._masked is None else self._cut.read_part(self._masked, place, part)
            yield Piece(self._cut.read_part(self._data, place, part), None if masked is None else _any(masked))

    def _first_varied(self, places: Sequence[BlockIndex]) -> Piece | None:
        return next((piece for piece in map(self._piece, places) if not is_constant(piece.values)), None)

    def _piece(self, place: BlockIndex) -> Piece:
        return Piece(self._cut.read(self._data, place), self.masked(place))


def _any(masked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a block is masked in any of its channels."""
    return np.asarray(masked.any(axis=0))


def _cut_up(piece: Piece) -> Iterator[Piece]:
    for part in squares(piece.values.shape[1:], _LOOKED_AT):
        yield Piece(piece.values[(slice(None), *part)], None if piece.masked is None else piece.masked[part])


def _joined(pieces: Sequence[Piece]) -> Piece:
    """Pieces below each other as one picture."""
    width = pieces[0].values.shape[-1]
    values = np.concatenate([piece.values.reshape(len(piece.values), -1, width) for piece in pieces], axis=1)
    masks = [piece.masked.reshape(-1, width) for piece in pieces if piece.masked is not None]
    return Piece(values, np.concatenate(masks) if masks else None)


def _noise_of(pieces: Sequence[Piece]) -> list[Noise]:
    """The noise of each channel of pieces that are alike."""
    valid = [
        np.isfinite(piece.values).all(axis=0) & (True if piece.masked is None else ~piece.masked) for piece in pieces
    ]
    filled = [fill_invalid(piece.values, v) for piece, v in zip(pieces, valid, strict=True) if v.any()]
    good = np.stack([v for v in valid if v.any()]) if filled else np.ones((1, 1), bool)
    channels = np.stack(filled, axis=1) if filled else np.zeros((len(pieces[0].values), 1, 1))
    return [measure_noise(channel, good) for channel in channels]
