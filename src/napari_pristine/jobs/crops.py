"""Stream: random crops of many blocks, which need not fit in memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from napari_pristine.errors import ImageError
from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.method import NoisyBlock, random_crops

ROOM = 512 * 2**20
"""Bytes of pixels that are kept at hand."""
_TURNOVER = 4
"""How often each pixel at hand is drawn, in the mean, before one of the blocks is replaced by another."""


class CropSampler:
    """A `Source` of crops from many blocks, read when needed; as many as there is room for are kept at hand.

    What is drawn depends on the seed alone, not on the speed of the disk. Blocks that cannot be learned from, such as
    constant ones, are left out.

    Args:
        load: One function for each block that reads and prepares it, or raises an `ImageError`.
        seed: Seed of whatever is drawn at random.
        room: Bytes of pixels that are kept at hand; at least one block is.
    """

    def __init__(self, load: Sequence[Callable[[], NoisyBlock]], seed: int, room: int = ROOM) -> None:
        if not load:
            raise ValueError("there are no blocks to learn from")
        self.seed = seed
        self.left_out: dict[int, ImageError] = {}
        """Number of each block that was left out so far, and why."""
        self._load = load
        self._room = room
        self._generator = torch.Generator().manual_seed(seed)
        self._order: list[int] = []
        self._at_hand: dict[int, NoisyBlock] = {}
        self._sigma: Tensor | None = None
        self._drawn = 0

    def fill(self) -> Iterator[float]:
        """Read the first blocks, one at each step; yields the share that is done. All else here does it if need be.

        Raises:
            ImageError: There is no block that can be learned from.
        """
        while self._unread() and self._fits():
            self._read_next()
            used = sum(map(_size, self._at_hand.values())) / self._room
            yield min(max(used, (len(self._at_hand) + len(self.left_out)) / len(self._load)), 1.0)
        if not self._at_hand:
            reasons = "; ".join(dict.fromkeys(str(error) for error in self.left_out.values()))
            raise ImageError(f"there is nothing to learn from: {reasons}")

    @property
    def sigma(self) -> Tensor:
        """Root mean square of the noise levels of the blocks at hand, `(C,)`."""
        blocks = self._blocks()
        if self._sigma is None:
            self._sigma = torch.stack([noisy.sigma for noisy in blocks]).square().mean(dim=0).sqrt()
        return self._sigma

    @property
    def correlation_length(self) -> float:
        """The largest reach of the noise of the blocks at hand."""
        return max(noisy.correlation_length for noisy in self._blocks())

    def crops(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Random crops `(count, C, *sides)`, as wide as the smallest block at hand allows."""
        blocks = self._blocks()
        spaces = [tuple(noisy.pixels.shape[1:]) for noisy in blocks]
        sides = Tiling.of(tuple(map(min, zip(*spaces, strict=True))), side, 0).side
        weights = torch.tensor([float(noisy.pixels.numel()) for noisy in blocks])
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator).tolist()
        crops = torch.cat([random_crops(blocks[i].pixels, 1, sides, generator) for i in chosen])
        self._drawn += crops.numel()
        if self._drawn >= _TURNOVER * blocks[0].pixels.numel() and self._unread():
            self._drawn = 0
            del self._at_hand[next(iter(self._at_hand))]  # the next is read when it is needed, and there is room
        return crops

    def _blocks(self) -> list[NoisyBlock]:
        """The blocks at hand, at least one; the one that came first is the first to go."""
        for _ in self.fill():
            pass
        return list(self._at_hand.values())

    def _unread(self) -> bool:
        """Whether there are blocks that are not at hand."""
        return len(self._at_hand) + len(self.left_out) < len(self._load)

    def _fits(self) -> bool:
        """Whether there is room for one more block like those at hand."""
        sizes = [_size(noisy) for noisy in self._at_hand.values()]
        return not sizes or sum(sizes) + max(sizes) <= self._room

    def _read_next(self) -> None:
        """Read one more block, in random order; leave it out if it cannot be learned from."""
        while True:
            if not self._order:
                self._order = torch.randperm(len(self._load), generator=self._generator).tolist()
            number = self._order.pop()
            if number not in self.left_out and number not in self._at_hand:
                break
        self._sigma = None
        try:
            self._at_hand[number] = self._load[number]()
        except ImageError as error:
            self.left_out[number] = error


def _size(noisy: NoisyBlock) -> int:
    """Bytes of a block."""
    return sum(part.numel() * part.element_size() for part in (noisy.pixels, noisy.valid))
