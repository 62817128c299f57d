"""Random crops of many blocks, which need not fit in memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from napari_pristine.errors import ImageError
from napari_pristine.image.tiling import Tiling
from napari_pristine.methods.method import NoisyBlock, random_crops

MAX_BYTES = 512 * 2**20
"""Bytes of pixels that are kept in memory."""
_MAX_SHUFFLED = 2**20
"""Maximum number of blocks that are read in one random order; of more, some are drawn at a time."""
_MAX_SKIPPED = 20_000
"""Number of skipped blocks after which no more are read: a file may claim to have 10⁹ empty ones."""
_DRAWS_PER_PIXEL = 4
"""Average number of times that a pixel in memory is drawn before one of the blocks is replaced by another."""


class CropSampler:
    """A `CropSource` over many blocks, read when needed; as many as fit are kept in memory.

    The crops depend on the seed alone, not on the speed of the disk. Blocks that cannot be used for training, such as
    constant ones, are skipped.

    Args:
        loaders: One function for each block that reads and normalises it, or raises an `ImageError`.
        seed: Seed of all random numbers.
        max_bytes: Bytes of pixels that are kept in memory; at least one block is.

    Attributes:
        skipped: Number of each block that was skipped so far, and why.
    """

    def __init__(self, loaders: Sequence[Callable[[], NoisyBlock]], seed: int, max_bytes: int = MAX_BYTES) -> None:
        if not loaders:
            raise ValueError("there are no blocks to train on")
        self.seed = seed
        self.skipped: dict[int, ImageError] = {}
        self._loaders, self._max_bytes = loaders, max_bytes
        self._generator = torch.Generator().manual_seed(seed)
        self._order: list[int] = []
        self._loaded: dict[int, NoisyBlock] = {}
        self._sigma: Tensor | None = None
        self._values_drawn = 0

    def fill(self) -> Iterator[float]:
        """Read the first blocks, one at each step, and yield the fraction done; the other methods call it if needed.

        Raises:
            ImageError: There is no block that can be used for training.
        """
        count = len(self._loaders)
        while self._unread() and self._has_room():
            self._read_next()
            used = sum(map(_bytes, self._loaded.values())) / self._max_bytes
            yield min(max(used, (len(self._loaded) + len(self.skipped)) / count), 1.0)
        if not self._loaded:
            reasons = "; ".join(dict.fromkeys(str(error) for error in self.skipped.values()))
            some = f" ({len(self.skipped)} of {count} blocks were read)" if len(self.skipped) < count else ""
            raise ImageError(f"there is nothing to learn from{some}: {reasons}")

    @property
    def sigma(self) -> Tensor:
        """Root mean square of the noise levels of the blocks in memory, `(C,)`."""
        blocks = self._blocks()
        if self._sigma is None:
            self._sigma = torch.stack([noisy.sigma for noisy in blocks]).square().mean(dim=0).sqrt()
        return self._sigma

    @property
    def correlation_length(self) -> float:
        """The largest correlation length of the noise of the blocks in memory."""
        return max(noisy.correlation_length for noisy in self._blocks())

    def crops(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Draw random crops `(count, C, *sides)`, as wide as the smallest block in memory allows."""
        blocks = self._blocks()
        spaces = [tuple(noisy.pixels.shape[1:]) for noisy in blocks]
        sides = Tiling.of(tuple(map(min, zip(*spaces, strict=True))), side, 0).side
        weights = torch.tensor([float(noisy.pixels.numel()) for noisy in blocks])
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator).tolist()
        crops = torch.cat([random_crops(blocks[i].pixels, 1, sides, generator) for i in chosen])
        self._values_drawn += crops.numel()
        if self._values_drawn >= _DRAWS_PER_PIXEL * blocks[0].pixels.numel() and self._unread():
            self._values_drawn = 0
            del self._loaded[next(iter(self._loaded))]  # the oldest; the next is read when crops are drawn again
        return crops

    def _blocks(self) -> list[NoisyBlock]:
        """The blocks in memory, at least one, the oldest first."""
        for _ in self.fill():
            pass
        return list(self._loaded.values())

    def _unread(self) -> bool:
        return len(self._loaded) + len(self.skipped) < len(self._loaders) and len(self.skipped) < _MAX_SKIPPED

    def _has_room(self) -> bool:
        sizes = [_bytes(noisy) for noisy in self._loaded.values()]
        return not sizes or sum(sizes) + max(sizes) <= self._max_bytes

    def _read_next(self) -> None:
        """Read one more block, in random order; skip it if it cannot be used."""
        while True:
            if not self._order:
                self._order = self._draw_order()
            number = self._order.pop()
            if number not in self.skipped and number not in self._loaded:
                break
        self._sigma = None
        try:
            self._loaded[number] = self._loaders[number]()
        except ImageError as error:
            self.skipped[number] = error.with_traceback(None)  # which holds the block

    def _draw_order(self) -> list[int]:
        """Numbers of blocks in random order."""
        count = len(self._loaders)
        if count <= _MAX_SHUFFLED:
            return torch.randperm(count, generator=self._generator).tolist()
        return torch.randint(count, (_MAX_SHUFFLED,), generator=self._generator).tolist()


def _bytes(noisy: NoisyBlock) -> int:
    return sum(part.numel() * part.element_size() for part in (noisy.pixels, noisy.valid))
